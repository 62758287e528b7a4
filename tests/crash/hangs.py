"""R6: an event is answered in time with every dependency hanging, and the worker lives on.

    python -m tests.crash.hangs [--events N] [--services N] [--jobs N] [--only WORDS]

Event Grid gives an answer 30 s and then sends again; the app's budget is its default. Hanging means: the
request is taken, or the connection, and nothing comes back; the ledger's file is locked by another process.
"""

import argparse
import json
import subprocess
import sys
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from sandbox.event_grid import EventSchema, payload
from sandbox.world import (
    EventType,
    Fault,
    KeyVaultEvent,
    Server,
    World,
)
from tests.crash.fleet import Fleet, FleetScene
from tests.crash.kills import say
from tests.results import keep

GOAL_SECONDS = 20.0
MOST_SECONDS = 25.0
QUICK_SECONDS = 10.0
"""For the first event after everything is well again; threads that still hang may have to end first."""

LARGE = 200
"""Services that can be probed within an event's budget and asked for a sync within one pass, and no more."""

_EVENT_GRID = "/runtime/webhooks/EventGrid?functionName=on_certificate_event"
_PASS_SECONDS = 300.0
_NEXT_ATTEMPT = timedelta(minutes=31)
_LOCK = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=20, isolation_level=None)
database.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


class Hang(StrEnum):
    """What gives no answer."""

    ARM_LIST = "ARM's list of services"
    ARM_SYNC = "ARM's sync"
    VAULT = "Key Vault"
    TOKENS = "every token"
    TELEMETRY_TOKEN = "the token for Application Insights"
    INGESTION = "Application Insights"
    GATEWAYS = "the gateways"
    LEDGER = "the ledger"


ALONE = tuple((hang,) for hang in Hang)
TOGETHER = tuple(Hang)
NOTHING: tuple[Hang, ...] = ()
COMBINATIONS: tuple[tuple[Hang, ...], ...] = (*ALONE, TOGETHER, NOTHING)

_FAULTS: Mapping[Hang, Fault] = {
    Hang.ARM_LIST: Fault(Server.ARM, "/service$|/resources$", hang=True, times=None),
    Hang.ARM_SYNC: Fault(Server.ARM, "refreshHostnames", "POST", hang=True, times=None),
    Hang.VAULT: Fault(Server.VAULT, hang=True, times=None),
    Hang.TOKENS: Fault(Server.IDENTITY, hang=True, times=None),
    Hang.INGESTION: Fault(Server.INGESTION, hang=True, times=None),
}


class Start(StrEnum):
    """What the worker has behind it when the events come."""

    COLD = "cold"  # nothing: the first event imports the SDKs, which its budget does not count
    BUILT = "built"  # /api/status was asked: everything is imported, nothing has been sent
    WARM = "warm"  # a good pass: there are tokens and open connections


class HangingWorld(World):
    """A world that can also be silent about the tokens for one resource; a path alone does not tell it."""

    silent_about = ""

    def take_fault(self, server: str, method: str, path: str) -> Fault | None:
        """Look at the whole request: it was noted just now."""
        resource = self.requests[-1].query.get("resource", "")
        if server == Server.IDENTITY and self.silent_about and self.silent_about in resource:
            return Fault(server, hang=True)
        return super().take_fault(server, method, path)


@dataclass(slots=True)
class Hung:
    """What a combination came to. `after` is how long the first event took when all was well again."""

    combination: tuple[Hang, ...]
    start: Start
    seconds: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    after: float = 0
    synced: int = 0
    tick: float = 0
    services: int = 0
    story: str | None = None

    @property
    def name(self) -> str:
        """What hangs, in words."""
        return f"{in_words(self.combination)} ({self.start})"

    @property
    def well(self) -> bool:
        """Whether every goal is met."""
        answered = {202} == set(self.statuses) and max(self.seconds) < GOAL_SECONDS
        after = self.after < self.quick and self.least_synced <= self.synced <= self.services
        return not self.story and answered and after

    @property
    def quick(self) -> float:
        """Within how many seconds the next event is answered; a large fleet takes its whole budget."""
        return QUICK_SECONDS if self.services <= LARGE else GOAL_SECONDS

    @property
    def least_synced(self) -> int:
        """How many the next tick has at least synced: a large fleet takes several, a write budget apart."""
        return self.services if self.services <= LARGE else 1


def in_words(combination: tuple[Hang, ...]) -> str:
    """What hangs."""
    return "everything" if combination == TOGETHER else ", ".join(combination) or "nothing"


