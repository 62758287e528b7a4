"""What a certificate says of itself, for display and for the rules about dates and names.

A hostile certificate must not stop a verdict: each field that cannot be read is left empty. A field is parsed
when it is asked for: to describe ten thousand leaves in full would cost a tenth of their handshakes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING, TypeVar
from warnings import catch_warnings, simplefilter

from rotation.model import clean

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

T = TypeVar("T")

MOST_NAMES = 4096

_WARNING_FILTERS = Lock()
"""The interpreter has one list of them, and the probe's thread is not the only one that describes."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """The readable part of a certificate; None and empty where it was not. `serial` is in upper-case hex."""

    certificate: "Certificate | None"
    serial: str

    @property
    def not_before(self) -> datetime | None:
        """In UTC."""
        return self._read(lambda certificate: certificate.not_valid_before_utc, None)

    @property
    def not_after(self) -> datetime | None:
        """In UTC."""
        return self._read(lambda certificate: certificate.not_valid_after_utc, None)

    @property
    def names(self) -> tuple[str, ...]:
        """The DNS names for which it is meant."""
        return self._read(_names, ())

    @property
    def subject(self) -> str:
        """The distinguished name as ARM shows it."""
        return self._read(lambda certificate: clean(certificate.subject.rfc4514_string()), "unreadable")

    @property
    def issuer(self) -> str:
        """The distinguished name of who vouches for it."""
        return self._read(lambda certificate: clean(certificate.issuer.rfc4514_string()), "unreadable")

    @property
    def self_signed(self) -> bool:
        """Whether it names itself as its issuer."""
        return self._read(lambda certificate: certificate.issuer == certificate.subject, otherwise=False)

    @property
    def key(self) -> str:
        """Type and size of the key in words."""
        return self._read(_key, "unreadable")

    def _read(self, field: "Callable[[Certificate], T]", otherwise: T) -> T:
        if self.certificate is None:
            return otherwise
        try:
            return field(self.certificate)
        except _unreadable():
            return otherwise


UNREADABLE = Leaf(None, "unreadable")


def describe(der: bytes) -> Leaf:
    """Read a DER certificate as far as it can be read."""
    from cryptography import x509

    with _WARNING_FILTERS, catch_warnings():
        simplefilter("ignore")  # a negative serial number is worth a warning to cryptography, not to us
        try:
            certificate = x509.load_der_x509_certificate(der)
            return Leaf(certificate, f"{certificate.serial_number:X}")
        except ValueError:
            return UNREADABLE


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


def _unreadable() -> tuple[type[Exception], ...]:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    missing = (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
    return UnsupportedAlgorithm, ValueError, TypeError, *missing
