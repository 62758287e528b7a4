"""The attempt ledger in Azure Table storage: what all workers of an app share, whichever disk they have.

https://learn.microsoft.com/rest/api/storageservices/table-service-rest-api. Needs the role Storage Table
Data Contributor on the storage account, which also lets the first writer make the table.

    PartitionKey              RowKey                  what it holds
    subscription id, `other`  sha256 of the key       a gateway's row: `gateway`, `body` …, `write_id`
    pause                     pause                   the kill switch, where it is on: `body`
    report                    head                    which generation is whole: `generation`, `sha256` …
    report                    generation-00000        a part of the report: `packed`
    report                    head-OF-NUMBER          the same of a shard; its generations begin with `shard-`
    report                    operation-RUN           a run by hand: `generation`, `sha256`, `at`
    report                    run-RUN-00000           a part of its report: `packed`

A `write_id` is of one call of `write`: when an answer was lost and the SDK repeats the request, the repeated
one is refused by what the first has stored, and only the id tells this from another worker's change.
"""

import asyncio
import hashlib
import json
import logging
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from azure.core import MatchConditions
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.core.pipeline import PipelineResponse
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.data.tables import TableEntity, UpdateMode
from azure.data.tables.aio import TableClient

from rotation.clients.arm import say
from rotation.clients.http import CALL_OPTIONS, MALFORMED, OnlyHost
from rotation.clients.ledger_rows import (
    OPERATIONS_KEPT,
    pause_from_text,
    pause_to_text,
    report_from_bytes,
    report_from_text,
    report_to_bytes,
    row_from_text,
    row_to_text,
    set_kept_since,
)
from rotation.model import LedgerRow, Pause, Shard, clean
from rotation.reconcile import LedgerConflictError, LedgerUnavailableError

REQUEST_PATIENCE = timedelta(seconds=8)
"""How long a request may take with its repetition, whatever wait an answer asks for."""

POINT_READS = 20
REQUESTS_AT_ONCE = 16
ROWS_PER_PAGE = 1000
MOST_PAGES = 200
PART_CHARACTERS = 30_000
"""A property holds 64 KiB of UTF-16; what we write is ASCII."""

MOST_BODIES = 15
"""An entity holds 1 MiB."""

PART_BYTES = 60_000
"""A property holds 64 KiB."""

MOST_PARTS = 200
PARTS_PER_PAGE = 50
"""Some four megabytes as JSON."""

PARTS_KEPT = timedelta(minutes=10)
"""How long the parts of earlier reports stay, for those who are reading them; longer than any pass."""

_SUBSCRIPTION = re.compile(r"/subscriptions/([0-9a-f-]{1,36})/")
_REPORT = "report"
_PAUSE = "pause"
_HEAD = "head"
_OPERATION = "operation-"
_RUN = "run-"
_TAKEN = frozenset({"EntityAlreadyExists"})
_CHANGED = frozenset(
    {
        *("UpdateConditionNotSatisfied", "ConditionNotMet"),
        *("ResourceNotFound", "EntityNotFound", "TableNotFound"),
    }
)
_FAILURES = (AzureError, OSError, *MALFORMED)

_log = logging.getLogger(__name__)

S = TypeVar("S")
T = TypeVar("T")


