"""Bad rows in the ledger, written by somebody who can write it.

Right is *no sync*: the ledger is then not there, and without it nothing is synced while verdicts go on; or
*held*: the row is believed within reason. What is shown of a report that makes no sense is a problem.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sandbox.stage import Stage
from sandbox.world import Certificate, Service
from tests.bad_input.table import Case, Held
from tests.bad_input.world import HOST, contoso, harmless

LEDGER = "tests/clients/test_ledger.py"
TABLE = "tests/clients/test_table_ledger_faults.py"
SENSELESS = f"{LEDGER}::test_a_row_that_makes_no_sense_makes_the_ledger_unavailable"
GOOD = {"wanted": {}, "attempts": 1, "asked_at": None, "next_at": None}
AGES = "2199-01-01T00:00:00+00:00"
PLACES = ("status", "page", "rotations", "gateways/apim-contoso")
EVERYWHERE = {place.partition("/")[0] for place in PLACES}
NOT_THERE, HELD = "no sync", "held"

# fmt: off
ROWS = (
    Case("own", "no JSON", "cannot be read", NOT_THERE, "{"),
    Case("own", "nested 30,000 deep", "recursion", NOT_THERE, "[" * 30_000),
    Case("own", "nothing of a row", "as if nothing had been attempted", NOT_THERE, "{}"),
    Case("own", "attempts that are text", "as if nothing had been attempted", NOT_THERE, json.dumps({**GOOD, "attempts": "0"})),
    Case("own", "minus 10^9 attempts", "never an end", HELD, json.dumps({**GOOD, "attempts": -(10**9)})),
    Case("own", "10^30 attempts", "overflow", HELD, json.dumps({**GOOD, "attempts": 10**30})),
    Case("own", "a next attempt in 170 years", "never again", HELD, json.dumps({**GOOD, "asked_at": "2026-01-01T00:00:00+00:00", "next_at": AGES})),
    Case("own", "the year 9999", "overflow", NOT_THERE, json.dumps({**GOOD, "next_at": "9999-12-31T23:59:59+00:00"})),
    Case("own", "an operation elsewhere", "a token for elsewhere", HELD, json.dumps({**GOOD, "operation_url": "https://evil.example/x"})),
    Case("own", "an unknown outcome", "of a newer version", NOT_THERE, json.dumps({**GOOD, "outcome": "splendid"})),
    Case("own", "an unknown field with script", "of a newer version", HELD, json.dumps({**GOOD, "<script>": "\x1b"})),
    Case("own", "an outbox of nonsense", "sent as telemetry", NOT_THERE, json.dumps({**GOOD, "outbox": ["x"]})),
    Case("own", "an event in the outbox with script", "sent as telemetry", HELD, json.dumps({**GOOD, "outbox": [{"name": "<script>", "properties": {"a": "\x1b"}, "measurements": {}, "event_id": "1"}]})),
)
# fmt: on

# fmt: off
REPORTS = (
    Case("own", "a report that is no JSON", "cannot be read", EVERYWHERE, "{"),
    Case("own", "a list", "another shape", EVERYWHERE, "[]"),
    Case("own", "a report nested 30,000 deep", "recursion", EVERYWHERE, "[" * 30_000),
    Case("own", "an object of nothing", "as if nothing had been looked at", set(), "{}"),
    Case("own", "verdicts that are a number", "no report", EVERYWHERE, '{"verdicts": 5, "decisions": 5, "rotations": 5}'),
    Case("own", "a verdict that is text", "no report", EVERYWHERE, '{"verdicts": ["x"], "decisions": [], "rotations": [], "as_of": "x"}'),
    Case("own", "a verdict of nothing", "no report", EVERYWHERE, '{"verdicts": [{}], "decisions": [], "rotations": [], "as_of": "x"}'),
    Case("own", "a decision of nothing", "no report", EVERYWHERE - {"status"}, '{"verdicts": [], "decisions": [{}], "rotations": []}'),
    Case("own", "a shard of no number", "no report", EVERYWHERE, '{"shard": {"of": "x"}}'),
    Case("own", "a shard of 10^30", "no report", EVERYWHERE, '{"shard": {"of": 1000000000000000000000000000000}}'),
    Case("own", "a time that is none", "no report", {"page"}, '{"verdicts": [], "decisions": [], "rotations": [], "as_of": "<script>"}'),
)
# fmt: on

# fmt: off
ELSEWHERE = (
    Held("own", "any field of another kind", "of nobody's making", "the ledger is not there", f"{SENSELESS}[an unknown status]"),
    Held("own", "a row of another gateway that makes no sense", "one spoils all", "no harm", f"{LEDGER}::test_the_row_of_another_gateway_does_no_harm"),
    Held("own", "a file that is no ledger", "of nobody's making", "not there", f"{LEDGER}::test_a_file_that_is_no_ledger_makes_it_unavailable"),
    Held("own", "Table storage: any other answer", "in Azure's place", "not there", f"{TABLE}::test_an_answer_that_is_none_makes_the_ledger_unavailable"),
    Held("own", "Table storage: a row that is none", "of nobody's making", "not there", f"{TABLE}::test_a_row_that_is_none_makes_the_ledger_unavailable"),
    Held("own", "Table storage: pages without end", "for ever", "not there", f"{TABLE}::test_pages_without_end_make_the_ledger_unavailable"),
)
# fmt: on

Door = tuple[Stage, Service, Path]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """One app for all rows, with a version that is due to be synced as soon as the ledger lets it."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    with contoso({"ROTATION_LEDGER": str(path)}) as (stage, _, service):
        yield stage, service, path


