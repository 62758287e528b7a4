"""A hundred thousand bindings through 1, 2 and 4 queue workers: nothing lost, nothing doubled.

    python -m bench.shards [--bindings 100000] [--workers 1 2 4] [--json FILE] [--quick]

Each worker is a process. The split, the messages, the scope of a shard, judging, planning and the results
are the product's; Azure is not there: services, certificates and connections are made up in the worker, the
ledger is in its memory, and a pipe stands for the storage queue. So this shows how the work divides, not what
ARM or a network would do.
"""

import asyncio
import multiprocessing
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from bench.report import Outcome, arguments, outcomes_table, tell
from rotation import telemetry
from rotation.gateways.api_management import KIND
from rotation.model import (
    BUCKETS,
    Binding,
    Census,
    CertificateId,
    CertificateUnreadable,
    CertificateVersion,
    Endpoint,
    Gateway,
    GatewayKind,
    Inventory,
    KeyVaultReference,
    LedgerRow,
    Mode,
    Observation,
    Pause,
    Scope,
    ServedCertificate,
    Shard,
    Status,
    SyncAnswer,
    Trigger,
    bucket,
)
from rotation.reconcile import World, reconcile
from rotation.settings import DEFAULT_SHARD_SIZE
from rotation.shards import from_message, how_many, to_messages
from rotation.verdict import Limits

BINDINGS_A_SERVICE = 1.2
NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)
SUBSCRIPTION = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg-apim"


@dataclass(frozen=True, slots=True)
class Text:
    """A made-up certificate."""

    thumbprint: str = "0" * 40
    sha256: str = "0" * 64
    not_before: datetime | None = NOW - timedelta(days=30)
    not_after: datetime | None = NOW + timedelta(days=60)
    names: tuple[str, ...] = ("*.contoso.com",)
    subject: str = "CN=*.contoso.com"
    issuer: str = "CN=Made up"
    serial: str = "01"
    self_signed: bool = False
    signature: str = "ECDSA"
    key: str = "EC P-256"


LEAF = Text()


def service_id(number: int) -> str:
    """The ARM id of a service."""
    return f"{SUBSCRIPTION}/providers/Microsoft.ApiManagement/service/apim-{number}"


def certificate_of(hostname: str) -> CertificateId:
    """The certificate of a hostname: four share one."""
    return CertificateId("kv-fleet.vault.azure.net", f"c{int(hostname.partition('.')[0][3:]) // 4}")


def thumbprint(certificate: CertificateId) -> str:
    """The made-up leaf of a certificate."""
    return sha256(certificate.name.encode()).hexdigest()[:40].upper()


