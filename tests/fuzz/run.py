"""Any number of hostile inputs at every door: `python -m tests.fuzz.run --cases 100000`.

Ends with 1 where an input raised something, was slower than a second, made the process grow by 50 MiB, or
led it to connect anywhere outside of loopback. Prints a table.
"""

import argparse
import asyncio
import contextlib
import gc
import logging
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import ClassVar

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.doors import DOORS, Door
from tests.fuzz.egress import Guard
from tests.fuzz.planted import PLANTED
from tests.fuzz.wired import Take
from tests.results import keep, kept

SLOWEST = 1.0
"""Seconds for one case."""

MOST_GROWTH = 50
"""MiB of memory, over all cases of a door."""

BATCH = 500
"""Cases to one seed."""

FAMILY = 5
"""Cases of one that hypothesis has made: it, and what comes of one more change, and one more."""

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class Figures:
    """What came of the cases of one door; `failures` are the stories of the first few."""

    door: str
    cases: int = 0
    exceptions: int = 0
    outside: int = 0
    slowest_seconds: float = 0.0
    growth_mib: float = 0.0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> bool:
        """Whether anything was not as it must be."""
        unbounded = self.slowest_seconds > SLOWEST or self.growth_mib >= MOST_GROWTH
        return bool(self.exceptions or self.outside or unbounded)


def memory() -> float:
    """MiB that the process has in memory."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * _PAGE / 2**20


def fuzz(name: str, cases: int, first_seed: int = 0) -> Figures:
    """So many cases at one door, in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(_fuzz_here, name, cases, first_seed).result()


def _fuzz_here(name: str, cases: int, first_seed: int) -> Figures:
    """Inputs are made in a fork of this process: what hypothesis remembers of them is not the app's own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as maker:
        maker.submit(os.getpid).result()
        return _fuzz_with(maker, name, cases, first_seed)


def _door(name: str) -> Door:
    (door,) = (each for each in (*DOORS, *PLANTED) if each.name == name)
    return door


def _fuzz_with(maker: ProcessPoolExecutor, name: str, cases: int, first_seed: int) -> Figures:
    guard = Guard()
    logging.getLogger().addHandler(logging.NullHandler())
    logging.getLogger("rotation").addHandler(Caught())
    return asyncio.run(_fuzz(maker, name, cases, first_seed, guard))


async def _fuzz(maker: ProcessPoolExecutor, name: str, cases: int, first_seed: int, guard: Guard) -> Figures:
    figures, began = Figures(name), time.monotonic()
    batch = min(BATCH, max(1, cases // 4))
    before = 0.0
    async with _door(name).opened() as take:
        for number in count(first_seed):
            if figures.cases >= cases:
                break
            for one in maker.submit(_inputs, name, min(batch, cases - figures.cases), number).result():
                await _judge(take, one, figures)
            before = before or memory()  # after the first batch, which loads what is loaded late
        figures.growth_mib = round(memory() - before, 1)
    figures.outside = len(guard.outside)
    figures.failures += guard.outside[:3]
    figures.seconds = round(time.monotonic() - began, 1)
    figures.slowest_seconds = round(figures.slowest_seconds, 3)
    return figures


def _inputs(name: str, most: int, number: int) -> list[object]:
    """What hypothesis makes of one seed, each with its family: so many, or less where there are no more."""
    door, random = _door(name), Random(number)
    made: list[object] = []

    @seed(number)
    @settings(
        max_examples=-(-most // FAMILY),
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(door.inputs)
    def collect(one: object) -> None:
        made.append(one)
        for _ in range(FAMILY - 1):
            made.append(door.again(made[-1], random))

    collect()
    return made[:most]


class Caught(logging.Handler):
    """What the guard of a trigger has caught and logged: an answer to whoever sent it, a bug to us."""

    stories: ClassVar[list[str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        if record.levelno >= logging.ERROR and " failed: " in str(record.msg):
            self.stories.append(record.getMessage())


async def _judge(take: Take, one: object, figures: Figures) -> None:
    figures.cases += 1
    took = SLOWEST + 1
    for _ in range(3):  # slow is what is slow each time: other processes may have had the processor
        if took <= SLOWEST:
            break
        began = time.perf_counter()
        try:
            await take(one)
        except Exception:  # noqa: BLE001 - whatever comes is what is looked for
            figures.exceptions += 1
            if len(figures.failures) < 3:
                figures.failures.append(f"{one!r:.600}\n{traceback.format_exc(limit=-6)}")
        took = min(took, time.perf_counter() - began)
    figures.exceptions += len(Caught.stories)
    figures.failures += [f"{one!r:.600}\n{story}" for story in Caught.stories][:3]
    Caught.stories.clear()
    if took > SLOWEST and len(figures.failures) < 3:
        figures.failures.append(f"{took:.1f} s: {one!r:.600}")
    figures.slowest_seconds = max(figures.slowest_seconds, took)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz every door that is asked for; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="for each door")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--door", action="append", help="only this one; may be given several times")
    parser.add_argument("--keep", action="store_true", help="keep the figures in tests/results.json")
    parser.add_argument("--at-once", type=int, default=os.cpu_count(), help="doors")
    options = parser.parse_args(arguments)
    doors = [door.name for door in DOORS if not options.door or door.name in options.door]
    all_figures = []
    with ThreadPoolExecutor(options.at_once) as at_once:
        for figures in at_once.map(lambda door: fuzz(door, options.cases, options.seed), doors):
            all_figures.append(figures)
            _tell(figures)
            if options.keep:
                _keep(figures)
    return int(any(figures.wrong for figures in all_figures))


def _keep(figures: Figures) -> None:
    """Beside those of other doors, at once: a run of all of them takes long."""
    doors = {each["door"]: each for each in kept("fuzz").get("doors", ())}
    doors[figures.door] = {k: v for k, v in asdict(figures).items() if k != "failures"}
    named = [doors[door.name] for door in DOORS if door.name in doors]
    keep("fuzz", {"cases": min(each["cases"] for each in named), "doors": named})


def _tell(figures: Figures) -> None:
    print(
        f"{figures.door:<20} {figures.cases:>8,} cases {figures.exceptions:>3} exceptions"
        f" {figures.outside:>3} outside {figures.slowest_seconds:>7.3f} s at most"
        f" {figures.growth_mib:>6.1f} MiB more {figures.seconds:>7.1f} s",
        flush=True,
    )
    for failure in figures.failures if figures.wrong else ():
        print(failure, file=sys.stderr)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
