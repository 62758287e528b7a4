"""How the page says a time, a span and a number. Pure."""

from datetime import UTC, datetime, timedelta


def moment(text: str | None) -> datetime | None:
    """An ISO 8601 time of a report in UTC; None stays None."""
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def span(length: timedelta | float) -> str:
    """A length of time (a number is seconds) in at most two units: 45 s, 31 min, 2 h 5 min, 3 days."""
    seconds = int(length.total_seconds() if isinstance(length, timedelta) else length)
    minutes, hours = seconds // 60, seconds // 3600
    if minutes < 1:
        return f"{seconds} s"
    if hours < 1:
        return f"{minutes} min"
    if hours < 48:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{hours // 24} days"


def relative(at: datetime, now: datetime) -> str:
    """How far a time is from now: just now, 3 min ago, in 24 days."""
    away = now - at
    if abs(away) < timedelta(seconds=10):
        return "just now"
    return f"{span(away)} ago" if away > timedelta() else f"in {span(-away)}"


def count(number: int, noun: str) -> str:
    """A number with its noun: 1 hostname, 2,000 hostnames."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
