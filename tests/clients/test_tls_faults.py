import hashlib
import socket
import ssl
import warnings
from datetime import timedelta

import pytest

from rotation.clients.tls import LARGEST_FLIGHT
from rotation.model import ProbeFailure, ProbeFault, ServedCertificate
from sandbox.certificates import CertificateAuthority, Leaf
from tests.clients import farm, forge
from tests.clients.farm import HASTY, NAME, PATIENT, TRUSTED, Behaviour, Listener, observe

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
SSH = b"SSH-2.0-OpenSSH_9.6\r\n"
SMTP = b"220 mail.contoso.com ESMTP ready\r\n"
HELLO_REQUESTS = bytes.fromhex("16 0303 4000") + b"\x00\x00\x00\x00" * 4096


def alert(description: int) -> bytes:
    """A fatal alert as a TLS record."""
    return bytes([0x15, 3, 3, 0, 2, 2, description])


def old_only() -> ssl.SSLContext:
    """A server that speaks nothing newer than TLS 1.0."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return farm.server_context(only=ssl.TLSVersion.TLSv1, ciphers="ALL:@SECLEVEL=0")


def key_transport_only() -> ssl.SSLContext:
    """A server that never signs: it would prove its key after the leaf was read, if at all."""
    leaf = forge.rsa_signed(2048)
    return farm.server_context(leaf.chain_pem, leaf.key_pem, only=TLS12, ciphers="AES128-GCM-SHA256")


def huge_chain() -> str:
    """More than the 100 KB of certificates that OpenSSL takes."""
    junk = forge.self_signed(names=[f"host-{n}.contoso.com" for n in range(2000)]).chain_pem
    return TRUSTED.chain_pem + junk * 3


@pytest.mark.parametrize(
    ("behave", "fault", "timeout"),
    [
        pytest.param(farm.stay_silent, ProbeFault.HANDSHAKE_TIMEOUT, HASTY, id="accepts and never speaks"),
        pytest.param(
            farm.drip(farm.server_context()), ProbeFault.HANDSHAKE_TIMEOUT, HASTY, id="a byte at a time"
        ),
        pytest.param(farm.hang_up, ProbeFault.CLOSED, PATIENT, id="closes at once"),
        pytest.param(farm.hang_up_after_hello, ProbeFault.CLOSED, PATIENT, id="closes after the hello"),
        pytest.param(
            farm.stop_in_the_middle(farm.server_context()),
            ProbeFault.CLOSED,
            PATIENT,
            id="closes in the middle of its flight",
        ),
        pytest.param(
            farm.stop_in_the_middle(farm.server_context(only=TLS12)),
            ProbeFault.CLOSED,
            PATIENT,
            id="closes in the middle of its TLS 1.2 flight",
        ),
        pytest.param(farm.reset, ProbeFault.CLOSED, PATIENT, id="resets the connection"),
        pytest.param(farm.say(HTTP), ProbeFault.NOT_TLS, PATIENT, id="answers in plain HTTP"),
        pytest.param(farm.say(SSH), ProbeFault.NOT_TLS, PATIENT, id="answers with an SSH banner"),
        pytest.param(farm.say(SMTP), ProbeFault.NOT_TLS, PATIENT, id="answers with an SMTP banner"),
        pytest.param(farm.say(bytes(64)), ProbeFault.NOT_TLS, PATIENT, id="answers with zeros"),
        pytest.param(farm.say(alert(112)), ProbeFault.ALERT, PATIENT, id="alert: unrecognized name"),
        pytest.param(farm.say(alert(40)), ProbeFault.ALERT, PATIENT, id="alert: handshake failure"),
        pytest.param(farm.say(alert(70)), ProbeFault.ALERT, PATIENT, id="alert: protocol version"),
        pytest.param(farm.say(alert(80)), ProbeFault.ALERT, PATIENT, id="alert: internal error"),
        pytest.param(
            farm.shake_hands(old_only()), ProbeFault.ALERT, PATIENT, id="speaks nothing newer than TLS 1.0"
        ),
        pytest.param(
            farm.shake_hands(farm.server_context(only=TLS12, ciphers="DHE-RSA-AES128-SHA")),
            ProbeFault.ALERT,
            PATIENT,
            id="shares no cipher",
        ),
        pytest.param(
            farm.shake_hands(key_transport_only()), ProbeFault.ALERT, PATIENT, id="never signs with its key"
        ),
        pytest.param(
            farm.shake_hands(farm.server_context(huge_chain())),
            ProbeFault.PROTOCOL,
            PATIENT,
            id="a chain larger than OpenSSL takes",
        ),
        pytest.param(
            farm.tamper(farm.server_context(only=TLS12), b"*.contoso.com", b"*.c\xfftoso.cpm"),
            ProbeFault.PROTOCOL,
            PATIENT,
            id="a leaf changed on the way",
        ),
        pytest.param(
            farm.tamper(
                farm.server_context(only=TLS12), b"\x0c\x0fapi.contoso.com", b"\x0c\x0fapi\xff\xfeontoso.com"
            ),
            ProbeFault.PROTOCOL,
            PATIENT,
            id="a leaf that OpenSSL cannot parse",
        ),
        pytest.param(farm.repeat(HELLO_REQUESTS), ProbeFault.PROTOCOL, PATIENT, id="a flood of handshake"),
        pytest.param(farm.repeat(b"\x16\x03\x03\x00\x00"), ProbeFault.PROTOCOL, PATIENT, id="empty records"),
    ],
)
def test_a_fault_is_named_in_bounded_time(behave: Behaviour, fault: ProbeFault, timeout: timedelta) -> None:
    """Whatever a server does instead of a handshake becomes a value with the name of the fault."""
    with Listener(behave) as listener:
        seen = observe(listener.place, timeout=timeout)

    assert isinstance(seen, ProbeFailure)
    assert fault == seen.fault
    assert "" != seen.detail
    assert 1 == listener.accepted


def test_a_close_notify_in_the_handshake_is_a_closed_connection() -> None:
    """The polite way to hang up, alert 0, is no alert to alarm anybody with."""
    with Listener(farm.say(bytes.fromhex("15 0303 0002 01 00"))) as listener:
        seen = observe(listener.place)

    assert isinstance(seen, ProbeFailure)
    assert ProbeFault.CLOSED == seen.fault


def test_a_flood_is_not_drunk_to_the_end() -> None:
    """The cap on a handshake says that it was the cap."""
    with Listener(farm.repeat(HELLO_REQUESTS)) as listener:
        seen = observe(listener.place)

    assert isinstance(seen, ProbeFailure)
    assert f"more than {LARGEST_FLIGHT} bytes of handshake" == seen.detail


def test_a_refused_connection_is_refused() -> None:
    """A port that nobody listens on."""
    with farm.free_port() as bound:
        seen = observe(bound.getsockname())

    assert isinstance(seen, ProbeFailure)
    assert ProbeFault.REFUSED == seen.fault


def test_a_black_hole_is_a_timeout_at_connect() -> None:
    """Packets that are dropped, as by a firewall, end at the limit and are told from a silent server."""
    with farm.BlackHole() as place:
        seen = observe(place, timeout=HASTY)

    assert isinstance(seen, ProbeFailure)
    assert (ProbeFault.CONNECT_TIMEOUT, "nothing for 0.5 s") == (seen.fault, seen.detail)


@pytest.mark.parametrize(
    ("behave", "tls_version"),
    [
        pytest.param(farm.serving(TRUSTED), "TLSv1.3", id="offers both versions"),
        pytest.param(farm.serving(TRUSTED, TLS12), "TLSv1.2", id="TLS 1.2 only"),
        pytest.param(farm.serving(TRUSTED, TLS13), "TLSv1.3", id="TLS 1.3 only"),
        pytest.param(
            farm.shake_hands(farm.server_context(only=TLS12, client_certificate=True)),
            "TLSv1.2",
            id="demands a client certificate in TLS 1.2",
        ),
        pytest.param(
            farm.shake_hands(farm.server_context(only=TLS13, client_certificate=True)),
            "TLSv1.3",
            id="demands a client certificate in TLS 1.3",
        ),
        pytest.param(
            farm.shake_hands(
                farm.server_context(TRUSTED.chain_pem + forge.self_signed().chain_pem * 50 + farm.CA.pem)
            ),
            "TLSv1.3",
            id="a long chain with junk in it",
        ),
        pytest.param(
            farm.warn_then_shake_hands(farm.server_context(only=TLS12)),
            "TLSv1.2",
            id="warns of an unrecognized name and goes on",
        ),
    ],
)
def test_a_trusted_leaf_is_read(behave: Behaviour, tls_version: str) -> None:
    """Each way to serve a good certificate gives the leaf that was served, and no complaint."""
    with Listener(behave) as listener:
        seen = observe(listener.place)

    assert isinstance(seen, ServedCertificate)
    assert None is seen.distrust
    assert hashlib.sha1(TRUSTED.der, usedforsecurity=False).hexdigest().upper() == seen.thumbprint
    assert hashlib.sha256(TRUSTED.der).hexdigest().upper() == seen.sha256
    assert tls_version == seen.tls_version
    assert (NAME, "*.contoso.com") == seen.names
    assert TRUSTED.not_after == seen.not_after
    assert f"{listener.place[0]}:{listener.place[1]}" == seen.address
    assert ("CN=api.contoso.com", "CN=Farm TLS Issuing CA 1") == (seen.subject, seen.issuer)


@pytest.mark.parametrize(
    ("leaf", "complaint", "ciphers"),
    [
        pytest.param(
            farm.CA.issue([NAME], days=1, not_before=TRUSTED.not_before - timedelta(days=9)),
            "certificate has expired",
            None,
            id="expired",
        ),
        pytest.param(
            farm.CA.issue([NAME], not_before=TRUSTED.not_before + timedelta(days=9)),
            "certificate is not yet valid",
            None,
            id="not yet valid",
        ),
        pytest.param(farm.CA.issue(["www.fabrikam.com"]), "Hostname mismatch", None, id="for another host"),
        pytest.param(forge.self_signed(), "self-signed certificate", None, id="self-signed"),
        pytest.param(
            CertificateAuthority("Unknown").issue([NAME]),
            "unable to get local issuer certificate",
            None,
            id="from an unknown authority",
        ),
        pytest.param(
            forge.Forged(TRUSTED.der, TRUSTED.key_pem),
            "unable to get local issuer certificate",
            None,
            id="without its intermediate",
        ),
        pytest.param(forge.rsa_signed(1024), "", "DEFAULT:@SECLEVEL=0", id="with a weak key"),
    ],
)
@pytest.mark.parametrize("version", [TLS12, TLS13], ids=["TLS 1.2", "TLS 1.3"])
def test_a_distrusted_leaf_is_read_all_the_same(
    leaf: Leaf | forge.Forged, complaint: str, ciphers: str | None, version: ssl.TLSVersion
) -> None:
    """What is served is seen although no client would take it, and OpenSSL's complaint is told."""
    context = farm.server_context(leaf.chain_pem, leaf.key_pem, only=version, ciphers=ciphers)

    with Listener(farm.shake_hands(context)) as listener:
        seen = observe(listener.place)

    assert isinstance(seen, ServedCertificate)
    assert leaf.thumbprint == seen.thumbprint
    assert seen.distrust
    assert complaint in seen.distrust
    assert thumbprints(leaf.chain_pem) == [each.thumbprint for each in seen.chain]


