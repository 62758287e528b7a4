"""48 virtual hours made from a seed: a world, what people do to it, and what goes wrong on the way.

Faults end after a day at the latest, mostly earlier; then everything must come to rest.
"""

import heapq
import itertools
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from rotation.model import CertificateId, Mode, Scope, Trigger
from sandbox import world as sandbox
from sandbox.application_gateway import Backend
from tests.simulation.hosted import Hosted
from tests.simulation.issuers import ITSELF, PUBLIC, LeanLeaf
from tests.simulation.listening import Listening, backends
from tests.simulation.loop import EPOCH
from tests.simulation.oracle import PATIENCE, TICK, Figures, Oracle
from tests.simulation.ports import Order
from tests.simulation.sim import Simulation
from tests.simulation.weather import Trouble

LENGTH = timedelta(hours=48)
HOSTED, LISTENING = 0.2, 0.2
"""The shares of certificate entities and of Application Gateways among what is synced."""

BEHIND = 0.3
"""The share of services that an Application Gateway stands in front of."""

REGIONS = ("West Europe", "East US", "Japan East")
RATES = (0.02, 0.05, 0.1, 0.2, 0.3)
WINDOW_HOURS = (1, 2, 3, 4, 6, 8, 12, 24)
WINDOW_WEIGHTS = (6, 10, 10, 8, 6, 4, 1, 1)
ISSUER_WEIGHTS = (60, 15, 10, 10, 5, 0)
"""Of a first version: the public authority, the private ones, none that signs itself."""

DEEDS_IN_A_SCHEDULE = (0, 0, 1, 1, 2, 3, 5, 8)
LONGEST_DISTURBANCE = 180.0
RECENT_DEEDS = 4000

Deed = Callable[[], object]


def minutes(number: float) -> timedelta:
    """A span in the unit that most of this is about."""
    return timedelta(minutes=number)


