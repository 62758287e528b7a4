"""The words of the project as value types. Standard library only, no I/O, imported by everything."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from traceback import format_tb
from typing import Protocol, Self
from urllib.parse import urlsplit

_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
)
"""Control and format characters, line separators and halves of surrogate pairs (Cc, Cf, Zl, Zp, Cs)."""

_VAULT_NAME = re.compile(r"[a-z][a-z0-9-]{1,22}[a-z0-9]")
_OBJECT_NAME = re.compile(r"[0-9a-z-]{1,127}")
_ADDRESS = re.compile(r"([a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::(\d{1,5}))?(?:\*(\d{1,3}))?", re.ASCII)
_OBJECT_VERSION = re.compile(r"[0-9a-z]{1,64}")

MOST_REPLICAS = 64
"""Behind one address; the number decides how often we connect."""

ANY_NAME = "*"
"""The hostname of a listener that has none, and answers whatever name is asked for."""

IDLE_STATES = frozenset({"succeeded", "ready", "failed"})
"""provisioningState values in which ARM accepts a new operation; it is an open string."""


def clean(text: object, limit: int = 256) -> str:
    """An outside string made safe to log and show: no character that is unseen or moves others, capped."""
    return _UNPRINTABLE.sub(" ", str(text))[:limit]


def trace(error: BaseException) -> str:
    """Where an exception was raised, and what it says made safe to log: its text may be somebody else's."""
    frames = "".join(format_tb(error.__traceback__))
    return f"{type(error).__name__}: {clean(error)}\n{frames}".rstrip()


def shorten(thumbprint: str) -> str:
    """The first ten digits: enough for a sentence, the whole stands in the fields beside it."""
    return f"{thumbprint[:10]}…"


class Mode(StrEnum):
    """What a pass may do."""

    OBSERVE = "Observe"
    REPAIR = "Repair"
    FORCE = "Force"


class Trigger(StrEnum):
    """What started a pass; for a rotation, what caught it."""

    EVENT = "event"
    TIMER = "timer"
    HAND = "hand"


class GatewayKind(StrEnum):
    """The names of the kinds of gateway, as settings, reports and telemetry have them."""

    API_MANAGEMENT = "ApiManagement"
    SELF_HOSTED = "SelfHostedGateway"
    APPLICATION_GATEWAY = "ApplicationGateway"
    CERTIFICATE_ENTITY = "CertificateEntity"
    NAMED_VALUE = "NamedValue"
    WORKSPACE_GATEWAY = "WorkspaceGateway"


@dataclass(frozen=True, slots=True)
class Unpinning:
    """How to take the version out of a reference to Key Vault, in three languages.

    Each is a template for `str.format` with `url`, the versionless secret URI; `id`, `subscription`, `group`
    and `name` of the gateway; `hostname`, and `position` of the binding.
    """

    bicep: str
    terraform: str
    az: str


@dataclass(frozen=True, slots=True)
class Kind:
    """What differs between kinds of gateway, as data: rules and holds are alike for all of them.

    Each file in `rotation/gateways/` has its own. A sync may be on its way for `sync_takes`, which `takes`
    says in words. In `down_in_tiers` a gateway goes down while it updates. The other texts complete messages:

    - `action` is the right that a sync needs;
    - `subject` is what has a state ("the service"), `reference` the field that refers to Key Vault;
    - `not_offered` says what is missing where a sync is not supported, and what to do instead;
    - `overdue` is where to look when a sync has changed nothing;
    - `without_vault` is what becomes of a gateway that cannot read the vault, up to the day on which;
    - `unpin` is how a person mends a reference with a version.

    Where ARM is told, and the gateway then fetches by itself what ARM has configured, it does so within
    `fetches_within`; `not_fetching` says what to check where it has not.

    A gateway that looks into the vault by itself has done so `looks_within` at the latest; `not_looking` says
    what a person can do where it still serves the old version then. `api_version` is the one to read it with,
    empty for API Management, whose version is a setting.

    Where nothing can be connected to, because a certificate is used and not served, `not_served` says what
    for; then ARM's word is all there is. `takes_anything`: whatever the secret holds, not PKCS #12 alone.
    `only_observed` says why none is synced, where the setting that a sync takes is off.
    """

    name: GatewayKind
    sync_takes: timedelta
    takes: str
    action: str
    subject: str
    reference: str
    not_offered: str
    overdue: str
    without_vault: str
    unpin: Unpinning
    down_in_tiers: frozenset[str] = frozenset()
    fetches_within: timedelta | None = None
    not_fetching: str = ""
    looks_within: timedelta | None = None
    not_looking: str = ""
    api_version: str = ""
    not_served: str = ""
    takes_anything: bool = False
    only_observed: str = ""


