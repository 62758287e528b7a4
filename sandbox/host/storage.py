"""A queue of a storage emulator, such as Azurite: the five requests that the host needs.

https://learn.microsoft.com/rest/api/storageservices/queue-service-rest-api, signed with the account's key as
https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key says; only emulators are asked.
Messages are encoded in Base64, as the Storage extension does it.
"""

import base64
import hashlib
import hmac
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import urlsplit

import aiohttp

from sandbox.host.queues import INVISIBLE, Message

_VERSION = "2021-12-02"
_MISSING = 404


class StorageQueue:
    """Implements `queues.Queue`.

    Args:
        connection_string: with AccountName, AccountKey and QueueEndpoint.
        name: the queue; it is made where there is none.
    """

    def __init__(self, connection_string: str, name: str) -> None:
        fields = dict(part.partition("=")[::2] for part in connection_string.split(";") if part)
        self._account = fields["AccountName"]
        self._key = base64.b64decode(fields["AccountKey"])
        self._url = f"{fields['QueueEndpoint'].rstrip('/')}/{name}"

    async def put(self, text: str) -> None:
        """Add a message, and before it the queue where there is none."""
        encoded = base64.b64encode(text.encode()).decode()
        body = f"<QueueMessage><MessageText>{encoded}</MessageText></QueueMessage>"
        status, answer = await self._ask("POST", "/messages", body=body)
        if status == _MISSING:
            await self._ask("PUT", "")
            status, answer = await self._ask("POST", "/messages", body=body)
        _check(status, answer)

    async def receive(self, most: int) -> list[Message]:
        """Take messages that are visible, and hide them for a while."""
        hidden = str(int(INVISIBLE.total_seconds()))
        return await self._get({"numofmessages": str(most), "visibilitytimeout": hidden})

    async def peek(self) -> list[Message]:
        """The first messages that are visible, without taking them."""
        return await self._get({"peekonly": "true", "numofmessages": "32"})

    async def release(self, message: Message) -> None:
        """Make a message visible again, now."""
        place, query = (
            f"/messages/{message.id}",
            {"popreceipt": message.pop_receipt, "visibilitytimeout": "0"},
        )
        _check(*await self._ask("PUT", place, query))

    async def delete(self, message: Message) -> None:
        """Remove a message."""
        status, answer = await self._ask(
            "DELETE", f"/messages/{message.id}", {"popreceipt": message.pop_receipt}
        )
        if status != _MISSING:
            _check(status, answer)

    async def _get(self, query: Mapping[str, str]) -> list[Message]:
        status, answer = await self._ask("GET", "/messages", query)
        if status == _MISSING:
            return []
        _check(status, answer)
        return [_message(element) for element in ET.fromstring(answer).iter("QueueMessage")]  # noqa: S314 - an emulator on this machine

    async def _ask(
        self, method: str, place: str, query: Mapping[str, str] | None = None, body: str = ""
    ) -> tuple[int, str]:
        headers = {"x-ms-date": format_datetime(datetime.now(UTC), usegmt=True), "x-ms-version": _VERSION}
        content_type = "application/xml" if body else ""
        named = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
        resource = f"/{self._account}{urlsplit(self._url).path}{place}"
        signed = hmac.digest(
            self._key, f"{method}\n\n{content_type}\n\n{named}{resource}".encode(), hashlib.sha256
        )
        headers["Authorization"] = f"SharedKeyLite {self._account}:{base64.b64encode(signed).decode()}"
        if content_type:
            headers["Content-Type"] = content_type
        timeout = aiohttp.ClientTimeout(total=10)
        skip = ["Content-Type"] if not content_type else []
        async with (
            aiohttp.ClientSession(timeout=timeout, skip_auto_headers=skip) as session,
            session.request(
                method, self._url + place, params=query, headers=headers, data=body or None
            ) as answer,
        ):
            return answer.status, await answer.text()


def _check(status: int, answer: str) -> None:
    if status >= 300:
        raise OSError(f"the emulator answered {status}: {answer[:300]}")


def _message(element: ET.Element) -> Message:
    def text(name: str) -> str:
        return element.findtext(name) or ""

    inserted = parsedate_to_datetime(text("InsertionTime"))
    visible = text("TimeNextVisible")
    return Message(
        id=text("MessageId"),
        text=base64.b64decode(text("MessageText")).decode(),
        dequeue_count=int(text("DequeueCount") or 0),
        pop_receipt=text("PopReceipt"),
        inserted=inserted,
        expires=parsedate_to_datetime(text("ExpirationTime")),
        visible=parsedate_to_datetime(visible) if visible else inserted,
    )
