import gc
import json
import socket
import threading
import uuid
from datetime import datetime, timedelta

import pytest

from sandbox.azure import Azure
from sandbox.world import Certificate, Hostname, World
from tests.sandbox.clients import fetch, handshake, which


def test_nothing_is_left_after_the_context() -> None:
    """Threads, ports, tasks and files end with it; an unclosed socket would be a warning, so an error."""
    world = World()
    world.add_service("apim-prod", regions={"West Europe": 1, "East US": 1})
    threads = threading.active_count()

    with Azure(world) as azure:
        port = azure.connect_to["apim-prod.azure-api.net"]
        with socket.create_connection(("127.0.0.1", port)):  # left in the middle of a handshake
            pass
    gc.collect()

    assert threads == threading.active_count()
    assert not azure.ca_file.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_it_stops_while_a_client_still_waits_for_an_answer(world: World) -> None:
    """Stopping is bounded, whatever visitors do."""
    service = world.add_service("apim-prod")
    service.tls_faults["West Europe"] = "silent"

    with Azure(world) as azure:
        silent = socket.create_connection(("127.0.0.1", azure.connect_to["apim-prod.azure-api.net"]))

    with silent:
        assert silent.recv(1) == b""


def test_the_settings_lead_to_every_host(world: World, certificate: Certificate) -> None:
    """An app that only reads its environment can reach each host an Azure of this shape has."""
    portal = Hostname("portal.contoso.com", certificate, type="DeveloperPortal")
    world.add_service("apim-prod", regions={"West Europe": 2, "East US": 1}, hostnames=[portal])
    world.add_service("apim-private", virtual_network_type="Internal", subscription_id=str(uuid.UUID(int=7)))

    with Azure(world) as azure:
        settings = azure.app_settings()

    entries = [entry.split(":") for entry in settings["ROTATION_CONNECT_TO"].split(",")]
    assert {
        "kv-gateways.vault.azure.net",
        "topic-contoso.westeurope-1.eventgrid.azure.net",
        "apim-prod.azure-api.net",
        "apim-prod-westeurope-01.regional.azure-api.net",
        "apim-prod-eastus-01.regional.azure-api.net",
        "portal.contoso.com",
        "apim-private.azure-api.net",
        "apim-private-westeurope-01.regional.azure-api.net",
        world.services[1].private_address("West Europe"),
    } == {host for host, *_ in entries}
    assert {("443", "127.0.0.1")} == {(port, address) for _, port, address, _ in entries}
    assert [world.subscription_id, str(uuid.UUID(int=7))] == settings["ROTATION_SUBSCRIPTIONS"].split(",")
    assert settings["APPLICATIONINSIGHTS_CONNECTION_STRING"].startswith("InstrumentationKey=")


def test_a_service_added_later_is_exposed_on_demand(azure: Azure, certificate: Certificate) -> None:
    """Scenarios may add services while everything runs."""
    service = azure.world.add_service("apim-new", hostnames=[Hostname("api.contoso.com", certificate)])
    azure.expose(service)

    presented = handshake(azure, azure.connect_to["apim-new.azure-api.net"], "api.contoso.com")

    assert which(presented, newest=certificate.newest) == "newest"


def test_a_human_can_turn_the_knobs(azure: Azure, certificate: Certificate) -> None:
    """The control server shows the state, renews, moves the clock and loses events."""
    azure.world.add_service("apim-prod", hostnames=[Hostname("api.contoso.com", certificate)])
    first = certificate.newest.thumbprint
    before = datetime.fromisoformat(fetch(azure, f"{azure.control_url}/clock").json()["now"])

    target = "/renew?vault=kv-gateways&certificate=api-contoso-com"
    renewed = fetch(azure, azure.control_url + target, method="POST").json()
    advanced = fetch(azure, f"{azure.control_url}/advance?minutes=90", method="POST").json()
    dropping = fetch(azure, f"{azure.control_url}/drop-next?count=2", method="POST").json()
    state = fetch(azure, azure.control_url).json()

    assert certificate.newest.thumbprint == renewed["thumbprint"]
    assert datetime.fromisoformat(advanced["now"]) - before >= timedelta(minutes=90)
    assert dropping == {"dropping": 2}
    assert {"West Europe": [first, first]} == state["services"]["apim-prod"]["serves"]["api.contoso.com"]
    assert len(state["vaults"]["kv-gateways"]["api-contoso-com"]) == 2
    assert fetch(azure, f"{azure.control_url}/telemetry").json() == []


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/renew?vault=nowhere&certificate=x", 404),
        ("/advance?minutes=-1", 400),
        ("/advance?minutes=soon", 400),
        ("/advance", 400),
        ("/drop-next?count=x", 400),
    ],
)
def test_a_wrong_knob_is_refused_with_words(azure: Azure, target: str, status: int) -> None:
    """A human's typing mistake gets an explanation."""
    answer = fetch(azure, azure.control_url + target, method="POST")

    assert status == answer.status
    assert "error" in json.loads(answer.body)
