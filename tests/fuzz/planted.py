"""Doors behind which something is wrong on purpose: runs at them show that a run can fail."""

import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable

from hypothesis import strategies as st

from tests.fuzz.doors import Door
from tests.fuzz.wired import Take

_kept: list[bytes] = []


def _planted(name: str, wrong: Callable[[], object]) -> Door:
    """One input in some twenty does what is wrong."""

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Take]:
        async def one(given: int) -> None:
            if given % 20 == 19:
                wrong()

        yield one

    return Door(name, st.integers(0, 10_000), opened, lambda _, random: random.randrange(10_000))


def _raise() -> None:
    raise LookupError("planted")


def _connect_outside() -> None:
    with contextlib.suppress(OSError):
        socket.create_connection(("203.0.113.1", 443), timeout=1)


def _look_up_outside() -> None:
    with contextlib.suppress(OSError):
        socket.getaddrinfo("contoso.example", 443)


PLANTED = (
    _planted("raises", _raise),
    _planted("connects outside", _connect_outside),
    _planted("looks a name up", _look_up_outside),
    _planted("takes too long", lambda: time.sleep(1.1)),
    _planted("keeps memory", lambda: _kept.append(b"x" * 30 * 2**20)),
)
