"""What a pass leaves in a row: last verdicts, rotations t0 to t4, and events still to be told."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from rotation.history import (
    behind,
    distrusted,
    forgotten,
    front_due,
    front_trusts,
    note,
    reading_rank,
    sampled,
    settled,
    shrunk,
    synced,
    told,
    waiting,
)
from rotation.model import (
    BackendHealth,
    CertificateId,
    CertificateUnreadable,
    CertificateVersion,
    Event,
    Evidence,
    Front,
    Gateway,
    LastVerdict,
    LedgerRow,
    Reason,
    Rotation,
    Shard,
    Status,
    Trigger,
    TrustedRoot,
    Verdict,
)
from tests.unit import build
from tests.unit.build import NEW, NOW, OLD, evidence, failed, minutes, run, served

HOURS = timedelta(hours=1)
KEY = build.GATEWAY_ID.lower()
URL = str(build.CERTIFICATE)
BINDING = build.binding()
ROW = LedgerRow(KEY)
RENEWED = build.version(version="v3", age=minutes(10))
WWW = build.certificate("www-contoso-com")
WWW_BINDING = build.binding("www.contoso.com", of=WWW)
UPLOADED = build.verdict(Status.UNMANAGED, of=evidence(served(), of=build.binding(of=None)))
PINNED = build.verdict(
    Status.BLOCKED, Reason.PINNED_VERSION, of=evidence(served(), of=build.binding(pinned="v1"))
)


def last(
    status: Status = Status.IN_SYNC,
    reason: Reason = Reason.SERVED,
    version: str = "v2",
    *,
    drift: bool = False,
) -> dict[str, LastVerdict]:
    """What was last said of the default binding, a day ago."""
    return {BINDING.key: LastVerdict(status, reason, drift, NOW - 24 * HOURS, version)}


def verdict(
    status: Status = Status.IN_SYNC, expected: CertificateVersion | None = None, of: Evidence | None = None
) -> Verdict:
    """A verdict on the default binding, which serves what its status says."""
    leaf = NEW if status is Status.IN_SYNC else OLD
    return build.verdict(status, of=of or evidence(served(leaf), expected=expected))


def www(status: Status) -> Verdict:
    """A verdict on another hostname with another certificate."""
    return build.verdict(status, of=evidence(served(), of=WWW_BINDING))


def rotation(version: str = "v3", *, proven: bool | datetime = False, **changes: Any) -> Rotation:
    """A rotation noticed eight minutes ago; `proven` a minute ago, or then."""
    made = Rotation(
        certificate=URL,
        version=version,
        created=NOW - minutes(10),
        noticed=NOW - minutes(8),
        caught_by=Trigger.EVENT,
        proven=(NOW - minutes(1) if proven is True else proven) or None,
    )
    return replace(made, **changes)


def events(row: LedgerRow, name: str) -> list[Event]:
    """What waits to be told, of one name."""
    return [event for event in row.outbox if event.name == name]


def test_what_was_said_is_kept_with_the_moment_since_when() -> None:
    """Proves that the same verdict a day later is still since then, and another one since now."""
    same = note(replace(ROW, last=last()), [verdict()], run())
    other = note(replace(ROW, last=last()), [verdict(Status.STALE)], run())

    assert last() == same.last
    assert (
        LastVerdict(Status.STALE, Reason.SERVES_OLD_VERSION, drift=False, since=NOW, version="v2")
        == other.last[BINDING.key]
    )


@pytest.mark.parametrize("status", Status, ids=str)
def test_the_version_is_that_of_the_last_time_when_something_was_seen(status: Status) -> None:
    """Proves that a look that shows nothing leaves a renewal to be noticed by the next one."""
    expected = "v3" if status in {Status.IN_SYNC, Status.STALE, Status.SYNCING} else "v2"
    row = note(replace(ROW, last=last()), [verdict(status, RENEWED)], run())

    assert expected == row.last[BINDING.key].version


def test_a_version_that_cannot_be_read_is_not_remembered() -> None:
    """Proves that a verdict without a version keeps the one before."""
    lost = verdict(Status.STALE, of=evidence(served(OLD), expected=build.unreadable()))

    assert "v2" == note(replace(ROW, last=last()), [lost], run()).last[BINDING.key].version
    assert not note(ROW, [lost], run()).last[BINDING.key].version


def test_nothing_new_leaves_the_row_as_it_was() -> None:
    """Proves that a settled fleet costs no writes."""
    row = replace(ROW, last=last(), rotations=(rotation(proven=True, version="v2"),))

    assert row is note(row, [verdict()], run())


NEWS = {
    "a first look that finds all well": (ROW, verdict(), []),
    "a first look at an uploaded certificate": (ROW, UPLOADED, []),
    "a first look that finds a stale one": (ROW, verdict(Status.STALE), [("", "STALE")]),
    "the same again": (replace(ROW, last=last()), verdict(), []),
    "from in sync to stale": (replace(ROW, last=last()), verdict(Status.STALE), [("IN_SYNC", "STALE")]),
    "from stale to in sync": (
        replace(ROW, last=last(Status.STALE, Reason.SERVES_OLD_VERSION)),
        verdict(),
        [("STALE", "IN_SYNC")],
    ),
    "another reason": (
        replace(ROW, last=last(Status.STALE, Reason.SYNC_OVERDUE)),
        verdict(Status.STALE),
        [("STALE", "STALE")],
    ),
    "stale becomes drift": (
        replace(ROW, last=last(Status.STALE, Reason.SERVES_OLD_VERSION)),
        replace(verdict(Status.STALE), drift=True),
        [("STALE", "STALE")],
    ),
}


@pytest.mark.parametrize(("row", "judged", "expected"), NEWS.values(), ids=NEWS)
def test_a_change_is_news(row: LedgerRow, judged: Verdict, expected: list[tuple[str, str]]) -> None:
    """Proves what goes into the outbox, and that a fleet that is well says nothing."""
    told_of = events(note(row, [judged], run()), "VerdictChanged")
    actual = [(event.properties["was_status"], event.properties["status"]) for event in told_of]

    assert expected == actual


def test_an_event_keeps_its_id_however_often_it_is_told() -> None:
    """Proves that what arrives twice can be told to be one, and that two things are two."""
    first, again = (note(ROW, [verdict(Status.STALE)], run()).outbox for _ in range(2))
    later = note(ROW, [verdict(Status.STALE)], run(now=NOW + minutes(5))).outbox

    assert first == again
    assert first[0].event_id == first[0].properties["event_id"]
    assert first[0].event_id != later[0].event_id


def test_a_binding_that_is_gone_is_forgotten() -> None:
    """Proves that a row does not grow with every hostname there ever was."""
    row = replace(ROW, last={**last(), "proxy/gone.example": last()[BINDING.key]})

    assert last() == note(row, [verdict()], run()).last


def test_a_renewed_version_is_noticed_as_a_rotation() -> None:
    """Proves t0 and t1, and what caught it."""
    row = note(replace(ROW, last=last()), [verdict(Status.STALE, RENEWED)], run(trigger=Trigger.EVENT))

    assert (Rotation(URL, "v3", NOW - minutes(10), NOW, Trigger.EVENT),) == row.rotations
    assert [] == events(row, "RotationProven")


NO_ROTATION = {
    "the first look finds it served": (ROW, [verdict()]),
    "the first look sees nothing": (ROW, [verdict(Status.UNKNOWN)]),
    "it is known and served": (replace(ROW, last=last()), [verdict()]),
    "it is known, and a unit has gone back": (replace(ROW, last=last()), [verdict(Status.STALE)]),
    "it cannot be read": (
        replace(ROW, last=last()),
        [build.verdict(Status.UNKNOWN, of=evidence(served(), expected=build.unreadable()))],
    ),
    "it is disabled": (
        replace(ROW, last=last()),
        [verdict(Status.BLOCKED, replace(RENEWED, enabled=False))],
    ),
    "it is pinned": (ROW, [PINNED]),
    "it is not from Key Vault": (ROW, [UPLOADED]),
    "there is no hostname": (ROW, []),
}


@pytest.mark.parametrize(("row", "judged"), NO_ROTATION.values(), ids=NO_ROTATION)
def test_there_is_no_rotation_where(row: LedgerRow, judged: list[Verdict]) -> None:
    """Proves that what was there before us, or cannot follow, is not measured."""
    assert () == note(row, judged, run()).rotations


def test_a_stale_gateway_at_first_sight_is_a_rotation() -> None:
    """Proves that the app's first work after it was deployed is measured too."""
    assert "v2" == note(ROW, [verdict(Status.STALE)], run()).rotations[0].version