def of(certificate: sandbox.Certificate) -> CertificateId:
    """The product's name for a certificate."""
    return CertificateId(certificate.vault.host, certificate.name)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a schedule may contain; what is None is left to the seed.

    `kinds` are the troubles to choose from, or to have all of where `every_kind`; `deeds` how many things
    are done to the world beside one renewal; `services` how many there are.
    """

    kinds: frozenset[Trouble] = frozenset(Trouble)
    every_kind: bool = False
    rate: float | None = None
    window: timedelta | None = None
    deeds: int | None = None
    services: int | None = None


ANYTHING = Conditions()


@dataclass(slots=True)
class Outcome:
    """What became of a schedule."""

    seed: int
    figures: Figures
    violations: list[str]
    story: list[str]


class Schedule:
    """One seed's 48 hours.

    Args:
        seed: everything follows from it.
        conditions: what may happen.
        tell: whether to write the story down.
    """

    def __init__(self, seed: int, conditions: Conditions = ANYTHING, *, tell: bool = False) -> None:
        self.seed = seed
        self.sim = sim = Simulation(seed)
        self.random = random = sim.random
        self.oracle = Oracle(sim)
        sim.story = [] if tell else None
        window = conditions.window or timedelta(hours=random.choices(WINDOW_HOURS, WINDOW_WEIGHTS)[0])
        self.end = EPOCH + window
        kinds = sorted(conditions.kinds)
        sim.kinds = frozenset(k for k in kinds if conditions.every_kind or random.random() < 0.5)
        sim.rate = random.choice(RATES) if conditions.rate is None else conditions.rate
        sim.round_robin = random.random() < 0.3
        sim.lags = random.random() < 0.5
        sim.opaque_etags = random.random() < 0.5
        sim.retries_writes = sim.opaque_etags and random.random() < 0.5
        sim.skew = minutes(random.choice((0, 0, -10, -3, 3, 10)))
        self._sequence = itertools.count()
        self._deliveries: list[tuple[datetime, int, Order]] = []
        build(sim, conditions.services or random.choices((1, 2, 3, 8, 50), (70, 20, 8, 1.5, 0.15))[0])
        self.certificates = [c for v in sim.world.vaults.values() for c in v.certificates.values()]
        sim.at(self.sometime(), partial(sim.renew, random.choice(self.certificates)))
        number = random.choice(DEEDS_IN_A_SCHEDULE) if conditions.deeds is None else conditions.deeds
        for _ in range(number):
            random.choice(DEEDS)(self)
        if number:
            _cut_off(self)

    def run(self) -> Outcome:
        """All of it."""
        with closing(self.sim.loop):
            self._storm()
            self._calm()
        figures = self.oracle.figures
        figures.schedules = 1
        figures.troubles = sum(self.sim.struck.values())
        return Outcome(self.seed, figures, self.oracle.violations, self.sim.story or [])

    # What the deeds need.

    def sometime(self) -> datetime:
        """A moment of the window."""
        return EPOCH + (self.end - EPOCH) * self.random.random()

    def certificate(self) -> sandbox.Certificate:
        """Any."""
        return self.random.choice(self.certificates)

    def service(self) -> sandbox.Service:
        """Any."""
        return self.random.choice(self.sim.world.services)

    def do(self, what: str, deed: Deed, at: datetime | None = None) -> datetime:
        """Have something done at a moment of the window, and say so."""

        def done() -> None:
            deed()
            self.sim.note(what)

        moment = min(at or self.sometime(), self.end)
        self.sim.at(moment, done)
        return moment

    def do_and_undo(self, what: str, deed: Deed, undone: str, undo: Deed, *, surely: float = 1.0) -> None:
        """Have something done, and mostly undone before the window ends."""
        at = self.do(what, deed)
        if self.random.random() < surely:
            self.do(undone, undo, at + minutes(self.random.uniform(1, LONGEST_DISTURBANCE)))

    def order(self, order: Order, at: datetime) -> None:
        """Have a pass run at a moment."""
        heapq.heappush(self._deliveries, (at, next(self._sequence), order))

    # The two days.

    def _storm(self) -> None:
        """Ticks and events while things go wrong; a tick may meet an event, or another tick."""
        sim = self.sim
        tick = EPOCH + minutes(self.random.uniform(0, 5))
        while True:
            due = min(tick, self._deliveries[0][0]) if self._deliveries else tick
            if sim.agenda and sim.agenda[0][0] <= min(due, self.end):
                sim.reach(sim.agenda[0][0])
                self._take_events()
                continue
            if due >= self.end:
                break
            sim.reach(due)
            orders = []
            if tick <= due:
                orders.append(Order())
                tick = tick + TICK
            while self._deliveries and self._deliveries[0][0] <= sim.clock.now():
                orders.append(heapq.heappop(self._deliveries)[2])
            if sim.strikes(Trouble.RACE):
                orders.append(self.random.choice(orders))
            self._run(orders)
            tick = max(tick, sim.clock.now())
        sim.calm = True
        sim.note("from now on all goes well")

    def _calm(self) -> None:
        """Ticks until nothing changes any more, then now and then: a world at rest stays as it is."""
        sim, oracle = self.sim, self.oracle
        sorted_out = False
        while sim.clock.now() < EPOCH + LENGTH:
            self._run([Order()])
            since = sim.clock.now() - sim.last_trouble
            if not oracle.figures.minutes_to_proven and oracle.all_proven():
                oracle.figures.minutes_to_proven.append(max(0, since / minutes(1)))
            if since > PATIENCE:
                if not sorted_out:
                    oracle.sort_out()
                    sorted_out = True
                oracle.watch_silence()
                sim.reach(sim.clock.now() + oracle.nothing_happens_for())
            else:
                rest = oracle.nothing_happens_for()
                sim.reach(sim.clock.now() + min(rest, max(TICK, PATIENCE - since + TICK)))
        oracle.last_look()
        oracle.nothing_is_owed()

    def _run(self, orders: Sequence[Order]) -> None:
        sim = self.sim
        at_once = len(orders) > 1 and Trouble.RACE in sim.kinds
        for together in [orders] if at_once else [[order] for order in orders]:
            deaths = [self.random.randrange(1, 45) if sim.strikes(Trouble.KILL) else None for _ in together]
            for worker, report in sim.run(together, deaths):
                self.oracle.watch(worker, report)
        self._take_events()

    def _take_events(self) -> None:
        """Event Grid: at least once, or late, or, where nobody listens, never."""
        sim = self.sim
        while sim.world.events:
            certificate = sim.world.events.popleft().version.certificate
            if sim.strikes(Trouble.EVENT_LOST):
                continue
            order = Order(Trigger.EVENT, scope=Scope(certificate=of(certificate)))
            for _ in range(2 if sim.strikes(Trouble.EVENT_TWICE) else 1):
                late = self.random.uniform(0, 360) if sim.strikes(Trouble.EVENT_LATE) else 0.2
                self.order(order, sim.clock.now() + minutes(late))


def build(sim: Simulation, services: int) -> None:
    """Services with one to three hostnames, one to three regions, mostly few units, in one or two vaults.

    Now and then a certificate entity of self-hosted gateways, or an Application Gateway, in the place of a
    service, or an Application Gateway in front of one.
    """
    random, world = sim.random, sim.world
    for name in ("kv-mine", "kv-other"):
        world.add_vault(name)
    world.disabled_certificate_answers = random.choice((200, 403))
    shared: list[sandbox.Certificate] = []
    for number in range(services):
        regions = REGIONS[: random.choices((1, 2, 3), (7, 2, 1))[0]]
        kind = random.random()
        if kind < HOSTED + LISTENING:
            (_host if kind < HOSTED else _listen)(sim, shared, number, regions)
            continue
        units = random.choices((1, 2, 3, 4, 10), (25, 45, 15, 12, 3))[0]
        hostnames = []
        for position in range(random.choices((1, 2, 3), (7, 2, 1))[0]):
            name = f"h{position}.s{number}.example"
            certificate = _certificate(sim, shared, f"c{number}-{position}", name)
            hostnames.append(_hostname(sim, certificate, name, position))
        service = world.add_service(
            f"apim-{number}",
            regions={
                region: random.choice((1, units)) if region != regions[0] else units for region in regions
            },
            hostnames=hostnames,
            subscription_id=f"00000000-0000-0000-0000-00000000000{number % 3}",
        )
        service.update_duration = minutes(random.choice((1, 8, 15, 20)))
        service.unit_lag = minutes(random.choice((0, 1, 3)))
        service.lag = {region: minutes(random.choice((0, 0, 3))) for region in regions}
        service.sets_updating = random.random() < 0.8
        service.configured_when = random.choice(("at_once", "update_ends"))
        service.accepts_with = random.choice((200, 202, 202))
        service.one_failure_fails_all = random.random() < 0.7
        service.offers_sync = random.random() < 0.97
        service.self_sync_after = random.choice((None, None, None, timedelta(hours=4)))
        if random.random() < BEHIND:
            _listen(sim, shared, number, regions, behind=service)


def _listen(
    sim: Simulation,
    shared: list[sandbox.Certificate],
    number: int,
    _: Sequence[str],
    *,
    behind: sandbox.Service | None = None,
) -> None:
    """An Application Gateway with one or two listeners, which may lead to a hostname of a service.

    It believes what is issued under the root of what that hostname has now.
    """
    random, hostnames = sim.random, []
    for position in range(random.choices((1, 2), (7, 3))[0]):
        name = f"l{position}.s{number}.example"
        certificate = _certificate(sim, shared, f"l{number}-{position}", name)
        pinned = certificate.newest if position and random.random() < 0.1 else None
        hostnames.append(sandbox.Hostname(name, certificate, pinned_version=pinned))
    backends = []
    if behind:
        backed = next(h for h in behind.hostnames if h.type == "Proxy")
        assert backed.certificate
        leaf = backed.certificate.newest.leaf
        assert isinstance(leaf, LeanLeaf)
        roots = () if leaf.root == PUBLIC else (leaf.root,)
        backends.append(Backend(behind, behind.builtin_host, backed.host_name, roots))
    service = Listening(
        sim.world,
        f"agw-{number}",
        instances=random.choice((1, 2, 2, 4)),
        hostnames=hostnames,
        subscription_id=f"00000000-0000-0000-0000-00000000000{number % 3}",
        backends=backends,
    )
    service.gateway.switches.looks_when_tagged = random.random() < 0.7
    service.gateway.switches.polls = random.random() < 0.95
    service.advised = random.random() < 0.7
    service.offers_sync = random.random() < 0.97
    sim.world.services.append(service)


def _host(sim: Simulation, shared: list[sandbox.Certificate], number: int, replicas: Sequence[str]) -> None:
    """An entity with one or two hostnames, and replicas in the place of regions."""
    certificate = _certificate(sim, shared, f"c{number}-0", f"h0.s{number}.example")
    names = [
        name
        for name in (f"h0.s{number}.example", f"h1.s{number}.example")
        if name in certificate.newest.leaf.names
    ]
    service = Hosted(
        sim.world,
        f"apim-{number}",
        number=len(sim.world.services),
        regions=dict.fromkeys(replicas, 1),
        sku="Premium",
        hostnames=[sandbox.Hostname(name, certificate) for name in names or [f"h0.s{number}.example"]],
        subscription_id=f"00000000-0000-0000-0000-00000000000{number % 3}",
        resource_group="rg-apim",
        virtual_network_type="None",
        tags={},
    )
    service.offers_sync = sim.random.random() < 0.97
    service.self_sync_after = sim.random.choice((None, None, None, timedelta(hours=4)))
    sim.world.services.append(service)


def _certificate(
    sim: Simulation, shared: list[sandbox.Certificate], name: str, hostname: str
) -> sandbox.Certificate:
    """A certificate of its own, or the wildcard that several services share."""
    if shared and sim.random.random() < 0.2:
        return sim.random.choice(shared)
    vault = sim.world.vaults[sim.random.choice(("kv-mine", "kv-mine", "kv-other"))]
    names = [hostname] if sim.random.random() < 0.7 else [f"*.s{n}.example" for n in range(50)]
    issuer = sim.random.choices(sim.issuers, ISSUER_WEIGHTS)[0]
    certificate = vault.add_certificate(name, names, not_before=EPOCH - timedelta(hours=1), issuer=issuer)
    sim.issuer_of[certificate] = issuer
    certificate.versions[0].created -= timedelta(days=60)
    certificate.versions[0].enabling = sandbox.Timeline(_Past(), value=True)
    if len(names) > 1:
        shared.append(certificate)
    return certificate


class _Past(sandbox.Clock):
    """Before all this."""

    def __init__(self) -> None:
        """Nothing to be started."""

    def now(self) -> datetime:
        return EPOCH - timedelta(days=60)


def _hostname(
    sim: Simulation, certificate: sandbox.Certificate, name: str, position: int
) -> sandbox.Hostname:
    """Mostly one that follows its certificate; now and then a pinned, a managed or a portal's."""
    roll = sim.random.random()
    if position and roll < 0.05:
        return sandbox.Hostname(name, certificate, pinned_version=certificate.newest)
    if position and roll < 0.1:
        return sandbox.Hostname(name, managed=True)
    return sandbox.Hostname(name, certificate, type="DeveloperPortal" if position and roll < 0.2 else "Proxy")


