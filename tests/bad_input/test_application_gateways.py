"""Bad answers about Application Gateways, by ARM or by whoever may change one, while Resource Graph is silent.

Right is what a pass then says of the gateway: a problem, or a verdict on its hostname. API Management beside it is
seen as ever, and no tag is set.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from sandbox.application_gateway import ApplicationGateway
from sandbox.world import Certificate, Fault, Hostname, Server, World
from tests.bad_input.table import Case, Held
from tests.bad_input.world import HOST, Door, answered, contoso, tick_with

GATEWAYS = "tests/clients/test_application_gateway.py"
SELF_HOSTED = "tests/clients/test_self_hosted.py"
SHOP = "shop.contoso.com"
WELL, UNKNOWN, PROBLEM, GONE = "IN_SYNC Served", "UNKNOWN", "a problem", "no address"
EVIL = "<script>\x1b[31m\u202e\r\nforged"
THEIRS = "ffffffff-0000-0000-0000-000000000000"

raw = partial(answered, Server.ARM, "Microsoft.Network/applicationGateways$")


def at(*path: str | int, value: object) -> tuple[tuple[str | int, ...], object]:
    """The listed gateway with another value in one place."""
    return path, value


P = "properties"
LISTENER = (P, "httpListeners", 0)
FRONTEND = (P, "frontendIPConfigurations", 0, P)

# fmt: off
CASES = (
    Case("own", "a captive portal's page", "is no ARM", PROBLEM, raw(b"<html>Sign in</html>", Content_Type="text/html")),
    Case("own", "nothing", "no gateway to a careless reader", PROBLEM, raw(b"")),
    Case("own", "9 MB", "memory", PROBLEM, raw({"value": ["x" * (9 * 2**20)]})),
    Case("own", "nested 20,000 deep", "recursion", PROBLEM, raw(b'{"value": ' + b"[" * 20_000 + b"]" * 20_000 + b"}")),
    Case("own", "a list in place of a page", "another shape", PROBLEM, raw([])),
    Case("own", "no value", "no gateway to a careless reader", PROBLEM, raw({})),
    Case("own", "gateways that are text", "another shape", PROBLEM, raw({"value": ["agw"]})),
    Case("own", "gateways that are null", "another shape", PROBLEM, raw({"value": [None]})),
    Case("own", "a next page elsewhere", "a token for elsewhere", PROBLEM, raw({"value": [], "nextLink": "https://evil.example/"})),
    Case("own", "a redirect", "a token for elsewhere", PROBLEM, raw(b"", 302, Location="https://evil.example/")),
    Case("own", "a 403 with script", "shown on the page", PROBLEM, raw({"error": {"code": EVIL, "message": EVIL}}, 403)),
    Case("own", "somebody else's gateway", "out of scope", PROBLEM, at("id", value=f"/subscriptions/{THEIRS}/resourceGroups/rg/providers/Microsoft.Network/applicationGateways/agw")),
    Case("own", "an id that climbs", "another resource", PROBLEM, at("id", value="/subscriptions/../x")),
    Case("own", "an id with a query", "another operation", PROBLEM, at("id", value=f"/subscriptions/{THEIRS}/resourceGroups/rg?x=/providers/Microsoft.Network/applicationGateways/agw")),
    Case("own", "listeners that are text", "another shape", PROBLEM, at(P, "httpListeners", value="x")),
    Case("own", "a listener that is a number", "another shape", PROBLEM, at(*LISTENER, value=5)),
    Case("own", "tags that are a list", "who may act", PROBLEM, at("tags", value=["rotation-exclude"])),
    Case("own", "pools that are text", "what is in front", PROBLEM, at(P, "backendAddressPools", value=[{"id": "x", "properties": "x"}])),
    Case("own", "a name of a listener with script", "shown on the page", WELL, at(*LISTENER, "name", value=EVIL)),
    Case("own", "a capacity of 10^30", "a flood of connections", WELL, at(P, "sku", value={"tier": "Standard_v2", "capacity": 10**30})),
    Case("own", "a capacity of minus one", "no connection, and so no proof", WELL, at(P, "sku", value={"tier": "Standard_v2", "capacity": -1})),
    Case("own", "a port beyond all ports", "arithmetic", WELL, at(P, "frontendPorts", 0, P, "port", value=10**30)),
    Case("own", "a port that is true", "a number to Python", WELL, at(P, "frontendPorts", 0, P, "port", value=True)),
    Case("own", "a frontend at the metadata service", "SSRF", UNKNOWN, at(*FRONTEND, value={"privateIPAddress": "169.254.169.254"})),
    Case("own", "a frontend at loopback", "SSRF", UNKNOWN, at(*FRONTEND, value={"privateIPAddress": "127.0.0.1"})),
    Case("own", "a private frontend", "the network behind", UNKNOWN, at(*FRONTEND, value={"privateIPAddress": "10.9.9.9"})),
    Case("own", "a frontend at a name of nonsense", "the resolver raises", UNKNOWN, at(*FRONTEND, value={"privateIPAddress": "a..b\0"})),
    Case("own", "a public address that is another resource", "a read of anything", UNKNOWN, at(*FRONTEND, value={"publicIPAddress": {"id": f"/subscriptions/{THEIRS}/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/x"}})),
)
# fmt: on

# fmt: off
ELSEWHERE = (
    Held("own", "a tag whose addresses are ours, the link's or the platform's", "SSRF by whoever may tag", "not connected to", "tests/security/test_tags.py::test_a_tag_leads_nowhere_inside"),
    Held("own", "a tag of 640 replicas", "a flood of connections", "no address", f"{SELF_HOSTED}::test_a_tag_that_is_no_address_says_so_and_dials_nothing"),
    Held("own", "parts of a self-hosted gateway that are none", "another shape", "a problem", f"{SELF_HOSTED}::test_what_cannot_be_read_is_a_problem_and_is_asked_again"),
    Held("own", "another entity in the answer", "another certificate's truth", "not believed", f"{SELF_HOSTED}::test_an_entity_that_cannot_be_read_says_why"),
    Held("own", "a named value that is a secret", "overwritten", "left alone", "tests/scenarios/test_named_values.py::test_a_secret_one_is_left_alone"),
    Held("own", "a named value that holds something else", "overwritten", "left alone and not told", "tests/scenarios/test_named_values.py::test_what_holds_no_thumbprint_is_left_alone_and_not_told"),
)
# fmt: on


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    """One app for all rows, which looks at a gateway too, and to which Resource Graph shows nothing."""

    def shop(world: World, certificate: Certificate) -> None:
        ApplicationGateway(world, "agw", hostnames=(Hostname(SHOP, certificate=certificate),))

    with contoso({"ROTATION_KINDS": "ApplicationGateway"}, shop) as all_well:
        all_well[0].world.graph.denied = True
        yield all_well


def answer(world: World, given: Any) -> Fault:
    """What ARM says."""
    if isinstance(given, Fault):
        return given
    path, value = given
    body: Any = world.application_gateways[0].body(world.clock.now())
    inside = body
    for step in path[:-1]:
        inside = inside[step]
    inside[path[-1]] = value
    return raw({"value": [body]})


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_answer_about_an_application_gateway_is_a_value(door: Door, case: Case) -> None:
    """The table."""
    world = door[0].world
    verdicts, problems, _ = tick_with(door, answer(world, case.given))

    assert WELL == verdicts[HOST]
    if case.right == PROBLEM:
        assert 1 == len(problems)
        assert SHOP not in verdicts
    else:
        assert verdicts[SHOP].startswith(case.right), verdicts
    assert [] == world.application_gateways[0].asked
