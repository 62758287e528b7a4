"""The same doors, led by which lines are reached: `python -m tests.fuzz.guided -runs=100000`.

Needs `pip install atheris`, which is not among the pins, because there are wheels of it for few systems only;
3.0.0 has one for Python 3.11 on Linux. `make fuzz` runs this where it is installed. Options are those of
libFuzzer; `--door NAME` is one door.
"""

import asyncio
import contextlib
import importlib
import logging
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings

from tests.fuzz.egress import Guard

FOUND = Path(".hypothesis")
"""Where an input is left that is a finding."""

SEEDS = 20
"""Inputs to begin with: of an empty one hypothesis makes nothing."""


def _one_door(name: str, options: list[str]) -> None:
    """Fuzz until the runs are done, or an input is a finding; ends the process."""
    atheris: Any = importlib.import_module("atheris")
    logging.getLogger().addHandler(logging.NullHandler())
    guard, loop = Guard(), asyncio.new_event_loop()
    with atheris.instrument_imports(include=["rotation"]):
        from tests.fuzz.doors import DOORS
        from tests.fuzz.planted import PLANTED
        from tests.fuzz.run import Caught

        logging.getLogger("rotation").addHandler(Caught())
        (door,) = (each for each in (*DOORS, *PLANTED) if each.name == name)
        stack = contextlib.AsyncExitStack()
        take = loop.run_until_complete(stack.enter_async_context(door.opened()))

        @settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))
        @given(door.inputs)
        def judge(one: object) -> None:
            loop.run_until_complete(take(one))
            assert [] == Caught.stories
            assert [] == guard.outside

        fuzz_one_input: Any = judge.hypothesis.fuzz_one_input  # type: ignore[attr-defined]
        FOUND.mkdir(exist_ok=True)
        seeds = stack.enter_context(tempfile.TemporaryDirectory())
        for number in range(SEEDS):
            Path(seeds, str(number)).write_bytes(random.Random(number).randbytes(2000))
        limits = ("-timeout=1", "-max_len=4000", f"-artifact_prefix={FOUND}/")
        atheris.Setup([sys.argv[0], *limits, *options, seeds], fuzz_one_input)
        atheris.Fuzz()


def main(arguments: list[str]) -> int:
    """Every door in a process of its own, or one in this; 1 if anything was found."""
    if arguments[:1] == ["--door"]:
        _one_door(arguments[1], arguments[2:])
        return 0
    from tests.fuzz.doors import DOORS

    command = [sys.executable, "-m", "tests.fuzz.guided", "--door"]
    return int(
        any(subprocess.run([*command, door.name, *arguments], check=False).returncode for door in DOORS)
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
