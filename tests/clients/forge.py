"""Certificates that no authority should have issued, with keys to serve them."""

import base64
import hashlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

_P256 = bytes.fromhex("06082a8648ce3d030107")
_SERIAL = 0x1122334455667788


@dataclass(frozen=True, slots=True)
class Forged:
    """A certificate and the key to serve it with."""

    der: bytes
    key_pem: str

    @property
    def chain_pem(self) -> str:
        """As a server sends it."""
        return ssl.DER_cert_to_PEM_cert(self.der)

    @property
    def thumbprint(self) -> str:
        """SHA-1 of the DER."""
        return hashlib.sha1(self.der, usedforsecurity=False).hexdigest().upper()


def self_signed(
    *,
    common_name: str = "api.contoso.com",
    names: Sequence[str] = ("api.contoso.com",),
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    replace: tuple[bytes, bytes] = (b"", b""),
) -> Forged:
    """A certificate signed by itself, with some of its bytes replaced after that."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    since = datetime.now(UTC) - timedelta(minutes=10)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(_SERIAL)
        .not_valid_before(since)
        .not_valid_after(since + timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    der = certificate.public_bytes(Encoding.DER).replace(*replace) if replace[0] else None
    return Forged(der or certificate.public_bytes(Encoding.DER), _pem(key))


def rsa_signed(bits: int) -> Forged:
    """A certificate with an RSA key."""
    return self_signed(key=rsa.generate_private_key(public_exponent=65537, key_size=bits))


def negative_serial() -> Forged:
    """Its serial number has the sign bit set, as some old appliances issue."""
    serial = _SERIAL.to_bytes(8, "big")
    return self_signed(replace=(b"\x02\x08" + serial, b"\x02\x08" + b"\xff" + serial[1:]))


def unknown_version() -> Forged:
    """It says that it is of X.509 version 6, which there is not: OpenSSL takes it, others do not."""
    return self_signed(replace=(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05"))


def unreadable_subject() -> Forged:
    """Its common name claims to be printable ASCII and is not: OpenSSL takes it, others do not."""
    printable, utf8 = b"\x13\x10", b"\x0c\x10"
    return self_signed(common_name="QQQQ.contoso.com", replace=(utf8 + b"QQQQ", printable + b"\xff\xfeQ\xc3"))


def key_of_another(chain_key_pem: str) -> str:
    """A private key that says it belongs to a certificate's public key, and does not.

    OpenSSL compares the public parts when it loads a key, so only its signatures give it away.
    """
    own = load_pem_private_key(chain_key_pem.encode(), None)
    assert isinstance(own, ec.EllipticCurvePrivateKey)
    point = own.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    secret = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value.to_bytes(32, "big")
    der = _der(
        0x30,
        _der(0x02, b"\x01")
        + _der(0x04, secret)
        + _der(0xA0, _P256)
        + _der(0xA1, _der(0x03, b"\x00" + point)),
    )
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN EC PRIVATE KEY-----\n{body}-----END EC PRIVATE KEY-----\n"


def _der(tag: int, content: bytes) -> bytes:
    """RFC 5915 needs lengths up to 127 only."""
    assert len(content) < 128
    return bytes([tag, len(content)]) + content


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def unknown_curve() -> Forged:
    """Its key is on a curve that OpenSSL knows and others do not (prime239v1)."""
    return self_signed(replace=(_P256, _P256[:-1] + b"\x04"))