def store(path: Path, statement: str, *values: object) -> None:
    """Write past the app."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(statement, values)


@pytest.mark.parametrize("case", ROWS, ids=str)
def test_a_row_can_hold_a_sync_back_but_never_cause_or_forbid_one(door: Door, case: Case) -> None:
    """The table of rows: a pass with it says what it sees, syncs nothing, and a good row mends all."""
    stage, service, path = door
    said = len(stage.host.log())
    store(path, "UPDATE attempts SET body = ?", case.given)
    stage.host.run("check_drift")
    log = stage.host.log()[said:]

    harmless(log)
    assert "1 IN_SYNC" in log
    assert (case.right == NOT_THERE) == ("ledger" in log.lower()), log
    assert [] == service.syncs
    store(path, "UPDATE attempts SET body = ?", json.dumps(GOOD))


@pytest.mark.parametrize("case", REPORTS, ids=str)
def test_a_report_of_nonsense_is_told_as_a_problem(door: Door, case: Case) -> None:
    """The table of reports: whoever asks where is told in fixed words, and the next pass writes a good one."""
    stage, _, path = door
    said = len(stage.host.log())
    store(path, "UPDATE reports SET body = ?", case.given)

    answers = {p.partition("/")[0]: stage.host.request("GET", f"/api/{p}", key="function") for p in PLACES}
    assert case.right == {place for place, answer in answers.items() if answer.status == 503}
    assert not [place for place, answer in answers.items() if answer.status not in {200, 404, 503}]
    for place, answer in answers.items():
        assert b"Traceback" not in answer.body
        if place == "page":
            assert b"<script>" not in answer.body
        elif answer.status == 503:
            assert answer.json()["operation_id"]
            assert "ledger" in answer.json()["detail"]
    harmless(stage.host.log()[said:])
    assert "IN_SYNC" == stage.tick()[HOST]["status"]


def test_after_all_of_it_a_renewal_is_synced(door: Door) -> None:
    """Nothing that was written has forbidden it."""
    stage, service, _ = door
    certificate: Certificate | None = service.hostnames[0].certificate
    assert certificate
    certificate.renew()
    stage.settle()

    assert 1 == len(service.syncs)