def _renew(schedule: Schedule) -> None:
    schedule.sim.at(schedule.sometime(), partial(schedule.sim.renew, schedule.certificate()))


def _renew_twice(schedule: Schedule) -> None:
    certificate, at = schedule.certificate(), schedule.sometime()
    again = min(schedule.end, at + minutes(schedule.random.uniform(1, 40)))
    for moment in (at, again):
        schedule.sim.at(moment, partial(schedule.sim.renew, certificate))


def _renew_briefly(schedule: Schedule) -> None:
    days = schedule.random.choice((1 / 12, 0.5, 1.5))
    schedule.sim.at(schedule.sometime(), partial(schedule.sim.renew, schedule.certificate(), days=days))


def _change_issuer(schedule: Schedule) -> None:
    """Renewed by another authority; who stands in front is given its root afterwards, or never.

    Or before, where it has roots of its own: beside them one more does no harm.
    """
    sim, at = schedule.sim, schedule.sometime()
    believed = [backend.service.hostname(backend.hostname) for _, backend in backends(sim.world)]
    certificates = [hostname.certificate for hostname in believed if hostname and hostname.certificate]
    certificate = schedule.random.choice(certificates or schedule.certificates)
    issuer = schedule.random.choice(sim.issuers)

    def renew() -> None:
        sim.issuer_of[certificate] = issuer
        sim.renew(certificate)

    sim.at(at, renew)
    for service in sim.world.services:
        if isinstance(service, Listening) and service.leads_to(certificate) and issuer.root != ITSELF:
            early = 60 if issuer.root != PUBLIC and service.gateway.backends[0].roots else 0
            moment = max(EPOCH, at + minutes(schedule.random.uniform(-early, LONGEST_DISTURBANCE)))
            if schedule.random.random() < 0.5:
                schedule.do(f"{service.name} is given a root", partial(service.trust, issuer.root), moment)


