"""The judge of mutants can say both, and docs/mutants.md says what it has said."""

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.mutation.judge import RESULT, render
from tests.mutation.mutants import mutants

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs/mutants.md").read_text(encoding="utf-8")
RELIABILITY = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
KEPT = json.loads(RESULT.read_text(encoding="utf-8"))

SOURCE = '''
"""Not changed."""
LIMIT = 2

def wait(row: int | None = None) -> Status:
    """Not changed."""
    assert row
    if not row or row < LIMIT:
        return Status.STALE
    log(f"{row + 1} is not changed", "a message", "word")
    return max(row, key=len)
'''


def survivors(document: str) -> dict[str, str]:
    """The rows of the table of survivors: the mutant, and why it is no bug."""
    return dict(
        re.findall(r"^\| (\w+\.\S*: `.+` → `.+`(?: \(\d+\))?) \| ([^|]+) \|$", document, re.MULTILINE)
    )


def test_a_mutant_is_one_small_change() -> None:
    """Proves what is changed, and that messages, annotations and asserts are not."""
    expected = [
        "m.LIMIT: `LIMIT = 2` → `LIMIT = 3`",
        "m.LIMIT: `LIMIT = 2` → `LIMIT = 1`",
        "m.wait: `if not row or row < LIMIT: …` → `pass`",
        "m.wait: `not row or row < LIMIT` → `not row and row < LIMIT`",
        "m.wait: `not row or row < LIMIT` → `row < LIMIT`",
        "m.wait: `not row or row < LIMIT` → `not row`",
        "m.wait: `not row` → `row`",
        "m.wait: `row < LIMIT` → `row <= LIMIT`",
        "m.wait: `row < LIMIT` → `row >= LIMIT`",
        "m.wait: `return Status.STALE` → `return`",
        "m.wait: `Status.STALE` → `Status.BLOCKED`",
        "m.wait: `log(f'{row + 1} is not changed', 'a message', 'word')` → `pass`",
        (
            "m.wait: `log(f'{row + 1} is not changed', 'a message', 'word')`"
            " → `log(f'{row + 1} is not changed', 'a message', 'wordX')`"
        ),
        "m.wait: `return max(row, key=len)` → `return`",
        "m.wait: `max(row, key=len)` → `min(row, key=len)`",
        "m.wait: `max(row, key=len)` → `max(row)`",
    ]
    actual = [mutant.name for mutant in mutants("m", SOURCE)]

    assert expected == actual


def test_the_mutants_of_a_small_module_are_killed_but_for_those_that_are_listed() -> None:
    """Proves in a minute what `make mutants` does for all modules."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutation.judge", "--module", "inventory"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.findall(r"^inventory\..+", done.stdout.partition("Survivors:")[2], re.MULTILINE)

    assert [name for name in survivors(DOCUMENT) if name.startswith("inventory.")] == found


def test_the_document_has_the_figures_of_the_run_that_is_kept() -> None:
    """Proves the table, the day, and that every survivor is listed with why."""
    assert render(KEPT) in DOCUMENT
    assert f"On {KEPT['date']}, {KEPT['cores']} cores" in DOCUMENT
    assert set(KEPT["survivors"]) == set(survivors(DOCUMENT))
    assert all(len(why.split()) > 3 for why in survivors(DOCUMENT).values())


def test_the_share_is_the_one_that_the_page_on_reliability_names() -> None:
    """Proves the figure that others see first, and that the simulator knows no better."""
    mutants, killed = (sum(n[what] for n in KEPT["modules"].values()) for what in ("mutants", "killed"))

    assert mutants - killed == len(KEPT["survivors"])
    assert f"[{100 * killed / mutants:.1f} % of {mutants:,} mutants](mutants.md) are killed" in RELIABILITY
    assert "kills none of the survivors" in DOCUMENT
    assert not any(KEPT["survivors"].values())


def test_at_least_nine_of_ten_mutants_of_every_module_are_killed() -> None:
    """Proves the promise."""
    assert set() == {name for name, n in KEPT["modules"].items() if n["killed"] < 0.9 * n["mutants"]}
