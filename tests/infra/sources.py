"""What the tests of the deployment share: its sources, and the programs that check them."""

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
INFRA = PROJECT / "infra"
MODULES = INFRA / "modules"
SCRIPTS = INFRA / "scripts"
RUNBOOKS = PROJECT / "docs" / "runbooks"
TOOLS = PROJECT.parent / "shared" / "tools"

_INSTALL = (
    "python3 -m venv .venv-infra && .venv-infra/bin/pip install --require-hashes -r infra/requirements.txt"
)


def text(name: str) -> str:
    """A file of the project."""
    return (PROJECT / name).read_text(encoding="utf-8")


def bicep() -> dict[str, str]:
    """Every Bicep file, by its name."""
    return {path.name: path.read_text(encoding="utf-8") for path in INFRA.rglob("*.bicep")}


def queries() -> dict[str, str]:
    """Every query, by its path from infra/queries."""
    folder = INFRA / "queries"
    return {p.relative_to(folder).as_posix(): p.read_text(encoding="utf-8") for p in folder.rglob("*.kql")}


def loaded_queries() -> Iterator[str]:
    """The queries that alerts and workbook load, in the same form."""
    for source in bicep().values():
        yield from re.findall(r"loadTextContent\('\.\./queries/([^']+)'\)", source)


def objects(source: str, variable: str) -> list[str]:
    """The objects of an array variable in a Bicep file, as text."""
    array = re.search(rf"^var {variable} = \[\n(.*?)^\]$", source, re.MULTILINE | re.DOTALL)
    assert array, variable
    return re.findall(r"^  \{\n(.*?)^  \}$", array[1], re.MULTILINE | re.DOTALL)


def strings(source: str, name: str) -> list[str]:
    """The string items of the first list that follows a name."""
    found = re.search(rf"\b{name}\b[:= ]*\[(.*?)\]", source, re.DOTALL)
    assert found, name
    return re.findall(r"'([^'\n]+)'", found[1])


@cache
def infra_python() -> str:
    """A Python with infra/requirements.txt installed; skips where there is none."""
    named = os.environ.get("INFRA_PYTHON")
    for python in (named, str(PROJECT / ".venv-infra/bin/python"), sys.executable):
        if python and Path(python).is_file():
            done = subprocess.run(
                [python, "-c", "import check_jsonschema, checkov, tree_sitter_powershell, yaml"],
                capture_output=True,
                check=False,
                timeout=60,
            )
            if done.returncode == 0:
                return python
    assert not named, f"INFRA_PYTHON={named} lacks infra/requirements.txt"
    pytest.skip(f"what checks infra/ is not installed: {_INSTALL}")


def tool(name: str) -> Path:
    """A checker that is kept beside the project; skips where it is not."""
    path = TOOLS / name
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return path


def event_types() -> set[str]:
    """The names of Key Vault's certificate events, from Microsoft's package."""
    names = importlib.import_module("azure.eventgrid").SystemEventNames
    return {n.value for n in names if n.value.startswith("Microsoft.KeyVault.Certificate")}
