"""Every interleaving of two workers, with a death, a lost answer or a failed write at every step: R3 exactly.

A breadth-first search over all that can happen to one gateway that no sync ever mends, with the product's
own `decide` and `settle`. Time goes in half hours, of which every gap between attempts is a multiple, and is
written relative to now, so that the same situation a day later is the same state.
"""

import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from functools import cache
from typing import NamedTuple

import pytest

from rotation.model import (
    Choice,
    Decision,
    LedgerRow,
    Mode,
    Pass,
    Scope,
    SyncAnswer,
    SyncOutcome,
    Trigger,
)
from rotation.plan import decide, settle
from tests.simulation.loop import EPOCH
from tests.unit import build

SLOT = timedelta(minutes=30)
A_DAY = 48
MOST_IN_A_DAY = 5
GATEWAY = build.gateway(build.binding(configured=build.OLD))
CERTIFICATE = str(build.CERTIFICATE)
RUN = Pass("a run", Trigger.TIMER, Mode.REPAIR, Scope(), EPOCH)


class Row(NamedTuple):
    """What the ledger has; `due` is in slots from now, -1 where it was so earlier."""

    version: int = -1
    attempts: int = 0
    due: int = 0
    refused: bool = False


class Doing(IntEnum):
    """What a worker does next."""

    READ = 0
    CLAIM = 1
    POST = 2
    NOTE_ACCEPTED = 3
    NOTE_REFUSED = 4


class Worker(NamedTuple):
    """A pass on its way: what it wants to store, and whether the row is still the one that it knows."""

    doing: Doing = Doing.READ
    claim: Row = Row()
    unclaimed: Row = Row()
    current: bool = True
    age: int = 0


class State(NamedTuple):
    """All there is. `asked` are the syncs of the last 24 h: for which version, and how long ago."""

    row: Row = Row()
    workers: tuple[Worker, ...] = (Worker(), Worker())
    newest: int = 0
    asked: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """How the workers go about it: the product's way, unless told otherwise.

    A worker lives through `stall` half hours at most, because its budget is minutes. A pass comes `late` half
    hours after an attempt is due at most, and as often as it likes before.
    """

    intent_first: bool = True
    etag: bool = True
    stall: int = 0
    renewals: int = 1
    late: int = 1


class Found(NamedTuple):
    """What a search has seen; `story` is the shortest one that ends in what it looked for."""

    states: int
    most: int
    story: tuple[str, ...]


@cache
def wish(row: Row, newest: int) -> tuple[Row, Row] | None:
    """What the product wants to store about a hostname that is stale, and to go back to; None: nothing."""
    expected = build.version(version=f"v{newest}", age=age(newest))
    verdict = build.verdict(of=build.evidence(expected=expected))
    made = decide(GATEWAY, [verdict], unpacked(row), RUN)
    return (packed(made.claim), packed(made.unclaimed)) if made.claim and made.unclaimed else None


@cache
def settled(claim: Row, unclaimed: Row, outcome: SyncOutcome) -> Row:
    """What the product stores after the answer."""
    made = Decision(GATEWAY, Choice.SYNC, "", unpacked(claim), unpacked(unclaimed))
    return packed(settle(made, unpacked(claim), SyncAnswer(outcome, ""), EPOCH))


def unpacked(row: Row) -> LedgerRow:
    """The row as the product keeps it."""
    outcome = SyncOutcome.ACCEPTED if row.attempts else None
    return LedgerRow(
        gateway_key=GATEWAY.key,
        wanted={} if row.version < 0 else build.wanting({CERTIFICATE: f"v{row.version}"}, -age(row.version)),
        attempts=row.attempts,
        next_at=moment(row.due),
        outcome=SyncOutcome.BUSY if row.refused else outcome,
        etag="1",
    )


def packed(row: LedgerRow) -> Row:
    """And back; five minutes' wait after a refusal count as none, which allows more than the product does.

    From the sixth attempt on they are all alike.
    """
    wanted = row.wanted.get(CERTIFICATE)
    version = int(wanted.version.removeprefix("v")) if wanted else -1
    due = (row.next_at - EPOCH) // SLOT if row.next_at else 0
    refused = row.outcome is not None and row.outcome.refused
    return Row(version, min(row.attempts, MOST_IN_A_DAY + 2), due or -A_DAY * refused, refused)


def age(version: int) -> timedelta:
    """The higher the number the younger the version."""
    return timedelta(days=10 - version)


def moment(slots: int) -> datetime:
    """So many half hours from now."""
    return EPOCH + slots * SLOT


def steps(state: State, rules: Rules) -> Iterator[tuple[str, State]]:
    """Everything that can happen next."""
    idle = all(worker.doing is Doing.READ for worker in state.workers)
    if state.row.due > -rules.late:
        span = max(1, state.row.due) if idle and state.row.version == state.newest else 1
        yield f"{span * SLOT} pass", time_passes(state, span, rules)
    if state.newest < rules.renewals:
        yield "the certificate is renewed", state._replace(newest=state.newest + 1)
    for number, worker in enumerate(state.workers):
        for what, after in work(state, number, worker, rules):
            yield f"a worker {what}", after
        if worker.doing is not Doing.READ:
            yield f"a worker about to {worker.doing.name} is killed", put(state, number, Worker())


