"""Bad answers of Resource Graph: it finds, and is never believed about more than that.

Right is *well*: ARM's list, or a read of the service, takes its place, and the verdict is as ever; or what a
pass then says. Never a sync.
"""

from functools import partial
from typing import Any

import pytest

from sandbox.world import Server
from tests.bad_input.table import Case, Held
from tests.bad_input.world import HOST, Door, answered, tick_with

GRAPH = "tests/clients/test_resource_graph.py"
BODY = f"{GRAPH}::test_a_body_that_is_no_answer_is_not_half_believed"
WELL = "IN_SYNC Served"
EVIL = "<script>\x1b[31m\u202e\r\nforged"


raw = partial(answered, Server.ARM, "ResourceGraph")


def page(*rows: object, **more: object) -> dict[str, Any]:
    """A page of these rows."""
    return {
        "totalRecords": len(rows),
        "count": len(rows),
        "resultTruncated": "false",
        "data": [*rows],
        **more,
    }


PHANTOM = "/subscriptions/{}/resourceGroups/rg/providers/Microsoft.ApiManagement/service/apim-phantom"

# fmt: off
CASES = (
    Case("B87", "a captive portal's page", "is no Azure", WELL, raw(b"<html>Sign in</html>")),
    Case("B87", "nothing", "an empty fleet to a careless reader", WELL, raw(b"")),
    Case("B87", "9 MB", "memory", WELL, raw(page({"id": "x", "y": "z" * (9 * 2**20)}))),
    Case("own", "half of JSON", "cut off", WELL, raw(b'{"data": [{"id"')),
    Case("own", "nested 20,000 deep", "recursion", WELL, raw(b'{"data": ' + b"[" * 20_000 + b"]" * 20_000 + b"}")),
    Case("own", "no data", "another shape", WELL, raw({})),
    Case("own", "rows that are text", "another shape", WELL, raw(page("x"))),
    Case("own", "a row whose id is a number", "another shape", WELL, raw(page({"id": 5}))),
    Case("own", "a row whose id is no service", "another resource", "a problem", raw(page({"id": EVIL}))),
    Case("own", "a row of somebody else's service", "out of scope", "a problem", raw(page({"id": PHANTOM.format("f" * 8 + "-0000-0000-0000-" + "0" * 12)}))),
    Case("own", "no rows", "silence about what it may not show", WELL, raw(page())),
    Case("own", "truncated without a token", "a part that looks whole", WELL, raw(page(resultTruncated="true"))),
    Case("own", "a token that is a number", "another shape", WELL, raw(page(**{"$skipToken": 5}))),
    Case("own", "a 403 with script", "shown in the log", WELL, raw({"error": {"code": EVIL, "message": EVIL}}, 403)),
    Case("own", "a 429 for years", "never", WELL, raw({}, 429, Retry_After="99999999")),
    Case("own", "a quota header of nonsense", "a wait without end", WELL, raw(page(), x_ms_user_quota_remaining="0", x_ms_user_quota_resets_after="99:99:99")),
    Case("own", "a redirect", "a token for elsewhere", WELL, raw(b"", 302, Location="https://evil.example/")),
)
# fmt: on

# fmt: off
ELSEWHERE = (
    Held("own", "a token that leads nowhere", "for ever", "listed", f"{BODY}[a token that leads nowhere else]"),
    Held("own", "a row that lacks fields", "half a configuration", "the service is read", f"{GRAPH}::test_a_service_whose_row_lacks_something_is_read_itself"),
    Held("own", "an odd recommendation of Advisor", "shown on the page", "changes nothing", f"{GRAPH}::test_an_odd_recommendation_changes_nothing"),
)
# fmt: on


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_answer_of_resource_graph_is_only_a_hint(door: Door, case: Case) -> None:
    """The table."""
    verdicts, problems, _ = tick_with(door, case.given)

    if case.right == WELL:
        assert (WELL, []) == (verdicts.get(HOST), problems)
    assert "apim-phantom" not in "".join(verdicts)
