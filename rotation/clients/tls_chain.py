"""The whole chain that a server presents, for a person to look at. No verdict rests on it."""

import asyncio
import hashlib
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rotation.clients.x509 import describe

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Link:
    """One certificate of a chain, the leaf first."""

    subject: str
    issuer: str
    thumbprint: str
    not_after: datetime | None


async def read_chain(
    address: Address, sni: str, connect_to: Mapping[Address, Address], within: timedelta
) -> list[Link]:
    """The chain as it is sent, unverified; empty where no handshake succeeds."""
    place = connect_to.get((address[0].lower(), address[1]), address)
    try:
        chain = await asyncio.to_thread(_read, place, sni, within.total_seconds())
    except (OSError, ValueError):
        return []
    leaves = [(der, describe(der)) for der in chain]
    return [
        Link(leaf.subject, leaf.issuer, hashlib.sha1(der).hexdigest().upper(), leaf.not_after)  # noqa: S324 - Azure's identity for a leaf, not trust
        for der, leaf in leaves
    ]


def _read(address: Address, sni: str, seconds: float) -> list[bytes]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(address, timeout=seconds) as plain,
        context.wrap_socket(plain, server_hostname=sni) as tls,
    ):
        inner: Any = tls if hasattr(tls, "get_unverified_chain") else tls._sslobj  # type: ignore[attr-defined]  # noqa: SLF001
        chain = inner.get_unverified_chain() or []
    return [bytes(link) if isinstance(link, bytes) else bytes(link.public_bytes(2)) for link in chain]
