"""What ARM says of certificate entities, named values and self-hosted gateways, and refreshSecret.

Shapes follow the official specification: CertificateContract, NamedValueContract, WorkspaceContract,
GatewayContract, GatewayHostnameConfigurationContract and GatewayCertificateAuthorityContract. A page has
`value` and `count`; gateways exist in two tiers, workspaces in four. An entity is refreshed when ARM answers,
a named value by an operation.
"""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from aiohttp import web

from sandbox.arm_bodies import ArmError
from sandbox.arm_named_values import body as named_value_body
from sandbox.arm_named_values import shown
from sandbox.self_hosted import TIERS, Entity, SelfHostedGateway, VaultValue
from sandbox.world import Service, World

Route = tuple[str, str, Callable[[web.Request, re.Match[str]], web.Response]]

_SERVICE = (
    r"/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)"
    r"/providers/Microsoft\.ApiManagement/service/(?P<name>[^/]+)"
)
_PARENT = rf"{_SERVICE}(?:/workspaces/(?P<workspace>[^/]+))?"
_ENTITY = rf"{_PARENT}/(?P<collection>certificates|namedValues)/(?P<entity>[^/]+)"
_GATEWAY = rf"{_SERVICE}/gateways/(?P<gateway>[^/]+)"
_TYPE = "Microsoft.ApiManagement/service"

WORKSPACE_TIERS = frozenset({"BasicV2", "StandardV2", "Premium", "PremiumV2"})

T = TypeVar("T", Entity, SelfHostedGateway)


class ArmEntities:
    """The answers.

    Args:
        world: its clock, and the size of a page.
        service: finds the service of a path, or raises as ARM does.
    """

    def __init__(self, world: World, service: Callable[[re.Match[str]], Service]) -> None:
        self._world = world
        self._service = service
        self.routes: list[Route] = [
            ("GET", rf"{_SERVICE}/workspaces", self._workspaces),
            ("GET", rf"{_PARENT}/(?P<collection>certificates|namedValues)", self._entities),
            ("GET", _ENTITY, self._get),
            ("POST", rf"{_ENTITY}/refreshSecret", self._refresh_secret),
            ("GET", rf"{_ENTITY}/operationresults/(?P<operation>[^/]+)", self._operation_result),
            ("GET", rf"{_SERVICE}/gateways", self._gateways),
            ("GET", rf"{_GATEWAY}/hostnameConfigurations", self._hostnames),
            ("GET", rf"{_GATEWAY}/certificateAuthorities", self._authorities),
        ]

    def _workspaces(self, request: web.Request, path: re.Match[str]) -> web.Response:
        service = self._service(path)
        if service.sku not in WORKSPACE_TIERS:
            message = f"Method not allowed in {service.sku} pricing tier."
            raise ArmError(400, "MethodNotAllowedInPricingTier", message)
        bodies = [
            {
                "id": f"{service.id}/workspaces/{name}",
                "type": f"{_TYPE}/workspaces",
                "name": name,
                "properties": {"displayName": name},
            }
            for name in service.workspaces
        ]
        return self._page(request, bodies)

    def _entities(self, request: web.Request, path: re.Match[str]) -> web.Response:
        now, service = self._world.clock.now(), self._service(path)
        entities = self._in(path)
        if failed := request.query.get("isKeyVaultRefreshFailed", "").casefold() == "true":
            entities = [each for each in entities if (read := each.last_read(now)) and read.error]
        plain = []
        if path["collection"].casefold() == "namedvalues" and not path["workspace"] and not failed:
            plain = [named_value_body(service, name, each) for name, each in service.named_values.items()]
        return self._page(request, [*plain, *(entity_body(entity, now) for entity in entities)])

    def _get(self, _: web.Request, path: re.Match[str]) -> web.Response:
        plain = self._service(path).named_values.get(path["entity"])
        if path["collection"].casefold() == "namedvalues" and not path["workspace"] and plain:
            return shown(self._service(path), path["entity"], plain)
        return web.json_response(entity_body(self._entity(path), self._world.clock.now()))

    def _refresh_secret(self, request: web.Request, path: re.Match[str]) -> web.Response:
        entity = self._entity(path)
        if entity.secret_identifier is None:
            raise ArmError(400, "ValidationError", "The certificate is not stored in a key vault.")
        entity.refresh()
        if entity.takes:
            number = len(entity.refreshes) - 1
            location = request.url.with_path(f"{entity.id}/operationresults/{number}")
            location = location.with_query({"api-version": request.query["api-version"]})
            return web.Response(status=202, headers={"Location": str(location)})
        return web.json_response(
            entity_body(entity, self._world.clock.now()), headers={"ETag": '"AAAAAAAAB9E="'}
        )

    def _operation_result(self, request: web.Request, path: re.Match[str]) -> web.Response:
        entity, now = self._entity(path), self._world.clock.now()
        if now < entity.refreshes[int(path["operation"])]:
            return web.Response(status=202, headers={"Location": str(request.url)})
        if (read := entity.last_read(now)) and read.error:
            raise ArmError(400, "ValidationError", read.error)
        return web.json_response(entity_body(entity, now))

    def _gateways(self, request: web.Request, path: re.Match[str]) -> web.Response:
        service = self._service(path)
        if service.sku not in TIERS:
            message = f"Method not allowed in {service.sku} pricing tier."
            raise ArmError(400, "MethodNotAllowedInPricingTier", message)
        return self._page(request, [_gateway_body(gateway) for gateway in service.self_hosted])

    def _hostnames(self, request: web.Request, path: re.Match[str]) -> web.Response:
        gateway = self._gateway(path)
        bodies = [
            {
                "id": f"{gateway.id}/hostnameConfigurations/hc{position}",
                "type": f"{_TYPE}/gateways/hostnameConfigurations",
                "name": f"hc{position}",
                "properties": {
                    "hostname": hostname.host_name,
                    "certificateId": hostname.entity.id,
                    "negotiateClientCertificate": False,
                    "tls10Enabled": False,
                    "tls11Enabled": False,
                    "http2Enabled": True,
                },
            }
            for position, hostname in enumerate(gateway.hostnames)
        ]
        return self._page(request, bodies)

    def _authorities(self, request: web.Request, path: re.Match[str]) -> web.Response:
        gateway = self._gateway(path)
        bodies = [
            {
                "id": f"{gateway.id}/certificateAuthorities/{entity.name}",
                "type": f"{_TYPE}/gateways/certificateAuthorities",
                "name": entity.name,
                "properties": {"isTrusted": True},
            }
            for entity in gateway.authorities
        ]
        return self._page(request, bodies)

    def _page(self, request: web.Request, bodies: list[dict[str, Any]]) -> web.Response:
        start = int(request.query.get("$skip", "0"))
        after = start + self._world.page_size
        page: dict[str, Any] = {"value": bodies[start:after], "count": len(bodies)}
        if after < len(bodies):
            page["nextLink"] = str(request.url.update_query({"$skip": str(after)}))
        return web.json_response(page)

    def _entity(self, path: re.Match[str]) -> Entity:
        what = "Certificate" if path["collection"].casefold() == "certificates" else "NamedValue"
        return _named(self._in(path), path["entity"], what)

    def _in(self, path: re.Match[str]) -> list[Entity]:
        """The entities of a service itself, or of a workspace."""
        service, workspace = self._service(path), (path["workspace"] or "").casefold()
        if workspace and workspace not in map(str.casefold, service.workspaces):
            raise ArmError(404, "ResourceNotFound", "Workspace not found.")
        certificates = path["collection"].casefold() == "certificates"
        entities: list[Entity] = service.entities if certificates else [*service.vault_values]
        return [each for each in entities if (each.workspace or "").casefold() == workspace]

    def _gateway(self, path: re.Match[str]) -> SelfHostedGateway:
        return _named(self._service(path).self_hosted, path["gateway"], "Gateway")