class Status(StrEnum):
    """One of six; docs/verdicts.md says what each means and what to do."""

    IN_SYNC = "IN_SYNC"
    SYNCING = "SYNCING"
    STALE = "STALE"
    BLOCKED = "BLOCKED"
    UNKNOWN = "UNKNOWN"
    UNMANAGED = "UNMANAGED"


class Reason(StrEnum):
    """Why a verdict has its status; docs/verdicts.md has a row for each."""

    SERVED = "Served"
    EXPIRES_SOON = "ExpiresSoon"
    SERVICE_UPDATING = "ServiceUpdating"
    SYNC_IN_FLIGHT = "SyncInFlight"
    PARTLY_SERVED = "PartlyServed"
    GATEWAY_NOT_POLLING = "GatewayNotPolling"
    SERVES_OLD_VERSION = "ServesOldVersion"
    SYNC_OVERDUE = "SyncOverdue"
    PINNED_VERSION = "PinnedVersion"
    CERTIFICATE_DELETED = "CertificateDeleted"
    CERTIFICATE_NOT_FOUND = "CertificateNotFound"
    VERSION_DISABLED = "VersionDisabled"
    VERSION_EXPIRED = "VersionExpired"
    VERSION_NOT_YET_VALID = "VersionNotYetValid"
    VERSION_UNUSABLE = "VersionUnusable"
    NAME_NOT_COVERED = "NameNotCovered"
    NAMES_LOST = "NamesLost"
    ISSUER_CHANGED = "IssuerChanged"
    FRONT_DISTRUSTS = "FrontDistrusts"
    GATEWAY_NOT_LOOKING = "GatewayNotLooking"
    GATEWAY_CANNOT_READ_VAULT = "GatewayCannotReadVault"
    SYNC_NOT_SUPPORTED = "SyncNotSupported"
    SERVED_BY_OTHER = "ServedByOther"
    VAULT_UNREADABLE = "VaultUnreadable"
    PROBE_FAILED = "ProbeFailed"
    NOT_OBSERVABLE = "NotObservable"
    NOT_FROM_KEY_VAULT = "NotFromKeyVault"
    CONFIGURED_ONLY = "ConfiguredOnly"
    OUT_OF_SCOPE = "OutOfScope"
    INTERNAL_ERROR = "InternalError"


@dataclass(frozen=True, slots=True, order=True)
class CertificateId:
    """A Key Vault certificate object: lower-case vault host and object name, no version."""

    vault_host: str
    name: str

    def __str__(self) -> str:
        return f"https://{self.vault_host}/certificates/{self.name}"

    @property
    def secret_url(self) -> str:
        """The versionless secret URI: the form in which API Management follows renewals."""
        return f"https://{self.vault_host}/secrets/{self.name}"


