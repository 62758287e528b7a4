"""The figures in docs/performance.md are those that were kept, and what is kept is right."""

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bench.full_pass
import bench.shards
from bench.farm import Target
from bench.peers import Measure
from bench.probe import best, judge, spoiled
from bench.report import (
    DEPENDENCIES,
    DOCUMENT,
    PROJECT,
    RESULTS,
    SCALE,
    costs_at_scale,
    costs_of_imports,
    markers,
    section,
)


def kept(name: str) -> dict[str, Any]:
    """What the last run of a benchmark has kept."""
    results: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return results


@pytest.mark.parametrize("name", sorted(file.stem for file in RESULTS.glob("*.json")))
def test_the_figures_in_the_document_are_those_that_were_measured(name: str) -> None:
    """Nobody types a figure: `python -m bench.report` writes them, met or not met."""
    begin, end = markers(name)

    assert section(name) == DOCUMENT.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0]


def test_what_c_cannot_do_either_is_said_to_be_so() -> None:
    """Proves the reasons for two targets that are not met, by what was measured."""
    runs = [run for run in kept("probe")["runs"] if run["key"] == "ecdsa" and run["endpoints"] == 1000]
    engines = [run["engines"] for run in runs if "c_unverified" in run["engines"]]
    to_verify = [each["c"]["cpu_ms"] / each["c_unverified"]["cpu_ms"] for each in engines]
    [s_client] = [each["s_client"]["cpu_ms"] / each["c"]["cpu_ms"] for each in engines if "s_client" in each]

    assert min(to_verify) > 1.15
    assert s_client < 40


@pytest.mark.parametrize(
    ("document", "name", "figures"),
    [(DEPENDENCIES, "cold_start", costs_of_imports), (SCALE, "full_pass", costs_at_scale)],
)
def test_the_other_documents_reckon_with_what_was_measured(
    document: Path, name: str, figures: Callable[[], str]
) -> None:
    """What dependencies cost, and what a fleet costs a month."""
    begin, end = markers(name)

    assert figures() == document.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0]


def test_the_arithmetic_of_scale_is_what_a_pass_has_asked_for() -> None:
    """Of the fleets that were measured, in the first table; a vault's challenge may be one read more."""
    lines = (line.strip("| ").split("|") for line in SCALE.read_text(encoding="utf-8").splitlines())
    said = {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines if len(cells) == 7}

    for run in kept("full_pass")["runs"]:
        calls = run["best"]["calls"]
        bindings, queries, _, vault, arm, _ = said[f"{run['services']:,}"]
        assert f"{run['best']['verdicts']['IN_SYNC']:,}" == bindings
        assert (queries, arm) == (str(calls["resource_graph_queries"]), str(calls["arm_reads"]))
        assert vault in {f"{calls['key_vault_reads'] - more:,}" for more in (0, 1)}


def test_every_dependency_was_measured() -> None:
    """A new one has to be thought of, in bench/cold_start.py."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [re.split(r"[><=;]", each)[0] for each in project["dependencies"]]
    (measured,) = kept("cold_start")["imports"].values()

    assert named == list(measured)


def test_no_figure_stands_for_work_that_was_not_done() -> None:
    """Every event led to one sync, every service was asked once, every function was indexed."""
    event, wildcard = kept("event"), kept("wildcard")
    starts = [run["apps"] for runs in kept("cold_start")["pythons"].values() for run in runs["starts"]]

    full_pass, shards = kept("full_pass"), kept("shards")

    assert event["once"]
    assert [] == [mistake for run in full_pass["runs"] for mistake in bench.full_pass.wrong(run)]
    assert not any(map(bench.shards.wrong, shards["runs"]))
    assert wildcard["services"] == wildcard["accepted"] == wildcard["asked"]
    assert 0 == wildcard["throttled"]
    assert {1} == {apps["hello"]["functions"] for apps in starts}
    assert 1 == len({apps["app"]["functions"] for apps in starts})


def test_no_figure_stands_for_a_wrong_certificate() -> None:
    """An engine that is fast because it is wrong has no place in a table."""
    engines = [each for run in kept("probe")["runs"] for each in run["engines"].values()]
    dead = kept("dead")["runs"].values()

    assert engines
    assert {0} == {each["wrong"] for each in engines}
    assert {0} == {run[mistake] for run in dead for mistake in ("wrong", "lost", "other")}


def test_the_product_read_every_endpoint_in_every_run() -> None:
    """A ratio counts only if all of the work was done."""
    for run in kept("probe")["runs"]:
        assert run["endpoints"] == run["engines"]["probe"]["right"]


RIGHT = ("A" * 40, "A" * 64)
TARGETS = [Target(f"api-{n}.bench.test", "127.0.1.1", 443, RIGHT) for n in range(3)]


@pytest.mark.parametrize(
    ("engine", "seen", "expected"),
    [
        pytest.param("probe", ["A" * 40] * 3, False, id="all right"),
        pytest.param("blackbox", ["A" * 64] * 3, False, id="all right by SHA-256"),
        pytest.param("probe", ["A" * 40, "A" * 40, "B" * 40], True, id="the product is wrong once"),
        pytest.param("curl", ["A" * 40, "A" * 40, "B" * 40], True, id="a peer is wrong once"),
        pytest.param("probe", ["A" * 40, "A" * 40, "connection refused"], True, id="the product misses one"),
        pytest.param("curl", ["A" * 40, "A" * 40, "nothing"], False, id="a peer misses one"),
    ],
)
def test_a_benchmark_fails_on_what_was_read_and_never_on_time(
    engine: str, seen: list[str], *, expected: bool
) -> None:
    """An hour for three endpoints is no failure, a wrong thumbprint is one."""
    run = {"engines": {engine: judge(Measure(wall=3600, cpu=3600, seen=seen), TARGETS)}}

    assert expected == spoiled(run)


def test_a_mistake_in_one_round_is_not_hidden_by_a_faster_one() -> None:
    """Of costs the least counts, of thumbprints the worst."""
    wrong = judge(Measure(wall=3, cpu=3, seen=["A" * 40, "B" * 40, "nothing"]), TARGETS)
    right = judge(Measure(wall=1, cpu=1, seen=["A" * 40] * 3), TARGETS)

    both = best(wrong, right)

    assert (1, 1, 1) == (both["right"], both["wrong"], both["missing"])
    assert right["cpu_ms"] == both["cpu_ms"]
