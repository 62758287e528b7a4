"""A small run at every door, as `make fuzz` runs a large one; and runs that must fail."""

import pytest

from tests.fuzz.doors import DOORS
from tests.fuzz.planted import PLANTED
from tests.fuzz.run import fuzz

CASES = 200


@pytest.mark.parametrize("name", [door.name for door in DOORS])
def test_no_input_raises_is_slow_grows_or_leads_outside(name: str) -> None:
    """0 exceptions, 0 connections outside of loopback, each case under a second, under 50 MiB more."""
    figures = fuzz(name, CASES)

    assert [] == figures.failures
    assert (CASES, False) == (figures.cases, figures.wrong)


@pytest.mark.parametrize("name", [door.name for door in PLANTED])
def test_what_is_planted_is_found(name: str) -> None:
    """Each of the four ways to be wrong makes a run fail."""
    assert fuzz(name, 120).wrong
