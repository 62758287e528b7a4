"""Every call of the ledger in Table storage against servers that answer something else, or nothing."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from secrets import token_hex

import pytest
from aiohttp import web

from rotation.clients.http import MOST_BYTES
from rotation.clients.ledger_rows import row_to_text
from rotation.clients.table_ledger import MOST_PAGES, TableLedger, _address
from rotation.model import LedgerRow
from rotation.reconcile import LedgerConflictError, LedgerUnavailableError
from tests.clients import farm
from tests.clients.azurite import CA, HOST, Tables

# azure-data-tables 12.7 asks for the truth of an XML element where a failure is XML; since 3.12 Python warns.
pytestmark = pytest.mark.filterwarnings("ignore:Testing an element's truth value:DeprecationWarning")

KEY = "/subscriptions/1/resourcegroups/rg/providers/microsoft.apimanagement/service/apim-prod"
MANY = [f"{KEY}-{n}" for n in range(30)]
HASTY = timedelta(seconds=1)
JSON = "application/json;odata=minimalmetadata"
HTML = "<!DOCTYPE html><html><body>Sign in to the network</body></html>"
CHALLENGE = (
    "Bearer authorization_uri=https://login.microsoftonline.com/t resource_id=https://storage.azure.com"
)


@dataclass(frozen=True, slots=True)
class Canned:
    """The one answer of a server."""

    status: int
    body: str = ""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


def failure(status: int, code: str, **headers: str) -> Canned:
    """A failure as Table storage says it; underscores stand for the dashes of a header."""
    body = json.dumps(
        {"odata.error": {"code": code, "message": {"lang": "en-US", "value": f"It is {code}."}}}
    )
    return Canned(status, body, headers={name.replace("_", "-"): value for name, value in headers.items()})


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(answer: Answer, folder: Path) -> AsyncIterator[Tables]:
    """A server with the account's certificate that answers like this."""
    ca_file = folder / "ca.pem"
    ca_file.write_text(CA.pem)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=CA.issue([HOST]).server_context()).start()
        yield Tables(runner.addresses[0][1], str(ca_file))
    finally:
        await runner.cleanup()


async def every_call(ledger: TableLedger) -> list[object]:
    """What each call raises, its result where it does not."""
    calls: list[Awaitable[object]] = [
        ledger.read([KEY]),
        ledger.read(MANY),
        ledger.write(LedgerRow(KEY)),
        ledger.write(LedgerRow(KEY, etag="W/\"datetime'2026-03-01T12%3A00%3A00.0000000Z'\"")),
        ledger.write_each([LedgerRow(KEY), LedgerRow(MANY[0])]),
        ledger.save_report({}),
        ledger.last_reports(),
        ledger.save_operation("run", {}),
        ledger.operation("run"),
    ]
    results = await asyncio.gather(*calls, return_exceptions=True)
    return [type(result) if isinstance(result, BaseException) else result for result in results]


def against(answer: Answer, folder: Path) -> list[object]:
    """Every call against one server."""

    async def main() -> list[object]:
        async with serving(answer, folder) as tables, tables.ledger("rotation", patience=HASTY) as ledger:
            return await every_call(ledger)

    return asyncio.run(main())


FAULTS = {
    "401 without a word": Canned(401),
    "401 with a challenge": failure(401, "InvalidAuthenticationInfo", WWW_Authenticate=CHALLENGE),
    "401 with a challenge that is none": failure(401, "NoAuthenticationInformation", WWW_Authenticate="x"),
    "403 without the role": failure(403, "AuthorizationPermissionMismatch"),
    "403 by the firewall": failure(403, "AuthorizationFailure"),
    "404 by a proxy": Canned(404, HTML, "text/html"),
    "404 without a word": Canned(404),
    "404 with a code of another service": failure(404, "NoSuchThing"),
    "409 while the table is deleted": failure(409, "TableBeingDeleted"),
    "409 by a proxy": Canned(409, HTML, "text/html"),
    "412 by a proxy": Canned(412, HTML, "text/html"),
    "429": failure(429, "TooManyRequests"),
    "429 that asks to wait for an hour": failure(429, "TooManyRequests", Retry_After="3600"),
    "429 that asks to wait for nonsense": failure(429, "TooManyRequests", Retry_After="soon"),
    "500": failure(500, "InternalError"),
    "503": failure(503, "ServerBusy"),
    "503 that asks to wait": failure(503, "ServerBusy", Retry_After="120"),
    "a redirect elsewhere": Canned(302, headers={"Location": "https://fabrikam.com/"}),
    "200 with a sign-in page": Canned(200, HTML, "text/html"),
    "200 with a page that claims to be JSON": Canned(200, HTML),
    "200 with nothing": Canned(200),
    "200 with an empty object": Canned(200, "{}"),
    "200 with null": Canned(200, "null"),
    "200 with a list": Canned(200, "[]"),
    "200 with half an object": Canned(200, '{"value": ['),
    "200 with a list of something else": Canned(200, '{"value": [5, "x", null]}'),
    "200 with a list of entities without keys": Canned(200, '{"value": [{"body": "{}"}]}'),
    "200 with an empty list in more than 8 MiB": Canned(200, '{"value": []}' + " " * MOST_BYTES),
    "200 with an object for a list": Canned(200, '{"value": {}}'),
    "200 with nothing for a list": Canned(200, '{"value": ""}'),
    "200 with null for a list": Canned(200, '{"value": null}'),
    "200 nested deeper than Python goes": Canned(200, "[" * 100_000),
    "200 with bytes that are no gzip": Canned(200, "x", headers={"Content-Encoding": "gzip"}),
    "200 with XML": Canned(200, "<feed/>", "application/atom+xml"),
    "201 without an etag": Canned(201, "{}"),
    "418": Canned(418, "short and stout", "text/plain"),
}


