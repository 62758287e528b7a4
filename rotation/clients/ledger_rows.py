"""A row of the attempt ledger as JSON, alike in every ledger: the one place to name a new field.

What is read may be of an older or a newer version of the app, or of nobody's making:

- a field that is not known is passed over, one that is missing has its default; only those that hold
  the limit on syncs must be there;
- texts are cleaned, because whoever writes the ledger is not the one who shows them;
- `attempts` are held to 0..1000, and `next_at` to 25 hours after `asked_at` where the two were set together,
  which is so unless the last answer was a refusal: no row can say "never again";
- whatever else makes no sense is an error, because to go on as if nothing had been attempted would lift
  the limit. Years outside 2000..2199 are among that: to reckon with them would overflow later.
"""

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from rotation.model import (
    Asked,
    Event,
    LastVerdict,
    LedgerRow,
    Pause,
    Reason,
    Rotation,
    Status,
    SyncOutcome,
    Trigger,
    Wanted,
    clean,
)

MOST_ATTEMPTS = 1000
OPERATIONS_KEPT = 50
"""Runs by hand whose reports a ledger keeps."""

SETS_KEPT = timedelta(hours=1)
"""How long the reports of as many shards as there were before stay after the last of them."""

FURTHEST_NEXT = timedelta(hours=25)
LONGEST_TEXT = 4096
LARGEST_REPORT = 256 * 1024 * 1024
"""Bytes of JSON, of a hundred thousand gateways; what is packed could be blown up to any size."""

_REQUIRED = frozenset({"wanted", "attempts", "asked_at", "next_at"})


def row_to_text(row: LedgerRow) -> str:
    """The row without its key and its etag, which the ledger keeps beside it."""
    return json.dumps({name: kind.to_json(getattr(row, name)) for name, kind in _FIELDS.items()})


def row_from_text(key: str, etag: str, text: str) -> LedgerRow:
    """The row that was stored.

    Raises:
        ValueError, TypeError, ArithmeticError, RecursionError: it makes no sense.
    """
    body = _object(text)
    if missing := _REQUIRED - body.keys():
        raise ValueError(f"the row of {key} has no {', '.join(sorted(missing))}")
    values = {name: kind.from_json(body[name]) for name, kind in _FIELDS.items() if name in body}
    row = LedgerRow(key, **values, etag=etag)
    refused = row.outcome is not None and row.outcome.refused
    if row.asked_at and row.next_at and not refused:
        row = replace(row, next_at=min(row.next_at, row.asked_at + FURTHEST_NEXT))
    return row


def pause_to_text(pause: Pause) -> str:
    """The kill switch as JSON."""
    return json.dumps(_PAUSE.to_json(pause))


def pause_from_text(text: str) -> Pause:
    """The kill switch that was stored.

    Raises:
        ValueError, TypeError, ArithmeticError, RecursionError: it makes no sense.
    """
    pause: Pause = _PAUSE.from_json(_object(text))
    return pause


def report_from_text(text: str) -> Mapping[str, object]:
    """The report that was stored as JSON.

    Raises:
        ValueError, TypeError, ArithmeticError, RecursionError: it makes no sense.
    """
    return _object(text)


def report_to_bytes(report: Mapping[str, object]) -> bytes:
    """The report as JSON, compressed as it is written: of a large fleet the text is thirty megabytes."""
    packing = zlib.compressobj(level=1)
    packed = bytearray()
    for piece in _pieces(report):
        packed += packing.compress(piece.encode())
    return bytes(packed + packing.flush())


def report_from_bytes(packed: bytes) -> Mapping[str, object]:
    """The report that was stored as compressed JSON.

    Raises:
        ValueError, TypeError, ArithmeticError, RecursionError: it makes no sense.
    """
    unpacking = zlib.decompressobj()
    try:
        text = unpacking.decompress(packed, LARGEST_REPORT)
    except zlib.error as error:
        raise ValueError(f"the report that is kept is not whole: {error}") from error
    if not unpacking.eof:
        raise ValueError("the report that is kept is not whole, or too large")
    return report_from_text(text.decode())


def set_kept_since(as_of: str) -> str:
    """The time, as text, before which reports of another number of shards are forgotten.

    Raises:
        ValueError: it is no time.
    """
    return (datetime.fromisoformat(as_of) - SETS_KEPT).isoformat() if as_of else ""


