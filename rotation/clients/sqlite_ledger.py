"""The attempt ledger in SQLite: one row per gateway, changed only by who has seen its newest state.

SQLite is the embedded default: what it remembers lasts as long as its file.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

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
from rotation.model import LedgerRow, Pause, Shard
from rotation.reconcile import LedgerConflictError, LedgerUnavailableError

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS attempts (gateway TEXT PRIMARY KEY, etag INTEGER NOT NULL, body TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS pause (one INTEGER PRIMARY KEY CHECK (one = 1), body TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS reports (
        shard INTEGER, shards INTEGER, as_of TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (shard, shards)
    );
    CREATE TABLE IF NOT EXISTS operations (run TEXT PRIMARY KEY, body BLOB NOT NULL);
"""
_BUSY_SECONDS = 3.0
_SHARED_FOLDER = 0o1002  # sticky and writable by everybody, as /tmp is
_OTHERS_WRITE = 0o022


class SqliteLedger:
    """Implements `reconcile.Ledger`; each call opens the file anew, in a thread.

    Threads of this process take turns: at SQLite's own lock one of many may wait in vain.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._turn = threading.Lock()

    async def read(self, gateway_keys: Iterable[str]) -> dict[str, LedgerRow]:
        """The rows of these gateways, a new one for each that has none."""
        return await asyncio.to_thread(self._read, list(gateway_keys))

    async def write(self, row: LedgerRow) -> LedgerRow:
        """Store a row whose etag is still the newest, and return it with its next one."""
        return await asyncio.to_thread(self._write, row)

    async def write_each(self, rows: Sequence[LedgerRow]) -> dict[str, LedgerRow]:
        """Store these rows in one transaction; those that another worker has changed are left out."""
        return await asyncio.to_thread(self._write_each, rows)

    async def known(self, shard: Shard | None = None) -> frozenset[str]:
        """The keys of all rows, or of those in a shard."""
        known = await asyncio.to_thread(self._known)
        return known if shard is None else frozenset(filter(shard.holds, known))

    async def forget(self, row: LedgerRow) -> None:
        """Remove a row whose etag is still the newest."""
        await asyncio.to_thread(self._forget, row)

    async def paused(self) -> Pause | None:
        """The kill switch, None where it is off."""
        return await asyncio.to_thread(self._paused)

    async def set_pause(self, pause: Pause | None) -> None:
        """Turn the kill switch on or off."""
        await asyncio.to_thread(self._set_pause, pause)

    async def save_report(self, report: Mapping[str, object], shard: Shard | None = None) -> None:
        """Keep the last report over everything, or of a shard, for whichever process is asked for it."""
        await asyncio.to_thread(self._save_report, str(report.get("as_of", "")), report, shard)

    async def last_reports(self) -> Sequence[Mapping[str, object]]:
        """The last report over everything, and the last one of every shard that was kept of late."""
        return await asyncio.to_thread(self._last_reports)

    async def looked_at(self, shard: Shard) -> datetime | None:
        """The time by which the last report of a shard was made."""
        return await asyncio.to_thread(self._looked_at, shard)

    async def save_operation(self, run_id: str, report: Mapping[str, object]) -> None:
        """Keep the report of a run by hand; only the newest stay."""
        await asyncio.to_thread(self._save_operation, run_id, report)

    async def operation(self, run_id: str) -> Mapping[str, object] | None:
        """The report of a run by hand, None where it is not kept."""
        return await asyncio.to_thread(self._operation, run_id)

    def _read(self, gateway_keys: list[str]) -> dict[str, LedgerRow]:
        rows = {key: LedgerRow(key) for key in gateway_keys}
        with self._open() as database:
            for key, etag, body in database.execute("SELECT gateway, etag, body FROM attempts"):
                if key in rows:
                    rows[key] = row_from_text(key, str(etag), body)
        return rows

    def _write(self, row: LedgerRow) -> LedgerRow:
        stored = self._write_each([row])
        if not stored:
            raise LedgerConflictError(row.gateway_key)
        return stored[row.gateway_key]

    def _write_each(self, rows: Sequence[LedgerRow]) -> dict[str, LedgerRow]:
        bodies = [row_to_text(row) for row in rows]
        with self._open() as database:
            etags = [_put(database, row, body) for row, body in zip(rows, bodies, strict=True)]
        return {
            row.gateway_key: replace(row, etag=etag) for row, etag in zip(rows, etags, strict=True) if etag
        }

    def _known(self) -> frozenset[str]:
        with self._open() as database:
            return frozenset(key for (key,) in database.execute("SELECT gateway FROM attempts"))

    def _forget(self, row: LedgerRow) -> None:
        statement = "DELETE FROM attempts WHERE gateway = ? AND etag = ?"
        there = "SELECT 1 FROM attempts WHERE gateway = ?"
        with self._open() as database:
            gone = database.execute(statement, (row.gateway_key, int(row.etag or 0))).rowcount == 1
            if not gone and database.execute(there, (row.gateway_key,)).fetchone():
                raise LedgerConflictError(row.gateway_key)

    def _paused(self) -> Pause | None:
        with self._open() as database:
            found = database.execute("SELECT body FROM pause").fetchone()
            return pause_from_text(found[0]) if found else None

    def _set_pause(self, pause: Pause | None) -> None:
        with self._open() as database:
            database.execute("DELETE FROM pause")
            if pause:
                database.execute("INSERT INTO pause VALUES (1, ?)", (pause_to_text(pause),))

    def _save_report(self, as_of: str, report: Mapping[str, object], shard: Shard | None) -> None:
        number, of = (shard.number, shard.of) if shard else (1, 1)
        body = report_to_bytes(report)
        with self._open() as database:
            database.execute("INSERT OR REPLACE INTO reports VALUES (?, ?, ?, ?)", (number, of, as_of, body))
            others = "DELETE FROM reports WHERE shards <> ? AND as_of < ?"
            database.execute(others, (of, set_kept_since(as_of)))

    def _last_reports(self) -> list[Mapping[str, object]]:
        with self._open() as database:
            found = database.execute("SELECT body FROM reports ORDER BY shards, shard")
            return [_report(body) for (body,) in found]

    def _looked_at(self, shard: Shard) -> datetime | None:
        where = "SELECT as_of FROM reports WHERE shard = ? AND shards = ?"
        with self._open() as database:
            found = database.execute(where, (shard.number, shard.of)).fetchone()
            return datetime.fromisoformat(found[0]) if found else None

    def _save_operation(self, run_id: str, report: Mapping[str, object]) -> None:
        body = report_to_bytes(report)
        newest = "SELECT run FROM operations ORDER BY rowid DESC LIMIT ?"
        with self._open() as database:
            database.execute("INSERT OR REPLACE INTO operations VALUES (?, ?)", (run_id, body))
            database.execute(f"DELETE FROM operations WHERE run NOT IN ({newest})", (OPERATIONS_KEPT,))  # noqa: S608 - a constant

    def _operation(self, run_id: str) -> Mapping[str, object] | None:
        with self._open() as database:
            found = database.execute("SELECT body FROM operations WHERE run = ?", (run_id,)).fetchone()
            return _report(found[0]) if found else None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection whose work is one transaction; whatever goes wrong is one kind of failure."""
        if not self._turn.acquire(timeout=_BUSY_SECONDS):
            raise LedgerUnavailableError(f"{self._path}: no turn in {_BUSY_SECONDS:g} s")
        try:
            _claim(Path(self._path))
            with closing(sqlite3.connect(self._path, timeout=_BUSY_SECONDS)) as database, database:
                database.executescript(_SCHEMA)
                yield database
        except (
            sqlite3.Error,
            OSError,
            ValueError,
            LookupError,
            TypeError,
            ArithmeticError,
            RecursionError,
        ) as error:
            raise LedgerUnavailableError(f"{self._path}: {error}") from error
        finally:
            self._turn.release()