def test_what_was_never_seen_is_a_rotation_once_it_is_seen_to_be_stale() -> None:
    """Proves that a first look that failed does not hide it."""
    blind = note(ROW, [verdict(Status.UNKNOWN)], run())

    assert 1 == len(note(blind, [verdict(Status.STALE)], run(now=NOW + minutes(5))).rotations)


def test_the_first_connection_that_shows_it_is_remembered() -> None:
    """Proves t3, and that it is of the first pass that saw it."""
    partly = verdict(of=evidence(served(OLD), served(NEW), expected=RENEWED), status=Status.SYNCING)
    row = replace(ROW, last=last(), rotations=(rotation(),))
    first = note(row, [partly], run())
    second = note(first, [partly], run(now=NOW + minutes(5)))

    assert (NOW, NOW) == (first.rotations[0].first_served, second.rotations[0].first_served)
    assert second.rotations[0].proven is None


def test_a_rotation_is_proven_once_every_hostname_is_in_sync() -> None:
    """Proves t4, what is told, and that it is told once."""
    row = note(
        replace(ROW, last=last(), rotations=(rotation(synced=NOW - minutes(7)),)),
        [verdict(Status.IN_SYNC, RENEWED), UPLOADED],
        run(),
    )
    proven = events(row, "RotationProven")

    assert NOW == row.rotations[0].proven
    assert 600.0 == row.rotations[0].seconds_to_served
    assert [{"seconds_to_served": 600.0, "seconds_to_notice": 120.0}] == [e.measurements for e in proven]
    assert "event" == proven[0].properties["caught_by"]
    again = note(row, [verdict(Status.IN_SYNC, RENEWED)], run(now=NOW + minutes(5)))
    assert 1 == len(events(again, "RotationProven"))


