"""HTTP functions and admin endpoints: status, keys and what a function sees, over real HTTP."""

import pytest

from sandbox.host.process import FunctionsHost
from tests.host.helpers import Notes

ANSWERS = [
    ("a function key opens a FUNCTION route", "GET /api/echo/7", "function", 200),
    ("so does the master key", "GET /api/echo/7", "master", 200),
    ("no key is 401", "GET /api/echo/7", None, 401),
    ("an unknown key is 401", "GET /api/echo/7", "made-up", 401),
    ("the key of the Event Grid extension opens no function", "GET /api/echo/7", "eventgrid_extension", 401),
    ("an ADMIN route takes the master key", "GET /api/guarded", "master", 202),
    ("an ADMIN route refuses a function key", "GET /api/guarded", "function", 401),
    ("an ANONYMOUS route needs none", "GET /api/plain", None, 200),
    ("an ANONYMOUS route does not mind a wrong one", "GET /api/plain", "made-up", 200),
    ("literals match in any case", "GET /API/Plain", None, 200),
    ("a trailing slash is the same route", "GET /api/plain/", None, 200),
    ("the path without the prefix is unknown", "GET /plain", None, 404),
    ("an unknown route is 404", "GET /api/nothing", None, 404),
    ("a wrong method is 404 and not 405", "DELETE /api/plain", None, 404),
    ("a route value that misses its constraint is 404", "GET /api/echo/seven", "function", 404),
    ("a route without methods takes all", "PATCH /api/files/special", None, 200),
    ("an exception is 500", "GET /api/boom", None, 500),
    ("a number as answer is 500", "GET /api/number", None, 500),
    ("None as answer is 500", "GET /api/number?none=1", None, 500),
    ("a disabled function is 404", "GET /api/off", "function", 404),
    ("a disabled function still asks for its key first", "GET /api/off", None, 401),
    ("a disabled function answers to the master key", "GET /api/off", "master", 200),
    ("the home page needs no key", "GET /", None, 200),
    ("ping needs no key", "GET /admin/host/ping", None, 200),
    ("status needs the master key", "GET /admin/host/status", "master", 200),
    ("status without a key is 401", "GET /admin/host/status", None, 401),
    ("status with a key of another kind is 403", "GET /admin/host/status", "function", 403),
    ("an unknown admin path is 404", "GET /admin/nothing", "master", 404),
]


@pytest.mark.parametrize(
    ("request_line", "key", "status"), [a[1:] for a in ANSWERS], ids=[a[0] for a in ANSWERS]
)
def test_every_request_gets_the_status_of_the_real_host(
    host: FunctionsHost, request_line: str, key: str | None, status: int
) -> None:
    """Proves routes, methods, keys and disabled functions in one table."""
    method, path = request_line.split()
    assert status == host.request(method, path, key=key).status


def test_a_function_sees_the_request_as_the_worker_would_show_it(host: FunctionsHost) -> None:
    """Proves names, joined values, dropped empty values, route values, body and trace context."""
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    path = "/api/echo/-7/a%20b?twice=1&twice=2&empty="
    answer = host.request("POST", path, key="function", body=b"hello", headers={"Traceparent": parent})
    seen = answer.json()
    assert seen["params"] == {"twice": "1,2"}
    assert seen["route_params"] == {"id": "-7", "name": "a b"}
    assert ("POST", f"{host.url}{path}") == (seen["method"], seen["url"])
    assert all(name == name.lower() for name in seen["headers"])
    assert seen["trace_parent"] == seen["trace_parent_of_old"]
    assert seen["trace_parent"].startswith(f"00-{'a' * 32}-")
    assert seen["trace_parent"] != parent
    assert (seen["function_name"], seen["retries"]) == ("echo", 0)


def test_every_invocation_has_an_id_and_a_trace_of_its_own(host: FunctionsHost) -> None:
    """Proves that two calls are never told apart by luck."""
    first, second = (host.request("GET", "/api/echo/1", key="function").json() for _ in range(2))
    assert first["invocation_id"] != second["invocation_id"]
    assert first["trace_parent"][:35] != second["trace_parent"][:35]


def test_a_response_keeps_its_headers_and_cookies(host: FunctionsHost) -> None:
    """Proves that what the function set arrives, with the cookie as a cookie."""
    answer = host.request("GET", "/api/echo/1", key="function")
    names = ("X-Custom", "Content-Type", "Set-Cookie")
    assert [answer.headers[name] for name in names] == ["yes", "application/json", "a=b; Path=/"]


def test_a_string_is_text_unless_it_is_a_response_object(host: FunctionsHost) -> None:
    """Proves both ways the host reads a string: as text, and as JSON with a body, a status and headers."""
    text = host.request("GET", "/api/plain?name=you")
    assert (text.status, text.text) == (200, "hello you")
    whole = host.request("GET", "/api/object")
    assert (whole.status, whole.headers["X-Pot"], whole.json()) == (418, "tea", {"method": "GET"})


def test_a_literal_route_wins_over_a_catch_all(host: FunctionsHost) -> None:
    """Proves the precedence of routes and that the catch-all keeps its slashes."""
    assert host.request("GET", "/api/files/special").text == "special GET"
    assert host.request("GET", "/api/files/a/b.txt").text == "a/b.txt"


def test_the_header_key_wins_over_the_one_in_the_query(host: FunctionsHost) -> None:
    """Proves which of two keys counts, and that a query key alone is enough."""
    path = f"/api/echo/1?code={host.keys['function']}"
    assert host.request("GET", path).status == 200
    assert host.request("GET", path, key="made-up").status == 401


def test_a_failure_answers_nothing_and_logs_the_traceback(host: FunctionsHost) -> None:
    """Proves that no detail leaks to the caller and that the log has it, under the invocation's id."""
    answer = host.request("GET", "/api/boom")
    assert answer.body == b""
    assert "ValueError: boom on GET" in host.log()


def test_what_a_function_logs_carries_its_invocation_id(host: FunctionsHost) -> None:
    """Proves that a log line can be tied to its call."""
    told = host.request("GET", "/api/echo/1", key="function").json()["invocation_id"]
    assert f"[{told}] function_app: echo was called" in host.log()


def test_the_admin_endpoint_runs_a_function_in_the_background(
    host: FunctionsHost, shared_notes: Notes
) -> None:
    """Proves POST /admin/functions/{name}: 202 at once, and the function ran when the host is idle again."""
    shared_notes.clear()
    host.run("tick")
    assert [note["past_due"] for note in shared_notes.of("tick")] == [False]
    host.run("arrived", {"id": "by-hand", "data": {}})
    assert [note["id"] for note in shared_notes.of("event")] == ["by-hand"]


RUNS = [
    ("an unknown function is 404", "/admin/functions/nothing", b'{"input": ""}', "master", 404),
    ("a function this host does not run is 404", "/admin/functions/queued", b'{"input": ""}', "master", 404),
    ("an empty body is 400", "/admin/functions/tick", b"", "master", 400),
    ("no key is 401", "/admin/functions/tick", b'{"input": ""}', None, 401),
    ("another key is 403", "/admin/functions/tick", b'{"input": ""}', "function", 403),
]


@pytest.mark.parametrize(("path", "body", "key", "status"), [r[1:] for r in RUNS], ids=[r[0] for r in RUNS])
def test_a_wrong_admin_run_is_refused(
    host: FunctionsHost, path: str, body: bytes, key: str | None, status: int
) -> None:
    """Proves what the admin endpoint refuses."""
    assert status == host.request("POST", path, body=body, key=key).status
