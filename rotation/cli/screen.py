"""Where a command's answer goes: tables on a terminal, lines of fields in a pipe, or JSON."""

import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NoReturn

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from rotation.cli.outcome import Exit
from rotation.model import Report, clean

STYLES = {
    "IN_SYNC": "green",
    "SYNCING": "cyan",
    "STALE": "yellow",
    "BLOCKED": "bold red",
    "UNKNOWN": "magenta",
    "UNMANAGED": "dim",
    "ok": "green",
    "warning": "yellow",
    "failure": "bold red",
    "Sync": "bold cyan",
    "NothingStale": "green",
}


class Screen:
    """One command's output. rich heeds NO_COLOR; what is no answer goes to stderr."""

    def __init__(self, command: str, *, as_json: bool) -> None:
        self.command = command
        self.as_json = as_json
        self.out = Console(highlight=False, markup=False, emoji=False)
        self._err = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._notes: list[str] = []
        self._part: tuple[str, ...] = ()

    @property
    def lively(self) -> bool:
        """Whether somebody is looking at a table that may move."""
        return self.out.is_terminal and not self.as_json

    def note(self, text: str) -> None:
        """Something to know that is not the answer."""
        self._notes.append(text)
        if not self.as_json:
            self._err.print(Text(clean(text, 2000), style="dim"), soft_wrap=True)

    def problems(self, report: Report) -> None:
        """What a pass could not see."""
        for problem in report.problems:
            self.note(problem)
        if not report.verdicts and not report.problems:
            self.note(f"No gateway in scope matches {report.run.scope}.")

    def working(self, what: str) -> AbstractContextManager[object]:
        """Show that something takes its time; only on a terminal."""
        return self._err.status(what) if self._err.is_terminal else nullcontext()

    def progress(self) -> Progress:
        """A bar for counted work; only on a terminal."""
        return Progress(console=self._err, transient=True, disable=not self._err.is_terminal)

    def part(self, name: str, title: str) -> None:
        """What follows is a part of the answer: under its title, or named in the first field of each line."""
        self._part = (name,)
        if self.lively:
            self.out.print(Text(f"\n{title}", style="bold"))

    def line(self, text: str) -> None:
        """A sentence of the answer."""
        if self.lively:
            self.out.print(Text(clean(text, 4000)), soft_wrap=True)
        elif not self.as_json:
            self._fields([text])

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Rows as a table on a terminal, as lines of fields with a tab between in a pipe."""
        given = list(rows)
        if self.lively:
            self.out.print(table(columns, given) if given else Text("none", style="dim"))
        elif not self.as_json:
            for row in given:
                self._fields(row)

    def _fields(self, fields: Iterable[object]) -> None:
        sys.stdout.write("\t".join(clean(field, 4000) for field in (*self._part, *fields)) + "\n")

    def emit(self, code: Exit, result: object) -> None:
        """A JSON answer, on a line of its own where nobody reads it; see docs/cli.schema.json."""
        if self.as_json:
            answer = {
                "command": self.command,
                "exit_code": int(code),
                "notes": self._notes,
                "result": result,
            }
            sys.stdout.write(json.dumps(answer, indent=2 if self.out.is_terminal else None) + "\n")
            sys.stdout.flush()

    def end(self, code: Exit, result: object = None) -> NoReturn:
        """The answer as JSON where that is wanted, and the end of the command."""
        self.emit(code, result)
        raise typer.Exit(int(code))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table whose cells are never read as markup."""
    made = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        made.add_row(*(_cell(field) for field in row))
    return made


def _cell(field: object) -> Text:
    text = clean(field, 2000)
    return Text(text, style=STYLES.get(text, ""), overflow="fold")
