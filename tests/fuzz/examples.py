"""A well-formed example of what comes in at each door, to be changed."""

from typing import Any

from rotation.report import to_json
from tests.unit import build

GUID = "1d0c8a94-5b37-4f62-8e2d-93c6f7ab4e10"
"""The subscription of the sandbox's world."""
VAULT = "kv-contoso.vault.azure.net"
SERVICE_ID = (
    f"/subscriptions/{GUID}/resourceGroups/rg-apim/providers/Microsoft.ApiManagement/service/apim-contoso"
)

EVENT = {
    "id": "an-event",
    "topic": f"/subscriptions/{GUID}/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/kv-contoso",
    "subject": "contoso-com",
    "eventType": "Microsoft.KeyVault.CertificateNewVersionCreated",
    "eventTime": "2026-11-23T00:00:00Z",
    "data": {
        "Id": f"https://{VAULT}/certificates/contoso-com/0123456789abcdef0123456789abcdef",
        "VaultName": "kv-contoso",
        "ObjectType": "Certificate",
        "ObjectName": "contoso-com",
        "Version": "0123456789abcdef0123456789abcdef",
        "NBF": 1,
        "EXP": 2,
    },
    "dataVersion": "1",
    "metadataVersion": "1",
}
SERVICE: dict[str, Any] = {
    "id": SERVICE_ID,
    "location": "West Europe",
    "tags": {"rotation-ring": "1"},
    "sku": {"name": "Premium", "capacity": 2},
    "properties": {
        "provisioningState": "Succeeded",
        "gatewayUrl": "https://apim-contoso.azure-api.net",
        "gatewayRegionalUrl": "https://apim-contoso-westeurope-01.regional.azure-api.net",
        "publicIPAddresses": ["203.0.113.1"],
        "additionalLocations": [
            {"location": "East US", "sku": {"capacity": 1}, "gatewayRegionalUrl": "https://x"}
        ],
        "hostnameConfigurations": [
            {
                "type": "Proxy",
                "hostName": "api.contoso.com",
                "keyVaultId": f"https://{VAULT}/secrets/contoso-com",
                "certificate": {"thumbprint": "A" * 40, "expiry": "2026-11-23T00:00:00Z"},
            }
        ],
        "virtualNetworkType": "None",
    },
}
RUN = "0f8fad5b-d9cb-469f-a165-70867728950e"
MOMENT = "2026-11-23T00:00:00+00:00"
ROW = {
    "wanted": {"https://x": {"version": "1", "since": MOMENT}},
    "attempts": 1,
    "asked_at": MOMENT,
    "next_at": MOMENT,
    "outcome": "accepted",
    "last": {
        "x": {"status": "STALE", "reason": "ServesOldVersion", "drift": True, "since": MOMENT, "version": "1"}
    },
    "rotations": [
        {"certificate": "x", "version": "1", "created": MOMENT, "noticed": MOMENT, "caught_by": "event"}
    ],
    "outbox": [{"name": "x", "properties": {"a": "b"}, "measurements": {"a": 1}, "event_id": "1"}],
}
REPORT = to_json(build.report([build.verdict()], [build.decision()], rows=[build.row()]))
GRAPH = {
    "totalRecords": 1,
    "count": 1,
    "resultTruncated": "false",
    "data": [{**SERVICE, **SERVICE["properties"]}],
}
CERTIFICATE = {
    "id": f"https://{VAULT}/certificates/contoso-com/0123456789abcdef0123456789abcdef",
    "x5t": "AAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "cer": "MIIB",
    "attributes": {"enabled": True, "nbf": 1, "exp": 2, "created": 1, "updated": 1},
    "policy": {},
}
RESYNC = {"hostname": "api.contoso.com", "dry_run": True, "force": False, "override": ["NamesLost"]}

