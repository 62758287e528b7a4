"""Figures as text: one table for each run, and what became of the targets.

    python -m bench.report

writes those of bench/results/probe.json into docs/performance.md.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
RESULTS = PROJECT / "bench/results/probe.json"
DOCUMENT = PROJECT / "docs/performance.md"
BEGIN, END = "<!-- figures of bench/results/probe.json -->\n", "<!-- end of figures -->\n"

NAMES = {
    "probe": "the product",
    "again": "... in a later pass over the same leaves",
    "unverified": "... without verification",
    "timed": "... with a clock around `do_handshake`",
    "open_connection": "`asyncio.open_connection`",
    "c": "C + OpenSSL",
    "curl": "`curl --parallel`",
    "blackbox": "blackbox_exporter",
    "s_client": "`openssl s_client \\| openssl x509`",
    "sslyze": "sslyze",
}

Run = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One target: where, what was measured against what was wanted."""

    what: str
    where: str
    measured: float
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether it was."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        verdict = "met" if self.met else "**not met**"
        return f"| {self.what} | {self.where} | {self.measured:.2f} | {sign} {self.limit:g} | {verdict} |"


def title(run: Run) -> str:
    """What was done, in words."""
    tls = "" if run["tls"] == "any" else f", TLS {run['tls']} only"
    place = "" if run["addresses"] == 32 else f", {run['addresses']} of 32 addresses"
    return f"{run['endpoints']:,} endpoints, RTT {run['rtt']:g} ms, {run['key'].upper()}{tls}{place}"


def table(run: Run) -> str:
    """Every engine beside the product."""
    probe = run["engines"]["probe"]
    per_endpoint = probe["wall_s"] / probe["endpoints"]
    lines = [
        f"**{title(run)}** (rounds: {run['rounds']}, peers {run['in_flight']} in flight, load {run['load']})",
        "",
        "| engine | CPU ms per endpoint | x CPU | x wall | right |",
        "|---|---|---|---|---|",
    ]
    for name, each in run["engines"].items():
        cpu, wall = each["cpu_ms"] / probe["cpu_ms"], each["wall_s"] / each["endpoints"] / per_endpoint
        right = f"{each['right']:.0f} of {each['endpoints']:.0f}"
        lines.append(f"| {NAMES[name]} | {each['cpu_ms']:.2f} | {cpu:.2f} | {wall:.2f} | {right} |")
    return "\n".join([*lines, ""])


def outcomes(runs: Sequence[Run]) -> Iterator[Outcome]:
    """Each target that these runs can speak of."""
    for run in runs:
        yield from _of_run(run)
    yield from _growth(runs)


def targets_of(runs: Sequence[Run]) -> str:
    """A table of them."""
    return _targets(outcomes(runs))


def _of_run(run: Run) -> Iterator[Outcome]:
    engines, where = run["engines"], title(run)
    probe = engines["probe"]

    def cpu(one: str, other: str) -> float:
        return float(engines[one]["cpu_ms"] / engines[other]["cpu_ms"])

    if run["tls"] != "any":
        for name in sorted(engines.keys() - {"probe"}):
            faster = engines[name]["wall_s"] / probe["wall_s"]
            yield Outcome(f"{NAMES[name]} takes longer, x", where, faster, 1.4, at_least=True)
        return
    if run["addresses"] == 8:
        yield Outcome("memory at 256 in flight above idle, MiB", where, probe["mib"], 25)
        return
    if "c" in engines:
        yield Outcome("CPU, x C + OpenSSL, first pass", where, cpu("probe", "c"), 1.15)
        yield Outcome("CPU, x C + OpenSSL, later passes", where, cpu("again", "c"), 1.15)
    if "timed" in engines:
        yield Outcome("outside `do_handshake`, ms", where, engines["timed"]["outside_ms"], 0.15)
        yield Outcome("to verify, x CPU", where, cpu("probe", "unverified"), 1.15)
    yield Outcome("CPU, x `open_connection`", where, cpu("probe", "open_connection"), 0.75)
    if "blackbox" in engines and run["endpoints"] >= 1000:
        faster = engines["blackbox"]["wall_s"] / probe["wall_s"]
        yield Outcome("wall, blackbox_exporter x", where, faster, 1.2, at_least=True)
    for name, limit in (("curl", 1.4), ("sslyze", 12), ("s_client", 40)):
        if name in engines:
            yield Outcome(f"CPU, {NAMES[name]} x", where, cpu(name, "probe"), limit, at_least=True)
    right = 100 * probe["right"] / probe["endpoints"]
    yield Outcome("right thumbprints, %", where, right, 100, at_least=True)


