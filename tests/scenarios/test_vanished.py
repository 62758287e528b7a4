"""A gateway that is no longer listed: noticed, and only where the list is whole."""

from sandbox.stage import Stage
from sandbox.world import Hostname, Service, World

OTHER = "00000000-0000-4000-8000-000000000001"


def two_services(subscription_id: str | None = None) -> tuple[World, Service]:
    """A world with two services, the second perhaps in another subscription."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
    world.add_service("apim-contoso", hostnames=(Hostname("api.contoso.com", certificate=certificate),))
    hostnames = (Hostname("www.contoso.com", certificate=certificate),)
    return world, world.add_service("apim-other", hostnames=hostnames, subscription_id=subscription_id)


def missing(world: World) -> float:
    """How many gateways the last pass has missed."""
    return world.custom_events("RunCompleted")[-1].measurements["gateways_missing"]


def test_a_list_that_is_not_whole_lets_no_gateway_vanish() -> None:
    """A right that was taken away is a problem, not an empty fleet."""
    world, _ = two_services(OTHER)
    with Stage(world) as stage:
        stage.tick()
        world.denied_subscriptions.add(OTHER)
        stage.tick()

        assert 0.0 == missing(world)
        assert [True] == [OTHER in problem for problem in stage.status()["report"]["problems"]]


def test_a_gateway_that_is_gone_is_missed() -> None:
    """More than a fifth of the fleet at once is a problem that names it."""
    world, other = two_services()
    with Stage(world) as stage:
        stage.tick()
        world.services.remove(other)
        stage.tick()

        assert 1.0 == missing(world)
        assert [True] == ["apim-other" in problem for problem in stage.status()["report"]["problems"]]
