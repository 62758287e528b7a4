"""Storage queues of the host: batches, messages that fail, poison, and what a function puts on a queue."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sandbox.host.process import FunctionsHost
from sandbox.witness import canary_key

ROOT = Path(__file__).resolve().parents[2]
APP = """
import json, os
from typing import List
import azure.functions as func

app = func.FunctionApp()


@app.function_name("put")
@app.timer_trigger(arg_name="timer", schedule="0 0 0 29 2 *")
@app.queue_output(arg_name="out", queue_name="work", connection="AzureWebJobsStorage")
async def put(timer: func.TimerRequest, out: func.Out[List[str]]) -> None:
    out.set(["one", "two", "bad"])


@app.function_name("take")
@app.queue_trigger(arg_name="message", queue_name="work", connection="AzureWebJobsStorage")
async def take(message: func.QueueMessage) -> None:
    text = message.get_body().decode()
    with open(os.environ["SEEN"], "a") as seen:
        told = [text, message.dequeue_count, bool(message.id), bool(message.pop_receipt)]
        seen.write(json.dumps(told) + "\\n")
    if text == "bad":
        raise ValueError("as asked")
"""
KEY = canary_key()


@pytest.fixture(params=["in memory", "Azurite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """What AzureWebJobsStorage says: nothing, or where Microsoft's emulator of queues is."""
    if request.param == "in memory":
        yield ""
        return
    table = os.environ.get("AZURITE", str(ROOT / ".azurite/node_modules/azurite/dist/src/table/main.js"))
    program, node = Path(table).parents[1] / "queue/main.js", shutil.which("node")
    if node is None or not program.exists():
        pytest.skip("Azurite or node is not installed: tests/clients/azurite.py says how")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [node, str(program), "--queueHost", "127.0.0.1", "--queuePort", str(port)]
    command += ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    with (tmp_path / "azurite.log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=os.environ | {"AZURITE_ACCOUNTS": f"queues:{KEY}"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until and process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield f"AccountName=queues;AccountKey={KEY};QueueEndpoint=http://127.0.0.1:{port}/queues;"
    finally:
        process.terminate()
        process.wait(15)


def test_messages_are_worked_on_and_what_fails_five_times_is_poison(tmp_path: Path, storage: str) -> None:
    """Proves output binding, trigger, dequeue count and the poison queue, against the emulator as well."""
    seen = tmp_path / "seen"
    (tmp_path / "function_app.py").write_text(APP)
    (tmp_path / "host.json").write_text('{"version": "2.0", "extensions": {"queues": {"batchSize": 2}}}')
    with FunctionsHost(tmp_path, {"AzureWebJobsStorage": storage, "SEEN": str(seen)}) as host:
        assert {} == host.refused
        host.run("put")
        until = time.monotonic() + 30  # the emulator shows a message again when its own clock has moved on
        while not host.messages("work-poison") and time.monotonic() < until:
            time.sleep(0.1)
        noted = [json.loads(line) for line in seen.read_text().splitlines()]

        assert [["bad", n, True, True] for n in range(1, 6)] == [note for note in noted if note[0] == "bad"]
        assert [["one", 1, True, True], ["two", 1, True, True]] == sorted(n for n in noted if n[0] != "bad")
        assert ["bad"] == host.messages("work-poison")
        assert [] == host.messages("work")
        assert "Moving message to queue 'work-poison'" in host.log()