@dataclass(frozen=True, slots=True)
class KeyVaultReference:
    """What a keyVaultId or an event's Id points to; `version` is None where renewals are followed."""

    certificate: CertificateId
    version: str | None

    @classmethod
    def from_url(cls, url: str, vault_suffix: str) -> Self:
        """Read `https://{vault}.{vault_suffix}/{certificates|secrets}/{name}[/{version}]`.

        Case is folded, because Azure compares these case-insensitively and stores them as typed.

        Raises:
            ValueError: the URL is not of that form, or its vault is not in this cloud.
        """
        if not url.strip().isascii() or not url.strip().isprintable():
            raise ValueError(f"{clean(url)!r} has characters that no Key Vault URL has")
        parts = urlsplit(url.strip().lower())
        vault, dot, suffix = parts.netloc.partition(".")
        if (parts.scheme, suffix, parts.query, parts.fragment) != ("https", vault_suffix, "", "") or not dot:
            raise ValueError(f"{clean(url)!r} is not a Key Vault object of https://*.{vault_suffix}")
        if not _VAULT_NAME.fullmatch(vault):
            raise ValueError(f"{clean(url)!r} has an impossible vault name")
        collection, name, version = (*parts.path.strip("/").split("/"), "", "", "")[:3]
        if parts.path.strip("/").count("/") > 2 or collection not in {"certificates", "secrets"}:
            raise ValueError(f"{clean(url)!r} is neither /certificates/NAME nor /secrets/NAME")
        if not _OBJECT_NAME.fullmatch(name) or (version and not _OBJECT_VERSION.fullmatch(version)):
            raise ValueError(f"{clean(url)!r} has an impossible object name or version")
        return cls(CertificateId(parts.netloc, name), version or None)


@dataclass(frozen=True, slots=True)
class CertificateVersion:
    """The newest version of a certificate, its public part only.

    `key` is its type and size in words, `content_type` that of its secret where the policy could be read.
    """

    certificate: CertificateId
    version: str
    thumbprint: str
    sha256: str
    enabled: bool
    created: datetime
    updated: datetime
    not_before: datetime
    not_after: datetime
    names: tuple[str, ...]
    issuer: str
    self_signed: bool = False
    key: str = ""
    content_type: str | None = None

    @property
    def available_since(self) -> datetime:
        """When a gateway could first have read it: a re-enabled version counts from then."""
        return max(self.created, self.updated)


