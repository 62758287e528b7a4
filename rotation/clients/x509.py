"""What a certificate says of itself, for display and for the rules about dates and names.

A hostile certificate must not stop a verdict: each field that cannot be read is left empty. A field is parsed
when it is first asked for: between handshakes it would cost three times as much as after them.
"""

import hashlib
from collections.abc import Callable
from datetime import datetime
from functools import cached_property, lru_cache
from threading import Lock
from typing import TYPE_CHECKING, TypeVar
from warnings import catch_warnings, simplefilter

from rotation.model import clean

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

T = TypeVar("T")

MOST_NAMES = 4096
REMEMBERED = 4096
"""Certificates that are parsed once: the next pass, and the next connection, mostly meets the same."""

LARGEST_REMEMBERED = 4096
"""Bytes; most have 2,000. A peer may send a new one of a hundred kilobytes on every connection."""

_WARNING_FILTERS = Lock()
"""The interpreter has one list of them, and who describes may do so on any thread."""


class Described:
    """A certificate in DER and its readable part; None and empty where it cannot be read."""

    def __init__(self, der: bytes) -> None:
        self._der = der

    @cached_property
    def thumbprint(self) -> str:
        """SHA-1 in upper-case hex."""
        return hashlib.sha1(self._der, usedforsecurity=False).hexdigest().upper()

    @cached_property
    def sha256(self) -> str:
        """In upper-case hex."""
        return hashlib.sha256(self._der).hexdigest().upper()

    @cached_property
    def not_before(self) -> datetime | None:
        """In UTC."""
        return self._read(lambda certificate: certificate.not_valid_before_utc, None)

    @cached_property
    def not_after(self) -> datetime | None:
        """In UTC."""
        return self._read(lambda certificate: certificate.not_valid_after_utc, None)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The DNS names for which it is meant."""
        return self._read(_names, ())

    @cached_property
    def subject(self) -> str:
        """The distinguished name as ARM shows it."""
        return self._read(lambda certificate: clean(certificate.subject.rfc4514_string()), "unreadable")

    @cached_property
    def issuer(self) -> str:
        """The distinguished name of who vouches for it."""
        return self._read(lambda certificate: clean(certificate.issuer.rfc4514_string()), "unreadable")

    @property
    def serial(self) -> str:
        """In upper-case hex."""
        return self._loaded[1]

    @cached_property
    def self_signed(self) -> bool:
        """Whether it names itself as its issuer."""
        return self._read(lambda certificate: certificate.issuer == certificate.subject, otherwise=False)

    @cached_property
    def key(self) -> str:
        """Type and size of the key in words."""
        return self._read(_key, "unreadable")

    @cached_property
    def _loaded(self) -> "tuple[Certificate | None, str]":
        """The certificate as it is parsed, and its serial number."""
        from cryptography import x509

        unread: tuple[Certificate | None, str] = None, "unreadable"

        def parse() -> "tuple[Certificate | None, str]":
            certificate = x509.load_der_x509_certificate(self._der)
            return certificate, f"{certificate.serial_number:X}"

        with _WARNING_FILTERS, catch_warnings():
            simplefilter("ignore")  # a negative serial number is worth a warning to cryptography, not to us
            return _attempt(parse, unread)

    def _read(self, field: "Callable[[Certificate], T]", otherwise: T) -> T:
        certificate, _ = self._loaded
        return otherwise if certificate is None else _attempt(lambda: field(certificate), otherwise)


def _attempt(read: Callable[[], T], otherwise: T) -> T:
    """What is read of a peer's bytes, or what stands in its place.

    The exceptions of cryptography have no base of their own, and its next version may have more of them.
    """
    try:
        return read()
    except Exception:  # noqa: BLE001 - a hostile certificate must not stop a verdict, nor those of others
        return otherwise


_remembered = lru_cache(REMEMBERED)(Described)


def describe(der: bytes) -> Described:
    """A certificate in DER, read as far as it can be read."""
    return _remembered(der) if len(der) <= LARGEST_REMEMBERED else Described(der)


def _names(certificate: "Certificate") -> tuple[str, ...]:
    from cryptography import x509

    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return tuple(clean(name) for name in extension.value.get_values_for_type(x509.DNSName)[:MOST_NAMES])


def _key(certificate: "Certificate") -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    public = certificate.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        return f"RSA {public.key_size}"
    return f"EC {public.curve.name}" if isinstance(public, ec.EllipticCurvePublicKey) else "unusual"
