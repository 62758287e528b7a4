"""The canary secrets of every test run: planted, looked for at every way out, and found there."""

import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import witness
from sandbox.event_grid_topic import HOST as TOPIC
from sandbox.host.process import FunctionsHost
from sandbox.stage import Stage
from sandbox.world import Hostname, World

PROJECT = Path(__file__).resolve().parents[1]


def test_every_way_out_of_the_app_is_looked_at() -> None:
    """A rotation with notices, looked at over HTTP: its log, answers, page, telemetry, ledger and notices."""
    witness.places.clear()
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
    world.add_service("apim-contoso", hostnames=(Hostname("api.contoso.com", certificate=certificate),))
    with Stage(world, {"ROTATION_NOTICES": f"https://{TOPIC}/api/events"}) as stage:
        certificate.renew()
        stage.settle()
        certificate.disable()
        stage.tick()
        assert 200 == stage.host.request("GET", "/api/page", key="function").status

    assert {"log", "answer", "telemetry", "ledger", "notice"} == set(witness.places)
    assert [] == witness.take()


LEAKY = """
import logging, os
import azure.functions as func
app = func.FunctionApp()

@app.route("leak")
def leak(req: func.HttpRequest) -> str:
    logging.getLogger("leaky").warning("the environment is %s", os.environ["SECRET"])
    return req.headers["x-functions-key"]
"""


def test_an_app_that_prints_and_answers_secrets_is_found_out(tmp_path: Path) -> None:
    """A setting in the log and a key in an answer: both are found, with their places."""
    (tmp_path / "function_app.py").write_text(LEAKY)
    with FunctionsHost(tmp_path, {"SECRET": f"AccountKey={witness.canary()}"}) as host:
        host.request("GET", "/api/leak", key="function")

    assert ["answer: GET /api/leak", "log"] == sorted(leak.partition(": …")[0] for leak in witness.take())


@pytest.mark.parametrize(
    "said",
    [
        witness.canary(),
        witness.canary_key(),
        f'{{"x": "{witness.canary()}"}}',
        witness.INSTRUMENTATION_KEY.upper(),
    ],
    ids=["token", "key", "in JSON", "instrumentation key"],
)
def test_a_secret_is_a_leak_but_in_the_answer_to_who_sent_it(said: str) -> None:
    """The page's links carry the key that came in its URL; nothing else may."""
    witness.told("answer: GET /api/page", said, asked=f"/api/page?code={said}")
    assert [] == witness.take()
    witness.told("answer: GET /api/page", said, asked="/api/page")
    assert 1 == len(witness.take())


def test_a_private_key_is_a_secret_too() -> None:
    """Key Vault's keys are in the sandbox, and no place for them is outside of it."""
    witness.told("log", "-----BEGIN EC PRIVATE KEY-----\nMHc")
    assert 1 == len(witness.take())


def test_a_test_in_which_a_secret_gets_out_fails(tmp_path: Path) -> None:
    """The hook of tests/conftest.py, in a run of its own."""
    (tmp_path / "test_leak.py").write_text(
        'from sandbox import witness\ndef test_leak():\n    witness.told("log", witness.canary())\n'
    )
    run = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    ran = subprocess.run(
        [*run, "--rootdir", str(tmp_path), "-c", str(PROJECT / "pyproject.toml"), str(tmp_path)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 1 == ran.returncode, ran.stdout + ran.stderr
    assert "A secret has left the app" in ran.stdout
