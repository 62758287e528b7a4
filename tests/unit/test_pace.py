"""The pace against ARM's own bucket, in a time that passes at once where everybody waits."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotation import pace
from rotation.pace import Pace

T = TypeVar("T")

ARM = {"reads": (250, 25), "writes": (200, 10)}
PACES = {"reads": pace.reads, "writes": pace.writes}


class HurriedLoop(asyncio.SelectorEventLoop):
    """Where nothing else is to be done, it is at once as late as the next timer wants it."""

    _passed = 0.0

    def time(self) -> float:
        """The moments that were waited for are over."""
        return self._passed

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self._passed = max(self._passed, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it without waiting."""
    with asyncio.Runner(loop_factory=HurriedLoop) as runner:
        return runner.run(work)


async def sent(by: Pace, number: int, until: float = 1e9) -> list[float]:
    """When each of so many turns was given; those that were not are missing."""
    clock = asyncio.get_running_loop().time

    async def one() -> float | None:
        return clock() if await by.turn("subscription", until) else None

    return [at for at in await asyncio.gather(*(one() for _ in range(number))) if at is not None]


def refused(arrivals: list[float], burst: float, a_second: float) -> int:
    """How many of these ARM would refuse."""
    left, before, refusals = burst, arrivals[0], 0
    for at in sorted(arrivals):
        left, before = min(burst, left + (at - before) * a_second), at
        if left < 1:
            refusals += 1
        else:
            left -= 1
    return refusals


@pytest.mark.parametrize("kind", ARM)
@given(seed=st.integers(0, 10**6), slowest=st.floats(0, 1.5))
def test_arm_refuses_nothing_however_unevenly_requests_arrive(kind: str, seed: int, slowest: float) -> None:
    """A second and a half between the fastest and the slowest request is within what is kept back."""
    chance = random.Random(seed)
    times = run(sent(PACES[kind](), 500))

    assert 0 == refused([at + chance.uniform(0, slowest) for at in times], *ARM[kind])


def test_five_hundred_writes_take_little_longer_than_arm_needs_for_them() -> None:
    """200 at once and 300 at ten a second are 30 s; the target is 1.2 times as much."""
    times = run(sent(pace.writes(), 500))

    assert 30 < times[-1] - times[0] < 36


def test_what_has_no_turn_in_time_is_told_at_once_and_takes_none_from_others() -> None:
    """A pass that ends leaves no reservation behind."""

    async def scene() -> tuple[int, float, int]:
        by = Pace(10, 1)
        first = await sent(by, 50, until=5)
        asked_at = asyncio.get_running_loop().time()
        return len(first), asked_at, len(await sent(by, 1, until=asked_at + 1.2))

    given_turns, at, afterwards = run(scene())

    assert (13, 1) == (given_turns, afterwards)  # nine at once and 0.95 a second
    assert at <= 5


def test_subscriptions_do_not_wait_for_each_other() -> None:
    """ARM has a bucket for each."""

    async def scene() -> float:
        by = Pace(10, 1)
        await sent(by, 12)
        began = asyncio.get_running_loop().time()
        assert await by.turn("another", until=began)
        return asyncio.get_running_loop().time() - began

    assert 0 == run(scene())


def test_a_bucket_fills_again_and_never_over_its_brim() -> None:
    """An hour of rest gives one burst, not an hour's worth."""

    async def scene() -> list[float]:
        by = pace.writes()
        await sent(by, 500)
        await asyncio.sleep(3600)
        return await sent(by, 500)

    times = run(scene())

    assert 0 == refused(times, *ARM["writes"])
    assert times[-1] - times[0] > 30
