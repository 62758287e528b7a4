"""The contract of a ledger, held by each of them, and what is particular to the one in SQLite.

Table storage is Azurite's; what is particular to it is in test_table_ledger.py.
"""

import asyncio
import hashlib
import json
import sqlite3
import subprocess
import sys
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient

from rotation.clients.ledger_rows import LARGEST_REPORT, OPERATIONS_KEPT, report_from_bytes
from rotation.clients.sqlite_ledger import SqliteLedger
from rotation.model import (
    Asked,
    Event,
    LastVerdict,
    LedgerRow,
    Pause,
    Reason,
    Rotation,
    Shard,
    Status,
    SyncOutcome,
    Trigger,
    Wanted,
)
from rotation.reconcile import Ledger, LedgerConflictError, LedgerUnavailableError
from tests.clients import azurite

KEY = "/subscriptions/1/resourcegroups/rg/providers/microsoft.apimanagement/service/apim-prod"
WHEN = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
FULL = LedgerRow(
    gateway_key=KEY,
    wanted={
        "https://kv.vault.azure.net/certificates/a": Wanted("v1", WHEN),
        "https://kv.vault.azure.net/certificates/b": Wanted("", WHEN - timedelta(days=3)),
    },
    attempts=3,
    asked_at=WHEN,
    next_at=WHEN + timedelta(hours=2),
    hold_until=WHEN + timedelta(hours=2),
    awaited_until=WHEN + timedelta(minutes=45),
    outcome=SyncOutcome.ACCEPTED,
    operation_url="https://management.azure.com/x?y=ü",
    claim_id="7f3e1c52",
    forced_at=WHEN - timedelta(days=1),
    proven_at=WHEN + timedelta(minutes=40),
    last={
        "proxy/api.contoso.com": LastVerdict(
            Status.STALE, Reason.SYNC_OVERDUE, drift=True, since=WHEN, version="v1"
        )
    },
    rotations=(
        Rotation(
            "https://kv.vault.azure.net/certificates/a", "v0", WHEN, WHEN, Trigger.HAND, WHEN, WHEN, WHEN
        ),
        Rotation("https://kv.vault.azure.net/certificates/a", "v1", WHEN, WHEN, Trigger.EVENT),
    ),
    outbox=(Event("VerdictChanged", {"hostname": "bücher.example"}, {"attempt": 1.5}, "id-1"),),
    missing_since=WHEN - timedelta(days=2),
    front_content_at=WHEN + timedelta(minutes=45),
    front_trusts="0123456789abcdef",
    asked={KEY: Asked(WHEN, SyncOutcome.UNKNOWN)},
)
ROOT = Path(__file__).resolve().parents[2]

Open = Callable[[], Ledger]


@dataclass(frozen=True, slots=True)
class Store:
    """One ledger: how to open it, and how to write nonsense into it past the app."""

    open: Open
    spoil_row: Callable[[str, str], None]
    spoil_report: Callable[[str], None]


def in_sqlite(path: Path) -> Store:
    """A file."""

    def execute(statement: str, *values: str) -> None:
        with closing(sqlite3.connect(path)) as database, database:
            assert 1 == database.execute(statement, values).rowcount

    return Store(
        lambda: SqliteLedger(str(path)),
        lambda key, body: execute("UPDATE attempts SET body = ? WHERE gateway = ?", body, key),
        lambda body: execute("UPDATE reports SET body = ?", body),
    )


def in_table(tables: azurite.Tables, name: str) -> Store:
    """A table of Azurite."""

    async def change(table: TableClient, where: str, values: Mapping[str, str], **changes: str) -> None:
        found = [entity async for entity in table.query_entities(where, parameters=dict(values))]
        assert 1 == len(found)
        await table.update_entity({**found[0], **changes}, UpdateMode.REPLACE)

    async def report(table: TableClient, body: str) -> None:
        where = "PartitionKey eq 'report' and RowKey "
        await change(table, f"{where} ne 'head'", {}, text=body)
        await change(table, f"{where} eq 'head'", {}, sha256=hashlib.sha256(body.encode()).hexdigest())

    return Store(
        lambda: azurite.Briefly(tables, name),
        lambda key, body: tables.look(name, lambda t: change(t, "gateway eq @key", {"key": key}, body=body)),
        lambda body: tables.look(name, lambda t: report(t, body)),
    )


