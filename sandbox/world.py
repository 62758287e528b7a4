"""The state of the pretend Azure: vaults, services, faults and a movable clock. No sockets here.

What a gateway serves is computed when somebody asks, from what happened and when. Nothing runs in the
background, so moving the clock is enough to let a 20 minute update end. Built and changed from any thread
while servers read it.
"""

import re
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar

from sandbox.certificates import CertificateAuthority, Leaf, self_signed
from sandbox.self_hosted import Entity, HostnameConfiguration, SelfHostedGateway, VaultValue

if TYPE_CHECKING:
    from sandbox.application_gateway import ApplicationGateway, FrontDoor
    from sandbox.workspace_gateway import WorkspaceGateway

T = TypeVar("T")

AZURE_QUOTA = 15
"""The queries that Resource Graph lets a user ask in five seconds."""

_NOTHING = timedelta(0)
_BACKDATED = timedelta(minutes=10)  # Key Vault's own habit


class Clock:
    """Real elapsed time plus what was advanced: it never stands still and never goes back."""

    def __init__(self) -> None:
        self._started = datetime.now(UTC)
        self._monotonic = time.monotonic()
        self._advanced = _NOTHING

    def now(self) -> datetime:
        """The sandbox's time, in UTC."""
        elapsed = timedelta(seconds=time.monotonic() - self._monotonic)
        return self._started + elapsed + self._advanced

    def advance(self, delta: timedelta) -> None:
        """Let time pass without waiting for it."""
        if delta < _NOTHING:
            raise ValueError(f"time goes forward only, not by {delta}")
        self._advanced += delta


class Timeline(Generic[T]):
    """A value that changes now and then, and remembers what it was."""

    def __init__(self, clock: Clock, value: T) -> None:
        self._clock = clock
        self._changes = [(clock.now(), value)]

    def set(self, value: T) -> None:
        """Change the value from now on."""
        self._changes.append((self._clock.now(), value))

    def at(self, moment: datetime) -> T:
        """What the value was at a moment; before the beginning, what it began with."""
        if self._changes[-1][0] <= moment:
            return self._changes[-1][1]
        return next((value for at, value in reversed(self._changes) if at <= moment), self._changes[0][1])

    @property
    def now(self) -> T:
        """What the value is."""
        return self._changes[-1][1]

    @property
    def changed(self) -> list[datetime]:
        """When it changed, the beginning included."""
        return [at for at, _ in self._changes]


class Server(StrEnum):
    """The HTTP servers, as faults and request records name them."""

    ARM = "arm"
    VAULT = "vault"
    IDENTITY = "identity"
    INGESTION = "ingestion"
    TOPIC = "topic"


class TlsFault(StrEnum):
    """What a region's load balancer does instead of a TLS handshake that ends well."""

    SILENT = "silent"
    NOT_TLS = "not_tls"
    ALERT = "alert"
    CLIENT_CERTIFICATE = "client_certificate"


@dataclass(slots=True)
class Fault:
    """Something to go wrong at a server, `times` times (None: for ever).

    Without a status, `hang` or `reset`, the request is answered as usual after `delay_seconds`.
    """

    host: str
    path: str = ""
    method: str | None = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: object = None
    delay_seconds: float = 0
    hang: bool = False
    reset: bool = False
    times: int | None = 1

    def matches(self, server: str, method: str, path: str) -> bool:
        """Whether the fault is for this request; `path` is searched as a regular expression."""
        mine = self.host == server and self.method in (None, method)
        return mine and re.search(self.path, path) is not None


@dataclass(slots=True)
class GraphHabits:
    """How Resource Graph behaves: what it shows lags behind by `lag`, and fields may be `hidden`.

    Those are named by their path, like `properties.hostnameConfigurations.keyVaultId`. A user has `quota`
    queries in each `window`; Azure's own is AZURE_QUOTA, which an app waits for in real time while an hour of
    the sandbox takes seconds. `hashes`: whether it knows hash_sha256, which is documented for Kusto only.
    `kept` has rows by service id that are shown as they are: many services that do not change cost less.
    """

    lag: timedelta = _NOTHING
    hidden: set[str] = field(default_factory=set)
    denied: bool = False
    hashes: bool = True
    kept: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    most_rows: int = 1000
    quota: int = 1_000_000
    window: timedelta = timedelta(seconds=5)


