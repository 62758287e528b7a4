"""R6 in small: whatever hangs, an event is answered. `python -m tests.crash.hangs` is the long form."""

from collections.abc import Mapping

import pytest

from tests.crash.hangs import (
    COMBINATIONS,
    GOAL_SECONDS,
    QUICK_SECONDS,
    Hang,
    Hung,
    Start,
    hang_each,
    in_words,
)

EVENTS = 8  # more than the six threads of a small instance
SERVICES = 3


@pytest.fixture(scope="module")
def hung() -> Mapping[tuple[Hang, ...], Hung]:
    """What every combination came to, all run at the same time: they mostly wait."""
    wanted = [(combination, Start.BUILT) for combination in COMBINATIONS]
    results = hang_each(wanted, events=EVENTS, services=SERVICES, jobs=len(wanted))
    return dict(zip(COMBINATIONS, results, strict=True))


EACH = [pytest.param(combination, id=in_words(combination)) for combination in COMBINATIONS]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("combination", EACH)
def test_whatever_hangs_an_event_is_answered_and_the_worker_goes_on(
    combination: tuple[Hang, ...], hung: Mapping[tuple[Hang, ...], Hung]
) -> None:
    """202 in under 20 s with the default budget; then a quick event, and a tick that does what was left."""
    result = hung[combination]

    assert None is result.story
    assert [202] * (EVENTS + 1) == result.statuses
    assert max(result.seconds) < GOAL_SECONDS
    assert result.after < QUICK_SECONDS
    assert SERVICES == result.synced
