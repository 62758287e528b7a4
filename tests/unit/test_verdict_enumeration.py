"""Every combination of what can be seen of a binding, judged once and held against the iron rules.

The oracle below speaks the words of the design, not the order of the rules: a case is words, and what is
true of it is set logic on those words.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from itertools import combinations_with_replacement, islice, product
from typing import Any, TypeVar

import pytest

from rotation import verdict
from rotation.gateways import application_gateway, entities, self_hosted
from rotation.model import (
    BackendHealth,
    CertificateUnreadable,
    CertificateVersion,
    Endpoint,
    Evidence,
    Front,
    Gateway,
    LedgerRow,
    Observation,
    Reason,
    Status,
    SyncOutcome,
    TrustedRoot,
    UnreadableCause,
    Verdict,
)
from rotation.verdict import RULES, Limits, judge
from tests.unit import build

EVERY_NTH_CASE = int(os.environ.get("EVERY_NTH_CASE", "1"))
"""All of them, but where a thousand mutants are each held against them."""

Words = TypeVar("Words")
Shown = tuple[tuple[str, ...], ...]
"""What each connection of each endpoint showed: new, old, other, failed or missing."""

YOUNG, AGED = timedelta(hours=1), timedelta(days=3)
SOUND = {"enabled, in date, covering", "enabled, expiring soon, covering"}
RISKY = {"losing a name", "self-signed"}
WORDS = ("new", "old", "other", "failed", "missing")
ROWS: dict[str, LedgerRow | None] = {
    "none": None,
    "empty": LedgerRow(build.GATEWAY_ID.lower()),
    "in flight": build.row_in_flight(),
    "just asked": build.row(asked=timedelta(seconds=-30), due=timedelta(minutes=29)),
    "over, lately": build.row(asked=timedelta(minutes=-90), due=timedelta(minutes=-60)),
    "over": build.row(attempts=3, asked=timedelta(hours=-4), due=timedelta(hours=2)),
    "proven": build.row(
        asked=timedelta(minutes=-20), due=timedelta(minutes=10), proven=timedelta(minutes=-5)
    ),
    "another version": build.row(
        wanted={str(build.CERTIFICATE): "v1"}, asked=timedelta(minutes=-10), due=timedelta(minutes=20)
    ),
    "refused": build.row(attempts=0, due=timedelta(minutes=5), outcome=SyncOutcome.BUSY),
    "not supported": build.row(attempts=0, due=timedelta(hours=9), outcome=SyncOutcome.NOT_SUPPORTED),
    "failed on the vault": build.row_in_flight(),
    "failed otherwise": build.row_in_flight(),
}
FLYING = {"in flight", "just asked"}
ERRORS = {
    "failed on the vault": "InvalidOperation: Failed to access KeyVault Secret https://kv",
    "failed otherwise": "InternalServerError: try again",
}
DATES = {
    "in date": (timedelta(days=-1), timedelta(days=90)),
    "expiring soon": (timedelta(days=-1), timedelta(days=14)),
    "expired": (timedelta(days=-60), timedelta(0)),
    "not yet valid": (timedelta(seconds=1), timedelta(days=90)),
}
LEAVES = {
    "leaf in date": timedelta(days=90),
    "leaf expiring soon": timedelta(days=14),
    "leaf unreadable": None,
}


@dataclass(frozen=True, slots=True)
class Case:
    """One combination, in words. `certificate` is what Key Vault says of the newest version.

    `fetches`: the gateway is of a kind that fetches by itself what ARM has configured. `around` is what else
    is known of it: what stands in front, its own account of the vault, that it looks into it by itself, or
    that it is used and not served.
    """

    kind: str
    certificate: str
    busy: bool
    shown: Shown
    configured: str
    row: str
    young: bool
    listed: bool
    fetches: bool = False
    around: str = ""

    @property
    def sound(self) -> bool:
        """Whether there is a version that the gateway can and should serve."""
        whatever_names = {"enabled, in date, not covering"} if self.used else set()
        return self.kind == "versionless" and self.certificate in SOUND | RISKY | {MOVED} | whatever_names

    @property
    def used(self) -> bool:
        """Whether nobody can connect to it, so that ARM's word is all there is."""
        return self.around == USED

    @property
    def seen(self) -> Counter[str]:
        """Connections by what they positively showed: an old leaf counts once it is known to be one."""
        words = Counter(word for endpoint in self.shown for word in endpoint)
        if not self.listed:
            words["unclassified"] = words.pop("other", 0)
            if self.configured != "old":
                words["unclassified"] += words.pop("old", 0)
        return +words

    @property
    def all_new(self) -> bool:
        """Whether there is somewhere to look and every needed connection showed the expected leaf."""
        return bool(self.shown) and set(self.seen) == {"new"}

    @property
    def stale(self) -> bool:
        """Whether something else than expected is positively served or configured."""
        return bool(self.seen["old"]) or self.configured == "old" or (self.used and self.configured != "new")

    @property
    def patient(self) -> bool:
        """Whether the version, or our last sync for it, is younger than the deadline."""
        return self.young or self.row in {*FLYING, "over, lately", "proven", *ERRORS}

    @property
    def under_way(self) -> bool:
        """Whether a sync is in flight, the service is updating, or some already see the new leaf."""
        begun = self.seen["new"] and self.seen["old"]
        return self.row in FLYING or bool((self.busy or begun) and self.patient)

    @property
    def behind(self) -> bool:
        """Whether ARM has the new leaf, and a gateway that fetches it by itself still shows an old one."""
        return self.fetches and self.sound and self.configured == "new" and bool(self.seen["old"])

    @property
    def status(self) -> Status:
        """The status by the table of the design, section 4."""
        elsewhere = {"none": Status.UNMANAGED, "pinned": Status.BLOCKED, "out of scope": Status.UNKNOWN}
        if self.kind in elsewhere:
            return elsewhere[self.kind]
        if not self.sound:
            unknown = {"forbidden", "throttled", "unreachable", "malformed"}
            return Status.UNKNOWN if self.certificate in unknown else Status.BLOCKED
        if self.all_new or (self.used and self.configured == "new"):
            return Status.UNMANAGED if self.used else Status.IN_SYNC
        if self.behind or self.under_way:
            missed = self.behind and self.row != "just asked"
            return Status.BLOCKED if missed else Status.SYNCING
        if self.stale:
            harmful = (self.certificate in RISKY or self.refused_in_front) and self.seen["old"]
            blocked = harmful or self.row == "not supported" or self.deaf
            return Status.BLOCKED if blocked else Status.STALE
        return Status.BLOCKED if self.seen["other"] or self.dark else Status.UNKNOWN

    @property
    def refused_in_front(self) -> bool:
        """Whether what stands in front would refuse the new leaf for certain."""
        return self.certificate == MOVED and self.around == "in front, trusts the old issuer"

    @property
    def deaf(self) -> bool:
        """Whether it was asked to look, has had the time to do so by itself, and shows an old leaf."""
        asked = self.row in {"over, lately", "over", "proven", "failed otherwise"}
        return self.around == "looks by itself" and asked and not self.young and bool(self.seen["old"])

    @property
    def dark(self) -> bool:
        """Whether it says that it cannot read the vault, and shows nothing."""
        shows = {"new", "old", "other", "unclassified"} & set(self.seen)
        return self.around == "cannot read the vault" and not shows

    def evidence(self) -> Evidence:
        """The same in the values that the rules take."""
        endpoints = tuple(ENDPOINTS[i][len(words)] for i, words in enumerate(self.shown))
        configured = {"nothing": None, "new": build.NEW, "old": build.OLD}[self.configured]
        binding = build.binding(
            of=None if self.kind == "none" else build.CERTIFICATE,
            pinned="v1" if self.kind == "pinned" else None,
            in_scope=self.kind != "out of scope",
            configured=configured,
            endpoints=endpoints,
        )
        return Evidence(
            gateway=self.gateway,
            binding=binding,
            expected=EXPECTED[self.certificate, self.young] if binding.reference else None,
            observations=tuple(
                observation
                for endpoint, words in zip(endpoints, self.shown, strict=True)
                for observation in (observe(word, endpoint, self.certificate) for word in words)
                if observation
            ),
            earlier=frozenset({build.OLD, build.NEW}) if self.listed else None,
            row=ROWS[self.row],
            operation_error=ERRORS.get(self.row),
            front=HEALTHS.get(self.around),
        )

    @property
    def gateway(self) -> Gateway:
        """The same for what the binding is of."""
        return gateway_of(fetches=self.fetches, busy=self.busy, around=self.around)


