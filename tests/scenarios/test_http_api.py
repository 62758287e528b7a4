"""The HTTP API of the running app: every answer is as the OpenAPI document says, which is what is served."""

import base64
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from rotation import api
from rotation.model import Choice, GatewayKind, ProbeFault, Reason, Status, SyncOutcome, Trigger
from rotation.plan import OVERRIDABLE
from sandbox.event_grid_topic import HOST as TOPIC
from sandbox.host.process import Response
from sandbox.stage import Stage
from sandbox.world import Certificate, Fault, Hostname, Server, Service, World
from tests.host.helpers import run_backend

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENT = json.loads((PROJECT / "rotation/openapi.json").read_text(encoding="utf-8"))
HOST = "api.contoso.com"
PAGE = "page"
"""The status page's routes are for people, and in no document for programs."""


def schema(name: str) -> dict[str, Any]:
    """A schema of the document, with those that it refers to."""
    found: dict[str, Any] = DOCUMENT["components"]["schemas"][name]
    return found


def hold(name: str, body: object) -> None:
    """The body is as the document says."""
    Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    ).validate(body)


def contoso() -> tuple[World, Certificate, Service]:
    """A world with a certificate on one of two services."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
    service = world.add_service("apim-contoso", hostnames=(Hostname(HOST, certificate=certificate),))
    fabrikam = world.add_vault("kv-fabrikam").add_certificate("fabrikam-com", ["*.fabrikam.com"])
    world.add_service("apim-fabrikam", hostnames=(Hostname("api.fabrikam.com", certificate=fabrikam),))
    return world, certificate, service


def get(stage: Stage, path: str, **headers: str) -> Response:
    """GET with a function key."""
    return stage.host.request("GET", path, key="function", headers=headers)


def test_a_resync_is_followed_until_it_is_proven() -> None:
    """202 with a place to look at, which says running, then done, and what is served by now."""
    world, certificate, service = contoso()
    with Stage(world) as stage:
        stage.tick()
        certificate.renew(announce=False)
        asked = stage.resync(vault="kv-contoso")
        assert (202, "60") == (asked.status, asked.headers["Retry-After"])
        hold("Report", asked.json())
        place = asked.headers["Location"]
        assert f"/api/operations/{asked.json()['run_id']}" == place
        assert {"apim-contoso"} == {d["gateway"] for d in asked.json()["decisions"]}

        running = get(stage, place)
        assert (200, "60") == (running.status, running.headers["Retry-After"])
        hold("Operation", running.json())
        assert ("running", asked.json()) == (running.json()["status"], running.json()["report"])
        (then,) = running.json()["gateways"]
        assert ("apim-contoso", True, None) == (
            then["gateway"],
            then["now"]["in_flight"],
            then["now"]["proven_at"],
        )
        under_way = get(stage, "/api/rotations?running=true").json()
        hold("Rotations", under_way)
        assert [("apim-contoso", None)] == [(r["gateway"], r["proven"]) for r in under_way["rotations"]]

        world.clock.advance(timedelta(minutes=40))
        stage.tick()
        done = get(stage, place)
        hold("Operation", done.json())
        assert ("done", None) == (done.json()["status"], done.headers["Retry-After"])
        (now,) = done.json()["gateways"]
        assert ["IN_SYNC"] == [h["status"] for h in now["now"]["hostnames"] if h["hostname"] == HOST]
        (ended,) = get(stage, "/api/rotations?certificate=contoso-com").json()["rotations"]
        moments = [ended[name] for name in ("created", "noticed", "synced", "first_served", "proven")]
        assert sorted(moments) == moments
        assert len(service.syncs) == 1
        assert [] == get(stage, "/api/rotations?running=true").json()["rotations"]


def test_a_dry_run_is_an_operation_too_and_other_ids_are_none() -> None:
    """What was looked at can be looked up; nothing else can."""
    world, certificate, _ = contoso()
    with Stage(world, {"ROTATION_MODE": "observe"}) as stage:
        certificate.renew(announce=False)
        place = stage.resync(hostname=HOST, dry_run=True).headers["Location"]
        assert ("done", "Observe") == (
            get(stage, place).json()["status"],
            get(stage, place.upper().replace("/API/OPERATIONS", "/api/operations")).json()["report"]["mode"],
        )

        for other in ("0f8fad5b-d9cb-469f-a165-70867728950e", "x", "..%2fstatus"):
            answer = get(stage, f"/api/operations/{other}")
            assert (404, "application/problem+json") == (answer.status, answer.headers["Content-Type"])
            hold("Problem", answer.json())


def test_a_dry_run_over_everything_does_not_become_the_last_report() -> None:
    """A look leaves no trace: /api/status goes on telling what the timer saw."""
    world, certificate, _ = contoso()
    with Stage(world) as stage:
        stage.tick()
        before = get(stage, "/api/status").json()
        certificate.renew(announce=False)
        looked = stage.resync(all=True, dry_run=True)
        assert "ObserveOnly" in {d["choice"] for d in looked.json()["decisions"]}
        assert before == get(stage, "/api/status").json()

        acted = stage.resync(all=True).json()["run_id"]
        assert acted == get(stage, "/api/status").json()["report"]["run_id"]


def test_the_status_is_filtered_paged_and_sent_only_where_it_is_new() -> None:
    """Filters, pages that lead to each other, and 304 until the next pass."""
    world, certificate, _ = contoso()
    with Stage(world) as stage:
        empty = get(stage, "/api/status")
        hold("Status", empty.json())
        certificate.renew(announce=False)
        stage.tick()

        whole = get(stage, "/api/status")
        hold("Status", whole.json())
        everything = whole.json()["report"]["verdicts"]
        first = get(stage, "/api/status?limit=1").json()
        seen = [*first["report"]["verdicts"]]
        while following := first["page"]["next"]:
            first = get(stage, following).json()
            seen += first["report"]["verdicts"]
        assert (everything, len(everything)) == (seen, first["page"]["total"])

        shown = get(stage, "/api/status?status=stale,syncing&gateway=APIM-contoso&kind=ApiManagement").json()
        hold("Status", shown)
        assert [("apim-contoso", HOST)] == [
            (v["gateway"], v["hostname"]) for v in shown["report"]["verdicts"]
        ]
        assert (["apim-contoso"], 1) == (
            [d["gateway"] for d in shown["report"]["decisions"]],
            shown["page"]["total"],
        )
        wrong = get(stage, "/api/status?status=fine")
        assert 400 == wrong.status
        assert "IN_SYNC, SYNCING" in wrong.json()["detail"]

        tag = whole.headers["ETag"]
        again = get(stage, "/api/status", **{"If-None-Match": tag})
        assert (304, b"", tag) == (again.status, again.body, again.headers["ETag"])
        assert 200 == get(stage, "/api/status?limit=1", **{"If-None-Match": tag}).status
        world.clock.advance(timedelta(minutes=40))
        stage.tick()
        assert 200 == get(stage, "/api/status", **{"If-None-Match": tag}).status


def test_a_gateway_is_shown_by_its_name() -> None:
    """Its verdicts, its decision, and what the ledger holds; another one is not found."""
    world, _, _ = contoso()
    with Stage(world) as stage:
        assert 404 == get(stage, "/api/gateways/apim-contoso").status
        stage.tick()
        found = get(stage, "/api/gateways/APIM-Contoso")
        assert 200 == found.status
        hold("Gateway", found.json())
        assert "apim-contoso" == found.json()["gateway"]
        assert HOST in {v["hostname"] for v in found.json()["verdicts"]}
        assert {"apim-contoso"} == {v["gateway"] for v in found.json()["verdicts"]}
        missing = get(stage, "/api/gateways/nobody")
        assert 404 == missing.status
        hold("Problem", missing.json())


def test_where_nothing_is_and_where_the_method_is_wrong_a_problem_says_so() -> None:
    """404 and 405 with an operation id, for those with a key; 401 for everybody else."""
    world, _, _ = contoso()
    with Stage(world) as stage:
        nothing = get(stage, "/api/nothing/at/all")
        wrong = get(stage, "/api/resync")
        deleted = stage.host.request("DELETE", "/api/gateways/apim-contoso", key="function")
        assert (404, 405, 405) == (nothing.status, wrong.status, deleted.status)
        assert ("POST", "GET") == (wrong.headers["Allow"], deleted.headers["Allow"])
        for answer in (nothing, wrong, deleted):
            assert "application/problem+json" == answer.headers["Content-Type"]
            hold("Problem", answer.json())
            assert re.fullmatch("[0-9a-f]{32}", answer.json()["operation_id"])
        assert 401 == stage.host.request("GET", "/api/nothing").status
        assert [] == world.requests


def test_what_is_served_is_the_document() -> None:
    """GET /api/openapi.json, with a key."""
    world, _, _ = contoso()
    with Stage(world) as stage:
        assert DOCUMENT == get(stage, "/api/openapi.json").json()
        assert 401 == stage.host.request("GET", "/api/openapi.json").status


def test_the_document_has_the_functions_that_are_registered_and_no_others() -> None:
    """Names, routes, methods, and which of them needs no key."""
    triggers = {
        function["name"]: next(b for b in map(_object, function["bindings"]) if b["type"].endswith("Trigger"))
        for function in run_backend("sdk", PROJECT, [])["functions"]
    }
    registered = {
        (name, f"/api/{trigger['route']}", method.lower(), trigger["authLevel"] == "ANONYMOUS")
        for name, trigger in triggers.items()
        if trigger["type"] == "httpTrigger" and trigger["route"].partition("/")[0] != PAGE
        for method in trigger.get("methods") or ()
    }
    described = {
        (operation["operationId"], path, method, operation.get("security") == [])
        for path, operations in DOCUMENT["paths"].items()
        for method, operation in operations.items()
    }

    assert described == registered
    assert "{*path}" == triggers["unknown"]["route"]


def test_no_function_is_hidden_behind_the_one_that_takes_every_path() -> None:
    """Azure's host tries routes by function name, newer ones the specific first: in both it comes last."""
    names = [function["name"].casefold() for function in run_backend("sdk", PROJECT, [])["functions"]]

    assert "unknown" == max(names)


