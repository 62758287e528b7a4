"""What ARM says around API Management: subscriptions, vaults, rights and event subscriptions.

Shapes follow the official references of Microsoft.Authorization (permissions, roleAssignments,
providerOperations; 2022-04-01), Microsoft.KeyVault (vaults; 2023-07-01), Microsoft.EventGrid (systemTopics;
2025-02-15) and API Management's NetworkStatus_ListByService.
"""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from aiohttp import web

from sandbox.application_gateway import ApplicationGateway
from sandbox.arm_bodies import ArmError
from sandbox.world import Service, Vault, World

Route = tuple[str, str, Callable[[web.Request, re.Match[str]], web.Response]]

_SUBSCRIPTION = r"/subscriptions/(?P<subscription>[^/]+)"
_VAULT = rf"{_SUBSCRIPTION}/resourceGroups/[^/]+/providers/Microsoft\.KeyVault/vaults/(?P<vault>[^/]+)"
_TOPIC = rf"{_SUBSCRIPTION}/resourceGroups/[^/]+/providers/Microsoft\.EventGrid/systemTopics/(?P<topic>[^/]+)"
_AUTHORIZATION = r"providers/Microsoft\.Authorization"
_ASSIGNED_TO = re.compile(r"assignedTo\('(?P<principal>[0-9a-f-]{36})'\)")
_SECRETS_USER = "4633458b-17de-408a-b874-0445c86b69e6"


