"""Where the probe may connect to, and where not: private ranges by setting."""

import ipaddress
import sys
from datetime import timedelta
from typing import Any

import pytest

from rotation.app import reach
from rotation.clients.reach import ANY_PRIVATE, Reach
from rotation.clients.tls import TlsProbe
from rotation.model import Endpoint, ProbeFailure, ProbeFault
from rotation.settings import Mistakes, load
from tests.clients import farm
from tests.clients.farm import look

HOST = ("gateway.test", 443)
AUDITED = {"socket.getaddrinfo", "socket.connect"}
PRIVATE = ("10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd00::1", "::ffff:10.1.2.3")
NOBODYS = ("127.0.0.1", "169.254.169.254", "168.63.129.16", "fe80::1", "::1", "0.0.0.0", "224.0.0.1")


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_needs_a_setting(address: str) -> None:
    """None by default; its network, every one, or the host by name open it."""
    ip = ipaddress.ip_address(address)
    inner = getattr(ip, "ipv4_mapped", None) or ip

    assert "ROTATION_PRIVATE_NETWORKS" in (Reach().refuses(HOST, address) or "")
    assert None is Reach((f"{inner}/{inner.max_prefixlen}",)).refuses(HOST, address)
    assert None is Reach((ANY_PRIVATE,)).refuses(HOST, address)
    assert None is Reach(named=frozenset({HOST})).refuses(HOST, address)
    assert Reach(("10.200.0.0/16",)).refuses(HOST, address)
    assert Reach(named=frozenset({("gateway.test", 8443)})).refuses(HOST, address)


@pytest.mark.parametrize("address", NOBODYS)
def test_what_no_gateway_has_no_setting_opens(address: str) -> None:
    """Not every private network, and not a name: only CONNECT_TO, which is asked before."""
    open_wide = Reach((ANY_PRIVATE, "127.0.0.0/8", "169.254.0.0/16"), frozenset({HOST}))

    assert address == open_wide.refuses(HOST, address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_a_public_address_needs_none(address: str) -> None:
    """Gateways in external mode are proven without a setting."""
    assert None is Reach().refuses(HOST, address)


def test_a_private_address_that_was_not_named_is_a_value_that_says_what_to_do() -> None:
    """Nothing is sent; the observation names the setting."""
    probe = TlsProbe(farm.client_context(), {}, timedelta(seconds=1))

    [seen] = look(probe, [Endpoint(farm.NAME, "West Europe", "10.1.2.3")])

    assert isinstance(seen, ProbeFailure)
    assert (ProbeFault.FORBIDDEN_ADDRESS, True) == (seen.fault, "ROTATION_PRIVATE_NETWORKS" in seen.detail)


def test_the_addresses_of_self_hosted_gateways_are_meant_as_they_are_written() -> None:
    """Whoever sets ROTATION_SELF_HOSTED has named the place; a tag on a service has not that power."""
    settings = load(
        {
            "ROTATION_SUBSCRIPTIONS": "00000000-0000-0000-0000-000000000001",
            "ROTATION_SELF_HOSTED": "edge=Edge.contoso.net:8443",
        }
    )
    assert not isinstance(settings, Mistakes)

    assert None is reach(settings).refuses(("edge.contoso.net", 8443), "10.1.2.3")
    assert reach(settings).refuses(("edge.contoso.net", 443), "10.1.2.3")


def test_a_name_is_looked_up_once_and_that_address_is_dialled() -> None:
    """A name that leads elsewhere the second time it is asked for (DNS rebinding) is not asked for again."""
    seen: list[tuple[str, Any]] = []
    sys.addaudithook(lambda event, args: seen.append((event, args)) if event in AUDITED else None)
    with farm.Listener(farm.serving(farm.TRUSTED)) as listener:
        port = listener.place[1]
        probe = TlsProbe(farm.client_context(), {HOST: ("localhost", port)}, farm.PATIENT)
        observed = look(probe, [Endpoint(farm.NAME, "West Europe", HOST[0], connections=7)])

    looked_up = [args for event, args in seen if event == "socket.getaddrinfo" and "localhost" in str(args)]
    dialled = {str(args[1]) for event, args in seen if event == "socket.connect" and str(port) in str(args)}
    assert 7 == len(observed)
    assert 1 == len(looked_up)
    assert 1 == len(dialled)
    assert "localhost" not in dialled.pop()