@cache
def gateway_of(*, fetches: bool, busy: bool, around: str) -> Gateway:
    """A gateway, and what is known of it beside its bindings."""
    gateway = SELF_HOSTED if fetches else GATEWAYS[busy]
    if around == "looks by itself":
        gateway = replace(gateway, kind=application_gateway.KIND)
    if around == USED:
        gateway = replace(gateway, kind=entities.CERTIFICATES)
    error = "SecretDisabled" if around == "cannot read the vault" else None
    return replace(gateway, vault_error=error, fronts=FRONTS.get(around, ()))


GATEWAYS = {busy: build.gateway(state="Updating" if busy else "Succeeded") for busy in (False, True)}
SELF_HOSTED = build.gateway(kind=self_hosted.KIND)
MOVED = "of another issuer"
USED = "used, not served"


def in_front(*roots: str, hostname: str = build.HOSTNAME) -> tuple[Front, ...]:
    """An Application Gateway whose backend is the default gateway."""
    trusted = tuple(TrustedRoot(root, "D4" * 20) for root in roots)
    return (Front("/agw", "Application Gateway agw", "apim-contoso.azure-api.net", hostname, trusted),)


FRONTS = {
    "in front, trusts the old issuer": in_front("CN=Elsewhere", "CN=Contoso Issuing CA"),
    "in front, trusts both": in_front("CN=Contoso Issuing CA", "CN=Contoso Root CA 2"),
    "in front, trusts another root": in_front("CN=Elsewhere"),
    "in front, trusts public authorities": in_front(),
    "in front, with roots not to be seen": (replace(in_front()[0], roots=None),),
    "in front of another name": in_front("CN=Contoso Issuing CA", hostname="www.fabrikam.com"),
}
HEALTHS = {
    "in front, and distrusts": BackendHealth("Application Gateway agw", distrusts=True, detail="certificate"),
    "in front, and is content": BackendHealth("Application Gateway agw", distrusts=False, detail=""),
    "in front, and is silent": BackendHealth("Application Gateway agw", distrusts=None, detail="HTTP 403"),
}
AROUND = (*FRONTS, *HEALTHS, "cannot read the vault", "looks by itself")
ENDPOINTS = [
    {n: build.endpoint(region, connections=n) for n in (1, 2, 3)}
    for region in ("West Europe", "North Europe")
]
CAUSES = {str(cause): cause for cause in UnreadableCause}
VERSIONS = {
    f"{state}, {dates}, {names}": (state == "enabled", DATES[dates], names == "covering")
    for state, dates, names in product(("enabled", "disabled"), DATES, ("covering", "not covering"))
}
SPECIAL: dict[str, dict[str, Any]] = {
    "losing a name": {},
    "self-signed": {"self_signed": True},
    "with a short key": {"key": "RSA 1024"},
    "of another content type": {"content_type": "application/x-pem-file"},
    MOVED: {"issuer": "CN=Contoso Root CA 2"},
}


