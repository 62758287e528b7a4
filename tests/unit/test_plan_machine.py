"""The attempt ledger under fire: renewals, answers of every kind, forces, crashes and rivals."""

import os
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from rotation.history import note
from rotation.model import (
    Choice,
    Decision,
    LedgerRow,
    Mode,
    Pass,
    Reason,
    Status,
    SyncOutcome,
    Trigger,
    UnreadableCause,
    Verdict,
    Wanted,
)
from rotation.plan import FORCE_GAP, decide, settle
from tests.unit import build

EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "150"))
CERTIFICATES = (build.CERTIFICATE, build.certificate("www-contoso-com"))
BINDINGS = tuple(build.binding(f"{c.name}.example", of=c, configured=build.OLD) for c in CERTIFICATES)
GATEWAY = build.gateway(*BINDINGS)
ANSWERS = [outcome for outcome in SyncOutcome if outcome is not SyncOutcome.ASKED]
SEEN: list[tuple[Status, Reason]] = [
    (Status.STALE, Reason.SERVES_OLD_VERSION),
    (Status.STALE, Reason.SYNC_OVERDUE),
    (Status.IN_SYNC, Reason.SERVED),
    (Status.SYNCING, Reason.PARTLY_SERVED),
    (Status.UNKNOWN, Reason.PROBE_FAILED),
    (Status.UNKNOWN, Reason.VAULT_UNREADABLE),
    (Status.BLOCKED, Reason.VERSION_EXPIRED),
]
FAR_MORE_OFTEN_STALE = st.sampled_from([SEEN[0]] * 10 + SEEN)
RETRY_AFTER = st.one_of(st.none(), st.integers(-100, 10_000).map(lambda n: timedelta(seconds=n)))


@dataclass(frozen=True)
class Asked:
    """A request for a sync that has left, or may have."""

    at: datetime
    wanted: frozenset[tuple[str, Wanted]]
    forced: bool


class Store:
    """One row, changed only by who has seen its newest state: what every Ledger promises."""

    def __init__(self) -> None:
        self.row = LedgerRow(GATEWAY.key)

    def write(self, row: LedgerRow) -> LedgerRow | None:
        """The row as stored, or None where somebody else was first."""
        if row.etag != self.row.etag:
            return None
        self.row = replace(row, etag=str(int(row.etag or 0) + 1))
        return self.row