class UnreadableCause(StrEnum):
    """Why Key Vault gave no certificate."""

    DELETED = "deleted"
    NOT_FOUND = "not found"
    DISABLED = "disabled"
    FORBIDDEN = "forbidden"
    THROTTLED = "throttled"
    UNREACHABLE = "unreachable"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class CertificateUnreadable:
    """A read of Key Vault that failed, as a value."""

    certificate: CertificateId
    cause: UnreadableCause
    detail: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A place to connect: `host`:`port` is dialled, `hostname` is asked for, `connections` times."""

    hostname: str
    region: str
    host: str
    port: int = 443
    connections: int = 1

    @property
    def sni(self) -> str:
        """The name for the hello; a wildcard needs a label of its own in place of the star."""
        name = self.hostname.rstrip(".").lower()
        return f"rotation-check{name[1:]}" if name.startswith("*.") else name


class CertificateText(Protocol):
    """What a presented certificate says of itself, parsed when it is asked for."""

    @property
    def thumbprint(self) -> str:
        """SHA-1 of its DER in upper-case hex."""

    @property
    def not_after(self) -> datetime | None:
        """In UTC; None where it cannot be read."""

    @property
    def names(self) -> tuple[str, ...]:
        """The DNS names for which it is meant."""

    @property
    def subject(self) -> str:
        """The distinguished name."""

    @property
    def issuer(self) -> str:
        """The distinguished name of who vouches for it."""

    @property
    def serial(self) -> str:
        """In upper-case hex."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a gateway listens; `replicas` of it share the address behind a load balancer."""

    host: str
    port: int = 443
    replicas: int = 1

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read `HOST[:PORT][*REPLICAS]`; an IPv6 address stands in brackets.

        Raises:
            ValueError: the text is not of that form.
        """
        match = _ADDRESS.fullmatch(text.strip().lower())
        port, replicas = (int(match[n] or default) for n, default in ((2, 443), (3, 1))) if match else (0, 0)
        if not match or not 0 < port < 65536 or not 0 < replicas <= MOST_REPLICAS:
            raise ValueError(f"{clean(text)!r} is no address; write HOST, HOST:PORT or HOST:PORT*REPLICAS.")
        return cls(match[1].strip("[]"), port, replicas)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ServedCertificate:
    """The leaf read in one handshake of so many `seconds`, with its connection.

    `distrust` is OpenSSL's complaint, None where it verified. `chain` is what was presented, the leaf first.
    """

    endpoint: Endpoint
    thumbprint: str
    sha256: str
    address: str
    tls_version: str
    distrust: str | None
    chain: tuple[CertificateText, ...] = field(repr=False, compare=False)
    seconds: float = field(default=0.0, compare=False)

    @property
    def not_after(self) -> datetime | None:
        """Of the leaf, like what follows."""
        return self.chain[0].not_after

    @property
    def names(self) -> tuple[str, ...]:
        """The DNS names for which it is meant."""
        return self.chain[0].names

    @property
    def subject(self) -> str:
        """The distinguished name."""
        return self.chain[0].subject

    @property
    def issuer(self) -> str:
        """The distinguished name of who vouches for it."""
        return self.chain[0].issuer

    @property
    def serial(self) -> str:
        """In upper-case hex."""
        return self.chain[0].serial


class ProbeFault(StrEnum):
    """How a handshake failed to show a certificate."""

    NAME_UNRESOLVED = "name does not resolve"
    BAD_NAME = "impossible name"
    FORBIDDEN_ADDRESS = "forbidden address"
    REFUSED = "connection refused"
    UNREACHABLE = "unreachable"
    CONNECT_TIMEOUT = "timeout at connect"
    HANDSHAKE_TIMEOUT = "timeout in handshake"
    CLOSED = "closed by peer"
    NOT_TLS = "not TLS"
    ALERT = "TLS alert"
    PROTOCOL = "TLS protocol error"
    OUT_OF_TIME = "out of time"


@dataclass(frozen=True, slots=True)
class ProbeFailure:
    """A connection that showed no certificate, as a value."""

    endpoint: Endpoint
    fault: ProbeFault
    detail: str


Observation = ServedCertificate | ProbeFailure


@dataclass(frozen=True, slots=True)
class Binding:
    """A hostname of a gateway, tied to a certificate or not.

    `key_vault_id` is as ARM gave it; `reference` is what it means, None where it means nothing in this
    cloud. `configured` is the thumbprint in ARM, since `configured_since` where ARM says when it was read.
    `no_endpoint` says why there is nowhere to connect to, where that is so.
    """

    hostname: str
    hostname_type: str
    key_vault_id: str | None
    reference: KeyVaultReference | None
    configured: str | None
    identity_client_id: str | None
    endpoints: tuple[Endpoint, ...]
    no_endpoint: str = "no address is known"
    configured_since: datetime | None = None

    @property
    def key(self) -> str:
        """What tells it from the gateway's other bindings."""
        return f"{self.hostname_type}/{self.hostname}".lower()

    def has(self, version: CertificateVersion) -> bool:
        """Whether ARM has this version: by its thumbprint, or else by when Key Vault was last read.

        Key Vault tells whole seconds, so a read within the same one may have been too early.
        """
        if self.configured:
            return self.configured == version.thumbprint
        since = self.configured_since
        return since is not None and since >= version.available_since + timedelta(seconds=1)

    @property
    def identity(self) -> str:
        """With which identity the gateway reads the vault, in words."""
        return f"user-assigned {self.identity_client_id}" if self.identity_client_id else "system-assigned"


@dataclass(frozen=True, slots=True)
class TrustedRoot:
    """A root certificate that something in front trusts for its backend."""

    subject: str
    thumbprint: str


@dataclass(frozen=True, slots=True)
class Front:
    """A backend of something in front of a gateway: an Application Gateway or a Front Door profile.

    It connects to `target` by TLS, asks for `hostname`, and believes what is issued under one of `roots`.
    These are empty where it takes any public authority, and None where they cannot be read.
    """

    id: str
    name: str
    target: str
    hostname: str
    roots: tuple[TrustedRoot, ...] | None


@dataclass(frozen=True, slots=True)
class BackendHealth:
    """What something in front says of its backend; `distrusts` is None where that could not be read."""

    name: str
    distrusts: bool | None
    detail: str


