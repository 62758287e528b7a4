"""Self-hosted gateways beside a managed one, by the same path: event, timer and HTTP."""

from datetime import timedelta
from typing import Any

import pytest

from sandbox.self_hosted import Entity, SelfHostedGateway
from sandbox.stage import Stage
from sandbox.world import Certificate, Fault, Hostname, Server, Service, World

MANAGED, EDGE = "api.contoso.com", "edge.contoso.com"
BERLIN = ("berlin-1.edge.contoso.internal", "berlin-2.edge.contoso.internal")
ON = {
    "ROTATION_KINDS": "SelfHostedGateway",
    "ROTATION_SELF_HOSTED": ",".join(f"edge-berlin={address}" for address in BERLIN),
}


def contoso(**service: Any) -> tuple[World, Certificate, Service, Entity, SelfHostedGateway]:
    """One certificate, served by a managed gateway and, through an entity, by a self-hosted one."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
    managed = world.add_service(
        "apim-contoso",
        hostnames=(Hostname(MANAGED, certificate=certificate),),
        **{"regions": {"West Europe": 1}, **service},
    )
    entity = managed.add_entity("edge-contoso-com", certificate)
    gateway = managed.add_self_hosted("edge-berlin", {EDGE: entity}, BERLIN)
    return world, certificate, managed, entity, gateway


def outcome(verdict: dict[str, Any]) -> tuple[str, str]:
    """Status and reason."""
    return verdict["status"], verdict["reason"]


def served(stage: Stage) -> list[str]:
    """What a plain TLS client meets at each replica."""
    return [stage.handshake(address, EDGE) for address in BERLIN]


def test_a_renewal_reaches_managed_and_self_hosted_gateways_by_one_event() -> None:
    """Each kind is told by its own operation, and each is proven by handshake."""
    world, certificate, managed, entity, _ = contoso()
    old = certificate.newest.thumbprint
    with Stage(world, ON) as stage:
        before = stage.tick()
        assert [old, old] == served(stage)
        assert {("IN_SYNC", "Served")} == {outcome(before[host]) for host in (MANAGED, EDGE)}

        new = certificate.renew().thumbprint
        stage.settle()
        assert (1, 1) == (len(managed.syncs), len(entity.refreshes))
        world.clock.advance(timedelta(seconds=15))
        assert [new, new] == served(stage)

        verdicts = stage.tick()
        assert ("SYNCING", "ServiceUpdating") == outcome(verdicts[MANAGED])
        assert ("IN_SYNC", "Served") == outcome(verdicts[EDGE])
        assert ("SelfHostedGateway", "edge-berlin") == (
            verdicts[EDGE]["gateway_kind"],
            verdicts[EDGE]["hostname_type"],
        )
        assert "1 of 1 new connections in edge-berlin at berlin-1" in verdicts[EDGE]["message"]
        world.clock.advance(timedelta(minutes=30))
        assert ("IN_SYNC", "Served") == outcome(stage.tick()[MANAGED])
        kinds = {e.properties["gateway_kind"]: e.measurements for e in world.custom_events("RotationProven")}
        assert {"ApiManagement", "SelfHostedGateway"} == kinds.keys()
        assert kinds["SelfHostedGateway"]["seconds_to_served"] < 60
        assert (1, 1) == (len(managed.syncs), len(entity.refreshes))


def test_a_lost_event_is_made_up_for_by_the_timer_and_by_hand() -> None:
    """The entity is level-triggered like everything else, and one refresh serves all that use it."""
    world, certificate, managed, entity, _ = contoso()
    managed.add_self_hosted("edge-paris", {"paris.contoso.com": entity}, ["paris.edge.contoso.internal"])
    paris = {
        **ON,
        "ROTATION_SELF_HOSTED": f"{ON['ROTATION_SELF_HOSTED']},edge-paris=paris.edge.contoso.internal",
    }
    with Stage(world, paris, schema=None) as stage:
        stage.tick()
        certificate.renew()
        assert ("STALE", "ServesOldVersion") == outcome(stage.tick()[EDGE])
        assert 1 == len(entity.refreshes)
        world.clock.advance(timedelta(minutes=1))
        after = stage.tick()
        assert [("IN_SYNC", "Served")] * 2 == [outcome(after[h]) for h in (EDGE, "paris.contoso.com")]

        certificate.renew()
        answer = stage.resync(hostname=EDGE).json()
        (decision,) = [d for d in answer["decisions"] if d["gateway"] == "apim-contoso/edge-contoso-com"]
        assert ("Sync", "accepted") == (decision["choice"], decision["outcome"])
        assert f"the entity has {certificate.newest.thumbprint[:10]}" in decision["message"]
        assert 2 == len(entity.refreshes)

        world.clock.advance(timedelta(minutes=1))
        stage.tick()
        forced = stage.resync(gateway=entity.id, force=True).json()["decisions"]
        assert [("Sync", "accepted")] == [(d["choice"], d["outcome"]) for d in forced]
        again = stage.resync(gateway=entity.id, force=True).json()["decisions"]
        assert ["ForceLimited"] == [d["choice"] for d in again]
        assert 3 == len(entity.refreshes)
        shown = stage.host.request("GET", "/api/gateways/edge-contoso-com", key="function").json()
        assert ("SelfHostedGateway", entity.id) == (shown["gateway_kind"], shown["gateway_id"])


def test_a_gateway_that_is_cut_off_is_named_as_that_and_not_synced_again() -> None:
    """The entity has the new version, so it is no drift of ours; when it is back it is proven."""
    world, certificate, _, entity, gateway = contoso()
    with Stage(world, ON) as stage:
        stage.tick()
        gateway.cut_off(BERLIN[1])
        certificate.renew()
        stage.settle()
        world.clock.advance(timedelta(seconds=30))
        assert ("SYNCING", "PartlyServed") == outcome(stage.tick()[EDGE])
        world.clock.advance(timedelta(hours=3))
        verdict = stage.tick()[EDGE]
        assert ("BLOCKED", "GatewayNotPolling") == outcome(verdict)
        assert not verdict["drift"]
        assert "an old version on 1 of 1 new connections in edge-berlin at berlin-2" in verdict["message"]
        assert "outbound TCP 443" in verdict["message"]
        stage.tick()
        assert 1 == len(entity.refreshes)

        gateway.connect()
        world.clock.advance(timedelta(seconds=15))
        assert ("IN_SYNC", "Served") == outcome(stage.tick()[EDGE])


def test_without_an_address_a_gateway_is_never_green_and_its_entity_is_refreshed_all_the_same() -> None:
    """What is configured is told, and where to say the address."""
    world, certificate, _, entity, _ = contoso()
    with Stage(world, {"ROTATION_KINDS": "SelfHostedGateway"}) as stage:
        verdict = stage.tick()[EDGE]
        assert ("UNKNOWN", "NotObservable") == outcome(verdict)
        assert "ROTATION_SELF_HOSTED or in the tag rotation-gateway-edge-berlin" in verdict["message"]
        assert f"ARM has {certificate.newest.thumbprint} configured" in verdict["message"]

        certificate.renew()
        stage.settle()
        assert 1 == len(entity.refreshes)
        world.clock.advance(timedelta(minutes=5))
        verdict = stage.tick()[EDGE]
        assert ("UNKNOWN", "NotObservable") == outcome(verdict)
        assert certificate.newest.thumbprint == verdict["configured"]
        assert 1 == len(entity.refreshes)


def test_an_address_may_stand_in_a_tag_of_the_service() -> None:
    """Whoever runs the gateway need not change the app's settings."""
    world, *_ = contoso(tags={"rotation-gateway-edge-berlin": f"{BERLIN[0]}:443, {BERLIN[1]}"})
    with Stage(world, {"ROTATION_KINDS": "SelfHostedGateway"}) as stage:
        assert ("IN_SYNC", "Served") == outcome(stage.tick()[EDGE])


