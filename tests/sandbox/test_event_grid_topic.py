"""The topic is held to Azure's contract by Azure's SDK and by hand."""

import json
from typing import Any

import pytest
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.core.messaging import CloudEvent
from azure.eventgrid import EventGridEvent, EventGridPublisherClient
from azure.identity import ManagedIdentityCredential

from sandbox.azure import Azure
from sandbox.event_grid_topic import HOST
from tests.sandbox.clients import Answer, bearer, fetch


@pytest.fixture(autouse=True)
def _trusted(azure: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's own transport looks here."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(azure.ca_file))


GOOD: CloudEvent[Any] = CloudEvent(source="/a", type="Rotation.Proven", data={"n": 1})


def client(azure: Azure, credential: Any) -> EventGridPublisherClient:
    """The real client, with its endpoint on loopback."""
    return EventGridPublisherClient(
        f"https://127.0.0.1:{azure.connect_to[HOST]}/api/events",
        credential,
        retry_total=0,
    )


def test_the_sdk_publishes_cloud_events(azure: Azure, credential: ManagedIdentityCredential) -> None:
    """A batch by identity."""
    with client(azure, credential) as publisher:
        publisher.send([GOOD, GOOD])

    assert [("/a", "Rotation.Proven", {"n": 1})] * 2 == [
        (event["source"], event["type"], event["data"]) for event in azure.world.notices
    ]


def test_a_key_is_refused(azure: Azure) -> None:
    """The topic has local authentication off."""
    with client(azure, AzureKeyCredential("key")) as publisher, pytest.raises(ClientAuthenticationError):
        publisher.send([GOOD])

    assert [] == azure.world.notices


def test_another_schema_is_refused(azure: Azure, credential: ManagedIdentityCredential) -> None:
    """A topic has one input schema."""
    event = EventGridEvent(subject="a", event_type="b", data={}, data_version="1")
    with (
        client(azure, credential) as publisher,
        pytest.raises(HttpResponseError, match="CloudEventSchemaV1_0"),
    ):
        publisher.send([event])


@pytest.mark.parametrize("missing", ["id", "source", "type", "specversion"])
def test_an_event_without_what_is_required_is_refused(azure: Azure, missing: str) -> None:
    """400, and nothing of the batch is kept."""
    good = {"id": "1", "source": "/a", "type": "t", "specversion": "1.0"}
    bad = {name: value for name, value in good.items() if name != missing}
    answer = post(azure, json.dumps([good, bad]).encode())

    assert 400 == answer.status
    assert missing in answer.json()["error"]["message"]
    assert [] == azure.world.notices


REFUSED = {
    "no list": (b"5", "", 400),
    "no JSON": (b"x", "", 400),
    "more than 1 MB": (b" " * (1024 * 1024 + 1), "", 413),
    "another version of the API": (b"[]", "?api-version=2020-01-01", 400),
}


@pytest.mark.parametrize(("body", "query", "expected"), REFUSED.values(), ids=REFUSED)
def test_what_the_sdk_never_sends_is_refused(azure: Azure, body: bytes, query: str, expected: int) -> None:
    """Azure's limits hold for whoever calls."""
    assert expected == post(azure, body, query).status


def post(azure: Azure, body: bytes, query: str = "") -> Answer:
    """One batch, by hand."""
    return fetch(
        azure,
        f"https://127.0.0.1:{azure.connect_to[HOST]}/api/events{query or '?api-version=2018-01-01'}",
        method="POST",
        headers={
            **bearer(azure, "https://eventgrid.azure.net"),
            "Content-Type": "application/cloudevents-batch+json; charset=utf-8",
        },
        data=body,
    )
