"""The ports of `rotation.reconcile`, for one worker: they answer from the world, and note what it showed."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rotation.model import (
    BackendHealth,
    CertificateId,
    CertificateUnreadable,
    CertificateVersion,
    Endpoint,
    Event,
    Front,
    Gateway,
    GatewayKind,
    Inventory,
    LedgerRow,
    Mode,
    Observation,
    Pause,
    ProbeFailure,
    ProbeFault,
    Scope,
    Shard,
    SyncAnswer,
    SyncOutcome,
    Trigger,
    UnreadableCause,
)
from rotation.reconcile import READ_BY, LedgerConflictError, LedgerUnavailableError, World
from rotation.verdict import Limits
from sandbox import world as sandbox
from tests.simulation.listening import NO_LEAF, Listening
from tests.simulation.weather import REFUSALS, VAULT_ANSWERS, Post, Read, Seen, Shown, Trouble, Wait

if TYPE_CHECKING:
    from tests.simulation.sim import Simulation

EVENT_PASS = timedelta(seconds=15)
EVERYTHING = Scope()


class WorkerKilledError(BaseException):
    """The process is gone: nothing of it runs any further."""


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
        self._reads_until = sim.clock.now() + READ_BY * self.budget

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
        self.seen.reads_late = sim.clock.now() > self._reads_until
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
    """Implements `reconcile.Gateways` over one kind of the world's services."""

    def __init__(self, worker: Worker, kind: GatewayKind = GatewayKind.API_MANAGEMENT) -> None:
        self._worker = worker
        self._sim = worker.sim
        self._kind = kind

    async def discover(self, shard: Shard | None = None) -> Inventory:
        """What can be listed now; ARM's clock has whole seconds."""
        assert shard is None
        sim = self._sim
        await self._worker.call(0.4)
        if sim.away("arm") or sim.strikes(Trouble.LIST_AWAY):
            self._worker.done()
            return Inventory((), ("nothing could be listed",), None)
        mine, subscriptions = sim.kinds_of_gateway().get(self._kind, []), sim.subscriptions
        failing = {s for s in subscriptions if sim.strikes(Trouble.LIST_FAILS)}
        mine = [s for s in mine if s.subscription_id not in failing]
        gateways = [sim.as_listed(s) for s in mine]
        for gateway in gateways:
            self._show(gateway)
        fronts = [(s, sim.fronts(s)) for s in mine if isinstance(s, Listening)]
        for service, _ in fronts:
            self._worker.seen.fronts[service.id.lower()] = service.gateway.backends
        no_date = len(failing) == len(subscriptions) or sim.strikes(Trouble.NO_DATE)
        as_of = None if no_date else sim.clock.now().replace(microsecond=0)
        self._worker.done()
        problems = tuple(f"{s} could not be listed" for s in sorted(failing))
        return Inventory(
            tuple(gateways), problems, as_of, fronts=tuple(front for _, shown in fronts for front in shown)
        )

    async def read(self, gateway: Gateway) -> Gateway | str:
        """The service as it is now, whatever the list has shown."""
        sim = self._sim
        await self._worker.call(0.3)
        if sim.away("arm") or sim.strikes(Trouble.READ_FAILS):
            self._worker.done()
            return f"{gateway.name} could not be read"
        fresh = sim.describe(sim.service(gateway.key))
        if fresh.kind.name is GatewayKind.APPLICATION_GATEWAY:
            # What Advisor says is known from Resource Graph only.
            fresh = replace(fresh, vault_error=gateway.vault_error)
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

    async def write_each(self, rows: Sequence[LedgerRow]) -> dict[str, LedgerRow]:
        """Each for itself, side by side."""

        async def one(row: LedgerRow) -> LedgerRow | None:
            try:
                return await self.write(row)
            except (LedgerConflictError, LedgerUnavailableError):
                return None

        stored = await asyncio.gather(*map(one, rows))
        return {row.gateway_key: row for row in stored if row}

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

    async def looked_at(self, shard: Shard) -> datetime | None:
        """Not a concern here."""
        return None

    async def save_operation(self, run_id: str, report: Mapping[str, object]) -> None:
        """Not a concern here."""

    async def operation(self, run_id: str) -> Mapping[str, object] | None:
        """Not a concern here."""
        return None


class SimProbe:
    """Connects to the world's units through their load balancers."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._sim = worker.sim

    async def __call__(self, endpoints: Sequence[Endpoint], *, within: timedelta) -> Sequence[Observation]:
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
            if thumbprint == NO_LEAF:
                shown.append(None)
                observations.append(ProbeFailure(endpoint, ProbeFault.ALERT, "unrecognized name"))
                continue
            shown.append(thumbprint)
            observations.append(leaves.get(thumbprint) or sim.leaf(endpoint, thumbprint))
        per_region = self._worker.seen.shown.setdefault((service.id.lower(), endpoint.hostname), {})
        per_region[region] = Shown(tuple(shown), units)
        return observations


class SimHealth:
    """Asks an Application Gateway what its probes say: an operation that takes a while."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._sim = worker.sim

    async def __call__(self, front: Front) -> BackendHealth | None:
        """What it says of its backend, or that it could not be asked."""
        sim, key = self._sim, front.id.lower()
        await self._worker.call(sim.random.uniform(0.5, 4))
        service = sim.service(key)
        assert isinstance(service, Listening)
        failed = sim.away("arm") or sim.strikes(Trouble.HEALTH_FAILS)
        health = service.health(front, sim.clock.now())
        if failed:
            health = BackendHealth(front.name, None, "HTTP 500")
        self._worker.seen.health[key, front.target, front.hostname] = (
            None if failed else service.distrusts(front)
        )
        self._worker.done()
        return health


def versions(row: LedgerRow) -> tuple[tuple[str, str], ...]:
    """What a row's syncs were for; a version that is enabled again starts afresh."""
    return tuple(sorted((url, f"{wanted.version} {wanted.since}") for url, wanted in row.wanted.items()))


def ports(worker: Worker) -> World:
    """What the path needs of the outside, for one worker."""
    sim = worker.sim
    return World(
        kinds={kind: SimGateways(worker, kind) for kind in sim.kinds_of_gateway()},
        certificates=SimVaults(worker),
        ledger=SimLedger(worker),
        probe=SimProbe(worker),
        now=lambda: sim.clock.now() + sim.skew,
        limits=Limits(),
        event_budget=worker.budget,
        health=SimHealth(worker),
    )
