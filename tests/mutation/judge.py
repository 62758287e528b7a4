"""How many mutants of what decides do the unit tests kill: `python -m tests.mutation.judge`.

The tests are collected once. For each mutant a forked process takes the change over into the modules that the
tests have imported, and runs them until one fails. Those that survive are shown to the simulator as well. The
figures and the survivors are kept in result.json, next to this program.
"""

import argparse
import json
import logging
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from itertools import islice, zip_longest
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

from tests.mutation.mutants import Mutant, mutants

ROOT = Path(__file__).resolve().parents[2]
RESULT = Path(__file__).with_name("result.json")
LESS = {"EVERY_NTH_CASE": "47", "MACHINE_EXAMPLES": "15"}
"""A mutant that a part of the enumeration and of the machine's runs kills is killed by the whole."""

TESTS = {
    "verdict": ("test_verdict", "test_kinds", "test_verdict_in_front", "test_verdict_enumeration"),
    "plan": ("test_plan", "test_brakes", "test_kinds", "test_plan_machine"),
    "history": ("test_history", "test_kinds", "test_plan_machine"),
    "brakes": ("test_brakes", "test_plan"),
    "inventory": ("test_inventory", "test_brakes"),
}
CPU_SECONDS = 60
SCHEDULES = 20


class Judge:
    """A pytest plugin that runs the collected tests over and over, each time over another mutant."""

    def __init__(
        self, asked: Iterable[Mutant], modules: Collection[str], jobs: int, *, simulate: bool
    ) -> None:
        self.asked = asked
        self.modules = modules
        self.jobs = jobs
        self.simulate = simulate
        self.by_tests: dict[Mutant, bool] = {}
        self.by_simulation: dict[Mutant, bool] = {}
        self._failed = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Notice a red test."""
        self._failed |= report.failed

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Take the place of pytest's own loop."""
        import hypothesis

        unshrunk = [phase for phase in hypothesis.Phase if phase is not hypothesis.Phase.shrink]
        hypothesis.settings.register_profile(
            "mutants", hypothesis.settings.get_profile("unit"), phases=unshrunk
        )
        hypothesis.settings.load_profile("mutants")
        items = {
            module: [item for name in names for item in session.items if item.path.stem == name]
            for module, names in TESTS.items()
        }
        for module, tests in items.items():
            if module not in self.modules:
                continue
            process, told = _forked(partial(self._red, tests))
            if os.waitpid(process, 0)[1]:
                pytest.exit(f"red without any mutant, {module}: {told()}", returncode=1)
        self.by_tests = self._each(self.asked, lambda mutant: self._red(items[mutant.module]), items)
        if self.simulate:
            survivors = [mutant for mutant, killed in self.by_tests.items() if not killed]
            self.by_simulation = self._each(survivors, lambda _: _simulation_is_red(), {})
        return True

    def _red(self, items: Sequence[pytest.Item]) -> str | None:
        """The first test that fails."""
        for item, following in zip_longest(items, items[1:]):
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            if self._failed:
                return item.nodeid
        return None

    def _each(
        self,
        asked: Iterable[Mutant],
        red: Callable[[Mutant], str | None],
        items: dict[str, list[pytest.Item]],
    ) -> dict[Mutant, bool]:
        """Whether each mutant was killed; the test that killed the last one of a module goes first."""
        killed: dict[Mutant, bool] = {}
        running: dict[int, tuple[Mutant, Callable[[], str]]] = {}

        def wait() -> None:
            process, status = os.wait()
            mutant, told = running.pop(process)
            killed[mutant] = status != 0
            by = told()
            if by:
                items.get(mutant.module, []).sort(key=lambda item: item.nodeid != by)
            if not killed[mutant]:
                sys.stderr.write(f"survives: {mutant.name}\n")
            if len(killed) % 50 == 0:
                sys.stderr.write(f"{len(killed)} judged, {sum(killed.values())} killed\n")

        for mutant in asked:
            if len(running) >= self.jobs:
                wait()
            process, told = _forked(partial(_over, mutant, red))
            running[process] = mutant, told
        while running:
            wait()
        return killed


def _over(mutant: Mutant, red: Callable[[Mutant], str | None]) -> str | None:
    take_over(import_module(f"rotation.{mutant.module}"), mutant)
    return red(mutant)


def _forked(red: Callable[[], str | None]) -> tuple[int, Callable[[], str]]:
    """The process that finds out, and what it has found red: it ends with 0 only where all is green."""
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)

        def told() -> str:
            with os.fdopen(reading, encoding="utf-8") as pipe:
                return pipe.read()

        return process, told
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        found = red()
        os.write(writing, (found or "").encode())
        os._exit(1 if found else 0)
    finally:
        os._exit(1)


def _simulation_is_red() -> str | None:
    from tests.simulation.soak import run

    logging.getLogger("rotation").setLevel(logging.CRITICAL)
    return next((f"seed {seed}" for seed in range(SCHEDULES) if run([seed]).failed), None)


