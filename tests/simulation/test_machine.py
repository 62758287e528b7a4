"""The whole path under hypothesis: whatever order things happen in, the invariants I1 to I12 hold.

I8, that no alert is lost, is the outbox's, which is beyond `reconcile`; its own tests hold it.
"""

import logging
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from rotation.model import Mode, Scope, Trigger
from rotation.verdict import Limits, judge
from sandbox import world as sandbox
from tests.simulation.oracle import PATIENCE, TICK, Oracle
from tests.simulation.ports import Order
from tests.simulation.schedule import build, of
from tests.simulation.sim import Simulation
from tests.simulation.weather import Trouble

WHICH = st.integers(0, 1)
FAIR = frozenset[Trouble]()

WEATHER = st.one_of(st.just(FAIR), st.frozensets(st.sampled_from(sorted(Trouble)), max_size=3))
DIES_AT = st.one_of(st.none(), st.none(), st.integers(1, 40))


class TheWhole(RuleBasedStateMachine):
    """Two services, and everything that may happen to them."""

    @initialize(seed=st.integers(0, 10_000), sets_updating=st.booleans())
    def begin(self, seed: int, sets_updating: bool) -> None:
        """A world of its own for each example."""
        self.sim = Simulation(seed)
        build(self.sim, 2)
        for service in self.sim.world.services:
            service.sets_updating = sets_updating
        self.oracle = Oracle(self.sim)
        self.sim.rate = 0.5

    # What happens in the world.

    @rule(which=WHICH)
    def renew(self, which: int) -> None:
        """A new version."""
        self.sim.renew(self.certificate(which))

    @rule(which=WHICH, minutes=st.integers(1, 30))
    def renew_in_mid_rollout(self, which: int, minutes: int) -> None:
        """A version, a pass that asks for it, and the next version before it has arrived."""
        self.sim.renew(self.certificate(which))
        self.run(Order())
        self.sim.reach(self.sim.clock.now() + timedelta(minutes=minutes))
        self.sim.renew(self.certificate(which))

    @rule(which=WHICH)
    def roll_back(self, which: int) -> None:
        """An earlier leaf as a new version."""
        self.sim.roll_back(self.certificate(which))

    @rule(which=WHICH, enable=st.booleans())
    def disable_or_enable(self, which: int, enable: bool) -> None:
        """The newest version."""
        certificate = self.certificate(which)
        (certificate.enable if enable else certificate.disable)()
        self.sim.note("enabled" if enable else "disabled")

    @rule(which=WHICH, recover=st.booleans())
    def delete_or_recover(self, which: int, recover: bool) -> None:
        """The certificate."""
        certificate = self.certificate(which)
        (certificate.recover if recover else certificate.delete)()
        self.sim.note("recovered" if recover else "deleted")

    @rule(which=WHICH, allowed=st.booleans())
    def lose_or_find_the_right_to_read(self, which: int, allowed: bool) -> None:
        """A gateway's identity."""
        self.sim.world.services[which].identity_can_read_vault = allowed
        self.sim.note("may read" if allowed else "may not read")

    @rule(which=WHICH)
    def a_region_goes_down_or_comes_up(self, which: int) -> None:
        """The last one."""
        service = self.sim.world.services[which]
        service.down ^= {[*service.regions][-1]}
        self.sim.note("region flipped")

    @rule(minutes=st.sampled_from([1, 5, 5, 20, 30, 60, 240, 1440]))
    def time_goes_by(self, minutes: int) -> None:
        """Without any pass."""
        self.sim.reach(self.sim.clock.now() + timedelta(minutes=minutes))

    @rule(minutes=st.sampled_from([-10, 0, 10]))
    def the_app_s_own_clock_jumps(self, minutes: int) -> None:
        """It is asked only where ARM's is not known."""
        self.sim.skew = timedelta(minutes=minutes)

    @rule()
    def the_ledger_is_wiped(self) -> None:
        """F24."""
        self.sim.wipe_ledger()

    # What runs.

    @rule(weather=WEATHER, dies_at=DIES_AT)
    def a_tick(self, weather: frozenset[Trouble], dies_at: int | None) -> None:
        """The timer, in whatever weather, to whatever point."""
        self.run(Order(), weather=weather, dies_at=dies_at)

    @rule(weather=WEATHER, number=st.integers(2, 3))
    def several_at_once(self, weather: frozenset[Trouble], number: int) -> None:
        """Timers that overlap, or an event and a timer."""
        self.run(*[Order()] * number, weather=weather)

    @rule(which=WHICH, weather=WEATHER, dies_at=DIES_AT)
    def an_event(self, which: int, weather: frozenset[Trouble], dies_at: int | None) -> None:
        """Late, doubled, out of order or of nothing new: it only says where to look."""
        self.run(self.event(which), weather=weather, dies_at=dies_at)

    @rule(which=WHICH)
    def an_event_twice_in_a_row(self, which: int) -> None:
        """I9: the second one changes nothing."""
        self.run(self.event(which))
        before = len(self.sim.posts)
        self.run(self.event(which))

        assert before == len(self.sim.posts), "I9: a doubled event has led to a second sync"

    @rule(which=WHICH, weather=WEATHER)
    def by_hand(self, which: int, weather: frozenset[Trouble]) -> None:
        """Forced."""
        self.run(Order(Trigger.HAND, Mode.FORCE, self.scope(which)), weather=weather)

    @rule(which=WHICH, weather=WEATHER)
    def a_dry_run(self, which: int, weather: frozenset[Trouble]) -> None:
        """I10: nothing is written, nothing asked for."""
        posts, rows = len(self.sim.posts), dict(self.sim.rows)
        self.run(Order(Trigger.HAND, Mode.OBSERVE, self.scope(which)), weather=weather)

        assert (posts, rows) == (len(self.sim.posts), self.sim.rows), "I10: a dry run has written"

    # What always holds.

    @invariant()
    def nothing_is_wrong(self) -> None:
        """What the oracle watches after every pass.

        I1 in sync only where all is seen, I2 stale only from what is seen, I3 the budget, I4 one sync in
        flight, I5 nothing out of scope, I6 nothing before its time, I10 dry runs, I11 attempts.
        """
        assert [] == self.oracle.violations

    def teardown(self) -> None:
        """I7: when all is well again, an hour later everything is proven, or somebody is told."""
        if not hasattr(self, "sim"):
            return
        try:
            self.mend()
            for _ in range(int(PATIENCE / TICK) + 3):
                self.run(Order())
                self.sim.reach(self.sim.clock.now() + TICK)
            self.oracle.watch_silence()
            assert [] == self.oracle.violations
        finally:
            self.sim.loop.close()

    def mend(self) -> None:
        """Everything as it should be."""
        for vault in self.sim.world.vaults.values():
            for certificate in vault.certificates.values():
                certificate.enable()
                certificate.recover()
        for service in self.sim.world.services:
            service.identity_can_read_vault = True
            service.down.clear()
        self.sim.note("all is well")

    # How.

    def run(self, *orders: Order, weather: frozenset[Trouble] = FAIR, dies_at: int | None = None) -> None:
        """Passes at once, judged by the oracle, and judged again."""
        self.sim.kinds = weather
        for worker, report in self.sim.run(orders, [dies_at]):
            self.oracle.watch(worker, report)
            for verdict in report.verdicts if report else ():
                assert report
                again = judge(verdict.evidence, report.run.now, Limits())
                assert again == verdict, "I12: the same evidence, another verdict"
        self.sim.kinds = FAIR
        self.sim.world.events.clear()

    def certificate(self, which: int) -> sandbox.Certificate:
        """Of one of the services."""
        return next(h.certificate for h in self.sim.world.services[which].hostnames if h.certificate)

    def event(self, which: int) -> Order:
        """About one of the certificates."""
        return Order(Trigger.EVENT, scope=Scope(certificate=of(self.certificate(which))))

    def scope(self, which: int) -> Scope:
        """One of the services."""
        return Scope(gateway_id=self.sim.world.services[which].id)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """The product's warnings about a ledger that is away: thousands of them here."""
    logger = logging.getLogger("rotation")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


def test_the_invariants_hold_whatever_happens_in_whatever_order() -> None:
    """Proves I1 to I7 and I9 to I12 over made-up histories, each shrunk where it fails."""
    fast = settings(max_examples=250, stateful_step_count=40, derandomize=True, deadline=None, database=None)
    run_state_machine_as_test(TheWhole, settings=fast)
