"""What time it is for the timers: real UTC, or the time a test's clock server tells."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Protocol

import aiohttp

log = logging.getLogger("host.clock")
_POLL_SECONDS = 0.05
_LONGEST_SLEEP = 30.0  # seconds; a suspended laptop wakes up late, not never


class Clock(Protocol):
    """Tells the time and waits for a moment."""

    def now(self) -> datetime:
        """The time in UTC."""

    async def wait_until(self, moment: datetime) -> None:
        """Return when that moment has come."""

    async def refresh(self) -> None:
        """Make sure that now() is not behind the source of the time."""

    async def close(self) -> None:
        """Let go of whatever is open."""


class RealClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """The time in UTC."""
        return datetime.now(UTC)

    async def wait_until(self, moment: datetime) -> None:
        """Sleep, in steps, until the moment has come."""
        left = (moment - self.now()).total_seconds()
        while left > 0:
            await asyncio.sleep(min(left, _LONGEST_SLEEP))
            left = (moment - self.now()).total_seconds()

    async def refresh(self) -> None:
        """Nothing to do: it is always fresh."""

    async def close(self) -> None:
        """Nothing is open."""


class RemoteClock:
    """Follows `GET url` -> {"now": "<iso utc>"}, asking about twenty times a second on one connection."""

    def __init__(self, url: str) -> None:
        self._url = url
        timeout = aiohttp.ClientTimeout(total=5)
        self._session = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=1))
        self._now: datetime
        self._moved = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the time once, so that there is one, and keep following it."""
        await self.refresh()
        self._task = asyncio.create_task(self._follow())

    def now(self) -> datetime:
        """The time as last told."""
        return self._now

    async def wait_until(self, moment: datetime) -> None:
        """Return once the clock has been moved to the moment or beyond."""
        async with self._moved:
            await self._moved.wait_for(lambda: self._now >= moment)

    async def refresh(self) -> None:
        """Ask for the time now."""
        async with self._session.get(self._url) as answer:
            answer.raise_for_status()
            told = datetime.fromisoformat((await answer.json(content_type=None))["now"])
        async with self._moved:
            self._now = told.replace(tzinfo=told.tzinfo or UTC).astimezone(UTC)
            self._moved.notify_all()

    async def close(self) -> None:
        """Stop following and close the connection."""
        if self._task:
            self._task.cancel()
        await self._session.close()

    async def _follow(self) -> None:
        silent = False
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            try:
                await self.refresh()
                silent = False
            except (aiohttp.ClientError, TimeoutError) as error:
                if not silent:
                    log.warning("the clock at %s does not answer, time stands still: %s", self._url, error)
                silent = True