def _growth(runs: Sequence[Run]) -> Iterator[Outcome]:
    usual = [run for run in runs if run["tls"] == "any" and run["addresses"] == 32]
    cost = {(run["key"], run["rtt"], run["endpoints"]): run["engines"]["probe"]["cpu_ms"] for run in usual}
    for (key, rtt, endpoints), each in cost.items():
        if endpoints > 1000 and (key, rtt, 1000) in cost:
            where = f"RTT {rtt:g} ms, {key.upper()}"
            growth = each / cost[key, rtt, 1000]
            yield Outcome(f"CPU per endpoint at {endpoints:,}, x at 1,000", where, growth, 1.25)


def dead_table(dead: Mapping[str, Any]) -> str:
    """What dead places cost, and what became of the targets."""
    runs, endpoints = dead["runs"], dead["endpoints"]
    title = f"{endpoints:,} endpoints, RTT 30 ms, ECDSA, {endpoints // 20:,} of them dead"
    lines = [
        f"**{title}, timeout {dead['timeout_s']} s** (rounds: {dead['rounds']})",
        "",
        "| dead | wall, s | last healthy answer, s | read | late | timeouts | told | out of time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {run['wall_s']:.1f} | {run['healthy_s']:.1f} | {run['right']:,} | {run['late']}"
        f" | {run['dialled']} | {run['told']} | {run['out_of_time']:,} |"
        for name, run in runs.items()
    ]
    return "\n".join([*lines, "", _targets(dead_outcomes(dead))])


def dead_outcomes(dead: Mapping[str, Any]) -> Iterator[Outcome]:
    """The targets of a run with dead places."""
    runs = dead["runs"]
    healthy = runs["healthy"]
    for name in ("one region", "scattered"):
        yield Outcome("wall, x healthy", name, runs[name]["wall_s"] / healthy["wall_s"], 2)
        last = runs[name]["healthy_s"] / healthy["healthy_s"]
        yield Outcome("last healthy answer, x healthy", name, last, 1.5)
    for name in ("deadline, healthy", "deadline, scattered"):
        late = runs[name]["wall_s"] - runs[name]["within_s"]
        yield Outcome("after the deadline, s", name, late, 0.2)


def _targets(found: Iterator[Outcome]) -> str:
    head = ["| target | where | measured | wanted | |", "|---|---|---|---|---|"]
    return "\n".join([*head, *map(str, found), ""])


def document(results: Mapping[str, Any]) -> str:
    """All that is kept, as it stands in docs/performance.md."""
    machine = (
        f"Measured {results['date']} on {results['cores']} cores of {results['processor']}, Python"
        f" {results['python']}, {results['openssl']}.\n"
    )
    absent = [f"- absent: {NAMES[name]}; {remedy}" for name, remedy in results["absent"].items()]
    parts = [machine, *absent, "### Targets\n", targets_of(results["runs"]), dead_table(results["dead"])]
    return "\n".join([*parts, "### Engines\n", *map(table, results["runs"])])


def main() -> None:
    """Put the kept figures into the document."""
    head, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    figures = document(json.loads(RESULTS.read_text(encoding="utf-8")))
    DOCUMENT.write_text(f"{head}{BEGIN}{figures}{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