def test_what_the_gateway_took_by_itself_is_a_rotation_too() -> None:
    """Proves that a version first seen when it was already served is measured, without a sync."""
    row = note(replace(ROW, last=last()), [verdict(Status.IN_SYNC, RENEWED)], run())

    assert [(NOW, NOW, None, NOW)] == [(r.noticed, r.first_served, r.synced, r.proven) for r in row.rotations]
    assert 1 == len(events(row, "RotationProven"))


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.IN_SYNC])
def test_a_rotation_is_not_proven_while_a_hostname_is_anything_but_in_sync(status: Status) -> None:
    """Proves that one of two hostnames of the same certificate holds it open."""
    other = build.verdict(
        status, of=evidence(served(OLD), of=build.binding("b.contoso.com"), expected=RENEWED)
    )
    row = replace(ROW, last=last(), rotations=(rotation(),))

    assert None is note(row, [verdict(Status.IN_SYNC, RENEWED), other], run()).rotations[0].proven


def test_a_newer_version_takes_the_place_of_a_rotation_under_way() -> None:
    """Proves that what will never be served is not waited for."""
    newer = build.version(version="v4", age=minutes(1))
    row = note(replace(ROW, last=last(), rotations=(rotation(),)), [verdict(Status.STALE, newer)], run())

    assert ["v4"] == [r.version for r in row.rotations]


def test_an_older_answer_of_key_vault_begins_nothing() -> None:
    """Proves that a replica that lags does not end a rotation under way."""
    row = replace(ROW, last=last(), rotations=(rotation(),))

    assert row.rotations == note(row, [verdict(Status.STALE, build.version())], run()).rotations


def test_a_certificate_that_is_no_longer_bound_leaves_no_rotation_under_way() -> None:
    """Proves that moving a hostname to another certificate ends what would never be proven."""
    row = replace(ROW, rotations=(rotation(), rotation("v1", proven=True)))

    assert ["v1"] == [r.version for r in note(row, [www(Status.IN_SYNC)], run()).rotations]


def test_two_certificates_rotate_each_for_itself() -> None:
    """Proves that a gateway with many certificates has a rotation of each."""
    row = note(ROW, [verdict(Status.STALE), www(Status.STALE)], run())
    after = note(row, [verdict(Status.IN_SYNC), www(Status.STALE)], run(now=NOW + minutes(30)))

    assert {URL: NOW + minutes(30), str(WWW): None} == {r.certificate: r.proven for r in after.rotations}


def test_the_latest_of_many_rotations_is_the_one_that_goes_on() -> None:
    """Proves that what was proven long ago does not make the version served now a new one."""
    earlier = rotation("v1", proven=True, created=NOW - 2 * HOURS, noticed=NOW - HOURS)
    row = replace(ROW, last=last(version="v3"), rotations=(earlier, rotation(proven=True)))

    assert row == note(row, [verdict(Status.IN_SYNC, RENEWED)], run())