class TableLedger:
    """Implements `reconcile.Ledger`; to be made inside the event loop that uses it.

    Args:
        credential: of the app's identity.
        transport: the shared one, which stays open when this is closed.
        url: `https://ACCOUNT.table.core.windows.net/TABLE`.
        patience: for one request.
        now: the clock by which parts of earlier reports are old.
    """

    def __init__(
        self,
        credential: AsyncTokenCredential,
        transport: AsyncHttpTransport[Any, Any],
        *,
        url: str,
        patience: timedelta = REQUEST_PATIENCE,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        endpoint, _, table = url.rpartition("/")
        self._url = url
        self._patience = patience.total_seconds()
        self._now = now
        self._table = TableClient(
            endpoint,
            table,
            credential=credential,
            transport=transport,
            per_call_policies=[OnlyHost(endpoint)],
            **CALL_OPTIONS,
        )

    async def read(self, gateway_keys: Iterable[str]) -> dict[str, LedgerRow]:
        """The rows of these gateways, a new one for each that has none."""
        keys = list(dict.fromkeys(gateway_keys))
        with self._failures():
            if len(keys) <= POINT_READS:
                found = await _each(self._read_one, keys)
            else:
                found = await self._read_many(keys)
            return {key: _row(key, entity) for key, entity in zip(keys, found, strict=True)}

    async def write(self, row: LedgerRow) -> LedgerRow:
        """Store a row whose etag is still the newest, and return it with its next one."""
        with self._failures():
            entity = _entity(row)
            try:
                stored = await (self._insert(entity) if row.etag is None else self._update(entity, row.etag))
            except HttpResponseError as error:
                if _code(error) not in (_TAKEN if row.etag is None else _CHANGED):
                    raise
                return replace(row, etag=await self._etag_if_ours(row, entity))
            return replace(row, etag=_etag(stored["etag"]))

    async def write_each(self, rows: Sequence[LedgerRow]) -> dict[str, LedgerRow]:
        """Store these rows by a request each: one that was changed would undo a whole transaction."""
        failures: list[LedgerUnavailableError] = []

        async def one(row: LedgerRow) -> LedgerRow | None:
            try:
                return await self.write(row)
            except LedgerConflictError:
                return None
            except LedgerUnavailableError as error:
                failures.append(error)
                return None

        stored = {row.gateway_key: row for row in await _each(one, rows) if row}
        if failures and not stored:
            raise failures[0]
        if failures:
            _log.warning("%d of %d rows could not be stored: %s", len(failures), len(rows), failures[0])
        return stored

    async def known(self, shard: Shard | None = None) -> frozenset[str]:
        """The keys of all rows, or of those in a shard."""
        with self._failures():
            where = "PartitionKey ne @report and PartitionKey ne @pause"
            values = {"report": _REPORT, "pause": _PAUSE}
            if shard:
                where += " and RowKey ge @first and RowKey lt @end"
                values |= {"first": f"{shard.buckets.start:02x}", "end": f"{shard.buckets[-1]:02x}g"}
            return frozenset([row["gateway"] async for row in self._query(where, values, select="gateway")])

    async def forget(self, row: LedgerRow) -> None:
        """Remove a row whose etag is still the newest."""
        with self._failures():
            partition, name = _address(row.gateway_key)
            condition = MatchConditions.IfNotModified
            try:
                await self._call(
                    self._table.delete_entity(partition, name, etag=row.etag, match_condition=condition)
                )
            except HttpResponseError as error:
                if _code(error) not in _CHANGED:
                    raise
                raise LedgerConflictError(row.gateway_key) from error

    async def paused(self) -> Pause | None:
        """The kill switch, None where it is off."""
        with self._failures():
            found = await self._get(_PAUSE, _PAUSE)
            return pause_from_text(found["body"]) if found else None

    async def set_pause(self, pause: Pause | None) -> None:
        """Turn the kill switch on or off, for all workers."""
        with self._failures():
            if pause:
                entity = {"PartitionKey": _PAUSE, "RowKey": _PAUSE, "body": pause_to_text(pause)}
                await self._store(lambda: self._table.upsert_entity(entity, UpdateMode.REPLACE))
            else:
                with suppress(ResourceNotFoundError):
                    await self._call(self._table.delete_entity(_PAUSE, _PAUSE))

    async def save_report(self, report: Mapping[str, object], shard: Shard | None = None) -> None:
        """Keep the last report over everything, or of a shard: parts first, then the head."""
        family = _family(shard)
        with self._failures():
            generation = f"{family.parts}{_stamp(self._now())}-{uuid.uuid4().hex[:8]}"
            head = await self._put_parts(generation, report)
            await self._put_report_row((family.head, {**head, "as_of": str(report.get("as_of", ""))}))
        await self._sweep(family)

    async def last_reports(self) -> Sequence[Mapping[str, object]]:
        """The last report over everything, and the last one of every shard that was kept of late.

        Read once more where parts were removed while they were read.
        """
        with self._failures():
            for _ in range(2):
                reports = await _each(self._read_parts, [head async for head in self._heads()])
                if None not in reports:
                    return [report for report in reports if report is not None]
            raise ValueError("the report that is kept is not whole")

    async def looked_at(self, shard: Shard) -> datetime | None:
        """The time by which the last report of a shard was made."""
        with self._failures():
            head = await self._get(_REPORT, _family(shard).head)
            return datetime.fromisoformat(head["as_of"]) if head else None

    async def save_operation(self, run_id: str, report: Mapping[str, object]) -> None:
        """Keep the report of a run by hand; only the newest stay."""
        with self._failures():
            head = await self._put_parts(f"{_RUN}{run_id}", report)
            await self._put_report_row(
                (f"{_OPERATION}{run_id}", {**head, "at": f"{self._now().astimezone(UTC):%Y%m%dT%H%M%S.%f}"})
            )
            await self._forget_operations()

    async def operation(self, run_id: str) -> Mapping[str, object] | None:
        """The report of a run by hand, None where it is not kept, or just being removed."""
        with self._failures():
            head = await self._get(_REPORT, f"{_OPERATION}{run_id}")
            return None if head is None else await self._read_parts(head)

    async def close(self) -> None:
        """Close the client; the session is not its own."""
        await self._table.close()

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Whatever goes wrong is one kind of failure, and says what to do about it."""
        try:
            yield
        except _FAILURES as error:
            denied = isinstance(error, HttpResponseError) and error.status_code in {401, 403}
            hint = (
                " Check that the app's identity has the role Storage Table Data Contributor there, and that"
                " the account's network rules let it in."
            )
            said = f"{self._url}: {clean(say(error))}{hint if denied else ''}"
            raise LedgerUnavailableError(said) from error

    async def _call(self, request: Awaitable[T]) -> T:
        """One request. The SDK would wait as long as an answer's Retry-After asks for."""
        async with asyncio.timeout(self._patience):
            return await request

    async def _get(self, partition: str, name: str) -> TableEntity | None:
        """One entity, None where there is none or not even a table."""
        try:
            return await self._call(self._table.get_entity(partition, name))
        except ResourceNotFoundError:
            return None

    async def _read_one(self, key: str) -> TableEntity | None:
        return await self._get(*_address(key))

    async def _read_many(self, keys: Iterable[str]) -> list[TableEntity | None]:
        """A partition at a time, from the first to the last: those of a shard are neighbours."""
        addresses = [_address(key) for key in keys]
        names: dict[str, list[str]] = {}
        for partition, name in addresses:
            names.setdefault(partition, []).append(name)

        async def one(partition: str) -> list[TableEntity]:
            where = "PartitionKey eq @partition and RowKey ge @first and RowKey le @last"
            of = names[partition]
            values = {"partition": partition, "first": min(of), "last": max(of)}
            return [entity async for entity in self._query(where, values)]

        partitions = await _each(one, names)
        found = {(row["PartitionKey"], row["RowKey"]): row for rows in partitions for row in rows}
        return [found.get(address) for address in addresses]

    async def _query(
        self,
        where: str,
        values: Mapping[str, str],
        select: str | None = None,
        rows_a_page: int = ROWS_PER_PAGE,
    ) -> AsyncIterator[TableEntity]:
        """The entities that a filter selects, page by page; none where there is no table."""
        query = self._table.query_entities(
            where,
            parameters=dict(values),
            select=select,
            results_per_page=rows_a_page,
            raw_response_hook=_check_page,
        )
        pages = query.by_page()
        for _ in range(MOST_PAGES):
            try:
                page = await self._call(anext(pages, None))
            except ResourceNotFoundError:
                return
            if page is None:
                return
            async for entity in page:
                yield entity
        raise ValueError(f"more than {MOST_PAGES} pages")

    async def _insert(self, entity: Mapping[str, Any]) -> Mapping[str, Any]:
        async def insert() -> Mapping[str, Any]:
            # A lost answer to a POST may be repeated here: `write_id` knows our own row.
            return await self._table.create_entity(
                entity, response_preference="return-no-content", retry_on_methods=frozenset({"POST"})
            )

        return await self._store(insert)

    async def _update(self, entity: Mapping[str, Any], etag: str) -> Mapping[str, Any]:
        condition = MatchConditions.IfNotModified
        update = self._table.update_entity(entity, UpdateMode.REPLACE, etag=etag, match_condition=condition)
        return await self._call(update)

    async def _etag_if_ours(self, row: LedgerRow, entity: Mapping[str, Any]) -> str:
        """The etag of what is stored, if it is what this call has stored and the answer was lost."""
        found = await self._get(entity["PartitionKey"], entity["RowKey"])
        if found is None or found.get("write_id") != entity["write_id"]:
            raise LedgerConflictError(row.gateway_key)
        return _etag(found.metadata["etag"])

    async def _store(self, put: Callable[[], Awaitable[Mapping[str, Any]]]) -> Mapping[str, Any]:
        """Store an entity, and before it the table where there is none."""
        try:
            return await self._call(put())
        except ResourceNotFoundError:
            with suppress(ResourceExistsError):  # another worker was faster
                await self._call(self._table.create_table())
            return await self._call(put())

    async def _put_parts(self, generation: str, report: Mapping[str, object]) -> Mapping[str, Any]:
        """Store the report in parts; returns what its head has to say of them."""
        packed = report_to_bytes(report)
        parts = [packed[at : at + PART_BYTES] for at in range(0, len(packed), PART_BYTES)]
        if len(parts) > MOST_PARTS:
            raise ValueError(f"a report of {len(packed):,} bytes is too long to be kept")
        await _each(
            self._put_report_row, [(f"{generation}-{n:05}", {"packed": part}) for n, part in enumerate(parts)]
        )
        return {"generation": generation, "sha256": hashlib.sha256(packed).hexdigest()}

    async def _forget_operations(self) -> None:
        """Remove the oldest operations, each with its head last, so that what is left over is found again."""
        where = "PartitionKey eq @partition and RowKey ge @first and RowKey lt @end"
        found = self._query(where, _named(_OPERATION), select="RowKey,at")
        heads = sorted([(row["at"], row["RowKey"]) async for row in found], reverse=True)
        for _, name in heads[OPERATIONS_KEPT:]:
            run = _RUN + name.removeprefix(_OPERATION)
            parts = [row["RowKey"] async for row in self._query(where, _named(f"{run}-"), select="RowKey")]
            await _each(self._delete_report_row, parts)
            await self._delete_report_row(name)

    async def _put_report_row(self, row: tuple[str, Mapping[str, Any]]) -> None:
        entity = {"PartitionKey": _REPORT, "RowKey": row[0], **row[1]}
        await self._store(lambda: self._table.upsert_entity(entity, UpdateMode.REPLACE))

    async def _read_parts(self, head: Mapping[str, Any]) -> Mapping[str, object] | None:
        """The report of one generation, None where it is not whole."""
        where = "PartitionKey eq @partition and RowKey ge @first and RowKey lt @end"
        values = _named(f"{head['generation']}-")
        found = self._query(where, values, rows_a_page=PARTS_PER_PAGE)
        parts = [part async for part in found]
        as_text = any("text" in part for part in parts)  # earlier versions of the app did so
        stored = b"".join(part["text"].encode() if as_text else part["packed"] for part in parts)
        if hashlib.sha256(stored).hexdigest() != head["sha256"]:
            return None
        return report_from_text(stored.decode()) if as_text else report_from_bytes(stored)

    def _heads(self) -> AsyncIterator[TableEntity]:
        """Of the report over everything, and of those of shards."""
        where = "PartitionKey eq @partition and RowKey ge @first and RowKey lt @end"
        return self._query(where, {"partition": _REPORT, "first": _HEAD, "end": f"{_HEAD}."})

    async def _sweep(self, family: "_Family") -> None:
        """Remove parts of earlier reports, also of writers that were killed; next time where it fails."""
        where = "PartitionKey eq @partition and RowKey ge @first and RowKey lt @end"
        end = f"{family.parts}{_stamp(self._now() - PARTS_KEPT)}"
        values = {"partition": _REPORT, "first": family.parts, "end": end}
        old = self._table.query_entities(
            where, parameters=values, select="RowKey", results_per_page=ROWS_PER_PAGE
        )
        try:
            async with asyncio.timeout(self._patience):
                page = await anext(old.by_page())
                await _each(self._delete_report_row, [entity["RowKey"] async for entity in page])
                if family.first:
                    await self._forget_other_sets(family)
        except _FAILURES as error:
            _log.warning("%s: earlier reports could not be removed: %s", self._url, clean(say(error)))

    async def _forget_other_sets(self, family: "_Family") -> None:
        """Remove the reports of as many shards as there were before, each with its head last."""
        heads = [head async for head in self._heads() if not head["RowKey"].startswith(family.heads)]
        newest = await self._get(_REPORT, family.head)
        since = set_kept_since(newest["as_of"]) if newest else ""
        where = "PartitionKey eq @partition and RowKey ge @first and RowKey lt @end"
        for head in heads:
            if head["RowKey"] == family.head or head.get("as_of", "") >= since:
                continue
            of = self._query(where, _named(f"{head['generation']}-"), select="RowKey")
            await _each(self._delete_report_row, [part["RowKey"] async for part in of])
            await self._delete_report_row(head["RowKey"])

    async def _delete_report_row(self, name: str) -> None:
        await self._table.delete_entity(_REPORT, name)


@dataclass(frozen=True, slots=True)
class _Family:
    """The names of the rows of a report: its head, how its parts begin, how the heads beside it begin."""

    head: str
    parts: str
    heads: str
    first: bool


def _family(shard: Shard | None) -> _Family:
    if shard is None:
        return _Family(_HEAD, "", f"{_HEAD}-001-", first=True)
    of = f"{shard.of:03}"
    name = f"{of}-{shard.number:03}"
    return _Family(f"{_HEAD}-{name}", f"shard-{name}-", f"{_HEAD}-{of}-", first=shard.number == 1)


async def _each(work: Callable[[S], Awaitable[T]], items: Iterable[S]) -> list[T]:
    """The work on each, bounded in number; the first failure ends it all."""
    turns = asyncio.Semaphore(REQUESTS_AT_ONCE)

    async def one(item: S) -> T:
        async with turns:
            return await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(item)) for item in items]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def _address(key: str) -> tuple[str, str]:
    """Partition and name: ARM ids have slashes, which neither may have."""
    subscription = _SUBSCRIPTION.match(key)
    return subscription[1] if subscription else "other", hashlib.sha256(key.encode()).hexdigest()[:32]


