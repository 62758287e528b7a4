"""The real reconcile over the sandbox's world, in virtual time: no sockets, no threads, no sleep.

The ports of `rotation.reconcile` are all in this file. They answer from the world's state, with the faults
that the seed asks for, and note in `Seen` what the world really showed, for the oracle to judge by.
"""

import asyncio
import heapq
import itertools
import random
from asyncio.events import _set_running_loop
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

from rotation.gateways import self_hosted
from rotation.gateways.api_management import from_arm
from rotation.model import (
    CertificateId,
    CertificateUnreadable,
    CertificateVersion,
    Endpoint,
    Event,
    Gateway,
    GatewayKind,
    Inventory,
    LedgerRow,
    Mode,
    Observation,
    Pause,
    ProbeFailure,
    ProbeFault,
    Report,
    Scope,
    ServedCertificate,
    Shard,
    SyncAnswer,
    SyncOutcome,
    Trigger,
    UnreadableCause,
)
from rotation.reconcile import LedgerConflictError, LedgerUnavailableError, World, deliver, reconcile
from rotation.verdict import Limits
from sandbox import world as sandbox
from sandbox.certificates import CertificateAuthority, Leaf
from tests.simulation.hosted import Hosted
from tests.unit.build import Presented

T = TypeVar("T")

EPOCH = datetime(2026, 3, 2, tzinfo=UTC)
TIMER_BUDGET = timedelta(seconds=240)
EVENT_BUDGET = timedelta(seconds=20)
A_WHILE = timedelta(minutes=7)
EVENT_PASS = timedelta(seconds=15)
SUFFIX = "vault.azure.net"
EVERYTHING = Scope()
ALLOWED_VAULTS = frozenset({f"kv-mine.{SUFFIX}", f"kv-other.{SUFFIX}"})


class Trouble(StrEnum):
    """What may go wrong at a call, or with an event."""

    LIST_FAILS = "one subscription cannot be listed"
    READ_FAILS = "a service cannot be read"
    LIST_AWAY = "nothing can be listed"
    NO_DATE = "ARM's answer has no Date"
    SYNC_LOCKED = "409 from ARM"
    SYNC_THROTTLED = "429 from ARM"
    SYNC_FORBIDDEN = "403 from ARM"
    SYNC_BROKEN = "5xx from ARM"
    SYNC_RESET = "connection reset by ARM"
    SYNC_HANGS = "no answer from ARM"
    OPERATION_FAILS = "the operation cannot be read"
    VAULT_FORBIDDEN = "403 from Key Vault"
    VAULT_MISSING = "404 from Key Vault"
    VAULT_THROTTLED = "429 from Key Vault"
    VAULT_BROKEN = "5xx from Key Vault"
    VERSIONS_FAIL = "versions cannot be listed"
    PROBE_FAILS = "a connection fails"
    LEDGER_READ = "the ledger cannot be read"
    LEDGER_WRITE = "the ledger cannot be written"
    INSIGHTS_REFUSE = "Application Insights accepts nothing"
    INSIGHTS_LOST_ANSWER = "Application Insights accepts, and its answer is lost"
    LEDGER_LOST_ANSWER = "the ledger stores, and its answer is lost"
    KILL = "the worker is killed"
    RACE = "two workers at once"
    EVENT_LOST = "an event is lost"
    EVENT_LATE = "an event is late"
    EVENT_TWICE = "an event comes twice"


VAULT_ANSWERS = {
    Trouble.VAULT_FORBIDDEN: UnreadableCause.FORBIDDEN,
    Trouble.VAULT_MISSING: UnreadableCause.NOT_FOUND,
    Trouble.VAULT_THROTTLED: UnreadableCause.THROTTLED,
    Trouble.VAULT_BROKEN: UnreadableCause.UNREACHABLE,
}
REFUSALS = {
    Trouble.SYNC_LOCKED: SyncOutcome.BUSY,
    Trouble.SYNC_THROTTLED: SyncOutcome.THROTTLED,
    Trouble.SYNC_FORBIDDEN: SyncOutcome.FORBIDDEN,
}
RETRY_AFTERS = (None, -86400, -1, 0, 1, 60, 600, 1800, 3600, 7200, 99_999_999)


class WorkerKilledError(BaseException):
    """The process is gone: nothing of it runs any further."""


class VirtualClock(sandbox.Clock):
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self._now = EPOCH

    def now(self) -> datetime:
        """The world's time."""
        return self._now

    def advance(self, delta: timedelta) -> None:
        """Let time pass."""
        self._now += delta

    def reach(self, moment: datetime) -> None:
        """Let time pass until a moment, if that is not over."""
        self._now = max(self._now, moment)


