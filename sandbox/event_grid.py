"""Event Grid: delivers what vaults announce to a webhook, at least once, on the documented retry schedule.

Due times go by the sandbox's clock, so advancing it by an hour makes an hour's retries due at once.
"""

import asyncio
import json
import uuid
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

import aiohttp

from sandbox.world import Certificate, EventType, KeyVaultEvent, World

T = TypeVar("T")

ORIGIN = "eventgrid.azure.net"

_POLL = 0.02
_ANSWER_WITHIN = 30.0
_SECONDS_UNTIL_RETRY = (10, 30, 60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600)
_TIME_TO_LIVE = timedelta(hours=24)
_MAX_ATTEMPTS = 30
_SUCCESS = range(200, 205)
_NEVER_RETRIED = (400, 401, 403, 413)


class EventSchema(StrEnum):
    """How an event is written down."""

    EVENT_GRID = "EventGridSchema"
    CLOUD_EVENTS = "CloudEventSchemaV1_0"


class SubscriptionRefusedError(Exception):
    """The webhook did not prove that it wants events."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to deliver; status None when nothing came back in time."""

    event_id: str
    attempt: int
    at: datetime
    status: int | None


@dataclass(slots=True)
class _Waiting:
    event: KeyVaultEvent
    since: datetime
    due: datetime
    attempt: int = 0