def expect(name: str, *, young: bool) -> CertificateVersion | CertificateUnreadable | None:
    """What Key Vault answers in a case."""
    if name in CAUSES:
        return build.unreadable(CAUSES[name])
    if name in LEAVES:
        return None
    if name in SPECIAL:
        return replace(build.version(age=YOUNG if young else AGED), **SPECIAL[name])
    enabled, (begins, ends), covering = VERSIONS[name]
    return build.version(
        age=YOUNG if young else AGED,
        enabled=enabled,
        not_before=build.NOW + begins,
        not_after=build.NOW + ends,
        names=(build.HOSTNAME,) if covering else ("www.fabrikam.com",),
    )


EXPECTED = {
    (name, young): expect(name, young=young)
    for name, young in product([*CAUSES, *VERSIONS, *SPECIAL, *LEAVES], (False, True))
}


@cache
def observe(word: str, endpoint: Endpoint, certificate: str) -> Observation | None:
    """One connection of a case; none where it is missing."""
    life = LEAVES.get(certificate, timedelta(days=90))
    not_after = None if life is None else build.NOW + life
    leaves = {"new": build.NEW, "old": build.OLD, "other": build.FOREIGN}
    if word == "missing":
        return None
    if word == "failed":
        return build.failed(endpoint)
    more = ("www.contoso.com",) if word == "old" and certificate == "losing a name" else ()
    return build.served(leaves[word], endpoint, not_after=not_after, names=(build.HOSTNAME, *more))