class LeanAuthority(CertificateAuthority):
    """Issues leaves that differ in their bytes and dates: nobody here checks a signature."""

    def __init__(self) -> None:
        self._serial = itertools.count()

    def issue(self, names: Sequence[str], *, days: float = 90, not_before: datetime | None = None) -> Leaf:
        """A leaf like no other."""
        since = not_before or EPOCH
        der = f"leaf {next(self._serial)}".encode()
        return Leaf(der, "", "", tuple(names), since, since + timedelta(days=days))


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs tasks in the order in which they become ready; when all of them wait, time passes.

    Leaner than its parent, which looks after other threads, contexts and debugging; a test compares the two.
    """

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock
        self._steps: deque[_Step] = deque()
        self._timers: list[asyncio.TimerHandle] = []
        self._told_at, self._told = EPOCH, 0.0

    def call_soon(  # type: ignore[override] # asyncio does nothing with it but cancel it
        self,
        callback: Callable[..., object],
        *args: object,
        context: Context | None = None,  # noqa: ARG002
    ) -> "_Step":
        """Run it after what is ready already; all share one context."""
        step = _Step(callback, args)
        self._steps.append(step)
        return step

    def call_at(
        self, when: float, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run it when that time has come."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, timer)
        return timer

    def create_task(  # type: ignore[override] # nobody here has a generator
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,  # noqa: ARG002
    ) -> asyncio.Task[T]:
        """As its parent does."""
        return asyncio.Task(coro, loop=self, name=name or "task")

    def time(self) -> float:
        """Virtual seconds."""
        now = self._clock.now()
        if now is not self._told_at:
            self._told_at, self._told = now, (now - EPOCH).total_seconds()
        return self._told

    def drive(self, work: Iterable[Coroutine[Any, Any, Report]]) -> list[Report | BaseException]:
        """Run these at once, and return what each has ended with."""
        steps, timers = self._steps, self._timers
        _set_running_loop(self)
        try:
            tasks = [self.create_task(one) for one in work]
            while steps or not all(task.done() for task in tasks):
                if timers:
                    self._fire()
                step = steps.popleft()
                step.callback(*step.args)
        finally:
            timers.clear()
            _set_running_loop(None)
        return [task.exception() or task.result() for task in tasks]

    def _fire(self) -> None:
        """Put timers that are due among what is ready; wait for the first where nothing else is."""
        steps, timers = self._steps, self._timers
        while timers and timers[0].cancelled():
            heapq.heappop(timers)
        if not timers:
            return
        if not steps:
            self._clock.reach(EPOCH + timedelta(seconds=timers[0].when()))
        now = self.time()
        while timers and timers[0].when() <= now:
            steps.append(_Step(_unless_cancelled, (heapq.heappop(timers),)))


class _Step:
    """Something to be run at once, unless it is cancelled before its turn."""

    __slots__ = ("args", "callback")

    def __init__(self, callback: Callable[..., object], args: tuple[object, ...]) -> None:
        self.callback = callback
        self.args = args

    def cancel(self) -> None:
        """Nothing happens in its turn."""
        self.callback, self.args = _nothing, ()


def _nothing() -> None:
    pass


def _unless_cancelled(timer: asyncio.TimerHandle) -> None:
    if not timer.cancelled():
        timer._run()


@dataclass(slots=True)
class Read:
    """What Key Vault had when it was asked, and what it answered."""

    version: sandbox.Version
    readable: bool
    enabled: bool
    deleted: bool
    available: datetime
    answer: Trouble | None


@dataclass(slots=True)
class Shown:
    """What the connections to one region showed (None: nothing), and what all of its units had."""

    connections: tuple[str | None, ...]
    units: tuple[str, ...]


@dataclass(slots=True)
class Seen:
    """What the world showed to one pass."""

    configured: dict[tuple[str, str], str | None] = field(default_factory=dict)
    busy: dict[str, bool] = field(default_factory=dict)
    read: dict[CertificateId, Read] = field(default_factory=dict)
    shown: dict[tuple[str, str], dict[str, Shown]] = field(default_factory=dict)
    versions_unlisted: set[CertificateId] = field(default_factory=set)
    cannot_read_vault: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Wait:
    """What an answer has asked for: nothing before a moment."""

    until: datetime
    because: SyncOutcome


@dataclass(slots=True)
class Post:
    """A refreshHostnames that has left a worker: when, what for, and what became of it."""

    at: datetime
    gateway_key: str
    claimed: bool
    wanted: tuple[tuple[str, str], ...]
    forced: bool
    started: bool
    refused: bool
    waited_for: Wait | None
    asks_to_wait: Wait | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """A pass to be run."""

    trigger: Trigger = Trigger.TIMER
    mode: Mode = Mode.REPAIR
    scope: Scope = EVERYTHING

    def __str__(self) -> str:
        return f"{self.mode} of {self.scope} by {self.trigger}"


class Worker:
    """A process that runs one pass, and may die at any of its calls, before the call's effect or after."""

    def __init__(
        self, sim: "Simulation", name: str, order: Order, dies_at: int | None, budget: timedelta | None
    ) -> None:
        self.sim = sim
        self.name = name
        self.order = order
        self.racing = False
        self.dead = False
        self.writes = 0
        self.posts: list[Post] = []
        self.seen = Seen()
        self.claims: dict[str, LedgerRow] = {}
        self._points = 0
        self._dies_at = dies_at
        self.budget = EVENT_PASS if budget else timedelta(days=1)
        self._until = sim.clock.now() + budget if budget else None

    async def call(self, seconds: float) -> None:
        """The way there: it takes time, and others may be quicker."""
        sim = self.sim
        self._point()
        if self.racing:
            for _ in range(sim.random.randrange(4)):
                await asyncio.sleep(0)
        sim.clock.advance(timedelta(seconds=seconds))
        if sim.agenda:
            sim.catch_up()
        if self._until and sim.clock.now() > self._until:
            self._die("its budget is spent")
        self._point()

    async def tell(self, events: Sequence[Event]) -> bool:
        """Application Insights, as far as it is there."""
        await self.call(0.2)
        if self.sim.away("insights") or self.sim.strikes(Trouble.INSIGHTS_REFUSE):
            return False
        for event in events:
            self.sim.told.setdefault(event.event_id, []).append(self.sim.clock.now())
        if self.sim.strikes(Trouble.INSIGHTS_LOST_ANSWER):
            return False
        self.done()
        return True

    def done(self) -> None:
        """The way back: whatever was to be done there is done."""
        self._point()

    def _point(self) -> None:
        if self.dead:
            raise WorkerKilledError
        self._points += 1
        if self._points == self._dies_at:
            self._die(f"killed at point {self._points}")

    def _die(self, why: str) -> None:
        self.dead = True
        self.sim.tell(f"{self.name} dies: {why}")
        self.sim.trouble()
        raise WorkerKilledError


