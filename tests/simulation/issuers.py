"""Who issues certificates in the simulator: leaves that differ in their bytes, and name who vouches for them.

Nobody here checks a signature. Roots are real certificates, because the product reads them out of the bodies
of what stands in front.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from cryptography import x509

from sandbox.certificates import CertificateAuthority, Leaf
from tests.simulation.loop import EPOCH

PUBLIC = "a root that every client trusts"
ITSELF = "nobody but itself"


@dataclass(frozen=True, slots=True)
class LeanLeaf(Leaf):
    """A leaf with what a chain would say: the subject of its issuer, and the root above (PEM, or a word)."""

    issuer: str
    root: str


class Issuer(CertificateAuthority):
    """An authority: a root that issues itself, or an intermediate under one.

    Args:
        issuer: the subject of whoever issues.
        root: the root above it; ITSELF for leaves that are signed by their own key.
        made: all leaves of a world by thumbprint, so that no two are alike.
    """

    def __init__(self, issuer: str, root: str, made: dict[str, LeanLeaf]) -> None:
        self.issuer = issuer
        self.root = root
        self.made = made

    def issue(
        self, names: Sequence[str], *, days: float = 90, not_before: datetime | None = None
    ) -> LeanLeaf:
        """A leaf like no other."""
        since = not_before or EPOCH
        leaf = LeanLeaf(
            der=f"leaf {len(self.made)}".encode(),
            chain_pem="",
            key_pem="",
            names=tuple(names),
            not_before=since,
            not_after=since + timedelta(days=days),
            issuer=self.issuer,
            root=self.root,
        )
        return self.made.setdefault(leaf.thumbprint, leaf)


def issuers() -> tuple[Issuer, ...]:
    """The authorities of a world: a public one, two private roots, what is under them, and none at all."""
    made: dict[str, LeanLeaf] = {}
    roots = private_roots()
    return (
        Issuer("CN=Sandbox", PUBLIC, made),
        *(Issuer(subject_of(root), root, made) for root in roots),
        *(Issuer(f"CN=Issuing CA {n}", root, made) for n, root in enumerate(roots)),
        Issuer("CN=simulated", ITSELF, made),
    )


@cache
def private_roots() -> tuple[str, ...]:
    """Two roots that only those trust who were given them, as PEM: the same in every world."""
    return tuple(CertificateAuthority(f"Private {n}", direct=True).pem for n in (1, 2))


@cache
def subject_of(root: str) -> str:
    """A root's distinguished name."""
    return x509.load_pem_x509_certificate(root.encode()).subject.rfc4514_string()
