"""The running app under load: `python -m tests.load.run --seconds 60`.

Events at the webhook, hostile ones among them; the status page and /api/status; clients that send a byte a
second or never read; arrays of 5,000 events; and meanwhile real renewals, each of which must be synced
without the timer. Ends with 1 where one was lost, a healthy request failed or waited for too long, or
memory grew.

The host is the sandbox's: what it does with slow clients says nothing of Azure's front ends, but what the app
does with what reaches it is measured here.
"""

import argparse
import asyncio
import contextlib
import io
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from sandbox.stage import Stage
from sandbox.world import AZURE_QUOTA, Certificate, Hostname, Service, World
from tests.bad_input.world import event, raised
from tests.results import keep

SERVICES = 12
HOSTILE_EVERY = 4
"""One event in so many is hostile."""

ARRAY = 5000
ARRAY_EVERY = 20.0
"""Seconds from one array to the next."""

SLOW_CLIENTS = 20
LONGEST = 25.0
"""Seconds: after 30 Event Grid gives a delivery up, and sends it again."""

MOST_GROWTH = 50.0
"""MiB, from the first tenth of the run to its end."""

HOSTILE: tuple[bytes, ...] = (
    b"hello",
    json.dumps([event(eventType="x" * 10_000)]).encode(),
    json.dumps([event({"Id": "https://evil.example/certificates/x"})]).encode(),
    json.dumps([event(data=[1] * 1000)]).encode(),
    json.dumps([event(topic="\r\n\x1b[31m")]).encode(),
    b"[" * 20_000,
)


@dataclass(slots=True)
class Figures:
    """What came of a run. Times are seconds, memory is that of the app's process in MiB."""

    seconds: float
    events: int = 0
    hostile: int = 0
    in_arrays: int = 0
    pages: int = 0
    failed: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    renewals: int = 0
    lost: int = 0
    syncs: int = 0
    raised: int = 0
    event_p50: float = 0.0
    event_p99: float = 0.0
    event_max: float = 0.0
    page_p50: float = 0.0
    page_p99: float = 0.0
    page_max: float = 0.0
    memory_early: float = 0.0
    memory_late: float = 0.0

    @property
    def wrong(self) -> bool:
        """Whether anything was not as it must be."""
        slow = max(self.event_max, self.page_max) > LONGEST
        grown = self.memory_late - self.memory_early > MOST_GROWTH
        return bool(self.failed or self.lost or self.raised or slow or grown or self.syncs != self.renewals)


