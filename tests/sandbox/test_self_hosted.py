"""Entities and self-hosted gateways of the pretend Azure: what they hold, and when, by the world's clock."""

from datetime import timedelta

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import ManagedIdentityCredential

from sandbox.azure import Azure
from sandbox.self_hosted import POLL, READS_VAULT_EVERY, Entity, SelfHostedGateway
from sandbox.world import Certificate, Service, World
from tests.sandbox.clients import api_management, handshake, which

EDGE = "edge.contoso.com"
ONE, TWO = "one.edge.contoso.internal", "two.edge.contoso.internal"
A_MOMENT = timedelta(seconds=1)


@pytest.fixture
def entity(world: World, certificate: Certificate) -> Entity:
    """An entity that follows a certificate."""
    return world.add_service("apim-prod").add_entity("edge", certificate)


@pytest.fixture
def gateway(entity: Entity) -> SelfHostedGateway:
    """Two replicas that serve it."""
    return entity.service.add_self_hosted("edge-berlin", {EDGE: entity}, [ONE, TWO])


def holds(entity: Entity) -> str:
    """The thumbprint that the entity has now."""
    return entity.held_at(entity.service.world.clock.now()).thumbprint


def served(gateway: SelfHostedGateway, replica: str = ONE) -> str:
    """What a replica would present now."""
    return gateway.served(EDGE, replica, 0, gateway.world.clock.now()).thumbprint


def test_an_entity_reads_its_vault_within_four_hours_or_when_it_is_told(
    world: World, entity: Entity, certificate: Certificate
) -> None:
    """Neither earlier by itself, nor later."""
    old, new = certificate.newest.thumbprint, certificate.renew().thumbprint
    world.clock.advance(READS_VAULT_EVERY - timedelta(minutes=1))
    assert old == holds(entity)
    world.clock.advance(timedelta(minutes=2))
    assert new == holds(entity)

    newer = certificate.renew().thumbprint
    entity.refresh()
    assert newer == holds(entity)


@pytest.mark.parametrize("why", ["identity", "disabled", "deleted"])
def test_an_entity_that_may_not_read_keeps_what_it_has_and_says_so(
    world: World, entity: Entity, certificate: Certificate, why: str
) -> None:
    """The error stays until a read succeeds."""
    old = certificate.newest.thumbprint
    new = certificate.renew().thumbprint
    if why == "identity":
        entity.service.identity_can_read_vault = False
    else:
        certificate.disable() if why == "disabled" else certificate.delete()
    entity.refresh()
    read = entity.last_read(world.clock.now())
    assert (old, True) == (holds(entity), bool(read and read.error))

    entity.service.identity_can_read_vault = True
    certificate.enable() if why == "disabled" else certificate.recover()
    entity.refresh()
    read = entity.last_read(world.clock.now())
    assert (new, False) == (holds(entity), bool(read is None or read.error))


def test_a_pinned_and_an_uploaded_entity_follow_nothing(
    world: World, entity: Entity, certificate: Certificate
) -> None:
    """Whatever is renewed, and however often they are told."""
    pinned = entity.service.add_entity("pinned", certificate, pinned=True)
    uploaded = entity.service.add_entity("uploaded", uploaded=world.ca.issue([EDGE]))
    before = [holds(pinned), holds(uploaded)]
    certificate.renew()
    pinned.refresh()
    world.clock.advance(timedelta(days=1))

    assert before == [holds(pinned), holds(uploaded)]
    assert certificate.versions[0].secret_id == pinned.secret_identifier
    assert uploaded.secret_identifier is None


def test_a_replica_has_the_new_certificate_at_its_next_beat(
    world: World, gateway: SelfHostedGateway, entity: Entity, certificate: Certificate
) -> None:
    """Within ten seconds of the entity, and not before."""
    old, new = certificate.newest.thumbprint, certificate.renew().thumbprint
    world.clock.advance(POLL - (world.clock.now() - gateway.created) % POLL + A_MOMENT)
    entity.refresh()
    assert (new, old) == (holds(entity), served(gateway))
    world.clock.advance(POLL)
    assert new == served(gateway)


