"""Figures as text: one table for each run, and what became of the targets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
        f"**{title(run)}** (rounds: {run['rounds']}, peers {run['in_flight']} in flight)",
        "",
        "| engine | CPU ms per endpoint | × CPU | × wall | right |",
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
    head = ["| target | where | measured | wanted | |", "|---|---|---|---|---|"]
    return "\n".join([*head, *map(str, outcomes(runs)), ""])


def _of_run(run: Run) -> Iterator[Outcome]:
    engines, where = run["engines"], title(run)
    probe = engines["probe"]

    def cpu(one: str, other: str) -> float:
        return float(engines[one]["cpu_ms"] / engines[other]["cpu_ms"])

    if run["tls"] != "any":
        for name in sorted(engines.keys() - {"probe"}):
            faster = engines[name]["wall_s"] / probe["wall_s"]
            yield Outcome(f"{NAMES[name]} takes longer, ×", where, faster, 1.4, at_least=True)
        return
    if run["addresses"] == 8:
        yield Outcome("memory at 256 in flight above idle, MiB", where, probe["mib"], 25)
        return
    if "c" in engines:
        yield Outcome("CPU, × C + OpenSSL, first pass", where, cpu("probe", "c"), 1.15)
        yield Outcome("CPU, × C + OpenSSL, later passes", where, cpu("again", "c"), 1.15)
    if "timed" in engines:
        yield Outcome("outside `do_handshake`, ms", where, engines["timed"]["outside_ms"], 0.15)
        yield Outcome("to verify, × CPU", where, cpu("probe", "unverified"), 1.15)
    yield Outcome("CPU, × `open_connection`", where, cpu("probe", "open_connection"), 0.75)
    if "blackbox" in engines and run["endpoints"] >= 1000:
        faster = engines["blackbox"]["wall_s"] / probe["wall_s"]
        yield Outcome("wall, blackbox_exporter ×", where, faster, 1.2, at_least=True)
    for name, limit in (("curl", 1.4), ("sslyze", 12), ("s_client", 40)):
        if name in engines:
            yield Outcome(f"CPU, {NAMES[name]} ×", where, cpu(name, "probe"), limit, at_least=True)
    right = 100 * probe["right"] / probe["endpoints"]
    yield Outcome("right thumbprints, %", where, right, 100, at_least=True)


def _growth(runs: Sequence[Run]) -> Iterator[Outcome]:
    usual = [run for run in runs if run["tls"] == "any" and run["addresses"] == 32]
    cost = {(run["key"], run["rtt"], run["endpoints"]): run["engines"]["probe"]["cpu_ms"] for run in usual}
    for (key, rtt, endpoints), each in cost.items():
        if endpoints > 1000 and (key, rtt, 1000) in cost:
            where = f"RTT {rtt:g} ms, {key.upper()}"
            growth = each / cost[key, rtt, 1000]
            yield Outcome(f"CPU per endpoint at {endpoints:,}, × at 1,000", where, growth, 1.25)
