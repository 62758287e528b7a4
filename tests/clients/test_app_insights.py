import asyncio
import logging
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rotation.clients.app_insights import AppInsights
from rotation.model import Event
from rotation.settings import Identity
from rotation.telemetry import Availability
from sandbox.azure import Azure
from sandbox.world import CustomEvent, Fault, Server
from tests.clients import farm
from tests.clients.cloud import requests

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
EVENT = Event(
    "CertificateVerified",
    {"gateway": "apim-prod", "hostname": "bücher.contoso.com", "message": "It said \"no\";\nthen: 'yes'."},
    {"connections": 7.0, "days_to_expiry": 42.5},
)


@pytest.fixture(autouse=True)
def no_offline_files(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The exporter keeps what it cannot send in the temporary folder, unless told not to: never here."""
    caplog.set_level(logging.CRITICAL)  # the exporter's own complaints about what the tests do to it
    before = offline_files()
    yield
    assert before == offline_files()


def offline_files() -> set[Path]:
    """The exporter's files for later."""
    folder = Path(tempfile.gettempdir())
    return {path for root in folder.glob("Microsoft-AzureMonitor-*") for path in [root, *root.rglob("*")]}


def connection_string(url: str) -> str:
    """As a resource of Application Insights shows it."""
    key = "5c1f2a70-93de-4b6e-8a47-0d4f6be21c35"
    return f"InstrumentationKey={key};IngestionEndpoint={url};LiveEndpoint={url}"


def write(
    azure: Azure, events: Sequence[Event | Availability], trace_parent: str | None = None, url: str = ""
) -> bool:
    """Write to the sandbox and say whether all was accepted."""
    string = connection_string(url or azure.ingestion_url)
    insights = AppInsights(string, str(azure.ca_file), Identity(client_id=None))
    try:
        return asyncio.run(insights.write(events, trace_parent))
    finally:
        insights.close()


def tracked(azure: Azure) -> list[int | None]:
    """How each write that reached the sandbox was answered."""
    return [r.status for r in requests(azure, Server.INGESTION) if r.path.endswith("/track")]


def test_what_is_accepted_is_true(azure: Azure) -> None:
    """Name, properties and measurements arrive as they are, with the identity's token."""
    azure.world.ingestion_needs_token = True

    accepted = write(azure, [EVENT])

    assert accepted
    logger = {"logger_name": "rotation"}  # the exporter's own addition
    assert [CustomEvent(EVENT.name, dict(EVENT.properties) | logger, dict(EVENT.measurements), None)] == [
        event._replace(operation_id=None) for event in azure.world.custom_events()
    ]
    assert ["https://monitor.azure.com"] == [
        request.query["resource"].rstrip("/") for request in requests(azure, Server.IDENTITY)
    ]


def test_events_belong_to_the_invocations_trace(azure: Azure) -> None:
    """The portal shows them beside the function's own request."""
    assert write(azure, [EVENT, EVENT], PARENT)

    tags = [envelope["tags"] for envelope in azure.world.telemetry]
    assert [(TRACE, SPAN)] * 2 == [(t["ai.operation.id"], t["ai.operation.parentId"]) for t in tags]


@pytest.mark.parametrize(
    "trace_parent",
    [
        pytest.param(None, id="none"),
        pytest.param("", id="empty"),
        pytest.param("nonsense", id="a word"),
        pytest.param(f"00-{'0' * 32}-{SPAN}-01", id="a trace of zeros"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", id="a span of zeros"),
        pytest.param(f"ff-{TRACE}-{SPAN}-01", id="a forbidden version"),
        pytest.param(f"00-{TRACE[:-1]}-{SPAN}-01", id="a digit short"),
        pytest.param(f"00-{TRACE}-{SPAN}-01\r\nX: y", id="a line break"),
        pytest.param("0" * 100_000, id="far too long"),
        pytest.param("\ud800", id="half a surrogate pair"),
    ],
)
def test_a_malformed_parent_does_no_harm(azure: Azure, trace_parent: str | None) -> None:
    """The events arrive, joined to nothing."""
    assert write(azure, [EVENT], trace_parent)

    [envelope] = azure.world.telemetry
    assert TRACE not in str(envelope["tags"])
    assert 1 == len(azure.world.custom_events(EVENT.name))


RESULT = Availability(
    name="bücher.contoso.com @ apim-prod",
    location="West Europe",
    success=False,
    message="It said \"no\";\nthen: 'yes'.",
    seconds=0.25,
    properties={"gateway": "apim-prod", "reason": "ServesOldVersion"},
)


def test_an_availability_result_is_one(azure: Azure) -> None:
    """It arrives as what the Availability blade reads, and not as a trace, joined to the invocation."""
    assert write(azure, [RESULT, EVENT], PARENT)

    envelope, event = azure.world.telemetry
    data = envelope["data"]["baseData"]
    assert ("Microsoft.ApplicationInsights.Availability", "AvailabilityData", TRACE) == (
        envelope["name"],
        envelope["data"]["baseType"],
        envelope["tags"]["ai.operation.id"],
    )
    assert {
        "ver": 2,
        "id": data["id"],
        "name": RESULT.name,
        "duration": "0.00:00:00.2500000",
        "success": False,
        "runLocation": RESULT.location,
        "message": RESULT.message,
        "properties": {**RESULT.properties, "logger_name": "rotation"},
    } == {name: value for name, value in data.items() if value != {}}
    assert "EventData" == event["data"]["baseType"]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "0.00:00:00.0000000"),
        (1.5, "0.00:00:01.5000000"),
        (59.99999999, "0.00:00:59.9999999"),
        (60.0, "0.00:01:00.0000000"),
        (3661.25, "0.01:01:01.2500000"),
    ],
)
def test_the_duration_of_a_result_is_a_span(azure: Azure, seconds: float, expected: str) -> None:
    """The exporter passes it through as given, and Application Insights would drop what is no span."""
    assert write(azure, [replace(RESULT, seconds=seconds)])

    assert expected == azure.world.telemetry[0]["data"]["baseData"]["duration"]


