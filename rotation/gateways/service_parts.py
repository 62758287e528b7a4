"""What services of API Management have: looked up once an hour, and what an entity's body says of Key Vault.

An entity is a part of a service that has read a secret of Key Vault: a certificate entity, or a named value.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from rotation.gateways.bodies import mapping, reference, tagged, tags, thumbprint
from rotation.model import Gateway, SyncAnswer, Unpinning, clean, shorten

if TYPE_CHECKING:
    from rotation.clients.arm import Arm, Bodies
    from rotation.clients.arm_entities import ArmEntities
    from rotation.clients.resource_graph import ResourceGraph


class Parent(Protocol):
    """What has parts: a service, or a workspace gateway."""

    @property
    def id(self) -> str:
        """The ARM resource id."""

    @property
    def name(self) -> str:
        """The last part of it."""


S = TypeVar("S", bound=Parent)
P = TypeVar("P")

Found = tuple[list[S], list[str], datetime | None]
"""Parents, what could not be seen of them, and ARM's clock."""

SELF_HOSTED_TIERS = frozenset({"developer", "premium"})
"""The tiers that have self-hosted gateways."""

WORKSPACE_TIERS = frozenset({"basicv2", "standardv2", "premium", "premiumv2"})
"""The tiers that have workspaces."""

LOOKED_EVERY = timedelta(hours=1)
"""How long it is remembered what a service has; entities are read when it matters."""

MOST_LOOKED_AT = 50
"""Services in a pass; each costs a few reads."""

READS_AT_ONCE = 8

UNPINNED = Unpinning(
    bicep="keyVault: {{ secretIdentifier: '{url}' }} // of {name}",
    terraform='key_vault_secret_id = "{url}" # of azurerm_api_management_certificate {name}',
    az=(
        "az rest --method put --url {id}?api-version=2024-05-01"
        """ --body '{{"properties":{{"keyVault":{{"secretIdentifier":"{url}"}}}}}}'"""
    ),
)
"""How a person mends a certificate entity whose secretIdentifier has a version."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Service:
    """What every pass knows of a service; its tier and tags in lower case."""

    id: str
    location: str
    tier: str
    tags: Mapping[str, str]

    @property
    def name(self) -> str:
        """The last part of its id."""
        return self.id.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Seen(Generic[S, P]):
    """Parents with what each of them has; `problems` say what could not be seen, `as_of` is ARM's clock."""

    parents: Sequence[tuple[S, P]]
    problems: list[str]
    as_of: datetime | None


class Hourly(Generic[S, P]):
    """What `look` finds out about a parent, or why it could not: asked once an hour and remembered.

    `find` gives the parents, at every pass; `what` they have, and `of` whom, are words for a sentence.
    """

    def __init__(
        self,
        find: Callable[[], Awaitable[Found[S]]],
        look: Callable[[S], Awaitable[P | str]],
        what: str,
        of: str = "services",
    ) -> None:
        self._find = find
        self._look = look
        self._what = what
        self._of = of
        self._known: dict[str, tuple[float, P]] = {}
        self._looked_at: dict[str, float] = {}

    async def see(self) -> Seen[S, P]:
        """The parents as they are now; what cannot be seen is a problem, never silence."""
        parents, problems, as_of = await self._find()
        too_old = asyncio.get_running_loop().time() - LOOKED_EVERY.total_seconds()
        due = [each for each in parents if self._known.get(each.id.lower(), (too_old,))[0] <= too_old]
        due.sort(key=lambda each: self._looked_at.get(each.id.lower(), 0.0))
        problems = problems + await self._look_at(due[:MOST_LOOKED_AT])
        unseen = sorted(each.name for each in parents if each.id.lower() not in self._known)
        if len(due) > MOST_LOOKED_AT and unseen:
            problems.append(
                f"The {self._what} of {len(unseen)} {self._of} ({', '.join(unseen[:5])}, …) were not"
                f" looked at yet: {MOST_LOOKED_AT} {self._of} in a pass are the most. The next one goes on."
            )
        seen = [(each, known[1]) for each in parents if (known := self._known.get(each.id.lower()))]
        return Seen(seen, problems, as_of)

    def forget(self, parent_id: str) -> None:
        """Look again at the next pass."""
        self._known.pop(parent_id.lower(), None)

    async def _look_at(self, parents: Iterable[S]) -> list[str]:
        """Find out what these have; returns what could not be read."""
        turns, clock = asyncio.Semaphore(READS_AT_ONCE), asyncio.get_running_loop().time

        async def one(parent: S) -> str | None:
            async with turns:
                at = self._looked_at[parent.id.lower()] = clock()
                parts = await self._look(parent)
            if isinstance(parts, str):
                return f"{parent.name}: its {self._what} could not be read ({parts})."
            self._known[parent.id.lower()] = at, parts
            return None

        answers = await asyncio.gather(*map(one, parents))
        return [answer for answer in answers if answer]