@pytest.mark.parametrize("demand", [False, True], ids=["", "demands a client certificate"])
@pytest.mark.parametrize("version", [TLS12, TLS13], ids=["TLS 1.2", "TLS 1.3"])
def test_the_whole_chain_is_read_as_it_is_presented(version: ssl.TLSVersion, *, demand: bool) -> None:
    """Junk, roots and repetitions too: a person who looks into a broken gateway needs to see them."""
    presented = TRUSTED.chain_pem + forge.self_signed().chain_pem + farm.CA.pem
    context = farm.server_context(presented, only=version, client_certificate=demand)

    with Listener(farm.shake_hands(context)) as listener:
        seen = observe(listener.place)

    assert isinstance(seen, ServedCertificate)
    assert thumbprints(presented) == [each.thumbprint for each in seen.chain]
    assert [TRUSTED.not_after, seen.issuer] == [seen.chain[0].not_after, seen.chain[1].subject]


def thumbprints(chain_pem: str) -> list[str]:
    """SHA-1 of each certificate in PEM."""
    ends = "-----END CERTIFICATE-----\n"
    ders = [ssl.PEM_cert_to_DER_cert(each + ends) for each in chain_pem.split(ends)[:-1]]
    return [hashlib.sha1(der, usedforsecurity=False).hexdigest().upper() for der in ders]


