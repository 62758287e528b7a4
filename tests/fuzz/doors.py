"""Where input comes in: for each door what may come, and the product's own code that takes it.

The handlers are those of the real function_app.py, through the SDK's converters. What Azure answers is sent
by a server on loopback, over TLS, to the product's real clients. A door is opened once in a process, whose
environment it sets.
"""

import contextlib
import ipaddress
import os
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

from azure.functions.meta import Datum
from hypothesis import strategies as st

from rotation import api, shards
from rotation.clients import ledger_rows, tls
from rotation.clients.reach import ANY_PRIVATE, Reach
from rotation.clients.x509 import describe
from rotation.model import Endpoint
from rotation.settings import load
from sandbox.host.index import Function
from sandbox.host.index import load as index
from sandbox.host.invocation import Context, TraceContext, decode
from sandbox.host.messages import http_datum
from sandbox.world import Server
from tests.clients import farm, forge
from tests.fuzz.examples import (
    APPLICATION_GATEWAY,
    BINDING,
    CERTIFICATE,
    EVENT,
    GRAPH,
    GUID,
    HEALTH,
    INSIGHTS,
    MOMENT,
    PART,
    REPORT,
    RESYNC,
    ROW,
    RUN,
    SERVICE,
    SERVICE_ID,
    VAULT,
)
from tests.fuzz.inputs import HOSTILE, again, bodies
from tests.fuzz.wired import (
    Take,
    application_gateways,
    arm,
    backend_health,
    entities,
    graph,
    insights,
    key_vault,
    self_hosted,
    wired,
    workspace_gateways,
)

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Door:
    """One way in. `opened` gives what takes an input, for as long as its context lasts.

    `again` makes one more input of one, by one more change.
    """

    name: str
    inputs: st.SearchStrategy[Any]
    opened: Callable[[], contextlib.AbstractAsyncContextManager[Take]]
    again: Callable[[Any, Random], Any] = again


def _plain(take: Callable[[Any], object]) -> Callable[[], contextlib.AbstractAsyncContextManager[Take]]:
    """A door that needs nothing around it."""

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Take]:
        async def one(given: object) -> object:
            return take(given)

        yield one

    return opened


def _functions(folder: str) -> dict[str, Function]:
    """The functions of the real app, with settings under which nothing of an input is in scope."""
    os.environ |= {
        "ROTATION_SUBSCRIPTIONS": GUID,
        "ROTATION_VAULTS": "kv-nobody",
        "ROTATION_EVENT_QUEUE": "certificate-events",
        "ROTATION_LEDGER": str(Path(folder) / "ledger.sqlite"),
    }
    return {function.name: function for function in index(PROJECT)}


def _context(function: Function) -> Context:
    return Context(function.name, function.directory, "0", TraceContext(f"00-{'1' * 32}-{'2' * 16}-01"))


def _handler(
    name: str, datum: Callable[[Any], Datum]
) -> Callable[[], contextlib.AbstractAsyncContextManager[Take]]:
    """A function of the app, given what the SDK's converter makes of an input."""

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Take]:
        with tempfile.TemporaryDirectory() as folder:
            function = _functions(folder)[name]

            async def one(given: object) -> object:
                decoded = decode(function, datum(given), {})
                return await function.call(**{function.parameter: decoded, "context": _context(function)})

            yield one

    return opened


@contextlib.asynccontextmanager
async def _http() -> AsyncIterator[Take]:
    """Every HTTP function but a resync that is well-formed, which would ask Azure."""
    with tempfile.TemporaryDirectory() as folder:
        functions = _functions(folder)

        async def one(given: Request) -> object:
            name, content_type, body, path, query = given
            if name == "resync" and not isinstance(
                api.read_resync(content_type, body, "vault.azure.net"), api.Problem
            ):
                return "asks for something"
            function = functions[name]
            values = {"id": path, "name": path, "path": path}
            datum = http_datum(
                method="POST",
                url="http://127.0.0.1/",
                headers={"content-type": content_type, "if-none-match": path},
                query=query,
                route_values=values,
                body=body,
            )
            arguments = {function.parameter: decode(function, datum, {})}
            if function.wants_context:
                arguments["context"] = _context(function)
            answer = await function.call(**arguments)
            assert answer.status_code < 500, answer.get_body()
            return answer

        yield one


Request = tuple[str, str, bytes, str, dict[str, str]]


def _request_again(request: Request, random: Random) -> Request:
    """Another body, most often, or another content type, path or query."""
    name, content_type, body, path, query = request
    text = random.choice([content_type, *TEXTS])
    match random.randrange(6):
        case 0:
            return name, text, body, path, query
        case 1:
            return name, content_type, body, text, query
        case 2:
            return name, content_type, body, path, {**query, random.choice([*QUERIES, text]): text}
        case _:
            return name, content_type, again(body, random), path, query


