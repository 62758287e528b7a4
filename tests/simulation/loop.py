"""Virtual time: a clock that moves only when it is told to, and an event loop that goes by it."""

import asyncio
import heapq
import math
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
        self.seconds = 0.0

    def now(self) -> datetime:
        """The world's time."""
        return self._now

    def advance(self, delta: timedelta) -> None:
        """Let time pass."""
        self._now += delta
        self.seconds = (self._now - EPOCH).total_seconds()

    def reach(self, moment: datetime) -> None:
        """Let time pass until a moment, if that is not over."""
        if moment > self._now:
            self._now = moment
            self.seconds = (moment - EPOCH).total_seconds()


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs tasks in the order in which they become ready; when all of them wait, time passes.

    Leaner than its parent, which looks after other threads, contexts and debugging; a test compares the two.
    """

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock
        self._steps: deque[_Step] = deque()
        self._timers: list[_Timer] = []
        self._due = math.inf

    def call_soon(  # type: ignore[override] # asyncio does nothing with it but cancel it
        self,
        callback: Callable[..., object],
        *args: object,
        context: Context | None = None,
    ) -> "_Step":
        """Run it after what is ready already; all share one context."""
        step = _Step(callback, args)
        self._steps.append(step)
        return step

    def call_at(  # type: ignore[override] # as call_soon
        self,
        when: float,
        callback: Callable[..., object],
        *args: object,
        context: Context | None = None,
    ) -> "_Timer":
        """Run it when that time has come."""
        timer = _Timer(when, callback, args)
        heapq.heappush(self._timers, timer)
        self._due = self._timers[0].when
        return timer

    def call_later(  # type: ignore[override] # as call_soon
        self,
        delay: float,
        callback: Callable[..., object],
        *args: object,
        context: Context | None = None,
    ) -> "_Timer":
        """Run it when so many seconds have passed."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def create_task(  # type: ignore[override] # nobody here has a generator
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """As its parent does."""
        return asyncio.Task(coro, loop=self, name=name or "task")

    def time(self) -> float:
        """Virtual seconds."""
        return self._clock.seconds

    def drive(self, work: Iterable[Coroutine[Any, Any, Report]]) -> list[Report | BaseException]:
        """Run these at once, and return what each has ended with."""
        steps, timers = self._steps, self._timers
        _set_running_loop(self)
        try:
            tasks = [self.create_task(one) for one in work]
            clock = self._clock
            while steps or not all(task.done() for task in tasks):
                if timers and (not steps or clock.seconds >= self._due):
                    self._fire()
                step = steps.popleft()
                step.callback(*step.args)
        finally:
            timers.clear()
            self._due = math.inf
            _set_running_loop(None)
        return [task.exception() or task.result() for task in tasks]

    def _fire(self) -> None:
        """Put timers that are due among what is ready; wait for the first where nothing else is."""
        steps, timers = self._steps, self._timers
        while timers and timers[0].callback is _nothing:
            heapq.heappop(timers)
        if timers and not steps:
            self._clock.reach(EPOCH + timedelta(seconds=timers[0].when))
        now = self.time()
        while timers and timers[0].when <= now:
            steps.append(heapq.heappop(timers))
        self._due = timers[0].when if timers else math.inf


class _Step:
    """Something to be run at once, unless it is cancelled before its turn."""

    __slots__ = ("args", "callback")

    def __init__(self, callback: Callable[..., object], args: tuple[object, ...]) -> None:
        self.callback = callback
        self.args = args

    def cancel(self) -> None:
        """Nothing happens in its turn."""
        self.callback, self.args = _nothing, ()


class _Timer(_Step):
    """A step for later."""

    __slots__ = ("when",)

    def __init__(self, when: float, callback: Callable[..., object], args: tuple[object, ...]) -> None:
        super().__init__(callback, args)
        self.when = when

    def __lt__(self, other: "_Timer") -> bool:
        return self.when < other.when


def _nothing() -> None:
    pass
