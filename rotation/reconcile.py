"""The one path of every trigger, and the only place where reading, deciding and acting meet.

    inventory -> select -> expected -> served -> judge -> plan -> act -> report

Nothing here waits for a gateway to finish: the next pass looks at what is served.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Protocol, TypeVar

from rotation import history, telemetry
from rotation.brakes import Brakes, admit, answered, hold_back, subscription, subscription_row
from rotation.inventory import authorities, comes_before, in_front, select
from rotation.model import (
    BackendHealth,
    Binding,
    Census,
    CertificateId,
    CertificateUnreadable,
    CertificateVersion,
    Choice,
    Decision,
    Endpoint,
    Event,
    Evidence,
    Front,
    Gateway,
    GatewayKind,
    Inventory,
    LedgerRow,
    Mode,
    Observation,
    Pass,
    Pause,
    Reason,
    Report,
    Scope,
    ServedCertificate,
    Shard,
    Status,
    SyncAnswer,
    SyncOutcome,
    Trigger,
    UnreadableCause,
    Verdict,
    trace,
)
from rotation.pace import Pace, reads, writes
from rotation.plan import decide, settle
from rotation.verdict import Limits, fronts_of, judge

READS_AT_ONCE = 16
MOST_FRONTS_ASKED = 16
"""In a pass: backend health is an operation of half a minute."""

ROWS_AT_ONCE = 500
"""Of the ledger, stored by one call; what there is no time for is lost with its call."""

SYNCS_AT_ONCE = 10
"""Enough for ARM's ten a second, where an answer takes a second; a hang may cost as many attempts."""

MOST_TRIES = 10
"""Of storing a subscription's row, which other workers store too; the next pass goes on."""

PASS_BUDGET = timedelta(seconds=200)
LISTED_BY, READ_BY, PROBED_BY, ASKED_BY, ANSWERED_BY, STORED_BY = 0.4, 0.5, 0.65, 0.7, 0.8, 0.85
"""Shares of a pass's time after which it goes on with what it has; the rest is for telling."""

_log = logging.getLogger(__name__)

K = TypeVar("K")
T = TypeVar("T")
Expected = CertificateVersion | CertificateUnreadable


class LedgerUnavailableError(Exception):
    """The ledger cannot be read or written: nothing may be synced, everything may be reported."""


class LedgerConflictError(Exception):
    """Another worker has changed the row since it was read."""


class Gateways(Protocol):
    """A kind of gateway: how to find its instances and tell one to re-read its certificates."""

    async def discover(self, shard: Shard | None = None) -> Inventory:
        """Everything of this kind in the subscriptions in scope; with a shard, all of that at least."""

    async def read(self, gateway: Gateway) -> Gateway | str:
        """A gateway itself, as it is now, or why it cannot be read."""

    async def sync(self, gateway: Gateway) -> SyncAnswer:
        """Tell a gateway to re-read its certificates; does not wait until it has."""

    async def operation_error(self, operation_url: str) -> str | None:
        """What a sync's operation failed with; None while it runs, where it succeeded or cannot be read."""


class Large(Protocol):
    """The kind of gateway that there may be too many of for one pass."""

    async def census(self, *, fresh: bool = False) -> Census | str:
        """How many there are, as counted within a minute if not `fresh`, or why that is not known."""

    async def using(self, certificates: Collection[CertificateId]) -> Sequence[Gateway] | str:
        """Those in scope that refer to one of these certificates, or why they cannot be seen."""


class CertificateStore(Protocol):
    """Where the expected certificates are."""

    async def current(self, certificate: CertificateId) -> Expected:
        """The newest version, or why it cannot be read."""

    async def earlier(self, certificate: CertificateId) -> frozenset[str] | None:
        """The thumbprints of all versions, None where they cannot be listed."""


