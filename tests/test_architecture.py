"""The allowed edges between modules, and what pure means: read from the source, without running it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SDKS = ("aiohttp", "azure", "cryptography", "msrest", "opentelemetry", "yarl")
WITH_SDKS = ("rotation/app.py", "rotation/clients/", "rotation/gateways/")
PURE = {
    f"rotation/{name}.py"
    for name in (
        *("model", "verdict", "plan", "brakes", "inventory", "history", "events", "api", "report", "shards"),
        *("telemetry", "named_values", "doctor", "cli/outcome", "cli/inventory"),
        *("web/words", "web/fleet", "web/calendar"),
    )
}
COMMAND_LINE = ("rich", "typer")
IMPURE = (
    *("asyncio", "io", "os", "pathlib", "random", "secrets", "socket", "ssl", "subprocess", "tempfile"),
    *("threading", "time", "urllib.request", "uuid"),
)
SOCKETS = {"http.client", "socket", "sqlite3", "ssl", "urllib.request"}
LAZY = (
    *("aiohttp", "azure.core", "azure.data", "azure.eventgrid", "azure.identity", "azure.keyvault"),
    *("azure.mgmt", "azure.mgmt.apimanagement", "azure.monitor", "cryptography", "jinja2", "opentelemetry"),
    *COMMAND_LINE,
)


def sources(*folders: str) -> dict[str, ast.Module]:
    """Every module of these folders or files, parsed, by its path from the root."""
    paths = [path for name in folders for path in (sorted((ROOT / name).rglob("*.py")) or [ROOT / name])]
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in paths if path.exists()}


APP = sources("rotation", "function_app.py")


def imports(tree: ast.AST) -> Iterator[str]:
    """The full name of everything that is imported, at whatever depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(*packages: str, of: dict[str, ast.Module] = APP) -> set[str]:
    """The modules that import one of these packages or a part of it."""
    wanted = tuple(f"{package}." for package in packages)
    return {path for path, tree in of.items() if any(f"{n}.".startswith(wanted) for n in imports(tree))}


def names(tree: ast.AST) -> set[str]:
    """Dotted names as they are written in expressions."""
    return {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Name)}


def test_there_is_something_to_hold() -> None:
    """Proves that the walk below has not lost its way."""
    assert PURE <= set(APP)
    assert len(APP) > 15


def test_azure_functions_is_known_to_function_app_alone() -> None:
    """Proves that the path can be run without the platform."""
    expected = {"function_app.py"}
    actual = importers("azure.functions")

    assert expected == actual


def test_sdks_stay_at_the_edge() -> None:
    """Proves it."""
    strangers = {path for path in importers(*SDKS) if not path.startswith(WITH_SDKS)} - {"function_app.py"}

    assert not strangers


def test_the_command_line_is_a_room_of_its_own() -> None:
    """Proves that the app never needs typer or rich: nothing but the two ways in imports the commands."""
    strangers = {path for path in importers(*COMMAND_LINE) if not path.startswith("rotation/cli/")}
    users = {path for path in importers("rotation.cli") if not path.startswith("rotation/cli/")}

    assert not strangers
    assert {"rotation/__main__.py"} == users


def test_sockets_are_opened_in_clients_alone() -> None:
    """Proves the sentence to remember."""
    strangers = {path for path in importers(*SOCKETS) if not path.startswith("rotation/clients/")}

    assert not strangers


def test_the_environment_is_read_by_settings_alone() -> None:
    """Proves that what a setting does can be found in one place; `registration` is the light part of it."""
    expected = {"rotation/settings.py", "rotation/registration.py"}
    spelled = {
        p for p, tree in APP.items() if names(tree) & {"os.environ", "os.getenv", "os.environb", "environ"}
    }
    actual = importers("os") | {path for path in spelled if path not in expected}

    assert expected == actual


def test_the_model_rests_on_the_standard_library_alone() -> None:
    """Proves that everything may import the words, and they import nothing of ours."""
    strangers = {
        name
        for name in imports(APP["rotation/model.py"])
        if name.partition(".")[0] not in sys.stdlib_module_names
    }

    assert not strangers


@pytest.mark.parametrize("path", sorted(PURE))
def test_what_decides_is_pure(path: str) -> None:
    """Proves that no pure module reads a clock, a file, chance or the network, or waits for anything."""
    tree = APP[path]
    ours = {
        n
        for n in imports(tree)
        if n.startswith("rotation.")
        and not {f"{part.replace('.', '/')}.py" for part in (n, n.rpartition(".")[0])} & PURE
    }
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    clocks = {
        call for call in calls if call.endswith((".now", ".utcnow", ".today", "time.time", "monotonic"))
    }
    waits = [
        node for node in ast.walk(tree) if isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.Global)
    ]

    assert path not in importers(*IMPURE)
    assert not ours
    assert not clocks
    assert not calls & {"open", "print", "input", "eval", "exec"}
    assert not waits


def test_sandbox_and_rotation_are_strangers() -> None:
    """Proves that the pretend Azure is written from the contract, and that the app has no test branch."""
    assert not importers("rotation", of=sources("sandbox"))
    assert not importers("sandbox", "tests")


def test_three_places_catch_everything() -> None:
    """Proves that a bug is hidden nowhere: it becomes a verdict, and at the doors a fixed text with an id.

    The third is the parser of what peers present, in which every field may fail in its own way.
    """
    expected = ["rotation/clients/x509.py", "rotation/reconcile.py", "function_app.py"]
    actual = [
        path
        for path, tree in APP.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or names(node.type) & {"Exception", "BaseException"})
    ]

    assert expected == actual


def test_an_idle_worker_loads_no_sdk() -> None:
    """Proves in a fresh interpreter that indexing the functions imports none of what is slow.

    Of ours that is most: a hundred dataclasses take longer than the rest of the start.
    """
    ours = "{n for n in sys.modules if n.startswith('rotation.')} - {'rotation.registration'}"
    code = f"import sys, function_app; print(*(n for n in {LAZY} if n in sys.modules), *({ours}))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    expected = ""
    actual = found.stdout.strip()

    assert expected == actual


def test_function_app_imports_at_its_top_only_what_is_light() -> None:
    """Proves the same for whoever reads: the standard library, azure.functions and the words."""
    top = ast.Module(APP["function_app.py"].body, [])
    top.body = [node for node in top.body if isinstance(node, ast.Import | ast.ImportFrom)]
    expected = {
        "azure.functions",
        "rotation.registration.event_queue",
        "rotation.registration.schedule",
        "rotation.registration.shard_queue",
        "rotation.registration.sign_in",
    }
    actual = {name for name in imports(top) if name.partition(".")[0] not in sys.stdlib_module_names}

    assert expected == actual
