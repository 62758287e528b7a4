from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product

import pytest

from rotation.brakes import Brakes
from rotation.model import (
    Choice,
    Decision,
    Gateway,
    LedgerRow,
    Mode,
    Pause,
    Reason,
    Status,
    SyncAnswer,
    SyncOutcome,
    Trigger,
    UnreadableCause,
    Verdict,
)
from rotation.plan import attempt_gap, decide, settle
from tests.unit import build
from tests.unit.build import NOW, OLD, answer, evidence, minutes, row, run, served

HOURS = timedelta(hours=1)
UNTOUCHED = LedgerRow(build.GATEWAY_ID.lower(), etag=None)
OLD_IN_ARM = evidence(served(OLD), of=build.binding(configured=OLD))
STALE = build.verdict(Status.STALE, of=OLD_IN_ARM)
IN_SYNC = build.verdict(Status.IN_SYNC)
UNKNOWN = build.verdict(Status.UNKNOWN)
SYNCING = build.verdict(Status.SYNCING, of=OLD_IN_ARM)
PINNED = build.verdict(
    Status.BLOCKED, Reason.PINNED_VERSION, of=evidence(served(), of=build.binding(pinned="v1"))
)
FOREIGN = build.verdict(Status.BLOCKED, Reason.SERVED_BY_OTHER)
EXPIRED = build.verdict(Status.BLOCKED, Reason.VERSION_EXPIRED, of=OLD_IN_ARM)
DISTRUSTED = build.verdict(Status.IN_SYNC, Reason.FRONT_DISTRUSTS, of=OLD_IN_ARM)
UPLOADED = build.verdict(Status.UNMANAGED, of=evidence(served(), of=build.binding(of=None)))
OUT_OF_SCOPE = build.verdict(
    Status.UNKNOWN, Reason.OUT_OF_SCOPE, of=evidence(served(), of=build.binding(in_scope=False))
)
IDLE, BUSY = build.gateway(), build.gateway(state="Updating")
IN_FLIGHT = build.row_in_flight()
NOT_DUE = row(attempts=3, asked=-1 * HOURS, due=3 * HOURS)
DUE = row(attempts=3, asked=-4 * HOURS, due=timedelta(0))
REFUSED = row(attempts=0, due=minutes(4), outcome=SyncOutcome.BUSY)
REFUSED_BEFORE = row(attempts=0, due=minutes(0), outcome=SyncOutcome.BUSY)
PROVEN = row(asked=-9 * HOURS, due=-8 * HOURS, proven=-8 * HOURS)
JUST_FORCED = row(attempts=2, asked=minutes(-9), due=minutes(81), forced=minutes(-9))
FORCED_BEFORE = row(attempts=2, asked=minutes(-10), due=minutes(80), forced=minutes(-10))
DEVELOPER = build.gateway(tier="Developer")
OBSERVE, REPAIR, FORCE = Mode.OBSERVE, Mode.REPAIR, Mode.FORCE