def _roll_back(schedule: Schedule) -> None:
    schedule.sim.at(schedule.sometime(), partial(schedule.sim.roll_back, schedule.certificate()))


def _disable(schedule: Schedule) -> None:
    it = schedule.certificate()
    disabled, enabled = f"{it.name} is disabled", f"{it.name} is enabled"
    schedule.do_and_undo(disabled, it.disable, enabled, it.enable, surely=0.8)


def _delete(schedule: Schedule) -> None:
    it = schedule.certificate()
    deleted, recovered = f"{it.name} is deleted", f"{it.name} is recovered"
    schedule.do_and_undo(deleted, it.delete, recovered, it.recover, surely=0.8)


def _lock_out(schedule: Schedule) -> None:
    service = schedule.service()

    def let(*, allowed: bool) -> None:
        service.identity_can_read_vault = allowed

    lost, found = f"{service.name} may not read its vault", f"{service.name} may read its vault"
    schedule.do_and_undo(lost, partial(let, allowed=False), found, partial(let, allowed=True), surely=0.9)


def _take_down(schedule: Schedule) -> None:
    service = schedule.service()
    region = schedule.random.choice(list(service.regions))
    where = f"{service.name} in {region}"
    down, up = partial(service.down.add, region), partial(service.down.discard, region)
    schedule.do_and_undo(f"{where} is down", down, f"{where} is up", up)


