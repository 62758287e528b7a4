"""Bad input at the HTTP API and the status page, from somebody with a function key, or without one.

Right is the status. Every answer of the API but 2xx and the host's own is a problem (RFC 9457) that shows
nothing of the app's inside; nothing that was sent comes back unescaped, and nothing is synced.
"""

import gzip
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandbox.host.process import Response
from tests.bad_input.table import Case, Held
from tests.bad_input.world import HOST, Door, raised

API = "tests/unit/test_api.py"
BAD = f"{API}::test_a_bad_body_is_refused"
JSON = {"Content-Type": "application/json"}
SCRIPT = "%3Cscript%3Ealert(1)%3C/script%3E"
MISSING = (
    "/subscriptions/ffffffff-0000-0000-0000-000000000000/resourceGroups/x/providers/Microsoft.ApiManagement"
)


def ask(
    method: str, path: str, body: object = None, key: str | None = "function", **headers: str
) -> dict[str, object]:
    """A request, as `host.request` takes it."""
    sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    return {"method": method, "path": path, "body": sent, "key": key, "headers": {**JSON, **headers}}


def resync(body: object, **headers: str) -> dict[str, object]:
    """POST /api/resync."""
    return ask("POST", "/api/resync", body, **headers)


# fmt: off
CASES = (
    Case("B31", "GET on resync", "a link that acts", 405, ask("GET", "/api/resync")),
    Case("B31", "PUT on resync", "another method", 405, ask("PUT", "/api/resync", {"all": True})),
    Case("B31", "DELETE on status", "another method", 405, ask("DELETE", "/api/status")),
    Case("B32", "no body", "nothing asked", 400, resync(b"")),
    Case("B32", "an empty object", "nothing asked", 400, resync({})),
    Case("B33", "no JSON", "no object", 400, resync(b"all=true")),
    Case("B33", "a form", "what a page of another site can send", 415, resync(b"all=true", **{"Content-Type": "application/x-www-form-urlencoded"})),
    Case("B33", "text", "what a page of another site can send", 415, resync({"all": True}, **{"Content-Type": "text/plain"})),
    Case("B34", "a body of 16 KB and one byte", "memory", 413, resync(b'{"all": true, "x": "' + b"y" * 16_363 + b'"}')),
    Case("B34", "a body of two megabytes", "memory", 413, resync(b"x" * 2**21)),
    Case("B35", "a list", "no object", 400, resync([{"all": True}])),
    Case("B35", "a string", "no object", 400, resync("all")),
    Case("B35", "nested 8,000 deep", "recursion", 400, resync(b"[" * 8000 + b"]" * 8000)),
    Case("B36", "a host to connect to", "SSRF", 400, resync({"all": True, "host": "169.254.169.254"})),
    Case("B36", "a URL to fetch", "SSRF", 400, resync({"all": True, "url": "https://evil.example"})),
    Case("B36", "a thumbprint to believe", "a wrong verdict", 400, resync({"all": True, "thumbprint": "A" * 40})),
    Case("B37", "a gateway that climbs", "path", 400, resync({"gateway": "../../x"})),
    Case("B37", "a gateway of another provider", "another resource", 404, resync({"gateway": f"{MISSING.rpartition('/')[0]}/Microsoft.Storage/storageAccounts/x"})),
    Case("B37", "a gateway of 2,000 characters", "length", 400, resync({"gateway": MISSING + "/x" * 1000})),
    Case("B38", "a gateway out of scope", "somebody else's", 404, resync({"gateway": f"{MISSING}/service/apim-fabrikam"})),
    Case("B40", "a gateway with a slash behind", "another id to a parser", 400, resync({"gateway": f"{MISSING}/service/x/"})),
    Case("B40", "a gateway with a NUL", "another id to a parser", 400, resync({"gateway": f"{MISSING}/service/x%00"})),
    Case("B41", "force that is a word", "true to a careless parser", 400, resync({"all": True, "force": "yes"})),
    Case("B44", "a gzip bomb", "10 MB in 10 KB; ours inflates it first, Azure's does not", (400, 413), resync(gzip.compress(b" " * 10**7), **{"Content-Encoding": "gzip"})),
    Case("B45", "no key", "nobody", 401, ask("GET", "/api/status", key=None)),
    Case("B45", "a wrong key", "nobody", 401, ask("GET", "/api/page", key="wrong")),
    Case("B47", "another Host and forwarded host", "links to elsewhere", 200, ask("GET", "/api/page", Host="evil.example", **{"X-Forwarded-Host": "evil.example"})),
    Case("B48", "script in the page's search", "runs in a browser", 200, ask("GET", f"/api/page?q={SCRIPT}&status={SCRIPT}&page={SCRIPT}")),
    Case("B49", "a preflight from elsewhere", "another site's script", (404, 405), ask("OPTIONS", "/api/resync", Origin="https://evil.example", **{"Access-Control-Request-Method": "POST"})),
    Case("B50", "a method in a header", "past the route", 405, ask("GET", "/api/resync", **{"X-HTTP-Method-Override": "POST"})),
    Case("own", "script in a path", "shown in a problem", 404, ask("GET", f"/api/{SCRIPT}")),
    Case("own", "a path that climbs", "a file of the app", 404, ask("GET", "/api/page/..%2f..%2ffunction_app.py")),
    Case("own", "a file that is none", "a file of the app", 404, ask("GET", "/api/page/page.html", key=None)),
    Case("own", "script in a gateway's name", "shown in a problem", 404, ask("GET", f"/api/gateways/{SCRIPT}")),
    Case("own", "line breaks in a gateway's name", "another header or log line", 404, ask("GET", "/api/gateways/x%0d%0aSet-Cookie:%20a=b")),
    Case("own", "an operation that climbs", "another row", 404, ask("GET", "/api/operations/..%2f..%2fx")),
    Case("own", "an operation with a quote", "SQL", 404, ask("GET", "/api/operations/'%20OR%201=1--")),
    Case("own", "an unknown filter", "not what was meant", 400, ask("GET", "/api/status?statsu=STALE")),
    Case("own", "a limit of minus one", "all rows", 400, ask("GET", "/api/status?limit=-1")),
    Case("own", "a limit in other digits", "int() takes them", 400, ask("GET", "/api/status?limit=%D9%A3")),
    Case("own", "an offset of a thousand digits", "arithmetic", 400, ask("GET", f"/api/rotations?offset={'9' * 1000}")),
    Case("own", "a filter with terminal escapes", "whoever reads the answer", 400, ask("GET", "/api/status?status=%1b%5b31m")),
    Case("own", "a pause without a reason", "who was it", 400, ask("POST", "/api/pause", {"reason": " "})),
    Case("own", "a pause with control characters alone", "nothing to read", 400, ask("POST", "/api/pause", {"reason": "\u202e\r\n"})),
    Case("own", "an override that cannot be", "past every brake", 400, resync({"all": True, "override": ["OutOfScope"]})),
    Case("own", "an override of 1,000 names", "work", 400, resync({"all": True, "override": ["x"] * 1000})),
    Case("own", "a hostname of another alphabet", "a look-alike", 400, resync({"hostname": "\u0430pi.contoso.com"})),
    Case("own", "a trace parent that is none", "the id of every problem", 404, ask("GET", "/api/nothing", traceparent="00-<script>-x")),
    Case("own", "a header of 4,000 characters", "logged somewhere", 404, ask("GET", "/api/nothing", **{"User-Agent": "x" * 4000})),
    Case("own", "a principal's header without sign-in", "an operator by word alone", 401, ask("POST", "/api/resync", {"all": True}, None, **{"x-ms-client-principal": "eyJhdXRoX3R5cCI6ImFhZCJ9"})),
    Case("own", "an If-None-Match of 4,000 tags", "work", 200, ask("GET", "/api/status", **{"If-None-Match": '"x",' * 1000})),
    Case("own", "the admin's route with a function key", "another key's door", 403, ask("POST", "/admin/functions/check_drift", {"input": ""})),
)
# fmt: on

