"""Report in, Application Insights events out; names and fields are a contract. Pure.

docs/telemetry.md describes every one of them. Values are scalars, because the exporter writes str(value).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rotation.model import (
    CertificateVersion,
    Choice,
    Decision,
    Mode,
    Report,
    ServedCertificate,
    Status,
    Verdict,
)

SCHEMA_VERSION = "1"
CERTIFICATE_VERIFIED = "CertificateVerified"
SYNC_REQUESTED = "SyncRequested"
RUN_COMPLETED = "RunCompleted"

_SECONDS_PER_DAY = 86400


@dataclass(frozen=True, slots=True)
class Event:
    """A custom event: `properties` become dimensions, `measurements` numbers."""

    name: str
    properties: Mapping[str, str]
    measurements: Mapping[str, float]


def events(report: Report) -> list[Event]:
    """One event per verified binding, one per sync, one for the run."""
    return [
        *(_verified(report, verdict) for verdict in report.verdicts),
        *(_sync(report, decision) for decision in report.decisions if decision.choice is Choice.SYNC),
        _run(report),
    ]


def _common(report: Report) -> dict[str, str]:
    run = report.run
    return {"schema": SCHEMA_VERSION, "run_id": run.run_id, "trigger": run.trigger, "mode": run.mode}


def _verified(report: Report, verdict: Verdict) -> Event:
    evidence, now = verdict.evidence, report.run.now
    gateway, binding, expected = evidence.gateway, evidence.binding, evidence.expected
    served = [o for o in evidence.observations if isinstance(o, ServedCertificate)]
    properties = {
        **_common(report),
        "gateway": gateway.name,
        "gateway_id": gateway.id,
        "gateway_kind": gateway.kind,
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
    measurements = {"connections": float(len(evidence.observations)), "connections_read": float(len(served))}
    if isinstance(expected, CertificateVersion):
        properties |= {"expected": expected.thumbprint, "expected_version": expected.version}
        matching = sum(s.thumbprint == expected.thumbprint for s in served)
        measurements["connections_matching"] = float(matching)
        seconds = report.seconds_to_served.get(gateway.key)
        if seconds is not None and evidence.row and evidence.row.asked_for(expected):
            measurements["seconds_to_served"] = seconds
            properties["caught_by"] = evidence.row.caught_by or ""
    if ends := [s.not_after for s in served if s.not_after]:
        measurements["days_to_expiry"] = (min(ends) - now).total_seconds() / _SECONDS_PER_DAY
    return Event(CERTIFICATE_VERIFIED, properties, measurements)


def _sync(report: Report, decision: Decision) -> Event:
    claim, answer = decision.claim, decision.answer
    properties = {
        **_common(report),
        "gateway": decision.gateway.name,
        "gateway_id": decision.gateway.id,
        "gateway_kind": decision.gateway.kind,
        "outcome": answer.outcome if answer else "",
        "message": decision.message,
        "forced": str(report.run.mode is Mode.FORCE).lower(),
        "overrides": ",".join(sorted(report.run.overrides)),
    }
    return Event(SYNC_REQUESTED, properties, {"attempt": float(claim.attempts if claim else 0)})


def _run(report: Report) -> Event:
    properties = {
        **_common(report),
        "scope": str(report.run.scope),
        "problems": " | ".join(report.problems)[:4000],
    }
    measurements = {
        "duration_seconds": report.duration_seconds,
        "gateways": float(report.gateways),
        "hostnames": float(len(report.verdicts)),
        "drift": float(sum(v.drift for v in report.verdicts)),
        "syncs": float(sum(d.choice is Choice.SYNC for d in report.decisions)),
        "problems": float(len(report.problems)),
    }
    return Event(RUN_COMPLETED, properties, measurements | counts(report.verdicts))


def counts(verdicts: Iterable[Verdict]) -> dict[str, float]:
    """How many verdicts there are of each status, zeros too."""
    statuses = [v.status for v in verdicts]
    return {status.lower(): float(statuses.count(status)) for status in Status}
