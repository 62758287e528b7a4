"""A fleet too large for one pass, as messages on a queue: how many shards, and what a message may say. Pure.

A message is a hint, like an event: it says which part to look at, never what is true of it, and nothing in it
can make the part larger than what the app itself would have put there.
"""

import json
import re
from dataclasses import dataclass
from datetime import datetime

from rotation.model import BUCKETS, Shard

LONGEST = 1024
"""Bytes of a message; ours have some 120."""

_RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_FIELDS = {"run_id", "number", "of", "put_at"}


@dataclass(frozen=True, slots=True)
class Part:
    """A shard to be looked at in a run; `put_at` is when it was asked for, None where that is not known."""

    run_id: str
    shard: Shard
    put_at: datetime | None

    def is_done(self, looked_at: datetime | None) -> bool:
        """Whether the shard was looked at since: the message came twice, or has waited for too long."""
        return looked_at is not None and self.put_at is not None and looked_at > self.put_at


def how_many(services: int, size: int) -> int:
    """How many shards of at most this size on average: a power of two, so that growth halves them."""
    shards = 1
    while services > shards * size and shards < BUCKETS:
        shards *= 2
    return shards


def to_messages(run_id: str, of: int, put_at: datetime | None) -> list[str]:
    """One message for each shard."""
    when = put_at.isoformat() if put_at else None
    return [
        json.dumps({"run_id": run_id, "number": number, "of": of, "put_at": when})
        for number in range(1, of + 1)
    ]


def from_message(body: bytes) -> Part:
    """What a message asks for.

    Raises:
        ValueError: it is none of ours.
    """
    if len(body) > LONGEST:
        raise ValueError(f"it has {len(body):,} bytes")
    try:
        said = json.loads(body)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(said, dict) or said.keys() != _FIELDS:
        raise ValueError(f"it is no object of {', '.join(sorted(_FIELDS))}")
    run_id, number, of, put_at = said["run_id"], said["number"], said["of"], said["put_at"]
    if not isinstance(run_id, str) or not _RUN_ID.fullmatch(run_id):
        raise ValueError("its run_id is no GUID")
    if type(number) is not int or type(of) is not int:
        raise ValueError("its shard is no two numbers")
    when = None
    if put_at is not None:
        when = datetime.fromisoformat(str(put_at))
        if when.tzinfo is None:
            raise ValueError("its put_at has no time zone")
    return Part(run_id, Shard(number, of), when)
