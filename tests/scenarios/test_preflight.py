"""What a sync would make worse, and what only the gateway's own answers tell."""

from datetime import timedelta
from typing import Any

import pytest

from sandbox.stage import Stage
from sandbox.world import Certificate, Fault, Hostname, Server, Service, World

HOST = "api.contoso.com"


def contoso() -> tuple[World, Certificate, Service]:
    """A world with one certificate of two names and one service that serves it."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", [HOST, "www.contoso.com"])
    return world, certificate, world.add_service("apim", hostnames=(Hostname(HOST, certificate=certificate),))


@pytest.mark.parametrize(
    ("renewal", "reason"),
    [
        pytest.param({"names": [HOST]}, "NamesLost", id="a name of the served one is missing"),
        pytest.param({"self_sign": True}, "IssuerChanged", id="from a trusted authority to self-signed"),
        pytest.param({"names": ["other.fabrikam.com"]}, "NameNotCovered", id="the hostname is not covered"),
    ],
)
def test_a_block_is_held_until_a_person_overrides_it_by_name(renewal: dict[str, Any], reason: str) -> None:
    """Blocked, not synced even by force; overridden with an audit line, and only what was named."""
    world, certificate, service = contoso()
    with Stage(world) as stage:
        certificate.renew(**renewal)
        stage.settle()
        verdict = stage.tick()[HOST]
        assert ("BLOCKED", reason) == (verdict["status"], verdict["reason"])
        stage.resync(hostname=HOST, force=True)
        stage.resync(hostname=HOST, override=["VersionUnusable"])
        assert [] == service.syncs

        answer = stage.resync(hostname=HOST, override=[reason])

        assert [("Sync", "accepted")] == [(d["choice"], d["outcome"]) for d in answer.json()["decisions"]]
        assert len(service.syncs) == 1
        assert f"overrides {reason}" in stage.host.log()
        assert reason == world.custom_events("SyncRequested")[-1].properties["overrides"]


@pytest.mark.parametrize("override", ["PinnedVersion", "Served", "nonsense", ["CertificateDeleted"], 5])
def test_what_no_sync_can_go_past_cannot_be_overridden(override: object) -> None:
    """400, naming the field and what there is."""
    world, _, _ = contoso()
    with Stage(world) as stage:
        answer = stage.resync(hostname=HOST, override=override)

        assert 400 == answer.status
        assert "'override'" in answer.json()["detail"]


def test_a_gateway_that_cannot_read_the_vault_is_told_with_the_day_on_which_traffic_stops() -> None:
    """The operation behind the sync's Location says why; the served leaf says until when."""
    world, certificate, service = contoso()
    ends = certificate.newest.not_after
    service.identity_can_read_vault = False
    with Stage(world) as stage:
        certificate.renew()
        stage.settle()
        world.clock.advance(timedelta(minutes=25))
        verdict = stage.tick()[HOST]

        assert ("STALE", "GatewayCannotReadVault") == (verdict["status"], verdict["reason"])
        assert f"traffic stops on {ends:%Y-%m-%d}" in verdict["message"]
        assert "system-assigned" in verdict["message"]

        service.identity_can_read_vault = True
        world.clock.advance(timedelta(minutes=6))
        stage.tick()
        world.clock.advance(timedelta(minutes=30))
        assert "IN_SYNC" == stage.tick()[HOST]["status"]


@pytest.mark.parametrize(
    ("status", "code"),
    [(404, "InvalidResourceType"), (400, "NoRegisteredProviderFound"), (405, "MethodNotAllowed")],
)
def test_where_the_operation_is_not_offered_the_portal_is_named_and_verification_goes_on(
    status: int, code: str
) -> None:
    """Blocked with the next step, tried again only daily; in sync as soon as it is served."""
    world, certificate, service = contoso()
    service.self_sync_after = timedelta(hours=30)
    refusal = {"error": {"code": code, "message": "not offered"}}
    world.faults.append(Fault(Server.ARM, "refreshHostnames", status=status, body=refusal, times=None))
    with Stage(world) as stage:
        certificate.renew()
        stage.settle()
        for _ in range(4):
            world.clock.advance(timedelta(hours=5))
            verdict = stage.tick()[HOST]
            assert ("BLOCKED", "SyncNotSupported") == (verdict["status"], verdict["reason"])
            assert "Sync certificates" in verdict["message"]
        assert 1 == len([r for r in world.requests if r.method == "POST" and "refreshHostnames" in r.path])

        world.clock.advance(timedelta(hours=12))
        assert "IN_SYNC" == stage.tick()[HOST]["status"]
