"""R4 in small: real processes, real SIGKILL. `python -m tests.crash.kills` takes every place there is."""

import pytest

from tests.crash.gate import Point, Side
from tests.crash.kills import Place, Write, kill_everywhere, rehearse
from tests.crash.rotations import SCENARIOS, Scenario

JOBS = 4
EVENT = SCENARIOS[0]
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
REQUEST_OF_SYNC = "refreshHostnames"


def all_recover(wanted: list[tuple[Scenario, Place]], least: int) -> None:
    """Kill at every place and see each app recover; fewer are killed only where a pass was over before."""
    kills = kill_everywhere(wanted, units=1, jobs=JOBS, tell=lambda _: None)

    assert [] == [kill.story for kill in kills if kill.story]
    assert [] == [str(kill.place) for kill in kills if kill.what and not kill.recovered]
    assert least <= sum(kill.what is not None for kill in kills)


@pytest.mark.timeout(400)  # on a busy machine; an idle one with two cores needs a minute
def test_an_app_killed_anywhere_in_an_event_recovers_within_two_ticks() -> None:
    """Before and after the effect of every request, connection and ledger write; and after the answer."""
    requests, connections, writes = rehearse(EVENT, units=1).numbers()
    wanted: list[Place] = [
        *(Point(n, side) for n in requests for side in (Side.ARRIVED, Side.DONE)),
        *(Point(n, Side.ARRIVED) for n in connections),
        Point(REQUEST_OF_SYNC, Side.ANSWERED, 0.002),
        *(Write(n) for n in writes),
    ]

    assert len(wanted) >= 20
    # Some are asked at once, and come in another order the next time: not every number is met again.
    all_recover([(EVENT, place) for place in wanted], least=len(wanted) * 3 // 4)


@pytest.mark.timeout(400)
def test_an_app_killed_around_the_decisive_request_of_any_pass_recovers_within_two_ticks() -> None:
    """The request for the sync, and for a proof its telemetry, which follows the note in the ledger."""
    decisive = {
        "two certificates, two events": Point(REQUEST_OF_SYNC, Side.ARRIVED),
        "drift found by timer": Point(REQUEST_OF_SYNC, Side.DONE),
        "forced by hand": Point(REQUEST_OF_SYNC, Side.ARRIVED),
        "proof": Point("ingestion", Side.ARRIVED),
        "refusal (409)": Point(REQUEST_OF_SYNC, Side.DONE),
    }

    all_recover([(BY_NAME[name], place) for name, place in decisive.items()], least=len(decisive))