class Recommendation(StrEnum):
    """What Azure Advisor may have to say about an API Management service: recommendationTypeId."""

    HOSTNAME_CERT_ROTATION_FAIL = "8962964c-a6d6-4c3d-918a-2777f7fbdca7"
    TLS_RENEGOTIATION_BLOCKED = "c1a3b2f0-6e7d-4b7e-9a53-0d5f6f0c7a11"  # made up: only another one


@dataclass(slots=True)
class Request:
    """A request as a server received it; status None until it is answered, and for ever if it never is."""

    at: datetime
    server: Server
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """What an access token is good for. The token itself is an opaque string."""

    resource: str
    expires: datetime


class CustomEvent(NamedTuple):
    """A row of App Insights' `customEvents`."""

    name: str
    properties: dict[str, str]
    measurements: dict[str, float]
    operation_id: str | None


class EventType(StrEnum):
    """The Key Vault events about certificates."""

    NEW_VERSION = "Microsoft.KeyVault.CertificateNewVersionCreated"
    NEAR_EXPIRY = "Microsoft.KeyVault.CertificateNearExpiry"
    EXPIRED = "Microsoft.KeyVault.CertificateExpired"


@dataclass(frozen=True, slots=True)
class KeyVaultEvent:
    """Something Key Vault has to say about a certificate version."""

    id: str
    type: EventType
    at: datetime
    version: "Version"


class Version:
    """One version of a Key Vault certificate."""

    def __init__(self, certificate: "Certificate", leaf: Leaf, clock: Clock) -> None:
        self.certificate = certificate
        self.leaf = leaf
        self.id = uuid.uuid4().hex
        self.created = clock.now()
        self.enabling = Timeline(clock, value=True)

    @property
    def enabled(self) -> bool:
        """Whether Key Vault hands it out."""
        return self.enabling.now

    @property
    def updated(self) -> datetime:
        """When its attributes changed last."""
        return self.enabling.changed[-1]

    @property
    def secret_id(self) -> str:
        """The versioned secret id; a gateway configured with it is pinned."""
        return f"{self.certificate.secret_id}/{self.id}"

    @cached_property
    def thumbprint(self) -> str:
        """SHA-1 in upper-case hex."""
        return self.leaf.thumbprint

    @cached_property
    def sha256(self) -> str:
        """SHA-256 in upper-case hex."""
        return self.leaf.sha256

    @property
    def der(self) -> bytes:
        """The certificate itself."""
        return self.leaf.der

    @property
    def subject(self) -> str:
        """The distinguished name as ARM shows it."""
        return self.leaf.subject

    @property
    def chain_pem(self) -> str:
        """Leaf and intermediate, as a server sends them."""
        return self.leaf.chain_pem

    @property
    def key_pem(self) -> str:
        """The private key, which only gateways get to see."""
        return self.leaf.key_pem

    @property
    def not_before(self) -> datetime:
        """Start of validity."""
        return self.leaf.not_before

    @property
    def not_after(self) -> datetime:
        """End of validity."""
        return self.leaf.not_after


class Certificate:
    """A Key Vault certificate object: versions under one name."""

    def __init__(self, vault: "Vault", name: str) -> None:
        self.vault = vault
        self.name = name
        self.versions: list[Version] = []
        self._deletion = Timeline(vault.world.clock, value=False)

    @property
    def secret_id(self) -> str:
        """The versionless secret id, as gateways are configured with it."""
        return f"https://{self.vault.host}/secrets/{self.name}"

    @property
    def newest(self) -> Version:
        """The version a request without a version means: enabled or not."""
        return self.versions[-1]

    @property
    def deleted(self) -> datetime | None:
        """When it was (softly) deleted, if it is."""
        return self._deletion.changed[-1] if self._deletion.now else None

    @property
    def changed(self) -> list[datetime]:
        """When there was something new to read: a version that appeared, or was disabled or enabled."""
        return [at for version in self.versions for at in version.enabling.changed]

    def newest_at(self, moment: datetime) -> Version:
        """What was newest at a moment."""
        existing = (version for version in reversed(self.versions) if version.created <= moment)
        return next(existing, self.versions[0])

    def readable_at(self, moment: datetime) -> bool:
        """Whether Key Vault would have handed the newest version out."""
        return not self._deletion.at(moment) and self.newest_at(moment).enabling.at(moment)

    def renew(
        self,
        *,
        names: Sequence[str] | None = None,
        days: float = 90,
        not_before: datetime | None = None,
        announce: bool = True,
        issuer: CertificateAuthority | None = None,
        self_sign: bool = False,
    ) -> Version:
        """Append a version, with the names it had unless told otherwise."""
        world = self.vault.world
        since = not_before or world.clock.now() - _BACKDATED
        issue = self_signed if self_sign else (issuer or world.ca).issue
        leaf = issue(names or self.newest.leaf.names, days=days, not_before=since)
        version = Version(self, leaf, world.clock)
        self.versions.append(version)
        if announce:
            world.announce(EventType.NEW_VERSION, version)
        return version

    def disable(self) -> None:
        """Disable the newest version."""
        self.newest.enabling.set(value=False)

    def enable(self) -> None:
        """Enable the newest version again."""
        self.newest.enabling.set(value=True)

    def delete(self) -> None:
        """Delete it softly."""
        self._deletion.set(value=True)

    def recover(self) -> None:
        """Undo the deletion."""
        self._deletion.set(value=False)


