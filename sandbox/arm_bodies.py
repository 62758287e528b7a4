"""What ARM shows of a service, and the shape of its errors: the same for each of its operations."""

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sandbox.world import Hostname, Service


class ArmError(Exception):
    """An answer in ARM's error shape."""

    def __init__(
        self, status: int, code: str, message: str, **more: Sequence[Mapping[str, str]] | None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers: dict[str, str] = {}
        self.body = {"error": {"code": code, "message": message, **more}}


def slug(region: str) -> str:
    """A region as it stands in addresses and ids."""
    return region.replace(" ", "").casefold()


def service_body(service: Service, now: datetime) -> dict[str, Any]:
    """A service as ARM shows it, with the fields of the official examples."""
    stamp = f"{service.created:%Y-%m-%dT%H:%M:%S.%f}0Z"
    changes = sum(update.ends <= now for update in service.updates)
    return {
        "name": service.name,
        "type": "Microsoft.ApiManagement/service",
        "etag": base64.b64encode((0x16_37FE + changes).to_bytes(8, "big")).decode(),
        "id": service.id,
        "identity": {
            "type": "SystemAssigned",
            "principalId": service.guid("principal"),
            "tenantId": service.world.tenant_id,
        },
        "location": service.location,
        "properties": _properties(service, now) | {"createdAtUtc": stamp},
        "sku": {"name": service.sku, "capacity": service.regions[service.location]},
        "systemData": {
            "createdAt": stamp,
            "createdBy": "platform@contoso.com",
            "createdByType": "User",
            "lastModifiedAt": stamp,
            "lastModifiedBy": "platform@contoso.com",
            "lastModifiedByType": "User",
        },
        "tags": service.tags,
    }


def _properties(service: Service, now: datetime) -> dict[str, Any]:
    name = service.name
    protocols = "Microsoft.WindowsAzure.ApiManagement.Gateway.Security.Protocols"
    additional = [region for region in service.regions if region != service.location]
    return _place(service, service.location) | {
        "additionalLocations": [
            _place(service, region)
            | {
                "location": region,
                "sku": {"name": service.sku, "capacity": service.regions[region]},
                "zones": [],
            }
            for region in additional
        ],
        "apiVersionConstraint": {"minApiVersion": "2021-08-01"},
        "certificates": [],
        "customProperties": {f"{protocols}.Tls10": "False", f"{protocols}.Tls11": "False"},
        "developerPortalStatus": "Enabled",
        "developerPortalUrl": f"https://{name}.developer.azure-api.net",
        "gatewayUrl": f"https://{name}.azure-api.net",
        "hostnameConfigurations": [
            {
                "type": "Proxy",
                "certificateSource": "BuiltIn",
                "defaultSslBinding": False,
                "hostName": service.builtin_host,
                "negotiateClientCertificate": False,
            },
            *(_hostname(service, position, now) for position in range(len(service.hostnames))),
        ],
        "legacyPortalStatus": "Disabled",
        "managementApiUrl": f"https://{name}.management.azure-api.net",
        "natGatewayState": "Disabled",
        "notificationSenderEmail": "apimgmt-noreply@mail.windowsazure.com",
        "portalUrl": f"https://{name}.portal.azure-api.net",
        "privateEndpointConnections": [],
        "provisioningState": service.provisioning_state(now),
        "publicNetworkAccess": "Enabled",
        "publisherEmail": "apis@contoso.com",
        "publisherName": "Contoso",
        "releaseChannel": "Default",
        "scmUrl": f"https://{name}.scm.azure-api.net",
        "targetProvisioningState": "",
        "virtualNetworkType": service.virtual_network_type,
    }


def _place(service: Service, region: str) -> dict[str, Any]:
    """What the main location and the additional ones have in common."""
    place: dict[str, Any] = {
        "disableGateway": region in service.gateway_disabled,
        "gatewayRegionalUrl": f"https://{service.regional_host(region)}",
        "outboundPublicIPAddresses": [service.public_address(region)],
        "platformVersion": "stv2.1",
        "publicIPAddresses": [service.public_address(region)],
    }
    if service.virtual_network_type == "Internal":
        place["privateIPAddresses"] = [service.private_address(region)]
    if service.virtual_network_type != "None":
        network = (
            f"/subscriptions/{service.subscription_id}/resourceGroups/rg-network/providers/Microsoft.Network"
        )
        subnet = f"{network}/virtualNetworks/vnet-{slug(region)}/subnets/apim"
        place["virtualNetworkConfiguration"] = {"subnetResourceId": subnet}
    return place


def _hostname(service: Service, position: int, now: datetime) -> dict[str, Any]:
    hostname = service.hostnames[position]
    body: dict[str, Any] = {
        "type": hostname.type,
        "certificateSource": _source(hostname, position),
        "defaultSslBinding": hostname is service.default_hostname,
        "hostName": hostname.host_name,
        "negotiateClientCertificate": False,
    }
    if shown := service.configured(hostname.host_name, now):
        body["certificate"] = {
            "expiry": shown.not_after.isoformat(),
            "subject": shown.subject,
            "thumbprint": shown.thumbprint,
        }
    if hostname.key_vault_id:
        body["keyVaultId"] = hostname.key_vault_id
    return body


def _source(hostname: Hostname, position: int) -> str:
    """The official examples show KeyVault and Custom, both with a keyVaultId: so it is here, in turn."""
    if hostname.managed:
        return "Managed"
    return "KeyVault" if hostname.key_vault_id and position % 2 == 0 else "Custom"
