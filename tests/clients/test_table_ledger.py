"""What is particular to the ledger in Table storage, on Azurite; the contract is in test_ledger.py."""

import asyncio
import base64
import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError, ServiceResponseError
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.data.tables import TableEntity
from azure.data.tables.aio import TableClient

from rotation.clients import table_ledger
from rotation.clients.ledger_rows import row_to_text
from rotation.model import Event, LedgerRow, Pause, Wanted
from rotation.reconcile import LedgerConflictError, LedgerUnavailableError
from sandbox import witness
from tests.clients import azurite
from tests.clients.azurite import Briefly, Identity, Tables, Transport

ROOT = Path(__file__).resolve().parents[2]
SUBSCRIPTIONS = ("11111111-2222-3333-4444-555555555555", "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee")
SERVICE = "/resourcegroups/rg/providers/microsoft.apimanagement/service/"
KEY = f"/subscriptions/{SUBSCRIPTIONS[0]}{SERVICE}apim-prod"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

# azure-data-tables 12.7 asks for the truth of an XML element where a failure is XML; since 3.12 Python warns.
pytestmark = pytest.mark.filterwarnings("ignore:Testing an element's truth value:DeprecationWarning")

Hook = Callable[[Any, int], Awaitable[None]]


class Watched(AsyncHttpTransport[Any, Any]):
    """The shared transport, with something done before and after every request, which is counted."""

    def __init__(self, inner: Transport, before: Hook | None = None, after: Hook | None = None) -> None:
        self._inner = inner
        self._before = before
        self._after = after
        self.sent = 0

    async def send(self, request: Any, **options: Any) -> Any:
        """Pass it on."""
        self.sent += 1
        number = self.sent
        if self._before:
            await self._before(request, number)
        answer = await self._inner.send(request, **options)
        if self._after:
            await self._after(request, number)
        return answer

    async def open(self) -> None:
        """The inner one opens itself."""

    async def close(self) -> None:
        """The inner one is closed by who owns its session."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self.close()


@pytest.fixture
def tables(request: pytest.FixtureRequest) -> Tables:
    """Azurite."""
    return azurite.running(request)


@pytest.fixture
def table() -> str:
    """The name of a table that is not there yet."""
    return azurite.new_table()


def entities(tables: Tables, table: str) -> list[TableEntity]:
    """All that a table holds."""

    async def every(client: TableClient) -> list[TableEntity]:
        return [entity async for entity in client.list_entities()]

    return tables.look(table, every)


def parts(tables: Tables, table: str) -> list[bytes]:
    """The parts of reports that a table holds, in order."""
    found = entities(tables, table)
    return [e["packed"] for e in found if e["PartitionKey"] == "report" and e["RowKey"] != "head"]


def test_a_row_is_kept_under_its_subscription_and_a_hash(tables: Tables, table: str) -> None:
    """ARM ids have slashes, which keys may not have; a person finds the gateway in a property."""
    for key in (KEY, "something else", "/subscriptions/no guid/x", "/subscriptions/report/x"):
        asyncio.run(Briefly(tables, table).write(LedgerRow(key)))

    found = {entity["gateway"]: entity for entity in entities(tables, table)}

    assert {
        KEY: SUBSCRIPTIONS[0],
        "something else": "other",
        "/subscriptions/no guid/x": "other",
        "/subscriptions/report/x": "other",
    } == {key: entity["PartitionKey"] for key, entity in found.items()}
    assert all(re.fullmatch("[0-9a-f]{32}", entity["RowKey"]) for entity in found.values())


def test_whoever_only_looks_makes_no_table(tables: Tables, table: str) -> None:
    """An app that only observes needs no right to write."""
    ledger = Briefly(tables, table)

    assert {KEY: LedgerRow(KEY)} == asyncio.run(ledger.read([KEY]))
    assert 30 == len(asyncio.run(ledger.read([f"{KEY}-{n}" for n in range(30)])))
    assert [] == asyncio.run(ledger.last_reports())
    assert tables.look(table, lambda client: client.create_table()).name == table  # raises where there is one


def test_the_first_report_makes_the_table(tables: Tables, table: str) -> None:
    """A report may come before the first attempt."""
    asyncio.run(Briefly(tables, table).save_report({"ok": True}))

    assert [{"ok": True}] == asyncio.run(Briefly(tables, table).last_reports())


def test_the_token_is_for_storage_alone(tables: Tables, table: str) -> None:
    """Whatever else the app's identity may do is not sent to storage; many requests ask for it once."""
    identity = Identity()

    async def main() -> None:
        async with tables.ledger(table, identity=identity) as ledger:
            await ledger.read([f"{KEY}-{n}" for n in range(table_ledger.POINT_READS)])
            await ledger.write(LedgerRow(KEY))

    asyncio.run(main())

    assert ["https://storage.azure.com/.default"] == identity.scopes


