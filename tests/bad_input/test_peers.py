"""Bad TLS peers and bad names: whoever answers for a gateway, and whoever answers for its name.

Right is the verdict: what could not be seen is UNKNOWN, what is served is judged by its bytes, and nothing
that a certificate says of itself can stop that. Most rows are held where the probe is.
"""

from datetime import UTC, datetime, timedelta

import pytest

from sandbox.certificates import Leaf, self_signed
from sandbox.world import TlsFault
from tests.bad_input.table import Case, Held
from tests.bad_input.world import HOST, Door, harmless
from tests.clients import forge

FAULTS, PLACES = "tests/clients/test_tls_faults.py", "tests/clients/test_tls_places.py"
NAMED = f"{FAULTS}::test_a_fault_is_named_in_bounded_time"
KEPT = f"{FAULTS}::test_a_hostile_certificate_keeps_its_thumbprint"
DISTRUSTED = f"{FAULTS}::test_a_distrusted_leaf_is_read_all_the_same"
NO_NAME = f"{PLACES}::test_an_impossible_name_is_not_connected_to"
FORBIDDEN = f"{PLACES}::test_an_address_that_no_gateway_has_is_not_connected_to"
REGION = "West Europe"


def leaf(forged: forge.Forged, days: float = 90) -> Leaf:
    """A forged certificate, to be served."""
    now = datetime.now(UTC)
    return Leaf(forged.der, forged.chain_pem, forged.key_pem, (HOST,), now, now + timedelta(days=days))


SETTINGS = {"ROTATION_PROBE_TIMEOUT_SECONDS": "1"}

# fmt: off
CASES = (
    Case("B67", "self-signed", "no authority", "BLOCKED", lambda _: self_signed([HOST])),
    Case("B65", "expired", "no client would take it", "BLOCKED", lambda w: w.ca.issue([HOST], days=1, not_before=w.clock.now() - timedelta(days=9))),
    Case("B65", "not yet valid", "no client would take it", "BLOCKED", lambda w: w.ca.issue([HOST], not_before=w.clock.now() + timedelta(days=9))),
    Case("B66", "another certificate of the right name", "somebody else in front", "BLOCKED", lambda w: w.ca.issue([HOST])),
    Case("B70", "a negative serial number", "the parser warns", "BLOCKED", lambda _: leaf(forge.negative_serial())),
    Case("B69", "a name in no encoding", "the parser raises", "BLOCKED", lambda _: leaf(forge.unreadable_subject())),
    Case("B72", "two thousand names", "what is shown", "BLOCKED", lambda _: leaf(forge.self_signed(names=[f"h{n}.contoso.com" for n in range(2000)]))),
    Case("B68", "script and a formula in its name", "shown and exported", "BLOCKED", lambda _: leaf(forge.self_signed(common_name="=cmd|<script>\u202e\x1b[31m"))),
    Case("B74", "silence", "a thread that waits", "UNKNOWN", TlsFault.SILENT),
    Case("B76", "plain HTTP", "no TLS", "UNKNOWN", TlsFault.NOT_TLS),
    Case("B77", "an alert", "refuses", "UNKNOWN", TlsFault.ALERT),
    Case("B79", "wants a client certificate", "the leaf was seen", "IN_SYNC", TlsFault.CLIENT_CERTIFICATE),
    Case("B76", "a reset", "refuses", "UNKNOWN", "down"),
)
# fmt: on

