"""Rotations from trigger to proof: driven as Azure drives the app, and what is served is read by ssl."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from sandbox.event_grid import EventSchema
from sandbox.stage import Stage
from sandbox.world import Certificate, Hostname, Server, Service, World

HOST = "api.contoso.com"


def contoso(**service: Any) -> tuple[World, Certificate, Service]:
    """A world with one certificate and one service of two regions that serves it."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
    options: dict[str, Any] = {
        "regions": {"West Europe": 2, "North Europe": 1},
        "hostnames": (Hostname(HOST, certificate=certificate),),
        **service,
    }
    return world, certificate, world.add_service("apim-contoso", **options)


def served(stage: Stage, service: Service, hostname: str = HOST) -> set[str]:
    """Every thumbprint that a plain TLS client meets for a hostname, in all regions."""
    return {leaf for region in service.regions for leaf in stage.handshakes(service, region, hostname)}


def outcome(verdict: dict[str, str]) -> tuple[str, str]:
    """Status and reason."""
    return verdict["status"], verdict["reason"]


@pytest.mark.parametrize("schema", EventSchema)
def test_a_renewal_is_synced_by_its_event_and_proven_by_the_timer(schema: EventSchema) -> None:
    """The whole path, in both event schemas: old before, told at once, proven when served."""
    world, certificate, service = contoso()
    old = certificate.newest.thumbprint
    with Stage(world, schema=schema) as stage:
        assert served(stage, service) == {old}
        new = certificate.renew().thumbprint
        stage.settle()

        assert [202] == [delivery.status for delivery in stage.azure.event_grid.deliveries]
        assert len(service.syncs) == 1
        assert outcome(stage.tick()[HOST]) == ("SYNCING", "ServiceUpdating")
        assert served(stage, service) == {old}

        world.clock.advance(timedelta(minutes=30))
        verdict = stage.tick()[HOST]

        assert served(stage, service) == {new}
        assert outcome(verdict) == ("IN_SYNC", "Served")
        assert {group["thumbprint"] for group in verdict["served"]} == {new}
        assert "7 of 7 new connections in West Europe, 1 of 1 in North Europe" in verdict["message"]
        assert len(service.syncs) == 1


def test_the_proof_and_its_time_reach_application_insights_once_and_join_the_invocation() -> None:
    """One event per binding, per sync, per answer, per run and per rotation proven."""
    world, certificate, _ = contoso()
    with Stage(world) as stage:
        certificate.renew()
        stage.settle()
        world.clock.advance(timedelta(minutes=30))
        stage.tick()
        stage.tick()

        assert ["event"] == [e.properties["trigger"] for e in world.custom_events("SyncRequested")]
        assert ["accepted"] == [e.properties["outcome"] for e in world.custom_events("SyncAnswered")]
        (proof,) = world.custom_events("RotationProven")
        assert 1800 <= proof.measurements["seconds_to_served"] <= 1830
        assert ("event", certificate.newest.id) == (
            proof.properties["caught_by"],
            proof.properties["version"],
        )
        moments = [
            datetime.fromisoformat(proof.properties[name])
            for name in ("created", "noticed", "synced", "first_served", "proven")
        ]
        assert sorted(moments) == moments
        runs = world.custom_events("RunCompleted")
        assert ["event", "timer", "timer"] == [e.properties["trigger"] for e in runs]
        assert [1.0, 1.0, 1.0] == [e.measurements["unmanaged"] for e in runs]
        assert len({e.operation_id for e in runs}) == 3
        assert all(len(e.operation_id or "") == 32 and set(e.operation_id or "") != {"0"} for e in runs)


def test_two_certificates_of_one_service_renewed_together_cost_one_sync() -> None:
    """The unit of action is the gateway: one sync covers all its hostnames."""
    world = World()
    vault = world.add_vault("kv-contoso")
    api = vault.add_certificate("api", [HOST])
    admin = vault.add_certificate("admin", ["admin.contoso.com"])
    hostnames = (Hostname(HOST, certificate=api), Hostname("admin.contoso.com", certificate=admin))
    service = world.add_service("apim-contoso", hostnames=hostnames)
    with Stage(world) as stage:
        expected = {HOST: api.renew().thumbprint, "admin.contoso.com": admin.renew().thumbprint}
        stage.settle()
        stage.tick()
        world.clock.advance(timedelta(minutes=30))
        verdicts = stage.tick()

        assert len(service.syncs) == 1
        for hostname, thumbprint in expected.items():
            assert served(stage, service, hostname) == {thumbprint}
            assert outcome(verdicts[hostname]) == ("IN_SYNC", "Served")


