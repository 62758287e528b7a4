"""Report in, Application Insights events out; names and fields are a contract. Pure.

docs/telemetry.md describes every one of them. Values are scalars, because the exporter writes str(value).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from hashlib import sha256

from rotation.model import (
    CertificateVersion,
    Choice,
    Decision,
    Event,
    Evidence,
    Gateway,
    LastVerdict,
    LedgerRow,
    Mode,
    Pass,
    Report,
    Rotation,
    ServedCertificate,
    Status,
    SyncAnswer,
    Verdict,
)

SCHEMA_VERSION = "1"
CERTIFICATE_VERIFIED = "CertificateVerified"
VERDICT_CHANGED = "VerdictChanged"
SYNC_REQUESTED = "SyncRequested"
SYNC_ANSWERED = "SyncAnswered"
ROTATION_PROVEN = "RotationProven"
RUN_COMPLETED = "RunCompleted"
NAMED_VALUE_KEPT = "NamedValueKept"

LONGEST_MESSAGE = 500
"""Of an event that waits in a ledger row, which has to fit into Table storage."""

_RIGHT = frozenset({Status.IN_SYNC, Status.SYNCING, Status.UNMANAGED})
_SECONDS_PER_DAY = 86400


@dataclass(frozen=True, slots=True)
class Availability:
    """An availability result: what the Availability blade and its metric are made of."""

    name: str
    location: str
    success: bool
    message: str
    seconds: float
    properties: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Notice:
    """What a CloudEvent to an Event Grid topic says; `event_id` is the same however often it is told."""

    event_id: str
    type: str
    source: str
    subject: str
    at: datetime
    data: Mapping[str, str | float]


def notices(report: Report) -> list[Notice]:
    """What this pass has stored that others may want to chain on; a dry run stores nothing."""
    stored = (e for row in report.rows.values() if row.etag for e in row.outbox)
    return [
        Notice(
            event_id=event.event_id,
            type=kind,
            source=event.properties["gateway_id"],
            subject=event.properties.get("hostname") or event.properties["certificate"],
            at=report.run.now,
            data={**event.properties, **event.measurements},
        )
        for event in stored
        if event.properties.get("run_id") == report.run.run_id and (kind := _notice_type(event))
    ]


def _notice_type(event: Event) -> str | None:
    if event.name == ROTATION_PROVEN:
        return "Rotation.Proven"
    if event.name != VERDICT_CHANGED:
        return None
    if event.properties["status"] == Status.BLOCKED:
        return "Rotation.Blocked"
    return "Rotation.Drifted" if event.properties["drift"] == "true" else None


def results(report: Report) -> Iterator[Event | Availability]:
    """What a pass tells once, each made when it is told: of a large fleet they would be tens of megabytes."""
    yield from events(report)
    yield from availability(report)


def events(report: Report) -> Iterator[Event]:
    """An event per verified binding, and one for the run."""
    for verdict in report.verdicts:
        yield _verified(report, verdict)
    yield _run(report)


def availability(report: Report) -> Iterator[Availability]:
    """A result per binding and region of which something was read: a success where the leaf is right."""
    return (
        Availability(
            name=f"{verdict.evidence.binding.hostname} @ {verdict.evidence.gateway.name}",
            location=region,
            success=verdict.status in _RIGHT,
            message=verdict.message,
            seconds=seconds,
            properties=_common(report.run)
            | _gateway(verdict.evidence.gateway)
            | {
                "hostname": verdict.evidence.binding.hostname,
                "hostname_type": verdict.evidence.binding.hostname_type,
                "status": verdict.status,
                "reason": verdict.reason,
            },
        )
        for verdict in report.verdicts
        for region, seconds in _slowest(verdict.evidence).items()
    )


def _slowest(evidence: Evidence) -> dict[str, float]:
    """The longest handshake of each region of which something was read."""
    slowest: dict[str, float] = {}
    for seen in evidence.observations:
        if isinstance(seen, ServedCertificate):
            region = seen.endpoint.region
            slowest[region] = max(slowest.get(region, 0.0), seen.seconds)
    return slowest


def verdict_changed(run: Pass, verdict: Verdict, before: LastVerdict | None) -> Event:
    """A binding is judged otherwise than it was."""
    binding = verdict.evidence.binding
    properties = {
        **_common(run),
        **_gateway(verdict.evidence.gateway),
        "at": _text(run.now),
        "hostname": binding.hostname,
        "hostname_type": binding.hostname_type,
        "status": verdict.status,
        "reason": verdict.reason,
        "drift": str(verdict.drift).lower(),
        "message": verdict.message[:LONGEST_MESSAGE],
        "was_status": before.status if before else "",
        "was_reason": before.reason if before else "",
        "was_since": _text(before.since if before else None),
    }
    return _once(
        Event(VERDICT_CHANGED, properties, {}), "at", "hostname_type", "hostname", "status", "reason", "drift"
    )


def sync_requested(run: Pass, decision: Decision) -> Event:
    """The intent: told even if the worker is killed before the answer."""
    claim = decision.claim
    properties = {
        **_common(run),
        **_gateway(decision.gateway),
        "at": _text(run.now),
        "message": decision.message[:LONGEST_MESSAGE],
        "forced": str(run.mode is Mode.FORCE).lower(),
        "overrides": ",".join(sorted(run.overrides)),
        "asked_by": run.asked_by,
        "versions": ",".join(sorted({w.version for w in claim.wanted.values()})[:5]) if claim else "",
        "claim_id": claim.claim_id if claim else "",
    }
    return _once(Event(SYNC_REQUESTED, properties, _attempt(decision)), "run_id")


def sync_answered(run: Pass, decision: Decision, answer: SyncAnswer) -> Event:
    """What the gateway's management answered to it."""
    properties = {
        **_common(run),
        **_gateway(decision.gateway),
        "at": _text(run.now),
        "outcome": answer.outcome,
        "detail": answer.detail[:LONGEST_MESSAGE],
    }
    return _once(Event(SYNC_ANSWERED, properties, _attempt(decision)), "run_id")