@pytest.fixture(params=["SQLite", "Table storage"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty ledger of each kind."""
    if request.param == "SQLite":
        return in_sqlite(tmp_path / "ledger.sqlite")
    return in_table(azurite.running(request), azurite.new_table())


@pytest.fixture
def open_ledger(store: Store) -> Open:
    """Opens one and the same ledger again and again, as every worker does."""
    return store.open


def read(ledger: Ledger, key: str = KEY) -> LedgerRow:
    """One row."""
    return asyncio.run(ledger.read([key]))[key]


def write(ledger: Ledger, row: LedgerRow) -> LedgerRow:
    """Store one row."""
    return asyncio.run(ledger.write(row))


def test_a_gateway_never_seen_has_a_new_row(open_ledger: Open) -> None:
    """Nothing was attempted for it."""
    assert {KEY: LedgerRow(KEY), "x": LedgerRow("x")} == asyncio.run(open_ledger().read(iter([KEY, "x"])))


def test_no_gateways_have_no_rows(open_ledger: Open) -> None:
    """An empty question has an empty answer."""
    write(open_ledger(), FULL)

    assert {} == asyncio.run(open_ledger().read([]))


def test_every_field_is_kept(open_ledger: Open) -> None:
    """Another worker reads exactly what was stored; this test grows with the row."""
    new = LedgerRow(KEY)
    kept = {field.name for field in fields(LedgerRow)} - {"gateway_key", "etag"}
    assert set() == {name for name in kept if getattr(FULL, name) == getattr(new, name)}

    stored = write(open_ledger(), FULL)

    assert replace(FULL, etag=stored.etag) == stored == read(open_ledger())
    assert stored.etag is not None


def test_a_row_without_anything_is_kept(open_ledger: Open) -> None:
    """None stays None."""
    stored = write(open_ledger(), LedgerRow(KEY))

    assert LedgerRow(KEY, etag=stored.etag) == read(open_ledger())


@pytest.mark.parametrize("outcome", SyncOutcome)
def test_every_outcome_is_kept(open_ledger: Open, outcome: SyncOutcome) -> None:
    """A word that is stored can be read."""
    write(open_ledger(), replace(FULL, outcome=outcome))

    assert outcome is read(open_ledger()).outcome


@pytest.mark.parametrize("trigger", Trigger)
def test_every_trigger_is_kept(open_ledger: Open, trigger: Trigger) -> None:
    """A word that is stored can be read."""
    caught = tuple(replace(rotation, caught_by=trigger) for rotation in FULL.rotations)
    write(open_ledger(), replace(FULL, rotations=caught))

    assert caught == read(open_ledger()).rotations


def test_all_gateways_with_a_row_are_known(open_ledger: Open) -> None:
    """Also those that nobody asks for, and not what else is kept."""
    other = KEY.replace("/subscriptions/1/", "/subscriptions/2/")

    async def keep() -> frozenset[str]:
        ledger = open_ledger()
        nobody = await ledger.known()
        assert frozenset() == nobody
        for key in (KEY, other, "another"):
            await ledger.write(replace(FULL, gateway_key=key))
        await ledger.save_report({"a": 1})
        await ledger.set_pause(Pause(WHEN, "freeze"))
        return await ledger.known()

    assert {KEY, other, "another"} == asyncio.run(keep())


def test_a_row_is_forgotten_by_who_has_seen_its_newest_state(open_ledger: Open) -> None:
    """An attempt that another worker has just noted is not lost."""

    async def forget() -> LedgerRow:
        ledger = open_ledger()
        old = await ledger.write(FULL)
        new = await ledger.write(replace(old, attempts=4))
        with pytest.raises(LedgerConflictError):
            await ledger.forget(old)
        for _ in range(2):
            await ledger.forget(new)
        return (await ledger.read([KEY]))[KEY]

    assert LedgerRow(KEY) == asyncio.run(forget())


def test_the_kill_switch_is_for_all_who_open_the_ledger(open_ledger: Open) -> None:
    """Off at first, on with its reason, on again with another, and off."""
    assert None is asyncio.run(open_ledger().paused())
    for pause in (
        Pause(WHEN, "freeze"),
        Pause(WHEN + timedelta(hours=1), "still frozen, für heute"),
        None,
        None,
    ):
        asyncio.run(open_ledger().set_pause(pause))

        assert pause == asyncio.run(open_ledger().paused())


def test_a_moment_is_kept_in_any_zone(open_ledger: Open) -> None:
    """What was meant is a moment, whatever the zone it was written in."""
    elsewhere = WHEN.astimezone(timezone(timedelta(hours=5, minutes=45)))
    write(open_ledger(), replace(FULL, asked_at=elsewhere))

    assert WHEN == read(open_ledger()).asked_at


def test_the_newest_etag_may_write(open_ledger: Open) -> None:
    """Who has seen the last state may change it, and gets the etag for the next change."""
    first = write(open_ledger(), FULL)
    second = write(open_ledger(), replace(first, attempts=4))
    third = write(open_ledger(), replace(second, attempts=5))

    assert (3, len({first.etag, second.etag, third.etag})) == (3, 3)
    assert third == read(open_ledger())


def test_a_stale_etag_may_not_write(open_ledger: Open) -> None:
    """Who has missed a change is told so, and changes nothing."""
    first = write(open_ledger(), FULL)
    second = write(open_ledger(), replace(first, attempts=4))

    with pytest.raises(LedgerConflictError):
        write(open_ledger(), replace(first, attempts=9))

    assert second == read(open_ledger())


def test_a_new_row_does_not_replace_one_that_is_there(open_ledger: Open) -> None:
    """A row is new only once."""
    first = write(open_ledger(), FULL)

    with pytest.raises(LedgerConflictError):
        write(open_ledger(), LedgerRow(KEY, attempts=1))

    assert first == read(open_ledger())


def test_an_etag_without_its_row_is_stale(open_ledger: Open) -> None:
    """A ledger that was emptied meanwhile is a change, too."""
    another = write(open_ledger(), replace(FULL, gateway_key="another"))

    with pytest.raises(LedgerConflictError):
        write(open_ledger(), replace(FULL, etag=another.etag))

    assert LedgerRow(KEY) == read(open_ledger())


def test_many_rows_are_stored_each_for_itself(open_ledger: Open) -> None:
    """A pass notes thousands: who has not seen the newest state of one is told so of that one only."""
    keys = [f"{KEY}-{number}" for number in range(60)]
    old = write(open_ledger(), LedgerRow(keys[0]))
    newest = write(open_ledger(), replace(old, attempts=2))
    known = write(open_ledger(), LedgerRow(keys[1]))
    wanted = [
        replace(old, attempts=1),
        replace(known, attempts=3),
        LedgerRow(keys[1], attempts=4),
        *(replace(FULL, gateway_key=key) for key in keys[2:]),
    ]

    stored = asyncio.run(open_ledger().write_each(wanted))

    found = asyncio.run(open_ledger().read(keys))
    assert set(keys[1:]) == stored.keys()
    assert {**stored, keys[0]: newest} == found
    assert 3 == found[keys[1]].attempts
    assert wanted[3:] == [replace(found[key], etag=FULL.etag) for key in keys[2:]]


def test_the_rows_that_were_stored_together_can_be_changed_again(open_ledger: Open) -> None:
    """What is returned has the etag of what is stored, and only the newest may write."""
    keys = [f"{KEY}-{number}" for number in range(3)]

    async def change() -> list[int]:
        ledger = open_ledger()
        first = await ledger.write_each([LedgerRow(key) for key in keys])
        second = await ledger.write_each([replace(row, attempts=1) for row in first.values()])
        third = await ledger.write_each([replace(row, attempts=2) for row in first.values()])
        return [len(first), len(second), len(third)]

    assert [3, 3, 0] == asyncio.run(change())


def test_gateways_do_not_touch_each_other(open_ledger: Open) -> None:
    """Each row has an etag of its own."""
    ours = write(open_ledger(), FULL)
    other = write(open_ledger(), replace(FULL, gateway_key="another", attempts=1))

    write(open_ledger(), replace(other, attempts=2))

    assert ours == read(open_ledger())
    assert {KEY} == set(asyncio.run(open_ledger().read([KEY])))


def race(open_ledger: Open, row: LedgerRow, workers: int = 20) -> list[str]:
    """What each of many workers got that wrote the same row at the same time; the winners' claims."""
    start = threading.Barrier(workers)
    results: list[str] = []

    def work(claim: str) -> None:
        ledger = open_ledger()
        start.wait(10)
        try:
            results.append(write(ledger, replace(row, claim_id=claim)).claim_id)
        except LedgerConflictError:
            results.append("conflict")
        except LedgerUnavailableError as error:
            results.append(str(error))

    threads = [threading.Thread(target=work, args=(f"worker-{n}",)) for n in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return sorted(results)


@pytest.mark.parametrize("first_use", [True, False], ids=["in a ledger never used", "in one already used"])
def test_of_many_that_insert_one_wins(open_ledger: Open, *, first_use: bool) -> None:
    """However many workers meet a stale gateway at the same time, one of them asks for the sync."""
    if not first_use:
        write(open_ledger(), replace(FULL, gateway_key="another"))

    results = race(open_ledger, FULL)

    assert ["conflict"] * 19 == results[:19]
    assert results[19] == read(open_ledger()).claim_id


def test_of_many_that_update_one_wins(open_ledger: Open) -> None:
    """The same for a gateway that was synced before."""
    results = race(open_ledger, write(open_ledger(), FULL))

    assert ["conflict"] * 19 == results[:19]
    assert results[19] == read(open_ledger()).claim_id


def test_the_reports_of_shards_stand_beside_each_other(open_ledger: Open) -> None:
    """Each replaces its own; whoever asks gets all, and when each was made."""
    first, second = Shard(1, 4), Shard(2, 4)
    reports = {shard: {"as_of": WHEN.isoformat(), "shard": shard.number} for shard in (first, second)}
    later = {"as_of": (WHEN + timedelta(minutes=5)).isoformat(), "shard": 1}

    async def work() -> tuple[object, ...]:
        ledger = open_ledger()
        for shard, report in reports.items():
            await ledger.save_report(report, shard)
        await ledger.save_report(later, first)
        times = [await ledger.looked_at(shard) for shard in (first, second, Shard(3, 4), Shard(1, 8))]
        return await ledger.last_reports(), times

    expected = ([later, reports[second]], [WHEN + timedelta(minutes=5), WHEN, None, None])

    assert expected == asyncio.run(work())


def test_the_reports_of_another_number_of_shards_are_forgotten_after_an_hour(open_ledger: Open) -> None:
    """Until then they may be the only whole set."""

    async def work(minutes: int) -> int:
        ledger = open_ledger()
        for shard in (None, Shard(1, 2), Shard(2, 2)):
            await ledger.save_report({"as_of": WHEN.isoformat()}, shard)
        await ledger.save_report({"as_of": (WHEN + timedelta(minutes=minutes)).isoformat()}, Shard(1, 4))
        return len(await ledger.last_reports())

    assert [4, 1] == [asyncio.run(work(minutes)) for minutes in (59, 61)]


def test_known_rows_can_be_those_of_a_shard(open_ledger: Open) -> None:
    """All shards together have every row, each row is in one."""
    keys = [f"{KEY}-{n}" for n in range(40)]

    async def work() -> tuple[list[frozenset[str]], frozenset[str], int]:
        ledger = open_ledger()
        for key in keys:
            await ledger.write(LedgerRow(key))
        shards = [Shard(number, 8) for number in range(1, 9)]
        rows = await ledger.read(key for key in keys if shards[2].holds(key))
        found = [await ledger.known(shard) for shard in shards]
        return found, await ledger.known(), len([row for row in rows.values() if row.etag])

    of_shards, everything, read = asyncio.run(work())

    assert set(keys) == everything == frozenset().union(*of_shards)
    assert len(keys) == sum(map(len, of_shards))
    assert len(of_shards[2]) == read


def test_the_last_report_is_kept(open_ledger: Open) -> None:
    """Whichever worker is asked for the status has the report of whichever made the last one."""
    report: Mapping[str, object] = {"ok": True, "verdicts": [{"hostname": "bücher.contoso.com", "n": 1.5}]}
    assert [] == asyncio.run(open_ledger().last_reports())

    asyncio.run(open_ledger().save_report({"ok": False}))
    asyncio.run(open_ledger().save_report(report))

    assert [report] == asyncio.run(open_ledger().last_reports())


@pytest.mark.parametrize(
    "report",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"verdicts": []}, id="nothing in a list"),
        pytest.param({"verdicts": [{}]}, id="nothing in a verdict"),
        pytest.param({"as_of": WHEN.isoformat(), "n": 1.5, "shard": None, "missing": 0}, id="no list"),
        pytest.param(
            {"decisions": [{"a": [1, {"b": []}]}, {"ü": "\u2028\x00"}], "last": True}, id="all kinds"
        ),
    ],
)
def test_a_report_is_kept_as_it_is(tmp_path: Path, report: Mapping[str, object]) -> None:
    """It is encoded a verdict at a time, and is the same JSON."""
    ledger = SqliteLedger(str(tmp_path / "ledger.sqlite"))

    asyncio.run(ledger.save_report(report))

    assert [report] == asyncio.run(ledger.last_reports())


