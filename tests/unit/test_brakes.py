"""What holds syncs back beyond one gateway: rings, the cap, the breaker, the Developer tier's window."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from rotation.brakes import Brakes, admit, answered, first_end, hold_back, open_until, subscription_row
from rotation.inventory import comes_before, select
from rotation.model import (
    Asked,
    Binding,
    Choice,
    Decision,
    Gateway,
    LedgerRow,
    Mode,
    Scope,
    Status,
    SyncOutcome,
    Verdict,
)
from rotation.plan import decide
from tests.unit import build
from tests.unit.build import NOW, OLD, minutes

SECOND = "/subscriptions/22222222-2222-3333-4444-555555555555/resourceGroups/rg/providers/x/service"
ROW = LedgerRow("/subscriptions/22222222-2222-3333-4444-555555555555")


def gateway(number: int, *, ring: int = 0, certificate: str = "shared", root: str = SECOND) -> Gateway:
    """One of many gateways, with one hostname."""
    binding = build.binding(f"api{number}.contoso.com", of=build.certificate(certificate), configured=OLD)
    return build.gateway(binding, name=f"apim-{number}", resource_id=f"{root}/apim-{number}", ring=ring)


def verdict(of: Gateway, status: Status = Status.STALE, ends: timedelta = timedelta(days=60)) -> Verdict:
    """A verdict of a gateway's hostname, whose served leaf ends so long from now."""
    seen = build.served(OLD, not_after=NOW + ends)
    return build.verdict(status, of=build.evidence(seen, of=of.bindings[0], at=of))


def held(
    verdicts: Sequence[Verdict],
    rows: Mapping[str, LedgerRow] | None = None,
    brakes: Brakes | None = None,
    mode: Mode = Mode.REPAIR,
) -> dict[str, Choice]:
    """What becomes of each gateway, by name."""
    run = build.run(mode)
    of_gateway: dict[str, list[Verdict]] = {}
    for each in verdicts:
        of_gateway.setdefault(each.evidence.gateway.key, []).append(each)
    gateways = {each.evidence.gateway.key: each.evidence.gateway for each in verdicts}
    fresh = {key: LedgerRow(key) for key in of_gateway}
    decided = [
        decide(gateways[key], of_gateway[key], fresh[key], run, brakes or Brakes()) for key in of_gateway
    ]
    found: list[Decision] = hold_back(decided, of_gateway, {**fresh, **(rows or {})}, run, brakes or Brakes())
    return {decision.gateway.name: decision.choice for decision in found}


def asked(number: int, ago: timedelta, outcome: SyncOutcome = SyncOutcome.ACCEPTED) -> dict[str, LedgerRow]:
    """The row of another gateway of the same subscription, asked for so long ago."""
    key = f"{SECOND}/other-{number}".lower()
    return {key: replace(LedgerRow(key), attempts=1, asked_at=NOW - ago, outcome=outcome)}


def test_no_more_syncs_than_the_cap_are_asked_for_in_a_window_and_the_first_to_end_go_first() -> None:
    """Proves that a wildcard on many services is no storm, and that the urgent ones are not last."""
    verdicts = [verdict(gateway(n), ends=timedelta(days=100 - n)) for n in range(30)]
    expected = {f"apim-{n}": Choice.SYNC if n >= 10 else Choice.CAPPED for n in range(30)}

    assert expected == held(verdicts)


@pytest.mark.parametrize(
    ("ago", "free"),
    [pytest.param(minutes(4), 17, id="lately"), pytest.param(minutes(5), 20, id="in the window before")],
)
def test_syncs_of_earlier_passes_count_against_the_cap(ago: timedelta, free: int) -> None:
    """Proves that the cap is of a window of time and not of a pass."""
    rows = asked(1, ago) | asked(2, ago) | asked(3, ago)

    choices = list(held([verdict(gateway(n)) for n in range(30)], rows).values())

    assert free == choices.count(Choice.SYNC)


def test_the_cap_is_per_subscription() -> None:
    """Proves that one busy subscription does not hold another one up."""
    here = [verdict(gateway(n)) for n in range(3)]
    there = [verdict(gateway(n + 10, root=SECOND.replace("2222-3333", "9999-3333"))) for n in range(3)]

    choices = list(held([*here, *there], brakes=Brakes(most_syncs=2)).values())

    assert (4, 2) == (choices.count(Choice.SYNC), choices.count(Choice.CAPPED))


