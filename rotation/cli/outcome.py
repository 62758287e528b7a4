"""What a report means to a script: exit codes, and what a pass would do if it were allowed. Pure."""

from collections.abc import Iterable
from dataclasses import replace
from enum import IntEnum

from rotation import history
from rotation.brakes import Brakes, hold_back
from rotation.model import Choice, Decision, Gateway, Mode, Reason, Report, Status, Verdict
from rotation.plan import decide


class Exit(IntEnum):
    """The exit codes; docs/cli.md explains them. 2 is a mistake on the command line."""

    DONE = 0
    WAITING = 1
    USAGE = 2
    NEEDS_A_PERSON = 3
    NOT_SEEN = 4
    MISCONFIGURED = 5
    INTERRUPTED = 130


def of_report(report: Report) -> Exit:
    """The worst of its verdicts: nothing seen is not all well."""
    return of_verdicts(report.verdicts, seen=bool(report.verdicts) and not report.problems)


def of_verdicts(verdicts: Iterable[Verdict], *, seen: bool = True) -> Exit:
    """A block or drift before what could not be seen, that before what is on its way."""
    given = list(verdicts)
    statuses = {verdict.status for verdict in given}
    if Status.BLOCKED in statuses or any(v.drift or v.reason is Reason.FRONT_DISTRUSTS for v in given):
        return Exit.NEEDS_A_PERSON
    if Status.UNKNOWN in statuses or not seen:
        return Exit.NOT_SEEN
    return Exit.WAITING if statuses & {Status.STALE, Status.SYNCING} else Exit.DONE


def of_resync(report: Report) -> Exit:
    """After a pass that acted: blocks, and syncs that were needed and did not start, need a person."""
    seen = of_report(report)
    if any(verdict.status is Status.BLOCKED for verdict in report.verdicts) or any(
        map(_held, report.decisions)
    ):
        return Exit.NEEDS_A_PERSON
    asked = any(decision.choice is Choice.SYNC for decision in report.decisions)
    return Exit.DONE if asked and seen is not Exit.NOT_SEEN else seen


def _held(decision: Decision) -> bool:
    if decision.choice is Choice.SYNC:
        return decision.answer is not None and decision.answer.outcome.refused
    return decision.choice not in {Choice.NOTHING_STALE, Choice.IN_FLIGHT, Choice.BUSY}


def planned(report: Report, mode: Mode, brakes: Brakes) -> tuple[Decision, ...]:
    """What the pass that only looked would have decided in another mode, by the same rules and brakes.

    A service known from Resource Graph only would be read first, so that is no reason to wait.
    """
    run = replace(report.run, mode=mode)
    brakes = replace(brakes, pause=report.pause)
    of_gateway: dict[str, list[Verdict]] = {}
    gateways: dict[str, Gateway] = {}
    for verdict in report.verdicts:
        gateway = verdict.evidence.gateway
        gateways[gateway.key] = replace(gateway, listed=False)
        of_gateway.setdefault(gateway.key, []).append(verdict)
    rows = {
        key: history.note(row, of_gateway[key], run) if key in of_gateway else row
        for key, row in report.rows.items()
    }
    decided = [decide(g, of_gateway[key], rows.get(key), run, brakes) for key, g in gateways.items()]
    return tuple(hold_back(decided, of_gateway, rows, run, brakes))
