"""What has left the app, and the secrets that must not be in it.

Every secret that the sandbox hands out is a canary: a text that occurs nowhere else. Whatever the app prints,
answers, stores or sends passes `told`, and what is found there waits in `take`.
"""

import re
import secrets
from collections import Counter

INSTRUMENTATION_KEY = "ca9a12e5-93de-4b6e-8a47-0d4f6be21c35"

_CANARY = re.compile(
    rb"canary-[A-Za-z0-9_-]{8,}|canary\+[0-9a-f]{8,}|-----BEGIN [A-Z ]*PRIVATE KEY-----|"
    + INSTRUMENTATION_KEY.encode(),
    re.IGNORECASE,
)
_LONGEST = 200

_found: list[str] = []
places: Counter[str] = Counter()
"""How often something was told of each place."""


def canary() -> str:
    """A new secret, safe in headers, URLs and connection strings."""
    return f"canary-{secrets.token_urlsafe(24)}"


def canary_key() -> str:
    """A new secret that is base64, as the key of a storage account is."""
    return f"canary+{secrets.token_hex(28)}="


def told(place: str, said: bytes | str, asked: str = "") -> None:
    """Look for secrets in what came out at a place; what the caller `asked` with, he may be given back."""
    places[place.partition(":")[0]] += 1
    text = said.encode(errors="replace") if isinstance(said, str) else said
    _found.extend(
        f"{place}: …{text[max(0, match.start() - _LONGEST) : match.end()].decode(errors='replace')}…"
        for match in _CANARY.finditer(text)
        if match[0].decode() not in asked
    )


def take() -> list[str]:
    """The secrets found since this was asked last, each with its place and what stands before it."""
    leaks = list(_found)
    _found.clear()
    return leaks
