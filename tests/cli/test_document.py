"""docs/cli.md against the program; tests/test_commands.py runs the commands that it shows."""

import re

from rotation.cli.commands import app
from rotation.cli.outcome import Exit
from tests.cli.terminal import PROJECT, SCHEMA
from tests.cli.test_doctor import CHECKS

PAGE = (PROJECT / "docs" / "cli.md").read_text(encoding="utf-8")
SHOWN = sorted(set(re.findall(r"^\$ apim-rotation (.+)$", PAGE, re.MULTILINE)))


def rows(heading: str) -> list[str]:
    """The code in the first column of the table below a heading."""
    below = PAGE.split(heading, 1)[1].split("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \|", below, re.MULTILINE)


def test_every_command_is_described_and_has_an_answer_in_the_schema() -> None:
    """The table, the program and the schema know the same commands."""
    commands = {command.callback.__name__ for command in app.registered_commands if command.callback}

    assert commands == set(rows("## Commands"))
    assert commands == set(SCHEMA["properties"]["command"]["enum"])
    assert commands == {line.partition(" ")[0] for line in SHOWN if not line.startswith("-")}


def test_every_exit_code_is_described() -> None:
    """In the document and in the schema."""
    assert [str(int(code)) for code in Exit] == rows("## Exit codes")
    assert [int(code) for code in Exit] == SCHEMA["properties"]["exit_code"]["enum"]


def test_every_check_of_the_doctor_is_described() -> None:
    """The table lists what a healthy run prints."""
    assert list(CHECKS) == rows("## What the doctor checks")
