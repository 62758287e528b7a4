"""Dead places: what one endpoint in twenty that never answers costs the others, and if a deadline holds.

    python -m bench.dead [--endpoints N] [--rounds N] [--json FILE] [--quick]

A dead place is a listener on loopback whose queue is full: the kernel drops what arrives, so the timeout is
a real one of TCP. The settings are the product's own. Exit code 1 where a thumbprint was wrong, a healthy
endpoint was given up for dead, or a dead one gave another fault than its timeout; never for time.
"""

import argparse
import asyncio
import socket
import ssl
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.engine import client_context
from bench.farm import Target, running
from bench.report import Outcome, keep, outcomes_table
from rotation.clients.tls import TlsProbe
from rotation.model import Endpoint, Observation, ProbeFault, ServedCertificate

SHARE = 20  # one in so many is dead
TIMEOUT = timedelta(seconds=5)  # PROBE_TIMEOUT_SECONDS unless set


class Stopwatch(ssl.SSLObject):
    """Knows when the last handshake of all came to its end."""

    last = 0.0

    def do_handshake(self) -> None:
        """Go on with the handshake."""
        super().do_handshake()
        Stopwatch.last = time.monotonic()


@contextmanager
def holes(number: int) -> Iterator[list[tuple[str, int]]]:
    """So many places that drop what is sent to them."""
    with ExitStack() as stack:
        places: list[tuple[str, int]] = []
        for n in range(number):
            port = places[0][1] if places else 0
            server = socket.create_server((f"127.2.{n // 250}.{n % 250 + 1}", port), backlog=0)
            stack.enter_context(server)
            places.append(server.getsockname())
            for _ in range(3):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(places[-1])
        yield places


def look(
    context: ssl.SSLContext, targets: Sequence[Target], dead: Sequence[tuple[str, int]], within: float | None
) -> dict[str, Any]:
    """One pass over the targets, of which every twentieth is at a dead place, if there are any."""
    routes, endpoints, alive = {}, [], {}
    for number, target in enumerate(targets):
        place = target.address, target.port
        if dead and number % SHARE == 0:
            place = dead[number // SHARE % len(dead)]
        else:
            alive[number] = target.right[0]
        routes[f"{place[0]}.test", place[1]] = place
        endpoints.append(Endpoint(target.name, "bench", f"{place[0]}.test", place[1]))
    probe = TlsProbe(context, routes, TIMEOUT)
    deadline = timedelta(seconds=within) if within else None
    began = time.monotonic()
    seen = asyncio.run(probe(endpoints, within=deadline))
    wall = time.monotonic() - began
    return {"wall_s": wall, "healthy_s": Stopwatch.last - began, **_judge(seen, alive)}


def _judge(seen: Sequence[Observation], alive: dict[int, str]) -> dict[str, int]:
    """How many were right, wrong, late or lost, out of time, and at dead places dialled or only told.

    Late is a healthy endpoint that was dialled and timed out, where farm and client had no CPU: that is time.
    Lost is one that was given up for dead or gave any other fault: that is wrong.
    """
    counts = dict.fromkeys(("right", "wrong", "late", "lost", "out_of_time", "dialled", "told", "other"), 0)
    timeouts = {ProbeFault.CONNECT_TIMEOUT, ProbeFault.HANDSHAKE_TIMEOUT}
    for number, each in enumerate(seen):
        if isinstance(each, ServedCertificate):
            counts["right" if alive.get(number) == each.thumbprint else "wrong"] += 1
        elif each.fault is ProbeFault.OUT_OF_TIME:
            counts["out_of_time"] += 1
        elif number in alive:
            dialled = not each.detail.startswith("not dialled")
            counts["late" if dialled and each.fault in timeouts else "lost"] += 1
        elif each.fault is ProbeFault.CONNECT_TIMEOUT:
            counts["told" if each.detail.startswith("not dialled") else "dialled"] += 1
        else:
            counts["other"] += 1
    return counts


def main() -> int:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--endpoints", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, help="keep the figures here")
    parser.add_argument("--quick", action="store_true", help="small, for CI: fails on wrong results only")
    asked = parser.parse_args()
    if asked.quick:
        asked.endpoints, asked.rounds = 400, 1
    runs: dict[str, dict[str, Any]] = {}
    with running(min(asked.endpoints, 2048), "ecdsa", 30) as farm, holes(asked.endpoints // SHARE) as dead:
        context = client_context(str(farm.root))
        context.sslobject_class = Stopwatch
        targets = farm.targets(asked.endpoints)
        look(context, targets[:64], [], None)
        for _ in range(asked.rounds):
            for name, places in (("healthy", []), ("one region", dead[:1]), ("scattered", dead)):
                best(runs, name, look(context, targets, places, None))
        half = round(min(3.0, runs["healthy"]["wall_s"] / 2), 1)
        for name, places in (("deadline, healthy", []), ("deadline, scattered", dead)):
            best(runs, name, {**look(context, targets, places, half), "within_s": half})
    result = {"endpoints": asked.endpoints, "rounds": asked.rounds, "timeout_s": 5, "runs": runs}
    print(document(result))
    keep(asked.json, result)
    return int(any(run["wrong"] or run["lost"] or run["other"] for run in runs.values()))


def best(runs: dict[str, dict[str, Any]], name: str, seen: dict[str, Any]) -> None:
    """The fastest round of each; but a mistake is never forgotten."""
    before = runs.get(name, seen)
    runs[name] = {
        **min(before, seen, key=lambda run: float(run["wall_s"])),
        **{mistake: max(before[mistake], seen[mistake]) for mistake in ("wrong", "lost", "other")},
    }


def document(dead: Mapping[str, Any]) -> str:
    """All that is kept, as it stands in docs/performance.md."""
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
    return "\n".join([*lines, "", outcomes_table(outcomes(dead))])


def outcomes(dead: Mapping[str, Any]) -> Iterator[Outcome]:
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


if __name__ == "__main__":
    sys.exit(main())
