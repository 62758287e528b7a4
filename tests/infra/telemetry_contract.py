"""The custom events as they are published, schema version 1: what queries may rely on."""

_COMMON = {"schema", "run_id", "trigger", "mode"}
_GATEWAY = {"gateway", "gateway_id", "gateway_kind"}
_BINDING = _GATEWAY | {"hostname", "hostname_type"}

DIMENSIONS: dict[str, set[str]] = {
    "CertificateVerified": _COMMON
    | _BINDING
    | {"status", "reason", "drift", "message", "certificate", "expected", "expected_version", "configured"}
    | {"served", "distrust", "served_sha256", "served_serial", "served_issuer", "served_not_after"}
    | {"peer_address", "region", "tls_version", "openssl"},
    "VerdictChanged": _COMMON
    | _BINDING
    | {"event_id", "at", "status", "reason", "drift", "message", "was_status", "was_reason", "since"},
    "SyncRequested": _COMMON | _GATEWAY | {"event_id", "message", "forced", "overrides"},
    "SyncAnswered": _COMMON | _GATEWAY | {"event_id", "outcome", "detail"},
    "RotationProven": _COMMON
    | _GATEWAY
    | {"event_id", "certificate", "version", "created", "noticed", "synced", "first_served", "proven"}
    | {"caught_by"},
    "RunCompleted": _COMMON | {"scope", "problems"},
}
MEASUREMENTS: dict[str, set[str]] = {
    "CertificateVerified": {"connections", "connections_read", "connections_matching", "days_to_expiry"},
    "VerdictChanged": set(),
    "SyncRequested": {"attempt"},
    "SyncAnswered": {"attempt"},
    "RotationProven": {"seconds_to_served", "seconds_to_notice"},
    "RunCompleted": {"duration_seconds", "gateways", "gateways_missing", "hostnames", "problems"}
    | {"in_sync", "syncing", "stale", "blocked", "unknown", "unmanaged", "drift", "syncs"},
}
AT_LEAST_ONCE = {"VerdictChanged", "SyncRequested", "SyncAnswered", "RotationProven"}
