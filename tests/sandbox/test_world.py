from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from sandbox.certificates import CertificateAuthority, self_signed
from sandbox.world import Certificate, Clock, Hostname, Service, ServiceLockedError, Version, World

HOST = "api.contoso.com"
WEST, EAST = "West Europe", "East US"


@pytest.fixture
def service(world: World, certificate: Certificate) -> Service:
    """A service in two regions with one custom domain."""
    return world.add_service("apim-prod", regions={WEST: 2, EAST: 1}, hostnames=[Hostname(HOST, certificate)])


def served(service: Service, region: str = WEST, unit: int = 0) -> str:
    """The thumbprint a unit presents now."""
    return service.served(HOST, region, unit, service.world.clock.now()).thumbprint


def configured(service: Service) -> str:
    """The thumbprint ARM shows now."""
    shown = service.configured(HOST, service.world.clock.now())
    assert shown is not None
    return shown.thumbprint


def test_the_clock_moves_by_itself_and_when_told_but_never_back() -> None:
    """Time is real elapsed time plus what was advanced."""
    clock = Clock()
    before = clock.now()

    clock.advance(timedelta(hours=3))

    assert timedelta(hours=3) <= clock.now() - before < timedelta(hours=3, seconds=5)
    with pytest.raises(ValueError, match="forward"):
        clock.advance(timedelta(seconds=-1))


def test_nothing_changes_until_the_update_ends_then_regions_and_units_follow(
    world: World, service: Service, certificate: Certificate
) -> None:
    """The awkward truth a 202 hides: units switch one after the other, regions late, ARM before them."""
    first, second = certificate.newest.thumbprint, certificate.renew().thumbprint
    service.lag[EAST] = timedelta(minutes=10)
    service.begin_sync()
    story = []

    for minutes in (19, 2, 2, 8):
        world.clock.advance(timedelta(minutes=minutes))
        state = (configured(service), served(service), served(service, unit=1), served(service, EAST))
        story.append("".join("old "[:3] if thumbprint == first else "NEW" for thumbprint in state))

    assert second == configured(service)
    assert story == ["oldoldoldold", "NEWNEWoldold", "NEWNEWNEWold", "NEWNEWNEWNEW"]


def test_a_sync_takes_what_is_newest_when_the_update_ends(
    world: World, service: Service, certificate: Certificate
) -> None:
    """A version renewed while the update runs is picked up by it; one renewed afterwards is not."""
    service.unit_lag = timedelta(0)
    service.begin_sync()
    world.clock.advance(timedelta(minutes=10))
    during = certificate.renew()
    world.clock.advance(timedelta(minutes=11))
    certificate.renew()

    assert during.thumbprint == served(service)


BREAKAGES: list[
    tuple[str, Callable[[Service, Certificate], None], Callable[[Service, Certificate], None]]
] = [
    ("the newest version is disabled", lambda _, c: c.disable(), lambda _, c: c.enable()),
    ("the certificate is deleted", lambda _, c: c.delete(), lambda _, c: c.recover()),
    (
        "the identity lost its access",
        lambda s, _: setattr(s, "identity_can_read_vault", False),
        lambda s, _: setattr(s, "identity_can_read_vault", True),
    ),
]


@pytest.mark.parametrize(
    ("breaks", "mends"), [case[1:] for case in BREAKAGES], ids=[case[0] for case in BREAKAGES]
)
def test_a_sync_that_cannot_read_every_certificate_changes_nothing_even_when_mended_later(
    world: World,
    service: Service,
    certificate: Certificate,
    breaks: Callable[[Service, Certificate], None],
    mends: Callable[[Service, Certificate], None],
) -> None:
    """What counts is what was true when the update ended, although it is computed on demand."""
    first = certificate.newest.thumbprint
    second = certificate.renew()
    breaks(service, certificate)
    update = service.begin_sync()
    world.clock.advance(timedelta(hours=1))
    mends(service, certificate)
    world.clock.advance(timedelta(hours=1))

    assert service.provisioning_state(world.clock.now()) == "Succeeded"
    assert (
        "Failed to access KeyVault Secret https://kv-gateways.vault.azure.net/secrets/api-contoso-com using"
        in (service.failure(update.ends) or "")
    )
    assert (first, first) == (configured(service), served(service))

    service.begin_sync()
    world.clock.advance(timedelta(hours=1))

    assert (second.thumbprint, second.thumbprint) == (configured(service), served(service))


