"""The one path of every trigger, and the only place where reading, deciding and acting meet.

    inventory -> select -> expected -> served -> judge -> plan -> act -> report

Nothing here waits for API Management to finish: the next pass looks at what is served.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Protocol, TypeVar

from rotation.brakes import Brakes, hold_back
from rotation.inventory import select
from rotation.model import (
    CertificateId,
    CertificateUnreadable,
    CertificateVersion,
    Choice,
    Decision,
    Endpoint,
    Evidence,
    Gateway,
    Inventory,
    LedgerRow,
    Mode,
    Observation,
    Pass,
    Reason,
    Report,
    Scope,
    ServedCertificate,
    Status,
    SyncAnswer,
    Trigger,
    Verdict,
)
from rotation.plan import decide, prove, settle
from rotation.verdict import Limits, judge

READS_AT_ONCE = 16
SYNCS_AT_ONCE = 4

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

    async def discover(self) -> Inventory:
        """Everything of this kind in the subscriptions in scope."""

    async def sync(self, gateway: Gateway) -> SyncAnswer:
        """Tell a gateway to re-read its certificates; does not wait until it has."""

    async def operation_error(self, operation_url: str) -> str | None:
        """What a sync's operation failed with; None while it runs, where it succeeded or cannot be read."""


class CertificateStore(Protocol):
    """Where the expected certificates are."""

    async def current(self, certificate: CertificateId) -> Expected:
        """The newest version, or why it cannot be read."""

    async def earlier(self, certificate: CertificateId) -> frozenset[str] | None:
        """The thumbprints of all versions, None where they cannot be listed."""


class Ledger(Protocol):
    """The attempts made. `read` and `write` raise LedgerUnavailableError, `write` LedgerConflictError."""

    async def read(self, gateway_keys: Iterable[str]) -> dict[str, LedgerRow]:
        """The rows of these gateways, a new one for each that has none."""

    async def write(self, row: LedgerRow) -> LedgerRow:
        """Store a row whose etag is still the newest, and return it with its next one."""

    async def save_report(self, report: Mapping[str, object]) -> None:
        """Keep the last report, for whichever process is asked for it."""

    async def last_report(self) -> Mapping[str, object] | None:
        """The last report kept."""


@dataclass(frozen=True, slots=True)
class World:
    """What the path needs of the outside, given once by `app`."""

    gateways: Gateways
    certificates: CertificateStore
    ledger: Ledger
    probe: Callable[[Sequence[Endpoint]], Awaitable[Sequence[Observation]]]
    now: Callable[[], datetime]
    limits: Limits
    brakes: Brakes = Brakes()  # noqa: RUF009 - frozen


async def reconcile(
    world: World,
    scope: Scope,
    mode: Mode,
    trigger: Trigger,
    overrides: frozenset[Reason] = frozenset(),
) -> Report:
    """Look at what the scope selects, judge it, and do what the mode allows."""
    began, began_at = time.monotonic(), world.now()
    inventory = await world.gateways.discover()
    run = Pass(str(uuid.uuid4()), trigger, mode, scope, inventory.as_of or world.now(), overrides)
    gateways = select(inventory.gateways, scope)
    rows, problems = await _read_ledger(world.ledger, inventory.gateways)

    evidence = await _observe(world, gateways, rows)
    verdicts = [_judge(each, run.now, world.limits) for each in evidence]
    of_gateway: dict[str, list[Verdict]] = {gateway.key: [] for gateway in gateways}
    for verdict in verdicts:
        of_gateway[verdict.evidence.gateway.key].append(verdict)

    decided = [decide(g, of_gateway[g.key], rows.get(g.key), run, world.brakes) for g in gateways]
    planned = hold_back(decided, of_gateway, rows, run, world.brakes)
    turns = asyncio.Semaphore(SYNCS_AT_ONCE)

    def answered_at() -> datetime:
        """Waits count from an answer, by the clock of the pass, which tells whole seconds."""
        return run.now + (world.now() - began_at) + timedelta(seconds=1)

    decisions = await asyncio.gather(*(_act(world, decision, answered_at, turns) for decision in planned))
    proven = await _note_proofs(world.ledger, decisions, of_gateway, rows, run)
    return Report(
        run=run,
        duration_seconds=time.monotonic() - began,
        gateways=len(gateways),
        verdicts=tuple(verdicts),
        decisions=tuple(decisions),
        problems=(*inventory.problems, *problems),
        seconds_to_served=proven,
    )


async def _read_ledger(
    ledger: Ledger, gateways: Sequence[Gateway]
) -> tuple[dict[str, LedgerRow], tuple[str, ...]]:
    try:
        return await ledger.read(g.key for g in gateways), ()
    except LedgerUnavailableError as error:
        return {}, (f"The attempt ledger could not be read, so nothing is synced: {error}",)


