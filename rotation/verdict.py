"""What is true of a binding: an ordered list of rules, the first that speaks wins. Pure.

`RULES` is the specification. docs/verdicts.md shows it as a table, and the tests enumerate it.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil, log

from rotation.model import (
    ANY_NAME,
    BackendHealth,
    Binding,
    CertificateUnreadable,
    CertificateVersion,
    Evidence,
    Front,
    Kind,
    ProbeFailure,
    Reason,
    ServedCertificate,
    Status,
    SyncOutcome,
    UnreadableCause,
    Verdict,
    shorten,
)

PKCS12 = "application/x-pkcs12"
SMALLEST_RSA = 2048


@dataclass(frozen=True, slots=True)
class Limits:
    """When something becomes drift, and when an expiry is near."""

    drift_after: timedelta = timedelta(hours=2)
    expires_soon: timedelta = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule says; `judge` puts gateway and hostname in front of the message."""

    status: Status
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class _Case:
    """The evidence as the rules want it: observations sorted by what they show."""

    evidence: Evidence
    now: datetime
    limits: Limits
    new: tuple[ServedCertificate, ...]
    old: tuple[ServedCertificate, ...]
    foreign: tuple[ServedCertificate, ...]
    unclassified: tuple[ServedCertificate, ...]
    failed: tuple[ProbeFailure, ...]

    @property
    def expected(self) -> CertificateVersion:
        """The expected version; every rule after `vault_unreadable` may rely on it."""
        assert isinstance(self.evidence.expected, CertificateVersion)
        return self.evidence.expected

    @property
    def kind(self) -> Kind:
        """What the gateway's kind has to say."""
        return self.evidence.gateway.kind

    @property
    def not_new(self) -> bool:
        """Whether any connection showed something else than the expected leaf, or nothing."""
        return bool(self.old or self.foreign or self.unclassified or self.failed)

    @property
    def configured_differs(self) -> bool:
        """Whether ARM has another thumbprint: not what Resource Graph remembers of a while ago."""
        if self.kind.not_served:
            return not self.evidence.gateway.listed and not self.evidence.binding.has(self.expected)
        configured = None if self.evidence.gateway.listed else self.evidence.binding.configured
        return configured is not None and configured != self.expected.thumbprint

    @property
    def within_deadline(self) -> bool:
        """Whether waiting is still reasonable: counted from the version, or from our first sync for it."""
        since = self.expected.available_since
        row = self.evidence.row
        if row and row.asked_at and row.asked_for(self.expected) and row.attempts == 1:
            since = max(since, row.asked_at)
        return self.now - since <= self.limits.drift_after


Rule = Callable[[_Case], Finding | None]


def connections_needed(units: int, certainty: float = 0.99) -> int:
    """Fresh connections after which one stale scale unit of `units` would have been met.

    Behind a load balancer each new connection meets a unit at random: ceil(ln(1-p) / ln(1-1/units)).
    """
    return 1 if units <= 1 else ceil(log(1 - certainty) / log(1 - 1 / units))


def covers(names: Iterable[str], hostname: str) -> bool:
    """Whether a certificate's names cover a hostname, a wildcard standing for one label (RFC 6125)."""
    wanted = hostname.lower().rstrip(".")
    parent = wanted.partition(".")[2]
    covering = {wanted, f"*.{parent}"}
    return any(name.lower().rstrip(".") in covering for name in names)


def out_of_scope(case: _Case) -> Finding | None:
    """A keyVaultId that is no Key Vault object of this cloud, or of a vault that is not allowed."""
    binding = case.evidence.binding
    if not binding.key_vault_id or binding.reference:
        return None
    return Finding(
        Status.UNKNOWN,
        Reason.OUT_OF_SCOPE,
        f"refers to {binding.key_vault_id}, which is no certificate of an allowed vault in this cloud;"
        " nothing is read from there. Check ROTATION_CLOUD and ROTATION_VAULTS.",
    )