# fmt: off
ELSEWHERE = (
    Held("B68", "line breaks, bidi and script", "forged lines", "cleaned", f"{KEPT}[line breaks, bidirectional marks and script in the subject]"),
    Held("B69", "invalid UTF-8 in a name", "the parser raises", "unreadable, judged by its hash", f"{KEPT}[a subject in no known encoding]"),
    Held("B70", "a negative serial number, at the probe", "the parser warns", "kept", f"{KEPT}[a negative serial number]"),
    Held("own", "an unknown authority", "nobody vouches", "read, with the complaint", f"{DISTRUSTED}[from an unknown authority]"),
    Held("B72", "two thousand names, at the probe", "memory and pages", "kept, 20 shown", f"{KEPT}[two thousand names]"),
    Held("B73", "a chain larger than OpenSSL takes", "memory", "a TLS protocol error", f"{NAMED}[a chain larger than OpenSSL takes]"),
    Held("B74", "silence after connect", "a thread that waits", "given up in time", f"{NAMED}[accepts and never speaks]"),
    Held("own", "a byte at a time", "a thread that waits", "given up in time", f"{NAMED}[a byte at a time]"),
    Held("B76", "RST, FIN, HTTP", "no TLS", "named", f"{NAMED}[answers in plain HTTP]"),
    Held("B77", "unrecognized_name", "refuses the name", "a TLS alert", f"{NAMED}[alert: unrecognized name]"),
    Held("B78", "only TLS 1.0", "old", "a TLS alert", f"{NAMED}[speaks nothing newer than TLS 1.0]"),
    Held("B80", "a wildcard hostname", "no name to send", "a label of its own", f"{PLACES}::test_the_hello_carries_the_name"),
    Held("B81", "`a..b`", "the codec raises", "impossible name", f"{NO_NAME}[two dots in a row]"),
    Held("B81", "a label of 64 characters", "the codec raises", "impossible name", f"{NO_NAME}[a label of 64 characters]"),
    Held("B81", "a NUL", "cut off by C", "impossible name", f"{NO_NAME}[a NUL]"),
    Held("B82", "an IP literal", "a place, no name", "impossible name", f"{NO_NAME}[an IPv6 literal]"),
    Held("B82", "localhost", "the app itself", "impossible name", f"{NO_NAME}[localhost]"),
    Held("B83", "resolves to 127.0.0.1", "the app itself", "forbidden", f"{FORBIDDEN}[loopback]"),
    Held("B83", "resolves to 169.254.169.254", "a token", "forbidden", f"{FORBIDDEN}[the metadata service]"),
    Held("B83", "resolves to ::1", "the app itself", "forbidden", f"{FORBIDDEN}[loopback of IPv6]"),
    Held("B83", "resolves to fe80::1", "the link", "forbidden", f"{FORBIDDEN}[link-local]"),
    Held("B83", "resolves to 168.63.129.16", "the platform", "forbidden", f"{FORBIDDEN}[the platform's own address]"),
    Held("B84", "a name that changes between look-up and dial", "DNS rebinding", "looked up once, dialled by address", f"{FORBIDDEN}[a name that resolves to loopback]"),
    Held("own", "a private address", "the network behind", "needs a setting", "tests/security/test_reach.py::test_a_private_address_needs_a_setting"),
    Held("B86", "another leaf for each hello", "one look is no proof", "each connection is an observation", f"{PLACES}::test_every_connection_is_one_observation_in_the_order_of_the_endpoints"),
    Held("own", "loopback in short, as a number, in hexadecimal", "a parser's other spelling", "forbidden", f"{FORBIDDEN}[loopback in short]"),
    Held("own", "loopback mapped into IPv6", "another family", "forbidden", f"{FORBIDDEN}[loopback mapped into IPv6]"),
    Held("own", "a resolver that is silent", "a thread that waits", "others go on", "tests/clients/test_tls_time.py::test_one_slow_name_does_not_cost_its_neighbours_their_observations"),
    Held("own", "a flood of handshake", "memory", "cut off", f"{NAMED}[a flood of handshake]"),
    Held("own", "a trusted leaf without its key", "a stolen public certificate", "does not count as served", f"{FAULTS}::test_a_trusted_leaf_whose_key_is_not_owned_does_not_count_as_served"),
)
# fmt: on


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_a_peer_does_is_a_verdict(door: Door, case: Case) -> None:
    """The table."""
    stage, _, service = door
    said = len(stage.host.log())
    if case.given == "down":
        service.down.add(REGION)
    elif isinstance(case.given, TlsFault):
        service.tls_faults[REGION] = case.given
    else:
        service.instead[HOST] = case.given(stage.world)

    verdict = stage.tick()[HOST]
    page = stage.host.request("GET", "/api/page", key="function").text
    service.down.clear()
    service.tls_faults.clear()
    service.instead.clear()

    harmless(stage.host.log()[said:])
    assert case.right == verdict["status"], verdict
    assert not {"\x1b", "\u202e"} & set(page + str(verdict))
    assert "<script>\u202e" not in page
    assert [] == service.syncs
    assert "IN_SYNC" == stage.tick()[HOST]["status"]
