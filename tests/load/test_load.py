"""A short run of `make load`: the same, smaller."""

from dataclasses import replace

from tests.load.run import SERVICES, Figures, measure


def test_under_load_nothing_is_lost_and_everybody_is_answered() -> None:
    """Five seconds: every renewal synced once without the timer, every healthy request answered."""
    figures = measure(seconds=5, events=20, pages=5)

    assert {} == figures.failures
    assert (SERVICES, SERVICES, 0, 0) == (figures.renewals, figures.syncs, figures.lost, figures.raised)
    assert not figures.wrong
    assert figures.events > 50
    assert figures.hostile > 20


def test_figures_that_are_wrong_are_called_wrong() -> None:
    """One lost, one failed, one late, memory that grows, a sync too many."""
    well = Figures(1.0, renewals=2, syncs=2)

    assert not well.wrong
    assert replace(well, lost=1).wrong
    assert replace(well, failed=1).wrong
    assert replace(well, raised=1).wrong
    assert replace(well, syncs=3).wrong
    assert replace(well, event_max=26.0).wrong
    assert replace(well, memory_late=51.0).wrong
