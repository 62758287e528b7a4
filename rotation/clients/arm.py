"""Azure Resource Manager, through azure-mgmt-apimanagement 6.0.0b1: the first with refreshHostnames."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any
from urllib.parse import urljoin, urlsplit

from azure.core import MatchConditions
from azure.core.async_paging import AsyncItemPaged
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ResourceNotFoundError,
    ServiceRequestError,
)
from azure.core.pipeline import PipelineResponse
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.core.rest import HttpRequest, HttpResponse
from azure.mgmt.apimanagement.aio import ApiManagementClient

from rotation.clients.http import CALL_OPTIONS, CALL_SECONDS, MALFORMED, OnlyHost
from rotation.model import SyncAnswer, SyncOutcome, clean
from rotation.named_values import Kept

LISTS_AT_ONCE = 8
MOST_PAGES = 200

_REFUSALS: Mapping[int, SyncOutcome] = {
    401: SyncOutcome.FORBIDDEN,
    403: SyncOutcome.FORBIDDEN,
    404: SyncOutcome.NOT_FOUND,
    405: SyncOutcome.NOT_SUPPORTED,
    409: SyncOutcome.BUSY,
    429: SyncOutcome.THROTTLED,
}
_NOT_OFFERED = {
    "NoRegisteredProviderFound",
    "InvalidResourceType",
    "InvalidApiVersionParameter",
    "MethodNotAllowed",
}

Bodies = Sequence[Mapping[str, Any]]

Got = tuple[Mapping[str, Any] | None, datetime | None]
"""A resource as a JSON body, None where there is none, with ARM's clock."""


_THUMBPRINT = re.compile(r"[0-9A-Fa-f]{40}")


