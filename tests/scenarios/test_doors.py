"""The doors of the running app: events, HTTP, settings, and dependencies that fail or hang."""

import json
import re
import time
from datetime import timedelta
from typing import Any

import pytest

from sandbox.stage import Stage
from sandbox.world import Certificate, Fault, Hostname, Server, Service, World

HOST = "api.contoso.com"
FUNCTIONS = [
    *("on_certificate_event", "check_drift", "resync", "operation", "pause", "resume", "status", "page"),
    *("page_file", "gateway", "rotations", "openapi", "health", "unknown"),
]


def contoso() -> tuple[World, Certificate, Service]:
    """A world with one certificate and one service of one region."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
    return (
        world,
        certificate,
        world.add_service("apim-contoso", hostnames=(Hostname(HOST, certificate=certificate),)),
    )


def event(**changes: object) -> dict[str, Any]:
    """A well-formed event of a renewal in the vault of `contoso`, changed."""
    data: dict[str, object] = {
        "Id": "https://kv-contoso.vault.azure.net/certificates/contoso-com/0123456789abcdef0123456789abcdef",
        "VaultName": "kv-contoso",
        "ObjectType": "Certificate",
        "ObjectName": "contoso-com",
        "Version": "0123456789abcdef0123456789abcdef",
        "NBF": 1,
        "EXP": 2,
    }
    envelope: dict[str, object] = {
        "id": "an-event",
        "topic": "/subscriptions/0/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/kv-contoso",
        "subject": "contoso-com",
        "eventType": "Microsoft.KeyVault.CertificateNewVersionCreated",
        "eventTime": "2026-11-23T00:00:00Z",
        "dataVersion": "1",
        "metadataVersion": "1",
    }
    data |= {key: value for key, value in changes.items() if key in data}
    envelope |= {key: value for key, value in changes.items() if key not in data}
    return {"data": data, **envelope}


IGNORED = {
    "another type": event(eventType="Microsoft.KeyVault.SecretNewVersionCreated"),
    "an unknown type": event(eventType="Contoso.Surprise"),
    "no data": event(data=None),
    "data that is a list": event(data=[1, 2]),
    "data that is text": event(data="contoso-com"),
    "empty data": event(data={}),
    "an Id of another host": event(Id="https://evil.example/certificates/contoso-com/1"),
    "an Id with a user": event(Id="https://kv-contoso.vault.azure.net@evil.example/certificates/x/1"),
    "an Id that climbs": event(Id="https://kv-contoso.vault.azure.net/certificates/../secrets/x"),
    "a vault name that is not the Id's": event(VaultName="kv-fabrikam"),
    "an object name that is not the Id's": event(ObjectName="other"),
    "a topic that is not the Id's vault": event(topic="/subscriptions/0/x/vaults/kv-fabrikam"),
    "a topic that is no resource": event(topic="<script>alert(1)</script>"),
    "line breaks in the Id": event(Id="https://kv-contoso.vault.azure.net/certificates/a\r\nb/1"),
}


def test_events_about_nothing_of_ours_are_answered_with_success_and_cause_no_call() -> None:
    """One audit line each, no outbound call, nothing for Event Grid to deliver again."""
    world, _, _ = contoso()
    with Stage(world) as stage:
        statuses = {name: stage.azure.event_grid.post(body) for name, body in IGNORED.items()}
        stage.settle()

        assert dict.fromkeys(IGNORED, 202) == statuses
        assert len(IGNORED) == stage.host.log().count("is ignored: ")
        assert [] == world.requests


def test_an_event_about_a_certificate_that_no_gateway_uses_ends_after_looking() -> None:
    """A well-formed event of an unused certificate reads the inventory and nothing else."""
    world, _, service = contoso()
    unused = world.vaults["kv-contoso"].add_certificate("unused", ["unused.contoso.com"])
    with Stage(world) as stage:
        unused.renew()
        stage.settle()

        assert {"arm", "identity", "ingestion"} == {r.server for r in world.requests}
        assert [] == service.syncs
        assert "certificates/unused: no gateway in scope uses it" in stage.host.log()


def test_a_made_up_event_about_a_real_certificate_changes_nothing() -> None:
    """Even with the key of the webhook, only the truth decides: nothing is stale, nothing is synced."""
    world, _, service = contoso()
    with Stage(world) as stage:
        assert 202 == stage.azure.event_grid.post(event())
        stage.settle()

        assert [] == service.syncs


BAD_BODIES: list[tuple[str, int, str]] = [
    ("", 400, "Expecting value"),
    ("nonsense", 400, "Expecting value"),
    ("[]", 400, "object"),
    ("{}", 400, "gateway"),
    ('{"all": false}', 400, "'all'"),
    ('{"all": true, "host": "evil.example"}', 400, "'host'"),
    ('{"all": true, "hostname": "api.contoso.com"}', 400, "exactly one"),
    ('{"hostname": 5}', 400, "'hostname'"),
    ('{"hostname": "<script>"}', 400, "'hostname'"),
    ('{"gateway": "../../x"}', 400, "'gateway'"),
    ('{"certificate": "https://evil.example/certificates/x"}', 400, "evil.example"),
    ('{"all": true, "force": "yes"}', 400, "'force'"),
    ('{"all": true, "force": true, "dry_run": true}', 400, "'dry_run'"),
    ('{"all": ' + "[" * 5000 + "]" * 5000 + "}", 400, ""),
    ('{"hostname": "nobody.contoso.com"}', 404, "nobody.contoso.com"),
    ('{"all": true, "x": "' + "y" * 20000 + '"}', 413, "16384"),
]


def test_bad_bodies_are_answered_with_problem_json_that_names_the_field() -> None:
    """400, 404, 413 and 415 as RFC 9457 problems with an operation id; nothing is synced."""
    world, _, service = contoso()
    with Stage(world) as stage:
        for body, status, named in BAD_BODIES:
            answer = stage.host.request(
                "POST",
                "/api/resync",
                body=body.encode(),
                headers={"Content-Type": "application/json"},
                key="function",
            )
            problem = answer.json()

            assert (status, "application/problem+json") == (answer.status, answer.headers["Content-Type"]), (
                body
            )
            assert named in problem["detail"]
            assert (status, 32) == (problem["status"], len(problem["operation_id"]))

        unsupported = stage.host.request("POST", "/api/resync", body=b'{"all": true}', key="function")
        assert 415 == unsupported.status
        assert [] == service.syncs


def test_keys_are_asked_for_everywhere_but_for_liveness() -> None:
    """Only /api/health and the page's stylesheet, script and icon are anonymous, and they tell nothing."""
    world, _, _ = contoso()
    with Stage(world) as stage:
        health = stage.host.request("GET", "/api/health")
        assert (200, "ok") == (health.status, health.text)
        for method, path in (("GET", "/api/status"), ("GET", "/api/page"), ("POST", "/api/resync")):
            assert 401 == stage.host.request(method, path).status
            assert 401 == stage.host.request(method, path, key="wrong").status
        assert [] == world.requests