class ArmRights:
    """The answers; what they say is the world's.

    Args:
        world: where the vaults are.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.routes: list[Route] = [
            ("GET", _SUBSCRIPTION, self._subscription),
            ("GET", rf"{_SUBSCRIPTION}(?:/.+)?/{_AUTHORIZATION}/permissions", self._permissions),
            ("GET", rf"{_VAULT}/{_AUTHORIZATION}/roleAssignments", self._role_assignments),
            ("GET", rf"/{_AUTHORIZATION}/providerOperations/Microsoft\.ApiManagement", self._operations),
            ("GET", rf"{_SUBSCRIPTION}/providers/Microsoft\.KeyVault/vaults", self._vaults),
            ("GET", rf"{_SUBSCRIPTION}/providers/Microsoft\.EventGrid/systemTopics", self._topics),
            ("GET", rf"{_TOPIC}/eventSubscriptions", self._event_subscriptions),
        ]

    def _subscription(self, _: web.Request, path: re.Match[str]) -> web.Response:
        own = path["subscription"]
        body = {"id": f"/subscriptions/{own}", "subscriptionId": own, "displayName": "Contoso"}
        return web.json_response({**body, "state": "Enabled", "tenantId": self._world.tenant_id})

    def _permissions(self, _: web.Request, __: re.Match[str]) -> web.Response:
        role = {
            "actions": self._world.granted_actions,
            "notActions": [],
            "dataActions": self._world.granted_data_actions,
            "notDataActions": [],
        }
        return web.json_response({"value": [role]})

    def _role_assignments(self, request: web.Request, path: re.Match[str]) -> web.Response:
        asked = _ASSIGNED_TO.fullmatch(request.query.get("$filter", ""))
        if asked is None:
            raise ArmError(400, "UnsupportedQuery", "This sandbox has the filter assignedTo('GUID') only.")
        vault = self._vault(path)
        readers = self._readers(vault) if vault.role_based else []
        role = f"/subscriptions/{path['subscription']}/providers/Microsoft.Authorization/roleDefinitions"
        assignments = [
            {
                "id": f"{vault.id}/providers/Microsoft.Authorization/roleAssignments/{service.guid('role')}",
                "name": service.guid("role"),
                "type": "Microsoft.Authorization/roleAssignments",
                "properties": {
                    "principalId": service.guid("principal"),
                    "principalType": "ServicePrincipal",
                    "roleDefinitionId": f"{role}/{_SECRETS_USER}",
                    "scope": vault.id,
                },
            }
            for service in readers
            if service.guid("principal") == asked["principal"]
        ]
        return web.json_response({"value": assignments})

    def _operations(self, _: web.Request, __: re.Match[str]) -> web.Response:
        names = ["Microsoft.ApiManagement/service/read"]
        if self._world.registers_sync:
            names.append("Microsoft.ApiManagement/service/refreshHostnames/action")
        operations = [{"name": name, "isDataAction": False} for name in names]
        return web.json_response(
            {
                "id": "/providers/Microsoft.Authorization/providerOperations/Microsoft.ApiManagement",
                "name": "Microsoft.ApiManagement",
                "operations": [],
                "resourceTypes": [{"name": "service", "operations": operations}],
            }
        )

    def _vaults(self, _: web.Request, path: re.Match[str]) -> web.Response:
        own = [vault for vault in self._world.vaults.values() if _within(vault.id, path)]
        return web.json_response({"value": [self._vault_body(vault) for vault in own]})

    def _vault_body(self, vault: Vault) -> dict[str, Any]:
        policies = [
            {
                "tenantId": self._world.tenant_id,
                "objectId": service.guid("principal"),
                "permissions": {"secrets": ["get"], "certificates": [], "keys": []},
            }
            for service in ([] if vault.role_based else self._readers(vault))
        ]
        return {
            "id": vault.id,
            "name": vault.name,
            "type": "Microsoft.KeyVault/vaults",
            "location": "westeurope",
            "properties": {
                "vaultUri": f"https://{vault.host}/",
                "tenantId": self._world.tenant_id,
                "sku": {"family": "A", "name": "standard"},
                "enableRbacAuthorization": vault.role_based,
                "accessPolicies": policies,
                "enableSoftDelete": True,
                "publicNetworkAccess": "Enabled",
                "networkAcls": {
                    "defaultAction": "Deny" if vault.behind_firewall else "Allow",
                    "bypass": "AzureServices" if vault.lets_trusted_services_in else "None",
                    "ipRules": [],
                    "virtualNetworkRules": [],
                },
            },
        }

    def _topics(self, _: web.Request, path: re.Match[str]) -> web.Response:
        topics = [
            {
                "id": _topic_id(vault),
                "name": f"{vault.name}-events",
                "type": "Microsoft.EventGrid/systemTopics",
                "location": "westeurope",
                "properties": {"source": vault.id, "topicType": "Microsoft.KeyVault.vaults"},
            }
            for vault in self._world.vaults.values()
            if vault.subscribed is not None and _within(vault.id, path)
        ]
        return web.json_response({"value": topics})

    def _event_subscriptions(self, _: web.Request, path: re.Match[str]) -> web.Response:
        vault = next((v for v in self._world.vaults.values() if f"{v.name}-events" == path["topic"]), None)
        if vault is None or vault.subscribed is None:
            raise ArmError(404, "ResourceNotFound", f"There is no system topic '{path['topic']}'.")
        site = (
            f"/subscriptions/{path['subscription']}/resourceGroups/rg-app/providers/Microsoft.Web/sites/app"
        )
        subscription = {
            "id": f"{_topic_id(vault)}/eventSubscriptions/rotation",
            "name": "rotation",
            "type": "Microsoft.EventGrid/systemTopics/eventSubscriptions",
            "properties": {
                "provisioningState": "Succeeded",
                "filter": {"includedEventTypes": sorted(vault.subscribed)},
                "eventDeliverySchema": "EventGridSchema",
                "destination": {
                    "endpointType": "AzureFunction",
                    "properties": {"resourceId": f"{site}/functions/on_certificate_event"},
                },
            },
        }
        return web.json_response({"value": [subscription] if vault.subscribed else []})

    def _vault(self, path: re.Match[str]) -> Vault:
        vault = self._world.vaults.get(path["vault"].casefold())
        if vault is None:
            raise ArmError(404, "ResourceNotFound", f"There is no vault '{path['vault']}'.")
        return vault

    def _readers(self, vault: Vault) -> list[Service | ApplicationGateway]:
        everybody: list[Service | ApplicationGateway] = [
            *self._world.services,
            *self._world.application_gateways,
        ]
        return [
            one
            for one in everybody
            if one.identity_can_read_vault
            and any(host.certificate and host.certificate.vault is vault for host in one.hostnames)
        ]


def network_status(service: Service, now: datetime) -> list[dict[str, Any]]:
    """What a service can reach, in each of its locations, by its own account."""
    hosts = {host.certificate.vault.host for host in service.hostnames if host.certificate}
    stamp = now.isoformat()
    reached = service.identity_can_read_vault
    return [
        {
            "location": region,
            "networkStatus": {
                "dnsServers": ["168.63.129.16"],
                "connectivityStatus": [
                    {
                        "name": host,
                        "status": "success" if reached else "failure",
                        "error": "" if reached else "The operation has timed out.",
                        "lastUpdated": stamp,
                        "lastStatusChange": stamp,
                        "resourceType": "AzureKeyVault",
                        "isOptional": True,
                    }
                    for host in sorted(hosts)
                ],
            },
        }
        for region in service.regions
    ]


def _topic_id(vault: Vault) -> str:
    group = vault.id.partition("/providers/")[0]
    return f"{group}/providers/Microsoft.EventGrid/systemTopics/{vault.name}-events"


def _within(resource_id: str, path: re.Match[str]) -> bool:
    return resource_id.casefold().startswith(f"/subscriptions/{path['subscription'].casefold()}/")