def test_a_result_has_an_id_of_its_own(azure: Azure) -> None:
    """Two results of a hostname are two."""
    assert write(azure, [RESULT, RESULT])

    assert 2 == len({envelope["data"]["baseData"]["id"] for envelope in azure.world.telemetry})


def test_no_events_are_no_request(azure: Azure) -> None:
    """Nothing to say is said without words."""
    assert write(azure, [])

    assert [] == tracked(azure)


def test_more_events_than_one_write_takes_all_arrive(azure: Azure) -> None:
    """A large estate is written in several requests, in order, and nothing is dropped on the way."""
    numbered = [Event("CertificateVerified", {"n": str(n)}, {"n": float(n)}) for n in range(1200)]

    assert write(azure, numbered)

    assert [float(n) for n in range(1200)] == [e.measurements["n"] for e in azure.world.custom_events()]
    assert [200, 200, 200] == tracked(azure)


def test_one_resource_is_written_to_again_and_again(azure: Azure) -> None:
    """One exporter lasts as long as the process, on whichever loop and from whichever thread."""
    insights = AppInsights(connection_string(azure.ingestion_url), str(azure.ca_file))
    try:
        results = [asyncio.run(insights.write([EVENT], None)) for _ in range(3)]
    finally:
        insights.close()

    assert [True] * 3 == results
    assert 3 == len(azure.world.custom_events())