@contextlib.asynccontextmanager
async def _stored() -> AsyncIterator[Take]:
    """What is kept as the last report, or as that of a run by hand: one of its readers asks for it."""
    with tempfile.TemporaryDirectory() as folder:
        functions = _functions(folder)
        path = Path(folder) / "ledger.sqlite"
        places = {
            "status": {},
            "page": {},
            "rotations": {},
            "gateway": {"name": "apim-contoso"},
            "operation": {"id": RUN},
        }

        async def ask(name: str) -> int:
            function = functions[name]
            datum = http_datum(
                method="GET",
                url="http://127.0.0.1/",
                headers={},
                query={},
                route_values=places[name],
                body=b"",
            )
            answer = await function.call(
                **{function.parameter: decode(function, datum, {}), "context": _context(function)}
            )
            return int(answer.status_code)

        drawn = Random(0)
        await ask("status")
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA journal_mode = OFF")

            async def one(text: str) -> object:
                with database:
                    database.execute("INSERT OR REPLACE INTO reports VALUES (1, 1, '', ?)", (text,))
                    database.execute("INSERT OR REPLACE INTO operations VALUES (?, ?)", (RUN, text))
                status = await ask(drawn.choice(list(places)))
                assert status in {200, 404, 409, 503}, status
                return status

            yield one


def _ledger(text: str) -> None:
    for read in (
        lambda: ledger_rows.row_from_text("x", "1", text),
        lambda: ledger_rows.pause_from_text(text),
        lambda: ledger_rows.report_from_text(text),
    ):
        with contextlib.suppress(ValueError, TypeError, ArithmeticError, RecursionError):
            read()


def _shard(body: bytes) -> None:
    with contextlib.suppress(ValueError):
        shards.from_message(body)


def _decoded(body: bytes) -> str:
    return body.decode("utf-8", "replace")


def _text_again(text: str, random: Random) -> str:
    return _decoded(again(text.encode(), random))


def _settings_again(variables: Mapping[str, str], random: Random) -> Mapping[str, str]:
    """One more variable, or another value of one, made of what is there and what is hostile."""
    pieces = [*TEXTS, *variables.values(), *GOOD_SETTINGS]
    name = random.choice([*_NAMES, *_MORE, *variables])
    return {
        **variables,
        name: "".join(random.choices([*pieces, ",", ":", ";", "="], k=random.randrange(1, 4))),
    }


def _settings(variables: Mapping[str, str]) -> None:
    load({f"ROTATION_{name}": text for name, text in variables.items()})


def _certificate(der: bytes) -> None:
    text = describe(der)
    for field in ("thumbprint", "sha256", "not_before", "not_after", "names", "subject", "issuer", "serial"):
        getattr(text, field)
    assert isinstance(text.self_signed, bool)
    assert isinstance(text.key, str)


def _address(address: str) -> None:
    """Against a definition of its own: what is not for everybody to reach inside a machine or a link."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None) or ip
    inside = any(
        mapped.version == network.version and mapped in network
        for network in map(
            ipaddress.ip_network,
            (
                *("127.0.0.0/8", "169.254.0.0/16", "0.0.0.0/8", "224.0.0.0/3", "168.63.129.16/32"),
                *("::1/128", "::/128", "fe80::/10", "ff00::/8"),
            ),
        )
    )
    refused = Reach((ANY_PRIVATE,)).refuses(("gateway.test", 443), address)
    assert refused or not inside, address
    assert ip.version == 6 or not refused or inside, address


def _address_again(address: str, random: Random) -> str:
    """One that differs in a bit, and so lies beside a border now and then."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    return str(type(ip)(int(ip) ^ 1 << random.randrange(ip.max_prefixlen)))


@contextlib.asynccontextmanager
async def _peer() -> AsyncIterator[Take]:
    """A TLS peer that answers the hello with the input, then closes."""
    said: list[bytes] = [b""]

    def behave(connection: Any) -> None:
        connection.recv(65536)
        connection.sendall(said[0])

    with farm.Listener(behave) as listener:
        probe = tls.TlsProbe(
            farm.client_context(), {("api.contoso.com", 443): listener.place}, timedelta(seconds=1)
        )

        async def one(given: bytes) -> object:
            said[0] = given
            listener._visits.clear()
            return await probe([Endpoint("api.contoso.com", "West Europe", "api.contoso.com")])

        yield one


DER = forge.self_signed(names=["api.contoso.com", "*.contoso.com"]).der


