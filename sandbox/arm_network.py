"""What ARM and Resource Graph say of Application Gateways, their addresses, and Front Door profiles.

Shapes follow the official references of Microsoft.Network (2024-05-01): ApplicationGateways_Get, _ListAll and
_BackendHealth, PublicIPAddresses_Get; of Microsoft.Resources (2021-04-01): Tags_UpdateAtScope.
"""

import re
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from aiohttp import web

from sandbox.application_gateway import KEY_VAULT_ISSUE, NETWORK, ApplicationGateway
from sandbox.arm_bodies import ArmError
from sandbox.world import World

Route = tuple[
    str, str, Callable[[web.Request, re.Match[str]], web.Response] | Callable[..., Awaitable[web.Response]]
]

_SUBSCRIPTION = r"/subscriptions/(?P<subscription>[^/]+)"
_VERSIONS = ("2023-11-01", "2024-01-01", "2024-03-01", "2024-05-01")
_GATEWAYS = rf"{_SUBSCRIPTION}/providers/Microsoft\.Network/applicationGateways"
_RESOURCE = rf"{_SUBSCRIPTION}/resourceGroups/[^/]+/providers/Microsoft\.Network"
_RESULT = rf"{_SUBSCRIPTION}/providers/Microsoft\.Network/locations/[^/]+/operationResults/(?P<gateway>[^/]+)"
_GATEWAY = rf"{_RESOURCE}/applicationGateways/(?P<gateway>[^/]+)"