# fmt: off
ELSEWHERE = (
    Held("B35", "a number of ten thousand digits", "int() refuses it", "400", f"{BAD}[a number of ten thousand digits]"),
    Held("own", "two things named at once", "which one", "400", f"{BAD}[two things named]"),
    Held("B42", "force a hundred times", "a storm", "one sync, then ForceLimited", "tests/scenarios/test_doors.py::test_a_resync_by_hand_goes_the_same_path_and_is_held_by_the_same_brakes"),
    Held("own", "a field twice", "parsers differ", "the last is taken", f"{API}::test_of_a_field_given_twice_the_last_is_taken"),
    Held("B46", "a principal that is malformed", "App Service checks tokens, the app roles", "401", f"{API}::test_no_header_ever_raises_or_opens"),
    Held("B48", "names that want to be code", "come from ARM and certificates", "shown as text", "tests/unit/test_page.py::test_names_that_want_to_be_code_are_shown_as_text"),
    Held("own", "inline script and frames", "a browser that helps", "the policy forbids them", "tests/unit/test_page.py::test_the_policy_allows_nothing_inline_and_nobody_else"),
    Held("own", "any bytes as a body", "a shape nobody thought of", "never raises", f"{API}::test_no_bytes_ever_raise"),
    Held("own", "any query", "a shape nobody thought of", "never raises", f"{API}::test_no_query_ever_raises"),
)
# fmt: on


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_request_is_answered_with_a_status_and_no_more(door: Door, case: Case) -> None:
    """The table."""
    stage, _, service = door
    said = len(stage.host.log())
    answer: Response = stage.host.request(**case.given)

    assert answer.status in (case.right if isinstance(case.right, tuple) else (case.right,)), answer.text
    shown = answer.body + answer.headers.as_bytes()
    for piece in (b"<script>", b"evil.example", b"Set-Cookie", b"\x1b", b"Traceback", b"function_app"):
        assert piece not in shown
    assert answer.headers["Access-Control-Allow-Origin"] is None
    assert [] == raised(stage.host.log()[said:])
    if answer.status in {400, 405, 413, 415}:
        assert "application/problem+json" == answer.headers["Content-Type"]
        assert answer.status == answer.json()["status"]
        assert 700 > len(answer.json()["detail"])
    assert [] == service.syncs


def test_ten_resyncs_at_once_sync_nothing_twice(door: Door) -> None:
    """B52: all of them are answered, and a stale gateway is synced once."""
    stage, certificate, service = door
    certificate.renew(announce=False)
    with ThreadPoolExecutor(10) as hands:
        statuses = [answer.status for answer in hands.map(lambda _: stage.resync(hostname=HOST), range(10))]

    assert [202] * 10 == statuses
    assert 1 == len(service.syncs)
