import gzip
import json
import logging
from collections.abc import Iterator

import pytest
from azure.identity import ManagedIdentityCredential
from azure.monitor.opentelemetry.exporter import AzureMonitorLogExporter
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor

from sandbox.azure import Azure
from tests.sandbox.clients import fetch

EVENT = {
    "name": "Microsoft.ApplicationInsights.Event",
    "tags": {"ai.operation.id": "4bf92f35"},
    "data": {
        "baseType": "EventData",
        "baseData": {"ver": 2, "name": "Verified", "properties": {"gateway": "a"}},
    },
}


@pytest.fixture
def telemetry(azure: Azure, credential: ManagedIdentityCredential) -> Iterator[LoggerProvider]:
    """The real exporter, as an app would set it up."""
    exporter = AzureMonitorLogExporter(
        connection_string=azure.app_settings()["APPLICATIONINSIGHTS_CONNECTION_STRING"],
        credential=credential,
        connection_verify=str(azure.ca_file),
        disable_offline_storage=True,
        retry_total=0,
        read_timeout=5,
    )
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    yield provider
    provider.shutdown()


@pytest.mark.parametrize("needs_token", [False, True])
def test_the_sdk_writes_a_custom_event(azure: Azure, telemetry: LoggerProvider, needs_token: bool) -> None:
    """An event with measurements arrives as a row of customEvents, with Entra authentication or without."""
    azure.world.ingestion_needs_token = needs_token
    attributes = {
        "microsoft.custom_event.name": "CertificateVerified",
        "microsoft.custom_measurements": json.dumps({"days_to_expiry": 42.5}),
        "gateway": "apim-prod",
    }

    telemetry.get_logger("rotation").emit(
        LogRecord(severity_number=SeverityNumber.INFO, attributes=attributes)
    )

    tracked = [request.status for request in azure.world.requests if request.server == "ingestion"]
    assert tracked == [200]
    (event,) = azure.world.custom_events("CertificateVerified")
    assert (event.properties["gateway"], event.measurements) == ("apim-prod", {"days_to_expiry": 42.5})
    assert azure.world.custom_events("AnotherEvent") == []


def test_a_token_is_needed_when_local_authentication_is_off(
    azure: Azure, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is kept of what arrives without one."""
    caplog.set_level(logging.CRITICAL)
    azure.world.ingestion_needs_token = True

    answer = fetch(
        azure, f"{azure.ingestion_url}v2.1/track", method="POST", data=json.dumps([EVENT]).encode()
    )

    assert (answer.status, answer.json()["itemsAccepted"]) == (401, 0)
    assert azure.world.telemetry == []


@pytest.mark.parametrize("path", ["v2.1/track", "v2/track"])
@pytest.mark.parametrize(
    ("body", "encoding", "accepted"),
    [
        (json.dumps([EVENT, EVENT]).encode(), "identity", 2),
        (gzip.compress(json.dumps([EVENT]).encode()), "gzip", 1),
        ("\n".join([json.dumps(EVENT)] * 3).encode(), "identity", 3),
        (json.dumps([{"filler": "x" * 3_000_000}]).encode(), "identity", 1),
    ],
    ids=["an array", "gzip", "a line each", "3 MB"],
)
def test_envelopes_are_taken_in_every_form(
    azure: Azure, path: str, body: bytes, encoding: str, accepted: int
) -> None:
    """Whatever the SDK or the host sends."""
    url = azure.ingestion_url + path

    answer = fetch(azure, url, method="POST", data=body, headers={"Content-Encoding": encoding})

    assert {"itemsReceived": accepted, "itemsAccepted": accepted, "errors": []} == answer.json()
    assert accepted == len(azure.world.telemetry)


def test_an_event_keeps_its_operation(azure: Azure) -> None:
    """The operation id joins an event with the host's request."""
    fetch(azure, f"{azure.ingestion_url}v2.1/track", method="POST", data=json.dumps([EVENT]).encode())

    assert azure.world.custom_events() == [("Verified", {"gateway": "a"}, {}, "4bf92f35")]


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff"])
def test_a_body_that_is_no_telemetry_is_refused(azure: Azure, body: bytes) -> None:
    """With 400 and a reason, as a client bug deserves."""
    answer = fetch(azure, f"{azure.ingestion_url}v2.1/track", method="POST", data=body)

    assert (answer.status, len(answer.json()["errors"])) == (400, 1)


def test_other_telemetry_calls_are_welcome(azure: Azure) -> None:
    """Live metrics and the SDK's own statistics must not fail an app."""
    answer = fetch(azure, f"{azure.ingestion_url}QuickPulseService.svc/ping", method="POST", data=b"{}")

    assert (answer.status, answer.headers["x-ms-qps-subscribed"]) == (200, "false")
