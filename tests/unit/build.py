"""Builders with defaults: a test names only what it is about."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from rotation.gateways.api_management import KIND
from rotation.model import (
    Binding,
    CertificateId,
    CertificateUnreadable,
    CertificateVersion,
    Choice,
    Decision,
    Endpoint,
    Evidence,
    Gateway,
    KeyVaultReference,
    Kind,
    LedgerRow,
    Mode,
    Observation,
    Pass,
    Pause,
    ProbeFailure,
    ProbeFault,
    Reason,
    Report,
    Scope,
    ServedCertificate,
    Status,
    SyncAnswer,
    SyncOutcome,
    Trigger,
    UnreadableCause,
    Verdict,
    Wanted,
)

NOW = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
SUFFIX = "vault.azure.net"
HOSTNAME = "api.contoso.com"
CERTIFICATE = CertificateId("kv-gateways.vault.azure.net", "api-contoso-com")
ISSUER = "CN=Contoso Issuing CA"
NEW, OLD, FOREIGN = "A1" * 20, "B2" * 20, "C3" * 20
GATEWAY_ID = (
    "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg-gateways"
    "/providers/Microsoft.ApiManagement/service/apim-contoso"
)


def minutes(number: float) -> timedelta:
    """A span in the unit that most tests think in."""
    return timedelta(minutes=number)


def certificate(name: str) -> CertificateId:
    """Another certificate of the same vault."""
    return CertificateId(CERTIFICATE.vault_host, name)


def version(
    thumbprint: str = NEW,
    *,
    of: CertificateId = CERTIFICATE,
    version: str = "v2",
    age: timedelta = timedelta(hours=1),
    updated: datetime | None = None,
    enabled: bool = True,
    not_before: datetime | None = None,
    not_after: datetime = NOW + timedelta(days=90),
    names: tuple[str, ...] = (HOSTNAME,),
    issuer: str = ISSUER,
    self_signed: bool = False,
    key: str = "RSA 2048",
    content_type: str | None = "application/x-pkcs12",
) -> CertificateVersion:
    """The newest version in Key Vault, created `age` before NOW."""
    return CertificateVersion(
        certificate=of,
        version=version,
        thumbprint=thumbprint,
        sha256=thumbprint + "0" * 24,
        enabled=enabled,
        created=NOW - age,
        updated=updated or NOW - age,
        not_before=not_before or NOW - age - minutes(10),
        not_after=not_after,
        names=names,
        issuer=issuer,
        self_signed=self_signed,
        key=key,
        content_type=content_type,
    )


def unreadable(
    cause: UnreadableCause = UnreadableCause.FORBIDDEN, *, of: CertificateId = CERTIFICATE
) -> CertificateUnreadable:
    """A read of Key Vault that failed."""
    return CertificateUnreadable(of, cause, "HTTP 403 ForbiddenByRbac")


def endpoint(
    region: str = "West Europe", *, connections: int = 1, host: str | None = None, hostname: str = HOSTNAME
) -> Endpoint:
    """A regional gateway of API Management."""
    address = host or f"apim-contoso-{region.lower().replace(' ', '')}-01.regional.azure-api.net"
    return Endpoint(hostname, region, address, connections=connections)


@dataclass
class Presented:
    """What a certificate says of itself."""

    thumbprint: str
    not_after: datetime | None
    names: tuple[str, ...]
    subject: str
    issuer: str
    serial: str


def served(
    thumbprint: str = NEW,
    at: Endpoint | None = None,
    *,
    not_after: datetime | None = NOW + timedelta(days=90),
    names: tuple[str, ...] = (HOSTNAME,),
    issuer: str = ISSUER,
    distrust: str | None = None,
) -> ServedCertificate:
    """A handshake that showed a leaf."""
    return ServedCertificate(
        endpoint=at or endpoint(),
        thumbprint=thumbprint,
        sha256=thumbprint + "0" * 24,
        address="20.50.2.1:443",
        tls_version="TLSv1.3",
        distrust=distrust,
        chain=(Presented(thumbprint, not_after, names, f"CN={HOSTNAME}", issuer, serial="0A1B"),),
    )


def failed(at: Endpoint | None = None, fault: ProbeFault = ProbeFault.REFUSED) -> ProbeFailure:
    """A connection that showed nothing."""
    return ProbeFailure(at or endpoint(), fault, "Connection refused")


def binding(
    hostname: str = HOSTNAME,
    *,
    of: CertificateId | None = CERTIFICATE,
    pinned: str | None = None,
    in_scope: bool = True,
    configured: str | None = NEW,
    endpoints: tuple[Endpoint, ...] | None = None,
    hostname_type: str = "Proxy",
    identity: str | None = None,
) -> Binding:
    """A hostname tied to a certificate; with `of=None` to one that was uploaded."""
    url = f"{of.secret_url}/{pinned}" if of and pinned else of.secret_url if of else None
    return Binding(
        hostname=hostname,
        hostname_type=hostname_type,
        key_vault_id=url,
        reference=KeyVaultReference(of, pinned) if of and in_scope else None,
        configured=configured,
        identity_client_id=identity,
        endpoints=(endpoint(hostname=hostname),) if endpoints is None else endpoints,
    )


def gateway(
    *bindings: Binding,
    state: str = "Succeeded",
    name: str = "apim-contoso",
    resource_id: str = GATEWAY_ID,
    tier: str = "Premium",
    paused: bool = False,
    excluded: bool = False,
    ring: int = 0,
    listed: bool = False,
    kind: Kind = KIND,
) -> Gateway:
    """A service of API Management, idle."""
    return Gateway(
        id=resource_id,
        name=name,
        kind=kind,
        location="West Europe",
        state=state,
        bindings=bindings or (binding(),),
        tier=tier,
        excluded=excluded,
        paused=paused,
        ring=ring,
        listed=listed,
    )


def row(
    *,
    wanted: Mapping[str, str] | None = None,
    attempts: int = 1,
    asked: timedelta | None = None,
    due: timedelta | None = None,
    outcome: SyncOutcome | None = SyncOutcome.ACCEPTED,
    forced: timedelta | None = None,
    proven: timedelta | None = None,
    since: timedelta = -timedelta(hours=1),
) -> LedgerRow:
    """A stored row that wants the default version; times are spans from NOW."""
    return LedgerRow(
        gateway_key=GATEWAY_ID.lower(),
        wanted=wanting(wanted or {str(CERTIFICATE): "v2"}, since) if wanted != {} else {},
        attempts=attempts,
        asked_at=None if asked is None else NOW + asked,
        next_at=None if due is None else NOW + due,
        hold_until=NOW + due if due and outcome and outcome.refused else None,
        awaited_until=None if asked is None else NOW + asked + KIND.sync_takes,
        outcome=outcome,
        claim_id="the claim of an earlier run",
        forced_at=None if forced is None else NOW + forced,
        proven_at=None if proven is None else NOW + proven,
        etag="7",
    )


def wanting(versions: Mapping[str, str], since: timedelta = -timedelta(hours=1)) -> dict[str, Wanted]:
    """What syncs were asked for, by certificate URL; available `since` then from NOW."""
    return {url: Wanted(version, NOW + since) for url, version in versions.items()}


def row_in_flight() -> LedgerRow:
    """A sync for the default version, asked for ten minutes ago."""
    return row(asked=minutes(-10), due=minutes(20))


def evidence(
    *observations: Observation,
    expected: CertificateVersion | CertificateUnreadable | None = None,
    of: Binding | None = None,
    at: Gateway | None = None,
    earlier: frozenset[str] | None = frozenset({OLD}),
    row: LedgerRow | None = None,
) -> Evidence:
    """What was seen of one binding; the newest version is expected where the binding has a certificate.

    Observations are of the binding's endpoint where it has but one.
    """
    subject = of or (at.bindings[0] if at else binding())
    if expected is None and subject.reference:
        expected = version(of=subject.reference.certificate)
    if len(subject.endpoints) == 1:
        observations = tuple(replace(o, endpoint=subject.endpoints[0]) for o in observations)
    return Evidence(at or gateway(subject), subject, expected, observations, earlier, row)


def verdict(
    status: Status = Status.STALE,
    reason: Reason | None = None,
    *,
    of: Evidence | None = None,
    drift: bool = False,
) -> Verdict:
    """A verdict on given evidence, with the usual reason of its status."""
    usual = {
        Status.IN_SYNC: Reason.SERVED,
        Status.SYNCING: Reason.SYNC_IN_FLIGHT,
        Status.STALE: Reason.SERVES_OLD_VERSION,
        Status.BLOCKED: Reason.PINNED_VERSION,
        Status.UNKNOWN: Reason.PROBE_FAILED,
        Status.UNMANAGED: Reason.NOT_FROM_KEY_VAULT,
    }
    about = of or evidence(served())
    message = f"{about.gateway.name} {about.binding.hostname}: as the test says."
    return Verdict(about, status, reason or usual[status], message, drift)


def run(
    mode: Mode = Mode.REPAIR,
    *,
    now: datetime = NOW,
    trigger: Trigger = Trigger.TIMER,
    scope: Scope | None = None,
) -> Pass:
    """One pass over everything."""
    return Pass("0f8fad5b-d9cb-469f-a165-70867728950e", trigger, mode, scope or Scope(), now)


def answer(outcome: SyncOutcome = SyncOutcome.ACCEPTED, retry_after: timedelta | None = None) -> SyncAnswer:
    """A gateway's answer to a sync request."""
    url = "https://management.azure.com/operations/1" if outcome is SyncOutcome.ACCEPTED else None
    return SyncAnswer(outcome, "HTTP 202", url, retry_after)


def decision(choice: Choice = Choice.NOTHING_STALE, claim: LedgerRow | None = None) -> Decision:
    """The plan for the default gateway; with a claim, one that was carried out."""
    return Decision(
        gateway(), choice, "as the test says.", claim, claim, answer() if choice is Choice.SYNC else None
    )


def report(
    verdicts: Iterable[Verdict] = (),
    decisions: Iterable[Decision] = (),
    *,
    of: Pass | None = None,
    problems: tuple[str, ...] = (),
    rows: Iterable[LedgerRow] = (),
    missing: int = 0,
    pause: Pause | None = None,
) -> Report:
    """The result of one pass."""
    judged = tuple(verdicts)
    return Report(
        run=of or run(),
        duration_seconds=1.23456,
        gateways=len({v.evidence.gateway.key for v in judged}),
        verdicts=judged,
        decisions=tuple(decisions),
        problems=problems,
        rows={row.gateway_key: row for row in rows},
        missing=missing,
        pause=pause,
    )
