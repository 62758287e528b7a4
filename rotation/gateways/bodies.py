"""What the kinds of gateway read alike in ARM's bodies: tags, references to Key Vault, and their shape."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypedDict

from rotation.model import Gateway, KeyVaultReference, clean

TAG_EXCLUDE = "rotation-exclude"
TAG_PAUSE = "rotation-pause"
TAG_RING = "rotation-ring"
LAST_RING = 9

_THUMBPRINT = re.compile(r"[0-9A-F]{40}")


class Tagged(TypedDict):
    """The fields of a `Gateway` that its owner sets by tags."""

    excluded: bool
    paused: bool
    ring: int


def tags(body: Mapping[str, Any]) -> Mapping[str, str]:
    """The tags of a resource, in lower case.

    Raises:
        ValueError: they are no object.
    """
    found = mapping(body.get("tags") or {}, "tags")
    return {str(name).lower(): str(value).strip().lower() for name, value in found.items()}


def tagged(found: Mapping[str, str]) -> Tagged:
    """What the tags say of the gateway."""
    return {
        "excluded": found.get(TAG_EXCLUDE) == "true",
        "paused": found.get(TAG_PAUSE) == "true",
        "ring": _ring(found.get(TAG_RING, "0")),
    }


def _ring(text: str) -> int:
    """A ring from 0 to 9; what is no such number is the last, because it was meant to wait."""
    return int(text) if text in set("0123456789") else LAST_RING


def within(subscriptions: Collection[str], gateway: Gateway) -> Gateway:
    """The gateway, if it is in one of these subscriptions (in lower case), whoever has shown it to us.

    Raises:
        ValueError: it is not.
    """
    if gateway.key.split("/")[2] not in subscriptions:
        raise ValueError(f"{clean(gateway.id)} is in none of the subscriptions that are looked at")
    return gateway


def reference(
    key_vault_id: str | None, vault_suffix: str, vaults: frozenset[str]
) -> KeyVaultReference | None:
    """What a Key Vault URL refers to; None where that is in no vault that may be read."""
    try:
        found = KeyVaultReference.from_url(key_vault_id or "", vault_suffix)
    except ValueError:
        return None
    return found if not vaults or found.certificate.vault_host in vaults else None


def thumbprint(value: object) -> str | None:
    """A thumbprint as we compare it, None where it is none."""
    text = str(value or "").upper()
    return text if _THUMBPRINT.fullmatch(text) else None


def mapping(value: object, what: str) -> Mapping[str, Any]:
    """An object of a body.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"its {what} is no object")
    return value


def sequence(body: Mapping[str, Any], name: str) -> Sequence[Any]:
    """A list of a body; an empty one where it is missing.

    Raises:
        ValueError: it is none.
    """
    value = body.get(name) or []
    if not isinstance(value, list):
        raise ValueError(f"its {name} is no list")
    return value