class SimGateways:
    """Implements `reconcile.Gateways` over the world's services, or over its certificate entities."""

    def __init__(self, worker: Worker, *, hosted: bool = False) -> None:
        self._worker = worker
        self._sim = worker.sim
        self._hosted = hosted

    async def discover(self, shard: Shard | None = None) -> Inventory:
        """What can be listed now; ARM's clock has whole seconds."""
        assert shard is None
        sim = self._sim
        await self._worker.call(0.4)
        if sim.away("arm") or sim.strikes(Trouble.LIST_AWAY):
            self._worker.done()
            return Inventory((), ("nothing could be listed",), None)
        subscriptions = sim.world.subscriptions
        failing = {s for s in subscriptions if sim.strikes(Trouble.LIST_FAILS)}
        mine = [s for s in sim.world.services if isinstance(s, Hosted) is self._hosted]
        gateways = [sim.as_listed(s) for s in mine if s.subscription_id not in failing]
        for gateway in gateways:
            self._show(gateway)
        no_date = len(failing) == len(subscriptions) or sim.strikes(Trouble.NO_DATE)
        as_of = None if no_date else sim.clock.now().replace(microsecond=0)
        self._worker.done()
        return Inventory(tuple(gateways), tuple(f"{s} could not be listed" for s in sorted(failing)), as_of)

    async def read(self, gateway: Gateway) -> Gateway | str:
        """The service as it is now, whatever the list has shown."""
        sim = self._sim
        await self._worker.call(0.3)
        if sim.away("arm") or sim.strikes(Trouble.READ_FAILS):
            self._worker.done()
            return f"{gateway.name} could not be read"
        fresh = sim.describe(sim.service(gateway.key))
        self._show(fresh)
        self._worker.done()
        return fresh

    def _show(self, gateway: Gateway) -> None:
        seen, key = self._worker.seen, gateway.key
        seen.busy[key] = gateway.busy
        if gateway.vault_error:
            seen.cannot_read_vault.add(key)
        for binding in gateway.bindings:
            seen.configured[key, binding.hostname] = binding.configured

    async def sync(self, gateway: Gateway) -> SyncAnswer:
        """One POST. The world begins an update, or does not; the answer says so, or does not."""
        sim = self._sim
        await self._worker.call(0.8)
        claim = self._worker.claims.get(gateway.key)
        post = Post(
            at=sim.clock.now(),
            gateway_key=gateway.key,
            claimed=claim is not None and claim.outcome is SyncOutcome.ASKED,
            wanted=versions(claim) if claim else (),
            forced=self._worker.order.mode is Mode.FORCE,
            started=False,
            refused=False,
            waited_for=sim.waits.get(gateway.key),
        )
        self._worker.posts.append(post)
        sim.posts.append(post)
        answer = self._answer(sim.service(gateway.key), post)
        if answer.outcome.refused or answer.retry_after:
            wait = timedelta(minutes=5) if answer.retry_after is None else answer.retry_after
            until = sim.clock.now() + min(wait, timedelta(hours=1))
            post.asks_to_wait = Wait(until, answer.outcome)
            sim.trouble(until)
        sim.tell(f"{self._worker.name} asks {gateway.name} for a sync: {answer.outcome}, {answer.detail}")
        self._worker.done()
        return answer

    async def operation_error(self, operation_url: str) -> str | None:
        """How an operation has failed; the URL is the service's key and the number of its update."""
        sim = self._sim
        await self._worker.call(0.2)
        key, _, number = operation_url.rpartition("#")
        service = sim.service(key)
        update = service.updates[int(number)]
        error = service.failure(update.ends) if update.ends <= sim.clock.now() else None
        if error and sim.strikes(Trouble.OPERATION_FAILS):
            error = None
        if error:
            self._worker.seen.cannot_read_vault.add(key)
        self._worker.done()
        return error

    def _answer(self, service: sandbox.Service, post: Post) -> SyncAnswer:
        sim = self._sim
        for trouble, outcome in REFUSALS.items():
            if sim.strikes(trouble):
                post.refused = True
                return SyncAnswer(outcome, trouble, retry_after=sim.retry_after())
        if sim.strikes(Trouble.SYNC_BROKEN):
            self._maybe_begin(service, post)
            return SyncAnswer(SyncOutcome.UNKNOWN, "HTTP 503", retry_after=sim.retry_after())
        for trouble, seconds in ((Trouble.SYNC_RESET, 0), (Trouble.SYNC_HANGS, 30)):
            if sim.strikes(trouble):
                self._maybe_begin(service, post)
                sim.clock.advance(timedelta(seconds=seconds))
                return SyncAnswer(SyncOutcome.UNKNOWN, trouble)
        if not service.offers_sync or not self._begin(service, post):
            post.refused = True
            outcome = SyncOutcome.BUSY if service.offers_sync else SyncOutcome.NOT_SUPPORTED
            return SyncAnswer(outcome, "HTTP 409 ServiceLocked" if service.offers_sync else "HTTP 404")
        url = f"{service.id.lower()}#{len(service.updates) - 1}" if service.accepts_with == 202 else None
        return SyncAnswer(SyncOutcome.ACCEPTED, f"HTTP {service.accepts_with}", operation_url=url)

    def _maybe_begin(self, service: sandbox.Service, post: Post) -> None:
        if self._sim.random.random() < 0.5:
            self._begin(service, post)

    def _begin(self, service: sandbox.Service, post: Post) -> bool:
        if not service.offers_sync:
            return False
        try:
            service.begin_sync()
        except sandbox.ServiceLockedError:
            return False
        post.started = True
        self._sim.changed()
        return True


