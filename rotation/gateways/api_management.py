"""The managed gateway of API Management: found by Resource Graph, read from ARM, told by refreshHostnames.

`ApiManagementService_List`, `_Get` and `_RefreshHostnames`, the last ("Sync certificates" in the portal) only
in preview api-versions since 2025-03-01-preview:
https://learn.microsoft.com/rest/api/apimanagement/api-management-service/refresh-hostnames
"""

import asyncio
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rotation.gateways.bodies import mapping, reference, sequence, tagged, tags, thumbprint, within
from rotation.model import (
    Binding,
    Census,
    CertificateId,
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
    from rotation.clients.resource_graph import ResourceGraph, Rows

KIND = Kind(
    name=GatewayKind.API_MANAGEMENT,
    sync_takes=timedelta(minutes=45),  # 15 to 45 minutes: Microsoft Japan PaaS support
    takes="15 to 45 minutes",
    action="Microsoft.ApiManagement/service/refreshHostnames/action",
    subject="the service",
    reference="keyVaultId",
    not_offered=(
        "the service does not offer refreshHostnames. Select Sync certificates under Custom domains in the"
        " portal; API Management follows by itself in 1-2 days."
    ),
    overdue="the portal's sync logs",
    without_vault="It serves a cached certificate, and traffic stops",
    unpin=Unpinning(
        bicep="keyVaultId: '{url}' // where hostName is '{hostname}'",
        terraform='key_vault_certificate_id = "{url}" # where host_name is "{hostname}"',
        az=(
            "az apim update --subscription {subscription} --resource-group {group} --name {name}"
            ' --set "hostnameConfigurations[{position}].keyVaultId={url}"'
        ),
    ),
    down_in_tiers=frozenset({"Developer"}),
)

_SERVICE_ID = re.compile(
    r"/subscriptions/(?P<subscription>[0-9a-f-]{36})/resourcegroups/(?P<group>[^/?#%\s]{1,90})"
    r"/providers/microsoft\.apimanagement/service/(?P<name>[a-z][a-z0-9-]{0,49})",
    re.IGNORECASE | re.ASCII,
)
_ARM_HOSTNAME_TYPE_OF_GATEWAY = "Proxy"

_log = logging.getLogger(__name__)

READS_AT_ONCE = 16
"""Of services whose rows lack something; where a subscription has more of them, one list shows them all."""

MOST_UNITS = 64
"""More scale units than any tier has in a region; ARM's number decides how often we connect."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A location of a service; `gateway_host` is None where its gateway is disabled or has no address."""

    region: str
    gateway_host: str | None
    connections: int


class ApiManagement:
    """Implements `reconcile.Gateways` for the services of the configured subscriptions."""

    def __init__(self, arm: "Arm", graph: "ResourceGraph", vault_suffix: str, vaults: frozenset[str]) -> None:
        self._arm = arm
        self._graph = graph
        self._vault_suffix = vault_suffix
        self._vaults = vaults

    async def discover(self, shard: Shard | None = None) -> Inventory:
        """Every service that can be found; what cannot is a problem in the inventory, never silence.

        Resource Graph is silent about a subscription that it may not show, as about one without services:
        these are listed one by one, and all of them where it does not answer. That is slower, but no problem.
        """
        if not self._arm.subscriptions:
            return Inventory((), (), None)
        (rows, graph_clock, shown), advisories = await asyncio.gather(
            self._find(shard), self._graph.failed_rotations()
        )
        if isinstance(advisories, str):
            _log.info("Resource Graph gave no recommendations of Azure Advisor: %s", advisories)
            advisories = {}
        complete, to_read, to_list = self._sort(rows, shown)
        (bodies, problems, listed_at), answers = await asyncio.gather(
            self._arm.list_api_management_services(to_list), self._read_each(to_read)
        )
        gateways: dict[str, Gateway] = {}
        for body, listed in chain(((b, True) for b in complete), ((b, False) for b in bodies)):
            try:
                gateway = replace(self._gateway(body), listed=listed)
            except ValueError as error:
                problems.append(f"A service of API Management could not be read: {clean(error)}")
            else:
                gateways[gateway.key] = gateway
        problems += [answer for answer in answers if isinstance(answer, str)]
        gateways |= {answer.key: answer for answer in answers if isinstance(answer, Gateway)}
        if shard:
            gateways = {key: gateway for key, gateway in gateways.items() if shard.holds(key)}
        clocks = (graph_clock, listed_at, *(gateway.as_of for gateway in gateways.values()))
        return Inventory(
            tuple(replace(each, advisory=advisories.get(key)) for key, each in gateways.items()),
            tuple(problems),
            max((clock for clock in clocks if clock), default=None),
        )

    async def census(self, *, fresh: bool = False) -> Census | str:
        """How many services each subscription has, by Resource Graph."""
        return await self._graph.census(fresh=fresh)

    async def using(self, certificates: Collection[CertificateId]) -> Sequence[Gateway] | str:
        """The services that refer to one of these certificates, as Resource Graph shows them."""
        found = await self._graph.services_using(certificates)
        if isinstance(found, str):
            return found
        try:
            gateways = [self._gateway(body) for body in found.rows]
        except ValueError as error:
            return clean(error)
        return [replace(g, listed=True) for g in gateways if not g.certificates.isdisjoint(certificates)]

    async def read(self, gateway: Gateway) -> Gateway | str:
        """The service itself, as it is now, or why it could not be read."""
        fresh = await self._read(gateway.id)
        if fresh is None:
            return f"{gateway.name}: there is no such service (any more)."
        return fresh if isinstance(fresh, str) else replace(fresh, advisory=gateway.advisory)

    async def sync(self, gateway: Gateway) -> SyncAnswer:
        """Ask for a sync of all hostnames of the service; returns as soon as ARM has answered."""
        return await self._arm.refresh_hostnames(gateway.id)

    async def operation_error(self, operation_url: str) -> str | None:
        """What the operation behind a sync's Location has failed with, if it has."""
        return await self._arm.operation_error(operation_url)

    async def _find(
        self, shard: Shard | None
    ) -> tuple[Sequence[Mapping[str, Any]], datetime | None, frozenset[str]]:
        """The rows of Resource Graph, its clock, and subscriptions that it shows besides."""
        found: Rows | str
        shown: frozenset[str] = frozenset()
        if shard is None:
            found = await self._graph.api_management_services()
        elif isinstance(census := await self._graph.census(), str):
            found = census
        else:
            shown = frozenset(census.of_subscription)
            found = await self._graph.services_of(shard, census)
        if isinstance(found, str):
            _log.warning("Resource Graph gave no services, so each subscription is listed: %s", found)
            return (), None, frozenset()
        rows = [row for row in found.rows if shard is None or shard.holds(row["id"].lower())]
        return rows, found.as_of, shown

    def _sort(
        self, rows: Iterable[Mapping[str, Any]], known: frozenset[str]
    ) -> tuple[list[Mapping[str, Any]], list[str], list[str]]:
        """Rows that are complete, ids of services to be read, and subscriptions to be listed."""
        of_subscription: dict[str, list[Mapping[str, Any]]] = {each: [] for each in self._arm.subscriptions}
        for row in rows:
            if match := _SERVICE_ID.fullmatch(row["id"]):
                of_subscription.get(match["subscription"].lower(), []).append(row)
        complete: list[Mapping[str, Any]] = []
        to_read: list[str] = []
        to_list: list[str] = []
        for subscription, shown in of_subscription.items():
            lacking = [row["id"] for row in shown if not _complete(row)]
            if (not shown and subscription not in known) or len(lacking) > READS_AT_ONCE:
                to_list.append(subscription)
            else:
                complete += [row for row in shown if row["id"] not in lacking]
                to_read += lacking
        return complete, to_read, to_list

    async def _read_each(self, service_ids: Iterable[str]) -> Sequence[Gateway | str | None]:
        turns = asyncio.Semaphore(READS_AT_ONCE)

        async def one(service_id: str) -> Gateway | str | None:
            async with turns:
                return await self._read(service_id)

        return await asyncio.gather(*map(one, service_ids))

    async def _read(self, service_id: str) -> Gateway | str | None:
        """A service, None where there is none, or a sentence that says why it could not be read."""
        name = service_id.rpartition("/")[2]
        answer = await self._arm.get_api_management_service(service_id)
        if isinstance(answer, str):
            return (
                f"{name}: the service could not be read ({answer}). Check that the app's identity has the"
                " Reader role there."
            )
        body, as_of = answer
        if body is None:
            return None
        try:
            gateway = self._gateway(body)
        except ValueError as error:
            return f"{name}: the service could not be read: {clean(error)}"
        if gateway.key != service_id.lower():
            return f"{name}: ARM answered with another service, {clean(gateway.id)}."
        return replace(gateway, as_of=as_of)

    def _gateway(self, body: Mapping[str, Any]) -> Gateway:
        return within(self._arm.subscriptions, from_arm(body, self._vault_suffix, self._vaults))


def from_arm(body: Mapping[str, Any], vault_suffix: str, vaults: frozenset[str]) -> Gateway:
    """A service as ARM describes it (ApiManagementServiceResource).

    Raises:
        ValueError: it lacks what every service has.
    """
    resource_id, properties = str(mapping(body, "body").get("id", "")), body.get("properties")
    match = _SERVICE_ID.fullmatch(resource_id)
    if not match or not isinstance(properties, Mapping):
        raise ValueError(f"{clean(resource_id)!r} is no service of API Management with properties")
    places = _places(body, properties)
    hostnames = [mapping(h, "hostname") for h in sequence(properties, "hostnameConfigurations")]
    return Gateway(
        id=resource_id,
        name=match["name"],
        kind=KIND,
        location=clean(body.get("location", "")),
        state=clean(properties.get("provisioningState", "Unknown")),
        bindings=tuple(_binding(hostname, places, vault_suffix, vaults) for hostname in hostnames),
        tier=clean(mapping(body.get("sku") or {}, "sku").get("name", "")),
        addresses=frozenset(_addresses(properties, hostnames)),
        **tagged(tags(body)),
    )


def _addresses(properties: Mapping[str, Any], hostnames: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Whatever the service is reached at: its own names, built-in ones, public and private addresses."""
    yield from (clean(hostname.get("hostName", "")).lower() for hostname in hostnames)
    others = [mapping(place, "additional location") for place in sequence(properties, "additionalLocations")]
    for place in (properties, *others):
        yield from filter(None, (_host(place, "gatewayUrl"), _host(place, "gatewayRegionalUrl")))
        for name in ("publicIPAddresses", "privateIPAddresses"):
            yield from (str(address) for address in sequence(place, name))


def _complete(row: Mapping[str, Any]) -> bool:
    """Whether a row shows all that the service's own answer would: Resource Graph may hide fields.

    A hostname whose keyVaultId is hidden looks like one with an uploaded certificate, so that one is never
    taken for granted.
    """
    properties = row["properties"]
    hostnames, others = properties.get("hostnameConfigurations"), properties.get("additionalLocations") or []
    try:
        return bool(
            hostnames
            and all(
                properties.get(name) for name in ("provisioningState", "virtualNetworkType", "gatewayUrl")
            )
            and all(
                isinstance(place["sku"]["capacity"], int) and place["location"] for place in (row, *others)
            )
            and all(host["hostName"] and host["type"] and _shows_source(host) for host in hostnames)
        )
    except (LookupError, TypeError, AttributeError):
        return False


def _shows_source(hostname: Mapping[str, Any]) -> bool:
    """Whether it is clear where a hostname's certificate comes from, and which it is."""
    if hostname.get("certificateSource") in {"BuiltIn", "Managed"}:
        return True
    return bool(hostname["keyVaultId"] and thumbprint(hostname["certificate"]["thumbprint"]))


def _binding(
    hostname: Mapping[str, Any], places: Sequence[_Place], vault_suffix: str, vaults: frozenset[str]
) -> Binding:
    """Decided by keyVaultId: Azure's own example shows Key Vault hosts with certificateSource Custom."""
    name = clean(hostname.get("hostName", "")).lower()
    hostname_type = clean(hostname.get("type", ""))
    key_vault_id = str(hostname.get("keyVaultId") or "") or None
    certificate = hostname.get("certificate")
    return Binding(
        hostname=name,
        hostname_type=hostname_type,
        key_vault_id=clean(key_vault_id) if key_vault_id else None,
        reference=reference(key_vault_id, vault_suffix, vaults),
        configured=thumbprint(certificate.get("thumbprint")) if isinstance(certificate, Mapping) else None,
        identity_client_id=clean(hostname["identityClientId"]) if hostname.get("identityClientId") else None,
        endpoints=tuple(_endpoints(name, hostname_type, places, watched_only=key_vault_id is None)),
        no_endpoint="its gateway is disabled in every region, or has no address",
    )


def _endpoints(
    hostname: str, hostname_type: str, places: Sequence[_Place], *, watched_only: bool
) -> Iterator[Endpoint]:
    """A gateway hostname is served by every region, the others by their own name in the main one.

    What is only watched for its expiry is read once; what must be proven, enough to meet every unit.
    """
    if hostname_type == _ARM_HOSTNAME_TYPE_OF_GATEWAY:
        for place in places:
            if place.gateway_host:
                connections = 1 if watched_only else place.connections
                yield Endpoint(hostname, place.region, place.gateway_host, connections=connections)
    else:
        connections = 1 if watched_only else places[0].connections
        own = Endpoint(hostname, places[0].region, hostname, connections=connections)
        yield replace(own, host=own.sni)


def _places(body: Mapping[str, Any], properties: Mapping[str, Any]) -> tuple[_Place, ...]:
    """The locations of a service, the main one first."""
    internal = properties.get("virtualNetworkType") == "Internal"
    gateway_host = _host(properties, "gatewayUrl")
    main = {**properties, "location": body.get("location"), "sku": body.get("sku")}
    others = [mapping(place, "additional location") for place in sequence(properties, "additionalLocations")]
    return (
        _place(main, internal=internal, otherwise=gateway_host),
        *(_place(place, internal=internal, otherwise=None) for place in others),
    )


def _place(location: Mapping[str, Any], *, internal: bool, otherwise: str | None) -> _Place:
    """Where a region's gateway is: its regional host answers to custom names by SNI."""
    addresses = sequence(location, "privateIPAddresses" if internal else "publicIPAddresses")
    host = _host(location, "gatewayRegionalUrl") or next(iter(addresses), None) or otherwise
    capacity = mapping(location.get("sku") or {}, "sku").get("capacity")
    units = capacity if isinstance(capacity, int) else 1
    return _Place(
        region=clean(location.get("location", "")),
        gateway_host=None if location.get("disableGateway") or not host else clean(host),
        connections=connections_needed(min(units, MOST_UNITS)),
    )


def _host(body: Mapping[str, Any], name: str) -> str | None:
    return urlsplit(str(body.get(name) or "")).hostname
