"""Azure Resource Graph: every service of all subscriptions in one query, a thousand to a page.

Its answers lag behind ARM by seconds or minutes, may hide fields, and leave out without a word the
subscriptions that the identity may not read: good for finding services, never for acting on one.

POST /providers/Microsoft.ResourceGraph/resources: https://learn.microsoft.com/rest/api/azureresourcegraph.
Quota: https://learn.microsoft.com/azure/governance/resource-graph/concepts/guidance-for-throttled-requests
"""

import asyncio
import logging
import random
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, HttpResponseError
from azure.core.pipeline import PipelineResponse
from azure.core.pipeline.policies import ContentDecodePolicy
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.mgmt.resourcegraph.aio import ResourceGraphClient
from azure.mgmt.resourcegraph.models import QueryRequest, QueryRequestOptions

from rotation.clients.arm import http_date, retry_after, say
from rotation.clients.http import CALL_OPTIONS, MALFORMED, OnlyHost
from rotation.model import Census, CertificateId, Shard, clean

ROWS_A_PAGE = 1000
SUBSCRIPTIONS_A_QUERY = 1000
MOST_PAGES = 1000

THROTTLED = 429
SHARD_SECONDS = 60
"""The same for a worker of many, who all draw on one quota; a list for each of them would be worse."""

PAGE_SECONDS = 6
"""For a page with the wait for quota, which is given anew every five seconds; a list takes its place."""


def _projected(names: Iterable[str]) -> str:
    return ", ".join(f"{name} = properties.{name}" for name in names)


_PROPERTIES = (
    "provisioningState",
    "virtualNetworkType",
    "gatewayUrl",
    "gatewayRegionalUrl",
    "disableGateway",
    "publicIPAddresses",
    "privateIPAddresses",
    "additionalLocations",
    "hostnameConfigurations",
)
_ALL_SERVICES = """
resources
| where type =~ 'microsoft.apimanagement/service'
"""
_COUNTED = f"""{_ALL_SERVICES}
| summarize services = count() by subscriptionId
| project id = subscriptionId, services
| order by id asc
"""
_SHOWN = f"""
| project id, location, tags, sku, {_projected(_PROPERTIES)}
| order by id asc
"""

_GATEWAY_PROPERTIES = (
    "provisioningState",
    "operationalState",
    "sku",
    "autoscaleConfiguration",
    "sslCertificates",
    "httpListeners",
    "frontendIPConfigurations",
    "frontendPorts",
    "backendAddressPools",
    "backendHttpSettingsCollection",
    "requestRoutingRules",
    "urlPathMaps",
    "trustedRootCertificates",
)
_APPLICATION_GATEWAYS = f"""
resources
| where type =~ 'microsoft.network/applicationgateways'
| project id, location, tags, identity, {_projected(_GATEWAY_PROPERTIES)}
| order by id asc
"""
_GATEWAYS_A_PAGE = 50
"""One with a hundred listeners is a hundred kilobytes."""

_PUBLIC_ADDRESSES = """
resources
| where type =~ 'microsoft.network/publicipaddresses'
| project id, address = properties.ipAddress
| order by id asc
"""
_FRONT_DOOR_ORIGINS = """
resources
| where type =~ 'microsoft.cdn/profiles/origingroups/origins'
| project id, host = properties.hostName, header = properties.originHostHeader,
    enabled = properties.enabledState
| order by id asc
"""

_TIERS = """
resources
| where type =~ 'microsoft.apimanagement/service'
| project id, location, tags, sku
| order by id asc
"""

ROTATION_FAILED = "8962964c-a6d6-4c3d-918a-2777f7fbdca7"
"""The recommendationTypeId of HostnameCertRotationFail, which Advisor looks for every eight hours."""

KEY_VAULT_ISSUE = "3467464b-955a-4caf-95e5-547344ba0281"
"""The recommendationTypeId of AppGwAdvisorRecommendationForKeyVaultErrors."""

_RECOMMENDED = """
advisorresources
| where type =~ 'microsoft.advisor/recommendations'
| where tostring(properties.recommendationTypeId) =~ '{}'
| project id, service = tostring(properties.resourceMetadata.resourceId),
    problem = tostring(properties.shortDescription.problem)
| order by id asc
"""
_RESETS_AFTER = re.compile(r"00:00:(\d\d)")


CENSUS_KEPT = 60
"""Seconds: an instance that works on many shards counts once."""

EMPTY_BY_CHANCE = 20
"""Where this many services may be expected of a shard, none at all is no chance: e^-20."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a query, and ARM's clock when the last page was sent."""

    rows: tuple[Mapping[str, Any], ...]
    as_of: datetime | None


