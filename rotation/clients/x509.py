"""What a certificate says of itself, for display and for the rules about dates and names.

A hostile certificate must not stop a verdict: each field that cannot be read is left empty.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from warnings import catch_warnings, simplefilter

from rotation.model import clean

T = TypeVar("T")

MOST_NAMES = 4096


@dataclass(frozen=True, slots=True)
class Leaf:
    """The readable part of a certificate; None and empty where it was not."""

    not_before: datetime | None
    not_after: datetime | None
    names: tuple[str, ...]
    subject: str
    issuer: str
    serial: str
    self_signed: bool
    key: str


UNREADABLE = Leaf(
    None, None, (), "unreadable", "unreadable", "unreadable", self_signed=False, key="unreadable"
)


def describe(der: bytes) -> Leaf:
    """Read a DER certificate as far as it can be read."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    def key() -> str:
        public = certificate.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            return f"RSA {public.key_size}"
        return f"EC {public.curve.name}" if isinstance(public, ec.EllipticCurvePublicKey) else "unusual"

    def names() -> tuple[str, ...]:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        dns = extension.value.get_values_for_type(x509.DNSName)
        return tuple(clean(name) for name in dns[:MOST_NAMES])

    with catch_warnings():
        simplefilter("ignore")  # a negative serial number is worth a warning to cryptography, not to us
        try:
            certificate = x509.load_der_x509_certificate(der)
        except ValueError:
            return UNREADABLE
        return Leaf(
            not_before=_read(lambda: certificate.not_valid_before_utc, None),
            not_after=_read(lambda: certificate.not_valid_after_utc, None),
            names=_read(names, ()),
            subject=_read(lambda: clean(certificate.subject.rfc4514_string()), "unreadable"),
            issuer=_read(lambda: clean(certificate.issuer.rfc4514_string()), "unreadable"),
            serial=_read(lambda: f"{certificate.serial_number:X}", "unreadable"),
            self_signed=_read(lambda: certificate.issuer == certificate.subject, otherwise=False),
            key=_read(key, "unreadable"),
        )


def _read(field: Callable[[], T], otherwise: T) -> T:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return field()
    except (
        UnsupportedAlgorithm,
        ValueError,
        TypeError,
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ):
        return otherwise
