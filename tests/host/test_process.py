"""The host as a process: how it ends, what it leaves running, and that its output can be trusted."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sandbox.host.process import FunctionsHost, HostError, Response
from tests.host.helpers import SAMPLE_APP, Notes, wait_for_line

either_way = pytest.mark.parametrize("forked", [False, True], ids=["fresh", "forked"])
"""A host that is a fork is a process like another."""


def test_the_ready_line_is_all_that_comes_on_stdout(tmp_path: Path) -> None:
    """Proves that a program may read one line of JSON, though the app prints at import."""
    source = "import azure.functions as func\napp = func.FunctionApp()\nprint('noise')\n"
    source += "@app.route('f')\ndef f(req: func.HttpRequest) -> str: return 'f'\n"
    tmp_path.joinpath("function_app.py").write_text(source, encoding="utf-8")
    command = [sys.executable, "-m", "sandbox.host", "--app", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        rest, log = process.communicate(timeout=20)
    assert set(ready) == {"url", "functions", "refused", "keys"}
    assert set(ready["keys"]) == {"master", "function", "eventgrid_extension"}
    assert ready["functions"] == ["f"]
    assert (rest, process.returncode) == ("", 0)
    assert "noise" in log


@either_way
def test_a_running_invocation_may_end_before_the_host_does(notes: Notes, *, forked: bool) -> None:
    """Proves that SIGTERM takes no answer away from a caller who waits, and that the exit is clean."""
    answers: list[Response] = []
    with FunctionsHost(SAMPLE_APP, notes.env, forked=forked) as host:
        slow = threading.Thread(target=lambda: answers.append(host.request("GET", "/api/slow?seconds=0.5")))
        slow.start()
        wait_for_line(host, "Executing 'Functions.slow'")
        host.stop()
        slow.join(10)
    assert [answer.text for answer in answers] == ["slept"]
    assert len(notes.of("slow ended")) == 1
    assert host.exit_code == 0


@either_way
def test_a_stopped_host_takes_no_new_work_and_keeps_its_log(notes: Notes, *, forked: bool) -> None:
    """Proves that the port is free afterwards and that the log can still be read."""
    with FunctionsHost(SAMPLE_APP, notes.env, forked=forked) as host:
        host.request("GET", "/api/plain")
    with pytest.raises(ConnectionRefusedError):
        host.request("GET", "/api/plain")
    assert "Executed 'Functions.plain' (Succeeded" in host.log()


@either_way
def test_a_killed_host_is_gone_at_once(notes: Notes, *, forked: bool) -> None:
    """Proves that kill() is a crash: the caller's connection breaks and the invocation is lost."""
    failures: list[Exception] = []

    def call() -> None:
        try:
            host.request("GET", "/api/slow?seconds=30")
        except (OSError, http.client.HTTPException) as error:
            failures.append(error)

    with FunctionsHost(SAMPLE_APP, notes.env, forked=forked) as host:
        caller = threading.Thread(target=call)
        caller.start()
        wait_for_line(host, "Executing 'Functions.slow'")
        host.kill()
        caller.join(10)
        with pytest.raises(ProcessLookupError):
            os.kill(host.pid, 0)
    assert len(failures) == 1
    assert host.exit_code == -signal.SIGKILL
    assert notes.of("slow ended") == []


def test_idle_waits_for_what_runs(host: FunctionsHost, shared_notes: Notes) -> None:
    """Proves that the host only calls itself idle after the last invocation, here one in a thread."""
    shared_notes.clear()
    slow = threading.Thread(target=host.request, args=["GET", "/api/slow?seconds=0.3"])
    slow.start()
    wait_for_line(host, "Executing 'Functions.slow'")
    host.wait_idle()
    assert len(shared_notes.of("slow ended")) == 1
    slow.join(10)


def test_what_is_not_run_is_named(host: FunctionsHost) -> None:
    """Proves that a trigger this host does not know is no reason to stop, and no secret either."""
    assert host.refused == {"queued": "not run by this host: serviceBusTrigger"}
    assert "The 'queued' function is in error: not run by this host: serviceBusTrigger" in host.log()


def test_running_an_unknown_function_is_an_error(host: FunctionsHost) -> None:
    """Proves that a typing mistake in a test does not look like success."""
    with pytest.raises(HostError, match="answered with 404"):
        host.run("tock")


@either_way
def test_a_clock_that_does_not_answer_is_named(notes: Notes, *, forked: bool) -> None:
    """Proves that a host without its time does not start on another one."""
    with (
        pytest.raises(HostError, match="no time from the clock"),
        FunctionsHost(SAMPLE_APP, notes.env, clock_url="http://127.0.0.1:9/now", forked=forked),
    ):
        pass


@either_way
def test_a_host_has_the_environment_that_it_is_given(tmp_path: Path, *, forked: bool) -> None:
    """Proves that the app finds its own settings, and those of nobody before it."""
    source = "import os\nimport azure.functions as func\napp = func.FunctionApp()\n"
    source += "@app.route('f')\ndef f(req: func.HttpRequest) -> str: return ' '.join(sorted(os.environ))\n"
    tmp_path.joinpath("function_app.py").write_text(source, encoding="utf-8")
    names = []
    for name in ("FIRST_APP", "SECOND_APP"):
        with FunctionsHost(tmp_path, {name: "1"}, forked=forked) as host:
            names.append(host.request("GET", "/api/f", key="function").text.split())

    assert [True, False] == ["FIRST_APP" in seen for seen in names]
    assert [False, True] == ["SECOND_APP" in seen for seen in names]
