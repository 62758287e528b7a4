"""Environment in, frozen Settings out; every mistake is reported at once, with what to write instead.

With `registration` the only module that reads the environment. docs/settings.md describes every variable.
"""

import ipaddress
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from rotation.brakes import Brakes
from rotation.model import Address as Listener
from rotation.model import CertificateId, GatewayKind, clean
from rotation.registration import DEFAULT_SCHEDULE, PREFIX, parse_queue, parse_schedule, parse_sign_in
from rotation.verdict import Limits

T = TypeVar("T")

CONNECTION_STRING = "APPLICATIONINSIGHTS_CONNECTION_STRING"
AUTHENTICATION_STRING = "APPLICATIONINSIGHTS_AUTHENTICATION_STRING"

DEFAULT_SHARD_SIZE = 2000
DEFAULT_LEDGER = str(Path(tempfile.gettempdir()) / "apim-cert-rotation.sqlite")
DEFAULT_TABLE = "rotation"
NO_SCOPE = (
    "is empty, so nothing is in scope: write the GUIDs of the subscriptions whose API Management services"
    " are to be rotated, separated by commas."
)
REFRESH_HOSTNAMES_SINCE = "2025-03-01-preview"

_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_API_VERSION = re.compile(r"20\d\d-\d\d-\d\d(-preview)?")
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}")
_VAULT = re.compile(r"[a-z][a-z0-9-]{1,22}[a-z0-9]")
_NAMED_VALUE = re.compile(
    r"([a-z][a-z0-9-]{1,22}[a-z0-9])/([a-z0-9-]{1,127})=([A-Za-z0-9._-]{1,256})", re.ASCII
)
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_GATEWAY = re.compile(r"([a-z][a-z0-9-]{0,49}/)?[a-z0-9][a-z0-9._-]{0,79}")
_TABLE = re.compile(r"[A-Za-z][A-Za-z0-9]{2,62}")
_NO_PATH = re.compile(r"[a-z][a-z0-9+.-]+:|:memory:|.*\.table\.|.*AccountKey=|.*[?&]sig=", re.IGNORECASE)
_SECRET = re.compile(r"AccountKey=|SharedAccessSignature=|[?&]sig=", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Cloud:
    """The endpoints of one Azure cloud (azure.core.AzureClouds names)."""

    arm_url: str
    arm_scope: str
    authority: str
    vault_suffix: str
    storage_suffix: str
    topic_suffix: str


CLOUDS: Mapping[str, Cloud] = {
    "AzureCloud": Cloud(
        "https://management.azure.com",
        "https://management.azure.com/.default",
        "https://login.microsoftonline.com",
        "vault.azure.net",
        "core.windows.net",
        "eventgrid.azure.net",
    ),
    "AzureUSGovernment": Cloud(
        "https://management.usgovcloudapi.net",
        "https://management.core.usgovcloudapi.net/.default",
        "https://login.microsoftonline.us",
        "vault.usgovcloudapi.net",
        "core.usgovcloudapi.net",
        "eventgrid.azure.us",
    ),
    "AzureChinaCloud": Cloud(
        "https://management.chinacloudapi.cn",
        "https://management.chinacloudapi.cn/.default",
        "https://login.chinacloudapi.cn",
        "vault.azure.cn",
        "core.chinacloudapi.cn",
        "eventgrid.azure.cn",
    ),
}

_INSIGHTS: Mapping[str, tuple[str, ...]] = {
    "AzureCloud": (".applicationinsights.azure.com", ".visualstudio.com"),
    "AzureUSGovernment": (".applicationinsights.us", ".applicationinsights.azure.us"),
    "AzureChinaCloud": (".applicationinsights.azure.cn",),
}
"""Where Application Insights takes telemetry in each cloud; a proxy of one's own is in none."""

_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}")

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Identity:
    """A managed identity: user-assigned by its client id, or the system-assigned one."""

    client_id: str | None


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings in force. `connect_to` maps (host, port) to (address, port), like curl --connect-to.

    `private_networks` are the ones, in CIDR or `all`, in which gateways may be dialled.
    `self_hosted` has the addresses of self-hosted gateways, by GATEWAY or SERVICE/GATEWAY.
    `ledger` is the path of a file, or https://ACCOUNT.table.SUFFIX/TABLE. `event_queue` is the storage
    queue that events come through, None where Event Grid calls the app. With more services than `shard_size`
    the timer splits them and puts the shards on `shard_queue`, unless that is None. `notices` is the URL of
    the Event Grid topic that is told of results. `named_values` has the named value that follows the
    thumbprint of a certificate. `sign_in`: people come with an app role of Entra, not with a key.
    """

    enforce: bool
    kinds: frozenset[GatewayKind]
    subscriptions: tuple[str, ...]
    cloud_name: str
    arm_url: str
    api_version: str
    vaults: frozenset[str]
    connect_to: Mapping[Address, Address]
    private_networks: tuple[str, ...]
    self_hosted: Mapping[str, tuple[Listener, ...]]
    sync_workspace_gateways: bool
    ca_bundle: str | None
    schedule: str
    limits: Limits
    brakes: Brakes
    probe_timeout: timedelta
    event_budget: timedelta
    event_queue: str | None
    shard_queue: str | None
    shard_size: int
    ledger: str
    notices: str | None
    named_values: Mapping[CertificateId, str]
    sign_in: bool
    connection_string: str | None
    insights_identity: Identity | None

    @property
    def cloud(self) -> Cloud:
        """The endpoints of the chosen cloud."""
        return CLOUDS[self.cloud_name]

    def to_json(self) -> dict[str, object]:
        """What may be shown: everything but the Application Insights connection string."""
        return {
            "mode": "enforce" if self.enforce else "observe",
            "kinds": sorted(self.kinds),
            "subscriptions": list(self.subscriptions),
            "cloud": self.cloud_name,
            "arm_url": self.arm_url,
            "api_version": self.api_version,
            "vaults": sorted(self.vaults),
            "connect_to": [f"{h}:{p}:{a}:{q}" for (h, p), (a, q) in self.connect_to.items()],
            "private_networks": list(self.private_networks),
            "self_hosted": {name: list(map(str, at)) for name, at in sorted(self.self_hosted.items())},
            "workspace_gateways": "enforce" if self.sync_workspace_gateways else "observe",
            "ca_bundle": self.ca_bundle,
            "schedule": self.schedule,
            "drift_after_minutes": self.limits.drift_after.total_seconds() / 60,
            "expires_soon_days": self.limits.expires_soon.days,
            "max_syncs": self.brakes.most_syncs,
            "developer_tier_minutes": list(self.brakes.developer_minutes),
            "probe_timeout_seconds": self.probe_timeout.total_seconds(),
            "event_budget_seconds": self.event_budget.total_seconds(),
            "event_queue": self.event_queue,
            "shard_queue": self.shard_queue,
            "shard_size": self.shard_size,
            "ledger": self.ledger,
            "notices": self.notices,
            "named_values": {str(certificate): name for certificate, name in self.named_values.items()},
            "sign_in": self.sign_in,
            "application_insights": self.connection_string is not None,
        }


@dataclass(frozen=True, slots=True)
class Mistakes:
    """What is wrong with the environment, a sentence for each."""

    sentences: tuple[str, ...]


def load(
    environ: Mapping[str, str] | None = None, options: Mapping[str, str] | None = None
) -> Settings | Mistakes:
    """Read the settings, from the process's environment where none is given; options go before it."""
    reader = _Reader({**(os.environ if environ is None else environ), **(options or {})})
    cloud_name = reader.take("CLOUD", "AzureCloud", _cloud)
    cloud = CLOUDS[cloud_name]
    limits = Limits()
    settings = Settings(
        enforce=reader.take("MODE", default=False, parse=_mode),
        kinds=reader.take("KINDS", frozenset({GatewayKind.API_MANAGEMENT}), _kinds),
        subscriptions=reader.take("SUBSCRIPTIONS", (), _subscriptions, missing=NO_SCOPE),
        cloud_name=cloud_name,
        arm_url=reader.take("ARM_URL", cloud.arm_url, lambda text: _arm_url(text, cloud.arm_url)),
        api_version=reader.take("API_VERSION", "2025-09-01-preview", _api_version),
        vaults=reader.take("VAULTS", frozenset(), lambda text: _vaults(text, cloud.vault_suffix)),
        connect_to=reader.take("CONNECT_TO", {}, _connect_to),
        private_networks=reader.take("PRIVATE_NETWORKS", (), _networks),
        self_hosted=reader.take("SELF_HOSTED", {}, _self_hosted),
        sync_workspace_gateways=reader.take("WORKSPACE_GATEWAYS", default=False, parse=_mode),
        ca_bundle=reader.take("CA_BUNDLE", None, _ca_bundle),
        schedule=reader.take("SCHEDULE", DEFAULT_SCHEDULE, parse_schedule),
        limits=Limits(
            drift_after=reader.take("DRIFT_AFTER_MINUTES", limits.drift_after, _span("minutes", 15, 10080)),
            expires_soon=reader.take("EXPIRES_SOON_DAYS", limits.expires_soon, _span("days", 1, 365)),
        ),
        brakes=Brakes(
            most_syncs=reader.take("MAX_SYNCS", Brakes().most_syncs, _number(1, 1000)),
            developer_minutes=reader.take("DEVELOPER_TIER", Brakes().developer_minutes, _daily_window),
        ),
        probe_timeout=reader.take("PROBE_TIMEOUT_SECONDS", timedelta(seconds=5), _span("seconds", 1, 10)),
        event_budget=reader.take("EVENT_BUDGET_SECONDS", timedelta(seconds=15), _span("seconds", 5, 19)),
        event_queue=reader.take("EVENT_QUEUE", None, parse_queue),
        shard_queue=reader.take("SHARD_QUEUE", None, parse_queue),
        shard_size=reader.take("SHARD_SIZE", DEFAULT_SHARD_SIZE, _number(1, 10_000)),
        ledger=reader.take("LEDGER", DEFAULT_LEDGER, lambda text: _ledger(text, cloud.storage_suffix)),
        notices=reader.take("NOTICES", None, lambda text: _topic(text, cloud.topic_suffix)),
        named_values=reader.take("NAMED_VALUES", {}, lambda text: _named_values(text, cloud.vault_suffix)),
        sign_in=reader.take("SIGN_IN", default=False, parse=lambda text: parse_sign_in(text, reader.environ)),
        connection_string=reader.take_named(
            CONNECTION_STRING, None, lambda text: _connection_string(text, cloud_name)
        ),
        insights_identity=reader.take_named(AUTHENTICATION_STRING, None, _insights_identity),
    )
    reader.refuse_unknown()
    return Mistakes(tuple(reader.mistakes)) if reader.mistakes else settings


