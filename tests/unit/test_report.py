import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from rotation.model import (
    CertificateUnreadable,
    CertificateVersion,
    Choice,
    LastVerdict,
    LedgerRow,
    Mode,
    Observation,
    Pause,
    ProbeFault,
    Reason,
    Report,
    Rotation,
    Scope,
    Status,
    Trigger,
    Verdict,
)
from rotation.report import gateway, operation, remembered, rotations, summary, to_json
from tests.unit import build
from tests.unit.build import FOREIGN, NEW, NOW, OLD, evidence, failed, served

WEST = build.endpoint("West Europe", connections=3)
NORTH = build.endpoint("North Europe", connections=2)
REGIONS = build.binding(endpoints=(WEST, NORTH))


def written(*verdicts: Verdict, **more: Any) -> Any:
    """A report on these, as whoever asks for it reads it."""
    return json.loads(json.dumps(to_json(build.report(verdicts, **more)), allow_nan=False))


def test_a_report_says_who_asked_for_what_when() -> None:
    """Proves every field but those of verdicts and decisions."""
    run = build.run(Mode.FORCE, trigger=Trigger.HAND, scope=Scope(hostname="api.contoso.com"))
    expected = {
        "run_id": "0f8fad5b-d9cb-469f-a165-70867728950e",
        "trigger": "hand",
        "mode": "Force",
        "scope": "api.contoso.com",
        "shard": None,
        "as_of": "2026-03-02T10:00:00+00:00",
        "duration_seconds": 1.235,
        "gateways": 0,
        "counts": {"in_sync": 0, "syncing": 0, "stale": 0, "blocked": 0, "unknown": 0, "unmanaged": 0},
        "problems": ["The services of subscription x could not be listed."],
        "missing": 2,
        "pause": {"at": "2026-03-02T10:00:00+00:00", "reason": "change freeze"},
        "decisions": [],
        "rotations": [],
        "authorities": [],
        "verdicts": [],
    }
    actual = written(
        of=run,
        problems=("The services of subscription x could not be listed.",),
        missing=2,
        pause=Pause(build.NOW, "change freeze"),
    )

    assert expected == actual


def test_rotations_are_shown_with_their_moments_the_newest_first() -> None:
    """Proves t0 to t4, for those of the gateways that were looked at."""
    long_ago = NOW - timedelta(days=60)
    old = Rotation("https://kv/certificates/a", "v1", long_ago, long_ago, Trigger.TIMER)
    new = replace(old, version="v2", noticed=NOW, created=NOW, synced=NOW, first_served=NOW, proven=NOW)
    elsewhere = LedgerRow("/subscriptions/else", rotations=(old,))
    verdict = build.verdict(Status.IN_SYNC)
    rows = [replace(build.row(), rotations=(old, new)), elsewhere]
    shown = to_json(build.report([verdict], rows=rows))["rotations"]
    expected = {
        "gateway": "apim-contoso",
        "gateway_id": build.GATEWAY_ID,
        "gateway_kind": "ApiManagement",
        "certificate": "https://kv/certificates/a",
        "version": "v2",
        "created": NOW.isoformat(),
        "noticed": NOW.isoformat(),
        "synced": NOW.isoformat(),
        "first_served": NOW.isoformat(),
        "proven": NOW.isoformat(),
        "caught_by": "timer",
        "seconds_to_served": 0.0,
    }
    under_way = {**expected, "version": "v1", "seconds_to_served": None}
    under_way |= {name: old.noticed.isoformat() for name in ("created", "noticed")}
    under_way |= dict.fromkeys(("synced", "first_served", "proven"))

    assert [expected, under_way] == shown


def test_a_verdict_is_shown_with_all_that_it_rests_on() -> None:
    """Proves every field of a verdict, and of what a connection showed."""
    expected = {
        "gateway": "apim-contoso",
        "gateway_id": build.GATEWAY_ID,
        "gateway_kind": "ApiManagement",
        "hostname": "api.contoso.com",
        "hostname_type": "Proxy",
        "status": "STALE",
        "reason": "ServesOldVersion",
        "drift": True,
        "message": "apim-contoso api.contoso.com: as the test says.",
        "identity": "system-assigned",
        "advisory": None,
        "key_vault_id": "https://kv-gateways.vault.azure.net/secrets/api-contoso-com",
        "expected": NEW,
        "expected_version": "v2",
        "expected_not_after": "2026-05-31T10:00:00+00:00",
        "configured": NEW,
        "served": [
            {
                "region": "West Europe",
                "host": "apim-contoso-westeurope-01.regional.azure-api.net",
                "port": 443,
                "sni": "api.contoso.com",
                "connections": 1,
                "of": 1,
                "thumbprint": OLD,
                "sha256": OLD + "0" * 24,
                "address": "20.50.2.1:443",
                "tls_version": "TLSv1.3",
                "distrust": None,
                "not_after": "2026-03-12T10:00:00+00:00",
                "days_to_expiry": 10,
                "subject": "CN=api.contoso.com",
                "issuer": "CN=Contoso Issuing CA",
                "serial": "0A1B",
                "names": ["api.contoso.com"],
            }
        ],
    }
    old = served(OLD, not_after=NOW + timedelta(days=10))
    actual = written(build.verdict(Status.STALE, of=evidence(old), drift=True))["verdicts"][0]

    assert expected == actual


