"""The package that `make package` has built: what is in it, that it is the same twice, and that it starts.

    make package-check

It is unpacked into an empty folder and run by a bare Python 3.13: nothing of this project and nothing that is
installed here can stand in for what is missing in it.
"""

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sandbox.azure import Azure
from sandbox.world import Hostname, World
from tests.host.helpers import needs_runtime
from tools.package import DIST, NAME, PROJECT, SITE_PACKAGES, find_target

PACKAGE = DIST / f"{NAME}.zip"
BILL = DIST / f"{NAME}.cdx.json"
TOOLS_PYTHON = PROJECT / ".venv-tools/bin/python"
RUNTIME = ("azure_functions_runtime", "azurefunctions")
"""What Azure's worker brings with it."""


@pytest.fixture(scope="module")
def names() -> list[str]:
    """The files in the package."""
    with zipfile.ZipFile(PACKAGE) as package:
        return package.namelist()


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package in a folder of its own."""
    folder = tmp_path_factory.mktemp("wwwroot")
    with zipfile.ZipFile(PACKAGE) as package:
        package.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def bare(unpacked: Path) -> tuple[list[str], dict[str, str]]:
    """A Python 3.13 without site-packages of its own, and the environment that shows it the package's."""
    python = find_target()
    assert python
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(unpacked / SITE_PACKAGES)}
    return [python, "-S"], environment


def run_functions(
    bare: tuple[list[str], dict[str, str]], app: Path, backend: str, calls: object, settings: dict[str, str]
) -> dict[str, Any]:
    """Index and invoke the unpacked app; 'runtime' is Microsoft's, which the platform lays beside it."""
    python, environment = bare
    runner = PROJECT / "tests/host/runtime_runner.py"
    done = subprocess.run(
        [*python, str(runner), str(app), "--backend", backend],
        input=json.dumps(calls),
        env={**environment, **settings},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_the_package_holds_the_app_and_its_dependencies_and_nothing_else(names: list[str]) -> None:
    """What Flex Consumption wants at the root, and nothing that serves development."""
    top = {name.partition("/")[0] for name in names if not name.startswith("__pycache__/")}

    assert {"function_app.py", "host.json", "requirements.txt", "rotation", ".python_packages"} == top
    assert SITE_PACKAGES.as_posix() + "/azure/functions/__init__.py" in names


def test_every_pin_for_this_platform_is_in_the_package_and_in_its_bill_of_materials(names: list[str]) -> None:
    """The three lists agree: what is pinned, what is packed, what is told."""
    folders = (
        re.match(rf"{SITE_PACKAGES.as_posix()}/([^/]+)-([^/-]+)\.dist-info/METADATA$", n) for n in names
    )
    packed = {(m[1].lower().replace("_", "-"), m[2]) for m in folders if m}
    components = json.loads(BILL.read_text())["components"]
    told = {(c["name"].lower().replace("_", "-"), c["version"]) for c in components}
    pinned = set(
        re.findall(r"^([a-z0-9-]+)==(\S+)", (PROJECT / "requirements.txt").read_text(), re.MULTILINE)
    )

    assert packed == told
    assert packed <= pinned
    assert len(packed) > 30


def test_every_component_has_a_license(names: list[str]) -> None:
    """A component without one could not be used by many."""
    components = json.loads(BILL.read_text())["components"]

    assert names
    assert [] == [component["name"] for component in components if not component.get("licenses")]


def test_every_module_has_byte_code_that_no_clock_can_spoil(names: list[str], unpacked: Path) -> None:
    """Bound by hash and not looked up: the flags of PEP 552 are 01."""
    sources = {name for name in names if name.endswith(".py")}
    compiled = {
        re.sub(r"__pycache__/([^/]+)\.cpython-313\.pyc$", r"\1.py", n) for n in names if n.endswith(".pyc")
    }
    flags = {(unpacked / name).read_bytes()[4:8] for name in names if name.endswith(".pyc")}

    assert sources == compiled
    assert {b"\x01\x00\x00\x00"} == flags


def test_a_traceback_names_the_place_in_azure(unpacked: Path) -> None:
    """Not the folder of the machine that has built it, which would also change the hash."""
    code = (unpacked / "__pycache__/function_app.cpython-313.pyc").read_bytes()

    assert b"/home/site/wwwroot/function_app.py" in code
    assert b"/tmp/" not in code


def test_another_build_gives_the_same_bytes(tmp_path: Path) -> None:
    """Whoever doubts a release builds it again and compares the hash."""
    again = tmp_path / "again" / PACKAGE.name
    subprocess.run(
        [TOOLS_PYTHON, "-m", "tools.package", "--output", again], cwd=PROJECT, check=True, timeout=110
    )

    assert hashlib.sha256(PACKAGE.read_bytes()).digest() == hashlib.sha256(again.read_bytes()).digest()


def test_every_module_of_the_app_can_be_imported_from_the_package_alone(
    unpacked: Path, bare: tuple[list[str], dict[str, str]]
) -> None:
    """A dependency that nobody declared is missed here, and not in the first event."""
    python, environment = bare
    modules = [
        ".".join(path.relative_to(unpacked).with_suffix("").parts)
        for path in sorted((unpacked / "rotation").rglob("*.py"))
        if "cli" not in path.parts and path.name not in {"__init__.py", "__main__.py"}
    ]
    code = (
        f"import importlib, sys; sys.path.insert(0, '.'); [importlib.import_module(m) for m in {modules!r}]"
    )
    subprocess.run(
        [*python, "-W", "error::ImportWarning", "-c", code],
        cwd=unpacked,
        env=environment,
        check=True,
        timeout=60,
    )

    assert len(modules) > 25


@pytest.mark.parametrize("backend", ["sdk", pytest.param("runtime", marks=needs_runtime)])
def test_the_unpacked_package_rotates(
    backend: str, unpacked: Path, bare: tuple[list[str], dict[str, str]], tmp_path: Path
) -> None:
    """From an event to a sync and to Application Insights, with the dependencies of the package alone."""
    python, environment = bare
    if backend == "runtime":
        for name in RUNTIME:
            spec = importlib.util.find_spec(name)
            assert spec is not None
            assert spec.submodule_search_locations
            (tmp_path / name).symlink_to(next(iter(spec.submodule_search_locations)))
        environment = {**environment, "PYTHONPATH": f"{environment['PYTHONPATH']}:{tmp_path}"}
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
    service = world.add_service("apim", hostnames=(Hostname("api.contoso.com", certificate=certificate),))
    version = certificate.renew(announce=False)
    event = {
        "id": "1",
        "topic": "/subscriptions/0/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/kv-contoso",
        "subject": "contoso-com",
        "eventType": "Microsoft.KeyVault.CertificateNewVersionCreated",
        "eventTime": "2026-11-23T00:00:00Z",
        "dataVersion": "1",
        "metadataVersion": "1",
        "data": {"Id": f"https://kv-contoso.vault.azure.net/certificates/contoso-com/{version.id}"},
    }
    calls = [
        {"function": "on_certificate_event", "input": event},
        {"function": "page", "input": {"method": "GET", "url": "/api/page"}},
    ]
    with Azure(world) as azure:
        ledger = {"ROTATION_MODE": "enforce", "ROTATION_LEDGER": str(tmp_path / "ledger.sqlite")}
        answer = run_functions((python, environment), unpacked, backend, calls, azure.app_settings() | ledger)

    assert [(True, None)] * 2 == [(result["ok"], result["error"]) for result in answer["results"]]
    assert 1 == len(service.syncs)
    assert ["event"] == [e.properties["trigger"] for e in world.custom_events("RunCompleted")]
