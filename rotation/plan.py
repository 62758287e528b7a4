"""What to do about a gateway: verdicts, ledger row and the pass in, a decision out. Pure.

The unit of judgement is a binding, the unit of action a gateway: a sync covers all its hostnames, so one
hostname that must not be touched holds the whole gateway back. `HOLDS` is the list of what may do so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from rotation.brakes import Brakes
from rotation.model import (
    CertificateVersion,
    Choice,
    Decision,
    Gateway,
    LedgerRow,
    Mode,
    Pass,
    Reason,
    Status,
    SyncAnswer,
    SyncOutcome,
    Verdict,
    Wanted,
)

ATTEMPT_GAPS = (timedelta(minutes=30), timedelta(minutes=90), timedelta(hours=4), timedelta(hours=6))
"""Attempts at once, +30 min, +2 h, +6 h, +12 h; then daily."""

DAILY = timedelta(days=1)
FORCE_GAP = timedelta(minutes=10)
REFUSED_GAP = timedelta(minutes=5)
LONGEST_RETRY_AFTER = timedelta(hours=1)
LONGEST_WAIT = DAILY + timedelta(hours=1)
"""A row that says to wait longer was not written by us, or by a clock that was wrong."""

VETOES = frozenset(
    {
        Reason.CERTIFICATE_DELETED,
        Reason.CERTIFICATE_NOT_FOUND,
        Reason.VERSION_DISABLED,
        Reason.VERSION_EXPIRED,
        Reason.VERSION_NOT_YET_VALID,
        Reason.VERSION_UNUSABLE,
        Reason.NAME_NOT_COVERED,
        Reason.NAMES_LOST,
        Reason.ISSUER_CHANGED,
        Reason.FRONT_DISTRUSTS,
    }
)
"""Reasons for which a sync would break a hostname, or fail because of it."""

OVERRIDABLE = VETOES - {
    Reason.CERTIFICATE_DELETED,
    Reason.CERTIFICATE_NOT_FOUND,
    Reason.VERSION_DISABLED,
}
"""Blocks that a person may go past: the sync would succeed, and do what they say they want."""


@dataclass(frozen=True, slots=True)
class _Case:
    """A gateway for which there is a reason to sync."""

    gateway: Gateway
    verdicts: Sequence[Verdict]
    row: LedgerRow | None
    run: Pass
    brakes: Brakes

    @property
    def stale(self) -> list[Verdict]:
        """What a sync would mend: the stale, and the blocks that a person goes past."""
        overridden = self.run.overrides & OVERRIDABLE
        return [v for v in self.verdicts if v.status is Status.STALE or _blocks(v, overridden)]

    @property
    def forced(self) -> bool:
        return self.run.mode is Mode.FORCE

    @property
    def known_row(self) -> LedgerRow:
        """The row; every hold after `ledger_unavailable` may rely on it."""
        assert self.row is not None
        return self.row

    @property
    def wanted(self) -> dict[str, Wanted]:
        """The versions that a sync now would be for; what cannot be read keeps what was wanted before."""
        expected = (v.evidence.expected for v in self.verdicts)
        newest = {
            str(e.certificate): Wanted(e.version, e.available_since)
            for e in expected
            if isinstance(e, CertificateVersion)
        }
        return {**self.known_row.wanted, **newest}

    @property
    def renewed(self) -> bool:
        """Whether a version is wanted that came, or was enabled again, after the one wanted before.

        An older one is an answer of Key Vault from before that; were it new each time, two answers that take
        turns would be a sync at every pass.
        """
        before, now = self.known_row.wanted, self.run.now
        return any(
            url not in before or before[url].since < wanted.since or before[url].since > now + LONGEST_WAIT
            for url, wanted in self.wanted.items()
        )


Hold = Callable[[_Case], tuple[Choice, str] | None]


def decide(
    gateway: Gateway,
    verdicts: Sequence[Verdict],
    row: LedgerRow | None,
    run: Pass,
    brakes: Brakes | None = None,
) -> Decision:
    """Sync the gateway or say why not. `row` is None where the ledger could not be read: then never."""
    case = _Case(gateway, verdicts, row, run, brakes or Brakes())
    if not case.stale and not (case.forced and any(map(_worth_forcing, verdicts))):
        return Decision(gateway, Choice.NOTHING_STALE, f"{gateway.name}: no hostname is stale.")
    subject = f"{gateway.name} ({', '.join(v.evidence.binding.hostname for v in case.stale) or 'forced'})"
    for hold in HOLDS:
        if held := hold(case):
            return Decision(gateway, held[0], f"{subject}: {held[1]}")
    claim, unclaimed = _claim(case)
    why = f"{subject}: sync number {claim.attempts} for these versions."
    return Decision(gateway, Choice.SYNC, why, claim, unclaimed)


def busy(case: _Case) -> tuple[Choice, str] | None:
    """ARM is the lock: it would answer 409."""
    if not case.gateway.busy:
        return None
    state = f"{case.gateway.kind.subject} is {case.gateway.state}"
    return Choice.BUSY, f"{state}; a sync waits until that operation has ended."


def not_read(case: _Case) -> tuple[Choice, str] | None:
    """A list lags, Resource Graph's most of all: good for finding a gateway, not for acting on it."""
    if not case.gateway.listed:
        return None
    return (
        Choice.NOT_READ,
        "known from a list only, which may be minutes old; read itself at the next pass.",
    )


