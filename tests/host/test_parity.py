"""The host's back end against Microsoft's azure-functions-runtime: the same app behaves the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.host.helpers import SAMPLE_APP, Notes, needs_runtime, run_backend

pytestmark = needs_runtime

TICK = {"Schedule": {"AdjustForDST": True}, "ScheduleStatus": None, "IsPastDue": True}
EVENT = {"id": "1", "subject": "s", "eventType": "t", "eventTime": "2026-03-02T10:00:00Z", "data": {"a": 1}}
CLOUD_EVENT = {"specversion": "1.0", "id": "2", "subject": "s", "type": "t", "source": "/v", "data": {"b": 2}}
CALLS = [
    {
        "function": "echo",
        "input": {"method": "POST", "params": {"id": "3"}, "query": {"a": "b"}, "body": "hi"},
    },
    {"function": "plain", "input": {"query": {"name": "you"}}},
    {"function": "boom"},
    {"function": "number"},
    {"function": "tick", "input": TICK},
    {"function": "arrived", "input": EVENT},
    {"function": "arrived", "input": CLOUD_EVENT},
    {"function": "arrived", "input": {**EVENT, "data": {"fail": True}}},
    {"function": "talkative", "input": CLOUD_EVENT},
]
OWN_OF_EACH_CALL = ("invocation_id", "trace_parent", "trace_parent_of_old")


def run(backend: str, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """What the runner answers, and the notes that the functions left."""
    folder.mkdir()
    notes = Notes(folder)
    answer = run_backend(backend, SAMPLE_APP, CALLS, notes.env)
    return answer, notes.path.read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The same calls through both back ends, each in a process of its own."""
    folder = tmp_path_factory.mktemp("parity")
    return run("runtime", folder / "runtime"), run("sdk", folder / "sdk")


def comparable(result: dict[str, Any]) -> dict[str, Any]:
    """A result without what belongs to one call; of an error only its class, because the wording differs."""
    value, error = result["value"], result["error"]
    if isinstance(value, dict):
        body = json.loads(value["body"])
        value = {**value, "body": {name: body[name] for name in body if name not in OWN_OF_EACH_CALL}}
    return {**result, "value": value, "error": error and error.split(":")[0]}


def test_both_see_the_same_functions_and_raw_bindings(both: tuple[Any, Any]) -> None:
    """Proves that what the host routes by is what the real host would be told."""
    (runtime, _), (sdk, _) = both
    assert sdk["functions"] == runtime["functions"]
    assert len(sdk["functions"]) > 10


def test_both_give_the_same_results(both: tuple[Any, Any]) -> None:
    """Proves success, failure and values of every trigger."""
    (runtime, _), (sdk, _) = both
    assert [comparable(result) for result in sdk["results"]] == [
        comparable(result) for result in runtime["results"]
    ]
    assert [result["ok"] for result in sdk["results"]] == [
        True,
        True,
        False,
        False,
        True,
        True,
        True,
        False,
        False,
    ]


def test_both_hand_the_functions_the_same_objects(both: tuple[Any, Any]) -> None:
    """Proves what the functions saw, by the notes they left: classes, ids, data, past due."""
    (_, of_runtime), (_, of_sdk) = both
    assert of_sdk == of_runtime
    assert len(of_sdk) == 5
