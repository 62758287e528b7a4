"""Probing: what a handshake with every endpoint costs here, and what it costs others in the same run.

    python -m bench.probe [--endpoints N ...] [--rtt MS ...] [--key ecdsa|rsa ...] [--rounds N] [--latency]
                          [--json FILE] [--quick] [--blackbox PATH] [--sslyze PATH]

Engines take turns, in reverse order every other round; of each the least CPU time counts and the least wall
time, because what else runs on the machine can only add. The exit code speaks of thumbprints only: 1 where
one was wrong, or where the product did not read one.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.farm import Target, running
from bench.peers import Measure, Peer, available, engine, tools
from bench.report import Outcome, keep, outcomes_table

IN_FLIGHT = 256
LEAVES = 2048  # a multiple of the farm's addresses, so that a name has one
SAMPLE = 50
SLOW = ("s_client", "sslyze")
OURS = ("probe", "again", "unverified", "timed")
VARIANTS = ("again", "unverified", "c_unverified")
"""What a thousand endpoints say, ten thousand need not say again."""

NAMES = {
    "probe": "the product",
    "again": "... in a later pass over the same leaves",
    "unverified": "... without verification",
    "timed": "... with a clock around `do_handshake`",
    "open_connection": "`asyncio.open_connection`",
    "c": "C + OpenSSL",
    "c_unverified": "C + OpenSSL without verification",
    "curl": "`curl --parallel`",
    "blackbox": "blackbox_exporter",
    "s_client": "`openssl s_client \\| openssl x509`",
    "sslyze": "sslyze",
}

Run = Mapping[str, Any]


def ours() -> dict[str, Peer]:
    """The product: as it is, in its second pass, without verification, and with a clock in it."""
    return {name: engine(name) for name in OURS}


def race(
    peers: Mapping[str, Peer],
    *,
    endpoints: int,
    rtt: float,
    key: str,
    tls: str = "any",
    addresses: int = 32,
    in_flight: int = IN_FLIGHT,
    rounds: int = 3,
) -> dict[str, Any]:
    """Every engine against one farm, several times in turn."""
    engines: dict[str, dict[str, float]] = {}
    before = os.getloadavg()[0]
    with running(min(endpoints, LEAVES), key, rtt, tls) as farm:
        targets = farm.targets(endpoints, addresses)
        for number in range(rounds):
            order = list(peers) if number % 2 == 0 else list(peers)[::-1]
            for name in order:
                if name in SLOW and number:
                    continue
                sample = targets[:SAMPLE] if name in SLOW else targets
                print(f"  {name} ...", end="", flush=True, file=sys.stderr)
                seen = judge(peers[name](farm, sample, in_flight), sample)
                engines[name] = best(engines[name], seen) if name in engines else seen
    print(file=sys.stderr)
    setup = {
        "endpoints": endpoints,
        "rtt": rtt,
        "key": key,
        "tls": tls,
        "in_flight": in_flight,
        "rounds": rounds,
    }
    return {
        **setup,
        "addresses": addresses,
        "load": f"{before:.1f} to {os.getloadavg()[0]:.1f}",
        "engines": engines,
    }


def judge(measure: Measure, targets: Sequence[Target]) -> dict[str, float]:
    """The cost of one endpoint in milliseconds, and how many thumbprints were right, wrong and not read."""
    right = sum(seen in target.right for seen, target in zip(measure.seen, targets, strict=True))
    hashes = sum(len(seen) in {40, 64} for seen in measure.seen)
    number = len(targets)
    return {
        "endpoints": number,
        "cpu_ms": 1000 * measure.cpu / number,
        "outside_ms": 1000 * (measure.cpu - measure.inside) / number,
        "wall_s": measure.wall,
        "mib": measure.mib,
        "lag_ms": 1000 * measure.lag,
        "right": right,
        "wrong": hashes - right,
        "missing": number - hashes,
    }


def best(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """The least of each cost; but of thumbprints the worst."""
    worst = {"wrong", "missing"}
    return {name: (max if name in worst else min)(one[name], other[name]) for name in one}


def main() -> int:
    """Run what the arguments say; 1 where a thumbprint was wrong or the product missed one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--endpoints", type=int, nargs="*", default=[1000])
    parser.add_argument("--rtt", type=float, nargs="+", default=[0.0], help="milliseconds")
    parser.add_argument("--key", nargs="+", choices=["ecdsa", "rsa"], default=["ecdsa"])
    parser.add_argument("--rounds", type=int, default=8, help="at most; fewer with many endpoints")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    parser.add_argument("--quick", action="store_true", help="small, for CI: fails on wrong results only")
    parser.add_argument("--latency", action="store_true", help="also TLS 1.2 at one address, 30 ms away")
    parser.add_argument("--blackbox", default="", help="path of blackbox_exporter")
    parser.add_argument("--sslyze", default="", help="path of sslyze")
    asked = parser.parse_args()
    if asked.quick:
        asked.endpoints, asked.rtt, asked.key, asked.rounds = [200], [0.0, 30.0], ["ecdsa"], 1
    runs: list[dict[str, Any]] = []
    with tools(asked.blackbox, asked.sslyze) as found:
        everybody = {**ours(), "open_connection": engine("open_connection"), **available(found)}
        fast = {name: peer for name, peer in everybody.items() if name not in SLOW}
        large = {name: peer for name, peer in fast.items() if name not in VARIANTS}
        setups = [(n, rtt, key) for key in asked.key for rtt in asked.rtt for n in asked.endpoints]
        for endpoints, rtt, key in setups:
            peers = everybody if (endpoints, rtt) == (1000, 0) else fast if endpoints <= 1000 else large
            rounds = min(asked.rounds, 2 + 5_000 // endpoints)
            print(f"{endpoints} endpoints, {rtt:g} ms, {key}:", end="", file=sys.stderr)
            runs.append(race(peers, endpoints=endpoints, rtt=rtt, key=key, rounds=rounds))
            print(table(runs[-1]), flush=True)
            keep(asked.json, {"absent": found.absent, "runs": runs})
        if asked.latency:
            setup = {"endpoints": 1000, "rtt": 30.0, "key": "ecdsa", "rounds": min(3, asked.rounds)}
            few = {name: peer for name, peer in large.items() if name == "probe" or name not in OURS}
            runs.append(race(few, **setup, tls="1.2", addresses=1, in_flight=32))
            print(table(runs[-1]))
            runs.append(race({"probe": everybody["probe"]}, **setup, addresses=8))
            print(table(runs[-1]))
            keep(asked.json, {"absent": found.absent, "runs": runs})
    for name, remedy in found.absent.items():
        print(f"absent: {name}: {remedy}")
    print(outcomes_table(outcomes(runs)))
    return int(any(spoiled(run) for run in runs))


def spoiled(run: Run) -> bool:
    """Whether a thumbprint was wrong, or the product did not read one."""
    engines = run["engines"]
    return any(each["wrong"] for each in engines.values()) or any(
        engines[name]["missing"] for name in OURS if name in engines
    )


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
    most = {
        "c": ("CPU, x C + OpenSSL", 1.15),
        "unverified": ("to verify, x CPU", 1.15),
        "open_connection": ("CPU, x `open_connection`", 0.75),
    }
    for name, (what, limit) in most.items():
        if name in engines:
            yield Outcome(what, where, cpu("probe", name), limit)
    yield Outcome("outside `do_handshake`, ms", where, engines["timed"]["outside_ms"], 0.15)
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


def document(results: Mapping[str, Any]) -> str:
    """All that is kept, as it stands in docs/performance.md."""
    absent = [f"- absent: {NAMES[name]}; {remedy}" for name, remedy in results["absent"].items()]
    runs = results["runs"]
    parts = [*absent, "### Targets\n", outcomes_table(outcomes(runs)), "### Engines\n", *map(table, runs)]
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
