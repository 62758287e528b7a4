"""A pretend Azure of thousands of services, all in sync: real HTTPS and real TLS, with cheap data behind.

The listeners are shared, because a socket for each service is not what is measured here; which leaf a
connection gets is looked up by the name that it asks for.
"""

import asyncio
import itertools
import ssl
from functools import partial
from socket import socket

from sandbox.azure import Azure
from sandbox.resource_graph import service_row
from sandbox.tls_gateway import Contexts
from sandbox.world import Certificate, Hostname, Service, World

LISTENERS = 64
BINDINGS_A_CERTIFICATE = 4


def world_of(services: int) -> World:
    """1.2 custom hostnames a service, and a certificate for every four of them, all in one vault."""
    world = World()
    world.graph.quota = 1_000_000
    vault = world.add_vault("kv-fleet")
    certificates: list[Certificate] = []
    bindings = itertools.count()

    def hostname() -> Hostname:
        number = next(bindings)
        group = number // BINDINGS_A_CERTIFICATE
        if group == len(certificates):
            certificates.append(vault.add_certificate(f"c{group}", [f"*.c{group}.contoso.com"]))
        return Hostname(f"api{number}.c{group}.contoso.com", certificate=certificates[group])

    for number in range(services):
        hostnames = tuple(hostname() for _ in range(2 if number % 5 == 0 else 1))
        service = world.add_service(f"apim-{number}", regions={"West Europe": 1}, hostnames=hostnames)
        world.graph.kept[service.id] = service_row(service, world.clock.now())
    return world


class Fleet(Azure):
    """As its parent, with few listeners."""

    async def _listen(self, service: Service) -> None:
        if not hasattr(self, "_shared"):
            self._by_name: dict[str, Service] = {}
            self._made = Contexts()
            front = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            front.sni_callback = self._choose
            self._shared = itertools.cycle(
                [self._listen_with(partial(self._answer, front)) for _ in range(LISTENERS)]
            )
        port = next(self._shared)
        self._by_name |= {hostname.host_name: service for hostname in service.hostnames}
        self._connect_to |= {service.regional_host(service.location): port, service.builtin_host: port}

    async def _answer(self, front: ssl.SSLContext, connection: socket) -> asyncio.Transport:
        transport, _ = await self._loop.connect_accepted_socket(
            asyncio.Protocol, connection, ssl=front, ssl_shutdown_timeout=1
        )
        return transport

    def _choose(self, handshake: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        service = self._by_name.get(name or "")
        if service is None or name is None:
            handshake.context = self._made.of(self.world.builtin)
        else:
            served = service.served(name, service.location, 0, self.world.clock.now())
            handshake.context = self._made.of(served)