def _pieces(report: Mapping[str, object]) -> Iterator[str]:
    """What json.dumps would give, a verdict at a time."""
    for position, (name, value) in enumerate(report.items()):
        yield f"{', ' if position else '{'}{json.dumps(name)}: "
        if isinstance(value, list):
            yield "["
            for number, item in enumerate(value):
                yield f"{', ' if number else ''}{json.dumps(item)}"
            yield "]"
        else:
            yield json.dumps(value)
    yield "}" if report else "{}"


def _object(text: str) -> Mapping[str, Any]:
    body = json.loads(text)
    if not isinstance(body, dict):
        raise TypeError(f"stored is a {type(body).__name__}, not an object")
    return body


@dataclass(frozen=True, slots=True)
class _Kind:
    """How the values of a field are written and read."""

    to_json: Callable[[Any], object]
    from_json: Callable[[Any], Any]


def _count(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r:.40} is no number of attempts")
    return max(0, min(value, MOST_ATTEMPTS))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return clean(value, LONGEST_TEXT)


def _moment(value: object) -> datetime:
    moment = datetime.fromisoformat(_text(value))
    if moment.tzinfo is None or not 2000 <= moment.year < 2200:
        raise ValueError(f"{value!r:.40} has no time zone, or is of no year of ours")
    return moment


def _or_none(kind: _Kind) -> _Kind:
    """None and what was written for it."""
    return _Kind(
        lambda value: None if value is None else kind.to_json(value),
        lambda value: None if value is None else kind.from_json(value),
    )


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r:.40} is neither true nor false")
    return value


def _number(value: object) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r:.40} is no number")
    return float(value)


def _entries(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r:.40} does not map names to anything")
    return value


def _items(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r:.40} is no list")
    return value


def _by_name(kind: _Kind) -> _Kind:
    return _Kind(
        lambda values: {name: kind.to_json(value) for name, value in values.items()},
        lambda values: {name: kind.from_json(value) for name, value in _entries(values).items()},
    )


def _in_order(kind: _Kind) -> _Kind:
    return _Kind(
        lambda values: [kind.to_json(value) for value in values],
        lambda values: tuple(kind.from_json(value) for value in _items(values)),
    )


def _record(type_: Callable[..., Any], fields: Mapping[str, _Kind]) -> _Kind:
    """A value of several fields; one that is missing has its default, where it has one."""
    return _Kind(
        lambda value: {name: kind.to_json(getattr(value, name)) for name, kind in fields.items()},
        lambda value: type_(
            **{name: kind.from_json(_entries(value)[name]) for name, kind in fields.items() if name in value}
        ),
    )


_TEXT = _Kind(str, _text)
_FLAG = _Kind(bool, _flag)
_MOMENT = _Kind(lambda moment: moment.astimezone(UTC).isoformat(), _moment)
_PERHAPS = _or_none(_MOMENT)

_WANTED = _record(Wanted, {"version": _TEXT, "since": _MOMENT})
_LAST = _record(
    LastVerdict,
    {
        "status": _Kind(str, Status),
        "reason": _Kind(str, Reason),
        "drift": _FLAG,
        "since": _MOMENT,
        "version": _TEXT,
    },
)
_ROTATION = _record(
    Rotation,
    {
        "certificate": _TEXT,
        "version": _TEXT,
        "created": _MOMENT,
        "noticed": _MOMENT,
        "caught_by": _Kind(str, Trigger),
        "synced": _PERHAPS,
        "first_served": _PERHAPS,
        "proven": _PERHAPS,
    },
)
_EVENT = _record(
    Event,
    {
        "name": _TEXT,
        "properties": _by_name(_TEXT),
        "measurements": _by_name(_Kind(float, _number)),
        "event_id": _TEXT,
    },
)
_ASKED = _record(Asked, {"at": _MOMENT, "outcome": _Kind(str, SyncOutcome)})
_PAUSE = _record(Pause, {"at": _MOMENT, "reason": _TEXT})

_FIELDS: Mapping[str, _Kind] = {
    "wanted": _by_name(_WANTED),
    "attempts": _Kind(int, _count),
    "asked_at": _PERHAPS,
    "next_at": _PERHAPS,
    "hold_until": _PERHAPS,
    "awaited_until": _PERHAPS,
    "outcome": _or_none(_Kind(str, SyncOutcome)),
    "operation_url": _or_none(_TEXT),
    "claim_id": _TEXT,
    "forced_at": _PERHAPS,
    "proven_at": _PERHAPS,
    "last": _by_name(_LAST),
    "rotations": _in_order(_ROTATION),
    "outbox": _in_order(_EVENT),
    "missing_since": _PERHAPS,
    "front_content_at": _PERHAPS,
    "front_trusts": _TEXT,
    "asked": _by_name(_ASKED),
}
