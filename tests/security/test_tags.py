"""Whoever may tag a service in scope is not one who may choose where in our network the app connects."""

import sys
from datetime import timedelta

import pytest

from rotation.app import reach
from rotation.clients.tls import TlsProbe
from rotation.model import Address, Endpoint, ProbeFailure, ProbeFault
from rotation.settings import Mistakes, load
from tests.clients import farm
from tests.clients.farm import look

GUID = "00000000-0000-0000-0000-000000000001"
TAGGED = (
    "127.0.0.1:22",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0.0.0.0",
    "[::1]:443",
    "[::ffff:127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "169.254.169.254:80",
    "[::ffff:169.254.169.254]",
    "[fe80::1]",
    "168.63.129.16:32526",
    "10.0.0.5",
    "192.168.0.1:8443",
    "[fd00::1]",
    "localhost:8080",
)


@pytest.mark.parametrize("text", TAGGED)
def test_a_tag_leads_nowhere_inside(text: str) -> None:
    """With the default settings nothing is connected to, however the address is spelled.

    The address of another gateway in a setting opens that one, not its neighbours.
    """
    settings = load(
        {"ROTATION_SUBSCRIPTIONS": GUID, "ROTATION_SELF_HOSTED": "edge=10.0.0.4,edge=10.0.0.5:444"}
    )
    assert not isinstance(settings, Mistakes)
    place = Address.from_text(text)
    connected: list[object] = []
    sys.addaudithook(lambda event, args: connected.append(args[1]) if event == "socket.connect" else None)

    probe = TlsProbe(farm.client_context(), {}, timedelta(seconds=1), reach=reach(settings))
    [seen] = look(probe, [Endpoint("edge.contoso.com", "edge", place.host, place.port)])

    assert isinstance(seen, ProbeFailure)
    assert seen.fault in {ProbeFault.FORBIDDEN_ADDRESS, ProbeFault.BAD_NAME, ProbeFault.NAME_UNRESOLVED}, seen
    assert [] == connected
