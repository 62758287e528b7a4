"""Application Gateway v2: found by Resource Graph, told by a tag, and watched where it stands in front.

It looks into Key Vault every four hours, and whenever something of it is changed, resource tags included:
https://learn.microsoft.com/azure/application-gateway/key-vault-certs. So a tag of ours is set, through
Microsoft.Resources/tags, which cannot change anything else of the gateway. That a tag set that way makes it
look is not documented in so many words; where it has not looked after four hours, the verdict says so.

SKU v1 takes no certificates from Key Vault; what it serves is only watched for its expiry.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from rotation.gateways import fronts
from rotation.gateways.bodies import mapping, reference, sequence, tagged, tags, within
from rotation.gateways.fronts import referred
from rotation.model import (
    ANY_NAME,
    BackendHealth,
    Binding,
    Endpoint,
    Front,
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
    from rotation.clients.network import Network
    from rotation.clients.resource_graph import ResourceGraph

KIND = Kind(
    name=GatewayKind.APPLICATION_GATEWAY,
    action="Microsoft.Resources/tags/write",
    sync_takes=timedelta(minutes=20),
    takes="minutes",
    subject="the gateway",
    reference="keyVaultSecretId",
    not_offered=(
        "tags cannot be set on the gateway. Change anything of it, and it looks; by itself it does so every"
        " 4 hours."
    ),
    overdue="Azure Advisor for a Key Vault issue of the gateway",
    without_vault="It disables such listeners when it looks, every 4 hours; what they serve until then ends",
    unpin=Unpinning(
        bicep="keyVaultSecretId: '{url}' // in sslCertificates of {name}, for {hostname}",
        terraform='key_vault_secret_id = "{url}" # ssl_certificate of azurerm_application_gateway {name}',
        az=(
            "az network application-gateway ssl-cert update --subscription {subscription}"
            " --resource-group {group} --gateway-name {name} --name CERTIFICATE --key-vault-secret-id {url}"
        ),
    ),
    api_version="2024-05-01",
    looks_within=timedelta(hours=4, minutes=15),
    not_looking=(
        "Neither the tag nor its clock made it look: check Azure Advisor for a Key Vault issue, then select"
        " the certificate again under Listeners in the portal and save, which is a change of the gateway"
        " itself. This app does not do that."
    ),
)

HEALTH_ACTION = "Microsoft.Network/applicationGateways/backendhealth/action"
"""The right to ask for backend health, without which it is not known."""

TAG_ASKED = "rotation-asked"
"""Set to the time at which a sync was asked for: another value each time, because a change makes it look."""

MOST_INSTANCES = 64
"""It may have 125; the number decides how often we connect."""

READS_AT_ONCE = 16
NO_SUCH_HOST = "rotation-check.invalid"
"""What a listener without a hostname is asked for: it answers whatever name."""

_GATEWAY_ID = re.compile(
    r"/subscriptions/(?P<subscription>[0-9a-f-]{36})/resourcegroups/(?P<group>[^/?#%\s]{1,90})"
    r"/providers/microsoft\.network/applicationgateways/(?P<name>[a-z0-9][a-z0-9_.-]{0,79})",
    re.IGNORECASE | re.ASCII,
)
_PUBLIC_ADDRESS_ID = re.compile(
    r"/subscriptions/[0-9a-f-]{36}/resourcegroups/[^/?#%\s]{1,90}"
    r"/providers/microsoft\.network/publicipaddresses/[a-z0-9_.-]{1,80}",
    re.IGNORECASE | re.ASCII,
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Scoped:
    """What is looked at: subscriptions in lower case, the suffix of vaults, and their hosts where not all."""

    subscriptions: tuple[str, ...]
    vault_suffix: str
    vaults: frozenset[str]


class ApplicationGateways:
    """Implements `reconcile.Gateways`, and says what stands in front of other gateways."""

    def __init__(
        self, network: "Network", graph: "ResourceGraph", scoped: Scoped, now: Callable[[], datetime]
    ) -> None:
        self._network = network
        self._graph = graph
        self._scoped = scoped
        self._now = now

    async def discover(self, shard: Shard | None = None) -> Inventory:
        """Every gateway that can be found; what cannot is a problem in the inventory, never silence.

        As with API Management, a subscription that Resource Graph shows none of, or not all, is listed.
        """
        found, origins, issues = await asyncio.gather(
            self._graph.application_gateways(), self._graph.front_door_origins(), self._graph.vault_issues()
        )
        problems: list[str] = []
        rows, as_of = ((), None) if isinstance(found, str) else (found.rows, found.as_of)
        if isinstance(found, str):
            _log.warning("Resource Graph gave no Application Gateways, so they are listed: %s", found)
        bodies = [(body, True) for body in rows]
        lacking = {each for each in self._scoped.subscriptions if not _complete(each, rows)}
        bodies = [(body, listed) for body, listed in bodies if _subscription(body) not in lacking]
        for subscription, answer in zip(lacking, await self._list(lacking), strict=True):
            if isinstance(answer, str):
                problems.append(
                    f"The Application Gateways of subscription {subscription} could not be listed ({answer})."
                    " Check that the app's identity has the Reader role there."
                )
            else:
                bodies += [(body, False) for body in answer]
        addresses = await self._addresses([body for body, _ in bodies])
        gateways: list[Gateway] = []
        backends: list[Front] = []
        for body, listed in bodies:
            try:
                gateway = replace(self._gateway(body, addresses), listed=listed)
                backends += fronts.of_gateway(body, gateway)
            except ValueError as error:
                problems.append(f"An Application Gateway could not be read: {clean(error)}")
            else:
                gateways.append(gateway)
        if not isinstance(origins, str):
            backends += fronts.of_front_door(origins.rows)
        said: Mapping[str, str] = {} if isinstance(issues, str) else issues
        return Inventory(
            tuple(replace(gateway, vault_error=said.get(gateway.key)) for gateway in gateways),
            tuple(problems),
            as_of,
            fronts=tuple(backends),
        )

    async def read(self, gateway: Gateway) -> Gateway | str:
        """The gateway itself, as it is now, or why it could not be read."""
        answer = await self._network.get(gateway.id)
        if isinstance(answer, str):
            return (
                f"{gateway.name}: the gateway could not be read ({answer}). Check that the app's identity has"
                " the Reader role there."
            )
        body, as_of = answer
        try:
            fresh = self._gateway(body, await self._read_addresses(_public_addresses(body)))
        except ValueError as error:
            return f"{gateway.name}: the gateway could not be read: {clean(error)}"
        if fresh.key != gateway.key:
            return f"{gateway.name}: ARM answered with another gateway, {clean(fresh.id)}."
        return replace(fresh, as_of=as_of, vault_error=gateway.vault_error)

    async def sync(self, gateway: Gateway) -> SyncAnswer:
        """Set the tag that makes it look; returns as soon as ARM has answered."""
        at = gateway.as_of or self._now()
        return await self._network.set_tag(gateway.id, TAG_ASKED, f"{at:%Y-%m-%dT%H:%M:%SZ}")

    async def operation_error(self, operation_url: str) -> str | None:
        """Nothing: a tag is set when ARM has answered, and the gateway's look is no operation."""
        _log.debug("No operation of an Application Gateway is known: %s", operation_url)
        return None

    async def health(self, front: Front) -> BackendHealth | None:
        """What a gateway in front says of its backend; None for what cannot be asked, as Front Door."""
        if not _GATEWAY_ID.fullmatch(front.id):
            return None
        answer = await self._network.backend_health(front.id)
        if isinstance(answer, str):
            return BackendHealth(front.name, None, answer)
        try:
            return fronts.health(front, answer)
        except ValueError as error:
            return BackendHealth(front.name, None, clean(error))

    async def _list(self, subscriptions: Iterable[str]) -> list[list[Mapping[str, Any]] | str]:
        turns = asyncio.Semaphore(READS_AT_ONCE)

        async def one(subscription: str) -> list[Mapping[str, Any]] | str:
            async with turns:
                return await self._network.application_gateways(subscription)

        return await asyncio.gather(*map(one, subscriptions))

    async def _addresses(self, bodies: Iterable[Mapping[str, Any]]) -> Mapping[str, str]:
        """The addresses of public frontends: from Resource Graph, those that it does not show from ARM."""
        wanted = {each for body in bodies for each in _public_addresses(body)}
        if not wanted:
            return {}
        shown = await self._graph.public_addresses()
        known = {} if isinstance(shown, str) else {key: shown[key] for key in wanted & shown.keys()}
        return {**known, **await self._read_addresses(wanted - known.keys())}

    async def _read_addresses(self, ids: Iterable[str]) -> Mapping[str, str]:
        turns = asyncio.Semaphore(READS_AT_ONCE)

        async def one(resource_id: str) -> tuple[str, object]:
            async with turns:
                answer = await self._network.get(resource_id)
            properties = None if isinstance(answer, str) else answer[0].get("properties")
            return resource_id, properties.get("ipAddress") if isinstance(properties, Mapping) else None

        found = await asyncio.gather(*map(one, ids))
        return {resource_id: clean(address) for resource_id, address in found if address}

    def _gateway(self, body: Mapping[str, Any], addresses: Mapping[str, str]) -> Gateway:
        gateway = from_arm(body, addresses, self._scoped.vault_suffix, self._scoped.vaults)
        return within(self._scoped.subscriptions, gateway)


