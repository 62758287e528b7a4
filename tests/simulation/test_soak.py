"""R1, R2, R3, R5 in one process, R7 and R9: seeded schedules, judged by an oracle that sees everything."""

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from rotation.model import Mode, Scope, Trigger
from sandbox.world import Hostname
from tests.simulation.loop import EPOCH
from tests.simulation.oracle import Oracle
from tests.simulation.ports import Order
from tests.simulation.schedule import Conditions, build, minutes, of
from tests.simulation.sim import Simulation
from tests.simulation.soak import Result, render, run
from tests.simulation.weather import Trouble

ROOT = Path(__file__).resolve().parents[2]
SCHEDULES = 200
FIRST = 400
"""From here on there is a gateway that is asked as often as the budget allows."""

ONCE_RED = (5675, 21177, 22201, 28321, 34581, 36194, 44710, 71361, 76979, 85621)
"""Of a hundred thousand, those that found something to mend."""

UNITS = (2, 3, 4, 10)
LOOKS = 1000


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """The product's warnings about a ledger that is away: thousands of them here."""
    logger = logging.getLogger("rotation")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


@pytest.fixture(scope="module")
def soaked() -> Result:
    """The schedules, run once."""
    return run([*range(FIRST, FIRST + SCHEDULES), *ONCE_RED])


def test_whatever_goes_wrong_nothing_is_called_wrongly_and_nothing_is_forgotten(
    soaked: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    """Proves R1, R2 and R3; `make soak` does the same with 100,000 schedules."""
    figures = soaked.figures
    with capsys.disabled():
        sys.stdout.write(f"\n{render(soaked)}\n")
    wrong = {
        seed: found for seed, found in soaked.failed.items() if not all(f.startswith("R9") for f in found)
    }

    assert {} == wrong
    assert (0, 0, 0) == (figures.false_in_sync, figures.false_stale, figures.other_unfounded)
    assert 0 == figures.silent
    assert 0 == figures.over_budget
    assert 5 == figures.worst_syncs_in_24_h
    assert SCHEDULES * 100 < figures.judged


def test_the_schedules_that_found_something_are_those_of_the_document() -> None:
    """docs/reliability.md says that they are run here."""
    page = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    named = re.search(r"these ten \(seeds ([^)]*)\)", page)

    assert named
    assert [*ONCE_RED] == [int(seed) for seed in re.findall(r"\d+", named[1])]


def test_nothing_is_asked_before_retry_after_has_passed(soaked: Result) -> None:
    """Proves R9 over the same schedules, whatever ARM has asked for."""
    assert 0 == soaked.figures.before_retry_after


def test_without_any_event_the_timer_syncs_within_ten_minutes() -> None:
    """Proves R7: every event is lost, nothing else is wrong."""
    lost = Conditions(frozenset({Trouble.EVENT_LOST}), every_kind=True, rate=1, deeds=0)
    result = run(range(100), lost)

    assert {} == result.failed
    assert 90 <= len(result.figures.minutes_to_sync)
    assert max(result.figures.minutes_to_sync) <= 10


def test_an_event_brings_the_sync_within_a_minute() -> None:
    """Proves that the simulator delivers events, so that the test above is about their loss."""
    result = run(range(30), Conditions(frozenset(), deeds=0, window=timedelta(hours=1)))

    assert {} == result.failed
    assert max(result.figures.minutes_to_sync) <= 1


def test_the_same_event_a_hundred_times_at_once_is_one_sync() -> None:
    """Proves R5 in one process: a hundred passes over one ledger, interleaved at every call."""
    for seed in range(3):
        sim = Simulation(seed)
        build(sim, 1)
        certificate = next(h.followed for h in sim.world.services[0].hostnames if h.followed)
        sim.reach(EPOCH + timedelta(hours=1))
        sim.renew(certificate)
        order = Order(Trigger.EVENT, scope=Scope(certificate=of(certificate)))
        with closing(sim.loop):
            reports = sim.run([order] * 100, budget=None)

        assert 1 == len(sim.posts)
        assert 100 == sum(report is not None for _, report in reports)


@pytest.mark.parametrize("units", UNITS)
def test_one_old_unit_is_missed_in_less_than_one_look_of_a_hundred(units: int) -> None:
    """Proves the bound of sampling: random units, one of them old, and IN_SYNC said nevertheless."""
    sim = Simulation(units)
    vault = sim.world.add_vault("kv-mine")
    certificate = vault.add_certificate("c", ["h.example"], not_before=EPOCH - timedelta(hours=1))
    service = sim.world.add_service(
        "apim", regions={"West Europe": units}, hostnames=[Hostname("h.example", certificate)]
    )
    service.unit_lag = timedelta(days=30) / (units - 1)
    service.update_duration = minutes(1)
    sim.renew(certificate)
    service.begin_sync()
    sim.reach(EPOCH + timedelta(days=29, hours=12))
    oracle = Oracle(sim)
    with closing(sim.loop):
        for _ in range(LOOKS):
            ((worker, report),) = sim.run([Order(Trigger.HAND, Mode.OBSERVE)])
            oracle.watch(worker, report)
    bound = 0.01 * LOOKS

    assert [] == oracle.violations
    assert LOOKS == oracle.figures.passes
    assert oracle.figures.sampled_missed <= bound + 3 * bound**0.5


def test_the_simulators_memory_agrees_with_the_world() -> None:
    """Proves that what the ports remember between changes is what the world would say."""
    sim = Simulation(7)
    sim.loop.close()
    build(sim, 8)
    for _ in range(200):
        service = sim.random.choice(sim.world.services)
        followed = [h.followed for h in service.hostnames if h.followed]
        if service.updating_until is None and sim.random.random() < 0.3:
            sim.renew(sim.random.choice(followed))
            service.begin_sync()
            sim.changed()
        sim.reach(sim.clock.now() + minutes(sim.random.uniform(0.1, 10)))
        now = sim.clock.now()
        for service in sim.world.services:
            for binding in sim.describe(service).bindings:
                for endpoint in binding.endpoints:
                    _, region = sim.place(endpoint.host)
                    units = sim.units(service, binding.hostname, region)
                    served = [
                        service.served(binding.hostname, region, unit, now).thumbprint
                        for unit in range(len(units))
                    ]

                    assert served == list(units)