CHOICES: dict[str, tuple[Gateway, Sequence[Verdict], LedgerRow | None, Mode, Choice]] = {
    "stale and never asked is synced": (IDLE, [STALE], UNTOUCHED, REPAIR, Choice.SYNC),
    "stale and due is synced": (IDLE, [STALE], DUE, REPAIR, Choice.SYNC),
    "stale after a proof is synced": (IDLE, [STALE], PROVEN, REPAIR, Choice.SYNC),
    "one stale hostname among others is enough": (
        IDLE,
        [IN_SYNC, PINNED, UNKNOWN, FOREIGN, UPLOADED, STALE],
        UNTOUCHED,
        REPAIR,
        Choice.SYNC,
    ),
    "a service whose last update failed takes a sync": (
        build.gateway(state="Failed"),
        [STALE],
        UNTOUCHED,
        REPAIR,
        Choice.SYNC,
    ),
    "no verdict is nothing stale": (IDLE, [], UNTOUCHED, REPAIR, Choice.NOTHING_STALE),
    "in sync is nothing stale": (IDLE, [IN_SYNC], UNTOUCHED, REPAIR, Choice.NOTHING_STALE),
    "syncing is nothing stale": (IDLE, [SYNCING], UNTOUCHED, REPAIR, Choice.NOTHING_STALE),
    "unknown is nothing stale": (IDLE, [UNKNOWN], UNTOUCHED, REPAIR, Choice.NOTHING_STALE),
    "blocked is nothing stale": (IDLE, [EXPIRED], UNTOUCHED, REPAIR, Choice.NOTHING_STALE),
    "what is known from a list only is read first": (
        build.gateway(listed=True),
        [STALE],
        UNTOUCHED,
        REPAIR,
        Choice.NOT_READ,
    ),
    "unmanaged is nothing stale": (IDLE, [UPLOADED], UNTOUCHED, REPAIR, Choice.NOTHING_STALE),
    "a busy service is left alone": (BUSY, [STALE], UNTOUCHED, REPAIR, Choice.BUSY),
    "a state that we do not know is busy": (
        build.gateway(state="Terminating"),
        [STALE],
        UNTOUCHED,
        REPAIR,
        Choice.BUSY,
    ),
    "a hostname that a sync would break holds the others": (
        IDLE,
        [STALE, EXPIRED],
        UNTOUCHED,
        REPAIR,
        Choice.VETOED,
    ),
    "an observer says that it only observes": (IDLE, [STALE], UNTOUCHED, OBSERVE, Choice.OBSERVE_ONLY),
    "an observer says so even where a sync is due": (IDLE, [STALE], DUE, OBSERVE, Choice.OBSERVE_ONLY),
    "an observer needs no ledger to say so": (IDLE, [STALE], None, OBSERVE, Choice.OBSERVE_ONLY),
    "without a ledger nothing is synced": (IDLE, [STALE], None, REPAIR, Choice.LEDGER_UNAVAILABLE),
    "without a ledger nothing is forced": (IDLE, [IN_SYNC], None, FORCE, Choice.LEDGER_UNAVAILABLE),
    "a sync in flight is waited for": (IDLE, [STALE], IN_FLIGHT, REPAIR, Choice.IN_FLIGHT),
    "the next attempt is waited for": (IDLE, [STALE], NOT_DUE, REPAIR, Choice.NOT_DUE),
    "a refusal is waited for": (IDLE, [STALE], REFUSED, REPAIR, Choice.NOT_DUE),
    "after a refusal's wait there is a sync": (IDLE, [STALE], REFUSED_BEFORE, REPAIR, Choice.SYNC),
    "a front that distrusts what is served holds no other hostname": (
        IDLE,
        [STALE, DISTRUSTED],
        UNTOUCHED,
        REPAIR,
        Choice.SYNC,
    ),
    "in sync is forced": (IDLE, [IN_SYNC], UNTOUCHED, FORCE, Choice.SYNC),
    "unknown is forced": (IDLE, [UNKNOWN], UNTOUCHED, FORCE, Choice.SYNC),
    "stale is forced": (IDLE, [STALE], UNTOUCHED, FORCE, Choice.SYNC),
    "a sync in flight is forced over": (IDLE, [SYNCING], IN_FLIGHT, FORCE, Choice.SYNC),
    "what is not due is forced": (IDLE, [STALE], NOT_DUE, FORCE, Choice.SYNC),
    "within ten minutes it is not forced again": (IDLE, [IN_SYNC], JUST_FORCED, FORCE, Choice.FORCE_LIMITED),
    "stale is not forced again within ten minutes": (IDLE, [STALE], JUST_FORCED, FORCE, Choice.FORCE_LIMITED),
    "after ten minutes it is forced again": (IDLE, [IN_SYNC], FORCED_BEFORE, FORCE, Choice.SYNC),
    "a busy service is not forced": (BUSY, [IN_SYNC], UNTOUCHED, FORCE, Choice.BUSY),
    "a pinned hostname alone is not forced": (IDLE, [PINNED], UNTOUCHED, FORCE, Choice.NOTHING_STALE),
    "a foreign answer alone is not forced": (IDLE, [FOREIGN], UNTOUCHED, FORCE, Choice.NOTHING_STALE),
    "an expired version alone is not forced": (IDLE, [EXPIRED], UNTOUCHED, FORCE, Choice.NOTHING_STALE),
    "an uploaded certificate is not forced": (IDLE, [UPLOADED], UNTOUCHED, FORCE, Choice.NOTHING_STALE),
    "what is out of scope is not forced": (IDLE, [OUT_OF_SCOPE], UNTOUCHED, FORCE, Choice.NOTHING_STALE),
    "no verdict is not forced": (IDLE, [], UNTOUCHED, FORCE, Choice.NOTHING_STALE),
    "a veto holds against force": (IDLE, [IN_SYNC, EXPIRED], UNTOUCHED, FORCE, Choice.VETOED),
    "a tag holds it": (build.gateway(paused=True), [STALE], UNTOUCHED, REPAIR, Choice.PAUSED),
    "a tag holds against force": (build.gateway(paused=True), [STALE], UNTOUCHED, FORCE, Choice.PAUSED),
    "the Developer tier needs a window": (DEVELOPER, [STALE], UNTOUCHED, REPAIR, Choice.NEEDS_WINDOW),
    "the Developer tier is forced": (DEVELOPER, [STALE], UNTOUCHED, FORCE, Choice.SYNC),
    "a refusal's wait holds against force": (IDLE, [IN_SYNC], REFUSED, FORCE, Choice.NOT_DUE),
}


