import asyncio
import gc
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from multiprocessing import cpu_count
from pathlib import Path
from typing import ClassVar

import pytest

from rotation.clients.tls import SOCKETS_AT_ONCE, SOCKETS_PER_ADDRESS, TlsProbe
from rotation.model import Endpoint, Observation, ProbeFailure, ProbeFault, ServedCertificate
from tests.clients import farm
from tests.clients.farm import HASTY, HOST, PATIENT, Listener, look

PROJECT = Path(__file__).resolve().parents[2]
ADDRESSES = [f"127.0.0.{n}" for n in range(1, 19)]


class Crowd:
    """Counts the connections that are open at the same time, and gives a crowd time to gather.

    A connection counts until just before it is closed, so the client has at least as many open.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._changed = threading.Condition()
        self._open = 0
        self.largest = 0

    def join(self, connection: socket.socket) -> None:
        """Wait until there are more than there may be, or nobody else comes."""
        connection.recv(65536)
        with self._changed:
            self._open += 1
            self.largest = max(self.largest, self._open)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._open > self._limit, timeout=0.3)
            self._open -= 1


def test_hundreds_of_endpoints_get_the_certificate_that_was_served_to_them() -> None:
    """Under load no observation is mixed up: each thumbprint is that of the DER the server really used."""
    leaves = {name: farm.CA.issue([name]) for name in (f"host-{n}.contoso.com" for n in range(300))}
    contexts = {name: leaf.server_context() for name, leaf in leaves.items()}
    front = farm.server_context()

    def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        connection.context = contexts[name or ""]

    front.sni_callback = choose
    with ExitStack() as stack:
        listeners = [stack.enter_context(Listener(farm.shake_hands(front), address)) for address in ADDRESSES]
        routes = {(name, 443): listeners[n % len(listeners)].place for n, name in enumerate(leaves)}
        probe = TlsProbe(farm.client_context(), routes, PATIENT)

        seen = look(probe, [Endpoint(name, "West Europe", name) for name in leaves])

    assert [(name, leaf.thumbprint, None) for name, leaf in leaves.items()] == [
        (s.endpoint.hostname, s.thumbprint, s.distrust) for s in seen if isinstance(s, ServedCertificate)
    ]


class Slow(ssl.SSLObject):
    """Takes its time to calculate, and most on a helper's thread; knows which threads have."""

    threads: ClassVar[set[str]] = set()

    def do_handshake(self) -> None:
        """Go on with the handshake, a little later."""
        thread = threading.current_thread().name.partition("_")[0]
        self.threads.add(thread)
        time.sleep(0.05 if thread == "handshake" else 0.005)
        super().do_handshake()


@pytest.mark.skipif(cpu_count() < 2, reason="one core has no helper")
def test_what_a_helper_calculates_is_waited_for() -> None:
    """Proves that no reply is sent before there is one, however late the second core is."""
    Slow.threads.clear()
    context = ssl.create_default_context(cadata=farm.CA.pem)
    context.sslobject_class = Slow
    with ExitStack() as stack:
        listeners = [
            stack.enter_context(Listener(farm.serving(farm.TRUSTED), address)) for address in ADDRESSES
        ]
        routes = {(f"gateway-{n}.test", 443): each.place for n, each in enumerate(listeners)}
        probe = TlsProbe(context, routes, PATIENT)

        seen = look(probe, [Endpoint(farm.NAME, "West Europe", host, 443, 3) for host, _ in routes])

    assert {"probe", "handshake"} == Slow.threads
    assert [ServedCertificate] * 54 == [type(each) for each in seen]


@pytest.mark.parametrize(
    "hosts",
    [
        pytest.param([HOST], id="under one host"),
        pytest.param([f"portal-{n}.contoso.com" for n in range(20)], id="under many hosts"),
    ],
)
def test_one_address_meets_a_bounded_number_of_connections(hosts: list[str]) -> None:
    """A gateway is never flooded, however many hostnames and connections there are to prove."""
    crowd = Crowd(SOCKETS_PER_ADDRESS)
    with Listener(crowd.join) as listener:
        probe = TlsProbe(farm.client_context(), {(host, 443): listener.place for host in hosts}, PATIENT)
        connections = 3 * SOCKETS_PER_ADDRESS // len(hosts)

        seen = look(probe, [Endpoint(farm.NAME, "West Europe", host, 443, connections) for host in hosts])

    assert len(hosts) * connections == len(seen)
    assert crowd.largest <= SOCKETS_PER_ADDRESS


def test_the_number_of_sockets_is_bounded() -> None:
    """However large the inventory, the app stays far from the sandbox's limit of descriptors."""
    crowd = Crowd(SOCKETS_AT_ONCE)
    with ExitStack() as stack:
        listeners = [stack.enter_context(Listener(crowd.join, address)) for address in ADDRESSES]
        routes = {(f"gateway-{n}.test", 443): each.place for n, each in enumerate(listeners)}
        probe = TlsProbe(farm.client_context(), routes, PATIENT)
        endpoints = [Endpoint(farm.NAME, "West Europe", host, 443, 40) for host, _ in routes]

        look(probe, endpoints)

    assert SOCKETS_AT_ONCE < len(ADDRESSES) * SOCKETS_PER_ADDRESS
    assert crowd.largest <= SOCKETS_AT_ONCE


