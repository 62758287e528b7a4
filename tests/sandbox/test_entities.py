"""Named values, workspaces and workspace gateways in the sandbox, as Azure's own SDK meets them."""

from datetime import timedelta

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import ManagedIdentityCredential

from sandbox.azure import Azure
from sandbox.stage import read_leaf
from sandbox.workspace_gateway import WorkspaceGateway
from sandbox.world import Certificate, NamedValue, World
from tests.sandbox.clients import api_management

ORDERS = "orders.contoso.com"


def test_microsofts_client_lists_and_refreshes_named_values(
    world: World, azure: Azure, credential: ManagedIdentityCredential, certificate: Certificate
) -> None:
    """A plain one shows its value, one from Key Vault does not; a refresh is an operation that may fail."""
    service = world.add_service("apim-prod")
    service.named_values["plain"] = NamedValue("42")
    value = service.add_vault_value("pfx", certificate)
    service.add_vault_value("password", secret=f"https://{certificate.vault.host}/secrets/password")
    where = ("rg-apim", service.name)
    value.takes = timedelta(0, 0, 1)
    with api_management(azure, credential) as arm:
        values = {v.name: v.properties for v in arm.named_value.list_by_service(*where) if v.properties}
        assert {"plain": "42", "pfx": None, "password": None} == {n: v.value for n, v in values.items()}

        world.clock.advance(timedelta(minutes=1))
        refreshed = arm.named_value.begin_refresh_secret(*where, "pfx", polling_interval=0).result()
        assert refreshed.properties
        assert refreshed.properties.key_vault
        assert refreshed.properties.key_vault.last_status
        assert "Success" == refreshed.properties.key_vault.last_status.code
        assert 1 == len(value.refreshes)

        service.identity_can_read_vault = False
        world.clock.advance(timedelta(minutes=1))
        with pytest.raises(HttpResponseError, match="Failed to access KeyVault Secret"):
            arm.named_value.begin_refresh_secret(*where, "pfx", polling_interval=0).result()
        failed = arm.named_value.list_by_service(*where, is_key_vault_refresh_failed=True)
        assert "pfx" in [it.name for it in failed]


def test_workspaces_have_their_own_and_not_every_tier_has_workspaces(
    world: World, azure: Azure, credential: ManagedIdentityCredential, certificate: Certificate
) -> None:
    """What is in one is not listed with the service's own."""
    service = world.add_service("apim-prod", sku="Premium")
    service.workspaces.append("orders")
    service.add_entity("own", certificate)
    service.add_entity("client", certificate, workspace="orders")
    service.add_vault_value("pfx", certificate, workspace="orders")
    world.add_service("apim-basic", sku="Basic")
    where = ("rg-apim", service.name)
    with api_management(azure, credential) as arm:
        assert ["orders"] == [it.name for it in arm.workspace.list_by_service(*where)]
        assert ["own"] == [it.name for it in arm.certificate.list_by_service(*where)]
        inside = (*where, "orders")
        assert ["client"] == [it.name for it in arm.workspace_certificate.list_by_workspace(*inside)]
        assert ["pfx"] == [it.name for it in arm.workspace_named_value.list_by_service(*inside)]
        new = certificate.renew().thumbprint
        refreshed = arm.workspace_certificate.refresh_secret(*inside, "client")
        assert refreshed.properties
        assert new == refreshed.properties.thumbprint
        with pytest.raises(HttpResponseError, match="MethodNotAllowedInPricingTier"):
            list(arm.workspace.list_by_service("rg-apim", "apim-basic"))
        with pytest.raises(ResourceNotFoundError):
            list(arm.workspace_certificate.list_by_workspace(*where, "nothing"))


def test_a_workspace_gateway_serves_what_its_binding_has_read(
    world: World, credential: ManagedIdentityCredential, certificate: Certificate
) -> None:
    """Nothing changes by itself, nor until the operation ends; a failed one leaves what was there."""
    gateway = WorkspaceGateway(world, "orders-gw", {ORDERS: certificate})
    world.workspace_gateways.append(gateway)
    binding = ("rg-apim", "orders-gw", "orders-contoso-com")
    with Azure(world) as azure, api_management(azure, credential) as arm:
        old, new = certificate.newest.thumbprint, certificate.renew().thumbprint
        arm.api_gateway_hostname_binding.begin_refresh_secret(*binding, polling=False)
        shown = arm.api_gateway_hostname_binding.get(*binding).properties
        assert ("Updating", old) == (
            shown.provisioning_state,
            shown.certificate and shown.certificate.thumbprint,
        )
        assert old == read_leaf(azure.connect_to[ORDERS], ORDERS)
        world.clock.advance(gateway.refresh_takes + timedelta(seconds=1))
        assert new == read_leaf(azure.connect_to[ORDERS], ORDERS)

        gateway.can_read_vault = False
        world.clock.advance(timedelta(minutes=1))
        certificate.renew()
        gateway.bindings[0].refresh()
        world.clock.advance(gateway.refresh_takes + timedelta(seconds=1))
        [listed] = arm.api_gateway_hostname_binding.list_by_gateway(*binding[:2])
        assert listed.properties.key_vault.last_status
        assert "Failed" == listed.properties.key_vault.last_status.code
        assert ["orders-gw"] == [it.name for it in arm.api_gateway.list()]
