from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotation.gateways.application_gateway import KIND as APPLICATION_GATEWAY
from rotation.model import (
    ANY_NAME,
    Binding,
    Evidence,
    ProbeFault,
    Reason,
    Status,
    SyncOutcome,
    UnreadableCause,
)
from rotation.verdict import Limits, connections_needed, covers, judge, tally
from tests.unit import build
from tests.unit.build import FOREIGN, NEW, NOW, OLD, evidence, failed, minutes, served

AGED = build.version(age=timedelta(days=3))
PINNED = build.binding(pinned="v1")
DELETED = build.unreadable(UnreadableCause.DELETED)
BUSY = build.gateway(state="Updating")
DARK = replace(build.gateway(), vault_error="SecretDisabled")
DIFFERS = build.binding(configured=OLD)
TWO = build.binding(endpoints=(build.endpoint(connections=2),))
THREE = build.binding(endpoints=(build.endpoint(connections=3),))
TWO_DIFFER = build.binding(configured=OLD, endpoints=TWO.endpoints)
NOT_SUPPORTED = build.row(attempts=0, due=minutes(5), outcome=SyncOutcome.NOT_SUPPORTED)
NOWHERE = build.binding(endpoints=())

WHAT_WINS = {
    "a certificate that is managed is never told to be uploaded again": (
        evidence(served(OLD, not_after=NOW + timedelta(days=3)), earlier=None),
        Reason.VAULT_UNREADABLE,
    ),
    "a vault that cannot be read wins over a certificate about to end": (
        evidence(served(OLD, not_after=NOW + timedelta(days=3)), expected=build.unreadable()),
        Reason.VAULT_UNREADABLE,
    ),
    "the first certificate to end decides whether one is about to": (
        evidence(
            served(not_after=NOW + timedelta(days=3)),
            served(OLD, not_after=NOW + timedelta(days=300)),
            of=build.binding(of=None, endpoints=TWO.endpoints),
        ),
        Reason.EXPIRES_SOON,
    ),
    "no keyVaultId wins over what is served": (
        evidence(served(NEW), of=build.binding(of=None)),
        Reason.NOT_FROM_KEY_VAULT,
    ),
    "a certificate about to end wins over not being from Key Vault": (
        evidence(served(not_after=NOW + timedelta(days=3)), of=build.binding(of=None)),
        Reason.EXPIRES_SOON,
    ),
    "a foreign vault wins over the new leaf": (
        evidence(served(NEW), of=build.binding(in_scope=False)),
        Reason.OUT_OF_SCOPE,
    ),
    "a pinned version wins over the new leaf": (evidence(served(NEW), of=PINNED), Reason.PINNED_VERSION),
    "a pinned version wins over a deleted certificate": (
        evidence(served(OLD), of=PINNED, expected=DELETED),
        Reason.PINNED_VERSION,
    ),
    "a deleted certificate wins over a sync in flight": (
        evidence(served(OLD), expected=DELETED, row=build.row_in_flight()),
        Reason.CERTIFICATE_DELETED,
    ),
    "a disabled version wins over its expiry": (
        evidence(served(OLD), expected=build.version(enabled=False, not_after=NOW)),
        Reason.VERSION_DISABLED,
    ),
    "a disabled version wins over the new leaf": (
        evidence(served(NEW), expected=build.version(enabled=False)),
        Reason.VERSION_DISABLED,
    ),
    "a vault that cannot be read wins over a busy service": (
        evidence(served(NEW), at=BUSY, expected=build.unreadable()),
        Reason.VAULT_UNREADABLE,
    ),
    "an expired version wins over the new leaf": (
        evidence(served(NEW), expected=build.version(not_after=NOW)),
        Reason.VERSION_EXPIRED,
    ),
    "an expired version wins over a name that is not covered": (
        evidence(served(NEW), expected=build.version(not_after=NOW, names=())),
        Reason.VERSION_EXPIRED,
    ),
    "an expired version wins over one whose dates are the wrong way round": (
        evidence(served(OLD), expected=build.version(not_before=NOW + minutes(1), not_after=NOW)),
        Reason.VERSION_EXPIRED,
    ),
    "a version that is not yet valid wins over a short key": (
        evidence(served(OLD), expected=build.version(not_before=NOW + minutes(1), key="RSA 1024")),
        Reason.VERSION_NOT_YET_VALID,
    ),
    "a short key wins over a name that is not covered": (
        evidence(served(OLD), expected=build.version(names=(), key="RSA 1024")),
        Reason.VERSION_UNUSABLE,
    ),
    "a sync in flight wins over names that are lost": (
        evidence(served(OLD, names=(build.HOSTNAME, "www.contoso.com")), row=build.row_in_flight()),
        Reason.SYNC_IN_FLIGHT,
    ),
    "names that are lost win over another issuer": (
        evidence(
            served(OLD, names=(build.HOSTNAME, "www.contoso.com")), expected=build.version(self_signed=True)
        ),
        Reason.NAMES_LOST,
    ),
    "another issuer wins over an operation that is not offered": (
        evidence(served(OLD), expected=build.version(self_signed=True), row=NOT_SUPPORTED),
        Reason.ISSUER_CHANGED,
    ),
    "an operation that is not offered wins over one that could not read the vault": (
        replace(evidence(served(OLD), row=NOT_SUPPORTED), operation_error="Failed to access KeyVault Secret"),
        Reason.SYNC_NOT_SUPPORTED,
    ),
    "a version that is not yet valid wins over an old leaf": (
        evidence(served(OLD), expected=build.version(not_before=NOW + minutes(1))),
        Reason.VERSION_NOT_YET_VALID,
    ),
    "a name that is not covered wins over the new leaf": (
        evidence(served(NEW), expected=build.version(names=("www.fabrikam.com",))),
        Reason.NAME_NOT_COVERED,
    ),
    "no name is wrong where any name is answered": (
        evidence(served(NEW), of=build.binding(ANY_NAME)),
        Reason.SERVED,
    ),
    "the new leaf everywhere wins over a busy service": (evidence(served(NEW), at=BUSY), Reason.SERVED),
    "the new leaf everywhere wins over a sync in flight": (
        evidence(served(NEW), row=build.row_in_flight()),
        Reason.SERVED,
    ),
    "the new leaf everywhere wins over another one in ARM": (
        evidence(served(NEW), of=DIFFERS),
        Reason.SERVED,
    ),
    "a busy service wins over a sync in flight": (
        evidence(served(OLD), at=BUSY, row=build.row_in_flight()),
        Reason.SERVICE_UPDATING,
    ),
    "a busy service wins over an old leaf": (evidence(served(OLD), at=BUSY), Reason.SERVICE_UPDATING),
    "a busy service wins over a foreign leaf": (evidence(served(FOREIGN), at=BUSY), Reason.SERVICE_UPDATING),
    "an old leaf wins over a service that is busy beyond the deadline": (
        evidence(served(OLD), at=BUSY, expected=AGED),
        Reason.SERVES_OLD_VERSION,
    ),
    "a partly served version wins over a sync in flight": (
        evidence(served(NEW), served(OLD), of=TWO, row=build.row_in_flight()),
        Reason.PARTLY_SERVED,
    ),
    "a partly served version wins over a busy service": (
        evidence(served(NEW), served(OLD), of=TWO, at=BUSY),
        Reason.PARTLY_SERVED,
    ),
    "a failed connection does not hide a partly served version": (
        evidence(served(NEW), served(OLD), failed(), of=THREE),
        Reason.PARTLY_SERVED,
    ),
    "a sync in flight wins over the deadline of its version": (
        evidence(served(OLD), expected=AGED, row=build.row_in_flight()),
        Reason.SYNC_IN_FLIGHT,
    ),
    "an old leaf wins over a sync in flight for another version": (
        evidence(served(OLD), expected=build.version(version="v3"), row=build.row_in_flight()),
        Reason.SERVES_OLD_VERSION,
    ),
    "a partly served version wins over its old leaf": (
        evidence(served(NEW), served(OLD), of=TWO_DIFFER),
        Reason.PARTLY_SERVED,
    ),
    "an old leaf wins over a partly served version beyond the deadline": (
        evidence(served(NEW), served(OLD), of=TWO, expected=AGED),
        Reason.SERVES_OLD_VERSION,
    ),
    "an old leaf after our sync is overdue": (
        evidence(served(OLD), row=build.row(asked=timedelta(hours=-3), due=timedelta(hours=3))),
        Reason.SYNC_OVERDUE,
    ),
    "an old leaf wins over a foreign one": (
        evidence(served(FOREIGN), served(OLD), of=TWO),
        Reason.SERVES_OLD_VERSION,
    ),
    "an old leaf wins over a failed connection": (
        evidence(failed(), served(OLD), of=TWO),
        Reason.SERVES_OLD_VERSION,
    ),
    "another certificate in ARM wins over a failed connection": (
        evidence(failed(), of=DIFFERS),
        Reason.SERVES_OLD_VERSION,
    ),
    "another certificate in ARM wins over having no endpoint": (
        evidence(of=build.binding(configured=OLD, endpoints=())),
        Reason.SERVES_OLD_VERSION,
    ),
    "a foreign leaf wins over a failed connection": (
        evidence(failed(), served(FOREIGN), of=TWO),
        Reason.SERVED_BY_OTHER,
    ),
    "a foreign leaf wins over the new one beside it": (
        evidence(served(NEW), served(FOREIGN), of=TWO),
        Reason.SERVED_BY_OTHER,
    ),
    "a foreign leaf wins over a gateway that cannot read its vault": (
        evidence(served(FOREIGN), at=DARK),
        Reason.SERVED_BY_OTHER,
    ),
    "versions that cannot be listed win over a gateway that cannot read its vault": (
        evidence(served(OLD), at=DARK, earlier=None),
        Reason.VAULT_UNREADABLE,
    ),
    "a vault that the gateway cannot read wins over not looking into it": (
        evidence(
            served(OLD),
            expected=AGED,
            at=replace(DARK, kind=APPLICATION_GATEWAY),
            row=build.row(asked=timedelta(hours=-4), due=minutes(5)),
        ),
        Reason.GATEWAY_CANNOT_READ_VAULT,
    ),
    "versions that cannot be listed win over a failed connection": (
        evidence(failed(), served(OLD), of=TWO, earlier=None),
        Reason.VAULT_UNREADABLE,
    ),
    "a leaf that ARM has configured is old even where versions cannot be listed": (
        evidence(served(OLD), of=DIFFERS, earlier=None),
        Reason.SERVES_OLD_VERSION,
    ),
    "no endpoint wins where nothing else is known": (evidence(of=NOWHERE), Reason.NOT_OBSERVABLE),
    "a failed connection wins over the new leaf beside it": (
        evidence(served(NEW), failed(), of=TWO),
        Reason.PROBE_FAILED,
    ),
}


