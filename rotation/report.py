"""Report in, JSON out, for the HTTP answers and the ledger. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rotation.model import (
    Authority,
    CertificateVersion,
    Choice,
    Decision,
    LedgerRow,
    Observation,
    Pause,
    Report,
    Rotation,
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
        "shard": {"number": run.scope.shard.number, "of": run.scope.shard.of} if run.scope.shard else None,
        "as_of": run.now.isoformat(),
        "duration_seconds": round(report.duration_seconds, 3),
        "gateways": report.gateways,
        "counts": {status: int(number) for status, number in counts(report.verdicts).items()},
        "problems": list(report.problems),
        "missing": report.missing,
        "pause": pause_to_json(report.pause),
        "decisions": [decision_to_json(d) for d in report.decisions],
        "rotations": _rotations(report),
        "authorities": [_authority(each, run.now) for each in report.authorities],
        "verdicts": [_verdict(v, run.now) for v in sorted(report.verdicts, key=urgency)],
    }


def whole(parts: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """One report over everything of what was kept: that of one pass, or those of all shards.

    While their number changes, the last whole set is the report. As old as the oldest of its parts: a shard
    that is not looked at any more shows.
    """
    sets: dict[int, list[Mapping[str, Any]]] = {}
    for part in parts:
        sets.setdefault(_shards(part), []).append(part)
    if not sets:
        return None
    newest_of = {of: max(str(part.get("as_of")) for part in found) for of, found in sets.items()}
    of = max(sets, key=lambda of: (len(sets[of]) == of, newest_of[of]))
    found = sets[of]
    if of == 1:
        return found[0]
    missing = [f"{of - len(found)} of {of} shards were not looked at yet."] if len(found) < of else []
    newest = max(found, key=lambda part: str(part["as_of"]))
    return {
        **newest,
        "scope": "everything",
        "shard": None,
        "as_of": min(part["as_of"] for part in found),
        "duration_seconds": max(part["duration_seconds"] for part in found),
        "gateways": sum(part["gateways"] for part in found),
        "missing": sum(part["missing"] for part in found),
        "counts": {name: sum(part["counts"][name] for part in found) for name in newest["counts"]},
        "problems": missing + list(dict.fromkeys(problem for part in found for problem in part["problems"])),
        "decisions": [decision for part in found for decision in part["decisions"]],
        "rotations": sorted(
            (rotation for part in found for rotation in part["rotations"]),
            key=lambda rotation: str(rotation["noticed"]),
            reverse=True,
        )[:MOST_ROTATIONS],
        "authorities": _each_once(one for part in found for one in part.get("authorities", ())),
        "verdicts": sorted((verdict for part in found for verdict in part["verdicts"]), key=_urgency),
    }


def _each_once(authorities: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Every shard sees all of them."""
    return list({(one["service"], one["gateway"], one["name"]): one for one in authorities}.values())


def _shards(part: Mapping[str, Any]) -> int:
    shard = part.get("shard")
    return int(shard["of"]) if shard else 1


def pause_to_json(pause: Pause | None) -> dict[str, object] | None:
    """The kill switch, None where it is off."""
    return {"at": pause.at.isoformat(), "reason": pause.reason} if pause else None


def gateways_of(written: Mapping[str, Any] | None) -> dict[str, dict[str, object]]:
    """Name, ARM id and kind of every gateway that a written report decided on, by the id in lower case."""
    verdicts = {v["gateway_id"]: v["gateway_kind"] for v in written["verdicts"]} if written else {}
    return {
        decision["gateway_id"].lower(): {
            "gateway": decision["gateway"],
            "gateway_id": decision["gateway_id"],
            "gateway_kind": verdicts.get(decision["gateway_id"]),
        }
        for decision in (written["decisions"] if written else ())
    }


def rotations(rows: Iterable[LedgerRow], written: Mapping[str, Any] | None) -> list[dict[str, object]]:
    """Those of these rows, the newest first; gateways are named as in the last report, if they are in it."""
    known = gateways_of(written)
    found = [
        {
            **known.get(
                row.gateway_key,
                {
                    "gateway": row.gateway_key.rpartition("/")[2],
                    "gateway_id": row.gateway_key,
                    "gateway_kind": None,
                },
            ),
            **_rotation(rotation),
        }
        for row in rows
        for rotation in row.rotations
    ]
    return sorted(found, key=lambda rotation: str(rotation["noticed"]), reverse=True)


