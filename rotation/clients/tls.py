"""The proof: a real TLS handshake with each endpoint, and the leaf it presents, trusted or not.

One handshake both reads and judges the chain. Where the chain is not trusted OpenSSL stops before the peer
has proven its key, so a second handshake without verification follows: a leaf counts only with its key. In
TLS 1.2 the handshake is left as soon as the server's flight is complete and its key proven, so that a gateway
which then demands a client certificate is read all the same.
"""

import asyncio
import hashlib
import ipaddress
import re
import socket
import ssl
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from rotation.clients.x509 import describe
from rotation.model import Endpoint, Observation, ProbeFailure, ProbeFault, ServedCertificate, clean

SOCKETS_AT_ONCE = 128
SOCKETS_PER_ADDRESS = 32
NAMES_AT_ONCE = 32
LARGEST_FLIGHT = 256 * 1024

_NAME = re.compile(
    r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)+"
)
_AZURE_PLATFORM = ipaddress.ip_address("168.63.129.16")

Address = tuple[str, int]


class _FaultError(Exception):
    """A fault on its way to becoming a value."""

    def __init__(self, fault: ProbeFault, detail: object = "") -> None:
        super().__init__(detail)
        self.fault = fault


class TlsProbe:
    """Reads what endpoints serve. `connect_to` maps (host, port) to where it is dialled instead."""

    def __init__(
        self, context: ssl.SSLContext, connect_to: Mapping[Address, Address], timeout: timedelta
    ) -> None:
        self._context = context
        self._unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._unverified.check_hostname = False
        self._unverified.verify_mode = ssl.CERT_NONE
        self._connect_to = connect_to
        self._timeout = timeout.total_seconds()
        # The loop's own pool has six threads on two cores: many slow names would time out just by queueing.
        self._resolver = ThreadPoolExecutor(NAMES_AT_ONCE, "resolve")

    async def __call__(
        self, endpoints: Sequence[Endpoint], *, within: timedelta = timedelta(minutes=2)
    ) -> list[Observation]:
        """One observation for each fresh connection that an endpoint asks for; failures are values."""
        until = asyncio.get_running_loop().time() + within.total_seconds()
        places = {(e.host.lower(), e.port) for e in endpoints}
        turns = asyncio.Semaphore(NAMES_AT_ONCE)
        addresses = await asyncio.gather(*(self._resolve(place, turns) for place in places))
        resolved = dict(zip(places, addresses, strict=True))
        everywhere = asyncio.Semaphore(SOCKETS_AT_ONCE)
        per_address = {address: asyncio.Semaphore(SOCKETS_PER_ADDRESS) for address in resolved.values()}

        async def observe(endpoint: Endpoint) -> Observation:
            address = resolved[endpoint.host.lower(), endpoint.port]
            try:
                async with asyncio.timeout_at(until), per_address[address], everywhere:
                    return await self._observe(endpoint, address)
            except TimeoutError:
                return ProbeFailure(
                    endpoint, ProbeFault.OUT_OF_TIME, f"nothing for {within.total_seconds():g} s"
                )

        return list(await asyncio.gather(*(observe(e) for e in endpoints for _ in range(e.connections))))

    async def _resolve(self, place: Address, turns: asyncio.Semaphore) -> Address | _FaultError:
        """The address to dial, once per host: by setting, or by name and then never a forbidden one."""
        if place in self._connect_to:
            return self._connect_to[place]
        lookup = partial(socket.getaddrinfo, *place, type=socket.SOCK_STREAM)
        try:
            async with turns, asyncio.timeout(self._timeout):
                found = await asyncio.get_running_loop().run_in_executor(self._resolver, lookup)
        except (OSError, UnicodeError, TimeoutError) as error:
            return _FaultError(ProbeFault.NAME_UNRESOLVED, error)
        address = str(found[0][4][0])
        if _forbidden(address):
            return _FaultError(ProbeFault.FORBIDDEN_ADDRESS, address)
        return address, place[1]

    async def _observe(self, endpoint: Endpoint, address: Address | _FaultError) -> Observation:
        try:
            if isinstance(address, _FaultError):
                raise address
            if not _NAME.fullmatch(endpoint.sni) or endpoint.sni.rpartition(".")[2].isdecimal():
                raise _FaultError(ProbeFault.BAD_NAME, endpoint.sni)
            try:
                return await self._connect(endpoint, address, self._context)
            except ssl.SSLCertVerificationError as error:
                seen = await self._connect(endpoint, address, self._unverified)
                return replace(seen, distrust=clean(error.verify_message))
        except _FaultError as failure:
            return ProbeFailure(endpoint, failure.fault, clean(failure))

    async def _connect(
        self, endpoint: Endpoint, address: Address, context: ssl.SSLContext
    ) -> ServedCertificate:
        """One connection and its handshake.

        Raises:
            ssl.SSLCertVerificationError: the chain is not trusted.
        """
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname=endpoint.sni)
        connected = False
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)  # noqa: FBT003 - positional in the standard library
            try:
                async with asyncio.timeout(self._timeout):
                    await loop.sock_connect(sock, address)
                    connected = True
                    leaf = await _handshake(loop, sock, tls, incoming, outgoing)
            except TimeoutError:
                fault = ProbeFault.HANDSHAKE_TIMEOUT if connected else ProbeFault.CONNECT_TIMEOUT
                raise _FaultError(fault, f"nothing for {self._timeout:g} s") from None
            except ssl.SSLCertVerificationError:
                raise
            except ssl.SSLError as error:
                raise _FaultError(_tls_fault(error), error.reason or error) from None
            except OSError as error:
                raise _FaultError(_socket_fault(error), error.strerror or error) from None
        # Left before the end there is no version yet, and that happens in TLS 1.2 only.
        return _served(endpoint, address, leaf, tls.version() or "TLSv1.2")