def test_rotations_stay_in_the_order_in_which_they_were_noticed() -> None:
    """Proves that the one that takes longest is not taken for the latest."""
    slow = rotation("v2", certificate=str(WWW), noticed=NOW - minutes(9))
    row = replace(ROW, last=last(version="v3"), rotations=(slow, rotation(proven=True)))
    after = note(row, [verdict(Status.IN_SYNC, RENEWED), www(Status.STALE)], run())

    assert [str(WWW), URL] == [r.certificate for r in after.rotations]


def test_two_versions_of_one_moment_are_not_two_renewals() -> None:
    """Proves that a version has to come later to take the place of another one."""
    other = build.version(version="v4", age=minutes(10))
    row = replace(ROW, last=last(), rotations=(rotation(),))

    assert row.rotations == note(row, [verdict(Status.STALE, other)], run()).rotations


def test_a_version_after_a_rotation_is_a_renewal_whatever_was_seen_last() -> None:
    """Proves that a hostname which is new to the gateway does not hide the renewal of its certificate."""
    row = replace(ROW, rotations=(rotation("v2", proven=True, created=NOW - HOURS),))
    after = note(row, [verdict(Status.IN_SYNC, RENEWED)], run())

    assert ["v2", "v3"] == [r.version for r in after.rotations]


def test_what_was_never_seen_is_no_renewal_when_it_is_found_well() -> None:
    """Proves that a gateway which could not be read until now begins no rotation that nobody made."""
    row = replace(ROW, last=last(Status.UNKNOWN, Reason.PROBE_FAILED, version=""))

    assert () == note(row, [verdict()], run()).rotations


@pytest.mark.parametrize("status", [Status.STALE, Status.SYNCING], ids=str)
def test_one_hostname_that_is_behind_begins_a_rotation(status: Status) -> None:
    """Proves that a first look in mid-rollout is measured, also where another hostname cannot be read."""
    beside = build.verdict(
        Status.UNKNOWN, of=evidence(failed(), of=build.binding("b.contoso.com"), expected=build.version())
    )

    assert 1 == len(note(ROW, [verdict(status), beside], run()).rotations)


def test_a_pinned_hostname_has_no_rotation() -> None:
    """Proves that what never follows is not waited for."""
    pinned = build.verdict(Status.STALE, of=PINNED.evidence)

    assert () == note(ROW, [pinned], run()).rotations


def test_a_version_that_comes_back_is_not_told_as_proven_before_it_is() -> None:
    """Proves that its first rotation, long proven, is not told once more while the second is under way."""
    again = build.version(version="v3", age=minutes(10), updated=NOW - minutes(2))
    first, between = rotation(proven=True), rotation("v4", proven=True, created=NOW - minutes(5))
    row = replace(ROW, last=last(version="v4"), rotations=(first, between))
    begun = note(row, [verdict(Status.STALE, again)], run())
    after = note(begun, [verdict(Status.STALE, again)], run(now=NOW + minutes(5)))

    assert ["v3", "v4", "v3"] == [r.version for r in begun.rotations]
    assert begun is after


def test_only_the_latest_rotations_are_kept() -> None:
    """Proves that a row does not grow with every renewal there ever was."""
    row = replace(ROW, last=last())
    for n in range(11):
        newer = build.version(version=f"v{n + 10}", age=-minutes(n))
        row = note(row, [verdict(Status.IN_SYNC, newer)], run(now=NOW + minutes(n)))

    assert [f"v{n + 13}" for n in range(8)] == [r.version for r in row.rotations]


def test_an_accepted_sync_is_remembered_by_what_is_under_way() -> None:
    """Proves t2, and that a second attempt does not move it."""
    row = replace(ROW, rotations=(rotation("v1", proven=True), rotation()))
    first = synced(row, NOW)

    assert [None, NOW] == [r.synced for r in first.rotations]
    assert first == synced(first, NOW + minutes(30))


ASKED_BOTH = build.row(wanted={URL: "v2", str(WWW): "v2"}, asked=minutes(-20), due=minutes(10))
NOT_SERVED: dict[str, tuple[LedgerRow, Sequence[Verdict]]] = {
    "nothing was asked for": (ROW, [verdict()]),
    "another version was asked for": (build.row(wanted={URL: "v1"}), [verdict()]),
    "nothing was judged": (build.row(), []),
    "the hostname is stale": (build.row(), [verdict(Status.STALE)]),
    "the hostname could not be read": (build.row(), [verdict(Status.UNKNOWN)]),
    "one of two hostnames is syncing": (ASKED_BOTH, [verdict(), www(Status.SYNCING)]),
    "only a pinned hostname is left to see": (build.row(), [PINNED]),
}


