"""Azure Resource Manager for API Management services: list, get, refreshHostnames and its operation.

Resource Graph answers at the same address: see `sandbox.resource_graph`.

Shapes and texts follow the official specification and recorded answers: 202 with Location and Retry-After,
polls that end in 200, 204 or 400, and 409 ServiceLocked while a service is changing.
"""

import base64
import re
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime
from math import ceil
from typing import Any

from aiohttp import web

from sandbox.arm_bodies import ArmError, service_body, slug
from sandbox.arm_entities import ArmEntities
from sandbox.arm_named_values import answer as named_value
from sandbox.arm_network import ArmNetwork
from sandbox.arm_rights import ArmRights, network_status
from sandbox.arm_workspace_gateways import ArmWorkspaceGateways
from sandbox.identity import Refusal, application, refusal
from sandbox.resource_graph import ResourceGraph
from sandbox.world import Server, Service, ServiceLockedError, Update, World

AUDIENCES = ("https://management.azure.com", "https://management.core.windows.net")

_PROVIDER = r"providers/Microsoft\.ApiManagement/service"
_SUBSCRIPTION = r"/subscriptions/(?P<subscription>[^/]+)"
_GROUP = r"/resourceGroups/(?P<group>[^/]+)"
_SERVICE = rf"{_SUBSCRIPTION}{_GROUP}/{_PROVIDER}/(?P<name>[^/]+)"
_NAMED_VALUE = re.compile(rf"{_SERVICE}/namedValues/(?P<named_value>[^/]+)", re.IGNORECASE)
_LEFT: web.RequestKey[tuple[str, int]] = web.RequestKey("left", tuple)
_API_VERSION = re.compile(r"\d{4}-\d\d-\d\d(-preview)?")
_REFRESH_SINCE = "2025-03-01-preview"
_UNAUTHORIZED = {
    Refusal.MISSING: (
        "AuthenticationFailed",
        "Authentication failed. The 'Authorization' header is missing.",
    ),
    Refusal.UNKNOWN: ("InvalidAuthenticationToken", "The access token is invalid."),
    Refusal.EXPIRED: ("ExpiredAuthenticationToken", "The access token expiry UTC time is in the past."),
    Refusal.WRONG_AUDIENCE: (
        "InvalidAuthenticationTokenAudience",
        f"The access token is for another audience than '{AUDIENCES[0]}/' or '{AUDIENCES[1]}/'.",
    ),
}