def test_an_entity_that_cannot_read_the_vault_says_until_when_traffic_flows() -> None:
    """Its own account of the last read is enough: there is no operation to ask."""
    world, certificate, managed, entity, _ = contoso()
    with Stage(world, ON) as stage:
        stage.tick()
        managed.identity_can_read_vault = False
        certificate.renew()
        stage.settle()
        assert 1 == len(entity.refreshes)
        world.clock.advance(timedelta(minutes=5))
        verdict = stage.tick()[EDGE]
        assert ("STALE", "GatewayCannotReadVault") == outcome(verdict)
        assert "Failed to access KeyVault Secret" in verdict["message"]
        ends = certificate.versions[0].not_after
        assert f"traffic stops on {ends:%Y-%m-%d}" in verdict["message"]
        assert 1 == len(entity.refreshes)


def test_a_pause_holds_entities_as_it_holds_services() -> None:
    """The brakes are the same for every kind: here the service's tag."""
    world, certificate, managed, entity, _ = contoso(tags={"rotation-pause": "true"})
    with Stage(world, ON) as stage:
        certificate.renew()
        stage.settle()
        assert ("STALE", "ServesOldVersion") == outcome(stage.tick()[EDGE])
        assert (0, 0) == (len(managed.syncs), len(entity.refreshes))


