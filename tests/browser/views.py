"""Views with defaults, as GET /api/status answers them: a test names only what it is about."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha1, sha256
from typing import Any

Json = dict[str, Any]

NOW = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
SUBSCRIPTION = "/subscriptions/1d0c8a94-5b37-4f62-8e2d-93c6f7ab4e10"


def leaf(name: str) -> str:
    """A thumbprint that is always the same for a name."""
    return sha1(name.encode(), usedforsecurity=False).hexdigest().upper()


def gateway_id(name: str, group: str = "rg-apim") -> str:
    """The ARM id of an API Management service."""
    return f"{SUBSCRIPTION}/resourceGroups/{group}/providers/Microsoft.ApiManagement/service/{name}"


def seen(
    thumbprint: str,
    region: str = "West Europe",
    *,
    gateway: str = "apim-contoso",
    hostname: str = "api.contoso.com",
    connections: int = 7,
    of: int | None = None,
    not_after: datetime = NOW + timedelta(days=64),
    **changes: object,
) -> Json:
    """What some connections to a region met."""
    place = f"{gateway}-{region.lower().replace(' ', '')}-01.regional.azure-api.net"
    return {
        "region": region,
        "host": place,
        "port": 443,
        "sni": hostname,
        "connections": connections,
        "of": of or connections,
        "thumbprint": thumbprint,
        "sha256": sha256(thumbprint.encode()).hexdigest().upper(),
        "address": "203.0.113.10:443",
        "tls_version": "TLSv1.3",
        "distrust": None,
        "not_after": not_after.isoformat(),
        "days_to_expiry": (not_after - NOW).days,
        "subject": f"CN={hostname}",
        "issuer": "CN=Contoso Issuing CA 2,O=Contoso",
        "serial": "5B0E77A4C1D2",
        "names": [hostname],
        **changes,
    }


def failed(fault: str = "timeout at connect", region: str = "West Europe", **changes: object) -> Json:
    """Connections that showed nothing."""
    without = ("thumbprint", "sha256", "address", "tls_version", "distrust", "not_after", "days_to_expiry")
    common = {name: value for name, value in seen("", region).items() if name not in without}
    return {**common, "fault": fault, "detail": "no answer within 5 s", **changes}


def verdict(
    hostname: str = "api.contoso.com",
    status: str = "IN_SYNC",
    reason: str = "Served",
    message: str = "serves the newest version on 7 of 7 new connections in West Europe.",
    *,
    gateway: str = "apim-contoso",
    group: str = "rg-apim",
    certificate: str | None = "contoso-com",
    drift: bool = False,
    served: Iterable[Mapping[str, object]] | None = None,
    not_after: datetime = NOW + timedelta(days=64),
    **changes: object,
) -> Json:
    """One verdict; it serves what is expected unless told otherwise."""
    expected = leaf(certificate) if certificate else None
    usual = seen(expected or leaf(hostname), gateway=gateway, hostname=hostname, not_after=not_after)
    return {
        "gateway": gateway,
        "gateway_id": gateway_id(gateway, group),
        "gateway_kind": "ApiManagement",
        "hostname": hostname,
        "hostname_type": "Proxy",
        "status": status,
        "reason": reason,
        "drift": drift,
        "message": f"{gateway} {hostname}: {message}",
        "key_vault_id": f"https://kv-contoso.vault.azure.net/secrets/{certificate}" if certificate else None,
        "identity": "system-assigned",
        "expected": expected,
        "expected_version": "7e61f080a06d4c4ea9ac23340db4aa94" if expected else None,
        "expected_not_after": not_after.isoformat() if expected else None,
        "configured": expected,
        "served": list(served) if served is not None else [usual],
        **changes,
    }


def rotation(
    *steps: float | None,
    gateway: str = "apim-contoso",
    group: str = "rg-apim",
    certificate: str = "contoso-com",
    version: str = "7e61f080a06d4c4ea9ac23340db4aa94",
    created: datetime = NOW - timedelta(minutes=20),
    caught_by: str = "event",
) -> Json:
    """A rotation; `steps` are the minutes after t0 of t1, t2, t3 and t4, as far as they have come."""
    reached = [
        created + timedelta(minutes=m) if m is not None else None for m in (*steps, None, None, None, None)
    ]
    noticed, synced, first_served, proven = (at.isoformat() if at else None for at in reached[:4])
    return {
        "gateway": gateway,
        "gateway_id": gateway_id(gateway, group),
        "gateway_kind": "ApiManagement",
        "certificate": f"https://kv-contoso.vault.azure.net/certificates/{certificate}",
        "version": version,
        "created": created.isoformat(),
        "noticed": noticed,
        "synced": synced,
        "first_served": first_served,
        "proven": proven,
        "caught_by": caught_by,
        "seconds_to_served": steps[3] * 60 if len(steps) > 3 and steps[3] is not None else None,
    }


def decision(choice: str, message: str, *, gateway: str = "apim-contoso", group: str = "rg-apim") -> Json:
    """What was decided about a gateway."""
    return {
        "gateway": gateway,
        "gateway_id": gateway_id(gateway, group),
        "choice": choice,
        "message": message,
        "outcome": None,
        "operation_url": None,
    }


def view(
    *verdicts: Json,
    mode: str = "enforce",
    as_of: datetime = NOW - timedelta(minutes=2),
    rotations: Iterable[Json] = (),
    decisions: Iterable[Json] = (),
    problems: Iterable[str] = (),
    paused: Json | None = None,
    expires_soon_days: int = 30,
) -> Json:
    """What GET /api/status answers."""
    rotations = list(rotations)
    return {
        "settings": {"mode": mode, "expires_soon_days": expires_soon_days},
        "paused": paused,
        "rotations": rotations,
        "report": {
            "run_id": "run",
            "trigger": "timer",
            "mode": "Repair",
            "scope": "everything",
            "as_of": as_of.isoformat(),
            "duration_seconds": 3.21,
            "gateways": len({each["gateway_id"] for each in verdicts}),
            "counts": {},
            "problems": list(problems),
            "decisions": list(decisions),
            "rotations": rotations,
            "verdicts": list(verdicts),
        },
    }
