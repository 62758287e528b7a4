"""Counts and holds what the app sends to the pretend Azure, in front of and behind each of its servers.

Held here is held for good: whoever waits behind the gate is killed there.
"""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sandbox.azure import Azure
from sandbox.tls_gateway import Listener
from sandbox.world import World


class Side(StrEnum):
    """On which side of its effect a request is cut off."""

    ARRIVED = "arrived, without effect"
    DONE = "took effect, its answer held back"
    ANSWERED = "answered, and a moment later"


@dataclass(frozen=True, slots=True)
class Point:
    """A place to kill at: a request or TLS connection, and a side of it.

    `at` is its number, in order of arrival, or a word of what it says: then the first that says it. `moment`
    is how many seconds after the answer, for that side.
    """

    at: int | str
    side: Side
    moment: float = 0

    def __str__(self) -> str:
        moment = f" ({self.moment * 1000:.1f} ms)" if self.side is Side.ANSWERED else ""
        return f"I/O point {self.at} {self.side}{moment}"

    def is_it(self, number: int, what: str) -> bool:
        """Whether this is the arrival."""
        return self.at in what if isinstance(self.at, str) else self.at == number


class Gate:
    """Open, and not even counting, until it is watched.

    `seen` lists what has arrived since then, `met` is what it closed at. Used from the loop of the pretend
    Azure and from the thread of the test.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.reached = threading.Event()
        self.met = ""
        self._watched = False
        self._stop: Point | None = None
        self._number = 0

    def watch(self, stop: Point | None = None) -> None:
        """Count from one, and close at a point; from then on nothing passes on either side."""
        self.seen = []
        self.reached.clear()
        self._stop = stop
        self._number = 0
        self._watched = True

    def open(self) -> None:
        """Let everything pass that comes from now on."""
        self._watched = False
        self._stop = None
        self.reached.clear()

    def number(self, what: str) -> int:
        """The number of an arrival, 0 while nobody watches."""
        if not self._watched:
            return 0
        self.seen.append(what)
        number = len(self.seen)
        if self._stop and not self._number and self._stop.is_it(number, what):
            self._number, self.met = number, what
        return number

    def closed(self, number: int, side: Side) -> bool:
        """Whether what arrives with a number, at a side, stays here."""
        stop = self._stop
        if stop and number and (number, side) == (self._number, stop.side):
            if side is Side.ANSWERED:
                asyncio.get_running_loop().call_later(stop.moment, self.reached.set)
                return False
            self.reached.set()
        return self.reached.is_set()


class GatedAzure(Azure):
    """The pretend Azure behind a gate: every request and every TLS connection to a gateway is a point."""

    def __init__(self, world: World, gate: Gate) -> None:
        super().__init__(world)
        self._gate = gate

    async def _serve(self, name: str, app: web.Application, names: tuple[str, ...] | list[str] = ()) -> None:  # type: ignore[override]
        if name != "control":
            app.middlewares.insert(0, self._door(name))
        await super()._serve(name, app, names)

    def _door(self, name: str) -> Middleware:
        gate = self._gate

        @web.middleware
        async def pass_through(request: web.Request, handler: Handler) -> web.StreamResponse:
            number = gate.number(f"{name}: {request.method} {request.path}")
            if gate.closed(number, Side.ARRIVED):
                await _for_ever()
            response = await handler(request)
            if gate.closed(number, Side.DONE):
                await _for_ever()
            gate.closed(number, Side.ANSWERED)
            return response

        return pass_through

    def _listen_with(self, answer: Callable[[socket.socket], Awaitable[asyncio.Transport | None]]) -> int:
        listener = getattr(answer, "__self__", None)
        return super()._listen_with(self._gated(listener) if isinstance(listener, Listener) else answer)

    def _gated(self, listener: Listener) -> Callable[[socket.socket], Awaitable[asyncio.Transport | None]]:
        gate = self._gate
        what = f"tls: {listener._service.name} {listener._region}"

        async def answer(connection: socket.socket) -> asyncio.Transport | None:
            number = gate.number(what)
            if gate.closed(number, Side.ARRIVED):
                while await asyncio.get_running_loop().sock_recv(connection, 4096):
                    pass  # until the visitor is dead
                return None
            try:
                return await listener.answer(connection)
            finally:  # the handshake is over, well or not: there is no further answer to hold back
                gate.closed(number, Side.DONE)

        return answer


async def _for_ever() -> None:
    """Until the visitor is dead: its end cancels the handler, so that the request never has an effect."""
    await asyncio.Event().wait()