def unmanaged_expires_soon(case: _Case) -> Finding | None:
    """Not from Key Vault, and what is served is about to end."""
    if case.evidence.binding.key_vault_id:
        return None
    ends = [s.not_after for s in case.unclassified if s.not_after]
    if not ends or min(ends) - case.now > case.limits.expires_soon:
        return None
    return Finding(
        Status.UNMANAGED,
        Reason.EXPIRES_SOON,
        f"serves a certificate that is not from Key Vault and ends {_day(min(ends))}; nobody renews it"
        " by sync: upload its successor, or move the hostname to Key Vault.",
    )


def not_from_key_vault(case: _Case) -> Finding | None:
    """Decided by keyVaultId: Azure's own example shows Key Vault hosts with certificateSource Custom."""
    if case.evidence.binding.key_vault_id:
        return None
    seen = "; ".join(
        sorted({f"{shorten(s.thumbprint)} until {_day(s.not_after)}" for s in case.unclassified})
    )
    return Finding(
        Status.UNMANAGED,
        Reason.NOT_FROM_KEY_VAULT,
        f"is not from Key Vault, so there is nothing to sync; serves {seen or 'nothing that could be read'}.",
    )


def pinned_version(case: _Case) -> Finding | None:
    """A reference with a version is never updated, by the gateway itself or by a sync."""
    reference = case.evidence.binding.reference
    if not reference or reference.version is None:
        return None
    return Finding(
        Status.BLOCKED,
        Reason.PINNED_VERSION,
        f"is pinned to version {reference.version} and will never follow a renewal."
        f" Set its {case.kind.reference} to {reference.certificate.secret_url}",
    )


def certificate_deleted(case: _Case) -> Finding | None:
    """Azure cannot update the service while a certificate that it refers to is deleted."""
    match case.evidence.expected:
        case CertificateUnreadable(certificate, UnreadableCause.DELETED, _):
            remedy = f"{certificate} is deleted. Recover it first: the gateway cannot be updated until then."
            return Finding(Status.BLOCKED, Reason.CERTIFICATE_DELETED, remedy)
        case _:
            return None


def certificate_not_found(case: _Case) -> Finding | None:
    """A secret alone, as App Service Certificates are, or gone for good: alike to who reads no secret."""
    match case.evidence.expected:
        case CertificateUnreadable(certificate, UnreadableCause.NOT_FOUND, _):
            return Finding(
                Status.BLOCKED,
                Reason.CERTIFICATE_NOT_FOUND,
                f"there is no {certificate}, so no version to expect. If it is a secret alone, as App Service"
                " Certificates are, the gateway follows it by itself, unseen by this app: import it as a"
                " certificate and bind that, or tag the gateway rotation-exclude. If it was deleted for good,"
                " create it again, or point the hostname to another one.",
            )
        case _:
            return None


def version_disabled(case: _Case) -> Finding | None:
    """A versionless id means the newest version; when that is disabled there is no fallback."""
    match case.evidence.expected:
        case CertificateUnreadable(certificate, UnreadableCause.DISABLED, _):
            which = f"the newest version of {certificate}"
        case CertificateVersion(certificate, version, enabled=False):
            which = f"version {version} of {certificate}, the newest,"
        case _:
            return None
    return Finding(
        Status.BLOCKED,
        Reason.VERSION_DISABLED,
        f"{which} is disabled; gateways do not fall back to an older one. Enable it, or add a new version.",
    )


def vault_unreadable(case: _Case) -> Finding | None:
    """Without the expected thumbprint nothing can be said, and nothing is done."""
    expected = case.evidence.expected
    if not isinstance(expected, CertificateUnreadable):
        return None
    return Finding(
        Status.UNKNOWN,
        Reason.VAULT_UNREADABLE,
        f"{expected.certificate} could not be read ({expected.cause}: {expected.detail})."
        " Check the app's right to read certificates there (Key Vault Reader, or access policy: certificates"
        " get and list) and the vault's firewall.",
    )


def version_expired(case: _Case) -> Finding | None:
    """Taking an expired version would break clients that the cached one may still serve."""
    expected = case.expected
    if expected.not_after > case.now:
        return None
    return Finding(
        Status.BLOCKED,
        Reason.VERSION_EXPIRED,
        f"the newest version {expected.version} ended {expected.not_after:%Y-%m-%d %H:%M} UTC."
        f" Renew {expected.certificate}.",
    )


