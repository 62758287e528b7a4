"""The bugs that `make planted` plants still have their lines: told at once, not by one of CI's last steps."""

import ast
from operator import attrgetter
from pathlib import Path

import pytest

from tests.simulation.planted import BY_A_TEST, BY_THE_SOAK, Planted

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("bug", BY_THE_SOAK + BY_A_TEST, ids=attrgetter("what"))
def test_a_planted_bug_has_its_line(bug: Planted) -> None:
    """Also that what it makes of the line is Python."""
    ast.parse(bug.in_text((ROOT / bug.path).read_text(encoding="utf-8")))