def shows(*connections: int) -> Iterator[Shown]:
    """Every multiset of what endpoints with so many connections can show."""
    return product(*(combinations_with_replacement(WORDS, number) for number in connections))


FEW: list[Shown] = [(), *shows(1), *shows(2)]
MANY: list[Shown] = [*FEW, *shows(3), *shows(1, 1), *shows(1, 2), *shows(2, 1)]


def some(words: Iterable[Words]) -> Iterator[Words]:
    """All of them, or every so manieth."""
    return islice(words, 0, None, EVERY_NTH_CASE)


def all_cases() -> Iterator[Case]:
    """Everything of everything where it matters; few connections where they cannot change the verdict."""
    both = (False, True)
    configured = ("nothing", "new", "old")
    for certificate in (*CAUSES, *VERSIONS, *SPECIAL):
        shown = MANY if certificate in SOUND else FEW
        for words in some(product(both, shown, configured, ROWS, both, both)):
            yield Case("versionless", certificate, *words)
        if certificate in {"enabled, in date, covering", MOVED, *RISKY}:
            for around, words in some(
                product(AROUND, product((False,), FEW, configured, ROWS, both, (True,)))
            ):
                yield Case("versionless", certificate, *words, around=around)
        if certificate in SOUND | RISKY:
            for words in some(product((False,), FEW, configured, ROWS, both, (True,))):
                yield Case("versionless", certificate, *words, fetches=True)
        for words in some(product(both, FEW, configured[1:], ("none", "in flight"), both, (True,))):
            yield Case("pinned", certificate, *words)
    for kind, certificate in product(("none", "out of scope"), LEAVES):
        for words in some(product(both, FEW, configured, ("none", "in flight"), (True,), (True,))):
            yield Case(kind, certificate, *words)
    yield from used_cases()


def used_cases() -> Iterator[Case]:
    """What nobody can connect to, whose certificate need not cover its name."""
    known = product((False,), ((),), ("nothing", "new", "old"), ROWS, (False, True), (True,))
    for certificate, words in some(product(("enabled, in date, not covering", *sorted(SOUND)), known)):
        yield Case("versionless", certificate, *words, around=USED)


Judged = list[tuple[Case, Verdict]]


@pytest.fixture(scope="module")
def everything() -> tuple[Judged, list[tuple[Case, str]]]:
    """Every case with its verdict, and those for which there was none."""
    judged: Judged = []
    raised: list[tuple[Case, str]] = []
    limits = Limits()
    for case in all_cases():
        try:
            judged.append((case, judge(case.evidence(), build.NOW, limits)))
        except Exception as error:  # noqa: BLE001 - whatever it raises is what is looked for
            raised.append((case, repr(error)))
    return judged, raised


@pytest.fixture(scope="module")
def judged(everything: tuple[Judged, list[tuple[Case, str]]]) -> Judged:
    """Every case that has a verdict."""
    return everything[0]


def breaches(judged: Judged, holds: Callable[[Case, Verdict], bool]) -> list[str]:
    """The first few cases in which something does not hold, in words."""
    broken = (f"{case} is {v.status} {v.reason}" for case, v in judged if not holds(case, v))
    return [line for line, _ in zip(broken, range(5), strict=False)]


def test_every_combination_has_a_verdict(everything: tuple[Judged, list[tuple[Case, str]]]) -> None:
    """Proves that the rules are total: judge never raises, whatever the evidence."""
    judged, raised = everything
    expected: list[tuple[Case, str]] = []
    actual = raised[:3]

    assert len(judged) * EVERY_NTH_CASE > 50_000
    assert expected == actual, f"{len(raised)} cases have no verdict"


def test_in_sync_is_said_if_and_only_if_every_needed_connection_showed_the_expected_leaf(
    judged: Judged,
) -> None:
    """Proves the first promise: no endpoint, a missing, failed or other observation is never green."""
    expected: list[str] = []
    actual = breaches(judged, lambda case, v: (v.status is Status.IN_SYNC) == (case.sound and case.all_new))

    assert expected == actual


