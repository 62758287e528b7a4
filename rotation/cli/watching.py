"""`watch`: passes that only look, again and again, until everything is proven."""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from datetime import timedelta

from rich.live import Live

from rotation.app import build
from rotation.cli.outcome import Exit, of_report
from rotation.cli.screen import Screen, table
from rotation.model import CertificateVersion, Mode, Report, Scope, Status, Trigger, Verdict
from rotation.reconcile import reconcile
from rotation.settings import Settings

COLUMNS = ("status", "gateway", "hostname", "reason", "time to served", "message")


async def follow(
    screen: Screen, settings: Settings, scope: Scope, every: int, patience: timedelta
) -> tuple[Exit, object]:
    """Look every so many seconds; the exit code and the last answer."""
    made = build(settings)
    clock = asyncio.get_running_loop().time
    until = clock() + patience.total_seconds()
    waited: set[str] = set()
    proven: dict[str, float | None] = {}
    shown: list[tuple[object, ...]] = []
    live = Live(console=screen.out, auto_refresh=False) if screen.lively else nullcontext()
    async with made.opened:
        with live as moving:
            while True:
                report = await reconcile(made.world, scope, Mode.OBSERVE, Trigger.HAND)
                watched = [v for v in report.verdicts if v.status is not Status.UNMANAGED]
                for verdict in watched:
                    _note_proof(verdict, report, waited, proven)
                rows = [_watched(verdict, proven) for verdict in watched]
                code = of_report(report)
                if any(v.status is Status.BLOCKED for v in watched):
                    code = Exit.NEEDS_A_PERSON
                over = code is Exit.DONE or _hopeless(watched) or clock() >= until
                if moving is not None:
                    moving.update(table(COLUMNS, rows), refresh=True)
                elif rows != shown:
                    screen.table(COLUMNS, rows)
                    if not over:
                        screen.emit(code, _watch_result(report, watched, proven))
                shown = rows
                if over:
                    screen.problems(report)
                    return code, _watch_result(report, watched, proven)
                await asyncio.sleep(every)


def _hopeless(verdicts: Iterable[Verdict]) -> bool:
    """Whether waiting cannot help: something is blocked, and nothing is on its way."""
    statuses = {verdict.status for verdict in verdicts}
    return Status.BLOCKED in statuses and not statuses & {Status.SYNCING, Status.STALE}


def _key(verdict: Verdict) -> str:
    return f"{verdict.evidence.gateway.key} {verdict.evidence.binding.key}"


def _note_proof(verdict: Verdict, report: Report, waited: set[str], proven: dict[str, float | None]) -> None:
    """Time to served: from the ledger where it was measured there, else if it was proven as we watched."""
    expected, key = verdict.evidence.expected, _key(verdict)
    if verdict.status is not Status.IN_SYNC or not isinstance(expected, CertificateVersion):
        waited.add(key)
        proven.pop(key, None)
    elif proven.get(key) is None:
        row = report.rows.get(verdict.evidence.gateway.key)
        measured = [
            rotation.seconds_to_served
            for rotation in (row.rotations if row else ())
            if (rotation.certificate, rotation.version) == (str(expected.certificate), expected.version)
        ]
        seen = (report.run.now - expected.available_since).total_seconds() if key in waited else None
        proven[key] = next((each for each in measured if each is not None), seen)


def _watched(verdict: Verdict, proven: Mapping[str, float | None]) -> tuple[object, ...]:
    seconds = proven.get(_key(verdict))
    return (
        verdict.status,
        verdict.evidence.gateway.name,
        verdict.evidence.binding.hostname,
        verdict.reason,
        "" if seconds is None else f"{timedelta(seconds=round(seconds))}",
        verdict.message,
    )


def _watch_result(
    report: Report, watched: Iterable[Verdict], proven: Mapping[str, float | None]
) -> dict[str, object]:
    return {
        "as_of": report.run.now.isoformat(),
        "hostnames": [
            {
                "gateway": verdict.evidence.gateway.name,
                "hostname": verdict.evidence.binding.hostname,
                "status": verdict.status,
                "reason": verdict.reason,
                "message": verdict.message,
                "seconds_to_served": proven.get(_key(verdict)),
            }
            for verdict in watched
        ],
    }
