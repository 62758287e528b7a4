"""The product's Azure clients, put together as `rotation.app` does, against the sandbox."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TypeVar

from azure.core.credentials_async import AsyncTokenCredential
from azure.identity.aio import ManagedIdentityCredential

from rotation.clients.arm import Arm
from rotation.clients.http import open_session, tls_context, transport
from rotation.clients.key_vault import KeyVault
from rotation.clients.network import Network
from rotation.clients.resource_graph import ResourceGraph
from rotation.gateways import application_gateway
from rotation.gateways.api_management import KIND, ApiManagement
from rotation.model import Gateway, Inventory, SyncAnswer
from sandbox.azure import Azure
from sandbox.world import Request, Server, Service

T = TypeVar("T")

API_VERSION = "2025-09-01-preview"
SCOPE = "https://management.azure.com/.default"
SUFFIX = "vault.azure.net"


async def all_closed() -> None:
    """Wait until the loop holds no connection but its own: TLS says goodbye in a dialogue.

    A loop that ends in the middle of it leaves sockets behind, which is an error in a test of something else.
    """
    sockets = asyncio.get_running_loop()._selector.get_map()  # type: ignore[attr-defined] # asyncio does not tell
    async with asyncio.timeout(10):
        while len(sockets) > 1:  # noqa: ASYNC110 - the loop has no event for it
            await asyncio.sleep(0.001)


def routes(azure: Azure) -> dict[tuple[str, int], tuple[str, int]]:
    """Where the sandbox answers for the hosts of Azure."""
    return {(host, 443): ("127.0.0.1", port) for host, port in azure.connect_to.items()}


@dataclass(frozen=True, slots=True)
class Clients:
    """Those of one session, as `rotation.app` puts them together."""

    arm: Arm
    graph: ResourceGraph
    network: Network
    vault: KeyVault


def with_clients(
    azure: Azure,
    work: Callable[[Clients], Awaitable[T]],
    *,
    subscriptions: Iterable[str] | None = None,
    api_version: str = API_VERSION,
    credential: Callable[[], AsyncTokenCredential] = ManagedIdentityCredential,
) -> T:
    """Do some work with real clients, on a loop of their own."""
    in_scope = tuple(azure.world.subscriptions if subscriptions is None else subscriptions)
    at: Mapping[str, str] = {"url": azure.arm_url, "scope": SCOPE}

    async def main() -> T:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(all_closed)
            context = tls_context(str(azure.ca_file))
            session = await stack.enter_async_context(open_session(context, routes(azure)))
            own = await stack.enter_async_context(credential())
            shared = transport(session)
            clients = Clients(
                Arm(own, shared, **at, api_version=api_version, subscriptions=in_scope),
                ResourceGraph(own, shared, **at, subscriptions=in_scope),
                Network(own, shared, **at, api_version=application_gateway.KIND.api_version),
                KeyVault(own, shared),
            )
            for client in (clients.arm, clients.graph, clients.network, clients.vault):
                stack.push_async_callback(client.close)
            return await work(clients)

    return asyncio.run(main())


def with_arm(
    azure: Azure,
    work: Callable[[ApiManagement], Awaitable[T]],
    *,
    vaults: Iterable[str] = (),
    subscriptions: Iterable[str] | None = None,
    api_version: str = API_VERSION,
    credential: Callable[[], AsyncTokenCredential] = ManagedIdentityCredential,
) -> T:
    """Do some work with API Management."""

    async def main(clients: Clients) -> T:
        return await work(ApiManagement(clients.arm, clients.graph, SUFFIX, frozenset(vaults)))

    return with_clients(
        azure, main, subscriptions=subscriptions, api_version=api_version, credential=credential
    )


def discover(azure: Azure, *, subscriptions: Iterable[str] | None = None) -> Inventory:
    """One discovery."""
    return with_arm(azure, lambda kind: kind.discover(), subscriptions=subscriptions)


def sync(azure: Azure, service: Service, *, api_version: str = API_VERSION) -> SyncAnswer:
    """One request for a sync."""
    return with_arm(azure, lambda kind: kind.sync(gateway_of(service)), api_version=api_version)


def gateway_of(service: Service) -> Gateway:
    """What is needed of a gateway to ask it for a sync."""
    return Gateway(service.id, service.name, KIND, service.location, "Succeeded", ())


def with_key_vault(azure: Azure, work: Callable[[KeyVault], Awaitable[T]]) -> T:
    """Do some work with Key Vault."""
    return with_clients(azure, lambda clients: work(clients.vault))


def requests(azure: Azure, server: Server) -> list[Request]:
    """What one server received."""
    return [request for request in azure.world.requests if request.server is server]
