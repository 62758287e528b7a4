"""The functions as Azure will see them: indexed by the SDK, and by Microsoft's own Python runtime."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sandbox.azure import Azure
from sandbox.world import Hostname, World
from tests.host.helpers import needs_runtime, run_backend

PROJECT = Path(__file__).resolve().parents[2]
HEAVY = (
    "aiohttp",
    "azure.core",
    "azure.eventgrid",
    "azure.identity",
    "azure.mgmt",
    "cryptography",
    "opentelemetry",
)

TRIGGERS: dict[str, dict[str, object]] = {
    "on_certificate_event": {"type": "eventGridTrigger", "name": "event"},
    "check_drift": {"type": "timerTrigger", "name": "timer", "schedule": "15 */5 * * * *"},
    "resync": {"type": "httpTrigger", "route": "resync", "methods": ["POST"], "authLevel": "FUNCTION"},
    "operation": {
        "type": "httpTrigger",
        "route": "operations/{id}",
        "methods": ["GET"],
        "authLevel": "FUNCTION",
    },
    "gateway": {
        "type": "httpTrigger",
        "route": "gateways/{name}",
        "methods": ["GET"],
        "authLevel": "FUNCTION",
    },
    "rotations": {"type": "httpTrigger", "route": "rotations", "methods": ["GET"], "authLevel": "FUNCTION"},
    "openapi": {"type": "httpTrigger", "route": "openapi.json", "methods": ["GET"], "authLevel": "FUNCTION"},
    "unknown": {"type": "httpTrigger", "route": "{*path}", "authLevel": "FUNCTION"},
    "status": {"type": "httpTrigger", "route": "status", "methods": ["GET"], "authLevel": "FUNCTION"},
    "pause": {"type": "httpTrigger", "route": "pause", "methods": ["POST"], "authLevel": "FUNCTION"},
    "resume": {"type": "httpTrigger", "route": "resume", "methods": ["POST"], "authLevel": "FUNCTION"},
    "page": {"type": "httpTrigger", "route": "page", "methods": ["GET"], "authLevel": "FUNCTION"},
    "page_file": {
        "type": "httpTrigger",
        "route": "page/{name}",
        "methods": ["GET"],
        "authLevel": "ANONYMOUS",
    },
    "health": {"type": "httpTrigger", "route": "health", "methods": ["GET"], "authLevel": "ANONYMOUS"},
}

BACKENDS = ["sdk", pytest.param("runtime", marks=needs_runtime)]


def trigger(function: dict[str, Any]) -> dict[str, Any]:
    """The trigger among the bindings of an indexed function, as far as TRIGGERS describes it."""
    bindings = [as_object(binding) for binding in function["bindings"]]
    found = next(binding for binding in bindings if binding["type"].endswith("Trigger"))
    return {key: found.get(key) for key in TRIGGERS[function["name"]]}


def as_object(binding: Any) -> dict[str, Any]:
    """A raw binding, which is JSON text or already an object."""
    loaded: dict[str, Any] = json.loads(binding) if isinstance(binding, str) else binding
    return loaded


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_function_is_indexed_with_its_trigger_schedule_and_auth_level(backend: str) -> None:
    """Names, bindings, schedules and auth levels are what Azure will act by."""
    indexed = run_backend(backend, PROJECT, [])["functions"]

    assert TRIGGERS == {function["name"]: trigger(function) for function in indexed}


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_trigger_runs_against_the_sandbox(backend: str, tmp_path: Path) -> None:
    """Each function is invoked through its real converters and ends well."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
    service = world.add_service(
        "apim-contoso", hostnames=(Hostname("api.contoso.com", certificate=certificate),)
    )
    version = certificate.renew(announce=False)
    event = {
        "id": "1",
        "topic": "/subscriptions/0/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/kv-contoso",
        "subject": "contoso-com",
        "eventType": "Microsoft.KeyVault.CertificateNewVersionCreated",
        "eventTime": "2026-11-23T00:00:00Z",
        "dataVersion": "1",
        "metadataVersion": "1",
        "data": {"Id": f"https://kv-contoso.vault.azure.net/certificates/contoso-com/{version.id}"},
    }
    post = {"method": "POST", "url": "/api/resync", "headers": {"content-type": "application/json"}}
    calls = [
        {"function": "on_certificate_event", "input": event},
        {"function": "check_drift", "input": {"Schedule": {"AdjustForDST": True}, "IsPastDue": False}},
        {"function": "resync", "input": {**post, "body": '{"all": true, "dry_run": true}'}},
        {"function": "status", "input": {"method": "GET", "url": "/api/status"}},
        {"function": "gateway", "input": {"method": "GET", "params": {"name": "apim-contoso"}}},
        {"function": "rotations", "input": {"method": "GET", "url": "/api/rotations"}},
        {"function": "openapi", "input": {"method": "GET", "url": "/api/openapi.json"}},
        {"function": "health", "input": {"method": "GET", "url": "/api/health"}},
    ]
    with Azure(world) as azure:
        settings = azure.app_settings() | {
            "ROTATION_MODE": "enforce",
            "ROTATION_LEDGER": str(tmp_path / "ledger.sqlite"),
        }
        results = run_backend(backend, PROJECT, calls, settings)["results"]

        assert [(call["function"], True, None) for call in calls] == [
            (result["function"], result["ok"], result["error"]) for result in results
        ]
        assert len(service.syncs) == 1
        assert "SYNCING" in json.dumps(results[2]["value"])
        assert ["event", "timer", "hand"] == [
            e.properties["trigger"] for e in world.custom_events("RunCompleted")
        ]


def test_an_idle_worker_imports_no_sdk_but_azure_functions() -> None:
    """Indexing is as cheap as that of a hello-world app: everything heavy waits for the first trigger."""
    script = f"import sys, function_app; print([m for m in {HEAVY!r} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PROJECT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert "[]" == found.stdout.strip()
