"""Self-hosted gateways of API Management: their certificate entities are told to read Key Vault.

A hostname of a self-hosted gateway refers to a certificate entity of its service, and any number of gateways
may refer to the same one. `refreshSecret` makes the entity read Key Vault at once; the gateways then fetch it
by their poll of every ten seconds. So what is synced, and has a row in the ledger, is the entity, and its
bindings are the hostnames of all gateways that use it.

https://learn.microsoft.com/azure/api-management/self-hosted-gateway-overview
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from rotation.gateways.bodies import tagged, thumbprint
from rotation.gateways.service_parts import (
    SELF_HOSTED_TIERS,
    UNPINNED,
    EntityReader,
    Hourly,
    Service,
    by_key,
    hostnames_of,
    moment,
    refused,
    services,
    vault_error,
)
from rotation.model import (
    MOST_REPLICAS,
    Address,
    Authority,
    Binding,
    Endpoint,
    Gateway,
    GatewayKind,
    Inventory,
    Kind,
    Shard,
    SyncAnswer,
    clean,
)
from rotation.verdict import connections_needed

if TYPE_CHECKING:
    from rotation.clients.arm import Arm
    from rotation.clients.arm_entities import ArmEntities
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
    unpin=UNPINNED,
    fetches_within=timedelta(minutes=1),
    not_fetching=(
        "The gateway polls every 10 seconds, so it has lost its connection: check that it runs, that it"
        " reaches API Management's configuration endpoint over outbound TCP 443, and that its access token"
        " has not ended. A sync would not help."
    ),
)

TAG_ADDRESSES = "rotation-gateway-"
"""Of a service, followed by the name of a gateway: where that listens, as in ROTATION_SELF_HOSTED."""

_log = logging.getLogger(__name__)

Addresses = Mapping[str, tuple[Address, ...]]


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a service has: certificate entities by key, and of each gateway what refers to them.

    A hostname is (gateway, hostname, entity's key), an authority (gateway, entity's key, whether trusted).
    """

    entities: Mapping[str, Mapping[str, Any]]
    hostnames: tuple[tuple[str, str, str], ...]
    authorities: tuple[tuple[str, str, bool], ...]


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
        self._entities = entities
        self._reader = EntityReader(arm, entities, vault_suffix, vaults)
        find = partial(services, arm, graph, SELF_HOSTED_TIERS)
        self._services = Hourly(find, self._parts, "self-hosted gateways")
        self._addresses = addresses
        self._expires_soon = expires_soon

    async def discover(self, shard: Shard | None = None) -> Inventory:
        """Every entity that a self-hosted gateway serves; what cannot be seen is a problem, never silence."""
        seen = await self._services.see()
        gateways = [g for service, parts in seen.parents for g in self._gateways(service, parts)]
        warnings = [text for each in seen.parents for text in self._warnings(*each, seen.as_of)]
        return Inventory(
            tuple(gateways),
            tuple(seen.problems),
            seen.as_of,
            tuple(warnings),
            authorities=tuple(one for each in seen.parents for one in _authorities(*each)),
        )

    async def read(self, gateway: Gateway) -> Gateway | str:
        """The entity itself, as it is now, and its service's tags; or why they could not be read."""
        fresh = await self._reader.read(gateway)
        if fresh is None:
            self._services.forget(gateway.service_id)
            return f"{gateway.name}: there is no such certificate entity (any more)."
        return fresh

    async def sync(self, gateway: Gateway) -> SyncAnswer:
        """Have the entity read Key Vault; the answer says what it has then."""
        return await self._reader.refresh(gateway)

    async def operation_error(self, operation_url: str) -> str | None:
        """Nothing: refreshSecret has answered when it is done, and the entity has its own account of it."""
        _log.debug("No operation of a certificate entity is known: %s", operation_url)
        return None

    async def _parts(self, service: Service) -> _Parts | str:
        found = await hostnames_of(self._entities, service.id)
        if isinstance(found, str):
            return found
        names, hostnames = found
        if not names:
            return _Parts({}, (), ())
        certificates, *authorities = await asyncio.gather(
            self._entities.listed(service.id, "certificates"),
            *(self._entities.authorities(f"{service.id}/gateways/{name}") for name in names),
        )
        lists = [answer for answer in authorities if not isinstance(answer, str)]
        if isinstance(certificates, str) or len(lists) < len(authorities):
            return next(answer for answer in (certificates, *authorities) if isinstance(answer, str))
        try:
            entities = dict(by_key(service.id, "certificates", certificates))
        except ValueError as error:
            return clean(error)
        return _Parts(
            entities,
            hostnames,
            tuple(
                # An authority has the name of its certificate entity.
                (gateway, f"{service.id}/certificates/{body.get('name', '')}".lower(), _trusted(body))
                for gateway, bodies in zip(names, lists, strict=True)
                for body in bodies
            ),
        )

    def _gateways(self, service: Service, parts: _Parts) -> Iterator[Gateway]:
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
                yield self._reader.with_body(bare, body)
            except ValueError as error:
                _log.warning("%s: the certificate entity could not be read: %s", bare.name, clean(error))

    def _binding(self, service: Service, gateway: str, hostname: str) -> Binding:
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

    def _places(self, service: Service, gateway: str) -> tuple[tuple[Address, ...], str]:
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
            places = tuple(dict.fromkeys(map(Address.from_text, service.tags[tag].split(","))))
            if sum(place.replicas for place in places) > MOST_REPLICAS:
                raise ValueError(f"more than {MOST_REPLICAS} replicas have to be in ROTATION_SELF_HOSTED")
        except ValueError as error:
            return (), f"the tag {tag} of {service.name} says nothing: {clean(error).rstrip('.')}"
        return places, ""

    def _warnings(self, service: Service, parts: _Parts, now: datetime | None) -> Iterator[str]:
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
            if key not in served and (error := vault_error(body)):
                yield refused(service, KIND.subject, key, error)
        for authority in _authorities(service, parts):
            ends = authority.not_after
            if now and ends and ends - now <= self._expires_soon:
                yield (
                    f"{service.name}: the self-hosted gateway {authority.gateway} was given the certificate"
                    f" authority {authority.name}, which ends {ends:%Y-%m-%d}. Upload its successor, and take"
                    " this one away when nothing is issued by it any more."
                )


def _authorities(service: Service, parts: _Parts) -> Iterator[Authority]:
    """What the service's gateways were given, with what the entity of each says."""
    for gateway, key, trusted in parts.authorities:
        found = parts.entities.get(key, {}).get("properties")
        properties = found if isinstance(found, Mapping) else {}
        yield Authority(
            service_id=service.id,
            gateway=gateway,
            name=clean(key.rpartition("/")[2]),
            trusted=trusted,
            subject=clean(properties.get("subject") or ""),
            thumbprint=thumbprint(properties.get("thumbprint")),
            not_after=moment(properties.get("expirationDate")),
        )


def _trusted(body: Mapping[str, Any]) -> bool:
    properties = body.get("properties")
    return isinstance(properties, Mapping) and properties.get("isTrusted") is True
