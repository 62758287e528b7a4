"""What stands in front of a gateway: what it trusts may hold a sync, what it says of its backend is told."""

from dataclasses import replace
from datetime import timedelta

import pytest

from rotation.model import (
    BackendHealth,
    CertificateVersion,
    Evidence,
    Front,
    LastVerdict,
    LedgerRow,
    Reason,
    ServedCertificate,
    Status,
    SyncOutcome,
    TrustedRoot,
)
from rotation.verdict import Limits, judge
from tests.unit import build
from tests.unit.build import ISSUER, NEW, NOW, OLD, evidence, minutes, served

MOVED = build.version(issuer="CN=Contoso Root CA 2")
SELF_SIGNED = build.version(issuer=f"CN={build.HOSTNAME}", self_signed=True)
FROM_OLD = served(OLD)
FROM_INTERMEDIATE = served(OLD, issuer="CN=Contoso Intermediate CA")
FROM_NEW = served(OLD, issuer=MOVED.issuer)
SELF_SIGNED_BEFORE = served(OLD, issuer=SELF_SIGNED.issuer, distrust="self-signed certificate")
SAME_NAME, SAME_KEY = (SELF_SIGNED.issuer, "D4" * 20), (SELF_SIGNED.issuer, NEW)


def root(subject: str) -> tuple[str, str]:
    """A root of that name."""
    return subject, "D4" * 20


def behind(
    expected: CertificateVersion,
    trusted: tuple[tuple[str, str], ...] | None,
    *leaves: ServedCertificate,
    row: LedgerRow | None = None,
) -> Evidence:
    """A gateway behind an Application Gateway that trusts these roots, as subject and thumbprint."""
    roots = None if trusted is None else tuple(TrustedRoot(*each) for each in trusted)
    front = Front("/agw", "Application Gateway agw", "apim-contoso.azure-api.net", build.HOSTNAME, roots)
    of = build.binding(endpoints=(build.endpoint(connections=len(leaves)),))
    return evidence(
        *leaves, of=of, at=replace(build.gateway(of), fronts=(front,)), expected=expected, row=row
    )


HELD, WARNED, FREE = "held", "synced with a warning", "synced"
TRUSTED = {
    "only the old issuer": (behind(MOVED, (root(ISSUER),), FROM_OLD), HELD),
    "the old issuer, which one of two leaves is of": (
        behind(MOVED, (root(ISSUER),), FROM_OLD, FROM_INTERMEDIATE),
        HELD,
    ),
    "the old issuer, where one of two leaves is of the new one": (
        behind(MOVED, (root(ISSUER),), FROM_OLD, FROM_NEW),
        HELD,
    ),
    "both": (behind(MOVED, (root(ISSUER), root(MOVED.issuer)), FROM_OLD), FREE),
    "a root above, which may be above the new one as well": (
        behind(MOVED, (root("CN=Contoso Root CA"),), FROM_OLD),
        WARNED,
    ),
    "a root above, and the issuer stays": (behind(build.version(), (root("CN=Above"),), FROM_OLD), FREE),
    "public authorities": (behind(MOVED, (), FROM_OLD), FREE),
    "what cannot be read": (behind(MOVED, None, FROM_OLD), FREE),
    "another root than the new one, which is its own": (
        behind(SELF_SIGNED, (root("CN=Elsewhere"),), SELF_SIGNED_BEFORE),
        HELD,
    ),
    "one of the same name, with another key": (behind(SELF_SIGNED, (SAME_NAME,), SELF_SIGNED_BEFORE), HELD),
    "the new one beside others": (
        behind(SELF_SIGNED, (SAME_NAME, SAME_KEY), SELF_SIGNED_BEFORE),
        FREE,
    ),
    "public authorities, and the new one is its own": (behind(SELF_SIGNED, (), SELF_SIGNED_BEFORE), FREE),
}


