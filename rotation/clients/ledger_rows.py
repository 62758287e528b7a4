"""A row of the attempt ledger as JSON, alike in every ledger: the one place to name a new field.

What is read may be of an older or a newer version of the app, or of nobody's making:

- a field that is not known is passed over, one that is missing has its default; only those that hold
  the limit on syncs must be there;
- `attempts` are held to 0..1000, and `next_at` to 25 hours after `asked_at` where the two were set together,
  which is so unless the last answer was a refusal: no row can say "never again";
- whatever else makes no sense is an error, because to go on as if nothing had been attempted would lift
  the limit. Years outside 2000..2199 are among that: to reckon with them would overflow later.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from rotation.model import LedgerRow, SyncOutcome, Trigger

MOST_ATTEMPTS = 1000
FURTHEST_NEXT = timedelta(hours=25)

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


def report_from_text(text: str) -> Mapping[str, object]:
    """The report that was stored as JSON.

    Raises:
        ValueError, TypeError, ArithmeticError, RecursionError: it makes no sense.
    """
    return _object(text)


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
    return value


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r:.40} does not map names to versions")
    return {name: _text(version) for name, version in value.items()}


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


_TEXT = _Kind(str, _text)
_MOMENT = _or_none(_Kind(lambda moment: moment.astimezone(UTC).isoformat(), _moment))

_FIELDS: Mapping[str, _Kind] = {
    "wanted": _Kind(dict, _texts),
    "attempts": _Kind(int, _count),
    "asked_at": _MOMENT,
    "next_at": _MOMENT,
    "hold_until": _MOMENT,
    "outcome": _or_none(_Kind(str, SyncOutcome)),
    "operation_url": _or_none(_TEXT),
    "caught_by": _or_none(_Kind(str, Trigger)),
    "claim_id": _TEXT,
    "forced_at": _MOMENT,
    "proven_at": _MOMENT,
}
