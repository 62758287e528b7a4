"""Self-hosted gateways of API Management: their certificate entities are told to read Key Vault.

A hostname of a self-hosted gateway refers to a certificate entity of its service, and any number of gateways
may refer to the same one. `refreshSecret` makes the entity read Key Vault at once; the gateways then fetch it
by their poll of every ten seconds. So what is synced, and has a row in the ledger, is the entity, and its
bindings are the hostnames of all gateways that use it.

https://learn.microsoft.com/azure/api-management/self-hosted-gateway-overview
"""

import asyncio
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from rotation.gateways.bodies import mapping, reference, tagged, tags, thumbprint
from rotation.model import (
    Address,
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
    shorten,
)
from rotation.verdict import connections_needed

if TYPE_CHECKING:
    from rotation.clients.arm import Arm
    from rotation.clients.arm_entities import ArmEntities, Bodies
    from rotation.clients.resource_graph import ResourceGraph

KIND = Kind(
    name=GatewayKind.SELF_HOSTED,
    sync_takes=timedelta(minutes=2),
    takes="seconds: the certificate entity reads Key Vault at once, and gateways poll every 10 seconds",
    action="Microsoft.ApiManagement/service/certificates/refreshSecret/action",
    subject="the certificate entity",
    reference="secretIdentifier",
    not_offered=(
        "its certificate entity cannot be told to read Key Vault. Select Refresh beside it under Certificates"
        " in the portal; API Management follows by itself within 4 hours."
    ),
    overdue="the entity's status under Certificates in the portal",
    without_vault="Its gateways keep the certificate that they have, and traffic stops",
    unpin=Unpinning(
        bicep="keyVault: {{ secretIdentifier: '{url}' }} // of {name}",
        terraform='key_vault_secret_id = "{url}" # of azurerm_api_management_certificate {name}',
        az=(
            "az rest --method put --url {id}?api-version=2024-05-01"
            """ --body '{{"properties":{{"keyVault":{{"secretIdentifier":"{url}"}}}}}}'"""
        ),
    ),
    fetches_within=timedelta(minutes=1),
    not_fetching=(
        "The gateway polls every 10 seconds, so it has lost its connection: check that it runs, that it"
        " reaches API Management's configuration endpoint over outbound TCP 443, and that its access token"
        " has not ended. A sync would not help."
    ),
)

TIERS = frozenset({"developer", "premium"})
"""The tiers that have self-hosted gateways."""

TAG_ADDRESSES = "rotation-gateway-"
"""Of a service, followed by the name of a gateway: where that listens, as in ROTATION_SELF_HOSTED."""

LOOKED_EVERY = timedelta(hours=1)
"""How long it is remembered which gateways and hostnames a service has; entities are read when it matters."""

MOST_LOOKED_AT = 50
"""Services in a pass; each costs a read, and three more where there is a gateway."""

READS_AT_ONCE = 8

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", re.ASCII)

_log = logging.getLogger(__name__)

Addresses = Mapping[str, tuple[Address, ...]]


