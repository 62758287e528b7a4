"""Apps that pass unit tests and that the real worker refuses: this host refuses them too.

On Python 3.13 Microsoft's own runtime is asked as well, so that our list of checks cannot drift into fiction.
"""

import json
from pathlib import Path

import pytest

from sandbox.host.process import FunctionsHost, HostError
from tests.host.helpers import needs_runtime, run_backend

HEAD = """\
from __future__ import annotations
import asyncio
from typing import TYPE_CHECKING
import azure.functions as func
if TYPE_CHECKING:
    from azure.functions import HttpRequest
app = func.FunctionApp()
"""

A_FUNCTION = "def f(req: func.HttpRequest) -> str: ...\n"

BROKEN = [
    (
        "a union of the two event classes",
        "@app.event_grid_trigger('e')\ndef f(e: func.EventGridEvent | func.CloudEvent) -> None: ...",
        "function 'f': 'e' has invalid non-type annotation",
    ),
    (
        "an annotation imported only for type checkers",
        "@app.route('f')\ndef f(req: HttpRequest) -> str: ...",
        "function 'f': name 'HttpRequest' is not defined",
    ),
    (
        "a parameter without a binding",
        "@app.event_grid_trigger('e')\ndef f(e: func.EventGridEvent, more: str) -> None: ...",
        "function 'f': parameters without a binding: ['more']",
    ),
    (
        "a binding without a parameter",
        "@app.event_grid_trigger('e')\ndef f() -> None: ...",
        "function 'f': bindings without a parameter: ['e']",
    ),
    (
        "the class of another trigger",
        "@app.event_grid_trigger('e')\ndef f(e: func.TimerRequest) -> None: ...",
        "function 'f': eventGridTrigger does not fit the annotation",
    ),
    (
        "an HTTP function that promises None",
        "@app.route('f')\ndef f(req: func.HttpRequest) -> None: ...",
        "function 'f': return annotation",
    ),
    (
        "a context of another class",
        "@app.route('f')\ndef f(req: func.HttpRequest, context: str) -> str: ...",
        "function 'f': 'context' must be a func.Context",
    ),
    (
        "two functions of one name",
        f"@app.route('a')\n{A_FUNCTION}@app.route('b')\n{A_FUNCTION}",
        "Function f does not have a unique function name",
    ),
    ("two apps", "another = func.FunctionApp()", "one FunctionApp at top level, it has 2"),
    ("no app", "del app", "one FunctionApp at top level, it has 0"),
    ("a missing module", "import nothing_of_that_name", "No module named 'nothing_of_that_name'"),
    (
        "a loop of its own at import",
        "asyncio.run(asyncio.sleep(0))",
        "cannot be called from a running event loop",
    ),
]


def write_app(folder: Path, source: str) -> Path:
    """An app of the shared head and one mistake."""
    folder.joinpath("function_app.py").write_text(f"{HEAD}{source}\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(("source", "cause"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_an_app_that_the_worker_refuses_does_not_start(tmp_path: Path, source: str, cause: str) -> None:
    """Proves exit code 1 and a log that names the function and the cause."""
    with pytest.raises(HostError) as refusal, FunctionsHost(write_app(tmp_path, source)):
        pass
    assert cause in str(refusal.value)
    assert "exit code 1" in str(refusal.value)


@needs_runtime
@pytest.mark.parametrize("source", [b[1] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_microsofts_runtime_refuses_the_same_app(tmp_path: Path, source: str) -> None:
    """Proves that the checks above are the worker's and not ours: same verdict, other words."""
    assert "refused" in run_backend("runtime", write_app(tmp_path, source))


def test_a_directory_without_an_app_is_refused(tmp_path: Path) -> None:
    """Proves that a wrong --app says what is missing."""
    with pytest.raises(HostError, match=r"holds no function_app\.py"), FunctionsHost(tmp_path):
        pass


def test_host_json_moves_the_route_prefix(tmp_path: Path) -> None:
    """Proves that extensions.http.routePrefix is honoured, with an empty one too."""
    app = write_app(
        tmp_path, "@app.route('f', auth_level='anonymous')\ndef f(req: func.HttpRequest) -> str: return 'f'"
    )
    settings = {"extensions": {"http": {"routePrefix": ""}}}
    app.joinpath("host.json").write_text(json.dumps(settings), encoding="utf-8")
    with FunctionsHost(app) as host:
        assert host.request("GET", "/f").text == "f"
        assert host.request("GET", "/api/f").status == 404
