import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import jsonschema
import pytest
from azure.core.messaging import CloudEvent
from azure.eventgrid import EventGridEvent, SystemEventNames

from sandbox.azure import Azure
from sandbox.event_grid import Delivery, EventSchema, SubscriptionRefusedError, payload
from sandbox.world import Certificate, EventType
from tests.sandbox.clients import eventually

DERIVED = "keyvault/derived-sample.CertificateNewVersionCreated.json"
SCHEDULE = (10, 30, 60, 300, 600, 1800, 3600, 10800, 21600)


@dataclass
class Webhook:
    """An endpoint that answers as told, not at all for None, and 200 when nothing is left to tell."""

    url: str
    statuses: list[int | None] = field(default_factory=list)
    validates: bool = True
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    def events(self) -> list[Any]:
        """The bodies of the notifications."""
        return [
            json.loads(body) for headers, body in self.received if headers["aeg-event-type"] == "Notification"
        ]


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    """A real HTTP server."""

    class Handler(BaseHTTPRequestHandler):
        def do_OPTIONS(self) -> None:
            self.send_response(200)
            if hook.validates:
                self.send_header("WebHook-Allowed-Origin", self.headers["WebHook-Request-Origin"])
            self.end_headers()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
            answer = b""
            if self.headers["aeg-event-type"] == "SubscriptionValidation":
                code = json.loads(body)[0]["data"]["validationCode"] if hook.validates else "?"
                answer = json.dumps({"validationResponse": code}).encode()
            status = hook.statuses.pop(0) if hook.statuses and not answer else 200
            if status:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hook = Webhook(f"http://127.0.0.1:{server.server_address[1]}/hook?code=key")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield hook
        server.shutdown()
        thread.join(5)


def settled(azure: Azure, deliveries: int) -> list[Delivery]:
    """The deliveries, after that many were made and none is under way any more."""
    grid = azure.event_grid
    assert eventually(lambda: len(grid.deliveries) >= deliveries and grid.idle), grid.deliveries
    return grid.deliveries


@pytest.mark.parametrize("schema", list(EventSchema))
def test_a_renewal_reaches_the_webhook_as_microsofts_own_model_reads_it(
    azure: Azure, webhook: Webhook, certificate: Certificate, schema: EventSchema
) -> None:
    """Subscribed after the handshake of its schema, then delivered, in an array or alone."""
    azure.event_grid.subscribe(webhook.url, schema)
    version = certificate.renew()
    settled(azure, 1)

    (body,) = webhook.events()
    if schema == EventSchema.EVENT_GRID:
        event = EventGridEvent.from_dict(body[0])
        read: tuple[str, str | None, str | None] = (event.event_type, event.topic, event.subject)
    else:
        cloud: CloudEvent[Any] = CloudEvent.from_dict(body)
        read = (cloud.type, cloud.source, cloud.subject)

    kind = SystemEventNames.KeyVaultCertificateNewVersionCreatedEventName.value
    assert (kind, certificate.vault.id, certificate.name) == read
    assert version.id == (body[0] if isinstance(body, list) else body)["data"]["Version"]


@pytest.mark.parametrize(
    ("schema", "sample"), [("EventGridSchema", "eventGridSchema"), (None, "cloudEvents10")]
)
def test_an_event_has_the_shape_of_the_contract(
    azure: Azure, certificate: Certificate, contract: Callable[[str], Any], schema: str | None, sample: str
) -> None:
    """Same keys and same types as the sample; the data validates against the schema of the specification."""
    samples = contract(DERIVED)[sample]
    official = samples[0] if isinstance(samples, list) else samples
    event = azure.world.announce(EventType.NEW_VERSION, certificate.newest)
    ours = payload(event, EventSchema(schema or EventSchema.CLOUD_EVENTS))
    specification = contract("keyvault/KeyVault.events.typespec.schema.json")
    reference = {"$ref": "#/definitions/KeyVaultCertificateNewVersionCreatedEventData"}

    assert set(official) == set(ours)
    assert {key: type(value) for key, value in official["data"].items()} == {
        key: type(value) for key, value in ours["data"].items()
    }
    jsonschema.validate(ours["data"], specification | reference)


@pytest.mark.parametrize("schema", list(EventSchema))
def test_a_webhook_that_does_not_validate_gets_nothing(
    azure: Azure, webhook: Webhook, certificate: Certificate, schema: EventSchema
) -> None:
    """A subscription begins with the endpoint's consent."""
    webhook.validates = False

    with pytest.raises(SubscriptionRefusedError):
        azure.event_grid.subscribe(webhook.url, schema)
    certificate.renew()

    assert eventually(lambda: azure.event_grid.idle)
    assert webhook.events() == []


