"""What the functions are registered with: read from the environment at the start of a worker.

Every idle worker pays for what is imported here, so it is little. A wrong value counts as none; `settings`,
which parses with the functions below, reports it once there is a trigger.
"""

import os
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")

PREFIX = "ROTATION_"
DEFAULT_SCHEDULE = "15 */5 * * * *"
PLATFORM_SIGN_IN = "WEBSITE_AUTH_ENABLED"
"""Set by App Service where its authentication is on, which then strips x-ms-client-principal from outside."""

_NCRONTAB_FIELD = re.compile(r"[0-9A-Za-z*,/-]+")
_QUEUE = re.compile(r"(?=[a-z0-9-]{3,63}$)[a-z0-9]+(-[a-z0-9]+)*")


def schedule() -> str:
    """The timer's NCRONTAB expression."""
    return _take("SCHEDULE", DEFAULT_SCHEDULE, parse_schedule)


def event_queue() -> str | None:
    """The storage queue that events come through, None where Event Grid calls the app."""
    return _take("EVENT_QUEUE", None, parse_queue)


def shard_queue() -> str | None:
    """The storage queue of shards, None where the timer looks at everything itself."""
    return _take("SHARD_QUEUE", None, parse_queue)


def sign_in() -> bool:
    """Whether people come with an app role of Entra, not with a key."""
    return _take("SIGN_IN", default=False, parse=lambda text: parse_sign_in(text, os.environ))


def parse_schedule(text: str) -> str:
    """Six fields, as the host wants them; ValueError where it would not index the function."""
    fields = text.split()
    if len(fields) != 6 or not all(map(_NCRONTAB_FIELD.fullmatch, fields)):
        raise ValueError(
            f"write an NCRONTAB expression of six fields, seconds first, like {DEFAULT_SCHEDULE!r}."
        )
    return text


def parse_queue(text: str) -> str:
    """The name of a storage queue, else ValueError."""
    if not _QUEUE.fullmatch(text):
        raise ValueError(
            "write the name of a storage queue: 3 to 63 lower-case letters, digits and single hyphens."
        )
    return text


def parse_sign_in(text: str, environ: Mapping[str, str]) -> bool:
    """ValueError also where the platform's authentication is off: anybody could then say who he is."""
    if text.lower() not in {"on", "off"}:
        raise ValueError("write on (Entra sign-in with app roles) or off (function keys).")
    if text.lower() == "on" and environ.get(PLATFORM_SIGN_IN, "").lower() != "true":
        raise ValueError("App Service Authentication is off; turn it on first, see docs/http-api.md.")
    return text.lower() == "on"


def _take(name: str, default: T, parse: Callable[[str], T]) -> T:
    text = os.environ.get(PREFIX + name, "").strip()
    try:
        return parse(text) if text else default
    except ValueError:
        return default