@pytest.mark.parametrize("canned", FAULTS.values(), ids=FAULTS)
def test_an_answer_that_is_none_makes_the_ledger_unavailable(tmp_path: Path, canned: Canned) -> None:
    """Every call says the same: without a ledger nothing is synced, and everything reported."""

    async def answer(_: web.Request) -> web.Response:
        headers = {**canned.headers, "Content-Type": canned.content_type}
        return web.Response(status=canned.status, body=canned.body.encode(), headers=headers)

    began = time.monotonic()
    results = against(answer, tmp_path)

    assert [LedgerUnavailableError] * 9 == results
    assert time.monotonic() - began < 8


async def hang(_: web.Request) -> web.Response:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def stop_in_the_middle(request: web.Request) -> web.StreamResponse:
    """Promise more than is sent."""
    response = web.StreamResponse(headers={"Content-Length": "100", "Content-Type": JSON})
    await response.prepare(request)
    await response.write(b'{"value": [')
    assert request.transport is not None
    request.transport.close()
    return response


async def drip(request: web.Request) -> web.StreamResponse:
    """A byte at a time, so that no read takes long and the whole never ends."""
    response = web.StreamResponse(headers={"Content-Type": JSON})
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.05)


async def hang_up(request: web.Request) -> web.Response:
    """Close at once."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@pytest.mark.parametrize("answer", [hang, stop_in_the_middle, drip, hang_up])
def test_an_answer_that_does_not_come_makes_the_ledger_unavailable(tmp_path: Path, answer: Answer) -> None:
    """In bounded time, so that a pass has time left to look and to tell."""
    began = time.monotonic()

    results = against(answer, tmp_path)

    assert [LedgerUnavailableError] * 9 == results
    assert time.monotonic() - began < 8


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(farm.hang_up, id="that hangs up"),
        pytest.param(farm.reset, id="that resets"),
        pytest.param(farm.stay_silent, id="that stays silent"),
        pytest.param(farm.say(b"HTTP/1.1 200 OK\r\n\r\n"), id="that speaks no TLS"),
        pytest.param(farm.serving(farm.TRUSTED), id="that nobody vouches for"),
        pytest.param(farm.serving(CA.issue(["other.table.core.windows.net"])), id="of another account"),
    ],
)
def test_a_port_that_is_no_table_storage_makes_it_unavailable(tmp_path: Path, behave: farm.Behaviour) -> None:
    """No token is sent to whom the certificate does not name."""
    (tmp_path / "ca.pem").write_text(CA.pem)

    async def main(port: int) -> list[object]:
        async with Tables(port, str(tmp_path / "ca.pem")).ledger("rotation", patience=HASTY) as ledger:
            return await every_call(ledger)

    with farm.Listener(behave) as listener:
        results = asyncio.run(main(listener.place[1]))

    assert [LedgerUnavailableError] * 9 == results


def test_a_refused_connection_makes_it_unavailable(tmp_path: Path) -> None:
    """The message names the account."""
    (tmp_path / "ca.pem").write_text(CA.pem)

    async def main(port: int) -> None:
        async with Tables(port, str(tmp_path / "ca.pem")).ledger("rotation") as ledger:
            assert [LedgerUnavailableError] * 9 == await every_call(ledger)
            with pytest.raises(LedgerUnavailableError, match=f"^https://{HOST}/rotation: Cannot connect"):
                await ledger.read([KEY])

    with farm.free_port() as bound:
        asyncio.run(main(bound.getsockname()[1]))


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_identity_is_told_what_it_needs(tmp_path: Path, status: int) -> None:
    """The message names the role."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Content-Type": JSON})

    async def main() -> None:
        async with serving(answer, tmp_path) as tables, tables.ledger("rotation") as ledger:
            with pytest.raises(LedgerUnavailableError, match="the role Storage Table Data Contributor"):
                await ledger.write(LedgerRow(KEY))

    asyncio.run(main())


