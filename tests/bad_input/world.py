"""What the suite runs against: the real app on its host, and a world with one certificate on one service."""

import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sandbox.event_grid import EventSchema
from sandbox.stage import Stage
from sandbox.world import Certificate, Fault, Hostname, Server, Service, World

Door = tuple[Stage, Certificate, Service]
"""The app in front of a world where all is well."""

HOST = "api.contoso.com"
VAULT = "https://kv-contoso.vault.azure.net"

_RAISED = re.compile(r"Traceback|Exception while executing|\(Failed, | failed: ")


@contextmanager
def contoso(
    settings: Mapping[str, str] | None = None, also: Callable[[World, Certificate], object] | None = None
) -> Iterator[Door]:
    """The app in front of a world where all is well, and has been looked at once."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
    service = world.add_service("apim-contoso", hostnames=(Hostname(HOST, certificate=certificate),))
    if also:
        also(world, certificate)
    world.graph.quota = 1_000_000  # one app for many passes would wait for its quota
    with Stage(world, settings, schema=EventSchema.EVENT_GRID) as stage:
        stage.tick()
        yield stage, certificate, service


def event(data: Any = None, /, **changes: object) -> dict[str, Any]:
    """An event of a renewal of the certificate, changed in its data, or in its envelope by `changes`."""
    body = {
        "Id": f"{VAULT}/certificates/contoso-com/0123456789abcdef0123456789abcdef",
        "VaultName": "kv-contoso",
        "ObjectType": "Certificate",
        "ObjectName": "contoso-com",
        "Version": "0123456789abcdef0123456789abcdef",
        "NBF": 1,
        "EXP": 2,
    }
    envelope: dict[str, Any] = {
        "id": "an-event",
        "topic": "/subscriptions/0/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/kv-contoso",
        "subject": "contoso-com",
        "eventType": "Microsoft.KeyVault.CertificateNewVersionCreated",
        "eventTime": "2026-11-23T00:00:00Z",
        "dataVersion": "1",
        "metadataVersion": "1",
        "data": {**body, **data} if isinstance(data, dict) else body,
    }
    return envelope | changes


def answered(server: Server, path: str, body: object, status: int = 200, /, **headers: str) -> Fault:
    """What a server says in place of its answer: these bytes, or this as JSON. `_` in a header is `-`."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    content = {"Content-Type": "application/json", **{n.replace("_", "-"): v for n, v in headers.items()}}
    return Fault(server, path, status=status, body=sent, headers=content, times=None)


def raised(log: str) -> list[str]:
    """The lines of a host's log that tell of an exception which nobody has handled."""
    return [line for line in log.splitlines() if _RAISED.search(line)]


def tick_with(door: Door, fault: Fault) -> tuple[dict[str, str], list[str], str]:
    """A pass of the timer in a world of this fault, and one without it after it, which finds all well.

    Neither may sync, nor log what does harm. Returns verdicts of the first by hostname, as `STATUS Reason`, its
    problems, and the log of both.
    """
    stage, _, service = door
    said = len(stage.host.log())
    stage.world.faults.append(copy.copy(fault))
    seen = stage.tick()
    problems: list[str] = stage.status()["report"]["problems"]
    stage.world.faults.clear()
    well = stage.tick()
    assert ("IN_SYNC", "Served") == (well[HOST]["status"], well[HOST]["reason"])
    verdicts = {name: f"{verdict['status']} {verdict['reason']}" for name, verdict in seen.items()}
    log = stage.host.log()[said:]
    harmless(log)
    assert [] == service.syncs
    assert not {"\x1b", "\u202e"} & set("".join(problems))
    return verdicts, problems, log


def harmless(log: str) -> None:
    """Nothing was raised, and no line is longer than a person reads or made to deceive one."""
    assert [] == raised(log)
    assert not {"\x1b", "\u202e", "\u2028"} & set(log)
    assert max(map(len, log.splitlines()), default=0) < 4000