def site() -> tuple[str | None, str | None]:
    """The name of the function app that this runs in, and the host id set for it; None outside of Azure."""
    return os.environ.get("WEBSITE_SITE_NAME"), os.environ.get("AzureFunctionsWebHost__hostid")  # noqa: SIM112


class _Reader:
    """Takes variables one by one and collects what is wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.mistakes: list[str] = []
        self._known: set[str] = set()

    def take(self, name: str, default: T, parse: Callable[[str], T], *, missing: str = "") -> T:
        """The parsed value; a wrong one is noted, and the default stands in until it is mended."""
        self._known.add(PREFIX + name)
        if missing and not _items(self.environ.get(PREFIX + name, "")):
            self.mistakes.append(f"{PREFIX}{name} {missing}")
            return default
        return self.take_named(PREFIX + name, default, parse)

    def take_named(self, name: str, default: T, parse: Callable[[str], T]) -> T:
        """The same for a variable whose name others have chosen."""
        text = self.environ.get(name, "").strip()
        if not text:
            return default
        try:
            return parse(text)
        except ValueError as error:
            secret = name == CONNECTION_STRING or _SECRET.search(text)
            shown = "" if secret else f" is {clean(text)!r}"
            self.mistakes.append(f"{name}{shown}: {error}")
            return default

    def refuse_unknown(self) -> None:
        """A variable with our prefix that we do not know is a typing mistake that would go unseen."""
        for name in sorted(set(self.environ) - self._known):
            if name.startswith(PREFIX):
                known = [other.removeprefix(PREFIX) for other in self._known]
                near = get_close_matches(name.removeprefix(PREFIX), known, 1)
                hint = (
                    f"; did you mean {PREFIX}{near[0]}?"
                    if near
                    else "; docs/settings.md lists those that exist."
                )
                self.mistakes.append(f"{clean(name)} is no setting{hint}")


def _mode(text: str) -> bool:
    if text.lower() not in {"observe", "enforce"}:
        raise ValueError("write observe (look and report) or enforce (also sync).")
    return text.lower() == "enforce"


def _kinds(text: str) -> frozenset[GatewayKind]:
    """The managed gateway of API Management is always among them."""
    known = {kind.lower(): kind for kind in GatewayKind}
    wrong = [item for item in _items(text) if item.lower() not in known]
    if wrong:
        raise ValueError(
            f"{clean(wrong[0])!r} is no kind of gateway; write some of {', '.join(GatewayKind)}."
        )
    return frozenset({GatewayKind.API_MANAGEMENT, *(known[item.lower()] for item in _items(text))})


def _cloud(text: str) -> str:
    for name in CLOUDS:
        if text.lower() == name.lower():
            return name
    raise ValueError(f"write one of {', '.join(CLOUDS)}.")


def _items(text: str) -> list[str]:
    return [item.strip() for item in re.split(r"[,\s]+", text) if item.strip()]


def _subscriptions(text: str) -> tuple[str, ...]:
    wrong = [item for item in _items(text.lower()) if not _GUID.fullmatch(item)]
    if wrong:
        raise ValueError(f"{clean(wrong[0])!r} is no subscription id; write GUIDs separated by commas.")
    return tuple(dict.fromkeys(_items(text.lower())))


def _https_origin(text: str) -> str:
    host, _, port = text.removeprefix("https://").removesuffix("/").partition(":")
    if not text.startswith("https://") or not _HOST.fullmatch(host) or (port and not _is_port(port)):
        raise ValueError("write https://HOST or https://HOST:PORT, nothing behind it.")
    return f"https://{host}:{port}" if port else f"https://{host}"


def _arm_url(text: str, clouds: str) -> str:
    """The cloud's own, or a pretend one on this machine: a token for ARM goes nowhere else."""
    origin = _https_origin(text)
    if origin != clouds and not _LOOPBACK.fullmatch(origin.removeprefix("https://").partition(":")[0]):
        raise ValueError(
            f"tokens are sent to {clouds} alone, or to a pretend one on loopback. For a private link leave it"
            " out, and use DNS or ROTATION_CONNECT_TO."
        )
    return origin


