"""A fleet too large for one pass: split by the timer, worked on from a queue, and still one fleet."""

import hashlib
import json
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

from sandbox.host.process import FunctionsHost
from sandbox.stage import PROJECT, Stage
from sandbox.world import AZURE_QUOTA, Certificate, CustomEvent, Fault, Hostname, Server, Service, World
from tests.host.helpers import needs_runtime, run_backend

QUEUE = "rotation-shards"
SPLIT = {"ROTATION_SHARD_QUEUE": QUEUE, "ROTATION_SHARD_SIZE": "2"}
STOPPED = SPLIT | {"AzureWebJobs.check_shard.Disabled": "true"}
OTHER = "00000000-0000-4000-8000-000000000001"
NINE = 9


def fleet(
    number: int = NINE, *, tags: dict[int, dict[str, str]] | None = None, other: str | None = OTHER
) -> tuple[World, Certificate]:
    """Services that share a certificate, each with a hostname; every third is in another subscription."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("wild", ["*.contoso.com"])
    for n in range(number):
        world.add_service(
            f"apim-{n}",
            subscription_id=other if n % 3 == 0 else None,
            tags=(tags or {}).get(n),
            hostnames=(Hostname(f"api{n}.contoso.com", certificate=certificate),),
        )
    return world, certificate


def runs(world: World) -> list[CustomEvent]:
    """The runs by timer that Application Insights knows of."""
    return [e for e in world.custom_events("RunCompleted") if e.properties["trigger"] == "timer"]


def verified(world: World) -> Counter[str]:
    """How often each hostname of ours was verified."""
    names = (event.properties["hostname"] for event in world.custom_events("CertificateVerified"))
    return Counter(name for name in names if name.endswith("contoso.com"))


def shown(stage: Stage) -> dict[str, str]:
    """The status of each hostname of ours, as /api/status has it."""
    found = stage.verdicts().items()
    return {name: verdict["status"] for name, verdict in found if name.endswith("contoso.com")}


def as_of(stage: Stage) -> datetime:
    """The age of the report."""
    return datetime.fromisoformat(stage.status()["report"]["as_of"])


def hostnames(number: int = NINE) -> list[str]:
    """Those of the fleet."""
    return [f"api{n}.contoso.com" for n in range(number)]


def synced(world: World) -> int:
    """How many syncs there were."""
    return sum(len(service.syncs) for service in world.services)


def pieces(world: World, of: int) -> list[list[Service]]:
    """The services by shard: the first byte of the hash of the id, in ranges."""
    of_service = {s.id: hashlib.sha256(s.id.lower().encode()).digest()[0] * of // 256 for s in world.services}
    return [[s for s in world.services if of_service[s.id] == number] for number in range(of)]


def test_the_timer_splits_and_every_hostname_is_looked_at_once() -> None:
    """One run of eight parts, whose numbers add up to the fleet, and /api/status shows it whole."""
    world, certificate = fleet()
    world.graph.quota, world.graph.window = AZURE_QUOTA, timedelta(seconds=1)
    with Stage(world, SPLIT, schema=None) as stage:
        stage.tick()
        told, report = runs(world), stage.status()["report"]

        assert dict.fromkeys(hostnames(), "IN_SYNC") == shown(stage)
        assert dict.fromkeys(hostnames(), 1) == verified(world)
        assert 1 == len({event.properties["run_id"] for event in told})
        assert [(float(n), 8.0) for n in range(1, 9)] == sorted(
            (event.measurements["shard"], event.measurements["shards"]) for event in told
        )
        assert {"everything"} == {event.properties["scope"] for event in told}
        assert (
            "listed" not in stage.host.log()
        )  # eight workers on one quota, and each has waited for its turn
        assert (9.0, 9.0) == tuple(
            sum(event.measurements[name] for event in told) for name in ("gateways", "in_sync")
        )
        assert ("everything", None, 9, 9, []) == (
            report["scope"],
            report["shard"],
            report["gateways"],
            report["counts"]["in_sync"],
            report["problems"],
        )

        certificate.renew(announce=False)
        stage.tick()

        assert [1] * NINE == [len(service.syncs) for service in world.services]


def test_a_worker_finds_its_part_with_few_queries_and_reads_nobody_elses() -> None:
    """Resource Graph selects by the same hash: a shard's services come in one page, no list is read."""
    world, _ = fleet()
    with Stage(world, STOPPED, schema=None) as stage:
        stage.host.run("check_drift")
        number, part = next((n, p) for n, p in enumerate(pieces(world, 8), 1) if p)
        mine = [m for m in stage.host.messages(QUEUE) if json.loads(m)["number"] == number]
        stage.host.run("check_shard", mine[0])
        world.clock.advance(timedelta(minutes=5))
        stage.host.run("check_drift")
        mine = [m for m in stage.host.messages(QUEUE) if json.loads(m)["number"] == number]
        before = len(world.requests)
        stage.host.run("check_shard", mine[1])
        asked = [r for r in world.requests[before:] if r.server is Server.ARM]

        assert {h.host_name for s in part for h in s.hostnames} == set(verified(world))
        assert [] == [r.path for r in asked if r.method == "GET"]
        assert 2 == len(asked)  # the page and Azure Advisor; the timer has counted a moment ago


