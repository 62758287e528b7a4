"""Certificate entities towards backends and named values, by the same path: event, timer and HTTP."""

from datetime import timedelta
from typing import Any

import pytest

from sandbox.self_hosted import Entity, VaultValue
from sandbox.stage import Stage
from sandbox.witness import canary
from sandbox.world import Certificate, Fault, Hostname, NamedValue, Server, Service, World

MANAGED = "api.contoso.com"
ON = {"ROTATION_KINDS": "CertificateEntity,NamedValue"}
HAS_IT = ("UNMANAGED", "ConfiguredOnly")


def contoso() -> tuple[World, Certificate, Service, Entity, VaultValue]:
    """One certificate: a hostname's, and in a service and a workspace of it used towards backends."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
    managed = world.add_service(
        "apim-contoso",
        hostnames=(Hostname(MANAGED, certificate=certificate),),
        sku="Premium",
    )
    managed.workspaces.append("orders")
    world.clock.advance(timedelta(minutes=1))  # Key Vault tells whole seconds
    entity = managed.add_entity("backend-client", certificate)
    managed.add_entity("orders-client", certificate, workspace="orders")
    value = managed.add_vault_value("backend-pfx", certificate)
    managed.add_vault_value("orders-pfx", certificate, workspace="orders")
    return world, certificate, managed, entity, value


def outcome(verdict: dict[str, Any]) -> tuple[str, str]:
    """Status and reason."""
    return verdict["status"], verdict["reason"]


def refreshes(service: Service) -> dict[str, int]:
    """How often each was told to read Key Vault."""
    return {each.name: len(each.refreshes) for each in (*service.entities, *service.vault_values)}


EACH = ("backend-client", "orders-client", "backend-pfx", "orders-pfx")


def test_a_renewal_reaches_all_that_hangs_on_the_certificate_by_one_event() -> None:
    """Each is told once, by its own operation; ARM's word is told as that, and never as a proof."""
    world, certificate, managed, _, _ = contoso()
    with Stage(world, ON) as stage:
        before = stage.tick()
        assert {("IN_SYNC", "Served")} == {outcome(before[MANAGED])}
        assert {HAS_IT} == {outcome(before[name]) for name in EACH}

        certificate.renew()
        world.clock.advance(timedelta(seconds=5))
        stage.settle()
        assert dict.fromkeys(EACH, 1) == refreshes(managed)

        under_way = stage.tick()
        assert HAS_IT == outcome(under_way["orders-client"])
        assert ("SYNCING", "SyncInFlight") == outcome(under_way["orders-pfx"])
        world.clock.advance(timedelta(minutes=1))
        after = stage.tick()
        assert {HAS_IT} == {outcome(after[name]) for name in EACH}
        assert certificate.newest.thumbprint == after["backend-client"]["configured"]
        assert after["backend-pfx"]["configured"] is None
        assert ("CertificateEntity", "apim-contoso/orders/orders-client", []) == (
            after["orders-client"]["gateway_kind"],
            after["orders-client"]["gateway"],
            after["orders-client"]["served"],
        )
        stage.tick()
        assert dict.fromkeys(EACH, 1) == refreshes(managed)
        proven = {event.properties["gateway"] for event in world.custom_events("RotationProven")}
        assert proven <= {"apim-contoso"}
        told = [e.properties for e in world.custom_events("CertificateVerified")]
        said = {each["status"] for each in told if each["hostname"] in EACH}
        assert {"UNMANAGED", "STALE", "SYNCING"} >= said, "neither proven nor unobserved"


def test_a_lost_event_is_made_up_for_by_the_timer_and_by_hand() -> None:
    """Level-triggered like everything else, and what has the version can be forced."""
    world, certificate, managed, entity, value = contoso()
    with Stage(world, ON, schema=None) as stage:
        stage.tick()
        certificate.renew()
        world.clock.advance(timedelta(seconds=5))
        late = stage.tick()
        assert {("STALE", "ServesOldVersion")} == {outcome(late[name]) for name in EACH}
        assert "ARM says that it last read Key Vault" in late["backend-pfx"]["message"]
        assert dict.fromkeys(EACH, 1) == refreshes(managed)

        world.clock.advance(timedelta(minutes=1))
        certificate.renew()
        world.clock.advance(timedelta(seconds=5))
        answer = stage.resync(
            certificate="https://kv-contoso.vault.azure.net/certificates/contoso-com"
        ).json()
        assert 4 == [d["choice"] for d in answer["decisions"]].count("Sync")
        assert dict.fromkeys(EACH, 2) == refreshes(managed)
        world.clock.advance(timedelta(minutes=1))
        assert {HAS_IT} == {outcome(stage.tick()[name]) for name in EACH}

        forced = stage.resync(gateway=entity.id, force=True).json()["decisions"]
        assert [("Sync", "accepted")] == [(d["choice"], d["outcome"]) for d in forced]
        assert f"the entity has {certificate.newest.thumbprint[:10]}" in forced[0]["message"]
        assert 2 == len(value.refreshes)


