"""Counts what a pass asks of others, where the sockets are.

A pass counts what its own tasks call, whatever runs beside it in the same process.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

Called = Literal["arm_reads", "arm_writes", "resource_graph_queries", "key_vault_reads", "handshakes"]
"""The fields of `model.Calls`."""

_counter: ContextVar[Counter[str] | None] = ContextVar("calls", default=None)


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """What is called inside, by its name."""
    counter = Counter[str]()
    token = _counter.set(counter)
    try:
        yield counter
    finally:
        _counter.reset(token)


def count(called: Called, number: int = 1) -> None:
    """Add to what is being counted, if anything is."""
    if (counter := _counter.get()) is not None:
        counter[called] += number


def called(method: str, path: str) -> Called | None:
    """Whose budget a request is drawn from; None for tokens, the ledger and notices."""
    match path.lower().split("/")[1:]:
        case ["providers", "microsoft.resourcegraph", *_]:
            return "resource_graph_queries"
        case ["subscriptions" | "providers", *_]:
            return "arm_reads" if method in {"GET", "HEAD"} else "arm_writes"
        case ["certificates" | "deletedcertificates", *_]:
            return "key_vault_reads"
    return None