@pytest.mark.parametrize(("seen", "expected"), WHAT_WINS.values(), ids=WHAT_WINS)
def test_the_rules_are_in_this_order(seen: Evidence, expected: Reason) -> None:
    """Proves what wins over what, a line for each pair that meets."""
    actual = judge(seen, NOW, Limits()).reason

    assert expected == actual


def test_observations_of_another_endpoint_prove_nothing() -> None:
    """Proves that green is a matter of each endpoint, not of how many observations there are."""
    west, north = build.endpoint(), build.endpoint("North Europe")
    seen = evidence(served(NEW, west), served(NEW, west), of=build.binding(endpoints=(west, north)))
    actual = judge(seen, NOW, Limits()).status

    assert actual is not Status.IN_SYNC


TOO_MANY = {
    "an old leaf": evidence(served(NEW), served(OLD)),
    "a foreign leaf": evidence(served(NEW), served(FOREIGN)),
    "a leaf that cannot be told": evidence(served(NEW), served(OLD), earlier=None),
    "a failed connection": evidence(served(NEW), failed()),
}


@pytest.mark.parametrize("seen", TOO_MANY.values(), ids=TOO_MANY)
def test_more_connections_than_needed_must_all_show_the_expected_leaf(seen: Evidence) -> None:
    """Proves that enough of what is right does not outvote what is wrong."""
    actual = judge(seen, NOW, Limits()).status

    assert actual is not Status.IN_SYNC