@dataclass(frozen=True, slots=True)
class Gateway:
    """A thing that terminates TLS. `id` is its ARM id; compare `key`, ARM ids ignore case.

    `service_id` is the ARM id of what has its identity, where that is not itself.

    Its tags may exclude it, pause its syncs, or put it in a later ring: rings are synced in their order.
    `listed`: known from a list only, which may be minutes old. `as_of` is ARM's clock when the gateway
    itself was read, None where it is known from a list. `vault_error` is its own account of why it could not
    read Key Vault the last time, None where it has none. `advisory` is what Azure Advisor says about its
    certificates, a report that no verdict rests on. `addresses` are the hosts that it answers at, in lower
    case, and `fronts` what is known to stand in front of it.
    """

    id: str
    name: str
    kind: Kind
    location: str
    state: str
    bindings: tuple[Binding, ...]
    tier: str = ""
    excluded: bool = False
    paused: bool = False
    ring: int = 0
    listed: bool = False
    as_of: datetime | None = None
    service_id: str = ""
    vault_error: str | None = None
    advisory: str | None = None
    addresses: frozenset[str] = frozenset()
    fronts: tuple[Front, ...] = ()
    key: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """ARM ids are case-insensitive: the key is what to compare."""
        object.__setattr__(self, "key", self.id.lower())

    @property
    def busy(self) -> bool:
        """Whether an operation is under way, ours or another's."""
        return self.state.lower() not in IDLE_STATES

    @property
    def certificates(self) -> frozenset[CertificateId]:
        """Every certificate that a binding refers to."""
        return frozenset(b.reference.certificate for b in self.bindings if b.reference)


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority that a self-hosted `gateway` of a service was given, to judge its clients by.

    `name` is that of the certificate entity that holds it; `not_after` is None where that cannot be read.
    """

    service_id: str
    gateway: str
    name: str
    trusted: bool
    subject: str
    thumbprint: str | None
    not_after: datetime | None


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a discovery saw. `as_of` is ARM's clock; `problems` say what could not be seen.

    `warnings` tell of what was seen, is no verdict of a hostname, and needs a person.
    """

    gateways: tuple[Gateway, ...]
    problems: tuple[str, ...]
    as_of: datetime | None
    warnings: tuple[str, ...] = ()
    fronts: tuple[Front, ...] = ()
    authorities: tuple[Authority, ...] = ()


@dataclass(frozen=True, slots=True)
class Census:
    """How many services each subscription in scope has, those with none left out; `as_of` is ARM's clock."""

    of_subscription: Mapping[str, int]
    as_of: datetime | None

    @property
    def services(self) -> int:
        """All of them."""
        return sum(self.of_subscription.values())


BUCKETS = 256


def bucket(gateway_key: str) -> int:
    """The first byte of the key's SHA-256, which Resource Graph and Table storage can select by as well."""
    return sha256(gateway_key.encode()).digest()[0]


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of everything: the gateways whose key hashes into its range of buckets, whoever looks.

    Raises:
        ValueError: `of` is not a power of two from 2 to 256, or `number` not from 1 to `of`.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if self.of not in {2**power for power in range(1, 9)} or not 1 <= self.number <= self.of:
            raise ValueError(f"there is no shard {self.number} of {self.of}")

    def __str__(self) -> str:
        return f"shard {self.number} of {self.of}"

    @property
    def buckets(self) -> range:
        """Those that it holds: neighbours, so that twice as many shards are halves of these."""
        each = BUCKETS // self.of
        return range((self.number - 1) * each, self.number * each)

    def holds(self, gateway_key: str) -> bool:
        """Whether a gateway belongs to it."""
        return bucket(gateway_key) in self.buckets


@dataclass(frozen=True, slots=True)
class Scope:
    """Which gateways a pass looks at; all of them where nothing is named, or those of a shard of a run."""

    gateway_id: str | None = None
    hostname: str | None = None
    certificate: CertificateId | None = None
    vault_host: str | None = None
    shard: Shard | None = None
    run_id: str = ""

    def __str__(self) -> str:
        named = self.gateway_id or self.hostname or self.certificate or self.vault_host or self.shard
        return str(named or "everything")

    @property
    def everything(self) -> bool:
        """Whether nothing is named: a pass over everything, or a shard's part of one."""
        return replace(self, shard=None, run_id="") == Scope()


