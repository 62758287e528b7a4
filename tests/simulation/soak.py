"""Any number of schedules: `python -m tests.simulation.soak --schedules 100000 --seed 0`.

Prints the figures as a table and as JSON. Ends with 1 where anything was wrong, after the story of the first
schedule in which it was, or where the oracle had too few verdicts to judge.
"""

import argparse
import gc
import itertools
import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.results import keep
from tests.simulation.oracle import Figures
from tests.simulation.schedule import ANYTHING, Conditions, Schedule

CHUNK = 50
LINES_BEFORE_A_VIOLATION = 60

LEAST_VERDICTS = 100
"""Of a schedule, on average: with fewer the oracle would not have seen enough."""


@dataclass(slots=True)
class Result:
    """Many schedules together. `failed` maps a seed to what was wrong in it."""

    figures: Figures = field(default_factory=Figures)
    failed: dict[int, list[str]] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, other: "Result") -> None:
        """Take another's counts in."""
        self.figures.add(other.figures)
        self.failed |= other.failed

    def to_json(self) -> dict[str, object]:
        """The figures, with percentiles in place of lists."""
        figures = self.figures
        found: dict[str, object] = {
            name: getattr(figures, name) for name in figures.__slots__ if not name.startswith("minutes_")
        }
        found["verdicts_judged"] = figures.judged
        found["sampled_missed_percent"] = round(
            100 * figures.sampled_missed / (figures.sampled_rollouts or 1), 3
        )
        for name in ("minutes_to_proven", "minutes_to_sync"):
            numbers = sorted(getattr(figures, name))
            for label, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
                at = min(len(numbers) - 1, int(share * len(numbers)))
                found[f"{name}_{label}"] = round(numbers[at], 1) if numbers else None
        found["failed_schedules"] = len(self.failed)
        found["duration_seconds"] = round(self.seconds, 1)
        return found


def run(seeds: Iterable[int], conditions: Conditions = ANYTHING) -> Result:
    """These schedules, one after the other."""
    result = Result()
    began = time.perf_counter()
    with _collected_afterwards():
        for seed in seeds:
            outcome = Schedule(seed, conditions).run()
            result.figures.add(outcome.figures)
            if outcome.violations:
                result.failed[seed] = outcome.violations
    result.seconds = time.perf_counter() - began
    return result


@contextmanager
def _collected_afterwards() -> Iterator[None]:
    """Without looking for cycles meanwhile: a few megabytes for each schedule, and a tenth of its time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()


def story(seed: int, conditions: Conditions = ANYTHING) -> list[str]:
    """What led to the first thing that was wrong in a schedule."""
    told = Schedule(seed, conditions, tell=True).run().story
    at = next((n for n, line in enumerate(told) if "VIOLATION" in line or "UNFOUNDED" in line), len(told))
    return told[max(0, at - LINES_BEFORE_A_VIOLATION) : at + 1]


def render(result: Result) -> str:
    """The figures as a table."""
    found = result.to_json()
    width = max(map(len, found))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in found.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.soak", description=__doc__)
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first schedule; the others follow")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--keep", action="store_true", help="keep the figures in tests/results.json")
    asked = parser.parse_args(arguments)
    began = time.perf_counter()
    result = Result()
    for part in _parts(range(asked.seed, asked.seed + asked.schedules), asked.jobs):
        result.add(part)
    result.seconds = time.perf_counter() - began
    sys.stdout.write(f"{render(result)}\n{json.dumps(result.to_json())}\n")
    for seed, violations in itertools.islice(sorted(result.failed.items()), 20):
        sys.stdout.write(f"seed {seed}: {violations[0]} ({len(violations)} in all)\n")
    if asked.keep:
        keep("soak", result.to_json())
    if not result.failed:
        return int(result.figures.judged < LEAST_VERDICTS * asked.schedules)
    sys.stdout.write("\n".join(("", "The story of the first:", *story(min(result.failed)), "")))
    return 1


def _parts(seeds: range, jobs: int) -> Iterator[Result]:
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    _be_quiet()
    if jobs <= 1:
        yield from map(run, chunks)
        return
    with ProcessPoolExecutor(jobs, initializer=_be_quiet) as pool:
        yield from pool.map(run, chunks)


def _be_quiet() -> None:
    """The product's warnings about its ledger would be most of what is printed."""
    logging.getLogger("rotation").setLevel(logging.CRITICAL)


if __name__ == "__main__":
    sys.exit(main())