def _object(binding: Any) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(binding) if isinstance(binding, str) else binding
    return loaded


def test_the_document_has_the_fields_and_words_of_the_code() -> None:
    """Fields of a resync, filters, and every closed list."""
    asked = schema("ResyncRequest")["properties"]
    filters = {
        path: [p["name"] for p in DOCUMENT["paths"][path]["get"]["parameters"] if "name" in p]
        for path in ("/api/status", "/api/rotations")
    }
    words = {
        ("Verdict", "status"): Status,
        ("Verdict", "reason"): Reason,
        ("Decision", "choice"): Choice,
        ("Unserved", "fault"): ProbeFault,
        ("Rotation", "caught_by"): Trigger,
        ("Verdict", "gateway_kind"): GatewayKind,
    }

    assert set(api._FIELDS) == set(asked)
    assert set(OVERRIDABLE) == set(asked["override"]["oneOf"][0]["enum"])
    assert [*api.STATUS_FILTERS] == filters["/api/status"]
    assert [*api.ROTATION_FILTERS] == filters["/api/rotations"]
    assert api.MOST_ITEMS == DOCUMENT["components"]["parameters"]["limit"]["schema"]["maximum"]
    for (name, field), expected in words.items():
        assert [*map(str, expected)] == schema(name)["properties"][field]["enum"], field
    assert [*map(str, SyncOutcome), None] == schema("Decision")["properties"]["outcome"]["enum"]


