"""Every command that a document shows: run where it can be, else held against what the program knows.

`WAYS` says for each kind how it is checked, and where it is not run, why not.
"""

import json
import os
import re
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.stage import Stage
from sandbox.world import Hostname, World

PROJECT = Path(__file__).resolve().parents[1]
DOCUMENTS = (*sorted(PROJECT.glob("*.md")), *sorted(PROJECT.glob("docs/**/*.md")))
OPTIONS = json.loads((PROJECT / "tests/data/options.json").read_text(encoding="utf-8"))

ELSEWHERE = "11111111-2222-3333-4444-555555555555"
"""The subscription of the documents, in which the sandbox has nothing."""


def shown() -> list[tuple[str, str]]:
    """Each document with each command in its console blocks, continued lines put together."""
    found = []
    for path in DOCUMENTS:
        for block in re.findall(r"```console\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            commands = re.findall(r"^\$ ((?:.*\\\n)*.*)$", block, re.MULTILINE)
            found += [(path.name, re.sub(r"\\\n\s*", "", command)) for command in commands]
    return sorted(set(found))


@dataclass(frozen=True)
class Shell:
    """A folder to work in, and an environment in which the documents' placeholders are the sandbox's."""

    folder: Path
    environment: dict[str, str]

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run it as a person would have typed it."""
        return subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """In front of the app and its pretend Azure, after the first look of the timer."""
    folder = tmp_path_factory.mktemp("documents")
    program = folder / "bin" / "apim-rotation"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rotation "$@"\n', encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (folder / ".curlrc").write_text("fail-with-body\n", encoding="utf-8")  # 4xx and 5xx end with an error
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
    service = world.add_service(
        "apim-contoso",
        regions={"West Europe": 2, "North Europe": 1},
        hostnames=(Hostname("api.contoso.com", certificate=certificate),),
    )
    with Stage(world) as stage:
        stage.tick()
        settings = stage.azure.app_settings()
        dialled = f"127.0.0.1:{stage.azure.connect_to[service.regional_host(service.location)]}"
        places = (
            settings["ROTATION_CONNECT_TO"],
            f"api.contoso.com:443:{dialled}",
            f"10.1.2.3:443:{dialled}",
        )
        yield Shell(
            folder,
            {
                **settings,
                "PATH": f"{program.parent}:{os.environ['PATH']}",
                "PYTHONPATH": str(PROJECT),
                "HOME": str(folder),
                "CURL_HOME": str(folder),
                "ROTATION_CONNECT_TO": ",".join(places),
                "ROTATION_LEDGER": str(folder / "ledger.sqlite"),
                "APP": stage.host.url,
                "AZURE_FUNCTION_APP_URL": stage.host.url,
                "KEY": stage.host.keys["function"],
                "CONTROL": stage.azure.control_url,
            },
        )


def runs(command: str, shell: Shell) -> None:
    """It ends well. A subscription that is not there is said to be none, which is exit code 4."""
    ran = shell.run(command.replace(" CONTROL/", " $CONTROL/"))

    expected = 4 if ELSEWHERE in command and "apim-rotation" in command else 0
    assert expected == ran.returncode, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr


def runs_what_is_watched(command: str, shell: Shell) -> None:
    """`watch -n 30 "…"` without the watch, which never ends."""
    inner = re.fullmatch(r'watch -n \d+ "(.*)"', command)
    assert inner
    runs(inner[1].replace("'", '"'), shell)


def is_known(command: str, _: Shell) -> None:
    """Program, command and options are ones that exist.

    A command that is new in the documents is added to tests/data/options.json, from what its --help names.
    """
    used = list(uses(command))
    assert used
    for program, words, options in used:
        assert [] == unknown(program, words, options), f"{program} {words}"


def is_a_target(command: str, _: Shell) -> None:
    """The Makefile has it."""
    target = command.partition(" ")[2]
    assert re.search(rf"^{target}:", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def is_an_extra(command: str, _: Shell) -> None:
    """pyproject.toml has it, with the program that is shown next."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert re.findall(r"\[(\w+)\]", command)[0] in project["optional-dependencies"]
    assert "apim-rotation" in project["scripts"]


def is_in_ci(command: str, _: Shell) -> None:
    """CI installs the same by the same words."""
    ci = re.sub(r"--quiet --disable-pip-version-check |\S*quietly\S* ", "", (PROJECT / ".ci/run").read_text())
    for part in command.replace("--ignore-scripts ", "").split(" && "):
        assert part in ci or part.endswith("-m pytest tests/infra")


def is_an_option_of_the_script(command: str, _: Shell) -> None:
    """The script takes each of them; tests/infra runs it on a stand-in for az."""
    script = (PROJECT / command.split(maxsplit=1)[0]).read_text(encoding="utf-8")
    assert [] == [option for option in re.findall(r"--[a-z-]+", command) if f"{option})" not in script]


def is_attested(command: str, _: Shell) -> None:
    """The release attests the file of that name."""
    assert command.split()[3] in (PROJECT / ".github/workflows/release.yml").read_text(encoding="utf-8")


def is_only_read(_: str, __: Shell) -> None:
    """Nothing but its syntax can be looked at."""


Check = Callable[[str, Shell], None]
AZURE = "needs an Azure subscription: options are held against those that the program itself names"
WAYS: tuple[tuple[str, Check, str], ...] = (
    (r"apim-rotation ", runs, ""),
    (r"curl ", runs, ""),
    (r"export ", runs, ""),
    (r"watch ", runs_what_is_watched, ""),
    (
        r"make (demo|sandbox|test)$",
        is_a_target,
        "test_docs.py runs the demo; the others do not end, or are this",
    ),
    (r"pip install '\.\[\w+\]'$", is_an_extra, "installs from a registry"),
    (
        r"(python3 -m venv|npm install|\.venv/bin/python) ",
        is_in_ci,
        "installs from a registry; CI does the same",
    ),
    (r"(\w+=\$\()?azd? ", is_known, AZURE),
    (r"(set -a; )?eval \"\$\(azd ", is_known, AZURE),
    (r"infra/scripts/", is_an_option_of_the_script, AZURE),
    (r"gh attestation verify ", is_attested, "needs a release"),
    (
        r"func start$",
        is_only_read,
        "Core Tools come from no registry that tests may use; tests/host is the stand-in",
    ),
)


@pytest.mark.parametrize(("document", "command"), shown(), ids=lambda part: part[:60])
def test_a_command_that_is_shown_works(document: str, command: str, shell: Shell) -> None:
    """It is of a known kind, its syntax is right, and it does what can be had of it here."""
    del document  # says in the test's name where the command is
    checks = [check for pattern, check, _ in WAYS if re.match(pattern, command)]
    syntax = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)

    assert 1 == len(checks), command
    assert (0, "") == (syntax.returncode, syntax.stderr)
    checks[0](command, shell)


