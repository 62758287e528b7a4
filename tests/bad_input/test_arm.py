"""Bad answers of Azure Resource Manager, or of somebody in its place, while Resource Graph does not answer.

Right is what a pass then says: a verdict, or a problem that names the subscription or the service. Never a
sync, never a wrong verdict, and the next pass is as if nothing had been.
"""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from sandbox.arm_bodies import service_body
from sandbox.world import Fault, Server, Service
from tests.bad_input.table import Case, Held
from tests.bad_input.world import HOST, Door, answered, contoso, tick_with

LIST, SYNC = "tests/clients/test_arm_list.py", "tests/clients/test_arm_sync.py"
SERVICE = "tests/clients/test_api_management.py"
WELL, UNKNOWN, PROBLEM, GONE = "IN_SYNC Served", "UNKNOWN", "a problem", "not listed"
EVIL = "<script>\x1b[31m\u202e\r\nforged"


raw = partial(answered, Server.ARM, "ApiManagement/service$")


def at(*path: str | int, value: object) -> tuple[tuple[str | int, ...], object]:
    """The listed service with another value in one place."""
    return path, value


P = "properties"
H = (P, "hostnameConfigurations")

# fmt: off
CASES = (
    Case("B87", "a captive portal's page", "is no ARM", PROBLEM, raw(b"<html>Sign in</html>", Content_Type="text/html")),
    Case("B87", "nothing", "an empty fleet to a careless reader", PROBLEM, raw(b"")),
    Case("B87", "half of JSON", "cut off", PROBLEM, raw(b'{"value": [{"id": "/subscr')),
    Case("B87", "9 MB of JSON", "memory", PROBLEM, raw(b'{"value": ["' + b"x" * (9 * 2**20) + b'"]}')),
    Case("B87", "nested 20,000 deep", "recursion", PROBLEM, raw(b'{"value": ' + b"[" * 20_000 + b"]" * 20_000 + b"}")),
    Case("own", "a list in place of a page", "another shape", PROBLEM, raw(b"[]")),
    Case("own", "no value", "an empty fleet to a careless reader", PROBLEM, raw(b"{}")),
    Case("own", "services that are text", "another shape", PROBLEM, raw(b'{"value": ["apim"]}')),
    Case("own", "a 403 with script in its message", "shown on the page", PROBLEM, raw(json.dumps({"error": {"code": EVIL, "message": EVIL}}).encode(), 403)),
    Case("own", "a 404 of another service", "not ARM's", PROBLEM, raw(b"<h1>no</h1>", 404)),
    Case("own", "a redirect", "a token for elsewhere", PROBLEM, raw(b"", 302, Location="https://evil.example/")),
    Case("own", "a body that claims to be compressed", "the decoder raises", PROBLEM, raw(b'{"value": []}', Content_Encoding="gzip")),
    Case("own", "a date that is none", "deadlines go by it", PROBLEM, raw(b'{"value": [5]}', Date="yesterday")),
    Case("B93", "a next page elsewhere", "a token for elsewhere", PROBLEM, raw(b'{"value": [], "nextLink": "https://evil.example/"}')),
    Case("own", "a next page that is a number", "another shape", PROBLEM, raw(b'{"value": [], "nextLink": 5}')),
    Case("own", "an id that climbs", "another resource", PROBLEM, at("id", value="/subscriptions/../x")),
    Case("own", "no properties", "another shape", PROBLEM, at(P, value=None)),
    Case("own", "hostnames that are text", "another shape", PROBLEM, at(*H, value="api.contoso.com")),
    Case("own", "a hostname that is a number", "another shape", PROBLEM, at(*H, 1, value=5)),
    Case("own", "tags that are a list", "who may act", PROBLEM, at("tags", value=["rotation-exclude"])),
    Case("own", "a ring of nonsense", "who goes first", WELL, at("tags", value={"rotation-ring": EVIL})),
    Case("own", "a capacity of 10^30", "a flood of connections", WELL, at("sku", value={"name": "Premium", "capacity": 10**30})),
    Case("own", "a capacity of minus one", "no connection, and so no proof", WELL, at("sku", value={"name": "Premium", "capacity": -1})),
    Case("own", "a thumbprint with script", "shown on the page", WELL, at(*H, 1, "certificate", value={"thumbprint": EVIL})),
    Case("own", "an expiry that is none", "dates", WELL, at(*H, 1, "certificate", value={"expiry": "never"})),
    Case("own", "a state of nonsense", "busy or idle", WELL, at(P, "provisioningState", value=EVIL)),
    Case("own", "a gateway at the metadata service", "SSRF", UNKNOWN, at(P, "gatewayRegionalUrl", value="https://169.254.169.254/")),
    Case("own", "a gateway at loopback", "SSRF", UNKNOWN, at(P, "gatewayRegionalUrl", value="https://127.0.0.1:22/")),
    Case("own", "a gateway at a name of nonsense", "the resolver raises", UNKNOWN, at(P, "gatewayRegionalUrl", value="https://a..b\0/")),
    Case("B89", "a Key Vault id with user info", "another vault", GONE, at(*H, 1, "keyVaultId", value="https://kv-contoso.vault.azure.net@evil.example/secrets/x")),
    Case("B89", "a Key Vault id of another suffix", "another vault", GONE, at(*H, 1, "keyVaultId", value="https://kv-contoso.evil.example/secrets/x")),
    Case("B89", "a Key Vault id that is a list", "another shape", GONE, at(*H, 1, "keyVaultId", value=["x"])),
)
# fmt: on

