"""What holds syncs back beyond one gateway: rings, the cap, the breaker, the Developer tier's window."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from rotation.brakes import Brakes, hold_back, open_until
from rotation.inventory import comes_before, select
from rotation.model import Choice, Decision, Gateway, LedgerRow, Mode, Scope, Status, SyncOutcome, Verdict
from rotation.plan import decide
from tests.unit import build
from tests.unit.build import NOW, OLD, minutes

SECOND = "/subscriptions/22222222-2222-3333-4444-555555555555/resourceGroups/rg/providers/x/service"


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
    of_gateway = {v.evidence.gateway.key: [v] for v in verdicts}
    fresh = {key: LedgerRow(key) for key in of_gateway}
    decided = [
        decide(v.evidence.gateway, [v], fresh[v.evidence.gateway.key], run, brakes or Brakes())
        for v in verdicts
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
def test_a_later_ring(  # noqa: PLR0917 - a row of the table
    first: Status, ring: int, ends: timedelta, mode: Mode, certificate: str, expected: Choice
) -> None:
    """Proves that a later ring starts only when the earlier one is proven, and what does not wait."""
    earlier, later = gateway(1), gateway(2, ring=ring, certificate=certificate)

    assert expected == held([verdict(earlier, first), verdict(later, ends=ends)], mode=mode)["apim-2"]


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
}


@pytest.mark.parametrize(("window", "expected"), WINDOWS.values(), ids=WINDOWS)
def test_the_developer_tier_is_synced_in_its_window_only(window: tuple[int, int], *, expected: bool) -> None:
    """Proves the window at ten o'clock, its ends and its turn at midnight."""
    assert expected == Brakes(developer_minutes=window).developer_tier_open(NOW)


@pytest.mark.parametrize(("days", "expected"), [(14, Choice.SYNC), (15, Choice.NEEDS_WINDOW)])
def test_a_certificate_about_to_end_does_not_wait_for_the_window(days: int, expected: Choice) -> None:
    """Proves that an outage is not preferred to a short one."""
    developer = build.gateway(gateway(1).bindings[0], tier="Developer")
    soon = verdict(developer, ends=timedelta(days=days))

    assert expected == decide(developer, [soon], LedgerRow(developer.key), build.run()).choice
