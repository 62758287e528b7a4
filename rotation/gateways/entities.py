"""Certificate entities used towards backends, and named values: told to read Key Vault when it has renewed.

They belong to a service of API Management or to a workspace of one, and hold what they have read of a secret.
No handshake shows that, so ARM's word is all there is: never proven, never in sync. What a named value holds
is not asked for. Only those are looked at whose secret is that of a Key Vault certificate which we may read:
most named values hold something else, and that is nobody's certificate.

https://learn.microsoft.com/rest/api/apimanagement/named-value/refresh-secret
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from rotation.gateways.bodies import mapping, reference, tagged
from rotation.gateways.service_parts import (
    LOOKED_EVERY,
    READS_AT_ONCE,
    SELF_HOSTED_TIERS,
    UNPINNED,
    WORKSPACE_TIERS,
    EntityReader,
    Hourly,
    Service,
    by_key,
    hostnames_of,
    refused,
    services,
    vault_error,
)
from rotation.model import (
    Binding,
    CertificateId,
    CertificateUnreadable,
    Gateway,
    GatewayKind,
    Inventory,
    Kind,
    Shard,
    SyncAnswer,
    Unpinning,
    UnreadableCause,
    clean,
)

if TYPE_CHECKING:
    from rotation.clients.arm import Arm
    from rotation.clients.arm_entities import ArmEntities, Collection
    from rotation.clients.resource_graph import ResourceGraph
    from rotation.reconcile import CertificateStore

CERTIFICATES = Kind(
    name=GatewayKind.CERTIFICATE_ENTITY,
    sync_takes=timedelta(minutes=2),
    takes="seconds: the certificate entity reads Key Vault at once",
    action="Microsoft.ApiManagement/service/certificates/refreshSecret/action",
    subject="the certificate entity",
    reference="secretIdentifier",
    not_offered=(
        "it cannot be told to read Key Vault. Select Refresh beside it under Certificates in the portal; API"
        " Management follows by itself within 4 hours."
    ),
    overdue="the entity's status under Certificates in the portal",
    without_vault="It keeps the certificate that it has, and backends refuse that",
    unpin=UNPINNED,
    not_served="It is used towards backends, where no handshake can show it.",
)

NAMED_VALUES = replace(
    CERTIFICATES,
    name=GatewayKind.NAMED_VALUE,
    sync_takes=timedelta(minutes=5),
    takes="a minute or so: the named value reads Key Vault in an operation of its own",
    action="Microsoft.ApiManagement/service/namedValues/refreshSecret/action",
    subject="the named value",
    not_offered=(
        "it cannot be told to read Key Vault. Select Refresh secret beside it under Named values in the"
        " portal; API Management follows by itself within 4 hours."
    ),
    overdue="the value's status under Named values in the portal",
    without_vault="It keeps the value that it has, and policies that use it may fail",
    unpin=Unpinning(
        bicep=UNPINNED.bicep,
        terraform='value_from_key_vault.secret_id = "{url}" # of azurerm_api_management_named_value {name}',
        az=UNPINNED.az.replace("--method put", "--method patch --headers If-Match=*"),
    ),
    not_served="It is used in policies, and its value is not read.",
    takes_anything=True,
)

_COLLECTIONS: "Mapping[GatewayKind, Collection]" = {
    GatewayKind.CERTIFICATE_ENTITY: "certificates",
    GatewayKind.NAMED_VALUE: "namedValues",
}

_IS_ONE = frozenset({UnreadableCause.DELETED, UnreadableCause.DISABLED})
_IS_NONE = frozenset({UnreadableCause.NOT_FOUND, UnreadableCause.FORBIDDEN})

_log = logging.getLogger(__name__)

Parts = Mapping[str, Mapping[str, Any]]
"""Bodies by key, of those that refer to Key Vault."""


class Entities:
    """Implements `reconcile.Gateways` for the certificate entities or the named values, as `kind` says."""

    def __init__(  # noqa: PLR0913 - three clients and what they are used with
        self,
        arm: "Arm",
        entities: "ArmEntities",
        graph: "ResourceGraph",
        certificates: "CertificateStore",
        *,
        kind: Kind,
        vault_suffix: str,
        vaults: frozenset[str],
    ) -> None:
        self._arm = arm
        self._entities = entities
        self._certificates = certificates
        self._kind = kind
        self._collection = _COLLECTIONS[kind.name]
        self._vault_suffix = vault_suffix
        self._vaults = vaults
        self._reader = EntityReader(arm, entities, vault_suffix, vaults)
        what = "certificate entities" if self._collection == "certificates" else "named values"
        self._services = Hourly(partial(services, arm, graph), self._look, what)
        self._renewed: set[CertificateId] = set()
        self._others: dict[CertificateId, tuple[float, CertificateUnreadable]] = {}

    async def discover(self, shard: Shard | None = None) -> Inventory:
        """Those whose secret is a certificate's; what cannot be seen is a problem, never silence."""
        seen = await self._services.see()
        referred = [
            (service, body, found.certificate)
            for service, parts in seen.parents
            for body in parts.values()
            if (found := reference(_secret(body), self._vault_suffix, self._vaults))
        ]
        problems = await self._tell_certificates({certificate for _, _, certificate in referred})
        mine = [(service, body) for service, body, found in referred if found in self._renewed]
        gateways = [gateway for service, body in mine if (gateway := self._gateway(service, body))]
        known = {gateway.key for gateway in gateways}
        warnings = [text for each in seen.parents for text in self._refused(*each, known)]
        if forbidden := sorted({each.vault_host for each in self._forbidden()}):
            warnings.append(
                f"The certificates of {', '.join(forbidden)} may not be read, so the {self._collection} that"
                " refer to them are not looked at. Give the app Key Vault Reader there, or name the vaults"
                " that matter in ROTATION_VAULTS."
            )
        return Inventory(tuple(gateways), (*seen.problems, *problems), seen.as_of, tuple(warnings))

    async def read(self, gateway: Gateway) -> Gateway | str:
        """It itself, as it is now, and its service's tags; or why they could not be read."""
        fresh = await self._reader.read(gateway)
        if fresh is None:
            self._services.forget(gateway.service_id)
            return f"{gateway.name}: {gateway.kind.subject} does not exist (any more)."
        if isinstance(fresh, Gateway) and not (fresh.certificates and fresh.certificates <= self._renewed):
            # It refers to something else by now: whether that is a certificate is to be found out first.
            self._services.forget(gateway.service_id)
            return f"{gateway.name}: it refers to another secret now; the next pass looks at that."
        return fresh

    async def sync(self, gateway: Gateway) -> SyncAnswer:
        """Have it read Key Vault: done with the answer, or by an operation in the case of a named value."""
        return await self._reader.refresh(gateway)

    async def operation_error(self, operation_url: str) -> str | None:
        """What a named value's operation has failed with, if it has."""
        return await self._arm.operation_error(operation_url)

    async def _look(self, service: Service) -> Parts | str:
        """What refers to Key Vault in a service and its workspaces, and no self-hosted gateway serves."""
        parents, served = [service.id], frozenset[str]()
        if service.tier in WORKSPACE_TIERS:
            workspaces = await self._entities.workspaces(service.id)
            if isinstance(workspaces, str):
                return workspaces
            try:
                parents += [str(body["id"]) for _, body in by_key(service.id, "workspaces", workspaces)]
            except ValueError as error:
                return clean(error)
        if self._collection == "certificates" and service.tier in SELF_HOSTED_TIERS:
            hostnames = await hostnames_of(self._entities, service.id)
            if isinstance(hostnames, str):
                return hostnames
            served = frozenset(key for _, _, key in hostnames[1])
        found: dict[str, Mapping[str, Any]] = {}
        for parent in parents:
            bodies = await self._entities.listed(parent, self._collection)
            if isinstance(bodies, str):
                return bodies
            try:
                found |= by_key(parent, self._collection, [body for body in bodies if _secret(body)])
            except ValueError as error:
                return clean(error)
        return {key: body for key, body in found.items() if key not in served}

    async def _tell_certificates(self, referred: Iterable[CertificateId]) -> list[str]:
        """Find out which of these names are those of certificates; returns what could not be told."""
        now = asyncio.get_running_loop().time()
        too_old = now - LOOKED_EVERY.total_seconds()
        turns = asyncio.Semaphore(READS_AT_ONCE)

        async def one(certificate: CertificateId) -> str | None:
            async with turns:
                found = await self._certificates.current(certificate)
            if not isinstance(found, CertificateUnreadable) or found.cause in _IS_ONE:
                self._renewed.add(certificate)
            elif found.cause in _IS_NONE:
                self._others[certificate] = now, found
            else:
                return f"Whether {certificate} exists could not be read ({found.cause}: {found.detail})."
            return None

        asked = [
            each
            for each in sorted(set(referred) - self._renewed)
            if each not in self._others or self._others[each][0] <= too_old
        ]
        return [problem for problem in await asyncio.gather(*map(one, asked)) if problem]

    def _forbidden(self) -> Iterator[CertificateId]:
        for certificate, (_, found) in self._others.items():
            if found.cause is UnreadableCause.FORBIDDEN and certificate not in self._renewed:
                yield certificate

    def _gateway(self, service: Service, body: Mapping[str, Any]) -> Gateway | None:
        """One as it was when it was listed."""
        entity_id = str(body["id"])
        within = entity_id[len(service.id) + 1 :].split("/")
        kind = self._kind
        if len(within) > 2:  # workspaces/W/COLLECTION/NAME
            kind = in_workspaces(kind)
        bare = Gateway(
            id=entity_id,
            name="/".join((service.name, *within[1::2])),
            kind=kind,
            location=service.location,
            state="Succeeded",  # it has no state; an operation of a named value shows in its last read
            bindings=(
                Binding(
                    hostname=within[-1],
                    hostname_type=kind.name,
                    key_vault_id=None,
                    reference=None,
                    configured=None,
                    identity_client_id=None,
                    endpoints=(),
                    no_endpoint="it is used and not served",
                ),
            ),
            listed=True,
            service_id=service.id,
            **tagged(service.tags),
        )
        try:
            return self._reader.with_body(bare, body)
        except ValueError as error:
            _log.warning("%s: %s could not be read: %s", bare.name, kind.subject, clean(error))
            return None

    def _refused(self, service: Service, parts: Parts, known: set[str]) -> Iterator[str]:
        """What Key Vault has refused of what has no verdict (`isKeyVaultRefreshFailed`)."""
        for key, body in parts.items():
            if key not in known and (error := vault_error(body)):
                yield refused(service, self._kind.subject, key, error)


def in_workspaces(kind: Kind) -> Kind:
    """The same kind in a workspace of a service, where it takes another right."""
    return replace(kind, action=kind.action.replace("/service/", "/service/workspaces/"))


def _secret(body: Mapping[str, Any]) -> str:
    """The secret that a body refers to, empty where it refers to none.

    Raises:
        ValueError: it is of another shape.
    """
    properties = mapping(body.get("properties"), "properties")
    return str(mapping(properties.get("keyVault") or {}, "keyVault").get("secretIdentifier") or "")
