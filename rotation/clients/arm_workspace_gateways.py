"""Workspace gateways of API Management and their hostname bindings, in preview since 2025-03-01-preview.

ApiGateway_List and _Get, ApiGatewayHostnameBinding_ListByGateway, _Get and _RefreshSecret:
https://learn.microsoft.com/rest/api/apimanagement/api-gateway-hostname-binding
"""

from functools import partial

from rotation.clients.arm import Arm, Bodies, Got, get, whole_list
from rotation.model import SyncAnswer


class ArmWorkspaceGateways:
    """Each list is the whole list, or why it could not be read."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm

    async def gateways(self, subscription: str) -> Bodies | str:
        """The workspace gateways of a subscription."""
        return await whole_list(self._arm.client(subscription).api_gateway.list)

    async def gateway(self, gateway_id: str) -> Got | str:
        """One of them, or why it cannot be read."""
        subscription, *where = _parts(gateway_id)
        return await get(partial(self._arm.client(subscription).api_gateway.get, *where))

    async def bindings(self, gateway_id: str) -> Bodies | str:
        """The hostname bindings of a workspace gateway."""
        subscription, *where = _parts(gateway_id)
        listing = self._arm.client(subscription).api_gateway_hostname_binding.list_by_gateway
        return await whole_list(partial(listing, *where))

    async def binding(self, binding_id: str) -> Got | str:
        """One of them, or why it cannot be read."""
        subscription, *where = _parts(binding_id)
        return await get(partial(self._arm.client(subscription).api_gateway_hostname_binding.get, *where))

    async def refresh_secret(self, binding_id: str) -> SyncAnswer:
        """Have a binding read Key Vault: long-running, and nobody waits for it."""
        subscription, *where = _parts(binding_id)
        begin = self._arm.client(subscription).api_gateway_hostname_binding.begin_refresh_secret
        answer, _ = await self._arm.ask(partial(begin, *where, polling=False))
        return answer


def _parts(resource_id: str) -> list[str]:
    """Subscription, resource group, gateway, and binding if it is one."""
    return [part.lower() if n == 0 else part for n, part in enumerate(resource_id.split("/")[2::2]) if n != 2]
