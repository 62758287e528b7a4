"""A host as a fork of a process that has the libraries loaded, which is four fifths of what a host costs.

For tests, which start hundreds. Its app, its environment and its end are its own, as those of a process that
was started afresh; what only a fresh one shows, an import that is missing, is left to the demo.
"""

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from subprocess import TimeoutExpired

from sandbox.host.__main__ import main

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["sandbox.host.loaded"])


class Forked:
    """The part of `subprocess.Popen` that `FunctionsHost` has a use for."""

    def __init__(
        self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path
    ) -> None:
        ours, theirs = _FORKS.Pipe(duplex=False)
        self._process = _FORKS.Process(
            target=_be_a_host, args=(arguments, folder, dict(environment), theirs, log), daemon=True
        )
        self._process.start()
        theirs.close()
        self.stdout = os.fdopen(os.dup(ours.fileno()), encoding="utf-8")
        ours.close()
        self.pid = self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        """How it ended, negative by a signal; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            TimeoutExpired: it has not come in time.
        """
        self._process.join(timeout)
        if self.returncode is None:
            raise TimeoutExpired("sandbox.host", timeout or 0)
        return self.returncode


def _be_a_host(
    arguments: Sequence[str], folder: Path, environment: dict[str, str], stdout: Connection, log: Path
) -> None:
    os.dup2(stdout.fileno(), 1)
    stdout.close()
    os.dup2(os.open(log, os.O_WRONLY), 2)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["sandbox.host", *arguments]
    main()
