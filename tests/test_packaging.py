"""How the package is put together, without an installer: `make package-check` holds the package itself."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools.package import PROJECT, app_files, compile_all, main, write_zip


def tree(folder: Path, names: list[str]) -> Path:
    """Files with their own names as content, made in this order."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}\n", encoding="utf-8")
    return folder


def test_what_is_deployed_is_the_app_and_nothing_that_serves_development() -> None:
    """Names the folders: a new one has to be thought of in .funcignore."""
    files = app_files()

    expected = {"function_app.py", "host.json", "requirements.txt", "rotation"}
    assert expected == {path.parts[0] for path in files}
    tracked = subprocess.run(
        ["git", "ls-files", "rotation"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert set(tracked) <= {path.as_posix() for path in files}


def test_a_zip_depends_on_its_files_alone(tmp_path: Path) -> None:
    """Not on the order in which they were made, on their times, or on their modes."""
    one = tree(tmp_path / "one", ["b.py", "a/c.py", "a/b.py"])
    other = tree(tmp_path / "other", ["a/b.py", "b.py", "a/c.py"])
    (other / "b.py").chmod(0o600)
    write_zip(one, tmp_path / "one.zip")
    write_zip(other, tmp_path / "other.zip")

    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "other.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as package:
        assert ["a/b.py", "a/c.py", "b.py"] == package.namelist()
        assert {0o100644} == {entry.external_attr >> 16 for entry in package.infolist()}


def test_byte_code_is_used_after_a_zip_whatever_the_time_of_its_source(tmp_path: Path) -> None:
    """Bound by hash and not looked up: what runs is what was compiled, even if a clock says otherwise."""
    stage = tree(tmp_path / "stage", ["module.py"])
    (stage / "module.py").write_text("value = 'compiled'\n", encoding="utf-8")
    compile_all(stage, sys.executable)
    (stage / "module.py").write_text("value = 'source'\n", encoding="utf-8")
    code = "import module; print(module.value)"
    done = subprocess.run([sys.executable, "-c", code], cwd=stage, capture_output=True, text=True, check=True)

    assert "compiled" == done.stdout.strip()


def test_another_python_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """Its byte code would be ignored, and every cold start would pay for it in silence."""
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho '(3, 12)'\n", encoding="utf-8")
    other.chmod(0o755)

    with pytest.raises(SystemExit, match=r"is no Python 3\.13.*make package PACKAGE_PYTHON="):
        main(["--python", str(other), "--output", str(tmp_path / "package.zip")])