@pytest.mark.parametrize("trouble", ["hashes", "denied"])
def test_where_resource_graph_does_not_help_the_same_hash_is_reckoned_here(trouble: str) -> None:
    """A function that Resource Graph does not know, or no answer at all: slower, and nothing is lost."""
    world, _ = fleet()
    with Stage(world, SPLIT, schema=None) as stage:
        stage.tick()
        if trouble == "hashes":
            world.graph.hashes = False
        else:
            world.graph.denied = True
        before = len(runs(world))
        stage.tick()

        assert dict.fromkeys(hostnames(), "IN_SYNC") == shown(stage)
        assert dict.fromkeys(hostnames(), 2) == verified(world)
        assert 8 == len(runs(world)) - before
        assert [] == [e.properties["problems"] for e in runs(world) if e.properties["problems"]]


def test_a_lost_shard_is_found_by_the_next_tick_and_the_page_says_how_old_it_is() -> None:
    """Nobody keeps count of who did what; a part that was not looked at keeps its time."""
    world, certificate = fleet()
    with Stage(world, STOPPED, schema=None) as stage:

        def tick(*, lose: int = 0) -> None:
            before = len(stage.host.messages(QUEUE))
            stage.host.run("check_drift")
            for message in stage.host.messages(QUEUE)[before:]:
                if json.loads(message)["number"] != lose:
                    stage.host.run("check_shard", message)

        tick()
        began = as_of(stage)
        certificate.renew(announce=False)
        lost = next(n for n, part in enumerate(pieces(world, 8), 1) if part)
        world.clock.advance(timedelta(minutes=5))
        tick(lose=lost)
        expected = [lost != n for n, part in enumerate(pieces(world, 8), 1) for _ in part]

        assert expected == [bool(service.syncs) for part in pieces(world, 8) for service in part]
        assert as_of(stage) - began < timedelta(minutes=1)

        world.clock.advance(timedelta(minutes=5))
        tick()

        assert [1] * NINE == [len(service.syncs) for service in world.services]
        assert as_of(stage) - began >= timedelta(minutes=10)


def test_a_doubled_and_a_late_shard_do_nothing_twice() -> None:
    """Delivered twice at once, and again after a later tick has looked at it."""
    world, certificate = fleet()
    with Stage(world, STOPPED, schema=None) as stage:
        stage.host.run("check_drift")
        early = stage.host.messages(QUEUE)
        certificate.renew(announce=False)
        for message in [*early, *early]:
            stage.host.run("check_shard", message)
        world.clock.advance(timedelta(minutes=5))
        stage.host.run("check_drift")
        for message in stage.host.messages(QUEUE)[len(early) :]:
            stage.host.run("check_shard", message)
        told = len(runs(world))
        for message in early:
            stage.host.run("check_shard", message)

        assert [1] * NINE == [len(service.syncs) for service in world.services]
        assert told == len(runs(world))
        assert 8 <= stage.host.log().count("was looked at since")