class Arm:
    """Lists and reads services and asks for syncs; one client per subscription, opened when first needed."""

    def __init__(  # noqa: PLR0913 - what a client of ARM is made of
        self,
        credential: AsyncTokenCredential,
        transport: AsyncHttpTransport[Any, Any],
        *,
        url: str,
        scope: str,
        api_version: str,
        subscriptions: tuple[str, ...],
    ) -> None:
        self._credential = credential
        self._transport = transport
        self._url = url
        self._scope = scope
        self._api_version = api_version
        self._subscriptions = subscriptions
        self._clients: dict[str, ApiManagementClient] = {}

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """The subscriptions in scope, in lower case."""
        return self._subscriptions

    async def list_api_management_services(
        self, subscriptions: Iterable[str] | None = None
    ) -> tuple[list[Mapping[str, Any]], list[str], datetime | None]:
        """Services as JSON bodies, what could not be listed, and the newest of ARM's clocks.

        Of the subscriptions given, or of all in scope.
        """
        turns = asyncio.Semaphore(LISTS_AT_ONCE)
        bodies: list[Mapping[str, Any]] = []
        problems: list[str] = []
        clocks: list[datetime] = []

        async def one(subscription: str) -> None:
            async with turns:
                try:
                    bodies.extend(await self._list(subscription, clocks))
                except (AzureError, TimeoutError, *MALFORMED) as error:
                    problems.append(
                        f"The services of subscription {subscription} could not be listed"
                        f" ({clean(say(error))}). Check that the app's identity has the Reader role there."
                    )

        await asyncio.gather(*map(one, self._subscriptions if subscriptions is None else subscriptions))
        return bodies, problems, max(clocks, default=None)

    async def get_api_management_service(self, service_id: str) -> Got | str:
        """A service, or why it cannot be read."""
        subscription, *where = parts(service_id)
        return await get(partial(self.client(subscription).api_management_service.get, *where))

    async def refresh_hostnames(self, service_id: str) -> SyncAnswer:
        """Ask for a sync of all hostnames of a service."""
        subscription, *where = parts(service_id)
        begin = self.client(subscription).api_management_service.begin_refresh_hostnames
        answer, _ = await self.ask(partial(begin, *where, polling=False))
        return answer

    async def ask(self, send: Callable[..., Awaitable[object]]) -> tuple[SyncAnswer, HttpResponse | None]:
        """Send a request for a sync, and say what its answer means; also the answer, where it is no refusal.

        Never repeated here: the SDK would repeat a POST whose answer has Retry-After.
        """
        answers: list[HttpResponse] = []

        def keep(response: PipelineResponse[Any, Any]) -> None:
            answers.append(response.http_response)

        try:
            await send(retry_total=0, raw_response_hook=keep)
        except ServiceRequestError as error:
            detail = f"the request may not have been sent ({clean(say(error))})"
            return SyncAnswer(SyncOutcome.UNKNOWN, detail), None
        except (AzureError, *MALFORMED) as error:
            if not answers or answers[-1].status_code < 400:
                detail = f"no readable answer ({clean(say(error))})"
                accepted = answers and answers[-1].status_code in {200, 202}
                return SyncAnswer(SyncOutcome.ACCEPTED if accepted else SyncOutcome.UNKNOWN, detail), None
            return refusal(error, answers[-1].status_code, answers[-1].headers), None
        location = self._own(answers[-1].headers.get("Location"))
        detail = f"HTTP {answers[-1].status_code}"
        return SyncAnswer(SyncOutcome.ACCEPTED, detail, location), answers[-1]

    async def operation_error(self, url: str) -> str | None:
        """What an operation failed with; None while it runs, where it succeeded or cannot be read."""
        client = self.client(self._subscriptions[0])
        try:
            async with (
                asyncio.timeout(CALL_SECONDS),
                await client.send_request(HttpRequest("GET", url)) as answer,
            ):
                if answer.status_code != 400:
                    return None
                await answer.read()
                error = answer.json()["error"]
                return clean(f"{error['code']}: {error['message']}", 512)
        except (AzureError, TimeoutError, *MALFORMED):
            return None

    async def keep_named_value(self, service_id: str, name: str, value: str) -> Kept:
        """Make a named value equal to this thumbprint, where it is another. Never makes one, nor waits.

        What holds anything but a thumbprint is left alone, and not told: the wrong one may have been named.

        NamedValue_Get and, with its ETag, NamedValue_Update; needs namedValues/write.
        """
        subscription, group, service = parts(service_id)
        named_values = self.client(subscription).named_value
        etags: list[str] = []
        try:
            async with asyncio.timeout(CALL_SECONDS):
                found = await named_values.get(
                    group,
                    service,
                    name,
                    raw_response_hook=lambda r: etags.append(r.http_response.headers["ETag"]),
                )
                if found.properties is None or found.properties.secret or found.properties.key_vault:
                    return Kept(
                        written=False, problem="it is a secret or from Key Vault; make it a plain one"
                    )
                before = found.properties.value or ""
                if not _THUMBPRINT.fullmatch(before):
                    return Kept(written=False, problem="it holds no thumbprint; put one in first")
                if before == value:
                    return Kept(written=False, before=before)
                await named_values.begin_update(
                    group,
                    service,
                    name,
                    {"properties": {"value": value}},
                    etag=etags[-1],
                    match_condition=MatchConditions.IfNotModified,
                    polling=False,
                    retry_total=0,
                )
        except ResourceNotFoundError:
            return Kept(written=False, problem="there is none of that name; make one first")
        except (AzureError, TimeoutError, *MALFORMED) as error:
            return Kept(written=False, problem=clean(say(error)))
        return Kept(written=True, before=before)

    async def close(self) -> None:
        """Close every client; the session is not theirs."""
        for client in self._clients.values():
            await client.close()

    def client(self, subscription: str) -> ApiManagementClient:
        """The client of a subscription."""
        if subscription not in self._clients:
            self._clients[subscription] = ApiManagementClient(
                self._credential,
                subscription,
                self._url,
                credential_scopes=[self._scope],
                api_version=self._api_version,
                transport=self._transport,
                per_call_policies=[OnlyHost(self._url)],
                **CALL_OPTIONS,
            )
        return self._clients[subscription]

    async def _list(self, subscription: str, clocks: list[datetime]) -> list[Mapping[str, Any]]:
        bodies, clock = await pages(self.client(subscription).api_management_service.list)
        if clock:
            clocks.append(clock)
        return bodies

    def _own(self, location: str | None) -> str | None:
        """A Location header, if it is ARM's own."""
        if not location:
            return None
        try:
            url = urljoin(self._url, location)
            return url if urlsplit(url)[:2] == urlsplit(self._url)[:2] else None
        except ValueError:
            return None