class Vault:
    """A key vault.

    `subscribed` are the event types of the app's event subscription, None where there is no system topic.
    """

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.host = f"{name}.vault.azure.net"
        self.id = (
            f"/subscriptions/{world.subscription_id}/resourceGroups/rg-vaults"
            f"/providers/Microsoft.KeyVault/vaults/{name}"
        )
        self.certificates: dict[str, Certificate] = {}
        self.role_based = True
        self.behind_firewall = False
        self.lets_trusted_services_in = True
        self.subscribed: set[EventType] | None = set(EventType)

    def add_certificate(
        self,
        name: str,
        names: Sequence[str],
        *,
        days: float = 90,
        not_before: datetime | None = None,
        announce: bool = False,
        issuer: CertificateAuthority | None = None,
        self_sign: bool = False,
    ) -> Certificate:
        """Create a certificate with its first version."""
        certificate = Certificate(self, name)
        certificate.renew(
            names=names,
            days=days,
            not_before=not_before,
            announce=announce,
            issuer=issuer,
            self_sign=self_sign,
        )
        self.certificates[name.casefold()] = certificate
        return certificate


@dataclass(frozen=True, slots=True)
class Hostname:
    """A custom domain of a service and where its certificate comes from: one of the four, or none at all."""

    host_name: str
    certificate: Certificate | None = None
    type: str = "Proxy"
    pinned_version: Version | None = None
    uploaded: Leaf | None = None
    managed: bool = False

    @property
    def followed(self) -> Certificate | None:
        """The certificate whose newest version this hostname is meant to follow."""
        return self.certificate if self.pinned_version is None else None

    @property
    def key_vault_id(self) -> str | None:
        """What ARM shows as keyVaultId."""
        source = self.pinned_version or self.certificate
        return source.secret_id if source else None

    def matches(self, name: str) -> bool:
        """Whether a server name falls under this domain; a wildcard stands for one label."""
        own, name = self.host_name.casefold(), name.casefold()
        return own == name or (own.startswith("*.") and own[2:] == name.partition(".")[2])


@dataclass(frozen=True, slots=True)
class Update:
    """A stretch of time in which a service is being changed."""

    id: str
    began: datetime
    ends: datetime
    reads_vault: bool
    locks: bool


class ServiceLockedError(Exception):
    """The service is transitioning; the caller has to come back later."""


@dataclass(slots=True)
class NamedValue:
    """A named value of a service; one that is secret is not shown. A write makes another revision."""

    value: str
    secret: bool = False
    revision: int = 1


