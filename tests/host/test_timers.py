"""Timers: NCRONTAB, and a host whose time the test moves."""

from datetime import UTC, datetime

import pytest

from sandbox.host.process import FunctionsHost
from sandbox.host.timers import Schedule, ScheduleError
from tests.host.helpers import SAMPLE_APP, ClockServer, Notes, wait_for_line

START = datetime(2026, 3, 2, 9, 59, 30, tzinfo=UTC)  # a Monday

OCCURRENCES = [
    ("every five minutes", "0 */5 * * * *", "2026-03-02T10:00:00"),
    ("the second may be left out", "15 10 * * *", "2026-03-02T10:15:00"),
    ("every second", "* * * * * *", "2026-03-02T09:59:31"),
    ("a list and a range", "0 0 8-9,12 * * *", "2026-03-02T12:00:00"),
    ("a start with a step", "0 7/20 * * * *", "2026-03-02T10:07:00"),
    ("0 is Sunday", "0 0 0 * * 0", "2026-03-08T00:00:00"),
    ("names of days and months", "0 0 0 * Apr Tue", "2026-04-07T00:00:00"),
    ("day and day-of-week must both fit", "0 0 0 13 * Fri", "2026-03-13T00:00:00"),
    ("both must fit, however far away", "0 0 0 29 2 Tue", "2028-02-29T00:00:00"),
]


@pytest.mark.parametrize(
    ("expression", "expected"), [o[1:] for o in OCCURRENCES], ids=[o[0] for o in OCCURRENCES]
)
def test_a_schedule_occurs_when_ncrontab_says(expression: str, expected: str) -> None:
    """Proves how expressions are read, above all that the two day fields are ANDed."""
    assert datetime.fromisoformat(expected).replace(tzinfo=UTC) == Schedule(expression).after(START)


MISTAKES = [
    "",
    "* * * *",
    "0 60 * * * *",
    "0 0 0 L * *",
    "0 0 0 * * 7",
    "0 0 0 * * MON#1",
    "00:05:00",
    "0 0 0 31 2 *",
]


@pytest.mark.parametrize("expression", MISTAKES)
def test_what_ncrontab_does_not_know_is_refused(expression: str) -> None:
    """Proves that a schedule of another cron dialect does not work here and fail in Azure."""
    with pytest.raises(ScheduleError):
        Schedule(expression)


def test_a_timer_runs_when_its_time_comes_and_not_before(notes: Notes) -> None:
    """Proves the plain case, the payload and that a repeated look at the clock runs nothing twice."""
    with ClockServer(START) as clock, FunctionsHost(SAMPLE_APP, notes.env, clock.url) as host:
        clock.advance(seconds=29)
        host.wait_idle()
        assert notes.of("tick") == []
        clock.advance(seconds=1)
        host.wait_idle()
        host.wait_idle()
        (tick,) = notes.of("tick")
        assert (tick["past_due"], tick["schedule"]) == (False, {"AdjustForDST": True})
        assert tick["status"]["Next"] == "2026-03-02T10:00:00+00:00"
        clock.advance(hours=1)
        host.wait_idle()
        assert notes.of("tick")[-1]["status"]["Last"] == "2026-03-02T10:00:00+00:00"


def test_a_jump_over_many_occurrences_runs_once_and_past_due(notes: Notes) -> None:
    """Proves that missed ticks are skipped, and that the schedule goes on from the new time."""
    with ClockServer(START) as clock, FunctionsHost(SAMPLE_APP, notes.env, clock.url) as host:
        clock.advance(hours=5)
        host.wait_idle()
        assert [tick["past_due"] for tick in notes.of("tick")] == [True]
        clock.advance(seconds=30)
        host.wait_idle()
        assert [tick["past_due"] for tick in notes.of("tick")] == [True, False]


def test_a_long_run_is_followed_by_one_more_at_once(notes: Notes) -> None:
    """Proves that a timer never runs twice at a time, and that what it missed meanwhile is one run."""
    env = notes.env | {"SAMPLE_HOLD": "yes"}
    with ClockServer(START) as clock, FunctionsHost(SAMPLE_APP, env, clock.url) as host:
        clock.advance(seconds=30)
        wait_for_line(host, "Executing 'Functions.tick'")
        clock.advance(hours=3)
        host.request("GET", "/api/plain")
        assert host.log().count("Executing 'Functions.tick'") == 1
        host.request("GET", "/api/release")
        host.wait_idle()
        assert [tick["past_due"] for tick in notes.of("tick")] == [False, True]


def test_frequent_timers_have_no_schedule_status(notes: Notes) -> None:
    """Proves that no status is kept for a schedule of less than a minute, and that each second ticks once."""
    env = notes.env | {"SAMPLE_SCHEDULE": "*/10 * * * * *"}
    with ClockServer(START) as clock, FunctionsHost(SAMPLE_APP, env, clock.url) as host:
        for _ in range(3):
            clock.advance(seconds=10)
            host.wait_idle()
        assert [tick["status"] for tick in notes.of("tick")] == [{}] * 3


BROKEN = [
    ("a missing setting", {}, "'%SAMPLE_SCHEDULE%' does not resolve"),
    ("a schedule that is none", {"SAMPLE_SCHEDULE": "hourly"}, "no NCRONTAB expression"),
]


@pytest.mark.parametrize(("env", "reason"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_a_timer_in_error_does_not_stop_the_others(env: dict[str, str], reason: str) -> None:
    """Proves that the function is left out, named in the ready line and in the log, and that the app runs."""
    with FunctionsHost(SAMPLE_APP, env) as host:
        assert reason in host.refused["tick"]
        assert "tick" not in host.functions
        assert "The 'tick' function is in error" in host.log()
        assert host.request("GET", "/api/plain").status == 200


def test_a_disabled_timer_does_not_tick(notes: Notes) -> None:
    """Proves that the app setting holds a timer still, and that it can still be run by hand."""
    env = notes.env | {"AzureWebJobs.tick.Disabled": "true"}
    with ClockServer(START) as clock, FunctionsHost(SAMPLE_APP, env, clock.url) as host:
        clock.advance(hours=5)
        host.wait_idle()
        assert notes.of("tick") == []
        host.run("tick")
        assert len(notes.of("tick")) == 1