USABLE = {
    "an RSA key of 2048 bits": ("RSA 2048", "application/x-pkcs12", True),
    "an RSA key that is one bit short": ("RSA 2047", "application/x-pkcs12", False),
    "a key on an elliptic curve": ("EC secp256r1", "application/x-pkcs12", True),
    "a key that cannot be read": ("unreadable", "application/x-pkcs12", True),
    "a policy that cannot be read": ("RSA 2048", None, True),
    "PEM": ("RSA 2048", "application/x-pem-file", False),
}


@pytest.mark.parametrize(("key", "content_type", "usable"), USABLE.values(), ids=USABLE)
def test_a_version_is_usable_by_its_key_and_content_type(
    key: str,
    content_type: str | None,
    usable: bool,
) -> None:
    """Proves what gateways and clients of today take, and that what is not known is no reason to block."""
    expected = Reason.SERVED if usable else Reason.VERSION_UNUSABLE
    version = build.version(key=key, content_type=content_type)
    actual = judge(evidence(served(NEW), expected=version), NOW, Limits()).reason

    assert expected == actual


def test_a_version_is_valid_from_its_first_moment_on() -> None:
    """Proves that notBefore is the first moment in which clients take it."""
    version = build.version(not_before=NOW)
    actual = judge(evidence(served(NEW), expected=version), NOW, Limits()).reason

    assert Reason.SERVED is actual


