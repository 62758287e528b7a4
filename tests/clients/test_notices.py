"""The publisher against the sandbox's topic, over TLS and with the real SDK."""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from azure.identity.aio import ManagedIdentityCredential

from rotation.clients.http import open_session, tls_context, transport
from rotation.clients.notices import NOTICES_PER_REQUEST, Notices
from rotation.telemetry import Notice
from sandbox.azure import Azure
from sandbox.event_grid_topic import HOST
from sandbox.world import Fault, Server

URL = f"https://{HOST}/api/events"
WHEN = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def notice(number: int = 1) -> Notice:
    """One of many."""
    return Notice(
        event_id=f"id-{number}",
        type="Rotation.Proven",
        source="/subscriptions/s/resourceGroups/rg/providers/Microsoft.ApiManagement/service/apim-contoso",
        subject="bücher.contoso.com",
        at=WHEN,
        data={"gateway": "apim-contoso", "seconds_to_served": 1234.5},
    )


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    """A pretend Azure, and the environment in which the app's identity finds it."""
    with Azure() as azure:
        for name, value in azure.app_settings().items():
            monkeypatch.setenv(name, value)
        yield azure


def publish(azure: Azure, *notices: Notice, patience: timedelta = timedelta(seconds=5)) -> str | None:
    """Tell them, put together as `rotation.app` does."""

    async def main() -> str | None:
        routes = {(HOST, 443): ("127.0.0.1", azure.connect_to[HOST])}
        async with (
            open_session(tls_context(str(azure.ca_file)), routes) as session,
            ManagedIdentityCredential() as credential,
        ):
            publisher = Notices(credential, transport(session), url=URL, patience=patience)
            try:
                return await publisher.publish(notices)
            finally:
                await publisher.close()

    return asyncio.run(main())


def test_a_notice_is_a_cloud_event(azure: Azure) -> None:
    """Every field arrives as CloudEvents 1.0 has it."""
    expected = {
        "id": "id-1",
        "type": "Rotation.Proven",
        "source": notice().source,
        "subject": "bücher.contoso.com",
        "time": "2026-03-01T12:30:00.000Z",
        "specversion": "1.0",
        "data": {"gateway": "apim-contoso", "seconds_to_served": 1234.5},
    }

    assert None is publish(azure, notice())
    assert [expected] == azure.world.notices


def test_many_notices_go_in_several_requests(azure: Azure) -> None:
    """A request holds 1 MB."""
    many = [notice(number) for number in range(NOTICES_PER_REQUEST + 1)]

    assert None is publish(azure, *many)
    assert [n.event_id for n in many] == [event["id"] for event in azure.world.notices]
    assert 2 == len([r for r in azure.world.requests if r.server == Server.TOPIC])


def test_nothing_to_tell_is_no_request(azure: Azure) -> None:
    """Most passes have no news."""
    assert None is publish(azure)
    assert [] == azure.world.requests


FAULTS = {
    "it hangs": (Fault(Server.TOPIC, hang=True, times=None), "did not answer within 1 s"),
    "it resets": (Fault(Server.TOPIC, reset=True, times=None), URL),
    "it forbids": (
        Fault(Server.TOPIC, status=403, body={"error": {"code": "Forbidden", "message": "no role"}}),
        "Forbidden",
    ),
    "it is away for a day": (
        Fault(Server.TOPIC, status=503, headers={"Retry-After": "86400"}, times=None),
        "did not answer within 1 s",
    ),
    "it redirects": (
        Fault(Server.TOPIC, status=307, headers={"Location": "https://fabrikam.com/"}, times=None),
        URL,
    ),
    "it answers a page": (Fault(Server.TOPIC, status=404, body=b"<html>", times=None), URL),
    "the identity hangs": (Fault(Server.IDENTITY, hang=True, times=None), "did not answer within 1 s"),
    "the identity is away": (Fault(Server.IDENTITY, status=500, times=None), URL),
}


@pytest.mark.parametrize(("fault", "expected"), FAULTS.values(), ids=FAULTS)
def test_a_topic_that_fails_says_why_and_takes_bounded_time(
    azure: Azure, fault: Fault, expected: str
) -> None:
    """A value and no exception: the work was done before."""
    azure.world.faults.append(fault)
    began = time.monotonic()

    why = publish(azure, notice(), patience=timedelta(seconds=1))

    assert why
    assert expected in why
    assert [] == azure.world.notices
    assert time.monotonic() - began < 10


def test_a_lost_answer_may_tell_twice_with_the_same_id(azure: Azure) -> None:
    """One retry, after which the topic is whole again."""
    azure.world.faults.append(Fault(Server.TOPIC, status=503))

    assert None is publish(azure, notice())
    assert ["id-1"] == [event["id"] for event in azure.world.notices]
