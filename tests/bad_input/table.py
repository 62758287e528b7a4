"""The rows of the tables of bad input: what comes in, why that is hostile, and what is right.

An example `Bnn` is one of the list that the suite began with; `own` is one that was added. A row is either
tried here, at the door of the running host, or names the test that holds it.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Case:
    """Tried here. What `given` is, and what `right` means, the table's own test says."""

    example: str
    what: str
    why: str
    right: Any
    given: Any

    def __str__(self) -> str:
        """As pytest shows it."""
        return f"{self.example} {self.what}"


@dataclass(frozen=True, slots=True)
class Held:
    """Held elsewhere: `by` is a test as `path::name`, or `path::name[id]` where its table has such a row."""

    example: str
    what: str
    why: str
    right: str
    by: str

    def __str__(self) -> str:
        """As pytest shows it."""
        return f"{self.example} {self.what}"
