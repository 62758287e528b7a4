"""What the tests of the host share: a clock to move, and the notes that the sample app leaves."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from sandbox.host.process import FunctionsHost

SAMPLE_APP = Path(__file__).parent / "sample_app"
needs_runtime = pytest.mark.skipif(
    find_spec("azure_functions_runtime") is None,
    reason="azure-functions-runtime is not installed: it needs Python 3.13 or newer",
)


class ClockServer:
    """Tells the host a time that only moves when the test moves it."""

    def __init__(self, now: datetime = datetime(2026, 3, 2, 9, 59, 30, tzinfo=UTC)) -> None:
        self.now = now

    def __enter__(self) -> Self:
        clock = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10

            def do_GET(self) -> None:
                body = json.dumps({"now": clock.now.isoformat()}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing: twenty lines a second help no one."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01])
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    @property
    def url(self) -> str:
        """Where the host asks."""
        return f"http://127.0.0.1:{self._server.server_port}/now"

    def advance(self, **by: float) -> None:
        """Move the time on by so many seconds, minutes, hours or days."""
        self.now += timedelta(**by)


class Notes:
    """What the functions of the sample app noted, in order."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notes.jsonl"
        self.env = {"SAMPLE_NOTES": str(self.path), "SAMPLE_SCHEDULE": "0 0 * * * *"}

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The notes of one kind."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        return [note for note in map(json.loads, lines) if note["kind"] == kind]

    def clear(self) -> None:
        """Forget them."""
        self.path.unlink(missing_ok=True)


def run_backend(
    backend: str, app: Path, calls: Sequence[object] = (), env: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Index the app and make the calls in a process of their own: 'runtime' is Microsoft's, 'sdk' ours."""
    runner = Path(__file__).with_name("runtime_runner.py")
    done = subprocess.run(
        [sys.executable, str(runner), str(app), "--backend", backend],
        input=json.dumps(calls),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, **(env or {})},
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def wait_for_line(host: FunctionsHost, text: str) -> None:
    """Wait until the host has logged the text."""
    pause = threading.Event()
    for _ in range(500):
        if text in host.log():
            return
        pause.wait(0.01)
    raise AssertionError(f"{text!r} did not come up in:\n{host.log()}")
