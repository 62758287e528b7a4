import asyncio
import socket
import ssl
from collections.abc import Iterator
from datetime import timedelta

import pytest

from rotation.clients.tls import TlsProbe
from rotation.model import Endpoint, ProbeFailure, ProbeFault, ServedCertificate
from tests.clients import farm
from tests.clients.farm import HOST, PATIENT, TRUSTED, Listener, look, observe


class Notebook:
    """A server that writes down the name each client asked for."""

    def __init__(self) -> None:
        self.names: list[str | None] = []
        context = farm.server_context()
        context.sni_callback = self._note
        self.listener = Listener(farm.shake_hands(context))

    def _note(self, _: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
        self.names.append(name)


@pytest.fixture
def notebook() -> Iterator[Notebook]:
    """A running server that keeps the names."""
    notebook = Notebook()
    with notebook.listener:
        yield notebook


@pytest.mark.parametrize(
    ("hostname", "sent"),
    [
        pytest.param("api.contoso.com", "api.contoso.com", id="as it is"),
        pytest.param("API.Contoso.COM", "api.contoso.com", id="upper case is lowered"),
        pytest.param("api.contoso.com.", "api.contoso.com", id="a trailing dot is dropped"),
        pytest.param("*.contoso.com", "rotation-check.contoso.com", id="a star becomes a label"),
        pytest.param("xn--bcher-kva.contoso.com", "xn--bcher-kva.contoso.com", id="punycode is left alone"),
        pytest.param("_dmarc.contoso.com", "_dmarc.contoso.com", id="an underscore"),
        pytest.param(f"{'x' * 63}.contoso.com", f"{'x' * 63}.contoso.com", id="the longest label"),
    ],
)
def test_the_hello_carries_the_name(notebook: Notebook, hostname: str, sent: str) -> None:
    """The server gets the name that a client of the gateway would ask for, once."""
    seen = observe(notebook.listener.place, hostname)

    assert isinstance(seen, ServedCertificate)
    assert {sent} == set(notebook.names)
    assert hostname == seen.endpoint.hostname


def test_a_wildcard_is_judged_by_the_label_in_its_place(notebook: Notebook) -> None:
    """A certificate for the wildcard covers the label, so there is nothing to complain of."""
    seen = observe(notebook.listener.place, "*.contoso.com")

    assert isinstance(seen, ServedCertificate)
    assert None is seen.distrust


BAD_NAMES = [
    pytest.param("", id="empty"),
    pytest.param(".", id="a dot"),
    pytest.param("*", id="a star"),
    pytest.param("*.", id="a star and a dot"),
    pytest.param(f"{'x' * 64}.contoso.com", id="a label of 64 characters"),
    pytest.param(f"{'x.' * 127}com", id="257 characters"),
    pytest.param("api..contoso.com", id="two dots in a row"),
    pytest.param(".contoso.com", id="a leading dot"),
    pytest.param("-api.contoso.com", id="a leading hyphen"),
    pytest.param("api.*.contoso.com", id="a star inside"),
    pytest.param("api\0.contoso.com", id="a NUL"),
    pytest.param("api.contoso.com\r\nx", id="a line break"),
    pytest.param("api contoso.com", id="a space"),
    pytest.param("api.contoso.com/x", id="a path"),
    pytest.param("api.contoso.com:443", id="a port"),
    pytest.param("bücher.contoso.com", id="an umlaut"),
    pytest.param("аpi.contoso.com", id="a Cyrillic look-alike"),  # noqa: RUF001 - the point of it
    pytest.param("127.0.0.1", id="an IPv4 literal, for which no name would be sent"),
    pytest.param("203.0.113.7.", id="an IPv4 literal with a dot behind it"),
    pytest.param("::1", id="an IPv6 literal"),
    pytest.param("[::1]", id="an IPv6 literal in brackets"),
    pytest.param("2130706433", id="an address as a number"),
    pytest.param("0x7f.1", id="an address in hexadecimal"),
    pytest.param("localhost", id="localhost"),
]


@pytest.mark.parametrize("hostname", BAD_NAMES)
def test_an_impossible_name_is_not_connected_to(notebook: Notebook, hostname: str) -> None:
    """A name that no certificate could be for is refused before any connection."""
    seen = observe(notebook.listener.place, hostname)

    assert isinstance(seen, ProbeFailure)
    assert ProbeFault.BAD_NAME == seen.fault
    assert 0 == notebook.listener.accepted


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("", id="empty"),
        pytest.param("api..contoso.com", id="two dots in a row"),
        pytest.param(f"{'x' * 64}.contoso.com", id="a label of 64 characters"),
        pytest.param(f"{'x.' * 150}com", id="longer than DNS allows"),
        pytest.param("api\0.contoso.com", id="a NUL"),
        pytest.param("\ud800.contoso.com", id="half a surrogate pair"),
    ],
)
def test_a_host_that_cannot_be_looked_up_is_a_value(host: str) -> None:
    """Where ARM's regional host is nonsense, the other endpoints are still observed."""
    probe = TlsProbe(farm.client_context(), {}, PATIENT)

    [seen] = look(probe, [Endpoint(farm.NAME, "West Europe", host)])

    assert isinstance(seen, ProbeFailure)
    assert seen.fault in {ProbeFault.NAME_UNRESOLVED, ProbeFault.BAD_NAME}