def test_to_keep_a_large_report_takes_little_memory(tmp_path: Path) -> None:
    """Its text would be as large as all else that a pass over ten thousand gateways holds."""
    ledger = SqliteLedger(str(tmp_path / "ledger.sqlite"))
    report = {
        "verdicts": [{"hostname": f"api-{n}.contoso.com", "message": "in sync " * 100} for n in range(9_000)]
    }
    text = len(json.dumps(report))

    tracemalloc.start()
    try:
        asyncio.run(ledger.save_report(report))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < text / 5
    assert [report] == asyncio.run(ledger.last_reports())


def test_a_report_that_an_earlier_version_has_kept_is_read(tmp_path: Path) -> None:
    """As text."""
    path = tmp_path / "ledger.sqlite"
    asyncio.run(SqliteLedger(str(path)).save_report({"new": True}))
    in_sqlite(path).spoil_report('{"old": true}')

    assert [{"old": True}] == asyncio.run(SqliteLedger(str(path)).last_reports())


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xa5" * 100, id="noise"),
        pytest.param(zlib.compress(b'{"a": 1}')[:-5], id="torn"),
        pytest.param(zlib.compress(b"\xff\xfe"), id="no text"),
        pytest.param(zlib.compress(b"[1]"), id="no object"),
    ],
)
def test_a_packed_report_that_makes_no_sense_is_refused(packed: bytes) -> None:
    """What was torn or is not ours is told like any other nonsense."""
    with pytest.raises((ValueError, TypeError)):
        report_from_bytes(packed)