BREAKER: dict[str, tuple[list[tuple[float, SyncOutcome]], bool]] = {
    "five without an answer open it": ([(n, SyncOutcome.UNKNOWN) for n in range(1, 6)], True),
    "four do not": ([(n, SyncOutcome.UNKNOWN) for n in range(1, 5)], False),
    "one answer among the last five closes it": (
        [
            (1, SyncOutcome.UNKNOWN),
            (2, SyncOutcome.ACCEPTED),
            *[(n, SyncOutcome.UNKNOWN) for n in range(3, 9)],
        ],
        False,
    ),
    "an answer before the last five does not": (
        [*[(n, SyncOutcome.UNKNOWN) for n in range(1, 6)], (9, SyncOutcome.ACCEPTED)],
        True,
    ),
    "a minute before half an hour it is still open": (
        [(n + 28, SyncOutcome.UNKNOWN) for n in range(1, 6)],
        True,
    ),
    "half an hour later it is closed": ([(n + 29, SyncOutcome.UNKNOWN) for n in range(1, 6)], False),
}


@pytest.mark.parametrize(("syncs", "expected"), BREAKER.values(), ids=BREAKER)
def test_the_breaker_opens_after_different_gateways_gave_no_answer(
    syncs: list[tuple[float, SyncOutcome]], *, expected: bool
) -> None:
    """Proves that a sick ARM is left alone, for a while."""
    rows: dict[str, LedgerRow] = {}
    for number, (ago, outcome) in enumerate(syncs):
        rows |= asked(number, minutes(ago), outcome)

    assert expected == (open_until(rows.values(), NOW) is not None)
    assert {"apim-50": Choice.BREAKER_OPEN if expected else Choice.SYNC} == held([verdict(gateway(50))], rows)


def test_the_breaker_goes_by_the_newest_syncs_in_whatever_order_they_are_kept() -> None:
    """Proves that an older answer does not close it, and that half an hour is counted from the newest."""
    rows = asked(9, minutes(50))
    for number, ago in enumerate((43, 42, 41, 40, 1)):
        rows |= asked(number, minutes(ago), SyncOutcome.UNKNOWN)

    assert NOW + minutes(29) == open_until(rows.values(), NOW)


def test_syncs_of_the_same_moment_are_no_trouble_for_the_breaker() -> None:
    """Proves that rows without an outcome can be told from those without an answer."""
    rows = [row for n in range(6) for row in asked(n, minutes(1), SyncOutcome.UNKNOWN).values()]

    assert open_until(rows, NOW)
    assert not open_until([replace(row, outcome=None) for row in rows[:5]] + rows[5:], NOW)


ASKED_AT = minutes(-2)
ACCEPTED, ASKED, UNANSWERED = SyncOutcome.ACCEPTED, SyncOutcome.ASKED, SyncOutcome.UNKNOWN
TWICE: dict[str, tuple[SyncOutcome | None, timedelta, SyncOutcome, bool]] = {
    "the subscription knows of an answer that its own row lacks": (None, ASKED_AT, UNANSWERED, True),
    "its own row knows of an answer that the subscription lacks": (UNANSWERED, ASKED_AT, ASKED, True),
    "neither knows of an answer": (None, ASKED_AT, ASKED, False),
    "the subscription knows of a later sync without an answer": (ACCEPTED, minutes(-1), UNANSWERED, True),
    "the subscription knows of a later sync with an answer": (UNANSWERED, minutes(-1), ACCEPTED, False),
    "the subscription knows of an earlier sync only": (UNANSWERED, minutes(-3), ACCEPTED, True),
}


@pytest.mark.parametrize(("own", "shared_at", "shared", "expected"), TWICE.values(), ids=TWICE)
@pytest.mark.parametrize("turned", [False, True], ids=["own first", "shared first"])
def test_the_breaker_takes_the_better_of_two_accounts_of_a_sync(
    own: SyncOutcome | None, shared_at: timedelta, shared: SyncOutcome, *, expected: bool, turned: bool
) -> None:
    """Proves it for a gateway's own row and that of its subscription, in whatever order they are read."""
    rows = [replace(r, outcome=own) for n in range(5) for r in asked(n, -ASKED_AT).values()]
    rows.append(replace(ROW, asked={r.gateway_key: Asked(NOW + shared_at, shared) for r in rows}))

    assert expected == (open_until(reversed(rows) if turned else rows, NOW) is not None)


