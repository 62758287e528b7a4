"""Who is calling: the managed identity endpoint, and the door in front of every HTTP server of the sandbox.

The endpoint has the shape App Service and Functions give it (api-version 2019-08-01). The door notes each
request, lets faults happen, stamps answers with the sandbox's time and knows what a bearer token is good for.
"""

import asyncio
import hmac
import socket
import struct
from collections.abc import Collection
from email.utils import format_datetime
from enum import StrEnum

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sandbox.witness import canary
from sandbox.world import Fault, Request, Server, Token, World

MAX_BODY = 64 * 1024 * 1024  # a batch of telemetry is larger than aiohttp's 1 MiB

_SECRET_HEADERS = ("authorization", "x-identity-header")


class Refusal(StrEnum):
    """Why a bearer token does not open a door."""

    MISSING = "missing"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    WRONG_AUDIENCE = "wrong audience"


def refusal(world: World, request: web.Request, audiences: Collection[str]) -> Refusal | None:
    """Judge the request's token for a server that goes by the given audiences; None lets it in."""
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme.casefold() != "bearer" or not credentials:
        return Refusal.MISSING
    token = world.tokens.get(credentials)
    if token is None:
        return Refusal.UNKNOWN
    if token.expires <= world.clock.now():
        return Refusal.EXPIRED
    known = {audience.rstrip("/") for audience in audiences}
    return None if token.resource.rstrip("/") in known else Refusal.WRONG_AUDIENCE


def application(world: World, server: Server, handler: Handler) -> web.Application:
    """One server's application: the door, and behind it one handler for every path."""
    app = web.Application(middlewares=[_door(world, server)], client_max_size=MAX_BODY)
    app.router.add_route("*", "/{path:.*}", handler)
    return app


def _door(world: World, server: Server) -> Middleware:
    @web.middleware
    async def pass_through(request: web.Request, handler: Handler) -> web.StreamResponse:
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _SECRET_HEADERS}
        query = dict(request.query)
        record = Request(world.clock.now(), server, request.method, request.path, query, headers)
        world.requests.append(record)
        fault = world.take_fault(server, request.method, request.path)
        response = await _happen(fault, request) if fault else None
        if response is None:
            response = await handler(request)
        record.status = response.status
        response.headers["Date"] = format_datetime(world.clock.now(), usegmt=True)
        return response

    return pass_through


async def _happen(fault: Fault, request: web.Request) -> web.StreamResponse | None:
    await asyncio.sleep(fault.delay_seconds)
    if fault.hang:
        await asyncio.Event().wait()  # until the client or the server goes away
    if fault.reset:
        _reset(request)
    if fault.status is None:
        return None
    if isinstance(fault.body, bytes):
        return web.Response(status=fault.status, body=fault.body, headers=fault.headers)
    if fault.body is None:
        return web.Response(status=fault.status, headers=fault.headers)
    return web.json_response(fault.body, status=fault.status, headers=fault.headers)


def _reset(request: web.Request) -> None:
    transport = request.transport
    assert transport is not None
    no_linger = struct.pack("ii", 1, 0)  # makes close() send RST in place of FIN
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
    transport.abort()
    raise asyncio.CancelledError


class ManagedIdentity:
    """The endpoint that IDENTITY_ENDPOINT points to, over plain http as on the platform.

    Args:
        world: where tokens are kept.
        header: the secret that IDENTITY_HEADER gives to the app, and to nobody else.
    """

    def __init__(self, world: World, header: str) -> None:
        self._world = world
        self._header = header

    def app(self) -> web.Application:
        """The server."""
        return application(self._world, Server.IDENTITY, self._answer)

    async def _answer(self, request: web.Request) -> web.Response:
        if not hmac.compare_digest(
            request.headers.get("X-IDENTITY-HEADER", "").encode(), self._header.encode()
        ):
            return _error(401, "X-IDENTITY-HEADER is missing or wrong")
        resource = request.query.get("resource")
        if request.path != "/msi/token" or request.method != "GET":
            return _error(404, f"nothing at {request.method} {request.path}")
        if request.query.get("api-version") != "2019-08-01" or not resource:
            return _error(400, "api-version=2019-08-01 and a resource are needed")
        credentials = canary()
        token = Token(resource, self._world.clock.now() + self._world.token_lifetime)
        self._world.tokens[credentials] = token
        return web.json_response(
            {
                "access_token": credentials,
                "expires_on": str(int(token.expires.timestamp())),
                "resource": resource,
                "token_type": "Bearer",
            }
        )


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"statusCode": status, "message": message}, status=status)