def test_a_resync_by_hand_goes_the_same_path_and_is_held_by_the_same_brakes() -> None:
    """Dry run reads only; a resync in sync does nothing; force does, once; what runs is not disturbed."""
    world, certificate, service = contoso()
    with Stage(world) as stage:
        certificate.renew(announce=False)
        dry = stage.resync(hostname=HOST, dry_run=True)
        assert (202, f"/api/operations/{dry.json()['run_id']}") == (dry.status, dry.headers["Location"])
        assert ["ObserveOnly"] == [d["choice"] for d in dry.json()["decisions"]]
        assert [] == service.syncs

        first = stage.resync(gateway=service.id)
        assert [("Sync", "accepted")] == [(d["choice"], d["outcome"]) for d in first.json()["decisions"]]
        again = stage.resync(
            certificate="https://kv-contoso.vault.azure.net/certificates/contoso-com", force=True
        )
        assert ["Busy"] == [d["choice"] for d in again.json()["decisions"]]
        world.clock.advance(timedelta(minutes=40))
        assert ["NothingStale"] == [d["choice"] for d in stage.resync(all=True).json()["decisions"]]

        service.sets_updating = False
        forced = [stage.resync(hostname=HOST, force=True).json()["decisions"][0]["choice"] for _ in range(3)]
        assert ["Sync", "ForceLimited", "ForceLimited"] == forced
        assert len(service.syncs) == 2


def test_observe_mode_never_syncs_whatever_is_asked() -> None:
    """ROTATION_MODE is observe unless set to enforce."""
    world, certificate, service = contoso()
    with Stage(world, {"ROTATION_MODE": ""}) as stage:
        certificate.renew()
        stage.settle()
        assert "STALE" == stage.tick()[HOST]["status"]
        assert 202 == stage.resync(all=True, force=True).status
        assert "observe" == stage.status()["settings"]["mode"]

        assert [] == service.syncs
        asked = [r for r in world.requests if r.server == Server.ARM and r.method != "GET"]
        assert {"/providers/Microsoft.ResourceGraph/resources"} == {r.path for r in asked}


def test_wrong_settings_are_all_reported_by_every_function_and_nothing_is_called() -> None:
    """The app starts, says everything that is wrong at once, and keeps its hands off."""
    world, certificate, _ = contoso()
    wrong = {
        "ROTATION_MODE": "sometimes",
        "ROTATION_SUBSCRIPTIONS": "mine",
        "ROTATION_CLOUD": "AzureGermanCloud",
        "ROTATION_SCHEDULE": "every five minutes",
        "ROTATION_PROBE_TIMEOUT": "5",
    }
    with Stage(world, wrong) as stage:
        assert FUNCTIONS == stage.host.functions
        certificate.renew()
        stage.settle()
        stage.host.run("check_drift")
        status = stage.host.request("GET", "/api/status", key="function")
        resync = stage.resync(all=True)

        assert [202] == [delivery.status for delivery in stage.azure.event_grid.deliveries]
        assert (503, 503) == (status.status, resync.status)
        for name in wrong:
            assert name in status.json()["detail"]
            assert stage.host.log().count(name) >= 2
        assert "did you mean ROTATION_PROBE_TIMEOUT_SECONDS?" in status.json()["detail"]
        assert [] == world.requests


