"""The tests can fail: bugs planted in a copy of the project, each of which turns something red.

A bug is a line of the product, found by its text and replaced. In the copy, in a process of its own, then
runs what must notice: the soak, until the figure that is named is no longer zero, or the one test that is
named. Over the product itself both are green, as this suite shows.
"""

import os
import shutil
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import pytest

from tests.simulation.planted import BY_A_TEST, BY_THE_SOAK, Planted

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("rotation", "sandbox", "tests", "function_app.py", "host.json", "pyproject.toml")
MOST_SCHEDULES = 150
"""Of 48 virtual hours, each; most bugs show in the first few."""

PATIENCE = 600
"""Seconds; a busy machine needs many for a hundred schedules."""

SOAK = f"""
import logging, sys
from tests.simulation.soak import run

logging.getLogger("rotation").setLevel(logging.CRITICAL)
for seed in range({MOST_SCHEDULES}):
    if getattr(run([seed]).figures, sys.argv[1]):
        sys.exit(f"seed {{seed}}: {{sys.argv[1]}}")
"""


@pytest.mark.timeout(PATIENCE)
@pytest.mark.parametrize("bug", BY_THE_SOAK, ids=attrgetter("what"))
def test_a_planted_bug_turns_the_soak_red(bug: Planted, tmp_path: Path) -> None:
    """Proves that the figure would not be zero if the product were wrong in this way."""
    plant(bug, tmp_path)
    done = run(tmp_path, "-c", SOAK, bug.told_by)

    assert done.returncode, f"{MOST_SCHEDULES} schedules do not show that {bug.what}: {bug.told_by} stays 0"
    assert done.stderr.strip().endswith(f": {bug.told_by}"), done.stderr


@pytest.mark.timeout(PATIENCE)
@pytest.mark.parametrize("bug", BY_A_TEST, ids=attrgetter("what"))
def test_a_planted_bug_turns_its_test_red(bug: Planted, tmp_path: Path) -> None:
    """Proves that the test that is named looks at what its name says."""
    plant(bug, tmp_path)
    done = run(tmp_path, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", bug.told_by)

    assert 1 == done.returncode, f"{bug.told_by} does not show that {bug.what}:\n{done.stdout}{done.stderr}"
    assert "1 failed" in done.stdout, done.stdout


def plant(bug: Planted, where: Path) -> None:
    """A copy of the project with one line replaced."""
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, where / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, where / part)
    path = where / bug.path
    path.write_text(bug.in_text(path.read_text(encoding="utf-8")), encoding="utf-8")


def run(where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A run of Python in the copy."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=where,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE - 10,
    )