def test_an_open_breaker_says_nothing_of_gateways_that_need_no_sync_or_wait_already() -> None:
    """Proves that a hold of the fleet is put on what would be synced, and on nothing else."""
    rows = {k: r for n in range(5) for k, r in asked(n, minutes(1), SyncOutcome.UNKNOWN).items()}
    tagged = replace(gateway(2), paused=True)
    expected = {
        "apim-1": Choice.NOTHING_STALE,
        "apim-2": Choice.PAUSED,
        "apim-3": Choice.BREAKER_OPEN,
    }

    assert expected == held([verdict(gateway(1), Status.IN_SYNC), verdict(tagged), verdict(gateway(3))], rows)


def test_what_is_not_synced_does_not_count_against_the_cap() -> None:
    """Proves that a fleet that is well leaves room for the one that is not."""
    well = [verdict(gateway(n), Status.IN_SYNC, timedelta(days=1)) for n in range(5)]

    assert Choice.SYNC is held([*well, verdict(gateway(9))], brakes=Brakes(most_syncs=1))["apim-9"]


def ends(*days: int | None, of: Binding | None = None) -> Verdict:
    """A verdict on leaves that end so many days from now, and a connection that failed."""
    seen = (build.served(OLD, not_after=None if n is None else NOW + timedelta(days=n)) for n in days)
    return build.verdict(of=build.evidence(build.failed(), *seen, of=of))


FIRST_ENDS = {
    "the first of a hostname": ([ends(30, 20, None, 40)], 20),
    "the first of all hostnames": ([ends(30), ends(10), ends(20)], 10),
    "not of what no sync replaces": ([ends(30), ends(1, of=build.binding(of=None))], 30),
}


@pytest.mark.parametrize(("verdicts", "days"), FIRST_ENDS.values(), ids=FIRST_ENDS)
def test_the_first_end_is(verdicts: list[Verdict], days: int) -> None:
    """Proves what decides how urgent a gateway is."""
    assert NOW + timedelta(days=days) == first_end(verdicts, NOW)


@pytest.mark.parametrize("verdicts", [[], [ends()], [ends(None)]], ids=["nothing", "no leaf", "no date"])
def test_where_no_end_is_known_it_is_not_urgent(verdicts: list[Verdict]) -> None:
    """Proves that ignorance goes past no window and no ring."""
    assert first_end(verdicts, NOW) > NOW + timedelta(days=365)
    assert not Brakes().urgent_now(verdicts, NOW)


LATER, SOON = timedelta(days=60), timedelta(days=14)
WAITS, SYNC = Choice.WAITS_FOR_RING, Choice.SYNC
RINGS: dict[str, tuple[Status, int, timedelta, Mode, str, Choice]] = {
    "waits for a stale one": (Status.STALE, 1, LATER, Mode.REPAIR, "shared", WAITS),
    "waits for one on its way": (Status.SYNCING, 1, LATER, Mode.REPAIR, "shared", WAITS),
    "waits for one unknown": (Status.UNKNOWN, 1, LATER, Mode.REPAIR, "shared", WAITS),
    "goes after a proven one": (Status.IN_SYNC, 1, LATER, Mode.REPAIR, "shared", SYNC),
    "does not wait in the same ring": (Status.STALE, 0, LATER, Mode.REPAIR, "shared", SYNC),
    "does not wait for another certificate": (Status.STALE, 1, LATER, Mode.REPAIR, "own", SYNC),
    "does not wait when its own is about to end": (Status.STALE, 1, SOON, Mode.REPAIR, "shared", SYNC),
    "does not wait by force": (Status.STALE, 1, LATER, Mode.FORCE, "shared", SYNC),
}


@pytest.mark.parametrize(
    ("first", "ring", "ends", "mode", "certificate", "expected"), RINGS.values(), ids=RINGS
)
def test_a_later_ring(
    first: Status, ring: int, ends: timedelta, mode: Mode, certificate: str, expected: Choice
) -> None:
    """Proves that a later ring starts only when the earlier one is proven, and what does not wait."""
    earlier, later = gateway(1), gateway(2, ring=ring, certificate=certificate)

    assert expected == held([verdict(earlier, first), verdict(later, ends=ends)], mode=mode)["apim-2"]


OWN_TROUBLE = {
    "a certificate of its own": build.binding("own.contoso.com", of=build.certificate("own"), configured=OLD),
    "an uploaded certificate": build.binding("own.contoso.com", of=None),
}