class Refused(Identity):
    """An identity that gets no token."""

    async def get_token(self, *scopes: str, **_: object) -> AccessToken:
        """As azure-identity says it."""
        raise ClientAuthenticationError(f"no identity for {scopes}")


@pytest.mark.parametrize(
    "identity",
    [
        pytest.param(Identity(aud="https://vault.azure.net"), id="a token for another resource"),
        pytest.param(Identity(exp=int(time.time()) - 60), id="a token of yesterday"),
        pytest.param(Identity(nbf=int(time.time()) + 600), id="a token of tomorrow"),
        pytest.param(Identity(iss="https://fabrikam.com/"), id="a token of another issuer"),
        pytest.param(Refused(), id="no token"),
    ],
)
def test_a_wrong_identity_makes_the_ledger_unavailable(
    tables: Tables, table: str, identity: Identity
) -> None:
    """The message names the account and the table."""

    async def main() -> None:
        async with tables.ledger(table, identity=identity) as ledger:
            with pytest.raises(LedgerUnavailableError, match=f"https://{azurite.HOST}/{table}"):
                await ledger.read([KEY])
            with pytest.raises(LedgerUnavailableError):
                await ledger.write(LedgerRow(KEY))

    asyncio.run(main())


def test_two_thousand_rows_are_read_in_few_requests(tables: Tables, table: str) -> None:
    """A pass over two subscriptions reads their partitions, not their rows."""
    keys = [f"/subscriptions/{SUBSCRIPTIONS[n % 2]}{SERVICE}apim-{n}" for n in range(2000)]
    stray = [f"/subscriptions/{SUBSCRIPTIONS[0]}{SERVICE}gone-{n}" for n in range(50)]

    async def fill(client: TableClient) -> None:
        await client.create_table()
        rows = [table_ledger._entity(LedgerRow(key, attempts=n % 7)) for n, key in enumerate(keys + stray)]
        await table_ledger._each(client.create_entity, rows)

    tables.look(table, fill)
    watched: list[Watched] = []

    def watch(inner: Transport) -> Transport:
        watched.append(Watched(inner))
        return watched[0]

    async def main() -> dict[str, LedgerRow]:
        async with tables.ledger(table, wrap=watch) as ledger:
            return await ledger.read([*keys, "never seen"])

    rows = asyncio.run(main())

    assert [*keys, "never seen"] == list(rows)
    assert {key: n % 7 for n, key in enumerate(keys)} | {"never seen": 0} == {
        key: row.attempts for key, row in rows.items()
    }
    assert [None] == [row.etag for row in rows.values() if row.etag is None]
    assert 4 == watched[0].sent  # 1050 rows, 1000 rows, and the partition of what is no ARM id


def test_a_row_read_among_many_may_be_written(tables: Tables, table: str) -> None:
    """A listing has the same etags as a single read."""
    keys = [f"{KEY}-{n}" for n in range(table_ledger.POINT_READS + 1)]

    async def main() -> tuple[LedgerRow, LedgerRow]:
        async with tables.ledger(table) as ledger:
            stored = await ledger.write(LedgerRow(keys[3], attempts=1))
            listed = (await ledger.read(keys))[keys[3]]
            written = await ledger.write(replace(listed, attempts=2))
            assert stored == listed
            return written, (await ledger.read(keys[3:4]))[keys[3]]

    written, found = asyncio.run(main())

    assert (2, written) == (found.attempts, found)


def lost(method: str) -> Hook:
    """The first answer to such a request never arrives."""
    seen: list[str] = []

    async def after(request: Any, _: int) -> None:
        if request.method == method and "/Tables" not in request.url:
            seen.append(request.url)
            if len(seen) == 1:
                raise ServiceResponseError("connection lost")

    return after


