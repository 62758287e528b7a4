"""Issues the certificates of the pretend Azure: what public certificate authorities do for the real one.

A leaf comes from an intermediate, as everywhere, so that a server has to send a chain and a client has to
build a path. Knows nothing of vaults or gateways.
"""

import hashlib
import ipaddress
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_CA_LIFETIME = timedelta(days=10 * 365)
_BACKDATED = timedelta(minutes=10)  # as Key Vault does, for clients whose clock is slow


@dataclass(frozen=True, slots=True)
class Leaf:
    """A server certificate with its key, and the chain a server sends with it."""

    der: bytes
    chain_pem: str
    key_pem: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime

    @property
    def thumbprint(self) -> str:
        """SHA-1 of the DER in upper-case hex, as Azure shows it."""
        return hashlib.sha1(self.der, usedforsecurity=False).hexdigest().upper()

    @property
    def sha256(self) -> str:
        """SHA-256 of the DER in upper-case hex."""
        return hashlib.sha256(self.der).hexdigest().upper()

    @property
    def subject(self) -> str:
        """The distinguished name as ARM shows it."""
        return x509.load_der_x509_certificate(self.der).subject.rfc4514_string()

    def server_context(self) -> ssl.SSLContext:
        """A context that presents this leaf with its chain, over TLS 1.2 and 1.3."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # ssl reads keys from files only
            file.write(self.key_pem + self.chain_pem)
            file.flush()
            context.load_cert_chain(file.name)
        return context


class CertificateAuthority:
    """A root that clients trust and the intermediate that issues for it.

    Args:
        name: who it claims to be.
        direct: whether the root itself issues, as small private authorities do.
    """

    def __init__(self, name: str = "Sandbox", *, direct: bool = False) -> None:
        since = datetime.now(UTC) - _CA_LIFETIME  # a leaf may be issued in the past to be expired now
        until = datetime.now(UTC) + _CA_LIFETIME
        self._root = _Issuer.new(f"{name} Root CA", None, since, until)
        self._issuing = self._root
        if not direct:
            self._issuing = _Issuer.new(f"{name} TLS Issuing CA 1", self._root, since, until)

    @property
    def pem(self) -> str:
        """The root: all that a client needs to trust."""
        return _pem(self._root.certificate)

    def issue(self, names: Sequence[str], *, days: float = 90, not_before: datetime | None = None) -> Leaf:
        """A leaf that chains up to the root."""
        return _leaf(names, self._issuing, days, not_before)


def self_signed(names: Sequence[str], *, days: float = 90, not_before: datetime | None = None) -> Leaf:
    """A leaf nobody vouches for, as Key Vault makes with the issuer `Self`."""
    return _leaf(names, None, days, not_before)


def der_of(pem: str) -> bytes:
    """The first certificate of a PEM file, as DER."""
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)


def chains_to(leaf: Leaf, roots: Sequence[str]) -> bool:
    """Whether the chain that is sent with a leaf ends in one of these roots, or is issued by one."""
    last = x509.load_pem_x509_certificates(leaf.chain_pem.encode())[-1]
    for root in (x509.load_pem_x509_certificate(pem.encode()) for pem in roots):
        if last == root:
            return True
        try:
            last.verify_directly_issued_by(root)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False


@dataclass(frozen=True, slots=True)
class _Issuer:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls, name: str, parent: Self | None, since: datetime, until: datetime) -> Self:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name, key, parent, since, until)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(_usage(ca=True), critical=True)
        return cls(builder.sign(parent.key if parent else key, hashes.SHA256()), key)


def _leaf(names: Sequence[str], issuer: _Issuer | None, days: float, not_before: datetime | None) -> Leaf:
    key = ec.generate_private_key(ec.SECP256R1())
    since = (not_before or datetime.now(UTC) - _BACKDATED).replace(microsecond=0)
    builder = _builder(names[0], key, issuer, since, since + timedelta(days=days))
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(ca=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(
        x509.SubjectAlternativeName([_san(name) for name in names]), critical=False
    )
    certificate = builder.sign(issuer.key if issuer else key, hashes.SHA256())
    return Leaf(
        der=certificate.public_bytes(Encoding.DER),
        chain_pem=_pem(certificate) + (_pem(issuer.certificate) if issuer else ""),
        key_pem=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        names=tuple(names),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def _builder(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: _Issuer | None, since: datetime, until: datetime
) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])  # X.520 ends it there
    issuing_key = (issuer.key if issuer else key).public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuing_key), critical=False)
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _san(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
