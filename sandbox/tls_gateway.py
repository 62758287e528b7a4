"""The gateways' TLS: one listener for each region's load balancer, scale units behind it taking turns.

Every new connection goes to the next unit, which presents what it serves for the server name at that moment.
That is why one handshake proves little about a gateway, here as in Azure.
"""

import asyncio
import itertools
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from weakref import WeakSet

from sandbox.application_gateway import ApplicationGateway
from sandbox.certificates import Leaf
from sandbox.self_hosted import SelfHostedGateway
from sandbox.workspace_gateway import WorkspaceGateway
from sandbox.world import Service, TlsFault, Version

_PATIENCE = 30.0  # seconds a handshake may take
_NO_LINGER = struct.pack("ii", 1, 0)  # makes close() send RST in place of FIN
_NOT_FOUND = (
    b"HTTP/1.1 404 Resource Not Found\r\nContent-Type: application/json\r\nContent-Length: 54\r\n"
    b'Connection: close\r\n\r\n{ "statusCode": 404, "message": "Resource not found" }'
)
_ALERT = bytes.fromhex("15 0303 0002 02 28")  # fatal handshake_failure, as a TLS record
_PLAIN = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Contexts:
    """One TLS context for each certificate, because making one costs more than a handshake."""

    def __init__(self) -> None:
        self._made: dict[str, ssl.SSLContext] = {}

    def of(self, served: Version | Leaf) -> ssl.SSLContext:
        """The context that presents a certificate."""
        leaf = served.leaf if isinstance(served, Version) else served
        if leaf.sha256 not in self._made:
            self._made[leaf.sha256] = leaf.server_context()
        return self._made[leaf.sha256]


class Port:
    """A listening socket that knows its connections, so that all of them end when it does.

    asyncio's own server leaves those behind that are in the middle of a handshake.

    Args:
        answer: what to do with a connection; returns the transport that took it over, or None when done.
    """

    def __init__(self, answer: Callable[[socket.socket], Awaitable[asyncio.Transport | None]]) -> None:
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._socket.settimeout(0)
        self._tasks: set[asyncio.Task[None]] = set()
        self._transports: WeakSet[asyncio.Transport] = WeakSet()
        self.number: int = self._socket.getsockname()[1]
        self._keep(asyncio.create_task(self._accept()))

    async def close(self) -> None:
        """Close the port and every connection."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for transport in list(self._transports):
            transport.abort()
        self._socket.close()

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._socket)
            except OSError:  # no file descriptor left: visitors wait in the backlog until there is one
                await asyncio.sleep(0.05)
                continue
            self._keep(asyncio.create_task(self._visit(connection)))

    async def _visit(self, connection: socket.socket) -> None:
        transport = None
        try:
            async with asyncio.timeout(_PATIENCE):
                transport = await self._answer(connection)
        except (OSError, TimeoutError):
            pass  # a handshake that fails, a peer that goes away: the visitor's business
        finally:
            if transport:
                self._transports.add(transport)
            else:
                connection.close()


class Listener:
    """A load balancer in one region, either of the gateway or of the service's other endpoints (portal, ...).

    Args:
        service: whose units answer; the regions of a self-hosted gateway are its replicas.
        region: where; the other endpoints live in the main location, on one unit.
        contexts: shared by all listeners.
        gateway: whether this is the gateway.
    """

    def __init__(
        self,
        service: Service | SelfHostedGateway | ApplicationGateway | WorkspaceGateway,
        region: str,
        contexts: Contexts,
        *,
        gateway: bool = True,
    ) -> None:
        self._service = service
        self._region = region
        self._contexts = contexts
        self._gateway = gateway
        self._units = itertools.cycle(range(max(1, service.regions[region]) if gateway else 1))
        self._fronts: dict[tuple[int, bool], ssl.SSLContext] = {}

    async def answer(self, connection: socket.socket) -> asyncio.Transport | None:
        """Send a connection to the next unit, unless something is wrong."""
        loop = asyncio.get_running_loop()
        unit = next(self._units)
        fault = self._service.tls_faults.get(self._region)
        if self._region in self._service.down | self._service.gateway_disabled:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            return None
        if fault == TlsFault.SILENT:
            while await loop.sock_recv(connection, 4096):
                pass
            return None
        if fault in (TlsFault.NOT_TLS, TlsFault.ALERT):
            await loop.sock_recv(connection, 4096)
            await loop.sock_sendall(connection, _PLAIN if fault == TlsFault.NOT_TLS else _ALERT)
            return None
        front = self._front(unit, client_certificate=fault == TlsFault.CLIENT_CERTIFICATE)
        transport, _ = await loop.connect_accepted_socket(
            _Visitor, connection, ssl=front, ssl_shutdown_timeout=1
        )
        return transport

    def _front(self, unit: int, *, client_certificate: bool) -> ssl.SSLContext:
        """The context a handshake begins with; the server name then chooses the one that ends it."""
        key = (unit, client_certificate)
        if key not in self._fronts:
            front = self._fronts[key] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            front.minimum_version = ssl.TLSVersion.TLSv1_2
            front.sni_callback = partial(self._choose, unit)
            if client_certificate:
                front.verify_mode = ssl.CERT_REQUIRED
                front.load_verify_locations(cadata=self._service.world.ca.pem)
        return self._fronts[key]

    def _choose(self, unit: int, handshake: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        served = self._served(name, unit)
        if served is None:
            return ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        handshake.context = self._contexts.of(served)
        return None

    def _served(self, name: str | None, unit: int) -> Version | Leaf | None:
        service = self._service
        if isinstance(service, ApplicationGateway):
            return service.served(name, unit, service.world.clock.now())
        hostname = service.hostname(name) if name else service.default_hostname
        known = hostname is not None and (hostname.type == "Proxy") == self._gateway
        shown = hostname.host_name if hostname and known else service.builtin_host
        return service.served(shown, self._region, unit, service.world.clock.now())


class _Visitor(asyncio.Protocol):
    """One connection, answered as a gateway without APIs answers."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, _: bytes) -> None:
        self._transport.write(_NOT_FOUND)
        self._transport.close()