PATIENCE = {
    "at the deadline it is still waited for": (timedelta(hours=2), Status.SYNCING),
    "a second later it is not": (timedelta(hours=2, seconds=1), Status.STALE),
}


@pytest.mark.parametrize(("age", "expected"), PATIENCE.values(), ids=PATIENCE)
def test_a_rollout_is_waited_for_until_the_deadline(age: timedelta, expected: Status) -> None:
    """Proves on which side of the deadline a version that is partly served becomes stale."""
    seen = evidence(served(NEW), served(OLD), of=TWO, expected=build.version(age=age))
    actual = judge(seen, NOW, Limits()).status

    assert expected is actual


def test_an_attempt_of_which_no_time_is_kept_changes_no_deadline() -> None:
    """Proves that a row without the moment of its sync is no reason to wait longer, and none to fail."""
    row = build.row(asked=None, due=minutes(20))
    seen = evidence(served(NEW), served(OLD), of=TWO, row=row), evidence(served(OLD), row=row)
    actual = [judge(each, NOW, Limits()).reason for each in seen]

    assert [Reason.PARTLY_SERVED, Reason.SERVES_OLD_VERSION] == actual


NOT_OFFERED = {
    "until the next try": (minutes(1), Reason.SYNC_NOT_SUPPORTED),
    "not when the next try is due": (timedelta(0), Reason.SYNC_OVERDUE),
    "not where no try is due": (None, Reason.SYNC_OVERDUE),
}


@pytest.mark.parametrize(("due", "expected"), NOT_OFFERED.values(), ids=NOT_OFFERED)
def test_an_operation_that_is_not_offered_blocks(due: timedelta | None, expected: Reason) -> None:
    """Proves that the verdict is stale again when the operation may be tried again."""
    row = build.row(asked=-timedelta(days=1), due=due, outcome=SyncOutcome.NOT_SUPPORTED)
    actual = judge(evidence(served(OLD), row=row), NOW, Limits()).reason

    assert expected is actual


def test_a_proof_by_a_sample_says_so() -> None:
    """Proves that a reader can tell one connection from enough of them."""
    found = judge(replace(evidence(served(NEW)), sampled=True), NOW, Limits())

    assert found.message.endswith("1 of 1 new connections in West Europe (settled, so only sampled).")


def test_without_limits_given_an_expiry_is_near_for_fourteen_days() -> None:
    """Proves the default that docs/settings.md shows."""
    reasons = [
        judge(evidence(served(NEW), expected=build.version(not_after=NOW + left)), NOW, Limits()).reason
        for left in (timedelta(days=14), timedelta(days=14, seconds=1))
    ]

    assert [Reason.EXPIRES_SOON, Reason.SERVED] == reasons


DRIFT = {
    "at the deadline it is not yet drift": (timedelta(hours=2), False),
    "a second later it is": (timedelta(hours=2, seconds=1), True),
}


@pytest.mark.parametrize(("age", "expected"), DRIFT.values(), ids=DRIFT)
def test_a_stale_binding_drifts_after_the_deadline(age: timedelta, expected: bool) -> None:
    """Proves on which side of the deadline the alarm begins."""
    actual = judge(evidence(served(OLD), expected=build.version(age=age)), NOW, Limits()).drift

    assert expected == actual


def test_a_reenabled_version_has_a_deadline_of_its_own() -> None:
    """Proves that a version counts from when a gateway could read it, not from its creation."""
    lately = build.version(age=timedelta(days=3), updated=NOW - minutes(5))
    expected = (Status.STALE, False)
    found = judge(evidence(served(OLD), expected=lately), NOW, Limits())
    actual = (found.status, found.drift)

    assert expected == actual


def test_the_limits_are_those_that_are_given() -> None:
    """Proves that both deadlines are settings."""
    limits = Limits(drift_after=minutes(15), expires_soon=timedelta(days=120))
    expected = (True, Reason.EXPIRES_SOON)
    actual = (
        judge(evidence(served(OLD)), NOW, limits).drift,
        judge(evidence(served(NEW)), NOW, limits).reason,
    )

    assert expected == actual


NEEDED = {1: 1, 2: 7, 3: 12, 4: 17, 6: 26, 8: 35, 10: 44, 20: 90}


@pytest.mark.parametrize(
    ("units", "expected"), NEEDED.items(), ids=[f"{n} for {u} units" for u, n in NEEDED.items()]
)
def test_so_many_connections_prove_so_many_units(units: int, expected: int) -> None:
    """Proves the table of the design for 99 % certainty."""
    actual = connections_needed(units)

    assert expected == actual


