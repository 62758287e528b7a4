"""Servers that misbehave in every known way: stdlib sockets and TLS, a thread for each connection.

They share nothing with the probe under test, and end when their context does, whatever their visitors do.
"""

import asyncio
import socket
import ssl
import struct
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import cache
from types import TracebackType
from typing import Self

from rotation.clients.http import tls_context
from rotation.clients.tls import TlsProbe
from rotation.model import Endpoint, Observation
from sandbox.certificates import CertificateAuthority, Leaf

Behaviour = Callable[[socket.socket], None]
Place = tuple[str, int]

CA = CertificateAuthority("Farm")
NAME = "api.contoso.com"
HOST = "apim-prod-westeurope-01.regional.azure-api.net"
TRUSTED = CA.issue([NAME, "*.contoso.com"])

PATIENT = timedelta(seconds=8)
HASTY = timedelta(seconds=0.5)

_PATIENCE = 15.0
_NO_LINGER = struct.pack("ii", 1, 0)  # makes close() send RST in place of FIN


class Listener:
    """A port where every connection meets the same behaviour.

    Args:
        behave: what happens to a connection, on a thread of its own; it is closed afterwards.
        address: of loopback.
    """

    def __init__(self, behave: Behaviour, address: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._behave = behave
        self._socket = socket.create_server((address, 0), family=family, backlog=512)
        self._closing = False
        self._visits: list[tuple[threading.Thread, socket.socket]] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self.place: Place = self._socket.getsockname()[:2]

    @property
    def accepted(self) -> int:
        """How many connections there were."""
        return len(self._visits)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        with socket.create_connection(self.place, timeout=_PATIENCE):  # wakes accept up, on every system
            self._thread.join(_PATIENCE)
        self._socket.close()
        for thread, connection in self._visits:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(_PATIENCE)

    def _accept(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            if self._closing:
                connection.close()
                return
            connection.settimeout(_PATIENCE)
            thread = threading.Thread(target=self._visit, args=(connection,), daemon=True)
            self._visits.append((thread, connection))
            thread.start()

    def _visit(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            self._behave(connection)


class BlackHole:
    """A port whose queue is full: the connection is never made, as behind a firewall that drops packets."""

    def __enter__(self) -> Place:
        self._sockets = [socket.create_server(("127.0.0.1", 0), backlog=0)]
        place: Place = self._sockets[0].getsockname()
        for _ in range(4):
            filler = socket.socket()
            filler.settimeout(0)
            filler.connect_ex(place)
            self._sockets.append(filler)
        return place

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self._sockets:
            each.close()


def free_port() -> socket.socket:
    """A port that is bound and refuses connections."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


def stay_silent(connection: socket.socket) -> None:
    """Listen, and never say a word."""
    while connection.recv(65536):
        pass


def hang_up(connection: socket.socket) -> None:
    """Close at once."""
    connection.shutdown(socket.SHUT_RDWR)


def hang_up_after_hello(connection: socket.socket) -> None:
    """Close when the client has introduced itself."""
    connection.recv(65536)


def reset(connection: socket.socket) -> None:
    """Answer with RST."""
    connection.recv(65536)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


def say(answer: bytes) -> Behaviour:
    """Answer the client's hello with these bytes, whatever they are, and wait for it to go."""

    def behave(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)
        stay_silent(connection)

    return behave


def repeat(answer: bytes) -> Behaviour:
    """Answer the client's hello with these bytes, again and again until it goes."""

    def behave(connection: socket.socket) -> None:
        connection.recv(65536)
        while True:
            connection.sendall(answer)

    return behave


def drip(context: ssl.SSLContext) -> Behaviour:
    """A proper flight, a byte at a time: slower than anybody waits."""

    def behave(connection: socket.socket) -> None:
        connection.settimeout(0.05)
        for byte in flight(context, connection.recv(65536)):
            connection.sendall(bytes([byte]))
            with suppress(TimeoutError):
                connection.recv(65536)

    return behave


def stop_in_the_middle(context: ssl.SSLContext) -> Behaviour:
    """Half of a proper flight, then close."""

    def behave(connection: socket.socket) -> None:
        whole = flight(context, connection.recv(65536))
        connection.sendall(whole[: len(whole) // 2])

    return behave


def tamper(context: ssl.SSLContext, old: bytes, new: bytes) -> Behaviour:
    """A proper flight with some of its bytes exchanged on the way, which TLS 1.2 sends in the clear."""

    def behave(connection: socket.socket) -> None:
        proper = flight(context, connection.recv(65536))
        assert old in proper
        connection.sendall(proper.replace(old, new))
        stay_silent(connection)

    return behave


def warn_then_shake_hands(context: ssl.SSLContext) -> Behaviour:
    """A warning alert before the flight, as Java servers send about names they do not know."""
    warning = bytes.fromhex("15 0303 0002 01 70")

    def behave(connection: socket.socket) -> None:
        connection.sendall(warning + flight(context, connection.recv(65536)))
        stay_silent(connection)

    return behave


def shake_hands(context: ssl.SSLContext) -> Behaviour:
    """A proper handshake, as far as the visitor goes along with it."""

    def behave(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(1)

    return behave


def server_context(
    chain_pem: str = TRUSTED.chain_pem,
    key_pem: str = TRUSTED.key_pem,
    *,
    only: ssl.TLSVersion | None = None,
    ciphers: str | None = None,
    client_certificate: bool = False,
) -> ssl.SSLContext:
    """A server that presents this chain.

    Args:
        chain_pem: leaf first.
        key_pem: the key, which may be the wrong one.
        only: the one version of TLS that it speaks; 1.2 and 1.3 unless given.
        ciphers: of TLS 1.2 and older.
        client_certificate: whether nobody gets in without one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if ciphers:
        context.set_ciphers(ciphers)
    if only:
        context.minimum_version = context.maximum_version = only
    if client_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=CA.pem)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # ssl reads keys from files only
        file.write(key_pem + chain_pem)
        file.flush()
        context.load_cert_chain(file.name)
    return context


def serving(leaf: Leaf, only: ssl.TLSVersion | None = None) -> Behaviour:
    """A server with nothing wrong but, perhaps, its certificate."""
    return shake_hands(server_context(leaf.chain_pem, leaf.key_pem, only=only))


@cache
def client_context(authority: CertificateAuthority = CA) -> ssl.SSLContext:
    """The product's own context, trusting one more authority."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(authority.pem)
        file.flush()
        return tls_context(file.name)


def observe(place: Place, hostname: str = NAME, timeout: timedelta = PATIENT) -> Observation:
    """What the probe says of one connection to a place."""
    probe = TlsProbe(client_context(), {(HOST, 443): place}, timeout)
    observations = look(probe, [Endpoint(hostname, "West Europe", HOST)])
    assert 1 == len(observations)
    return observations[0]


def look(
    probe: TlsProbe, endpoints: Sequence[Endpoint], within: timedelta | None = None
) -> list[Observation]:
    """One pass of the probe, on a loop of its own."""
    return asyncio.run(probe(endpoints, within=within))


def flight(context: ssl.SSLContext, hello: bytes) -> bytes:
    """What a server with this context answers to a hello."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(hello)
    with suppress(ssl.SSLWantReadError):
        server.do_handshake()
    return outgoing.read()
