from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

import pytest

from rotation.model import Choice, Mode, Reason, Report, Status, Trigger, Verdict
from rotation.telemetry import Event, counts, events
from tests.unit import build
from tests.unit.build import FOREIGN, NEW, NOW, OLD, evidence, failed, served

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
    seconds_to_served={build.GATEWAY_ID.lower(): 95.0},
    of=build.run(Mode.FORCE, trigger=Trigger.HAND),
)


def named(report: Report, name: str) -> list[Event]:
    """The events of one name."""
    return [event for event in events(report) if event.name == name]


def verified(verdict: Verdict, report: Report | None = None) -> Event:
    """The event of one verdict."""
    return named(replace(report or build.report(), verdicts=(verdict,)), "CertificateVerified")[0]


def test_there_is_an_event_for_each_binding_each_sync_and_the_run() -> None:
    """Proves that nothing is told twice and nothing is left out."""
    expected = {"CertificateVerified": len(EVERY_KIND), "SyncRequested": 1, "RunCompleted": 1}
    actual = Counter(event.name for event in events(FULL))

    assert expected == actual


def test_a_run_that_found_nothing_is_told_too() -> None:
    """Proves that silence in Application Insights means that the app is not running."""
    expected = ["RunCompleted"]
    actual = [event.name for event in events(build.report())]

    assert expected == actual


def test_dimensions_are_text_and_measurements_are_numbers() -> None:
    """Proves that the exporter has nothing to convert: it would write str(value) of anything."""
    told = events(FULL)

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
THUMBPRINTS = {"configured", "served", "distrust", "expected", "expected_version", "caught_by"}
FIELDS = {
    "CertificateVerified": (
        COMMON | GATEWAY | BINDING | THUMBPRINTS,
        {"connections", "connections_read", "connections_matching", "days_to_expiry", "seconds_to_served"},
    ),
    "SyncRequested": (COMMON | GATEWAY | {"outcome", "message", "forced", "overrides"}, {"attempt"}),
    "RunCompleted": (
        COMMON | {"scope", "problems"},
        {"duration_seconds", "gateways", "hostnames", "drift", "syncs", "problems", *STATUSES},
    ),
}


@pytest.mark.parametrize(("name", "expected"), FIELDS.items(), ids=FIELDS)
def test_the_names_of_fields_are_a_contract(name: str, expected: tuple[set[str], set[str]]) -> None:
    """Proves that no alert and no workbook breaks unnoticed: a change here needs a new schema version."""
    proven = build.verdict(Status.IN_SYNC, of=evidence(served(), row=build.row()))
    actual = names_of(named(replace(FULL, verdicts=(*FULL.verdicts, proven)), name))

    assert expected == actual


def test_every_event_says_which_run_it_is_of() -> None:
    """Proves that events of one pass can be put together again."""
    expected = {("1", build.run().run_id, "hand", "Force")}
    actual = {
        (e.properties["schema"], e.properties["run_id"], e.properties["trigger"], e.properties["mode"])
        for e in events(FULL)
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
    assert event.properties["distrust"] == "certificate has expired"
    assert event.properties["expected"] == NEW
    assert event.properties["drift"] == "false"


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
    proven = build.verdict(Status.IN_SYNC, of=evidence(served(), row=build.row(caught_by=Trigger.EVENT)))
    event = verified(proven, build.report(seconds_to_served={build.GATEWAY_ID.lower(): 95.0}))
    expected = (95.0, "event")
    actual = (event.measurements["seconds_to_served"], event.properties["caught_by"])

    assert expected == actual


def test_without_a_proof_there_is_no_time_to_served() -> None:
    """Proves that a settled binding does not pull the percentiles down."""
    event = verified(build.verdict(Status.IN_SYNC, of=evidence(served(), row=build.row())))

    assert "seconds_to_served" not in event.measurements
    assert "caught_by" not in event.properties


def test_an_uploaded_certificate_has_no_time_to_served() -> None:
    """Proves that a hostname that was not rotated does not count as one that was."""
    uploaded = build.verdict(
        Status.UNMANAGED, of=evidence(served(), of=build.binding(of=None), row=build.row())
    )
    event = verified(uploaded, build.report(seconds_to_served={build.GATEWAY_ID.lower(): 95.0}))

    assert "seconds_to_served" not in event.measurements


def test_a_sync_says_its_number_its_answer_and_whether_it_was_forced() -> None:
    """Proves the event that the budget is watched by."""
    event = named(FULL, "SyncRequested")[0]
    expected = ("accepted", "true", {"attempt": 1.0})
    actual = (event.properties["outcome"], event.properties["forced"], event.measurements)

    assert expected == actual


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
