import base64
import json
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotation.api import (
    LARGEST_BODY,
    ROTATION_FILTERS,
    STATUS_FILTERS,
    Problem,
    Query,
    Resync,
    etag,
    is_known,
    narrowed,
    read_query,
    read_resync,
    read_run_id,
    refuse_entry,
    unknown_place,
)
from rotation.model import CertificateId, Mode, Scope
from tests.unit.build import GATEWAY_ID, SUFFIX

JSON = "application/json"
CERTIFICATE = CertificateId("kv-gateways.vault.azure.net", "api-contoso-com")
HOST = Scope(hostname="api.contoso.com")
GUID = "11111111-2222-3333-4444-555555555555"

GOOD: dict[str, tuple[dict[str, object], Resync]] = {
    "everything": ({"all": True}, Resync(Scope(), Mode.REPAIR)),
    "a hostname": ({"hostname": "api.contoso.com"}, Resync(HOST, Mode.REPAIR)),
    "a hostname in another case": (
        {"hostname": "API.contoso.com"},
        Resync(Scope(hostname="API.contoso.com"), Mode.REPAIR),
    ),
    "a wildcard hostname": (
        {"hostname": "*.contoso.com"},
        Resync(Scope(hostname="*.contoso.com"), Mode.REPAIR),
    ),
    "a hostname of the greatest length": (
        {"hostname": ".".join(["a" * 49] * 5)},
        Resync(Scope(hostname=".".join(["a" * 49] * 5)), Mode.REPAIR),
    ),
    "a gateway": ({"gateway": GATEWAY_ID}, Resync(Scope(gateway_id=GATEWAY_ID), Mode.REPAIR)),
    "a gateway in another case": (
        {"gateway": GATEWAY_ID.upper()},
        Resync(Scope(gateway_id=GATEWAY_ID.upper()), Mode.REPAIR),
    ),
    "a certificate": ({"certificate": str(CERTIFICATE)}, Resync(Scope(certificate=CERTIFICATE), Mode.REPAIR)),
    "a certificate by its secret": (
        {"certificate": CERTIFICATE.secret_url},
        Resync(Scope(certificate=CERTIFICATE), Mode.REPAIR),
    ),
    "a certificate with a version": (
        {"certificate": f"{CERTIFICATE}/ee059b2bb5bc48398a53b168c6cdcb10"},
        Resync(Scope(certificate=CERTIFICATE), Mode.REPAIR),
    ),
    "a vault": ({"vault": "kv-gateways"}, Resync(Scope(vault_host=CERTIFICATE.vault_host), Mode.REPAIR)),
    "a vault by its host": (
        {"vault": "KV-Gateways.vault.azure.net"},
        Resync(Scope(vault_host=CERTIFICATE.vault_host), Mode.REPAIR),
    ),
    "a dry run": ({"hostname": "api.contoso.com", "dry_run": True}, Resync(HOST, Mode.OBSERVE)),
    "a dry run of everything": ({"all": True, "dry_run": True}, Resync(Scope(), Mode.OBSERVE)),
    "by force": ({"hostname": "api.contoso.com", "force": True}, Resync(HOST, Mode.FORCE)),
    "flags that are off": (
        {"hostname": "api.contoso.com", "force": False, "dry_run": False},
        Resync(HOST, Mode.REPAIR),
    ),
    "force with the dry run off": (
        {"hostname": "api.contoso.com", "force": True, "dry_run": False},
        Resync(HOST, Mode.FORCE),
    ),
}


@pytest.mark.parametrize(("body", "expected"), GOOD.values(), ids=GOOD)
def test_a_good_body_asks_for(body: dict[str, object], expected: Resync) -> None:
    """Proves every way to name what is to be looked at, and every mode."""
    actual = read_resync(JSON, json.dumps(body).encode(), SUFFIX)

    assert expected == actual


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON", "application/json; charset=utf-8", " application/json "],
)
def test_json_may_be_said_in_several_ways(content_type: str) -> None:
    """Proves that parameters and case of the content type do not matter."""
    expected = Resync(Scope(), Mode.REPAIR)
    actual = read_resync(content_type, b'{"all": true}', SUFFIX)

    assert expected == actual


