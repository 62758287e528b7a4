"""Tells an Event Grid topic what others may want to chain on: CloudEvents, by the app's identity.

https://learn.microsoft.com/azure/event-grid/post-to-custom-topic. Needs the role EventGrid Data Sender on the
topic, whose input schema is CloudEvents 1.0. A notice is told once: what must not be lost is in Application
Insights.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from itertools import islice
from typing import Any

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError
from azure.core.messaging import CloudEvent
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.eventgrid.aio import EventGridPublisherClient

from rotation.clients.arm import say
from rotation.clients.http import CALL_OPTIONS, MALFORMED
from rotation.model import clean
from rotation.telemetry import Notice

PATIENCE = timedelta(seconds=3)
"""For all notices of a pass; with the pass itself it stays below what callers wait for."""

NOTICES_PER_REQUEST = 200
"""A request holds 1 MB, a notice is some 2 KB."""


class Notices:
    """Publishes to one topic.

    Args:
        credential: of the app's identity.
        transport: the shared one, which stays open when this is closed.
        url: `https://TOPIC.REGION-1.eventgrid.azure.net/api/events`.
        patience: for all notices of a pass.
    """

    def __init__(
        self,
        credential: AsyncTokenCredential,
        transport: AsyncHttpTransport[Any, Any],
        *,
        url: str,
        patience: timedelta = PATIENCE,
    ) -> None:
        self._url = url
        self._patience = patience.total_seconds()
        self._client = EventGridPublisherClient(url, credential, transport=transport, **CALL_OPTIONS)

    async def publish(self, notices: Sequence[Notice]) -> str | None:
        """Tell them, once; None where the topic has taken all, else why not."""
        waiting = iter(notices)
        try:
            async with asyncio.timeout(self._patience):
                while some := [_cloud_event(notice) for notice in islice(waiting, NOTICES_PER_REQUEST)]:
                    await self._client.send(some)
        except TimeoutError:
            return f"{self._url} did not answer within {self._patience:g} s"
        except (AzureError, OSError, *MALFORMED) as error:
            return f"{self._url}: {clean(say(error))}"
        return None

    async def close(self) -> None:
        """Close the client; the session is not its own."""
        await self._client.close()


def _cloud_event(notice: Notice) -> CloudEvent[Any]:
    return CloudEvent(
        id=notice.event_id,
        type=notice.type,
        source=notice.source,
        subject=notice.subject,
        time=notice.at,
        data=dict(notice.data),
    )
