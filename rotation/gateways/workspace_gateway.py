"""Workspace gateways of API Management: each hostname binding is told to read Key Vault by itself. Preview.

A workspace gateway is a resource of its own, and so is each of its hostnames, with its certificate and its
own account of Key Vault. `refreshSecret` is in preview API versions only, and custom hostnames of these
gateways are not in the documents yet, so a binding is found, proven and reported, and synced only where a
setting says so. What is synced, and has a row in the ledger, is the binding.

https://learn.microsoft.com/rest/api/apimanagement/api-gateway-hostname-binding
"""

import asyncio
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from rotation.gateways.bodies import mapping, reference, tagged, tags, thumbprint
from rotation.gateways.service_parts import Hourly, by_key, moment
from rotation.model import (
    IDLE_STATES,
    Binding,
    Endpoint,
    Gateway,
    GatewayKind,
    Inventory,
    Kind,
    Shard,
    SyncAnswer,
    Unpinning,
    clean,
)
from rotation.verdict import connections_needed

if TYPE_CHECKING:
    from rotation.clients.arm import Arm
    from rotation.clients.arm_workspace_gateways import ArmWorkspaceGateways

KIND = Kind(
    name=GatewayKind.WORKSPACE_GATEWAY,
    sync_takes=timedelta(minutes=45),  # not documented: as long as a service may take
    takes="a time that is not documented: up to 45 minutes are waited for",
    action="Microsoft.ApiManagement/gateways/hostnameBindings/refreshSecret/action",
    subject="the hostname binding",
    reference="keyVault.secretId",
    not_offered=(
        "the hostname binding does not offer refreshSecret, which is in preview. Set its secretId again, or"
        " ask Microsoft's support when it follows by itself: that is not documented."
    ),
    overdue="the binding's keyVault.lastStatus in ARM",
    without_vault="It serves the certificate that it has, and traffic stops",
    unpin=Unpinning(
        bicep="keyVault: {{ secretId: '{url}' }} // of {name}",
        terraform='properties.keyVault.secretId = "{url}" # in the azapi_resource of {name}',
        az=(
            "az rest --method put --url {id}?api-version=2025-09-01-preview"
            """ --body '{{"properties":{{"hostname":"{hostname}","keyVault":{{"secretId":"{url}"}}}}}}'"""
        ),
    ),
    only_observed="workspace gateways are only looked at: ROTATION_WORKSPACE_GATEWAYS is observe.",
)

MOST_UNITS = 64
"""More scale units than such a gateway has; ARM's number decides how often we connect."""

_ID = re.compile(
    r"/subscriptions/(?P<subscription>[0-9a-f-]{36})/resourcegroups/[^/?#%\s]{1,90}"
    r"/providers/microsoft\.apimanagement/gateways/[a-z][a-z0-9-]{0,44}",
    re.IGNORECASE | re.ASCII,
)

_log = logging.getLogger(__name__)

Parts = Mapping[str, Mapping[str, Any]]
"""Hostname bindings by key."""


@dataclass(frozen=True, slots=True)
class WorkspaceGateway:
    """What every pass knows of a workspace gateway."""

    id: str
    location: str
    state: str
    units: int
    tags: Mapping[str, str]

    @property
    def name(self) -> str:
        """The last part of its id."""
        return self.id.rpartition("/")[2]


