"""The parts of an API Management service that self-hosted gateways are made of, in ARM.

Certificate_ListByService, _Get and _RefreshSecret, Gateway_ListByService, GatewayHostnameConfiguration_List-
ByService and GatewayCertificateAuthority_ListByService:
https://learn.microsoft.com/rest/api/apimanagement/certificate/refresh-secret
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from azure.core.async_paging import AsyncItemPaged
from azure.core.exceptions import AzureError
from azure.mgmt.apimanagement.aio import ApiManagementClient

from rotation.clients.arm import Arm, Got, get, pages, say
from rotation.clients.http import MALFORMED
from rotation.model import SyncAnswer, clean

Bodies = Sequence[Mapping[str, Any]]

_ID = re.compile(
    r"/subscriptions/([^/]+)/resourceGroups/([^/]+)/providers/Microsoft\.ApiManagement/service/([^/]+)"
    r"(?:/[A-Za-z]+/([^/]+))?",
    re.IGNORECASE,
)


class ArmEntities:
    """Reads entities of services; each list is the whole list, or why it could not be read."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm

    async def certificates(self, service_id: str) -> Bodies | str:
        """The certificate entities of a service."""
        client, where = self._at(service_id)
        return await _list(partial(client.certificate.list_by_service, *where))

    async def gateways(self, service_id: str) -> Bodies | str:
        """The self-hosted gateways of a service."""
        client, where = self._at(service_id)
        return await _list(partial(client.gateway.list_by_service, *where))

    async def hostnames(self, gateway_id: str) -> Bodies | str:
        """The hostname configurations of a self-hosted gateway."""
        client, where = self._at(gateway_id)
        return await _list(partial(client.gateway_hostname_configuration.list_by_service, *where))

    async def authorities(self, gateway_id: str) -> Bodies | str:
        """The certificate authorities that a self-hosted gateway was given."""
        client, where = self._at(gateway_id)
        return await _list(partial(client.gateway_certificate_authority.list_by_service, *where))

    async def certificate(self, certificate_id: str) -> Got | str:
        """One certificate entity, or why it cannot be read."""
        client, where = self._at(certificate_id)
        return await get(partial(client.certificate.get, *where))

    async def refresh_secret(self, certificate_id: str) -> tuple[SyncAnswer, object]:
        """Have an entity read Key Vault now; also the entity afterwards, where it is in the answer."""
        client, where = self._at(certificate_id)
        answer, response = await self._arm.ask(partial(client.certificate.refresh_secret, *where))
        return answer, response.json() if response else None

    def _at(self, resource_id: str) -> tuple[ApiManagementClient, tuple[str, ...]]:
        """The client of the resource's subscription, and the names on the way to it.

        Raises:
            ValueError: it is no id of a service or of something right below one.
        """
        if not (match := _ID.fullmatch(resource_id)):
            raise ValueError(f"{clean(resource_id)!r} is no part of a service")
        subscription, *where = match.groups()
        return self._arm.client(str(subscription).lower()), tuple(name for name in where if name)


async def _list(begin: Callable[..., AsyncItemPaged[Any]]) -> Bodies | str:
    try:
        bodies, _ = await pages(begin)
    except (AzureError, TimeoutError, *MALFORMED) as error:
        return clean(say(error))
    return bodies
