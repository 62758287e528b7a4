"""An Application Gateway from renewal to proof: by event, by timer and by hand, and when it does not look."""

from datetime import timedelta

import pytest

from sandbox.application_gateway import ApplicationGateway
from sandbox.stage import Stage, read_leaf
from sandbox.world import Certificate, Hostname, Request, Server, World

HOST = "shop.contoso.com"
API = "api.contoso.com"
KINDS = {"ROTATION_KINDS": "ApplicationGateway"}


def shop(**options: object) -> tuple[World, Certificate, ApplicationGateway]:
    """A world with one certificate and one gateway of two instances that serves it."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("shop", [HOST])
    hostnames = (Hostname(HOST, certificate=certificate),)
    return world, certificate, ApplicationGateway(world, "agw-shop", hostnames=hostnames, **options)  # type: ignore[arg-type]


def served(stage: Stage, gateway: ApplicationGateway) -> set[str]:
    """The thumbprints that a plain TLS client meets."""
    port = stage.azure.addresses[gateway.address, gateway.port]
    return {read_leaf(port, HOST) for _ in range(gateway.regions[gateway.location])}


def outcome(verdict: dict[str, str]) -> tuple[str, str]:
    """Status and reason."""
    return verdict["status"], verdict["reason"]


@pytest.mark.parametrize(
    "options", [{}, {"private": True, "port": 8443}], ids=["public", "private, port 8443"]
)
def test_a_renewal_is_told_by_a_tag_and_proven_by_handshake(options: dict[str, object]) -> None:
    """The whole path by event: the tag, nothing but the tag, and the new leaf on both instances."""
    world, certificate, gateway = shop(tags={"team": "shop"}, **options)
    with Stage(world, KINDS) as stage:
        new = certificate.renew().thumbprint
        stage.settle()

        assert len(gateway.asked) == 1
        assert {"team", "rotation-asked"} == set(gateway.tags)
        assert outcome(stage.tick()[HOST]) == ("SYNCING", "ServiceUpdating")

        world.clock.advance(timedelta(minutes=4))
        verdict = stage.tick()[HOST]

        assert {new} == served(stage, gateway)
        assert outcome(verdict) == ("IN_SYNC", "Served")
        assert "7 of 7 new connections in westeurope" in verdict["message"]
        assert verdict["gateway_kind"] == "ApplicationGateway"
        writes = {(r.method, r.path.rpartition("/providers/")[2]) for r in changing(world)}
        assert {("PATCH", "Microsoft.Resources/tags/default")} == writes


def changing(world: World) -> list[Request]:
    """What ARM was asked beside reads and queries."""
    return [
        r
        for r in world.requests
        if r.server is Server.ARM and r.method != "GET" and "ResourceGraph" not in r.path
    ]