def vetoed(case: _Case) -> tuple[Choice, str] | None:
    """A hostname that a sync would make worse: not where the gateway already has that version."""
    for verdict in case.verdicts:
        expected, configured = verdict.evidence.expected, verdict.evidence.binding.configured
        taken = isinstance(expected, CertificateVersion) and expected.thumbprint == configured
        if _blocks(verdict, VETOES) and verdict not in case.stale and not taken:
            return Choice.VETOED, f"not synced, because a sync covers every hostname, also {verdict.message}"
    return None


def stopped(case: _Case) -> tuple[Choice, str] | None:
    """The kill switch."""
    pause = case.brakes.pause
    if not pause:
        return None
    return Choice.PAUSED, (
        f"a sync is needed, but all syncs are paused since {pause.at:%Y-%m-%d %H:%M} UTC ({pause.reason})."
        " POST /api/resume to go on."
    )


def paused(case: _Case) -> tuple[Choice, str] | None:
    """A person has put the brake on this gateway."""
    if not case.gateway.paused:
        return None
    return Choice.PAUSED, "a sync is needed, but the tag rotation-pause holds it. Remove the tag to go on."


def observe_only(case: _Case) -> tuple[Choice, str] | None:
    """A dry run, ROTATION_MODE, or a kind that is only looked at."""
    only = case.gateway.kind.only_observed
    if case.run.mode is not Mode.OBSERVE:
        return (Choice.OBSERVE_ONLY, f"a sync is needed, but {only}") if only else None
    return Choice.OBSERVE_ONLY, "a sync is needed, but this pass only observes."


def ledger_unavailable(case: _Case) -> tuple[Choice, str] | None:
    """Fail closed for actions."""
    if case.row is not None:
        return None
    why = "not synced, because the attempt ledger could not be read; check ROTATION_LEDGER."
    return Choice.LEDGER_UNAVAILABLE, why


def needs_window(case: _Case) -> tuple[Choice, str] | None:
    """A tier of one unit goes down while it updates."""
    brakes, now = case.brakes, case.run.now
    open_now = case.forced or brakes.developer_tier_open(now) or brakes.urgent_now(case.verdicts, now)
    if case.gateway.tier not in case.gateway.kind.down_in_tiers or open_now:
        return None
    return Choice.NEEDS_WINDOW, (
        f"the {case.gateway.tier} tier goes down while it updates. Set ROTATION_DEVELOPER_TIER to a daily"
        " window or to always, or force the sync by hand."
    )


def force_limited(case: _Case) -> tuple[Choice, str] | None:
    """Force is for a person, not for a loop."""
    forced_at = case.known_row.forced_at
    if not case.forced or not forced_at or case.run.now - forced_at >= FORCE_GAP:
        return None
    again = forced_at + FORCE_GAP
    return Choice.FORCE_LIMITED, f"forced {forced_at:%H:%M} UTC already; possible again {again:%H:%M} UTC."


