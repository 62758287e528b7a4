"""Certificates for the farm: many leaves, one key, an intermediate above them and a root above that.

The authority of the sandbox issues for P-256 only, and ten thousand keys of their own would take minutes.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Issued:
    """Files: the root to trust, the chain and key of each name. And the SHA-1 and SHA-256 of each leaf."""

    root: Path
    chains: dict[str, Path]
    hashes: dict[str, tuple[str, str]]


def issue(folder: Path, names: list[str], kind: str) -> Issued:
    """Leaves for these names, with RSA-2048 keys where `kind` is "rsa" and P-256 keys otherwise."""
    keys = [_key(kind) for _ in range(3)]
    root, _ = _certificate("Bench Root CA", "Bench Root CA", keys[0], keys[0], ca=True)
    intermediate, _ = _certificate("Bench Issuing CA", "Bench Root CA", keys[1], keys[0], ca=True)
    private = keys[2].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "root.pem").write_bytes(root)
    chains, digests = {}, {}
    for number, name in enumerate(names):
        leaf, digests[name] = _certificate(name, "Bench Issuing CA", keys[2], keys[1], ca=False)
        chains[name] = folder / f"{number}.pem"
        chains[name].write_bytes(private + leaf + intermediate)
    return Issued(folder / "root.pem", chains, digests)


def _key(kind: str) -> Key:
    return rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())


def _certificate(name: str, issuer: str, key: Key, signer: Key, *, ca: bool) -> tuple[bytes, tuple[str, str]]:
    """A certificate in PEM, and its hashes."""
    now = datetime.now(UTC)
    public, parent = key.public_key(), signer.public_key()
    usage = x509.KeyUsage(
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
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=90))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(parent), critical=False)
        .sign(signer, hashes.SHA256())
    )
    der = certificate.public_bytes(Encoding.DER)
    sha1 = hashlib.sha1(der, usedforsecurity=False).hexdigest().upper()
    return certificate.public_bytes(Encoding.PEM), (sha1, hashlib.sha256(der).hexdigest().upper())