class Probe(Protocol):
    """Connects to gateways."""

    async def __call__(self, endpoints: Sequence[Endpoint], *, within: timedelta) -> Sequence[Observation]:
        """One observation for each connection that an endpoint asks for, in order, when that time is over."""


class Ledger(Protocol):
    """What is remembered. All methods raise LedgerUnavailableError, changes LedgerConflictError too."""

    async def read(self, gateway_keys: Iterable[str]) -> dict[str, LedgerRow]:
        """The rows of these gateways, a new one for each that has none."""

    async def write(self, row: LedgerRow) -> LedgerRow:
        """Store a row whose etag is still the newest, and return it with its next one."""

    async def write_each(self, rows: Sequence[LedgerRow]) -> dict[str, LedgerRow]:
        """Store these rows, each for itself, and return those whose etag was still the newest, by key.

        Raises LedgerUnavailableError where none could be stored.
        """

    async def known(self, shard: Shard | None = None) -> frozenset[str]:
        """The keys of all rows, or of those in a shard."""

    async def forget(self, row: LedgerRow) -> None:
        """Remove a row whose etag is still the newest; one that is gone already is no conflict."""

    async def paused(self) -> Pause | None:
        """The kill switch, None where it is off."""

    async def set_pause(self, pause: Pause | None) -> None:
        """Turn the kill switch on or off, for all workers."""

    async def save_report(self, report: Mapping[str, object], shard: Shard | None = None) -> None:
        """Keep the last report over everything, or of a shard, for whichever process is asked for it."""

    async def last_reports(self) -> Sequence[Mapping[str, object]]:
        """The last report over everything, and the last one of every shard that was kept of late."""

    async def looked_at(self, shard: Shard) -> datetime | None:
        """The time by which the last report of a shard was made."""

    async def save_operation(self, run_id: str, report: Mapping[str, object]) -> None:
        """Keep the report of a run by hand; only the newest OPERATIONS_KEPT stay."""

    async def operation(self, run_id: str) -> Mapping[str, object] | None:
        """The report of a run by hand, None where it is not kept."""


@dataclass(frozen=True, slots=True)
class World:
    """What the path needs of the outside, given once by `app`; `kinds` are the kinds of gateway turned on.

    `health` asks what stands in front of a gateway; None where nobody looks for that. `door` lets the passes
    of this process count their syncs one after the other; other workers are met as conflicts.
    """

    kinds: Mapping[GatewayKind, Gateways]
    certificates: CertificateStore
    ledger: Ledger
    probe: Probe
    now: Callable[[], datetime]
    limits: Limits
    brakes: Brakes = Brakes()
    large: Large | None = None
    event_budget: timedelta = timedelta(seconds=15)
    health: Callable[[Front], Awaitable[BackendHealth | None]] | None = None
    reading: Pace = field(default_factory=reads)
    writing: Pace = field(default_factory=writes)
    door: asyncio.Lock = field(default_factory=asyncio.Lock)

    def of(self, gateway: Gateway) -> Gateways:
        """The kind that a gateway is read and synced by."""
        return self.kinds[gateway.kind.name]

    def budget(self, trigger: Trigger) -> timedelta:
        """What a pass may take, telling included: Event Grid and HTTP clients do not wait for long."""
        return self.event_budget if trigger is Trigger.EVENT else PASS_BUDGET


class _Time:
    """How much of the pass's time is left, by the monotonic clock of the event loop."""

    def __init__(self, within: timedelta) -> None:
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()
        self._seconds = within.total_seconds()

    def at(self, share: float) -> float:
        """The moment at which this share of the time is over."""
        return self._began + self._seconds * share

    def left(self, share: float) -> timedelta:
        """From now to that moment."""
        return timedelta(seconds=max(0.0, self.at(share) - self._clock()))