async def services(arm: "Arm", graph: "ResourceGraph", tiers: frozenset[str] = frozenset()) -> Found[Service]:
    """The services of these tiers, or of all; what the graph does not show is listed."""
    found = await graph.tiers()
    rows: Sequence[Mapping[str, Any]] = ()
    as_of: datetime | None = None
    if not isinstance(found, str):
        rows, as_of = found.rows, found.as_of
    shown = {_subscription(str(row["id"])) for row in rows}
    to_list = [each for each in arm.subscriptions if each not in shown]
    bodies, problems, listed_at = await arm.list_api_management_services(to_list)
    known: dict[str, Service] = {}
    for body in (*rows, *bodies):
        try:
            service = _service(body)
        except ValueError as error:
            problems.append(f"A service of API Management could not be read: {clean(error)}")
            continue
        if (not tiers or service.tier in tiers) and _subscription(service.id) in arm.subscriptions:
            known[service.id.lower()] = service
    return list(known.values()), problems, max((c for c in (as_of, listed_at) if c), default=None)


class EntityReader:
    """Reads an entity that is a gateway to us, and has it read Key Vault."""

    def __init__(
        self, arm: "Arm", entities: "ArmEntities", vault_suffix: str, vaults: frozenset[str]
    ) -> None:
        self._arm = arm
        self._entities = entities
        self._vault_suffix = vault_suffix
        self._vaults = vaults

    async def read(self, gateway: Gateway) -> Gateway | str | None:
        """The entity itself, as it is now, and its service's tags; None where it is gone, or why not."""
        subject = gateway.kind.subject
        service, entity = await asyncio.gather(
            self._arm.get_api_management_service(gateway.service_id), self._entities.entity(gateway.id)
        )
        if isinstance(service, str) or isinstance(entity, str):
            why = service if isinstance(service, str) else entity
            return f"{gateway.name}: {subject} could not be read ({why})."
        (service_body, _), (body, as_of) = service, entity
        if service_body is None or body is None:
            return None
        try:
            fresh = replace(gateway, listed=False, as_of=as_of, **tagged(tags(service_body)))
            return self.with_body(fresh, body)
        except ValueError as error:
            return f"{gateway.name}: {subject} could not be read: {clean(error)}"

    async def refresh(self, gateway: Gateway) -> SyncAnswer:
        """Have the entity read Key Vault; where it has done so already, the answer says what it has then."""
        answer, body = await self._entities.refresh_secret(gateway.id)
        if not isinstance(body, Mapping):
            return answer
        try:
            entity = self.with_body(gateway, body)
        except ValueError:
            return answer
        has = {binding.configured for binding in entity.bindings} - {None}
        said = entity.vault_error or ", ".join(f"the entity has {shorten(str(leaf))}" for leaf in has)
        return replace(answer, detail=f"{answer.detail}, {said}" if said else answer.detail)

    def with_body(self, gateway: Gateway, body: Mapping[str, Any]) -> Gateway:
        """The gateway with what the entity says: where its certificate is from, and what it has now.

        Raises:
            ValueError: the body is no entity, or another one.
        """
        if str(body.get("id", "")).lower() != gateway.key:
            raise ValueError(f"ARM answered with another entity, {clean(body.get('id', ''))}")
        properties = mapping(body.get("properties"), "properties")
        vault = mapping(properties.get("keyVault") or {}, "keyVault")
        status = mapping(vault.get("lastStatus") or {}, "lastStatus")
        url = str(vault.get("secretIdentifier") or "") or None
        failed = vault_error(body)
        identity = vault.get("identityClientId")
        return replace(
            gateway,
            vault_error=failed,
            bindings=tuple(
                replace(
                    binding,
                    key_vault_id=clean(url) if url else None,
                    reference=reference(url, self._vault_suffix, self._vaults),
                    configured=thumbprint(properties.get("thumbprint")),
                    configured_since=None if failed else moment(status.get("timeStampUtc")),
                    identity_client_id=clean(identity) if identity else None,
                    # What is only watched for its expiry is read once.
                    endpoints=binding.endpoints
                    if url
                    else tuple(replace(endpoint, connections=1) for endpoint in binding.endpoints),
                )
                for binding in gateway.bindings
            ),
        )