HOSTILE = {
    "no JSON": "hello",
    "not an object": "[1]",
    "nothing in it": "{}",
    "a field too many": '{"run_id": "%s", "number": 1, "of": 8, "put_at": null, "mode": "Force"}',
    "a shard of one is everything": '{"run_id": "%s", "number": 1, "of": 1, "put_at": null}',
    "larger parts than the app would make": '{"run_id": "%s", "number": 1, "of": 2, "put_at": null}',
    "no such shard": '{"run_id": "%s", "number": 9, "of": 8, "put_at": null}',
    "a truth in place of a number": '{"run_id": "%s", "number": true, "of": 8, "put_at": null}',
    "no power of two": '{"run_id": "%s", "number": 1, "of": 9, "put_at": null}',
    "no GUID": '{"run_id": "x", "number": 1, "of": 8, "put_at": null}',
    "a time without a zone": '{"run_id": "%s", "number": 1, "of": 8, "put_at": "2026-03-02T10:00:00"}',
    "far too long": '{"run_id": "%s", "number": 1, "of": 8, "put_at": "' + "2" * 2000 + '"}',
}


def test_a_message_that_is_not_ours_is_ignored_with_a_line_and_looks_at_nothing() -> None:
    """Whoever can write to the queue can make the app look at a part of its own fleet, and no more."""
    world, certificate = fleet()
    certificate.renew(announce=False)
    with Stage(world, STOPPED, schema=None) as stage:
        for text in HOSTILE.values():
            stage.host.run("check_shard", text.replace("%s", OTHER))

        assert len(HOSTILE) == stage.host.log().count("is ignored: ")
        assert [] == runs(world)
        assert 0 == synced(world)
        assert len(HOSTILE) == stage.host.log().count("Executed 'Functions.check_shard' (Succeeded")


def test_the_cap_of_a_subscription_holds_across_shards() -> None:
    """Each worker sees a part; what all of them ask for in five minutes is what one pass might ask for."""
    world, certificate = fleet()
    with Stage(world, SPLIT | {"ROTATION_MAX_SYNCS": "2"}, schema=None) as stage:
        stage.tick()
        certificate.renew(announce=False)
        stage.tick()
        of_subscription = Counter(s.subscription_id for s in world.services if s.syncs)

        assert {2} == set(of_subscription.values())
        assert 2 == len(of_subscription)

        stage.tick()
        assert 4 == synced(world)

        for _ in range(3):
            world.clock.advance(timedelta(minutes=5))
            stage.tick()
        assert [1] * NINE == [len(service.syncs) for service in world.services]


def test_a_later_ring_waits_for_an_earlier_one_in_other_shards() -> None:
    """The earlier ring's state is what the ledger remembers of it; who cannot be seen is waited for."""
    world, certificate = fleet(tags={n: {"rotation-ring": "1"} for n in range(1, NINE)})
    first, *later = world.services
    with Stage(world, SPLIT, schema=None) as stage:
        stage.tick()
        certificate.renew(announce=False)
        stage.tick()
        assert (1, 1) == (len(first.syncs), synced(world))
        assert "in ring 1, waits for apim-0 (ring 0)" in stage.host.log()

        for _ in range(12):
            world.clock.advance(timedelta(minutes=5))
            stage.tick()
            if synced(world) > 1:
                break
        assert "IN_SYNC" == stage.verdicts()["api0.contoso.com"]["status"]
        stage.tick()
        assert [1] * (NINE - 1) == [len(service.syncs) for service in later]


def test_the_breaker_opens_for_all_shards() -> None:
    """Five gateways without an answer, whichever workers asked, and nobody asks for a sixth."""
    world, certificate = fleet(other=None)
    with Stage(world, STOPPED, schema=None) as stage:
        certificate.renew(announce=False)
        world.faults.append(Fault(Server.ARM, "refreshHostnames", "POST", status=500, times=None))
        stage.host.run("check_drift")
        for message in stage.host.messages(QUEUE):
            stage.host.run("check_shard", message)

        assert "BreakerOpen" in stage.host.log()
        assert 5 == asked(world)


def asked(world: World) -> int:
    """How many syncs were asked for."""
    return len([r for r in world.requests if r.path.lower().endswith("refreshhostnames")])


