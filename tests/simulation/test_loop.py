"""The simulator's event loop leaves out much of asyncio's: what it runs, and in which order, is the same."""

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import closing
from contextvars import Context
from dataclasses import asdict
from datetime import timedelta
from typing import Any, TypeVarTuple, Unpack

import pytest

from rotation.model import Report
from tests.simulation.loop import EPOCH, VirtualClock, VirtualLoop
from tests.simulation.schedule import Schedule

Ts = TypeVarTuple("Ts")

SEEDS = range(40)


class AsyncioLoop(VirtualLoop):
    """Virtual time over asyncio's own handles, tasks, timers and contexts."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self._virtual = clock

    def call_soon(  # type: ignore[override]
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """As asyncio does, without asking the selector."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    call_at = asyncio.BaseEventLoop.call_at  # type: ignore[assignment] # a heavier handle
    call_later = asyncio.BaseEventLoop.call_later  # type: ignore[assignment] # so too
    create_task = asyncio.BaseEventLoop.create_task

    def time(self) -> float:
        """Virtual seconds."""
        return (self._virtual.now() - EPOCH).total_seconds()

    def drive(self, work: Iterable[Coroutine[Any, Any, Report]]) -> list[Report | BaseException]:
        """Run these at once."""
        asyncio.events._set_running_loop(self)
        try:
            tasks = [self.create_task(one) for one in work]
            while self._ready or not all(task.done() for task in tasks):
                self._let_time_pass()
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            self._scheduled.clear()
            asyncio.events._set_running_loop(None)
        return [task.exception() or task.result() for task in tasks]

    def _let_time_pass(self) -> None:
        while self._scheduled and self._scheduled[0].cancelled():
            heapq.heappop(self._scheduled)
        if self._scheduled and not self._ready:
            self._virtual.reach(EPOCH + timedelta(seconds=self._scheduled[0].when()))
        while self._scheduled and self._scheduled[0].when() <= self.time():
            self._ready.append(heapq.heappop(self._scheduled))


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("rotation")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


def test_a_schedule_ends_the_same_on_asyncios_own_machinery() -> None:
    """Proves that what makes the simulator quick changes nothing: no line of a story, no figure."""
    deaths = races = 0
    for seed in SEEDS:
        lean, plain = Schedule(seed, tell=True), Schedule(seed, tell=True)
        plain.sim.loop.close()
        plain.sim.loop = AsyncioLoop(plain.sim.clock)
        expected, actual = plain.run(), lean.run()

        assert expected.story == actual.story
        assert asdict(expected.figures) == asdict(actual.figures)
        assert expected.violations == actual.violations == []
        deaths += actual.figures.died
        races += "two workers at once" in "".join(actual.story)
    assert deaths
    assert races


def test_a_timeout_that_is_over_when_it_begins_ends_with_what_it_was_for() -> None:
    """A pass may reach a call too late: the call is made, and what was to end it is cancelled."""
    clock = VirtualClock()
    loop = VirtualLoop(clock)

    async def call() -> Any:
        return "done"

    async def late() -> Any:
        async with asyncio.timeout_at(loop.time() - 1):
            found = await call()
        await asyncio.sleep(0)
        return found

    with closing(loop):
        ended: list[Any] = [*loop.drive([late()])]

    assert ["done"] == ended