def _named(prefix: str) -> dict[str, str]:
    """Values of a filter for the report's rows whose names begin with something that ends in a hyphen."""
    return {"partition": _REPORT, "first": prefix, "end": f"{prefix[:-1]}."}


def _entity(row: LedgerRow) -> dict[str, Any]:
    partition, name = _address(row.gateway_key)
    text = row_to_text(row)
    bodies = [text[at : at + PART_CHARACTERS] for at in range(0, len(text), PART_CHARACTERS)]
    if len(bodies) > MOST_BODIES or len(row.gateway_key) > PART_CHARACTERS:
        raise ValueError(f"a row of {len(text):,} characters is too long to be kept")
    return {
        "PartitionKey": partition,
        "RowKey": name,
        "gateway": row.gateway_key,
        "write_id": uuid.uuid4().hex,
        **dict(zip(_body_names(), bodies, strict=False)),
    }


def _body_names() -> Iterator[str]:
    yield "body"
    yield from (f"body_{number}" for number in range(1, MOST_BODIES))


def _row(key: str, entity: TableEntity | None) -> LedgerRow:
    if entity is None:
        return LedgerRow(key)
    if entity["gateway"] != key:
        raise ValueError(f"the row of {key} is of another gateway")
    text = "".join(
        [entity["body"], *(entity[name] for name in _body_names() if name in entity and name != "body")]
    )
    return row_from_text(key, _etag(entity.metadata["etag"]), text)


def _check_page(response: PipelineResponse[Any, Any]) -> None:
    """To the SDK's models an answer of another kind is a page without rows, and no row is a new one."""
    answer = response.http_response
    if answer.status_code == 200 and not isinstance(answer.json()["value"], list):
        raise TypeError("the answer has no list of rows")


def _etag(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("the answer has no etag")
    return value


def _stamp(moment: datetime) -> str:
    """A moment that sorts as text, before `head`."""
    return f"{moment.astimezone(UTC):%Y%m%dT%H%M%S}"


def _code(error: HttpResponseError) -> str:
    """What Table storage calls a failure; empty where the answer is not its own."""
    try:
        return str(json.loads(error.response.text())["odata.error"]["code"]) if error.response else ""
    except MALFORMED:
        return ""