def test_one_wildcard_certificate_on_many_services_is_synced_on_each_once() -> None:
    """One event, one Key Vault read, as many syncs as services."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("wild", ["*.contoso.com"])
    services = [
        world.add_service(
            f"apim-{n:02}", hostnames=(Hostname(f"api{n}.contoso.com", certificate=certificate),)
        )
        for n in range(12)
    ]
    with Stage(world) as stage:
        new = certificate.renew().thumbprint
        stage.settle()

        assert [1] * len(services) == [len(service.syncs) for service in services]
        reads = [r for r in world.requests if r.server == Server.VAULT and r.status == 200]
        assert ["/certificates/wild/"] == [r.path for r in reads]
        world.clock.advance(timedelta(minutes=30))
        verdicts = stage.tick()
        for n, service in enumerate(services):
            assert served(stage, service, f"api{n}.contoso.com") == {new}
            assert outcome(verdicts[f"api{n}.contoso.com"]) == ("IN_SYNC", "Served")


def test_a_duplicate_or_late_event_changes_nothing() -> None:
    """Level-triggered: the event says where to look, never what is so."""
    world, certificate, service = contoso()
    with Stage(world) as stage:
        stage.azure.event_grid.duplicate_next()
        certificate.renew()
        stage.settle()
        assert len(stage.azure.event_grid.deliveries) == 2
        assert len(service.syncs) == 1

        world.clock.advance(timedelta(minutes=30))
        stage.tick()
        stage.azure.event_grid.near_expiry(certificate)
        stage.azure.event_grid.expired(certificate)
        stage.settle()

        assert [202] * 4 == [delivery.status for delivery in stage.azure.event_grid.deliveries]
        assert len(service.syncs) == 1
        assert "NearExpiry of https://kv-contoso.vault.azure.net/certificates/contoso-com" in stage.host.log()
        assert "Expired of https://kv-contoso.vault.azure.net/certificates/contoso-com" in stage.host.log()


def test_a_lost_event_is_found_and_mended_by_the_timer() -> None:
    """The timer on its NCRONTAB schedule, by the moved clock, is the guarantee."""
    world, certificate, service = contoso()
    with Stage(world, timers=True) as stage:
        stage.azure.event_grid.drop_next()
        new = certificate.renew().thumbprint
        stage.settle()
        assert [] == service.syncs

        events = stage.pass_time(5)
        assert len(service.syncs) == 1
        assert ["timer"] == [e.properties["trigger"] for e in events if e.name == "SyncRequested"]

        stage.pass_time(30)
        assert served(stage, service) == {new}
        assert outcome(stage.verdicts()[HOST]) == ("IN_SYNC", "Served")
        assert ["timer"] == [e.properties["caught_by"] for e in world.custom_events("RotationProven")]


def test_a_drift_older_than_the_deadline_is_said_to_be_one() -> None:
    """STALE alone is news; STALE beyond the deadline is drift, and alerts."""
    world, certificate, _ = contoso()
    with Stage(world, {"ROTATION_MODE": "observe"}) as stage:
        certificate.renew()
        stage.settle()
        assert (False, "STALE") == (stage.tick()[HOST]["drift"], stage.tick()[HOST]["status"])

        world.clock.advance(timedelta(hours=3))

        assert (True, "STALE") == (stage.tick()[HOST]["drift"], stage.tick()[HOST]["status"])


def test_a_region_that_lags_is_partly_served_until_it_follows() -> None:
    """Neither green nor stale while some connections already meet the new leaf."""
    world, certificate, service = contoso()
    old = certificate.newest.thumbprint
    service.lag = {"North Europe": timedelta(minutes=25)}
    with Stage(world) as stage:
        new = certificate.renew().thumbprint
        stage.settle()
        world.clock.advance(timedelta(minutes=30))
        verdict = stage.tick()[HOST]

        assert served(stage, service) == {old, new}
        assert outcome(verdict) == ("SYNCING", "PartlyServed")
        assert "the new version on 7 of 7 new connections in West Europe" in verdict["message"]
        assert "an old version on 1 of 1 new connections in North Europe" in verdict["message"]

        world.clock.advance(timedelta(minutes=20))
        assert outcome(stage.tick()[HOST]) == ("IN_SYNC", "Served")
        assert served(stage, service) == {new}


def test_a_service_that_is_already_updating_is_synced_when_it_has_finished() -> None:
    """ARM is the lock: no POST into a 409, and no attempt spent."""
    world, certificate, service = contoso()
    with Stage(world) as stage:
        service.begin_foreign_update(timedelta(minutes=15))
        certificate.renew()
        stage.settle()
        assert [] == service.syncs
        assert outcome(stage.tick()[HOST]) == ("SYNCING", "ServiceUpdating")

        world.clock.advance(timedelta(minutes=16))
        stage.tick()

        assert len(service.syncs) == 1
        assert [] == [r for r in world.requests if r.status == 409]


def test_a_gateway_that_does_not_take_the_new_version_is_tried_again_on_schedule() -> None:
    """A gateway that cannot read the vault is not flooded: at once, +30 min, +2 h, then later."""
    world, certificate, service = contoso()
    service.identity_can_read_vault = False
    with Stage(world) as stage:
        certificate.renew()
        stage.settle()
        for _ in range(30):
            world.clock.advance(timedelta(minutes=5))
            stage.tick()

        since = [round((at - service.syncs[0]).total_seconds() / 60) for at in service.syncs]
        assert [0, 30, 120] == since
        verdict = stage.tick()[HOST]
        assert verdict["status"] in {"STALE", "SYNCING"}
        world.clock.advance(timedelta(minutes=60))
        verdict = stage.tick()[HOST]
        assert outcome(verdict) == ("STALE", "GatewayCannotReadVault")
        assert "Key Vault Secrets User" in verdict["message"]


def test_no_request_ever_asks_for_a_secret() -> None:
    """The app needs the public part only; a private key never enters it."""
    world, certificate, _ = contoso()
    with Stage(world) as stage:
        certificate.renew()
        stage.settle()
        world.clock.advance(timedelta(minutes=30))
        stage.tick()

        paths = [r.path for r in world.requests if r.server == Server.VAULT]
        assert paths
        assert [] == [path for path in paths if not path.startswith("/certificates/")]
