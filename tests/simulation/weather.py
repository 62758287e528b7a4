"""What may go wrong in the simulator, and what is noted of what a pass was shown and has asked for."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from rotation.model import CertificateId, SyncOutcome, UnreadableCause
from sandbox import world as sandbox
from sandbox.application_gateway import Backend


class Trouble(StrEnum):
    """What may go wrong at a call, or with an event."""

    LIST_FAILS = "one subscription cannot be listed"
    READ_FAILS = "a service cannot be read"
    LIST_AWAY = "nothing can be listed"
    NO_DATE = "ARM's answer has no Date"
    SYNC_LOCKED = "409 from ARM"
    SYNC_THROTTLED = "429 from ARM"
    SYNC_FORBIDDEN = "403 from ARM"
    SYNC_BROKEN = "5xx from ARM"
    SYNC_RESET = "connection reset by ARM"
    SYNC_HANGS = "no answer from ARM"
    OPERATION_FAILS = "the operation cannot be read"
    HEALTH_FAILS = "backend health cannot be asked"
    VAULT_FORBIDDEN = "403 from Key Vault"
    VAULT_MISSING = "404 from Key Vault"
    VAULT_THROTTLED = "429 from Key Vault"
    VAULT_BROKEN = "5xx from Key Vault"
    VERSIONS_FAIL = "versions cannot be listed"
    PROBE_FAILS = "a connection fails"
    LEDGER_READ = "the ledger cannot be read"
    LEDGER_WRITE = "the ledger cannot be written"
    INSIGHTS_REFUSE = "Application Insights accepts nothing"
    INSIGHTS_LOST_ANSWER = "Application Insights accepts, and its answer is lost"
    LEDGER_LOST_ANSWER = "the ledger stores, and its answer is lost"
    KILL = "the worker is killed"
    RACE = "two workers at once"
    EVENT_LOST = "an event is lost"
    EVENT_LATE = "an event is late"
    EVENT_TWICE = "an event comes twice"


VAULT_ANSWERS = {
    Trouble.VAULT_FORBIDDEN: UnreadableCause.FORBIDDEN,
    Trouble.VAULT_MISSING: UnreadableCause.NOT_FOUND,
    Trouble.VAULT_THROTTLED: UnreadableCause.THROTTLED,
    Trouble.VAULT_BROKEN: UnreadableCause.UNREACHABLE,
}
REFUSALS = {
    Trouble.SYNC_LOCKED: SyncOutcome.BUSY,
    Trouble.SYNC_THROTTLED: SyncOutcome.THROTTLED,
    Trouble.SYNC_FORBIDDEN: SyncOutcome.FORBIDDEN,
}
RETRY_AFTERS = (None, -86400, -1, 0, 1, 60, 600, 1800, 3600, 7200, 99_999_999)


@dataclass(slots=True)
class Read:
    """What Key Vault had when it was asked, and what it answered."""

    version: sandbox.Version
    readable: bool
    enabled: bool
    deleted: bool
    available: datetime
    answer: Trouble | None


@dataclass(slots=True)
class Shown:
    """What the connections to one region showed (None: nothing), and what all of its units had."""

    connections: tuple[str | None, ...]
    units: tuple[str, ...]


@dataclass(slots=True)
class Seen:
    """What the world showed to one pass."""

    configured: dict[tuple[str, str], str | None] = field(default_factory=dict)
    busy: dict[str, bool] = field(default_factory=dict)
    read: dict[CertificateId, Read] = field(default_factory=dict)
    shown: dict[tuple[str, str], dict[str, Shown]] = field(default_factory=dict)
    versions_unlisted: set[CertificateId] = field(default_factory=set)
    cannot_read_vault: set[str] = field(default_factory=set)
    reads_late: bool = False
    fronts: dict[str, tuple[Backend, ...]] = field(default_factory=dict)
    health: dict[tuple[str, str, str], bool | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wait:
    """What an answer has asked for: nothing before a moment."""

    until: datetime
    because: SyncOutcome


@dataclass(slots=True)
class Post:
    """A refreshHostnames that has left a worker: when, what for, and what became of it."""

    at: datetime
    gateway_key: str
    claimed: bool
    wanted: tuple[tuple[str, str], ...]
    forced: bool
    started: bool
    refused: bool
    waited_for: Wait | None
    asks_to_wait: Wait | None = None