def _cut(whole: bytes) -> st.SearchStrategy[bytes]:
    """The whole with some bytes replaced, added or left out."""

    def splice(at: int, length: int, piece: bytes) -> bytes:
        at %= len(whole)
        return whole[:at] + piece + whole[at + length :]

    return st.builds(splice, st.integers(0, 10_000), st.integers(0, 6), st.binary(max_size=6))


SERVER_HELLO = bytes.fromhex("16030300310200002d0303") + bytes(32) + bytes.fromhex("00c02f000005ff01000100")

TEXTS = tuple(each for each in HOSTILE if isinstance(each, str))
QUERIES = ("limit", "offset", "status", "gateway", "q")

_text = st.text(max_size=40) | st.sampled_from(TEXTS)
_NAMES = (
    "MODE",
    "KINDS",
    "SUBSCRIPTIONS",
    "CLOUD",
    "ARM_URL",
    "API_VERSION",
    "VAULTS",
    "CONNECT_TO",
    "SELF_HOSTED",
)
_MORE = (
    "SCHEDULE",
    "LEDGER",
    "NOTICES",
    "NAMED_VALUES",
    "MAX_SYNCS",
    "DEVELOPER_TIER",
    "EVENT_QUEUE",
    "SHARD_SIZE",
)
GOOD_SETTINGS = (
    GUID,
    SERVICE_ID,
    VAULT,
    "api.contoso.com:443:127.0.0.1:8443",
    "observe",
    "0 */5 * * * *",
    "5",
)
_HTTP = ("resync", "pause", "status", "operation", "gateway", "rotations", "page", "page_file", "unknown")

DOORS = (
    Door(
        "Event Grid webhook",
        bodies(EVENT),
        _handler("on_certificate_event", lambda body: Datum(_decoded(body), "json")),
    ),
    Door(
        "event queue",
        bodies(EVENT),
        _handler("on_certificate_message", lambda body: Datum(_decoded(body), "string")),
    ),
    Door("shard queue", bodies({"run_id": GUID, "number": 1, "of": 2, "put_at": MOMENT}), _plain(_shard)),
    Door(
        "HTTP",
        st.tuples(
            st.sampled_from(_HTTP),
            st.sampled_from(["application/json", "application/json; charset=x", "text/html", ""]) | _text,
            bodies(RESYNC) | bodies({"reason": "a change"}),
            _text,
            st.dictionaries(st.sampled_from(QUERIES) | _text, _text, max_size=3),
        ),
        _http,
        _request_again,
    ),
    Door(
        "settings",
        st.dictionaries(st.sampled_from((*_NAMES, *_MORE)) | _text, _text, max_size=6),
        _plain(_settings),
        _settings_again,
    ),
    Door("ARM", bodies({"value": [SERVICE]}), wired(Server.ARM, "Microsoft.ApiManagement", arm)),
    Door(
        "self-hosted gateways",
        bodies({"value": [PART], **PART}),
        wired(Server.ARM, "apim-contoso/(gateways|certificates)", self_hosted),
    ),
    Door(
        "entities",
        bodies({"value": [PART], **PART}),
        wired(Server.ARM, "apim-contoso/(certificates|namedValues|workspaces)", entities),
    ),
    Door(
        "workspace gateways",
        bodies({"value": [BINDING], **BINDING}),
        wired(Server.ARM, "hostnameBindings", workspace_gateways),
    ),
    Door(
        "Application Gateways",
        bodies({"value": [APPLICATION_GATEWAY], **APPLICATION_GATEWAY}),
        wired(Server.ARM, "Microsoft.Network", application_gateways),
    ),
    Door("backend health", bodies(HEALTH), wired(Server.ARM, "backendhealth", backend_health)),
    Door("Resource Graph", bodies(GRAPH), wired(Server.ARM, "ResourceGraph", graph)),
    Door("Key Vault", bodies(CERTIFICATE), wired(Server.VAULT, "certificates", key_vault)),
    Door("ledger rows", bodies(ROW).map(_decoded), _plain(_ledger), _text_again),
    Door("stored reports", bodies(REPORT).map(_decoded), _stored, _text_again),
    Door(
        "App Insights",
        bodies(INSIGHTS),
        wired(Server.INGESTION, "track", insights),
    ),
    Door("served certificates", _cut(DER) | st.binary(max_size=64), _plain(_certificate)),
    Door("TLS peers", _cut(SERVER_HELLO) | st.binary(max_size=64), _peer),
    Door(
        "DNS",
        st.ip_addresses().map(str)
        | st.sampled_from(["::ffff:127.0.0.1", "fe80::1%eth0", "::ffff:168.63.129.16"]),
        _plain(_address),
        _address_again,
    ),
)
