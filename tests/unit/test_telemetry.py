import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

import jsonschema
import pytest

from rotation.model import (
    Calls,
    Choice,
    Event,
    LastVerdict,
    Mode,
    Reason,
    Report,
    Rotation,
    Status,
    Trigger,
    Verdict,
)
from rotation.telemetry import (
    LONGEST_MESSAGE,
    availability,
    counts,
    events,
    named_value_kept,
    notices,
    rotation_proven,
    sync_answered,
    sync_requested,
    verdict_changed,
)
from tests.unit import build
from tests.unit.build import FOREIGN, NEW, NOW, OLD, evidence, failed, served

ROOT = Path(__file__).resolve().parents[2]
THREE = build.binding(endpoints=(build.endpoint(connections=3),))
UNMANAGED = build.verdict(Status.UNMANAGED, of=evidence(served(), of=build.binding(of=None)))
LOST = build.verdict(
    Status.UNKNOWN, Reason.VAULT_UNREADABLE, of=evidence(served(), expected=build.unreadable())
)
BLIND = build.verdict(Status.UNKNOWN, Reason.NOT_OBSERVABLE, of=evidence(of=build.binding(endpoints=())))
BROKEN = build.verdict(Status.BLOCKED, Reason.SERVED_BY_OTHER, of=evidence(served(FOREIGN, not_after=None)))
EVERY_KIND = [*map(build.verdict, Status), UNMANAGED, LOST, BLIND, BROKEN]
DECISIONS = [build.decision(choice, build.row()) for choice in Choice]
FULL = build.report(
    EVERY_KIND,
    DECISIONS,
    problems=("one", "two"),
    missing=3,
    of=build.run(Mode.FORCE, trigger=Trigger.HAND),
)


ROTATED = Rotation(
    str(build.CERTIFICATE),
    "v2",
    NOW - timedelta(hours=2),
    NOW,
    Trigger.EVENT,
    proven=NOW - timedelta(hours=1),
)

ONCE = {
    event.name: event
    for event in (
        verdict_changed(
            build.run(Mode.FORCE, trigger=Trigger.HAND),
            build.verdict(),
            LastVerdict(
                Status.IN_SYNC, Reason.SERVED, drift=False, since=NOW - timedelta(days=1), version="v1"
            ),
        ),
        sync_requested(build.run(Mode.FORCE, trigger=Trigger.HAND), build.decision(Choice.SYNC, build.row())),
        sync_answered(
            build.run(Mode.FORCE, trigger=Trigger.HAND),
            build.decision(Choice.SYNC, build.row()),
            build.answer(),
        ),
        rotation_proven(
            build.run(Mode.FORCE, trigger=Trigger.HAND),
            build.gateway(),
            Rotation(
                str(build.CERTIFICATE),
                "v2",
                created=NOW - timedelta(minutes=30),
                noticed=NOW - timedelta(minutes=29),
                caught_by=Trigger.EVENT,
                synced=NOW - timedelta(minutes=28),
                first_served=NOW - timedelta(minutes=5),
                proven=NOW,
            ),
        ),
        named_value_kept(
            build.run(Mode.FORCE, trigger=Trigger.HAND),
            build.gateway(),
            dict.fromkeys(("certificate", "named_value", "before", "thumbprint", "problem"), "x"),
        ),
    )
}


def named(report: Report, name: str) -> list[Event]:
    """The events of one name."""
    return [event for event in events(report) if event.name == name]


def verified(verdict: Verdict, report: Report | None = None) -> Event:
    """The event of one verdict."""
    return named(replace(report or build.report(), verdicts=(verdict,)), "CertificateVerified")[0]


def test_there_is_an_event_for_each_binding_and_the_run() -> None:
    """Proves that nothing is told twice and nothing is left out; what must not be lost waits in the row."""
    expected = {"CertificateVerified": len(EVERY_KIND), "RunCompleted": 1}
    actual = Counter(event.name for event in events(FULL))

    assert expected == actual


def test_a_run_that_found_nothing_is_told_too() -> None:
    """Proves that silence in Application Insights means that the app is not running."""
    expected = ["RunCompleted"]
    actual = [event.name for event in events(build.report())]

    assert expected == actual


def test_dimensions_are_text_and_measurements_are_numbers() -> None:
    """Proves that the exporter has nothing to convert: it would write str(value) of anything."""
    told = [*events(FULL), *ONCE.values()]

    assert all(isinstance(value, str) for event in told for value in event.properties.values())
    assert all(type(value) is float for event in told for value in event.measurements.values())
    assert all(str(value) == f"{value}" for event in told for value in event.properties.values())