@given(units=st.integers(2, 200), certainty=st.floats(0.5, 0.9999))
def test_the_connections_needed_are_the_fewest_that_suffice(units: int, certainty: float) -> None:
    """Proves the definition: so many would all miss one stale unit at most once in so many times."""
    needed, slack = connections_needed(units, certainty), 1e-9
    missed = 1 - 1 / units

    assert missed**needed <= 1 - certainty + slack
    assert missed ** (needed - 1) > 1 - certainty - slack


@pytest.mark.parametrize("units", [1, 0, -1])
def test_a_service_of_one_unit_or_none_said_needs_one_connection(units: int) -> None:
    """Proves that a tier without units is not a division by zero."""
    expected = 1
    actual = connections_needed(units)

    assert expected == actual


COVERED = {
    "the same name": (["api.contoso.com"], "api.contoso.com"),
    "one of several names": (["contoso.com", "api.contoso.com"], "api.contoso.com"),
    "a wildcard for one label": (["*.contoso.com"], "api.contoso.com"),
    "another case in the certificate": (["API.Contoso.COM"], "api.contoso.com"),
    "another case in the hostname": (["*.contoso.com"], "API.CONTOSO.com"),
    "a trailing dot in the hostname": (["api.contoso.com"], "api.contoso.com."),
    "a trailing dot in the certificate": (["*.contoso.com."], "api.contoso.com"),
    "a wildcard hostname by the same wildcard": (["*.contoso.com"], "*.contoso.com"),
    "an international name in its wire form": (["*.xn--bcher-kva.example"], "api.xn--bcher-kva.example"),
}
NOT_COVERED = {
    "no name at all": ([], "api.contoso.com"),
    "another name": (["www.contoso.com"], "api.contoso.com"),
    "the parent": (["contoso.com"], "api.contoso.com"),
    "a wildcard does not cover its parent": (["*.contoso.com"], "contoso.com"),
    "a wildcard does not cover two labels": (["*.contoso.com"], "a.b.contoso.com"),
    "a wildcard in the middle": (["api.*.com"], "api.contoso.com"),
    "a part of a label before the star": (["a*.contoso.com"], "api.contoso.com"),
    "a part of a label behind the star": (["*i.contoso.com"], "api.contoso.com"),
    "a bare star": (["*"], "api.contoso.com"),
    "two stars": (["*.*.com"], "api.contoso.com"),
    "a wildcard hostname by one of its names": (["api.contoso.com"], "*.contoso.com"),
    "a wildcard hostname by a wider wildcard": (["*.com"], "*.contoso.com"),
    "a name that only ends alike": (["*.contoso.com"], "api.evilcontoso.com"),
    "a name that only begins alike": (["api.contoso.com.evil.example"], "api.contoso.com"),
    "a dot is not any character": (["apixcontoso.com"], "api.contoso.com"),
    "an empty name": ([""], "api.contoso.com"),
    "only a dot behind the star": (["*."], "localhost"),
}


@pytest.mark.parametrize(("names", "hostname"), COVERED.values(), ids=COVERED)
def test_a_certificate_covers_a_hostname(names: list[str], hostname: str) -> None:
    """Proves what clients accept by RFC 6125."""
    assert covers(names, hostname)


@pytest.mark.parametrize(("names", "hostname"), NOT_COVERED.values(), ids=NOT_COVERED)
def test_a_certificate_does_not_cover_a_hostname(names: list[str], hostname: str) -> None:
    """Proves what clients would refuse, and what must therefore never be synced."""
    assert not covers(names, hostname)


WEST = build.endpoint("West Europe", connections=7)
NORTH = build.endpoint("North Europe")
REGIONS = build.binding(endpoints=(WEST, NORTH))


def regions(new_in_west: int, new_in_north: int, of: Binding = REGIONS) -> Evidence:
    """Seven connections in West Europe and one in North Europe, so many of them with the new leaf."""
    west = [served(NEW, WEST)] * new_in_west + [served(OLD, WEST)] * (7 - new_in_west)
    north = [served(NEW, NORTH)] * new_in_north + [served(OLD, NORTH)] * (1 - new_in_north)
    return evidence(*west, *north, of=of)


