"""Bad input at the Event Grid webhook, from somebody who holds its key.

Right is one of: *ignored*, answered with success and a line in the log, nothing asked of Azure; *looked at*,
answered with success after a look that finds all well; or the status with which the host refuses it before
the app sees it. Never a sync.
"""

import json

import pytest

from sandbox.stage import Stage
from tests.bad_input.table import Case, Held
from tests.bad_input.world import VAULT, Door, event, raised

IGNORED, LOOKED_AT = "ignored", "looked at"
EVIL = "https://evil.example/certificates/contoso-com/1"
EVENTS = "tests/unit/test_events.py"
NOT_IN = f"{EVENTS}::test_an_event_is_ignored_with_a_reason_for"
READ = f"{EVENTS}::test_an_event_is_read_all_the_same_with"


def deep(levels: int) -> bytes:
    """An event whose data is nested so deep."""
    return json.dumps(event(data="DEEP")).replace('"DEEP"', "[" * levels + "]" * levels).encode()


# fmt: off
CASES = (
    Case("B01", "a secret's event", "not ours to act on", IGNORED, event(eventType="Microsoft.KeyVault.SecretNewVersionCreated")),
    Case("B01", "a key's event", "not ours to act on", IGNORED, event(eventType="Microsoft.KeyVault.KeyNewVersionCreated")),
    Case("B02", "an unknown type", "may be anything", IGNORED, event(eventType="Contoso.Surprise")),
    Case("B02", "an empty type", "says nothing", IGNORED, event(eventType="")),
    Case("B02", "no type", "says nothing", IGNORED, event(eventType=None)),
    Case("B03", "data null", "no object", IGNORED, event(data=None)),
    Case("B03", "data a list", "no object", IGNORED, event(data=[1])),
    Case("B03", "data text", "no object", IGNORED, event(data="contoso-com")),
    Case("B03", "data a number", "no object", IGNORED, event(data=5)),
    Case("B04", "data empty", "names nothing", IGNORED, event(data={})),
    Case("B05", "a vault that climbs", "path into another place", IGNORED, event({"VaultName": "../kv-contoso"})),
    Case("B05", "a vault with CRLF", "another line of the log", IGNORED, event({"VaultName": "kv\r\n2026 ERROR root: forged"})),
    Case("B05", "a vault of 300 characters", "longer than any", IGNORED, event({"Id": f"https://{'v' * 300}.vault.azure.net/certificates/x"})),
    Case("B05", "a vault with a look-alike letter", "another vault to the eye", IGNORED, event({"Id": "https://kv-\u0441ontoso.vault.azure.net/certificates/x"})),
    Case("B06", "an object that climbs", "path into another place", IGNORED, event({"ObjectName": "../x"})),
    Case("B06", "an object of 128 characters", "longer than any", IGNORED, event({"Id": f"{VAULT}/certificates/{'x' * 128}"})),
    Case("B07", "stray spaces", "Microsoft's own sample has them", LOOKED_AT, event(data={"Id ": f" {VAULT}/certificates/contoso-com/1 ", "VaultName ": " kv-contoso"})),
    Case("B08", "keys in another case", "the Swagger has them so", LOOKED_AT, event(data={"id": f"{VAULT}/certificates/contoso-com/1", "vaultName": "KV-CONTOSO"})),
    Case("B09", "dates beyond all time", "overflow in arithmetic", LOOKED_AT, event({"NBF": -1, "EXP": 1e300})),
    Case("B09", "dates that are text", "not the documented type", LOOKED_AT, event({"NBF": "NaN", "EXP": []})),
    Case("B10", "an Id of another host", "a URL to fetch", IGNORED, event({"Id": EVIL})),
    Case("B10", "an Id with user info", "looks like the vault", IGNORED, event({"Id": "https://kv-contoso.vault.azure.net@evil.example/certificates/x"})),
    Case("B11", "a topic of another vault", "two truths in one event", IGNORED, event(topic="/subscriptions/0/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/kv-fabrikam")),
    Case("B12", "a topic in a foreign subscription", "only the gateways' own configuration counts", LOOKED_AT, event(topic="/subscriptions/ffffffff-0000-0000-0000-000000000000/resourceGroups/x/providers/Microsoft.KeyVault/vaults/kv-contoso")),
    Case("B13", "a topic that is no ARM id", "made up", IGNORED, event(topic="kv-contoso")),
    Case("B15", "a certificate that nobody uses", "a look for nothing", LOOKED_AT, event({"Id": f"{VAULT}/certificates/unused/1", "ObjectName": "unused"})),
    Case("B16", "an unknown version", "believed, it would be acted on", LOOKED_AT, event({"Version": "f" * 7})),
    Case("B18", "a time that is none", "no fact of the event is believed", LOOKED_AT, event(eventTime="yesterday")),
    Case("B18", "a time with an offset", "the SDK's converter would take no other zone than Z", LOOKED_AT, event(eventTime="2026-11-23T02:00:00+02:00")),
    Case("B21", "a CloudEvent", "the other schema", LOOKED_AT, {"id": "1", "source": event()["topic"], "type": event()["eventType"], "specversion": "1.0", "data": event()["data"], "time": "2026-11-23T00:00:00Z"}),
    Case("B22", "a CloudEvent without a source", "says not where it is from", IGNORED, {"id": "1", "type": event()["eventType"], "specversion": "1.0", "data": event()["data"]}),
    Case("B24", "data nested 500 deep", "recursion", IGNORED, deep(500)),
    Case("B24", "a megabyte nested 500,000 deep", "recursion in the host", 400, deep(500_000)),
    Case("B25", "a key twice and NaN", "parsers differ", LOOKED_AT, json.dumps(event({"EXP": float("nan")})) .replace('"NBF": 1', '"NBF": 1, "Id": "x", "Id": "' + VAULT + '/certificates/contoso-com"') .encode()),
    Case("B27", "fields of a dead letter", "more than is known", LOOKED_AT, event(deadLetterReason="MaxDeliveryAttemptsExceeded", deliveryAttempts=30)),
    Case("B28", "script in the subject", "shown somewhere", LOOKED_AT, event(subject="<script>alert(1)</script>")),
    Case("own", "an event id with a terminal's escapes", "whoever reads the log by terminal", IGNORED, event(id="\x1b]0;owned\x07\u202e\r\nforged", eventType="x")),
    Case("own", "an event id of 100,000 characters", "a log line of any length", IGNORED, event(id="x" * 100_000, eventType="x")),
    Case("own", "an Id with half a character", "cannot be encoded", IGNORED, event({"Id": "https://\ud800.vault.azure.net/certificates/x"})),
    Case("own", "an Id with a port", "another server of that name", IGNORED, event({"Id": "https://kv-contoso.vault.azure.net:8443/certificates/contoso-com"})),
    Case("own", "an Id of the metadata service", "a token to steal", IGNORED, event({"Id": "http://169.254.169.254/metadata/identity"})),
    Case("own", "an Id of another cloud", "a vault that is not ours", IGNORED, event({"Id": "https://kv-contoso.vault.azure.cn/certificates/contoso-com"})),
    Case("own", "a deleted certificate's type", "not announced to us", IGNORED, event(eventType="Microsoft.KeyVault.CertificateDeleted")),
    Case("own", "a type with a tail", "begins like one of ours", IGNORED, event(eventType="Microsoft.KeyVault.CertificateExpired.evil")),
    Case("own", "an expiry event made up", "an alarm that is none", LOOKED_AT, event(eventType="Microsoft.KeyVault.CertificateExpired")),
    Case("own", "no JSON", "no event", 400, b"hello"),
    Case("own", "half of JSON", "cut off", 400, b'[{"id": "1"'),
    Case("own", "bytes that are no text", "no event", 400, b"\xff\xfe\x00"),
    Case("own", "an empty list", "nothing to do", 202, b"[]"),
    Case("own", "a list with no object", "no event", IGNORED, b"[5]"),
    Case("own", "an object without anything", "no event", IGNORED, b"{}"),
)
# fmt: on

