"""docs/reliability.md has the figures that the long runs have left, and they keep the promises."""

import json
from pathlib import Path

import pytest

from tests.fuzz.doors import DOORS
from tests.results import KEPT, ROOT, Figures, keep, render
from tests.simulation.soak import LEAST_VERDICTS

RUNS = json.loads(KEPT.read_text(encoding="utf-8"))


def test_the_document_has_the_figures_of_the_runs_that_are_kept() -> None:
    """Whoever runs them again and keeps the figures has to change the page, too."""
    assert render(RUNS) in (ROOT / "docs/reliability.md").read_text(encoding="utf-8")


def _soak(run: Figures) -> None:
    """R1, R2, R3, R9, R10."""
    none = ("false_in_sync", "false_stale", "other_unfounded", "silent", "over_budget", "before_retry_after")

    assert dict.fromkeys((*none, "never_told", "failed_schedules"), 0) == {
        name: run[name] for name in (*none, "never_told", "failed_schedules")
    }
    assert run["worst_syncs_in_24_h"] <= 5
    assert run["verdicts_judged"] >= LEAST_VERDICTS * run["schedules"]


def _kills(run: Figures) -> None:
    """R4."""
    every = run["scenarios"]["all"]

    assert every["kills"] >= 200
    assert every["kills"] == every["recovered"] == every["in_one_tick"] + every["in_two_ticks"]


def _hangs(run: Figures) -> None:
    """R6."""
    assert run["p99_9_seconds"] < 20
    assert run["max_seconds"] < 25


def _fuzz(run: Figures) -> None:
    """Nothing raised, nothing outside, nothing slow, nothing that grows, at every door."""
    assert [door.name for door in DOORS] == [door["door"] for door in run["doors"]]
    for door in run["doors"]:
        assert (0, 0) == (door["exceptions"], door["outside"]), door
        assert door["cases"] >= run["cases"] >= 20_000
        assert door["slowest_seconds"] < 1
        assert door["growth_mib"] < 50


def _load(run: Figures) -> None:
    """Nothing lost, nobody unanswered, memory as it was."""
    assert (60, 200, 50) == (run["seconds"], run["events_a_second"], run["pages_a_second"])
    assert (0, 0, 0) == (run["failed"], run["lost"], run["raised"])
    assert run["renewals"] == run["syncs"]
    assert run["events"] + run["hostile"] >= 11_900
    assert run["memory_late"] - run["memory_early"] < 50


@pytest.mark.parametrize("name", RUNS)
def test_what_is_promised_was_seen_in_the_run_that_is_kept(name: str) -> None:
    """A run that missed something is kept in vain."""
    {"soak": _soak, "kills": _kills, "hangs": _hangs, "fuzz": _fuzz, "load": _load}[name](RUNS[name])


def test_a_run_that_is_kept_again_takes_the_place_of_its_last_one(tmp_path: Path) -> None:
    """The others stay."""
    kept = tmp_path / "results.json"
    for run, figures in (("soak", {"n": 1}), ("kills", {"n": 2}), ("soak", {"n": 3})):
        keep(run, figures, kept)
    runs = json.loads(kept.read_text(encoding="utf-8"))

    assert {"soak": 3, "kills": 2} == {name: run["n"] for name, run in runs.items()}
    assert {"date", "machine", "commit", "n"} == set(runs["soak"])
