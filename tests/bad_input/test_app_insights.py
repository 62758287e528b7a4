"""Bad answers of Application Insights: what it says changes no verdict and stops no pass.

Right is *accepted* or *not accepted*: what it has not taken is in the host's log, and the work goes on.
"""

from functools import partial

import pytest

from sandbox.world import Fault, Server
from tests.bad_input.table import Case, Held
from tests.bad_input.world import HOST, Door, answered, tick_with

INSIGHTS = "tests/clients/test_app_insights.py"
TAKEN, REFUSED = "accepted", "not accepted"


raw = partial(answered, Server.INGESTION, "track")


def partly(*errors: object) -> dict[str, object]:
    """A 206."""
    return {"itemsReceived": 5, "itemsAccepted": 4, "errors": [*errors]}


# fmt: off
CASES = (
    Case("own", "a captive portal's page", "is no Azure", REFUSED, raw(b"<html>Sign in</html>")),
    Case("own", "nothing with 200", "taken, to a careless reader", REFUSED, raw(b"")),
    Case("own", "a list", "another shape", REFUSED, raw([])),
    Case("own", "counts that are text", "another shape", REFUSED, raw({"itemsReceived": "all", "itemsAccepted": "none", "errors": "x"})),
    Case("own", "nested 20,000 deep", "recursion", REFUSED, raw(b"[" * 20_000 + b"]" * 20_000)),
    Case("own", "a 206 with an index beyond all", "which one", REFUSED, raw(partly({"index": 10**9, "statusCode": 500, "message": "x"}), 206)),
    Case("own", "a 206 with a negative index", "which one", REFUSED, raw(partly({"index": -1, "statusCode": 500, "message": "x"}), 206)),
    Case("own", "a 400 with script and escapes", "shown in the log", REFUSED, raw({"errors": [{"index": 0, "statusCode": 400, "message": "\x1b]0;owned\x07\u202e\r\nforged"}]}, 400)),
    Case("own", "a redirect elsewhere", "telemetry for somebody else", REFUSED, raw(b"", 307, Location="https://evil.example/v2.1/track")),
    Case("own", "a redirect without an end", "for ever", REFUSED, raw(b"", 307, Location="/v2.1/track")),
    Case("own", "throttled for years", "a thread that sleeps", REFUSED, raw(b"", 429, **{"Retry-After": "99999999"})),
    Case("own", "a reset", "half an answer", REFUSED, Fault(Server.INGESTION, reset=True, times=None)),
)
# fmt: on

# fmt: off
ELSEWHERE = (
    Held("own", "silence", "a thread that waits", "not accepted, in bounded time", f"{INSIGHTS}::test_silence_is_false_in_bounded_time"),
    Held("own", "a server that is not trusted", "telemetry for somebody else", "not accepted", f"{INSIGHTS}::test_a_resource_that_is_not_trusted_is_false"),
    Held("own", "a trace parent of nonsense", "joins what does not belong together", "no harm", f"{INSIGHTS}::test_a_malformed_parent_does_no_harm"),
)
# fmt: on


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_answer_of_application_insights_changes_nothing(door: Door, case: Case) -> None:
    """The table."""
    verdicts, problems, log = tick_with(door, case.given)

    assert ("IN_SYNC Served", []) == (verdicts[HOST], problems)
    assert (case.right == REFUSED) == ("did not accept" in log)