class Made:
    """Services, certificates and connections as they should be: the protocols of `reconcile`."""

    def __init__(self, services: int) -> None:
        self._services = services
        self._of_bucket: dict[int, list[int]] = {}
        for number in range(services):
            self._of_bucket.setdefault(bucket(service_id(number).lower()), []).append(number)

    async def discover(self, shard: Shard | None = None) -> Inventory:
        """The services of a shard."""
        buckets = shard.buckets if shard else range(BUCKETS)
        numbers = (number for each in buckets for number in self._of_bucket.get(each, ()))
        return Inventory(tuple(map(self._service, numbers)), (), NOW)

    async def census(self, *, fresh: bool = False) -> Census | str:
        """All of them, in one subscription."""
        return Census({SUBSCRIPTION.split("/")[2]: self._services}, NOW)

    async def using(self, certificates: Collection[CertificateId]) -> Sequence[Gateway] | str:
        """There are no rings."""
        return ()

    async def read(self, gateway: Gateway) -> Gateway | str:
        """As it was listed."""
        return replace(gateway, listed=False, as_of=NOW)

    async def sync(self, gateway: Gateway) -> SyncAnswer:
        """Nothing is stale."""
        raise AssertionError(gateway.id)

    async def operation_error(self, operation_url: str) -> str | None:
        """Nothing was asked for."""
        raise AssertionError(operation_url)

    async def current(self, certificate: CertificateId) -> CertificateVersion | CertificateUnreadable:
        """The version that is served."""
        ends, began = NOW + timedelta(days=60), NOW - timedelta(days=30)
        return CertificateVersion(
            certificate=certificate,
            version="0" * 32,
            thumbprint=thumbprint(certificate),
            sha256="0" * 64,
            enabled=True,
            created=began,
            updated=began,
            not_before=began,
            not_after=ends,
            names=("*.contoso.com",),
            issuer="CN=Made up",
        )

    async def earlier(self, certificate: CertificateId) -> frozenset[str] | None:
        """None."""
        return frozenset()

    async def __call__(self, endpoints: Sequence[Endpoint], *, within: timedelta) -> Sequence[Observation]:
        """What is right for the name."""
        return [
            ServedCertificate(
                endpoint=endpoint,
                thumbprint=thumbprint(certificate_of(endpoint.hostname)),
                sha256="0" * 64,
                address="192.0.2.1:443",
                tls_version="TLSv1.3",
                distrust=None,
                chain=(LEAF,),
            )
            for endpoint in endpoints
            for _ in range(endpoint.connections)
        ]

    def _service(self, number: int) -> Gateway:
        first = number + -(-number // 5)
        names = [f"api{first + n}.contoso.com" for n in range(2 if number % 5 == 0 else 1)]
        return Gateway(
            id=service_id(number),
            name=f"apim-{number}",
            kind=KIND,
            location="West Europe",
            state="Succeeded",
            bindings=tuple(
                Binding(
                    hostname=name,
                    hostname_type="Proxy",
                    key_vault_id=certificate_of(name).secret_url,
                    reference=KeyVaultReference(certificate_of(name), None),
                    configured=thumbprint(certificate_of(name)),
                    identity_client_id=None,
                    endpoints=(Endpoint(name, "West Europe", f"apim-{number}.azure-api.net"),),
                )
                for name in names
            ),
        )


class Rows:
    """Implements `Ledger` as far as a pass needs it, in memory."""

    def __init__(self) -> None:
        self._rows: dict[str, LedgerRow] = {}

    async def read(self, gateway_keys: Iterable[str]) -> dict[str, LedgerRow]:
        """The rows of these gateways."""
        return {key: self._rows.get(key) or LedgerRow(key) for key in gateway_keys}

    async def write(self, row: LedgerRow) -> LedgerRow:
        """Store a row."""
        stored = self._rows[row.gateway_key] = replace(row, etag=str(int(row.etag or 0) + 1))
        return stored

    async def write_each(self, rows: Sequence[LedgerRow]) -> dict[str, LedgerRow]:
        """Store these rows."""
        return {row.gateway_key: await self.write(row) for row in rows}

    async def known(self, shard: Shard | None = None) -> frozenset[str]:
        """The keys of the rows."""
        return frozenset(key for key in self._rows if shard is None or shard.holds(key))

    async def forget(self, row: LedgerRow) -> None:
        """Nothing vanishes."""
        raise AssertionError(row.gateway_key)

    async def paused(self) -> Pause | None:
        """Never."""
        return None

    async def set_pause(self, pause: Pause | None) -> None:
        """Nobody does."""

    async def save_report(self, report: Mapping[str, object], shard: Shard | None = None) -> None:
        """Nobody asks for it."""

    async def last_reports(self) -> Sequence[Mapping[str, object]]:
        """None."""
        return ()

    async def looked_at(self, shard: Shard) -> datetime | None:
        """Nobody remembers."""
        return None

    async def save_operation(self, run_id: str, report: Mapping[str, object]) -> None:
        """Nobody asks for it."""

    async def operation(self, run_id: str) -> Mapping[str, object] | None:
        """None."""
        return None


def work(services: int, queue: Any, results: Any) -> None:
    """A worker: one shard after the other, until there is none left."""
    made = Made(services)
    world = World(
        kinds={GatewayKind.API_MANAGEMENT: made},
        certificates=made,
        ledger=Rows(),
        probe=made,
        now=lambda: NOW,
        limits=Limits(),
        large=made,
    )
    try:
        _until_empty(world, queue, results)
    finally:
        results.put(None)


def _until_empty(world: World, queue: Any, results: Any) -> None:
    while message := queue.get():
        part = from_message(message.encode())
        scope = Scope(shard=part.shard, run_id=part.run_id)
        report = asyncio.run(reconcile(world, scope, Mode.REPAIR, Trigger.TIMER))
        told = [*telemetry.events(report)]
        results.put(
            {
                "hostnames": [v.evidence.binding.hostname for v in report.verdicts],
                "in_sync": sum(v.status is Status.IN_SYNC for v in report.verdicts),
                "run": told[-1].properties["run_id"],
                "shards": told[-1].measurements["shards"],
            }
        )


def measure(services: int, workers: int) -> dict[str, Any]:
    """Split the fleet and let so many workers have it."""
    of = how_many(services, DEFAULT_SHARD_SIZE)
    spawned = multiprocessing.get_context("spawn")
    queue, results = spawned.Queue(), spawned.Queue()
    processes = [spawned.Process(target=work, args=(services, queue, results)) for _ in range(workers)]
    for process in processes:
        process.start()
    began = time.monotonic()
    for message in [*to_messages(str(uuid.uuid4()), of, NOW), *[""] * workers]:
        queue.put(message)
    parts, ended = [], 0
    while ended < workers:
        part = results.get(timeout=600)
        ended += part is None
        parts += [part] if part else []
    wall = time.monotonic() - began
    for process in processes:
        process.join(30)
    seen = Counter(hostname for part in parts for hostname in part["hostnames"])
    bindings = services + -(-services // 5)
    return {
        "workers": workers,
        "shards": of,
        "wall_s": wall,
        "bindings": bindings,
        "in_sync": sum(part["in_sync"] for part in parts),
        "lost": bindings - len(seen),
        "doubled": sum(number - 1 for number in seen.values()),
        "runs": len({part["run"] for part in parts}),
        "parts": len(parts),
    }


def wrong(run: Mapping[str, Any]) -> bool:
    """Whether something was lost, doubled, misjudged, or told as another run."""
    whole = run["in_sync"] == run["bindings"] and run["parts"] == run["shards"] and run["runs"] == 1
    return bool(run["lost"] or run["doubled"] or not whole)


def outcomes(runs: Sequence[Mapping[str, Any]]) -> Iterator[Outcome]:
    """What was wanted."""
    for run in runs:
        where = f"{run['bindings']:,} bindings, {run['workers']} worker(s)"
        yield Outcome("lost", where, run["lost"], 0)
        yield Outcome("doubled", where, run["doubled"], 0)


def document(results: Mapping[str, Any]) -> str:
    """The figures as they stand in docs/performance.md."""
    runs = results["runs"]
    lines = [
        f"{runs[0]['bindings']:,} bindings in {runs[0]['shards']} shards, load {results['load']}.",
        "",
        "| workers | wall, s | bindings a second | x one worker | lost | doubled |",
        "|---|---|---|---|---|---|",
    ]
    for run in runs:
        speed, faster = run["bindings"] / run["wall_s"], runs[0]["wall_s"] / run["wall_s"]
        lines.append(
            f"| {run['workers']} | {run['wall_s']:.1f} | {speed:,.0f} | {faster:.2f} | {run['lost']}"
            f" | {run['doubled']} |"
        )
    return "\n".join([*lines, "", outcomes_table(outcomes(runs))])


def main() -> None:
    """Measure and tell; fails on wrong results only."""
    parser = arguments("shards", __doc__, quick="6,000 bindings, 1 and 2 workers")
    parser.add_argument("--bindings", type=int, default=100_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    asked = parser.parse_args()
    bindings, workers = (6000, [1, 2]) if asked.quick else (asked.bindings, asked.workers)
    services = round(bindings / BINDINGS_A_SERVICE)
    results = tell(lambda: {"runs": [measure(services, each) for each in workers]}, document, asked.json)
    if any(map(wrong, results["runs"])):
        raise SystemExit("a binding was lost, doubled or misjudged, or a shard told as another run")


if __name__ == "__main__":
    main()
