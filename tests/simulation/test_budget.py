"""A pass ends in time with a report, whichever of the ports it waits for never answers."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest

from rotation.model import (
    CertificateId,
    CertificateUnreadable,
    CertificateVersion,
    Choice,
    Gateway,
    GatewayKind,
    Inventory,
    LedgerRow,
    Mode,
    Reason,
    Report,
    Scope,
    Shard,
    Status,
    SyncAnswer,
    SyncOutcome,
    Trigger,
)
from rotation.reconcile import PASS_BUDGET, SYNCS_AT_ONCE, World, reconcile
from sandbox.world import Hostname
from tests.simulation.loop import EPOCH
from tests.simulation.ports import EVENT_PASS, Order, SimGateways, SimLedger, SimVaults, Worker, ports
from tests.simulation.sim import Simulation

FOR_EVER = timedelta(days=1).total_seconds()


class DeafGateways(SimGateways):
    """ARM that never answers to one kind of request."""

    def __init__(self, worker: Worker, to: str) -> None:
        super().__init__(worker)
        self._to = to

    async def discover(self, shard: Shard | None = None) -> Inventory:
        """As its parent, unless deaf to it."""
        await asyncio.sleep(FOR_EVER * (self._to == "discover"))
        return await super().discover(shard)

    async def sync(self, gateway: Gateway) -> SyncAnswer:
        """As its parent, and then no answer, if deaf to it."""
        answer = await super().sync(gateway)
        await asyncio.sleep(FOR_EVER * (self._to == "sync"))
        return answer


class DeafVaults(SimVaults):
    """Key Vault that never answers."""

    async def current(self, certificate: CertificateId) -> CertificateVersion | CertificateUnreadable:
        """Some day."""
        await asyncio.sleep(FOR_EVER)
        return await super().current(certificate)


class DeafLedger(SimLedger):
    """A ledger that never answers to a read."""

    async def read(self, gateway_keys: Iterable[str]) -> dict[str, LedgerRow]:
        """Some day."""
        await asyncio.sleep(FOR_EVER)
        return await super().read(gateway_keys)


def stale(services: int = 1) -> tuple[Simulation, Worker, World]:
    """Gateways that a pass would sync."""
    sim = Simulation(1)
    certificate = sim.world.add_vault("kv-mine").add_certificate(
        "c", ["h.example"], not_before=EPOCH - timedelta(hours=1)
    )
    for number in range(services):
        sim.world.add_service(f"apim-{number}", hostnames=[Hostname("h.example", certificate)])
    sim.reach(EPOCH + timedelta(hours=1))
    sim.renew(certificate)
    worker = Worker(sim, "a worker", Order(), None, None)
    return sim, worker, replace(ports(worker), event_budget=EVENT_PASS)


def look(sim: Simulation, world: World, trigger: Trigger) -> tuple[Report, timedelta]:
    """A pass, and how long it took."""
    began = sim.clock.now()
    with closing(sim.loop):
        (report,) = sim.loop.drive([reconcile(world, Scope(), Mode.REPAIR, trigger)])
    assert isinstance(report, Report)
    return report, sim.clock.now() - began


BUDGETS = [(Trigger.EVENT, EVENT_PASS), (Trigger.TIMER, PASS_BUDGET)]


@pytest.mark.parametrize(("trigger", "budget"), BUDGETS)
def test_a_list_that_never_comes_is_a_problem(trigger: Trigger, budget: timedelta) -> None:
    """Proves that a hanging ARM is reported, and is not a fleet of none that is well."""
    sim, worker, world = stale()
    report, took = look(
        sim, replace(world, kinds={GatewayKind.API_MANAGEMENT: DeafGateways(worker, "discover")}), trigger
    )

    assert took < budget
    assert (
        "The gateways (ApiManagement) were not listed in time; the next pass tries again.",
    ) == report.problems


@pytest.mark.parametrize(("trigger", "budget"), BUDGETS)
def test_a_kind_whose_list_never_comes_does_not_hide_the_others(trigger: Trigger, budget: timedelta) -> None:
    """Proves that gateways of another kind are judged and synced, and that the report says so."""
    sim, worker, world = stale()
    deaf = {**world.kinds, GatewayKind.SELF_HOSTED: DeafGateways(worker, "discover")}
    report, took = look(sim, replace(world, kinds=deaf), trigger)

    assert took < budget
    assert [Choice.SYNC] == [decision.choice for decision in report.decisions]
    assert report.problems[0].startswith("The gateways (SelfHostedGateway) were not listed in time")


@pytest.mark.parametrize(("trigger", "budget"), BUDGETS)
def test_a_vault_that_never_answers_makes_its_hostnames_unknown(trigger: Trigger, budget: timedelta) -> None:
    """Proves that no answer is no proof."""
    sim, worker, world = stale()
    report, took = look(sim, replace(world, certificates=DeafVaults(worker)), trigger)

    assert took < budget
    assert [(Status.UNKNOWN, Reason.VAULT_UNREADABLE)] == [(v.status, v.reason) for v in report.verdicts]


@pytest.mark.parametrize(("trigger", "budget"), BUDGETS)
def test_a_ledger_that_never_answers_stops_syncs_only(trigger: Trigger, budget: timedelta) -> None:
    """Proves that verdicts go on: open for information, closed for actions."""
    sim, worker, world = stale()
    report, took = look(sim, replace(world, ledger=DeafLedger(worker)), trigger)

    assert took < budget
    assert [Status.STALE] == [v.status for v in report.verdicts]
    assert [Choice.LEDGER_UNAVAILABLE] == [d.choice for d in report.decisions]
    assert ("The attempt ledger did not answer in time, so nothing is synced.",) == report.problems


@pytest.mark.parametrize(("trigger", "budget"), BUDGETS)
def test_a_sync_that_is_never_answered_counts_and_the_rest_is_left(
    trigger: Trigger, budget: timedelta
) -> None:
    """Proves that hanging requests do not keep a hundred others waiting beyond the budget."""
    sim, worker, world = stale(services=SYNCS_AT_ONCE + 5)
    report, took = look(
        sim, replace(world, kinds={GatewayKind.API_MANAGEMENT: DeafGateways(worker, "sync")}), trigger
    )
    outcomes = [d.answer.outcome for d in report.decisions if d.answer]
    choices = [d.choice for d in report.decisions]

    assert took < budget
    assert [SyncOutcome.UNKNOWN] * SYNCS_AT_ONCE == outcomes
    assert [Choice.OUT_OF_TIME] * 5 == [c for c in choices if c is not Choice.SYNC]
    assert SYNCS_AT_ONCE == sum(row.attempts for row in sim.rows.values())


def test_what_vanishes_is_noticed_and_after_a_week_forgotten() -> None:
    """Proves the alert on a shrinking inventory, and that the ledger is cleared of what is gone."""
    sim, _, _ = stale(services=5)

    def problems() -> Sequence[str]:
        ((_, report),) = sim.run([Order()])
        assert report
        return report.problems

    with closing(sim.loop):
        assert () == problems()
        gone = [sim.world.services.pop(), sim.world.services.pop()]
        first = problems()
        sim.reach(sim.clock.now() + timedelta(days=6))
        still = problems()
        sim.reach(sim.clock.now() + timedelta(days=2))
        problems()
        after = problems()

    assert 1 == len(first)
    assert "2 of 5 known gateways are no longer listed (apim-3, apim-4)" in first[0]
    assert first == still
    assert () == after
    assert {s.id.lower() for s in gone}.isdisjoint(sim.rows)
    assert 3 == len([key for key in sim.rows if "/providers/" in key])