def _networks(text: str) -> tuple[str, ...]:
    """Private networks in CIDR; ValueError where one is public, or more than private."""
    if text.lower() == "all":
        return ("all",)
    found = []
    for item in _items(text):
        try:
            network = ipaddress.ip_network(item)
        except ValueError:
            network = None
        if network is None or network.is_global or network.is_loopback or network.is_link_local:
            raise ValueError(
                f"{clean(item)!r} is no private network; write some like 10.1.0.0/16, with commas, or all."
            )
        found.append(str(network))
    return tuple(found)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < int(text[:6]) < 65536


def _api_version(text: str) -> str:
    if not _API_VERSION.fullmatch(text) or text < REFRESH_HOSTNAMES_SINCE:
        raise ValueError(
            f"refreshHostnames exists since {REFRESH_HOSTNAMES_SINCE}; write that or a later one."
        )
    return text


def _vaults(text: str, suffix: str) -> frozenset[str]:
    names = [item.removesuffix(f".{suffix}") for item in _items(text.lower())]
    wrong = [name for name in names if not _VAULT.fullmatch(name)]
    if wrong or not names:
        raise ValueError(
            f"{clean(''.join(wrong[:1]))!r} is no vault; write vault names or hosts like NAME.{suffix}."
        )
    return frozenset(f"{name}.{suffix}" for name in names)


