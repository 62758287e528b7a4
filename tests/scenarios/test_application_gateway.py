"""An Application Gateway from renewal to proof: by event, by timer and by hand, and when it does not look."""

from datetime import timedelta
from typing import Any

import pytest

from sandbox.application_gateway import ApplicationGateway
from sandbox.stage import Stage, read_leaf
from sandbox.world import Certificate, Hostname, Request, Server, World

HOST = "shop.contoso.com"
KINDS = {"ROTATION_KINDS": "ApplicationGateway"}


def shop(**options: Any) -> tuple[World, Certificate, ApplicationGateway]:
    """A world with one certificate and one gateway of two instances that serves it."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("shop", [HOST])
    hostnames = (Hostname(HOST, certificate=certificate),)
    return world, certificate, ApplicationGateway(world, "agw-shop", hostnames=hostnames, **options)


def served(stage: Stage, gateway: ApplicationGateway) -> set[str]:
    """The thumbprints that a plain TLS client meets."""
    port = stage.azure.addresses[gateway.address, gateway.port]
    return {read_leaf(port, HOST) for _ in range(gateway.regions[gateway.location])}


def outcome(verdict: dict[str, str]) -> tuple[str, str]:
    """Status and reason."""
    return verdict["status"], verdict["reason"]


def changing(world: World) -> list[Request]:
    """What ARM was asked beside reads and queries."""
    asked = [r for r in world.requests if r.server is Server.ARM and r.method != "GET"]
    return [request for request in asked if "ResourceGraph" not in request.path]


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
        (proof,) = world.custom_events("RotationProven")
        assert ("event", "ApplicationGateway") == (
            proof.properties["caught_by"],
            proof.properties["gateway_kind"],
        )
        writes = {(r.method, r.path.rpartition("/providers/")[2]) for r in changing(world)}
        assert {("PATCH", "Microsoft.Resources/tags/default")} == writes


def test_the_timer_finds_a_renewal_whose_event_was_lost() -> None:
    """The same without an event, and one tag however often the timer comes."""
    world, certificate, gateway = shop()
    with Stage(world, KINDS) as stage:
        stage.azure.event_grid.drop_next()
        certificate.renew()
        stage.settle()
        stage.tick()
        stage.tick()
        world.clock.advance(timedelta(minutes=4))

        assert outcome(stage.tick()[HOST]) == ("IN_SYNC", "Served")
        assert len(gateway.asked) == 1


def test_a_person_can_have_it_look_over_http() -> None:
    """Forced, a gateway that is in sync is asked as well; a dry run asks nothing."""
    world, _, gateway = shop()
    with Stage(world, KINDS) as stage:
        stage.tick()
        assert "ForceLimited" != stage.resync(hostname=HOST, dry_run=True).json()["decisions"][0]["choice"]
        assert [] == gateway.asked
        (decision,) = stage.resync(hostname=HOST, force=True).json()["decisions"]

        assert ("Sync", "accepted") == (decision["choice"], decision["outcome"])
        assert len(gateway.asked) == 1


def test_a_tag_that_does_not_make_it_look_is_said_after_its_poll_and_nothing_more_is_done() -> None:
    """Its own clock may bring the new version; where not even that does, a person has to act."""
    world, certificate, gateway = shop()
    gateway.switches.looks_when_tagged = False
    with Stage(world, KINDS) as stage:
        certificate.renew()
        stage.settle()
        world.clock.advance(timedelta(minutes=21))
        assert outcome(stage.tick()[HOST]) == ("STALE", "SyncOverdue")

        gateway.switches.polls = False
        world.clock.advance(timedelta(hours=4))
        verdict = stage.tick()[HOST]
        asked = len(gateway.asked)
        world.clock.advance(timedelta(days=2))
        stage.tick()

        assert outcome(verdict) == ("BLOCKED", "GatewayNotLooking")
        assert "select the certificate again under Listeners in the portal and save" in verdict["message"]
        assert asked == len(gateway.asked) <= 3

        gateway.save()
        world.clock.advance(timedelta(minutes=4))
        assert outcome(stage.tick()[HOST]) == ("IN_SYNC", "Served")


def test_its_own_poll_is_a_proof_like_any_other() -> None:
    """Where the tag does nothing and its clock does, the rotation is proven all the same."""
    world, certificate, gateway = shop()
    gateway.switches.looks_when_tagged = False
    with Stage(world, KINDS) as stage:
        new = certificate.renew().thumbprint
        stage.settle()
        world.clock.advance(timedelta(hours=4, minutes=1))

        assert outcome(stage.tick()[HOST]) == ("IN_SYNC", "Served")
        assert {new} == served(stage, gateway)


def test_listeners_that_are_disabled_are_named_with_the_cause() -> None:
    """Nothing is served, and Azure Advisor says why: that is no drift, and a tag would not help."""
    world, certificate, gateway = shop()
    with Stage(world, KINDS) as stage:
        gateway.identity_can_read_vault = False
        certificate.renew()
        stage.settle()
        assert len(gateway.asked) == 1
        world.clock.advance(timedelta(minutes=21))
        verdict = stage.tick()[HOST]

        assert outcome(verdict) == ("BLOCKED", "GatewayCannotReadVault")
        assert "Resolve Azure Key Vault issue for your Application Gateway" in verdict["message"]
        assert gateway.guid("client") in verdict["message"]

        gateway.identity_can_read_vault = True
        world.clock.advance(timedelta(hours=4))
        assert outcome(stage.tick()[HOST]) == ("IN_SYNC", "Served")


def test_the_tag_of_a_person_holds_it() -> None:
    """rotation-pause and rotation-exclude mean what they mean everywhere."""
    world, certificate, gateway = shop(tags={"rotation-pause": "true"})
    with Stage(world, KINDS) as stage:
        certificate.renew()
        stage.settle()
        assert [] == gateway.asked

        gateway.tags = {"rotation-exclude": "true"}
        assert {} == stage.tick()


def test_without_the_right_to_tag_nothing_is_lost_and_the_answer_says_so() -> None:
    """403 is a refusal: it counts as no attempt, and the verdict stays what was seen."""
    world, certificate, gateway = shop()
    world.granted_actions = ["*/read"]
    with Stage(world, KINDS) as stage:
        certificate.renew()
        stage.settle()
        verdict = stage.tick()[HOST]

        assert outcome(verdict) == ("STALE", "ServesOldVersion")
        (answer,) = world.custom_events("SyncAnswered")
        assert answer.properties["outcome"] == "forbidden"
        assert "'Microsoft.Resources/tags/write'" in answer.properties["detail"]
        assert [] == gateway.asked


def test_every_listener_has_a_verdict_of_its_own() -> None:
    """Pinned, uploaded, a wildcard, and a listener for any name, on one gateway."""
    world = World()
    vault = world.add_vault("kv-contoso")
    certificate = vault.add_certificate("shop", [HOST, "*.contoso.com"])
    pinned = vault.add_certificate("pinned", ["pinned.contoso.com"])
    uploaded = world.ca.issue(["old.contoso.com"], days=90)
    hostnames = (
        Hostname("*.contoso.com", certificate=certificate),
        Hostname("pinned.contoso.com", certificate=pinned, pinned_version=pinned.newest),
        Hostname("old.contoso.com", uploaded=uploaded),
        Hostname("", certificate=certificate),
    )
    gateway = ApplicationGateway(world, "agw-shop", hostnames=hostnames, most_instances=4)
    with Stage(world, KINDS) as stage:
        certificate.renew()
        stage.settle()
        world.clock.advance(timedelta(minutes=4))
        verdicts = stage.tick()

        assert {
            "*.contoso.com": ("IN_SYNC", "Served"),
            "pinned.contoso.com": ("BLOCKED", "PinnedVersion"),
            "old.contoso.com": ("UNMANAGED", "NotFromKeyVault"),
            "*": ("IN_SYNC", "Served"),
        } == {hostname: outcome(verdict) for hostname, verdict in verdicts.items()}
        assert "17 of 17 new connections" in verdicts["*"]["message"]
        assert "keyVaultSecretId" in verdicts["pinned.contoso.com"]["message"]
        assert len(gateway.asked) == 1


def test_without_the_setting_nobody_looks_at_it() -> None:
    """The kind is opt-in: no query, no read, no verdict."""
    world, certificate, gateway = shop()
    with Stage(world) as stage:
        certificate.renew()
        stage.settle()

        assert {} == stage.tick()
        assert [] == gateway.asked
        assert [] == [r for r in world.requests if "Microsoft.Network" in r.path]