FAULTS = (ProbeFault.REFUSED, ProbeFault.CLOSED, ProbeFault.NOT_TLS)
WHERE = f"West Europe ({build.endpoint().host}:443)"
MESSAGES = {
    "in sync counts the connections of every region": (
        regions(7, 1),
        "serves A1A1A1A1A1… on 7 of 7 new connections in West Europe, 1 of 1 in North Europe.",
    ),
    "partly served says where the old one still is": (
        regions(3, 0),
        (
            "has begun to serve version v2: it serves the new version on 3 of 7 new connections in West"
            " Europe, an old version on 4 of 7 new connections in West Europe, 1 of 1 in North Europe."
        ),
    ),
    "stale says what should be, what is and what ARM has": (
        regions(0, 0, build.binding(configured=OLD, endpoints=(WEST, NORTH))),
        (
            "should serve A1A1A1A1A1… (version v2) but it serves an old version on 7 of 7 new connections in"
            " West Europe, 1 of 1 in North Europe; ARM has B2B2B2B2B2… configured. A sync is needed."
        ),
    ),
    "stale without a thumbprint in ARM does not speak of ARM": (
        evidence(served(OLD), of=build.binding(configured=None)),
        "it serves an old version on 1 of 1 new connections in West Europe. A sync is needed.",
    ),
    "stale says how many connections failed beside": (
        evidence(served(OLD), failed(), failed(), of=THREE),
        "an old version on 1 of 3 new connections in West Europe; failed connections: 2 (connection refused)",
    ),
    "overdue says how often, when, and with which answer": (
        evidence(
            served(OLD),
            row=build.row(
                attempts=3, asked=timedelta(hours=-4), due=timedelta(hours=2), outcome=SyncOutcome.UNKNOWN
            ),
        ),
        (
            "3 sync(s) asked for, the last 2026-03-02 06:00 UTC (unknown), have not changed that."
            " Check the portal's sync logs, and that the gateway's identity (system-assigned) may read the"
            " secret (Key Vault Secrets User)."
        ),
    ),
    "overdue names the identity that was assigned": (
        evidence(
            served(OLD),
            of=build.binding(identity="0a0b0c0d-0000-0000-0000-000000000000"),
            row=build.row(asked=timedelta(hours=-4), due=timedelta(hours=2)),
        ),
        "identity (user-assigned 0a0b0c0d-0000-0000-0000-000000000000) may read the secret",
    ),
    "in flight says since when and how long it takes": (
        evidence(served(OLD), row=build.row_in_flight()),
        "a sync was asked for 09:50 UTC and takes 15 to 45 minutes; it serves an old version on",
    ),
    "updating gives the service's own word": (
        evidence(failed(), at=build.gateway(state="Activating")),
        "the service is Activating; nothing of it could be observed; failed connections: 1",
    ),
    "pinned gives the exact URI to set": (
        evidence(served(OLD), of=PINNED),
        (
            "is pinned to version v1 and will never follow a renewal."
            " Set its keyVaultId to https://kv-gateways.vault.azure.net/secrets/api-contoso-com"
        ),
    ),
    "deleted says what to do first": (
        evidence(served(OLD), expected=DELETED),
        "https://kv-gateways.vault.azure.net/certificates/api-contoso-com is deleted. Recover it first:",
    ),
    "not found says what to do": (
        evidence(served(OLD), expected=build.unreadable(UnreadableCause.NOT_FOUND)),
        (
            "there is no https://kv-gateways.vault.azure.net/certificates/api-contoso-com, so no version to"
            " expect. If it is a secret alone, as App Service Certificates are, the gateway follows it by"
        ),
    ),
    "disabled names the version where it is known": (
        evidence(served(OLD), expected=build.version(enabled=False)),
        "version v2 of https://kv-gateways.vault.azure.net/certificates/api-contoso-com, the newest, is",
    ),
    "disabled does without the version where it is not": (
        evidence(served(OLD), expected=build.unreadable(UnreadableCause.DISABLED)),
        "the newest version of https://kv-gateways.vault.azure.net/certificates/api-contoso-com is disabled;",
    ),
    "an unreadable vault gives cause, detail and the role": (
        evidence(served(OLD), expected=build.unreadable()),
        "could not be read (forbidden: HTTP 403 ForbiddenByRbac). Check the app's right",
    ),
    "expired gives the moment": (
        evidence(served(OLD), expected=build.version(not_after=NOW - minutes(1))),
        (
            "the newest version v2 ended 2026-03-02 09:59 UTC. Renew"
            " https://kv-gateways.vault.azure.net/certificates/api-contoso-com."
        ),
    ),
    "not yet valid gives the moment": (
        evidence(served(OLD), expected=build.version(not_before=NOW + minutes(1))),
        "the newest version v2 is valid only from 2026-03-02 10:01 UTC; it will be synced then.",
    ),
    "not covered lists the names that are, five at most": (
        evidence(served(OLD), expected=build.version(names=tuple(f"{c}.fabrikam.com" for c in "abcdef"))),
        "covers only a.fabrikam.com, b.fabrikam.com, c.fabrikam.com, d.fabrikam.com, e.fabrikam.com. Issue",
    ),
    "not covered says so where there is no name": (
        evidence(served(OLD), expected=build.version(names=())),
        "covers only no name. Issue it again with this hostname.",
    ),
    "expiring soon counts the days": (
        evidence(served(NEW), expected=build.version(not_after=NOW + timedelta(days=9, hours=5))),
        "but that is the newest version and it ends in 9 days. Check the auto-renewal of https://",
    ),
    "served by another says who answers": (
        evidence(served(FOREIGN)),
        (
            "apim-contoso-westeurope-01.regional.azure-api.net (20.50.2.1:443) serves C3C3C3C3C3…"
            " (CN=api.contoso.com, issued by CN=Contoso Issuing CA), which is no version of https://"
        ),
    ),
    "a gateway that lives on a cached certificate is told when traffic stops": (
        replace(
            evidence(
                served(OLD, not_after=NOW + timedelta(days=9)),
                served(OLD, not_after=None),
                served(OLD, not_after=NOW + timedelta(days=5)),
                of=THREE,
            ),
            operation_error="Failed to access KeyVault Secret",
        ),
        "It serves a cached certificate, and traffic stops on 2026-03-07. Give that identity Key Vault",
    ),
    "the day on which traffic stops is not made up": (
        replace(evidence(served(OLD, not_after=None)), operation_error="Failed to access KeyVault Secret"),
        "and traffic stops when the cached certificate ends. Give that identity Key Vault",
    ),
    "unmanaged lists what is served in order": (
        evidence(
            served(FOREIGN), served(OLD), served(NEW), of=build.binding(of=None, endpoints=THREE.endpoints)
        ),
        "serves A1A1A1A1A1… until 2026-05-31; B2B2B2B2B2… until 2026-05-31; C3C3C3C3C3… until 2026-05-31.",
    ),
    "versions that cannot be listed say which right is missing": (
        evidence(served(OLD), earlier=None),
        (
            "serves B2B2B2B2B2…, and the versions of https://kv-gateways.vault.azure.net/certificates/api-contoso-com"
            " could not be listed"
        ),
    ),
    "no endpoint says what ARM has": (
        evidence(of=NOWHERE),
        (f"has no endpoint to connect to (no address is known); ARM has {NEW} configured."),
    ),
    "no endpoint says so where ARM has nothing": (
        evidence(of=build.binding(configured=None, endpoints=())),
        "ARM has nothing configured.",
    ),
    "failed connections are counted by what failed": (
        evidence(
            *[failed(WEST)] * 6,
            failed(WEST, ProbeFault.HANDSHAKE_TIMEOUT),
            failed(NORTH, ProbeFault.ALERT),
            of=REGIONS,
        ),
        (
            "could not be read from West Europe (apim-contoso-westeurope-01.regional.azure-api.net:443):"
            " connection refused, Connection refused, 6 times; West Europe ("
        ),
    ),
    "one failed connection is not counted": (
        evidence(failed()),
        ".azure-api.net:443): connection refused, Connection refused. Check that the app can reach it;",
    ),
    "two failed connections are": (
        evidence(failed(), failed(), of=TWO),
        ".azure-api.net:443): connection refused, Connection refused, 2 times. Check that the app can",
    ),
    "of many faults the three most frequent are listed": (
        evidence(
            *(failed(fault=fault) for fault in FAULTS for _ in range(2)), failed(fault=ProbeFault.ALERT)
        ),
        "; ".join(f"{WHERE}: {fault}, Connection refused, 2 times" for fault in FAULTS) + ". Check that",
    ),
    "unmanaged says what is served and until when": (
        evidence(served(OLD), of=build.binding(of=None)),
        "is not from Key Vault, so there is nothing to sync; serves B2B2B2B2B2… until 2026-05-31.",
    ),
    "unmanaged says so where nothing was read": (
        evidence(failed(), of=build.binding(of=None)),
        "serves nothing that could be read.",
    ),
    "unmanaged survives a date that cannot be read": (
        evidence(served(OLD, not_after=None), of=build.binding(of=None)),
        "serves B2B2B2B2B2… until an unreadable date.",
    ),
    "unmanaged and about to end gives the earliest end": (
        evidence(
            served(OLD, not_after=NOW + timedelta(days=9)),
            served(FOREIGN, not_after=NOW + timedelta(days=3)),
            of=build.binding(of=None, endpoints=TWO.endpoints),
        ),
        "serves a certificate that is not from Key Vault and ends 2026-03-05;",
    ),
    "out of scope gives the reference and the settings to check": (
        evidence(served(OLD), of=build.binding(in_scope=False)),
        (
            "refers to https://kv-gateways.vault.azure.net/secrets/api-contoso-com, which is no certificate"
            " of an allowed vault in this cloud; nothing is read from there. Check ROTATION_CLOUD and"
            " ROTATION_VAULTS."
        ),
    ),
}


