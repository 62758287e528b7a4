"""Stand-ins for what loopback lacks: distance, and a Table service for the ledger.

`Distance` relays TCP connections as if each end were half a round trip away: what is sent arrives that much
later, and the first bytes of a connection another round trip later, which TCP's own handshake would take.
"""

import asyncio
import contextlib
import json
import re
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

_CONDITION = re.compile(r"(\w+) (eq|ne|ge|gt|le|lt) '([^']*)'")
_COMPARE: Mapping[str, Callable[[str, str], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "ge": lambda a, b: a >= b,
    "gt": lambda a, b: a > b,
    "le": lambda a, b: a <= b,
    "lt": lambda a, b: a < b,
}
_ENTITY = re.compile(r"/(?P<table>\w+)\(PartitionKey='(?P<partition>[^']*)',RowKey='(?P<row>[^']*)'\)")


@dataclass(frozen=True, slots=True)
class Flight:
    """What a client has sent in one piece: when (monotonic), to whom, and as which of its pieces."""

    at: float
    server: str
    connection: int
    number: int


@dataclass(slots=True)
class Distance:
    """Relays to servers on loopback, `rtt` seconds away; runs on a loop in a thread of its own."""

    rtt: float = 0.0
    flights: list[Flight] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _connections: int = 0
    _thread: threading.Thread = field(init=False)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._loop.run_forever, name="distance", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._hang_up())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def call(self, work: Awaitable[Any]) -> Any:  # noqa: ANN401 - whatever the work gives
        """Run something on the relays' loop."""

        async def main() -> Any:  # noqa: ANN401 - the same
            return await work

        return asyncio.run_coroutine_threadsafe(main(), self._loop).result(30)

    def relay(self, server: str, port: int) -> int:
        """The port behind which a server is far away."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._connections += 1
            connection = self._connections
            # Once hung up on: to Python 3.11 a connection that is cancelled is worth a traceback.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
                there = self._pump(reader, far_writer, self.rtt, (server, connection))
                await asyncio.gather(there, self._pump(far_reader, writer, 0, None))

        listening = self.call(asyncio.start_server(accept, "127.0.0.1", 0))
        number: int = listening.sockets[0].getsockname()[1]
        return number

    async def _hang_up(self) -> None:
        connections = asyncio.all_tasks() - {asyncio.current_task()}
        for each in connections:
            each.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        first: float,
        told: tuple[str, int] | None,
    ) -> None:
        due, number = 0.0, 0
        while data := await reader.read(65536):
            number += 1
            if told:
                self.flights.append(Flight(time.monotonic(), *told, number))
            due = max(due, self._loop.time() + self.rtt / 2 + (first if number == 1 else 0))
            self._loop.call_at(due, writer.write, data)
        self._loop.call_at(max(due, self._loop.time() + self.rtt / 2), writer.close)


class Tables:
    """As much of Azure's Table service as the ledger asks for: entities with ETags, and simple filters."""

    def __init__(self) -> None:
        self._entities: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {}
        self.requests: list[tuple[float, str]] = []

    async def start(self, context: ssl.SSLContext) -> int:
        """Listen; returns the port."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        port: int = runner.addresses[0][1]
        return port

    async def _answer(self, request: web.Request) -> web.Response:
        self.requests.append((time.monotonic(), request.method))
        if found := _ENTITY.fullmatch(request.path):
            return await self._one(request, (found["partition"], found["row"]))
        if request.method == "POST":
            return self._store(await request.json())
        conditions = _CONDITION.findall(request.query.get("$filter", ""))
        rows = [
            {**entity, "odata.etag": _etag(version)}
            for _, (version, entity) in sorted(self._entities.items())
            if all(_COMPARE[how](entity[name], value) for name, how, value in conditions)
        ]
        return web.json_response({"value": rows})

    async def _one(self, request: web.Request, key: tuple[str, str]) -> web.Response:
        version, entity = self._entities.get(key, (0, None))
        if request.method == "PUT":
            wanted = request.headers.get("If-Match", "*")
            if wanted not in {"*", _etag(version)}:
                return _error(412, "UpdateConditionNotSatisfied")
            return self._store(await request.json(), replace=True)
        if entity is None:
            return _error(404, "ResourceNotFound")
        if request.method == "DELETE":
            del self._entities[key]
            return web.Response(status=204)
        return web.json_response({**entity, "odata.etag": _etag(version)}, headers={"ETag": _etag(version)})

    def _store(self, entity: dict[str, Any], *, replace: bool = False) -> web.Response:
        key = (entity["PartitionKey"], entity["RowKey"])
        version, _ = self._entities.get(key, (0, None))
        if version and not replace:
            return _error(409, "EntityAlreadyExists")
        self._entities[key] = (version + 1, entity)
        return web.Response(status=204, headers={"ETag": _etag(version + 1)})


def _etag(version: int) -> str:
    return f"W/\"datetime'{version}'\""


def _error(status: int, code: str) -> web.Response:
    body = {"odata.error": {"code": code, "message": {"lang": "en-US", "value": code}}}
    return web.Response(status=status, text=json.dumps(body), content_type="application/json")
