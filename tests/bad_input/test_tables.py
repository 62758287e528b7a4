"""The tables are whole: every example is in one, as many were added, and what a row names exists."""

import ast
import re
from collections import Counter
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.bad_input.table import Case, Held

PROJECT = Path(__file__).resolve().parents[2]
SKIPPED = {14, 17, 29, 30, 39, 43, 51, 63, 71, 75, 85, 88, 90, 92, 94}
"""Numbers that the first list does not have."""

BESIDE = {"B20", "B23", "B52"}
"""Tests of their own, beside a table."""

EXAMPLES = {f"B{number:02}" for number in range(1, 96) if number not in SKIPPED}
DOORS = {
    "webhook": "Event Grid webhook",
    "queues": "event queue and shard queue",
    "http": "HTTP API and page",
    "settings": "settings",
    "arm": "ARM",
    "application_gateways": "Application Gateways, tags and named values",
    "resource_graph": "Resource Graph",
    "key_vault": "Key Vault",
    "ledger": "ledger rows in SQLite and Table storage",
    "app_insights": "Application Insights",
    "peers": "TLS peers and DNS",
}


def rows(door: str) -> list[Any]:
    """Every row of a door's tables."""
    module = import_module(f"tests.bad_input.test_{door}")
    tables = [value for value in vars(module).values() if isinstance(value, tuple)]
    return [row for table in tables for row in table if isinstance(row, Case | Held)]


ROWS = {door: rows(door) for door in DOORS}


@cache
def source(path: str) -> str:
    """A test module."""
    return (PROJECT / path).read_text(encoding="utf-8")


@cache
def declared_in(path: str) -> frozenset[str]:
    """The names of its tests."""
    return frozenset(
        node.name for node in ast.walk(ast.parse(source(path))) if isinstance(node, ast.FunctionDef)
    )


def test_every_example_has_a_row_and_as_many_rows_are_new() -> None:
    """B01 to B95, and at least 95 of our own."""
    found = Counter(row.example for door in ROWS.values() for row in door)

    assert set() == EXAMPLES - set(found) - BESIDE
    assert set() == set(found) - EXAMPLES - {"own"}
    assert found["own"] >= 95


def test_the_page_says_how_many_rows_there_are() -> None:
    """At least as many as docs/reliability.md names."""
    assert "more than 250 rows" in source("docs/reliability.md")
    assert sum(map(len, ROWS.values())) > 250


def test_every_door_has_a_table() -> None:
    """And every table is of a door."""
    modules = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}

    assert set(DOORS) == modules - {"tables"}
    assert {} == {door: len(found) for door, found in ROWS.items() if len(found) < 12}


@pytest.mark.parametrize(
    "held", [row for door in ROWS.values() for row in door if isinstance(row, Held)], ids=str
)
def test_the_test_that_holds_a_row_exists(held: Held) -> None:
    """Its function, and its own row where it names one."""
    path, _, rest = held.by.partition("::")
    name, _, row = rest.partition("[")

    assert name in declared_in(path)
    if row:
        assert re.search(rf"""["']{re.escape(row.removesuffix("]"))}["']""", source(path)), row


def test_no_row_is_there_twice() -> None:
    """In one table, each says something of its own."""
    for door, found in ROWS.items():
        twice = [row for row, times in Counter(map(str, found)).items() if times > 1]
        assert [] == twice, door
