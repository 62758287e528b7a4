"""Starts the host as a process of its own and talks to it: the client side for tests and the demo.

A process, because function_app.py keeps state in its module and in the environment, as in Azure.
"""

import http.client
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from email.message import Message
from json import dumps, loads
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlsplit

from sandbox.witness import told

if TYPE_CHECKING:
    from sandbox.host.forked import Forked

_ROOT = Path(__file__).resolve().parents[2]
_READY_SECONDS = 30.0
_STOP_SECONDS = 15.0  # more than the host itself gives running invocations


class HostError(RuntimeError):
    """The host did not start or did not do what it was asked; the message holds its log."""


@dataclass(frozen=True, slots=True)
class Response:
    """What came back."""

    status: int
    headers: Message
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON."""
        return loads(self.body)


class FunctionsHost:
    """A running host: `with FunctionsHost(app_dir, env) as host: ...`.

    app_dir holds function_app.py; env comes on top of this process's environment; clock_url tells the time;
    forked is for who starts many (`sandbox.host.forked`).
    """

    def __init__(
        self,
        app_dir: Path,
        env: Mapping[str, str] | None = None,
        clock_url: str | None = None,
        *,
        forked: bool = False,
    ) -> None:
        self._arguments = ["--app", str(Path(app_dir).resolve())]
        self._arguments += ["--clock", clock_url] if clock_url else []
        self._env = {**os.environ, **(env or {})}
        self._forked = forked
        self._log = ""
        self.url = ""
        self.functions: list[str] = []
        self.refused: dict[str, str] = {}
        self.keys: dict[str, str] = {}
        self.exit_code: int | None = None

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="functions-host-")
        self._log_file = Path(self._folder.name, "stderr.log")
        self._process = self._start()
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id of the host."""
        return self._process.pid

    def log(self) -> str:
        """What the host has written to stderr so far; also after it stopped."""
        return self._log or self._log_file.read_text(encoding="utf-8", errors="replace")

    def request(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        timeout: float = 60.0,
    ) -> Response:
        """Send one request; key is the name of one of the host's keys or a literal one, sent as a header."""
        sent = dict(headers or {})
        if key is not None:
            sent["x-functions-key"] = self.keys.get(key, key)
        if json is not None:
            body = dumps(json).encode()
            sent.setdefault("Content-Type", "application/json")
        with closing(http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=timeout)) as connection:
            connection.request(method, path, body=body, headers=sent)
            answer = connection.getresponse()
            received = Response(answer.status, answer.headers, answer.read())
        told(f"answer: {method} {path}", answer.headers.as_bytes() + received.body, path)
        return received

    def event_grid_url(self, function_name: str) -> str:
        """The webhook URL that an event subscription of this function has, with its key."""
        code = self.keys["eventgrid_extension"]
        return f"{self.url}/runtime/webhooks/EventGrid?functionName={quote(function_name)}&code={code}"

    def run(self, function_name: str, given: object = "", *, timeout: float = 60.0) -> None:
        """Run a function by the admin endpoint and wait for its end; whether it failed is in the log only."""
        path = f"/admin/functions/{quote(function_name)}"
        answer = self.request("POST", path, json={"input": given}, key="master", timeout=timeout)
        if answer.status != 202:
            raise HostError(f"POST {path} was answered with {answer.status}\n{self.log()}")
        self.wait_idle(timeout=timeout)

    def put(self, queue: str, text: str) -> None:
        """Put a message on a queue of the app's storage account."""
        answer = self.request("POST", f"/admin/sandbox/queues/{quote(queue)}", body=text.encode())
        if answer.status != 201:
            raise HostError(f"the queue {queue} did not take a message: {answer.status}\n{self.log()}")

    def messages(self, queue: str) -> list[str]:
        """The messages that wait in a queue, as far as they are visible."""
        found: list[str] = self.request("GET", f"/admin/sandbox/queues/{quote(queue)}").json()
        return found

    def wait_idle(self, *, timeout: float = 60.0) -> None:
        """Wait until every timer that is due by the host's clock has run and no invocation is running."""
        answer = self.request("GET", "/admin/sandbox/idle", timeout=timeout)
        if answer.status != 204:
            raise HostError(f"the host did not become idle: {answer.status}\n{self.log()}")

    def kill(self) -> None:
        """End the host as a crash would: at once, running invocations lost."""
        self._process.kill()
        self.stop()

    def stop(self) -> None:
        """Ask the host to end, wait, and insist; harmless if it has ended."""
        if self.exit_code is not None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.exit_code = self._process.returncode
        if self._process.stdout:
            self._process.stdout.close()
        self._log = self.log()
        told("log", self._log)
        self._folder.cleanup()

    def _start(self) -> "subprocess.Popen[str] | Forked":
        with self._log_file.open("wb") as log:
            if self._forked:
                from sandbox.host.forked import Forked

                return Forked(self._arguments, _ROOT, self._env, self._log_file)
            command = [sys.executable, "-m", "sandbox.host", *self._arguments]
            return subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, cwd=_ROOT, env=self._env, text=True
            )

    def _wait_until_ready(self) -> None:
        assert self._process.stdout is not None
        lines: list[str] = []
        # Read in a thread, because a pipe cannot be read with a time limit.
        reader = threading.Thread(
            target=lambda out: lines.append(out.readline()), args=[self._process.stdout]
        )
        reader.start()
        reader.join(_READY_SECONDS)
        if reader.is_alive():
            self._process.kill()
            reader.join()
        if not lines or not lines[0]:
            self.stop()
            raise HostError(f"the Functions host did not start (exit code {self.exit_code}):\n{self.log()}")
        ready = loads(lines[0])
        self.url, self.functions, self.refused = ready["url"], ready["functions"], ready["refused"]
        self.keys = ready["keys"]
