"""The product's Azure clients, put together as `rotation.app` does, against the sandbox."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from typing import TypeVar

from azure.core.credentials_async import AsyncTokenCredential
from azure.identity.aio import ManagedIdentityCredential

from rotation.clients.arm import Arm
from rotation.clients.http import open_session, tls_context, transport
from rotation.clients.key_vault import KeyVault
from rotation.clients.resource_graph import ResourceGraph
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
    sockets = asyncio.get_running_loop()._selector.get_map()  # type: ignore[attr-defined]
    async with asyncio.timeout(10):
        while len(sockets) > 1:  # noqa: ASYNC110 - the loop has no event for it
            await asyncio.sleep(0.001)


def routes(azure: Azure) -> dict[tuple[str, int], tuple[str, int]]:
    """Where the sandbox answers for the hosts of Azure."""
    return {(host, 443): ("127.0.0.1", port) for host, port in azure.connect_to.items()}


def with_arm(
    azure: Azure,
    work: Callable[[ApiManagement], Awaitable[T]],
    *,
    subscriptions: Iterable[str] | None = None,
    vaults: Iterable[str] = (),
    api_version: str = API_VERSION,
    credential: Callable[[], AsyncTokenCredential] = ManagedIdentityCredential,
) -> T:
    """Do some work with API Management, through real clients on a loop of their own."""

    async def main() -> T:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(all_closed)
            context = tls_context(str(azure.ca_file))
            session = await stack.enter_async_context(open_session(context, routes(azure)))
            own = await stack.enter_async_context(credential())
            shared = transport(session)
            in_scope = tuple(azure.world.subscriptions if subscriptions is None else subscriptions)
            arm = Arm(
                own,
                shared,
                url=azure.arm_url,
                scope=SCOPE,
                api_version=api_version,
                subscriptions=in_scope,
            )
            stack.push_async_callback(arm.close)
            graph = ResourceGraph(own, shared, url=azure.arm_url, scope=SCOPE, subscriptions=in_scope)
            stack.push_async_callback(graph.close)
            return await work(ApiManagement(arm, graph, SUFFIX, frozenset(vaults)))

    return asyncio.run(main())


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
    """Do some work with Key Vault, through real clients on a loop of their own."""

    async def main() -> T:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(all_closed)
            context = tls_context(str(azure.ca_file))
            session = await stack.enter_async_context(open_session(context, routes(azure)))
            key_vault = KeyVault(
                await stack.enter_async_context(ManagedIdentityCredential()), transport(session)
            )
            stack.push_async_callback(key_vault.close)
            return await work(key_vault)

    return asyncio.run(main())


def requests(azure: Azure, server: Server) -> list[Request]:
    """What one server received."""
    return [request for request in azure.world.requests if request.server is server]