@pytest.mark.parametrize(("row", "judged"), NOT_SERVED.values(), ids=NOT_SERVED)
def test_what_was_asked_for_is_not_proven_where(row: LedgerRow, judged: Sequence[Verdict]) -> None:
    """Proves that the last sync counts as under way until every hostname is in sync."""
    assert None is note(row, judged, run()).proven_at


def test_what_was_asked_for_is_proven_once() -> None:
    """Proves that the first proof stands, and that a pinned hostname does not hold it back."""
    row = note(ASKED_BOTH, [verdict(), www(Status.IN_SYNC), PINNED], run())

    assert NOW == row.proven_at
    assert NOW == note(row, [verdict(), www(Status.IN_SYNC)], run(now=NOW + HOURS)).proven_at


def test_a_hostname_of_another_certificate_does_not_hold_the_proof_back() -> None:
    """Proves that what was not asked for is not waited for."""
    row = note(build.row(), [verdict(), www(Status.STALE)], run())

    assert NOW == row.proven_at


def test_a_settled_binding_is_sampled_but_for_its_slot() -> None:
    """Proves that within 55 minutes of passes each settled gateway is proven in full exactly once."""
    row = replace(ROW, last=last())
    full = [not sampled(row, BINDING, build.version(), NOW + minutes(5 * n)) for n in range(11)]

    assert 1 == full.count(True)


@pytest.mark.parametrize(("every", "between"), [(5, 55), (10, 110), (15, 165), (60, 660), (1440, 15840)])
def test_two_proofs_in_full_are_never_further_apart_than_eleven_passes(every: int, between: int) -> None:
    """Proves it for many gateways and slow timers, across every change of an hour and a day."""
    for number in range(40):
        row = replace(ROW, gateway_key=f"{KEY}-{number}", last=last())
        passes = (NOW + minutes(every * n) for n in range(300))
        full = [now for now in passes if not sampled(row, BINDING, build.version(), now)]

        assert {minutes(between)} == {later - earlier for earlier, later in pairwise(full)}


def test_the_gateways_of_a_shard_are_not_all_proven_in_full_at_once() -> None:
    """Proves that the slot and the shard do not come from the same byte."""
    shard = Shard(1, 256)
    keys = [key for n in range(20_000) if shard.holds(key := f"{KEY}-{n}")]
    rows = (replace(ROW, gateway_key=key, last=last()) for key in keys)
    full = [row for row in rows if not sampled(row, BINDING, build.version(), NOW)]

    assert 0 < len(full) < len(keys) / 4


def test_a_timer_that_is_late_stays_in_its_slot() -> None:
    """Proves that seconds decide nothing: a pass that comes late takes its turn, and no other one's."""
    row = replace(ROW, last=last())
    slots = [
        {
            sampled(row, BINDING, build.version(), NOW + minutes(5 * n) + timedelta(seconds=s))
            for s in range(300)
        }
        for n in range(11)
    ]

    assert [1] * 11 == [len(slot) for slot in slots]


def test_what_was_never_stored_is_not_settled() -> None:
    """Proves it for a ledger that is away and for a new row."""
    assert not settled(None, BINDING, build.version())
    assert not settled(ROW, BINDING, build.version())
    assert settled(replace(ROW, last=last()), BINDING, build.version())


UNSETTLED = {
    "nothing is remembered": (None, build.version()),
    "it was never judged": (ROW, build.version()),
    "it was not in sync": (replace(ROW, last=last(Status.STALE)), build.version()),
    "there is a new version": (replace(ROW, last=last()), RENEWED),
    "the version cannot be read": (replace(ROW, last=last()), build.unreadable()),
    "it is not from Key Vault": (replace(ROW, last=last()), None),
}


@pytest.mark.parametrize(("row", "expected"), UNSETTLED.values(), ids=UNSETTLED)
def test_a_binding_is_proven_in_full_where(
    row: LedgerRow | None, expected: CertificateVersion | None
) -> None:
    """Proves that a sample never stands in for a proof that was not made."""
    assert [False] * 12 == [sampled(row, BINDING, expected, NOW + minutes(5 * n)) for n in range(12)]