class TheLedger(RuleBasedStateMachine):
    """Whatever happens between claim and answer, the budget of a gateway holds."""

    def __init__(self) -> None:
        super().__init__()
        self.now = build.NOW
        self.versions = [1, 1]
        self.seen = [SEEN[0], SEEN[0]]
        self.store = Store()
        self.asked: list[Asked] = []
        self.refused_until: datetime | None = None
        self.forced_at: datetime | None = None

    @rule(span=st.sampled_from([1, 5, 5, 30, 60, 240, 1440]))
    def time_goes_by(self, span: int) -> None:
        """A few minutes, or a day without any trigger."""
        self.now += timedelta(minutes=span)

    @rule(which=st.integers(0, 1))
    def a_certificate_is_renewed(self, which: int) -> None:
        """The next version; Key Vault never goes back to an earlier one."""
        self.versions[which] += 1
        self.seen[which] = SEEN[0]

    @rule(first=FAR_MORE_OFTEN_STALE, second=FAR_MORE_OFTEN_STALE)
    def the_world_looks_different(self, first: tuple[Status, Reason], second: tuple[Status, Reason]) -> None:
        """Another pair of verdicts."""
        self.seen = [first, second]

    @rule(
        mode=st.sampled_from([Mode.REPAIR, Mode.REPAIR, Mode.REPAIR, Mode.FORCE, Mode.OBSERVE]),
        outcome=st.sampled_from(ANSWERS),
        retry_after=RETRY_AFTER,
        dies=st.sampled_from(["no", "no", "no", "before asking", "before noting the answer"]),
    )
    def a_pass(self, mode: Mode, outcome: SyncOutcome, retry_after: timedelta | None, dies: str) -> None:
        """One worker goes the whole way, or is killed on it."""
        decision = self.decide(mode)
        self.act(decision, mode, outcome, retry_after, dies)

    @rule(
        outcome=st.sampled_from(ANSWERS), modes=st.tuples(*[st.sampled_from([Mode.REPAIR, Mode.FORCE])] * 2)
    )
    def two_rivals(self, outcome: SyncOutcome, modes: tuple[Mode, Mode]) -> None:
        """Two workers read the same row, then both want to act."""
        decisions = [self.decide(mode) for mode in modes]
        winners = [
            self.act(decision, mode, outcome, None, "no")
            for decision, mode in zip(decisions, modes, strict=True)
        ]
        wanting = [decision.claim for decision in decisions if decision.claim]
        assert winners.count(True) == min(1, len(wanting)), "one of those who want to act may"

    @rule()
    def what_is_seen_is_noted(self) -> None:
        """What a pass does that has not asked for a sync."""
        before = self.store.row
        run = Pass("a run", Trigger.TIMER, Mode.REPAIR, build.run().scope, self.now)
        after = note(before, self.verdicts(), run)
        if after.proven_at and not before.proven_at:
            assert {status for status, _ in self.seen} & {Status.IN_SYNC}
        self.store.write(after)
        self.check_counting(before, given_back=False)

    def verdicts(self) -> list[Verdict]:
        """What would be judged now."""
        found = []
        for binding, certificate, number, (status, reason) in zip(
            BINDINGS, CERTIFICATES, self.versions, self.seen, strict=True
        ):
            readable = reason is not Reason.VAULT_UNREADABLE
            newest = build.version(of=certificate, version=f"v{number}", age=timedelta(days=30 - number))
            lost = build.unreadable(UnreadableCause.UNREACHABLE, of=certificate)
            evidence = build.evidence(of=binding, at=GATEWAY, expected=newest if readable else lost)
            found.append(build.verdict(status, reason, of=evidence))
        return found

    def decide(self, mode: Mode) -> Decision:
        """A decision, held against what holds for every decision."""
        run = Pass("a run", Trigger.TIMER, mode, build.run().scope, self.now)
        decision = decide(GATEWAY, self.verdicts(), self.store.row, run)
        if decision.choice is Choice.SYNC:
            assert mode is not Mode.OBSERVE, "an observer never syncs"
            assert not self.refused_until or self.now >= self.refused_until, "a refusal is waited for"
            assert all(status is not Status.BLOCKED for status, _ in self.seen), "a veto holds"
            assert mode is Mode.FORCE or Status.STALE in {status for status, _ in self.seen}
        return decision

    def act(
        self, decision: Decision, mode: Mode, outcome: SyncOutcome, retry_after: timedelta | None, dies: str
    ) -> bool:
        """Claim, ask, note: in the order of the one path. Whether the claim was won."""
        before = self.store.row
        if decision.claim is None:
            return False
        stored = self.store.write(decision.claim)
        if stored is None:
            return False
        self.check_counting(before, given_back=False)
        asked = Asked(self.now, frozenset(stored.wanted.items()), mode is Mode.FORCE)
        self.asked.append(asked)
        self.refused_until = None
        if dies == "no":
            settled = settle(decision, stored, build.answer(outcome, retry_after), self.now)
            assert self.store.write(settled)
            self.check_counting(stored, given_back=outcome.refused)
            if outcome.refused:
                self.asked.remove(asked)
                self.refused_until = self.store.row.hold_until
                assert self.refused_until
                longest = timedelta(hours=24 if outcome is SyncOutcome.NOT_SUPPORTED else 1)
                assert self.now <= self.refused_until <= self.now + longest
        if mode is Mode.FORCE:
            assert self.forced_at is None or self.now - self.forced_at >= FORCE_GAP
            self.forced_at = self.now
        return True

    def check_counting(self, before: LedgerRow, *, given_back: bool) -> None:
        """Attempts for the same versions go down by a definite refusal only, and then by one."""
        if dict(before.wanted) == dict(self.store.row.wanted):
            assert self.store.row.attempts >= before.attempts - given_back

    @invariant()
    def at_most_five_in_a_day(self) -> None:
        """The promise of a small budget, for every version set, over any 24 hours."""
        since = self.now - timedelta(hours=24)
        recent = [a for a in self.asked if a.at > since and not a.forced]
        for wanted in {a.wanted for a in recent}:
            assert sum(a.wanted == wanted for a in recent) <= 5

    @invariant()
    def what_was_asked_for_is_remembered(self) -> None:
        """A certificate once asked for stays among the wanted: its attempts are not forgotten."""
        if self.asked:
            names = {name for name, _ in self.asked[-1].wanted}
            assert names <= set(self.store.row.wanted)


def test_the_budget_of_a_gateway_holds_whatever_happens() -> None:
    """Proves the bound of the ledger over thousands of made-up histories, each shrunk where it fails."""
    run_state_machine_as_test(TheLedger, settings=settings(max_examples=EXAMPLES, stateful_step_count=60))