TYPES = [
    "",
    "text/plain",
    "text/json",
    "application/jsonp",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/html; application/json",
    "gzip",
]


@pytest.mark.parametrize("content_type", TYPES, ids=[t or "none" for t in TYPES])
def test_another_content_type_is_refused_unread(content_type: str) -> None:
    """Proves that no browser's form reaches the parser."""
    expected = Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send Content-Type: application/json.")
    actual = read_resync(content_type, b'{"all": true}', SUFFIX)

    assert expected == actual


SIZES = {"16 KiB are read": (LARGEST_BODY, None), "a byte more is not": (LARGEST_BODY + 1, 413)}


@pytest.mark.parametrize(("size", "expected"), SIZES.values(), ids=SIZES)
def test_the_size_of_a_body_is_limited(size: int, expected: int | None) -> None:
    """Proves on which side of the limit a body is too large."""
    found = read_resync(JSON, b'{"all": true}'.ljust(size), SUFFIX)
    actual = found.status if isinstance(found, Problem) else None

    assert expected == actual


def hostname(text: object) -> bytes:
    """A body that names a hostname."""
    return json.dumps({"hostname": text}).encode()


def gateway(text: object) -> bytes:
    """A body that names a gateway."""
    return json.dumps({"gateway": text}).encode()


def certificate(text: object) -> bytes:
    """A body that names a certificate."""
    return json.dumps({"certificate": text}).encode()