@pytest.mark.parametrize("own", OWN_TROUBLE.values(), ids=OWN_TROUBLE)
def test_a_later_ring_does_not_wait_for(own: Binding) -> None:
    """Proves that the ring before is proven by the certificate that both have, whatever else is wrong."""
    shared = gateway(1)
    earlier = replace(shared, bindings=(*shared.bindings, own))
    proven = verdict(earlier, Status.IN_SYNC)
    beside = build.verdict(Status.UNKNOWN, of=build.evidence(build.failed(), of=own, at=earlier))

    assert Choice.SYNC is held([beside, proven, verdict(gateway(2, ring=1))])["apim-2"]


def test_looking_at_a_later_ring_looks_at_the_earlier_ones_too() -> None:
    """Proves that a narrow scope cannot slip past a ring."""
    rings = [gateway(1), gateway(2, ring=1), gateway(3, ring=2), gateway(4, certificate="own")]

    chosen = select(rings, Scope(gateway_id=rings[1].id))

    assert ["apim-1", "apim-2"] == [g.name for g in chosen]
    assert [True, False, False] == [
        comes_before(rings[0], rings[1]),
        comes_before(rings[1], rings[0]),
        comes_before(rings[3], rings[1]),
    ]


def test_an_excluded_gateway_is_not_selected_by_anything() -> None:
    """Proves that the tag holds against every scope."""
    gone = build.gateway(excluded=True)

    for scope in (Scope(), Scope(gateway_id=gone.id), Scope(hostname=build.HOSTNAME)):
        assert () == select([gone], scope)


WINDOWS = {
    "never": ((0, 0), False),
    "always": ((0, 1440), True),
    "at its first minute": ((600, 601), True),
    "after its end": ((599, 600), False),
    "over midnight, in it": ((1380, 601), True),
    "over midnight, out of it": ((1380, 600), False),
    "over midnight, from its first minute": ((600, 60), True),
    "over midnight, a minute before": ((601, 60), False),
}


@pytest.mark.parametrize(("window", "expected"), WINDOWS.values(), ids=WINDOWS)
def test_the_developer_tier_is_synced_in_its_window_only(window: tuple[int, int], *, expected: bool) -> None:
    """Proves the window at ten o'clock, its ends and its turn at midnight."""
    assert expected == Brakes(developer_minutes=window).developer_tier_open(NOW)


def test_a_window_knows_minutes() -> None:
    """Proves it at half past ten."""
    half_past = NOW + minutes(30)

    assert Brakes(developer_minutes=(630, 631)).developer_tier_open(half_past)
    assert not Brakes(developer_minutes=(600, 630)).developer_tier_open(half_past)


def test_without_a_setting_the_window_is_never_open() -> None:
    """Proves that nobody's developer tier goes down by default."""
    assert not any(Brakes().developer_tier_open(NOW + minutes(n)) for n in range(24 * 60))


@pytest.mark.parametrize(("days", "expected"), [(14, Choice.SYNC), (15, Choice.NEEDS_WINDOW)])
def test_a_certificate_about_to_end_does_not_wait_for_the_window(days: int, expected: Choice) -> None:
    """Proves that an outage is not preferred to a short one."""
    developer = build.gateway(gateway(1).bindings[0], tier="Developer")
    soon = verdict(developer, ends=timedelta(days=days))

    assert expected == decide(developer, [soon], LedgerRow(developer.key), build.run()).choice


def test_the_row_of_a_subscription_admits_no_more_than_the_cap_and_forgets_what_is_old() -> None:
    """Proves the count that all workers share, one after the other."""
    row, brakes = ROW, Brakes(most_syncs=2)
    for number in range(2):
        admitted = admit(row, gateway(number), NOW, brakes)
        assert isinstance(admitted, LedgerRow)
        row = admitted
    third = admit(row, gateway(2), NOW + minutes(4), brakes)
    again = admit(row, gateway(1), NOW + minutes(4), brakes)
    later = admit(row, gateway(2), NOW + minutes(5), brakes)

    assert isinstance(third, Decision)
    assert Choice.CAPPED is third.choice
    assert "apim-2: 2 syncs in five minutes are the most per subscription." == third.message
    assert isinstance(again, LedgerRow)
    assert isinstance(later, LedgerRow)
    assert 3 == len(later.asked)


def test_the_row_of_a_subscription_stays_small() -> None:
    """Proves that only what a brake needs is kept: a window of syncs, and the last for the breaker."""
    row = ROW
    for number in range(300):
        admitted = admit(row, gateway(number), NOW + minutes(number), Brakes(most_syncs=200))
        assert isinstance(admitted, LedgerRow)
        row = admitted

    assert 6 == len(row.asked)