@pytest.mark.parametrize(("seen", "expected"), TRUSTED.values(), ids=TRUSTED)
def test_a_sync_depends_on_what_is_trusted_in_front(seen: Evidence, expected: str) -> None:
    """Proves what is held because it would fail for certain, what is warned of, and what is neither."""
    found = judge(seen, NOW, Limits())
    reason = Reason.FRONT_DISTRUSTS if expected == HELD else Reason.SERVES_OLD_VERSION

    assert reason is found.reason
    assert (expected == WARNED) == ("Mind what is in front" in found.message)


def test_what_would_fail_in_front_wins_over_an_operation_that_is_not_offered() -> None:
    """Proves that the new root is asked for before anybody does by hand what the operation would."""
    row = build.row(attempts=0, due=minutes(5), outcome=SyncOutcome.NOT_SUPPORTED)
    seen = behind(MOVED, (root(ISSUER),), FROM_OLD, row=row)

    assert Reason.FRONT_DISTRUSTS is judge(seen, NOW, Limits()).reason


ROOTS = tuple(root(f"CN=Root {letter}") for letter in "HBFDCEGA")


def test_a_warning_names_what_is_trusted_in_order() -> None:
    """Proves the sentence, alike in every pass."""
    message = judge(behind(MOVED, (*ROOTS, *ROOTS), FROM_OLD), NOW, Limits()).message

    assert message.endswith(
        " A sync is needed. Mind what is in front: the issuer changes to CN=Contoso Root CA 2, and"
        " Application Gateway agw in front trusts only CN=Root A; CN=Root B; CN=Root C; CN=Root D;"
        " CN=Root E; CN=Root F; CN=Root G; CN=Root H."
    )


def health(distrusts: bool | None, before: Reason | None = None) -> Evidence:
    """A gateway in sync, what its front says of it, and what was said of it last."""
    detail = "HTTP 403" if distrusts is None else "certificate"
    said = (
        LastVerdict(Status.IN_SYNC, before, drift=False, since=NOW - timedelta(hours=1), version="v2")
        if before
        else None
    )
    row = build.row() if said is None else replace(build.row(), last={build.binding().key: said})
    front = BackendHealth("Application Gateway agw", distrusts, detail)
    return replace(evidence(served(NEW), row=row), front=front)


SAID = {
    "it distrusts": (health(distrusts=True), Reason.FRONT_DISTRUSTS),
    "it is content": (health(distrusts=False), Reason.SERVED),
    "it is content again": (health(distrusts=False, before=Reason.FRONT_DISTRUSTS), Reason.SERVED),
    "it is silent": (health(distrusts=None), Reason.SERVED),
    "it is silent, and there is no row": (replace(health(distrusts=None), row=None), Reason.SERVED),
    "it is silent, and was content": (health(None, Reason.SERVED), Reason.SERVED),
    "it is silent, and did distrust": (health(None, Reason.FRONT_DISTRUSTS), Reason.FRONT_DISTRUSTS),
}


@pytest.mark.parametrize(("seen", "expected"), SAID.values(), ids=SAID)
def test_what_is_in_front_is_believed_about_itself(seen: Evidence, expected: Reason) -> None:
    """Proves that silence neither clears a distrust nor makes one."""
    found = judge(seen, NOW, Limits())

    assert (Status.IN_SYNC, expected) == (found.status, found.reason)


@pytest.mark.parametrize(
    ("seen", "ending"),
    [
        (
            health(distrusts=None),
            " (Application Gateway agw in front could not be asked whether it believes that: HTTP 403).",
        ),
        (health(distrusts=False), " new connections in West Europe."),
    ],
    ids=["silent", "content"],
)
def test_a_proof_says_whether_what_is_in_front_could_be_asked(seen: Evidence, ending: str) -> None:
    """Proves that a reader can tell what was not seen."""
    assert judge(seen, NOW, Limits()).message.endswith(ending)
