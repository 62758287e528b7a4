"""Probing: what a handshake with every endpoint costs here, and what it costs others in the same run.

    python -m bench.probe [--endpoints N ...] [--rtt MS ...] [--key ecdsa|rsa ...] [--rounds N] [--latency]
                          [--json FILE] [--quick] [--blackbox PATH] [--sslyze PATH]

Engines take turns, in reverse order every other round; of each the least CPU time counts and the least wall
time, because what else runs on the machine can only add. The exit code speaks of thumbprints only: 1 where
one was wrong, or where the product did not read one.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.farm import Target, running
from bench.machine import describe
from bench.peers import Measure, Peer, available, engine, tools
from bench.report import table, targets_of

IN_FLIGHT = 256
LEAVES = 2048  # a multiple of the farm's addresses, so that a name has one
SAMPLE = 50
SLOW = ("s_client", "sslyze")
OURS = ("probe", "again", "unverified", "timed")


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
    parser.add_argument("--rounds", type=int, default=3)
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
        setups = [(n, rtt, key) for key in asked.key for rtt in asked.rtt for n in asked.endpoints]
        for endpoints, rtt, key in setups:
            peers = everybody if (endpoints, rtt) == (1000, 0) else fast
            rounds = max(1, min(asked.rounds, 20_000 // endpoints))
            print(f"{endpoints} endpoints, {rtt:g} ms, {key}:", end="", file=sys.stderr)
            runs.append(race(peers, endpoints=endpoints, rtt=rtt, key=key, rounds=rounds))
            print(table(runs[-1]), flush=True)
            keep(asked.json, found.absent, runs)
        if asked.latency:
            setup = {"endpoints": 1000, "rtt": 30.0, "key": "ecdsa", "rounds": asked.rounds}
            few = {name: peer for name, peer in fast.items() if name == "probe" or name not in OURS}
            runs.append(race(few, **setup, tls="1.2", addresses=1, in_flight=32))
            print(table(runs[-1]))
            runs.append(race({"probe": everybody["probe"]}, **setup, addresses=8))
            print(table(runs[-1]))
            keep(asked.json, found.absent, runs)
    for name, remedy in found.absent.items():
        print(f"absent: {name}: {remedy}")
    print(targets_of(runs))
    return int(any(spoiled(run) for run in runs))


def keep(file: Path | None, absent: Mapping[str, str], runs: Sequence[Mapping[str, Any]]) -> None:
    """Write down what there is so far: the whole of it takes long."""
    if file:
        result = {**describe(), "absent": absent, "runs": runs}
        file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def spoiled(run: Mapping[str, Any]) -> bool:
    """Whether a thumbprint was wrong, or the product did not read one."""
    engines = run["engines"]
    return any(each["wrong"] for each in engines.values()) or any(
        engines[name]["missing"] for name in OURS if name in engines
    )


if __name__ == "__main__":
    sys.exit(main())