def _connect_to(text: str) -> Mapping[Address, Address]:
    routes: dict[Address, Address] = {}
    for item in _items(text):
        host, port, address, other = (*item.split(":"), "", "", "", "")[:4]
        if item.count(":") != 3 or not host or not address or not _is_port(port) or not _is_port(other):
            raise ValueError(f"{clean(item)!r} is not HOST:PORT:ADDRESS:PORT, as in curl --connect-to.")
        routes[host.lower(), int(port)] = (address, int(other))
    return routes


def _self_hosted(text: str) -> Mapping[str, tuple[Listener, ...]]:
    """Where self-hosted gateways listen, by GATEWAY or SERVICE/GATEWAY."""
    found: dict[str, tuple[Listener, ...]] = {}
    for item in _items(text):
        name, equals, address = item.lower().partition("=")
        if not equals or not _GATEWAY.fullmatch(name):
            raise ValueError(f"{clean(item)!r} is not GATEWAY=HOST:PORT or SERVICE/GATEWAY=HOST:PORT.")
        found[name] = (*found.get(name, ()), Listener.from_text(address))
    return found


def _ca_bundle(text: str) -> str:
    if not Path(text).is_file():
        raise ValueError("there is no such file; write the path of a PEM file with the authorities to trust.")
    if b"-----BEGIN CERTIFICATE-----" not in Path(text).read_bytes():
        raise ValueError("there is no certificate in it; write the path of a PEM file.")
    return text