class SyncOutcome(StrEnum):
    """What an answer to a sync request means. Only refusals are certain not to have started one."""

    ASKED = "asked"
    ACCEPTED = "accepted"
    UNKNOWN = "unknown"
    BUSY = "busy"
    THROTTLED = "throttled"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not found"
    NOT_SUPPORTED = "not supported"

    @property
    def refused(self) -> bool:
        """Whether nothing was started, so that the attempt does not count."""
        return self not in {SyncOutcome.ASKED, SyncOutcome.ACCEPTED, SyncOutcome.UNKNOWN}


@dataclass(frozen=True, slots=True)
class SyncAnswer:
    """A gateway's answer to a sync request; `retry_after` only where it named one."""

    outcome: SyncOutcome
    detail: str
    operation_url: str | None = None
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that Application Insights is told; `properties` become dimensions, `measurements` numbers.

    Where `event_id` is set the event may arrive more than once, always with the same id.
    """

    name: str
    properties: Mapping[str, str]
    measurements: Mapping[str, float]
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The version of a certificate that syncs were asked for, and since when a gateway could read it."""

    version: str
    since: datetime


@dataclass(frozen=True, slots=True)
class LastVerdict:
    """What was last said of a binding; `version` is the newest one that was readable then, or before."""

    status: Status
    reason: Reason
    drift: bool
    since: datetime
    version: str


@dataclass(frozen=True, slots=True)
class Rotation:
    """A new version on its way to one gateway.

    t0 `created`: a gateway could first read it. t1 `noticed`: a pass first saw it. t2 `synced`: a sync was
    accepted. t3 `first_served`: the first connection that showed it. t4 `proven`: every hostname served it.
    """

    certificate: str
    version: str
    created: datetime
    noticed: datetime
    caught_by: Trigger
    synced: datetime | None = None
    first_served: datetime | None = None
    proven: datetime | None = None

    @property
    def seconds_to_served(self) -> float | None:
        """t4 - t0."""
        return (self.proven - self.created).total_seconds() if self.proven else None


@dataclass(frozen=True, slots=True)
class Asked:
    """A sync that may have been asked for, and what is known of its answer."""

    at: datetime
    outcome: SyncOutcome = SyncOutcome.ASKED


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """What is remembered of one gateway: a limit on what we do, never a source of verdicts.

    `wanted` maps certificate URL to version, `attempts` counts the syncs for them that may have started,
    the last at `asked_at`. The next may follow at `next_at`, a new version or force at once, but nothing
    before `hold_until`, which an answer has asked for. Until `awaited_until` the last one may be on its way,
    as long as the kind of gateway may take. `outcome` is of the last request, counted or not.
    `proven_at` is when these versions were first seen served everywhere. `last` maps a binding's key to its
    last verdict, `rotations` has the latest, newest last, and `outbox` what Application Insights has not
    accepted yet. `missing_since` is when the gateway vanished. `front_content_at` is when all that stands in
    front of it first said that it believes it, after these rotations, trusting what `front_trusts` is a hash
    of. `etag` is None for a row not yet
    stored.

    A subscription has a row too, whose key is the subscription's id: `asked` has the latest syncs of its
    gateways, by key, so that all workers together keep to its cap.
    """

    gateway_key: str
    wanted: Mapping[str, Wanted] = field(default_factory=dict)
    attempts: int = 0
    asked_at: datetime | None = None
    next_at: datetime | None = None
    hold_until: datetime | None = None
    awaited_until: datetime | None = None
    outcome: SyncOutcome | None = None
    operation_url: str | None = None
    claim_id: str = ""
    forced_at: datetime | None = None
    proven_at: datetime | None = None
    last: Mapping[str, LastVerdict] = field(default_factory=dict)
    rotations: tuple[Rotation, ...] = ()
    outbox: tuple[Event, ...] = ()
    missing_since: datetime | None = None
    front_content_at: datetime | None = None
    front_trusts: str = ""
    asked: Mapping[str, Asked] = field(default_factory=dict)
    etag: str | None = None

    def asked_for(self, expected: CertificateVersion) -> bool:
        """Whether a sync that may have started was asked for with this version in mind."""
        wanted = self.wanted.get(str(expected.certificate))
        return self.attempts > 0 and wanted is not None and wanted.version == expected.version

    def in_flight(self, now: datetime) -> bool:
        """Whether the last sync may still be on its way, and no next attempt is due."""
        if not self.asked_at or not self.next_at or (self.proven_at and self.proven_at >= self.asked_at):
            return False
        return now < min(self.next_at, self.awaited_until or self.next_at)