async def _observe(
    world: World, gateways: Sequence[Gateway], rows: Mapping[str, LedgerRow]
) -> list[Evidence]:
    """Expected and served of every binding: one read per distinct certificate, all endpoints together."""
    bindings = [(gateway, binding) for gateway in gateways for binding in gateway.bindings]
    certificates = (b.reference.certificate for _, b in bindings if b.reference)
    asked = [rows[g.key] for g in gateways if g.key in rows and not g.busy]
    operations = (row.operation_url for row in asked if row.operation_url and not row.proven_at)
    expected, observations, errors = await asyncio.gather(
        _read_each(world.certificates.current, certificates),
        world.probe([endpoint for _, binding in bindings for endpoint in binding.endpoints]),
        _read_each(world.gateways.operation_error, operations),
    )
    in_order = iter(observations)
    evidence = [
        Evidence(
            gateway=gateway,
            binding=binding,
            expected=expected[binding.reference.certificate] if binding.reference else None,
            observations=tuple(islice(in_order, sum(e.connections for e in binding.endpoints))),
            earlier=frozenset(),
            row=(row := rows.get(gateway.key)),
            operation_error=errors.get(row.operation_url or "") if row else None,
        )
        for gateway, binding in bindings
    ]
    puzzling = {certificate for each in evidence if (certificate := _puzzling(each))}
    earlier = await _read_each(world.certificates.earlier, puzzling)
    return [
        replace(each, earlier=earlier[certificate]) if (certificate := _puzzling(each)) else each
        for each in evidence
    ]


def _puzzling(evidence: Evidence) -> CertificateId | None:
    """The certificate whose versions must be listed to tell an old leaf from a foreign one."""
    if not isinstance(evidence.expected, CertificateVersion):
        return None
    known = {evidence.expected.thumbprint, evidence.binding.configured}
    leaves = (o.thumbprint for o in evidence.observations if isinstance(o, ServedCertificate))
    return evidence.expected.certificate if any(leaf not in known for leaf in leaves) else None


async def _read_each(read: Callable[[K], Awaitable[T]], keys: Iterable[K]) -> dict[K, T]:
    """One read per distinct key, bounded in number."""
    turns = asyncio.Semaphore(READS_AT_ONCE)

    async def one(key: K) -> T:
        async with turns:
            return await read(key)

    distinct = list(dict.fromkeys(keys))
    return dict(zip(distinct, await asyncio.gather(*map(one, distinct)), strict=True))


def _judge(evidence: Evidence, now: datetime, limits: Limits) -> Verdict:
    """A verdict whatever happens: a bug met in one binding must not hide the others."""
    try:
        return judge(evidence, now, limits)
    except Exception as error:  # noqa: BLE001 - the one place where a bug becomes a verdict
        where = f"{evidence.gateway.name} {evidence.binding.hostname}"
        _log.exception("%s could not be judged", where)
        message = f"{where}: could not be judged ({type(error).__name__}); the app's log has the details."
        return Verdict(evidence, Status.UNKNOWN, Reason.INTERNAL_ERROR, message)


async def _act(
    world: World, decision: Decision, answered_at: Callable[[], datetime], turns: asyncio.Semaphore
) -> Decision:
    """Store the intent, ask for the sync, note the answer: in this order a crash can only cost an attempt."""
    if decision.choice is not Choice.SYNC or decision.claim is None:
        return decision
    async with turns:
        try:
            stored = await world.ledger.write(decision.claim)
        except LedgerConflictError:
            why = f"{decision.gateway.name}: another worker has just asked for a sync."
            return replace(decision, choice=Choice.CLAIMED_ELSEWHERE, message=why)
        except LedgerUnavailableError as error:
            why = f"{decision.gateway.name}: not synced, because the attempt could not be stored: {error}"
            return replace(decision, choice=Choice.LEDGER_UNAVAILABLE, message=why)
        answer = await world.gateways.sync(decision.gateway)
        try:
            await world.ledger.write(settle(decision, stored, answer, answered_at()))
        except (LedgerConflictError, LedgerUnavailableError) as error:
            _log.warning("%s: the answer to the sync could not be noted: %s", decision.gateway.name, error)
    return replace(
        decision, answer=answer, message=f"{decision.message} Answer: {answer.outcome}, {answer.detail}."
    )


async def _note_proofs(
    ledger: Ledger,
    decisions: Iterable[Decision],
    of_gateway: Mapping[str, Sequence[Verdict]],
    rows: Mapping[str, LedgerRow],
    run: Pass,
) -> dict[str, float]:
    """Close the rotations that this pass has seen served everywhere: seconds to served by gateway key."""
    proven: dict[str, float] = {}
    for decision in decisions:
        key = decision.gateway.key
        if run.mode is Mode.OBSERVE or decision.choice is Choice.SYNC or key not in rows:
            continue
        if proof := prove(rows[key], of_gateway[key], run.now):
            try:
                await ledger.write(proof[0])
            except LedgerConflictError:
                continue  # another worker has seen it too, and reports it
            except LedgerUnavailableError as error:
                _log.warning("%s: its proof could not be noted: %s", decision.gateway.name, error)
            proven[key] = proof[1]
    return proven
