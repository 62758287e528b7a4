"""Turns of passes by event: a flood of events, forged or doubled, is not a flood of passes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from rotation.model import Scope

AT_ONCE = 32
"""Passes by event in one process; others wait."""

ANSWERED_WITHIN = 24.0
"""Seconds for a turn and its pass: after 30 Event Grid sends the event again."""


class Turns:
    """One pass for a scope at a time, and one that waits: it will see what all later events are about."""

    def __init__(self) -> None:
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._running: dict[Scope, asyncio.Lock] = {}
        self._waiting: set[Scope] = set()

    @asynccontextmanager
    async def turn(self, scope: Scope, within: float) -> AsyncIterator[bool]:
        """Whether to look now; no where a pass that has yet to begin will look anyway.

        Raises:
            TimeoutError: there was no turn within so many seconds.
        """
        if scope in self._waiting:
            yield False
            return
        lock = self._running.setdefault(scope, asyncio.Lock())
        self._waiting.add(scope)
        try:
            async with AsyncExitStack() as held:
                try:
                    async with asyncio.timeout(within):
                        await held.enter_async_context(lock)
                        await held.enter_async_context(self._at_once)
                finally:
                    self._waiting.discard(scope)
                yield True
        finally:
            if not lock.locked() and scope not in self._waiting:
                self._running.pop(scope, None)
