"""The simulator can fail: bugs planted in a copy of the product, each of which turns a figure red.

A bug is a line of `rotation/`, found by its text and replaced. The soak then runs over the copy, in a process
of its own, for a few seeds that show it; over the product itself the same seeds are green in test_soak.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Planted:
    """What is wrong, where, and which figure must tell; `seed` is the first of a few that show it."""

    what: str
    module: str
    right: str
    wrong: str
    figure: str
    seed: int
    schedules: int = 2


BUGS = (
    Planted(
        what="the attempt is recorded after the POST",
        module="reconcile.py",
        right="stored = await world.ledger.write(intent)",
        wrong="stored = intent",
        figure="other_violations",
        seed=0,
    ),
    Planted(
        what="a lost race for the claim is ignored, as if there were no etag",
        module="reconcile.py",
        right="return replace(decision, choice=Choice.CLAIMED_ELSEWHERE, message=why), None",
        wrong="stored = intent",
        figure="other_violations",
        seed=19,
    ),
    Planted(
        what="attempts are never counted",
        module="plan.py",
        right="attempts=fresh.attempts + 1,",
        wrong="attempts=fresh.attempts,",
        figure="over_budget",
        seed=70,
    ),
    Planted(
        what="a refusal is not waited for",
        module="plan.py",
        right="return min(max(retry_after or REFUSED_GAP, timedelta()), LONGEST_RETRY_AFTER)",
        wrong="return timedelta()",
        figure="before_retry_after",
        seed=12,
    ),
    Planted(
        what="the Retry-After of an unclear answer is forgotten",
        module="plan.py",
        right="hold = now + _wait(answer.retry_after) if answer.retry_after else None",
        wrong="hold = None",
        figure="before_retry_after",
        seed=27,
    ),
    Planted(
        what="a failed probe is treated as old",
        module="verdict.py",
        right='has another thumbprint configured."""\n    if not case.old and not case.configured_differs:',
        wrong='"""\n    if not case.old and not case.configured_differs and not case.failed:',
        figure="false_stale",
        seed=6,
    ),
    Planted(
        what="an unreadable certificate is taken for in sync",
        module="verdict.py",
        right='Status.UNKNOWN,\n        Reason.VAULT_UNREADABLE,\n        f"{expected.certificate}',
        wrong='Status.IN_SYNC,\n        Reason.VAULT_UNREADABLE,\n        f"{expected.certificate}',
        figure="false_in_sync",
        seed=0,
    ),
    Planted(
        what="in sync where any connection shows the new leaf",
        module="verdict.py",
        right="if not endpoints or any(met[e] < e.connections for e in endpoints) or case.not_new:",
        wrong="if not endpoints or not any(met[e] for e in endpoints):",
        figure="false_in_sync",
        seed=0,
    ),
    Planted(
        what="in sync where ARM has the new thumbprint configured",
        module="verdict.py",
        right="if not endpoints or any(met[e] < e.connections for e in endpoints) or case.not_new:",
        wrong="if not endpoints or case.configured_differs:",
        figure="false_in_sync",
        seed=0,
    ),
    Planted(
        what="drift is never told",
        module="verdict.py",
        right="finding.status is Status.STALE and now -",
        wrong="finding.status is Status.UNMANAGED and now -",
        figure="false_stale",
        seed=20,
    ),
)


@pytest.mark.parametrize("bug", BUGS, ids=[bug.what for bug in BUGS])
def test_a_planted_bug_turns_the_soak_red(bug: Planted, tmp_path: Path) -> None:
    """Proves that the figure would not be zero if the product were wrong in this way."""
    plant(bug, tmp_path)
    status, figures = soak(bug, tmp_path)

    assert 1 == status
    assert 0 < figures[bug.figure]


def plant(bug: Planted, where: Path) -> None:
    """The product with one line replaced."""
    shutil.copytree(ROOT / "rotation", where / "rotation", ignore=shutil.ignore_patterns("__pycache__"))
    path = where / "rotation" / bug.module
    text = path.read_text()

    assert 1 == text.count(bug.right), f"{bug.module} no longer has the line in which this bug is planted"
    path.write_text(text.replace(bug.right, bug.wrong))


def soak(bug: Planted, where: Path) -> tuple[int, dict[str, int]]:
    """How the soak ends over the copy, and its figures: the line that is JSON."""
    seeds = ("--schedules", str(bug.schedules), "--seed", str(bug.seed), "--jobs", "1")
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation.soak", *seeds],
        cwd=where,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(where), str(ROOT)))},
        capture_output=True,
        text=True,
        check=False,
    )
    line = next((line for line in done.stdout.splitlines() if line.startswith("{")), "")

    assert line, done.stderr
    return done.returncode, json.loads(line)
