"""The doors at which Azure answers: the product's clients before a server that says what it is told."""

import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from azure.identity.aio import ManagedIdentityCredential

from rotation.clients.app_insights import AppInsights
from rotation.clients.arm import Arm
from rotation.clients.arm_entities import ArmEntities
from rotation.clients.arm_workspace_gateways import ArmWorkspaceGateways
from rotation.clients.http import open_session, tls_context, transport
from rotation.clients.key_vault import KeyVault
from rotation.clients.network import Network
from rotation.clients.resource_graph import ResourceGraph
from rotation.gateways import application_gateway
from rotation.gateways.api_management import ApiManagement
from rotation.gateways.application_gateway import ApplicationGateways, Scoped, from_arm
from rotation.gateways.entities import CERTIFICATES, NAMED_VALUES, Entities
from rotation.gateways.self_hosted import SelfHosted
from rotation.gateways.workspace_gateway import WorkspaceGateways
from rotation.model import CertificateId, Event, Front, Inventory
from rotation.reconcile import Gateways
from rotation.settings import Identity
from sandbox.azure import Azure
from sandbox.workspace_gateway import WorkspaceGateway
from sandbox.world import Fault, Hostname, Server, World
from tests.fuzz.examples import AGW, APPLICATION_GATEWAY, SERVICE_ID, VAULT

Take = Callable[[Any], Awaitable[object]]
"""Takes one input; whatever it raises is a finding."""

SUFFIX = "vault.azure.net"


class _Wire:
    """The product's clients before a server whose next answer is what it is told."""

    def __init__(self, azure: Azure, server: Server, path: str) -> None:
        self.world = azure.world
        self.answer = Fault(
            server, path, status=200, headers={"Content-Type": "application/json"}, times=None
        )
        self.world.faults.append(self.answer)

    def say(self, body: bytes) -> None:
        self.answer.body = body
        self.world.requests.clear()
        self.world.telemetry.clear()
        self.world.clock.advance(timedelta(seconds=1))  # for ARM's buckets


def wired(
    server: Server, path: str, work: Callable[[Any], Awaitable[object]]
) -> Callable[[], contextlib.AbstractAsyncContextManager[Take]]:
    """A door in front of which a server of Azure answers with the input."""

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Take]:
        world = World()
        certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
        world.add_service("apim-contoso", hostnames=(Hostname("api.contoso.com", certificate=certificate),))
        hostname = {"orders.contoso.com": certificate}
        world.workspace_gateways.append(WorkspaceGateway(world, "orders-gw", hostname))
        world.graph.quota = 1_000_000  # of a pass in minutes, not one after the other
        with Azure(world) as azure:
            settings = azure.app_settings()
            routes = {(host, 443): ("127.0.0.1", port) for host, port in azure.connect_to.items()}
            os.environ |= settings
            async with (
                open_session(tls_context(str(azure.ca_file)), routes) as session,
                ManagedIdentityCredential() as credential,
            ):
                shared = transport(session)
                scope = {"url": azure.arm_url, "scope": "https://management.azure.com/.default"}
                arm = Arm(
                    credential,
                    shared,
                    api_version="2025-09-01-preview",
                    subscriptions=(world.subscription_id,),
                    **scope,
                )
                graph = ResourceGraph(credential, shared, subscriptions=(world.subscription_id,), **scope)
                insights = AppInsights(
                    settings["APPLICATIONINSIGHTS_CONNECTION_STRING"], str(azure.ca_file), Identity(None)
                )
                clients = {
                    "services": ApiManagement(arm, graph, SUFFIX, frozenset()),
                    "network": Network(
                        credential, shared, api_version=application_gateway.KIND.api_version, **scope
                    ),
                    "arm": arm,
                    "graph": graph,
                    "vaults": KeyVault(credential, shared),
                    "insights": insights,
                    "count": itertools.count(),
                }
                wire = _Wire(azure, server, path)

                async def one(body: bytes) -> object:
                    wire.say(body)
                    return await work(clients)

                try:
                    yield one
                finally:
                    insights.close()

    return opened


async def arm(clients: Mapping[str, Any]) -> object:
    """Services as ARM lists them, and one by its id."""
    bodies_, problems, _ = await clients["arm"].list_api_management_services()
    assert isinstance(bodies_, list)
    assert isinstance(problems, list)
    return await clients["arm"].get_api_management_service(SERVICE_ID)


async def key_vault(clients: Mapping[str, Any]) -> object:
    """The newest version of a certificate."""
    return await clients["vaults"].current(CertificateId(VAULT, "contoso-com"))


async def graph(clients: Mapping[str, Any]) -> object:
    """As for an event; one in seven as for the timer, which asks for more, and lists what is not told."""
    services = clients["services"]
    if next(clients["count"]) % 7:
        return await services.using([CertificateId(VAULT, "contoso-com")])
    return await services.discover()


async def insights(clients: Mapping[str, Any]) -> object:
    """What became of an event that was sent."""
    said = await clients["insights"].write([Event("RunCompleted", {"a": "b"}, {}, "1")], None)
    assert isinstance(said, bool)
    return said


async def self_hosted(clients: Mapping[str, Any]) -> object:
    """All that self-hosted gateways are made of, and the entity itself before it is told."""
    arm = clients["arm"]
    kind = SelfHosted(
        arm,
        ArmEntities(arm),
        clients["graph"],
        vault_suffix=SUFFIX,
        vaults=frozenset(),
        addresses={},
        expires_soon=timedelta(days=14),
    )
    return await _each(kind, await kind.discover())


async def entities(clients: Mapping[str, Any]) -> object:
    """Certificate entities and named values, of a service and its workspaces, in turns."""
    arm, kind = clients["arm"], (CERTIFICATES, NAMED_VALUES)[next(clients["count"]) % 2]
    made = Entities(
        arm,
        ArmEntities(arm),
        clients["graph"],
        clients["vaults"],
        kind=kind,
        vault_suffix=SUFFIX,
        vaults=frozenset(),
    )
    return await _each(made, await made.discover())


async def workspace_gateways(clients: Mapping[str, Any]) -> object:
    """Workspace gateways, their hostname bindings, and a binding itself before it is told."""
    arm = clients["arm"]
    kind = WorkspaceGateways(
        arm, ArmWorkspaceGateways(arm), vault_suffix=SUFFIX, vaults=frozenset(), synced=True
    )
    return await _each(kind, await kind.discover())


async def application_gateways(clients: Mapping[str, Any]) -> object:
    """One as it is read before it is told; one time in seven as they are listed, and what is in front."""
    kind = _application_gateways(clients)
    if next(clients["count"]) % 7:
        return await kind.read(from_arm(APPLICATION_GATEWAY, {}, SUFFIX, frozenset()))
    return await _each(kind, await kind.discover())


async def backend_health(clients: Mapping[str, Any]) -> object:
    """What a gateway in front says of its backend."""
    return await _application_gateways(clients).health(Front(AGW, "agw", "apim", "apim", ()))


def _application_gateways(clients: Mapping[str, Any]) -> ApplicationGateways:
    scoped = Scoped(clients["arm"].subscriptions, SUFFIX, frozenset())
    return ApplicationGateways(clients["network"], clients["graph"], scoped, lambda: datetime.now(UTC))


async def _each(kind: Gateways, found: Inventory) -> object:
    return [await kind.read(gateway) for gateway in found.gateways[:1]]