def test_a_packed_report_is_not_blown_up_to_any_size() -> None:
    """A megabyte could become a gigabyte."""
    packing, megabyte = zlib.compressobj(level=1), b" " * (1 << 20)
    packed = b"".join(packing.compress(megabyte) for _ in range((LARGEST_REPORT >> 20) + 1)) + packing.flush()

    with pytest.raises(ValueError, match="too large"):
        report_from_bytes(packed)


def test_the_newest_runs_by_hand_are_kept(open_ledger: Open) -> None:
    """What became of a run can be asked of any worker, until fifty others have followed it."""

    async def main() -> list[Mapping[str, object] | None]:
        ledger = open_ledger()
        for number in range(OPERATIONS_KEPT + 2):
            await ledger.save_operation(f"run-{number}", {"number": number, "text": "bücher" * number * 200})
        await ledger.save_report({"ok": True})
        asked = ("run-0", "run-1", "run-2", f"run-{OPERATIONS_KEPT + 1}", "another", "run", "run-")
        return [await ledger.operation(run) for run in asked]

    kept = asyncio.run(main())

    assert [None, None, 2, OPERATIONS_KEPT + 1, None, None, None] == [one and one["number"] for one in kept]
    assert frozenset() == asyncio.run(open_ledger().known())
    assert [{"ok": True}] == asyncio.run(open_ledger().last_reports())