def test_settled_entities_cost_no_read_and_services_without_gateways_one_in_an_hour() -> None:
    """ARM's budget is for what changes."""
    world, *_ = contoso()
    world.add_service("apim-none")
    world.add_service("apim-basic", sku="Basic")
    with Stage(world, ON) as stage:
        stage.tick()
        stage.tick()
        seen = len(world.requests)
        stage.tick()
        asked = [r.path for r in world.requests[seen:] if r.server is Server.ARM and r.method == "GET"]
        assert [] == [path for path in asked if "/gateways" in path or "/certificates" in path]
        of_gateways = [r.path for r in world.requests if r.path.endswith("/gateways")]
        assert ["apim-contoso", "apim-none"] == sorted(path.split("/")[-2] for path in of_gateways)


def test_an_authority_that_ends_soon_is_told() -> None:
    """Not a hostname's certificate, so no verdict; but clients that it has issued would be refused."""
    world = World()
    vault = world.add_vault("kv-contoso")
    managed = world.add_service("apim-contoso")
    root = managed.add_entity("corp-root", vault.add_certificate("corp-root", ["corp.contoso.com"], days=10))
    entity = managed.add_entity("edge", vault.add_certificate("edge", [EDGE]))
    managed.add_self_hosted("edge-berlin", {EDGE: entity}, BERLIN, [root])
    with Stage(world, ON) as stage:
        stage.tick()
        (problem,) = stage.status()["report"]["problems"]
        assert "the self-hosted gateway edge-berlin was given the certificate authority corp-root" in problem
        assert f"ends {root.held_at(world.clock.now()).not_after:%Y-%m-%d}" in problem


def test_the_authorities_that_a_gateway_trusts_are_listed_with_their_end() -> None:
    """In the report, on the page, and only those of the service that was asked for."""
    world, certificate, managed, _, _ = contoso()
    root = managed.add_entity("corp-root", uploaded=world.ca.issue(["corp.contoso.com"], days=400))
    managed.add_self_hosted("edge-paris", {}, (), [root])
    other = world.add_service(
        "apim-other", hostnames=(Hostname("other.contoso.com", certificate=certificate),)
    )
    with Stage(world, ON) as stage:
        stage.tick()
        held = root.held_at(world.clock.now())
        (listed,) = stage.status()["report"]["authorities"]
        assert ("apim-contoso", "edge-paris", "corp-root", True, held.thumbprint) == tuple(
            listed[name] for name in ("service", "gateway", "name", "trusted", "thumbprint")
        )
        assert listed["not_after"].startswith(f"{held.not_after:%Y-%m-%dT%H:%M:%S}")
        assert 399 == listed["days_to_expiry"]
        page = stage.host.request("GET", "/api/page", key="function").body.decode()
        assert "apim-contoso/edge-paris" in page
        assert f"{held.not_after:%Y-%m-%d}, <b>399 days</b>" in page

        assert [listed["name"]] == [a["name"] for a in stage.resync(hostname=MANAGED).json()["authorities"]]
        assert [] == stage.resync(gateway=other.id).json()["authorities"]


@pytest.mark.parametrize("path", ["/gateways$", "/certificates$", "/hostnameConfigurations$"])
def test_a_kind_that_cannot_be_read_does_not_hide_the_other(path: str) -> None:
    """The managed gateway is proven, and the report says what is missing."""
    world, *_ = contoso()
    world.faults.append(Fault(Server.ARM, path, status=403, times=None))
    with Stage(world, ON) as stage:
        verdicts = stage.tick()
        assert ("IN_SYNC", "Served") == outcome(verdicts[MANAGED])
        assert EDGE not in verdicts
        assert any(
            "its self-hosted gateways could not be read" in problem
            for problem in stage.status()["report"]["problems"]
        )
