"""The scenarios in which the app is killed: what it does when, and what recovering from each means."""

import http.client
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

from rotation.model import LedgerRow
from sandbox.world import Certificate, Fault, Hostname, Server, Service, World
from tests.crash.scene import Scene

HOST = "api.contoso.com"
SECOND = "admin.contoso.com"
ROLLOUT = timedelta(minutes=40)
MOST_TICKS = 2

# The documented times, not the app's own constants.
SECOND_ATTEMPT = timedelta(minutes=30)
REFUSED_GAP = timedelta(minutes=5)
FORCE_GAP = timedelta(minutes=10)

LOCKED = {"error": {"code": "ServiceLocked", "message": "The API Service is transitioning at this time."}}


@dataclass(frozen=True, slots=True)
class Case:
    """What a scenario is about."""

    world: World
    certificates: Mapping[str, Certificate]
    service: Service

    @classmethod
    def small(cls, *hostnames: str, units: int = 1, updating: bool = False) -> "Case":
        """One service in two regions, a certificate for each hostname.

        Args:
            hostnames: its custom domains.
            units: in the main region; one in the other.
            updating: whether ARM says that it is updating, and refuses a second sync by itself. Where it does
                not, nothing but the ledger keeps two apps from asking twice.
        """
        world = World()
        vault = world.add_vault("kv-contoso")
        certificates = {name: vault.add_certificate(name.partition(".")[0], [name]) for name in hostnames}
        bound = tuple(Hostname(name, certificate=each) for name, each in certificates.items())
        regions = {"West Europe": units, "North Europe": 1}
        service = world.add_service("apim-contoso", regions=regions, hostnames=bound)
        service.sets_updating = updating
        return cls(world, certificates, service)

    def renew(self) -> None:
        """Renew every certificate."""
        for certificate in self.certificates.values():
            certificate.renew()


@dataclass(frozen=True, slots=True)
class Scenario:
    """A pass to be killed.

    `prepare` leads to it with the app running, `act` starts it and returns when it is over or the app dead,
    `mend` ends what was wrong with Azure, `recover` follows the restart and says how many ticks it took.
    """

    name: str
    build: Callable[[int], Case]
    prepare: Callable[[Scene, Case], None]
    act: Callable[[Scene, Case], None]
    recover: Callable[[Scene, Case], int]


def _nothing(scene: Scene, case: Case) -> None:
    pass


def _renew(_: Scene, case: Case) -> None:
    case.renew()


def _renewed_by_event(scene: Scene, case: Case) -> None:
    """Renew, and wait for the passes of the events."""
    case.renew()
    scene.delivered()


def _renewed_unheard(scene: Scene, case: Case) -> None:
    """Renew, and lose the event."""
    scene.azure.event_grid.drop_next(len(case.certificates))
    case.renew()
    scene.delivered()


def _refused_by_event(scene: Scene, case: Case) -> None:
    """ARM refuses what it does not show to be impossible."""
    case.world.faults = [Fault(Server.ARM, "refreshHostnames", "POST", status=409, body=LOCKED, times=None)]
    _renewed_by_event(scene, case)


def _rolled_out(scene: Scene, case: Case) -> None:
    """Renewed, synced and served: only the proof is missing."""
    _renewed_by_event(scene, case)
    assert 1 == len(case.service.syncs)
    case.world.clock.advance(ROLLOUT)


def _tick(scene: Scene, _: Case) -> None:
    """Run the timer's function; a dead app ends it."""
    try:
        scene.host.run("check_drift")
    except (OSError, http.client.HTTPException):
        if not scene.stopped:
            raise


def _force(scene: Scene, _: Case) -> None:
    """Force a sync of what is in sync; a dead app does not answer."""
    try:
        scene.resync(hostname=HOST, force=True)
    except (OSError, http.client.HTTPException):
        if not scene.stopped:
            raise