def version_not_yet_valid(case: _Case) -> Finding | None:
    """Taking a version before its time would break clients now."""
    expected = case.expected
    if expected.not_before <= case.now:
        return None
    return Finding(
        Status.BLOCKED,
        Reason.VERSION_NOT_YET_VALID,
        f"the newest version {expected.version} is valid only from {expected.not_before:%Y-%m-%d %H:%M} UTC;"
        " it will be synced then.",
    )


def version_unusable(case: _Case) -> Finding | None:
    """Gateways take PKCS #12 only, and no client of today takes an RSA key below 2048 bits."""
    if case.kind.takes_anything:
        return None
    key, content_type = case.expected.key, case.expected.content_type
    kind, _, size = key.partition(" ")
    if content_type not in {None, PKCS12}:
        why = f"has the content type {content_type}, and gateways take {PKCS12} only: issue it again as that"
    elif kind == "RSA" and int(size) < SMALLEST_RSA:
        why = f"has a key of type {key}: issue it again with {SMALLEST_RSA} bits or more"
    else:
        return None
    return Finding(
        Status.BLOCKED,
        Reason.VERSION_UNUSABLE,
        f"the newest version {case.expected.version} of {case.expected.certificate} {why}.",
    )


def name_not_covered(case: _Case) -> Finding | None:
    """A certificate for other names would break every client of the hostname."""
    hostname = case.evidence.binding.hostname
    if hostname == ANY_NAME or case.kind.not_served or covers(case.expected.names, hostname):
        return None
    return Finding(
        Status.BLOCKED,
        Reason.NAME_NOT_COVERED,
        f"the newest version {case.expected.version} of {case.expected.certificate} covers only"
        f" {', '.join(case.expected.names[:5]) or 'no name'}. Issue it again with this hostname.",
    )


def configured_only(case: _Case) -> Finding | None:
    """Used, not served: ARM's word that it has the version is all there is, and that is no proof."""
    gateway, expected = case.evidence.gateway, case.expected
    if not case.kind.not_served or not case.evidence.binding.has(expected):
        return None
    seen = f"{_seen(case)}, so it has version {expected.version}. {case.kind.not_served}"
    if gateway.vault_error:
        seen += f" Its last read of Key Vault failed ({gateway.vault_error})."
    left = expected.not_after - case.now
    if left > case.limits.expires_soon:
        return Finding(Status.UNMANAGED, Reason.CONFIGURED_ONLY, seen)
    return Finding(
        Status.UNMANAGED,
        Reason.EXPIRES_SOON,
        f"{seen} That is the newest version, and it ends in {left.days} days. Check the auto-renewal of"
        f" {expected.certificate}.",
    )


def served(case: _Case) -> Finding | None:
    """IN_SYNC: every needed observation of this pass, and at least one, is the expected leaf."""
    endpoints = case.evidence.binding.endpoints
    met = Counter(s.endpoint for s in case.new)
    if not endpoints or any(met[e] < e.connections for e in endpoints) or case.not_new:
        return None
    seen = f"serves {shorten(case.expected.thumbprint)} on {tally(case.new, case.evidence)}"
    if case.evidence.sampled:
        seen += " (settled, so only sampled)"
    if (front := case.evidence.front) and _distrusts(front, case):
        return Finding(
            Status.IN_SYNC,
            Reason.FRONT_DISTRUSTS,
            f"{seen}, but {front.name} in front does not believe it ({front.detail}): its clients get 502."
            " Add the root of the new certificate to the trusted root certificates of its backend settings.",
        )
    if front and front.distrusts is None:
        seen += f" ({front.name} in front could not be asked whether it believes that: {front.detail})"
    left = case.expected.not_after - case.now
    if left > case.limits.expires_soon:
        return Finding(Status.IN_SYNC, Reason.SERVED, f"{seen}.")
    return Finding(
        Status.IN_SYNC,
        Reason.EXPIRES_SOON,
        f"{seen}, but that is the newest version and it ends in {left.days} days."
        f" Check the auto-renewal of {case.expected.certificate}.",
    )