def _cut_off(schedule: Schedule) -> None:
    hosted = [service for service in schedule.sim.world.services if isinstance(service, Hosted)]
    if not hosted:
        return
    service = schedule.random.choice(hosted)
    replica = schedule.random.choice(list(service.regions))
    where = f"{replica} of {service.name}"
    cut, back = partial(service.gateway.cut_off, replica), partial(service.gateway.connect, replica)
    schedule.do_and_undo(f"{where} is cut off", cut, f"{where} is connected", back, surely=0.9)


def _answer_instead(schedule: Schedule) -> None:
    service = schedule.service()
    name = schedule.random.choice(service.hostnames).host_name
    other = schedule.sim.world.ca.issue([name])
    stands, goes = partial(service.instead.update, {name: other}), partial(service.instead.pop, name, None)
    schedule.do_and_undo(f"another answers for {name}", stands, f"no other answers for {name}", goes)


def _keep_busy(schedule: Schedule) -> None:
    service, span = schedule.service(), minutes(schedule.random.uniform(5, 40))
    at = min(schedule.sometime(), schedule.end - span)
    schedule.do(f"{service.name} is busy", partial(service.begin_foreign_update, span), at)
    schedule.do(f"{service.name} is idle", lambda: None, at + span)


def _wipe(schedule: Schedule) -> None:
    schedule.sim.at(schedule.sometime(), schedule.sim.wipe_ledger)


def _by_hand(schedule: Schedule) -> None:
    mode, at = schedule.random.choice((Mode.FORCE, Mode.OBSERVE)), schedule.sometime()
    for number in range(schedule.random.choice((1, 1, 4))):
        order = Order(Trigger.HAND, mode, Scope(gateway_id=schedule.service().id))
        schedule.order(order, at + minutes(number * 3))


def _outage(schedule: Schedule) -> None:
    places = ("arm", "ledger", "insights", "kv-mine.vault.azure.net")
    sim, what = schedule.sim, schedule.random.choice(places)
    away, back = partial(sim.go_away, what), partial(sim.come_back, what)
    schedule.do_and_undo(f"{what} is away", away, f"{what} is back", back)


DEEDS: tuple[Callable[[Schedule], None], ...] = (
    *(_renew, _renew, _renew_twice, _renew_briefly, _roll_back, _disable, _delete, _lock_out, _take_down),
    *(_answer_instead, _keep_busy, _wipe, _by_hand, _outage, _change_issuer, _change_issuer),
)