class ArmNetwork:
    """The answers; what they say is the world's.

    Args:
        world: where the gateways are.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.routes: list[Route] = [
            ("GET", _GATEWAYS, self._list),
            ("GET", _GATEWAY, self._get),
            ("GET", rf"{_RESOURCE}/publicIPAddresses/(?P<gateway>[^/]+)", self._public_address),
            ("PATCH", rf"{_GATEWAY}/providers/Microsoft\.Resources/tags/default", self._merge_tags),
            ("POST", rf"{_GATEWAY}/backendhealth", self._backend_health),
            ("GET", _RESULT, self._health_result),
        ]

    def _list(self, request: web.Request, path: re.Match[str]) -> web.Response:
        self._known_version(request)
        now = self._world.clock.now()
        mine = [g for g in self._world.application_gateways if _same(g.subscription_id, path["subscription"])]
        return web.json_response({"value": [gateway.body(now) for gateway in mine]})

    def _get(self, request: web.Request, path: re.Match[str]) -> web.Response:
        self._known_version(request)
        return web.json_response(self._gateway(path).body(self._world.clock.now()))

    def _public_address(self, _: web.Request, path: re.Match[str]) -> web.Response:
        return web.json_response(public_address(self._gateway(path)))

    async def _merge_tags(self, request: web.Request, path: re.Match[str]) -> web.Response:
        gateway = self._gateway(path)
        self._may("Microsoft.Resources/tags/write", request)
        asked = await request.json()
        if asked.get("operation") != "Merge":
            raise ArmError(400, "InvalidTagsOperation", "This sandbox has the operation Merge only.")
        gateway.merge_tags(asked["properties"]["tags"])
        return web.json_response(
            {
                "id": f"{gateway.id}/providers/Microsoft.Resources/tags/default",
                "name": "default",
                "type": "Microsoft.Resources/tags",
                "properties": {"tags": gateway.tags},
            }
        )

    def _backend_health(self, request: web.Request, path: re.Match[str]) -> web.Response:
        self._known_version(request)
        gateway = self._gateway(path)
        self._may("Microsoft.Network/applicationGateways/backendhealth/action", request)
        place = gateway.location.replace(" ", "").casefold()
        result = f"/subscriptions/{gateway.subscription_id}/{NETWORK}/locations/{place}/operationResults"
        location = request.url.with_path(f"{result}/{gateway.name}").with_query(request.query)
        return web.Response(status=202, headers={"Location": str(location), "Retry-After": "0"})

    def _health_result(self, _: web.Request, path: re.Match[str]) -> web.Response:
        return web.json_response(self._gateway(path).backend_health(self._world.clock.now()))

    def _known_version(self, request: web.Request) -> None:
        """Each provider has its own api-versions."""
        version = request.query["api-version"]
        if version not in _VERSIONS:
            message = (
                f"No registered resource provider found for API version '{version}' for type"
                f" 'applicationGateways'. The supported api-versions are '{', '.join(_VERSIONS)}'."
            )
            raise ArmError(400, "NoRegisteredProviderFound", message)

    def _gateway(self, path: re.Match[str]) -> ApplicationGateway:
        for gateway in self._world.application_gateways:
            same = _same(gateway.subscription_id, path["subscription"])
            if same and _same(gateway.name, path["gateway"]):
                return gateway
        message = f"The Resource 'Microsoft.Network/applicationGateways/{path['gateway']}' was not found."
        raise ArmError(404, "ResourceNotFound", message)

    def _may(self, action: str, request: web.Request) -> None:
        if not any(fnmatchcase(action.lower(), granted.lower()) for granted in self._world.granted_actions):
            message = (
                f"The client does not have authorization to perform action '{action}' over scope"
                f" '{request.path}' or the scope is invalid."
            )
            raise ArmError(403, "AuthorizationFailed", message)


def public_address(gateway: ApplicationGateway) -> dict[str, Any]:
    """The public IP resource of a gateway, as ARM shows it."""
    return {
        "name": gateway.name,
        "id": gateway.public_address_id,
        "type": "Microsoft.Network/publicIPAddresses",
        "location": gateway.location.replace(" ", "").casefold(),
        "sku": {"name": "Standard", "tier": "Regional"},
        "properties": {
            "provisioningState": "Succeeded",
            "ipAddress": gateway.public_address,
            "publicIPAllocationMethod": "Static",
            "publicIPAddressVersion": "IPv4",
        },
    }


def rows(world: World, scope: set[str], moment: datetime) -> Iterator[Mapping[str, Any]]:
    """The rows of the table `resources`."""
    for gateway in world.application_gateways:
        if gateway.subscription_id.casefold() in scope and gateway.created <= moment:
            yield _row(gateway.body(moment))
            yield _row(public_address(gateway))
    for door in world.front_doors:
        subscription = door.subscription_id or world.subscription_id
        if subscription.casefold() in scope:
            yield _row(
                {
                    "id": f"/subscriptions/{subscription}/resourceGroups/rg-network/providers/Microsoft.Cdn"
                    f"/profiles/{door.name}/originGroups/apis/origins/apim",
                    "name": "apim",
                    "type": "Microsoft.Cdn/profiles/originGroups/origins",
                    "location": "Global",
                    "properties": {
                        "hostName": door.host,
                        "originHostHeader": door.header,
                        "enabledState": "Enabled",
                        "enforceCertificateNameCheck": True,
                    },
                }
            )


def recommendations(world: World, scope: set[str], moment: datetime) -> Iterator[Mapping[str, Any]]:
    """The rows of the table `advisorresources`: gateways that could not read the vault when they looked."""
    for gateway in world.application_gateways:
        if gateway.subscription_id.casefold() not in scope:
            continue
        if any(gateway.disabled(hostname, moment) for hostname in gateway.hostnames):
            guid = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{gateway.id}#{KEY_VAULT_ISSUE}"))
            yield {
                "id": f"{gateway.id}/providers/Microsoft.Advisor/recommendations/{guid}",
                "name": guid,
                "type": "microsoft.advisor/recommendations",
                "subscriptionId": gateway.subscription_id,
                "properties": {
                    "recommendationTypeId": KEY_VAULT_ISSUE,
                    "impactedField": "Microsoft.Network/applicationGateways",
                    "shortDescription": {
                        "problem": "Resolve Azure Key Vault issue for your Application Gateway"
                    },
                    "resourceMetadata": {"resourceId": gateway.id.casefold()},
                },
            }


def _row(body: Mapping[str, Any]) -> Mapping[str, Any]:
    parts = body["id"].split("/")
    return {
        "tags": None,
        "sku": None,
        "identity": None,
        "zones": None,
        **body,
        "type": body["type"].casefold(),
        "resourceGroup": parts[4].casefold(),
        "subscriptionId": parts[2],
    }


def _same(own: str, other: str) -> bool:
    return own.casefold() == other.casefold()