def _ledger(text: str, storage_suffix: str) -> str:
    """A path as it is, or the URL of a table with its name."""
    if not _NO_PATH.match(text):
        return text
    scheme, _, rest = text.partition("://")
    host, _, table = rest.removesuffix("/").partition("/")
    account, _, domain = host.lower().partition(".")
    named = _ACCOUNT.fullmatch(account) and _TABLE.fullmatch(table or DEFAULT_TABLE)
    if scheme.lower() != "https" or domain != f"table.{storage_suffix}" or not named:
        raise ValueError(
            f"write the path of a file, or https://ACCOUNT.table.{storage_suffix} for Table storage, followed"
            f" by /TABLE (letters and digits) if it is not to be {DEFAULT_TABLE!r}. No key: the app signs in"
            " with its identity."
        )
    return f"https://{account}.{domain}/{table or DEFAULT_TABLE}"


def _topic(text: str, suffix: str) -> str:
    try:
        host, _, path = text.removeprefix("https://").removesuffix("/").partition("/")
        origin = _https_origin(f"https://{host}")
    except ValueError:
        origin = path = ""
    if not text.startswith("https://") or not origin.endswith(f".{suffix}") or path not in {"", "api/events"}:
        raise ValueError(
            f"write the endpoint of an Event Grid topic: https://TOPIC.REGION-1.{suffix}/api/events."
            " No key: the app signs in with its identity."
        )
    return f"{origin}/api/events"


def _named_values(text: str, suffix: str) -> Mapping[CertificateId, str]:
    """VAULT/CERTIFICATE=NAME; the same certificate or name twice would be written back and forth."""
    found: dict[CertificateId, str] = {}
    for item in _items(text):
        vault, slash, rest = item.partition("/")
        certificate, _, name = rest.partition("=")
        match = _NAMED_VALUE.fullmatch(f"{vault.lower()}{slash}{certificate.lower()}={name}")
        if not match:
            raise ValueError(
                f"{clean(item)!r} is not VAULT/CERTIFICATE=NAME, as in kv/contoso-com=thumbprint."
            )
        key = CertificateId(f"{match[1]}.{suffix}", match[2])
        if key in found or name.lower() in map(str.lower, found.values()):
            raise ValueError(f"{clean(item)!r} names a certificate or a named value again.")
        found[key] = name
    return found


def _connection_string(text: str, cloud_name: str) -> str:
    fields = dict(part.partition("=")[::2] for part in text.split(";"))
    if not _GUID.fullmatch(fields.get("InstrumentationKey", "").lower()) or not fields.get(
        "IngestionEndpoint", ""
    ).startswith("https://"):
        raise ValueError("copy it from the resource: InstrumentationKey=GUID;IngestionEndpoint=https://…")
    host = fields["IngestionEndpoint"].removeprefix("https://").partition("/")[0].lower()
    theirs = next((name for name, domains in _INSIGHTS.items() if host.endswith(domains)), cloud_name)
    if theirs != cloud_name:
        raise ValueError(
            f"its endpoint is in {theirs}, but the app is in {cloud_name}: no token of one cloud is taken by"
            " the other. Use a resource of the same cloud, or set ROTATION_CLOUD."
        )
    return text


def _insights_identity(text: str) -> Identity:
    fields = {
        name.strip().lower(): value.strip() for name, _, value in (p.partition("=") for p in text.split(";"))
    }
    if fields.get("authorization", "").upper() != "AAD":
        raise ValueError(
            "write Authorization=AAD, with ClientId=GUID; in front for a user-assigned identity."
        )
    return Identity(fields.get("clientid") or None)


def _number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or not least <= int(text[:9]) <= most:
            raise ValueError(f"write a whole number from {least} to {most}.")
        return int(text)

    return parse


def _daily_window(text: str) -> tuple[int, int]:
    """Minutes of the day: never and always are windows too."""
    known = {"never": (0, 0), "always": (0, 24 * 60)}
    if text.lower() in known:
        return known[text.lower()]
    match = re.fullmatch(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])", text)
    if not match:
        raise ValueError("write never, always, or a daily window in UTC like 02:00-05:00.")
    start_hour, start, end_hour, end = map(int, match.groups())
    return start_hour * 60 + start, end_hour * 60 + end


def _span(unit: str, least: int, most: int) -> Callable[[str], timedelta]:
    def parse(text: str) -> timedelta:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise ValueError(f"write a whole number of {unit} from {least} to {most}.")
        return timedelta(**{unit: int(text)})

    return parse