def test_an_insert_whose_answer_was_lost_is_known_again(tables: Tables, table: str) -> None:
    """The SDK repeats the request, and what refuses it is our own row, not another worker's."""
    asyncio.run(Briefly(tables, table).write(LedgerRow("another")))

    async def main() -> tuple[LedgerRow, LedgerRow]:
        async with tables.ledger(table, wrap=lambda t: Watched(t, after=lost("POST"))) as ledger:
            stored = await ledger.write(LedgerRow(KEY, attempts=1, claim_id="a"))
            return stored, (await ledger.read([KEY]))[KEY]

    stored, found = asyncio.run(main())

    assert stored == found
    assert stored.etag is not None


def test_an_update_whose_answer_was_lost_is_known_again(tables: Tables, table: str) -> None:
    """The same for a row that was there: the attempt is stored once, and may be made."""
    first = asyncio.run(Briefly(tables, table).write(LedgerRow(KEY)))

    async def main() -> tuple[LedgerRow, LedgerRow]:
        async with tables.ledger(table, wrap=lambda t: Watched(t, after=lost("PUT"))) as ledger:
            stored = await ledger.write(replace(first, attempts=1, claim_id="a"))
            return stored, (await ledger.read([KEY]))[KEY]

    stored, found = asyncio.run(main())

    assert stored == found
    assert (1, True) == (found.attempts, stored.etag != first.etag)


def test_the_same_row_of_another_worker_is_not_ours(tables: Tables, table: str) -> None:
    """Two workers may want to store the very same: still one of them is first."""
    ledger = Briefly(tables, table)
    first = asyncio.run(ledger.write(LedgerRow(KEY)))
    asyncio.run(ledger.write(replace(first, attempts=1)))

    with pytest.raises(LedgerConflictError):
        asyncio.run(ledger.write(replace(first, attempts=1)))
    with pytest.raises(LedgerConflictError):
        asyncio.run(ledger.write(LedgerRow(KEY)))


def test_twenty_workers_that_race_for_one_row_have_one_winner(tables: Tables, table: str) -> None:
    """In one process over one session, again and again: each round is won once."""
    rounds = 5

    async def main() -> list[int]:
        winners = []
        async with tables.ledger(table) as ledger:
            row = await ledger.write(LedgerRow(KEY))
            for turn in range(rounds):
                claims = [replace(row, attempts=turn, claim_id=f"{turn}-{n}") for n in range(20)]
                results = await asyncio.gather(*map(ledger.write, claims), return_exceptions=True)
                assert {LedgerRow, LedgerConflictError} == {type(result) for result in results}
                won = [result for result in results if isinstance(result, LedgerRow)]
                winners.append(len(won))
                row = won[0]
            assert row == (await ledger.read([KEY]))[KEY]
        return winners

    assert [1] * rounds == asyncio.run(main())


def test_another_process_sees_the_row_and_its_change_is_seen(tables: Tables, table: str) -> None:
    """Several instances of an app share the table and nothing else."""
    ledger = Briefly(tables, table)
    stored = asyncio.run(ledger.write(LedgerRow(KEY, attempts=3, claim_id="7f3e1c52")))
    other = (
        "import asyncio, sys\n"
        "from dataclasses import replace\n"
        "from tests.clients.azurite import Briefly, Tables\n"
        "ledger, key = Briefly(Tables(int(sys.argv[1]), sys.argv[2]), sys.argv[3]), sys.argv[4]\n"
        "row = asyncio.run(ledger.read([key]))[key]\n"
        "print(row.attempts, row.claim_id)\n"
        "asyncio.run(ledger.write(replace(row, attempts=row.attempts + 1)))\n"
    )

    seen = subprocess.run(
        [sys.executable, "-c", other, str(tables.port), tables.ca_file, table, KEY],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert "3 7f3e1c52" == seen.stdout.strip()
    assert 4 == asyncio.run(ledger.read([KEY]))[KEY].attempts
    with pytest.raises(LedgerConflictError):
        asyncio.run(ledger.write(replace(stored, attempts=5)))


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(
            LedgerRow(
                KEY,
                {f"https://kv/{n}": Wanted("v" * 32, datetime(2026, 3, 1, tzinfo=UTC)) for n in range(5000)},
            ),
            id="of 5,000 hostnames",
        ),
        pytest.param(LedgerRow(KEY + "x" * 33_000), id="of a gateway with an endless id"),
    ],
)
def test_a_row_that_is_too_long_is_not_stored(tables: Tables, table: str, row: LedgerRow) -> None:
    """The message says why, and nothing is cut off."""
    with pytest.raises(LedgerUnavailableError, match=r"a row of [\d,]+ characters is too long"):
        asyncio.run(Briefly(tables, table).write(row))