GROUP = f"/subscriptions/{GUID}/resourceGroups/rg"
BAD: dict[str, tuple[bytes, str]] = {
    "no body": (b"", "Expecting value"),
    "spaces": (b"   ", "Expecting value"),
    "not JSON": (b"hostname=api.contoso.com", "Expecting value"),
    "half of JSON": (b'{"hostname": "api', "Unterminated string"),
    "JSON and more": (b'{"all": true} {"all": true}', "Extra data"),
    "not text": (b"\xff\xfe\xfa", "codec can't decode"),
    "compressed": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "codec can't decode"),
    "a list": (b'[{"all": true}]', "not an object"),
    "a string": (b'"all"', "not an object"),
    "a number": (b"1e999", "not an object"),
    "null": (b"null", "not an object"),
    "nested deeper than can be read": (b"[" * 16000, ""),
    "a number of ten thousand digits": (b'{"all": ' + b"9" * 10_000 + b"}", ""),
    "nothing named": (b"{}", "exactly one of gateway, hostname, certificate, vault, all is needed, not none"),
    "only a flag": (b'{"force": true}', "exactly one of"),
    "two things named": (
        b'{"hostname": "api.contoso.com", "all": true}',
        "exactly one of gateway, hostname, certificate, vault, all is needed, not hostname, all",
    ),
    "two things named, one of them null": (b'{"hostname": null, "all": true}', "exactly one of"),
    "an address to connect to": (b'{"all": true, "host": "10.0.0.1"}', "'host' is no field"),
    "a URL to fetch": (b'{"all": true, "url": "http://169.254.169.254/"}', "'url' is no field"),
    "a thumbprint to believe": (b'{"all": true, "thumbprint": "AB"}', "'thumbprint' is no field"),
    "a field in another case": (b'{"Hostname": "api.contoso.com"}', "'Hostname' is no field"),
    "a field with script": (b'{"<script>": 1}', "'<script>' is no field"),
    "a field with a line break": (b'{"a\\r\\nb": 1}', "is no field"),
    "a field that is half a character": (b'{"\\ud800": 1}', "is no field"),
    "all that is not true": (b'{"all": false}', "'all' is true"),
    "all that is null": (b'{"all": null}', "'all' is true"),
    "all that is a word": (b'{"all": "true"}', "'all' is true"),
    "all that is one": (b'{"all": 1}', "'all' is true"),
    "all that is no number": (b'{"all": NaN}', "'all' is true"),
    "force that is a word": (b'{"all": true, "force": "yes"}', "'force' is true or false"),
    "force that is one": (b'{"all": true, "force": 1}', "'force' is true or false"),
    "force that is null": (b'{"all": true, "force": null}', "'force' is true or false"),
    "a dry run that is a word": (b'{"all": true, "dry_run": "no"}', "'dry_run' is true or false"),
    "a dry run that is a list": (b'{"all": true, "dry_run": []}', "'dry_run' is true or false"),
    "a dry run by force": (b'{"all": true, "dry_run": true, "force": true}', "exclude each other"),
    "a hostname that is a number": (hostname(5), "'hostname' is a string"),
    "a hostname that is null": (hostname(None), "'hostname' is a string"),
    "a hostname that is a list": (hostname(["api.contoso.com"]), "'hostname' is a string"),
    "an empty hostname": (hostname(""), "'hostname' is a DNS name"),
    "a hostname of one label": (hostname("localhost"), "'hostname' is a DNS name"),
    "a hostname with a scheme": (hostname("https://api.contoso.com"), "'hostname' is a DNS name"),
    "a hostname with a port": (hostname("api.contoso.com:443"), "'hostname' is a DNS name"),
    "a hostname with a path": (hostname("api.contoso.com/x"), "'hostname' is a DNS name"),
    "a hostname with a space": (hostname("api.contoso.com "), "'hostname' is a DNS name"),
    "a hostname with a line break": (hostname("api.contoso.com\n"), "'hostname' is a DNS name"),
    "a hostname with a NUL": (hostname("api.contoso\0.com"), "'hostname' is a DNS name"),
    "a hostname with an empty label": (hostname("api..contoso.com"), "'hostname' is a DNS name"),
    "a hostname with a long label": (hostname("a" * 64 + ".com"), "'hostname' is a DNS name"),
    "a hostname with 255 characters": (hostname("a." * 126 + "com"), "'hostname' is a DNS name"),
    "a hostname with a star inside": (hostname("a.*.contoso.com"), "'hostname' is a DNS name"),
    "a hostname with script": (hostname("<script>alert(1)</script>"), "'hostname' is a DNS name"),
    "a hostname with a look-alike letter": (hostname("\u0430pi.contoso.com"), "'hostname' is a DNS name"),
    "a hostname with a letter that folds to ASCII": (
        hostname("\u017fervice.com"),
        "'hostname' is a DNS name",
    ),
    "a hostname with full-width dots": (hostname("api\uff0econtoso.com"), "'hostname' is a DNS name"),
    "a gateway that is a number": (gateway(5), "'gateway' is a string"),
    "a gateway that is true": (gateway(text=True), "'gateway' is a string"),
    "a gateway by its name": (gateway("apim-contoso"), "'gateway' is an ARM id"),
    "a gateway that climbs": (gateway("../../x"), "'gateway' is an ARM id"),
    "a gateway without a provider": (gateway(GROUP), "'gateway' is an ARM id"),
    "a gateway with a slash behind": (gateway(GATEWAY_ID + "/"), "'gateway' is an ARM id"),
    "a gateway with a query": (gateway(GATEWAY_ID + "?api-version=1"), "'gateway' is an ARM id"),
    "a gateway with a fragment": (gateway(GATEWAY_ID + "#x"), "'gateway' is an ARM id"),
    "a gateway with a percent sign": (gateway(GATEWAY_ID + "%00"), "'gateway' is an ARM id"),
    "a gateway with a line break": (gateway(GATEWAY_ID + "\n"), "'gateway' is an ARM id"),
    "a gateway with a space": (gateway(" " + GATEWAY_ID), "'gateway' is an ARM id"),
    "a gateway at a URL": (gateway("https://management.azure.com" + GATEWAY_ID), "'gateway' is an ARM id"),
    "a gateway without a slash before": (gateway(GATEWAY_ID[1:]), "'gateway' is an ARM id"),
    "a gateway in a made-up subscription": (
        gateway(GATEWAY_ID.replace(GUID, "all")),
        "'gateway' is an ARM id",
    ),
    "a gateway of two thousand characters": (gateway(GROUP + "/x" * 1000), "'gateway' is an ARM id"),
    "a vault that is a number": (b'{"vault": 5}', "'vault' is a string"),
    "a vault of another cloud": (b'{"vault": "kv-a.vault.azure.cn"}', "'vault' is the name of a vault"),
    "a vault at a URL": (b'{"vault": "https://kv-a.vault.azure.net"}', "'vault' is the name of a vault"),
    "a vault with two hyphens": (b'{"vault": "kv--a"}', "'vault' is the name of a vault"),
    "a vault with a line break": (b'{"vault": "kv-a\\n"}', "'vault' is the name of a vault"),
    "a certificate that is a number": (certificate(5), "'certificate' is a string"),
    "a certificate by its name": (certificate("api-contoso-com"), "is not a Key Vault object"),
    "a certificate of another site": (
        certificate("https://evil.example/certificates/x"),
        "is not a Key Vault",
    ),
    "a certificate of another cloud": (
        certificate("https://kv-gateways.vault.azure.cn/certificates/x"),
        "is not a Key Vault object of https://*.vault.azure.net",
    ),
    "a certificate with user info": (
        certificate("https://kv-gateways.vault.azure.net@evil.example/certificates/x"),
        "is not a Key Vault",
    ),
    "a certificate that is a key": (certificate("https://kv-gateways.vault.azure.net/keys/x"), "is neither"),
    "a certificate with a broken bracket": (certificate("https://[kv/certificates/x"), ""),
}