def from_arm(
    body: Mapping[str, Any], addresses: Mapping[str, str], vault_suffix: str, vaults: frozenset[str]
) -> Gateway:
    """A gateway as ARM describes it; `addresses` are those of public IP resources, by id in lower case.

    `publicCertData` is not taken for the configured certificate: no document says that it follows the vault.

    Raises:
        ValueError: it lacks what every gateway has.
    """
    resource_id, properties = str(mapping(body, "body").get("id", "")), body.get("properties")
    match = _GATEWAY_ID.fullmatch(resource_id)
    if not match or not isinstance(properties, Mapping):
        raise ValueError(f"{clean(resource_id)!r} is no Application Gateway with properties")
    sku = mapping(properties.get("sku") or {}, "sku")
    return Gateway(
        id=resource_id,
        name=match["name"],
        kind=KIND,
        location=clean(body.get("location", "")),
        state=clean(properties.get("provisioningState", "Unknown")),
        bindings=tuple(_bindings(body, properties, addresses, vault_suffix, vaults)),
        tier=clean(sku.get("tier", "")),
        **tagged(tags(body)),
    )


def _bindings(
    body: Mapping[str, Any],
    properties: Mapping[str, Any],
    addresses: Mapping[str, str],
    vault_suffix: str,
    vaults: frozenset[str],
) -> Iterator[Binding]:
    """Each hostname of each HTTPS listener: the same one may be on several, with other certificates."""
    certificates = referred(properties, "sslCertificates")
    ports = referred(properties, "frontendPorts")
    frontends = referred(properties, "frontendIPConfigurations")
    stopped = str(properties.get("operationalState", "Running")).lower() in {"stopped", "stopping"}
    connections = connections_needed(min(_instances(properties), MOST_INSTANCES))
    for listener in sequence(properties, "httpListeners"):
        settings = mapping(mapping(listener, "listener").get("properties"), "listener")
        if str(settings.get("protocol", "")).lower() != "https":
            continue
        certificate = fronts.follow(settings, "sslCertificate", certificates)
        url = str(certificate.get("keyVaultSecretId") or "") or None
        host = _address(fronts.follow(settings, "frontendIPConfiguration", frontends), addresses)
        port = fronts.follow(settings, "frontendPort", ports).get("port")
        for hostname in fronts.listener_names(settings) or (ANY_NAME,):
            endpoint = Endpoint(
                hostname=_asked_for(hostname),
                region=clean(body.get("location", "")),
                host=host or "",
                port=port if type(port) is int and 0 < port < 65536 else 443,
                connections=connections if url else 1,
            )
            yield Binding(
                hostname=hostname,
                hostname_type=clean(listener.get("name") or "Listener"),
                key_vault_id=clean(url) if url else None,
                reference=reference(url, vault_suffix, vaults),
                configured=None,
                identity_client_id=_identity(body),
                endpoints=(endpoint,) if host and not stopped else (),
                no_endpoint="the gateway is stopped" if stopped else "its frontend has no known address",
            )