def test_connections_that_showed_the_same_are_shown_once_with_their_number() -> None:
    """Proves that forty connections do not make forty lines, and that regions stay apart."""
    seen = evidence(
        served(NEW, WEST),
        served(OLD, WEST),
        served(NEW, WEST),
        failed(NORTH),
        failed(NORTH, ProbeFault.HANDSHAKE_TIMEOUT),
        of=REGIONS,
    )
    expected = [
        ("West Europe", NEW, 2, 3),
        ("West Europe", OLD, 1, 3),
        ("North Europe", "connection refused", 1, 2),
        ("North Europe", "timeout in handshake", 1, 2),
    ]
    actual = [
        (group["region"], group.get("thumbprint") or group["fault"], group["connections"], group["of"])
        for group in written(build.verdict(of=seen))["verdicts"][0]["served"]
    ]

    assert expected == actual


def test_a_failed_connection_is_shown_with_its_fault_and_without_a_leaf() -> None:
    """Proves that what was not seen is not filled with blanks."""
    expected = {"region", "host", "port", "sni", "connections", "of", "fault", "detail"}
    actual = set(written(build.verdict(of=evidence(failed())))["verdicts"][0]["served"][0])

    assert expected == actual


def test_a_leaf_with_an_unreadable_date_has_no_days() -> None:
    """Proves that a broken certificate does not break the report."""
    expected = (None, None)
    group = written(build.verdict(of=evidence(served(not_after=None))))["verdicts"][0]["served"][0]
    actual = (group["not_after"], group["days_to_expiry"])

    assert expected == actual


def test_an_expired_leaf_has_days_below_zero() -> None:
    """Proves that it is told since when."""
    expected = -3
    gone = served(not_after=NOW - timedelta(days=2, hours=1))
    actual = written(build.verdict(of=evidence(gone)))["verdicts"][0]["served"][0]["days_to_expiry"]

    assert expected == actual


def test_of_thousands_of_names_twenty_are_shown() -> None:
    """Proves that a strange certificate does not make a strange page."""
    names = tuple(f"{n}.contoso.com" for n in range(4000))
    seen = evidence(served(names=names))
    expected = list(names[:20])
    actual = written(build.verdict(of=seen))["verdicts"][0]["served"][0]["names"]

    assert expected == actual


def test_what_needs_a_human_stands_on_top() -> None:
    """Proves the order of the page: by urgency, then by gateway, then by hostname."""
    first, last = build.gateway(resource_id="/a"), build.gateway(resource_id="/B")
    verdicts = [
        build.verdict(status, of=evidence(served(), of=build.binding(hostname), at=gateway))
        for status in Status
        for gateway in (last, first)
        for hostname in ("b.contoso.com", "a.contoso.com")
    ]
    order = ("BLOCKED", "STALE", "UNKNOWN", "SYNCING", "IN_SYNC", "UNMANAGED")
    expected = [
        (status, gateway, hostname)
        for status in order
        for gateway in ("/a", "/B")
        for hostname in ("a.contoso.com", "b.contoso.com")
    ]
    actual = [(v["status"], v["gateway_id"], v["hostname"]) for v in written(*verdicts)["verdicts"]]

    assert expected == actual


EXPECTATIONS: dict[str, CertificateVersion | CertificateUnreadable | None] = {
    "a version": build.version(),
    "nothing readable": build.unreadable(),
    "nothing at all": None,
}
OBSERVATIONS: dict[str, tuple[Observation, ...]] = {
    "nothing": (),
    "a leaf": (served(FOREIGN),),
    "a failure": (failed(),),
    "a broken leaf": (served(not_after=None),),
}


@pytest.mark.parametrize("seen", OBSERVATIONS.values(), ids=OBSERVATIONS)
@pytest.mark.parametrize("newest", EXPECTATIONS.values(), ids=EXPECTATIONS)
@pytest.mark.parametrize("status", Status, ids=str)
def test_every_kind_of_verdict_can_be_written(
    status: Status, newest: CertificateVersion | CertificateUnreadable | None, seen: tuple[Observation, ...]
) -> None:
    """Proves that no combination is missing from a report because it cannot be put into JSON."""
    about = evidence(*seen, expected=newest, of=build.binding(of=build.CERTIFICATE if newest else None))
    expected = newest.thumbprint if isinstance(newest, CertificateVersion) else None
    actual = written(build.verdict(status, Reason.SERVED, of=about))["verdicts"][0]

    assert status == actual["status"]
    assert expected == actual["expected"]


def test_a_decision_is_shown_with_what_came_of_it() -> None:
    """Proves what is told of a sync, and of none."""
    common = {"gateway": "apim-contoso", "gateway_id": build.GATEWAY_ID, "message": "as the test says."}
    expected = [
        {
            **common,
            "choice": "Sync",
            "outcome": "accepted",
            "operation_url": "https://management.azure.com/operations/1",
        },
        {**common, "choice": "NothingStale", "outcome": None, "operation_url": None},
    ]
    decisions = [build.decision(Choice.SYNC, build.row()), build.decision()]
    actual = written(decisions=decisions)["decisions"]

    assert expected == actual


