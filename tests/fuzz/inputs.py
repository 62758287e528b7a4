"""Hostile inputs: well-formed examples with something changed in them, JSON of any shape, and plain bytes."""

import copy
import json
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

from hypothesis import strategies as st

HOSTILE: tuple[object, ...] = (
    *(
        "",
        " ",
        "\0",
        "\r\nX-Evil: 1",
        "\x1b[31m",
        "\u202e",
        "\u2028",
        "\ud800",
        "../../x",
        "%2f..%2f",
        "<script>",
    ),
    *("=cmd|' /C calc'!A0", "a" * 300, "\u043api-contoso", "https://evil.example/certificates/x/1"),
    *(
        "https://kv-contoso.vault.azure.net@evil.example/certificates/x",
        "169.254.169.254",
        "file:///etc/passwd",
    ),
    *(None, True, False, 0, -1, 1e300, float("nan"), float("inf"), 10**400, 2**63),
    *([], {}, [[]], [None], {"": {}}, {"a" * 300: 1}),
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(HOSTILE),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
"""JSON of any shape."""


def changed(example: object) -> st.SearchStrategy[object]:
    """The example with one value replaced, a key taken away or one added."""
    paths = list(_paths(example))

    def change(where: tuple[str | int, ...], what: object, how: str) -> object:
        whole: Any = copy.deepcopy(example)
        if not where:
            return what
        inside = whole
        for step in where[:-1]:
            inside = inside[step]
        if how == "remove":
            del inside[where[-1]]
        elif how == "wrap":
            inside[where[-1]] = [inside[where[-1]], what]
        else:
            inside[where[-1]] = what
        return whole

    how = st.sampled_from(["replace", "replace", "replace", "remove", "wrap"])
    return st.builds(change, st.sampled_from(paths), st.sampled_from(HOSTILE) | anything, how)


def bodies(example: object) -> st.SearchStrategy[bytes]:
    """A changed example as JSON, any JSON, JSON with bytes changed in it, or bytes."""
    text = changed(example).map(encode)
    whole = encode(example)

    def splice(at: int, length: int, piece: bytes) -> bytes:
        at %= len(whole) + 1
        return whole[:at] + piece + whole[at + length :]

    spliced = st.builds(splice, st.integers(0, 10_000), st.integers(0, 30), st.binary(max_size=8))
    return text | text | anything.map(encode) | spliced | st.binary(max_size=64)


def again(body: bytes, random: Random) -> bytes:
    """A body with one more thing changed in it: of JSON a value, put elsewhere or made hostile, else bytes.

    What hypothesis has made is so led into several cases, each for a tenth of the time.
    """
    try:
        whole: Any = json.loads(body)
        where = random.choice(list(_paths(whole)))
    except (RecursionError, ValueError):
        at = random.randrange(len(body) + 1)
        return body[:at] + random.randbytes(random.randrange(4)) + body[at + random.randrange(4) :]
    if not where:
        return encode([whole, random.choice(HOSTILE)])
    inside = whole
    for step in where[:-1]:
        inside = inside[step]
    other = whole
    for step in random.choice(list(_paths(whole))):
        other = other[step]
    inside[where[-1]] = copy.deepcopy(random.choice([random.choice(HOSTILE), random.choice(HOSTILE), other]))
    return encode(whole)


def encode(value: object) -> bytes:
    """JSON as a careless sender writes it: with NaN, and with halves of surrogate pairs."""
    return json.dumps(value).encode()


def _paths(value: object, here: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield here
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _paths(inner, (*here, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _paths(inner, (*here, index))