def rotation_proven(run: Pass, gateway: Gateway, rotation: Rotation) -> Event:
    """A rotation has ended: every hostname serves the version."""
    properties = {
        **_common(run),
        **_gateway(gateway),
        "certificate": rotation.certificate,
        "version": rotation.version,
        "caught_by": rotation.caught_by,
        "created": _text(rotation.created),
        "noticed": _text(rotation.noticed),
        "synced": _text(rotation.synced),
        "first_served": _text(rotation.first_served),
        "proven": _text(rotation.proven),
    }
    measurements = {
        "seconds_to_notice": (rotation.noticed - rotation.created).total_seconds(),
        "seconds_to_served": rotation.seconds_to_served or 0.0,
    }
    return _once(Event(ROTATION_PROVEN, properties, measurements), "certificate", "version", "created")


def named_value_kept(run: Pass, gateway: Gateway, what: Mapping[str, str]) -> Event:
    """A named value was given the proven thumbprint, or could not be."""
    return Event(NAMED_VALUE_KEPT, {**_common(run), **_gateway(gateway), "at": _text(run.now), **what}, {})


def _once(event: Event, *identity: str) -> Event:
    """The event with its id: the same for the same thing, however often it is told."""
    parts = (event.name, event.properties["gateway_id"].lower(), *(event.properties[key] for key in identity))
    event_id = sha256("|".join(parts).encode()).hexdigest()[:32]
    return replace(event, event_id=event_id, properties={**event.properties, "event_id": event_id})


def _common(run: Pass) -> dict[str, str]:
    return {"schema": SCHEMA_VERSION, "run_id": run.run_id, "trigger": run.trigger, "mode": run.mode}


def _gateway(gateway: Gateway) -> dict[str, str]:
    return {"gateway": gateway.name, "gateway_id": gateway.id, "gateway_kind": gateway.kind.name}


def _attempt(decision: Decision) -> dict[str, float]:
    return {"attempt": float(decision.claim.attempts if decision.claim else 0)}