def test_the_outbox_forgets_only_what_a_later_event_has_overtaken() -> None:
    """Proves that the last word on each hostname survives however long nobody listens."""
    row = ROW
    for n in range(200):
        event = Event("VerdictChanged", {"hostname": "flaps.example"}, {}, f"flap {n}")
        row = waiting(row, [event])
        if n == 0:
            row = waiting(row, [Event("VerdictChanged", {"hostname": "quiet.example"}, {}, "the only one")])

    ids = [event.event_id for event in row.outbox]
    assert 100 == len(ids)
    assert {"the only one", "flap 199"} <= set(ids)


def test_what_was_accepted_is_struck_out() -> None:
    """Proves that what came in the meantime stays."""
    row = waiting(ROW, [Event("A", {}, {}, "1"), Event("B", {}, {}, "2")])

    assert ["2"] == [event.event_id for event in told(row, ["1"]).outbox]


def test_a_gateway_is_forgotten_a_week_after_it_vanished() -> None:
    """Proves that a role that was lost over a long weekend does not lose what is remembered."""
    week = timedelta(days=7)
    ages = (None, week, week + minutes(1))
    rows = [replace(ROW, missing_since=NOW - age if age is not None else None) for age in ages]

    assert [False, False, True] == [forgotten(row, NOW) for row in rows]


def test_a_gateway_that_is_back_is_not_missing() -> None:
    """Proves that the week begins anew."""
    assert None is note(replace(ROW, missing_since=NOW - HOURS), [verdict()], run()).missing_since


LISTED = {
    10: "10 of 12 known gateways are no longer listed (a, b, c, d, e, f, g, h, i, j). If they were not",
    11: "11 of 12 known gateways are no longer listed (a, b, c, d, e, f, g, h, i, j, …). If they were not",
}


@pytest.mark.parametrize(("gone", "expected"), LISTED.items())
def test_ten_of_the_gateways_that_vanished_are_named(gone: int, expected: str) -> None:
    """Proves that a long list is cut, and said to be."""
    (problem,) = shrunk([f"/subscriptions/1/service/{name}" for name in "kjihgfedcba"[-gone:]], 12)

    assert expected in problem
    assert problem.endswith("they are forgotten after 7 days.")


@pytest.mark.parametrize(("gone", "known", "alerts"), [(0, 0, 0), (0, 5, 0), (1, 5, 0), (2, 5, 1), (1, 1, 1)])
def test_an_inventory_that_shrinks_by_more_than_a_fifth_is_a_problem(
    gone: int, known: int, alerts: int
) -> None:
    """Proves that a lost role is not taken for a small fleet that is well."""
    problems = shrunk([f"/subscriptions/1/service/apim-{n}" for n in range(gone)], known)

    assert alerts == len(problems)
    assert all("apim-0" in problem and "ROTATION_SUBSCRIPTIONS" in problem for problem in problems)


ONLY_LISTED = build.gateway(listed=True)
NEWEST = {build.CERTIFICATE: build.version()}
RANKS = {
    "what was read itself is not read again": (build.gateway(), ROW, NEWEST, None),
    "what was never judged": (ONLY_LISTED, ROW, NEWEST, 1),
    "where the ledger is away": (ONLY_LISTED, None, NEWEST, 1),
    "what is settled": (ONLY_LISTED, replace(ROW, last=last()), NEWEST, None),
    "what is settled, whatever Resource Graph remembers of it": (
        build.gateway(build.binding(configured=OLD), listed=True),
        replace(ROW, last=last()),
        NEWEST,
        None,
    ),
    "a new version": (ONLY_LISTED, replace(ROW, last=last()), {build.CERTIFICATE: RENEWED}, 0),
    "what was stale": (ONLY_LISTED, replace(ROW, last=last(Status.STALE)), NEWEST, 0),
    "what was blocked": (ONLY_LISTED, replace(ROW, last=last(Status.BLOCKED)), NEWEST, 0),
    "what could not be seen": (ONLY_LISTED, replace(ROW, last=last(Status.UNKNOWN)), NEWEST, 1),
    "an unreadable vault": (ONLY_LISTED, ROW, {build.CERTIFICATE: build.unreadable()}, None),
    "a pinned hostname": (build.gateway(build.binding(pinned="v1"), listed=True), ROW, NEWEST, None),
    "an uploaded certificate": (build.gateway(build.binding(of=None), listed=True), ROW, NEWEST, None),
    "the most urgent of two": (
        build.gateway(build.binding(), build.binding("b.contoso.com"), listed=True),
        replace(ROW, last=last(Status.STALE)),
        NEWEST,
        0,
    ),
}


