"""Resource Graph lags: good for finding a gateway, never for acting on one."""

from datetime import timedelta

from sandbox.stage import Stage
from sandbox.world import Certificate, Hostname, Recommendation, Request, Server, Service, World

HOST = "api.contoso.com"
LAG = timedelta(minutes=30)


def contoso(services: int = 1) -> tuple[World, Certificate, list[Service]]:
    """One wildcard certificate on services whose rows in Resource Graph are half an hour old."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("wild", ["*.contoso.com"])
    names = [HOST, *(f"api{n}.contoso.com" for n in range(1, services))]
    found = [
        world.add_service(f"apim-{n}", hostnames=(Hostname(name, certificate=certificate),))
        for n, name in enumerate(names)
    ]
    world.clock.advance(LAG)
    world.graph.lag = LAG
    return world, certificate, found


def reads(world: World) -> list[Request]:
    """Requests for a single service."""
    return [
        r
        for r in world.requests
        if r.server is Server.ARM and r.method == "GET" and "/service/apim-" in r.path
    ]


def test_a_settled_fleet_costs_one_query_and_no_read_of_a_service() -> None:
    """Once everything is proven, a tick asks ARM for no service and Key Vault once for the certificate."""
    world, _, _ = contoso(services=5)
    with Stage(world) as stage:
        for _ in range(2):
            stage.tick()
        world.requests.clear()

        verdicts = stage.tick()
        assert 5 == sum(verdict["status"] == "IN_SYNC" for verdict in verdicts.values())
        assert [] == reads(world)
        assert 1 == len([r for r in world.requests if r.server is Server.VAULT and r.status == 200])


def test_a_sync_rests_on_the_service_itself_and_not_on_what_was_listed() -> None:
    """A tag that Resource Graph does not show yet holds all the same."""
    world, certificate, (kept, excluded) = contoso(services=2)
    with Stage(world) as stage:
        stage.tick()
        world.graph.hidden.add("tags")
        excluded.tags["rotation-exclude"] = "true"
        world.requests.clear()
        certificate.renew()
        stage.settle()

        assert {kept.name, excluded.name} == {r.path.rpartition("/")[2] for r in reads(world)}
        assert (1, 0) == (len(kept.syncs), len(excluded.syncs))


def test_what_could_not_be_read_itself_is_not_synced() -> None:
    """Where ARM does not show the service, its row of half an hour ago is not acted upon."""
    world, certificate, (service,) = contoso()
    with Stage(world) as stage:
        stage.tick()
        world.denied_subscriptions.add(world.subscription_id)
        certificate.renew()
        stage.settle()
        verdict = stage.tick().get(HOST)

        assert [] == service.syncs
        assert verdict is None or "IN_SYNC" != verdict["status"]

        world.denied_subscriptions.clear()
        stage.tick()
        assert 1 == len(service.syncs)


def test_what_azure_advisor_recommends_stands_beside_the_verdict() -> None:
    """A rotation that Azure itself has seen fail is said, and decides nothing."""
    world, certificate, (service,) = contoso()
    service.recommendations.add(Recommendation.HOSTNAME_CERT_ROTATION_FAIL)
    with Stage(world, {"ROTATION_MODE": "observe"}) as stage:
        assert "IN_SYNC" == stage.tick()[HOST]["status"]
        certificate.renew()
        stage.settle()
        verdict = stage.tick()[HOST]

        assert "STALE" == verdict["status"]
        assert verdict["advisory"]
        assert verdict["message"].endswith(f"Azure Advisor: {verdict['advisory']}")


def test_renewals_in_a_burst_are_all_synced_at_once() -> None:
    """Twenty certificates in a second: more events than Resource Graph has queries for, and none is lost."""
    world = World()
    vault = world.add_vault("kv-contoso")
    certificates = [vault.add_certificate(f"app-{n}", [f"app-{n}.contoso.com"]) for n in range(20)]
    services = [
        world.add_service(f"apim-{n}", hostnames=(Hostname(f"app-{n}.contoso.com", certificate=each),))
        for n, each in enumerate(certificates)
    ]
    with Stage(world) as stage:
        stage.tick()
        for certificate in certificates:
            certificate.renew()
        stage.settle()

        assert [1] * 20 == [len(service.syncs) for service in services]
