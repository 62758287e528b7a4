"""Builds what is deployed, ready to run: dist/apim-cert-rotation.zip, and its bill of materials beside it.

    python -m tools.package [--python PYTHON3.13] [--source-only] [--bill-of-materials CYCLONEDX-PY]

The app, its dependencies for Linux x86_64 at the hashes of requirements.txt in .python_packages, as Flex
Consumption wants them, and byte code for both, compiled by Python 3.13 itself. Byte code in a zip keeps its
use only if it is bound to its source by hash: by time, which a zip rounds, all of it would be compiled anew
at each cold start. Two builds with the same Python give the same bytes.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pathspec

PROJECT = Path(__file__).resolve().parents[1]
DIST = PROJECT / "dist"
NAME = "apim-cert-rotation"
TARGET = (3, 13)
"""The Python that infra/modules/app.bicep deploys to."""

PLATFORM = "x86_64-manylinux_2_28"
SITE_PACKAGES = Path(".python_packages/lib/site-packages")
WWWROOT = "/home/site/wwwroot"
"""Where Azure unpacks it: what tracebacks are to show."""

EPOCH = (1980, 1, 1, 0, 0, 0)
_LEFT_OUT = {"RECORD", "INSTALLER", "REQUESTED"}
"""How an installer has worked; RECORD also has the hashes of scripts that name the build's folder."""

_NO_COMPILER = (
    "Python 3.13 is needed, because byte code is valid for one version only, and 3.13 is what is deployed."
    " Install it, or name it: make package PACKAGE_PYTHON=/path/to/python3.13. Without byte code the package"
    " works, and each cold start takes seconds longer: make package PACKAGE_OPTIONS=--source-only."
)


def is_target(python: str) -> bool:
    """Whether this is a Python of the version that is deployed."""
    code = "import sys; print(tuple(sys.version_info[:2]))"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return False
    return done.stdout.strip() == str(TARGET)


def find_target() -> str | None:
    """A Python of that version: this one, one on the path, or pyenv's."""
    version = ".".join(map(str, TARGET))
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [
        sys.executable,
        shutil.which(f"python{version}") or "",
        *map(str, sorted(pyenv.glob(f"{version}*/bin/python"))),
    ]
    return next((python for python in candidates if python and is_target(python)), None)


def app_files() -> list[Path]:
    """The files of the app, from the project's folder: what neither .gitignore nor .funcignore names."""
    patterns = [
        line
        for name in (".gitignore", ".funcignore")
        for line in (PROJECT / name).read_text(encoding="utf-8").splitlines()
    ]
    ignored = pathspec.GitIgnoreSpec.from_lines(patterns)
    return sorted(map(Path, ignored.match_tree_files(PROJECT, negate=True)))


def stage_app(stage: Path) -> None:
    """Copy the app."""
    for path in app_files():
        (stage / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PROJECT / path, stage / path)


def install(folder: Path, python: str) -> tuple[Path, Path]:
    """An environment of the dependencies alone; returns its Python and its site-packages."""
    environment = folder / "environment"
    _run([python, "-m", "venv", "--without-pip", str(environment)])
    inside = environment / "bin" / "python"
    options = ["--require-hashes", "--only-binary", ":all:", "--no-compile", "--link-mode", "copy"]
    aim = [
        "--python",
        str(inside),
        "--python-platform",
        PLATFORM,
        "--python-version",
        ".".join(map(str, TARGET)),
    ]
    requirements = str(PROJECT / "requirements.txt")
    _run([sys.executable, "-m", "uv", "pip", "install", "--quiet", *options, *aim, "-r", requirements])
    (site_packages,) = environment.glob("lib/python*/site-packages")
    return inside, site_packages


def compile_all(stage: Path, python: str) -> None:
    """Byte code for everything, bound to its source by hash and not looked up: the package is read-only."""
    where = ["-s", str(stage), "-p", WWWROOT, str(stage)]
    _run(
        [python, "-m", "compileall", "-q", "-j", "1", "--invalidation-mode", "unchecked-hash", *where],
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )


def write_zip(stage: Path, target: Path) -> None:
    """A zip that depends on nothing but the files: in order, at one time, with one mode."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as package:
        for path in sorted(p for p in stage.rglob("*") if p.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(stage).as_posix(), EPOCH)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            package.writestr(entry, path.read_bytes(), compresslevel=9)


def build(target: Path, python: str, *, byte_code: bool = True, bill: tuple[str, Path] | None = None) -> None:
    """Write the package, and with `bill` = (cyclonedx-py, file) what is in it.

    Raises:
        SystemExit: a step has failed; its own message is on stderr.
    """
    with tempfile.TemporaryDirectory(prefix="package-") as folder:
        stage = Path(folder) / "stage"
        stage_app(stage)
        inside, site_packages = install(Path(folder), python)
        left_out = shutil.ignore_patterns("__pycache__", *_LEFT_OUT)
        shutil.copytree(site_packages, stage / SITE_PACKAGES, ignore=left_out)
        if byte_code:
            compile_all(stage, python)
        write_zip(stage, target)
        if bill:
            program, file = bill
            pyproject = ["--pyproject", str(PROJECT / "pyproject.toml"), "--mc-type", "application"]
            form = ["--output-reproducible", "--output-format", "JSON", "--output-file", str(file)]
            _run([program, "environment", *pyproject, *form, str(inside)])


def summary(package: Path) -> Iterator[str]:
    """What has been built, for a person."""
    with zipfile.ZipFile(package) as content:
        entries = content.infolist()
    own = [e for e in entries if not e.filename.startswith(SITE_PACKAGES.as_posix())]
    code = [e for e in entries if e.filename.endswith(".pyc")]
    unpacked = sum(e.file_size for e in entries)
    yield f"{package.name}: {_mib(package.stat().st_size)}, {_mib(unpacked)} unpacked, {len(entries):,} files"
    yield f"  of the app {len(own)}; byte code {_mib(sum(e.file_size for e in code))} in {len(code):,} files"
    yield f"  sha256 {hashlib.sha256(package.read_bytes()).hexdigest()}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Build, and say what came of it."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.package", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--python", help="a Python 3.13, to compile with; searched for where not given")
    parser.add_argument("--source-only", action="store_true", help="no byte code: cold starts take longer")
    parser.add_argument("--bill-of-materials", metavar="CYCLONEDX-PY", help="the program that writes it")
    parser.add_argument("--output", type=Path, default=DIST / f"{NAME}.zip")
    options = parser.parse_args(arguments)
    if options.python and not (options.source_only or is_target(options.python)):
        raise SystemExit(f"{options.python} is no Python 3.13. {_NO_COMPILER}")
    python = options.python or find_target() or (sys.executable if options.source_only else None)
    if python is None:
        raise SystemExit(_NO_COMPILER)
    bill = None
    if options.bill_of_materials:
        bill = (options.bill_of_materials, options.output.with_suffix(".cdx.json"))
    build(options.output, python, byte_code=not options.source_only, bill=bill)
    print("\n".join(summary(options.output)))
    if bill:
        print(f"{bill[1].name}: what is in it (CycloneDX)")


def _run(command: list[str], env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, env=env, check=False, timeout=600, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise SystemExit(f"failed with {done.returncode}: {' '.join(command)}")


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


if __name__ == "__main__":
    main()