# fmt: off
ELSEWHERE = (
    Held("B05", "a vault with `/`, `@`, `#`, `%2f`", "path and host tricks", "ignored", f"{NOT_IN}[an id with an encoded slash]"),
    Held("own", "a vault that is not in ROTATION_VAULTS", "out of scope", "ignored", f"{EVENTS}::test_a_vault_that_is_not_looked_at_is_ignored"),
    Held("B16", "a version of a strange length", "not the documented one", "looked at", f"{READ}[a version of a strange length]"),
    Held("B19", "the same id a hundred times", "a storm", "one sync", "tests/simulation/test_soak.py::test_the_same_event_a_hundred_times_at_once_is_one_sync"),
    Held("B26", "a validation event without its header", "a handshake in the body", "400 by the host", "tests/host/test_webhook.py::test_the_webhook_answers_in_the_order_of_the_extension"),
    Held("own", "a made-up event of a real certificate", "believed, it would be acted on", "nothing is synced", "tests/scenarios/test_doors.py::test_a_made_up_event_about_a_real_certificate_changes_nothing"),
    Held("own", "any JSON at all", "a shape nobody thought of", "never raises", f"{EVENTS}::test_no_event_ever_raises"),
)
# fmt: on


def post(stage: Stage, given: object) -> int:
    """Deliver with the webhook's key."""
    body = given if isinstance(given, bytes) else json.dumps([given]).encode()
    path = stage.host.event_grid_url("on_certificate_event").removeprefix(stage.host.url)
    return stage.host.request("POST", path, body=body, headers={"aeg-event-type": "Notification"}).status


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_event_is_answered_and_costs_a_line(door: Door, case: Case) -> None:
    """The table."""
    stage, _, service = door
    said, asked = len(stage.host.log()), len(stage.world.requests)

    status = post(stage, case.given)
    stage.host.wait_idle()
    log, requests = stage.host.log()[said:], stage.world.requests[asked:]

    if case.right in {IGNORED, LOOKED_AT}:
        assert (202, []) == (status, raised(log))
        assert (case.right == IGNORED) == ("is ignored: " in log), log
        assert (case.right == IGNORED) == (requests == [])
    else:
        assert status in (case.right if isinstance(case.right, tuple) else (case.right,))
        assert [] == requests
    assert [] == service.syncs
    assert not {"\x1b", "\u202e", "forged\n"} & set(log)
    assert max(map(len, log.splitlines()), default=0) < 2000


def test_an_array_of_5000_events_of_one_certificate_is_looked_at_twice_at_most(door: Door) -> None:
    """B23, B20: who comes while it waits shares the look; a look that has begun may not know of the last."""
    stage, _, service = door
    asked = len(stage.world.requests)
    events = [event({"Version": f"{number:032x}"}, id=str(number)) for number in range(5000)]

    assert 202 == post(stage, json.dumps(events).encode())
    queries = [r for r in stage.world.requests[asked:] if "ResourceGraph" in r.path]
    assert 1 <= len(queries) <= 6
    assert [] == service.syncs


def test_after_all_of_it_the_app_is_well(door: Door) -> None:
    """And a real renewal is synced as ever."""
    stage, certificate, service = door
    certificate.renew()
    stage.settle()

    assert 1 == len(service.syncs)