def take_over(module: ModuleType, mutant: Mutant) -> None:
    """Change a module that others have imported from: functions in place, constants wherever they went."""
    fresh = ModuleType(module.__name__)
    exec(mutant.code, vars(fresh))  # noqa: S102 - the mutant
    for name, old in list(vars(module).items()):
        new = vars(fresh).get(name)
        if getattr(old, "__module__", module.__name__) != module.__name__ or name.startswith("__"):
            continue
        if isinstance(old, FunctionType | type):
            _take_over(old, new)
        elif not isinstance(old, ModuleType):
            ours = [of for at, of in sys.modules.items() if at.startswith(("rotation", "tests"))]
            for other in ours:
                for alias, value in list(vars(other).items()):
                    if value is old:
                        setattr(other, alias, new)


def _take_over(old: Any, new: Any) -> None:
    if isinstance(old, FunctionType):
        old.__code__, old.__defaults__, old.__kwdefaults__ = (
            new.__code__,
            new.__defaults__,
            new.__kwdefaults__,
        )
    elif isinstance(old, property):
        _take_over(old.fget, new.fget)
    elif isinstance(old, type):
        for name, member in vars(old).items():
            if isinstance(member, FunctionType | property):
                _take_over(member, vars(new)[name])


def judge(
    modules: Collection[str],
    jobs: int,
    *,
    only: Collection[str] | None = None,
    every: int = 1,
    simulate: bool = False,
) -> Judge:
    """Collect the tests and run them over the mutants of these modules, or over those with these names.

    Raises:
        SystemExit: the tests are red without any mutant.
    """
    os.environ |= LESS
    import_module("tests.simulation.soak")
    every_one = (
        m for name in modules for m in mutants(name, (ROOT / f"rotation/{name}.py").read_text("utf-8"))
    )
    asked = islice((m for m in every_one if only is None or m.name in only), 0, None, every)
    plugin = Judge(asked, modules, jobs, simulate=simulate)
    files = dict.fromkeys(f"tests/unit/{name}.py" for names in TESTS.values() for name in names)
    options = ("-qq", "-s", "-p", "no:cacheprovider", "-o", "timeout=0", "--rootdir", str(ROOT))
    status = pytest.main([*options, *(str(ROOT / file) for file in files)], plugins=[plugin])
    if status:
        raise SystemExit(status)
    return plugin


def figures(found: Judge, kept: Mapping[str, Any] | None) -> dict[str, Any]:
    """What result.json keeps: of this run, or of the one before with its survivors judged again."""
    if kept:
        counts = {module: dict(count) for module, count in kept["modules"].items()}
    else:
        judged = Counter(mutant.module for mutant in found.by_tests)
        counts = {module: {"mutants": judged[module], "killed": 0} for module in TESTS}
    for mutant, killed in found.by_tests.items():
        counts[mutant.module]["killed"] += killed
    survivors = {
        m.name: found.by_simulation.get(m, False) for m, killed in found.by_tests.items() if not killed
    }
    return {"modules": counts, "survivors": survivors}


def render(result: Mapping[str, Any]) -> str:
    """The figures as the table of docs/mutants.md."""
    rows = [(f"`{name}.py`", *count.values()) for name, count in result["modules"].items()]
    rows.append(("in all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    lines = [f"| {name} | {n} | {killed} | {100 * killed / n:.1f} % |" for name, n, killed in rows if n]
    return "\n".join(("| module | mutants | killed by the unit tests | share |", "|---|---|---|---|", *lines))


def main(arguments: Sequence[str] | None = None) -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation.judge", description=__doc__)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.add_argument("--survivors", action="store_true", help="only those of the result that is kept")
    parser.add_argument("--module", choices=TESTS, help="only this one; no result is kept")
    parser.add_argument("--simulate", action="store_true", help="show survivors to the simulator")
    parser.add_argument("--every", type=int, default=1, help="only every so manieth; no result is kept")
    asked = parser.parse_args(arguments)
    began = time.monotonic()
    kept = json.loads(RESULT.read_text(encoding="utf-8")) if asked.survivors else None
    modules = [asked.module] if asked.module else list(TESTS)
    only = kept["survivors"] if kept else None
    found = judge(modules, asked.jobs, only=only, every=asked.every, simulate=asked.simulate)
    result = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "cores": os.cpu_count(),
        "minutes": round((time.monotonic() - began) / 60),
        **figures(found, kept),
    }
    if kept:
        result |= {name: kept[name] for name in ("date", "cores", "minutes")}
    sys.stdout.write(f"{render(result)}\n\nSurvivors:\n")
    for name, told in result["survivors"].items():
        sys.stdout.write(f"{name}{' (the simulator turns red)' * told}\n")
    if asked.every == 1 and asked.module is None:
        RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