@pytest.mark.parametrize(("seen", "expected"), MESSAGES.values(), ids=MESSAGES)
def test_a_message_says_it_exactly(seen: Evidence, expected: str) -> None:
    """Proves the sentence that a person reads, beginning with gateway and hostname."""
    actual = judge(seen, NOW, Limits()).message

    assert actual.startswith("apim-contoso api.contoso.com: ")
    assert expected in actual


MISLEADING = {
    "a busy service with a leaf that cannot be told": evidence(served(OLD), at=BUSY, earlier=None),
    "another certificate in ARM and a leaf that cannot be told": evidence(
        served(FOREIGN), of=DIFFERS, earlier=None
    ),
}


@pytest.mark.parametrize("seen", MISLEADING.values(), ids=MISLEADING)
def test_a_leaf_that_was_read_is_never_said_not_to_have_been(seen: Evidence) -> None:
    """Proves that a message does not deny what the fields beside it show."""
    actual = judge(seen, NOW, Limits()).message

    assert "nothing of it could be observed" not in actual


def test_a_tally_of_nothing_is_empty() -> None:
    """Proves that no region is named for which there is nothing to say."""
    expected = ""
    actual = tally([], evidence())

    assert expected == actual


@pytest.mark.parametrize(
    ("attempts", "age", "expected"),
    [
        (1, 5, (Status.SYNCING, False)),
        (2, 1, (Status.SYNCING, False)),
        (2, 5, (Status.STALE, True)),
    ],
)
def test_a_second_sync_after_the_deadline_hides_nothing(
    attempts: int, age: int, expected: tuple[Status, bool]
) -> None:
    """Proves that a sync which fails in silence cannot keep the alert away by being repeated."""
    row = build.row(attempts=attempts, asked=build.minutes(-10), due=build.minutes(20))
    seen = evidence(served(OLD), expected=build.version(age=timedelta(hours=age)), row=row)
    verdict = judge(seen, NOW, Limits())

    assert expected == (verdict.status, verdict.drift)