async def get(send: Callable[..., Awaitable[object]]) -> Got | str:
    """A resource as ARM sent it, or why it cannot be read."""
    answers: list[Got] = []

    def keep(response: PipelineResponse[Any, Any]) -> None:
        answer = response.http_response
        clock = http_date(answer.headers.get("Date"))
        answers.append((answer.json() if answer.status_code == 200 else None, clock))

    try:
        async with asyncio.timeout(CALL_SECONDS):
            await send(raw_response_hook=keep)
    except ResourceNotFoundError:
        return None, answers[-1][1]
    except (AzureError, TimeoutError, *MALFORMED) as error:
        return clean(say(error))
    body, clock = answers[-1]
    return (body, clock) if isinstance(body, Mapping) else "the answer is no resource"


async def pages(begin: Callable[..., AsyncItemPaged[Any]]) -> tuple[list[Mapping[str, Any]], datetime | None]:
    """A list as ARM sent it, with ARM's clock: to the SDK's models a page without a list is an empty one.

    Raises:
        AzureError, TimeoutError, MALFORMED: it could not be read to its end.
    """
    bodies: list[Mapping[str, Any]] = []
    clocks: list[datetime] = []

    def keep(response: PipelineResponse[Any, Any]) -> None:
        if response.http_response.status_code != 200:
            return
        if clock := http_date(response.http_response.headers.get("Date")):
            clocks.append(clock)
        page = response.http_response.json()["value"]
        if not isinstance(page, list):
            raise TypeError("the answer has no list")
        bodies.extend(page)

    listing = begin(raw_response_hook=keep).by_page()
    for _ in range(MOST_PAGES + 1):
        async with asyncio.timeout(CALL_SECONDS):
            if await anext(listing, None) is None:
                return bodies, max(clocks, default=None)
    raise ValueError(f"more than {MOST_PAGES} pages")


async def whole_list(begin: Callable[..., AsyncItemPaged[Any]]) -> Bodies | str:
    """A list as ARM sent it, or why it could not be read to its end."""
    try:
        bodies, _ = await pages(begin)
    except (AzureError, TimeoutError, *MALFORMED) as error:
        return clean(say(error))
    odd = any(not isinstance(body, Mapping) for body in bodies)
    return "the list has something else than objects" if odd else bodies


def parts(service_id: str) -> tuple[str, str, str]:
    """Subscription, resource group and name of a resource."""
    _, _, subscription, _, group, *_, name = service_id.split("/")
    return subscription, group, name


def say(error: Exception) -> str:
    """The first line of an SDK error: the rest repeats the answer."""
    said = str(getattr(error, "message", None) or error).strip()
    return said.partition("\n")[0] or type(error).__name__


def http_date(text: str | None) -> datetime | None:
    """An HTTP date as aware UTC, None where it is none."""
    try:
        moment = parsedate_to_datetime(text or "")
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """The wait that an answer asks for, in seconds or as a date; None where it is neither."""
    text = headers.get("Retry-After") or ""
    if text.isdecimal() and len(text) < 10:
        return timedelta(seconds=int(text))
    until, served_at = http_date(text), http_date(headers.get("Date"))
    return until - served_at if until and served_at else None


def refusal(error: Exception, status: int, headers: Mapping[str, str]) -> SyncAnswer:
    """What an answer other than a success means for a sync."""
    described = error.error if isinstance(error, HttpResponseError) else None
    code = str(described.code or "") if described is not None else ""
    outcome = _REFUSALS.get(status, SyncOutcome.UNKNOWN)
    if code in _NOT_OFFERED:
        outcome = SyncOutcome.NOT_SUPPORTED
    detail = f"HTTP {status} {clean(code)}: {clean(say(error))}"
    return SyncAnswer(outcome, detail, retry_after=retry_after(headers))