class SimVaults:
    """Implements `reconcile.CertificateStore` over the world's vaults."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._sim = worker.sim

    async def current(self, certificate: CertificateId) -> CertificateVersion | CertificateUnreadable:
        """The newest version as Key Vault shows it now; its times have whole seconds."""
        sim = self._sim
        await self._worker.call(0.1)
        found = sim.certificate(certificate)
        newest = found.newest
        away = Trouble.VAULT_BROKEN if sim.away(found.vault.host) else None
        answer = away or next((t for t in VAULT_ANSWERS if sim.strikes(t)), None)
        self._worker.seen.read[certificate] = Read(
            version=newest,
            readable=newest.enabled and not found.deleted,
            enabled=newest.enabled,
            deleted=bool(found.deleted),
            available=max(newest.created, newest.updated),
            answer=answer,
        )
        self._worker.done()
        if answer:
            return CertificateUnreadable(certificate, VAULT_ANSWERS[answer], answer)
        if found.deleted:
            return CertificateUnreadable(certificate, UnreadableCause.DELETED, "deleted")
        if not newest.enabled and sim.world.disabled_certificate_answers == 403:
            return CertificateUnreadable(certificate, UnreadableCause.DISABLED, "disabled")
        return sim.version(certificate, newest)

    async def earlier(self, certificate: CertificateId) -> frozenset[str] | None:
        """The thumbprints of all versions."""
        sim, unlisted = self._sim, self._worker.seen.versions_unlisted
        unlisted.add(certificate)  # until it is answered, which the pass may not wait for
        await self._worker.call(0.1)
        found = sim.certificate(certificate)
        failed = found.deleted or sim.away(found.vault.host) or sim.strikes(Trouble.VERSIONS_FAIL)
        if not failed:
            unlisted.discard(certificate)
        self._worker.done()
        return None if failed else frozenset(version.thumbprint for version in found.versions)


class SimLedger:
    """Implements `reconcile.Ledger`: only who has seen a row's newest state may change it."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._sim = worker.sim

    async def read(self, gateway_keys: Iterable[str]) -> dict[str, LedgerRow]:
        """The rows, a new one for each gateway that has none."""
        sim = self._sim
        await self._reach(Trouble.LEDGER_READ)
        self._worker.done()
        return {key: sim.rows.get(key) or LedgerRow(key) for key in gateway_keys}

    async def write(self, row: LedgerRow) -> LedgerRow:
        """Compare and swap."""
        sim, key = self._sim, row.gateway_key
        await self._reach(Trouble.LEDGER_WRITE)
        before = sim.rows.get(key)
        if row.etag != (before.etag if before else None):
            self._worker.done()
            raise LedgerConflictError(key)
        stored = sim.rows[key] = replace(row, etag=sim.next_etag(before))
        self._worker.writes += 1
        self._worker.claims[key] = stored
        sim.stored(self._worker, before, stored)
        if sim.strikes(Trouble.LEDGER_LOST_ANSWER):
            if sim.retries_writes:
                raise LedgerConflictError(key)
            raise LedgerUnavailableError("stored, but nobody says so")
        self._worker.done()
        return stored

    async def known(self, shard: Shard | None = None) -> frozenset[str]:
        """The keys of all rows."""
        assert shard is None
        await self._reach(Trouble.LEDGER_READ)
        return frozenset(self._sim.rows)

    async def forget(self, row: LedgerRow) -> None:
        """Remove a row, if it is still the same."""
        await self._reach(Trouble.LEDGER_WRITE)
        before = self._sim.rows.get(row.gateway_key)
        if before is None or row.etag != before.etag:
            raise LedgerConflictError(row.gateway_key)
        del self._sim.rows[row.gateway_key]
        self._worker.done()

    async def paused(self) -> Pause | None:
        """The kill switch."""
        return self._sim.pause

    async def set_pause(self, pause: Pause | None) -> None:
        """Turn the kill switch on or off."""
        self._sim.pause = pause

    async def _reach(self, trouble: Trouble) -> None:
        await self._worker.call(0.05)
        if self._sim.away("ledger") or self._sim.strikes(trouble):
            raise LedgerUnavailableError("away")

    async def save_report(self, report: Mapping[str, object], shard: Shard | None = None) -> None:
        """Not a concern here."""

    async def last_reports(self) -> Sequence[Mapping[str, object]]:
        """Not a concern here."""
        return ()

    async def looked_at(self, shard: Shard) -> datetime | None:  # noqa: ARG002 - nothing is kept
        """Not a concern here."""
        return None

    async def save_operation(self, run_id: str, report: Mapping[str, object]) -> None:
        """Not a concern here."""

    async def operation(self, run_id: str) -> Mapping[str, object] | None:  # noqa: ARG002 - nothing is kept
        """Not a concern here."""
        return None