def test_a_named_value_that_cannot_read_the_vault_is_told_and_mended_by_itself() -> None:
    """The operation's error and its own account of it; afterwards the next attempt succeeds."""
    world, certificate, managed, _, value = contoso()
    with Stage(world, ON) as stage:
        stage.tick()
        managed.identity_can_read_vault = False
        certificate.renew()
        world.clock.advance(timedelta(seconds=5))
        stage.settle()
        world.clock.advance(timedelta(minutes=10))
        verdict = stage.tick()["backend-pfx"]
        assert ("STALE", "GatewayCannotReadVault") == outcome(verdict)
        assert "Failed to access KeyVault Secret" in verdict["message"]
        assert 1 == len(value.refreshes)

        managed.identity_can_read_vault = True
        world.clock.advance(timedelta(minutes=30))
        stage.tick()
        assert 2 == len(value.refreshes)
        world.clock.advance(timedelta(minutes=1))
        assert HAS_IT == outcome(stage.tick()["backend-pfx"])


def test_what_is_no_certificate_is_left_alone_and_its_value_goes_nowhere() -> None:
    """Most named values hold something else: nobody's certificate, and never UNKNOWN for that."""
    world, certificate, managed, _, _ = contoso()
    managed.named_values["plain"] = NamedValue(canary())
    password = managed.add_vault_value(
        "database", secret="https://kv-contoso.vault.azure.net/secrets/database-password"
    )
    with Stage(world, ON) as stage:
        verdicts = stage.tick()
        assert {"plain", "database"}.isdisjoint(verdicts)
        assert [] == stage.status()["report"]["problems"]
        certificate.renew()
        stage.settle()
        stage.tick()
        assert [] == password.refreshes
        assert not [r for r in world.requests if "listvalue" in r.path.lower()]

        managed.identity_can_read_vault = False
        world.clock.advance(timedelta(hours=5))
    with Stage(world, ON) as stage:
        stage.tick()
        (problem,) = [p for p in stage.status()["report"]["problems"] if "database" in p]
        assert "the named value database could not be read from Key Vault" in problem


def test_what_a_self_hosted_gateway_serves_is_its_and_judged_by_what_is_served() -> None:
    """Whether its own kind is turned on or not."""
    world, certificate, managed, entity, _ = contoso()
    managed.add_self_hosted("edge-berlin", {"edge.contoso.com": entity}, ["berlin.contoso.internal"])
    with Stage(world, ON) as stage:
        assert "backend-client" not in stage.tick()
        certificate.renew()
        world.clock.advance(timedelta(seconds=5))
        stage.settle()
        assert [] == entity.refreshes
    both = {
        "ROTATION_KINDS": f"{ON['ROTATION_KINDS']},SelfHostedGateway",
        "ROTATION_SELF_HOSTED": "edge-berlin=berlin.contoso.internal",
    }
    with Stage(world, both) as stage:
        assert "backend-client" not in stage.tick()
        assert 1 == len(entity.refreshes)


def test_settled_entities_cost_no_read() -> None:
    """ARM's budget is for what changes, although they are never in sync."""
    world, *_ = contoso()
    with Stage(world, ON) as stage:
        stage.tick()
        stage.tick()
        seen = len(world.requests)
        stage.tick()
        asked = [r.path for r in world.requests[seen:] if r.server is Server.ARM and r.method == "GET"]
        assert [] == [path for path in asked if "/namedValues" in path or "/certificates" in path]


def test_the_services_are_asked_for_once_whatever_number_of_kinds_want_them() -> None:
    """Resource Graph answers fifteen queries in five seconds."""
    asked = []
    for kinds in ("ApiManagement", "CertificateEntity,NamedValue,SelfHostedGateway"):
        world, *_ = contoso()
        with Stage(world, {"ROTATION_KINDS": kinds}) as stage:
            stage.tick()
            asked.append(sum("ResourceGraph" in request.path for request in world.requests))

    assert 1 == asked[1] - asked[0]


def test_an_entity_that_another_worker_has_refreshed_is_read_before_it_is_judged() -> None:
    """What was listed an hour ago says the old thumbprint, and must not flap."""
    world, certificate, managed, entity, _ = contoso()
    with Stage(world, ON, schema=None) as stage:
        stage.tick()
        certificate.renew()
        for each in (*managed.entities, *managed.vault_values):
            world.clock.advance(timedelta(seconds=30))
            each.refresh()
        world.clock.advance(timedelta(minutes=1))
        for _ in range(3):
            assert {HAS_IT} == {outcome(stage.tick()[name]) for name in EACH}
        assert 1 == len(entity.refreshes)


@pytest.mark.parametrize("path", ["/namedValues$", "/workspaces$", "/workspaces/orders/certificates$"])
def test_a_kind_that_cannot_be_read_does_not_hide_the_other(path: str) -> None:
    """The hostname is proven, and the report says what is missing."""
    world, *_ = contoso()
    world.faults.append(Fault(Server.ARM, path, status=403, times=None))
    with Stage(world, ON) as stage:
        verdicts = stage.tick()
        assert ("IN_SYNC", "Served") == outcome(verdicts[MANAGED])
        assert any("could not be read" in problem for problem in stage.status()["report"]["problems"])


def test_a_vault_that_the_app_may_not_read_is_named_and_its_entities_are_not_unknown() -> None:
    """Nobody wakes up for a named value of somebody else's vault."""
    world, *_ = contoso()
    world.faults.append(Fault(Server.VAULT, "contoso-com", status=403, times=None))
    with Stage(world, ON) as stage:
        verdicts = stage.tick()
        assert ("UNKNOWN", "VaultUnreadable") == outcome(verdicts[MANAGED])
        assert set(EACH).isdisjoint(verdicts)
        (told, *_) = [p for p in stage.status()["report"]["problems"] if "may not be read" in p]
        assert "kv-contoso.vault.azure.net" in told