class Arm:
    """The management endpoint.

    Args:
        world: where the services are.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._graph = ResourceGraph(world)
        self._buckets: dict[tuple[str, str], tuple[float, datetime]] = {}
        rights = ArmRights(world)
        self._routes: list[
            tuple[
                str,
                re.Pattern[str],
                Callable[[web.Request, re.Match[str]], web.Response]
                | Callable[[web.Request, re.Match[str]], Awaitable[web.Response]],
            ]
        ] = [
            (method, re.compile(path, re.IGNORECASE), answer)
            for method, path, answer in (
                ("GET", rf"{_SUBSCRIPTION}(?:{_GROUP})?/{_PROVIDER}", self._list),
                ("GET", _SERVICE, self._get),
                ("POST", rf"{_SERVICE}/refreshHostnames", self._refresh_hostnames),
                ("GET", rf"{_SERVICE}/operationresults/(?P<operation>[^/]+)", self._operation_result),
                ("GET", rf"{_SERVICE}/networkstatus", self._network_status),
                *rights.routes,
                *ArmEntities(world, self._service).routes,
                *ArmNetwork(world).routes,
                *ArmWorkspaceGateways(world).routes,
            )
        ]

    def app(self) -> web.Application:
        """The server."""
        return application(self._world, Server.ARM, self._answer)

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            response = await self._dispatch(request)
        except ArmError as error:
            response = web.json_response(error.body, status=error.status, headers=error.headers)
            if error.status == 401:
                response.headers["WWW-Authenticate"] = (
                    f'Bearer authorization_uri="https://login.microsoftonline.com/{self._world.tenant_id}", '
                    'error="invalid_token", error_description="The access token is missing or invalid."'
                )
        if left := request.get(_LEFT):
            kind, turns = left
            response.headers[f"x-ms-ratelimit-remaining-subscription-{kind}"] = str(turns)
        response.headers["x-ms-request-id"] = str(uuid.uuid4())
        response.headers["x-ms-correlation-request-id"] = str(uuid.uuid4())
        response.headers["Cache-Control"] = "no-cache"
        return response

    async def _dispatch(self, request: web.Request) -> web.Response:
        own = f"https://{request.host}"  # each cloud's ARM also takes tokens for its own address
        if why := refusal(self._world, request, (*AUDIENCES, own)):
            raise ArmError(401, *_UNAUTHORIZED[why])
        version = request.query.get("api-version", "")
        if not version:
            message = "The api-version query parameter (?api-version=) is required for all requests."
            raise ArmError(400, "MissingApiVersionParameter", message)
        if not _API_VERSION.fullmatch(version):
            raise ArmError(400, "InvalidApiVersionParameter", f"The api-version '{version}' is invalid.")
        if self._graph.is_asked(request):
            return await self._graph.answer(request)
        for method, path, answer in self._routes:
            if method == request.method and (found := path.fullmatch(request.path)):
                if "subscription" in found.groupdict():
                    self._charge(found["subscription"].casefold(), request)
                    self._let_in(found["subscription"], request)
                answered = answer(request, found)
                return answered if isinstance(answered, web.Response) else await answered
        if request.method in {"GET", "PATCH"} and (found := _NAMED_VALUE.fullmatch(request.path)):
            self._charge(found["subscription"].casefold(), request)
            self._let_in(found["subscription"], request)
            return await named_value(request, found, self._service(found))
        raise ArmError(404, "InvalidResourceType", f"There is nothing at {request.method} {request.path}.")

    def _charge(self, subscription: str, request: web.Request) -> None:
        """Take from the bucket of this kind of request; there is one identity in the sandbox."""
        kind, burst, a_second = ("reads", 250, 25) if request.method == "GET" else ("writes", 200, 10)
        now = self._world.clock.now()
        left, at = self._buckets.get((subscription, kind), (float(burst), now))
        left = min(burst, left + (now - at).total_seconds() * a_second)
        if left < 1:
            wait = ceil((1 - left) / a_second)
            message = (
                f"Number of '{kind}' for subscription '{subscription}' exceeded. Please try again after "
                f"'{wait}' seconds after additional tokens are available. Refer to "
                "https://aka.ms/arm-throttling for additional information."
            )
            throttled = ArmError(429, "SubscriptionRequestsThrottled", message)
            throttled.headers["Retry-After"] = str(wait)
            raise throttled
        self._buckets[subscription, kind] = (left - 1, now)
        request[_LEFT] = (kind, int(left - 1))

    def _let_in(self, subscription: str, request: web.Request) -> None:
        if subscription.casefold() not in map(str.casefold, self._world.subscriptions):
            message = f"The subscription '{subscription}' could not be found."
            raise ArmError(404, "SubscriptionNotFound", message)
        if subscription.casefold() in map(str.casefold, self._world.denied_subscriptions):
            action = "refreshHostnames/action" if request.method == "POST" else "read"
            message = (
                "The client does not have authorization to perform action "
                f"'Microsoft.ApiManagement/service/{action}' over scope '{request.path}' or the scope "
                "is invalid. If access was recently granted, please refresh your credentials."
            )
            raise ArmError(403, "AuthorizationFailed", message)

    def _list(self, request: web.Request, path: re.Match[str]) -> web.Response:
        services = [
            service
            for service in self._world.services
            if _same(service.subscription_id, path, "subscription")
        ]
        if path["group"] is not None:
            services = [service for service in services if _same(service.resource_group, path, "group")]
            if not services:
                message = f"Resource group '{path['group']}' could not be found."
                raise ArmError(404, "ResourceGroupNotFound", message)
        services.sort(key=lambda service: service.id.casefold())
        start = int(request.query.get("$skipToken", "0"))
        after = start + self._world.page_size
        now = self._world.clock.now()
        page: dict[str, Any] = {"value": [service_body(service, now) for service in services[start:after]]}
        if after < len(services):
            page["nextLink"] = str(request.url.update_query({"$skipToken": str(after)}))
        return web.json_response(page)

    def _get(self, _: web.Request, path: re.Match[str]) -> web.Response:
        return web.json_response(service_body(self._service(path), self._world.clock.now()))

    def _refresh_hostnames(self, request: web.Request, path: re.Match[str]) -> web.Response:
        service = self._service(path)
        version = request.query["api-version"]
        if version[:10] < _REFRESH_SINCE[:10]:
            message = (
                f"No registered resource provider found for location '{service.location}' and API version "
                f"'{version}' for type 'service/refreshHostnames'. Use '{_REFRESH_SINCE}' or later."
            )
            raise ArmError(400, "NoRegisteredProviderFound", message)
        try:
            update = service.begin_sync()
        except ServiceLockedError:
            message = (
                f"The API Service {service.name} is transitioning at this time. "
                "Please try the request again later."
            )
            raise ArmError(409, "ServiceLocked", message, details=None, innerError=None) from None
        if service.accepts_with == 200:
            return self._get(request, path)
        operation = base64.urlsafe_b64encode(
            f"{slug(service.location)}:{service.name}_Act_{update.id}".encode()
        )
        location = request.url.with_path(f"{service.id}/operationresults/{operation.decode()}")
        return self._running(str(location.with_query({"api-version": version})))

    def _running(self, location: str) -> web.Response:
        headers = {"Location": location, "Retry-After": str(self._world.retry_after)}
        return web.Response(status=202, headers=headers)

    def _operation_result(self, request: web.Request, path: re.Match[str]) -> web.Response:
        service = self._service(path)
        update = _operation(service, path["operation"])
        now = self._world.clock.now()
        if update is None:
            raise ArmError(404, "OperationNotFound", "The operation could not be found.")
        if now < update.ends:
            return self._running(str(request.url))
        if failure := service.failure(update.ends):
            raise ArmError(400, "InvalidOperation", failure, details=None, innerError=None)
        if self._world.operation_ends_with == 204:
            return web.Response(status=204)
        return web.json_response(service_body(service, now))

    def _network_status(self, _: web.Request, path: re.Match[str]) -> web.Response:
        service = self._service(path)
        return web.json_response(network_status(service, self._world.clock.now()))

    def _service(self, path: re.Match[str]) -> Service:
        for service in self._world.services:
            mine = _same(service.subscription_id, path, "subscription") and _same(service.name, path, "name")
            if mine and _same(service.resource_group, path, "group"):
                return service
        message = (
            f"The Resource 'Microsoft.ApiManagement/service/{path['name']}' under resource group "
            f"'{path['group']}' was not found. For more details please go to "
            "https://aka.ms/ARMResourceNotFoundFix"
        )
        raise ArmError(404, "ResourceNotFound", message)


def _same(own: str, path: re.Match[str], part: str) -> bool:
    """ARM compares names without regard to case."""
    return own.casefold() == path[part].casefold()


def _operation(service: Service, token: str) -> Update | None:
    for update in service.updates:
        name = f"{slug(service.location)}:{service.name}_Act_{update.id}"
        if base64.urlsafe_b64encode(name.encode()).decode() == token:
            return update
    return None