INSIGHTS = {
    "itemsReceived": 1,
    "itemsAccepted": 1,
    "errors": [{"index": 0, "statusCode": 400, "message": "x"}],
}
PART = {
    "id": f"{SERVICE_ID}/certificates/edge",
    "name": "edge",
    "properties": {
        "hostname": "edge.contoso.com",
        "certificateId": f"{SERVICE_ID}/certificates/edge",
        "thumbprint": "A" * 40,
        "expirationDate": MOMENT,
        "keyVault": {
            "secretIdentifier": f"https://{VAULT}/secrets/contoso-com",
            "identityClientId": GUID,
            "lastStatus": {"code": "Failed", "message": "x", "timeStampUtc": "2026-11-23T00:00:00.0000000Z"},
        },
    },
}
"""An entity, a gateway, its hostname and its authority in one: all that lists of them are read for."""

BINDING = {
    "id": (
        f"/subscriptions/{GUID}/resourceGroups/rg-apim/providers/Microsoft.ApiManagement/gateways/orders-gw"
        "/hostnameBindings/orders-contoso-com"
    ),
    "name": "orders-contoso-com",
    "properties": {
        "provisioningState": "Succeeded",
        "hostname": "orders.contoso.com",
        "keyVault": {
            "secretId": f"https://{VAULT}/secrets/contoso-com",
            "identityClientId": GUID,
            "lastStatus": {"code": "Failed", "timeStampUtc": MOMENT, "lastSuccessTimeStampUtc": MOMENT},
        },
        "certificate": {"thumbprint": "A" * 40, "subject": "CN=orders", "expiry": MOMENT},
    },
}

AGW = f"/subscriptions/{GUID}/resourceGroups/rg/providers/Microsoft.Network/applicationGateways/agw"
APPLICATION_GATEWAY = {
    "id": AGW,
    "location": "West Europe",
    "tags": {"rotation-ring": "1"},
    "identity": {"userAssignedIdentities": {"x": {"clientId": GUID}}},
    "properties": {
        "provisioningState": "Succeeded",
        "operationalState": "Running",
        "sku": {"tier": "Standard_v2", "capacity": 2},
        "autoscaleConfiguration": {"maxCapacity": 3},
        "ipAddress": "203.0.113.1",
        "sslCertificates": [
            {"id": "cert", "properties": {"keyVaultSecretId": f"https://{VAULT}/secrets/contoso-com"}}
        ],
        "frontendPorts": [{"id": "port", "properties": {"port": 443}}],
        "frontendIPConfigurations": [{"id": "ip", "properties": {"privateIPAddress": "10.0.0.4"}}],
        "httpListeners": [
            {
                "id": "listener",
                "name": "x",
                "properties": {
                    "protocol": "Https",
                    "hostNames": ["api.contoso.com", "*.contoso.com"],
                    "sslCertificate": {"id": "cert"},
                    "frontendPort": {"id": "port"},
                    "frontendIPConfiguration": {"id": "ip"},
                },
            }
        ],
        "backendAddressPools": [{"id": "pool", "properties": {"backendAddresses": [{"fqdn": "apim"}]}}],
        "backendHttpSettingsCollection": [
            {
                "id": "settings",
                "properties": {
                    "protocol": "Https",
                    "pickHostNameFromBackendAddress": True,
                    "trustedRootCertificates": [{"id": "root"}],
                },
            }
        ],
        "trustedRootCertificates": [{"id": "root", "properties": {"data": "MIIB"}}],
        "requestRoutingRules": [
            {
                "id": "rule",
                "properties": {
                    "httpListener": {"id": "listener"},
                    "backendAddressPool": {"id": "pool"},
                    "backendHttpSettings": {"id": "settings"},
                },
            }
        ],
        "urlPathMaps": [],
    },
}
HEALTH = {
    "backendAddressPools": [
        {
            "backendHttpSettingsCollection": [
                {"servers": [{"address": "apim", "health": "Unhealthy", "healthProbeLog": "certificate"}]}
            ]
        }
    ]
}
