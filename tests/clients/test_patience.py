"""Every client at once against servers that accept and never answer, so that they wait together."""

import asyncio
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from typing import TypeVar

from azure.identity.aio import ManagedIdentityCredential

from rotation.clients.app_insights import AppInsights
from rotation.clients.arm import Arm
from rotation.clients.http import open_session, tls_context, transport
from rotation.clients.key_vault import KeyVault
from rotation.model import (
    CertificateId,
    CertificateUnreadable,
    Event,
    SyncOutcome,
    UnreadableCause,
)
from sandbox.azure import Azure
from sandbox.world import Certificate, Fault, Hostname, Server, World
from tests.clients.cloud import API_VERSION, all_closed, requests, routes

T = TypeVar("T")


async def timed(work: Awaitable[T]) -> tuple[T | None, float]:
    """A result and how long it took; None where the patience of the test was shorter."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(16):
            return await work, time.monotonic() - began
    except TimeoutError:
        return None, time.monotonic() - began


def test_a_server_that_never_answers_is_given_up_in_bounded_time(
    world: World, certificate: Certificate, azure: Azure
) -> None:
    """A pass has a budget: each call ends on its own, with a value, and a sync is not asked for twice."""
    service = world.add_service("apim-prod", hostnames=[Hostname("api.contoso.com", certificate)])
    world.faults += [Fault(server, hang=True, times=None) for server in Server if server != Server.IDENTITY]
    vault = CertificateId(certificate.vault.host, certificate.name)

    async def main() -> None:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(all_closed)
            context = tls_context(str(azure.ca_file))
            session = await stack.enter_async_context(open_session(context, routes(azure)))
            shared = transport(session)
            credential = await stack.enter_async_context(ManagedIdentityCredential())
            arm = Arm(
                credential,
                shared,
                url=azure.arm_url,
                scope="https://management.azure.com/.default",
                api_version=API_VERSION,
                subscriptions=(world.subscription_id,),
            )
            key_vault = KeyVault(credential, shared)
            stack.push_async_callback(arm.close)
            stack.push_async_callback(key_vault.close)
            insights = AppInsights(
                azure.app_settings()["APPLICATIONINSIGHTS_CONNECTION_STRING"], str(azure.ca_file)
            )
            stack.callback(insights.close)

            async with asyncio.TaskGroup() as group:
                listing = group.create_task(timed(arm.list_api_management_services()))
                syncing = group.create_task(timed(arm.refresh_hostnames(service.id)))
                current = group.create_task(timed(key_vault.current(vault)))
                earlier = group.create_task(timed(key_vault.earlier(vault)))
                events = [Event("RunCompleted", {}, {})]
                written = group.create_task(timed(insights.write(events, None)))

        took = {
            "listing": listing.result()[1] < 15,
            "syncing": syncing.result()[1] < 8,
            "current": current.result()[1] < 15,
            "earlier": earlier.result()[1] < 15,
            "written": written.result()[1] < 12,
        }
        assert dict.fromkeys(took, True) == took
        found, answer, unreadable = listing.result()[0], syncing.result()[0], current.result()[0]
        assert found is not None
        assert ([], 1, None) == (found[0], len(found[1]), found[2])
        assert answer is not None
        assert SyncOutcome.UNKNOWN == answer.outcome
        assert isinstance(unreadable, CertificateUnreadable)
        assert UnreadableCause.UNREACHABLE == unreadable.cause
        assert (None, False) == (earlier.result()[0], written.result()[0])

    asyncio.run(main())

    assert ["POST"] == [r.method for r in requests(azure, Server.ARM) if r.path.endswith("/refreshHostnames")]
