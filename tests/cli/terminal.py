"""The real command line as a process, in front of the pretend Azure."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

from sandbox.azure import Azure
from sandbox.witness import told
from sandbox.world import Service, World

PROJECT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((PROJECT / "docs" / "cli.schema.json").read_text())
SECONDS = 100
_HEEDING_SIGINT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, "-m", "rotation", *sys.argv[1:]])
"""


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    def __post_init__(self) -> None:
        told("terminal", self.out + self.err)

    @property
    def rows(self) -> list[list[str]]:
        """Lines of fields, as pipes get them."""
        return [line.split("\t") for line in self.out.splitlines()]

    @property
    def answers(self) -> list[dict[str, Any]]:
        """The JSON answers, each held against the documented schema."""
        found = [json.loads(line) for line in self.out.splitlines()]
        for answer in found:
            jsonschema.validate(answer, SCHEMA, jsonschema.Draft202012Validator)
        assert self.code == found[-1]["exit_code"]
        return found

    @property
    def result(self) -> Any:
        """What the last answer carries."""
        return self.answers[-1]["result"]


class Terminal:
    """Somebody's shell: an environment and a folder for the ledger."""

    def __init__(self, azure: Azure, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self.azure = azure
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.environment = {
            **kept,
            **azure.app_settings(),
            "ROTATION_LEDGER": str(folder / "ledger.sqlite"),
            "PYTHONWARNINGS": "error",
            **(settings or {}),
        }

    def run(self, *arguments: str, **settings: str) -> Ran:
        """Run a command in a pipe."""
        done = subprocess.run(
            [sys.executable, "-m", "rotation", *arguments],
            cwd=PROJECT,
            env=self.environment | settings,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def run_and(self, then: Callable[[subprocess.Popen[str]], object], *arguments: str) -> Ran:
        """Run a command in a pipe, and do something when it has written its first line.

        Ctrl-C reaches it also where whoever runs the tests ignores that, as what a script starts with & does.
        """
        with subprocess.Popen(
            [sys.executable, "-c", _HEEDING_SIGINT, *arguments],
            cwd=PROJECT,
            env=self.environment | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout
            first = process.stdout.readline()
            then(process)
            rest, said = process.communicate(timeout=SECONDS)
            return Ran(process.returncode, first + rest, said)

    def look(self, *arguments: str, **settings: str) -> Ran:
        """Run a command on a terminal of 200 columns."""
        leader, follower = pty.openpty()
        environment = self.environment | {"COLUMNS": "200", "TERM": "xterm-256color"} | settings
        with subprocess.Popen(
            [sys.executable, "-m", "rotation", *arguments],
            cwd=PROJECT,
            env=environment,
            stdin=follower,
            stdout=follower,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            os.close(follower)
            shown = b"".join(_read(leader))
            os.close(leader)
            code = process.wait(SECONDS)
            assert process.stderr
            return Ran(code, shown.decode(), process.stderr.read())


def _read(leader: int) -> Iterator[bytes]:
    """What a terminal is sent until its last writer has gone, which Linux tells by an error."""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:
            return
        if not piece:
            return
        yield piece


@contextmanager
def shell(world: World, folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Terminal]:
    """A shell in front of a world."""
    with Azure(world) as azure:
        yield Terminal(azure, folder, settings)


def at(azure: Azure, service: Service) -> str:
    """HOST:PORT of a service's main region, for `probe --connect`."""
    return f"127.0.0.1:{azure.connect_to[service.regional_host(service.location)]}"