@dataclass(frozen=True, slots=True)
class _Work:
    """What the steps of one pass share."""

    world: World
    run: Pass
    time_is: _Time
    began_at: datetime
    turns: asyncio.Semaphore
    subscriptions: dict[str, LedgerRow] = field(default_factory=dict)
    ahead: dict[Endpoint, Sequence[Observation]] = field(default_factory=dict)

    def answered_at(self) -> datetime:
        """Waits count from an answer, by the clock of the pass, which tells whole seconds."""
        return self.run.now + (self.world.now() - self.began_at) + timedelta(seconds=1)


async def reconcile(  # noqa: PLR0913 - what a pass is made of
    world: World,
    scope: Scope,
    mode: Mode,
    trigger: Trigger,
    overrides: frozenset[Reason] = frozenset(),
    *,
    asked_by: str = "",
) -> Report:
    """Look at what the scope selects, judge it, and do what the mode allows.

    What there is no time for becomes a value as well: a read that failed, a connection out of time, a sync
    left to the next pass.
    """
    began, began_at, time_is = time.monotonic(), world.now(), _Time(world.budget(trigger))
    inventory = await _discover(world.kinds, scope.shard, time_is)
    now = inventory.as_of or world.now()
    run = Pass(scope.run_id or str(uuid.uuid4()), trigger, mode, scope, now, overrides, asked_by)
    work = _Work(world, run, time_is, began_at, asyncio.Semaphore(SYNCS_AT_ONCE))
    gateways: Sequence[Gateway] = select(inventory.gateways, scope)
    announced = _announced(run, gateways)
    (rows, pause, problems), expected, (gateways, unread), _ = await asyncio.gather(
        _read_ledger(work, inventory.gateways),
        _read_expected(work, gateways),
        _read_gateways(work, gateways, announced),
        _look_ahead(work, [g for g in gateways if g.key in announced]),
    )
    if not announced:
        ranks = _ranks(run, gateways, rows, expected)
        gateways, unread = await _read_gateways(work, gateways, ranks)
    expected |= await _read_expected(work, [g for g in gateways if not g.certificates <= expected.keys()])

    gateways = in_front(gateways, inventory.fronts)
    evidence = await _observe(work, gateways, expected, rows, listed=not inventory.problems)
    verdicts = [_judge(each, run.now, world.limits) for each in evidence]
    of_gateway: dict[str, list[Verdict]] = {gateway.key: [] for gateway in gateways}
    for verdict in verdicts:
        of_gateway[verdict.evidence.gateway.key].append(verdict)

    noted = dict(rows)
    if not run.dry:
        noted |= {g.key: history.note(rows[g.key], of_gateway[g.key], run) for g in gateways if g.key in rows}
    brakes = replace(world.brakes, pause=pause) if pause else world.brakes
    decided = [decide(g, of_gateway[g.key], noted.get(g.key), run, brakes) for g in gateways]
    brakes = replace(brakes, behind=await _behind_elsewhere(work, decided, expected))
    planned = hold_back(decided, of_gateway, {**rows, **work.subscriptions}, run, brakes)

    acted, missing = await asyncio.gather(
        asyncio.gather(*(_act(work, d, d.claim) for d in planned if d.claim)),
        _miss(work, inventory) if not (run.dry or problems) else _nobody_missing(),
    )
    done = {decision.gateway.key: decision for decision, _ in acted}
    stored = {row.gateway_key: row for _, row in acted if row}
    synced = {key for key, decision in done.items() if decision.choice is Choice.SYNC}
    news = [r for key, r in noted.items() if r is not rows[key] and key not in stored and key not in synced]
    stored |= await _remember(world.ledger, news, time_is)
    return Report(
        run=run,
        duration_seconds=time.monotonic() - began,
        gateways=len(gateways),
        verdicts=tuple(verdicts),
        decisions=tuple(done.get(decision.gateway.key, decision) for decision in planned),
        problems=(*inventory.problems, *problems, *unread, *missing.problems, *inventory.warnings),
        rows={**rows, **stored},
        missing=missing.number,
        pause=pause,
        authorities=authorities(inventory.authorities, gateways, scope),
    )