@pytest.mark.parametrize(("body", "expected"), BAD.values(), ids=BAD)
def test_a_bad_body_is_refused(body: bytes, expected: str) -> None:
    """Proves that the answer is 400, names what is wrong, and shows what to send."""
    found = read_resync(JSON, body, SUFFIX)

    assert isinstance(found, Problem)
    assert found.status is HTTPStatus.BAD_REQUEST
    assert expected in found.detail
    assert 'Send for example {"hostname": "api.contoso.com", "dry_run": true}.' in found.detail
    assert found.detail.isprintable()
    assert len(found.detail) < 400


def test_of_a_field_given_twice_the_last_is_taken() -> None:
    """Proves that a body means one thing only: what every JSON reader makes of it."""
    expected = Resync(Scope(hostname="b.contoso.com"), Mode.REPAIR)
    actual = read_resync(JSON, b'{"hostname": "a.contoso.com", "hostname": "b.contoso.com"}', SUFFIX)

    assert expected == actual


@given(body=st.binary() | st.text().map(str.encode), content_type=st.just(JSON) | st.text())
def test_no_bytes_ever_raise(body: bytes, content_type: str) -> None:
    """Proves that a request is answered whatever it holds."""
    found = read_resync(content_type, body, SUFFIX)

    assert isinstance(found, Problem | Resync)


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text(), max_size=2)
NAMES = st.sampled_from(["gateway", "hostname", "certificate", "vault", "all", "dry_run", "force"])


@given(fields=st.dictionaries(NAMES, VALUES, max_size=3))
def test_no_fields_ever_raise(fields: dict[str, object]) -> None:
    """Proves the same with our own names and values of every kind; a problem can always be sent."""
    found = read_resync(JSON, json.dumps(fields).encode(), SUFFIX)

    assert isinstance(found, Resync) or json.loads(found.to_json())["status"] == 400


