"""`make sandbox` as a person uses it: the commands that it prints are run as printed."""

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    shutil.which("curl") is None, reason="curl is not installed: it is what is tried"
)


@pytest.fixture(name="guide")
def running_sandbox() -> Iterator[tuple[dict[str, str], subprocess.Popen[str]]]:
    """A running `python -m sandbox`, and the commands it printed, by their labels."""
    command = [sys.executable, "-m", "sandbox"]
    with subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        try:
            printed = ""
            while "Ctrl-C" not in printed:
                line = process.stdout.readline()
                assert line, process.stderr and process.stderr.read()
                printed += line
            joined = printed.replace("\\\n", " ")
            yield dict(re.findall(r"^(\w[\w ]+?) {2,}(curl .*)$", joined, re.MULTILINE)), process
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)


def run(command: str, folder: Path) -> str:
    """What a shell command prints; it must succeed, and HTTP with it."""
    done = subprocess.run(  # noqa: S602 - as a person would paste it
        command.replace("curl ", "curl --fail-with-body --max-time 30 ", 1),
        shell=True,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def test_every_printed_command_does_what_its_label_says(
    guide: tuple[dict[str, str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    """Renew, lose events, pass time, look, resync, run the timer, post an event; Ctrl-C ends with 0."""
    commands, process = guide
    assert {
        "Renew", "Lose events", "Pass time", "What is so", "App Insights", "Status", "Dry run", "Resync",
        "Timer now", "Any event",
    } == set(commands)  # fmt: skip

    assert '"dropping": 1' in run(commands["Lose events"], tmp_path)
    assert "thumbprint" in run(commands["Renew"], tmp_path)
    assert '"ObserveOnly"' in run(commands["Dry run"], tmp_path)
    assert '"outcome": "accepted"' in run(commands["Resync"], tmp_path)
    assert '"provisioningState": "Updating"' in run(commands["What is so"], tmp_path)
    for _ in range(7):
        assert "now" in run(commands["Pass time"], tmp_path)
    run(commands["Timer now"], tmp_path)
    (tmp_path / "event.json").write_text(
        '[{"id": "x", "eventType": "Contoso.Surprise", "subject": "y", "data": {}}]'
    )
    run(commands["Any event"], tmp_path)
    assert '"settings"' in run(commands["Status"], tmp_path)
    assert "RunCompleted" in run(commands["App Insights"], tmp_path)

    process.send_signal(signal.SIGINT)
    assert 0 == process.wait(30)