async def deliver(ledger: Ledger, report: Report, tell: Callable[[Sequence[Event]], Awaitable[bool]]) -> None:
    """Tell what waits in the rows' outboxes, and strike it out once it is accepted: at least once."""
    full = [row for row in report.rows.values() if row.outbox and row.etag and not report.run.dry]
    if not await tell([event for row in full for event in row.outbox]):
        return
    emptied = [history.told(row, (event.event_id for event in row.outbox)) for row in full]
    await _write_each(ledger, emptied)


async def _discover(kinds: Mapping[GatewayKind, Gateways], shard: Shard | None, time_is: _Time) -> Inventory:
    """The gateways of all kinds: one that cannot be listed does not hide the others."""

    async def one(name: GatewayKind, kind: Gateways) -> Inventory:
        try:
            async with asyncio.timeout_at(time_is.at(LISTED_BY)):
                return await kind.discover(shard)
        except TimeoutError:
            late = f"The gateways ({name}) were not listed in time; the next pass tries again."
            return Inventory((), (late,), None)

    seen = await asyncio.gather(*(one(*each) for each in kinds.items()))
    return Inventory(
        tuple(gateway for inventory in seen for gateway in inventory.gateways),
        tuple(dict.fromkeys(problem for inventory in seen for problem in inventory.problems)),
        max((inventory.as_of for inventory in seen if inventory.as_of), default=None),
        tuple(dict.fromkeys(warning for inventory in seen for warning in inventory.warnings)),
        fronts=tuple(front for inventory in seen for front in inventory.fronts),
        authorities=tuple(each for inventory in seen for each in inventory.authorities),
    )


async def _read_ledger(
    work: _Work, gateways: Sequence[Gateway]
) -> tuple[dict[str, LedgerRow], Pause | None, tuple[str, ...]]:
    """The rows of these gateways; those of their subscriptions are put where all steps find them."""
    ledger, keys = work.world.ledger, [gateway.key for gateway in gateways]
    subscriptions = sorted({subscription_row(key) for key in keys})
    try:
        async with asyncio.timeout_at(work.time_is.at(READ_BY)):
            rows, pause = await asyncio.gather(ledger.read([*keys, *subscriptions]), ledger.paused())
    except LedgerUnavailableError as error:
        return {}, None, (f"The attempt ledger could not be read, so nothing is synced: {error}",)
    except TimeoutError:
        return {}, None, ("The attempt ledger did not answer in time, so nothing is synced.",)
    work.subscriptions.update({key: rows.pop(key) for key in subscriptions})
    return rows, pause, ()


async def _read_expected(work: _Work, gateways: Iterable[Gateway]) -> dict[CertificateId, Expected]:
    """The newest version of every certificate that these gateways refer to."""
    references = (b.reference for gateway in gateways for b in gateway.bindings)
    certificates = (reference.certificate for reference in references if reference)
    read = work.world.certificates.current
    return await _read_each(read, certificates, work.time_is.at(READ_BY), otherwise=_unread)


def _announced(run: Pass, gateways: Sequence[Gateway]) -> Mapping[str, int]:
    """The gateways of an event, where they are few: about to be acted upon, so read without asking why.

    That is a round trip less between a renewal and its sync.
    """
    listed = [gateway.key for gateway in gateways if gateway.listed]
    few = run.trigger is Trigger.EVENT and len(listed) <= READS_AT_ONCE
    return dict.fromkeys(listed, 0) if few else {}


def _ranks(
    run: Pass,
    gateways: Sequence[Gateway],
    rows: Mapping[str, LedgerRow],
    expected: Mapping[CertificateId, Expected],
) -> Mapping[str, int]:
    """The gateways that may be acted upon, by key, the most urgent with 0."""
    forced = run.mode is Mode.FORCE
    ranks = {
        g.key: 0 if forced else history.reading_rank(rows.get(g.key), g, expected)
        for g in gateways
        if g.listed
    }
    return {key: rank for key, rank in ranks.items() if rank is not None}