def on_hold(case: _Case) -> tuple[Choice, str] | None:
    """An answer has asked for a wait, which nothing begins afresh."""
    row, now = case.known_row, case.run.now
    if not row.hold_until or not now < row.hold_until <= now + LONGEST_WAIT:
        return None
    return (
        Choice.NOT_DUE,
        f"the last answer was {row.outcome}; not before {row.hold_until:%Y-%m-%d %H:%M} UTC.",
    )


def not_due(case: _Case) -> tuple[Choice, str] | None:
    """The schedule of attempts, which a new version or force begins afresh."""
    row, now = case.known_row, case.run.now
    begins_afresh = case.renewed or case.forced
    if begins_afresh or not row.next_at or not now < row.next_at <= now + LONGEST_WAIT:
        return None
    choice = Choice.IN_FLIGHT if row.in_flight(now) else Choice.NOT_DUE
    return choice, (
        f"{row.attempts} sync(s) asked for, the last answer was {row.outcome};"
        f" the next is due {row.next_at:%Y-%m-%d %H:%M} UTC."
    )


HOLDS: tuple[Hold, ...] = (
    not_read,
    busy,
    vetoed,
    stopped,
    paused,
    observe_only,
    ledger_unavailable,
    needs_window,
    force_limited,
    on_hold,
    not_due,
)


def _claim(case: _Case) -> tuple[LedgerRow, LedgerRow]:
    """The row to store before acting, and the one to go back to after a refusal."""
    row, run = case.known_row, case.run
    fresh = row
    if case.renewed:
        fresh = replace(
            row,
            wanted=case.wanted,
            attempts=0,
            asked_at=None,
            next_at=None,
            hold_until=None,
            awaited_until=None,
            outcome=None,
            operation_url=None,
            proven_at=None,
        )
    elif case.forced:
        fresh = replace(row, wanted=case.wanted)
    claim = replace(
        fresh,
        attempts=fresh.attempts + 1,
        asked_at=run.now,
        next_at=run.now + attempt_gap(fresh.attempts + 1),
        awaited_until=run.now + case.gateway.kind.sync_takes,
        outcome=SyncOutcome.ASKED,
        operation_url=None,
        claim_id=run.run_id,
        forced_at=run.now if case.forced else fresh.forced_at,
        # Forcing what is in sync begins no rotation, so there is none to be proven.
        proven_at=fresh.proven_at or (None if case.stale else run.now),
    )
    return claim, fresh


def attempt_gap(attempts: int) -> timedelta:
    """How long after the attempt of this number the next one may follow."""
    return ATTEMPT_GAPS[attempts - 1] if attempts <= len(ATTEMPT_GAPS) else DAILY


def settle(decision: Decision, stored: LedgerRow, answer: SyncAnswer, now: datetime) -> LedgerRow:
    """The row after the answer: a definite refusal gives its attempt back, and every wait is kept.

    Also the wait for an earlier sync, beside which one was forced.
    """
    if not answer.outcome.refused:
        hold = now + _wait(answer.retry_after) if answer.retry_after else None
        return replace(stored, outcome=answer.outcome, operation_url=answer.operation_url, hold_until=hold)
    assert decision.unclaimed
    earlier = decision.unclaimed.next_at
    until = now + (DAILY if answer.outcome is SyncOutcome.NOT_SUPPORTED else _wait(answer.retry_after))
    return replace(
        decision.unclaimed,
        outcome=answer.outcome,
        next_at=max(until, earlier) if earlier else until,
        hold_until=until,
        forced_at=stored.forced_at,
        etag=stored.etag,
    )


def _wait(retry_after: timedelta | None) -> timedelta:
    """What an answer asks for, an hour at most, and never a time that has passed."""
    return min(max(retry_after or REFUSED_GAP, timedelta()), LONGEST_RETRY_AFTER)


def _blocks(verdict: Verdict, reasons: frozenset[Reason]) -> bool:
    return verdict.status is Status.BLOCKED and verdict.reason in reasons


def _worth_forcing(verdict: Verdict) -> bool:
    """Something a sync could change: not blocked, and tied to a certificate that we may read."""
    return verdict.evidence.expected is not None and verdict.status in {
        Status.IN_SYNC,
        Status.SYNCING,
        Status.UNKNOWN,
        Status.UNMANAGED,
    }
