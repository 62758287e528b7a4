"""When the served certificates end, as the bars of a picture. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import sqrt

from rotation.web.fleet import Hostname, Tone

DAYS = 90
TALLEST = 64.0
"""Height of the highest bar, in the picture's pixels."""

LABEL_EVERY = 7
"""Numbers over bars that are nearer than this many days would run into each other on a phone."""


@dataclass(frozen=True, slots=True)
class Bar:
    """The certificates that end on one day. `left` is a percentage of the picture's width."""

    day: date
    days_left: int
    hostnames: int
    certificates: tuple[str, ...]
    tone: Tone
    left: float
    height: float
    labelled: bool


@dataclass(frozen=True, slots=True)
class Tick:
    """A day on the axis."""

    left: float
    label: str


@dataclass(frozen=True, slots=True)
class Calendar:
    """The next 90 days. `ended` and `later` count hostnames outside the picture."""

    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    soon_width: float
    ended: int
    later: int
    first_later: date | None


def draw(hostnames: Iterable[Hostname], now: datetime, expires_soon: int) -> Calendar:
    """The calendar of these hostnames; an end nearer than `expires_soon` days stands out."""
    by_day: dict[date, list[Hostname]] = {}
    ended, later = 0, []
    for hostname in hostnames:
        if not (ends := hostname.not_after):
            continue
        if ends <= now:
            ended += 1
        elif ends > now + timedelta(days=DAYS):
            later.append(ends.date())
        else:
            by_day.setdefault(ends.date(), []).append(hostname)
    most = max(map(len, by_day.values()), default=1)
    bars: list[Bar] = []
    last_label = -LABEL_EVERY
    for day, ending in sorted(by_day.items()):
        away = (day - now.date()).days
        if labelled := away - last_label >= LABEL_EVERY:
            last_label = away
        bars.append(
            Bar(
                day=day,
                days_left=away,
                hostnames=len(ending),
                certificates=tuple(dict.fromkeys(h.certificate or "not from Key Vault" for h in ending)),
                tone=Tone.WARN if away < expires_soon else Tone.BUSY,
                left=_left(away),
                height=round(8 + (TALLEST - 8) * sqrt(len(ending) / most), 1),
                labelled=labelled,
            )
        )
    return Calendar(
        bars=tuple(bars),
        ticks=_ticks(now.date()),
        soon_width=_left(min(expires_soon, DAYS)),
        ended=ended,
        later=len(later),
        first_later=min(later, default=None),
    )


def _left(days: int) -> float:
    """Where a day is; a margin on both sides leaves room for half a bar."""
    return round(1 + 98 * days / DAYS, 2)


def _ticks(today: date) -> tuple[Tick, ...]:
    """Today, and the first of each month that is not too near to it."""
    days = (today + timedelta(days=n) for n in range(14, DAYS - 3))
    firsts = (Tick(_left((day - today).days), f"{day.day} {day:%b}") for day in days if day.day == 1)
    return Tick(_left(0), "today"), *firsts
