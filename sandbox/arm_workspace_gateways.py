"""What ARM says of workspace gateways and their hostname bindings, and refreshSecret (2025-03-01-preview).

Shapes follow the official specification: ApiManagementGatewayResource and GatewayHostnameBindingResource.
"""

import re
from collections.abc import Callable

from aiohttp import web

from sandbox.arm_bodies import ArmError
from sandbox.workspace_gateway import HostnameBinding, WorkspaceGateway
from sandbox.world import World

Route = tuple[str, str, Callable[[web.Request, re.Match[str]], web.Response]]

_SUBSCRIPTION = r"/subscriptions/(?P<subscription>[^/]+)"
_PROVIDER = r"providers/Microsoft\.ApiManagement/gateways"
_GATEWAY = rf"{_SUBSCRIPTION}/resourceGroups/[^/]+/{_PROVIDER}/(?P<gateway>[^/]+)"
_BINDING = rf"{_GATEWAY}/hostnameBindings/(?P<binding>[^/]+)"


class ArmWorkspaceGateways:
    """The answers.

    Args:
        world: where the gateways are.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.routes: list[Route] = [
            ("GET", rf"{_SUBSCRIPTION}/{_PROVIDER}", self._list),
            ("GET", _GATEWAY, self._get),
            ("GET", rf"{_GATEWAY}/hostnameBindings", self._bindings),
            ("GET", _BINDING, self._binding),
            ("POST", rf"{_BINDING}/refreshSecret", self._refresh_secret),
            ("GET", rf"{_BINDING}/operationresults/(?P<operation>\d+)", self._operation_result),
        ]

    def _list(self, _: web.Request, path: re.Match[str]) -> web.Response:
        mine = path["subscription"].casefold() == self._world.subscription_id
        gateways = self._world.workspace_gateways if mine else []
        return web.json_response({"value": [gateway.body() for gateway in gateways]})

    def _get(self, _: web.Request, path: re.Match[str]) -> web.Response:
        return web.json_response(self._gateway(path).body())

    def _bindings(self, _: web.Request, path: re.Match[str]) -> web.Response:
        now = self._world.clock.now()
        return web.json_response({"value": [each.body(now) for each in self._gateway(path).bindings]})

    def _binding(self, _: web.Request, path: re.Match[str]) -> web.Response:
        return web.json_response(self._found(path).body(self._world.clock.now()))

    def _refresh_secret(self, request: web.Request, path: re.Match[str]) -> web.Response:
        binding = self._found(path)
        if not binding.gateway.offers_refresh:
            message = f"There is nothing at {request.method} {request.path}."
            raise ArmError(404, "InvalidResourceType", message)
        location = request.url.with_path(f"{binding.id}/operationresults/{binding.refresh()}")
        location = location.with_query({"api-version": request.query["api-version"]})
        return web.Response(status=202, headers={"Location": str(location), "Retry-After": "10"})

    def _operation_result(self, request: web.Request, path: re.Match[str]) -> web.Response:
        binding, now = self._found(path), self._world.clock.now()
        ends = binding.refreshes[int(path["operation"])]
        if now < ends:
            return web.Response(status=202, headers={"Location": str(request.url), "Retry-After": "10"})
        if not binding.gateway.can_read_vault:
            message = f"Failed to access KeyVault Secret {binding.certificate.secret_id}."
            raise ArmError(400, "InvalidOperation", message)
        return web.json_response(binding.body(now))

    def _gateway(self, path: re.Match[str]) -> WorkspaceGateway:
        for gateway in self._world.workspace_gateways:
            if gateway.name.casefold() == path["gateway"].casefold():
                return gateway
        raise ArmError(404, "ResourceNotFound", f"The gateway '{path['gateway']}' was not found.")

    def _found(self, path: re.Match[str]) -> HostnameBinding:
        for binding in self._gateway(path).bindings:
            if binding.name.casefold() == path["binding"].casefold():
                return binding
        raise ArmError(404, "ResourceNotFound", f"The hostname binding '{path['binding']}' was not found.")