def test_a_replica_that_is_cut_off_goes_on_with_what_it_has(
    world: World, gateway: SelfHostedGateway, entity: Entity, certificate: Certificate
) -> None:
    """For as long as that lasts, twice over, while the other follows."""
    for _ in range(2):
        old = certificate.newest.thumbprint
        gateway.cut_off(TWO)
        new = certificate.renew().thumbprint
        entity.refresh()
        world.clock.advance(timedelta(hours=9))
        assert (new, old) == (served(gateway, ONE), served(gateway, TWO))
        gateway.connect(TWO)
        world.clock.advance(POLL + A_MOMENT)
        assert [new, new] == [served(gateway, ONE), served(gateway, TWO)]


@pytest.mark.usefixtures("gateway")
def test_replicas_answer_by_tls_at_addresses_of_their_own(
    world: World, entity: Entity, certificate: Certificate
) -> None:
    """By the server name; a strange one meets the certificate that the gateway was made with."""
    with Azure(world) as azure:
        old, new = certificate.newest, certificate.renew()
        entity.refresh()
        entity.service.self_hosted[0].cut_off(TWO)
        world.clock.advance(POLL)

        assert "new" == which(handshake(azure, azure.connect_to[ONE], EDGE), old=old, new=new)
        assert "old" == which(handshake(azure, azure.connect_to[TWO], EDGE), old=old, new=new)
        strange = handshake(azure, azure.connect_to[ONE], "other.contoso.com")
        assert "built-in" == which(strange, **{"built-in": world.builtin})


def test_only_two_tiers_have_self_hosted_gateways(
    world: World, azure: Azure, credential: ManagedIdentityCredential
) -> None:
    """The others refuse the question, as Azure does."""
    for sku in ("Developer", "Premium", "Basic", "StandardV2"):
        world.add_service(f"apim-{sku.lower()}", sku=sku)
    with api_management(azure, credential) as arm:
        assert [] == list(arm.gateway.list_by_service("rg-apim", "apim-developer"))
        assert [] == list(arm.gateway.list_by_service("rg-apim", "apim-premium"))
        for name in ("apim-basic", "apim-standardv2"):
            with pytest.raises(HttpResponseError, match="MethodNotAllowedInPricingTier"):
                list(arm.gateway.list_by_service("rg-apim", name))


def test_microsofts_client_reads_and_refreshes_entities(
    azure: Azure, credential: ManagedIdentityCredential, entity: Entity, certificate: Certificate
) -> None:
    """Lists with and without the filter of failures, one entity, and refreshSecret."""
    service: Service = entity.service
    service.add_entity("uploaded", uploaded=azure.world.ca.issue([EDGE]))
    with api_management(azure, credential) as arm:
        where = ("rg-apim", service.name)
        new = certificate.renew()
        refreshed = arm.certificate.refresh_secret(*where, "edge")
        assert refreshed.properties
        assert new.thumbprint == refreshed.properties.thumbprint
        assert ["edge", "uploaded"] == [it.name for it in arm.certificate.list_by_service(*where)]
        assert [] == list(arm.certificate.list_by_service(*where, is_key_vault_refresh_failed=True))
        service.identity_can_read_vault = False
        entity.refresh()
        failed = arm.certificate.list_by_service(*where, is_key_vault_refresh_failed=True)
        assert ["edge"] == [it.name for it in failed]
        with pytest.raises(HttpResponseError, match="not stored in a key vault"):
            arm.certificate.refresh_secret(*where, "uploaded")
        for missing in (arm.certificate.get, arm.certificate.refresh_secret):
            with pytest.raises(ResourceNotFoundError):
                missing(*where, "nobody")
