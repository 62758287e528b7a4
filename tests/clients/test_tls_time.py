"""What a call does when places do not answer, or when its time is up."""

import itertools
import socket
import ssl
import threading
from contextlib import ExitStack, suppress
from datetime import timedelta

import pytest

from rotation.clients.tls import SOCKETS_ON_TRIAL, SOCKETS_PER_ADDRESS, TlsProbe
from rotation.model import Endpoint, Observation, ProbeFailure, ProbeFault, ServedCertificate
from tests.clients import farm
from tests.clients.farm import HASTY, NAME, PATIENT, TRUSTED, BlackHole, Listener, look


def names(number: int) -> list[str]:
    """So many hostnames that the farm's certificate covers."""
    return [f"host-{n}.contoso.com" for n in range(number)]


def faults(seen: list[Observation]) -> list[ProbeFault | None]:
    """The fault of each, None where a certificate was seen."""
    return [each.fault if isinstance(each, ProbeFailure) else None for each in seen]


def test_a_dead_address_costs_one_timeout_and_not_one_for_each_name() -> None:
    """Four connections are made to a region that drops packets; forty others are told so."""
    with BlackHole() as hole:
        probe = TlsProbe(farm.client_context(), {("dead.test", 443): hole}, HASTY)

        seen = look(probe, [Endpoint(name, "West Europe", "dead.test") for name in names(44)])

    details = [each.detail for each in seen if isinstance(each, ProbeFailure)]
    told = f"not dialled, 4 other connections to {hole[0]}:{hole[1]} in a row failed: nothing for 0.5 s"
    assert [ProbeFault.CONNECT_TIMEOUT] * 44 == faults(seen)
    assert ["nothing for 0.5 s"] * SOCKETS_ON_TRIAL + [told] * 40 == details


def test_a_dead_address_is_dead_in_its_own_call_only() -> None:
    """The next pass finds out for itself: what was said of the last one is not held against a region."""
    with BlackHole() as hole:
        probe = TlsProbe(farm.client_context(), {("dead.test", 443): hole}, HASTY)
        endpoints = [Endpoint(name, "West Europe", "dead.test") for name in names(6)]

        first, second = look(probe, endpoints), look(probe, endpoints)

    assert [getattr(each, "detail", None) for each in first] == [
        getattr(each, "detail", None) for each in second
    ]


def test_dead_addresses_do_not_cost_the_others_their_observations() -> None:
    """A region is lost, its sister is read to the last name."""
    with BlackHole() as hole, Listener(farm.serving(TRUSTED)) as listener:
        routes = {("dead.test", 443): hole, ("alive.test", 443): listener.place}
        probe = TlsProbe(farm.client_context(), routes, HASTY)
        hosts = ["dead.test", "alive.test"]

        seen = look(probe, [Endpoint(name, host, host) for name in names(50) for host in hosts])

    assert [ProbeFault.CONNECT_TIMEOUT, None] * 50 == faults(seen)