def test_the_document_is_openapi() -> None:
    """Its schemas are JSON Schema, its references lead somewhere, and the format's validator takes it."""
    for body in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(body)
    text = json.dumps(DOCUMENT)
    targets = set(re.findall(r'"\$ref": "#/components/(\w+)/(\w+)"', text))
    there = {(kind, name) for kind, named in DOCUMENT["components"].items() for name in named}
    assert targets == there - {(kind, name) for kind, name in there if kind == "securitySchemes"}

    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(DOCUMENT)


def test_the_page_of_the_api_has_what_the_document_has() -> None:
    """docs/http-api.md names every place, role, field, filter and status, and no other place."""
    page = (PROJECT / "docs/http-api.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([A-Z]+) (/api/[^`]+)` \| ([^|]+) \|", page, re.MULTILINE)
    described = {
        (method.upper(), path): operation.get("security") == []
        for path, operations in DOCUMENT["paths"].items()
        for method, operation in operations.items()
    }
    roles = {"GET": f"`{api.Role.READER}`", "POST": f"`{api.Role.OPERATOR}`"}
    statuses = {
        status
        for operations in DOCUMENT["paths"].values()
        for operation in operations.values()
        for status in operation["responses"]
        if status.startswith(("4", "5"))
    }
    table = re.findall(r"^\| ([\d, ]+) \|", page, re.MULTILINE)

    assert {place: "nobody's" if open_ else roles[place[0]] for place, open_ in described.items()} == {
        (method, path): role.strip() for method, path, role in rows
    }
    assert statuses | {"405"} == {status.strip() for cell in table for status in cell.split(",")}
    for name in (*api._FIELDS, *api.STATUS_FILTERS, *api.ROTATION_FILTERS):
        assert f"`{name}`" in page, name


def principal(*roles: str) -> dict[str, str]:
    """The header that App Service Authentication sets for somebody with these app roles."""
    body = {"auth_typ": "aad", "claims": [{"typ": "roles", "val": role} for role in roles]}
    return {"x-ms-client-principal": base64.b64encode(json.dumps(body).encode()).decode()}