async def _read_gateways(
    work: _Work, gateways: Sequence[Gateway], ranks: Mapping[str, int]
) -> tuple[Sequence[Gateway], list[str]]:
    """The gateways, those ranked read anew as far as there is time, and why some could not be.

    A tag that Resource Graph has not shown yet counts: what turns out to be excluded is left out.
    """
    reading, until = work.world.reading, work.time_is.at(READ_BY)
    most = reading.holds(work.time_is.left(READ_BY).total_seconds() / 4)
    ranked = sorted((rank, key) for key, rank in ranks.items())[:most]
    listed = {g.key: g for g in gateways}

    async def read(key: str) -> Gateway | str:
        if not await reading.turn(subscription(key), until):
            raise TimeoutError
        return await work.world.of(listed[key]).read(listed[key])

    answers = await _read_each(
        read,
        (key for _, key in ranked),
        until,
        otherwise=lambda key: f"{listed[key].name}: it was not read in time.",
    )
    fresh = {key: answer for key, answer in answers.items() if isinstance(answer, Gateway)}
    problems = [answer for answer in answers.values() if isinstance(answer, str)]
    return [now for g in gateways if not (now := fresh.get(g.key, g)).excluded], problems


async def _look_ahead(work: _Work, announced: Sequence[Gateway]) -> None:
    """What the hostnames of an announced certificate serve, and those that are only watched.

    Seen beside all other reads, that is two round trips less between a renewal and its sync. The other
    hostnames wait for the ledger: where they are settled, one connection is enough.
    """
    endpoints = [
        endpoint
        for gateway in announced
        for binding in gateway.bindings
        if not binding.reference or binding.reference.certificate == work.run.scope.certificate
        for endpoint in binding.endpoints
    ]
    if endpoints:
        seen = iter(await work.world.probe(endpoints, within=work.time_is.left(PROBED_BY)))
        work.ahead.update({each: [*islice(seen, each.connections)] for each in endpoints})


async def _observe(
    work: _Work,
    gateways: Sequence[Gateway],
    expected: Mapping[CertificateId, Expected],
    rows: Mapping[str, LedgerRow],
    *,
    listed: bool,
) -> list[Evidence]:
    """What every binding serves, all endpoints together, and how the last syncs have ended.

    `listed`: whether the inventory is whole, and with it what stands in front.
    """
    world, time_is = work.world, work.time_is
    evidence = [
        _to_observe(gateway, binding, expected, rows.get(gateway.key), work.run.now)
        for gateway in gateways
        for binding in gateway.bindings
    ]
    operations = {
        g.key: (world.of(g), url)
        for g in gateways
        if (row := rows.get(g.key)) and not g.busy and not row.proven_at and (url := row.operation_url)
    }

    async def error(key: str) -> str | None:
        kind, url = operations[key]
        return await kind.operation_error(url)

    unseen = [e for each in evidence for e in each.binding.endpoints if e not in work.ahead]
    observations, errors, healths = await asyncio.gather(
        world.probe(unseen, within=time_is.left(PROBED_BY)),
        _read_each(error, operations, time_is.at(PROBED_BY), otherwise=_nothing),
        _ask_fronts(work, evidence),
    )
    in_order = iter(observations)
    evidence = [
        replace(
            each,
            observations=tuple(
                seen
                for endpoint in each.binding.endpoints
                for seen in work.ahead.get(endpoint) or islice(in_order, endpoint.connections)
            ),
            operation_error=errors.get(each.gateway.key),
            front=_said_in_front(each, healths, listed=listed),
        )
        for each in evidence
    ]
    puzzles = [_puzzling(each) for each in evidence]
    earlier = await _read_each(
        world.certificates.earlier, filter(None, puzzles), time_is.at(ASKED_BY), otherwise=_nothing
    )
    return [
        replace(each, earlier=earlier[certificate]) if certificate else each
        for each, certificate in zip(evidence, puzzles, strict=True)
    ]


