"""Events by the hundred, forged or doubled: few passes, and nothing that is announced is missed."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from rotation.model import CertificateId, Scope
from rotation.turns import AT_ONCE, Turns
from sandbox.stage import Stage
from sandbox.world import Hostname, World
from tests.scenarios.test_doors import event


def scope(name: str = "contoso-com") -> Scope:
    """What an event is about."""
    return Scope(certificate=CertificateId("kv-contoso.vault.azure.net", name))


async def crowd(turns: Turns, number: int, *names: str) -> list[bool]:
    """So many events for each of these at once: which of them looked."""
    most, now = 0, 0

    async def heed(name: str) -> bool:
        nonlocal most, now
        async with turns.turn(scope(name), 5) as mine:
            if mine:
                now += 1
                most = max(most, now)
                await asyncio.sleep(0.01)
                now -= 1
            return mine

    looked = await asyncio.gather(*(heed(name) for _ in range(number) for name in names))
    assert most <= min(len(names), AT_ONCE)
    return looked


def test_one_looks_and_one_waits_for_all_the_others() -> None:
    """The one that waits begins after the last event came, so it sees what that was about."""
    turns = Turns()

    assert 2 == sum(asyncio.run(crowd(turns, 200, "contoso-com")))
    assert {} == turns._running


def test_many_certificates_take_turns() -> None:
    """Made-up names are not more work at a time than so many."""
    names = [f"name-{n}" for n in range(3 * AT_ONCE)]
    turns = Turns()

    looked = sum(asyncio.run(crowd(turns, 3, *names)))

    assert 2 * AT_ONCE + len(names) - AT_ONCE == looked  # where none had begun, one does for all three
    assert {} == turns._running


def test_an_event_during_a_pass_leads_to_another_one() -> None:
    """What was announced after the pass had read the vault is not lost."""

    async def story() -> list[str]:
        turns, told = Turns(), list[str]()

        async def look(name: str) -> None:
            async with turns.turn(scope(), 5) as mine:
                told.append(f"{name} began" if mine else f"{name} left it")
                await asyncio.sleep(0.02 if mine else 0)

        first = asyncio.create_task(look("first"))
        await asyncio.sleep(0.01)
        await asyncio.gather(look("second"), look("third"), first)
        await look("fourth")
        return told

    assert ["first began", "third left it", "second began", "fourth began"] == asyncio.run(story())


def test_who_waits_too_long_is_left_to_the_timer() -> None:
    """Event Grid's patience is thirty seconds; the place is free again for the next event."""

    async def story() -> None:
        turns = Turns()
        async with turns.turn(scope(), 5):
            with pytest.raises(TimeoutError):
                async with turns.turn(scope(), 0.01):
                    pass
        async with turns.turn(scope(), 0.01) as mine:
            assert mine
        assert {} == turns._running

    asyncio.run(story())


def test_a_hundred_deliveries_of_one_event_cost_few_passes_and_one_sync() -> None:
    """Through the webhook of the running app, twenty at a time."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
    service = world.add_service(
        "apim-contoso", hostnames=(Hostname("api.contoso.com", certificate=certificate),)
    )
    with Stage(world) as stage:
        certificate.renew(announce=False)
        with ThreadPoolExecutor(20) as pool:
            answered = list(pool.map(lambda _: stage.azure.event_grid.post(event()), range(100)))
        passes = world.custom_events("RunCompleted")

    assert {202} == set(answered)
    assert 1 == len(service.syncs)
    assert 2 <= len(passes) < 50