@pytest.mark.parametrize(("gateway", "verdicts", "ledger", "mode", "expected"), CHOICES.values(), ids=CHOICES)
def test_a_gateway_is_synced_or_it_is_said_why_not(
    gateway: Gateway, verdicts: Sequence[Verdict], ledger: LedgerRow | None, mode: Mode, expected: Choice
) -> None:
    """Proves what is chosen, and that there is a claim if and only if there is to be a sync."""
    decision = decide(gateway, verdicts, ledger, run(mode))
    actual = decision.choice

    assert expected == actual
    assert (decision.claim is not None) == (expected is Choice.SYNC)
    assert decision.message.startswith("apim-contoso")


def test_every_choice_of_the_plan_is_in_the_table() -> None:
    """Proves that the table is whole; the rest is known only of the fleet, or on writing."""
    fleet = {Choice.WAITS_FOR_RING, Choice.CAPPED, Choice.BREAKER_OPEN}
    expected = set(Choice) - fleet - {Choice.CLAIMED_ELSEWHERE, Choice.OUT_OF_TIME}
    actual = {case[-1] for case in CHOICES.values()}

    assert expected == actual


def observed(gateway: Gateway, reason: Reason) -> Decision:
    """What is decided of a stale hostname beside one with a reason that is blocked."""
    beside = evidence(served(OLD), of=build.binding("www.contoso.com", configured=OLD))
    return decide(gateway, [STALE, build.verdict(Status.BLOCKED, reason, of=beside)], UNTOUCHED, run())


