"""What stands in front of API Management: an Application Gateway with trusted roots, and Front Door."""

from datetime import timedelta

import pytest

from sandbox.application_gateway import ApplicationGateway, Backend, FrontDoor
from sandbox.certificates import CertificateAuthority
from sandbox.stage import Stage
from sandbox.world import Certificate, Hostname, Service, World

API = "api.contoso.com"
KINDS = {"ROTATION_KINDS": "ApplicationGateway"}
OLD_ROOT = CertificateAuthority("Contoso Old", direct=True)
NEW_ROOT = CertificateAuthority("Contoso New", direct=True)


def contoso(
    *roots: CertificateAuthority,
    issuer: CertificateAuthority | None = OLD_ROOT,
    target: str = "apim-contoso.azure-api.net",
    protocol: str = "Https",
) -> tuple[World, Certificate, Service, ApplicationGateway]:
    """A service of API Management behind an Application Gateway that trusts these roots for it."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("api", [API], issuer=issuer)
    service = world.add_service("apim-contoso", hostnames=(Hostname(API, certificate=certificate),))
    backend = Backend(service, target, API, tuple(root.pem for root in roots), protocol)
    public = Hostname("www.contoso.com", uploaded=world.ca.issue(["www.contoso.com"]))
    return (
        world,
        certificate,
        service,
        ApplicationGateway(world, "agw", hostnames=(public,), backends=[backend]),
    )


def outcome(verdict: dict[str, str]) -> tuple[str, str]:
    """Status and reason."""
    return verdict["status"], verdict["reason"]


def asked_for_health(world: World) -> int:
    """How often backend health was asked for."""
    return sum(request.path.endswith("/backendhealth") for request in world.requests)


@pytest.mark.parametrize("target", ["apim-contoso.azure-api.net", API, "203.0.113.1"])
def test_a_sync_that_would_break_what_is_in_front_is_held_until_the_new_root_is_trusted(target: str) -> None:
    """By the built-in name, the own name or the address: nothing is synced, and then it is."""
    world, certificate, service, gateway = contoso(OLD_ROOT, target=target)
    with Stage(world, KINDS) as stage:
        certificate.renew(issuer=NEW_ROOT)
        stage.settle()
        verdict = stage.tick()[API]

        assert outcome(verdict) == ("BLOCKED", "FrontDistrusts")
        assert "Application Gateway agw in front trusts only CN=Contoso Old Root CA" in verdict["message"]
        assert [] == service.syncs

        (backend,) = gateway.backends
        gateway.backends = (Backend(service, target, API, (OLD_ROOT.pem, NEW_ROOT.pem)),)
        stage.tick()
        assert len(service.syncs) == 1
        world.clock.advance(timedelta(minutes=30))
        assert outcome(stage.tick()[API]) == ("IN_SYNC", "Served")
        assert backend.target == target


def test_a_person_can_go_past_it_and_then_backend_health_is_told_until_it_is_mended() -> None:
    """The sync is theirs to order; what it has broken is not left unsaid."""
    world, certificate, service, gateway = contoso(OLD_ROOT)
    with Stage(world, KINDS) as stage:
        certificate.renew(issuer=NEW_ROOT)
        stage.settle()
        answer = stage.resync(hostname=API, override=["FrontDistrusts"])
        assert "accepted" == answer.json()["decisions"][0]["outcome"]
        world.clock.advance(timedelta(minutes=30))
        stage.tick()
        verdict = stage.tick()[API]

        assert outcome(verdict) == ("IN_SYNC", "FrontDistrusts")
        assert "does not match the trusted root certificate" in verdict["message"]
        assert "clients get 502" in verdict["message"]
        told = [e.properties["reason"] for e in world.custom_events("CertificateVerified")]
        assert "FrontDistrusts" in told

        world.clock.advance(timedelta(hours=2))
        assert outcome(stage.tick()[API]) == ("IN_SYNC", "FrontDistrusts")
        gateway.backends = (Backend(service, gateway.backends[0].target, API, (NEW_ROOT.pem,)),)
        assert outcome(stage.tick()[API]) == ("IN_SYNC", "Served")
        before = asked_for_health(world)
        stage.tick()
        assert before == asked_for_health(world)


def test_a_health_that_cannot_be_read_does_not_make_it_well() -> None:
    """What it said last is still so; and where it never said anything, silence is no alarm."""
    world, certificate, _, _ = contoso(OLD_ROOT)
    with Stage(world, KINDS) as stage:
        certificate.renew(issuer=NEW_ROOT)
        stage.settle()
        stage.resync(hostname=API, override=["FrontDistrusts"])
        world.clock.advance(timedelta(minutes=30))
        stage.tick()
        stage.tick()
        world.granted_actions = ["*/read", "Microsoft.ApiManagement/service/refreshHostnames/action"]

        assert outcome(stage.tick()[API]) == ("IN_SYNC", "FrontDistrusts")


def test_a_front_that_may_not_be_asked_is_mentioned() -> None:
    """Without the right there is no answer, and that is said and not hidden."""
    world, certificate, _, _ = contoso(OLD_ROOT)
    world.granted_actions = ["*/read", "Microsoft.ApiManagement/service/refreshHostnames/action"]
    with Stage(world, KINDS) as stage:
        certificate.renew(issuer=OLD_ROOT)
        stage.settle()
        world.clock.advance(timedelta(minutes=30))
        stage.tick()
        verdict = stage.tick()[API]

        assert outcome(verdict) == ("IN_SYNC", "Served")
        assert "Application Gateway agw in front could not be asked" in verdict["message"]
        assert "backendhealth/action" in verdict["message"]


ISSUERS = {
    "the same root": ((OLD_ROOT,), OLD_ROOT, OLD_ROOT),
    "a root that is trusted already": ((OLD_ROOT, NEW_ROOT), OLD_ROOT, NEW_ROOT),
    "no trusted root, so public authorities": ((), None, None),
}


@pytest.mark.parametrize(("roots", "before", "after"), ISSUERS.values(), ids=ISSUERS)
def test_no_false_alarm_for(
    roots: tuple[CertificateAuthority, ...],
    before: CertificateAuthority | None,
    after: CertificateAuthority | None,
) -> None:
    """A renewal that breaks nothing is synced at once, and found well by what is in front."""
    world, certificate, service, _ = contoso(*roots, issuer=before)
    with Stage(world, KINDS) as stage:
        certificate.renew(issuer=after)
        stage.settle()
        assert len(service.syncs) == 1
        world.clock.advance(timedelta(minutes=30))
        stage.tick()

        assert outcome(stage.tick()[API]) == ("IN_SYNC", "Served")
        assert asked_for_health(world) == 1


def test_an_issuer_that_may_be_under_the_trusted_root_is_mentioned_and_synced() -> None:
    """Authorities change their intermediates: a hold would be a false alarm, silence would be none."""
    root = CertificateAuthority("Contoso Corporate")
    world, certificate, service, _ = contoso(root, issuer=root)
    with Stage(world, KINDS) as stage:
        stage.azure.event_grid.drop_next()
        certificate.renew(issuer=CertificateAuthority("Contoso Other"))
        stage.settle()
        verdict = stage.tick()[API]

        assert outcome(verdict) == ("STALE", "ServesOldVersion")
        assert "the issuer changes to CN=Contoso Other TLS Issuing CA 1" in verdict["message"]
        assert len(service.syncs) == 1


def test_a_front_door_is_seen_and_plain_http_is_not_a_matter_of_certificates() -> None:
    """Neither holds anything back: Front Door believes public authorities, and nobody asks its health."""
    world, certificate, service, _ = contoso(OLD_ROOT, issuer=None, protocol="Http")
    world.front_doors.append(FrontDoor("afd-contoso", "apim-contoso.azure-api.net", API))
    with Stage(world, KINDS) as stage:
        certificate.renew()
        stage.settle()
        world.clock.advance(timedelta(minutes=30))
        stage.tick()

        assert outcome(stage.tick()[API]) == ("IN_SYNC", "Served")
        assert len(service.syncs) == 1
        assert asked_for_health(world) == 0