def partly(index: int, status: int) -> dict[str, object]:
    """What ingestion answers when it did not want one of two envelopes."""
    error = {"index": index, "statusCode": status, "message": "103: Field 'name' is wrong"}
    return {"itemsReceived": 2, "itemsAccepted": 1, "errors": [error]}


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"status": 400}, id="400"),
        pytest.param({"status": 401}, id="401"),
        pytest.param({"status": 402}, id="402, the daily cap"),
        pytest.param({"status": 403}, id="403"),
        pytest.param({"status": 404}, id="404"),
        pytest.param({"status": 429}, id="429"),
        pytest.param({"status": 439}, id="439, the daily cap by its own number"),
        pytest.param({"status": 429, "headers": {"Retry-After": "0"}}, id="429 with a wait"),
        pytest.param({"status": 500}, id="500"),
        pytest.param({"status": 503}, id="503"),
        pytest.param(
            {"status": 503, "body": b"<html>", "headers": {"Content-Type": "text/html"}}, id="a page"
        ),
        pytest.param({"status": 200, "body": b"<html>"}, id="200 with a captive portal's page"),
        pytest.param({"status": 206, "body": partly(1, 400)}, id="206, one refused"),
        pytest.param({"status": 206, "body": partly(1, 500)}, id="206, one to be sent again"),
        pytest.param({"reset": True}, id="a reset connection"),
    ],
)
def test_what_is_not_accepted_is_false(azure: Azure, fault: dict[str, Any]) -> None:
    """Whoever writes learns that the events are to go another way."""
    azure.world.faults.append(Fault(Server.INGESTION, times=None, **fault))

    accepted = write(azure, [EVENT, EVENT])

    assert not accepted
    assert 1 <= len(requests(azure, Server.INGESTION)) <= 4


@pytest.mark.parametrize(("status", "headers"), [(500, {}), (503, {}), (429, {"Retry-After": "1"})])
def test_a_passing_fault_is_outlived(azure: Azure, status: int, headers: dict[str, str]) -> None:
    """One retry is enough for a hiccup, after the wait that was asked for, and nothing arrives twice."""
    azure.world.faults.append(Fault(Server.INGESTION, "track", status=status, headers=headers))

    assert write(azure, [EVENT, RESULT])

    assert [status, 200] == tracked(azure)
    assert 2 == len(azure.world.telemetry)


def test_silence_is_false_in_bounded_time(azure: Azure) -> None:
    """The exporter's own patience would be five minutes a try."""
    azure.world.faults.append(Fault(Server.INGESTION, hang=True, times=None))
    began = time.monotonic()

    assert not write(azure, [EVENT])

    assert time.monotonic() - began < 12


def test_a_long_wait_asked_for_is_not_waited_out(azure: Azure) -> None:
    """Throttled for a quarter of an hour, the worker would be gone before: the events go another way."""
    fault = Fault(Server.INGESTION, "track", status=429, headers={"Retry-After": "900"}, times=None)
    azure.world.faults.append(fault)
    began = time.monotonic()

    assert not write(azure, [EVENT])

    assert time.monotonic() - began < 12


def test_one_refused_part_is_enough_for_false(azure: Azure) -> None:
    """With several requests all have to be accepted."""
    first = Fault(Server.INGESTION, "track")  # as usual
    azure.world.faults += [first, Fault(Server.INGESTION, "track", status=400, times=None)]

    assert not write(azure, [EVENT] * 600)

    assert 500 == len(azure.world.custom_events())


def test_a_resource_that_nobody_listens_for_is_false(azure: Azure) -> None:
    """A refused connection."""
    with farm.free_port() as bound:
        assert not write(azure, [EVENT], url=f"https://127.0.0.1:{bound.getsockname()[1]}/")


def test_a_resource_that_is_not_trusted_is_false(azure: Azure) -> None:
    """Events name gateways and hostnames: they go to no server without a good certificate."""
    insights = AppInsights(connection_string(azure.ingestion_url), None)
    try:
        accepted = asyncio.run(insights.write([EVENT], None))
    finally:
        insights.close()

    assert not accepted
    assert [] == requests(azure, Server.INGESTION)


def test_without_a_token_it_is_false(azure: Azure) -> None:
    """Where the identity endpoint is broken, Entra ingestion cannot work, and that is noticed."""
    azure.world.ingestion_needs_token = True
    azure.world.faults.append(Fault(Server.IDENTITY, status=400, times=None))

    assert not write(azure, [EVENT])

    assert [] == azure.world.telemetry


def test_no_thread_is_left(azure: Azure) -> None:
    """No batching, no heartbeat, no statistics: the process ends when its work is done."""
    before = set(threading.enumerate())

    write(azure, [EVENT])

    assert set() == set(threading.enumerate()) - before


def test_closing_what_was_never_opened_is_nothing() -> None:
    """An app that had nothing to say can end."""
    AppInsights(connection_string("https://127.0.0.1:1/"), None).close()