def test_a_run_that_is_kept_again_is_the_newest(open_ledger: Open) -> None:
    """An answer of storage that was lost makes no second run, and no half of one."""
    for number in (1, 2):
        asyncio.run(open_ledger().save_operation("run", {"number": number}))

    assert {"number": 2} == asyncio.run(open_ledger().operation("run"))


GOOD_BODY = {
    "wanted": {"https://kv.vault.azure.net/certificates/a": {"version": "v1", "since": WHEN.isoformat()}},
    "attempts": 1,
    "asked_at": WHEN.isoformat(),
    "next_at": WHEN.isoformat(),
    "outcome": "accepted",
    "operation_url": None,
    "claim_id": "x",
    "forced_at": None,
    "proven_at": None,
    "last": {},
    "rotations": [],
    "outbox": [],
}


def but(**changes: object) -> str:
    """A stored row with some of its fields changed."""
    return json.dumps(GOOD_BODY | changes)


def without(*names: str) -> str:
    """A stored row with some of its fields left out."""
    return json.dumps({name: value for name, value in GOOD_BODY.items() if name not in names})


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("", id="nothing"),
        pytest.param("{", id="half an object"),
        pytest.param("null", id="null"),
        pytest.param("[]", id="a list"),
        pytest.param('"x"', id="a string"),
        pytest.param("{}", id="an empty object"),
        pytest.param(without("wanted"), id="without what is wanted"),
        pytest.param(without("attempts"), id="without the attempts"),
        pytest.param(without("asked_at"), id="without the last time"),
        pytest.param(without("next_at"), id="without the next time"),
        pytest.param(but(wanted=5), id="a number for what is wanted"),
        pytest.param(but(wanted={"a": 5}), id="a number for a version"),
        pytest.param(but(attempts="many"), id="a word for the attempts"),
        pytest.param(but(attempts=None), id="null for the attempts"),
        pytest.param(but(attempts=1.5), id="one and a half attempts"),
        pytest.param(but(attempts=float("inf")), id="infinitely many attempts"),
        pytest.param(but(asked_at="yesterday"), id="a word for a time"),
        pytest.param(but(asked_at=5), id="a number for a time"),
        pytest.param(but(asked_at=""), id="nothing for a time"),
        pytest.param(but(next_at="2026-03-01T12:00:00"), id="a time without a zone"),
        pytest.param(but(asked_at="9999-12-31T23:59:59+00:00"), id="the end of time"),
        pytest.param(but(forced_at="0001-01-01T00:00:00+14:00"), id="the beginning of time"),
        pytest.param(but(outcome="splendid"), id="an unknown outcome"),
        pytest.param(but(wanted={"a": {"version": "v1"}}), id="a wanted version of no time"),
        pytest.param(but(last=[]), id="a list for the last verdicts"),
        pytest.param(but(last={"a": {"status": "FINE"}}), id="an unknown status"),
        pytest.param(but(rotations={}), id="an object for the rotations"),
        pytest.param(but(rotations=[{"certificate": "a"}]), id="half a rotation"),
        pytest.param(but(outbox=["x"]), id="a word for an event"),
        pytest.param(
            but(outbox=[{"name": "x", "properties": {}, "measurements": {"n": "x"}}]),
            id="a word for a number",
        ),
        pytest.param(but(missing_since=True), id="true for a time"),
        pytest.param(but(claim_id=None), id="null for the claim"),
        pytest.param(but(operation_url=5), id="a number for the operation"),
        pytest.param("[" * 30_000, id="nested deeper than Python goes"),
    ],
)
def test_a_row_that_makes_no_sense_makes_the_ledger_unavailable(store: Store, body: str) -> None:
    """To go on as if nothing had been attempted would lift the limit on syncs."""
    write(store.open(), FULL)
    store.spoil_row(KEY, body)

    with pytest.raises(LedgerUnavailableError):
        read(store.open())


