"""A stage whose app is killed and started again, on the ledger that the killed one has left."""

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from rotation.clients.sqlite_ledger import SqliteLedger
from rotation.model import LedgerRow
from sandbox.azure import Azure
from sandbox.event_grid import EventSchema
from sandbox.host.process import FunctionsHost
from sandbox.stage import NEVER, PROJECT, Stage
from sandbox.world import CustomEvent, Service, World
from tests.crash.gate import Gate, GatedAzure

_GRACE = timedelta(seconds=2)  # ARM's Date, the clock of a pass, has whole seconds
_POLL = 0.0002
_COMMIT_SECONDS = 5.0


class Scene(Stage):
    """Azure behind a gate, and one app after the other.

    Args:
        world: the state of the pretend Azure.
        settings: environment of the app, before what leads it to that Azure.
    """

    def __init__(self, world: World, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(world, settings)
        self.gate = Gate()
        self.hosts: list[FunctionsHost] = []
        self.stopped = False

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            folder = opening.enter_context(tempfile.TemporaryDirectory(prefix="crash-"))
            self.ledger = Path(folder) / "ledger.sqlite"
            self.azure = opening.enter_context(self._azure())
            self._environment = {
                "ROTATION_MODE": "enforce",
                "ROTATION_LEDGER": str(self.ledger),
                "ROTATION_SCHEDULE": NEVER,
                **self.azure.app_settings(),
                **self._settings,
            }
            self._hosts = opening.enter_context(ExitStack())
            opening.callback(self.kill)
            self.start()
            self._open = opening.pop_all()
        return self

    def _azure(self) -> Azure:
        return GatedAzure(self.world, self.gate)

    def start(self) -> None:
        """Start an app; Event Grid delivers to it from now on."""
        self.host = self._hosts.enter_context(FunctionsHost(PROJECT, self._environment, forked=self.forked))
        self.hosts.append(self.host)
        self.stopped = False
        self.subscribe(EventSchema.EVENT_GRID)

    def kill(self) -> None:
        """SIGKILL the app and wait for its end."""
        self.stopped = True
        if self.hosts:
            self.host.kill()

    def delivered(self) -> None:
        """Wait until every event is delivered, or the app that should take it is dead."""
        grid = self.azure.event_grid
        self.wait_for(lambda: self.stopped or not grid.pending, "every event to be delivered")

    def redeliver(self) -> None:
        """Have Event Grid send again, by its own schedule, what the dead app did not answer."""
        self.wait_for(lambda: self.azure.event_grid.idle, "Event Grid to give its last delivery up")
        self.world.clock.advance(timedelta(seconds=70))  # more than its first two waits, 10 s and 30 s
        self.settle()

    def advance_to(self, moment: datetime) -> None:
        """Let time pass until a moment has come."""
        self.world.clock.advance(max(moment - self.world.clock.now(), timedelta()) + _GRACE)

    def row(self, service: Service) -> LedgerRow:
        """What the ledger remembers of a service, read with the app's own reader."""
        key = service.id.lower()
        return asyncio.run(SqliteLedger(str(self.ledger)).read([key]))[key]

    def integrity(self) -> str:
        """What SQLite says of the ledger's file, "ok" if all is well."""
        with closing(sqlite3.connect(self.ledger)) as database:
            return str(database.execute("PRAGMA integrity_check").fetchone()[0])

    def runs(self) -> list[CustomEvent]:
        """The passes that Application Insights knows of."""
        return self.world.custom_events("RunCompleted")

    def log(self) -> str:
        """What all the hosts have written."""
        return "\n".join(f"--- host {n} ---\n{host.log()}" for n, host in enumerate(self.hosts, 1))


def commits(ledger: Path) -> int:
    """How many transactions a ledger has seen: SQLite counts them in the header of the file."""
    with ledger.open("rb") as file:
        return int.from_bytes(file.read(28)[24:], "big")


def stop_in_write(ledger: Path, number: int, over: Callable[[], bool], reached: Callable[[], None]) -> bool:
    """Call `reached` in the middle of the ledger's transaction of that number; False where that never came.

    The middle: the journal is written and nothing committed. SQLite commits only when nobody reads, so a
    reader that stays holds the writer back exactly where a crash leaves the most behind; a reader that lets
    go for a moment lets one transaction pass, and sometimes two that follow in the same millisecond.
    """
    journal = ledger.with_name(f"{ledger.name}-journal")
    with closing(sqlite3.connect(ledger, timeout=0, isolation_level=None)) as database:
        while (done := _read_and_stay(database, ledger)) < number:
            while not journal.exists():
                if over():
                    return False
                time.sleep(_POLL)
            if done == number - 1:
                reached()
                return True
            database.execute("ROLLBACK")
            time.sleep(_POLL)
    return False


def _read_and_stay(database: sqlite3.Connection, ledger: Path) -> int:
    """Begin to read, as soon as nobody commits; returns how many transactions were committed by then."""
    end = time.monotonic() + _COMMIT_SECONDS
    while True:
        try:
            database.execute("BEGIN")
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return commits(ledger)
        except sqlite3.OperationalError:  # locked by a commit
            if time.monotonic() > end:
                raise
            if database.in_transaction:
                database.execute("ROLLBACK")
            time.sleep(_POLL)