def gateway_not_polling(case: _Case) -> Finding | None:
    """ARM has the new version, and the gateway fetches it by itself: a sync of ours would change nothing."""
    within, row = case.kind.fetches_within, case.evidence.row
    if not within or not case.old or case.evidence.binding.configured != case.expected.thumbprint:
        return None
    asked_at = row.asked_at if row and row.asked_for(case.expected) else None
    since = case.evidence.binding.configured_since or max(
        filter(None, (case.expected.available_since, asked_at))
    )
    last = row.last.get(case.evidence.binding.key) if row else None
    named = last is not None and last.reason is Reason.GATEWAY_NOT_POLLING
    seen = (
        f"ARM has version {case.expected.version} configured since {since:%Y-%m-%d %H:%M} UTC; {_seen(case)}"
    )
    if case.now - since <= within and not named:
        reason = Reason.PARTLY_SERVED if case.new else Reason.SYNC_IN_FLIGHT
        return Finding(Status.SYNCING, reason, f"{seen}. It takes {case.kind.takes}.")
    return Finding(Status.BLOCKED, Reason.GATEWAY_NOT_POLLING, f"{seen}. {case.kind.not_fetching}")


def partly_served(case: _Case) -> Finding | None:
    """Some scale units or regions have switched: the rest follows, or becomes stale at the deadline."""
    if not case.new or not case.old or not case.within_deadline:
        return None
    return Finding(
        Status.SYNCING,
        Reason.PARTLY_SERVED,
        f"has begun to serve version {case.expected.version}: {_seen(case)}.",
    )


def service_updating(case: _Case) -> Finding | None:
    """The gateway is busy; what is served now says nothing about what it will serve."""
    gateway = case.evidence.gateway
    if not gateway.busy or not case.within_deadline:
        return None
    return Finding(
        Status.SYNCING,
        Reason.SERVICE_UPDATING,
        f"{case.kind.subject} is {gateway.state}; {_seen(case)}. It is looked at again at the next timer.",
    )


def sync_in_flight(case: _Case) -> Finding | None:
    """Our own sync was asked for and may still be on its way."""
    row = case.evidence.row
    ended = case.evidence.operation_error is not None
    if ended or not row or not row.asked_for(case.expected) or not row.in_flight(case.now):
        return None
    if not case.within_deadline:
        return None
    return Finding(
        Status.SYNCING,
        Reason.SYNC_IN_FLIGHT,
        f"a sync was asked for {row.asked_at:%H:%M} UTC and takes {case.kind.takes}; {_seen(case)}.",
    )


def names_lost(case: _Case) -> Finding | None:
    """The new version would take names away that clients may be using."""
    served_names = {name for leaf in case.old for name in leaf.names}
    lost = sorted(name for name in served_names if not covers(case.expected.names, name))
    if not lost:
        return None
    return Finding(
        Status.BLOCKED,
        Reason.NAMES_LOST,
        f"the newest version {case.expected.version} no longer covers {', '.join(lost[:5])}, which the served"
        " one does. Issue it again with all names, or override NamesLost by a resync.",
    )


def issuer_changed(case: _Case) -> Finding | None:
    """From a trusted authority to self-signed is rarely meant, and breaks every client."""
    if not case.expected.self_signed or not any(leaf.distrust is None for leaf in case.old):
        return None
    return Finding(
        Status.BLOCKED,
        Reason.ISSUER_CHANGED,
        f"the newest version {case.expected.version} is self-signed, while the served one is of"
        f" {next(leaf.issuer for leaf in case.old if leaf.distrust is None)} and trusted. Issue it again, or"
        " override IssuerChanged by a resync.",
    )


def front_distrusts(case: _Case) -> Finding | None:
    """What stands in front would refuse the new certificate, and answer its clients with 502."""
    fronts = [front for front in _fronts(case) if case.old and _refuses(front, case)]
    if not fronts:
        return None
    return Finding(
        Status.BLOCKED,
        Reason.FRONT_DISTRUSTS,
        f"the newest version {case.expected.version} is issued by {case.expected.issuer}, and"
        f" {_trusts(fronts[0])}: behind it everything would fail. Add the new root to the trusted root"
        " certificates of its backend settings first, or override FrontDistrusts by a resync.",
    )


