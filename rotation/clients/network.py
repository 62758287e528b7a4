"""Microsoft.Network and tags, by plain requests to Azure Resource Manager.

azure-mgmt-network would give the same four calls and some forty megabytes with them.
https://learn.microsoft.com/rest/api/application-gateway/application-gateways,
https://learn.microsoft.com/rest/api/resources/tags/update-at-scope
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urljoin

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, HttpResponseError, ServiceRequestError
from azure.core.pipeline.policies import AsyncRetryPolicy, RequestIdPolicy, UserAgentPolicy
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.core.rest import AsyncHttpResponse, HttpRequest
from azure.mgmt.core import AsyncARMPipelineClient
from azure.mgmt.core.policies import AsyncARMChallengeAuthenticationPolicy

from rotation.clients.arm import MOST_PAGES, http_date, refusal, retry_after, say
from rotation.clients.http import CALL_OPTIONS, CALL_SECONDS, MALFORMED, OnlyHost
from rotation.model import SyncAnswer, SyncOutcome, clean

TAGS_VERSION = "2021-04-01"

HEALTH_SECONDS = 45
"""Backend health takes half a minute where a backend does not answer its probe."""

POLL_SECONDS = 5

Body = Mapping[str, Any]


class Network:
    """Reads what it is asked for and sets one tag; everything that fails is a sentence in its place."""

    def __init__(
        self,
        credential: AsyncTokenCredential,
        transport: AsyncHttpTransport[Any, Any],
        *,
        url: str,
        scope: str,
        api_version: str,
    ) -> None:
        self._url = url
        self._version = api_version
        policies = [
            RequestIdPolicy(),
            UserAgentPolicy(sdk_moniker="apim-cert-rotation"),
            OnlyHost(url),
            AsyncRetryPolicy(**CALL_OPTIONS),
            AsyncARMChallengeAuthenticationPolicy(credential, scope),
        ]
        self._client: AsyncARMPipelineClient[HttpRequest, AsyncHttpResponse] = AsyncARMPipelineClient(
            base_url=url, policies=policies, transport=transport
        )

    async def application_gateways(self, subscription: str) -> list[Body] | str:
        """ApplicationGateways_ListAll: those of a subscription, or why they cannot be listed."""
        found: list[Body] = []
        url = f"/subscriptions/{subscription}/providers/Microsoft.Network/applicationGateways"
        where = f"{url}?api-version={self._version}"
        for _ in range(MOST_PAGES):
            answer = await self._get(where)
            if isinstance(answer, str):
                return answer
            page, following = answer[0].get("value"), answer[0].get("nextLink")
            if not isinstance(page, list) or not all(isinstance(each, Mapping) for each in page):
                return "the answer has no list of gateways"
            found += page
            if not following:
                return found
            where = str(following)
        return f"more than {MOST_PAGES} pages"

    async def get(self, resource_id: str) -> tuple[Body, datetime | None] | str:
        """A resource of Microsoft.Network with ARM's clock, or why it cannot be read."""
        return await self._get(f"{resource_id}?api-version={self._version}")

    async def set_tag(self, resource_id: str, name: str, value: str) -> SyncAnswer:
        """Tags_UpdateAtScope with Merge: nothing but this tag changes. Never repeated."""
        request = HttpRequest(
            "PATCH",
            urljoin(self._url, f"{resource_id}/providers/Microsoft.Resources/tags/default"),
            params={"api-version": TAGS_VERSION},
            json={"operation": "Merge", "properties": {"tags": {name: value}}},
        )
        try:
            async with asyncio.timeout(CALL_SECONDS):
                answer = await self._client.send_request(request, retry_total=0)
        except ServiceRequestError as error:
            detail = f"the request may not have been sent ({clean(say(error))})"
            return SyncAnswer(SyncOutcome.UNKNOWN, detail)
        except (AzureError, TimeoutError, *MALFORMED) as error:
            return SyncAnswer(SyncOutcome.UNKNOWN, f"no readable answer ({clean(say(error))})")
        if answer.status_code in {200, 202}:
            return SyncAnswer(SyncOutcome.ACCEPTED, f"HTTP {answer.status_code}")
        return refusal(HttpResponseError(response=answer), answer.status_code, answer.headers)

    async def backend_health(self, gateway_id: str) -> Body | str:
        """ApplicationGateways_BackendHealth, or why it is not known: an operation, waited for.

        The one operation that is: it changes nothing, and ends in seconds.
        """
        url = urljoin(self._url, f"{gateway_id}/backendhealth")
        request = HttpRequest("POST", url, params={"api-version": self._version})
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                answer = await self._client.send_request(request, retry_total=0)
                while answer.status_code == 202:
                    wait = retry_after(answer.headers)
                    await asyncio.sleep(
                        POLL_SECONDS if wait is None else min(wait.total_seconds(), POLL_SECONDS)
                    )
                    where = urljoin(self._url, answer.headers.get("Location") or "")
                    answer = await self._client.send_request(HttpRequest("GET", where))
                return _body(answer)
        except (AzureError, TimeoutError, *MALFORMED) as error:
            return clean(say(error)) or "no answer in time"

    async def close(self) -> None:
        """Close the client; the session is not its own."""
        await self._client.close()

    async def _get(self, url: str) -> tuple[Body, datetime | None] | str:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                answer = await self._client.send_request(HttpRequest("GET", urljoin(self._url, url)))
                return _body(answer), http_date(answer.headers.get("Date"))
        except (AzureError, TimeoutError, *MALFORMED) as error:
            return clean(say(error))


def _body(answer: AsyncHttpResponse) -> Body:
    """What was answered.

    Raises:
        HttpResponseError: it was an error.
        TypeError: it was no object.
    """
    if answer.status_code != 200:
        raise HttpResponseError(response=answer)
    body = answer.json()
    if not isinstance(body, Mapping):
        raise TypeError("the answer is no object")
    return body
