"""Report in, JSON out, for the HTTP answers and the ledger. Pure."""

from collections import Counter
from datetime import datetime

from rotation.model import (
    CertificateVersion,
    Decision,
    Observation,
    Pause,
    Report,
    ServedCertificate,
    Status,
    Verdict,
)
from rotation.telemetry import counts

MOST_ROTATIONS = 500


def to_json(report: Report) -> dict[str, object]:
    """The whole report as JSON values; times are ISO 8601 in UTC, durations in seconds."""
    run = report.run
    return {
        "run_id": run.run_id,
        "trigger": run.trigger,
        "mode": run.mode,
        "scope": str(run.scope),
        "as_of": run.now.isoformat(),
        "duration_seconds": round(report.duration_seconds, 3),
        "gateways": report.gateways,
        "counts": {status: int(number) for status, number in counts(report.verdicts).items()},
        "problems": list(report.problems),
        "missing": report.missing,
        "pause": pause_to_json(report.pause),
        "decisions": [_decision(d) for d in report.decisions],
        "rotations": _rotations(report),
        "verdicts": [_verdict(v, run.now) for v in sorted(report.verdicts, key=_urgency)],
    }


def pause_to_json(pause: Pause | None) -> dict[str, object] | None:
    """The kill switch, None where it is off."""
    return {"at": pause.at.isoformat(), "reason": pause.reason} if pause else None


def summary(report: Report) -> str:
    """The run in one line, for the log."""
    statuses = Counter(v.status for v in report.verdicts)
    listed = ", ".join(f"{statuses[s]} {s}" for s in Status if statuses[s]) or "no hostname"
    return f"{report.run.trigger} looked at {report.run.scope}: {report.gateways} gateway(s), {listed}"


def _rotations(report: Report) -> list[dict[str, object]]:
    """Those of the gateways looked at, the newest first; t0 to t4 as ISO times, None for what is to come."""
    gateways = {v.evidence.gateway.key: v.evidence.gateway for v in report.verdicts}
    found = [
        (gateways[key], rotation)
        for key, row in report.rows.items()
        if key in gateways
        for rotation in row.rotations
    ]
    newest_first = sorted(found, key=lambda pair: pair[1].noticed, reverse=True)
    return [
        {
            "gateway": gateway.name,
            "gateway_id": gateway.id,
            "gateway_kind": gateway.kind,
            "certificate": rotation.certificate,
            "version": rotation.version,
            "created": rotation.created.isoformat(),
            "noticed": rotation.noticed.isoformat(),
            "synced": _iso(rotation.synced),
            "first_served": _iso(rotation.first_served),
            "proven": _iso(rotation.proven),
            "caught_by": rotation.caught_by,
            "seconds_to_served": rotation.seconds_to_served,
        }
        for gateway, rotation in newest_first[:MOST_ROTATIONS]
    ]


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _urgency(verdict: Verdict) -> tuple[int, str, str]:
    """Blocked and drifting first: what needs a human stands on top."""
    order = (Status.BLOCKED, Status.STALE, Status.UNKNOWN, Status.SYNCING, Status.IN_SYNC, Status.UNMANAGED)
    return order.index(verdict.status), verdict.evidence.gateway.key, verdict.evidence.binding.hostname


def _verdict(verdict: Verdict, now: datetime) -> dict[str, object]:
    evidence = verdict.evidence
    expected = evidence.expected if isinstance(evidence.expected, CertificateVersion) else None
    return {
        "gateway": evidence.gateway.name,
        "gateway_id": evidence.gateway.id,
        "gateway_kind": evidence.gateway.kind,
        "hostname": evidence.binding.hostname,
        "hostname_type": evidence.binding.hostname_type,
        "status": verdict.status,
        "reason": verdict.reason,
        "drift": verdict.drift,
        "message": verdict.message,
        "key_vault_id": evidence.binding.key_vault_id,
        "identity": evidence.binding.identity,
        "advisory": evidence.gateway.advisory,
        "expected": expected.thumbprint if expected else None,
        "expected_version": expected.version if expected else None,
        "expected_not_after": expected.not_after.isoformat() if expected else None,
        "configured": evidence.binding.configured,
        "served": [_group(o, n, now) for o, n in _grouped(evidence.observations)],
    }


def _grouped(observations: tuple[Observation, ...]) -> list[tuple[Observation, int]]:
    """Connections that showed the same thing at the same endpoint, once, with their number."""
    first: dict[tuple[object, ...], Observation] = {}
    number: Counter[tuple[object, ...]] = Counter()
    for seen in observations:
        what = seen.thumbprint if isinstance(seen, ServedCertificate) else seen.fault
        first.setdefault((seen.endpoint, what), seen)
        number[seen.endpoint, what] += 1
    return [(seen, number[key]) for key, seen in first.items()]


def _group(seen: Observation, connections: int, now: datetime) -> dict[str, object]:
    endpoint = seen.endpoint
    common: dict[str, object] = {
        "region": endpoint.region,
        "host": endpoint.host,
        "port": endpoint.port,
        "sni": endpoint.sni,
        "connections": connections,
        "of": endpoint.connections,
    }
    if not isinstance(seen, ServedCertificate):
        return {**common, "fault": seen.fault, "detail": seen.detail}
    return {
        **common,
        "thumbprint": seen.thumbprint,
        "sha256": seen.sha256,
        "address": seen.address,
        "tls_version": seen.tls_version,
        "distrust": seen.distrust,
        "not_after": seen.not_after.isoformat() if seen.not_after else None,
        "days_to_expiry": (seen.not_after - now).days if seen.not_after else None,
        "subject": seen.subject,
        "issuer": seen.issuer,
        "serial": seen.serial,
        "names": list(seen.names[:20]),
    }


def _decision(decision: Decision) -> dict[str, object]:
    answer = decision.answer
    return {
        "gateway": decision.gateway.name,
        "gateway_id": decision.gateway.id,
        "choice": decision.choice,
        "message": decision.message,
        "outcome": answer.outcome if answer else None,
        "operation_url": answer.operation_url if answer else None,
    }
