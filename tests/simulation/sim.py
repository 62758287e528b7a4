"""The real reconcile over the sandbox's world, in virtual time: no sockets, no threads, no sleep.

A `Simulation` has the world, its clock and what goes wrong. The ports in `ports` answer from it, each kind of
gateway as the file of its name has it, and note what the world really showed, for the oracle to judge by.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from rotation.model import (
    CertificateId,
    CertificateVersion,
    Endpoint,
    Front,
    Gateway,
    GatewayKind,
    LedgerRow,
    Pause,
    Report,
    ServedCertificate,
    SyncOutcome,
    Trigger,
)
from rotation.reconcile import deliver, reconcile
from sandbox import world as sandbox
from tests.simulation import managed
from tests.simulation.hosted import Hosted, as_entity
from tests.simulation.issuers import ITSELF, PUBLIC, Issuer, LeanLeaf, issuers
from tests.simulation.listening import Listening
from tests.simulation.loop import EPOCH, VirtualClock, VirtualLoop
from tests.simulation.ports import Order, Worker, WorkerKilledError, ports
from tests.simulation.weather import RETRY_AFTERS, Post, Trouble, Wait
from tests.unit.build import Presented

TIMER_BUDGET = timedelta(seconds=240)
EVENT_BUDGET = timedelta(seconds=20)
A_WHILE = timedelta(minutes=7)


class Simulation:
    """A world, its clock, the ledger's rows, and what goes wrong.

    Args:
        seed: everything that is random follows from it.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.clock = VirtualClock()
        self.issuers = issuers()
        self.issuer_of: dict[sandbox.Certificate, Issuer] = {}
        self.loop = VirtualLoop(self.clock)
        self.world = sandbox.World(self.clock, self.issuers[0])
        self.rows: dict[str, LedgerRow] = {}
        self.pause: Pause | None = None
        self.told: dict[str, list[datetime]] = {}
        self.posts: list[Post] = []
        self.waits: dict[str, Wait] = {}
        self.skew = timedelta()
        self.rate = 0.0
        self.kinds: frozenset[Trouble] = frozenset()
        self.calm = False
        self.struck: dict[Trouble, int] = {}
        self.last_trouble = EPOCH
        self.story: list[str] | None = None
        self.agenda: list[tuple[datetime, int, Callable[[], object]]] = []
        self.round_robin = False
        self.opaque_etags = True
        self.retries_writes = False
        self.lags = False
        self.ledger_epoch = 0
        self.on_store: Callable[[Worker, LedgerRow | None, LedgerRow], None] = lambda *_: None
        self._away: set[str] = set()
        self._numbers = itertools.count(1)
        self._workers = itertools.count(1)
        self._turns: dict[tuple[int, str], int] = {}
        self.subscriptions: list[str] = []
        self._counted = 0
        self._of_kind: dict[GatewayKind, list[sandbox.Service]] = {}
        self._services: dict[str, sandbox.Service] = {}
        self._places: dict[str, tuple[sandbox.Service, str]] = {}
        self._gateways: dict[tuple[object, ...], Gateway] = {}
        self._leaves: dict[Endpoint, dict[str, ServedCertificate]] = {}
        self._versions: dict[tuple[str, datetime, bool], CertificateVersion] = {}
        self._units: dict[tuple[int, str, str], tuple[datetime, tuple[str, ...]]] = {}
        self._listed: dict[int, tuple[datetime, Gateway | None]] = {}
        self._described: dict[int, tuple[datetime, Gateway | None]] = {}

    # Running passes.

    def run(
        self,
        orders: Sequence[Order],
        dies_at: Sequence[int | None] = (),
        budget: timedelta | None = TIMER_BUDGET,
    ) -> list[tuple[Worker, Report | None]]:
        """Run passes at once, each in a worker of its own; None where a worker has died."""
        workers = []
        for number, order in enumerate(orders):
            spent = budget and (EVENT_BUDGET if order.trigger is Trigger.EVENT else budget)
            dies = dies_at[number] if number < len(dies_at) else None
            workers.append(Worker(self, f"worker {next(self._workers)}", order, dies, spent))
        for worker in workers:
            worker.racing = len(workers) > 1
            self.tell(f"{worker.name}: {worker.order}")
        results = self.loop.drive(self._pass(worker) for worker in workers)
        found: list[tuple[Worker, Report | None]] = []
        for worker, result in zip(workers, results, strict=True):
            if isinstance(result, BaseException) and not isinstance(result, WorkerKilledError):
                raise result
            found.append((worker, None if isinstance(result, BaseException) else result))
        return found

    async def _pass(self, worker: Worker) -> Report:
        world, order = ports(worker), worker.order
        report = await reconcile(world, order.scope, order.mode, order.trigger)
        await deliver(world.ledger, report, worker.tell)
        return report

    # Weather.

    def strikes(self, kind: Trouble) -> bool:
        """Whether this goes wrong now."""
        if self.calm or kind not in self.kinds or self.random.random() >= self.rate:
            return False
        self.struck[kind] = self.struck.get(kind, 0) + 1
        self.tell(f"  {kind}")
        self.trouble()
        return True

    def trouble(self, until: datetime | None = None) -> None:
        """Something has gone wrong, or was changed: just now, or `until` then, where ARM told us to wait."""
        self.last_trouble = max(self.last_trouble, until or self.clock.now())

    def away(self, what: str) -> bool:
        """Whether something is gone altogether."""
        return what in self._away

    def go_away(self, what: str) -> None:
        """From now on it cannot be reached."""
        self._away.add(what)

    def come_back(self, what: str) -> None:
        """It can be reached again."""
        self._away.discard(what)

    def retry_after(self) -> timedelta | None:
        """What an answer asks for: sense and nonsense, as far as the client can read it."""
        seconds = self.random.choice(RETRY_AFTERS)
        return None if seconds is None else timedelta(seconds=seconds)

    def next_etag(self, before: LedgerRow | None) -> str:
        """SQLite counts from one; Azure Table storage never repeats itself."""
        return (
            str(next(self._numbers)) if self.opaque_etags else str(int(before.etag or 0) + 1 if before else 1)
        )

    def next_unit(self, service: sandbox.Service, region: str, units: int) -> int:
        """Which unit the load balancer gives a connection to."""
        if not self.round_robin:
            return int(self.random.random() * units)
        turn = self._turns[service.number, region] = self._turns.get((service.number, region), 0) + 1
        return turn % units

    # What happens in the world.

    def at(self, moment: datetime, deed: Callable[[], object]) -> None:
        """Have something happen at a moment."""
        heapq.heappush(self.agenda, (moment, next(self._numbers), deed))

    def reach(self, moment: datetime) -> None:
        """Let time pass until a moment, with all that happens on the way."""
        while self.agenda and self.agenda[0][0] <= moment:
            at, _, deed = heapq.heappop(self.agenda)
            self.clock.reach(at)
            deed()
        self.clock.reach(moment)

    def catch_up(self) -> None:
        """Let happen what is due: also in the middle of a pass."""
        while self.agenda and self.agenda[0][0] <= self.clock.now():
            heapq.heappop(self.agenda)[2]()

    def note(self, what: str) -> None:
        """The world has changed."""
        self.tell(what)
        self.trouble()
        self.changed()

    def changed(self) -> None:
        """What the units serve has to be looked up again."""
        self._units.clear()
        self._described.clear()

    def tell(self, what: str) -> None:
        """A line of the story, where somebody listens."""
        if self.story is not None:
            self.story.append(f"{self.clock.now() - EPOCH!s:>18.18} {what}")

    def renew(self, certificate: sandbox.Certificate, *, days: float = 90) -> None:
        """A new version."""
        certificate.renew(days=days, issuer=self.issuer_of.get(certificate))
        self.note(f"{certificate.name} is renewed: {certificate.newest.thumbprint[:6]}")

    def roll_back(self, certificate: sandbox.Certificate) -> None:
        """An earlier leaf, imported as a new version."""
        leaf = self.random.choice(certificate.versions).leaf
        version = sandbox.Version(certificate, leaf, self.clock)
        certificate.versions.append(version)
        self.world.announce(sandbox.EventType.NEW_VERSION, version)
        self.note(f"{certificate.name} is rolled back to {version.thumbprint[:6]}")

    def wipe_ledger(self) -> None:
        """All rows are lost."""
        self.rows.clear()
        self.waits.clear()
        self.ledger_epoch += 1
        self.note("the ledger is wiped")

    def stored(self, worker: Worker, before: LedgerRow | None, after: LedgerRow) -> None:
        """A row was written: with it, what ARM has asked us to wait for may be known."""
        post = next((p for p in reversed(worker.posts) if p.gateway_key == after.gateway_key), None)
        if post and post.asks_to_wait and after.outcome is not SyncOutcome.ASKED:
            self.waits[after.gateway_key] = post.asks_to_wait
        self.on_store(worker, before, after)

    # The world as the ports show it.

    def kinds_of_gateway(self) -> dict[GatewayKind, list[sandbox.Service]]:
        """The services by their kind; a kind that there is none of is not turned on."""
        if self._counted != len(self.world.services):
            self._counted = len(self.world.services)
            self._of_kind = {}
            for service in self.world.services:
                self._of_kind.setdefault(kind_of(service), []).append(service)
            self.subscriptions = self.world.subscriptions
        return self._of_kind

    def service(self, gateway_key: str) -> sandbox.Service:
        """The service of a key."""
        if len(self._services) != len(self.world.services):
            self._services = {service.id.lower(): service for service in self.world.services}
        return self._services[gateway_key]

    def certificate(self, which: CertificateId) -> sandbox.Certificate:
        """The certificate of an id."""
        return self.world.vaults[which.vault_host.partition(".")[0]].certificates[which.name]

    def place(self, host: str) -> tuple[sandbox.Service, str]:
        """Whose region answers at a host."""
        if host not in self._places:
            for service in self.world.services:
                if isinstance(service, Listening):
                    self._places[service.gateway.address] = (service, service.location)
                    continue
                self._places.update({service.regional_host(r): (service, r) for r in service.regions})
                own = {
                    h.host_name: (service, service.location) for h in service.hostnames if h.type != "Proxy"
                }
                self._places.update(own)
        return self._places[host]

    def units(self, service: sandbox.Service, hostname: str, region: str) -> tuple[str, ...]:
        """What each unit of a region has for a hostname: the same until the next read reaches a unit."""
        now = self.clock.now()
        key = (service.number, hostname, region)
        until, units = self._units.get(key, (now, ()))
        if now >= until:
            count = (
                max(1, service.regions[region]) if managed.hostname_type(service, hostname) == "Proxy" else 1
            )
            units = tuple(service.served(hostname, region, n, now).thumbprint for n in range(count))
            lags = [service.lag.get(region, timedelta()) + n * service.unit_lag for n in range(count)]
            own = service.next_change(now) if isinstance(service, Hosted | Listening) else None
            self._units[key] = (own or managed.next_change(service, lags, now), units)
        return units

    def describe(self, service: sandbox.Service) -> Gateway:
        """A service as the product reads it from ARM's body: the same until an update or a read ends."""
        now = self.clock.now()
        until, gateway = self._described.get(service.number, (now, None))
        if gateway is None or now >= until:
            if isinstance(service, Listening):
                return self._describe_listening(service, now)
            state = service.provisioning_state(now)
            configured = tuple(service.configured(h.host_name, now) for h in service.hostnames)
            key = (service.id, state, *(shown and shown.thumbprint for shown in configured))
            if key not in self._gateways:
                self._gateways[key] = managed.describe(service, state, configured)
            gateway = self._gateways[key]
            if isinstance(service, Hosted):
                gateway = as_entity(service, gateway, now)
            self._described[service.number] = (managed.next_change(service, [timedelta()], now), gateway)
        return gateway

    def _describe_listening(self, service: Listening, now: datetime) -> Gateway:
        gateway, _ = service.describe(now)
        self._described[service.number] = (service.next_change(now), gateway)
        return gateway

    def fronts(self, service: Listening) -> tuple[Front, ...]:
        """What an Application Gateway stands in front of."""
        return service.describe(self.clock.now())[1]

    def as_listed(self, service: sandbox.Service) -> Gateway:
        """A service as Resource Graph shows it: as it was when it was looked at last, a while ago."""
        now = self.clock.now()
        seen_at, gateway = self._listed.get(service.number, (EPOCH - A_WHILE, None))
        if not self.lags:
            return self.describe(service)
        if gateway is None or now - seen_at > A_WHILE:
            gateway = replace(self.describe(service), listed=True)
            self._listed[service.number] = (now, gateway)
        return gateway

    def leaves(self, endpoint: Endpoint) -> dict[str, ServedCertificate]:
        """The handshakes there were with an endpoint, by thumbprint."""
        return self._leaves.setdefault(endpoint, {})

    def leaf(self, endpoint: Endpoint, thumbprint: str) -> ServedCertificate:
        """A handshake that shows a leaf which that endpoint has not shown yet."""
        made = self.issuers[0].made.get(thumbprint)
        issuer, root = (made.issuer, made.root) if made else ("CN=Sandbox", PUBLIC)
        presented = Presented(
            thumbprint=thumbprint,
            not_after=EPOCH + timedelta(days=90),
            names=(endpoint.hostname,),
            subject="CN=simulated",
            issuer=issuer,
            serial="1",
        )
        leaf = self._leaves[endpoint][thumbprint] = ServedCertificate(
            endpoint=endpoint,
            thumbprint=thumbprint,
            sha256=thumbprint,
            address="203.0.113.1",
            tls_version="TLSv1.3",
            distrust=None if root == PUBLIC else "unable to get local issuer certificate",
            chain=(presented,),
        )
        return leaf

    def version(self, certificate: CertificateId, version: sandbox.Version) -> CertificateVersion:
        """A version as the product reads it from Key Vault."""
        key = (version.id, version.updated, version.enabled)
        if key not in self._versions:
            leaf = version.leaf
            assert isinstance(leaf, LeanLeaf)
            self._versions[key] = CertificateVersion(
                certificate=certificate,
                version=version.id,
                thumbprint=version.thumbprint,
                sha256=version.sha256,
                enabled=version.enabled,
                created=version.created.replace(microsecond=0),
                updated=version.updated.replace(microsecond=0),
                not_before=version.not_before,
                not_after=version.not_after,
                names=leaf.names,
                issuer=leaf.issuer,
                self_signed=leaf.root == ITSELF,
            )
        return self._versions[key]


def kind_of(service: sandbox.Service) -> GatewayKind:
    """Which kind of gateway the product takes a service for."""
    if isinstance(service, Listening):
        return GatewayKind.APPLICATION_GATEWAY
    return GatewayKind.SELF_HOSTED if isinstance(service, Hosted) else GatewayKind.API_MANAGEMENT