async def hostnames_of(
    entities: "ArmEntities", service_id: str
) -> tuple[list[str], tuple[tuple[str, str, str], ...]] | str:
    """The names of a service's self-hosted gateways, and (gateway, hostname, key of its entity) of each."""
    gateways = await entities.gateways(service_id)
    if isinstance(gateways, str):
        return gateways
    names = [str(gateway.get("name")) for gateway in gateways]
    if strange := [name for name in names if not _NAME.fullmatch(name)]:
        return f"{clean(strange[0])!r} is no name of a gateway"
    answers = await asyncio.gather(*(entities.hostnames(f"{service_id}/gateways/{name}") for name in names))
    hostnames: list[tuple[str, str, str]] = []
    for name, bodies in zip(names, answers, strict=True):
        if isinstance(bodies, str):
            return bodies
        try:
            of = [mapping(body.get("properties"), "properties") for body in bodies]
        except ValueError as error:
            return clean(error)
        hostnames += [
            (name, clean(each.get("hostname", "")).lower(), str(each.get("certificateId", "")).lower())
            for each in of
        ]
    return names, tuple(hostnames)


def by_key(parent_id: str, collection: str, bodies: "Bodies") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Parts by their key; the id becomes a part of requests, so it has to be the one that is expected.

    Raises:
        ValueError: it is not.
    """
    for body in bodies:
        name = str(body.get("name"))
        key = f"{parent_id}/{collection}/{name}".lower()
        if not _NAME.fullmatch(name) or str(body.get("id")).lower() != key:
            raise ValueError(f"{clean(body.get('id'))!r} is none of its {collection}")
        yield key, body


def vault_error(body: Mapping[str, Any]) -> str | None:
    """What an entity says of its last read of Key Vault, if that failed."""
    properties = body.get("properties")
    vault = properties.get("keyVault") if isinstance(properties, Mapping) else None
    status = vault.get("lastStatus") if isinstance(vault, Mapping) else None
    if not isinstance(status, Mapping) or str(status.get("code", "")).lower() == "success":
        return None
    return clean(f"{status.get('code')}: {status.get('message')}", 512)


def refused(service: Service, subject: str, key: str, error: str) -> str:
    """What to say of an entity that has no verdict, and could not read Key Vault."""
    name = clean("/".join(key[len(service.id) + 1 :].split("/")[1::2]))
    return (
        f"{service.name}: {subject} {name} could not be read from Key Vault ({error}). Give the service's"
        " identity Key Vault Secrets User, and let it through the vault's firewall."
    )


def moment(text: object) -> datetime | None:
    """A time as ARM writes it, with up to seven digits of a second; None where it is none."""
    whole, _, zone = str(text or "").partition(".")
    try:
        found = datetime.fromisoformat(f"{whole}+00:00" if zone else whole.replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo else None


def _service(body: Mapping[str, Any]) -> Service:
    """A service, from a row of Resource Graph or from ARM."""
    service_id = str(mapping(body, "body").get("id", ""))
    if service_id.lower().count("/service/") != 1:
        raise ValueError(f"{clean(service_id)!r} is no service of API Management")
    tier = str(mapping(body.get("sku") or {}, "sku").get("name", "")).lower()
    return Service(service_id, clean(body.get("location", "")), tier, tags(body))


def _subscription(resource_id: str) -> str:
    return resource_id.lower().partition("/subscriptions/")[2].partition("/")[0]