@pytest.mark.parametrize(
    ("outcome", "kept"),
    [
        (SyncOutcome.ACCEPTED, SyncOutcome.ASKED),
        (SyncOutcome.UNKNOWN, SyncOutcome.UNKNOWN),
        (SyncOutcome.BUSY, None),
        (SyncOutcome.THROTTLED, None),
    ],
)
def test_an_answer_is_noted_where_it_says_something(outcome: SyncOutcome, kept: SyncOutcome | None) -> None:
    """Proves that a refusal does not count, and that the common answer costs no further write."""
    row = admit(ROW, gateway(1), NOW, Brakes())
    assert isinstance(row, LedgerRow)
    found = answered(row, gateway(1), outcome).asked.get(gateway(1).key)

    assert kept == (found and found.outcome)


def test_an_answer_to_a_sync_that_the_subscription_does_not_know_of_changes_nothing() -> None:
    """Proves that a row which was lost in the meantime is no reason to fail."""
    assert ROW == answered(ROW, gateway(1), SyncOutcome.UNKNOWN)


def test_the_row_of_a_subscription_opens_the_breaker() -> None:
    """Proves that five gateways of other workers are enough, and that one of the five has but four others."""
    row = ROW
    for number in range(5):
        admitted = admit(row, gateway(number), NOW + number * timedelta(seconds=1), Brakes())
        assert isinstance(admitted, LedgerRow)
        row = answered(admitted, gateway(number), SyncOutcome.UNKNOWN)
    sixth = admit(row, gateway(6), NOW + minutes(1), Brakes())

    assert isinstance(sixth, Decision)
    assert Choice.BREAKER_OPEN is sixth.choice
    assert (
        "apim-6: not synced until 10:30 UTC, because the last syncs of 5 gateways had no answer. Look"
        " at ARM and at those services first."
    ) == sixth.message
    assert isinstance(admit(row, gateway(4), NOW + minutes(1), Brakes()), LedgerRow)
    assert isinstance(admit(row, gateway(6), NOW + minutes(31), Brakes()), LedgerRow)
    assert {"apim-7": Choice.BREAKER_OPEN} == held([verdict(gateway(7))], {row.gateway_key: row})


def test_syncs_that_other_workers_have_asked_for_count_once() -> None:
    """Proves that the gateway's own row and that of its subscription are one sync."""
    rows = asked(1, minutes(1))
    (key,) = rows
    both = {**rows, ROW.gateway_key: replace(ROW, asked={key: Asked(NOW - minutes(1))})}
    brakes = Brakes(most_syncs=2)

    assert {"apim-7": Choice.SYNC} == held([verdict(gateway(7))], both, brakes)
    assert {"apim-7": Choice.CAPPED} == held([verdict(gateway(7))], {**both, **asked(2, minutes(1))}, brakes)


@pytest.mark.parametrize(
    ("behind", "expected"),
    [
        ((), Choice.SYNC),
        ((gateway(1),), Choice.WAITS_FOR_RING),
        ((gateway(1, certificate="another"),), Choice.SYNC),
        ((gateway(1, ring=2),), Choice.SYNC),
        (None, Choice.WAITS_FOR_RING),
    ],
)
def test_a_later_ring_waits_for_what_another_worker_looks_at(
    behind: tuple[Gateway, ...] | None, expected: Choice
) -> None:
    """Proves that not to see the earlier ring is to wait for it, and that force and urgency do not."""
    brakes = Brakes(behind=behind)

    assert {"apim-5": expected} == held([verdict(gateway(5, ring=1))], brakes=brakes)
    assert {"apim-5": Choice.SYNC} == held([verdict(gateway(5, ring=1))], brakes=brakes, mode=Mode.FORCE)
    assert {"apim-5": Choice.SYNC} == held([verdict(gateway(5))], brakes=brakes)


def test_what_is_not_to_be_synced_is_left_as_it_was_decided() -> None:
    """Proves that the brakes hold syncs only."""
    assert {"apim-1": Choice.NOTHING_STALE} == held([verdict(gateway(1), Status.IN_SYNC)])


def test_what_a_subscription_shares_is_kept_under_its_id() -> None:
    """Proves that its row is no gateway's."""
    assert "/subscriptions/1" == subscription_row("/subscriptions/1/resourcegroups/rg/providers/x/y/z")