async def _ask_fronts(work: _Work, evidence: Iterable[Evidence]) -> Mapping[Front, BackendHealth | None]:
    """What stands in front, after a rotation and until it is content; only the timer has time for that."""
    ask = work.world.health
    if ask is None or work.run.trigger is not Trigger.TIMER:
        return {}
    due = [each for each in evidence if each.gateway.fronts and history.front_due(each, work.run.now)]
    fronts = dict.fromkeys(front for each in due for front in fronts_of(each))
    asked = list(fronts)[:MOST_FRONTS_ASKED]
    return await _read_each(ask, asked, work.time_is.at(PROBED_BY), otherwise=_unasked)


def _unasked(front: Front) -> BackendHealth:
    return BackendHealth(front.name, None, "no answer within the pass's time")


def _said_in_front(
    each: Evidence, healths: Mapping[Front, BackendHealth | None], *, listed: bool
) -> BackendHealth | None:
    """What stands in front says of a binding; who did distrust it, and was not asked, is not content yet."""
    fronts = fronts_of(each)
    said = [healths[front] for front in fronts if front in healths]
    if history.distrusted(each.row, each.binding):
        unasked = [front.name for front in fronts if front not in healths]
        if not fronts and not listed:
            unasked = ["what stands"]
        said += [BackendHealth(name, None, "it was not asked in this pass") for name in unasked]
    return _worst(said)


def _worst(healths: Iterable[BackendHealth | None]) -> BackendHealth | None:
    """One that distrusts, else one that is not known, else any."""
    told = [health for health in healths if health]
    return min(told, key=lambda health: (True, None, False).index(health.distrusts), default=None)


def _to_observe(
    gateway: Gateway,
    binding: Binding,
    expected: Mapping[CertificateId, Expected],
    row: LedgerRow | None,
    now: datetime,
) -> Evidence:
    """The evidence before anything is observed: a settled binding is asked once at each endpoint."""
    wanted = expected[binding.reference.certificate] if binding.reference else None
    sampled = history.sampled(row, binding, wanted, now)
    if sampled and any(e.connections > 1 for e in binding.endpoints):
        binding = replace(binding, endpoints=tuple(replace(e, connections=1) for e in binding.endpoints))
    return Evidence(gateway, binding, wanted, (), frozenset(), row, sampled=sampled)


def _unread(certificate: CertificateId) -> Expected:
    return CertificateUnreadable(certificate, UnreadableCause.UNREACHABLE, "no answer within the pass's time")


def _nothing(_: object) -> None:
    return None


def _puzzling(evidence: Evidence) -> CertificateId | None:
    """The certificate whose versions must be listed to tell an old leaf from a foreign one."""
    if not isinstance(evidence.expected, CertificateVersion):
        return None
    known = {evidence.expected.thumbprint, evidence.binding.configured}
    leaves = (o.thumbprint for o in evidence.observations if isinstance(o, ServedCertificate))
    return evidence.expected.certificate if any(leaf not in known for leaf in leaves) else None


async def _read_each(
    read: Callable[[K], Awaitable[T]], keys: Iterable[K], until: float, otherwise: Callable[[K], T]
) -> dict[K, T]:
    """One read per distinct key, bounded in number and time."""
    distinct = list(dict.fromkeys(keys))
    if not distinct:
        return {}
    turns = asyncio.Semaphore(READS_AT_ONCE)

    async def one(key: K) -> T:
        try:
            async with asyncio.timeout_at(until), turns:
                return await read(key)
        except TimeoutError:
            return otherwise(key)

    return dict(zip(distinct, await asyncio.gather(*map(one, distinct)), strict=True))