@pytest.mark.parametrize("server", Server)
def test_an_event_is_answered_well_under_twenty_seconds_when_a_dependency_hangs(server: Server) -> None:
    """Event Grid waits 30 s; what is not done by then is the timer's."""
    world, certificate, service = contoso()
    with Stage(world, {"ROTATION_EVENT_BUDGET_SECONDS": "5"}) as stage:
        world.faults.append(Fault(server, hang=True, times=None))
        certificate.renew()
        began = time.monotonic()
        stage.settle()

        assert time.monotonic() - began < 12
        assert [202] == [delivery.status for delivery in stage.azure.event_grid.deliveries]
        world.faults.clear()
        stage.tick()
        assert len(service.syncs) == 1


@pytest.mark.parametrize(
    ("fault", "wait"),
    [
        (Fault(Server.ARM, "refreshHostnames", status=409, body={"error": {"code": "ServiceLocked"}}), 5),
        (Fault(Server.ARM, "refreshHostnames", status=429, headers={"Retry-After": "1200"}), 20),
        (Fault(Server.ARM, "refreshHostnames", status=429, headers={"Retry-After": "99999999"}), 60),
        (
            Fault(
                Server.ARM, "refreshHostnames", status=403, body={"error": {"code": "AuthorizationFailed"}}
            ),
            5,
        ),
        (Fault(Server.ARM, "refreshHostnames", status=500), 30),
        (Fault(Server.ARM, "refreshHostnames", reset=True), 30),
    ],
    ids=["locked", "throttled", "throttled for ever", "forbidden", "server error", "reset"],
)
def test_a_sync_that_was_not_accepted_is_sent_once_and_again_only_when_due(fault: Fault, wait: int) -> None:
    """The SDK's own retries are off; a refusal costs no attempt, an unknown outcome costs one."""
    world, certificate, service = contoso()
    with Stage(world) as stage:
        world.faults.append(fault)
        certificate.renew()
        stage.settle()
        posts = [r for r in world.requests if r.method == "POST" and "refreshHostnames" in r.path]
        assert len(posts) == 1

        world.clock.advance(timedelta(minutes=wait - 1))
        stage.tick()
        assert [] == service.syncs
        world.clock.advance(timedelta(minutes=1, seconds=5))
        stage.tick()

        assert len(service.syncs) == 1


def test_a_subscription_that_cannot_be_listed_is_a_problem_and_not_silence() -> None:
    """The rest goes on, and the report says what is missing."""
    world, certificate, service = contoso()
    other = "00000000-0000-4000-8000-000000000001"
    world.add_service("apim-hidden", subscription_id=other)
    world.denied_subscriptions.add(other)
    with Stage(world) as stage:
        certificate.renew()
        stage.settle()
        stage.tick()

        assert len(service.syncs) == 1
        problems = stage.status()["report"]["problems"]
        assert [True] == [other in problem and "Reader" in problem for problem in problems]
        assert 1.0 == world.custom_events("RunCompleted")[-1].measurements["problems"]


def test_without_its_ledger_the_app_looks_and_tells_but_does_not_sync() -> None:
    """Fail closed for actions, open for information."""
    world, certificate, service = contoso()
    with Stage(world, {"ROTATION_LEDGER": "/nowhere/at/all.sqlite"}) as stage:
        certificate.renew()
        stage.settle()
        stage.host.run("check_drift")

        assert [] == service.syncs
        assert re.search(r"LedgerUnavailable \([^)]*\): apim-contoso", stage.host.log())
        verified = world.custom_events("CertificateVerified")
        assert {"STALE"} == {e.properties["status"] for e in verified if e.properties["hostname"] == HOST}
        assert 503 == stage.host.request("GET", "/api/status", key="function").status


def test_what_application_insights_does_not_accept_goes_to_the_host_log() -> None:
    """The second road: the same JSON at ERROR, and the work goes on."""
    world, certificate, service = contoso()
    with Stage(world) as stage:
        world.faults.append(Fault(Server.INGESTION, status=402, times=None))
        certificate.renew()
        stage.settle()

        assert len(service.syncs) == 1
        assert [] == world.telemetry
        lines = [line for line in stage.host.log().splitlines() if "did not accept" in line]
        written = [json.loads(line.partition("did not accept ")[2]) for line in lines]
        told = {"CertificateVerified", "RunCompleted", f"{HOST} @ {service.name}"}
        assert told <= {w["name"] for w in written}

        world.faults.clear()
        stage.tick()
        assert 1 == len(world.custom_events("SyncRequested"))
        assert 1 == len(world.custom_events("SyncAnswered"))


def test_a_newcomer_without_application_insights_still_gets_verdicts() -> None:
    """No connection string: nothing is written there, everything else works."""
    world, _, _ = contoso()
    with Stage(world, {"APPLICATIONINSIGHTS_CONNECTION_STRING": ""}) as stage:
        assert "IN_SYNC" == stage.tick()[HOST]["status"]
        assert [] == world.telemetry
        assert stage.status()["settings"]["application_insights"] is False
