"""The proof: a real TLS handshake with each endpoint, and the leaf it presents, trusted or not.

One handshake both reads and judges the chain. Where the chain is not trusted OpenSSL stops before the peer
has proven its key, so a second handshake without verification follows: a leaf counts only with its key. In
TLS 1.2 the handshake is left as soon as the server's flight is complete and its key proven, so that a gateway
which then demands a client certificate is read all the same.

A call works on a thread of its own: one selector, non-blocking sockets, and OpenSSL fed from memory. Where
there is a second core, a second thread helps it with what OpenSSL calculates, and with nothing else. An
address that has not answered yet gets four connections. Where four in a row were not answered, and nothing
else there was meanwhile, the rest of its queue is not dialled: whether a place answers belongs to the
address, only the certificate belongs to the name.
"""

import asyncio
import ipaddress
import math
import re
import socket
import ssl
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from errno import EMFILE, ENFILE
from functools import partial
from itertools import takewhile
from multiprocessing import cpu_count
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector, DefaultSelector
from threading import Lock
from typing import Any, Self

from rotation.clients.calls import count
from rotation.clients.reach import Reach
from rotation.clients.x509 import describe
from rotation.model import Endpoint, Observation, ProbeFailure, ProbeFault, ServedCertificate, clean

SOCKETS_AT_ONCE = 500
SOCKETS_PER_ADDRESS = 32
SOCKETS_UNANSWERED = 400
"""At addresses that have not answered yet: however many are dead, the others go on."""

SOCKETS_ON_TRIAL = 4
"""At one address that has not answered yet; so many failures in a row close it."""

READY_AT_ONCE = 64
"""More sockets would only wait for the processor, and their servers for us."""

NAMES_AT_ONCE = 32
WORTH_HELP = 16
"""Connections to calculate for: with fewer it takes longer to wake the helper."""

CALLS_AT_ONCE = 64
LARGEST_FLIGHT = 256 * 1024

_NAME = re.compile(
    r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)+"
)
_GLANCE = 0.02  # seconds after which the thread looks up from its sockets: at names, deadlines and a stop

Address = tuple[str, int]


class TlsProbe:
    """Reads what endpoints serve. `connect_to` maps (host, port) to where it is dialled instead.

    Elsewhere `reach` says which addresses may be dialled.

    `timeout` bounds a connection with its handshake, and the silence of the resolver. However many calls
    there are at a time, they share the limits on sockets.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        connect_to: Mapping[Address, Address],
        timeout: timedelta,
        reach: Reach = Reach(),
    ) -> None:
        self._context = context
        self._unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._unverified.check_hostname = False
        self._unverified.verify_mode = ssl.CERT_NONE
        self._connect_to = connect_to
        self._reach = reach
        self._timeout = timeout.total_seconds()
        self._sockets = _Sockets()
        # The loop's own pool has six threads on two cores: many slow names would time out just by queueing.
        self._resolver = ThreadPoolExecutor(NAMES_AT_ONCE, "resolve")
        self._threads = ThreadPoolExecutor(CALLS_AT_ONCE, "probe")
        self._helper = ThreadPoolExecutor(1, "handshake") if cpu_count() > 1 else None

    async def __call__(
        self, endpoints: Sequence[Endpoint], *, within: timedelta | None = None
    ) -> list[Observation]:
        """One observation for each fresh connection that an endpoint asks for, in their order.

        Failures are values; what has no result `within` this time is out of time.
        """
        ends = time.monotonic() + within.total_seconds() if within is not None else math.inf
        call = _Call(
            jobs=[_Job.of(endpoint) for endpoint in endpoints for _ in range(endpoint.connections)],
            verified=self._context,
            unverified=self._unverified,
            connect_to=self._connect_to,
            reach=self._reach,
            timeout=self._timeout,
            ends=ends,
            sockets=self._sockets,
            resolver=self._resolver,
            helper=self._helper,
        )
        work = asyncio.get_running_loop().run_in_executor(self._threads, call.run)
        try:
            await asyncio.shield(work)
        finally:
            call.stop()
            await asyncio.wait([work])
            count("handshakes", call.dialled)
        return [job.observation for job in call.jobs]


class _FaultError(Exception):
    """A fault on its way to becoming a value."""

    def __init__(self, fault: ProbeFault, detail: object = "") -> None:
        super().__init__(detail)
        self.fault = fault


class _Sockets:
    """The sockets of all calls under way: a context for each call, which gets an even share of them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._calls = 0
        self._open: Counter[Address] = Counter()
        self.total = 0

    def __enter__(self) -> None:
        with self._lock:
            self._calls += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._calls -= 1

    def share(self, limit: int) -> int:
        """One call's part of a limit."""
        return max(1, limit // self._calls)

    def take(self, address: Address) -> bool:
        """Whether one more may be open there; then it is counted until it is given back."""
        with self._lock:
            if self.total >= SOCKETS_AT_ONCE or self._open[address] >= SOCKETS_PER_ADDRESS:
                return False
            self.total += 1
            self._open[address] += 1
            return True

    def give(self, address: Address) -> None:
        """One there was closed."""
        with self._lock:
            self.total -= 1
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]