class ResourceGraph:
    """Queries over the subscriptions in scope; a query that fails gives the reason in its place."""

    def __init__(
        self,
        credential: AsyncTokenCredential,
        transport: AsyncHttpTransport[Any, Any],
        *,
        url: str,
        scope: str,
        subscriptions: tuple[str, ...],
    ) -> None:
        self._client = ResourceGraphClient(
            credential,
            url,
            credential_scopes=[scope],
            transport=transport,
            per_call_policies=[OnlyHost(url)],
            **CALL_OPTIONS,
        )
        self._subscriptions = subscriptions
        self._quota_at = 0.0
        self._census: Census | None = None
        self._counted_at = 0.0
        self._under_way: dict[str, asyncio.Task[Rows | str]] = {}

    async def api_management_services(self) -> Rows | str:
        """Services in the shape of ARM's own bodies, with the properties that discovery needs."""
        return await self._services("")

    async def services_of(self, shard: Shard, census: Census) -> Rows | str:
        """The services of a shard, and perhaps of others.

        Whether Resource Graph has hash_sha256, a function of Kusto, is not documented. Where it refuses the
        query, or shows what was not asked for, it is asked for everything.
        """
        buckets = ", ".join(f"'{bucket:02x}'" for bucket in shard.buckets)
        found = await self._services(
            f"| where substring(hash_sha256(tolower(id)), 0, 2) in ({buckets})\n", SHARD_SECONDS
        )
        if isinstance(found, str):
            why = found
        elif any(not shard.holds(row["id"].lower()) for row in found.rows):
            why = "it shows other services"
        elif not found.rows and census.services > EMPTY_BY_CHANCE * shard.of:
            why = f"it shows none of {census.services:,} services"
        else:
            return found
        _log.warning("Resource Graph does not select %s, so everything is listed: %s", shard, why)
        return await self.api_management_services()

    async def services_using(self, certificates: Collection[CertificateId]) -> Rows | str:
        """The services whose hostnames refer to one of these certificates, and perhaps others."""
        secrets = (certificate.secret_url.removeprefix("https://") for certificate in certificates)
        wanted = " or ".join(f"tostring(properties.hostnameConfigurations) contains '{s}'" for s in secrets)
        return await self._services(f"| where {wanted}\n")

    async def census(self, *, fresh: bool = False) -> Census | str:
        """How many services each subscription has; the last answer for a minute, unless it must be fresh."""
        clock = asyncio.get_running_loop().time
        if self._census and not fresh and clock() - self._counted_at < CENSUS_KEPT:
            return self._census
        found = await self._query(_COUNTED, patience=SHARD_SECONDS / 2)
        if isinstance(found, str):
            return found
        try:
            counts = {row["id"].lower(): int(row["services"]) for row in found.rows}
        except MALFORMED as error:
            return clean(say(error))
        self._census, self._counted_at = Census(counts, found.as_of), clock()
        return self._census

    async def tiers(self) -> Rows | str:
        """Services with their tier and tags only: `sku` and `tags` as ARM has them."""
        return await self._query(_TIERS)

    async def failed_rotations(self) -> Mapping[str, str] | str:
        """What Azure Advisor recommends where a hostname's certificate was not rotated, by service id."""
        return await self._recommended(ROTATION_FAILED)

    async def application_gateways(self) -> Rows | str:
        """Application Gateways in the shape of ARM's own bodies, as far as discovery needs them."""
        found = await self._query(_APPLICATION_GATEWAYS, _GATEWAYS_A_PAGE)
        if isinstance(found, str):
            return found
        return Rows(tuple(_body(row, _GATEWAY_PROPERTIES) for row in found.rows), found.as_of)

    async def vault_issues(self) -> Mapping[str, str] | str:
        """What Azure Advisor recommends where an Application Gateway cannot read Key Vault, by its id."""
        return await self._recommended(KEY_VAULT_ISSUE)

    async def public_addresses(self) -> Mapping[str, str] | str:
        """The addresses of public IP resources, by id in lower case."""
        found = await self._query(_PUBLIC_ADDRESSES)
        if isinstance(found, str):
            return found
        return {row["id"].lower(): clean(row["address"]) for row in found.rows if row.get("address")}

    async def front_door_origins(self) -> Rows | str:
        """Origins of Front Door profiles: `host`, `header` and `enabled` as ARM has them."""
        return await self._query(_FRONT_DOOR_ORIGINS)

    async def _recommended(self, recommendation: str) -> Mapping[str, str] | str:
        found = await self._query(_RECOMMENDED.format(recommendation))
        if isinstance(found, str):
            return found
        said = ((row.get("service"), row.get("problem")) for row in found.rows)
        return {str(service).lower(): clean(problem) for service, problem in said if service and problem}

    async def close(self) -> None:
        """Close the client; the session is not its own."""
        await self._client.close()

    async def _services(self, where: str, patience: float = PAGE_SECONDS) -> Rows | str:
        found = await self._query(f"{_ALL_SERVICES}{where}{_SHOWN}", patience=patience)
        if isinstance(found, str):
            return found
        return Rows(tuple(_body(row, _PROPERTIES) for row in found.rows), found.as_of)

    async def _query(
        self, query: str, rows_a_page: int = ROWS_A_PAGE, patience: float = PAGE_SECONDS
    ) -> Rows | str:
        """The rows, also for whoever asks the same meanwhile: a burst of renewals is more than the quota."""
        asked = self._under_way.get(query)
        if asked is None:
            asked = asyncio.create_task(self._ask(query, rows_a_page, patience))
            self._under_way[query] = asked
            asked.add_done_callback(lambda _: self._under_way.pop(query))
        return await asyncio.shield(asked)

    async def _ask(self, query: str, rows_a_page: int, patience: float) -> Rows | str:
        rows: list[Mapping[str, Any]] = []
        as_of = None
        try:
            for start in range(0, len(self._subscriptions), SUBSCRIPTIONS_A_QUERY):
                scope = self._subscriptions[start : start + SUBSCRIPTIONS_A_QUERY]
                as_of = await self._pages(query, scope, rows_a_page, rows, patience)
        except (AzureError, TimeoutError, *MALFORMED) as error:
            return clean(say(error))
        return Rows(tuple(rows), as_of)

    async def _pages(
        self,
        query: str,
        scope: tuple[str, ...],
        top: int,
        rows: list[Mapping[str, Any]],
        patience: float,
    ) -> datetime | None:
        """Add the rows of all pages; a part of an answer is none."""
        token = None
        for _ in range(MOST_PAGES):
            page, as_of = await self._in_turn(query, scope, top, token, patience)
            data, token = page["data"], page.get("$skipToken")
            if not isinstance(data, list) or not all(isinstance(row["id"], str) for row in data):
                raise TypeError("the answer has no list of rows with an id")
            rows.extend(data)
            if not token:
                if page["resultTruncated"] != "false":
                    raise ValueError("the answer ends before all rows were sent")
                return as_of
        raise ValueError(f"more than {MOST_PAGES} pages")

    async def _in_turn(
        self, query: str, scope: tuple[str, ...], top: int, token: str | None, patience: float
    ) -> tuple[Mapping[str, Any], datetime | None]:
        """A page as soon as the quota allows; with patience more than once, because others draw on it too."""
        clock = asyncio.get_running_loop().time
        until = clock() + patience
        while True:
            try:
                async with asyncio.timeout(PAGE_SECONDS):
                    return await self._page(query, scope, top, token)
            except (HttpResponseError, TimeoutError) as error:
                throttled = not isinstance(error, HttpResponseError) or error.status_code == THROTTLED
                if not throttled or clock() + PAGE_SECONDS > until:
                    raise
            await asyncio.sleep(random.uniform(1, PAGE_SECONDS))  # noqa: S311 - so that not all come at once

    async def _page(
        self, query: str, scope: tuple[str, ...], top: int, token: str | None
    ) -> tuple[Mapping[str, Any], datetime | None]:
        """One page as it was sent, and its Date."""
        clock = asyncio.get_running_loop().time
        wait = self._quota_at - clock()
        if wait > PAGE_SECONDS:
            raise TimeoutError(f"the quota is used up for {wait:.0f} seconds")
        await asyncio.sleep(wait)
        answers: list[PipelineResponse[Any, Any]] = []
        await self._client.resources(
            QueryRequest(
                query=query,
                subscriptions=list(scope),
                options=QueryRequestOptions(top=top, skip_token=token, result_format="objectArray"),
            ),
            cls=lambda answer, *_: answers.append(answer),
            raw_response_hook=_refuse_to_wait,
        )
        (answer,) = answers
        headers = answer.http_response.headers
        resets_after = _RESETS_AFTER.fullmatch(headers.get("x-ms-user-quota-resets-after") or "")
        if headers.get("x-ms-user-quota-remaining") == "0" and resets_after:
            self._quota_at = clock() + int(resets_after[1])
        return answer.context[ContentDecodePolicy.CONTEXT_NAME], http_date(headers.get("Date"))


def _refuse_to_wait(response: PipelineResponse[Any, Any]) -> None:
    """Raise before the SDK sleeps for longer than we wait: it does as a Retry-After says."""
    wait = retry_after(response.http_response.headers)
    if wait and wait.total_seconds() >= PAGE_SECONDS:
        raise TimeoutError(f"throttled for {wait.total_seconds():.0f} seconds")


def _body(row: Mapping[str, Any], names: Iterable[str]) -> Mapping[str, Any]:
    """A row as ARM would describe the resource; what Resource Graph has no value for is left out."""
    known = {name: value for name, value in row.items() if value is not None}
    properties = {name: known.pop(name) for name in names if name in known}
    return {**known, "properties": properties}