async def _handshake(
    loop: asyncio.AbstractEventLoop,
    sock: socket.socket,
    tls: ssl.SSLObject,
    incoming: ssl.MemoryBIO,
    outgoing: ssl.MemoryBIO,
) -> bytes:
    """The leaf whose key the peer has proven."""
    received = 0
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        else:
            return _leaf(tls)
        reply = outgoing.read()
        # A leaf without a reply to send is TLS 1.3 before CertificateVerify: its key is not proven yet.
        if reply and (leaf := _leaf(tls)):
            return leaf
        await loop.sock_sendall(sock, reply)
        flight = await loop.sock_recv(sock, 65536)
        received += len(flight)
        if not flight:
            raise _FaultError(ProbeFault.CLOSED, "closed during the handshake")
        if received > LARGEST_FLIGHT:
            raise _FaultError(ProbeFault.PROTOCOL, f"more than {LARGEST_FLIGHT} bytes of handshake")
        incoming.write(flight)


def _leaf(tls: ssl.SSLObject) -> bytes:
    """What the peer has presented, if anything; before Python 3.13 only the object inside tells it."""
    inner: Any = tls if hasattr(tls, "get_unverified_chain") else tls._sslobj  # type: ignore[attr-defined]  # noqa: SLF001
    chain = inner.get_unverified_chain() or [b""]
    return bytes(chain[0]) if isinstance(chain[0], bytes) else bytes(chain[0].public_bytes(2))  # 2 is DER


def _served(endpoint: Endpoint, address: Address, der: bytes, tls_version: str) -> ServedCertificate:
    leaf = describe(der)
    return ServedCertificate(
        endpoint=endpoint,
        thumbprint=hashlib.sha1(der).hexdigest().upper(),  # noqa: S324 - Azure's identity for a leaf, not trust
        sha256=hashlib.sha256(der).hexdigest().upper(),
        address=f"{address[0]}:{address[1]}",
        tls_version=tls_version,
        distrust=None,
        not_after=leaf.not_after,
        names=leaf.names,
        subject=leaf.subject,
        issuer=leaf.issuer,
        serial=leaf.serial,
    )


def _forbidden(address: str) -> bool:
    """Addresses that no gateway has: ours, the link's, the platform's (metadata is link-local)."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip == _AZURE_PLATFORM


def _tls_fault(error: ssl.SSLError) -> ProbeFault:
    reason = (error.reason or "").upper()
    if reason in {"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"}:
        return ProbeFault.NOT_TLS
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return ProbeFault.CLOSED
    return ProbeFault.ALERT if "ALERT" in reason or "UNRECOGNIZED_NAME" in reason else ProbeFault.PROTOCOL


def _socket_fault(error: OSError) -> ProbeFault:
    if isinstance(error, ConnectionRefusedError):
        return ProbeFault.REFUSED
    if isinstance(error, ConnectionResetError | BrokenPipeError | ConnectionAbortedError):
        return ProbeFault.CLOSED
    return ProbeFault.UNREACHABLE