SUMMARIES = {
    "nothing at all": ([], "timer looked at everything: 0 gateway(s), no hostname"),
    "in the order of the statuses": (
        [Status.UNKNOWN, Status.STALE, Status.IN_SYNC, Status.STALE],
        "timer looked at everything: 1 gateway(s), 1 IN_SYNC, 2 STALE, 1 UNKNOWN",
    ),
}


@pytest.mark.parametrize(("statuses", "expected"), SUMMARIES.values(), ids=SUMMARIES)
def test_a_run_is_summed_up_in_a_line(statuses: list[Status], expected: str) -> None:
    """Proves what the log says of every pass."""
    actual = summary(build.report(map(build.verdict, statuses)))

    assert expected == actual


def test_what_the_ledger_holds_of_a_gateway_is_shown() -> None:
    """Proves every field, and that a sync is in flight until it is proven or its time is over."""
    since = NOW - timedelta(hours=1)
    last = {
        "proxy/api.contoso.com": LastVerdict(
            Status.SYNCING, Reason.SYNC_IN_FLIGHT, drift=False, since=since, version="v1"
        )
    }
    row = replace(build.row_in_flight(), last=last)
    expected = {
        "attempts": 1,
        "asked_at": (NOW - timedelta(minutes=10)).isoformat(),
        "next_at": (NOW + timedelta(minutes=20)).isoformat(),
        "hold_until": None,
        "outcome": "accepted",
        "proven_at": None,
        "missing_since": None,
        "in_flight": True,
        "hostnames": [
            {
                "hostname": "api.contoso.com",
                "hostname_type": "proxy",
                "status": "SYNCING",
                "reason": "SyncInFlight",
                "drift": False,
                "since": since.isoformat(),
            }
        ],
        "rotations": [],
    }

    assert expected == remembered(row, NOW)
    assert remembered(replace(row, proven_at=NOW), NOW)["in_flight"] is False
    assert remembered(row, NOW + timedelta(hours=1))["in_flight"] is False


SYNCED = build.report([build.verdict()], [build.decision(Choice.SYNC, build.row())])
LOOKED = build.report([build.verdict()], [build.decision()])


@pytest.mark.parametrize(
    ("made", "row", "expected"),
    [
        pytest.param(SYNCED, build.row_in_flight(), "running", id="a sync of its own"),
        pytest.param(SYNCED, replace(build.row_in_flight(), proven_at=NOW), "done", id="which is proven"),
        pytest.param(SYNCED, build.row(), "done", id="of which nothing is known any more"),
        pytest.param(LOOKED, build.row_in_flight(), "done", id="a sync of somebody else"),
    ],
)
def test_an_operation_runs_as_long_as_its_own_syncs(made: Report, row: LedgerRow, expected: str) -> None:
    """Proves when whoever polls may stop."""
    written: Any = to_json(made)
    shown = operation(written, {row.gateway_key: row}, NOW)

    assert (expected, written["run_id"], written) == (shown["status"], shown["id"], shown["report"])
    assert [
        {
            "gateway": "apim-contoso",
            "gateway_id": build.GATEWAY_ID,
            "gateway_kind": "ApiManagement",
            "now": remembered(row, NOW),
        }
    ] == shown["gateways"]


def test_a_gateway_is_shown_without_the_others() -> None:
    """Proves that of the last report only its own part is taken."""
    other = build.gateway(name="apim-other", resource_id=build.GATEWAY_ID + "-other")
    elsewhere = build.verdict(of=evidence(served(), at=other))
    written: Any = to_json(build.report([build.verdict(), elsewhere], [build.decision()]))
    shown: Any = gateway(written, build.row(), NOW)

    assert ["apim-contoso"] == [v["gateway"] for v in written["verdicts"] if v in shown["verdicts"]]
    assert (written["decisions"], written["as_of"]) == (shown["decisions"], shown["as_of"])


def test_rotations_of_the_ledger_are_named_as_in_the_last_report() -> None:
    """Proves it, and that a gateway that is in none is named by its id."""
    old = Rotation("https://kv/certificates/a", "v1", NOW, NOW, Trigger.TIMER)
    new = replace(old, version="v2", noticed=NOW + timedelta(minutes=1))
    rows = [
        replace(build.row(), rotations=(old,)),
        LedgerRow("/subscriptions/s/apim-else", rotations=(new,)),
    ]
    shown = rotations(rows, to_json(LOOKED))

    assert [
        ("apim-else", "/subscriptions/s/apim-else", None, "v2"),
        ("apim-contoso", build.GATEWAY_ID, "ApiManagement", "v1"),
    ] == [(r["gateway"], r["gateway_id"], r["gateway_kind"], r["version"]) for r in shown]
    assert ["v2", "v1"] == [r["version"] for r in rotations(rows, None)]