def test_stale_is_said_only_of_what_was_positively_seen(judged: Judged) -> None:
    """Proves that unreachable, unreadable and unknown never become STALE, on which a sync would follow."""
    expected: list[str] = []
    actual = breaches(judged, lambda case, v: v.status is not Status.STALE or (case.sound and case.stale))

    assert expected == actual


def test_unknown_is_never_said_where_all_connections_showed_the_expected_leaf(judged: Judged) -> None:
    """Proves that a proof is not thrown away."""
    expected: list[str] = []
    actual = breaches(judged, lambda c, v: v.status is not Status.UNKNOWN or not (c.sound and c.all_new))

    assert expected == actual


def test_unmanaged_is_said_if_and_only_if_there_is_no_key_vault_id_or_nothing_to_prove(
    judged: Judged,
) -> None:
    """Proves that nothing but keyVaultId decides whether it is ours, and that ARM's word is no proof."""
    expected: list[str] = []
    actual = breaches(
        judged,
        lambda case, v: (
            (v.status is Status.UNMANAGED)
            == (case.kind == "none" or (case.used and case.configured == "new"))
        ),
    )

    assert expected == actual


def test_drift_is_stale_beyond_the_deadline(judged: Judged) -> None:
    """Proves that the alarm is neither early nor late, and never rests on a failed observation."""
    expected: list[str] = []
    actual = breaches(judged, lambda case, v: v.drift == (v.status is Status.STALE and not case.young))

    assert expected == actual


def test_the_status_is_the_one_that_the_design_defines(judged: Judged) -> None:
    """Proves all six statuses against definitions that know no order of rules."""
    expected: list[str] = []
    actual = breaches(judged, lambda case, v: v.status is case.status)

    assert expected == actual


CAUSED: dict[Reason, Callable[[Case], bool]] = {
    Reason.SERVED: lambda c: "expiring soon" not in c.certificate,
    Reason.EXPIRES_SOON: lambda c: "expiring soon" in c.certificate,
    Reason.SERVICE_UPDATING: lambda c: c.busy and not (c.seen["new"] and c.seen["old"]),
    Reason.SYNC_IN_FLIGHT: lambda c: c.row in FLYING and not c.busy,
    Reason.PARTLY_SERVED: lambda c: bool(c.seen["new"] and c.seen["old"]),
    Reason.GATEWAY_NOT_POLLING: lambda c: c.behind and c.row != "just asked",
    Reason.SERVES_OLD_VERSION: lambda c: c.row in {"none", "empty", "another version", "refused"},
    Reason.SYNC_OVERDUE: lambda c: c.row in {"over, lately", "over", "proven", "failed otherwise"},
    Reason.GATEWAY_CANNOT_READ_VAULT: lambda c: (
        c.row == "failed on the vault" or c.around == "cannot read the vault"
    ),
    Reason.FRONT_DISTRUSTS: lambda c: (
        c.refused_in_front or (c.all_new and c.around == "in front, and distrusts")
    ),
    Reason.GATEWAY_NOT_LOOKING: lambda c: c.deaf,
    Reason.SYNC_NOT_SUPPORTED: lambda c: c.row == "not supported",
    Reason.VERSION_UNUSABLE: lambda c: c.certificate in {"with a short key", "of another content type"},
    Reason.NAMES_LOST: lambda c: c.certificate == "losing a name" and bool(c.seen["old"]),
    Reason.ISSUER_CHANGED: lambda c: c.certificate == "self-signed" and bool(c.seen["old"]),
    Reason.PINNED_VERSION: lambda c: c.kind == "pinned",
    Reason.CERTIFICATE_DELETED: lambda c: c.certificate == "deleted",
    Reason.CERTIFICATE_NOT_FOUND: lambda c: c.certificate == "not found",
    Reason.VERSION_DISABLED: lambda c: c.certificate.startswith("disabled"),
    Reason.VERSION_EXPIRED: lambda c: c.certificate.startswith("enabled, expired"),
    Reason.VERSION_NOT_YET_VALID: lambda c: c.certificate.startswith("enabled, not yet valid"),
    Reason.CONFIGURED_ONLY: lambda c: c.used and c.configured == "new",
    Reason.NAME_NOT_COVERED: lambda c: c.certificate.endswith("not covering") and not c.used,
    Reason.SERVED_BY_OTHER: lambda c: bool(c.seen["other"]),
    Reason.VAULT_UNREADABLE: lambda c: not c.sound or bool(c.seen["unclassified"]),
    Reason.PROBE_FAILED: lambda c: bool(c.seen["failed"] or c.seen["missing"]),
    Reason.NOT_OBSERVABLE: lambda c: not c.shown,
    Reason.NOT_FROM_KEY_VAULT: lambda c: c.kind == "none",
    Reason.OUT_OF_SCOPE: lambda c: c.kind == "out of scope",
}


