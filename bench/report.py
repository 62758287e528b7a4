"""What was measured, as text: a file of results for each benchmark, and its place in docs/performance.md.

    python -m bench.report

renders each bench/results/NAME.json by `document` of bench/NAME.py, and puts it between the lines
`<!-- figures of bench/results/NAME.json -->` and `<!-- end of figures -->`.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.machine import describe

PROJECT = Path(__file__).resolve().parents[1]
RESULTS = PROJECT / "bench/results"
DOCUMENT = PROJECT / "docs/performance.md"
DEPENDENCIES = PROJECT / "docs/dependencies.md"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One target: where, what was measured against what was wanted."""

    what: str
    where: str
    measured: float
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether it was."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        verdict = "met" if self.met else "**not met**"
        return f"| {self.what} | {self.where} | {self.measured:.2f} | {sign} {self.limit:g} | {verdict} |"


def outcomes_table(outcomes: Iterable[Outcome]) -> str:
    """What became of the targets."""
    head = ["| target | where | measured | wanted | |", "|---|---|---|---|---|"]
    return "\n".join([*head, *map(str, outcomes), ""])


def keep(file: Path | None, results: Mapping[str, Any]) -> None:
    """Write down what a benchmark has found, with date and machine; without a file, nothing."""
    if file:
        text = json.dumps({"machine": describe(), **results}, indent=1)
        file.write_text(f"{text}\n", encoding="utf-8")


def section(name: str) -> str:
    """The kept figures of a benchmark as they stand in the document."""
    results = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    machine = results["machine"]
    heading = (
        f"Measured {machine['date']} on {machine['cores']} cores of {machine['processor']}, Python"
        f" {machine['python']}, {machine['openssl']}.\n"
    )
    return f"{heading}\n{import_module(f'bench.{name}').document(results)}"


def markers(name: str) -> tuple[str, str]:
    """The lines before and after the figures of a benchmark."""
    return f"<!-- figures of bench/results/{name}.json -->\n", "<!-- end of figures -->\n"


def costs_of_imports() -> str:
    """The kept part of a cold start that belongs to docs/dependencies.md."""
    table = import_module("bench.cold_start").imports_table
    return str(table(json.loads((RESULTS / "cold_start.json").read_text(encoding="utf-8"))))


def put(document: Path, figures: Mapping[str, str]) -> None:
    """Put these figures of benchmarks between their lines in a document."""
    text = document.read_text(encoding="utf-8")
    for name, each in figures.items():
        begin, end = markers(name)
        head, found, rest = text.partition(begin)
        if not found:
            raise SystemExit(f"{document.name} has no line {begin.strip()}")
        text = f"{head}{begin}{each}{end}{rest.partition(end)[2]}"
    document.write_text(text, encoding="utf-8")


def main() -> None:
    """Put all kept figures into the documents."""
    put(DOCUMENT, {file.stem: section(file.stem) for file in sorted(RESULTS.glob("*.json"))})
    put(DEPENDENCIES, {"cold_start": costs_of_imports()})


if __name__ == "__main__":
    main()