@dataclass(frozen=True, slots=True)
class Pause:
    """The kill switch: since `at` nothing is synced, because of `reason`."""

    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was seen of one binding in one pass: the input of the rules.

    `earlier` holds the thumbprints of earlier versions, None where they could not be listed.
    `operation_error` is what the last sync's operation ended with, None where it did not fail. `sampled` says
    that the binding is settled, and has been asked for one connection per endpoint only. `front` is what
    stands in front says of it, None where that was not asked.
    """

    gateway: Gateway
    binding: Binding
    expected: CertificateVersion | CertificateUnreadable | None
    observations: tuple[Observation, ...]
    earlier: frozenset[str] | None
    row: LedgerRow | None
    operation_error: str | None = None
    sampled: bool = False
    front: BackendHealth | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of one binding; `message` is a sentence for a person."""

    evidence: Evidence
    status: Status
    reason: Reason
    message: str
    drift: bool = False


class Choice(StrEnum):
    """What is done about a gateway, or why not."""

    SYNC = "Sync"
    NOTHING_STALE = "NothingStale"
    OBSERVE_ONLY = "ObserveOnly"
    NOT_READ = "NotRead"
    BUSY = "Busy"
    VETOED = "Vetoed"
    PAUSED = "Paused"
    NEEDS_WINDOW = "NeedsWindow"
    WAITS_FOR_RING = "WaitsForRing"
    CAPPED = "Capped"
    BREAKER_OPEN = "BreakerOpen"
    IN_FLIGHT = "InFlight"
    NOT_DUE = "NotDue"
    FORCE_LIMITED = "ForceLimited"
    LEDGER_UNAVAILABLE = "LedgerUnavailable"
    CLAIMED_ELSEWHERE = "ClaimedElsewhere"
    OUT_OF_TIME = "OutOfTime"


@dataclass(frozen=True, slots=True)
class Decision:
    """The plan for one gateway.

    With SYNC, `claim` is the row to store before acting, `unclaimed` the one to go back to after a refusal,
    and `answer` what acting gave.
    """

    gateway: Gateway
    choice: Choice
    message: str
    claim: LedgerRow | None = None
    unclaimed: LedgerRow | None = None
    answer: SyncAnswer | None = None


@dataclass(frozen=True, slots=True)
class Pass:
    """One run of the path: who asked for it, what it may do, and the time it decides by.

    `overrides` are the blocks that a person has decided to go past; `asked_by` names that person, or says
    that it was a function key, and is empty where nobody asked.
    """

    run_id: str
    trigger: Trigger
    mode: Mode
    scope: Scope
    now: datetime
    overrides: frozenset[Reason] = frozenset()
    asked_by: str = ""

    @property
    def dry(self) -> bool:
        """A look by hand that leaves no trace, not even in the ledger."""
        return self.mode is Mode.OBSERVE and self.trigger is Trigger.HAND


@dataclass(frozen=True, slots=True)
class Calls:
    """What a pass has asked of others: requests as they were sent, retries too, and connections dialled."""

    arm_reads: int = 0
    arm_writes: int = 0
    resource_graph_queries: int = 0
    key_vault_reads: int = 0
    handshakes: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """The result of one pass.

    `rows` are the ledger's after it, by gateway key. `missing` counts gateways that were known and have
    vanished. `pause` is the kill switch, None where it is off. `authorities` are self-hosted gateways'.
    """

    run: Pass
    duration_seconds: float
    gateways: int
    verdicts: tuple[Verdict, ...]
    decisions: tuple[Decision, ...]
    problems: tuple[str, ...]
    rows: Mapping[str, LedgerRow] = field(default_factory=dict)
    missing: int = 0
    pause: Pause | None = None
    calls: Calls = Calls()
    authorities: tuple[Authority, ...] = ()