def _synced_once(scene: Scene, case: Case) -> int:
    """The sync is asked for by the redelivered event, a tick now, or one when the next attempt is due.

    The intent is stored before the request is sent, so a crash between the two, or before the answer, may
    have spent an attempt without any effect. Then nothing may be asked for before the documented time.
    """
    case.world.faults = []
    accepted = len(case.service.syncs)
    asked = any("refreshHostnames" in point for point in scene.gate.seen)
    scene.redeliver()
    scene.tick()
    assert not asked or accepted == len(case.service.syncs), "asked for again before the documented time"
    if case.service.syncs:
        return 1
    row = scene.row(case.service)
    assert row.asked_at or row.next_at, "neither synced nor waiting for its time: lost"
    assert row.next_at
    if row.outcome and row.outcome.refused:  # noted before the crash: it gave its attempt back
        assert 0 == row.attempts
        assert row.next_at - case.world.clock.now() <= REFUSED_GAP
    else:
        assert row.asked_at
        assert (1, SECOND_ATTEMPT) == (row.attempts, row.next_at - row.asked_at)
    scene.advance_to(row.next_at)
    scene.tick()
    return 2


def _proven(scene: Scene, _: Case) -> int:
    """The next pass proves it."""
    scene.redeliver()
    verdict = scene.tick()[HOST]
    assert ("IN_SYNC", "Served") == (verdict["status"], verdict["reason"])
    return 1


def _asked_again(scene: Scene, case: Case) -> int:
    """A caller whose request died knows it: asking again must work, 10 minutes later at the latest.

    A sync that was already accepted is not lost either: it is in flight.
    """
    scene.tick()
    if not case.service.syncs:
        _force(scene, case)
    if not case.service.syncs:  # the crash has spent the force: its intent was stored and had no effect
        row = scene.row(case.service)
        assert row.forced_at
        scene.advance_to(row.forced_at + FORCE_GAP)
        _force(scene, case)
    return 1


def _one(units: int) -> Case:
    return Case.small(HOST, units=units)


def _one_that_says_updating(units: int) -> Case:
    return Case.small(HOST, units=units, updating=True)


def _two(units: int) -> Case:
    return Case.small(HOST, SECOND, units=units)


SCENARIOS = (
    Scenario("event", _one, _nothing, _renewed_by_event, _synced_once),
    Scenario("event, ARM says Updating", _one_that_says_updating, _nothing, _renewed_by_event, _synced_once),
    Scenario("two certificates, two events", _two, _nothing, _renewed_by_event, _synced_once),
    Scenario("drift found by timer", _one, _renewed_unheard, _tick, _synced_once),
    Scenario("forced by hand", _one, _nothing, _force, _asked_again),
    Scenario("proof", _one, _rolled_out, _tick, _proven),
    Scenario("refusal (409)", _one, _nothing, _refused_by_event, _synced_once),
)


def check(scene: Scene, case: Case, row: LedgerRow) -> None:
    """What must be so at the end of every scenario, from the world's truth."""
    service = case.service
    assert [-signal.SIGKILL] == [host.exit_code for host in scene.hosts[:-1]]
    assert "ok" == scene.integrity()
    assert 1 == len(service.syncs), f"{len(service.syncs)} syncs were accepted for one version"
    began = [update for update in service.updates if update.reads_vault]
    assert all(first.ends <= second.began for first, second in pairwise(began))
    assert row.attempts <= MOST_TICKS

    case.world.clock.advance(ROLLOUT)
    before = len(scene.runs())
    scene.tick()
    answer = scene.host.request("GET", "/api/status", key="function")
    assert 200 == answer.status
    verdicts = {verdict["hostname"]: verdict for verdict in answer.json()["report"]["verdicts"]}
    for hostname, certificate in case.certificates.items():
        assert ("IN_SYNC", "Served") == (verdicts[hostname]["status"], verdicts[hostname]["reason"])
        for region in service.regions:
            assert {certificate.newest.thumbprint} == scene.handshakes(service, region, hostname)
    assert 1 == len(service.syncs)
    run = scene.runs()[before]
    assert ("timer", "") == (run.properties["trigger"], run.properties["problems"])