def names_of(told: Iterable[Event]) -> tuple[set[str], set[str]]:
    """The names of dimensions and measurements."""
    found = list(told)
    return (
        {name for event in found for name in event.properties},
        {name for event in found for name in event.measurements},
    )


COMMON = {"schema", "run_id", "trigger", "mode"}
STATUSES = {"in_sync", "syncing", "stale", "blocked", "unknown", "unmanaged"}
GATEWAY = {"gateway", "gateway_id", "gateway_kind"}
BINDING = {"hostname", "hostname_type", "status", "reason", "drift", "message", "certificate"}
THUMBPRINTS = {"configured", "served", "distrust", "expected", "expected_version"}
PROOF = {
    *("served_sha1", "served_sha256", "served_serial", "served_issuer", "served_not_after"),
    *("peer_address", "region", "tls_version", "openssl"),
}
FIELDS = {
    "CertificateVerified": (
        COMMON | GATEWAY | BINDING | THUMBPRINTS | PROOF,
        {"connections", "connections_read", "connections_matching", "days_to_expiry", "seconds_to_served"},
    ),
    "VerdictChanged": (
        COMMON
        | GATEWAY
        | BINDING - {"certificate"}
        | {"event_id", "at", "was_status", "was_reason", "was_since"},
        set[str](),
    ),
    "SyncRequested": (
        COMMON
        | GATEWAY
        | {"event_id", "at", "message", "forced", "overrides", "asked_by", "versions", "claim_id"},
        {"attempt"},
    ),
    "SyncAnswered": (COMMON | GATEWAY | {"event_id", "at", "outcome", "detail"}, {"attempt"}),
    "RotationProven": (
        COMMON
        | GATEWAY
        | {"event_id", "certificate", "version", "caught_by"}
        | {"created", "noticed", "synced", "first_served", "proven"},
        {"seconds_to_notice", "seconds_to_served"},
    ),
    "NamedValueKept": (
        COMMON | GATEWAY | {"at", "certificate", "named_value", "before", "thumbprint", "problem"},
        set(),
    ),
    "RunCompleted": (
        COMMON | {"scope", "problems", "asked_by"},
        {
            "duration_seconds",
            "gateways",
            "gateways_missing",
            "hostnames",
            "drift",
            "syncs",
            "problems",
            *("shard", "shards"),
            *STATUSES,
            *("arm_reads", "arm_writes", "resource_graph_queries", "key_vault_reads", "handshakes"),
        },
    ),
}


def test_every_event_is_as_the_published_schema_says() -> None:
    """Proves that others can build upon it: it allows no field that it does not name."""
    schema = json.loads((ROOT / "docs/telemetry.schema.json").read_text(encoding="utf-8"))
    told = [*events(FULL), *events(build.report([build.verdict(Status.IN_SYNC)])), *ONCE.values()]

    assert set(FIELDS) == {event["title"] for event in schema["oneOf"]} == {event.name for event in told}
    for event in told:
        jsonschema.validate(
            {"name": event.name, "properties": event.properties, "measurements": event.measurements}, schema
        )


@pytest.mark.parametrize(("name", "expected"), FIELDS.items(), ids=FIELDS)
def test_the_names_of_fields_are_a_contract(name: str, expected: tuple[set[str], set[str]]) -> None:
    """Proves that no alert and no workbook breaks unnoticed: a change here needs a new schema version."""
    proven = build.verdict(Status.IN_SYNC, of=evidence(served(), row=build.row()))
    rows = {build.GATEWAY_ID.lower(): replace(build.row(), rotations=(ROTATED,))}
    told = named(replace(FULL, verdicts=(*FULL.verdicts, proven), rows=rows), name) or [ONCE[name]]
    actual = names_of(told)

    assert expected == actual


def test_every_event_says_which_run_it_is_of() -> None:
    """Proves that events of one pass can be put together again."""
    expected = {("1", build.run().run_id, "hand", "Force")}
    actual = {
        (e.properties["schema"], e.properties["run_id"], e.properties["trigger"], e.properties["mode"])
        for e in (*events(FULL), *ONCE.values())
    }

    assert expected == actual


def test_a_verified_certificate_says_what_was_seen() -> None:
    """Proves the event that alerts are made of."""
    seen = evidence(
        replace(served(NEW), distrust="certificate has expired"),
        served(OLD, not_after=NOW + timedelta(days=1, hours=12)),
        failed(),
        of=THREE,
    )
    event = verified(build.verdict(Status.SYNCING, Reason.PARTLY_SERVED, of=seen))
    expected = {
        "connections": 3.0,
        "connections_read": 2.0,
        "connections_matching": 1.0,
        "days_to_expiry": 1.5,
    }
    actual = event.measurements

    assert expected == actual
    assert event.properties["status"] == "SYNCING"
    assert event.properties["reason"] == "PartlyServed"
    assert event.properties["served"] == f"{NEW},{OLD}"
    assert event.properties["served_sha1"] == OLD, (
        "the record is of a connection that was not as it should be"
    )
    assert event.properties["distrust"] == "certificate has expired"
    assert event.properties["expected"] == NEW
    assert event.properties["drift"] == "false"