class Load:
    """One run against one app."""

    def __init__(self, stage: Stage, seconds: float, events: float, pages: float) -> None:
        self._stage = stage
        self._rates = events, pages
        self._ends = time.monotonic() + seconds
        self._key = {"x-functions-key": stage.host.keys["function"]}
        self._webhook = stage.host.event_grid_url("on_certificate_event")
        self._took: dict[str, list[float]] = {"event": [], "page": []}
        self.figures = Figures(seconds)

    async def run(self, certificates: Sequence[Certificate]) -> None:
        """Everything at once, until the time is up."""
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as self._session:
            slow = [asyncio.create_task(self._slow_client(number)) for number in range(SLOW_CLIENTS)]
            await asyncio.gather(
                self._at(self._rates[0], self._event),
                self._at(self._rates[1], self._page),
                self._arrays(),
                self._renew(certificates),
                self._watch_memory(),
            )
            for each in slow:
                each.cancel()
            await asyncio.gather(*slow, return_exceptions=True)
        for name, took in self._took.items():
            ordered = sorted(took)
            for label, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
                at = min(len(ordered) - 1, int(share * len(ordered)))
                setattr(self.figures, f"{name}_{label}", round(ordered[at], 3))

    async def _at(self, rate: float, send: Callable[[int], Awaitable[None]]) -> None:
        """So many a second, whether or not the earlier ones are answered."""
        began, sent = time.monotonic(), 0
        under_way: set[asyncio.Task[None]] = set()
        while time.monotonic() < self._ends:
            while sent < (time.monotonic() - began) * rate:
                task = asyncio.ensure_future(send(sent))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                sent += 1
            await asyncio.sleep(0.005)
        await asyncio.gather(*under_way)

    async def _event(self, number: int) -> None:
        if number % HOSTILE_EVERY == 0:
            self.figures.hostile += 1
            await self._post(HOSTILE[number // HOSTILE_EVERY % len(HOSTILE)], {202, 400, 500})
            return
        self.figures.events += 1
        await self._post(json.dumps([event(id=str(number))]).encode(), {202})

    async def _arrays(self) -> None:
        began = time.monotonic()
        while time.monotonic() < self._ends:
            self.figures.in_arrays += ARRAY
            many = [event({"Version": f"{number:032x}"}, id=str(number)) for number in range(ARRAY)]
            await self._post(json.dumps(many).encode(), {202})
            await asyncio.sleep(max(0.0, min(began + ARRAY_EVERY, self._ends) - time.monotonic()))
            began = time.monotonic()

    async def _post(self, body: bytes, right: set[int]) -> None:
        headers = {"aeg-event-type": "Notification", "Content-Type": "application/json"}
        await self._ask(
            "event", right, lambda: self._session.post(self._webhook, data=io.BytesIO(body), headers=headers)
        )

    async def _page(self, number: int) -> None:
        self.figures.pages += 1
        place = f"{self._stage.host.url}/api/{'page' if number % 2 else 'status'}"
        await self._ask("page", {200}, lambda: self._session.get(place, headers=self._key))

    async def _ask(
        self,
        what: str,
        right: set[int],
        send: Callable[[], contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]],
    ) -> None:
        began = time.monotonic()
        try:
            async with send() as answer:
                await answer.read()
                said = "" if answer.status in right else f"{what} {answer.status}"
        except (aiohttp.ClientError, TimeoutError) as error:
            said = f"{what} {type(error).__name__}"
        self._took[what].append(time.monotonic() - began)
        if said:
            self.figures.failed += 1
            self.figures.failures[said] += 1

    async def _slow_client(self, number: int) -> None:
        """Sends a request a byte a second, or reads its answer so; comes back when hung up on."""
        host, port = urlsplit(self._stage.host.url).netloc.split(":")
        key = self._stage.host.keys["function"]
        request = f"GET /api/page?code={key} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        while True:
            reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
            try:
                with contextlib.suppress(OSError):
                    for byte in request if number % 2 else ():
                        writer.write(bytes([byte]))
                        await asyncio.sleep(1)
                    writer.write(request)
                    while not reader.at_eof():
                        await asyncio.sleep(1)
                        await reader.read(1)
            finally:
                writer.close()

    async def _renew(self, certificates: Sequence[Certificate]) -> None:
        """One certificate after the other, spread over the run; Event Grid tells of each."""
        pause = self.figures.seconds / (len(certificates) + 1)
        for certificate in certificates:
            await asyncio.sleep(pause)
            await asyncio.to_thread(certificate.renew)
            self.figures.renewals += 1

    async def _watch_memory(self) -> None:
        await asyncio.sleep(self.figures.seconds / 10)
        self.figures.memory_early = self._memory()
        await asyncio.sleep(max(0.0, self._ends - time.monotonic()))
        self.figures.memory_late = self._memory()

    def _memory(self) -> float:
        pages = int(Path(f"/proc/{self._stage.host.pid}/statm").read_text(encoding="ascii").split()[1])
        return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


@contextlib.contextmanager
def fleet() -> Iterator[tuple[Stage, list[Certificate], list[Service]]]:
    """A world of services with a certificate each, and one that all the made-up events are about."""
    world = World()
    world.graph.quota = AZURE_QUOTA
    vault = world.add_vault("kv-contoso")
    vault.add_certificate("contoso-com", ["*.contoso.com"])
    certificates = [vault.add_certificate(f"app-{n}", [f"app-{n}.contoso.com"]) for n in range(SERVICES)]
    services = [
        world.add_service(f"apim-{n}", hostnames=(Hostname(f"app-{n}.contoso.com", certificate=each),))
        for n, each in enumerate(certificates)
    ]
    with Stage(world) as stage:
        stage.tick()
        yield stage, certificates, services


def measure(seconds: float, events: float, pages: float) -> Figures:
    """A whole run."""
    with fleet() as (stage, certificates, services):
        load = Load(stage, seconds, events, pages)
        asyncio.run(load.run(certificates))
        stage.settle()
        figures = load.figures
        figures.syncs = sum(len(service.syncs) for service in services)
        figures.lost = sum(not service.syncs for service in services)
        figures.raised = len([line for line in raised(stage.host.log()) if "rotation" in line])
        return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and say; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.run", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--events", type=float, default=200, help="at the webhook, each second")
    parser.add_argument(
        "--pages", type=float, default=50, help="requests for the page and the status, each second"
    )
    parser.add_argument("--keep", action="store_true", help="keep the figures in tests/results.json")
    options = parser.parse_args(arguments)
    figures = measure(options.seconds, options.events, options.pages)
    said = {**asdict(figures), "events_a_second": options.events, "pages_a_second": options.pages}
    print(json.dumps(said, indent=1))
    if options.keep:
        keep("load", said)
    return int(figures.wrong)


if __name__ == "__main__":
    sys.exit(main())