def entity(key: str, **changes: object) -> dict[str, object]:
    """A row as Table storage sends it."""
    partition, name = _address(key)
    return {
        "odata.etag": "W/\"datetime'2026-03-01T12%3A00%3A00Z'\"",
        "PartitionKey": partition,
        "RowKey": name,
        "Timestamp": "2026-03-01T12:00:00Z",
        "gateway": key,
        "body": row_to_text(LedgerRow(key)),
        "write_id": "x",
        **changes,
    }


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"gateway": "another"}, id="of another gateway"),
        pytest.param({"gateway": None}, id="of no gateway"),
        pytest.param({"body": None}, id="with null for a body"),
        pytest.param({"body": 5}, id="with a number for a body"),
        pytest.param({"body": {"wanted": {}}}, id="with an object for a body"),
        pytest.param({"Timestamp": "yesterday"}, id="with a word for its time"),
        pytest.param({"odata.etag": 5}, id="with a number for its etag"),
    ],
)
@pytest.mark.parametrize("keys", [[KEY], [KEY, *MANY]], ids=["alone", "among many"])
def test_a_row_that_is_none_makes_the_ledger_unavailable(
    tmp_path: Path, changes: Mapping[str, object], keys: list[str]
) -> None:
    """To take it for a new one would lift the limit on syncs."""

    async def answer(request: web.Request) -> web.Response:
        row = entity(KEY, **changes)
        body = row if "RowKey=" in request.path else {"value": [row]}
        return web.Response(text=json.dumps(body), headers={"Content-Type": JSON})

    async def main() -> None:
        async with serving(answer, tmp_path) as tables, tables.ledger("rotation") as ledger:
            with pytest.raises(LedgerUnavailableError):
                await ledger.read(keys)

    asyncio.run(main())


def test_pages_are_followed_to_the_last(tmp_path: Path) -> None:
    """Table storage ends a page wherever it likes, also before the first row."""

    async def answer(request: web.Request) -> web.Response:
        page = int(request.query.get("NextRowKey", "0"))
        rows = [entity(MANY[page], body=row_to_text(LedgerRow(MANY[page], attempts=page)))] if page else []
        more = {"x-ms-continuation-NextPartitionKey": "p", "x-ms-continuation-NextRowKey": str(page + 1)}
        headers = {"Content-Type": JSON, **(more if page < 29 else {})}
        return web.Response(text=json.dumps({"value": rows}), headers=headers)

    async def main() -> list[int]:
        async with serving(answer, tmp_path) as tables, tables.ledger("rotation") as ledger:
            return [row.attempts for row in (await ledger.read(MANY)).values()]

    assert list(range(30)) == asyncio.run(main())


def test_pages_without_end_make_the_ledger_unavailable(tmp_path: Path) -> None:
    """The reading of a partition is bounded."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        more = {"x-ms-continuation-NextPartitionKey": "p", "x-ms-continuation-NextRowKey": "r"}
        return web.Response(text='{"value": []}', headers={"Content-Type": JSON, **more})

    async def main() -> None:
        async with serving(answer, tmp_path) as tables, tables.ledger("rotation") as ledger:
            with pytest.raises(LedgerUnavailableError, match=f"more than {MOST_PAGES} pages"):
                await ledger.read(MANY)

    asyncio.run(main())

    assert MOST_PAGES == len(asked)


@pytest.mark.parametrize(
    ("etag", "status", "code"),
    [
        pytest.param(None, 409, "EntityAlreadyExists", id="a new row that is there"),
        pytest.param("x", 412, "UpdateConditionNotSatisfied", id="a row that has changed"),
        pytest.param("x", 412, "ConditionNotMet", id="the same in other words"),
        pytest.param("x", 404, "ResourceNotFound", id="a row that is gone"),
        pytest.param("x", 404, "EntityNotFound", id="the same in other words of Cosmos"),
        pytest.param("x", 404, "TableNotFound", id="a table that is gone"),
    ],
)
def test_what_another_worker_did_is_a_conflict(
    tmp_path: Path, etag: str | None, status: int, code: str
) -> None:
    """Each refusal that means that somebody was faster, as Table storage says it."""

    async def answer(request: web.Request) -> web.Response:
        canned = failure(status, code)
        if request.method == "GET":
            return web.Response(text=json.dumps(entity(KEY)), headers={"Content-Type": JSON})
        return web.Response(status=canned.status, text=canned.body, headers={"Content-Type": JSON})

    async def main() -> None:
        async with serving(answer, tmp_path) as tables, tables.ledger("rotation") as ledger:
            with pytest.raises(LedgerConflictError):
                await ledger.write(LedgerRow(KEY, etag=etag))

    asyncio.run(main())


def test_one_failure_among_many_requests_ends_them_all(tmp_path: Path) -> None:
    """What cannot be read as a whole is not asked for any longer."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.method)
        await asyncio.sleep(0.02)
        return web.Response(status=403 if len(asked) > 3 else 204)

    async def main() -> None:
        async with serving(answer, tmp_path) as tables, tables.ledger("rotation") as ledger:
            with pytest.raises(LedgerUnavailableError):
                await ledger.save_report({"x": token_hex(3_000_000)})
            after = len(asked)
            await asyncio.sleep(0.2)
            assert len(asked) <= after + 16

    asyncio.run(main())

    assert len(asked) < 50
