"""What was measured, as text: a file of results for each benchmark, and its place in docs/performance.md.

    python -m bench.report

renders each bench/results/NAME.json by `document` of bench/NAME.py, and puts it between the lines
`<!-- figures of bench/results/NAME.json -->` and `<!-- end of figures -->`.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.machine import describe

PROJECT = Path(__file__).resolve().parents[1]
RESULTS = PROJECT / "bench/results"
DOCUMENT = PROJECT / "docs/performance.md"
DEPENDENCIES = PROJECT / "docs/dependencies.md"
SCALE = PROJECT / "docs/scale.md"


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


def arguments(name: str, doc: str | None, *, quick: str) -> argparse.ArgumentParser:
    """What every `python -m bench.NAME` may be told: where to keep the results, and to measure little."""
    parser = argparse.ArgumentParser(
        prog=f"python -m bench.{name}", description=(doc or "").partition("\n")[0]
    )
    parser.add_argument("--json", type=Path, help="keep the results in this file")
    parser.add_argument("--quick", action="store_true", help=quick)
    return parser


def tell(
    measure: Callable[[], Mapping[str, Any]], document: Callable[[Mapping[str, Any]], str], file: Path | None
) -> Mapping[str, Any]:
    """Measure, print and keep: the results, with the machine's load before and after."""
    before = os.getloadavg()[0]
    found = measure()
    results = {**found, "load": f"{before:.1f} to {os.getloadavg()[0]:.1f}"}
    print(document(results))
    keep(file, results)
    return results


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


def costs_at_scale() -> str:
    """The kept cost of a full pass, as docs/scale.md reckons with it."""
    month = import_module("bench.full_pass").month
    return str(month(json.loads((RESULTS / "full_pass.json").read_text(encoding="utf-8"))))


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
    put(SCALE, {"full_pass": costs_at_scale()})


if __name__ == "__main__":
    main()