def sync_not_supported(case: _Case) -> Finding | None:
    """Not every tier and cloud offers the operation, and there is no other one that is safe."""
    row = case.evidence.row
    if not row or row.outcome is not SyncOutcome.NOT_SUPPORTED or not row.next_at or case.now >= row.next_at:
        return None
    if not case.old and not case.configured_differs:
        return None
    return Finding(
        Status.BLOCKED,
        Reason.SYNC_NOT_SUPPORTED,
        f"{_seen(case)}, and {case.kind.not_offered} Tried again daily.",
    )


def gateway_cannot_read_vault(case: _Case) -> Finding | None:
    """The sync's operation ended saying so, or the gateway does: it lives on what it has until that ends."""
    error = case.evidence.operation_error
    if not error or "vault" not in error.lower():
        error = case.evidence.gateway.vault_error
    if not error or not (case.old or case.configured_differs):
        return None
    ends = [leaf.not_after for leaf in case.old if leaf.not_after]
    until = f" on {_day(min(ends))}" if ends else " when the cached certificate ends"
    return Finding(
        Status.STALE,
        Reason.GATEWAY_CANNOT_READ_VAULT,
        f"the gateway's identity ({case.evidence.binding.identity}) could not read"
        f" {case.expected.certificate} ({error}). {case.kind.without_vault}{until}."
        " Give that identity Key Vault Secrets User, and let it through the vault's firewall.",
    )


def gateway_not_looking(case: _Case) -> Finding | None:
    """It looks by itself every few hours, and was asked to: another attempt would change nothing."""
    within, row = case.kind.looks_within, case.evidence.row
    if not within or not case.old or not row or not row.asked_for(case.expected):
        return None
    if case.now - case.expected.available_since <= within:
        return None
    return Finding(
        Status.BLOCKED,
        Reason.GATEWAY_NOT_LOOKING,
        f"{_seen(case)}, although it was asked {row.attempts} time(s) to read Key Vault, and does so by"
        f" itself within {within.total_seconds() / 3600:.0f} hours. {case.kind.not_looking}",
    )


def stale(case: _Case) -> Finding | None:
    """Positively seen: an older version is served, or ARM has another thumbprint configured."""
    if not case.old and not case.configured_differs:
        return None
    row = case.evidence.row
    if row and row.asked_at and row.asked_for(case.expected):
        reason = Reason.SYNC_OVERDUE
        tail = (
            f" {row.attempts} sync(s) asked for, the last {row.asked_at:%Y-%m-%d %H:%M} UTC ({row.outcome}),"
            f" have not changed that. Check {case.kind.overdue}, and that the gateway's identity"
            f" ({case.evidence.binding.identity}) may read the secret (Key Vault Secrets User)."
        )
    else:
        reason, tail = Reason.SERVES_OLD_VERSION, " A sync is needed."
    configured, advisory = case.evidence.binding.configured, case.evidence.gateway.advisory
    configured = None if case.kind.not_served else configured
    if doubtful := next((f for f in _fronts(case) if _may_refuse(f, case)), None):
        tail += (
            f" Mind what is in front: the issuer changes to {case.expected.issuer}, and {_trusts(doubtful)}."
        )
    arm = f"; ARM has {shorten(configured)} configured" if configured else ""
    if advisory:
        tail += f" Azure Advisor: {advisory}"
    return Finding(
        Status.STALE,
        reason,
        f"should {'have' if case.kind.not_served else 'serve'} {shorten(case.expected.thumbprint)}"
        f" (version {case.expected.version}) but"
        f" {_seen(case)}{arm}.{tail}",
    )