TIMES = {
    "proven": (ROTATED, {"seconds_to_served": 3600.0}),
    "still under way": (replace(ROTATED, proven=None), {}),
    "to an earlier version": (replace(ROTATED, version="v1"), {}),
    "of another certificate": (replace(ROTATED, certificate="https://kv/another"), {}),
}


@pytest.mark.parametrize(("rotation", "expected"), TIMES.values(), ids=TIMES)
def test_a_verification_says_what_its_rotation_took(rotation: Rotation, expected: dict[str, float]) -> None:
    """Proves the measurement, and that no other rotation is taken for the one to this version."""
    row = replace(build.row(), rotations=(rotation,))
    measured = verified(build.verdict(Status.IN_SYNC), build.report(rows=[row])).measurements

    assert expected == {k: v for k, v in measured.items() if k == "seconds_to_served"}


WITHOUT = {
    "an unreadable vault has no expected thumbprint": (
        LOST,
        {"connections", "connections_read", "days_to_expiry"},
    ),
    "no endpoint has no expiry": (BLIND, {"connections", "connections_read", "connections_matching"}),
    "an unreadable date has no expiry": (BROKEN, {"connections", "connections_read", "connections_matching"}),
    "an uploaded certificate has an expiry": (
        UNMANAGED,
        {"connections", "connections_read", "days_to_expiry"},
    ),
}


@pytest.mark.parametrize(("verdict", "expected"), WITHOUT.values(), ids=WITHOUT)
def test_what_is_not_known_is_not_measured(verdict: Verdict, expected: set[str]) -> None:
    """Proves that no zero stands in for what was not seen."""
    actual = set(verified(verdict).measurements)

    assert expected == actual


def test_drift_is_told_as_a_word() -> None:
    """Proves what the drift alert filters by."""
    expected = "true"
    actual = verified(build.verdict(Status.STALE, drift=True)).properties["drift"]

    assert expected == actual


def test_a_proven_rotation_is_told_with_its_time_and_what_caught_it() -> None:
    """Proves the measurement behind p50 and p95, and the share that events catch."""
    event = ONCE["RotationProven"]

    assert {"seconds_to_served": 1800.0, "seconds_to_notice": 60.0} == event.measurements
    assert "event" == event.properties["caught_by"]
    assert NOW.isoformat() == event.properties["proven"]


def test_a_sync_says_its_number_its_answer_and_whether_it_was_forced() -> None:
    """Proves the events that the budget is watched by."""
    asked, answered = ONCE["SyncRequested"], ONCE["SyncAnswered"]

    assert ("true", {"attempt": 1.0}) == (asked.properties["forced"], asked.measurements)
    assert ("accepted", {"attempt": 1.0}) == (answered.properties["outcome"], answered.measurements)


def test_what_waits_in_a_row_is_short() -> None:
    """Proves that an outbox fits into Table storage whatever a message says."""
    long = replace(build.verdict(), message="x" * 5000)

    assert LONGEST_MESSAGE == len(verdict_changed(build.run(), long, None).properties["message"])


def test_the_proof_can_be_made_again_by_hand() -> None:
    """Proves that the command names the address that was dialled and the name that was asked for."""
    expected = "openssl s_client -connect 20.50.2.1:443 -servername api.contoso.com"

    assert verified(build.verdict(Status.IN_SYNC)).properties["openssl"].startswith(expected)


RIGHT = {Status.IN_SYNC, Status.SYNCING, Status.UNMANAGED}


@pytest.mark.parametrize("status", Status)
def test_a_right_leaf_is_an_available_one(status: Status) -> None:
    """Proves what the Availability blade shows of each status."""
    (result,) = availability(build.report([build.verdict(status)]))

    assert (status in RIGHT, "West Europe") == (result.success, result.location)
    assert "api.contoso.com @ apim-contoso" == result.name


def test_each_region_that_was_read_is_a_location() -> None:
    """Proves that what could not be observed is no result."""
    west, east = build.endpoint(), build.endpoint("East US")
    seen = evidence(served(at=west), served(at=west), failed(east), of=build.binding(endpoints=(west, east)))
    report = build.report([build.verdict(of=seen), BLIND])

    assert ["West Europe"] == [result.location for result in availability(report)]


