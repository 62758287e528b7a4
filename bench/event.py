"""From an event to the sync on the wire: how many round trips one after the other, and how long at 30 ms.

    python -m bench.event [--rounds 3] [--json FILE] [--quick]

The real app on its host, warm, with everything that it talks to behind a relay that makes distance
(bench/wire.py): Resource Manager, Key Vault, the gateway, Table storage for the ledger. Each round renews a
certificate of its own and delivers the event; the clock stops when ARM receives the POST. Sequential round
trips are not counted by reading code: they are how much longer it takes for each millisecond of distance
more, less the half that the POST itself is under way.
"""

import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Self

from bench.report import PROJECT, Outcome, arguments, outcomes_table, tell
from bench.wire import Distance, Tables
from sandbox.azure import Azure
from sandbox.host.process import FunctionsHost
from sandbox.stage import NEVER
from sandbox.world import Hostname, Server, World

NEAR, FAR = 0.030, 1.030
"""Two distances in seconds: the one that is asked for, and one so far that what is measured is distance."""

MOST = 6
ACCOUNT = "contosorotation.table.core.windows.net"


class Scene:
    """The app and its Azure, apart from each other."""

    def __init__(self, rounds: int) -> None:
        self.world = World()
        vault = self.world.add_vault("kv-contoso")
        self._certificates = iter(
            [vault.add_certificate(f"c{n}", [f"api-{n}.contoso.com"]) for n in range(rounds)]
        )
        for number, certificate in enumerate(list(vault.certificates.values())):
            hostname = Hostname(f"api-{number}.contoso.com", certificate=certificate)
            self.world.add_service(f"apim-{number}", hostnames=(hostname,))
        self._open = ExitStack()

    def __enter__(self) -> Self:
        azure = self._open.enter_context(Azure(self.world))
        self.distance = self._open.enter_context(Distance())
        self.tables = Tables()
        context = self.world.ca.issue([ACCOUNT], days=3650).server_context()
        routes = {f"{host}:443": port for host, port in azure.connect_to.items()}
        routes[f"{ACCOUNT}:443"] = self.distance.call(self.tables.start(context))
        far = {where: self.distance.relay(where, port) for where, port in routes.items()}
        arm = self.distance.relay("arm", int(azure.arm_url.rpartition(":")[2]))
        settings = {
            **azure.app_settings(),
            "ROTATION_MODE": "enforce",
            "ROTATION_SCHEDULE": NEVER,
            "ROTATION_LEDGER": f"https://{ACCOUNT}/rotation",
            "ROTATION_ARM_URL": f"https://127.0.0.1:{arm}",
            "ROTATION_CONNECT_TO": ",".join(f"{where}:127.0.0.1:{port}" for where, port in far.items()),
        }
        self.host = self._open.enter_context(FunctionsHost(PROJECT, settings))
        azure.event_grid.subscribe(self.host.event_grid_url("on_certificate_event"))
        self._azure = azure
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def deliver(self, rtt: float) -> dict[str, Any]:
        """Renew the next certificate, deliver its event, and wait until the app has answered."""
        certificate = next(self._certificates)
        self.distance.rtt = rtt
        self.distance.flights.clear()
        self.tables.requests.clear()
        first = len(self.world.requests)
        certificate.renew(announce=False)
        event = {
            "id": certificate.name,
            "topic": certificate.vault.id,
            "subject": certificate.name,
            "eventType": "Microsoft.KeyVault.CertificateNewVersionCreated",
            "eventTime": "2026-11-23T00:00:00Z",
            "dataVersion": "1",
            "metadataVersion": "1",
            "data": {
                "Id": f"https://{certificate.vault.host}/certificates/{certificate.name}/{certificate.newest.id}"
            },
        }
        began, moment = time.monotonic(), self.world.clock.now()
        answer = self.host.request(
            "POST",
            self.host.event_grid_url("on_certificate_event").removeprefix(self.host.url),
            json=[event],
            headers={"aeg-event-type": "Notification"},
        )
        assert answer.status == 202, answer
        requests = self.world.requests[first:]
        syncs = [r for r in requests if r.path.endswith("/refreshHostnames")]
        steps = [((r.at - moment).total_seconds(), _name(r.server, r.method, r.path)) for r in requests]
        steps += [(at - began, f"{method} the ledger's table") for at, method in self.tables.requests]
        probes = [f for f in self.distance.flights if "regional" in f.server]
        steps += [
            (
                f.at - began + rtt / 2 + (rtt if f.number == 1 else 0),
                f"TLS with the gateway, flight {f.number}",
            )
            for f in probes
        ]
        connected = {f.server for f in self.distance.flights if f.number == 1} - {f.server for f in probes}
        return {
            "syncs": [r.status for r in syncs],
            "seconds": (syncs[0].at - moment).total_seconds() if syncs else None,
            "opened": sorted(connected),
            "steps": sorted(steps),
        }