class WorkspaceGateways:
    """Implements `reconcile.Gateways` for the hostname bindings of workspace gateways.

    Not `synced`, they are only looked at.
    """

    def __init__(
        self,
        arm: "Arm",
        client: "ArmWorkspaceGateways",
        *,
        vault_suffix: str,
        vaults: frozenset[str],
        synced: bool,
    ) -> None:
        self._arm = arm
        self._client = client
        self._vault_suffix = vault_suffix
        self._vaults = vaults
        self._kind = replace(KIND, only_observed="") if synced else KIND
        self._gateways = Hourly(self._find, self._look, "hostname bindings", "workspace gateways")

    async def discover(self, shard: Shard | None = None) -> Inventory:
        """Every hostname binding; what cannot be seen is a problem, never silence."""
        seen = await self._gateways.see()
        gateways: list[Gateway] = []
        for parent, parts in seen.parents:
            for body in parts.values():
                try:
                    gateways.append(self._gateway(parent, body))
                except ValueError as error:
                    seen.problems.append(
                        f"{parent.name}: a hostname binding could not be read: {clean(error)}"
                    )
        return Inventory(tuple(gateways), tuple(seen.problems), seen.as_of)

    async def read(self, gateway: Gateway) -> Gateway | str:
        """The binding and its gateway, as they are now, or why they could not be read."""
        parent, binding = await asyncio.gather(
            self._client.gateway(gateway.service_id), self._client.binding(gateway.id)
        )
        if isinstance(parent, str) or isinstance(binding, str):
            why = parent if isinstance(parent, str) else binding
            return f"{gateway.name}: the hostname binding could not be read ({why})."
        (parent_body, _), (body, as_of) = parent, binding
        if parent_body is None or body is None:
            self._gateways.forget(gateway.service_id)
            return f"{gateway.name}: there is no such hostname binding (any more)."
        try:
            fresh = self._gateway(_workspace_gateway(parent_body), body)
        except ValueError as error:
            return f"{gateway.name}: the hostname binding could not be read: {clean(error)}"
        if fresh.key != gateway.key:
            return f"{gateway.name}: ARM answered with another hostname binding, {clean(fresh.id)}."
        return replace(fresh, listed=False, as_of=as_of)

    async def sync(self, gateway: Gateway) -> SyncAnswer:
        """Have the binding read Key Vault; returns as soon as ARM has answered."""
        return await self._client.refresh_secret(gateway.id)

    async def operation_error(self, operation_url: str) -> str | None:
        """What the operation behind a refresh has failed with, if it has."""
        return await self._arm.operation_error(operation_url)

    async def _find(self) -> tuple[list[WorkspaceGateway], list[str], datetime | None]:
        """The workspace gateways of all subscriptions in scope."""
        subscriptions = self._arm.subscriptions
        answers = await asyncio.gather(*map(self._client.gateways, subscriptions))
        found: list[WorkspaceGateway] = []
        problems: list[str] = []
        for subscription, bodies in zip(subscriptions, answers, strict=True):
            if isinstance(bodies, str):
                problems.append(
                    f"The workspace gateways of subscription {subscription} could not be listed ({bodies})."
                    " Check that the app's identity has the Reader role there."
                )
                continue
            for body in bodies:
                try:
                    found.append(_workspace_gateway(body))
                except ValueError as error:
                    problems.append(f"A workspace gateway could not be read: {clean(error)}")
        return found, problems, None

    async def _look(self, gateway: WorkspaceGateway) -> Parts | str:
        bodies = await self._client.bindings(gateway.id)
        if isinstance(bodies, str):
            return bodies
        try:
            return dict(by_key(gateway.id, "hostnameBindings", bodies))
        except ValueError as error:
            return clean(error)

    def _gateway(self, parent: WorkspaceGateway, body: Mapping[str, Any]) -> Gateway:
        """A binding as ARM describes it.

        Raises:
            ValueError: it lacks what every binding has.
        """
        binding_id, properties = str(body.get("id", "")), mapping(body.get("properties"), "properties")
        hostname = clean(properties.get("hostname", "")).lower()
        if not hostname or not binding_id.lower().startswith(f"{parent.id}/hostnamebindings/".lower()):
            raise ValueError(f"{clean(binding_id)!r} is no hostname binding of {parent.name}")
        vault = mapping(properties.get("keyVault") or {}, "keyVault")
        status = mapping(vault.get("lastStatus") or {}, "lastStatus")
        certificate = mapping(properties.get("certificate") or {}, "certificate")
        url, failed = (
            str(vault.get("secretId") or "") or None,
            str(status.get("code", "")).lower() == "failed",
        )
        own = clean(properties.get("provisioningState") or "Succeeded")
        return Gateway(
            id=binding_id,
            name=f"{parent.name}/{binding_id.rpartition('/')[2]}",
            kind=self._kind,
            location=parent.location,
            state=own if parent.state.lower() in IDLE_STATES else parent.state,
            bindings=(
                Binding(
                    hostname=hostname,
                    hostname_type="WorkspaceGateway",
                    key_vault_id=clean(url) if url else None,
                    reference=reference(url, self._vault_suffix, self._vaults),
                    configured=thumbprint(certificate.get("thumbprint")),
                    configured_since=moment(status.get("timeStampUtc")) if status and not failed else None,
                    identity_client_id=clean(vault["identityClientId"])
                    if vault.get("identityClientId")
                    else None,
                    endpoints=(
                        Endpoint(
                            hostname,
                            parent.location,
                            hostname,
                            connections=connections_needed(parent.units if url else 1),
                        ),
                    ),
                ),
            ),
            listed=True,
            service_id=parent.id,
            vault_error=f"Failed, at {clean(status.get('timeStampUtc'))}" if failed else None,
            addresses=frozenset({hostname}),
            **tagged(parent.tags),
        )


def _workspace_gateway(body: Mapping[str, Any]) -> WorkspaceGateway:
    """One as ARM describes it.

    Raises:
        ValueError: it lacks what every one has.
    """
    gateway_id = str(mapping(body, "body").get("id", ""))
    if not _ID.fullmatch(gateway_id):
        raise ValueError(f"{clean(gateway_id)!r} is no workspace gateway")
    properties = mapping(body.get("properties") or {}, "properties")
    capacity = mapping(body.get("sku") or {}, "sku").get("capacity")
    units = capacity if isinstance(capacity, int) and capacity > 0 else 1
    return WorkspaceGateway(
        gateway_id,
        clean(body.get("location", "")),
        clean(properties.get("provisioningState") or "Succeeded"),
        min(units, MOST_UNITS),
        tags(body),
    )
