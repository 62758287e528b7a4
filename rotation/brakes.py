"""What holds syncs back beyond one gateway: rings, a cap per subscription, a breaker. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from rotation.inventory import comes_before
from rotation.model import (
    Choice,
    Decision,
    Gateway,
    LedgerRow,
    Mode,
    Pass,
    Pause,
    ServedCertificate,
    Status,
    SyncOutcome,
    Verdict,
)

BREAKER_AFTER = 5
BREAKER_FOR = timedelta(minutes=30)
CAP_WINDOW = timedelta(minutes=5)
FAR = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Brakes:
    """The limits of a fleet.

    `most_syncs` may be asked for in five minutes per subscription. `developer_minutes` are the minutes of the
    day, UTC, in which a Developer-tier service, which goes down while it updates, may be synced; the end is
    excluded, and may be smaller than the start. A served certificate that ends within `urgent` waits neither
    for that window nor for a ring. `pause` is the kill switch.
    """

    most_syncs: int = 20
    developer_minutes: tuple[int, int] = (0, 0)
    urgent: timedelta = timedelta(days=14)
    pause: Pause | None = None

    def developer_tier_open(self, now: datetime) -> bool:
        """Whether now is in the daily window of the Developer tier."""
        start, end = self.developer_minutes
        minute = now.hour * 60 + now.minute
        return start <= minute < end if start <= end else minute >= start or minute < end

    def urgent_now(self, verdicts: Iterable[Verdict], now: datetime) -> bool:
        """Whether a served certificate is about to end, so that waiting is worse than what we wait for."""
        return first_end(verdicts, now) - now <= self.urgent


def hold_back(
    decisions: Sequence[Decision],
    of_gateway: Mapping[str, Sequence[Verdict]],
    rows: Mapping[str, LedgerRow],
    run: Pass,
    brakes: Brakes,
) -> list[Decision]:
    """The decisions, with those syncs held that the fleet cannot take now; what ends first goes first."""
    syncs = [decision for decision in decisions if decision.choice is Choice.SYNC]
    if not syncs:
        return list(decisions)
    breaker = open_until(rows.values(), run.now)
    lately = Counter(
        subscription(row.gateway_key)
        for row in rows.values()
        if row.asked_at and run.now - row.asked_at < CAP_WINDOW
    )
    held: dict[str, Decision] = {}
    for decision in sorted(syncs, key=lambda d: first_end(of_gateway[d.gateway.key], run.now)):
        gateway = decision.gateway
        if breaker:
            why = (
                f"{gateway.name}: not synced until {breaker:%H:%M} UTC, because the last syncs of"
                f" {BREAKER_AFTER} gateways had no answer. Look at ARM and at those services first."
            )
            held[gateway.key] = Decision(gateway, Choice.BREAKER_OPEN, why)
        elif earlier := _unproven(gateway, decisions, of_gateway, run, brakes):
            why = f"{gateway.name}: in ring {gateway.ring}, waits for {earlier.name} (ring {earlier.ring})."
            held[gateway.key] = Decision(gateway, Choice.WAITS_FOR_RING, why)
        elif lately[subscription(gateway.key)] >= brakes.most_syncs:
            why = f"{gateway.name}: {brakes.most_syncs} syncs in five minutes are the most per subscription."
            held[gateway.key] = Decision(gateway, Choice.CAPPED, why)
        else:
            lately[subscription(gateway.key)] += 1
    return [held.get(decision.gateway.key, decision) for decision in decisions]


def open_until(rows: Iterable[LedgerRow], now: datetime) -> datetime | None:
    """Until when the breaker is open: the last syncs, each of another gateway, all had no answer."""
    asked = [(row.asked_at, row.outcome) for row in rows if row.asked_at]
    last = sorted(asked, key=lambda sync: sync[0], reverse=True)[:BREAKER_AFTER]
    if len(last) < BREAKER_AFTER or any(outcome is not SyncOutcome.UNKNOWN for _, outcome in last):
        return None
    until = last[0][0] + BREAKER_FOR
    return until if now < until else None


def first_end(verdicts: Iterable[Verdict], now: datetime) -> datetime:
    """When the first of the served certificates that a sync could replace ends; far away if none is known."""
    leaves = (o for v in verdicts if v.evidence.expected for o in v.evidence.observations)
    known = [o.not_after for o in leaves if isinstance(o, ServedCertificate) and o.not_after]
    return min(known, default=now + FAR)


def subscription(gateway_key: str) -> str:
    """The subscription in an ARM id."""
    return gateway_key.partition("/subscriptions/")[2].partition("/")[0]


def _unproven(
    gateway: Gateway,
    decisions: Iterable[Decision],
    of_gateway: Mapping[str, Sequence[Verdict]],
    run: Pass,
    brakes: Brakes,
) -> Gateway | None:
    """A gateway of an earlier ring that does not yet serve what this one would be synced to."""
    if not gateway.ring or run.mode is Mode.FORCE or brakes.urgent_now(of_gateway[gateway.key], run.now):
        return None
    for other in (d.gateway for d in decisions if comes_before(d.gateway, gateway)):
        for verdict in of_gateway[other.key]:
            reference = verdict.evidence.binding.reference
            shared = reference and reference.certificate in gateway.certificates
            if shared and verdict.status is not Status.IN_SYNC:
                return other
    return None