BREAKING = {
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


@pytest.mark.parametrize("reason", sorted(BREAKING), ids=str)
def test_a_veto_names_the_hostname_that_holds_the_gateway(reason: Reason) -> None:
    """Proves that it is said which hostname must be mended first."""
    actual = observed(IDLE, reason)

    assert actual.choice is Choice.VETOED
    assert "apim-contoso www.contoso.com: as the test says." in actual.message


@pytest.mark.parametrize("reason", [Reason.PINNED_VERSION, Reason.SERVED_BY_OTHER], ids=["pinned", "foreign"])
def test_a_hostname_that_a_sync_cannot_change_holds_nobody(reason: Reason) -> None:
    """Proves that one hostname's own trouble does not keep the others old."""
    expected = Choice.SYNC
    actual = observed(IDLE, reason).choice

    assert expected == actual


@pytest.mark.parametrize("reason", [Reason.VERSION_EXPIRED, Reason.NAME_NOT_COVERED], ids=str)
def test_a_version_that_the_gateway_has_already_is_no_veto(reason: Reason) -> None:
    """Proves that nothing is held back for a harm that is done."""
    expected = Choice.SYNC
    taken = build.verdict(
        Status.BLOCKED, reason, of=evidence(served(), of=build.binding(configured=build.NEW))
    )
    actual = decide(IDLE, [STALE, taken], UNTOUCHED, run()).choice

    assert expected == actual


WITHOUT_VERSION = {
    UnreadableCause.DELETED: Reason.CERTIFICATE_DELETED,
    UnreadableCause.NOT_FOUND: Reason.CERTIFICATE_NOT_FOUND,
    UnreadableCause.DISABLED: Reason.VERSION_DISABLED,
}


@pytest.mark.parametrize("cause", WITHOUT_VERSION, ids=str)
def test_a_version_that_cannot_be_read_is_a_veto_whatever_is_configured(cause: UnreadableCause) -> None:
    """Proves that a thumbprint in ARM is no excuse where there is none to compare it with."""
    reason = WITHOUT_VERSION[cause]
    expected = Choice.VETOED
    lost = build.verdict(Status.BLOCKED, reason, of=evidence(served(), expected=build.unreadable(cause)))
    actual = decide(IDLE, [STALE, lost], UNTOUCHED, run()).choice

    assert expected == actual


def claimed(ledger: LedgerRow, now: datetime, mode: Mode = Mode.REPAIR, verdict: Verdict = STALE) -> Decision:
    """The decision for a sync, stored."""
    decision = decide(IDLE, [verdict], ledger, run(mode, now=now))
    assert decision.claim, decision.message
    return decision


def attempts(hours: float) -> list[float]:
    """The hours after the first at which a gateway that stays stale is asked: looked at every 5 minutes."""
    asked, ledger = [], UNTOUCHED
    for step in range(int(hours * 12) + 1):
        now = NOW + step * minutes(5)
        decision = decide(IDLE, [STALE], ledger, run(now=now))
        if decision.claim:
            asked.append((now - NOW) / HOURS)
            ledger = settle(decision, decision.claim, answer(), now)
    return asked


def test_attempts_follow_at_growing_distances_and_then_daily() -> None:
    """Proves the promise of a small budget: at once, +30 min, +2 h, +6 h, +12 h, then every day."""
    expected = [0, 0.5, 2, 6, 12, 36, 60, 84]
    actual = attempts(hours=4 * 24)

    assert expected == actual


def test_the_gaps_between_attempts_are_exact() -> None:
    """Proves what every five minutes cannot tell."""
    expected = [minutes(30), minutes(90), 4 * HOURS, 6 * HOURS, 24 * HOURS, 24 * HOURS]
    actual = [attempt_gap(number) for number in range(1, 7)]

    assert expected == actual


def test_a_claim_says_what_is_asked_for_before_it_is_asked() -> None:
    """Proves what a worker that dies at once leaves behind."""
    expected = LedgerRow(
        gateway_key=build.GATEWAY_ID.lower(),
        wanted=build.wanting({str(build.CERTIFICATE): "v2"}),
        attempts=1,
        asked_at=NOW,
        next_at=NOW + minutes(30),
        awaited_until=NOW + minutes(45),
        outcome=SyncOutcome.ASKED,
        claim_id=run().run_id,
    )
    actual = claimed(UNTOUCHED, NOW).claim

    assert expected == actual


def test_a_sync_after_the_proof_is_counted_on_and_begins_no_rotation() -> None:
    """Proves that a gateway that has gone back to an old version is not measured from its creation."""
    expected = (2, PROVEN.proven_at, "7")
    claim = claimed(PROVEN, NOW).claim
    actual = claim and (claim.attempts, claim.proven_at, claim.etag)

    assert expected == actual


REFUSALS = [outcome for outcome in SyncOutcome if outcome.refused]
STARTED = [SyncOutcome.ACCEPTED, SyncOutcome.UNKNOWN]


def test_refusals_are_the_answers_that_are_certain() -> None:
    """Proves that a timeout or an unreadable answer is never taken for a refusal."""
    expected = {"busy", "throttled", "forbidden", "not found", "not supported"}
    actual = set(map(str, REFUSALS))

    assert expected == actual


@pytest.mark.parametrize("outcome", REFUSALS, ids=str)
def test_a_refusal_gives_the_attempt_back_and_waits(outcome: SyncOutcome) -> None:
    """Proves that what was not started is not counted, and not hammered: what is not offered, daily."""
    decision = claimed(DUE, NOW)
    assert decision.claim
    wait = timedelta(days=1) if outcome is SyncOutcome.NOT_SUPPORTED else minutes(5)
    expected = replace(DUE, next_at=NOW + wait, hold_until=NOW + wait, outcome=outcome, etag="8")
    actual = settle(decision, replace(decision.claim, etag="8"), answer(outcome), NOW)

    assert expected == actual


@pytest.mark.parametrize("outcome", REFUSALS, ids=str)
def test_a_force_that_is_refused_does_not_end_the_wait_for_the_sync_before(outcome: SyncOutcome) -> None:
    """Proves that there are never two syncs for the same versions in flight."""
    decision = claimed(IN_FLIGHT, NOW, mode=Mode.FORCE)
    assert decision.claim
    assert IN_FLIGHT.next_at
    after = settle(decision, decision.claim, answer(outcome, minutes(1)), NOW)

    assert after.next_at
    assert IN_FLIGHT.next_at <= after.next_at


@pytest.mark.parametrize("outcome", STARTED, ids=str)
def test_an_attempt_that_may_have_started_counts(outcome: SyncOutcome) -> None:
    """Proves that an unknown outcome costs an attempt, as an accepted one does."""
    decision = claimed(DUE, NOW)
    assert decision.claim
    said = answer(outcome)
    expected = replace(decision.claim, outcome=outcome, operation_url=said.operation_url)
    actual = settle(decision, decision.claim, said, NOW)

    assert expected == actual


WAITS = {
    "nothing said is five minutes": (None, minutes(5)),
    "zero is not at once": (timedelta(0), minutes(5)),
    "a minute is a minute": (minutes(1), minutes(1)),
    "an hour is an hour": (minutes(60), minutes(60)),
    "more than an hour is an hour": (minutes(61), minutes(60)),
    "years are an hour": (timedelta(days=36500), minutes(60)),
}


@pytest.mark.parametrize(("retry_after", "expected"), WAITS.values(), ids=WAITS)
def test_a_refusal_waits_as_asked_but_an_hour_at_most(
    retry_after: timedelta | None, expected: timedelta
) -> None:
    """Proves that an answer can slow us down, but not stop us."""
    decision = claimed(UNTOUCHED, NOW)
    assert decision.claim
    after = settle(decision, decision.claim, answer(SyncOutcome.THROTTLED, retry_after), NOW)
    actual = after.next_at and after.next_at - NOW

    assert expected == actual


@pytest.mark.parametrize("seconds", [-1, -86400], ids=["a second ago", "a day ago"])
def test_a_wait_that_is_over_before_it_begins_is_not_in_the_past(seconds: int) -> None:
    """Proves that a date in the past is no time before now."""
    decision = claimed(UNTOUCHED, NOW)
    assert decision.claim
    after = settle(decision, decision.claim, answer(SyncOutcome.THROTTLED, timedelta(seconds=seconds)), NOW)

    assert after.next_at
    assert NOW <= after.next_at <= NOW + minutes(60)


def stale_for(version: str) -> Verdict:
    """The same hostname, stale for another version."""
    newer = build.version(version=version, age=minutes(5))
    return build.verdict(
        Status.STALE, of=evidence(served(OLD), of=build.binding(configured=OLD), expected=newer)
    )


@pytest.mark.parametrize("ledger", [IN_FLIGHT, NOT_DUE, PROVEN], ids=["in flight", "not due", "proven"])
def test_a_new_version_starts_afresh_and_at_once(ledger: LedgerRow) -> None:
    """Proves that yesterday's attempts do not delay today's rotation."""
    wanted = build.wanting({str(build.CERTIFICATE): "v3"}, -minutes(5))
    expected = (1, wanted, NOW + minutes(30))
    claim = claimed(ledger, NOW, verdict=stale_for("v3")).claim
    actual = claim and (claim.attempts, claim.wanted, claim.next_at)

    assert expected == actual


def test_a_new_version_waits_for_a_refusal_of_the_one_before() -> None:
    """Proves that a service that said to wait is not asked sooner because of a renewal."""
    expected = [Choice.NOT_DUE, Choice.SYNC]
    actual = [
        decide(IDLE, [stale_for("v3")], REFUSED, run(now=NOW + minutes(after))).choice for after in (3.9, 4)
    ]

    assert expected == actual


@pytest.mark.parametrize("trigger", Trigger)
def test_an_event_is_no_reason_to_ask_again(trigger: Trigger) -> None:
    """Proves that a hundred events about a version that was asked for are no hundred syncs."""
    held = {decide(IDLE, [STALE], ledger, run(trigger=trigger)).choice for ledger in (IN_FLIGHT, NOT_DUE)}

    assert {Choice.IN_FLIGHT, Choice.NOT_DUE} == held


def test_a_new_version_does_not_refill_the_limit_of_force() -> None:
    """Proves that a renewal between two forces leaves them ten minutes apart."""
    expected = JUST_FORCED.forced_at
    claim = claimed(JUST_FORCED, NOW, verdict=stale_for("v3")).claim
    actual = claim and claim.forced_at

    assert expected == actual


def test_another_certificate_that_cannot_be_read_keeps_its_place_among_the_wanted() -> None:
    """Proves that a vault that comes and goes does not refill the budget of a gateway."""
    www = build.certificate("www-contoso-com")
    both = row(
        wanted={str(build.CERTIFICATE): "v2", str(www): "v5"}, attempts=3, asked=-1 * HOURS, due=3 * HOURS
    )
    lost = build.verdict(
        Status.UNKNOWN,
        Reason.VAULT_UNREADABLE,
        of=evidence(served(), of=build.binding("www.contoso.com", of=www), expected=build.unreadable(of=www)),
    )
    expected = Choice.NOT_DUE
    actual = decide(IDLE, [STALE, lost], both, run()).choice

    assert expected == actual


def test_force_is_counted_and_noted() -> None:
    """Proves that a forced sync takes from the same budget, and limits the next one."""
    expected = (4, NOW, NOW + 6 * HOURS)
    claim = claimed(NOT_DUE, NOW, Mode.FORCE).claim
    actual = claim and (claim.attempts, claim.forced_at, claim.next_at)

    assert expected == actual


@pytest.mark.parametrize("outcome", REFUSALS, ids=str)
def test_a_refused_force_is_still_limited(outcome: SyncOutcome) -> None:
    """Proves that a refusal does not give the force back with the attempt."""
    decision = claimed(UNTOUCHED, NOW, Mode.FORCE, IN_SYNC)
    assert decision.claim
    after = settle(decision, decision.claim, answer(outcome), NOW)
    expected = (NOW, 0, Choice.FORCE_LIMITED)
    actual = (
        after.forced_at,
        after.attempts,
        decide(IDLE, [IN_SYNC], after, run(Mode.FORCE, now=NOW + minutes(9))).choice,
    )

    assert expected == actual


def test_an_unforced_sync_does_not_limit_force() -> None:
    """Proves that a hand may follow a timer at once."""
    expected = None
    claim = claimed(UNTOUCHED, NOW).claim
    actual = claim and claim.forced_at

    assert expected == actual


def test_a_message_says_which_hostnames_and_when_next() -> None:
    """Proves that why nothing happens can be read."""
    expected = (
        "apim-contoso (api.contoso.com): 3 sync(s) asked for, the last answer was accepted;"
        " the next is due 2026-03-02 13:00 UTC."
    )
    actual = decide(IDLE, [STALE], NOT_DUE, run()).message

    assert expected == actual


def test_an_older_answer_of_key_vault_does_not_start_afresh() -> None:
    """Proves that two answers which take turns are not a sync at every pass."""
    older = build.version(version="v1", age=2 * HOURS)
    verdict = build.verdict(of=evidence(served(OLD), expected=older))

    assert Choice.IN_FLIGHT is decide(IDLE, [verdict], IN_FLIGHT, run()).choice


def test_a_version_that_is_enabled_again_starts_afresh() -> None:
    """Proves that what a person has just mended does not wait for yesterday's schedule."""
    again = build.version(updated=NOW - minutes(1))
    decision = decide(IDLE, [build.verdict(of=evidence(served(OLD), expected=again))], NOT_DUE, run())

    assert (Choice.SYNC, 1) == (decision.choice, decision.claim and decision.claim.attempts)


def test_a_wanted_version_of_the_far_future_is_not_believed() -> None:
    """Proves that a hostile row cannot keep a renewal from starting afresh."""
    far = replace(NOT_DUE, wanted=build.wanting({str(build.CERTIFICATE): "v1"}, timedelta(days=365)))

    assert Choice.SYNC is decide(IDLE, [STALE], far, run()).choice


def test_force_asks_for_what_key_vault_shows_now() -> None:
    """Proves that a certificate restored from a backup can be made the wanted one by hand."""
    restored = build.version(version="v1", age=2 * HOURS)
    verdict = build.verdict(of=evidence(served(OLD), expected=restored))
    claim = decide(IDLE, [verdict], NOT_DUE, run(FORCE)).claim

    assert build.wanting({str(build.CERTIFICATE): "v1"}, -2 * HOURS) == (claim and claim.wanted)


@pytest.mark.parametrize("mode", [REPAIR, FORCE])
def test_the_kill_switch_holds_every_sync(mode: Mode) -> None:
    """Proves that not even force goes past it, and that the message says why and what to do."""
    pause = Pause(NOW - HOURS, "change freeze")
    decision = decide(IDLE, [STALE], UNTOUCHED, run(mode), Brakes(pause=pause))

    assert Choice.PAUSED is decision.choice
    assert "paused since 2026-03-02 09:00 UTC (change freeze)" in decision.message
    assert "POST /api/resume" in decision.message


def test_the_plan_leaves_what_it_is_given_as_it_was() -> None:
    """Proves that the row that was read is not written into."""
    before = replace(DUE, wanted=dict(DUE.wanted))
    decide(IDLE, [stale_for("v3")], DUE, run())

    assert before == DUE


def test_a_row_that_waits_longer_than_we_ever_would_is_not_believed() -> None:
    """Proves that a hostile row, or a clock that was wrong, cannot hold a gateway for ever."""
    year = row(attempts=3, asked=-4 * HOURS, due=timedelta(days=365))
    day = row(attempts=3, asked=-4 * HOURS, due=timedelta(days=1))

    assert [Choice.SYNC, Choice.NOT_DUE] == [
        decide(IDLE, [STALE], r, run(REPAIR)).choice for r in (year, day)
    ]


STOPPED = Brakes(pause=Pause(NOW - HOURS, "change freeze"))
UNCLEAR = replace(IN_FLIGHT, outcome=SyncOutcome.UNKNOWN, hold_until=NOW + minutes(5))
BESIDE = build.verdict(
    Status.BLOCKED,
    Reason.VERSION_EXPIRED,
    of=evidence(served(OLD), of=build.binding("www.contoso.com", configured=OLD)),
)
ALWAYS_OPEN = Brakes(developer_minutes=(0, 1440))
HOLD_FIRST: dict[str, tuple[Gateway, Sequence[Verdict], LedgerRow | None, Mode, Brakes, str]] = {
    "what is known from a list only before what that list says": (
        replace(BUSY, listed=True),
        [STALE],
        UNTOUCHED,
        REPAIR,
        STOPPED,
        "known from a list only",
    ),
    "a busy service before a veto": (BUSY, [STALE, BESIDE], UNTOUCHED, REPAIR, STOPPED, "is Updating"),
    "a veto before the kill switch": (IDLE, [STALE, BESIDE], UNTOUCHED, REPAIR, STOPPED, "every hostname"),
    "the kill switch before a tag": (
        build.gateway(paused=True),
        [STALE],
        UNTOUCHED,
        REPAIR,
        STOPPED,
        "POST /api/resume",
    ),
    "a tag before a pass that only observes": (
        build.gateway(paused=True),
        [STALE],
        UNTOUCHED,
        OBSERVE,
        Brakes(),
        "rotation-pause",
    ),
    "a ledger that is away before a window": (DEVELOPER, [STALE], None, REPAIR, Brakes(), "ROTATION_LEDGER"),
    "a wait that was asked for before a sync in flight": (
        IDLE,
        [STALE],
        UNCLEAR,
        REPAIR,
        Brakes(),
        "was unknown; not before 2026-03-02 10:05 UTC.",
    ),
    "a limit of force says when it is over": (
        IDLE,
        [STALE],
        JUST_FORCED,
        FORCE,
        Brakes(),
        "forced 09:51 UTC already; possible again 10:01 UTC.",
    ),
}


@pytest.mark.parametrize(
    ("gateway", "verdicts", "ledger", "mode", "brakes", "expected"), HOLD_FIRST.values(), ids=HOLD_FIRST
)
def test_of_many_reasons_to_wait_the_first_is_said(
    gateway: Gateway,
    verdicts: Sequence[Verdict],
    ledger: LedgerRow | None,
    mode: Mode,
    brakes: Brakes,
    expected: str,
) -> None:
    """Proves the order of the holds: what a person must mend first is said first."""
    decision = decide(gateway, verdicts, ledger, run(mode), brakes)

    assert decision.choice is not Choice.SYNC
    assert expected in decision.message


def test_a_block_that_a_person_goes_past_holds_no_other_hostname() -> None:
    """Proves that an override is for the whole gateway, as the sync is."""
    overriding = replace(run(), overrides=frozenset({Reason.VERSION_EXPIRED}))

    assert Choice.SYNC is decide(IDLE, [STALE, BESIDE], UNTOUCHED, overriding).choice


def test_the_developer_tier_is_synced_in_its_window() -> None:
    """Proves that consent by a setting is enough."""
    assert Choice.SYNC is decide(DEVELOPER, [STALE], UNTOUCHED, run(), ALWAYS_OPEN).choice


def test_an_attempt_without_a_next_time_is_due() -> None:
    """Proves that a row that lacks its schedule holds nobody."""
    assert Choice.SYNC is decide(IDLE, [STALE], row(asked=-1 * HOURS), run()).choice


def test_a_new_version_leaves_nothing_of_the_attempts_before() -> None:
    """Proves what a claim for a new version is, and what a refusal goes back to."""
    before = replace(
        JUST_FORCED,
        outcome=SyncOutcome.UNKNOWN,
        operation_url="https://management.azure.com/operations/1",
        hold_until=NOW - minutes(1),
        proven_at=NOW - HOURS,
    )
    decision = claimed(before, NOW, verdict=stale_for("v3"))
    fresh = LedgerRow(
        gateway_key=build.GATEWAY_ID.lower(),
        wanted=build.wanting({str(build.CERTIFICATE): "v3"}, -minutes(5)),
        claim_id=before.claim_id,
        forced_at=before.forced_at,
        etag="7",
    )

    assert fresh == decision.unclaimed
    assert decision.claim
    assert decision.claim == replace(
        fresh,
        attempts=1,
        asked_at=NOW,
        next_at=NOW + minutes(30),
        awaited_until=NOW + minutes(45),
        outcome=SyncOutcome.ASKED,
        claim_id=run().run_id,
    )


def test_the_operation_of_the_attempt_before_is_forgotten() -> None:
    """Proves that its failure is not taken for that of the new one."""
    decision = claimed(replace(DUE, operation_url="https://management.azure.com/operations/1"), NOW)

    assert None is (decision.claim and decision.claim.operation_url)


PROVEN_BY_FORCE = {
    "what is in sync begins no rotation": (UNTOUCHED, IN_SYNC, NOW),
    "what is stale begins one": (UNTOUCHED, STALE, None),
    "what was proven before stays so": (PROVEN, IN_SYNC, PROVEN.proven_at),
}


@pytest.mark.parametrize(("ledger", "verdict", "expected"), PROVEN_BY_FORCE.values(), ids=PROVEN_BY_FORCE)
def test_after_force(ledger: LedgerRow, verdict: Verdict, expected: datetime | None) -> None:
    """Proves whether there is a rotation to be proven."""
    claim = claimed(ledger, NOW, FORCE, verdict).claim

    assert expected == (claim and claim.proven_at)


LONGEST = timedelta(hours=25)
A_SECOND = timedelta(seconds=1)
BELIEVED = {
    "a next attempt in a day and an hour": (row(asked=-4 * HOURS, due=LONGEST), Choice.NOT_DUE),
    "but no later one": (row(asked=-4 * HOURS, due=LONGEST + A_SECOND), Choice.SYNC),
    "a refusal of a day and an hour": (row(due=LONGEST, outcome=SyncOutcome.BUSY), Choice.NOT_DUE),
    "but no longer one": (row(due=LONGEST + A_SECOND, outcome=SyncOutcome.BUSY), Choice.SYNC),
    "a wait of a day and an hour": (replace(UNTOUCHED, hold_until=NOW + LONGEST), Choice.NOT_DUE),
    "but no longer wait": (replace(UNTOUCHED, hold_until=NOW + LONGEST + A_SECOND), Choice.SYNC),
    "a wanted version of a day and an hour from now": (
        replace(NOT_DUE, wanted=build.wanting({str(build.CERTIFICATE): "v1"}, LONGEST)),
        Choice.NOT_DUE,
    ),
    "but no later wanted version": (
        replace(NOT_DUE, wanted=build.wanting({str(build.CERTIFICATE): "v1"}, LONGEST + A_SECOND)),
        Choice.SYNC,
    ),
}


@pytest.mark.parametrize(("ledger", "expected"), BELIEVED.values(), ids=BELIEVED)
def test_of_a_row_is_believed(ledger: LedgerRow, expected: Choice) -> None:
    """Proves how far ahead of us a row may be, with an hour for clocks that differ."""
    actual = decide(IDLE, [STALE], ledger, run()).choice

    assert expected == actual


@pytest.mark.parametrize("reason", sorted(Reason), ids=str)
def test_a_person_can_go_past_the_blocks_of_a_sync_that_would_succeed(reason: Reason) -> None:
    """Proves what an override reaches: no deleted or disabled version, and nothing that no sync changes."""
    past = {"VersionExpired", "VersionNotYetValid", "VersionUnusable", "NameNotCovered", "NamesLost"}
    expected = Choice.SYNC if reason in past | {"IssuerChanged", "FrontDistrusts"} else Choice.NOTHING_STALE
    blocked = build.verdict(Status.BLOCKED, reason, of=OLD_IN_ARM)
    overriding = replace(run(), overrides=frozenset({reason}))
    decision = decide(IDLE, [blocked], UNTOUCHED, overriding)

    assert expected == decision.choice
    assert Choice.NOTHING_STALE == decide(IDLE, [blocked], UNTOUCHED, run()).choice


def test_one_renewed_certificate_of_two_starts_afresh() -> None:
    """Proves that a gateway with many certificates does not wait until all of them are renewed."""
    www = build.certificate("www-contoso-com")
    both = row(
        wanted={str(build.CERTIFICATE): "v1", str(www): "v2"},
        attempts=3,
        asked=-1 * HOURS,
        due=3 * HOURS,
        since=-2 * HOURS,
    )
    as_before = build.verdict(
        Status.IN_SYNC,
        of=evidence(
            served(),
            of=build.binding("www.contoso.com", of=www),
            expected=build.version(of=www, age=2 * HOURS),
        ),
    )
    decision = decide(IDLE, [STALE, as_before], both, run())

    assert (Choice.SYNC, 1) == (decision.choice, decision.claim and decision.claim.attempts)


def test_a_wait_asked_for_without_a_clear_answer_is_kept_by_a_new_version_and_by_force() -> None:
    """Proves that a 503 with Retry-After counts as an attempt and is waited for all the same."""
    decision = claimed(DUE, NOW)
    assert decision.claim
    said = SyncAnswer(SyncOutcome.UNKNOWN, "HTTP 503", retry_after=minutes(20))
    settled = settle(decision, decision.claim, said, NOW)
    newer = stale_for("v3")

    assert (decision.claim.attempts, NOW + minutes(20)) == (settled.attempts, settled.hold_until)
    for mode, later in product((REPAIR, FORCE), (19, 21)):
        expected = Choice.NOT_DUE if later == 19 else Choice.SYNC
        assert expected == decide(IDLE, [newer], settled, run(mode, now=NOW + minutes(later))).choice