def test_a_pinned_version_and_an_uploaded_certificate_stay(world: World, certificate: Certificate) -> None:
    """A sync follows versionless secret ids only, and cannot fail because of the others."""
    pinned, uploaded = certificate.newest, world.ca.issue(["old.contoso.com"])
    service = world.add_service(
        "apim-mixed",
        hostnames=[
            Hostname("pinned.contoso.com", certificate, pinned_version=pinned),
            Hostname("old.contoso.com", uploaded=uploaded),
        ],
    )
    certificate.renew()
    certificate.disable()
    update = service.begin_sync()
    world.clock.advance(timedelta(hours=1))
    now = world.clock.now()

    assert service.failure(update.ends) is None
    assert pinned is service.served("pinned.contoso.com", WEST, 0, now)
    assert uploaded is service.served("old.contoso.com", WEST, 0, now)
    assert pinned.secret_id == service.hostnames[0].key_vault_id
    assert f"{certificate.secret_id}/{pinned.id}" == pinned.secret_id


def test_a_service_that_changes_takes_no_second_sync(world: World, service: Service) -> None:
    """Whatever makes it busy, it is locked until that ends."""
    service.begin_foreign_update(timedelta(minutes=30))
    with pytest.raises(ServiceLockedError):
        service.begin_sync()
    busy_until = service.updating_until
    world.clock.advance(timedelta(minutes=31))

    service.begin_sync()

    assert busy_until is not None
    assert len(service.syncs) == 1


def test_what_is_not_known_of_azure_can_be_switched(
    world: World, service: Service, certificate: Certificate
) -> None:
    """ARM may show the new certificate at once, and an update may neither show nor lock."""
    service.configured_when = "at_once"
    service.sets_updating = False
    first, second = certificate.newest.thumbprint, certificate.renew().thumbprint
    service.begin_sync()

    assert (second, first) == (configured(service), served(service))
    assert (service.provisioning_state(world.clock.now()), service.updating_until) == ("Succeeded", None)


def test_api_management_finds_a_new_version_by_itself_after_days(
    world: World, service: Service, certificate: Certificate
) -> None:
    """Its own pick-up is off unless asked for."""
    service.self_sync_after = timedelta(days=1)
    first, second = certificate.newest.thumbprint, certificate.renew().thumbprint

    world.clock.advance(timedelta(hours=23))
    before = served(service)
    world.clock.advance(timedelta(hours=2))

    assert (first, second) == (before, served(service))
    assert service.syncs == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("api.contoso.com", "exact"),
        ("API.Contoso.Com", "exact"),
        ("shop.contoso.com", "wildcard"),
        ("a.b.contoso.com", "builtin"),
        ("contoso.com", "builtin"),
        ("apim-names.azure-api.net", "builtin"),
    ],
)
def test_a_name_finds_its_certificate(world: World, name: str, expected: str) -> None:
    """An exact domain goes before a wildcard, which stands for one label."""
    exact, wildcard = world.ca.issue(["api.contoso.com"]), world.ca.issue(["*.contoso.com"])
    service = world.add_service(
        "apim-names",
        hostnames=[
            Hostname("*.contoso.com", uploaded=wildcard),
            Hostname("api.contoso.com", uploaded=exact),
        ],
    )

    found = service.served(name, WEST, 0, world.clock.now())

    assert {"exact": exact, "wildcard": wildcard, "builtin": world.builtin}[expected] is found


def test_a_renewal_is_announced_unless_told_otherwise(world: World, certificate: Certificate) -> None:
    """A first version raises no event by default, so that a world can be built in silence."""
    assert len(world.events) == 0

    version = certificate.renew(names=["api.contoso.com"], days=30, not_before=world.clock.now())
    certificate.renew(announce=False)

    assert [version] == [event.version for event in world.events]
    assert timedelta(days=30) == version.not_after - version.not_before
    assert len(version.id) == 32


@pytest.mark.parametrize(
    ("renew", "issuer"),
    [
        (lambda certificate: certificate.renew(), "CN=Sandbox TLS Issuing CA 1"),
        (
            lambda certificate: certificate.renew(issuer=CertificateAuthority("Other")),
            "CN=Other TLS Issuing CA 1",
        ),
        (lambda certificate: certificate.renew(self_sign=True), "CN=api.contoso.com"),
    ],
    ids=["the usual authority", "another authority", "nobody"],
)
def test_a_renewal_may_change_who_vouches(
    certificate: Certificate, renew: Callable[[Certificate], Version], issuer: str
) -> None:
    """Key Vault does not mind, clients do."""
    version = renew(certificate)

    assert issuer == x509.load_der_x509_certificate(version.der).issuer.rfc4514_string()


def test_a_thumbprint_is_the_sha1_that_other_tools_compute() -> None:
    """Identity as Azure shows it: upper-case hex of the whole certificate."""
    leaf = self_signed(["x.contoso.com"])
    certificate = x509.load_der_x509_certificate(leaf.der)

    assert certificate.fingerprint(hashes.SHA1()).hex().upper() == leaf.thumbprint  # noqa: S303 -- identity
    assert certificate.fingerprint(hashes.SHA256()).hex().upper() == leaf.sha256