def time_passes(state: State, span: int, rules: Rules) -> State:
    """The same situation some time later."""
    workers = tuple(sorted(aged(worker, span, rules) for worker in state.workers))
    versions = {state.newest, *(worker.claim.version for worker in workers)}  # no other will be asked for
    asked = tuple((v, ago + span) for v, ago in state.asked if ago + span < A_DAY and v in versions)
    return State(later(state.row, span, rules), workers, state.newest, asked)


def aged(worker: Worker, span: int, rules: Rules) -> Worker:
    """A worker some time later."""
    age = worker.age + span
    if worker.doing is Doing.READ or age > rules.stall:
        return Worker()
    return worker._replace(
        claim=later(worker.claim, span, rules), unclaimed=later(worker.unclaimed, span, rules), age=age
    )


def later(row: Row, span: int, rules: Rules) -> Row:
    """A row some time later."""
    return row._replace(due=max(-rules.late, row.due - span))


def work(state: State, number: int, worker: Worker, rules: Rules) -> Iterator[tuple[str, State]]:
    """What one worker can do next, and how that can end."""
    mine = worker.current or not rules.etag
    match worker.doing:
        case Doing.READ:
            if wanted := wish(state.row, state.newest):
                first = Doing.CLAIM if rules.intent_first else Doing.POST
                yield "reads the row, and wants to sync", put(state, number, Worker(first, *wanted))
        case Doing.CLAIM:
            if mine:
                stored = store(state, number, worker.claim)
                yield (
                    "stores its intent",
                    put(stored, number, worker._replace(doing=Doing.POST, current=True)),
                )
                yield "stores its intent, but is told otherwise", put(stored, number, Worker())
        case Doing.POST:
            accepted = put(state, number, worker._replace(doing=Doing.NOTE_ACCEPTED))
            asked = tuple(sorted((*state.asked, (worker.claim.version, 0))))
            yield "asks: accepted, or nobody knows", accepted._replace(asked=asked)
            yield "asks: refused", put(state, number, worker._replace(doing=Doing.NOTE_REFUSED))
        case Doing.NOTE_ACCEPTED | Doing.NOTE_REFUSED:
            if mine:
                refused = worker.doing is Doing.NOTE_REFUSED
                outcome = SyncOutcome.BUSY if refused else SyncOutcome.ACCEPTED
                row = settled(worker.claim, worker.unclaimed, outcome)
                yield f"notes that it was {outcome}", put(store(state, number, row), number, Worker())


def store(state: State, number: int, row: Row) -> State:
    """The row changed; who else has read it is no longer up to date."""
    workers = tuple(
        w if n == number or w.doing is Doing.READ else w._replace(current=False)
        for n, w in enumerate(state.workers)
    )
    return state._replace(row=row, workers=workers)


def put(state: State, number: int, worker: Worker) -> State:
    """One worker changed; which of the two it is makes no difference."""
    workers = [*state.workers]
    workers[number] = worker
    return state._replace(workers=tuple(sorted(workers)))


def busiest(state: State) -> int:
    """The most syncs for one version in the last 24 hours."""
    versions = [version for version, _ in state.asked]
    return max(map(versions.count, versions), default=0)


def daily_broken(state: State) -> bool:
    """After the fifth attempt, two within 24 hours."""
    spent = state.row.version == state.newest and state.row.attempts > MOST_IN_A_DAY
    return spent and busiest(state) > 1


def search(rules: Rules, most: int = MOST_IN_A_DAY) -> Found:
    """All states, or the shortest way to one with more than `most` syncs in a day."""
    start = State()
    came_from: dict[State, tuple[State, str] | None] = {start: None}
    ahead = deque([start])
    worst = 0
    while ahead:
        state = ahead.popleft()
        worst = max(worst, busiest(state))
        if worst > most or (rules.stall == 0 and daily_broken(state)):
            return Found(len(came_from), worst, tuple(reversed([*way_back(state, came_from)])))
        for what, after in steps(state, rules):
            if after not in came_from:
                came_from[after] = (state, what)
                ahead.append(after)
    return Found(len(came_from), worst, ())


def way_back(state: State, came_from: dict[State, tuple[State, str] | None]) -> Iterator[str]:
    """What led here, the last first."""
    while step := came_from[state]:
        state, what = step
        yield what


def test_two_workers_never_ask_more_than_five_times_in_a_day(capsys: pytest.CaptureFixture[str]) -> None:
    """Proves R3 for both ledgers, whose writes may succeed and say otherwise: five is reached, never six."""
    found = search(Rules(late=2))
    with capsys.disabled():
        sys.stdout.write(f"\n  {found.states} states, {found.most} syncs in 24 h at most\n")

    assert () == found.story
    assert MOST_IN_A_DAY == found.most
    assert found.states > 100_000


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(Rules(intent_first=False, renewals=0), id="record after the POST"),
        pytest.param(Rules(etag=False, renewals=0), id="store the claim without its etag"),
    ],
)
def test_the_search_finds_what_breaks_the_budget(rules: Rules) -> None:
    """Proves that the search can fail: the shortest story to a sixth sync."""
    found = search(rules)

    assert MOST_IN_A_DAY < found.most
    assert found.story