def hang(combination: tuple[Hang, ...], *, events: int, services: int, start: Start) -> Hung:
    """Send events while something hangs, then one when all is well, then let the timer do the rest.

    Args:
        combination: what hangs.
        events: how many at the same time.
        services: how many use the renewed certificate.
        start: what the worker has behind it.
    """
    hung = Hung(combination, start, services=services)
    fleet = Fleet(world := HangingWorld(), services)
    world.page_size = max(world.page_size, services // 50)
    with FleetScene(fleet) as scene:
        try:
            if start is Start.BUILT:
                scene.status()
            elif start is Start.WARM:
                scene.host.run("check_drift", timeout=_PASS_SECONDS)
            fleet.certificate.renew(announce=False)
            with _hanging(scene, combination), ThreadPoolExecutor(events) as senders:
                answers = list(senders.map(lambda _: deliver(scene), range(events)))
            hung.statuses = [status for status, _ in answers]
            hung.seconds = [seconds for _, seconds in answers]
            status, hung.after = deliver(scene)
            hung.statuses.append(status)
            if hung.after >= hung.quick:
                raise TimeoutError(f"the next event took {hung.after:.1f} s although all was well again")
            # What hung may have spent the first attempt; the second is due half an hour later.
            world.clock.advance(_NEXT_ATTEMPT)
            began = time.monotonic()
            scene.host.run("check_drift", timeout=_PASS_SECONDS)
            hung.tick = time.monotonic() - began
            hung.synced = sum(len(service.syncs) == 1 for service in world.services)
            if not hung.well:
                hung.story = f"{hung.name}: {hung}\n{scene.host.log()}"
        except Exception:  # noqa: BLE001 - whatever it is, it is the story of this combination
            hung.story = f"{hung.name}: {traceback.format_exc()}\n{scene.host.log()}"
    return hung


def deliver(scene: FleetScene) -> tuple[int, float]:
    """One delivery of the event of the newest version: status, and seconds until it was answered."""
    version = scene.fleet.certificate.newest
    event = KeyVaultEvent(str(uuid.uuid4()), EventType.NEW_VERSION, version.created, version)
    began = time.monotonic()
    answer = scene.host.request(
        "POST",
        _EVENT_GRID,
        json=[payload(event, EventSchema.EVENT_GRID)],
        headers={"aeg-event-type": "Notification"},
        key="eventgrid_extension",
    )
    return answer.status, time.monotonic() - began


@contextmanager
def _hanging(scene: FleetScene, combination: Sequence[Hang]) -> Iterator[None]:
    """Nothing answers for as long as this lasts."""
    world = scene.world
    assert isinstance(world, HangingWorld)
    with ExitStack() as lasting:
        if Hang.LEDGER in combination:
            lasting.enter_context(_locked(scene.ledger))
        scene.fleet.silence(silent=Hang.GATEWAYS in combination)
        world.silent_about = "monitor" if Hang.TELEMETRY_TOKEN in combination else ""
        world.faults = [_FAULTS[what] for what in combination if what in _FAULTS]
        try:
            yield
        finally:
            world.faults = []
            world.silent_about = ""
            scene.fleet.silence(silent=False)


@contextmanager
def _locked(ledger: Path) -> Iterator[None]:
    """Another process has the ledger's file to itself."""
    with subprocess.Popen(
        [sys.executable, "-c", _LOCK, str(ledger)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin
        assert other.stdout
        try:
            assert "locked" == other.stdout.readline().strip()
            yield
        finally:
            other.stdin.close()


def hang_each(
    combinations: Sequence[tuple[tuple[Hang, ...], Start]], *, events: int, services: int, jobs: int
) -> list[Hung]:
    """Every combination, from its start, some at a time: they mostly wait."""

    def one(wanted: tuple[tuple[Hang, ...], Start]) -> Hung:
        return hang(wanted[0], events=events, services=services, start=wanted[1])

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, combinations))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least a share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def main() -> int:
    """Hang everything, print the figures, return 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.hangs", description=__doc__)
    parser.add_argument("--events", type=int, default=60, help="at the same time, for each combination")
    parser.add_argument("--services", type=int, default=12, help="that use the certificate")
    parser.add_argument("--jobs", type=int, default=3, help="combinations at a time")
    parser.add_argument("--only", default="", help="combinations whose name holds this")
    parser.add_argument("--keep", action="store_true", help="keep the figures in tests/results.json")
    options = parser.parse_args()
    began = time.monotonic()
    wanted = [
        (combination, start)
        for combination in COMBINATIONS
        for start in (Start.COLD, Start.WARM)
        if options.only in Hung(combination, start).name
    ]
    results = hang_each(wanted, events=options.events, services=options.services, jobs=options.jobs)
    for hung in results:
        if not hung.well:
            say(f"MISSED: {hung.story}\n")
    width = max(len(hung.name) for hung in results)
    for hung in results:
        seconds = f"{len(hung.seconds):4} events, longest {max(hung.seconds, default=0):5.1f} s"
        rest = f"next event {hung.after:4.1f} s | tick {hung.tick:3.0f} s"
        done = f"{hung.synced} of {hung.services} synced"
        say(f"{hung.name.ljust(width)} | {seconds} | {rest} | {done} | {'ok' if hung.well else 'MISSED'}")
    return _figures(results, round(time.monotonic() - began), kept=options.keep)


def _figures(results: Sequence[Hung], seconds: int, *, kept: bool) -> int:
    everything = [each for hung in results for each in hung.seconds]
    figures: dict[str, object] = {
        "services": max(hung.services for hung in results),
        "combinations": len(results),
        "events": len(everything),
        "p50_seconds": round(percentile(everything, 0.5), 1),
        "p99_9_seconds": round(percentile(everything, 0.999), 1),
        "max_seconds": round(max(everything), 1),
        "longest_event_afterwards_seconds": round(max(hung.after for hung in results), 1),
        "well": sum(hung.well for hung in results),
        "seconds": seconds,
    }
    say(
        f"R6: {len(everything)} events, p99.9 {figures['p99_9_seconds']} s, max {figures['max_seconds']} s,"
        f" {figures['well']} of {len(results)} combinations well"
    )
    say(json.dumps(figures))
    if kept:
        keep("hangs", figures)
    within = percentile(everything, 0.999) < GOAL_SECONDS and max(everything) < MOST_SECONDS
    return 0 if within and all(hung.well for hung in results) else 1


if __name__ == "__main__":
    sys.exit(main())