def test_one_slow_name_does_not_cost_its_neighbours_their_observations() -> None:
    """Names that are answered by silence say nothing of the others at their address."""
    context = farm.server_context()
    quiet = threading.Event()

    def choose(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
        if name == NAME:
            quiet.wait(5)

    context.sni_callback = choose
    with Listener(farm.shake_hands(context)) as listener, ExitStack() as stack:
        stack.callback(quiet.set)
        probe = TlsProbe(farm.client_context(), {("gateway.test", 443): listener.place}, timedelta(seconds=2))
        slow = Endpoint(NAME, "West Europe", "gateway.test", 443, SOCKETS_PER_ADDRESS + 8)

        seen = look(probe, [slow, *(Endpoint(name, "West Europe", "gateway.test") for name in names(60))])

    assert [ProbeFault.HANDSHAKE_TIMEOUT] * slow.connections + [None] * 60 == faults(seen)


def test_an_address_that_is_slow_to_accept_is_not_dead() -> None:
    """Its queue is full at first: the connections that wait behind it are made when it has room again."""
    context = farm.server_context()

    def visit(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            farm.shake_hands(context)(connection)

    def accept(server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=visit, args=(server.accept()[0],), daemon=True).start()

    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        server.settimeout(PATIENT.total_seconds())
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0)
            filler.connect_ex(server.getsockname())
        late = threading.Timer(0.3, accept, [server])
        late.start()
        probe = TlsProbe(farm.client_context(), {("slow.test", 443): server.getsockname()}, PATIENT)

        seen = look(probe, [Endpoint(name, "West Europe", "slow.test") for name in names(10)])

        server.shutdown(socket.SHUT_RDWR)
        late.join(PATIENT.total_seconds())

    assert [None] * 10 == faults(seen)


def stalling(seconds: float) -> ssl.SSLContext:
    """A client whose process gets no processor for a while, when thirty-two hellos are on their way."""
    steps = itertools.count(1)

    class Stalling(ssl.SSLObject):
        def do_handshake(self) -> None:
            if next(steps) == 52:
                threading.Event().wait(seconds)
            super().do_handshake()

    context = ssl.create_default_context(cadata=farm.CA.pem)
    context.sslobject_class = Stalling
    return context


def test_what_was_answered_is_read_although_this_process_is_late() -> None:
    """The servers took no time at all: that theirs was up when the process woke was not their doing."""
    with Listener(farm.serving(TRUSTED)) as listener:
        probe = TlsProbe(stalling(4.8), {("gateway.test", 443): listener.place}, timedelta(seconds=4))

        seen = look(probe, [Endpoint(name, "West Europe", "gateway.test") for name in names(32)])

    assert [None] * 32 == faults(seen)


def test_a_process_that_is_very_late_gives_up_in_order() -> None:
    """Beyond twice the timeout what is ready is ended, too, and what comes after is read as ever."""
    with Listener(farm.serving(TRUSTED)) as listener:
        probe = TlsProbe(stalling(2.5), {("gateway.test", 443): listener.place}, timedelta(seconds=1))

        seen = look(probe, [Endpoint(name, "West Europe", "gateway.test") for name in names(48)])

    assert set(faults(seen)) <= {None, ProbeFault.HANDSHAKE_TIMEOUT, ProbeFault.CONNECT_TIMEOUT}


def test_what_is_not_finished_within_the_time_is_out_of_time() -> None:
    """Every observation that was not made is named, with how far it came; those that were made are kept."""
    with (
        BlackHole() as hole,
        Listener(farm.stay_silent) as silent,
        Listener(farm.serving(TRUSTED)) as good,
    ):
        routes = {("dead.test", 443): hole, ("mute.test", 443): silent.place, ("good.test", 443): good.place}
        probe = TlsProbe(farm.client_context(), routes, PATIENT)
        endpoints = [
            Endpoint(NAME, "West Europe", "dead.test", connections=SOCKETS_ON_TRIAL + 2),
            Endpoint(NAME, "West Europe", "mute.test", connections=3),
            Endpoint(NAME, "West Europe", "good.test", connections=2),
        ]

        seen = look(probe, endpoints, within=timedelta(seconds=2))

    assert [*[ProbeFault.OUT_OF_TIME] * 9, None, None] == faults(seen)
    assert [
        *["not connected when time was up"] * 4,
        *["not dialled when time was up"] * 2,
        *["in the handshake when time was up"] * 3,
    ] == [each.detail for each in seen if isinstance(each, ProbeFailure)]


@pytest.mark.parametrize("seconds", [0, -1])
def test_without_any_time_nothing_is_dialled(seconds: int) -> None:
    """A budget that was spent before is a value too, for every endpoint."""
    with Listener(farm.serving(TRUSTED)) as listener:
        probe = TlsProbe(farm.client_context(), {("good.test", 443): listener.place}, PATIENT)

        seen = look(
            probe, [Endpoint(NAME, "West Europe", "good.test")] * 3, within=timedelta(seconds=seconds)
        )

        assert [ProbeFault.OUT_OF_TIME] * 3 == faults(seen)
        assert 0 == listener.accepted


def test_enough_time_changes_nothing() -> None:
    """A deadline that is not reached is not noticed."""
    with Listener(farm.serving(TRUSTED)) as listener:
        probe = TlsProbe(farm.client_context(), {("good.test", 443): listener.place}, PATIENT)

        [seen] = look(probe, [Endpoint(NAME, "West Europe", "good.test")], within=PATIENT)

    assert isinstance(seen, ServedCertificate)
    assert TRUSTED.thumbprint == seen.thumbprint


def test_an_answer_that_waited_far_too_long_for_its_turn_is_a_time_out_and_not_the_end_of_the_pass() -> None:
    """A thread that gets no processor for seconds finds connections both ready and long expired."""
    hasty = timedelta(microseconds=1)
    with Listener(farm.serving(TRUSTED)) as listener:
        probe = TlsProbe(farm.client_context(), {("gateway.test", 443): listener.place}, hasty)

        seen = look(probe, [Endpoint(NAME, "West Europe", "gateway.test", connections=20)])

    assert [ProbeFault.CONNECT_TIMEOUT] * 20 == faults(seen)
