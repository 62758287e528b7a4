import socket
import ssl
from datetime import timedelta

import pytest

from sandbox.azure import Azure
from sandbox.certificates import self_signed
from sandbox.world import Certificate, Hostname, Service, TlsFault
from tests.sandbox.clients import fetch, handshake, which

WEST, EAST = "West Europe", "East US"
HOST = "api.contoso.com"


@pytest.fixture
def service(azure: Azure, certificate: Certificate) -> Service:
    """Two units in one region, one in another, a wildcard domain and a portal."""
    world = azure.world
    service = world.add_service(
        "apim-prod",
        regions={WEST: 2, EAST: 1},
        hostnames=[
            Hostname(HOST, certificate),
            Hostname("*.shop.contoso.com", uploaded=world.ca.issue(["*.shop.contoso.com"])),
            Hostname("portal.contoso.com", certificate, type="DeveloperPortal"),
        ],
    )
    azure.expose(service)
    return service


def port(azure: Azure, service: Service, region: str = WEST) -> int:
    """Where a region's load balancer listens."""
    return azure.connect_to[service.regional_host(region)]


def test_every_new_connection_meets_the_next_unit(
    azure: Azure, service: Service, certificate: Certificate
) -> None:
    """While units switch one after the other, a client sees both certificates in turn."""
    old, new = certificate.newest, certificate.renew()
    service.begin_sync()
    azure.world.clock.advance(service.update_duration + timedelta(seconds=30))

    seen = [which(handshake(azure, port(azure, service), HOST), old=old, new=new) for _ in range(4)]
    azure.world.clock.advance(service.unit_lag)
    later = {which(handshake(azure, port(azure, service), HOST), old=old, new=new) for _ in range(4)}

    assert seen == ["new", "old", "new", "old"]
    assert later == {"new"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (HOST, "api"),
        ("API.contoso.com", "api"),
        ("eu.shop.contoso.com", "shop"),
        ("a.b.shop.contoso.com", "builtin"),
        ("portal.contoso.com", "builtin"),
        ("apim-prod.azure-api.net", "builtin"),
        ("unknown.example", "builtin"),
        (None, "api"),
    ],
)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_server_name_chooses_the_certificate(
    azure: Azure, service: Service, name: str | None, expected: str, version: ssl.TLSVersion
) -> None:
    """In both TLS versions, with a chain that verifies; without a name the default domain answers."""
    candidates = {
        "api": service.hostnames[0].certificate.newest if service.hostnames[0].certificate else None,
        "shop": service.hostnames[1].uploaded,
        "builtin": azure.world.builtin,
    }

    presented = handshake(azure, port(azure, service), name, version)

    assert expected == which(presented, **{key: value for key, value in candidates.items() if value})


def test_other_endpoints_have_their_own_listener(
    azure: Azure, service: Service, certificate: Certificate
) -> None:
    """A developer portal is not served by the gateway's load balancer."""
    presented = handshake(azure, azure.connect_to["portal.contoso.com"], "portal.contoso.com")

    assert which(presented, portal=certificate.newest) == "portal"
    assert port(azure, service) != azure.connect_to["portal.contoso.com"]


def test_something_else_may_answer_in_front(azure: Azure, service: Service) -> None:
    """A reverse proxy with its own certificate, self-signed at that: seen, although it cannot be verified."""
    other = service.instead[HOST] = self_signed([HOST])
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    with (
        socket.create_connection(("127.0.0.1", port(azure, service)), timeout=5) as connection,
        context.wrap_socket(connection, server_hostname=HOST) as secured,
    ):
        assert other.der == secured.getpeercert(binary_form=True)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (TlsFault.SILENT, TimeoutError),
        (TlsFault.NOT_TLS, ssl.SSLError),
        (TlsFault.ALERT, ssl.SSLError),
        ("down", OSError),
        ("gateway_disabled", OSError),
    ],
)
def test_a_region_may_fail_while_the_other_goes_on(
    azure: Azure, service: Service, certificate: Certificate, fault: str, error: type[Exception]
) -> None:
    """Each fault has its own look, and ends when it is taken back."""
    if isinstance(fault, TlsFault):
        service.tls_faults[WEST] = fault
    else:
        getattr(service, fault).add(WEST)

    with pytest.raises(error) as caught:
        handshake(azure, port(azure, service), HOST, seconds=0.3)
    elsewhere = handshake(azure, port(azure, service, EAST), HOST)
    service.tls_faults.clear()
    service.down.clear()
    service.gateway_disabled.clear()
    mended = handshake(azure, port(azure, service), HOST)

    if fault == TlsFault.ALERT:
        assert "ALERT_HANDSHAKE_FAILURE" in str(caught.value).upper()
    assert certificate.newest.der == elsewhere
    assert certificate.newest.der == mended


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_gateway_may_ask_for_a_client_certificate(
    azure: Azure, service: Service, version: ssl.TLSVersion
) -> None:
    """Who has none is turned away: during the handshake in TLS 1.2, right after it in 1.3."""
    service.tls_faults[WEST] = TlsFault.CLIENT_CERTIFICATE
    context = ssl.create_default_context(cafile=azure.ca_file)
    context.minimum_version = context.maximum_version = version

    with socket.create_connection(("127.0.0.1", port(azure, service)), timeout=5) as connection:
        if version == ssl.TLSVersion.TLSv1_2:
            with pytest.raises(OSError, match=r"(?i)eof|reset|alert|required"):
                context.wrap_socket(connection, server_hostname=HOST)
        else:
            with context.wrap_socket(connection, server_hostname=HOST) as secured:
                secured.sendall(b"GET / HTTP/1.1\r\n\r\n")
                try:
                    answer = secured.recv(100)
                except OSError:
                    answer = b""
                assert answer == b""


def test_a_human_with_curl_gets_the_gateways_404(azure: Azure, service: Service) -> None:
    """There are no APIs behind it."""
    url = f"https://127.0.0.1:{port(azure, service)}/"
    context = ssl.create_default_context(cafile=azure.ca_file)
    context.check_hostname = False

    answer = fetch(azure, url, context=context)

    assert answer.json() == {"statusCode": 404, "message": "Resource not found"}


def test_many_connections_at_once_are_all_answered(
    azure: Azure, service: Service, certificate: Certificate
) -> None:
    """A probe opens dozens of connections together, and closes them in any order."""
    context = ssl.create_default_context(cafile=azure.ca_file)
    address = ("127.0.0.1", port(azure, service))
    connections = [socket.create_connection(address, timeout=5) for _ in range(60)]

    secured = [context.wrap_socket(connection, server_hostname=HOST) for connection in connections]
    presented = {connection.getpeercert(binary_form=True) for connection in secured}
    for connection in secured:
        connection.close()

    assert {certificate.newest.der} == presented