def uses(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """Each az and azd that is called: the program, the words after it, its options."""
    for part in re.split(r"\$\(|\||&&|;|\)| # |\n", text):
        if called := re.search(r"(?<![\w./-])(azd?) ([a-z][a-z-]*(?: [a-z][a-z-]*)*)(.*)", part):
            yield called[1], called[2], re.findall(r"(?<=\s)--?[a-z][a-z-]*", called[3])


def unknown(program: str, words: str, options: list[str]) -> list[str]:
    """What the program does not know of this call."""
    known = OPTIONS[program]
    path = max((each for each in known if f"{words} ".startswith(f"{each} ")), key=len, default=None)
    if path is None:
        return [words]
    return [option for option in options if option not in known[path].split()]


def test_az_and_azd_in_running_text_are_right_too() -> None:
    """Also those between backticks, in the runbooks, and in the mending that `report` prints."""
    texts = [path.read_text(encoding="utf-8") for path in DOCUMENTS]
    inline = [code for text in texts for code in re.findall(r"`((?:az|azd) [a-z][^`]*)`", text)]
    printed = (PROJECT / "rotation/cli/inventory.py").read_text(encoding="utf-8")
    wrong = [
        f"{program} {words}: {what}"
        for text in (*inline, printed)
        for program, words, options in uses(text)
        if (what := unknown(program, words, options))
    ]

    assert len(inline) > 10
    assert ["az monitor scheduled-query create: ['monitor scheduled-query create']"] == wrong  # an extension


@pytest.mark.parametrize(
    ("call", "wrong"),
    [
        ("az keyvault certificate show --name x --vault y", ["--vault"]),
        ("az keyvault certificat show", ["keyvault certificat show"]),
        ("azd env set A b", []),
        ("X=$(az role assignment list --all -o tsv | xargs az role assignment delete --idz)", ["--idz"]),
    ],
)
def test_a_mistake_in_az_is_found(call: str, wrong: list[str]) -> None:
    """Proves that the reading of calls is not blind."""
    assert wrong == [
        word for program, words, options in uses(call) for word in unknown(program, words, options)
    ]