@pytest.mark.parametrize("version", [TLS12, TLS13], ids=["TLS 1.2", "TLS 1.3"])
def test_a_trusted_leaf_whose_key_is_not_owned_does_not_count_as_served(version: ssl.TLSVersion) -> None:
    """A certificate is public: to present it proves nothing until its key has signed this handshake."""
    stolen = farm.server_context(key_pem=forge.key_of_another(TRUSTED.key_pem), only=version)

    with Listener(farm.shake_hands(stolen)) as listener:
        seen = observe(listener.place)

    assert isinstance(seen, ProbeFailure)
    assert ProbeFault.PROTOCOL == seen.fault


@pytest.mark.parametrize("version", [TLS12, TLS13], ids=["TLS 1.2", "TLS 1.3"])
def test_a_leaf_whose_key_is_not_proven_is_never_shown_without_distrust(version: ssl.TLSVersion) -> None:
    """OpenSSL gives up on a distrusted chain before the signature: the complaint marks what is not proven."""
    leaf = forge.self_signed()
    stolen = farm.server_context(leaf.chain_pem, forge.key_of_another(leaf.key_pem), only=version)

    with Listener(farm.shake_hands(stolen)) as listener:
        seen = observe(listener.place)

    assert isinstance(seen, ProbeFailure) or seen.distrust