def test_the_row_of_another_gateway_does_no_harm(store: Store) -> None:
    """What is not asked for is not read."""
    stored = write(store.open(), FULL)
    write(store.open(), replace(FULL, gateway_key="another"))
    store.spoil_row("another", "x")

    assert stored == read(store.open())


def test_a_row_of_an_older_version_has_defaults(store: Store) -> None:
    """What was not yet noted then is as in a new row; the limit on syncs holds on."""
    write(store.open(), FULL)
    store.spoil_row(KEY, without(*(GOOD_BODY.keys() - {"wanted", "attempts", "asked_at", "next_at"})))

    row = read(store.open())

    expected = LedgerRow(
        KEY, {"https://kv.vault.azure.net/certificates/a": Wanted("v1", WHEN)}, 1, WHEN, WHEN, etag=row.etag
    )
    assert expected == row


def test_a_row_of_a_newer_version_is_read(store: Store) -> None:
    """While an app is updated, old and new workers share a ledger."""
    write(store.open(), FULL)
    store.spoil_row(KEY, but(invented_later={"x": 1}))

    assert 1 == read(store.open()).attempts


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        pytest.param(-5, 0, id="less than none"),
        pytest.param(1000, 1000, id="as many as there may be"),
        pytest.param(10**400, 1000, id="more than anybody could count"),
    ],
)
def test_attempts_are_held_within_reason(store: Store, stored: int, expected: int) -> None:
    """A row of nobody's making neither lifts the limit further than a new one, nor overflows."""
    write(store.open(), FULL)
    store.spoil_row(KEY, but(attempts=stored))

    assert expected == read(store.open()).attempts


