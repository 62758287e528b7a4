"""What leaves by the doors when something is wrong, and what is written down about who asked."""

import asyncio
import base64
import json
import logging
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import pytest

import function_app
from rotation import api
from sandbox.host.process import FunctionsHost
from sandbox.stage import Stage
from sandbox.world import Hostname, World

PROJECT = Path(__file__).resolve().parents[2]
HOST = "api.contoso.com"
OPERATOR = "11111111-2222-3333-4444-555555555555"
SIGN_IN = {"ROTATION_SIGN_IN": "on", "WEBSITE_AUTH_ENABLED": "True"}


def contoso() -> World:
    """A world with one service."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
    world.add_service("apim-contoso", hostnames=(Hostname(HOST, certificate=certificate),))
    return world


def principal(*roles: str, name: str = "alice@contoso.com") -> dict[str, str]:
    """The header that App Service Authentication sets for a person with these app roles."""
    claims = [{"typ": "roles", "val": role} for role in roles]
    claims += [{"typ": "preferred_username", "val": name}, {"typ": "oid", "val": OPERATOR}]
    body = {"auth_typ": "aad", "claims": claims}
    return {"x-ms-client-principal": base64.b64encode(json.dumps(body).encode()).decode()}


def test_a_stored_report_that_makes_no_sense_is_told_in_fixed_words_with_an_id(tmp_path: Path) -> None:
    """One that nobody foresaw: no text of the exception leaves, and the log has it by its id."""
    ledger = tmp_path / "ledger.sqlite"
    with Stage(contoso(), {"ROTATION_LEDGER": str(ledger)}) as stage:
        stage.tick()
        with sqlite3.connect(ledger) as database:
            database.execute("UPDATE reports SET body = ?", (json.dumps({"verdicts": ["\x1b[31msecret"]}),))

        told = stage.host.request("GET", "/api/status?status=STALE", key="function")
        page = stage.host.request("GET", "/api/page", key="function")

        assert (503, "application/problem+json") == (told.status, told.headers["Content-Type"])
        assert function_app.SENSELESS == told.json()["detail"]
        assert 32 == len(told.json()["operation_id"])
        assert 503 == page.status
        assert function_app.SENSELESS in page.body.decode()
        for answer in (told, page):
            assert not {"Traceback", "TypeError", "secret", "report.py"} & set(answer.body.decode().split())
        assert "status: the report in the ledger makes no sense: TypeError" in stage.host.log()
        assert "status_page: the report in the ledger makes no sense: " in stage.host.log()
        assert "\x1b" not in stage.host.log()


BUGGY = """

@app.function_name("a_bug")
@app.route(route="a-bug", methods=["GET"])
@_answered
async def a_bug(call):
    raise LookupError("\\x1b[31ma secret\\r\\n2026-01-01 forged line")
