"""The exit code of a look: the worst that was seen decides."""

from dataclasses import replace

import pytest

from rotation.cli.outcome import Exit, of_verdicts
from rotation.model import Reason, Status, Verdict
from tests.unit import build

WELL = build.verdict(Status.IN_SYNC)
CASES: dict[str, tuple[list[Verdict], bool, Exit]] = {
    "all in sync": ([WELL, WELL], True, Exit.DONE),
    "not managed": ([WELL, build.verdict(Status.UNMANAGED)], True, Exit.DONE),
    "ends soon": ([build.verdict(Status.IN_SYNC, Reason.EXPIRES_SOON)], True, Exit.DONE),
    "on its way": ([WELL, build.verdict(Status.SYNCING)], True, Exit.WAITING),
    "stale": ([WELL, build.verdict(Status.STALE)], True, Exit.WAITING),
    "drifting": ([build.verdict(Status.STALE, drift=True)], True, Exit.NEEDS_A_PERSON),
    "blocked": ([WELL, build.verdict(Status.BLOCKED)], True, Exit.NEEDS_A_PERSON),
    "served, and not believed in front": (
        [WELL, build.verdict(Status.IN_SYNC, Reason.FRONT_DISTRUSTS)],
        True,
        Exit.NEEDS_A_PERSON,
    ),
    "unknown": ([WELL, build.verdict(Status.UNKNOWN)], True, Exit.NOT_SEEN),
    "unknown is worse than on its way": (
        [build.verdict(Status.UNKNOWN), build.verdict(Status.SYNCING)],
        True,
        Exit.NOT_SEEN,
    ),
    "blocked is worse than unknown": (
        [build.verdict(Status.UNKNOWN), build.verdict(Status.BLOCKED)],
        True,
        Exit.NEEDS_A_PERSON,
    ),
    "not everything could be listed": ([WELL], False, Exit.NOT_SEEN),
    "nothing at all": ([], False, Exit.NOT_SEEN),
}


@pytest.mark.parametrize(("verdicts", "seen", "expected"), CASES.values(), ids=CASES)
def test_the_exit_code_is_that_of_the_worst(verdicts: list[Verdict], seen: bool, expected: Exit) -> None:
    """Whatever the order."""
    assert expected is of_verdicts(verdicts, seen=seen)
    assert expected is of_verdicts([replace(v) for v in reversed(verdicts)], seen=seen)
