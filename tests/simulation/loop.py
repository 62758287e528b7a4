"""Virtual time: a clock that moves only when it is told to, and an event loop that goes by it."""

import asyncio
import heapq
from asyncio.events import _set_running_loop
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from rotation.model import Report
from sandbox import world as sandbox

T = TypeVar("T")

EPOCH = datetime(2026, 3, 2, tzinfo=UTC)


class VirtualClock(sandbox.Clock):
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self._now = EPOCH

    def now(self) -> datetime:
        """The world's time."""
        return self._now

    def advance(self, delta: timedelta) -> None:
        """Let time pass."""
        self._now += delta

    def reach(self, moment: datetime) -> None:
        """Let time pass until a moment, if that is not over."""
        self._now = max(self._now, moment)


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs tasks in the order in which they become ready; when all of them wait, time passes.

    Leaner than its parent, which looks after other threads, contexts and debugging; a test compares the two.
    """

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock
        self._steps: deque[_Step] = deque()
        self._timers: list[asyncio.TimerHandle] = []
        self._told_at, self._told = EPOCH, 0.0

    def call_soon(  # type: ignore[override] # asyncio does nothing with it but cancel it
        self,
        callback: Callable[..., object],
        *args: object,
        context: Context | None = None,  # noqa: ARG002
    ) -> "_Step":
        """Run it after what is ready already; all share one context."""
        step = _Step(callback, args)
        self._steps.append(step)
        return step

    def call_at(
        self, when: float, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run it when that time has come."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, timer)
        return timer

    def create_task(  # type: ignore[override] # nobody here has a generator
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,  # noqa: ARG002
    ) -> asyncio.Task[T]:
        """As its parent does."""
        return asyncio.Task(coro, loop=self, name=name or "task")

    def time(self) -> float:
        """Virtual seconds."""
        now = self._clock.now()
        if now is not self._told_at:
            self._told_at, self._told = now, (now - EPOCH).total_seconds()
        return self._told

    def drive(self, work: Iterable[Coroutine[Any, Any, Report]]) -> list[Report | BaseException]:
        """Run these at once, and return what each has ended with."""
        steps, timers = self._steps, self._timers
        _set_running_loop(self)
        try:
            tasks = [self.create_task(one) for one in work]
            while steps or not all(task.done() for task in tasks):
                if timers:
                    self._fire()
                step = steps.popleft()
                step.callback(*step.args)
        finally:
            timers.clear()
            _set_running_loop(None)
        return [task.exception() or task.result() for task in tasks]

    def _fire(self) -> None:
        """Put timers that are due among what is ready; wait for the first where nothing else is."""
        steps, timers = self._steps, self._timers
        while timers and timers[0].cancelled():
            heapq.heappop(timers)
        if not timers:
            return
        if not steps:
            self._clock.reach(EPOCH + timedelta(seconds=timers[0].when()))
        now = self.time()
        while timers and timers[0].when() <= now:
            steps.append(_Step(_unless_cancelled, (heapq.heappop(timers),)))


class _Step:
    """Something to be run at once, unless it is cancelled before its turn."""

    __slots__ = ("args", "callback")

    def __init__(self, callback: Callable[..., object], args: tuple[object, ...]) -> None:
        self.callback = callback
        self.args = args

    def cancel(self) -> None:
        """Nothing happens in its turn."""
        self.callback, self.args = _nothing, ()


def _nothing() -> None:
    pass


def _unless_cancelled(timer: asyncio.TimerHandle) -> None:
    if not timer.cancelled():
        timer._run()