class SimProbe:
    """Connects to the world's units through their load balancers."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._sim = worker.sim

    async def __call__(self, endpoints: Sequence[Endpoint], *, within: timedelta) -> Sequence[Observation]:  # noqa: ARG002
        """Every connection of every endpoint, in order."""
        await self._worker.call(self._sim.random.uniform(0.5, 4))
        seen = [o for endpoint in endpoints for o in self._look(endpoint)]
        self._worker.done()
        return seen

    def _look(self, endpoint: Endpoint) -> list[Observation]:
        sim = self._sim
        service, region = sim.place(endpoint.host)
        units = sim.units(service, endpoint.hostname, region)
        down = region in service.down
        fragile = Trouble.PROBE_FAILS in sim.kinds and not sim.calm
        observations: list[Observation] = []
        shown: list[str | None] = []
        leaves = sim.leaves(endpoint)
        for _ in range(endpoint.connections):
            if down or (fragile and sim.strikes(Trouble.PROBE_FAILS)):
                shown.append(None)
                observations.append(ProbeFailure(endpoint, ProbeFault.REFUSED, "refused"))
                continue
            thumbprint = units[sim.next_unit(service, region, len(units))]
            shown.append(thumbprint)
            observations.append(leaves.get(thumbprint) or sim.leaf(endpoint, thumbprint))
        per_region = self._worker.seen.shown.setdefault((service.id.lower(), endpoint.hostname), {})
        per_region[region] = Shown(tuple(shown), units)
        return observations


def versions(row: LedgerRow) -> tuple[tuple[str, str], ...]:
    """What a row's syncs were for; a version that is enabled again starts afresh."""
    return tuple(sorted((url, f"{wanted.version} {wanted.since}") for url, wanted in row.wanted.items()))


def ports(worker: Worker) -> World:
    """What the path needs of the outside, for one worker."""
    sim = worker.sim
    return World(
        kinds={
            GatewayKind.API_MANAGEMENT: SimGateways(worker),
            GatewayKind.SELF_HOSTED: SimGateways(worker, hosted=True),
        },
        certificates=SimVaults(worker),
        ledger=SimLedger(worker),
        probe=SimProbe(worker),
        now=lambda: sim.clock.now() + sim.skew,
        limits=Limits(),
        event_budget=worker.budget,
    )


