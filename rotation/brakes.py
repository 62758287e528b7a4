"""What holds syncs back beyond one gateway: rings, a cap per subscription, a breaker. Pure.

A worker may see a part of the fleet only, and others act beside it: what is asked for stands in the row of
the subscription as well, where all of them meet.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from rotation.inventory import comes_before
from rotation.model import (
    Asked,
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
    for that window nor for a ring. `pause` is the kill switch. `behind` are gateways of other shards that do
    not serve yet what they should, None where they cannot be seen.
    """

    most_syncs: int = 20
    developer_minutes: tuple[int, int] = (0, 0)
    urgent: timedelta = timedelta(days=14)
    pause: Pause | None = None
    behind: tuple[Gateway, ...] | None = ()

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
    """The decisions, with those syncs held that the fleet cannot take now; what ends first goes first.

    `rows` are those of gateways and of subscriptions.
    """
    syncs = [decision for decision in decisions if decision.choice is Choice.SYNC]
    if not syncs:
        return list(decisions)
    breaker = open_until(rows.values(), run.now)
    lately = Counter(
        subscription(key)
        for key, asked in _last_syncs(rows.values()).items()
        if run.now - asked.at < CAP_WINDOW
    )
    held: dict[str, Decision] = {}
    for decision in sorted(syncs, key=lambda d: first_end(of_gateway[d.gateway.key], run.now)):
        gateway = decision.gateway
        if breaker:
            why = f"{gateway.name}: {_breaker(breaker)}"
            held[gateway.key] = Decision(gateway, Choice.BREAKER_OPEN, why)
        elif brakes.behind is None and _has_to_wait(gateway, of_gateway, run, brakes):
            why = f"{gateway.name}: in ring {gateway.ring}, and the earlier rings cannot be seen now."
            held[gateway.key] = Decision(gateway, Choice.WAITS_FOR_RING, why)
        elif earlier := _unproven(gateway, decisions, of_gateway, run, brakes):
            why = f"{gateway.name}: in ring {gateway.ring}, waits for {earlier.name} (ring {earlier.ring})."
            held[gateway.key] = Decision(gateway, Choice.WAITS_FOR_RING, why)
        elif lately[subscription(gateway.key)] >= brakes.most_syncs:
            why = f"{gateway.name}: {_cap(brakes)}"
            held[gateway.key] = Decision(gateway, Choice.CAPPED, why)
        else:
            lately[subscription(gateway.key)] += 1
    return [held.get(decision.gateway.key, decision) for decision in decisions]


def admit(row: LedgerRow, gateway: Gateway, now: datetime, brakes: Brakes) -> LedgerRow | Decision:
    """The subscription's row with this sync in it, or the decision that it has to wait.

    Whoever has stored that row may ask: of any number of workers no more than the cap can.
    """
    others = {key: asked for key, asked in row.asked.items() if key != gateway.key}
    lately = {key: asked for key, asked in others.items() if now - asked.at < CAP_WINDOW}
    if breaker := open_until([replace(row, asked=others)], now):
        return Decision(gateway, Choice.BREAKER_OPEN, f"{gateway.name}: {_breaker(breaker)}")
    if len(lately) >= brakes.most_syncs:
        return Decision(gateway, Choice.CAPPED, f"{gateway.name}: {_cap(brakes)}")
    newest = dict(sorted(others.items(), key=lambda each: each[1].at, reverse=True)[:BREAKER_AFTER])
    return replace(row, asked={**newest, **lately, gateway.key: Asked(now)})


def answered(row: LedgerRow, gateway: Gateway, outcome: SyncOutcome) -> LedgerRow:
    """The subscription's row after the answer: a refusal has started nothing, and does not count."""
    mine = row.asked.get(gateway.key)
    if mine is None or outcome is SyncOutcome.ACCEPTED:
        return row
    others = {key: asked for key, asked in row.asked.items() if key != gateway.key}
    return replace(row, asked=others if outcome.refused else {**others, gateway.key: Asked(mine.at, outcome)})


def open_until(rows: Iterable[LedgerRow], now: datetime) -> datetime | None:
    """Until when the breaker is open: the last syncs, each of another gateway, all had no answer."""
    last = sorted(_last_syncs(rows).values(), key=lambda asked: asked.at, reverse=True)[:BREAKER_AFTER]
    if len(last) < BREAKER_AFTER or any(asked.outcome is not SyncOutcome.UNKNOWN for asked in last):
        return None
    until = last[0].at + BREAKER_FOR
    return until if now < until else None


def first_end(verdicts: Iterable[Verdict], now: datetime) -> datetime:
    """When the first of the served certificates that a sync could replace ends; far away if none is known."""
    leaves = (o for v in verdicts if v.evidence.expected for o in v.evidence.observations)
    known = [o.not_after for o in leaves if isinstance(o, ServedCertificate) and o.not_after]
    return min(known, default=now + FAR)


def subscription(gateway_key: str) -> str:
    """The subscription in an ARM id."""
    return gateway_key.partition("/subscriptions/")[2].partition("/")[0]


def subscription_row(gateway_key: str) -> str:
    """The key of the row of a gateway's subscription."""
    return f"/subscriptions/{subscription(gateway_key)}"


def _last_syncs(rows: Iterable[LedgerRow]) -> dict[str, Asked]:
    """The last sync of each gateway, from its own row or from its subscription's, with the better answer."""
    last: dict[str, Asked] = {}
    for row in rows:
        own = {row.gateway_key: Asked(row.asked_at, row.outcome or SyncOutcome.ASKED)} if row.asked_at else {}
        for key, asked in (*row.asked.items(), *own.items()):
            known = last.get(key)
            if known is None or (known.at, known.outcome is not SyncOutcome.ASKED) < (asked.at, True):
                last[key] = asked
    return last


def _breaker(until: datetime) -> str:
    return (
        f"not synced until {until:%H:%M} UTC, because the last syncs of {BREAKER_AFTER} gateways had no"
        " answer. Look at ARM and at those services first."
    )


def _cap(brakes: Brakes) -> str:
    return f"{brakes.most_syncs} syncs in five minutes are the most per subscription."


def _has_to_wait(
    gateway: Gateway, of_gateway: Mapping[str, Sequence[Verdict]], run: Pass, brakes: Brakes
) -> bool:
    """Whether earlier rings go before it."""
    urgent = brakes.urgent_now(of_gateway[gateway.key], run.now)
    return gateway.ring > 0 and run.mode is not Mode.FORCE and not urgent


def _unproven(
    gateway: Gateway,
    decisions: Iterable[Decision],
    of_gateway: Mapping[str, Sequence[Verdict]],
    run: Pass,
    brakes: Brakes,
) -> Gateway | None:
    """A gateway of an earlier ring that does not yet serve what this one would be synced to."""
    if not _has_to_wait(gateway, of_gateway, run, brakes):
        return None
    if elsewhere := next((other for other in brakes.behind or () if comes_before(other, gateway)), None):
        return elsewhere
    for other in (d.gateway for d in decisions if comes_before(d.gateway, gateway)):
        for verdict in of_gateway[other.key]:
            reference = verdict.evidence.binding.reference
            shared = reference and reference.certificate in gateway.certificates
            if shared and verdict.status is not Status.IN_SYNC:
                return other
    return None
