"""Azurite, Microsoft's emulator of Azure Storage: its Table service, over TLS and with Entra tokens.

The product's TableLedger runs against it as it is: the public name of the account leads there by a route,
because Azurite takes the account from the first label of a host name, as Azure does.

    npm install --prefix .azurite --no-audit --no-fund --ignore-scripts azurite@3.37.0

Another place is named by the environment variable AZURITE: azurite-table, or the .js file of it.
"""

import asyncio
import base64
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ResourceNotFoundError
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.data.tables.aio import TableClient

from rotation.clients.http import open_session, tls_context, transport
from rotation.clients.table_ledger import REQUEST_PATIENCE, TableLedger
from rotation.model import LedgerRow, Pause, Shard
from sandbox.certificates import CertificateAuthority
from sandbox.witness import canary, told

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ".azurite/node_modules/azurite/dist/src/table/main.js"
ACCOUNT = "devstoreaccount1"
HOST = f"{ACCOUNT}.table.core.windows.net"
CA = CertificateAuthority("Azurite")

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
_STARTS = 3
_TENANT = "5c1f2a70-93de-4b6e-8a47-0d4f6be21c35"

T = TypeVar("T")
Transport = AsyncHttpTransport[Any, Any]


class Identity:
    """A credential with tokens of its own making: Azurite looks at their claims, not at the signature."""

    def __init__(self, **claims: object) -> None:
        self._claims = claims
        self.scopes: list[str] = []

    async def get_token(self, *scopes: str, **_: object) -> AccessToken:
        """A token for an hour."""
        self.scopes.extend(scopes)
        now = int(time.time())
        claims = {
            "aud": "https://storage.azure.com",
            "iss": f"https://sts.windows.net/{_TENANT}/",
            "iat": now - 60,
            "nbf": now - 60,
            "exp": now + 3600,
            **self._claims,
        }
        parts = (json.dumps(part).encode() for part in ({"alg": "none", "typ": "JWT"}, claims))
        token = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
        return AccessToken(f"{token}.{canary()}", now + 3600)

    async def close(self) -> None:
        """Nothing is held."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self.close()


@dataclass(frozen=True, slots=True)
class Tables:
    """A Table service: where it listens, and whom to trust. Can be told to another process."""

    port: int
    ca_file: str

    @property
    def routes(self) -> dict[tuple[str, int], tuple[str, int]]:
        """Where the account is."""
        return {(HOST, 443): ("127.0.0.1", self.port)}

    @asynccontextmanager
    async def ledger(
        self,
        table: str,
        *,
        identity: Identity | None = None,
        wrap: Callable[[Transport], Transport] = lambda inner: inner,
        patience: timedelta = REQUEST_PATIENCE,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> AsyncIterator[TableLedger]:
        """The product's ledger in a table, put together as `rotation.app` does; `wrap` sees every request."""
        async with open_session(tls_context(self.ca_file), self.routes) as session:
            ledger = TableLedger(
                identity or Identity(),
                wrap(transport(session)),
                url=f"https://{HOST}/{table}",
                patience=patience,
                now=now,
            )
            try:
                yield ledger
            finally:
                await ledger.close()

    def look(self, table: str, work: Callable[[TableClient], Awaitable[T]]) -> T:
        """Some work with the table itself, past the ledger, on a loop of its own."""

        async def main() -> T:
            async with (
                open_session(tls_context(self.ca_file), self.routes) as session,
                TableClient(
                    f"https://{HOST}", table, credential=Identity(), transport=transport(session)
                ) as client,
            ):
                return await work(client)

        return asyncio.run(main())