class Simulation:
    """A world, its clock, the ledger's rows, and what goes wrong.

    Args:
        seed: everything that is random follows from it.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.chance_of_hosting = random.Random(~seed)
        self.clock = VirtualClock()
        self.loop = VirtualLoop(self.clock)
        self.world = sandbox.World(self.clock, LeanAuthority())
        self.rows: dict[str, LedgerRow] = {}
        self.pause: Pause | None = None
        self.told: dict[str, list[datetime]] = {}
        self.posts: list[Post] = []
        self.waits: dict[str, Wait] = {}
        self.skew = timedelta()
        self.rate = 0.0
        self.kinds: frozenset[Trouble] = frozenset()
        self.calm = False
        self.struck: dict[Trouble, int] = {}
        self.last_trouble = EPOCH
        self.story: list[str] | None = None
        self.agenda: list[tuple[datetime, int, Callable[[], object]]] = []
        self.round_robin = False
        self.opaque_etags = True
        self.retries_writes = False
        self.lags = False
        self.ledger_epoch = 0
        self.on_store: Callable[[Worker, LedgerRow | None, LedgerRow], None] = lambda *_: None
        self._away: set[str] = set()
        self._numbers = itertools.count(1)
        self._workers = itertools.count(1)
        self._turns: dict[tuple[int, str], int] = {}
        self._services: dict[str, sandbox.Service] = {}
        self._places: dict[str, tuple[sandbox.Service, str]] = {}
        self._gateways: dict[tuple[object, ...], Gateway] = {}
        self._leaves: dict[Endpoint, dict[str, ServedCertificate]] = {}
        self._versions: dict[tuple[str, datetime, bool], CertificateVersion] = {}
        self._units: dict[tuple[int, str, str], tuple[datetime, tuple[str, ...]]] = {}
        self._listed: dict[int, tuple[datetime, Gateway | None]] = {}
        self._described: dict[int, tuple[datetime, Gateway | None]] = {}

    # Running passes.

    def run(
        self,
        orders: Sequence[Order],
        dies_at: Sequence[int | None] = (),
        budget: timedelta | None = TIMER_BUDGET,
    ) -> list[tuple[Worker, Report | None]]:
        """Run passes at once, each in a worker of its own; None where a worker has died."""
        workers = []
        for number, order in enumerate(orders):
            spent = budget and (EVENT_BUDGET if order.trigger is Trigger.EVENT else budget)
            dies = dies_at[number] if number < len(dies_at) else None
            workers.append(Worker(self, f"worker {next(self._workers)}", order, dies, spent))
        for worker in workers:
            worker.racing = len(workers) > 1
            self.tell(f"{worker.name}: {worker.order}")
        results = self.loop.drive(self._pass(worker) for worker in workers)
        found: list[tuple[Worker, Report | None]] = []
        for worker, result in zip(workers, results, strict=True):
            if isinstance(result, BaseException) and not isinstance(result, WorkerKilledError):
                raise result
            found.append((worker, None if isinstance(result, BaseException) else result))
        return found

    async def _pass(self, worker: Worker) -> Report:
        world, order = ports(worker), worker.order
        report = await reconcile(world, order.scope, order.mode, order.trigger)
        await deliver(world.ledger, report, worker.tell)
        return report

    # Weather.

    def strikes(self, kind: Trouble) -> bool:
        """Whether this goes wrong now."""
        if self.calm or kind not in self.kinds or self.random.random() >= self.rate:
            return False
        self.struck[kind] = self.struck.get(kind, 0) + 1
        self.tell(f"  {kind}")
        self.trouble()
        return True

    def trouble(self, until: datetime | None = None) -> None:
        """Something has gone wrong, or was changed: just now, or `until` then, where ARM told us to wait."""
        self.last_trouble = max(self.last_trouble, until or self.clock.now())

    def away(self, what: str) -> bool:
        """Whether something is gone altogether."""
        return what in self._away

    def go_away(self, what: str) -> None:
        """From now on it cannot be reached."""
        self._away.add(what)

    def come_back(self, what: str) -> None:
        """It can be reached again."""
        self._away.discard(what)

    def retry_after(self) -> timedelta | None:
        """What an answer asks for: sense and nonsense, as far as the client can read it."""
        seconds = self.random.choice(RETRY_AFTERS)
        return None if seconds is None else timedelta(seconds=seconds)

    def next_etag(self, before: LedgerRow | None) -> str:
        """SQLite counts from one; Azure Table storage never repeats itself."""
        return (
            str(next(self._numbers)) if self.opaque_etags else str(int(before.etag or 0) + 1 if before else 1)
        )

    def next_unit(self, service: sandbox.Service, region: str, units: int) -> int:
        """Which unit the load balancer gives a connection to."""
        if not self.round_robin:
            return int(self.random.random() * units)
        turn = self._turns[service.number, region] = self._turns.get((service.number, region), 0) + 1
        return turn % units

    # What happens in the world.

    def at(self, moment: datetime, deed: Callable[[], object]) -> None:
        """Have something happen at a moment."""
        heapq.heappush(self.agenda, (moment, next(self._numbers), deed))

    def reach(self, moment: datetime) -> None:
        """Let time pass until a moment, with all that happens on the way."""
        while self.agenda and self.agenda[0][0] <= moment:
            at, _, deed = heapq.heappop(self.agenda)
            self.clock.reach(at)
            deed()
        self.clock.reach(moment)

    def catch_up(self) -> None:
        """Let happen what is due: also in the middle of a pass."""
        while self.agenda and self.agenda[0][0] <= self.clock.now():
            heapq.heappop(self.agenda)[2]()

    def note(self, what: str) -> None:
        """The world has changed."""
        self.tell(what)
        self.trouble()
        self.changed()

    def changed(self) -> None:
        """What the units serve has to be looked up again."""
        self._units.clear()
        self._described.clear()

    def tell(self, what: str) -> None:
        """A line of the story, where somebody listens."""
        if self.story is not None:
            self.story.append(f"{self.clock.now() - EPOCH!s:>18.18} {what}")

    def renew(self, certificate: sandbox.Certificate, *, days: float = 90) -> None:
        """A new version."""
        certificate.renew(days=days)
        self.note(f"{certificate.name} is renewed: {certificate.newest.thumbprint[:6]}")

    def roll_back(self, certificate: sandbox.Certificate) -> None:
        """An earlier leaf, imported as a new version."""
        leaf = self.random.choice(certificate.versions).leaf
        version = sandbox.Version(certificate, leaf, self.clock)
        certificate.versions.append(version)
        self.world.announce(sandbox.EventType.NEW_VERSION, version)
        self.note(f"{certificate.name} is rolled back to {version.thumbprint[:6]}")

    def wipe_ledger(self) -> None:
        """All rows are lost."""
        self.rows.clear()
        self.waits.clear()
        self.ledger_epoch += 1
        self.note("the ledger is wiped")

    def stored(self, worker: Worker, before: LedgerRow | None, after: LedgerRow) -> None:
        """A row was written: with it, what ARM has asked us to wait for may be known."""
        post = next((p for p in reversed(worker.posts) if p.gateway_key == after.gateway_key), None)
        if post and post.asks_to_wait and after.outcome is not SyncOutcome.ASKED:
            self.waits[after.gateway_key] = post.asks_to_wait
        self.on_store(worker, before, after)

    # The world as the ports show it.

    def service(self, gateway_key: str) -> sandbox.Service:
        """The service of a key."""
        if len(self._services) != len(self.world.services):
            self._services = {service.id.lower(): service for service in self.world.services}
        return self._services[gateway_key]

    def certificate(self, which: CertificateId) -> sandbox.Certificate:
        """The certificate of an id."""
        return self.world.vaults[which.vault_host.partition(".")[0]].certificates[which.name]

    def place(self, host: str) -> tuple[sandbox.Service, str]:
        """Whose region answers at a host."""
        if host not in self._places:
            for service in self.world.services:
                self._places.update({service.regional_host(r): (service, r) for r in service.regions})
                own = {
                    h.host_name: (service, service.location) for h in service.hostnames if h.type != "Proxy"
                }
                self._places.update(own)
        return self._places[host]

    def units(self, service: sandbox.Service, hostname: str, region: str) -> tuple[str, ...]:
        """What each unit of a region has for a hostname: the same until the next read reaches a unit."""
        now = self.clock.now()
        key = (service.number, hostname, region)
        until, units = self._units.get(key, (now, ()))
        if now >= until:
            count = max(1, service.regions[region]) if hostname_type(service, hostname) == "Proxy" else 1
            units = tuple(service.served(hostname, region, n, now).thumbprint for n in range(count))
            lags = [service.lag.get(region, timedelta()) + n * service.unit_lag for n in range(count)]
            polled = service.next_change(now) if isinstance(service, Hosted) else None
            self._units[key] = (polled or _next_change(service, lags, now), units)
        return units

    def describe(self, service: sandbox.Service) -> Gateway:
        """A service as the product reads it from ARM's body: the same until an update or a read ends."""
        now = self.clock.now()
        until, gateway = self._described.get(service.number, (now, None))
        if gateway is None or now >= until:
            state = service.provisioning_state(now)
            configured = tuple(service.configured(h.host_name, now) for h in service.hostnames)
            key = (service.id, state, *(shown and shown.thumbprint for shown in configured))
            if key not in self._gateways:
                self._gateways[key] = from_arm(_body(service, state, configured), SUFFIX, ALLOWED_VAULTS)
            gateway = self._gateways[key]
            if isinstance(service, Hosted):
                gateway = as_entity(service, gateway, now)
            self._described[service.number] = (_next_change(service, [timedelta()], now), gateway)
        return gateway

    def as_listed(self, service: sandbox.Service) -> Gateway:
        """A service as Resource Graph shows it: as it was when it was looked at last, a while ago."""
        now = self.clock.now()
        seen_at, gateway = self._listed.get(service.number, (EPOCH - A_WHILE, None))
        if not self.lags:
            return self.describe(service)
        if gateway is None or now - seen_at > A_WHILE:
            gateway = replace(self.describe(service), listed=True)
            self._listed[service.number] = (now, gateway)
        return gateway

    def leaves(self, endpoint: Endpoint) -> dict[str, ServedCertificate]:
        """The handshakes there were with an endpoint, by thumbprint."""
        return self._leaves.setdefault(endpoint, {})

    def leaf(self, endpoint: Endpoint, thumbprint: str) -> ServedCertificate:
        """A handshake that shows a leaf which that endpoint has not shown yet."""
        presented = Presented(
            thumbprint=thumbprint,
            not_after=EPOCH + timedelta(days=90),
            names=(endpoint.hostname,),
            subject="CN=simulated",
            issuer="CN=Sandbox",
            serial="1",
        )
        leaf = self._leaves[endpoint][thumbprint] = ServedCertificate(
            endpoint=endpoint,
            thumbprint=thumbprint,
            sha256=thumbprint,
            address="203.0.113.1",
            tls_version="TLSv1.3",
            distrust=None,
            chain=(presented,),
        )
        return leaf

    def version(self, certificate: CertificateId, version: sandbox.Version) -> CertificateVersion:
        """A version as the product reads it from Key Vault."""
        key = (version.id, version.updated, version.enabled)
        if key not in self._versions:
            self._versions[key] = CertificateVersion(
                certificate=certificate,
                version=version.id,
                thumbprint=version.thumbprint,
                sha256=version.sha256,
                enabled=version.enabled,
                created=version.created.replace(microsecond=0),
                updated=version.updated.replace(microsecond=0),
                not_before=version.not_before,
                not_after=version.not_after,
                names=version.leaf.names,
                issuer="CN=Sandbox",
            )
        return self._versions[key]