def _put(database: sqlite3.Connection, row: LedgerRow, body: str) -> str | None:
    """The etag of the row that is stored now, None where it was no longer the newest."""
    if row.etag is None:
        etag = 1
        done = database.execute("INSERT OR IGNORE INTO attempts VALUES (?, 1, ?)", (row.gateway_key, body))
    else:
        etag = int(row.etag) + 1
        statement = "UPDATE attempts SET etag = ?, body = ? WHERE gateway = ? AND etag = ?"
        done = database.execute(statement, (etag, body, row.gateway_key, int(row.etag)))
    return str(etag) if done.rowcount == 1 else None


def _report(body: str | bytes) -> Mapping[str, object]:
    """The report that was stored; earlier versions of the app did so as text."""
    return report_from_bytes(body) if isinstance(body, bytes) else report_from_text(body)


def _claim(path: Path) -> None:
    """Make the file for its owner alone, and take none that somebody has left for us in a shared folder.

    Raises:
        OSError: others may write it, or it cannot be made.
    """
    path.touch(mode=0o600)
    folder = path.resolve().parent.stat().st_mode
    if folder & _SHARED_FOLDER == _SHARED_FOLDER and path.stat().st_mode & _OTHERS_WRITE:
        raise PermissionError("others may write it, in a folder that is everybody's; name another path")