def measure(rounds: int) -> dict[str, Any]:
    """So many rounds at each distance, after one that opens every connection."""
    with Scene(1 + 2 * rounds) as scene:
        cold = scene.deliver(NEAR)
        warm = {rtt: [scene.deliver(rtt) for _ in range(rounds)] for rtt in (NEAR, FAR)}
    found = {rtt: [each["seconds"] for each in many] for rtt, many in warm.items()}
    done = [each["syncs"] for each in (cold, *warm[NEAR], *warm[FAR])]
    results: dict[str, Any] = {"rounds": rounds, "once": all(each == [202] for each in done), "answers": done}
    if not results["once"]:
        return results
    near, far = min(found[NEAR]), min(found[FAR])
    best = min(warm[FAR], key=lambda each: each["seconds"])
    results |= {
        "trips": round((far - near) / (FAR - NEAR) - 0.5, 2),
        "near_ms": round(near * 1000, 1),
        "median_ms": round(statistics.median(found[NEAR]) * 1000, 1),
        "cold_ms": round(cold["seconds"] * 1000, 1),
        "opened": best["opened"],
        "steps": _steps(best["steps"], best["seconds"]),
    }
    return results


def _steps(steps: list[tuple[float, str]], until: float) -> list[list[Any]]:
    """What arrived before the POST and with it, each kind once, in round trips since the event."""
    first: dict[str, float] = {}
    for at, what in steps:
        if at <= until:
            first.setdefault(what, at / FAR)
    return [[round(at, 1), what] for what, at in first.items()]


def _name(server: Server, method: str, path: str) -> str:
    """A request in words."""
    last = path.rstrip("/").rpartition("/")[2]
    names = {
        "resources": "POST a query to Resource Graph",
        "refreshHostnames": "**POST the sync**",
    }
    if last in names:
        return names[last]
    return {Server.ARM: f"{method} the service", Server.VAULT: f"{method} the certificate"}.get(
        server, f"{method} {server}"
    )


def outcomes(results: Mapping[str, Any]) -> Iterator[Outcome]:
    """What was wanted."""
    if results["once"]:
        yield Outcome("sequential round trips from event to sync", "warm", results["trips"], MOST)


def document(results: Mapping[str, Any]) -> str:
    """The figures as they stand in docs/performance.md."""
    if not results["once"]:
        return f"Not every event led to exactly one sync: {results['answers']}\n"
    opened = ", ".join(results["opened"]) or "none"
    story = (
        f"Rounds: {results['rounds']}, load {results['load']}. At 30 ms ARM received the sync"
        f" {results['near_ms']:.0f} ms after the event, median {results['median_ms']:.0f} ms. A process's"
        f" first event takes {results['cold_ms']:.0f} ms. Connections opened but to the gateway: {opened}.\n"
    )
    lines = [
        story,
        outcomes_table(outcomes(results)),
        "| arrived, in round trips after the event | what |",
        "|---|---|",
        *(f"| {at:.1f} | {what} |" for at, what in results["steps"]),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure and tell; fails where an event did not lead to exactly one sync, never on time."""
    parser = arguments("event", __doc__, quick="one round at each distance")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    results = tell(lambda: measure(1 if asked.quick else asked.rounds), document, asked.json)
    if not results["once"]:
        raise SystemExit("not every event led to exactly one sync")


if __name__ == "__main__":
    main()