def _judge(evidence: Evidence, now: datetime, limits: Limits) -> Verdict:
    """A verdict whatever happens: a bug met in one binding must not hide the others."""
    try:
        return judge(evidence, now, limits)
    except Exception as error:  # noqa: BLE001 - the one place where a bug becomes a verdict
        where = f"{evidence.gateway.name} {evidence.binding.hostname}"
        _log.error("%s could not be judged: %s", where, trace(error))
        message = f"{where}: could not be judged ({type(error).__name__}); the app's log has the details."
        return Verdict(evidence, Status.UNKNOWN, Reason.INTERNAL_ERROR, message)


async def _behind_elsewhere(
    work: _Work, decided: Sequence[Decision], expected: Mapping[CertificateId, Expected]
) -> tuple[Gateway, ...] | None:
    """Gateways of earlier rings in other shards that are not proven yet; None where they cannot be seen.

    What the ledger remembers of them is enough to wait: no verdict rests on it.
    """
    later = [decision.gateway for decision in decided if decision.choice is Choice.SYNC]
    later = [gateway for gateway in later if gateway.ring]
    large = work.world.large
    if not work.run.scope.shard or not later or large is None:
        return ()
    wanted = {c: expected[c] for gateway in later for c in gateway.certificates}
    try:
        async with asyncio.timeout_at(work.time_is.at(ASKED_BY)):
            found = await large.using(wanted)
            if isinstance(found, str):
                _log.warning("The gateways of earlier rings cannot be seen: %s", found)
                return None
            earlier = [
                g for g in found if not g.excluded and any(comes_before(g, gateway) for gateway in later)
            ]
            rows = await work.world.ledger.read(gateway.key for gateway in earlier)
    except (LedgerUnavailableError, TimeoutError):
        return None
    return tuple(gateway for gateway in earlier if history.behind(rows[gateway.key], gateway, wanted))


async def _admit(work: _Work, gateway: Gateway) -> Decision | None:
    """Count the sync in its subscription's row before it is asked for; the decision if it has to wait."""
    key, ledger = subscription_row(gateway.key), work.world.ledger
    async with work.world.door:
        for _ in range(MOST_TRIES):
            row = admit(work.subscriptions[key], gateway, work.run.now, work.world.brakes)
            if isinstance(row, Decision):
                return row
            try:
                work.subscriptions[key] = await ledger.write(row)
            except LedgerConflictError:
                work.subscriptions.update(await ledger.read([key]))
            else:
                return None
    why = f"{gateway.name}: too many workers ask for syncs in its subscription; the next pass goes on."
    return Decision(gateway, Choice.CLAIMED_ELSEWHERE, why)


async def _note_answer(work: _Work, gateway: Gateway, outcome: SyncOutcome) -> None:
    """Best effort: what is not noted counts as asked for."""
    key, ledger = subscription_row(gateway.key), work.world.ledger
    async with work.world.door:
        for _ in range(MOST_TRIES):
            row = answered(work.subscriptions[key], gateway, outcome)
            if row == work.subscriptions[key]:
                return
            try:
                work.subscriptions[key] = await ledger.write(row)
            except LedgerConflictError:
                work.subscriptions.update(await ledger.read([key]))
            else:
                return