FORBIDDEN = [
    pytest.param("127.0.0.1", id="loopback"),
    pytest.param("127.8.8.8", id="the rest of loopback"),
    pytest.param("127.1", id="loopback in short"),
    pytest.param("2130706433", id="loopback as a number"),
    pytest.param("0x7f000001", id="loopback in hexadecimal"),
    pytest.param("localhost", id="a name that resolves to loopback"),
    pytest.param("LOCALHOST", id="that name in upper case"),
    pytest.param("::1", id="loopback of IPv6"),
    pytest.param("::ffff:127.0.0.1", id="loopback mapped into IPv6"),
    pytest.param("0.0.0.0", id="the unspecified address"),
    pytest.param("::", id="the unspecified address of IPv6"),
    pytest.param("169.254.169.254", id="the metadata service"),
    pytest.param("::ffff:169.254.169.254", id="the metadata service mapped into IPv6"),
    pytest.param("fe80::1", id="link-local"),
    pytest.param("168.63.129.16", id="the platform's own address"),
    pytest.param("::ffff:168.63.129.16", id="the platform's own address mapped into IPv6"),
    pytest.param("64:ff9b::169.254.169.254", id="the metadata service through NAT64"),
    pytest.param("2002:a9fe:a9fe::1", id="the metadata service through 6to4"),
    pytest.param("::7f00:1", id="loopback in the old form of IPv6"),
    pytest.param("fe80::1%lo", id="link-local with its zone"),
    pytest.param("0.1.2.3", id="this network"),
    pytest.param("255.255.255.255", id="broadcast"),
    pytest.param("240.0.0.1", id="unassigned"),
    pytest.param("224.0.0.1", id="multicast"),
    pytest.param("ff02::1", id="multicast of IPv6"),
]


@pytest.mark.parametrize("host", FORBIDDEN)
def test_an_address_that_no_gateway_has_is_not_connected_to(notebook: Notebook, host: str) -> None:
    """What ARM or DNS says must not lead the app to itself or to the platform's inside."""
    probe = TlsProbe(farm.client_context(), {}, PATIENT)

    [seen] = look(probe, [Endpoint(farm.NAME, "West Europe", host, notebook.listener.place[1])])

    assert isinstance(seen, ProbeFailure)
    assert ProbeFault.FORBIDDEN_ADDRESS == seen.fault
    assert 0 == notebook.listener.accepted


def test_a_setting_allows_what_is_forbidden_otherwise(notebook: Notebook) -> None:
    """CONNECT_TO is a person's word: it may name loopback, for this host and port only."""
    place = notebook.listener.place
    probe = TlsProbe(farm.client_context(), {("localhost", 443): place}, PATIENT)

    allowed, other = look(
        probe,
        [
            Endpoint(farm.NAME, "West Europe", "LocalHost"),
            Endpoint(farm.NAME, "West Europe", "localhost", place[1]),
        ],
    )

    assert isinstance(allowed, ServedCertificate)
    assert isinstance(other, ProbeFailure)
    assert ProbeFault.FORBIDDEN_ADDRESS == other.fault
    assert 1 == notebook.listener.accepted