def test_with_sign_in_a_role_opens_what_a_key_did() -> None:
    """Readers read, operators act; liveness and the webhook ask for no role."""
    world, certificate, service = contoso()
    with Stage(world, {"ROTATION_SIGN_IN": "on", "WEBSITE_AUTH_ENABLED": "True"}) as stage:

        def ask(method: str, path: str, *roles: str) -> int:
            body = {"hostname": HOST} if path == "/api/resync" else None
            return stage.host.request(method, path, headers=principal(*roles), json=body).status

        assert 200 == stage.host.request("GET", "/api/health").status
        for path in ("/api/status", "/api/rotations", "/api/openapi.json"):
            assert [200, 200, 403] == [ask("GET", path, role) for role in ("reader", "operator", "guest")], (
                path
            )
            refused = get(stage, path)
            assert 401 == refused.status
            hold("Problem", refused.json())
        assert [403, 202] == [ask("POST", "/api/resync", role) for role in ("reader", "operator")]
        assert [403, 200] == [ask("POST", "/api/resume", role) for role in ("reader", "operator")]
        assert [401, 403, 404] == [
            stage.host.request("GET", "/api/nothing").status,
            ask("GET", "/api/nothing"),
            ask("GET", "/api/nothing", "reader"),
        ]

        certificate.renew()
        stage.settle()
        assert [202] == [delivery.status for delivery in stage.azure.event_grid.deliveries]
        assert len(service.syncs) == 1


def test_without_the_platforms_authentication_no_header_opens_anything() -> None:
    """Keys stay asked for, and the setting is a mistake that is named."""
    world, _, _ = contoso()
    with Stage(world, {"ROTATION_SIGN_IN": "on"}) as stage:
        assert 401 == stage.host.request("GET", "/api/status", headers=principal("operator")).status
        told = get(stage, "/api/status")
        assert 503 == told.status
        assert "App Service Authentication is off" in told.json()["detail"]


NOTICES = {"ROTATION_NOTICES": f"https://{TOPIC}/api/events"}


def test_a_topic_is_told_what_was_proven_blocked_and_drifts() -> None:
    """CloudEvents, once each; a dry run and a second look tell nothing."""
    world, certificate, service = contoso()

    def told(kind: str) -> list[dict[str, Any]]:
        return [notice for notice in world.notices if notice["type"] == kind]

    with Stage(world, NOTICES) as stage:
        stage.tick()
        assert [] == world.notices
        certificate.renew()
        stage.settle()
        world.clock.advance(timedelta(minutes=40))
        stage.tick()
        stage.tick()
        (proven,) = told("Rotation.Proven")
        assert (service.id, "https://kv-contoso.vault.azure.net/certificates/contoso-com") == (
            proven["source"],
            proven["subject"],
        )
        assert proven["data"]["seconds_to_served"] > 0

        certificate.renew(announce=False)
        world.faults.append(Fault(Server.ARM, "refreshHostnames", status=409, times=None))
        stage.tick()
        assert [] == told("Rotation.Drifted")
        world.clock.advance(timedelta(minutes=150))
        stage.tick()
        stage.tick()
        (drifted,) = told("Rotation.Drifted")
        assert (HOST, "STALE", "true") == (
            drifted["subject"],
            drifted["data"]["status"],
            drifted["data"]["drift"],
        )

        certificate.disable()
        stage.resync(all=True, dry_run=True)
        assert [] == told("Rotation.Blocked")
        stage.tick()
        stage.tick()
        (blocked,) = told("Rotation.Blocked")
        assert (HOST, "VersionDisabled") == (blocked["subject"], blocked["data"]["reason"])
        ids = [n["id"] for n in world.notices]
        assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(Server.TOPIC, hang=True, times=None),
        Fault(Server.TOPIC, reset=True, times=None),
        Fault(Server.TOPIC, status=403, body={"error": {"code": "Forbidden", "message": "no"}}, times=None),
        Fault(Server.TOPIC, status=503, headers={"Retry-After": "99999"}, times=None),
    ],
    ids=["hangs", "resets", "forbids", "is away"],
)
def test_a_topic_that_fails_is_a_line_in_the_log(fault: Fault) -> None:
    """The rotation, its report and its telemetry are as ever."""
    world, certificate, service = contoso()
    with Stage(world, NOTICES) as stage:
        stage.tick()
        world.faults.append(fault)
        certificate.renew()
        stage.settle()
        world.clock.advance(timedelta(minutes=40))

        assert "IN_SYNC" == stage.tick()[HOST]["status"]
        assert [202] == [delivery.status for delivery in stage.azure.event_grid.deliveries]
        assert (1, 1) == (len(service.syncs), len(world.custom_events("RotationProven")))
        assert [] == world.notices
        assert "notice(s) were not taken: https://topic-contoso" in stage.host.log()
