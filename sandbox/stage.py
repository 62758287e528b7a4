"""The real app on its host, in front of the pretend Azure.

What `make sandbox`, the demo and the scenario tests share. Knows the app only from outside: its settings,
its routes, its webhook, and what it leaves in Application Insights.
"""

import hashlib
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sandbox.azure import Azure
from sandbox.event_grid import EventSchema
from sandbox.host.process import FunctionsHost, Response
from sandbox.witness import canary, told
from sandbox.world import CustomEvent, Service, World

PROJECT = Path(__file__).resolve().parents[1]
NEVER = "0 0 0 29 2 *"
STORAGE = "DefaultEndpointsProtocol=https;AccountName=stcontoso;AccountKey={}"

_WAIT_SECONDS = 30.0


class Stage:
    """Azure and the app, for as long as the context lasts.

    Args:
        world: the state of the pretend Azure.
        settings: environment of the app, beside and before what leads it to that Azure.
        timers: whether the host follows the world's clock; without, only `tick` runs the timer.
        schema: how Event Grid delivers; None for no subscription.
    """

    forked = False
    """Whether hosts are forks of one that has the libraries loaded; for tests, which start hundreds."""

    def __init__(
        self,
        world: World,
        settings: Mapping[str, str] | None = None,
        *,
        timers: bool = False,
        schema: EventSchema | None = EventSchema.EVENT_GRID,
    ) -> None:
        self.world = world
        self._settings = settings or {}
        self._timers = timers
        self._schema = schema
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            folder = opening.enter_context(tempfile.TemporaryDirectory(prefix="sandbox-stage-"))
            opening.callback(_tell_ledger, Path(folder))
            self.azure = opening.enter_context(Azure(self.world))
            environment = {
                "AzureWebJobsStorage": STORAGE.format(canary()),
                "ROTATION_MODE": "enforce",
                "ROTATION_LEDGER": str(Path(folder) / "ledger.sqlite"),
                **({} if self._timers else {"ROTATION_SCHEDULE": NEVER}),
                **self.azure.app_settings(),
                **self._settings,
            }
            clock = f"{self.azure.control_url}/clock" if self._timers else None
            self.host = opening.enter_context(FunctionsHost(PROJECT, environment, clock, forked=self.forked))
            if self._schema:
                self.subscribe(self._schema)
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def subscribe(self, schema: EventSchema) -> None:
        """Have Event Grid deliver to the app, after its handshake."""
        self.azure.event_grid.subscribe(self.host.event_grid_url("on_certificate_event"), schema)

    def settle(self) -> None:
        """Wait until every event is delivered and nothing runs."""
        self.wait_for(lambda: not self.azure.event_grid.pending, "every event to be delivered")
        self.host.wait_idle()

    def tick(self) -> dict[str, dict[str, Any]]:
        """Run the timer's function now; returns the verdicts by hostname."""
        self.host.run("check_drift")
        return self.verdicts()

    def pass_time(self, minutes: float) -> list[CustomEvent]:
        """Move the clock and wait for the timer that this makes due; returns the events of its run."""
        before = len(self.timer_runs())
        self.world.clock.advance(timedelta(minutes=minutes))
        self.wait_for(lambda: len(self.timer_runs()) > before, "the timer to run")
        run = self.timer_runs()[-1].properties["run_id"]
        return [event for event in self.world.custom_events() if event.properties.get("run_id") == run]

    def timer_runs(self) -> list[CustomEvent]:
        """The runs by timer that Application Insights knows of."""
        return [e for e in self.world.custom_events("RunCompleted") if e.properties["trigger"] == "timer"]

    def resync(self, **body: object) -> Response:
        """POST /api/resync with a function key."""
        return self.host.request("POST", "/api/resync", json=body, key="function")

    def status(self) -> dict[str, Any]:
        """GET /api/status with a function key."""
        answer: dict[str, Any] = self.host.request(
            "GET", "/api/status", key=self.host.keys["function"]
        ).json()
        return answer

    def verdicts(self) -> dict[str, dict[str, Any]]:
        """The verdicts of the last report, by hostname."""
        return {verdict["hostname"]: verdict for verdict in self.status()["report"]["verdicts"]}

    def handshake(self, address: str, hostname: str) -> str:
        """The thumbprint that is served at an address, read without any code of the app."""
        return read_leaf(self.azure.connect_to[address], hostname)

    def handshakes(self, service: Service, region: str, hostname: str) -> set[str]:
        """The thumbprints that the units of a region serve, read without any code of the app."""
        port = self.azure.connect_to[service.regional_host(region)]
        return {read_leaf(port, hostname) for _ in range(service.regions[region])}

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Wait, bounded, until something is so.

        Raises:
            TimeoutError: it was not; the host's log is in the message.
        """
        end = time.monotonic() + _WAIT_SECONDS
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"waited {_WAIT_SECONDS:g} s for {what}\n{self.host.log()}")
            time.sleep(0.01)


def _tell_ledger(folder: Path) -> None:
    for file in folder.glob("ledger.sqlite*"):
        told("ledger", file.read_bytes())


def read_leaf(port: int, sni: str) -> str:
    """The SHA-1 thumbprint of the leaf that a loopback port serves for a name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=sni) as tls,
    ):
        leaf = tls.getpeercert(binary_form=True) or b""
    return hashlib.sha1(leaf, usedforsecurity=False).hexdigest().upper()