def remembered(row: LedgerRow, now: datetime) -> dict[str, object]:
    """What the ledger holds of a gateway; every pass brings it up to date, whatever its scope."""
    return {
        "attempts": row.attempts,
        "asked_at": _iso(row.asked_at),
        "next_at": _iso(row.next_at),
        "hold_until": _iso(row.hold_until),
        "outcome": row.outcome,
        "proven_at": _iso(row.proven_at),
        "missing_since": _iso(row.missing_since),
        "in_flight": row.in_flight(now),
        "hostnames": [
            {
                "hostname": key.partition("/")[2],
                "hostname_type": key.partition("/")[0],
                "status": last.status,
                "reason": last.reason,
                "drift": last.drift,
                "since": last.since.isoformat(),
            }
            for key, last in sorted(row.last.items())
        ],
        "rotations": [_rotation(rotation) for rotation in reversed(row.rotations)],
    }


def operation(written: Mapping[str, Any], rows: Mapping[str, LedgerRow], now: datetime) -> dict[str, object]:
    """A run by hand: its report, and what is known of its gateways now.

    It is running while a sync that it has asked for may be on its way.
    """
    synced = {d["gateway_id"].lower() for d in written["decisions"] if d["choice"] == Choice.SYNC}
    running = any(row.in_flight(now) for key, row in rows.items() if key in synced)
    gateways = gateways_of(written)
    return {
        "id": written["run_id"],
        "status": "running" if running else "done",
        "gateways": [{**gateways[key], "now": remembered(row, now)} for key, row in rows.items()],
        "report": dict(written),
    }


def gateway(written: Mapping[str, Any], row: LedgerRow, now: datetime) -> dict[str, object]:
    """All that is known of one gateway: the last report's part and the ledger's."""
    mine = {
        name: [item for item in written[name] if item["gateway_id"].lower() == row.gateway_key]
        for name in ("decisions", "verdicts")
    }
    return {
        **gateways_of(written)[row.gateway_key],
        "as_of": written["as_of"],
        "run_id": written["run_id"],
        **mine,
        "now": remembered(row, now),
    }


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
            "gateway_kind": gateway.kind.name,
            **_rotation(rotation),
        }
        for gateway, rotation in newest_first[:MOST_ROTATIONS]
    ]


def _rotation(rotation: Rotation) -> dict[str, object]:
    return {
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


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


_ORDER = (Status.BLOCKED, Status.STALE, Status.UNKNOWN, Status.SYNCING, Status.IN_SYNC, Status.UNMANAGED)


def urgency(verdict: Verdict) -> tuple[int, str, str]:
    """Blocked and drifting first: what needs a human stands on top."""
    return _ORDER.index(verdict.status), verdict.evidence.gateway.key, verdict.evidence.binding.hostname


def _urgency(written: Mapping[str, Any]) -> tuple[int, str, str]:
    """The same of a verdict that was written."""
    return _ORDER.index(written["status"]), written["gateway_id"].lower(), written["hostname"]


def _verdict(verdict: Verdict, now: datetime) -> dict[str, object]:
    evidence = verdict.evidence
    expected = evidence.expected if isinstance(evidence.expected, CertificateVersion) else None
    return {
        "gateway": evidence.gateway.name,
        "gateway_id": evidence.gateway.id,
        "gateway_kind": evidence.gateway.kind.name,
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


def _authority(authority: Authority, now: datetime) -> dict[str, object]:
    return {
        "service": authority.service_id.rpartition("/")[2],
        "gateway": authority.gateway,
        "name": authority.name,
        "trusted": authority.trusted,
        "subject": authority.subject,
        "thumbprint": authority.thumbprint,
        "not_after": _iso(authority.not_after),
        "days_to_expiry": (authority.not_after - now).days if authority.not_after else None,
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


def decision_to_json(decision: Decision) -> dict[str, object]:
    """What is done about a gateway, or why not."""
    answer = decision.answer
    return {
        "gateway": decision.gateway.name,
        "gateway_id": decision.gateway.id,
        "choice": decision.choice,
        "message": decision.message,
        "outcome": answer.outcome if answer else None,
        "operation_url": answer.operation_url if answer else None,
    }
