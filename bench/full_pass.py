"""A full pass over a fleet that is in sync: what it takes, and whom it asks how often.

    python -m bench.full_pass [--services 100 1000 10000] [--json FILE] [--quick]

The sandbox with that many services, 1.2 custom hostnames each and a certificate for every four of them, runs
in this process; the app, as its triggers would build it, in one of its own, with a ledger in SQLite. The
first pass proves everything in full and begins to fill the ledger; of the last two, settled, the better one
is told. The built-in hostname of each service is watched as well, so that there are 2.2 verdicts a service.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.fleet import BINDINGS_A_CERTIFICATE, Fleet, world_of
from bench.machine import most_resident
from bench.report import Outcome, arguments, outcomes_table, tell

if TYPE_CHECKING:
    from rotation.app import App

MEASURED = 2
MOST_BEFORE = 8
"""Passes until the ledger knows every service as settled: a pass stores as much as it has time for."""

PATIENCE = 900

TICKS_A_MONTH, KB_A_HOSTNAME = 8640, 3
INSTANCE_GB, FREE_GB_S, USD_A_GB_S, USD_A_GB = 2, 100_000, 0.000026, 2.30
"""What docs/scale.md reckons with, and says so."""


async def run_passes(environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """Each pass of the app by itself: the clocks, the memory, the calls and the verdicts."""
    from rotation.app import build
    from rotation.settings import Mistakes, load

    settings = load(environ)
    if isinstance(settings, Mistakes):
        raise SystemExit(" ".join(settings.sentences))
    app, found = build(settings), []
    async with app.opened:
        for number in range(MOST_BEFORE + MEASURED):
            try:
                found.append(await one_pass(app))
            except TimeoutError:
                print(f"pass {number + 1} did not end within its budget", file=sys.stderr)
                continue
            if number >= MEASURED and all(each["calls"]["arm_reads"] == 0 for each in found[-MEASURED:]):
                break
    if len(found) <= MEASURED:
        raise SystemExit("too few passes have ended within their budget")
    return found


async def one_pass(app: "App") -> dict[str, Any]:
    """What a pass took, asked and found."""
    from rotation.model import Mode, Scope, Trigger

    began, cpu = time.monotonic(), time.process_time()
    report = await app.run(Scope(), Mode.REPAIR, Trigger.TIMER, None)
    return {
        "wall_s": time.monotonic() - began,
        "cpu_s": time.process_time() - cpu,
        "reconcile_s": report.duration_seconds,
        "mib": most_resident(),
        "calls": asdict(report.calls),
        "gateways": report.gateways,
        "verdicts": dict(Counter(verdict.status for verdict in report.verdicts)),
        "problems": list(report.problems),
    }


def measure(services: int) -> dict[str, Any]:
    """Passes over that many services, by an app in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-pass-") as folder, Fleet(world_of(services)) as azure:
        wanted = azure.app_settings() | {
            "ROTATION_MODE": "enforce",
            "ROTATION_LEDGER": str(Path(folder) / "ledger.sqlite"),
        }
        done = subprocess.run(
            [sys.executable, "-m", "bench.full_pass", "--app"],
            input=json.dumps(wanted),
            env=os.environ
            | {name: text for name, text in wanted.items() if not name.startswith("ROTATION_")},
            stdout=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
    passes = json.loads(done.stdout)
    took = ", ".join(f"{each['wall_s']:.0f} s" for each in passes)
    print(f"{services:,} services: {took}", file=sys.stderr)
    return {
        "services": services,
        "first": passes[0],
        "best": min(passes[1:], key=lambda each: each["wall_s"]),
    }


def wrong(run: Mapping[str, Any]) -> list[str]:
    """What is not as it must be, whatever the time."""
    services, best = run["services"], run["best"]
    bindings = services + -(-services // 5)
    certificates = -(-bindings // BINDINGS_A_CERTIFICATE)
    calls = best["calls"]
    checks = {
        "gateways": best["gateways"] == services,
        "every custom hostname is IN_SYNC": best["verdicts"].get("IN_SYNC") == bindings,
        "nothing else but built-in names": sum(best["verdicts"].values()) == bindings + services,
        "no problem": not best["problems"],
        "no ARM read": calls["arm_reads"] == 0,
        "no sync": calls["arm_writes"] == 0,
        "a Resource Graph page for 1,000 services, one for Advisor": calls["resource_graph_queries"]
        <= -(-services // 1000) + 1,
        "a Key Vault read for each certificate": calls["key_vault_reads"] <= certificates + 1,
    }
    return [name for name, right in checks.items() if not right]


def outcomes(runs: list[Mapping[str, Any]]) -> Iterator[Outcome]:
    """What was wanted."""
    for run in runs:
        best, where = run["best"], f"{run['services']:,} services"
        if run["services"] >= 10_000:
            yield Outcome("wall, s", where, best["wall_s"], 60)
            yield Outcome("memory of the app, MiB", where, best["mib"], 300)
        yield Outcome("wrong", where, len(wrong(run)), 0)
    base = next((run for run in runs if run["services"] == 1000), None)
    for run in runs:
        if base and run["services"] > 1000:
            growth = run["best"]["cpu_s"] / base["best"]["cpu_s"] / (run["services"] / 1000)
            yield Outcome("CPU per service, x at 1,000", f"{run['services']:,} services", growth, 1.25)


def document(results: Mapping[str, Any]) -> str:
    """The figures as they stand in docs/performance.md."""
    lines = [
        f"Load {results['load']}. CPU is that of the app; the sandbox is another process.",
        "",
        "| services | pass | wall, s | CPU, s | MiB | handshakes | Key Vault | Resource Graph | ARM reads |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for run in results["runs"]:
        for name in ("first", "best"):
            each, calls = run[name], run[name]["calls"]
            what = "first, everything in full" if name == "first" else "settled"
            cost = f"{each['wall_s']:.1f} | {each['cpu_s']:.1f} | {each['mib']:.0f}"
            asked = f"{calls['handshakes']:,} | {calls['key_vault_reads']:,}"
            lines.append(
                f"| {run['services']:,} | {what} | {cost} | {asked} | {calls['resource_graph_queries']}"
                f" | {calls['arm_reads']} |"
            )
    return "\n".join([*lines, "", outcomes_table(outcomes(results["runs"]))])


def month(results: Mapping[str, Any]) -> str:
    """What a tick every five minutes costs, by the largest fleet's CPU: as it stands in docs/scale.md."""
    largest = max(results["runs"], key=lambda run: int(run["services"]))
    each, measured = largest["best"]["cpu_s"] / largest["services"], results["machine"]["date"]
    told = f"{KB_A_HOSTNAME} kB a custom hostname and pass"
    lines = [
        f"Measured {measured}: each of {largest['services']:,} settled services takes {1000 * each:.1f} ms.",
        "",
        f"| services | CPU of a tick | compute a month | telemetry a month ({told}) |",
        "|---|---|---|---|",
    ]
    for services in (100, 1000, 10_000, 100_000, 833_000):
        used = services * each * TICKS_A_MONTH * INSTANCE_GB - FREE_GB_S
        compute = f"{_about(used * USD_A_GB_S)} USD" if used > 0 else "free"
        gb = services * 1.2 * TICKS_A_MONTH * KB_A_HOSTNAME / 1e6
        size = f"{_about(gb)} GB" if gb < 1000 else f"{_about(gb / 1000)} TB"
        telemetry = f"{size}, {_about(gb * USD_A_GB)} USD"
        lines.append(f"| {services:,} | {services * each:,.1f} s | {compute} | {telemetry} |")
    return "\n".join([*lines, ""])


def _about(number: float) -> str:
    return f"{float(f'{number:.2g}'):,.0f}"


def main() -> None:
    """Measure and tell; fails on wrong results only."""
    parser = arguments("full_pass", __doc__, quick="100 services")
    parser.add_argument("--services", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--app", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.app:
        print(json.dumps(asyncio.run(run_passes(json.load(sys.stdin)))))
        return
    fleets = [100] if asked.quick else asked.services
    results = tell(lambda: {"runs": [measure(services) for services in fleets]}, document, asked.json)
    if found := [
        f"{each['services']:,} services: {name}" for each in results["runs"] for name in wrong(each)
    ]:
        raise SystemExit("not so: " + "; ".join(found))


if __name__ == "__main__":
    main()
