"""What the doctor asks of Azure beyond what a pass does: rights, vaults, event subscriptions, networkstatus.

Plain GETs to ARM with the caller's own token, none of which can change anything or return a secret.
"""

import asyncio
import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import urlencode, urljoin

import aiohttp
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError
from azure.identity.aio import DefaultAzureCredential
from yarl import URL

from rotation.clients.arm import http_date, say
from rotation.clients.http import CALL_SECONDS, open_session, tls_context
from rotation.doctor import Answer
from rotation.model import clean
from rotation.settings import Settings

READS_AT_ONCE = 8
MOST_PAGES = 50

AUTHORIZATION = "2022-04-01"
SUBSCRIPTIONS = "2022-12-01"
VAULTS = "2023-07-01"
EVENT_GRID = "2025-02-15"


Vaults = Mapping[str, Mapping[str, Any]]
"""Vaults as ARM describes them, by host."""


class ArmReads:
    """Reads anything of ARM as a value; a context, because it opens a session of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._turns = asyncio.Semaphore(READS_AT_ONCE)

    async def __aenter__(self) -> Self:
        settings = self._settings
        self._credential: AsyncTokenCredential = DefaultAzureCredential(authority=settings.cloud.authority)
        self._session = open_session(tls_context(settings.ca_bundle), settings.connect_to)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        await self._credential.close()

    @property
    def first_subscription(self) -> str:
        """The one whose answer is asked for the time."""
        return self._settings.subscriptions[0]

    async def identity(self) -> tuple[dict[str, str], str]:
        """The claims of our token that say who we are, and why there is no token."""
        try:
            async with asyncio.timeout(CALL_SECONDS * 2):
                token = await self._credential.get_token(self._settings.cloud.arm_scope)
        except (AzureError, TimeoutError) as error:
            return {}, f"no token ({clean(say(error))})."
        return _claims(token.token), ""

    async def get(self, path: str, api_version: str, **query: str) -> Answer:
        """GET a path of ARM, with all pages where it is a list."""
        url = urljoin(self._settings.arm_url, path)
        url += "?" + urlencode({"api-version": api_version, **query})
        async with self._turns:
            answer = await self._page(url)
            pages = 1
            while isinstance(answer.body, Mapping) and (following := answer.body.get("nextLink")):
                if pages == MOST_PAGES:
                    return Answer(None, detail="the list goes on for too long")
                more = await self._page(str(following))
                if more.status != 200:
                    return more
                body = {"value": [*answer.items, *more.items], "nextLink": more.body.get("nextLink")}
                answer, pages = Answer(200, body, date=more.date), pages + 1
            return answer

    async def permissions(self, resource_id: str) -> Answer:
        """Permissions_ListForResource: what the caller may do there."""
        return await self.get(f"{resource_id}/providers/Microsoft.Authorization/permissions", AUTHORIZATION)

    async def role_assignments(self, resource_id: str, principal: str) -> Answer:
        """RoleAssignments_ListForScope: those of a principal, inherited ones and those of groups too."""
        path = f"{resource_id}/providers/Microsoft.Authorization/roleAssignments"
        return await self.get(path, AUTHORIZATION, **{"$filter": f"assignedTo('{principal}')"})

    async def provider_operations(self) -> Answer:
        """ProviderOperationsMetadata_Get of API Management."""
        path = "/providers/Microsoft.Authorization/providerOperations/Microsoft.ApiManagement"
        return await self.get(path, AUTHORIZATION, **{"$expand": "resourceTypes"})

    async def vaults(self) -> Vaults:
        """The vaults of the subscriptions in scope, by host."""
        answers = await asyncio.gather(
            *(
                self.get(f"/subscriptions/{each}/providers/Microsoft.KeyVault/vaults", VAULTS)
                for each in self._settings.subscriptions
            )
        )
        found = [vault for answer in answers for vault in answer.items]
        return {host: vault for vault in found if (host := _host(vault))}

    async def event_subscriptions(self, vault_id: str) -> list[Mapping[str, Any]] | str:
        """Those on the vault's system topics, or why they cannot be listed."""
        subscription = vault_id.split("/")[2]
        topics = await self.get(
            f"/subscriptions/{subscription}/providers/Microsoft.EventGrid/systemTopics", EVENT_GRID
        )
        if topics.status != 200:
            return f"the system topics cannot be listed ({topics.why})."
        mine = [
            str(topic.get("id"))
            for topic in topics.items
            if str((topic.get("properties") or {}).get("source", "")).lower() == vault_id.lower()
        ]
        answers = await asyncio.gather(
            *(self.get(f"{topic}/eventSubscriptions", EVENT_GRID) for topic in mine)
        )
        if refused := [answer for answer in answers if answer.status != 200]:
            return f"the event subscriptions cannot be listed ({refused[0].why})."
        return [subscription for answer in answers for subscription in answer.items]

    async def service(self, service_id: str, api_version: str) -> Answer:
        """The resource, for the identities that it has; without a version, a service of API Management."""
        return await self.get(service_id, api_version or self._settings.api_version)

    async def network_status(self, service_id: str) -> Answer:
        """NetworkStatus_ListByService."""
        return await self.get(f"{service_id}/networkstatus", self._settings.api_version)

    async def _page(self, url: str) -> Answer:
        try:
            if URL(url).origin() != URL(self._settings.arm_url).origin():
                return Answer(None, detail="its address leads away from Azure Resource Manager")
            async with asyncio.timeout(CALL_SECONDS):
                token = await self._credential.get_token(self._settings.cloud.arm_scope)
                headers = {"Authorization": f"Bearer {token.token}"}
                async with self._session.get(url, headers=headers, allow_redirects=False) as response:
                    date = http_date(response.headers.get("Date"))
                    return _answer(response.status, await response.read(), date)
        except (AzureError, aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return Answer(None, detail=clean(say(error)))


def now() -> datetime:
    """The clock of this machine."""
    return datetime.now(UTC)


def _answer(status: int, text: bytes, date: datetime | None) -> Answer:
    try:
        body = json.loads(text) if text else None
    except (ValueError, RecursionError):
        body = None
    error = body.get("error") if isinstance(body, Mapping) and status >= 400 else None
    detail = clean(error.get("code", "")) if isinstance(error, Mapping) else ""
    return Answer(status, body, detail, date)


def _claims(token: str) -> dict[str, str]:
    """Those that say who it is for, unverified: ARM verifies it, we only show them."""
    payload = [*token.split("."), ""][1]
    try:
        found = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, Mapping):
        return {}
    return {
        name: clean(found[name]) for name in ("upn", "unique_name", "appid", "oid", "tid") if name in found
    }


def _host(vault: Mapping[str, Any]) -> str:
    return URL(str((vault.get("properties") or {}).get("vaultUri", ""))).host or ""