@dataclass(slots=True, eq=False)
class _Job:
    """An observation to make. `distrust` is OpenSSL's complaint, once it has refused the chain."""

    endpoint: Endpoint
    sni: str
    host: Address
    distrust: str | None = None
    stage: str = "its host not resolved"
    seen: Observation | None = None

    @classmethod
    def of(cls, endpoint: Endpoint) -> Self:
        """One of those that an endpoint asks for."""
        return cls(endpoint, endpoint.sni, (endpoint.host.lower(), endpoint.port))

    @property
    def observation(self) -> Observation:
        """What was seen, or how far it came."""
        return self.seen or ProbeFailure(
            self.endpoint, ProbeFault.OUT_OF_TIME, f"{self.stage} when time was up"
        )


@dataclass(slots=True, eq=False)
class _Place:
    """What a call knows of one address.

    `answered` is when it last accepted or refused, `strikes` counts the connections in a row since then that
    it did neither, for the reason in `silence`. `queue` is where it stands in line for more sockets.
    """

    address: Address
    waiting: deque[_Job] = field(default_factory=deque)
    queue: "deque[_Place] | None" = None
    open: int = 0
    answered: float = -math.inf
    strikes: int = 0
    silence: tuple[ProbeFault, object] = ProbeFault.CONNECT_TIMEOUT, ""

    @property
    def untried(self) -> bool:
        """Whether it never answered."""
        return self.answered == -math.inf


@dataclass(slots=True, eq=False)
class _Connection:
    """One socket and the TLS spoken over it."""

    job: _Job
    place: _Place
    began: float
    sock: socket.socket
    tls: ssl.SSLObject
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO
    connected: bool = False
    proven: bool = False
    received: int = 0
    refused: OSError | None = None

    def receive(self) -> None:
        """Hand what has arrived to OpenSSL."""
        if not self.connected:
            return
        flight = self.sock.recv(16384)
        self.received += len(flight)
        if not flight:
            raise _FaultError(ProbeFault.CLOSED, "closed during the handshake")
        if self.received > LARGEST_FLIGHT:
            raise _FaultError(ProbeFault.PROTOCOL, f"more than {LARGEST_FLIGHT} bytes of handshake")
        self.incoming.write(flight)

    def shake_hands(self) -> None:
        """Let OpenSSL go on, as far as it comes with what is here, on any thread."""
        try:
            self.tls.do_handshake()
            self.proven = True
        except ssl.SSLWantReadError:
            pass
        except OSError as error:
            self.refused = error

    def reply(self) -> None:
        """Send what OpenSSL has to say, unless the peer has proven the key of its leaf already.

        Raises what OpenSSL has refused.
        """
        if self.refused:
            raise self.refused
        if self.proven or not (flight := self.outgoing.read()):
            # A chain without a reply to send is TLS 1.3 before CertificateVerify: its key is not proven yet.
            return
        if _chain(self.tls):
            self.proven = True
        else:
            self.sock.sendall(flight)


