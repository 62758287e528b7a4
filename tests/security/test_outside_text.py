"""Hostile text at every door of the running app, and what leaves it: one `clean` stands between."""

import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.stage import Stage
from sandbox.world import Fault, Hostname, Server, World
from tests.scenarios.test_doors import event

UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
HOSTILE = (
    "\x1b]8;;x\x07\x1b[2J\u202e\u2066\u2028\r\n2026-01-01 INFO forged"
    "\x00\x9b<script>alert(1)</script>\ud800\u00ad"
)
LINES = {"\n", "\t"}
"""What a log and a page are laid out with."""


def unsafe(text: str) -> set[str]:
    """The characters of a text that nobody should be shown."""
    return {hex(ord(c)) for c in text if unicodedata.category(c) in UNSAFE and c not in LINES}


def strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings(item)


def refusal(status: int) -> dict[str, Any]:
    """An error of Azure whose every word is hostile."""
    return {"status": status, "body": {"error": {"code": HOSTILE, "message": HOSTILE}}, "times": None}


@pytest.fixture
def world() -> World:
    """Services whose names, places and tags want to do harm, and dependencies that answer so."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
    broken = world.add_vault("kv-broken").add_certificate("broken-com", ["*.broken.com"])
    hostnames = (
        Hostname("api.contoso.com", certificate=certificate),
        Hostname(f"evil{HOSTILE}.contoso.com", certificate=certificate),
        Hostname("typed.contoso.com", certificate=certificate, type=f"Proxy{HOSTILE}"),
    )
    tags = {f"rotation-{HOSTILE}": HOSTILE, "rotation-ring": HOSTILE}
    world.add_service("apim-contoso", hostnames=hostnames, tags=tags)
    world.add_service("apim-broken", hostnames=(Hostname("api.broken.com", certificate=broken),))
    world.faults += [
        Fault(Server.VAULT, "broken-com", **refusal(403)),
        Fault(Server.ARM, "refreshHostnames", **refusal(409)),
    ]
    certificate.renew(announce=False)
    return world


def test_nothing_hostile_is_logged_shown_or_told(world: World, tmp_path: Path) -> None:
    """Events, requests, ARM, Key Vault and names; log, JSON, page and telemetry."""
    with Stage(world, {"ROTATION_LEDGER": str(tmp_path / "ledger.sqlite")}) as stage:
        host = stage.host
        for hostile in (
            event(eventType=HOSTILE),
            event(Id=f"https://kv-contoso.vault.azure.net/certificates/{HOSTILE}/1"),
            event(ObjectName=HOSTILE, id=HOSTILE),
            event(topic=HOSTILE),
        ):
            assert 202 == stage.azure.event_grid.post(hostile)
        stage.tick()
        answers = [
            stage.resync(hostname=HOSTILE),
            stage.resync(**{HOSTILE: True}),
            stage.resync(all=True, override=[HOSTILE]),
            host.request("POST", "/api/pause", json={"reason": f"freeze{HOSTILE}"}, key="function"),
            stage.resync(all=True),
            host.request("GET", "/api/status?status=%1b%5b2J%E2%80%AE", key="function"),
            host.request("GET", "/api/gateways/%1b%E2%80%AE", key="function"),
            host.request("GET", "/api/%1b%E2%80%AE<script>", key="function"),
            host.request("GET", "/api/status", key="function"),
            host.request("GET", "/api/rotations", key="function"),
        ]
        page = host.request("GET", "/api/page?q=%1b%5b2J%E2%80%AE<script>", key="function")
        log = host.log()

    assert [400, 400, 400, 200, 202, 400, 404, 404, 200, 200] == [answer.status for answer in answers]
    for answer in answers:
        assert set() == unsafe("".join(strings(answer.json()))), answer.body
    assert 200 == page.status
    assert set() == unsafe(page.body.decode())
    assert "<script>" not in page.body.decode().replace("<script ", "")
    assert set() == unsafe(log)
    assert not [line for line in log.splitlines() if line.startswith("2026-01-01 INFO forged")]
    assert set() == unsafe("".join(strings(json.loads(json.dumps(world.telemetry)))))
    assert "forged" in log
    assert any("forged" in text for text in strings(world.telemetry))