@dataclass(frozen=True, slots=True)
class _Service:
    """What every pass knows of a service."""

    id: str
    location: str
    tags: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.id.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a service has, by the loop's clock `at`: entities by key, and of each gateway what refers to them.

    A hostname is (gateway, hostname, entity's key), an authority (gateway, entity's key).
    """

    at: float
    entities: Mapping[str, Mapping[str, Any]]
    hostnames: tuple[tuple[str, str, str], ...]
    authorities: tuple[tuple[str, str], ...]


class SelfHosted:
    """Implements `reconcile.Gateways` for the certificate entities that self-hosted gateways serve.

    `addresses` maps GATEWAY or SERVICE/GATEWAY, in lower case, to where that gateway can be reached.
    """

    def __init__(  # noqa: PLR0913 - three clients and what they are used with
        self,
        arm: "Arm",
        entities: "ArmEntities",
        graph: "ResourceGraph",
        *,
        vault_suffix: str,
        vaults: frozenset[str],
        addresses: Addresses,
        expires_soon: timedelta,
    ) -> None:
        self._arm = arm
        self._entities = entities
        self._graph = graph
        self._vault_suffix = vault_suffix
        self._vaults = vaults
        self._addresses = addresses
        self._expires_soon = expires_soon
        self._known: dict[str, _Parts] = {}
        self._looked_at: dict[str, float] = {}

    async def discover(self, shard: Shard | None = None) -> Inventory:  # noqa: ARG002 - they are few
        """Every entity that a self-hosted gateway serves; what cannot be seen is a problem, never silence."""
        services, problems, as_of = await self._services()
        too_old = asyncio.get_running_loop().time() - LOOKED_EVERY.total_seconds()
        known = {service.id: self._known.get(service.id.lower()) for service in services}
        due = [key for key, parts in known.items() if parts is None or parts.at <= too_old]
        due.sort(key=lambda service_id: self._looked_at.get(service_id.lower(), 0.0))
        problems += await self._look(due[:MOST_LOOKED_AT])
        unseen = sorted(s.name for s in services if s.id.lower() not in self._known)
        if len(due) > MOST_LOOKED_AT and unseen:
            problems.append(
                f"The self-hosted gateways of {len(unseen)} services ({', '.join(unseen[:5])}, …) were not"
                f" looked at yet: {MOST_LOOKED_AT} services in a pass are the most. The next one goes on."
            )
        seen = [(s, parts) for s in services if (parts := self._known.get(s.id.lower()))]
        gateways = [gateway for service, parts in seen for gateway in self._gateways(service, parts)]
        warnings = [text for service, parts in seen for text in self._warnings(service, parts, as_of)]
        return Inventory(tuple(gateways), tuple(problems), as_of, tuple(warnings))

    async def read(self, gateway: Gateway) -> Gateway | str:
        """The entity itself, as it is now, and its service's tags; or why they could not be read."""
        service_id = gateway.id.rpartition("/certificates/")[0]
        service, entity = await asyncio.gather(
            self._arm.get_api_management_service(service_id), self._entities.certificate(gateway.id)
        )
        if isinstance(service, str) or isinstance(entity, str):
            why = service if isinstance(service, str) else entity
            return f"{gateway.name}: the certificate entity could not be read ({why})."
        (service_body, _), (body, as_of) = service, entity
        if service_body is None or body is None:
            self._known.pop(service_id.lower(), None)
            return f"{gateway.name}: there is no such certificate entity (any more)."
        try:
            fresh = replace(gateway, listed=False, as_of=as_of, **tagged(tags(service_body)))
            return self._with_entity(fresh, body)
        except ValueError as error:
            return f"{gateway.name}: the certificate entity could not be read: {clean(error)}"

    async def sync(self, gateway: Gateway) -> SyncAnswer:
        """Have the entity read Key Vault; the answer says what it has then."""
        answer, body = await self._entities.refresh_secret(gateway.id)
        if not isinstance(body, Mapping):
            return answer
        try:
            entity = self._with_entity(gateway, body)
        except ValueError:
            return answer
        has = {binding.configured for binding in entity.bindings} - {None}
        said = entity.vault_error or f"the entity has {', '.join(shorten(str(leaf)) for leaf in has)}"
        return replace(answer, detail=f"{answer.detail}, {said}")

    async def operation_error(self, operation_url: str) -> str | None:
        """Nothing: refreshSecret has answered when it is done, and the entity has its own account of it."""
        _log.debug("No operation of a certificate entity is known: %s", operation_url)
        return None

    async def _services(self) -> tuple[list[_Service], list[str], datetime | None]:
        """The services that can have self-hosted gateways; what the graph does not show is listed."""
        found = await self._graph.tiers()
        rows: Sequence[Mapping[str, Any]] = ()
        as_of: datetime | None = None
        if not isinstance(found, str):
            rows, as_of = found.rows, found.as_of
        shown = {_subscription(str(row["id"])) for row in rows}
        to_list = [each for each in self._arm.subscriptions if each not in shown]
        bodies, problems, listed_at = await self._arm.list_api_management_services(to_list)
        services: dict[str, _Service] = {}
        for body in (*rows, *bodies):
            try:
                service, tier = _service(body)
            except ValueError as error:
                problems.append(f"A service of API Management could not be read: {clean(error)}")
                continue
            if tier in TIERS and _subscription(service.id) in self._arm.subscriptions:
                services[service.id.lower()] = service
        return list(services.values()), problems, max((c for c in (as_of, listed_at) if c), default=None)

    async def _look(self, service_ids: Iterable[str]) -> list[str]:
        """Find out which gateways and hostnames these services have; returns what could not be read."""
        turns = asyncio.Semaphore(READS_AT_ONCE)

        async def one(service_id: str) -> str | None:
            async with turns:
                parts = await self._parts(service_id)
            if isinstance(parts, str):
                return (
                    f"{service_id.rpartition('/')[2]}: its self-hosted gateways could not be read ({parts})."
                )
            self._known[service_id.lower()] = parts
            return None

        answers = await asyncio.gather(*map(one, service_ids))
        return [answer for answer in answers if answer]

    async def _parts(self, service_id: str) -> _Parts | str:
        at = self._looked_at[service_id.lower()] = asyncio.get_running_loop().time()
        gateways = await self._entities.gateways(service_id)
        if isinstance(gateways, str):
            return gateways
        names = [str(gateway.get("name")) for gateway in gateways]
        if strange := next((name for name in names if not _NAME.fullmatch(name)), None):
            return f"{clean(strange)!r} is no name of a gateway"
        if not names:
            return _Parts(at, {}, (), ())
        ids = [f"{service_id}/gateways/{name}" for name in names]
        answers = await asyncio.gather(
            self._entities.certificates(service_id),
            *map(self._entities.hostnames, ids),
            *map(self._entities.authorities, ids),
        )
        if failed := next((answer for answer in answers if isinstance(answer, str)), None):
            return failed
        lists: list[Bodies] = [answer for answer in answers if not isinstance(answer, str)]
        entities, hostnames, authorities = lists[0], lists[1 : len(ids) + 1], lists[len(ids) + 1 :]
        try:
            return _Parts(
                at,
                dict(_entities(service_id, entities)),
                tuple(_hostnames(names, hostnames)),
                tuple(_authorities(service_id, names, authorities)),
            )
        except ValueError as error:
            return clean(error)

    def _gateways(self, service: _Service, parts: _Parts) -> Iterator[Gateway]:
        """The entities that serve hostnames, as they were when they were listed."""
        uses: dict[str, list[tuple[str, str]]] = {}
        for gateway, hostname, entity in parts.hostnames:
            if entity in parts.entities:
                uses.setdefault(entity, []).append((gateway, hostname))
        for key, of in uses.items():
            body = parts.entities[key]
            entity_id = str(body["id"])
            bare = Gateway(
                id=entity_id,
                name=f"{service.name}/{entity_id.rpartition('/')[2]}",
                kind=KIND,
                location=service.location,
                state="Succeeded",  # an entity has no operation that could be under way
                bindings=tuple(self._binding(service, gateway, hostname) for gateway, hostname in of),
                listed=True,
                service_id=service.id,
                **tagged(service.tags),
            )
            try:
                yield self._with_entity(bare, body)
            except ValueError as error:
                _log.warning("%s: the certificate entity could not be read: %s", bare.name, clean(error))

    def _binding(self, service: _Service, gateway: str, hostname: str) -> Binding:
        """A hostname with the places where its gateway listens, before its entity is known."""
        places, why = self._places(service, gateway)
        several = len(places) > 1
        return Binding(
            hostname=hostname,
            hostname_type=gateway,
            key_vault_id=None,
            reference=None,
            configured=None,
            identity_client_id=None,
            endpoints=tuple(
                Endpoint(
                    hostname,
                    f"{gateway} at {place}" if several else gateway,
                    place.host,
                    place.port,
                    connections_needed(place.replicas),
                )
                for place in places
            ),
            no_endpoint=why,
        )

    def _places(self, service: _Service, gateway: str) -> tuple[tuple[Address, ...], str]:
        """Where a gateway listens, the setting before the tag; and why that is not known."""
        name = gateway.lower()
        for key in (f"{service.name.lower()}/{name}", name):
            if key in self._addresses:
                return self._addresses[key], ""
        tag = f"{TAG_ADDRESSES}{name}"
        if tag not in service.tags:
            return (), (
                f"where the self-hosted gateway {gateway} listens is not known: say it in"
                f" ROTATION_SELF_HOSTED or in the tag {tag} of {service.name}"
            )
        try:
            return tuple(Address.from_text(part) for part in service.tags[tag].split(",")), ""
        except ValueError as error:
            return (), f"the tag {tag} of {service.name} says nothing: {clean(error).rstrip('.')}"

    def _with_entity(self, gateway: Gateway, body: Mapping[str, Any]) -> Gateway:
        """The gateway with what the entity says: where its certificate is from, and what it has now.

        Raises:
            ValueError: the body is no certificate entity, or another one.
        """
        if str(body.get("id", "")).lower() != gateway.key:
            raise ValueError(f"ARM answered with another entity, {clean(body.get('id', ''))}")
        properties = mapping(body.get("properties"), "properties")
        vault = mapping(properties.get("keyVault") or {}, "keyVault")
        status = mapping(vault.get("lastStatus") or {}, "lastStatus")
        url = str(vault.get("secretIdentifier") or "") or None
        failed = _vault_error(body)
        return replace(
            gateway,
            vault_error=failed,
            bindings=tuple(
                replace(
                    binding,
                    key_vault_id=clean(url) if url else None,
                    reference=reference(url, self._vault_suffix, self._vaults),
                    configured=thumbprint(properties.get("thumbprint")),
                    configured_since=None if failed else _moment(status.get("timeStampUtc")),
                    identity_client_id=clean(vault["identityClientId"])
                    if vault.get("identityClientId")
                    else None,
                    # What is only watched for its expiry is read once.
                    endpoints=binding.endpoints
                    if url
                    else tuple(replace(endpoint, connections=1) for endpoint in binding.endpoints),
                )
                for binding in gateway.bindings
            ),
        )

    def _warnings(self, service: _Service, parts: _Parts, now: datetime | None) -> Iterator[str]:
        """Authorities that end soon, hostnames whose entity is gone, and entities that Key Vault refuses."""
        for gateway, hostname, key in parts.hostnames:
            if key not in parts.entities:
                yield (
                    f"{service.name}: {hostname} of the self-hosted gateway {gateway} refers to the"
                    f" certificate entity {clean(key.rpartition('/')[2])}, which does not exist. Give it"
                    " another one."
                )
        served = {key for _, _, key in parts.hostnames}
        for key, body in parts.entities.items():
            if key not in served and (error := _vault_error(body)):
                yield (
                    f"{service.name}: the certificate entity {clean(key.rpartition('/')[2])}, which no"
                    f" self-hosted gateway serves, could not be read from Key Vault ({error}). Give the"
                    " service's identity Key Vault Secrets User, and let it through the vault's firewall."
                )
        for gateway, key in parts.authorities:
            properties = parts.entities.get(key, {}).get("properties")
            ends = _moment(properties.get("expirationDate")) if isinstance(properties, Mapping) else None
            if now and ends and ends - now <= self._expires_soon:
                yield (
                    f"{service.name}: the self-hosted gateway {gateway} was given the certificate authority"
                    f" {clean(key.rpartition('/')[2])}, which ends {ends:%Y-%m-%d}. Upload its successor, and"
                    " take this one away when nothing is issued by it any more."
                )