class Service:
    """An API Management service: hostnames served by scale units in one or more regions."""

    def __init__(
        self,
        world: "World",
        name: str,
        *,
        number: int,
        regions: Mapping[str, int],
        sku: str,
        hostnames: Sequence[Hostname],
        subscription_id: str,
        resource_group: str,
        virtual_network_type: str,
        tags: Mapping[str, str],
    ) -> None:
        self.world = world
        self.name = name
        self.number = number
        self.regions = dict(regions)
        self.sku = sku
        self.hostnames = tuple(hostnames)
        self.subscription_id = subscription_id
        self.resource_group = resource_group
        self.virtual_network_type = virtual_network_type
        self.tags = dict(tags)
        self.created = world.clock.now()
        self.updates: list[Update] = []
        self.update_duration = timedelta(minutes=20)
        self.lag: dict[str, timedelta] = {}
        self.unit_lag = timedelta(minutes=2)
        self.self_sync_after: timedelta | None = None
        self.gateway_disabled: set[str] = set()
        self.down: set[str] = set()
        self.tls_faults: dict[str, TlsFault | str] = {}
        self.recommendations: set[Recommendation] = set()
        self.instead: dict[str, Leaf] = {}
        self.named_values: dict[str, NamedValue] = {}
        self.accepts_with: Literal[200, 202] = 202
        self.offers_sync = True
        self.one_failure_fails_all = True
        self.sets_updating = True
        self.configured_when: Literal["update_ends", "at_once"] = "update_ends"
        self._can_read_vault = Timeline(world.clock, value=True)
        self._first = {hostname: self._begin_with(hostname) for hostname in self.hostnames}
        self.entities: list[Entity] = []
        self.vault_values: list[VaultValue] = []
        self.workspaces: list[str] = []
        self.self_hosted: list[SelfHostedGateway] = []

    @property
    def id(self) -> str:
        """The ARM resource id."""
        return (
            f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.ApiManagement/service/{self.name}"
        )

    @property
    def location(self) -> str:
        """The main location."""
        return next(iter(self.regions))

    @property
    def builtin_host(self) -> str:
        """The hostname every service has."""
        return f"{self.name}.azure-api.net".casefold()

    @property
    def default_hostname(self) -> Hostname | None:
        """The custom gateway domain that clients without SNI get."""
        return next((hostname for hostname in self.hostnames if hostname.type == "Proxy"), None)

    def regional_host(self, region: str) -> str:
        """The address of one region's load balancer."""
        return f"{self.name}-{region.replace(' ', '')}-01.regional.azure-api.net".casefold()

    def public_address(self, region: str) -> str:
        """A region's public address, from a range reserved for documentation."""
        return f"203.0.113.{(self.number + list(self.regions).index(region)) % 254 + 1}"

    def private_address(self, region: str) -> str:
        """A region's address inside its virtual network."""
        return f"10.{self.number // 256 % 256}.{self.number % 256}.{list(self.regions).index(region) + 5}"

    @property
    def identity_can_read_vault(self) -> bool:
        """Whether the service's identity may get secrets."""
        return self._can_read_vault.now

    @identity_can_read_vault.setter
    def identity_can_read_vault(self, allowed: bool) -> None:
        self._can_read_vault.set(allowed)

    @property
    def syncs(self) -> list[datetime]:
        """When refreshHostnames was accepted."""
        return [update.began for update in self.updates if update.reads_vault]

    @property
    def updating_until(self) -> datetime | None:
        """When the update under way ends, if there is one."""
        now = self.world.clock.now()
        return max(
            (update.ends for update in self.updates if update.locks and now < update.ends), default=None
        )

    def provisioning_state(self, now: datetime) -> str:
        """What ARM says the service is up to."""
        busy = any(update.locks and update.began <= now < update.ends for update in self.updates)
        return "Updating" if busy else "Succeeded"

    def begin_sync(self) -> Update:
        """Start re-reading Key Vault for every hostname."""
        if self.updating_until is not None:
            raise ServiceLockedError(self.name)
        return self._begin(self.update_duration, reads_vault=True, locks=self.sets_updating)

    def begin_foreign_update(self, duration: timedelta) -> Update:
        """Make the service busy with something that has nothing to do with certificates."""
        return self._begin(duration, reads_vault=False, locks=True)

    def _begin(self, duration: timedelta, *, reads_vault: bool, locks: bool) -> Update:
        began = self.world.clock.now()
        update = Update(uuid.uuid4().hex[:8], began, began + duration, reads_vault, locks)
        self.updates.append(update)
        return update

    def failure(self, moment: datetime) -> str | None:
        """Why re-reading Key Vault at a moment fails; one certificate is enough to fail the whole update."""
        for certificate in filter(None, (hostname.followed for hostname in self.hostnames)):
            if not (self._can_read_vault.at(moment) and certificate.readable_at(moment)):
                return self.vault_refusal(certificate)
        return None

    def can_read_vault(self, moment: datetime) -> bool:
        """Whether the service's identity could get secrets at a moment."""
        return self._can_read_vault.at(moment)

    def vault_refusal(self, certificate: Certificate) -> str:
        """What ARM says where the service could not read a certificate."""
        return (
            f"Failed to access KeyVault Secret {certificate.secret_id} "
            "using Managed Service Identity (http://aka.ms/apimmsi) of Api Management service. "
            f"Check if Managed Identity of Type: SystemAssigned, ClientId: {self.guid('client')} "
            f"and ObjectId: {self.guid('principal')} "
            "has GET permissions on secrets in the KeyVault Access Policies."
        )

    def add_entity(
        self,
        name: str,
        certificate: Certificate | None = None,
        *,
        pinned: bool = False,
        uploaded: Leaf | None = None,
        workspace: str | None = None,
    ) -> Entity:
        """Give the service, or a workspace of it, a certificate entity."""
        entity = Entity(self, name, certificate, pinned=pinned, uploaded=uploaded, workspace=workspace)
        self.entities.append(entity)
        return entity

    def add_vault_value(
        self,
        name: str,
        certificate: Certificate | None = None,
        *,
        secret: str | None = None,
        pinned: bool = False,
        workspace: str | None = None,
    ) -> VaultValue:
        """Give the service, or a workspace of it, a named value from Key Vault."""
        value = VaultValue(self, name, certificate, secret=secret, pinned=pinned, workspace=workspace)
        self.vault_values.append(value)
        return value

    def add_self_hosted(
        self,
        name: str,
        hostnames: Mapping[str, Entity],
        addresses: Sequence[str] = (),
        authorities: Sequence[Entity] = (),
    ) -> SelfHostedGateway:
        """Give the service a self-hosted gateway: entities by hostname, and the host of each replica."""
        configured = [HostnameConfiguration(host, entity) for host, entity in hostnames.items()]
        gateway = SelfHostedGateway(self, name, configured, addresses, authorities)
        self.self_hosted.append(gateway)
        return gateway

    def _fails(self, certificate: Certificate, moment: datetime) -> bool:
        """Whether an update leaves a certificate as it was."""
        if self.one_failure_fails_all:
            return self.failure(moment) is not None
        return not (self._can_read_vault.at(moment) and certificate.readable_at(moment))

    def guid(self, purpose: str) -> str:
        """A GUID of this service, always the same for the same purpose."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.id}#{purpose}"))

    def hostname(self, name: str) -> Hostname | None:
        """The custom domain a server name belongs to; an exact one goes before a wildcard."""
        matching = [hostname for hostname in self.hostnames if hostname.matches(name)]
        return min(matching, key=lambda hostname: hostname.host_name.startswith("*."), default=None)

    def served(self, host_name: str, region: str, unit: int, now: datetime) -> Version | Leaf:
        """What one scale unit presents for a server name."""
        hostname = self.hostname(host_name)
        if hostname is None:
            return self.world.builtin
        if (other := self.instead.get(hostname.host_name)) is not None:
            return other
        lag = self.lag.get(region, _NOTHING) + unit * self.unit_lag
        return self._held(hostname, now - lag)

    def configured(self, host_name: str, now: datetime) -> Version | Leaf | None:
        """What ARM shows for a custom domain; None for the built-in one."""
        hostname = self.hostname(host_name)
        return self._held(hostname, now, early=self.configured_when == "at_once") if hostname else None

    def _held(self, hostname: Hostname, moment: datetime, *, early: bool = False) -> Version | Leaf:
        """What was read last, by a moment."""
        certificate = hostname.followed
        if certificate is None:
            return self._first[hostname]
        last = max((at for at in self._reads(certificate, early=early) if at <= moment), default=None)
        return certificate.newest_at(last) if last else self._first[hostname]

    def _reads(self, certificate: Certificate, *, early: bool) -> Iterator[datetime]:
        """When a certificate is read from Key Vault, the failures left out."""
        for update in self.updates:
            at = update.began if early else update.ends
            if update.reads_vault and not self._fails(certificate, at):
                yield at
        if self.self_sync_after is not None:
            for changed in certificate.changed:
                at = changed + self.self_sync_after
                if self._can_read_vault.at(at) and certificate.readable_at(at):
                    yield at

    def _begin_with(self, hostname: Hostname) -> Version | Leaf:
        if hostname.certificate and not hostname.pinned_version:
            return hostname.certificate.newest
        if given := hostname.pinned_version or hostname.uploaded:
            return given
        return self.world.ca.issue([hostname.host_name], days=180, not_before=self.created - _BACKDATED)


class World:
    """All there is: what people own, what goes wrong, and what was received.

    Args:
        clock: the time everything here goes by.
        ca: who issues the certificates.
    """

    def __init__(self, clock: Clock | None = None, ca: CertificateAuthority | None = None) -> None:
        self.clock = clock or Clock()
        self.ca = ca or CertificateAuthority()
        self.builtin = self.ca.issue(["*.azure-api.net", "*.regional.azure-api.net"], days=365)
        self.tenant_id = "7f3e1c52-6a0b-4d59-9c1e-2b8d40a6e911"
        self.subscription_id = "1d0c8a94-5b37-4f62-8e2d-93c6f7ab4e10"
        self.vaults: dict[str, Vault] = {}
        self.services: list[Service] = []
        self.removed: list[tuple[datetime, Service]] = []
        self.application_gateways: list[ApplicationGateway] = []
        self.front_doors: list[FrontDoor] = []
        self.workspace_gateways: list[WorkspaceGateway] = []
        self.graph = GraphHabits()
        self.events: deque[KeyVaultEvent] = deque()
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.telemetry: list[dict[str, Any]] = []
        self.notices: list[dict[str, Any]] = []
        self.tokens: dict[str, Token] = {}
        self.token_lifetime = timedelta(
            days=3650
        )  # a client's cache lives in real time: a moved clock escapes it
        self.denied_subscriptions: set[str] = set()
        self.page_size = 50
        self.retry_after = 60
        self.operation_ends_with: Literal[200, 204] = 200
        self.disabled_certificate_answers: Literal[200, 403] = 403
        self.ingestion_needs_token = False
        self.granted_actions = [
            "*/read",
            "Microsoft.ApiManagement/service/refreshHostnames/action",
            "Microsoft.Resources/tags/write",
            "Microsoft.Network/applicationGateways/backendhealth/action",
        ]
        self.granted_data_actions = ["Microsoft.KeyVault/vaults/certificates/read"]
        self.registers_sync = True

    @property
    def subscriptions(self) -> list[str]:
        """Every subscription that exists, the main one first."""
        others = (gateway.subscription_id for gateway in self.application_gateways)
        services = (service.subscription_id for service in self.services)
        return list(dict.fromkeys([self.subscription_id, *services, *others]))

    def timeline(self, value: T) -> "Timeline[T]":
        """A value that changes by this world's clock."""
        return Timeline(self.clock, value)

    def add_vault(self, name: str) -> Vault:
        """Create a vault."""
        vault = self.vaults[name.casefold()] = Vault(self, name)
        return vault

    def add_service(
        self,
        name: str,
        *,
        regions: Mapping[str, int] | None = None,
        sku: str = "Premium",
        hostnames: Sequence[Hostname] = (),
        subscription_id: str | None = None,
        resource_group: str = "rg-apim",
        virtual_network_type: str = "None",
        tags: Mapping[str, str] | None = None,
    ) -> Service:
        """Create a service that serves the newest versions there are now.

        Args:
            name: also the name of the built-in host.
            regions: scale units by location, the main location first.
            sku: the tier.
            hostnames: the custom domains.
            subscription_id: the main subscription unless given.
            resource_group: where it lives.
            virtual_network_type: None, External or Internal.
            tags: as ARM shows them.
        """
        service = Service(
            self,
            name,
            number=len(self.services),
            regions=regions or {"West Europe": 2},
            sku=sku,
            hostnames=hostnames,
            subscription_id=subscription_id or self.subscription_id,
            resource_group=resource_group,
            virtual_network_type=virtual_network_type,
            tags=tags or {},
        )
        self.services.append(service)
        return service

    def remove_service(self, service: Service) -> None:
        """Delete a service; Resource Graph goes on showing it for its lag."""
        self.services.remove(service)
        self.removed.append((self.clock.now(), service))

    def announce(self, kind: EventType, version: Version) -> KeyVaultEvent:
        """Put an event on the outbox, from where Event Grid takes it."""
        event = KeyVaultEvent(str(uuid.uuid4()), kind, self.clock.now(), version)
        self.events.append(event)
        return event

    def take_fault(self, server: str, method: str, path: str) -> Fault | None:
        """The first fault for a request, used up if it was the last time."""
        fault = next((fault for fault in self.faults if fault.matches(server, method, path)), None)
        if fault is not None and fault.times is not None:
            fault.times -= 1
            if fault.times <= 0:
                self.faults.remove(fault)
        return fault

    def custom_events(self, name: str | None = None) -> list[CustomEvent]:
        """The custom events App Insights has, of one name or all."""
        return [event for envelope in self.telemetry for event in _custom_event(envelope, name)]


def _custom_event(envelope: Mapping[str, Any], name: str | None) -> Iterator[CustomEvent]:
    data = envelope.get("data", {})
    base = data.get("baseData", {})
    if data.get("baseType") == "EventData" and name in (None, base.get("name")):
        yield CustomEvent(
            base["name"],
            base.get("properties") or {},
            base.get("measurements") or {},
            envelope.get("tags", {}).get("ai.operation.id"),
        )