@dataclass(frozen=True, slots=True)
class Briefly:
    """Implements `reconcile.Ledger` with a client for each call, which may be on a loop of its own."""

    tables: Tables
    table: str

    async def read(self, gateway_keys: Iterable[str]) -> dict[str, LedgerRow]:
        """The rows of these gateways, a new one for each that has none."""
        async with self.tables.ledger(self.table) as ledger:
            return await ledger.read(gateway_keys)

    async def write(self, row: LedgerRow) -> LedgerRow:
        """Store a row whose etag is still the newest, and return it with its next one."""
        async with self.tables.ledger(self.table) as ledger:
            return await ledger.write(row)

    async def write_each(self, rows: Sequence[LedgerRow]) -> dict[str, LedgerRow]:
        """Store these rows, and leave out those that were changed."""
        async with self.tables.ledger(self.table) as ledger:
            return await ledger.write_each(rows)

    async def known(self, shard: Shard | None = None) -> frozenset[str]:
        """The keys of all gateways that have a row."""
        async with self.tables.ledger(self.table) as ledger:
            return await ledger.known(shard)

    async def forget(self, row: LedgerRow) -> None:
        """Remove a row whose etag is still the newest."""
        async with self.tables.ledger(self.table) as ledger:
            await ledger.forget(row)

    async def paused(self) -> Pause | None:
        """The kill switch, None where it is off."""
        async with self.tables.ledger(self.table) as ledger:
            return await ledger.paused()

    async def set_pause(self, pause: Pause | None) -> None:
        """Turn the kill switch on or off."""
        async with self.tables.ledger(self.table) as ledger:
            await ledger.set_pause(pause)

    async def save_report(self, report: Mapping[str, object], shard: Shard | None = None) -> None:
        """Keep the last report."""
        async with self.tables.ledger(self.table) as ledger:
            await ledger.save_report(report, shard)

    async def save_operation(self, run_id: str, report: Mapping[str, object]) -> None:
        """Keep the report of a run by hand."""
        async with self.tables.ledger(self.table) as ledger:
            await ledger.save_operation(run_id, report)

    async def operation(self, run_id: str) -> Mapping[str, object] | None:
        """The report of a run by hand."""
        async with self.tables.ledger(self.table) as ledger:
            return await ledger.operation(run_id)

    async def last_reports(self) -> Sequence[Mapping[str, object]]:
        """The last reports kept."""
        async with self.tables.ledger(self.table) as ledger:
            return await ledger.last_reports()

    async def looked_at(self, shard: Shard) -> datetime | None:
        """The time of a shard's last report."""
        async with self.tables.ledger(self.table) as ledger:
            return await ledger.looked_at(shard)


class Azurite:
    """The emulator in a process of its own, in memory, on loopback."""

    def __init__(self, command: list[str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="azurite-")
        folder = Path(self._folder.name)
        leaf = CA.issue([HOST])
        for name, text in (("ca", CA.pem), ("cert", leaf.chain_pem), ("key", leaf.key_pem)):
            (folder / f"{name}.pem").write_text(text)
        self._command = [
            *command,
            *("--tableHost", "127.0.0.1", "--oauth", "basic", "--inMemoryPersistence"),
            *("--cert", str(folder / "cert.pem"), "--key", str(folder / "key.pem")),
            *("--skipApiVersionCheck", "--disableTelemetry", "--silent"),
        ]
        for _ in range(_STARTS):  # another program may take the port first
            if self._start(folder):
                return
        self.stop()
        pytest.fail(f"{' '.join(command)} did not start: {(folder / 'log').read_text()[-500:]}")

    def stop(self) -> None:
        """End the process that was started here."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_STOP_SECONDS)
        self._folder.cleanup()

    def _start(self, folder: Path) -> bool:
        """Whether it listens now."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with (folder / "log").open("w") as log:
            self._process = subprocess.Popen(
                [*self._command, "--tablePort", str(port)],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                self.tables = Tables(port, str(folder / "ca.pem"))
                return True
            time.sleep(0.05)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(_STOP_SECONDS)
        return False


_RUNNING = pytest.StashKey[Azurite]()


_NEW: list[str] = []


def running(request: pytest.FixtureRequest) -> Tables:
    """Azurite, started when the first test of a session asks for it, and ended with the session.

    After the test, what is in its tables is told to the witness.
    """
    config = request.config
    if _RUNNING not in config.stash:
        config.stash[_RUNNING] = azurite = Azurite(_command())
        config.add_cleanup(azurite.stop)
    tables = config.stash[_RUNNING].tables
    request.addfinalizer(lambda: tell(tables))
    return tables


def new_table() -> str:
    """The name of a table that is not there yet."""
    _NEW.append(f"t{uuid.uuid4().hex}")
    return _NEW[-1]


def tell(tables: Tables) -> None:
    """Every property of every row of the tables that were made since it was last done."""

    async def rows(client: TableClient) -> list[str]:
        return [str(entity) async for entity in client.list_entities()]

    while _NEW:
        with suppress(ResourceNotFoundError):
            told("ledger", "\n".join(tables.look(_NEW.pop(), rows)))


def _command() -> list[str]:
    """How to start it. Skips where it is not installed, unless the environment says that it is."""
    named = os.environ.get("AZURITE")
    program = Path(named) if named else ROOT / PROGRAM
    if not program.exists():
        if named:
            pytest.fail(f"AZURITE names {named}, which is not there")
        pytest.skip(f"Azurite is not installed: there is no {PROGRAM} (tests/clients/azurite.py says how)")
    if program.suffix != ".js":
        return [str(program)]
    if not (node := shutil.which("node")):
        pytest.skip("Azurite needs node, which is not on the PATH")
    return [node, str(program)]