def test_a_setting_may_name_a_host(notebook: Notebook) -> None:
    """What CONNECT_TO points to is looked up like any name, and may be what is forbidden otherwise."""
    probe = TlsProbe(farm.client_context(), {(HOST, 443): ("localhost", notebook.listener.place[1])}, PATIENT)

    [seen] = look(probe, [Endpoint(farm.NAME, "West Europe", HOST)])

    fault = seen.fault if isinstance(seen, ProbeFailure) else None
    assert fault in {None, ProbeFault.REFUSED}  # refused where localhost is ::1 in the first place


def test_connect_to_tells_hosts_apart() -> None:
    """Two regions with one hostname are dialled at two places, each under the same name."""
    blue, green = farm.CA.issue([farm.NAME]), farm.CA.issue([farm.NAME])
    with Listener(farm.serving(blue)) as west, Listener(farm.serving(green)) as east:
        routes = {("west.test", 443): west.place, ("east.test", 443): east.place}
        probe = TlsProbe(farm.client_context(), routes, PATIENT)

        seen = look(
            probe,
            [
                Endpoint(farm.NAME, "West Europe", "west.test"),
                Endpoint(farm.NAME, "East US", "east.test"),
            ],
        )

    assert [("West Europe", blue.thumbprint), ("East US", green.thumbprint)] == [
        (each.endpoint.region, each.thumbprint) for each in seen if isinstance(each, ServedCertificate)
    ]


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 loopback, ::1")
def test_an_ipv6_address_is_dialled() -> None:
    """A gateway that is reached by IPv6 only is read like any other."""
    with Listener(farm.serving(TRUSTED), "::1") as listener:
        seen = observe(listener.place)

    assert isinstance(seen, ServedCertificate)
    assert TRUSTED.thumbprint == seen.thumbprint


def test_no_endpoints_give_no_observations() -> None:
    """Nothing to look at is an empty list, not a failure."""
    probe = TlsProbe(farm.client_context(), {}, PATIENT)

    assert [] == look(probe, [])


def test_every_connection_is_one_observation_in_the_order_of_the_endpoints() -> None:
    """Whoever asked can tell by position which observation belongs to which binding."""
    faulty = [farm.reset, farm.stay_silent, farm.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")]
    with (
        Listener(farm.serving(TRUSTED)) as good,
        Listener(faulty[0]) as resets,
        Listener(faulty[1]) as silent,
        Listener(faulty[2]) as speaks_http,
    ):
        listeners = {"good": good, "resets": resets, "silent": silent, "http": speaks_http}
        routes = {(f"{name}.test", 443): each.place for name, each in listeners.items()}
        probe = TlsProbe(farm.client_context(), routes, timedelta(seconds=1))
        endpoints = [
            Endpoint(farm.NAME, "West Europe", "silent.test", connections=2),
            Endpoint(farm.NAME, "West Europe", "good.test", connections=7),
            Endpoint(farm.NAME, "East US", "resets.test", connections=3),
            Endpoint(farm.NAME, "East US", "good.test", connections=1),
            Endpoint(farm.NAME, "East US", "http.test", connections=1),
        ]

        seen = look(probe, endpoints)

        accepted = {name: each.accepted for name, each in listeners.items()}

    assert [e for e in endpoints for _ in range(e.connections)] == [each.endpoint for each in seen]
    assert [ProbeFault.HANDSHAKE_TIMEOUT] * 2 + [None] * 7 + [ProbeFault.CLOSED] * 3 + [None] + [
        ProbeFault.NOT_TLS
    ] == [each.fault if isinstance(each, ProbeFailure) else None for each in seen]
    assert {"silent": 2, "good": 8, "resets": 3, "http": 1} == accepted


def test_the_probe_can_be_used_on_one_loop_after_another() -> None:
    """It holds nothing of a loop, so a process that starts a new one goes on."""
    with Listener(farm.serving(TRUSTED)) as listener:
        probe = TlsProbe(farm.client_context(), {(HOST, 443): listener.place}, PATIENT)
        endpoint = Endpoint(farm.NAME, "West Europe", HOST)

        seen = [*asyncio.run(probe([endpoint])), *asyncio.run(probe([endpoint]))]

    assert [TRUSTED.thumbprint] * 2 == [s.thumbprint for s in seen if isinstance(s, ServedCertificate)]