async def _act(work: _Work, decision: Decision, claim: LedgerRow) -> tuple[Decision, LedgerRow | None]:
    """Store the intent, ask for the sync, note the answer: in this order a crash can only cost an attempt.

    The row is what the ledger has then, None where it was not changed.
    """
    world, run, name = work.world, work.run, decision.gateway.name
    async with work.turns:
        in_time = await world.writing.turn(subscription(decision.gateway.key), work.time_is.at(ASKED_BY))
        if not (in_time and work.time_is.left(ASKED_BY)):
            why = f"{name}: not synced, because this pass has no time left; the next one goes on."
            return replace(decision, choice=Choice.OUT_OF_TIME, message=why), None
        intent = history.waiting(claim, [telemetry.sync_requested(run, decision)])
        try:
            if held := await _admit(work, decision.gateway):
                return held, None
            stored = await world.ledger.write(intent)
        except LedgerConflictError:
            why = f"{name}: another worker has just asked for a sync."
            return replace(decision, choice=Choice.CLAIMED_ELSEWHERE, message=why), None
        except LedgerUnavailableError as error:
            why = f"{name}: not synced, because the attempt could not be stored: {error}"
            return replace(decision, choice=Choice.LEDGER_UNAVAILABLE, message=why), None
        answer = await _sync(world.of(decision.gateway), decision.gateway, work.time_is)
        message = f"{decision.message} Answer: {answer.outcome}, {answer.detail}."
        decision = replace(decision, answer=answer, message=message)
        settled = replace(settle(decision, stored, answer, work.answered_at()), outbox=stored.outbox)
        if answer.outcome is SyncOutcome.ACCEPTED:
            settled = history.synced(settled, work.answered_at())
        settled = history.waiting(settled, [telemetry.sync_answered(run, decision, answer)])
        try:
            stored = await world.ledger.write(settled)
            await _note_answer(work, decision.gateway, answer.outcome)
        except (LedgerConflictError, LedgerUnavailableError) as error:
            _log.warning("%s: the answer to the sync could not be noted: %s", name, error)
        return decision, stored


async def _sync(kind: Gateways, gateway: Gateway, time_is: _Time) -> SyncAnswer:
    try:
        async with asyncio.timeout_at(time_is.at(ANSWERED_BY)):
            return await kind.sync(gateway)
    except TimeoutError:
        return SyncAnswer(SyncOutcome.UNKNOWN, "no answer within the pass's time")


@dataclass(frozen=True, slots=True)
class _Missing:
    """Gateways that were known and are not listed any more."""

    number: int = 0
    problems: tuple[str, ...] = ()


async def _nobody_missing() -> _Missing:
    return _Missing()


async def _miss(work: _Work, inventory: Inventory) -> _Missing:
    """Notice gateways that have vanished, and forget them after a week; only where the list is whole."""
    ledger, run = work.world.ledger, work.run
    if not run.scope.everything or inventory.problems:
        return _Missing()
    try:
        known = {key for key in await ledger.known(run.scope.shard) if key != subscription_row(key)}
        rows = await ledger.read(known - {gateway.key for gateway in inventory.gateways})
        for row in rows.values():
            if not work.time_is.left(ASKED_BY):
                break
            if history.forgotten(row, run.now):
                await ledger.forget(row)
            elif row.missing_since is None:
                await ledger.write(replace(row, missing_since=run.now))
    except LedgerConflictError:
        return _Missing()  # another worker does the same
    except LedgerUnavailableError as error:
        return _Missing(problems=(f"Whether gateways have vanished is not known: {error}",))
    return _Missing(len(rows), history.shrunk(rows, len(known)))


async def _remember(ledger: Ledger, rows: Sequence[LedgerRow], time_is: _Time) -> dict[str, LedgerRow]:
    """Store what is new, as far as there is time; the next pass notices the rest again."""
    return await _write_each(ledger, rows, time_is.at(STORED_BY)) if time_is.left(ANSWERED_BY) else {}


async def _write_each(
    ledger: Ledger, rows: Sequence[LedgerRow], until: float | None = None
) -> dict[str, LedgerRow]:
    """Store these rows, each for itself, and return those that were stored in time, by gateway key."""
    stored: dict[str, LedgerRow] = {}
    with suppress(TimeoutError):
        async with asyncio.timeout_at(until):
            for start in range(0, len(rows), ROWS_AT_ONCE):
                try:
                    stored |= await ledger.write_each(rows[start : start + ROWS_AT_ONCE])
                except LedgerUnavailableError as error:
                    _log.warning("What was seen could not be noted: %s", error)
    return stored
