"""The Event Grid webhook: keys, handshakes, deliveries in both schemas, failures."""

import json
from typing import Any

import pytest

from sandbox.host.process import FunctionsHost
from tests.host.helpers import Notes

HOOK = "/runtime/webhooks/EventGrid?functionName="
NOTIFICATION = {"aeg-event-type": "Notification"}


def event(name: str, **data: object) -> dict[str, Any]:
    """An event in the Event Grid schema."""
    return {"id": name, "subject": "s", "eventType": "t", "eventTime": "2026-03-02T10:00:00Z", "data": data}


def cloud_event(name: str, **data: object) -> dict[str, Any]:
    """The same in the CloudEvents schema."""
    return {"specversion": "1.0", "id": name, "subject": "s", "type": "t", "source": "/vault", "data": data}


VALIDATION = [{"id": "1", "data": {"validationCode": "code-1"}}]
ANSWERS = [
    ("no key is 401", f"POST {HOOK}arrived", None, "Notification", 401),
    ("an unknown key is 401", f"POST {HOOK}arrived", "made-up", "Notification", 401),
    ("a function key is 403", f"POST {HOOK}arrived", "function", "Notification", 403),
    ("the extension's key will do", f"POST {HOOK}arrived", "eventgrid_extension", "Notification", 202),
    ("the master key will do", f"POST {HOOK}arrived", "master", "Notification", 202),
    ("the path is read in any case", f"POST {HOOK.lower()}arrived", "master", "Notification", 202),
    ("an unknown extension is 404", "POST /runtime/webhooks/queue", "master", "Notification", 404),
    ("an unknown extension asks for a key first", "POST /runtime/webhooks/queue", None, "Notification", 401),
    ("an unknown function is 404", f"POST {HOOK}nothing", "master", "Notification", 404),
    ("a missing function name is 404", "POST /runtime/webhooks/EventGrid", "master", "Notification", 404),
    ("a function of another trigger is 404", f"POST {HOOK}tick", "master", "Notification", 404),
    ("a disabled function is 404", f"POST {HOOK}asleep", "master", "Notification", 404),
    ("no event type is 400", f"POST {HOOK}arrived", "master", "", 400),
    ("an unknown event type is 400", f"POST {HOOK}arrived", "master", "Other", 400),
    ("unsubscribing is 202", f"POST {HOOK}arrived", "master", "Unsubscribe", 202),
    ("a verb of no webhook is 405", f"PATCH {HOOK}arrived", "master", "Notification", 405),
]


@pytest.mark.parametrize(
    ("request_line", "key", "event_type", "status"), [a[1:] for a in ANSWERS], ids=[a[0] for a in ANSWERS]
)
def test_the_webhook_answers_in_the_order_of_the_extension(
    host: FunctionsHost, request_line: str, key: str | None, event_type: str, status: int
) -> None:
    """Proves keys, names and event types in one table, with a delivery of no events."""
    method, path = request_line.split()
    answer = host.request(method, path, key=key, headers={"aeg-event-type": event_type}, body=b"[]")
    assert answer.status == status


HANDSHAKES = [
    ("the public cloud", "eventgrid.azure.net", "eventgrid.azure.net"),
    ("a sovereign cloud", "eventgrid.azure.us", "eventgrid.azure.us"),
    ("anyone else", "example.com", "eventgrid.azure.net"),
]


@pytest.mark.parametrize(("origin", "allowed"), [h[1:] for h in HANDSHAKES], ids=[h[0] for h in HANDSHAKES])
def test_the_cloud_events_handshake_allows_event_grid(host: FunctionsHost, origin: str, allowed: str) -> None:
    """Proves the abuse protection handshake of the CloudEvents schema."""
    url = host.event_grid_url("arrived").removeprefix(host.url)
    answer = host.request("OPTIONS", url, headers={"WebHook-Request-Origin": origin})
    assert (200, allowed) == (answer.status, answer.headers["Webhook-Allowed-Origin"])


VALIDATIONS = [
    ("a list of events", VALIDATION),
    ("one CloudEvent", {"id": "1", "data": {"validationCode": "code-1"}}),
    ("one CloudEvent with JSON within JSON", {"id": "1", "data": json.dumps({"validationCode": "code-1"})}),
]


@pytest.mark.parametrize("body", [v[1] for v in VALIDATIONS], ids=[v[0] for v in VALIDATIONS])
def test_a_subscription_is_validated_by_its_code(host: FunctionsHost, body: object) -> None:
    """Proves the handshake of the Event Grid schema in all forms it comes in."""
    headers = {"aeg-event-type": "SubscriptionValidation"}
    answer = host.request("POST", f"{HOOK}arrived", key="master", headers=headers, json=body)
    assert (answer.status, answer.json()) == (200, {"validationResponse": "code-1"})


def test_each_event_of_a_delivery_is_one_invocation(host: FunctionsHost, shared_notes: Notes) -> None:
    """Proves that a list is taken apart, and that both schemas reach the function as the SDK's classes."""
    shared_notes.clear()
    events = [event("one", vault="a"), cloud_event("two", vault="b")]
    path = host.event_grid_url("arrived").removeprefix(host.url)
    assert host.request("POST", path, headers=NOTIFICATION, json=events).status == 202
    seen = {note["id"]: (note["type"], note["subject"], note["data"]) for note in shared_notes.of("event")}
    expected = {"one": ("EventGridEvent", "s", {"vault": "a"}), "two": ("CloudEvent", "s", {"vault": "b"})}
    assert expected == seen


def test_the_events_of_a_delivery_run_at_the_same_time(host: FunctionsHost) -> None:
    """Proves it by three events that each wait for the other two."""
    events = [event(name, meet=True) for name in ("one", "two", "three")]
    answer = host.request("POST", f"{HOOK}arrived", key="master", headers=NOTIFICATION, json=events)
    assert answer.status == 202


def test_one_event_may_come_without_a_list(host: FunctionsHost, shared_notes: Notes) -> None:
    """Proves the form in which CloudEvents are delivered."""
    shared_notes.clear()
    path = host.event_grid_url("arrived").removeprefix(host.url)
    assert host.request("POST", path, headers=NOTIFICATION, json=cloud_event("alone")).status == 202
    assert [note["id"] for note in shared_notes.of("event")] == ["alone"]


def test_one_failed_event_fails_the_whole_delivery(host: FunctionsHost, shared_notes: Notes) -> None:
    """Proves that Event Grid will send all of it again, though the others ran."""
    shared_notes.clear()
    events = [event("good"), event("bad", fail=True), event("fine")]
    answer = host.request("POST", f"{HOOK}arrived", key="master", headers=NOTIFICATION, json=events)
    assert (answer.status, answer.text) == (500, "Exception while executing function: Functions.arrived")
    assert {"good", "bad", "fine"} == {note["id"] for note in shared_notes.of("event")}


def test_a_function_that_returns_a_value_fails(host: FunctionsHost) -> None:
    """Proves that a value without a place to go is an error, as in the worker."""
    answer = host.request("POST", f"{HOOK}talkative", key="master", headers=NOTIFICATION, json=[event("x")])
    assert answer.status == 500
    assert "returned a non-None value" in host.log()