@pytest.mark.parametrize(
    ("outcome", "next_at", "expected"),
    [
        pytest.param("accepted", WHEN + timedelta(days=1), WHEN + timedelta(days=1), id="daily"),
        pytest.param("accepted", WHEN + timedelta(days=900), WHEN + timedelta(hours=25), id="in years"),
        pytest.param(None, WHEN + timedelta(days=900), WHEN + timedelta(hours=25), id="in years, no answer"),
        pytest.param(
            "throttled", WHEN + timedelta(days=9), WHEN + timedelta(days=9), id="refused long after the last"
        ),
    ],
)
def test_the_next_time_is_held_within_reason(
    store: Store, outcome: str | None, next_at: datetime, expected: datetime
) -> None:
    """A row cannot say never again; after a refusal its times were not set together, and both stay."""
    write(store.open(), FULL)
    store.spoil_row(KEY, but(outcome=outcome, next_at=next_at.isoformat()))

    assert expected == read(store.open()).next_at


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "[" * 30_000], ids=["nothing", "half an object", "a list", "too deep"]
)
def test_a_report_that_makes_no_sense_makes_the_ledger_unavailable(store: Store, body: str) -> None:
    """/api/status answers that there is no report, not with an error of Python's."""
    asyncio.run(store.open().save_report({}))
    store.spoil_report(body)

    with pytest.raises(LedgerUnavailableError):
        asyncio.run(store.open().last_reports())


# What is particular to SQLite.


