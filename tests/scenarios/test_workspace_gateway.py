"""Workspace gateways by the same path: seen and proven, and synced only where a setting says so."""

from datetime import timedelta
from typing import Any

import pytest

from sandbox.stage import Stage
from sandbox.workspace_gateway import HostnameBinding, WorkspaceGateway
from sandbox.world import Certificate, Fault, Hostname, Server, World

MANAGED, ORDERS = "api.contoso.com", "orders.contoso.com"
SEEN = {"ROTATION_KINDS": "WorkspaceGateway"}
SYNCED = {**SEEN, "ROTATION_WORKSPACE_GATEWAYS": "enforce"}


def contoso(**gateway: Any) -> tuple[World, Certificate, HostnameBinding]:
    """One certificate, of a service and of a workspace gateway with two units."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
    world.add_service("apim-contoso", hostnames=(Hostname(MANAGED, certificate=certificate),))
    made = WorkspaceGateway(world, "orders-gw", {ORDERS: certificate}, units=2, **gateway)
    world.workspace_gateways.append(made)
    return world, certificate, made.bindings[0]


def outcome(verdict: dict[str, Any]) -> tuple[str, str]:
    """Status and reason."""
    return verdict["status"], verdict["reason"]


def choices(answer: dict[str, Any]) -> dict[str, str]:
    """What was decided about each gateway."""
    return {decision["gateway"]: decision["choice"] for decision in answer["decisions"]}


NAME = "orders-gw/orders-contoso-com"


def test_a_renewal_reaches_a_workspace_gateway_by_one_event_and_is_proven() -> None:
    """By its own operation, and by enough handshakes for its units."""
    world, certificate, binding = contoso()
    with Stage(world, SYNCED) as stage:
        before = stage.tick()[ORDERS]
        assert ("IN_SYNC", "Served") == outcome(before)
        assert "7 of 7 new connections in West Europe" in before["message"]
        assert ("WorkspaceGateway", NAME) == (before["gateway_kind"], before["gateway"])

        certificate.renew()
        stage.settle()
        assert 1 == len(binding.refreshes)
        world.clock.advance(timedelta(minutes=1))
        assert ("SYNCING", "ServiceUpdating") == outcome(stage.tick()[ORDERS])
        world.clock.advance(timedelta(minutes=5))
        assert ("IN_SYNC", "Served") == outcome(stage.tick()[ORDERS])
        assert 1 == len(binding.refreshes)
        proven = {event.properties["gateway_kind"] for event in world.custom_events("RotationProven")}
        assert "WorkspaceGateway" in proven


def test_without_the_setting_it_is_seen_and_told_and_never_synced() -> None:
    """Not by event, timer or hand, nor by force: the operation is in preview."""
    world, certificate, binding = contoso()
    with Stage(world, SEEN) as stage:
        stage.tick()
        certificate.renew()
        stage.settle()
        assert ("STALE", "ServesOldVersion") == outcome(stage.tick()[ORDERS])
        assert "ObserveOnly" == choices(stage.resync(hostname=ORDERS).json())[NAME]
        forced = stage.resync(gateway=binding.id, force=True).json()
        assert "ROTATION_WORKSPACE_GATEWAYS is observe" in forced["decisions"][0]["message"]
        assert [] == binding.refreshes


def test_a_lost_event_is_made_up_for_by_the_timer_and_by_hand() -> None:
    """Level-triggered like everything else."""
    world, certificate, binding = contoso()
    with Stage(world, SYNCED, schema=None) as stage:
        stage.tick()
        certificate.renew()
        stage.tick()
        assert 1 == len(binding.refreshes)
        world.clock.advance(timedelta(minutes=10))
        stage.tick()
        certificate.renew()
        assert "Sync" == choices(stage.resync(hostname=ORDERS).json())[NAME]
        assert 2 == len(binding.refreshes)


def test_where_the_operation_is_not_offered_the_verdict_says_so() -> None:
    """A preview may be taken away: tried once a day, and no other way is invented."""
    world, certificate, binding = contoso()
    binding.gateway.offers_refresh = False
    with Stage(world, SYNCED) as stage:
        stage.tick()
        certificate.renew()
        stage.settle()
        verdict = stage.tick()[ORDERS]
        assert ("BLOCKED", "SyncNotSupported") == outcome(verdict)
        assert "does not offer refreshSecret" in verdict["message"]
        stage.tick()
        assert 1 == len([r for r in world.requests if r.path.endswith("/refreshSecret")])


def test_a_binding_that_cannot_read_the_vault_says_so() -> None:
    """By its operation, and by its own account."""
    world, certificate, binding = contoso()
    with Stage(world, SYNCED) as stage:
        stage.tick()
        binding.gateway.can_read_vault = False
        certificate.renew()
        stage.settle()
        world.clock.advance(timedelta(minutes=10))
        assert ("STALE", "GatewayCannotReadVault") == outcome(stage.tick()[ORDERS])


@pytest.mark.parametrize("path", ["Management/gateways$", "/hostnameBindings$"])
def test_a_kind_that_cannot_be_read_does_not_hide_the_other(path: str) -> None:
    """The managed gateway is proven, and the report says what is missing."""
    world, *_ = contoso()
    world.faults.append(Fault(Server.ARM, path, status=403, times=None))
    with Stage(world, SEEN) as stage:
        verdicts = stage.tick()
        assert ("IN_SYNC", "Served") == outcome(verdicts[MANAGED])
        assert ORDERS not in verdicts
        told = " ".join(stage.status()["report"]["problems"])
        assert "workspace gateways of subscription" in told or "its hostname bindings could not" in told


def test_a_tag_of_the_gateway_holds_its_bindings() -> None:
    """The brakes are the same for every kind."""
    world, certificate, binding = contoso(tags={"rotation-pause": "true"})
    with Stage(world, SYNCED) as stage:
        certificate.renew()
        stage.settle()
        assert ("STALE", "ServesOldVersion") == outcome(stage.tick()[ORDERS])
        assert [] == binding.refreshes