def test_what_resource_graph_remembers_of_the_configuration_makes_nothing_stale() -> None:
    """Proves that an answer of minutes ago is no observation of this pass."""
    listed = build.gateway(build.binding(configured=OLD), listed=True)
    read = build.gateway(build.binding(configured=OLD))
    verdicts = [judge(evidence(failed(), at=gateway), NOW, Limits()) for gateway in (listed, read)]

    assert [Status.UNKNOWN, Status.STALE] == [verdict.status for verdict in verdicts]


def test_what_azure_advisor_says_is_added_and_decides_nothing() -> None:
    """Proves that its view of eight hours ago is a hint beside what is seen now."""
    warned = replace(build.gateway(), advisory="Rotation failed for a hostname.")
    stale, good = (judge(evidence(served(leaf), at=warned), NOW, Limits()) for leaf in (OLD, NEW))

    assert stale.message.endswith("Azure Advisor: Rotation failed for a hostname.")
    assert (Status.IN_SYNC, False) == (good.status, "Advisor" in good.message)


@pytest.mark.parametrize(
    ("late", "expected"),
    [(timedelta(0), Reason.SYNC_OVERDUE), (minutes(1), Reason.GATEWAY_NOT_LOOKING)],
    ids=["until then it may still look", "afterwards"],
)
def test_a_gateway_that_looks_by_itself_is_not_looking_once_its_time_is_over(
    late: timedelta, expected: Reason
) -> None:
    """Proves that what was asked for is given that long, and that then another sync is no remedy."""
    within = APPLICATION_GATEWAY.looks_within
    assert within
    at = build.gateway(build.binding(), kind=APPLICATION_GATEWAY)
    version = build.version(age=within + late)
    row = build.row(asked=-timedelta(hours=4), due=minutes(5), since=-(within + late))

    assert expected is judge(evidence(served(OLD), expected=version, at=at, row=row), NOW, Limits()).reason