@dataclass(slots=True, eq=False)
class _Call:
    """One pass over its jobs, on the thread that runs it. Seconds are those of the monotonic clock."""

    jobs: Sequence[_Job]
    verified: ssl.SSLContext
    unverified: ssl.SSLContext
    connect_to: Mapping[Address, Address]
    reach: Reach
    timeout: float
    ends: float
    sockets: _Sockets
    resolver: ThreadPoolExecutor
    helper: ThreadPoolExecutor | None
    selector: BaseSelector = field(init=False)
    unresolved: dict[Address, list[_Job]] = field(default_factory=dict)
    lookups: "dict[Address, Future[Address]]" = field(default_factory=dict)
    looked_up: deque[Address] = field(default_factory=deque)
    resolver_spoke: float = 0.0
    places: dict[Address, _Place] = field(default_factory=dict)
    untried: deque[_Place] = field(default_factory=deque)
    answering: deque[_Place] = field(default_factory=deque)
    connections: dict[_Connection, None] = field(default_factory=dict)
    sockets_unanswered: int = 0
    unfinished: int = 0
    dialled: int = 0

    def stop(self) -> None:
        """End it now, from another thread."""
        self.ends = -math.inf

    def run(self) -> None:
        """See to every job, as far as time allows."""
        with self.sockets, DefaultSelector() as self.selector:
            try:
                self._start()
                ready: list[_Connection] = []
                while self.unfinished and time.monotonic() < self.ends:
                    self._resolve()
                    if len(ready) < READY_AT_ONCE:
                        self._dial()
                    ready = [key.data for key, _ in self.selector.select(_GLANCE)]
                    self._expire(ready)
                    # A hello costs little, and the sooner it leaves, the sooner there is an answer.
                    ready = [each for each in ready if each in self.connections]
                    ready.sort(key=lambda connection: connection.connected)
                    self._go_on(ready[: 16 + len(ready) // 2])
            finally:
                for lookup in self.lookups.values():
                    lookup.cancel()
                for connection in list(self.connections):
                    self._close(connection)

    def _start(self) -> None:
        """Refuse impossible names, and look up each host once."""
        self.unfinished = len(self.jobs)
        self.resolver_spoke = time.monotonic()
        for job in self.jobs:
            if not _NAME.fullmatch(job.sni) or job.sni.rpartition(".")[2].isdecimal():
                self._fail([job], ProbeFault.BAD_NAME, job.sni)
            else:
                self.unresolved.setdefault(job.host, []).append(job)
        for host in list(self.unresolved):
            target = self.connect_to.get(host, host)
            if _is_literal(target[0]):
                self._resolved(host, target)
            else:
                self.lookups[host] = lookup = self.resolver.submit(_look_up, target)
                lookup.add_done_callback(partial(self._looked_up, host))

    def _looked_up(self, host: Address, _: "Future[Address]") -> None:
        self.looked_up.append(host)  # on a thread of the resolver

    def _resolve(self) -> None:
        """Take what the resolver has found. Where it is silent for too long, it is so for all that wait."""
        now = time.monotonic()
        while self.looked_up:
            host = self.looked_up.popleft()
            self.resolver_spoke = now
            try:
                address = self.lookups.pop(host).result()
            except (OSError, ValueError) as error:
                self._fail(self.unresolved.pop(host, []), ProbeFault.NAME_UNRESOLVED, error)
            else:
                self._resolved(host, address)
        if self.unresolved and now - self.resolver_spoke >= self.timeout:
            for jobs in self.unresolved.values():
                self._fail(jobs, ProbeFault.NAME_UNRESOLVED, f"nothing for {self.timeout:g} s")
            self.unresolved.clear()

    def _resolved(self, host: Address, address: Address) -> None:
        """Let the jobs of a host wait for sockets at its address, which a setting or its name has given."""
        jobs = self.unresolved.pop(host, [])
        if host not in self.connect_to and (why := self.reach.refuses(host, address[0])):
            self._fail(jobs, ProbeFault.FORBIDDEN_ADDRESS, why)
            return
        place = self.places.setdefault(address, _Place(address))
        for job in jobs:
            job.stage = "not dialled"
        place.waiting.extend(jobs)
        self._line_up(place)

    def _expire(self, ready: Collection[_Connection]) -> None:
        """End the connections whose time is up; they are in the order in which they began.

        What is ready was answered, and waits for this thread: it may take twice as long.
        """
        began = time.monotonic() - self.timeout
        detail = f"nothing for {self.timeout:g} s"
        for connection in list(takewhile(lambda each: each.began <= began, self.connections)):
            if connection in ready and connection.began > began - self.timeout:
                continue
            if connection.connected:
                self._end(connection, ProbeFault.HANDSHAKE_TIMEOUT, detail)
            else:
                self._unanswered(connection, ProbeFault.CONNECT_TIMEOUT, detail)

    def _dial(self) -> None:
        """Open as many sockets as there may be: first to learn who answers, then in turn."""
        for queue in (self.untried, self.answering):
            for _ in range(len(queue)):
                if not self._room(queue):
                    break
                place = queue.popleft()
                if place.queue is not queue:
                    continue
                place.queue = None
                while place.waiting and place.open < self._most(place) and self._room(queue):
                    if not self._connect(place):
                        break
                self._line_up(place)

    def _room(self, queue: deque[_Place]) -> bool:
        """Whether places in this line may have one more socket between them."""
        if queue is self.untried and self.sockets_unanswered >= self.sockets.share(SOCKETS_UNANSWERED):
            return False
        return len(self.connections) < self.sockets.share(SOCKETS_AT_ONCE)

    def _most(self, place: _Place) -> int:
        """How many sockets one place may have."""
        most = self.sockets.share(SOCKETS_PER_ADDRESS)
        return min(most, SOCKETS_ON_TRIAL - place.strikes) if place.untried else most

    def _line_up(self, place: _Place) -> None:
        """Let it stand in line if it may have more sockets, or tell those who wait that it is dead."""
        if place.strikes >= SOCKETS_ON_TRIAL:
            fault, why = place.silence
            host, port = place.address
            others = f"{place.strikes} other connections to {host}:{port} in a row failed: {why}"
            self._fail(place.waiting, fault, f"not dialled, {others}")
            place.waiting.clear()
        if place.waiting and place.queue is None and place.open < self._most(place):
            place.queue = self.untried if place.untried else self.answering
            place.queue.append(place)

    def _connect(self, place: _Place) -> bool:
        """Open a socket for the next job of a place; False where there is none to be had at present."""
        if not self.sockets.take(place.address):
            return False
        try:
            sock = socket.socket(socket.AF_INET6 if ":" in place.address[0] else socket.AF_INET)
        except OSError as error:
            self.sockets.give(place.address)
            if error.errno in {EMFILE, ENFILE} and self.sockets.total:
                return False
            self._fail([place.waiting.popleft()], ProbeFault.UNREACHABLE, error.strerror)
            return True
        sock.settimeout(0)
        job = place.waiting.popleft()
        job.stage = "not connected"
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = self.verified if job.distrust is None else self.unverified
        # Bytes, because Python would run every str through its slow codec for international names.
        tls = context.wrap_bio(incoming, outgoing, server_hostname=job.sni.encode())
        connection = _Connection(job, place, time.monotonic(), sock, tls, incoming, outgoing)
        self.connections[connection] = None
        self.selector.register(sock, EVENT_WRITE, connection)
        place.open += 1
        self.dialled += 1
        self.sockets_unanswered += place.untried
        try:
            sock.connect(place.address)
        except BlockingIOError:
            pass
        except OSError as error:
            self._failed(connection, error)
        return True

    def _go_on(self, ready: Sequence[_Connection]) -> None:
        """Take the next step of connections whose sockets are ready.

        All take a part of it before any takes the next: what it needs is in the processor's caches by then.
        """
        ready = [connection for connection in ready if self._takes(connection, _Connection.receive)]
        self._shake_hands(ready)
        ready = [connection for connection in ready if self._takes(connection, _Connection.reply)]
        for connection in ready:
            if connection.proven:
                connection.job.seen = _served(connection)
                self.unfinished -= 1
                self._close(connection)
            elif not connection.connected:  # to send the hello would have raised whatever prevented it
                connection.connected = True
                connection.job.stage = "in the handshake"
                self._answered(connection.place)
                self.selector.modify(connection.sock, EVENT_READ, connection)

    def _shake_hands(self, ready: Sequence[_Connection]) -> None:
        """Let OpenSSL calculate for each, on the helper's core too where it has time."""
        waiting = deque(ready)
        beside = self.helper.submit(_calculate, waiting) if self.helper and len(ready) >= WORTH_HELP else None
        _calculate(waiting)
        if beside and not beside.cancel():
            beside.result()

    def _takes(self, connection: _Connection, part: Callable[[_Connection], None]) -> bool:
        """Whether a part of the step is taken; otherwise the connection has come to its end."""
        try:
            part(connection)
        except ssl.SSLCertVerificationError as error:
            connection.job.distrust = clean(error.verify_message)
            connection.place.waiting.appendleft(connection.job)
            self._close(connection)
        except ssl.SSLError as error:
            self._end(connection, _tls_fault(error), error.reason or error)
        except OSError as error:
            self._failed(connection, error)
        except _FaultError as failure:
            self._end(connection, failure.fault, failure)
        else:
            return True
        return False

    def _failed(self, connection: _Connection, error: OSError) -> None:
        """End a connection by what the system says; whoever refuses or resets it has answered."""
        fault = _socket_fault(error)
        if fault is ProbeFault.UNREACHABLE and not connection.connected:
            self._unanswered(connection, fault, error.strerror or error)
        else:
            self._answered(connection.place)
            self._end(connection, fault, error.strerror or error)

    def _answered(self, place: _Place) -> None:
        """Let a place that has accepted or refused have more sockets."""
        if place.untried:
            self.sockets_unanswered -= place.open
            place.queue = None
        place.answered = time.monotonic()
        place.strikes = 0
        self._line_up(place)

    def _unanswered(self, connection: _Connection, fault: ProbeFault, detail: object) -> None:
        """End a connection that was never made; it counts if nothing there has answered since it began."""
        place = connection.place
        if connection.began > place.answered:
            place.strikes += 1
            place.silence = fault, detail
        self._end(connection, fault, detail)

    def _end(self, connection: _Connection, fault: ProbeFault, detail: object) -> None:
        self._fail([connection.job], fault, detail)
        self._close(connection)

    def _fail(self, jobs: Collection[_Job], fault: ProbeFault, detail: object) -> None:
        for job in jobs:
            job.seen = ProbeFailure(job.endpoint, fault, clean(detail))
        self.unfinished -= len(jobs)

    def _close(self, connection: _Connection) -> None:
        """Close the socket and pass its turn on."""
        place = connection.place
        self.selector.unregister(connection.sock)
        connection.sock.close()
        del self.connections[connection]
        self.sockets_unanswered -= place.untried
        place.open -= 1
        self.sockets.give(place.address)
        self._line_up(place)


def _calculate(waiting: deque[_Connection]) -> None:
    """Take one after the other of those that wait, beside whoever else does."""
    while True:
        try:
            connection = waiting.popleft()
        except IndexError:
            return
        connection.shake_hands()


def _chain(tls: ssl.SSLObject) -> list[Any]:
    """The chain that has arrived by now, if any; before Python 3.13 only the object inside tells it."""
    inner: Any = tls if hasattr(tls, "get_unverified_chain") else tls._sslobj  # type: ignore[attr-defined]  # noqa: SLF001
    return inner.get_unverified_chain() or []


def _served(connection: _Connection) -> ServedCertificate:
    host, port = connection.place.address
    ders = (each if isinstance(each, bytes) else each.public_bytes(2) for each in _chain(connection.tls))
    chain = tuple(map(describe, ders))
    return ServedCertificate(
        endpoint=connection.job.endpoint,
        thumbprint=chain[0].thumbprint,
        sha256=chain[0].sha256,
        address=f"{host}:{port}",
        # Left before the end there is no version yet, and that happens in TLS 1.2 only.
        tls_version=connection.tls.version() or "TLSv1.2",
        distrust=connection.job.distrust,
        chain=chain,
        seconds=time.monotonic() - connection.began,
    )


def _look_up(host: Address) -> Address:
    """The address of a host, to be waited for on a thread of the resolver."""
    found = socket.getaddrinfo(*host, type=socket.SOCK_STREAM)
    return str(found[0][4][0]), host[1]


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


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
