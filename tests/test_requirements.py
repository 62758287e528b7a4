"""The pinned requirements against pyproject.toml, offline: what is deployed is what is written down."""

import ast
import re
import subprocess
import tomllib
from dataclasses import dataclass
from importlib.metadata import distributions, metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = f"{PROJECT['name']} (pyproject.toml)"
RUNTIME = [Requirement(text) for text in PROJECT["dependencies"]]
DEVELOPMENT = RUNTIME + [Requirement(text) for text in PROJECT["optional-dependencies"]["dev"]]


@dataclass(frozen=True)
class Pin:
    """One pinned package, as uv has written it."""

    name: str
    version: str
    hashes: int
    direct: bool


def pins(name: str) -> dict[str, Pin]:
    """The pins of a requirements file by name; each begins at the start of a line."""
    text = (ROOT / name).read_text()
    found: dict[str, Pin] = {}
    for block in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]:
        pinned = Requirement(block.partition("\\")[0].strip())
        (specifier,) = pinned.specifier
        assert specifier.operator == "=="
        hashes = len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", block))
        key = canonicalize_name(pinned.name)
        found[key] = Pin(key, specifier.version, hashes, OURS in block)
    return found


TOOLS = "tools/requirements.txt"
FILES = {"requirements.txt": RUNTIME, "requirements-dev.txt": DEVELOPMENT}
each_file = pytest.mark.parametrize(("name", "declared"), FILES.items(), ids=FILES)


@each_file
def test_direct_dependencies_are_those_of_pyproject(name: str, declared: list[Requirement]) -> None:
    """Proves that nothing is deployed that nobody asked for, and nothing asked for is missing."""
    expected = {canonicalize_name(requirement.name) for requirement in declared}
    actual = {pin.name for pin in pins(name).values() if pin.direct}

    assert expected == actual


@each_file
def test_every_pin_is_within_what_pyproject_allows(name: str, declared: list[Requirement]) -> None:
    """Proves that the bounds and the pins have not parted."""
    found = pins(name)
    outside = [
        f"{requirement} is pinned to {version}"
        for requirement in declared
        for version in [found[canonicalize_name(requirement.name)].version]
        if not requirement.specifier.contains(version, prereleases=True)
    ]

    assert not outside


@pytest.mark.parametrize("name", [*FILES, TOOLS])
def test_every_pin_has_a_hash(name: str) -> None:
    """Proves that no package can be exchanged on its way."""
    found = pins(name)
    without = [pin.name for pin in found.values() if not pin.hashes]

    assert len(found) > 20
    assert not without


def test_what_is_tested_is_what_is_deployed() -> None:
    """Proves that development runs with the very versions of production."""
    development = pins("requirements-dev.txt")
    differing = [
        (pin.name, pin.version, development.get(pin.name))
        for pin in pins("requirements.txt").values()
        if pin.name not in development or development[pin.name].version != pin.version
    ]

    assert not differing


@pytest.mark.parametrize("name", [*FILES, TOOLS, "pyproject.toml"])
def test_no_index_and_no_registry_is_named(name: str) -> None:
    """Proves that anybody can install from their own mirror, and that no private host leaks."""
    text = (ROOT / name).read_text()

    named = r"--(extra-)?index-url|--find-links|--trusted-host|^-[if]\b|://|\[\[tool\.uv\.index"

    assert not re.search(named, text, re.MULTILINE)


MODULES = {
    "azure-monitor-opentelemetry-exporter": "azure.monitor.opentelemetry.exporter",
    "azure-functions": "azure.functions",
    "opentelemetry-api": "opentelemetry.trace",
    "opentelemetry-sdk": "opentelemetry.sdk",
}
"""What a package is imported as, where that is not its name with dots."""


def test_every_package_that_is_deployed_is_imported() -> None:
    """Proves that none is carried along; deptry (`make audit`) proves that none is missing."""
    paths = [ROOT / "function_app.py", *(ROOT / "rotation").rglob("*.py")]
    nodes = [node for path in paths for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    imported = {f"{node.module}." for node in nodes if isinstance(node, ast.ImportFrom)}
    imported |= {f"{alias.name}." for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    wanted = {r.name: MODULES.get(r.name, r.name.replace("-", ".")) for r in RUNTIME}

    assert [] == [
        name for name, module in wanted.items() if not any(i.startswith(f"{module}.") for i in imported)
    ]


LICENCES = {
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
}
"""SPDX names of what packages without a License-Expression say of themselves."""


def licence(name: str) -> str:
    """What an installed package says its licence is."""
    about = metadata(name)
    text = about["License"] or ""
    said = [line.rpartition(" :: ")[2] for line in about.get_all("Classifier", []) if "License" in line]
    short = text if text and len(text) < 20 else said[0] if said else ""
    return about["License-Expression"] or LICENCES.get(short, short)


def test_every_package_that_is_deployed_is_listed_with_reason_and_licence() -> None:
    """Proves docs/dependencies.md against pyproject.toml, the pins, and the packages themselves."""
    page = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
    reasons, _, rest = page.partition("## Cost at import")
    licences = rest.partition("## Licences")[2].partition("##")[0]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", licences, re.MULTILINE)
    listed = {name: spdx for spdx, names in rows for name in names.split(", ")}
    installed = {name for name in pins("requirements.txt") if any(distributions(name=name))}
    explained = re.findall(r"^\| (\S+) \| [^|]+ \| [^|]+ \|$", reasons, re.MULTILINE)

    assert ["package", *(requirement.name for requirement in RUNTIME)] == explained
    assert listed.keys() - {"packages"} == pins("requirements.txt").keys()
    assert len(installed) > 35
    assert {name: licence(name) for name in installed} == {name: listed[name] for name in installed}


def test_the_runtime_of_the_host_is_not_deployed() -> None:
    """Proves that the worker of the platform is not shadowed by ours."""
    assert "azure-functions-runtime" not in pins("requirements.txt")
    assert "azure-functions-runtime" in pins("requirements-dev.txt")


def test_uv_keeps_no_lock_of_its_own() -> None:
    """Proves that there is one source of pins: Functions builds from requirements.txt."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is not a Git checkout")
    expected = ""
    actual = subprocess.run(
        ["git", "ls-files", "uv.lock", "*/uv.lock"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    assert expected == actual