def test_calls_at_the_same_time_share_the_sockets() -> None:
    """A shard, an event and the timer in one worker meet a gateway with no more than one of them would."""
    crowd = Crowd(SOCKETS_PER_ADDRESS)

    async def together(probe: TlsProbe, endpoint: Endpoint) -> list[list[Observation]]:
        return await asyncio.gather(*(probe([endpoint]) for _ in range(3)))

    with Listener(crowd.join) as listener:
        probe = TlsProbe(farm.client_context(), {(HOST, 443): listener.place}, PATIENT)

        seen = asyncio.run(together(probe, Endpoint(farm.NAME, "West Europe", HOST, 443, 40)))

        assert [40, 40, 40] == [len(each) for each in seen]
        assert 120 == listener.accepted
    assert crowd.largest <= SOCKETS_PER_ADDRESS


def test_the_loop_stays_responsive_while_probes_hang() -> None:
    """Silent gateways cost time, but none of the loop's: what else runs in the process goes on."""
    gaps: list[float] = []

    async def tick() -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            gaps.append(time.monotonic() - last)
            last = time.monotonic()

    async def main(probe: TlsProbe, endpoints: list[Endpoint]) -> list[Observation]:
        ticking = asyncio.create_task(tick())
        try:
            return await probe(endpoints)
        finally:
            ticking.cancel()

    with ExitStack() as stack:
        listeners = [stack.enter_context(Listener(farm.stay_silent, address)) for address in ADDRESSES]
        routes = {(f"gateway-{n}.test", 443): each.place for n, each in enumerate(listeners)}
        probe = TlsProbe(farm.client_context(), routes, HASTY)
        endpoints = [Endpoint(farm.NAME, "West Europe", host, 443, 60) for host, _ in routes]
        began = time.monotonic()

        seen = asyncio.run(main(probe, endpoints))

        took = time.monotonic() - began

    assert [ProbeFault.HANDSHAKE_TIMEOUT] * 1080 == [s.fault for s in seen if isinstance(s, ProbeFailure)]
    assert took < 60  # one after another it would be 540 s
    assert len(gaps) > 50
    assert sum(gap > 0.25 for gap in gaps) < len(gaps) / 10  # a busy machine may miss a tick, too


def _descriptors() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


no_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc/self/fd to count")


@no_proc
def test_descriptors_do_not_grow() -> None:
    """Every socket is closed, however its handshake ended."""
    behaviours = [
        farm.stay_silent,
        farm.hang_up,
        farm.reset,
        farm.say(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        farm.serving(farm.TRUSTED),
        farm.serving(farm.CA.issue(["www.fabrikam.com"])),
        farm.shake_hands(farm.server_context(only=ssl.TLSVersion.TLSv1_2, client_certificate=True)),
    ]

    def once() -> None:
        with ExitStack() as stack:
            listeners = [stack.enter_context(Listener(behave)) for behave in behaviours]
            places = [*(each.place for each in listeners), stack.enter_context(farm.BlackHole())]
            places.append(stack.enter_context(farm.free_port()).getsockname())
            routes = {(f"gateway-{n}.test", 443): place for n, place in enumerate(places)}
            probe = TlsProbe(farm.client_context(), routes, HASTY)
            look(probe, [Endpoint(farm.NAME, "West Europe", host, 443, 12) for host, _ in routes])

    once()
    before = _descriptors()
    once()

    assert before == _descriptors()


@no_proc
def test_a_pass_that_is_cut_short_leaves_no_descriptor() -> None:
    """A trigger whose budget is spent cancels the probe in the middle of its handshakes."""

    async def cut_short(probe: TlsProbe, listener: Listener) -> None:
        work = asyncio.ensure_future(probe([Endpoint(farm.NAME, "West Europe", HOST, 443, 50)]))
        async with asyncio.timeout(5):
            while listener.accepted < SOCKETS_PER_ADDRESS:  # noqa: ASYNC110 - counted by threads
                await asyncio.sleep(0)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    before = _descriptors()
    with Listener(farm.stay_silent) as listener:
        probe = TlsProbe(farm.client_context(), {(HOST, 443): listener.place}, PATIENT)
        asyncio.run(cut_short(probe, listener))

    assert before == _descriptors()


SHORT_OF_DESCRIPTORS = """
import asyncio, resource, ssl, sys
from datetime import timedelta
from pathlib import Path
from rotation.clients.tls import TlsProbe
from rotation.model import Endpoint

context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
probe = TlsProbe(context, {("gateway.test", 443): (sys.argv[1], int(sys.argv[2]))}, timedelta(seconds=8))
endpoint = Endpoint("api.contoso.com", "West Europe", "gateway.test")
asyncio.run(probe([endpoint]))  # loads what is loaded at first use
resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
for seen in asyncio.run(probe([endpoint] * 100)):
    print(getattr(seen, "thumbprint", seen))
"""


def test_without_descriptors_to_spare_a_pass_goes_on_with_those_it_has() -> None:
    """Whatever else holds them, nothing is lost: it takes longer."""
    with Listener(farm.serving(farm.TRUSTED)) as listener:
        command = [sys.executable, "-c", SHORT_OF_DESCRIPTORS, *map(str, listener.place)]
        ran = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, timeout=60, check=False)

    assert "" == ran.stderr
    assert [farm.TRUSTED.thumbprint] * 100 == ran.stdout.split("\n")[:-1]