# fmt: off
ELSEWHERE = (
    Held("own", "a service that is neither read nor listed", "silence", "a problem", f"{LIST}::test_an_odd_service_hides_no_other"),
    Held("B89", "a Key Vault id with a version", "pinned", "pinned, never followed", f"{SERVICE}::test_a_key_vault_id_is_read_strictly[with a version]"),
    Held("B89", "with a slash, in upper case, of a certificate", "the same", "read alike", f"{SERVICE}::test_a_key_vault_id_is_read_strictly[a slash at the end]"),
    Held("own", "a Location elsewhere", "a token for elsewhere", "not kept", f"{SYNC}::test_only_arms_own_location_is_kept"),
    Held("B91", "a Retry-After of nonsense", "never, or at once", "left out", f"{SYNC}::test_the_wait_that_is_asked_for_is_passed_on"),
    Held("B91", "a Retry-After of years", "never", "an hour at most", "tests/scenarios/test_doors.py::test_a_sync_that_was_not_accepted_is_sent_once_and_again_only_when_due"),
    Held("own", "a 202 with a Retry-After on the sync", "the SDK would repeat it", "asked for once", f"{SYNC}::test_every_answer_has_a_meaning_and_is_asked_for_once"),
    Held("B93", "pages without end", "for ever", "200 pages", f"{LIST}::test_an_endless_listing_ends"),
    Held("own", "a redirect of the sync", "a POST for elsewhere", "not followed", f"{SYNC}::test_a_redirect_is_not_followed"),
)
# fmt: on


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    """One app for all rows, to which Resource Graph shows nothing."""
    with contoso() as all_well:
        all_well[0].world.graph.denied = True
        yield all_well


def answer(service: Service, given: Any) -> Fault:
    """What ARM says."""
    if isinstance(given, Fault):
        return given
    path, value = given
    body: Any = service_body(service, service.world.clock.now())
    inside = body
    for step in path[:-1]:
        inside = inside[step]
    inside[path[-1]] = value
    return raw({"value": [body]})


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_answer_of_arm_is_a_value(door: Door, case: Case) -> None:
    """The table."""
    verdicts, problems, _ = tick_with(door, answer(door[2], case.given))

    if case.right == PROBLEM:
        assert 1 <= len(problems)
        assert HOST not in verdicts
    elif case.right == GONE:
        assert verdicts[HOST].split()[0] in {"UNMANAGED", "BLOCKED", "UNKNOWN"}
    else:
        assert verdicts[HOST].startswith(case.right), problems