class EventGrid:
    """The delivering side of one subscription.

    Args:
        world: whose outbox it empties.
    """

    def __init__(self, world: World) -> None:
        self.deliveries: list[Delivery] = []
        self.dead_letters: list[KeyVaultEvent] = []
        self._world = world
        self._url: str | None = None
        self._schema = EventSchema.EVENT_GRID
        self._drop = 0
        self._duplicate = 0
        self._waiting: list[_Waiting] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._poller: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Begin to deliver, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ANSWER_WITHIN))
        self._poller = asyncio.create_task(self._poll())

    async def stop(self) -> None:
        """Give up everything that is under way."""
        tasks = [task for task in (self._poller, *self._tasks) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session:
            await self._session.close()

    def subscribe(self, url: str, schema: str = EventSchema.EVENT_GRID) -> None:
        """Deliver to a webhook from now on, after it passed the validation handshake."""
        self._schema = EventSchema(schema)
        handshake = self._validate_cloud_events if schema == EventSchema.CLOUD_EVENTS else self._validate
        self._call(handshake(url))
        self._url = url

    def post(self, event: Mapping[str, Any] | bytes) -> int | None:
        """Send one event, or any bytes at all, once and now; returns the status."""
        return self._call(self._send(event if isinstance(event, bytes) else self._wrap(event), 0))

    def near_expiry(self, certificate: Certificate) -> KeyVaultEvent:
        """Say that a certificate is about to expire."""
        return self._world.announce(EventType.NEAR_EXPIRY, certificate.newest)

    def expired(self, certificate: Certificate) -> KeyVaultEvent:
        """Say that a certificate has expired."""
        return self._world.announce(EventType.EXPIRED, certificate.newest)

    def drop_next(self, count: int = 1) -> None:
        """Lose the next events altogether."""
        self._drop += count

    def duplicate_next(self, count: int = 1) -> None:
        """Deliver the next events twice."""
        self._duplicate += count

    @property
    def pending(self) -> int:
        """How many deliveries are still to be made or under way."""
        return len(self._world.events) + len(self._waiting) + len(self._tasks)

    @property
    def idle(self) -> bool:
        """Whether everything that is due was delivered; only the clock can bring more."""
        now = self._world.clock.now()
        due = [waiting for waiting in list(self._waiting) if waiting.due <= now]
        return not (self._world.events or due or self._tasks)

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something on the loop and wait for it, from any other thread."""
        if self._loop is None:
            work.close()
            raise RuntimeError("Event Grid is not running: enter the Azure context first")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_ANSWER_WITHIN + 5)

    async def _poll(self) -> None:
        while True:
            self._take()
            now = self._world.clock.now()
            for waiting in [waiting for waiting in self._waiting if waiting.due <= now]:
                task = asyncio.create_task(self._deliver(waiting))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                self._waiting.remove(waiting)
            await asyncio.sleep(_POLL)

    def _take(self) -> None:
        while self._world.events:
            event = self._world.events[0]
            now = self._world.clock.now()
            copies = 0 if self._drop else 2 if self._duplicate else 1
            if self._url is None:
                copies = 0  # as in Azure: what happens before anyone subscribed is for nobody
            elif self._drop:
                self._drop -= 1
            elif self._duplicate:
                self._duplicate -= 1
            self._waiting += [_Waiting(event, now, now) for _ in range(copies)]
            self._world.events.popleft()

    async def _deliver(self, waiting: _Waiting) -> None:
        waiting.attempt += 1
        at = self._world.clock.now()
        body = self._wrap(payload(waiting.event, self._schema))
        status = await self._send(body, waiting.attempt - 1)
        self.deliveries.append(Delivery(waiting.event.id, waiting.attempt, at, status))
        if status in _SUCCESS:
            return
        delay = _SECONDS_UNTIL_RETRY[min(waiting.attempt, len(_SECONDS_UNTIL_RETRY)) - 1]
        waiting.due = self._world.clock.now() + timedelta(seconds=delay)
        too_late = waiting.due > waiting.since + _TIME_TO_LIVE
        if status in _NEVER_RETRIED or waiting.attempt >= _MAX_ATTEMPTS or too_late:
            self.dead_letters.append(waiting.event)
        else:
            self._waiting.append(waiting)

    def _wrap(self, event: Mapping[str, Any]) -> bytes:
        """CloudEvents go one by one, Event Grid's own schema in an array."""
        return json.dumps(event if self._schema == EventSchema.CLOUD_EVENTS else [event]).encode()

    async def _send(self, body: bytes, count: int) -> int | None:
        if self._url is None or self._session is None:
            raise RuntimeError("nobody has subscribed")
        kind = "cloudevents+json" if self._schema == EventSchema.CLOUD_EVENTS else "json"
        headers = {
            "Content-Type": f"application/{kind}; charset=utf-8",
            "aeg-event-type": "Notification",
            "aeg-subscription-name": "CERTIFICATES",
            "aeg-delivery-count": str(count),
            "aeg-data-version": "1",
            "aeg-metadata-version": "1",
        }
        try:
            async with self._session.post(self._url, data=body, headers=headers) as response:
                await response.read()
                return response.status
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def _validate(self, url: str) -> None:
        assert self._session is not None
        code = str(uuid.uuid4()).upper()
        event = {
            "id": str(uuid.uuid4()),
            "topic": f"/subscriptions/{self._world.subscription_id}",
            "subject": "",
            "data": {"validationCode": code, "validationUrl": f"https://{ORIGIN}/validate?code={code}"},
            "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
            "eventTime": _stamp(self._world.clock.now()),
            "metadataVersion": "1",
            "dataVersion": "2",
        }
        headers = {"aeg-event-type": "SubscriptionValidation", "aeg-subscription-name": "CERTIFICATES"}
        async with self._session.post(url, json=[event], headers=headers) as response:
            answer = await response.text()
        try:
            proven = response.status == 200 and json.loads(answer)["validationResponse"] == code
        except (ValueError, KeyError, TypeError):
            proven = False
        if not proven:
            raise SubscriptionRefusedError(f"{response.status} from {url}, without the code: {answer[:200]}")

    async def _validate_cloud_events(self, url: str) -> None:
        assert self._session is not None
        async with self._session.options(url, headers={"WebHook-Request-Origin": ORIGIN}) as response:
            await response.read()
        allowed = response.headers.get("WebHook-Allowed-Origin")
        if response.status != 200 or allowed not in (ORIGIN, "*"):
            raise SubscriptionRefusedError(f"{response.status} from {url}, which allows the origin {allowed}")


def payload(event: KeyVaultEvent, schema: EventSchema) -> dict[str, Any]:
    """An event as it travels; the keys of data are written as on the wire, not as in the old swagger."""
    version = event.version
    certificate = version.certificate
    about = {
        "id": event.id,
        "subject": certificate.name,
        "data": {
            "Id": f"https://{certificate.vault.host}/certificates/{certificate.name}/{version.id}",
            "VaultName": certificate.vault.name,
            "ObjectType": "Certificate",
            "ObjectName": certificate.name,
            "Version": version.id,
            "NBF": int(version.not_before.timestamp()),
            "EXP": int(version.not_after.timestamp()),
        },
    }
    at, source = _stamp(event.at), certificate.vault.id
    if schema == EventSchema.CLOUD_EVENTS:
        return about | {"source": source, "type": event.type.value, "time": at, "specversion": "1.0"}
    envelope = {"topic": source, "eventType": event.type.value, "eventTime": at}
    return about | envelope | {"dataVersion": "1", "metadataVersion": "1"}


def _stamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}0Z"
