"""The brakes of a fleet, through the running app: tags, rings, the cap, the Developer tier."""

import re
from datetime import timedelta

import pytest

from sandbox.stage import Stage
from sandbox.world import Certificate, Hostname, Server, Service, World


def fleet(*tags: dict[str, str] | None, sku: str = "Premium") -> tuple[World, Certificate, list[Service]]:
    """One wildcard certificate on a service for each set of tags."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("wild", ["*.contoso.com"])
    services = [
        world.add_service(
            f"apim-{n}",
            sku=sku,
            tags=tag,
            hostnames=(Hostname(f"api{n}.contoso.com", certificate=certificate),),
        )
        for n, tag in enumerate(tags)
    ]
    return world, certificate, services


def syncs(services: list[Service]) -> list[int]:
    """How many syncs each service has had."""
    return [len(service.syncs) for service in services]


def test_tags_exclude_and_pause_a_gateway_without_a_restart() -> None:
    """Excluded is not looked at; paused is looked at, said, and not synced, not by force either."""
    world, certificate, services = fleet(None, {"rotation-exclude": "true"}, {"rotation-pause": "True"})
    with Stage(world) as stage:
        certificate.renew()
        stage.settle()
        stage.resync(hostname="api2.contoso.com", force=True)
        assert [1, 0, 0] == syncs(services)
        assert {"api0.contoso.com", "api2.contoso.com"} <= set(stage.tick())
        assert "api1.contoso.com" not in stage.verdicts()
        assert re.search(r"Paused \([^)]*\): apim-2 \(api2.contoso.com\)", stage.host.log())
        assert 404 == stage.resync(hostname="api1.contoso.com").status

        services[2].tags.clear()
        stage.tick()

        assert [1, 0, 1] == syncs(services)


def test_a_later_ring_follows_when_the_earlier_one_is_proven() -> None:
    """Also when only the later one is asked for by hand."""
    world, certificate, services = fleet({"rotation-ring": "1"}, None, {"rotation-ring": "2"})
    with Stage(world) as stage:
        certificate.renew()
        stage.settle()
        assert [0, 1, 0] == syncs(services)
        answer = stage.resync(gateway=services[2].id)
        assert "WaitsForRing" in [d["choice"] for d in answer.json()["decisions"]]

        for expected in ([1, 1, 0], [1, 1, 1]):
            world.clock.advance(timedelta(minutes=30))
            stage.tick()
            assert expected == syncs(services)
            stage.tick()
            assert expected == syncs(services)


def test_a_renewal_on_many_services_is_spread_over_time() -> None:
    """No more than the cap in five minutes; the timer goes on with the rest."""
    world, certificate, services = fleet(*[None] * 7)
    with Stage(world, {"ROTATION_MAX_SYNCS": "3"}) as stage:
        certificate.renew()
        stage.settle()
        assert 3 == sum(syncs(services))
        stage.tick()
        assert 3 == sum(syncs(services))

        for expected in (6, 7):
            world.clock.advance(timedelta(minutes=5))
            stage.tick()
            assert expected == sum(syncs(services))
        assert 1 == max(syncs(services))
        assert 7 == len(
            [r for r in world.requests if r.server == Server.ARM and r.path.endswith("/refreshHostnames")]
        )


@pytest.mark.parametrize(("setting", "expected"), [("", [0]), ("never", [0]), ("always", [1])])
def test_a_developer_tier_service_is_synced_only_with_consent(setting: str, expected: list[int]) -> None:
    """It may go down while it updates; a forced sync by hand is consent too."""
    world, certificate, services = fleet(None, sku="Developer")
    with Stage(world, {"ROTATION_DEVELOPER_TIER": setting}) as stage:
        certificate.renew()
        stage.settle()
        stage.tick()
        assert expected == syncs(services)

        stage.resync(all=True, force=True)

        assert [1] == syncs(services)


def test_the_kill_switch_stops_every_sync_and_verdicts_go_on() -> None:
    """POST /api/pause reaches all workers through the ledger, and needs no restart; /api/resume ends it."""
    world, certificate, (service,) = fleet(None)
    with Stage(world) as stage:
        for body in ({}, {"reason": ""}, {"reason": "x", "until": "y"}):
            assert 400 == stage.host.request("POST", "/api/pause", json=body, key="function").status
        assert 401 == stage.host.request("POST", "/api/pause", json={"reason": "freeze"}).status
        assert stage.status()["paused"] is None
        paused = stage.host.request("POST", "/api/pause", json={"reason": "change freeze"}, key="function")
        assert (200, "change freeze") == (paused.status, paused.json()["paused"]["reason"])

        certificate.renew()
        stage.settle()
        forced = stage.resync(all=True, force=True).json()
        assert "STALE" == stage.tick()["api0.contoso.com"]["status"]
        assert [] == service.syncs
        assert ["Paused"] == [decision["choice"] for decision in forced["decisions"]]
        assert "(change freeze). POST /api/resume to go on." in forced["decisions"][0]["message"]
        assert paused.json()["paused"] == stage.status()["paused"]

        resumed = stage.host.request("POST", "/api/resume", json={}, key="function")
        assert (200, None) == (resumed.status, resumed.json()["paused"])
        stage.tick()
        assert 1 == len(service.syncs)


def test_a_fleet_that_shrinks_is_a_problem_and_not_a_success() -> None:
    """A role that was lost looks like services that were deleted: it is said, and nothing is forgotten."""
    world, _, services = fleet(None, None, None, None)
    with Stage(world) as stage:
        stage.tick()
        assert 0 == stage.status()["report"]["missing"]
        for service in services[:3]:
            world.services.remove(service)
        stage.tick()
        report = stage.status()["report"]

        assert 3 == report["missing"]
        assert "3 of 4 known gateways are no longer listed (apim-0, apim-1, apim-2)" in report["problems"][0]
        assert 3.0 == world.custom_events("RunCompleted")[-1].measurements["gateways_missing"]