def as_entity(service: Hosted, gateway: Gateway, now: datetime) -> Gateway:
    """What `rotation.gateways.self_hosted` makes of an entity."""
    since = service.last_read(now)
    return replace(
        gateway,
        kind=self_hosted.KIND,
        vault_error=service.vault_error(now),
        bindings=tuple(
            replace(binding, configured_since=since) if binding.reference else binding
            for binding in gateway.bindings
        ),
    )


def _next_change(service: sandbox.Service, lags: Sequence[timedelta], now: datetime) -> datetime:
    """When an update, or a read of the service's own, may next show."""
    moments = [update.ends for update in service.updates]
    if service.self_sync_after is not None:
        followed = [hostname.certificate for hostname in service.hostnames if hostname.certificate]
        moments += [at + service.self_sync_after for it in followed for at in it.changed]
    due = (moment + lag for moment in moments for lag in lags)
    return min((moment for moment in due if moment > now), default=now + timedelta(days=1))


def hostname_type(service: sandbox.Service, hostname: str) -> str:
    """Proxy, Portal, Management, ..."""
    found = service.hostname(hostname)
    return found.type if found else "Proxy"


def _body(
    service: sandbox.Service, state: str, configured: Sequence[sandbox.Version | Leaf | None]
) -> dict[str, Any]:
    """The part of ARM's body that anybody reads; `sandbox.arm` has the whole."""

    def place(region: str) -> dict[str, Any]:
        return {
            "location": region,
            "gatewayRegionalUrl": f"https://{service.regional_host(region)}",
            "sku": {"name": service.sku, "capacity": service.regions[region]},
            "disableGateway": region in service.gateway_disabled,
        }

    main, *others = service.regions
    hostnames = [
        {
            "type": hostname.type,
            "hostName": hostname.host_name,
            "certificate": {"thumbprint": shown.thumbprint} if shown else None,
            "keyVaultId": hostname.key_vault_id,
        }
        for hostname, shown in zip(service.hostnames, configured, strict=True)
    ]
    return {
        "id": service.id,
        "location": main,
        "sku": place(main)["sku"],
        "tags": service.tags,
        "properties": {
            **place(main),
            "provisioningState": state,
            "gatewayUrl": f"https://{service.builtin_host}",
            "additionalLocations": [place(region) for region in others],
            "hostnameConfigurations": hostnames,
        },
    }
