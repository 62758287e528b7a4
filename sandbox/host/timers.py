"""Timers: NCRONTAB schedules, one invocation at a time for each, missed occurrences once and late.

The next occurrence is computed from the last planned one, so a run longer than its interval is followed at
once by one more run. Where time jumped over several occurrences the function runs once, told that it is past
due.
"""

import asyncio
import json
import logging
import os
import re
from datetime import datetime, timedelta

from azure.functions.meta import Datum
from cronsim import CronSim, CronSimError

from sandbox.host.clock import Clock
from sandbox.host.index import Function
from sandbox.host.invocation import Invoker

log = logging.getLogger("host.timers")
_PAST_DUE = timedelta(seconds=5)
_MONITORED = timedelta(minutes=1)  # the real host keeps no schedule status for timers more frequent than this
_SETTING = re.compile(r"%([^%]+)%")
_NAMES = re.compile("SUN|MON|TUE|WED|THU|FRI|SAT|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC")
_FIELD = re.compile(r"[\d*,/-]+")


class ScheduleError(ValueError):
    """A schedule the host cannot read: the function is in error, the others run."""


class Schedule:
    """NCRONTAB: {second} {minute} {hour} {day} {month} {day-of-week}; the second may be left out."""

    def __init__(self, expression: str) -> None:
        self._expression = resolve_settings(expression)
        fields = self._expression.upper().split()
        # cronsim also reads L, W, # and 7 for Sunday, which NCRONTAB does not.
        plain = all(_FIELD.fullmatch(_NAMES.sub("0", field)) for field in fields)
        if not plain or len(fields) not in {5, 6} or "7" in re.split("[,/-]", fields[-1]):
            raise ScheduleError(f"the schedule {self._expression!r} is no NCRONTAB expression")
        try:
            self.after(datetime(2000, 1, 1))  # noqa: DTZ001 - only to let cronsim judge the expression
        except CronSimError as error:
            raise ScheduleError(
                f"the schedule {self._expression!r} is no NCRONTAB expression: {error}"
            ) from error

    def after(self, moment: datetime) -> datetime:
        """The first occurrence later than the moment."""
        occurrences = CronSim(self._expression, moment)
        # cron takes a day that fits either field where both are given; NCRONTAB wants both to fit.
        occurrences.day_and = True
        try:
            return next(occurrences)
        except StopIteration:
            raise ScheduleError(f"the schedule {self._expression!r} never occurs") from None


def resolve_settings(text: str) -> str:
    """Replace each %NAME% by that app setting.

    Raises:
        ScheduleError: the setting is missing.
    """

    def setting(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise ScheduleError(f"'%{found[1]}%' does not resolve to a value: the setting is missing")
        return os.environ[found[1]]

    return _SETTING.sub(setting, text)


class Timer:
    """One timer function and its place on the clock."""

    def __init__(self, function: Function, clock: Clock, invoker: Invoker) -> None:
        self.function = function
        self._schedule = Schedule(function.trigger["schedule"])
        self._clock = clock
        self._invoker = invoker
        self._last: datetime | None = None
        self._planned = self._schedule.after(clock.now())
        self._moved_on = asyncio.Condition()

    async def caught_up(self) -> None:
        """Wait until every occurrence that has come by the clock's time has run."""
        async with self._moved_on:
            await self._moved_on.wait_for(lambda: self._planned > self._clock.now())

    async def run(self) -> None:
        """Follow the schedule for ever; a failed invocation never stops it."""
        if self.function.trigger.get("runOnStartup"):
            await self._invoker.start(self.function, self.payload())
        while True:
            await self._clock.wait_until(self._planned)
            woken = self._clock.now()
            if late := woken - self._planned > _PAST_DUE:
                log.info("%s is past due: it was planned for %s", self.function.name, self._planned)
            await self._invoker.start(self.function, self.payload(past_due=late))
            async with self._moved_on:
                self._last = self._planned
                self._planned = self._schedule.after(max(self._planned, woken))
                self._moved_on.notify_all()

    def payload(self, *, past_due: bool = False) -> Datum:
        """What the host hands the worker for one tick."""
        monitored = self._schedule.after(self._planned) - self._planned >= _MONITORED
        status = {
            "Last": self._last.isoformat() if self._last else "0001-01-01T00:00:00+00:00",
            "Next": self._planned.isoformat(),
            "LastUpdated": self._clock.now().isoformat(),
        }
        info = {
            "Schedule": {"AdjustForDST": True},
            "ScheduleStatus": status if monitored else None,
            "IsPastDue": past_due,
        }
        return Datum(json.dumps(info), "json")


class Timers:
    """All timers of the app."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.by_name: dict[str, Timer] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def add(self, function: Function, invoker: Invoker) -> None:
        """Plan a timer function.

        Raises:
            ScheduleError: its schedule cannot be read.
        """
        self.by_name[function.name] = Timer(function, self.clock, invoker)

    def start(self) -> None:
        """Let the enabled ones tick."""
        self._tasks = [asyncio.create_task(timer.run()) for timer in self._enabled()]

    async def caught_up(self) -> None:
        """Read the clock anew and wait until no timer is behind it."""
        await self.clock.refresh()
        for timer in self._enabled():
            await timer.caught_up()

    def stop(self) -> None:
        """No further tick; an invocation that runs already goes on."""
        for task in self._tasks:
            task.cancel()

    def _enabled(self) -> list[Timer]:
        return [timer for timer in self.by_name.values() if not timer.function.disabled]