"""


def test_a_bug_behind_a_door_is_told_in_fixed_words_with_an_id(tmp_path: Path) -> None:
    """The real app with a function more that raises: no text of it leaves, and the log has it by its id."""
    for name in ("host.json", "rotation"):
        (tmp_path / name).symlink_to(PROJECT / name)
    (tmp_path / "function_app.py").write_text((PROJECT / "function_app.py").read_text() + BUGGY)
    with FunctionsHost(tmp_path, {"ROTATION_SUBSCRIPTIONS": OPERATOR}) as host:
        told = host.request("GET", "/api/a-bug", key="function")

        assert (500, "application/problem+json") == (told.status, told.headers["Content-Type"])
        assert function_app.BROKEN == told.json()["detail"]
        assert 32 == len(told.json()["operation_id"])
        assert "a_bug failed: LookupError:  [31ma secret  2026-01-01 forged line" in host.log()


async def _break() -> NoReturn:
    raise LookupError("\x1b[31m\u202eno\r\n2026-01-01 forged line")


def test_a_bug_never_fails_a_delivery(caplog: pytest.LogCaptureFixture) -> None:
    """Event Grid would delay every other delivery; the log gets a cleaned line and our own frames."""
    with caplog.at_level(logging.ERROR, "rotation"):
        assert None is asyncio.run(function_app._guarded(_break(), "on_certificate_event"))

    (record,) = caplog.records
    first, *frames = record.getMessage().splitlines()
    assert "on_certificate_event failed: LookupError:  [31m no  2026-01-01 forged line" == first
    assert any("in _break" in frame for frame in frames)
    assert "\x1b" not in record.getMessage()


def test_who_pauses_resumes_and_forces_is_written_down() -> None:
    """By name and object id of who has signed in; the sync has its claim, its versions and its run."""
    world = contoso()
    with Stage(world, SIGN_IN) as stage:
        asked: Mapping[str, str] = principal("operator")
        host = stage.host
        paused = host.request("POST", "/api/pause", json={"reason": "freeze"}, headers=asked)
        resumed = host.request("POST", "/api/resume", headers=asked)
        forced = host.request("POST", "/api/resync", json={"hostname": HOST, "force": True}, headers=asked)

        past = {"hostname": HOST, "dry_run": True, "override": ["NamesLost"]}
        overridden = host.request("POST", "/api/resync", json=past, headers=asked)

        assert (200, 200, 202, 202) == (paused.status, resumed.status, forced.status, overridden.status)
        who = f"alice@contoso.com ({OPERATOR})"
        log = host.log()
        assert f"All syncs are paused: freeze, by {who}" in log
        assert f"All syncs are resumed, by {who}" in log
        assert f"Run {overridden.json()['run_id']} (hand by {who}) overrides NamesLost" in log
        (sync,) = world.custom_events("SyncRequested")
        runs = world.custom_events("RunCompleted")
        assert [who] * 3 == [event.properties["asked_by"] for event in (sync, *runs)]
        run_id = forced.json()["run_id"]
        claim = sync.properties["claim_id"]
        assert (run_id, "true") == (sync.properties["run_id"], sync.properties["forced"])
        assert claim
        assert sync.properties["versions"]
        assert f"Sync (run {run_id}, Force, hand by {who}, claim {claim}): apim-contoso" in log


def test_what_is_refused_is_written_down_too() -> None:
    """A decision that holds back names its run; a request that is refused names who, what and why."""
    world = contoso()
    with Stage(world, SIGN_IN) as stage:
        reader = principal("reader", name="mal\r\nlory\u202e\x1b[2J")
        operator = principal("operator")
        refused = stage.host.request("POST", "/api/resync?x=secret", json={"all": True}, headers=reader)
        wrong = stage.host.request("POST", "/api/resync", json={"url": "x"}, headers=operator)
        stage.host.request("POST", "/api/pause", json={"reason": "freeze"}, headers=operator)
        held = stage.host.request("POST", "/api/resync", json={"all": True, "force": True}, headers=operator)

        log = stage.host.log()
        assert (403, 400, 202) == (refused.status, wrong.status, held.status)
        assert f"POST /api/resync by mal  lory  [2J ({OPERATOR}) was refused: 403 The app role" in log
        assert f"POST /api/resync by alice@contoso.com ({OPERATOR}) was refused: 400 'url' is no field" in log
        assert "secret" not in log
        assert f"Paused (run {held.json()['run_id']}, Force, hand by alice@contoso.com" in log
        assert not {"\x1b", "\u202e"} & set(log)


@pytest.mark.parametrize(
    ("method", "site", "role", "expected"),
    [
        pytest.param("POST", "cross-site", "operator", 403, id="another site"),
        pytest.param("POST", "same-site", "operator", 403, id="a sibling of the app's domain"),
        pytest.param("POST", " Cross-Site ", "operator", 403, id="however it is written"),
        pytest.param("POST", "same-origin", "operator", None, id="the app's own page"),
        pytest.param("POST", "none", "operator", None, id="typed by hand"),
        pytest.param("POST", None, "operator", None, id="no browser"),
        pytest.param("GET", "cross-site", "reader", None, id="a link that leads here"),
    ],
)
def test_no_other_sites_page_acts_for_who_has_signed_in(
    method: str, site: str | None, role: str, expected: int | None
) -> None:
    """The session's cookie goes with every request to the app, whoever's page has sent it."""
    refused = api.refuse_entry(method, principal(role)["x-ms-client-principal"], site)

    assert expected == (refused.status if refused else None)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param(principal()["x-ms-client-principal"], f"alice@contoso.com ({OPERATOR})", id="a person"),
        pytest.param(None, "nobody known", id="nothing"),
        pytest.param("!", "nobody known", id="no base64"),
        pytest.param(base64.b64encode(b"[]").decode(), "nobody known", id="a list"),
        pytest.param(
            base64.b64encode(b'{"auth_typ": "aad", "claims": [{"typ": "azp", "val": "x"}]}').decode(),
            "x (no object id)",
            id="a program",
        ),
    ],
)
def test_a_caller_has_a_name(header: str | None, expected: str) -> None:
    """Whatever the header holds, there is something to write down."""
    assert expected == api.caller(header)
