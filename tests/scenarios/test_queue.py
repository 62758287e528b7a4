"""Events through a storage queue, for an app without a public address: the same path, the same proof."""

import json
from typing import Any

import pytest

from sandbox.host.process import FunctionsHost
from sandbox.stage import PROJECT, Stage
from sandbox.world import Certificate, Hostname, Service, World
from tests.host.helpers import needs_runtime, run_backend

HOST = "api.contoso.com"
QUEUE = {"ROTATION_EVENT_QUEUE": "certificate-events"}


def contoso() -> tuple[World, Certificate, Service]:
    """A world with one certificate and one service."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
    hostname = Hostname(HOST, certificate=certificate)
    return world, certificate, world.add_service("apim-contoso", hostnames=(hostname,))


def message(**changes: object) -> str:
    """What Event Grid puts into the queue when `contoso-com` is renewed, changed."""
    event: dict[str, object] = {
        "id": "an-event",
        "topic": "/subscriptions/0/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/kv-contoso",
        "subject": "contoso-com",
        "eventType": "Microsoft.KeyVault.CertificateNewVersionCreated",
        "eventTime": "2026-11-23T00:00:00Z",
        "data": {"Id": "https://kv-contoso.vault.azure.net/certificates/contoso-com/0123456789abcdef"},
        "dataVersion": "1",
        "metadataVersion": "1",
    }
    return json.dumps(event | changes)


def test_a_message_about_a_renewal_leads_to_a_sync() -> None:
    """Proves the way in of a private app, twice delivered and once synced."""
    world, certificate, service = contoso()
    with Stage(world, QUEUE, schema=None) as stage:
        certificate.renew()
        stage.host.run("on_certificate_message", message())
        stage.host.run("on_certificate_message", message())

        assert 1 == len(service.syncs)
        assert "Event an-event: NewVersionCreated of" in stage.host.log()


@pytest.mark.parametrize("text", ["hello", "[1]", message(eventType="Contoso.Surprise")])
def test_a_message_that_is_no_event_of_ours_ends_well(text: str) -> None:
    """Proves that it is not delivered five times and then kept as poison."""
    world, _, service = contoso()
    with Stage(world, QUEUE, schema=None) as stage:
        stage.host.run("on_certificate_message", text)

        assert [] == service.syncs
        assert 1 == stage.host.log().count("is ignored: ")
        assert "Executed 'Functions.on_certificate_message' (Succeeded" in stage.host.log()


@pytest.mark.parametrize(("settings", "registered"), [(QUEUE, True), ({}, False)])
def test_the_function_exists_only_where_there_is_a_queue(
    settings: dict[str, str], *, registered: bool
) -> None:
    """Proves that a public app does not poll a queue that nobody fills."""
    with FunctionsHost(PROJECT, {"ROTATION_EVENT_QUEUE": "", **settings}) as host:
        assert registered == ("on_certificate_message" in host.functions)
        assert {} == host.refused


@needs_runtime
def test_the_platforms_own_runtime_indexes_it() -> None:
    """Proves with Microsoft's code that the binding is one."""
    found: dict[str, Any] = run_backend("runtime", PROJECT, env=QUEUE)
    bindings = {f["name"]: [json.loads(b) for b in f["bindings"]] for f in found["functions"]}
    (binding,) = bindings["on_certificate_message"]

    assert ("queueTrigger", "certificate-events", "AzureWebJobsStorage") == (
        binding["type"],
        binding["queueName"],
        binding["connection"],
    )