def _asked_for(hostname: str) -> str:
    """A name that the listener answers to: `*` and `?` may stand anywhere in it."""
    if hostname == ANY_NAME:
        return NO_SUCH_HOST
    return hostname if hostname.startswith("*.") else hostname.replace("*", "x").replace("?", "x")


def _instances(properties: Mapping[str, Any]) -> int:
    """As many as there may be: with autoscale, the most."""
    autoscale = mapping(properties.get("autoscaleConfiguration") or {}, "autoscaleConfiguration")
    sku = mapping(properties.get("sku") or {}, "sku")
    if autoscale:
        most = autoscale.get("maxCapacity")
        return most if isinstance(most, int) else MOST_INSTANCES
    capacity = sku.get("capacity")
    return capacity if isinstance(capacity, int) else 1


def _address(frontend: Mapping[str, Any], addresses: Mapping[str, str]) -> str | None:
    """Where a frontend listens: its private address, or that of its public IP resource."""
    private = frontend.get("privateIPAddress")
    if private:
        return clean(private)
    return addresses.get(_id_of(frontend.get("publicIPAddress")))


def _public_addresses(body: Mapping[str, Any]) -> set[str]:
    """The ids of the public IP resources of a gateway, in lower case."""
    properties = body.get("properties")
    found = properties.get("frontendIPConfigurations") if isinstance(properties, Mapping) else None
    ids = (
        _id_of(frontend.get("properties", {}).get("publicIPAddress"))
        for frontend in (found if isinstance(found, list) else ())
        if isinstance(frontend, Mapping) and isinstance(frontend.get("properties", {}), Mapping)
    )
    return {each for each in ids if _PUBLIC_ADDRESS_ID.fullmatch(each)}