def test_another_process_sees_the_row_and_its_change_is_seen(tmp_path: Path) -> None:
    """The Functions host runs several workers: the file is what they share."""
    path = tmp_path / "ledger.sqlite"
    write(SqliteLedger(str(path)), FULL)
    other = (
        "import asyncio, sys\n"
        "from dataclasses import replace\n"
        "from rotation.clients.sqlite_ledger import SqliteLedger\n"
        "ledger, key = SqliteLedger(sys.argv[1]), sys.argv[2]\n"
        "row = asyncio.run(ledger.read([key]))[key]\n"
        "print(row.attempts, row.claim_id)\n"
        "asyncio.run(ledger.write(replace(row, attempts=row.attempts + 1)))\n"
    )

    seen = subprocess.run(
        [sys.executable, "-c", other, str(path), KEY],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert "3 7f3e1c52" == seen.stdout.strip()
    assert 4 == read(SqliteLedger(str(path))).attempts


def every_call(ledger: Ledger) -> list[object]:
    """What each call of a ledger raises, None where it does not."""

    def attempt(call: Callable[[], object]) -> object:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - the type is what is asserted
            return type(error)
        return None

    return [
        attempt(lambda: asyncio.run(ledger.read([KEY]))),
        attempt(lambda: asyncio.run(ledger.write(FULL))),
        attempt(lambda: asyncio.run(ledger.write(replace(FULL, etag="1")))),
        attempt(lambda: asyncio.run(ledger.write_each([FULL, LedgerRow("another")]))),
        attempt(lambda: asyncio.run(ledger.save_report({}))),
        attempt(lambda: asyncio.run(ledger.last_reports())),
        attempt(lambda: asyncio.run(ledger.save_operation("run", {}))),
        attempt(lambda: asyncio.run(ledger.operation("run"))),
    ]


def a_folder(path: Path) -> Path:
    """The path is taken by a folder."""
    path.mkdir()
    return path


def a_folder_that_is_not_there(path: Path) -> Path:
    """The path leads through nothing."""
    return path / "missing" / "ledger.sqlite"


def a_path_through_a_file(path: Path) -> Path:
    """The path leads through a file."""
    path.write_text("x")
    return path / "ledger.sqlite"


def some_text(path: Path) -> Path:
    """The file is something else."""
    path.write_text("This is no database. " * 100)
    return path


def a_torn_database(path: Path) -> Path:
    """The file begins like a database and ends like noise."""
    write(SqliteLedger(str(path)), FULL)
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"\xa5" * (len(whole) - 100))
    return path


def another_schema(path: Path) -> Path:
    """A database with tables of the same names and other columns."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE attempts (a TEXT)")
        database.execute("CREATE TABLE reports (b TEXT)")
        database.execute("CREATE TABLE operations (c TEXT)")
    return path


@pytest.mark.parametrize(
    "spoil",
    [a_folder, a_folder_that_is_not_there, a_path_through_a_file, some_text, a_torn_database, another_schema],
)
def test_a_file_that_is_no_ledger_makes_it_unavailable(tmp_path: Path, spoil: Callable[[Path], Path]) -> None:
    """Every call says the same: without a ledger nothing is synced, and everything reported."""
    path = spoil(tmp_path / "ledger.sqlite")

    assert [LedgerUnavailableError] * 8 == every_call(SqliteLedger(str(path)))


def test_a_path_with_a_nul_makes_it_unavailable() -> None:
    """A setting that cannot be a path."""
    assert [LedgerUnavailableError] * 8 == every_call(SqliteLedger("/tmp/x\0y"))


def test_many_writers_of_one_process_do_not_keep_each_other_out(tmp_path: Path) -> None:
    """A pass notes hundreds of rows at once; at SQLite's own lock some of them would wait in vain."""
    path = str(tmp_path / "ledger.sqlite")
    ledger = SqliteLedger(path)
    rows = [LedgerRow(f"{KEY}-{number}") for number in range(150)]

    async def scene() -> list[LedgerRow]:
        with ThreadPoolExecutor(32) as threads:
            asyncio.get_running_loop().set_default_executor(threads)
            return await asyncio.gather(*map(ledger.write, rows))

    assert ["1"] * 150 == [row.etag for row in asyncio.run(scene())]


def test_a_writer_waits_for_another(tmp_path: Path) -> None:
    """A short lock is waited for, so that two workers do not frighten each other."""
    path = tmp_path / "ledger.sqlite"
    stored = write(SqliteLedger(str(path)), FULL)
    with closing(sqlite3.connect(path, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.3, other.rollback)
        release.start()
        try:
            written = write(SqliteLedger(str(path)), replace(stored, attempts=4))
        finally:
            release.join(10)

    assert 4 == written.attempts
