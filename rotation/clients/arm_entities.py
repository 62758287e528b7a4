"""The parts of an API Management service that have read Key Vault, and what self-hosted gateways are made of.

Certificate_*, NamedValue_*, WorkspaceCertificate_* and WorkspaceNamedValue_ListBy…, _Get and _RefreshSecret,
Workspace_ListByService, Gateway_ListByService, GatewayHostnameConfiguration_ListByService and
GatewayCertificateAuthority_ListByService:
https://learn.microsoft.com/rest/api/apimanagement/certificate/refresh-secret
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from azure.core.async_paging import AsyncItemPaged
from azure.mgmt.apimanagement.aio import ApiManagementClient

from rotation.clients.arm import Arm, Bodies, Got, get, whole_list
from rotation.model import SyncAnswer, clean

Collection = Literal["certificates", "namedValues"]

_ID = re.compile(
    r"/subscriptions/([^/]+)/resourceGroups/([^/]+)/providers/Microsoft\.ApiManagement/service/([^/]+)"
    r"(?:/workspaces/([^/]+))?(?:/([A-Za-z]+)/([^/]+))?",
    re.IGNORECASE,
)


class ArmEntities:
    """Reads entities of services; each list is the whole list, or why it could not be read."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm

    async def workspaces(self, service_id: str) -> Bodies | str:
        """The workspaces of a service."""
        client, where = self._at(service_id)
        return await whole_list(partial(client.workspace.list_by_service, *where))

    async def listed(self, parent_id: str, collection: Collection) -> Bodies | str:
        """The certificate entities or named values of a service, or of a workspace of one."""
        client, where = self._at(parent_id)
        bodies = await whole_list(partial(_operations(client, collection, len(where)).list, *where))
        return bodies if isinstance(bodies, str) else [_bare(body) for body in bodies]

    async def gateways(self, service_id: str) -> Bodies | str:
        """The self-hosted gateways of a service."""
        client, where = self._at(service_id)
        return await whole_list(partial(client.gateway.list_by_service, *where))

    async def hostnames(self, gateway_id: str) -> Bodies | str:
        """The hostname configurations of a self-hosted gateway."""
        client, where = self._at(gateway_id)
        return await whole_list(partial(client.gateway_hostname_configuration.list_by_service, *where))

    async def authorities(self, gateway_id: str) -> Bodies | str:
        """The certificate authorities that a self-hosted gateway was given."""
        client, where = self._at(gateway_id)
        return await whole_list(partial(client.gateway_certificate_authority.list_by_service, *where))

    async def entity(self, entity_id: str) -> Got | str:
        """One certificate entity or named value, or why it cannot be read."""
        client, where = self._at(entity_id)
        answer = await get(partial(_of(client, entity_id, where).get, *where))
        return answer if isinstance(answer, str) or not answer[0] else (_bare(answer[0]), answer[1])

    async def refresh_secret(self, entity_id: str) -> tuple[SyncAnswer, object]:
        """Have an entity read Key Vault now; also the entity afterwards, where it is in the answer."""
        client, where = self._at(entity_id)
        answer, response = await self._arm.ask(partial(_of(client, entity_id, where).refresh, *where))
        return answer, response.json() if response and response.status_code == 200 else None

    def _at(self, resource_id: str) -> tuple[ApiManagementClient, tuple[str, ...]]:
        """The client of the resource's subscription, and the names on the way to it.

        Raises:
            ValueError: it is no id of a service or of something right below one.
        """
        if not (match := _ID.fullmatch(resource_id)):
            raise ValueError(f"{clean(resource_id)!r} is no part of a service")
        subscription, group, service, workspace, _, name = match.groups()
        where = (group, service, workspace, name)
        return self._arm.client(str(subscription).lower()), tuple(name for name in where if name)


@dataclass(frozen=True, slots=True)
class _Operations:
    """Those of one collection."""

    list: Callable[..., AsyncItemPaged[Any]]
    get: Callable[..., Awaitable[object]]
    refresh: Callable[..., Awaitable[object]]


def _operations(client: ApiManagementClient, collection: str, depth: int) -> _Operations:
    """By the number of names above the entity: two of a service, and that of a workspace."""
    in_workspace = depth > 2
    if collection.lower() == "certificates":
        if in_workspace:
            own = client.workspace_certificate
            return _Operations(own.list_by_workspace, own.get, own.refresh_secret)
        certificate = client.certificate
        return _Operations(certificate.list_by_service, certificate.get, certificate.refresh_secret)
    value = client.workspace_named_value if in_workspace else client.named_value
    # Long-running: nothing waits for it, the next pass looks.
    refresh = partial(value.begin_refresh_secret, polling=False)
    return _Operations(value.list_by_service, value.get, refresh)


def _of(client: ApiManagementClient, entity_id: str, where: tuple[str, ...]) -> _Operations:
    return _operations(client, entity_id.split("/")[-2], len(where) - 1)


def _bare(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without the value of a plain named value, which is nothing to us: what is not kept is never told."""
    properties = body.get("properties")
    if not isinstance(properties, Mapping):
        return body
    return {**body, "properties": {name: of for name, of in properties.items() if name != "value"}}