def test_a_failed_delivery_is_repeated_when_the_clock_says_so(
    azure: Azure, webhook: Webhook, certificate: Certificate
) -> None:
    """After 10 s, 30 s and a minute, the same event each time; no answer is a failure too."""
    webhook.statuses = [500, None, 404]
    azure.event_grid.subscribe(webhook.url)
    certificate.renew()

    settled(azure, 1)
    for number, seconds in enumerate((11, 31, 61), start=2):
        azure.world.clock.advance(timedelta(seconds=seconds))
        settled(azure, number)

    made = azure.event_grid.deliveries
    assert [(1, 500), (2, None), (3, 404), (4, 200)] == [(each.attempt, each.status) for each in made]
    gaps = [(after.at - before.at).total_seconds() for before, after in pairwise(made)]
    assert [11, 31, 61] == [int(gap) for gap in gaps]
    assert len({each.event_id for each in made}) == 1
    assert azure.event_grid.pending == 0
    assert [headers["aeg-delivery-count"] for headers, _ in webhook.received[1:]] == ["0", "1", "2", "3"]


def test_an_event_is_given_up_after_a_day(azure: Azure, webhook: Webhook, certificate: Certificate) -> None:
    """Ten or eleven attempts fit into the time to live; then the event is a dead letter."""
    webhook.statuses = [500] * 40
    azure.event_grid.subscribe(webhook.url)
    certificate.renew()
    settled(azure, 1)

    for _ in range(30):
        if azure.event_grid.dead_letters:
            break
        known = len(azure.event_grid.deliveries)
        azure.world.clock.advance(
            timedelta(hours=12) if known > 9 else timedelta(seconds=SCHEDULE[known - 1])
        )
        settled(azure, known + 1)

    assert len(azure.event_grid.deliveries) == 11
    assert [certificate.newest] == [event.version for event in azure.event_grid.dead_letters]
    assert azure.event_grid.pending == 0


@pytest.mark.parametrize("status", [400, 401, 403, 413])
def test_some_answers_are_final(
    azure: Azure, webhook: Webhook, certificate: Certificate, status: int
) -> None:
    """Such an event is dead-lettered at once."""
    webhook.statuses = [status]
    azure.event_grid.subscribe(webhook.url)
    certificate.renew()

    settled(azure, 1)

    assert [certificate.newest] == [event.version for event in azure.event_grid.dead_letters]


def test_events_are_lost_and_doubled_on_demand(
    azure: Azure, webhook: Webhook, certificate: Certificate
) -> None:
    """The first is dropped, the second comes twice, the third once."""
    azure.event_grid.subscribe(webhook.url)
    azure.event_grid.drop_next()
    azure.event_grid.duplicate_next()
    certificate.renew()
    second, third = certificate.renew(), certificate.renew()

    settled(azure, 3)

    delivered = [body[0]["data"]["Version"] for body in webhook.events()]
    assert sorted([second.id, second.id, third.id]) == sorted(delivered)


def test_what_happened_before_anyone_subscribed_is_for_nobody(
    azure: Azure, webhook: Webhook, certificate: Certificate
) -> None:
    """As in Azure: a subscription has no past."""
    certificate.renew()
    assert eventually(lambda: azure.event_grid.pending == 0)
    azure.event_grid.subscribe(webhook.url)
    azure.event_grid.near_expiry(certificate)
    azure.event_grid.expired(certificate)

    settled(azure, 2)

    assert {
        SystemEventNames.KeyVaultCertificateNearExpiryEventName.value,
        SystemEventNames.KeyVaultCertificateExpiredEventName.value,
    } == {body[0]["eventType"] for body in webhook.events()}


@pytest.mark.parametrize(
    ("event", "body"), [({"id": "1"}, b'[{"id": "1"}]'), (b"\x00 not an event", b"\x00 not an event")]
)
def test_anything_can_be_posted(
    azure: Azure, webhook: Webhook, event: dict[str, str] | bytes, body: bytes
) -> None:
    """Once, now, with the status for an answer: for events that Event Grid itself would never send."""
    azure.event_grid.subscribe(webhook.url)
    webhook.statuses = [418]

    status = azure.event_grid.post(event)

    assert status == 418
    assert body == webhook.received[-1][1]
    assert azure.event_grid.deliveries == []