@pytest.mark.parametrize(("gateway", "row", "expected", "rank"), RANKS.values(), ids=RANKS)
def test_what_is_only_listed_is_read_where_it_may_be_acted_upon(
    gateway: Gateway,
    row: LedgerRow | None,
    expected: Mapping[CertificateId, CertificateVersion | CertificateUnreadable],
    rank: int | None,
) -> None:
    """Proves that a settled gateway costs no request to ARM, and that a sync rests on a fresh read."""
    assert rank == reading_rank(row, gateway, expected)


FRONT = Front("/agw", "Application Gateway agw", "apim-contoso.azure-api.net", build.HOSTNAME, ())
GATEWAY = replace(build.gateway(), fronts=(FRONT,))
CONTENT = replace(ROW, last=last(), front_content_at=NOW - 2 * HOURS, front_trusts=front_trusts(GATEWAY))
OWED = replace(CONTENT, proven_at=NOW - HOURS)
ROTATED = {
    "no row": (None, False),
    "nothing was seen yet": (ROW, False),
    "a rotation was proven just now": (replace(CONTENT, rotations=(rotation(proven=True),)), True),
    "a rotation is under way": (replace(CONTENT, rotations=(rotation(),)), False),
    "long ago, and it was content since": (
        replace(CONTENT, proven_at=NOW - 3 * HOURS, front_content_at=NOW - 3 * HOURS),
        False,
    ),
    "half an hour ago, and it was content since": (
        replace(CONTENT, proven_at=NOW - minutes(30), front_content_at=NOW - minutes(20)),
        True,
    ),
    "longer ago, and it was content since": (
        replace(CONTENT, proven_at=NOW - minutes(30.1), front_content_at=NOW - minutes(20)),
        False,
    ),
    "it was content after one rotation, and not after the next": (
        replace(CONTENT, proven_at=NOW - 3 * HOURS, rotations=(rotation(proven=NOW - HOURS),)),
        True,
    ),
    "it was not content": (replace(CONTENT, last=last(reason=Reason.FRONT_DISTRUSTS)), True),
    "it was content": (CONTENT, False),
    "it was never content": (replace(CONTENT, front_content_at=None), True),
    "it trusted something else then": (replace(CONTENT, front_trusts="what it trusted"), True),
    "the row is of a version that did not remember what it trusted": (
        replace(CONTENT, front_trusts=""),
        True,
    ),
    "it was not content since": (OWED, True),
    "it was not content since, and then nothing was seen": (replace(OWED, last=last(Status.UNKNOWN)), True),
    "it was not content since, and a rotation is under way": (
        replace(OWED, last=last(Status.SYNCING)),
        False,
    ),
    "a sync is held for what stands in front": (
        replace(CONTENT, last=last(Status.BLOCKED, Reason.FRONT_DISTRUSTS)),
        False,
    ),
}


@pytest.mark.parametrize(("row", "expected"), ROTATED.values(), ids=ROTATED)
def test_what_stands_in_front_is_asked_after_a_rotation_and_until_it_is_content(
    row: LedgerRow | None,
    expected: bool,
) -> None:
    """Proves when the requests for its health are worth their price."""
    assert expected is front_due(evidence(served(NEW), at=GATEWAY, row=row), NOW)


def test_without_a_row_nothing_is_known_of_distrust() -> None:
    """Proves that an unreadable ledger stops no verdict."""
    assert not distrusted(None, BINDING)
    assert distrusted(replace(ROW, last=last(reason=Reason.FRONT_DISTRUSTS)), BINDING)


def test_what_has_not_answered_since_is_asked_when_the_binding_is_proven_in_full() -> None:
    """Proves that a front which nobody may ask costs a request an hour, not one at every tick."""
    seen = evidence(served(NEW), at=GATEWAY, row=OWED)

    assert front_due(seen, NOW)
    assert not front_due(replace(seen, sampled=True), NOW)