def _text(moment: datetime | None) -> str:
    return moment.isoformat() if moment else ""


def _verified(report: Report, verdict: Verdict) -> Event:
    evidence, now = verdict.evidence, report.run.now
    gateway, binding, expected = evidence.gateway, evidence.binding, evidence.expected
    served = [o for o in evidence.observations if isinstance(o, ServedCertificate)]
    properties = {
        **_common(report.run),
        **_gateway(gateway),
        "hostname": binding.hostname,
        "hostname_type": binding.hostname_type,
        "status": verdict.status,
        "reason": verdict.reason,
        "drift": str(verdict.drift).lower(),
        "message": verdict.message,
        "certificate": str(binding.reference.certificate) if binding.reference else "",
        "configured": binding.configured or "",
        "served": ",".join(sorted({s.thumbprint for s in served})[:5]),
        "distrust": ",".join(sorted({s.distrust for s in served if s.distrust})[:5]),
    }
    telling = served
    measurements = {"connections": float(len(evidence.observations)), "connections_read": float(len(served))}
    if isinstance(expected, CertificateVersion):
        properties |= {"expected": expected.thumbprint, "expected_version": expected.version}
        others = [s for s in served if s.thumbprint != expected.thumbprint]
        measurements["connections_matching"] = float(len(served) - len(others))
        telling = others or served
        measurements |= _time_to_served(report.rows.get(gateway.key), expected)
    if telling:
        properties |= _proof(telling[0])
    if ends := [s.not_after for s in served if s.not_after]:
        measurements["days_to_expiry"] = (min(ends) - now).total_seconds() / _SECONDS_PER_DAY
    return Event(CERTIFICATE_VERIFIED, properties, measurements)


def _time_to_served(row: LedgerRow | None, version: CertificateVersion) -> dict[str, float]:
    """What the gateway's rotation to this version took, where it is proven and remembered."""
    wanted = str(version.certificate), version.version
    rotations = [r for r in (row.rotations if row else ()) if (r.certificate, r.version) == wanted]
    seconds = rotations[-1].seconds_to_served if rotations else None
    return {} if seconds is None else {"seconds_to_served": seconds}


def _proof(leaf: ServedCertificate) -> dict[str, str]:
    """The record of one connection, and how to make the same one by hand."""
    place = leaf.endpoint
    return {
        "served_sha1": leaf.thumbprint,
        "served_sha256": leaf.sha256,
        "served_serial": leaf.serial,
        "served_issuer": leaf.issuer,
        "served_not_after": _text(leaf.not_after),
        "peer_address": leaf.address,
        "region": place.region,
        "tls_version": leaf.tls_version,
        "openssl": (
            f"openssl s_client -connect {leaf.address} -servername {place.sni} </dev/null"
            " | openssl x509 -noout -fingerprint -sha1 -serial -issuer -enddate"
        ),
    }


def _run(report: Report) -> Event:
    shard = report.run.scope.shard
    properties = {
        **_common(report.run),
        "scope": "everything" if report.run.scope.everything else str(report.run.scope),
        "problems": " | ".join(report.problems)[:4000],
        "asked_by": report.run.asked_by,
    }
    measurements = {
        "duration_seconds": report.duration_seconds,
        "gateways": float(report.gateways),
        "gateways_missing": float(report.missing),
        "hostnames": float(len(report.verdicts)),
        "drift": float(sum(v.drift for v in report.verdicts)),
        "syncs": float(sum(d.choice is Choice.SYNC for d in report.decisions)),
        "problems": float(len(report.problems)),
        "shard": float(shard.number if shard else 1),
        "shards": float(shard.of if shard else 1),
    }
    calls = {called: float(number) for called, number in asdict(report.calls).items()}
    return Event(RUN_COMPLETED, properties, measurements | calls | counts(report.verdicts))


def counts(verdicts: Iterable[Verdict]) -> dict[str, float]:
    """How many verdicts there are of each status, zeros too."""
    statuses = [v.status for v in verdicts]
    return {status.lower(): float(statuses.count(status)) for status in Status}
