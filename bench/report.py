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


def main() -> None:
    """Put all kept figures into the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    for file in sorted(RESULTS.glob("*.json")):
        begin, end = markers(file.stem)
        head, found, rest = text.partition(begin)
        if not found:
            raise SystemExit(f"{DOCUMENT.name} has no line {begin.strip()}")
        text = f"{head}{begin}{section(file.stem)}{end}{rest.partition(end)[2]}"
    DOCUMENT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