def listeners_disabled(case: _Case) -> Finding | None:
    """Nothing answers, and the gateway says why: without the vault it has nothing to serve."""
    error = case.evidence.gateway.vault_error
    if not error or case.new or case.old or case.foreign or case.unclassified:
        return None
    return Finding(
        Status.BLOCKED,
        Reason.GATEWAY_CANNOT_READ_VAULT,
        f"{_seen(case)}, and the gateway's identity ({case.evidence.binding.identity}) could not read"
        f" {case.expected.certificate} ({error}). Give that identity Key Vault Secrets User, and let it"
        " through the vault's firewall.",
    )


def served_by_other(case: _Case) -> Finding | None:
    """No version of the certificate is served: the name leads to something else, which no sync can mend."""
    if not case.foreign:
        return None
    leaf = case.foreign[0]
    return Finding(
        Status.BLOCKED,
        Reason.SERVED_BY_OTHER,
        f"{leaf.endpoint.host} ({leaf.address}) serves {shorten(leaf.thumbprint)} ({leaf.subject}, issued by"
        f" {leaf.issuer}), which is no version of {case.expected.certificate}. Something else answers there:"
        " check DNS and what stands in front, or ROTATION_CONNECT_TO.",
    )


def versions_unreadable(case: _Case) -> Finding | None:
    """Whether the leaf is an older version cannot be told without the list of versions."""
    if not case.unclassified:
        return None
    return Finding(
        Status.UNKNOWN,
        Reason.VAULT_UNREADABLE,
        f"serves {shorten(case.unclassified[0].thumbprint)}, and the versions of {case.expected.certificate}"
        " could not be listed in this pass to tell whether that is an older one. If that lasts, grant the app"
        " certificates list there.",
    )


def not_observable(case: _Case) -> Finding | None:
    """No endpoint is never in sync."""
    if case.evidence.binding.endpoints:
        return None
    return Finding(
        Status.UNKNOWN,
        Reason.NOT_OBSERVABLE,
        f"has no endpoint to connect to ({case.evidence.binding.no_endpoint});"
        f" ARM has {case.evidence.binding.configured or 'nothing'} configured.",
    )


def probe_failed(case: _Case) -> Finding | None:
    """Unreachable is not stale, and not in sync. Speaks last, and always: what is not proven is unknown."""
    faults = Counter(
        f"{f.endpoint.region} ({f.endpoint.host}:{f.endpoint.port}): {f.fault}, {f.detail}"
        for f in case.failed
    )
    listed = "; ".join(f"{what}, {n} times" if n > 1 else what for what, n in faults.most_common(3))
    return Finding(
        Status.UNKNOWN,
        Reason.PROBE_FAILED,
        f"could not be read from {listed or 'every endpoint'}. Check that the app can reach it; for a private"
        " gateway give an address in ROTATION_CONNECT_TO or join its network.",
    )


RULES: tuple[Rule, ...] = (
    out_of_scope,
    unmanaged_expires_soon,
    not_from_key_vault,
    pinned_version,
    certificate_deleted,
    certificate_not_found,
    version_disabled,
    vault_unreadable,
    version_expired,
    version_not_yet_valid,
    version_unusable,
    name_not_covered,
    configured_only,
    served,
    gateway_not_polling,
    partly_served,
    service_updating,
    sync_in_flight,
    names_lost,
    issuer_changed,
    front_distrusts,
    sync_not_supported,
    gateway_cannot_read_vault,
    gateway_not_looking,
    stale,
    listeners_disabled,
    served_by_other,
    versions_unreadable,
    not_observable,
    probe_failed,
)


def judge(evidence: Evidence, now: datetime, limits: Limits) -> Verdict:
    """The verdict of the first rule that speaks.

    Raises:
        LookupError: no rule spoke, which the enumeration in the tests excludes.
    """
    case = _classify(evidence, now, limits)
    for rule in RULES:
        if finding := rule(case):
            drift = (
                finding.status is Status.STALE and now - case.expected.available_since > limits.drift_after
            )
            where = f"{evidence.gateway.name} {evidence.binding.hostname}"
            return Verdict(evidence, finding.status, finding.reason, f"{where}: {finding.message}", drift)
    raise LookupError(f"no rule speaks for {evidence.binding.hostname}")