def test_a_result_takes_as_long_as_its_slowest_connection() -> None:
    """Proves that the blade's durations are of handshakes, and not of the pass."""
    west, east = build.endpoint(), build.endpoint("East US")
    seen = [(west, 0.1), (west, 0.3), (east, 0.2)]
    observed = evidence(
        *(replace(served(at=at), seconds=seconds) for at, seconds in seen),
        of=build.binding(endpoints=(west, east)),
    )
    report = build.report([build.verdict(of=observed)])

    assert [("West Europe", 0.3), ("East US", 0.2)] == [(r.location, r.seconds) for r in availability(report)]


def test_a_run_says_what_it_has_called() -> None:
    """Proves that budgets of Azure can be watched, and that nothing called is a zero."""
    calls = Calls(arm_reads=3, arm_writes=1, resource_graph_queries=2, key_vault_reads=4, handshakes=8)
    expected = {name: float(number) for name, number in asdict(calls).items()}
    told = named(replace(FULL, calls=calls), "RunCompleted")[0].measurements

    assert expected.items() <= told.items()
    assert dict.fromkeys(expected, 0.0).items() <= named(FULL, "RunCompleted")[0].measurements.items()


def test_the_counts_of_a_run_add_up() -> None:
    """Proves that every hostname is counted in exactly one status."""
    measured = named(FULL, "RunCompleted")[0].measurements
    expected = (float(len(EVERY_KIND)), 1.0, 2.0, 1.0)
    actual = (measured["hostnames"], measured["gateways"], measured["problems"], measured["syncs"])

    assert expected == actual
    assert sum(measured[status] for status in STATUSES) == measured["hostnames"]


def test_problems_are_cut_before_application_insights_cuts_them() -> None:
    """Proves that a thousand subscriptions without a role do not lose the event."""
    told = named(build.report(problems=("x" * 300,) * 100), "RunCompleted")[0]

    assert len(told.properties["problems"]) == 4000
    assert told.measurements["problems"] == 100


def test_counts_have_a_zero_for_what_there_is_not() -> None:
    """Proves that a chart has a line where nothing is wrong."""
    expected = dict.fromkeys(STATUSES, 0.0)
    actual = counts([])

    assert expected == actual


def test_drift_is_counted_apart() -> None:
    """Proves that a stale binding within its deadline is no drift."""
    report = build.report([build.verdict(), build.verdict(drift=True)])
    expected = (2.0, 1.0)
    measured = named(report, "RunCompleted")[0].measurements
    actual = (measured["stale"], measured["drift"])

    assert expected == actual


NOTICED: dict[str, tuple[Event, str | None]] = {
    "what is blocked": (
        verdict_changed(build.run(), build.verdict(Status.BLOCKED), None),
        "Rotation.Blocked",
    ),
    "what drifts": (
        verdict_changed(build.run(), build.verdict(Status.STALE, drift=True), None),
        "Rotation.Drifted",
    ),
    "what is only stale": (verdict_changed(build.run(), build.verdict(Status.STALE), None), None),
    "what is in sync": (verdict_changed(build.run(), build.verdict(Status.IN_SYNC), None), None),
    "what is proven": (
        rotation_proven(build.run(), build.gateway(), Rotation("https://kv/a", "v", NOW, NOW, Trigger.HAND)),
        "Rotation.Proven",
    ),
    "what was asked": (sync_requested(build.run(), build.decision(Choice.SYNC, build.row())), None),
}


@pytest.mark.parametrize(("event", "expected"), NOTICED.values(), ids=NOTICED)
def test_others_are_told_of(event: Event, expected: str | None) -> None:
    """Proves which events of a pass are notices, with the event's own id."""
    told = notices(build.report(rows=[replace(build.row(), outbox=(event,))]))

    assert ([(expected, event.event_id)] if expected else []) == [(n.type, n.event_id) for n in told]


def test_a_notice_names_the_gateway_the_hostname_and_all_that_telemetry_says() -> None:
    """Proves every field."""
    event = NOTICED["what is blocked"][0]
    (told,) = notices(build.report(rows=[replace(build.row(), outbox=(event,))]))

    assert (build.GATEWAY_ID, build.HOSTNAME, NOW) == (told.source, told.subject, told.at)
    assert {**event.properties, **event.measurements} == told.data


def test_only_what_this_pass_has_stored_is_told() -> None:
    """Proves that neither another worker's news nor what waits from earlier is told again."""
    event = NOTICED["what is blocked"][0]
    earlier = replace(event, properties={**event.properties, "run_id": "another"})
    rows = [
        replace(build.row(), outbox=(earlier,)),
        replace(build.row(), gateway_key="not stored", outbox=(event,), etag=None),
    ]

    assert [] == notices(build.report(rows=rows))
