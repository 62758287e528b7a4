"""A named value that follows the certificate: the real SDK against the sandbox's API Management."""

import json
from datetime import timedelta
from pathlib import Path

import jsonschema
import pytest

from sandbox.stage import Stage
from sandbox.world import Certificate, Fault, Hostname, NamedValue, Server, Service, World

OLD = "0" * 40
SETTINGS = {"ROTATION_NAMED_VALUES": "kv-contoso/contoso-com=gateway-thumbprint"}
SCHEMA = json.loads((Path(__file__).parents[2] / "docs/telemetry.schema.json").read_text(encoding="utf-8"))


def contoso(value: str = "") -> tuple[World, Certificate, Service]:
    """Two hostnames on one certificate, and a named value; both hostnames switch at their own time."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
    service = world.add_service(
        "apim-contoso",
        regions={"West Europe": 1, "North Europe": 1},
        hostnames=[Hostname(f"{name}.contoso.com", certificate=certificate) for name in ("api", "shop")],
    )
    service.lag = {"North Europe": timedelta(minutes=9)}
    service.named_values["gateway-thumbprint"] = NamedValue(value or certificate.newest.thumbprint)
    return world, certificate, service


def writes(world: World) -> int:
    """How often a named value was asked to change."""
    return sum(r.method == "PATCH" for r in world.requests if r.server == Server.ARM)


@pytest.mark.parametrize("answer", [200, 202])
def test_it_changes_once_when_the_last_region_has_switched(answer: int) -> None:
    """Not at the renewal, not while one region is behind, and not again afterwards; told once."""
    world, certificate, service = contoso()
    service.accepts_with = 200 if answer == 200 else 202
    with Stage(world, SETTINGS) as stage:
        stage.tick()
        old = certificate.newest.thumbprint
        new = certificate.renew().thumbprint
        stage.settle()
        values = []
        for _ in range(10):
            world.clock.advance(timedelta(minutes=5))
            stage.tick()
            now = world.clock.now()
            serves = {
                service.served("api.contoso.com", region, 0, now).thumbprint for region in service.regions
            }
            values.append((serves == {new}, service.named_values["gateway-thumbprint"].value))

        assert (False, old) in values
        assert {(False, old), (True, new)} == set(values)
        assert 1 == writes(world)
        (told,) = world.custom_events("NamedValueKept")
        assert (old, new, "") == tuple(told.properties[name] for name in ("before", "thumbprint", "problem"))
        told.properties.pop("logger_name")  # the exporter's own addition
        jsonschema.validate(
            {"name": told.name, "properties": told.properties, "measurements": told.measurements}, SCHEMA
        )


FAILURES: dict[str, tuple[Fault | None, str]] = {
    "not allowed": (
        Fault(
            Server.ARM,
            "namedValues",
            "PATCH",
            status=403,
            body={"error": {"code": "AuthorizationFailed", "message": "no right"}},
            times=None,
        ),
        "no right",
    ),
    "changed in between": (
        Fault(Server.ARM, "namedValues", "PATCH", status=412, times=None),
        "Precondition Failed",
    ),
    "throttled": (
        Fault(Server.ARM, "namedValues", status=429, headers={"Retry-After": "60"}, times=None),
        "",
    ),
    "no answer": (Fault(Server.ARM, "namedValues", hang=True, times=None), ""),
    "reset": (Fault(Server.ARM, "namedValues", reset=True, times=None), ""),
    "none of that name": (None, "make one first"),
}


@pytest.mark.parametrize(("fault", "said"), FAILURES.values(), ids=FAILURES)
def test_a_write_that_fails_changes_nothing_else(fault: Fault | None, said: str) -> None:
    """The verdicts stand, the run ends well, and what failed is said, if it had an answer."""
    world, _, service = contoso(OLD)
    if fault:
        world.faults.append(fault)
    else:
        service.named_values.clear()
    with Stage(world, SETTINGS) as stage:
        stage.tick()
        report = stage.host.request("GET", "/api/status", key="function").json()["report"]

        assert {"IN_SYNC"} == {v["status"] for v in report["verdicts"] if v["key_vault_id"]}
        assert {OLD} >= {each.value for each in service.named_values.values()}
        problems = [told.properties["problem"] for told in world.custom_events("NamedValueKept")]
        assert not said or any(said in problem for problem in problems), problems


def test_it_is_tried_again_at_the_next_full_proof() -> None:
    """A failure heals by itself: a full proof comes once in each hour of the clock."""
    world, certificate, service = contoso(OLD)
    world.faults.append(Fault(Server.ARM, "namedValues", "PATCH", status=403, times=1))
    with Stage(world, SETTINGS) as stage:
        for _ in range(25):
            stage.tick()
            world.clock.advance(timedelta(minutes=5))

        assert certificate.newest.thumbprint == service.named_values["gateway-thumbprint"].value
        assert 2 == writes(world)


def test_what_holds_no_thumbprint_is_left_alone_and_not_told() -> None:
    """Somebody has named the wrong one: it keeps what it holds, which is nobody's business."""
    world, _, _ = contoso("https://backend.contoso.com?code=very-private")
    with Stage(world, SETTINGS) as stage:
        stage.tick()

        assert 0 == writes(world)
        (told,) = world.custom_events("NamedValueKept")
        assert "holds no thumbprint" in told.properties["problem"]
        assert "very-private" not in json.dumps(world.telemetry)


def test_a_secret_one_is_left_alone() -> None:
    """Its value is not shown, so nobody can say whether it is another."""
    world, _, service = contoso(OLD)
    service.named_values["gateway-thumbprint"].secret = True
    with Stage(world, SETTINGS) as stage:
        stage.tick()

        assert (0, OLD) == (writes(world), service.named_values["gateway-thumbprint"].value)
        assert "secret" in world.custom_events("NamedValueKept")[0].properties["problem"]


def test_nothing_is_written_in_observe_mode_in_a_dry_run_or_unless_asked() -> None:
    """Off by default."""
    for settings, dry in (({}, False), ({**SETTINGS, "ROTATION_MODE": "observe"}, False), (SETTINGS, True)):
        world, _, service = contoso(OLD)
        with Stage(world, settings) as stage:
            stage.resync(all=True, dry_run=True) if dry else stage.tick()

        assert 0 == writes(world)
        assert [] == [r.path for r in world.requests if "namedValues" in r.path]
        assert OLD == service.named_values["gateway-thumbprint"].value