def test_a_row_that_cannot_be_stored_does_not_keep_the_others_out(
    tables: Tables, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What was seen of one gateway too many names is lost, and the log says so once."""
    endless = [LedgerRow(f"{KEY}{number}" + "x" * 33_000) for number in range(2)]
    rows = [LedgerRow(f"{KEY}-{number}") for number in range(30)]

    stored = asyncio.run(Briefly(tables, table).write_each([endless[0], *rows, endless[1]]))

    assert {row.gateway_key for row in rows} == stored.keys()
    assert stored == asyncio.run(Briefly(tables, table).read(stored))
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert line.startswith("2 of 32 rows could not be stored: ")


def test_the_longest_row_is_stored(tables: Tables, table: str) -> None:
    """What is let through fits into an entity."""

    def row_of(length: int) -> LedgerRow:
        return LedgerRow(KEY, outbox=(Event("VerdictChanged", {"x" * length: ""}, {}, "1"),))

    room = table_ledger.PART_CHARACTERS * table_ledger.MOST_BODIES - len(row_to_text(row_of(0)))
    row = row_of(room)

    stored = asyncio.run(Briefly(tables, table).write(row))

    assert stored == asyncio.run(Briefly(tables, table).read([KEY]))[KEY]


def report(size: int, mark: object = "ü\N{SLIGHTLY SMILING FACE}") -> Mapping[str, object]:
    """A report of about so many bytes however it is packed, with a mark."""
    noise = Random(str(mark))
    messages = (base64.b85encode(noise.randbytes(100)).decode() for _ in range(size // 110))
    return {"verdicts": [{"mark": mark, "hostname": "bücher.contoso.com", "message": m} for m in messages]}


def test_a_report_of_three_megabytes_is_kept(tables: Tables, table: str) -> None:
    """Several thousand gateways; no part is longer than a property holds."""
    large = report(3_000_000)
    ledger = Briefly(tables, table)

    asyncio.run(ledger.save_report(large))

    assert [large] == asyncio.run(ledger.last_reports())
    found = parts(tables, table)
    assert 45 < len(found) < 55
    assert max(map(len, found)) <= 64 * 1024


def test_a_report_that_is_too_long_is_not_kept(tables: Tables, table: str) -> None:
    """The message says so; what was kept before stays."""
    ledger = Briefly(tables, table)
    asyncio.run(ledger.save_report({"ok": True}))

    with pytest.raises(LedgerUnavailableError, match=r"a report of [0-9,]{10} bytes is too long"):
        asyncio.run(ledger.save_report(report(table_ledger.PART_BYTES * table_ledger.MOST_PARTS * 5 // 4)))

    assert [{"ok": True}] == asyncio.run(ledger.last_reports())


def test_a_report_that_an_earlier_version_has_kept_as_text_is_read(tables: Tables, table: str) -> None:
    """Until the next pass has written another."""
    text = json.dumps(report(1000))
    halves = text[:500], text[500:]

    async def put(client: TableClient) -> None:
        await client.create_table()
        names = [f"20260101T000000-0-{n:05}" for n in range(2)]
        for name, half in zip(names, halves, strict=True):
            await client.upsert_entity({"PartitionKey": "report", "RowKey": name, "text": half})
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        head = {"PartitionKey": "report", "RowKey": "head", "generation": names[0][:-6], "sha256": sha256}
        await client.upsert_entity(head)

    tables.look(table, put)

    assert [report(1000)] == asyncio.run(Briefly(tables, table).last_reports())


@pytest.mark.parametrize("request_number", range(1, 6))
def test_a_writer_that_is_killed_leaves_the_report_before_it(
    tables: Tables, table: str, request_number: int
) -> None:
    """At whichever of its four parts and the head: a report is seen whole or not at all."""
    before, after = report(20_000, "before"), report(210_000, "after")
    asyncio.run(Briefly(tables, table).save_report(before))

    async def kill(_: object, number: int) -> None:
        if number == request_number:
            raise RuntimeError("killed")

    async def main() -> None:
        async with tables.ledger(table, wrap=lambda t: Watched(t, before=kill)) as ledger:
            with pytest.raises(RuntimeError, match="killed"):
                await ledger.save_report(after)

    asyncio.run(main())

    assert [before] == asyncio.run(Briefly(tables, table).last_reports())


def test_a_reader_among_writers_sees_one_report_or_another(tables: Tables, table: str) -> None:
    """Never a mixture, and never none."""
    reports = [report(130_000, n) for n in range(12)]

    async def main() -> list[Sequence[Mapping[str, object]]]:
        async with tables.ledger(table) as ledger:
            await ledger.save_report(reports[0])

            async def save(some: Sequence[Mapping[str, object]]) -> None:
                for one in some:
                    await ledger.save_report(one)

            writing = asyncio.gather(*(save(reports[n::3]) for n in range(3)))
            seen = []
            while not writing.done():
                seen.append(await ledger.last_reports())
            await writing
        return seen

    seen = asyncio.run(main())

    assert len(seen) > 3
    assert [] == [found for found in seen if [*found] not in [[report] for report in reports]]


def test_earlier_reports_are_removed_after_a_while(tables: Tables, table: str) -> None:
    """Also the parts of a writer that was killed; those of a few minutes ago stay for who is reading them."""

    async def kill(request: Any, _: int) -> None:
        if "head" in request.url:
            raise RuntimeError("killed")

    def save(minutes: float, before: Hook | None = None) -> int:
        """Save a report of four parts; returns how many parts there are now."""

        def watch(inner: Transport) -> Transport:
            return Watched(inner, before=before)

        async def main() -> None:
            moment = NOON + timedelta(minutes=minutes)
            async with tables.ledger(table, wrap=watch, now=lambda: moment) as ledger:
                await ledger.save_report(report(210_000, minutes))

        asyncio.run(main())
        return len(parts(tables, table))

    with pytest.raises(RuntimeError, match="killed"):
        save(0, kill)
    stored = [save(minutes) for minutes in (1, 5, 10.5, 12, 60)]

    assert [8, 12, 12, 12, 4] == stored
    assert [report(210_000, 60)] == asyncio.run(Briefly(tables, table).last_reports())


def test_a_reader_that_is_overtaken_reads_again(tables: Tables, table: str) -> None:
    """It has seen the head of a report whose parts were removed meanwhile."""
    old, new = report(90_000, "old"), report(90_000, "new")

    async def main() -> Sequence[Mapping[str, object]]:
        async with tables.ledger(table, now=lambda: NOON) as ledger:
            await ledger.save_report(old)

        async def overtake(_: object, number: int) -> None:
            if number == 1:
                async with tables.ledger(table, now=lambda: NOON + timedelta(hours=1)) as other:
                    await other.save_report(new)

        async with tables.ledger(table, wrap=lambda t: Watched(t, after=overtake)) as ledger:
            return await ledger.last_reports()

    assert [new] == asyncio.run(main())


def test_a_report_without_its_parts_makes_the_ledger_unavailable(tables: Tables, table: str) -> None:
    """Somebody has cleared up the table: the message says what is wrong."""
    asyncio.run(Briefly(tables, table).save_report({"ok": True}))

    async def clear(client: TableClient) -> None:
        async for entity in client.query_entities("PartitionKey eq 'report' and RowKey ne 'head'"):
            await client.delete_entity(entity)

    tables.look(table, clear)

    with pytest.raises(LedgerUnavailableError, match="the report that is kept is not whole"):
        asyncio.run(Briefly(tables, table).last_reports())


def test_a_report_is_kept_though_the_earlier_cannot_be_removed(
    tables: Tables, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so, and the next one tries again."""

    async def forbid(request: Any, _: int) -> None:
        if request.method in {"DELETE", "GET"}:
            raise ServiceResponseError("connection lost")

    async def main() -> None:
        async with tables.ledger(table, wrap=lambda t: Watched(t, before=forbid)) as ledger:
            await ledger.save_report({"ok": True})

    asyncio.run(main())

    assert [{"ok": True}] == asyncio.run(Briefly(tables, table).last_reports())
    assert 1 == caplog.text.count("earlier reports could not be removed")


def test_a_secret_in_a_row_is_found_by_the_witness(tables: Tables, table: str) -> None:
    """As after every test that has used a table, here with one in it."""

    async def pause() -> None:
        async with tables.ledger(table) as ledger:
            await ledger.set_pause(Pause(datetime(2026, 11, 23, tzinfo=UTC), witness.canary()))

    asyncio.run(pause())
    azurite.tell(tables)

    assert ["ledger"] == [leak.partition(":")[0] for leak in witness.take()]