def _vault_error(body: Mapping[str, Any]) -> str | None:
    """What an entity says of its last read of Key Vault, if that failed."""
    properties = body.get("properties")
    vault = properties.get("keyVault") if isinstance(properties, Mapping) else None
    status = vault.get("lastStatus") if isinstance(vault, Mapping) else None
    if not isinstance(status, Mapping) or str(status.get("code", "")).lower() == "success":
        return None
    return clean(f"{status.get('code')}: {status.get('message')}", 512)


def _service(body: Mapping[str, Any]) -> tuple[_Service, str]:
    """A service, from a row of Resource Graph or from ARM, and its tier in lower case."""
    service_id = str(mapping(body, "body").get("id", ""))
    if service_id.lower().count("/service/") != 1:
        raise ValueError(f"{clean(service_id)!r} is no service of API Management")
    tier = str(mapping(body.get("sku") or {}, "sku").get("name", "")).lower()
    return _Service(service_id, clean(body.get("location", "")), tags(body)), tier


def _subscription(resource_id: str) -> str:
    return resource_id.lower().partition("/subscriptions/")[2].partition("/")[0]


def _entities(service_id: str, bodies: "Bodies") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Entities by their key; the id becomes a part of requests, so it has to be the one that is expected."""
    for body in bodies:
        name = str(body.get("name"))
        key = f"{service_id}/certificates/{name}".lower()
        if not _NAME.fullmatch(name) or str(body.get("id")).lower() != key:
            raise ValueError(f"{clean(body.get('id'))!r} is no certificate entity of that service")
        yield key, body


def _hostnames(names: Sequence[str], lists: "Iterable[Bodies]") -> Iterator[tuple[str, str, str]]:
    for gateway, bodies in zip(names, lists, strict=True):
        for body in bodies:
            properties = mapping(body.get("properties"), "properties")
            hostname = clean(properties.get("hostname", "")).lower()
            yield clean(gateway), hostname, str(properties.get("certificateId", "")).lower()


def _authorities(
    service_id: str, names: Sequence[str], lists: "Iterable[Bodies]"
) -> Iterator[tuple[str, str]]:
    """An authority has the name of its certificate entity."""
    for gateway, bodies in zip(names, lists, strict=True):
        for body in bodies:
            yield clean(gateway), f"{service_id}/certificates/{body.get('name', '')}".lower()


def _moment(text: object) -> datetime | None:
    """A time as ARM writes it, with up to seven digits of a second; None where it is none."""
    whole, _, zone = str(text or "").partition(".")
    try:
        moment = datetime.fromisoformat(f"{whole}+00:00" if zone else whole.replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment if moment.tzinfo else None
