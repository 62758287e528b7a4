"""R10: Application Insights is away for six hours, and workers are killed at its return: nothing is lost."""

import itertools
import logging
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest

from rotation.model import Event
from tests.simulation.loop import EPOCH
from tests.simulation.oracle import TICK
from tests.simulation.ports import Order
from tests.simulation.schedule import build
from tests.simulation.sim import Simulation

AWAY = timedelta(hours=6)
KILLS = range(20)
SETTLED = EPOCH + timedelta(hours=1)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("rotation")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


def one_pass(sim: Simulation, *, dies_at: int | None = None) -> bool:
    """A tick, and the wait for the next; whether the worker has lived through it."""
    ((_, report),) = sim.run([Order()], [dies_at])
    sim.reach(sim.clock.now() + TICK)
    return report is not None


def waiting(sim: Simulation) -> dict[str, Event]:
    """What is still to be told."""
    return {event.event_id: event for row in sim.rows.values() for event in row.outbox}


@pytest.mark.parametrize("kill", KILLS)
def test_what_happened_while_application_insights_was_away_is_told_within_ten_minutes(kill: int) -> None:
    """Proves it with a worker killed in the first pass after the return, each time at another call."""
    sim = Simulation(kill)
    build(sim, 3)
    certificates = [c for vault in sim.world.vaults.values() for c in vault.certificates.values()]
    owed: dict[str, Event] = {}
    with closing(sim.loop):
        while sim.clock.now() < SETTLED:
            one_pass(sim)
        sim.go_away("insights")
        for number, certificate in enumerate(certificates):
            deed = (certificate.renew, certificate.disable, certificate.delete)[(kill + number) % 3]
            sim.at(SETTLED + timedelta(hours=number % 5), deed)
        while sim.clock.now() < SETTLED + AWAY:
            one_pass(sim)
            owed |= waiting(sim)
        back = sim.clock.now()
        sim.come_back("insights")
        lived = one_pass(sim, dies_at=2 + kill)
        while waiting(sim):
            one_pass(sim)

    assert not lived
    assert {"BLOCKED", "SYNCING"} & {event.properties.get("status") for event in owed.values()}
    assert set() == owed.keys() - sim.told.keys()
    assert max(at for event_id in owed for at in sim.told[event_id][:1]) <= back + 2 * TICK


def test_what_is_told_twice_has_the_same_id() -> None:
    """Proves that a worker killed between telling and striking out does no harm: duplicates can be told."""
    sim = Simulation(1)
    build(sim, 1)
    sim.go_away("insights")
    certificate = next(c for vault in sim.world.vaults.values() for c in vault.certificates.values())
    with closing(sim.loop):
        one_pass(sim)
        certificate.delete()
        one_pass(sim)
        sim.come_back("insights")
        for point in itertools.takewhile(lambda _: not sim.told, itertools.count(1)):
            one_pass(sim, dies_at=point)
        while waiting(sim):
            one_pass(sim)

    assert {2} == {len(times) for times in sim.told.values()}