ROOT, OTHER = TrustedRoot("CN=Root", "AB" * 20), TrustedRoot("CN=Root", "CD" * 20)
CHANGES: dict[str, tuple[Front, ...]] = {
    "one of the roots is another, of the same name": (replace(FRONT, roots=(OTHER,)),),
    "one root more": (replace(FRONT, roots=(ROOT, OTHER)),),
    "it has none of its own any more": (replace(FRONT, roots=()),),
    "nobody can say which it has": (replace(FRONT, roots=None),),
    "another gateway stands there too": (replace(FRONT, roots=(ROOT,)), replace(FRONT, id="/second")),
    "it asks for another hostname": (replace(FRONT, roots=(ROOT,), hostname="other.contoso.com"),),
    "it connects to another address": (replace(FRONT, roots=(ROOT,), target="10.0.0.4"),),
    "nothing stands there any more": (),
}


@pytest.mark.parametrize("fronts", CHANGES.values(), ids=CHANGES)
def test_who_changes_what_a_front_trusts_has_it_asked_anew(fronts: tuple[Front, ...]) -> None:
    """Proves that a root which is taken away without a rotation is noticed; their order means nothing."""
    before = replace(GATEWAY, fronts=(replace(FRONT, roots=(ROOT,)),))
    in_order = replace(GATEWAY, fronts=(replace(FRONT, roots=(ROOT, OTHER)), FRONT))
    other_way = replace(GATEWAY, fronts=(FRONT, replace(FRONT, roots=(OTHER, ROOT))))

    assert front_trusts(before) != front_trusts(replace(GATEWAY, fronts=fronts))
    assert front_trusts(in_order) == front_trusts(other_way)


def in_front(*distrusts: bool | None, behind: int = 1) -> list[Verdict]:
    """Verdicts in sync, each with what its front says; the others have no front."""
    gateway = replace(build.gateway(), fronts=(FRONT,) * behind)
    return [
        build.verdict(
            Status.IN_SYNC,
            of=replace(
                evidence(served(NEW), at=gateway),
                front=None if said is None else BackendHealth(FRONT.name, said, "as it says"),
            ),
        )
        for said in distrusts
    ]


FINE, BAD = False, True
SAID_IN_FRONT = {
    "content": (in_front(FINE), CONTENT, NOW - 2 * HOURS),
    "content for the first time": (in_front(FINE), ROW, NOW),
    "content after a rotation": (in_front(FINE), OWED, NOW),
    "content with what it trusts now": (in_front(FINE), replace(CONTENT, front_trusts="before"), NOW),
    "one of two is not": (in_front(FINE, BAD), OWED, OWED.front_content_at),
    "content with an older version": (
        [replace(verdict, status=Status.STALE) for verdict in in_front(FINE)],
        OWED,
        OWED.front_content_at,
    ),
    "one of two was not asked": (in_front(FINE, None), OWED, OWED.front_content_at),
    "content, beside a hostname that nothing stands before": (
        [*in_front(FINE), *in_front(None, behind=0)],
        ROW,
        NOW,
    ),
    "nothing in front": (in_front(None, behind=0), ROW, None),
}


@pytest.mark.parametrize(("verdicts", "row", "expected"), SAID_IN_FRONT.values(), ids=SAID_IN_FRONT)
def test_a_row_remembers_since_when_all_in_front_is_content(
    verdicts: list[Verdict], row: LedgerRow, expected: datetime | None
) -> None:
    """Proves that only its own word ends the asking, and that the first one since a rotation is kept."""
    after = note(row, verdicts, run())

    assert expected == after.front_content_at
    assert after.front_trusts == (front_trusts(GATEWAY) if expected == NOW else row.front_trusts)


BEHIND = {
    "never seen": (None, build.version(), True),
    "proven on this version": (replace(ROW, last=last()), build.version(), False),
    "proven on an older one": (replace(ROW, last=last()), RENEWED, True),
    "the vault cannot be read": (replace(ROW, last=last()), build.unreadable(), True),
}


@pytest.mark.parametrize(("row", "wanted", "expected"), BEHIND.values(), ids=BEHIND)
def test_a_gateway_is_behind_until_it_is_proven_on_what_is_newest(
    row: LedgerRow | None,
    wanted: CertificateVersion | CertificateUnreadable,
    expected: bool,
) -> None:
    """Proves what a gateway that others depend on is told to wait for."""
    assert expected is behind(row, build.gateway(BINDING), {build.CERTIFICATE: wanted})


def test_what_is_not_asked_about_makes_no_gateway_behind() -> None:
    """Proves that only the certificates at hand count."""
    assert not behind(None, build.gateway(BINDING), {})
    assert not behind(None, build.gateway(build.binding(of=None)), {build.CERTIFICATE: build.version()})