def test_the_kill_switch_stops_every_worker() -> None:
    """It is in the ledger, which all of them read."""
    world, certificate = fleet()
    with Stage(world, SPLIT, schema=None) as stage:
        stage.host.request("POST", "/api/pause", json={"reason": "change freeze"}, key="function")
        certificate.renew(announce=False)
        stage.tick()

        assert 0 == synced(world)
        assert dict.fromkeys(hostnames(), "STALE") == shown(stage)


def test_gateways_that_vanish_are_missed_once_and_the_parts_add_up() -> None:
    """A shard misses its own only."""
    world, _ = fleet(40)
    with Stage(world, SPLIT | {"ROTATION_SHARD_SIZE": "20"}, schema=None) as stage:
        stage.tick()
        del world.services[:20]
        stage.tick()
        last = runs(world)[-1].properties["run_id"]
        missing = [e.measurements["gateways_missing"] for e in runs(world) if e.properties["run_id"] == last]

        assert (1, 20.0) == (len(missing), sum(missing))
        assert "The inventory shrank: 20 of 40" in str(stage.status()["report"]["problems"])


def test_a_fleet_that_grows_is_shown_whole_while_the_number_of_shards_changes() -> None:
    """The last whole set is the report until every shard of the new number was looked at."""
    world, certificate = fleet(4)
    with Stage(world, STOPPED, schema=None) as stage:

        def tick(most: int) -> None:
            world.clock.advance(timedelta(minutes=5))
            before = len(stage.host.messages(QUEUE))
            stage.host.run("check_drift")
            for message in stage.host.messages(QUEUE)[before:][:most]:
                stage.host.run("check_shard", message)

        tick(2)
        assert set(hostnames(4)) == set(shown(stage))
        for n in range(4, 6):
            name = Hostname(f"api{n}.contoso.com", certificate=certificate)
            stage.azure.expose(world.add_service(f"apim-{n}", hostnames=(name,)))
        tick(3)
        assert set(hostnames(4)) == set(shown(stage))
        tick(4)
        assert set(hostnames(6)) == set(shown(stage))


def test_everything_by_hand_is_one_pass_and_refused_where_that_is_too_much() -> None:
    """A pass without time would call what it did not reach UNKNOWN; a narrower scope is taken."""
    world, certificate = fleet()
    with Stage(world, SPLIT, schema=None) as stage:
        certificate.renew(announce=False)
        assert 202 == stage.resync(all=True).status
        assert NINE == synced(world)
    with Stage(world, SPLIT | {"ROTATION_SHARD_SIZE": "1"}, schema=None) as stage:
        answer = stage.resync(all=True)

        assert (400, True) == (answer.status, "too large for one pass" in answer.json()["detail"])
        assert 202 == stage.resync(hostname="api1.contoso.com").status


@pytest.mark.parametrize(("settings", "registered"), [(SPLIT, True), ({}, False)])
def test_the_functions_exist_only_where_there_is_a_queue(
    settings: dict[str, str], *, registered: bool
) -> None:
    """Proves that an app without a queue polls none, and its timer puts nothing there."""
    with FunctionsHost(PROJECT, {"ROTATION_SHARD_QUEUE": "", **settings}) as host:
        assert registered == ("check_shard" in host.functions)
        assert "check_drift" in host.functions
        assert {} == host.refused


@needs_runtime
def test_the_platforms_own_runtime_indexes_them() -> None:
    """Proves with Microsoft's code that trigger and output are bindings of the same queue."""
    found: dict[str, Any] = run_backend("runtime", PROJECT, env=SPLIT)
    bindings = {f["name"]: [json.loads(b) for b in f["bindings"]] for f in found["functions"]}
    (trigger,) = bindings["check_shard"]
    output = next(b for b in bindings["check_drift"] if b["type"] == "queue")

    assert ("queueTrigger", QUEUE, "AzureWebJobsStorage") == (
        trigger["type"],
        trigger["queueName"],
        trigger["connection"],
    )
    assert ("OUT", QUEUE, "AzureWebJobsStorage") == (
        output["direction"],
        output["queueName"],
        output["connection"],
    )