def test_a_problem_is_what_rfc_9457_says() -> None:
    """Proves the body of application/problem+json."""
    expected = {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "'host' is no field",
        "operation_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    }
    problem = Problem(HTTPStatus.BAD_REQUEST, "'host' is no field")
    actual = json.loads(problem.to_json("4bf92f3577b34da6a3ce929d0e0e4736"))

    assert expected == actual


def test_a_problem_without_an_operation_does_not_speak_of_one() -> None:
    """Proves that there is no empty id to paste into Application Insights."""
    expected = {"type": "about:blank", "title": "Not Found", "status": 404, "detail": "x"}
    actual = json.loads(Problem(HTTPStatus.NOT_FOUND, "x").to_json())

    assert expected == actual


RUN = "0f8fad5b-d9cb-469f-a165-70867728950e"


@pytest.mark.parametrize("text", [RUN, RUN.upper()])
def test_an_operation_is_named_by_its_run(text: str) -> None:
    """Proves that the id may be pasted as a GUID is shown anywhere."""
    assert RUN == read_run_id(text)


@pytest.mark.parametrize("text", [None, "", "1", RUN + "0", f"{RUN}\n", "../" + RUN, "operation-" + RUN])
def test_what_cannot_be_a_run_is_not_looked_up(text: str | None) -> None:
    """Proves that nothing else reaches the ledger."""
    found = read_run_id(text)

    assert isinstance(found, Problem)
    assert found.status is HTTPStatus.NOT_FOUND


def verdict(gateway: str, hostname: str, status: str = "IN_SYNC", reason: str = "Served") -> dict[str, Any]:
    """As much of a written verdict as is asked for."""
    return {
        "gateway": gateway,
        "gateway_id": f"/subscriptions/s/{gateway}",
        "gateway_kind": "ApiManagement",
        "hostname": hostname,
        "status": status,
        "reason": reason,
    }


VERDICTS = [
    verdict("apim-A", "a.contoso.com", "BLOCKED", "PinnedVersion"),
    verdict("apim-B", "b.contoso.com", "STALE", "ServesOldVersion"),
    verdict("apim-A", "c.contoso.com"),
]

ASKED: dict[str, tuple[dict[str, str], list[str]]] = {
    "nothing": ({}, ["a", "b", "c"]),
    "a function key in the query": ({"code": "secret", "clientId": "default"}, ["a", "b", "c"]),
    "a gateway by name": ({"gateway": "APIM-a"}, ["a", "c"]),
    "a gateway by id": ({"gateway": "/Subscriptions/s/apim-b"}, ["b"]),
    "a gateway that is none": ({"gateway": "apim"}, []),
    "a hostname": ({"hostname": "B.contoso.com"}, ["b"]),
    "a status": ({"status": "blocked"}, ["a"]),
    "two statuses": ({"status": "BLOCKED, STALE"}, ["a", "b"]),
    "a reason": ({"reason": "ServesOldVersion"}, ["b"]),
    "a kind": ({"kind": "apimanagement"}, ["a", "b", "c"]),
    "a gateway and a status": ({"gateway": "apim-A", "status": "IN_SYNC"}, ["c"]),
    "a page": ({"limit": "2"}, ["a", "b"]),
    "the next page": ({"limit": "2", "offset": "2"}, ["c"]),
    "a page behind the end": ({"offset": "7"}, []),
}


@pytest.mark.parametrize(("params", "expected"), ASKED.values(), ids=ASKED)
def test_a_query_selects(params: dict[str, str], expected: list[str]) -> None:
    """Proves every filter of /api/status, alone and together, and its pages."""
    query = read_query(params, STATUS_FILTERS)

    assert isinstance(query, Query)
    found, _ = query.page(query.select(VERDICTS), "/api/status")
    assert expected == [item["hostname"][0] for item in found]


def test_a_page_leads_to_the_next_with_the_same_filters() -> None:
    """Proves that whoever follows `next` sees everything once."""
    query = read_query({"gateway": "/subscriptions/s/apim-a", "limit": "1"}, STATUS_FILTERS)

    assert isinstance(query, Query)
    _, first = query.page(query.select(VERDICTS), "/api/status")
    expected = {
        "total": 2,
        "limit": 1,
        "offset": 0,
        "next": "/api/status?gateway=/subscriptions/s/apim-a&limit=1&offset=1",
    }
    assert expected == first
    following = Query(query.filters, query.wanted, 1, 1)
    assert None is following.page(query.select(VERDICTS), "/api/status")[1]["next"]


def test_a_report_is_narrowed_to_the_gateways_that_have_what_is_wanted() -> None:
    """Proves it for decisions and rotations, which have no status of their own."""
    query = read_query({"status": "STALE"}, STATUS_FILTERS)
    others = [{"gateway_id": f"/subscriptions/s/apim-{letter}"} for letter in "AB"]

    assert isinstance(query, Query)
    shown, page = narrowed(
        {"as_of": "now", "verdicts": VERDICTS, "decisions": others, "rotations": others}, query
    )
    expected = {
        "as_of": "now",
        "verdicts": VERDICTS[1:2],
        "decisions": others[1:],
        "rotations": others[1:],
    }
    assert (expected, 1) == (shown, page["total"])


ROTATIONS = [
    {
        "gateway": "apim-a",
        "gateway_id": "/s/apim-a",
        "certificate": f"https://kv/certificates/{name}",
        "proven": proven,
    }
    for name, proven in (("one", None), ("two", "2026-03-02T10:00:00+00:00"))
]

ROTATIONS_ASKED: dict[str, tuple[dict[str, str], list[int]]] = {
    "nothing": ({}, [0, 1]),
    "a gateway": ({"gateway": "APIM-A"}, [0, 1]),
    "those that run": ({"running": "true"}, [0]),
    "those that have ended": ({"running": "False"}, [1]),
    "a certificate by name": ({"certificate": "TWO"}, [1]),
    "a certificate by URL": ({"certificate": "https://kv/certificates/one"}, [0]),
}


@pytest.mark.parametrize(("params", "expected"), ROTATIONS_ASKED.values(), ids=ROTATIONS_ASKED)
def test_a_query_selects_rotations(params: dict[str, str], expected: list[int]) -> None:
    """Proves every filter of /api/rotations."""
    query = read_query(params, ROTATION_FILTERS)

    assert isinstance(query, Query)
    assert [ROTATIONS[n] for n in expected] == query.select(ROTATIONS)


BAD_QUERIES: dict[str, tuple[dict[str, str], str]] = {
    "a parameter that is none": ({"host": "10.0.0.1"}, "'host' is no parameter; there are gateway, hostname"),
    "script": ({"<script>": "x"}, "'<script>' is no parameter"),
    "a status that is none": ({"status": "FINE"}, "'status' is one or more of IN_SYNC, SYNCING"),
    "half a list": ({"status": "STALE,"}, "'status' is one or more of"),
    "a reason that is none": ({"reason": "Bored"}, "'reason' is one or more of Served"),
    "a kind that is none": ({"kind": "Toaster"}, "'kind' is one or more of ApiManagement"),
    "half a character": ({"gateway": "\ud800"}, "'gateway' has characters that no name has"),
    "a terminal's escape": ({"hostname": "\x1b[2J"}, "'hostname' has characters that no name has"),
    "no items": ({"limit": "0"}, "'limit' is a whole number from 1 to 500"),
    "too many items": ({"limit": "501"}, "'limit' is a whole number from 1 to 500"),
    "a negative offset": ({"offset": "-1"}, "'offset' is a whole number"),
    "a number of ten thousand digits": ({"offset": "9" * 10_000}, "'offset' is a whole number"),
    "digits of another script": ({"limit": "\u0661"}, "'limit' is a whole number"),
}


@pytest.mark.parametrize(("params", "expected"), BAD_QUERIES.values(), ids=BAD_QUERIES)
def test_a_bad_query_is_refused(params: dict[str, str], expected: str) -> None:
    """Proves that a misspelt filter does not show everything, as if nothing had been asked."""
    found = read_query(params, STATUS_FILTERS)

    assert isinstance(found, Problem)
    assert found.status is HTTPStatus.BAD_REQUEST
    assert expected in found.detail


@given(params=st.dictionaries(st.text() | st.sampled_from([*STATUS_FILTERS, "limit"]), st.text(), max_size=3))
def test_no_query_ever_raises(params: dict[str, str]) -> None:
    """Proves that a query is answered whatever it holds, and selects what it can."""
    found = read_query(params, STATUS_FILTERS)

    assert isinstance(found, Problem) or len(found.select(VERDICTS)) <= 3


TAG = etag("x")
KNOWN = [(TAG, True), (f"W/{TAG}", True), (f'"other", {TAG}', True), ("*", True)]


@pytest.mark.parametrize(("header", "expected"), [*KNOWN, ('"other"', False), ("", False), (None, False)])
def test_an_answer_is_known_by_its_tag(header: str | None, expected: object) -> None:
    """Proves If-None-Match as RFC 9110 has it."""
    assert expected == is_known(header, TAG)


def test_another_answer_has_another_tag() -> None:
    """Proves that what has changed is sent."""
    assert etag("x") != etag("y")


def principal(*roles: str, auth_typ: str = "aad", typ: str = "roles") -> str:
    """The header that App Service Authentication sets."""
    claims = [{"typ": "name", "val": "operator"}, *({"typ": typ, "val": role} for role in roles)]
    body = {"auth_typ": auth_typ, "claims": claims, "name_typ": "name", "role_typ": "roles"}
    return base64.b64encode(json.dumps(body).encode()).decode()


OLD_CLAIM = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"
ENTRIES: dict[str, tuple[str, str | None, int | None]] = {
    "a reader reads": ("GET", principal("reader"), None),
    "an operator reads": ("GET", principal("operator"), None),
    "an operator acts": ("POST", principal("operator"), None),
    "who has both roles acts": ("POST", principal("reader", "operator"), None),
    "a role under its older name": ("POST", principal("operator", typ=OLD_CLAIM), None),
    "a reader does not act": ("POST", principal("reader"), 403),
    "a reader does not delete": ("DELETE", principal("reader"), 403),
    "no role reads nothing": ("GET", principal(), 403),
    "another role reads nothing": ("GET", principal("Reader", "admin"), 403),
    "a claim that is no role": ("GET", principal("reader", typ="groups"), 403),
    "another provider": ("GET", principal("operator", auth_typ="google"), 401),
    "no header": ("GET", None, 401),
    "an empty header": ("GET", "", 401),
    "no base64": ("GET", "{}", 401),
    "no JSON": ("GET", base64.b64encode(b"x").decode(), 401),
    "a list": ("GET", base64.b64encode(b"[]").decode(), 401),
    "null": ("GET", base64.b64encode(b"null").decode(), 401),
    "no claims": ("GET", base64.b64encode(b'{"auth_typ": "aad"}').decode(), 401),
    "claims that are a word": ("GET", base64.b64encode(b'{"auth_typ": "aad", "claims": "x"}').decode(), 401),
    "a value that is a list": (
        "GET",
        base64.b64encode(b'{"auth_typ": "aad", "claims": [{"typ": "roles", "val": ["reader"]}]}').decode(),
        401,
    ),
    "nested deeper than can be read": ("GET", base64.b64encode(b"[" * 100_000).decode(), 401),
}


@pytest.mark.parametrize(("method", "header", "expected"), ENTRIES.values(), ids=ENTRIES)
def test_who_has_signed_in_may(method: str, header: str | None, expected: int | None) -> None:
    """Proves what each app role opens, and that nonsense opens nothing."""
    found = refuse_entry(method, header)

    assert expected == (found and found.status)


def test_who_lacks_a_role_is_told_which() -> None:
    """Proves that the answer says what to ask for."""
    found = refuse_entry("POST", principal("reader"))

    assert found
    assert found.detail == "The app role operator is needed; ask for it to be assigned."


@given(header=st.text() | st.binary().map(lambda body: base64.b64encode(body).decode()))
def test_no_header_ever_raises_or_opens(header: str) -> None:
    """Proves that the door stays shut whatever is said at it."""
    assert refuse_entry("GET", header) is not None


DOCUMENT: dict[str, Any] = {"paths": {"/api/resync": {"post": {}}, "/api/gateways/{name}": {"get": {}}}}
PLACES: dict[str, tuple[str, str, int, str]] = {
    "a wrong method": ("GET", "/api/resync", 405, "POST"),
    "a wrong method in another case": ("DELETE", "/api/Resync/", 405, "POST"),
    "a wrong method of a place with a name": ("PUT", "/api/gateways/a", 405, "GET"),
    "nothing": ("GET", "/api/nothing", 404, ""),
    "deeper": ("GET", "/api/resync/more", 404, ""),
    "the root": ("GET", "/api/", 404, ""),
}


@pytest.mark.parametrize(("method", "path", "status", "allow"), PLACES.values(), ids=PLACES)
def test_where_nothing_is(method: str, path: str, status: int, allow: str) -> None:
    """Proves 405 with what is allowed, and 404."""
    problem = unknown_place(method, path, DOCUMENT)

    assert (status, allow) == (problem.status, problem.allow)