@pytest.mark.parametrize("version", [TLS12, TLS13], ids=["TLS 1.2", "TLS 1.3"])
def test_a_dripping_server_gives_no_leaf_before_its_key_is_proven(version: ssl.TLSVersion) -> None:
    """The chain arrives before the signature: a flight that stops between the two is no observation."""
    stolen = farm.server_context(key_pem=forge.key_of_another(TRUSTED.key_pem), only=version)

    with Listener(_byte_by_byte(stolen)) as listener:
        seen = observe(listener.place)

    assert isinstance(seen, ProbeFailure)


def _byte_by_byte(context: ssl.SSLContext) -> Behaviour:
    """A flight in the smallest packets there are, as fast as they go."""

    def behave(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in farm.flight(context, connection.recv(65536)):
            connection.sendall(bytes([byte]))
        farm.stay_silent(connection)

    return behave


@pytest.mark.parametrize(
    ("leaf", "field", "expected"),
    [
        pytest.param(
            forge.self_signed(common_name="a\r\nSet-Cookie: x\u202emoc.<script>\u2028=cmd|'/C calc'!A0"),
            "subject",
            "CN=a  Set-Cookie: x moc.\\<script\\> =cmd|'/C calc'!A0",
            id="line breaks, bidirectional marks and script in the subject",
        ),
        pytest.param(
            forge.unreadable_subject(), "subject", "unreadable", id="a subject in no known encoding"
        ),
        pytest.param(forge.unknown_version(), "subject", "unreadable", id="a version that there is not"),
        pytest.param(forge.negative_serial(), "serial", "-DDCCBBAA998878", id="a negative serial number"),
        pytest.param(
            forge.self_signed(names=[f"host-{n}.contoso.com" for n in range(2000)]),
            "names",
            tuple(f"host-{n}.contoso.com" for n in range(2000)),
            id="two thousand names",
        ),
    ],
)
def test_a_hostile_certificate_keeps_its_thumbprint(leaf: forge.Forged, field: str, expected: object) -> None:
    """A field that cannot be read or shown is made harmless; identity is the hash, and stays."""
    with Listener(farm.shake_hands(farm.server_context(leaf.chain_pem, leaf.key_pem))) as listener:
        seen = observe(listener.place)

    assert isinstance(seen, ServedCertificate)
    assert leaf.thumbprint == seen.thumbprint
    assert expected == getattr(seen, field)
