"""How a fleet is split, and what a message of the queue may say."""

import json
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotation.model import Scope, Shard
from rotation.shards import LONGEST, Part, from_message, how_many, to_messages
from tests.unit.build import NOW

RUN = "0f8fad5b-d9cb-469f-a165-70867728950e"
KEYS = [f"/subscriptions/s/providers/microsoft.apimanagement/service/apim-{n}" for n in range(2000)]
SIZES = [2**power for power in range(1, 9)]


@pytest.mark.parametrize("of", SIZES)
def test_every_gateway_is_in_exactly_one_shard_and_shards_are_alike_in_size(of: int) -> None:
    """Proves that none is lost and none doubled."""
    shards = [Shard(number, of) for number in range(1, of + 1)]
    held = [[key for key in KEYS if shard.holds(key)] for shard in shards]

    assert sorted(KEYS) == sorted(key for keys in held for key in keys)
    assert max(map(len, held)) < 3 * len(KEYS) / of + 10


@pytest.mark.parametrize("of", SIZES[:-1])
def test_twice_as_many_shards_are_halves(of: int) -> None:
    """Proves that growth moves no gateway but into a half of where it was."""
    for number in range(1, of + 1):
        halves = Shard(2 * number - 1, 2 * of), Shard(2 * number, 2 * of)

        assert [*Shard(number, of).buckets] == [bucket for half in halves for bucket in half.buckets]


@pytest.mark.parametrize(
    ("services", "size", "expected"),
    [(0, 2000, 1), (2000, 2000, 1), (2001, 2000, 2), (4001, 2000, 4), (100_000, 2000, 64), (10**7, 1, 256)],
)
def test_a_shard_has_at_most_its_size_on_average(services: int, size: int, expected: int) -> None:
    """Proves the doubling, and the end of it."""
    assert expected == how_many(services, size)


@pytest.mark.parametrize(("number", "of"), [(1, 1), (0, 2), (3, 2), (1, 3), (1, 512), (-1, 4)])
def test_there_is_no_other_shard(number: int, of: int) -> None:
    """Proves that everything is no shard, and that shards have numbers."""
    with pytest.raises(ValueError, match="there is no shard"):
        Shard(number, of)


def test_what_is_put_on_the_queue_can_be_read() -> None:
    """Proves that the two sides agree, and that a message is small."""
    messages = to_messages(RUN, 4, NOW)

    assert [Part(RUN, Shard(number, 4), NOW) for number in range(1, 5)] == [
        from_message(message.encode()) for message in messages
    ]
    assert [Part(RUN, Shard(2, 2), None)] == [from_message(to_messages(RUN, 2, None)[1].encode())]
    assert max(map(len, messages)) < LONGEST / 4


@given(
    body=st.binary(max_size=200)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_whatever_else_is_no_message(body: bytes) -> None:
    """Proves that nothing but a ValueError comes of it."""
    with pytest.raises(ValueError, match=r"\S"):
        from_message(body)


@pytest.mark.parametrize(
    ("put_at", "looked_at", "expected"),
    [
        (NOW, None, False),
        (NOW, NOW - timedelta(minutes=5), False),
        (NOW, NOW, False),
        (NOW, NOW + timedelta(seconds=1), True),
        (None, NOW, False),
    ],
)
def test_a_part_is_done_when_its_shard_was_looked_at_since(
    put_at: datetime | None, looked_at: datetime | None, *, expected: bool
) -> None:
    """Proves that in doubt it is done again: that is harmless."""
    assert expected == Part(RUN, Shard(1, 2), put_at).is_done(looked_at)


def test_a_shard_is_a_part_of_everything_and_of_nothing_else() -> None:
    """Proves what counts as a pass over everything."""
    assert [True, True, False, False] == [
        scope.everything
        for scope in (
            Scope(),
            Scope(shard=Shard(1, 2), run_id=RUN),
            Scope(hostname="api.contoso.com"),
            Scope(gateway_id="x", shard=Shard(1, 2)),
        )
    ]
    assert "shard 1 of 2" == str(Scope(shard=Shard(1, 2), run_id=RUN))