def fronts_of(evidence: Evidence) -> list[Front]:
    """What stands in front of this hostname."""
    return [f for f in evidence.gateway.fronts if covers((evidence.binding.hostname,), f.hostname)]


def _distrusts(front: BackendHealth, case: _Case) -> bool:
    """By its own account; where that cannot be read, what it said last is still so."""
    if front.distrusts is not None:
        return front.distrusts
    last = case.evidence.row.last.get(case.evidence.binding.key) if case.evidence.row else None
    return last is not None and last.reason is Reason.FRONT_DISTRUSTS


def _fronts(case: _Case) -> list[Front]:
    """Those that trust roots of their own, which are known."""
    return [front for front in fronts_of(case.evidence) if front.roots]


def _may_refuse(front: Front, case: _Case) -> bool:
    """Whether the issuer changes to one that is none of the trusted roots: it may still be under one of them.

    A self-signed version is its own root: another one of the same name has another key.
    """
    expected, roots = case.expected, front.roots or ()
    if expected.self_signed:
        return all(root.thumbprint != expected.thumbprint for root in roots)
    if any(root.subject == expected.issuer for root in roots):
        return False
    return any(leaf.issuer != expected.issuer for leaf in case.old)


def _refuses(front: Front, case: _Case) -> bool:
    """Whether it is sure: self-signed, or not issued by a trusted root itself as the served one is."""
    if not _may_refuse(front, case):
        return False
    subjects = {root.subject for root in front.roots or ()}
    return case.expected.self_signed or any(leaf.issuer in subjects for leaf in case.old)


def _trusts(front: Front) -> str:
    roots = "; ".join(sorted({root.subject for root in front.roots or ()}))
    return f"{front.name} in front trusts only {roots}"


def tally(matching: Iterable[ServedCertificate], evidence: Evidence) -> str:
    """Where connections showed something: "7 of 7 new connections in West Europe, 7 of 7 in East US"."""
    counts = Counter(s.endpoint for s in matching)
    parts = [f"{counts[e]} of {e.connections} in {e.region}" for e in evidence.binding.endpoints if counts[e]]
    return ", ".join(parts).replace(" in ", " new connections in ", 1)


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d}" if moment else "an unreadable date"


def _seen(case: _Case) -> str:
    """What was served, in words; or ARM's, where nothing is."""
    if case.kind.not_served:
        return _said(case.evidence.binding)
    found = (
        ("the new version", case.new),
        ("an old version", case.old),
        ("a foreign certificate", case.foreign),
        ("a certificate that may be an old version or foreign", case.unclassified),
    )
    parts = [f"{word} on {tally(leaves, case.evidence)}" for word, leaves in found if leaves]
    seen = "it serves " + ", ".join(parts) if parts else "nothing of it could be observed"
    return f"{seen}; failed connections: {len(case.failed)} ({case.failed[0].fault})" if case.failed else seen


def _said(binding: Binding) -> str:
    """What ARM says of something that is used and not served."""
    if binding.configured:
        return f"ARM says that it has {shorten(binding.configured)}"
    if binding.configured_since:
        return f"ARM says that it last read Key Vault {binding.configured_since:%Y-%m-%d %H:%M:%S} UTC"
    return "ARM does not say when it last read Key Vault"


def _classify(evidence: Evidence, now: datetime, limits: Limits) -> _Case:
    expected = evidence.expected.thumbprint if isinstance(evidence.expected, CertificateVersion) else None
    new, old, foreign, unclassified, failed = [], [], [], [], []
    for seen in evidence.observations:
        if isinstance(seen, ProbeFailure):
            failed.append(seen)
        elif expected is None:
            unclassified.append(seen)
        elif seen.thumbprint == expected:
            new.append(seen)
        elif seen.thumbprint == evidence.binding.configured or seen.thumbprint in (evidence.earlier or ()):
            old.append(seen)
        elif evidence.earlier is None:
            unclassified.append(seen)
        else:
            foreign.append(seen)
    return _Case(
        evidence, now, limits, tuple(new), tuple(old), tuple(foreign), tuple(unclassified), tuple(failed)
    )