def _named(among: list[T], name: str, what: str) -> T:
    found = next((each for each in among if each.name.casefold() == name.casefold()), None)
    if found is None:
        raise ArmError(404, "ResourceNotFound", f"{what} not found.")
    return found


def entity_body(entity: Entity, now: datetime) -> dict[str, Any]:
    """A certificate entity as ARM shows it, or a named value without its value."""
    properties: dict[str, Any]
    if isinstance(entity, VaultValue):
        properties = {"displayName": entity.name, "secret": True}
    else:
        held = entity.held_at(now)
        properties = {
            "subject": held.subject,
            "thumbprint": held.thumbprint,
            "expirationDate": f"{held.not_after:%Y-%m-%dT%H:%M:%SZ}",
        }
    if read := entity.last_read(now):
        status = {"code": "Failed" if read.error else "Success", "timeStampUtc": _stamp(read.at)}
        properties["keyVault"] = {
            "secretIdentifier": entity.secret_identifier,
            "lastStatus": status | ({"message": read.error} if read.error else {}),
        }
    kind = f"{_TYPE}{'/workspaces' if entity.workspace else ''}/{entity.collection}"
    return {"id": entity.id, "type": kind, "name": entity.name, "properties": properties}


def _gateway_body(gateway: SelfHostedGateway) -> dict[str, Any]:
    return {
        "id": gateway.id,
        "type": f"{_TYPE}/gateways",
        "name": gateway.name,
        "properties": {"description": "in a cluster", "locationData": {"name": gateway.name}},
    }


def _stamp(moment: datetime) -> str:
    """Seven digits of a second, as in the official example."""
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}0Z"
