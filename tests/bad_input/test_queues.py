"""Bad messages on the app's queues, from somebody who can put one there.

Right is *ignored*: the message is done with, by a line in the log, nothing is asked of Azure, and nothing is
tried again or kept as poison; or *looked at*.
"""

import json

import pytest

from tests.bad_input.table import Case, Held
from tests.bad_input.world import VAULT, Door, event, harmless

EVENTS, SHARDS = "certificate-events", "rotation-shards"
IGNORED, LOOKED_AT = "ignored", "looked at"
RUN = "0f8fad5b-d9cb-469f-a165-70867728950e"
AT = "2026-11-23T00:00:00+00:00"


def shard(**changes: object) -> dict[str, object]:
    """A message as the app puts it, changed."""
    return {"run_id": RUN, "number": 1, "of": 2, "put_at": AT, **changes}


SETTINGS = {"ROTATION_EVENT_QUEUE": EVENTS, "ROTATION_SHARD_QUEUE": SHARDS}

# fmt: off
CASES = (
    Case("B02", "an event of an unknown type", "not ours", IGNORED, (EVENTS, event(eventType="Contoso.Surprise"))),
    Case("B03", "an event whose data is text", "no object", IGNORED, (EVENTS, event(data="x"))),
    Case("B10", "an event whose Id is of another host", "a URL to fetch", IGNORED, (EVENTS, event({"Id": "https://evil.example/certificates/x"}))),
    Case("B11", "an event of another topic", "two truths", IGNORED, (EVENTS, event(topic="/subscriptions/0/x"))),
    Case("B16", "an event of an unknown version", "believed, it would be acted on", LOOKED_AT, (EVENTS, event({"Version": "x"}))),
    Case("B18", "an event whose time is none", "no fact of the event is believed", LOOKED_AT, (EVENTS, event(eventTime="yesterday"))),
    Case("B24", "an event nested 400 deep", "recursion", IGNORED, (EVENTS, json.dumps(event(data="D")).replace('"D"', "[" * 400 + "]" * 400))),
    Case("own", "plain text", "no event", IGNORED, (EVENTS, "hello")),
    Case("own", "a list of events", "one message is one event", IGNORED, (EVENTS, [event()])),
    Case("own", "an empty object", "no event", IGNORED, (EVENTS, {})),
    Case("own", "a terminal's escapes", "whoever reads the log", IGNORED, (EVENTS, event(id="\x1b]0;owned\x07\u202e", eventType="x"))),
    Case("own", "60,000 characters", "a log line of any length", IGNORED, (EVENTS, "x" * 60_000)),
    Case("own", "an Id of the metadata service", "SSRF", IGNORED, (EVENTS, event({"Id": "http://169.254.169.254/"}))),
    Case("own", "a shard that is text", "no shard", IGNORED, (SHARDS, "hello")),
    Case("own", "a shard in a list", "no shard", IGNORED, (SHARDS, [shard()])),
    Case("own", "a shard with a mode", "more than it may say", IGNORED, (SHARDS, shard(mode="force"))),
    Case("own", "shard 0 of 2", "there is none", IGNORED, (SHARDS, shard(number=0))),
    Case("own", "shard 1 of 3", "no power of two", IGNORED, (SHARDS, shard(of=3))),
    Case("own", "shard 1 of 10^30", "memory", IGNORED, (SHARDS, shard(of=10**30))),
    Case("own", "shard true of true", "numbers to Python", IGNORED, (SHARDS, shard(number=True, of=True))),
    Case("own", "a run that is script", "in every event of the run", IGNORED, (SHARDS, shard(run_id="<script>"))),
    Case("own", "a time without a zone", "cannot be compared", IGNORED, (SHARDS, shard(put_at="2026-11-23T00:00:00"))),
    Case("own", "a time that is a list", "another shape", IGNORED, (SHARDS, shard(put_at=[]))),
    Case("own", "a shard nested 900 deep", "recursion", IGNORED, (SHARDS, "[" * 900)),
    Case("own", "a shard of 2,000 bytes", "more than it may say", IGNORED, (SHARDS, json.dumps(shard()) + " " * 2000)),
)
# fmt: on

# fmt: off
ELSEWHERE = (
    Held("own", "a message that is delivered twice", "at least once", "one sync", "tests/scenarios/test_queue.py::test_a_message_about_a_renewal_leads_to_a_sync"),
    Held("own", "a shard that is larger than the app would make", "everything at once", "ignored", "tests/scenarios/test_shards.py::test_a_message_that_is_not_ours_is_ignored_with_a_line_and_looks_at_nothing"),
    Held("own", "any bytes", "a shape nobody thought of", "a line that can be logged", "tests/unit/test_events.py::test_what_is_no_event_is_refused_in_a_line_that_can_be_logged_for"),
)
# fmt: on


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_message_costs_a_line_and_is_done_with(door: Door, case: Case) -> None:
    """The table."""
    stage, _, service = door
    said, asked = len(stage.host.log()), len(stage.world.requests)
    queue, message = case.given
    stage.host.put(queue, message if isinstance(message, str) else json.dumps(message))
    stage.host.wait_idle()
    log, requests = stage.host.log()[said:], stage.world.requests[asked:]

    harmless(log)
    assert (case.right == IGNORED) == ("is ignored: " in log), log
    assert (case.right == IGNORED) == (requests == [])
    assert ([], []) == (stage.host.messages(queue), stage.host.messages(f"{queue}-poison"))
    assert [] == service.syncs
    assert VAULT.removeprefix("https://") in stage.azure.connect_to