def _identity(body: Mapping[str, Any]) -> str | None:
    """The client id of the user-assigned identity; a gateway has one at most."""
    identity = body.get("identity")
    assigned = identity.get("userAssignedIdentities") if isinstance(identity, Mapping) else None
    ids = [
        str(each["clientId"])
        for each in (assigned.values() if isinstance(assigned, Mapping) else ())
        if isinstance(each, Mapping) and each.get("clientId")
    ]
    return clean(ids[0]) if ids else None


def _id_of(reference_to: object) -> str:
    return str(reference_to.get("id", "")).lower() if isinstance(reference_to, Mapping) else ""


def _subscription(body: Mapping[str, Any]) -> str:
    return str(body.get("id", "")).lower().partition("/subscriptions/")[2].partition("/")[0]


def _complete(subscription: str, rows: Iterable[Mapping[str, Any]]) -> bool:
    """Whether rows show a subscription's gateways as ARM would: Resource Graph may hide fields.

    A certificate whose keyVaultSecretId is hidden looks like an uploaded one: never taken for granted.
    """
    mine = [row for row in rows if _subscription(row) == subscription]
    return bool(mine) and all(map(_shows_all, mine))


def _shows_all(row: Mapping[str, Any]) -> bool:
    properties = row["properties"]
    needed = ("provisioningState", "sku", "httpListeners", "frontendIPConfigurations", "frontendPorts")
    if not all(properties.get(name) for name in needed):
        return False
    try:
        certificates = referred(properties, "sslCertificates")
        listeners = referred(properties, "httpListeners").values()
        secure = [each for each in listeners if str(each["protocol"]).lower() == "https"]
        return all(_shows_source(fronts.follow(each, "sslCertificate", certificates)) for each in secure)
    except (LookupError, ValueError):
        return False


def _shows_source(certificate: Mapping[str, Any]) -> bool:
    return bool(certificate.get("keyVaultSecretId") or certificate.get("publicCertData"))