def test_every_reason_is_given_only_for_its_cause(judged: Judged) -> None:
    """Proves that nobody is sent to mend what is not broken."""
    expected: list[str] = []
    actual = breaches(judged, lambda case, v: CAUSED[v.reason](case))

    assert expected == actual


PAIRS = {
    Status.IN_SYNC: {Reason.SERVED, Reason.EXPIRES_SOON, Reason.FRONT_DISTRUSTS},
    Status.SYNCING: {Reason.SERVICE_UPDATING, Reason.SYNC_IN_FLIGHT, Reason.PARTLY_SERVED},
    Status.STALE: {Reason.SERVES_OLD_VERSION, Reason.SYNC_OVERDUE, Reason.GATEWAY_CANNOT_READ_VAULT},
    Status.BLOCKED: {
        Reason.PINNED_VERSION,
        Reason.CERTIFICATE_DELETED,
        Reason.CERTIFICATE_NOT_FOUND,
        Reason.VERSION_DISABLED,
        Reason.VERSION_EXPIRED,
        Reason.VERSION_NOT_YET_VALID,
        Reason.VERSION_UNUSABLE,
        Reason.NAME_NOT_COVERED,
        Reason.NAMES_LOST,
        Reason.ISSUER_CHANGED,
        Reason.SYNC_NOT_SUPPORTED,
        Reason.SERVED_BY_OTHER,
        Reason.GATEWAY_NOT_POLLING,
        Reason.FRONT_DISTRUSTS,
        Reason.GATEWAY_NOT_LOOKING,
        Reason.GATEWAY_CANNOT_READ_VAULT,
    },
    Status.UNKNOWN: {
        Reason.VAULT_UNREADABLE,
        Reason.PROBE_FAILED,
        Reason.NOT_OBSERVABLE,
        Reason.OUT_OF_SCOPE,
    },
    Status.UNMANAGED: {Reason.NOT_FROM_KEY_VAULT, Reason.EXPIRES_SOON, Reason.CONFIGURED_ONLY},
}


def test_the_pairs_of_status_and_reason_are_those_of_the_table(judged: Judged) -> None:
    """Proves that every pair that is documented occurs, and no other."""
    expected = {(status, reason) for status, reasons in PAIRS.items() for reason in reasons}
    actual = {(v.status, v.reason) for _, v in judged}

    assert expected == actual


def test_every_reason_but_internal_error_is_given_in_some_case(judged: Judged) -> None:
    """Proves that no reason is documented in vain; InternalError is what a bug would give."""
    expected = set(Reason) - {Reason.INTERNAL_ERROR}
    actual = {v.reason for _, v in judged}

    assert expected == actual


def test_every_rule_is_the_first_to_speak_in_some_case(judged: Judged) -> None:
    """Proves that no rule is dead or wholly shadowed by those before it."""
    of_each_kind = {(v.status, v.reason, case.certificate, case.around): v.evidence for case, v in judged}
    classified = [verdict._classify(e, build.NOW, Limits()) for e in of_each_kind.values()]
    expected = {rule.__name__ for rule in RULES}
    actual = {next(rule.__name__ for rule in RULES if rule(case)) for case in classified}

    assert expected == actual


def test_every_message_names_gateway_and_hostname_and_then_says_something(judged: Judged) -> None:
    """Proves that a message can be read alone: who, what, and words enough to act on."""
    start = "apim-contoso api.contoso.com: "
    expected: list[str] = []
    actual = breaches(
        judged,
        lambda _, v: (
            v.message.startswith(start)
            and len(v.message.removeprefix(start).split()) > 4
            and "None" not in v.message
            and "  " not in v.message
            and v.message.isprintable()
        ),
    )

    assert expected == actual
