import json
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import certifi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotation.brakes import Brakes
from rotation.model import Address, CertificateId, GatewayKind
from rotation.registration import PLATFORM_SIGN_IN, schedule, sign_in
from rotation.settings import (
    CLOUDS,
    CONNECTION_STRING,
    Identity,
    Mistakes,
    Settings,
    load,
)
from rotation.verdict import Limits

GUID = "11111111-2222-3333-4444-555555555555"
OTHER_GUID = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
SECRET = "99999999-8888-7777-6666-555555555555"
INSIGHTS = (
    f"InstrumentationKey={SECRET};IngestionEndpoint=https://westeurope-5.in.applicationinsights.azure.com/"
)


def environ(**variables: str) -> Mapping[str, str]:
    """The least that is needed, and what a test is about; without ROTATION_ in front."""
    return {f"ROTATION_{name}": value for name, value in {"SUBSCRIPTIONS": GUID, **variables}.items()}


def settings(**variables: str) -> Settings:
    """Settings that are good."""
    found = load(environ(**variables))
    assert isinstance(found, Settings), found
    return found


def mistakes(**variables: str) -> tuple[str, ...]:
    """What is wrong with settings that are not."""
    found = load(environ(**variables))
    assert isinstance(found, Mistakes), found
    return found.sentences


def test_one_setting_is_enough() -> None:
    """Proves every default."""
    expected = Settings(
        enforce=False,
        kinds=frozenset({GatewayKind.API_MANAGEMENT}),
        subscriptions=(GUID,),
        cloud_name="AzureCloud",
        arm_url="https://management.azure.com",
        api_version="2025-09-01-preview",
        vaults=frozenset(),
        connect_to={},
        self_hosted={},
        sync_workspace_gateways=False,
        private_networks=(),
        ca_bundle=None,
        schedule="15 */5 * * * *",
        limits=Limits(drift_after=timedelta(hours=2), expires_soon=timedelta(days=14)),
        brakes=Brakes(most_syncs=20, developer_minutes=(0, 0)),
        probe_timeout=timedelta(seconds=5),
        event_budget=timedelta(seconds=15),
        event_queue=None,
        shard_queue=None,
        shard_size=2000,
        ledger=str(Path(tempfile.gettempdir()) / "apim-cert-rotation.sqlite"),
        notices=None,
        named_values={},
        sign_in=False,
        connection_string=None,
        insights_identity=None,
    )
    actual = load({"ROTATION_SUBSCRIPTIONS": GUID, "PATH": "/bin", "AzureWebJobsStorage": ""})

    assert expected == actual


def test_named_values_are_read_with_the_certificates_that_they_follow() -> None:
    """Proves the pairs, in any case, with the vault's host of the cloud."""
    expected = {
        CertificateId("kv-contoso.vault.azure.net", "contoso-com"): "gateway-Thumbprint",
        CertificateId("kv-contoso.vault.azure.net", "portal"): "portal.pin",
    }
    actual = settings(NAMED_VALUES="KV-Contoso/Contoso-com=gateway-Thumbprint, kv-contoso/portal=portal.pin")

    assert expected == actual.named_values


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("contoso-com=pin", "is not VAULT/CERTIFICATE=NAME"),
        ("kv-contoso/contoso-com", "is not VAULT/CERTIFICATE=NAME"),
        ("kv-contoso/contoso-com=a/b", "is not VAULT/CERTIFICATE=NAME"),
        ("https://kv-contoso.vault.azure.net/certificates/a=pin", "is not VAULT/CERTIFICATE=NAME"),
        ("kv-contoso/a=pin,kv-contoso/b=PIN", "again"),
        ("kv-contoso/a=one,kv-contoso/A=two", "again"),
    ],
)
def test_a_named_value_is_not_guessed(text: str, wrong: str) -> None:
    """Proves that no two certificates can write into one named value, nor one into two."""
    (found,) = mistakes(NAMED_VALUES=text)

    assert wrong in found


def test_an_empty_variable_is_as_good_as_none() -> None:
    """Proves that a template may set every variable."""
    expected = settings()
    actual = settings(MODE="", CLOUD=" ", VAULTS="", CONNECT_TO="", SCHEDULE="", LEDGER="", ARM_URL="")

    assert expected == actual


GOOD: dict[str, tuple[str, str, str, object]] = {
    "workspace gateways that are synced": ("WORKSPACE_GATEWAYS", "Enforce", "sync_workspace_gateways", True),
    "most syncs": ("MAX_SYNCS", "5", "brakes", Brakes(most_syncs=5)),
    "the Developer tier at night": (
        "DEVELOPER_TIER",
        "22:30-05:00",
        "brakes",
        Brakes(developer_minutes=(1350, 300)),
    ),
    "the Developer tier always": ("DEVELOPER_TIER", "Always", "brakes", Brakes(developer_minutes=(0, 1440))),
    "observe": ("MODE", "observe", "enforce", False),
    "enforce": ("MODE", "enforce", "enforce", True),
    "enforce in another case and with a space": ("MODE", "Enforce ", "enforce", True),
    "the kind that is always there": (
        "KINDS",
        "apimanagement",
        "kinds",
        frozenset({GatewayKind.API_MANAGEMENT}),
    ),
    "another kind": (
        "KINDS",
        "selfHostedGateway",
        "kinds",
        frozenset({GatewayKind.API_MANAGEMENT, GatewayKind.SELF_HOSTED}),
    ),
    "replicas and a load balancer": (
        "SELF_HOSTED",
        "Edge-1=10.0.0.5:8443,edge-1=10.0.0.6, apim-prod/edge-2=gw.example*3",
        "self_hosted",
        {
            "edge-1": (Address("10.0.0.5", 8443), Address("10.0.0.6")),
            "apim-prod/edge-2": (Address("gw.example", 443, 3),),
        },
    ),
    "two subscriptions": ("SUBSCRIPTIONS", f"{GUID},{OTHER_GUID}", "subscriptions", (GUID, OTHER_GUID)),
    "subscriptions on lines": (
        "SUBSCRIPTIONS",
        f"{GUID},\n {OTHER_GUID}\n",
        "subscriptions",
        (GUID, OTHER_GUID),
    ),
    "a subscription twice": (
        "SUBSCRIPTIONS",
        f"{OTHER_GUID} {OTHER_GUID.upper()}",
        "subscriptions",
        (OTHER_GUID,),
    ),
    "another cloud": ("CLOUD", "AzureUSGovernment", "cloud_name", "AzureUSGovernment"),
    "a cloud in another case": ("CLOUD", "azurechinacloud", "cloud_name", "AzureChinaCloud"),
    "a pretend ARM": ("ARM_URL", "https://127.0.0.1:8443/", "arm_url", "https://127.0.0.1:8443"),
    "the first API version": ("API_VERSION", "2025-03-01-preview", "api_version", "2025-03-01-preview"),
    "a version to come": ("API_VERSION", "2026-05-01", "api_version", "2026-05-01"),
    "a vault by name": ("VAULTS", "kv-a", "vaults", frozenset({"kv-a.vault.azure.net"})),
    "vaults by host and name": (
        "VAULTS",
        "KV-A.vault.azure.net, kv-b",
        "vaults",
        frozenset({"kv-a.vault.azure.net", "kv-b.vault.azure.net"}),
    ),
    "a route": (
        "CONNECT_TO",
        "API.contoso.com:443:10.0.0.4:8443",
        "connect_to",
        {("api.contoso.com", 443): ("10.0.0.4", 8443)},
    ),
    "two routes": (
        "CONNECT_TO",
        "a.example:443:10.0.0.4:443,\nb.example:443:10.0.0.5:443",
        "connect_to",
        {("a.example", 443): ("10.0.0.4", 443), ("b.example", 443): ("10.0.0.5", 443)},
    ),
    "the highest port": (
        "CONNECT_TO",
        "a.example:65535:10.0.0.4:65535",
        "connect_to",
        {("a.example", 65535): ("10.0.0.4", 65535)},
    ),
    "authorities": ("CA_BUNDLE", certifi.where(), "ca_bundle", certifi.where()),
    "private networks": (
        "PRIVATE_NETWORKS",
        "10.1.0.0/16, 100.64.0.0/10 fd00::/8",
        "private_networks",
        ("10.1.0.0/16", "100.64.0.0/10", "fd00::/8"),
    ),
    "a single private address": ("PRIVATE_NETWORKS", "10.1.2.3", "private_networks", ("10.1.2.3/32",)),
    "every private network": ("PRIVATE_NETWORKS", "All", "private_networks", ("all",)),
    "a schedule": ("SCHEDULE", "0 0 */2 * * MON-FRI", "schedule", "0 0 */2 * * MON-FRI"),
    "the shortest deadline": (
        "DRIFT_AFTER_MINUTES",
        "15",
        "limits",
        Limits(drift_after=timedelta(minutes=15)),
    ),
    "the longest deadline": ("DRIFT_AFTER_MINUTES", "10080", "limits", Limits(drift_after=timedelta(days=7))),
    "a day before expiry": ("EXPIRES_SOON_DAYS", "1", "limits", Limits(expires_soon=timedelta(days=1))),
    "a year before expiry": ("EXPIRES_SOON_DAYS", "365", "limits", Limits(expires_soon=timedelta(days=365))),
    "the shortest probe": ("PROBE_TIMEOUT_SECONDS", "1", "probe_timeout", timedelta(seconds=1)),
    "the longest probe": ("PROBE_TIMEOUT_SECONDS", "10", "probe_timeout", timedelta(seconds=10)),
    "the shortest event": ("EVENT_BUDGET_SECONDS", "5", "event_budget", timedelta(seconds=5)),
    "the longest event": ("EVENT_BUDGET_SECONDS", "19", "event_budget", timedelta(seconds=19)),
    "a queue": ("EVENT_QUEUE", "certificate-events", "event_queue", "certificate-events"),
    "the shortest name of a queue": ("EVENT_QUEUE", "q12", "event_queue", "q12"),
    "a queue of shards": ("SHARD_QUEUE", "rotation-shards", "shard_queue", "rotation-shards"),
    "the smallest shards": ("SHARD_SIZE", "1", "shard_size", 1),
    "the largest shards": ("SHARD_SIZE", "10000", "shard_size", 10_000),
    "the longest name of a queue": ("EVENT_QUEUE", "q" * 63, "event_queue", "q" * 63),
    "a ledger": ("LEDGER", "/data/ledger.sqlite", "ledger", "/data/ledger.sqlite"),
}


@pytest.mark.parametrize(("name", "text", "field", "expected"), GOOD.values(), ids=GOOD)
def test_a_setting_may_be(name: str, text: str, field: str, expected: object) -> None:
    """Proves what is read from each good value."""
    actual = getattr(settings(**{name: text}), field)

    assert expected == actual


BAD = {
    "no sync at all": ("MAX_SYNCS", "0", "write a whole number from 1 to 1000"),
    "a storm": ("MAX_SYNCS", "10000", "write a whole number from 1 to 1000"),
    "a window without an end": ("DEVELOPER_TIER", "22:30", "write never, always, or a daily window"),
    "a window with an hour that no day has": ("DEVELOPER_TIER", "24:30-05:00", "write never, always"),
    "a mode that is no word of ours": ("MODE", "TRUE", "write observe (look and report) or enforce"),
    "a mode in two words": ("MODE", "enforce now", "write observe"),
    "a kind that is none of ours": ("KINDS", "ApiManagement, FrontDoor", "'FrontDoor' is no kind of gateway"),
    "a self-hosted gateway without an address": ("SELF_HOSTED", "edge", "'edge' is not GATEWAY=HOST:PORT"),
    "a self-hosted gateway without a name": ("SELF_HOSTED", "=10.0.0.5", "is not GATEWAY=HOST:PORT"),
    "a self-hosted gateway with a URL": ("SELF_HOSTED", "edge=https://10.0.0.5/", "is no address"),
    "a self-hosted gateway at no port": ("SELF_HOSTED", "edge=10.0.0.5:0", "is no address"),
    "a closed cloud": (
        "CLOUD",
        "AzureGermanCloud",
        "write one of AzureCloud, AzureUSGovernment, AzureChinaCloud.",
    ),
    "a cloud with a typing mistake": ("CLOUD", "AzureClod", "write one of"),
    "a subscription by name": (
        "SUBSCRIPTIONS",
        "production",
        "'production' is no subscription id; write GUIDs",
    ),
    "one subscription of two by name": ("SUBSCRIPTIONS", f"{GUID}, production", "'production' is no"),
    "all subscriptions": ("SUBSCRIPTIONS", "*", "'*' is no subscription id"),
    "a subscription with braces": ("SUBSCRIPTIONS", f"{{{GUID}}}", "is no subscription id"),
    "a subscription as a path": ("SUBSCRIPTIONS", f"/subscriptions/{GUID}", "is no subscription id"),
    "ARM without TLS": ("ARM_URL", "http://management.azure.com", "write https://HOST"),
    "ARM without a scheme": ("ARM_URL", "management.azure.com", "write https://HOST"),
    "ARM with a path": ("ARM_URL", "https://management.azure.com/x", "nothing behind it"),
    "ARM with a query": ("ARM_URL", "https://management.azure.com?x=1", "nothing behind it"),
    "ARM with a fragment": ("ARM_URL", "https://management.azure.com#x", "nothing behind it"),
    "ARM with a user": ("ARM_URL", "https://management.azure.com@evil.example", "nothing behind it"),
    "ARM without a host": ("ARM_URL", "https://", "write https://HOST"),
    "ARM with a port that is a word": ("ARM_URL", "https://management.azure.com:https", "ROTATION_ARM_URL"),
    "ARM with a port beyond all ports": ("ARM_URL", "https://management.azure.com:65536", "ROTATION_ARM_URL"),
    "ARM with a broken bracket": ("ARM_URL", "https://[::1", "ROTATION_ARM_URL"),
    "an API version before the operation": ("API_VERSION", "2024-05-01", "exists since 2025-03-01-preview"),
    "an API version that is a word": ("API_VERSION", "latest", "exists since 2025-03-01-preview"),
    "an API version with something behind": ("API_VERSION", "2025-09-01-preview&x=1", "exists since"),
    "a vault that is too short": (
        "VAULTS",
        "kv",
        "'kv' is no vault; write vault names or hosts like NAME.vault",
    ),
    "a vault of another cloud": ("VAULTS", "kv-a.vault.azure.cn", "is no vault"),
    "a vault with a path": ("VAULTS", "kv-a/certificates", "is no vault"),
    "a vault by URL": ("VAULTS", "https://kv-a.vault.azure.net", "is no vault"),
    "every vault by a star": ("VAULTS", "*", "is no vault"),
    "nothing but a comma for vaults": ("VAULTS", ",", "ROTATION_VAULTS"),
    "a route of two parts": ("CONNECT_TO", "api.contoso.com:443", "is not HOST:PORT:ADDRESS:PORT"),
    "a route of five parts": ("CONNECT_TO", "api.contoso.com:443:10.0.0.4:443:1", "is not HOST:PORT"),
    "a route without a host": ("CONNECT_TO", ":443:10.0.0.4:443", "is not HOST:PORT"),
    "a route without an address": ("CONNECT_TO", "api.contoso.com:443::443", "is not HOST:PORT"),
    "a route with a port that is a word": ("CONNECT_TO", "api.contoso.com:https:10.0.0.4:443", "is not HOST"),
    "a route with a negative port": ("CONNECT_TO", "api.contoso.com:443:10.0.0.4:-1", "is not HOST"),
    "a route from a port beyond all ports": ("CONNECT_TO", "a.example:65536:10.0.0.4:443", "a.example:65536"),
    "a route to a port beyond all ports": ("CONNECT_TO", "a.example:443:10.0.0.4:65536", "10.0.0.4:65536"),
    "a route to port zero": ("CONNECT_TO", "a.example:443:10.0.0.4:0", "10.0.0.4:0"),
    "authorities that are not there": ("CA_BUNDLE", "/no/such/file.pem", "there is no such file"),
    "authorities that are no certificates": ("CA_BUNDLE", __file__, "there is no certificate in it"),
    "ARM at another host": ("ARM_URL", "https://arm.local:8443/", "tokens are sent to https://management"),
    "ARM at a look-alike": ("ARM_URL", "https://127.0.0.1.evil.example", "tokens are sent to"),
    "ARM of another cloud": ("ARM_URL", "https://management.chinacloudapi.cn", "tokens are sent to"),
    "a public network": ("PRIVATE_NETWORKS", "10.1.0.0/16,8.8.8.0/24", "'8.8.8.0/24' is no private network"),
    "everything as a network": ("PRIVATE_NETWORKS", "0.0.0.0/0", "is no private network"),
    "loopback as a network": ("PRIVATE_NETWORKS", "127.0.0.0/8", "is no private network"),
    "the metadata service": ("PRIVATE_NETWORKS", "169.254.169.254", "is no private network"),
    "a network with host bits": ("PRIVATE_NETWORKS", "10.1.2.3/16", "is no private network"),
    "a word as a network": ("PRIVATE_NETWORKS", "\x1b[31mmine", "' [31mmine' is no private network"),
    "authorities that are a folder": ("CA_BUNDLE", "/", "there is no such file"),
    "a schedule of five fields": (
        "SCHEDULE",
        "*/5 * * * *",
        "six fields, seconds first, like '15 */5 * * * *'",
    ),
    "a schedule of seven fields": ("SCHEDULE", "0 */5 * * * * *", "six fields"),
    "a schedule in words": ("SCHEDULE", "every five minutes", "six fields"),
    "a schedule with a strange field": ("SCHEDULE", "0 */5 * * * $(x)", "six fields"),
    "a deadline of zero": ("DRIFT_AFTER_MINUTES", "0", "a whole number of minutes from 15 to 10080"),
    "a deadline below the shortest": ("DRIFT_AFTER_MINUTES", "14", "from 15 to 10080"),
    "a deadline above the longest": ("DRIFT_AFTER_MINUTES", "10081", "from 15 to 10080"),
    "a deadline below zero": ("DRIFT_AFTER_MINUTES", "-1", "from 15 to 10080"),
    "a deadline with a unit": ("DRIFT_AFTER_MINUTES", "5m", "from 15 to 10080"),
    "a deadline with a fraction": ("DRIFT_AFTER_MINUTES", "20.5", "from 15 to 10080"),
    "a deadline with an exponent": ("DRIFT_AFTER_MINUTES", "1e9", "from 15 to 10080"),
    "a deadline of five thousand digits": ("DRIFT_AFTER_MINUTES", "9" * 5000, "ROTATION_DRIFT_AFTER_MINUTES"),
    "a superscript for a number": ("DRIFT_AFTER_MINUTES", "\u00b2\u00b2", "from 15 to 10080"),
    "no day before expiry": ("EXPIRES_SOON_DAYS", "0", "a whole number of days from 1 to 365"),
    "more than a year before expiry": ("EXPIRES_SOON_DAYS", "366", "from 1 to 365"),
    "a probe without time": ("PROBE_TIMEOUT_SECONDS", "0", "a whole number of seconds from 1 to 10"),
    "a probe with too much": ("PROBE_TIMEOUT_SECONDS", "11", "from 1 to 10"),
    "a queue with capitals": ("EVENT_QUEUE", "Events", "3 to 63 lower-case letters"),
    "a queue with two hyphens in a row": ("EVENT_QUEUE", "my--events", "single hyphens"),
    "a queue that ends with a hyphen": ("EVENT_QUEUE", "events-", "single hyphens"),
    "a queue that is too short": ("EVENT_QUEUE", "q1", "3 to 63"),
    "a queue that is too long": ("EVENT_QUEUE", "q" * 64, "3 to 63"),
    "a queue by URL": ("EVENT_QUEUE", "https://account.queue.core.windows.net/events", "3 to 63"),
    "a queue by a setting's name": ("EVENT_QUEUE", "%QUEUE%", "3 to 63"),
    "an event without time": ("EVENT_BUDGET_SECONDS", "4", "a whole number of seconds from 5 to 19"),
    "an event beyond its delivery": ("EVENT_BUDGET_SECONDS", "20", "from 5 to 19"),
}


@pytest.mark.parametrize(("name", "text", "expected"), BAD.values(), ids=BAD)
def test_a_setting_may_not_be(name: str, text: str, expected: str) -> None:
    """Proves that the variable is named, its value shown, and what to write instead."""
    found = mistakes(**{name: text})

    assert len(found) == 1
    assert found[0].startswith(f"ROTATION_{name}")
    assert expected in found[0]
    assert found[0].isprintable()
    assert len(found[0]) < 600


@pytest.mark.parametrize("value", [None, "", " ", ",", " , ,"], ids=repr)
def test_an_empty_scope_is_not_everything(value: str | None) -> None:
    """Proves that without a subscription nothing runs, and that it is said what to write."""
    found = load({} if value is None else {"ROTATION_SUBSCRIPTIONS": value})

    assert isinstance(found, Mistakes)
    assert len(found.sentences) == 1
    assert found.sentences[0].startswith("ROTATION_SUBSCRIPTIONS is empty, so nothing is in scope: write")


def test_all_mistakes_are_reported_at_once() -> None:
    """Proves that nobody has to start the app once for each mistake."""
    names = {name: text for name, text, _ in reversed(BAD.values())}
    expected = sorted([*(f"ROTATION_{name}" for name in names), "ROTATION_MOD"])
    actual = sorted(sentence.split()[0].rstrip(":") for sentence in mistakes(**names, MOD="enforce"))

    assert expected == actual


def test_a_missing_scope_is_reported_beside_other_mistakes() -> None:
    """Proves the same where the one needed setting is among those that are wrong."""
    expected = ["ROTATION_MODE", "ROTATION_SUBSCRIPTIONS"]
    found = load({"ROTATION_MODE": "on"})
    assert isinstance(found, Mistakes)
    actual = sorted(sentence.split()[0] for sentence in found.sentences)

    assert expected == actual


UNKNOWN = {
    "a letter too few": ("ROTATION_SUBSCRIPTION", "is no setting; did you mean ROTATION_SUBSCRIPTIONS?"),
    "an old word": ("ROTATION_MODUS", "is no setting; did you mean ROTATION_MODE?"),
    "another unit": ("ROTATION_DRIFT_AFTER_HOURS", "did you mean ROTATION_DRIFT_AFTER_MINUTES?"),
    "nothing like it": ("ROTATION_ZZZZ", "is no setting; docs/settings.md lists those that exist."),
    "the bare prefix": ("ROTATION_", "is no setting"),
}


@pytest.mark.parametrize(("name", "expected"), UNKNOWN.values(), ids=UNKNOWN)
def test_an_unknown_setting_is_a_typing_mistake(name: str, expected: str) -> None:
    """Proves that a setting that would do nothing is not passed over in silence."""
    found = load({"ROTATION_SUBSCRIPTIONS": GUID, name: "5"})

    assert isinstance(found, Mistakes)
    assert len(found.sentences) == 1
    assert expected in found.sentences[0]


def test_variables_of_others_are_left_alone() -> None:
    """Proves that only our prefix is ours."""
    assert isinstance(load({**environ(), "AZURE_CLIENT_ID": "x", "X_ROTATION_MODE": "y"}), Settings)


def test_the_connection_string_is_read() -> None:
    """Proves that Application Insights is found by the name that everyone gives it."""
    expected = INSIGHTS
    found = load({**environ(), CONNECTION_STRING: INSIGHTS})
    actual = found.connection_string if isinstance(found, Settings) else found

    assert expected == actual


PLACES = {
    "https://westeurope-5.in.applicationinsights.azure.com/": "AzureCloud",
    "https://dc.services.visualstudio.com": "AzureCloud",
    "https://usgovvirginia-0.in.applicationinsights.azure.us/": "AzureUSGovernment",
    "https://dc.applicationinsights.us": "AzureUSGovernment",
    "https://chinanorth3-0.in.applicationinsights.azure.cn/": "AzureChinaCloud",
    "https://telemetry.contoso.com/": None,
}


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize(("endpoint", "home"), PLACES.items(), ids=PLACES)
def test_telemetry_goes_to_the_cloud_of_the_app(cloud: str, endpoint: str, home: str | None) -> None:
    """Proves that results which would be refused for ever are noticed at once; a proxy may be anywhere."""
    text = f"InstrumentationKey={SECRET};IngestionEndpoint={endpoint}"
    found = load({**environ(), CONNECTION_STRING: text, "ROTATION_CLOUD": cloud})

    if home in {None, cloud}:
        assert isinstance(found, Settings)
    else:
        assert isinstance(found, Mistakes)
        assert f"is in {home}, but the app is in {cloud}" in found.sentences[0]
        assert SECRET not in repr(found)


WRONG_STRINGS = {
    "no key": "IngestionEndpoint=https://x.example/",
    "no endpoint": f"InstrumentationKey={SECRET}",
    "only the key": SECRET,
    "plain HTTP": f"InstrumentationKey={SECRET};IngestionEndpoint=http://x.example/",
    "a key that is no GUID": f"InstrumentationKey={SECRET}0;IngestionEndpoint=https://x.example/",
}


@pytest.mark.parametrize("text", WRONG_STRINGS.values(), ids=WRONG_STRINGS)
def test_a_wrong_connection_string_is_reported_without_showing_it(text: str) -> None:
    """Proves that a key does not end in a log because of a typing mistake beside it."""
    found = load({**environ(), CONNECTION_STRING: text})

    assert isinstance(found, Mistakes)
    assert found.sentences[0].startswith(f"{CONNECTION_STRING}: copy it from the resource")
    assert SECRET not in repr(found)


TOPIC = "https://topic-a.westeurope-1.eventgrid.azure.net"


@pytest.mark.parametrize("text", [TOPIC, f"{TOPIC}/", f"{TOPIC}/api/events", f"{TOPIC}/api/events/"])
def test_a_topic_is_its_endpoint(text: str) -> None:
    """Proves that what the portal shows, and its host alone, mean the same."""
    assert f"{TOPIC}/api/events" == settings(NOTICES=text).notices


@pytest.mark.parametrize(
    "text",
    [
        "topic-a",
        TOPIC.replace("https", "http"),
        f"{TOPIC}/api/other",
        f"{TOPIC}/api/events?aeg-sas-key=x",
        f"{TOPIC}/api/events?x&sig={SECRET}",
        "https://user@topic-a.example/api/events",
        "https://topic-a.example/api/events",
        "https://topic-a.westeurope-1.eventgrid.azure.us/api/events",
        "https://topic-a.eventgrid.azure.net.evil.example/api/events",
        f"{TOPIC.removeprefix('https://')}/api/events",
        "https:///api/events",
    ],
)
def test_what_is_no_topic_is_refused_without_showing_a_key(text: str) -> None:
    """Proves that no key travels by setting, and none is shown."""
    (sentence,) = mistakes(NOTICES=text)

    assert sentence.startswith("ROTATION_NOTICES")
    assert "write the endpoint of an Event Grid topic" in sentence
    assert SECRET not in sentence


SIGN_IN: dict[str, tuple[str, str, bool | str]] = {
    "nothing": ("", "True", False),
    "off": ("off", "True", False),
    "on": ("On", "True", True),
    "on, without the platform's": ("on", "", "App Service Authentication is off"),
    "on, with the platform's turned off": ("on", "False", "App Service Authentication is off"),
    "a word that is neither": ("yes", "True", "write on (Entra sign-in with app roles) or off"),
}


@pytest.mark.parametrize(("text", "platform", "expected"), SIGN_IN.values(), ids=SIGN_IN)
def test_people_sign_in_only_where_the_platform_sees_to_it(
    text: str, platform: str, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proves that a header of anybody's making opens no door, and that functions are registered so."""
    found = load({**environ(SIGN_IN=text), PLATFORM_SIGN_IN: platform})
    monkeypatch.setenv("ROTATION_SIGN_IN", text)
    monkeypatch.setenv(PLATFORM_SIGN_IN, platform)

    assert (expected is True) == sign_in()
    if isinstance(found, Mistakes):
        assert str(expected) in found.sentences[0]
    else:
        assert expected == found.sign_in


def test_what_is_shown_holds_no_secret_and_all_else() -> None:
    """Proves that /api/status shows every setting in force, and of the key only that there is one."""
    found = load(
        {
            **environ(MODE="enforce", VAULTS="kv-b,kv-a", CONNECT_TO="a.example:443:10.0.0.4:8443"),
            **environ(SELF_HOSTED="edge=10.0.0.5"),
            CONNECTION_STRING: INSIGHTS,
        }
    )
    assert isinstance(found, Settings)
    expected: dict[str, object] = {
        "mode": "enforce",
        "kinds": ["ApiManagement"],
        "subscriptions": [GUID],
        "cloud": "AzureCloud",
        "arm_url": "https://management.azure.com",
        "api_version": "2025-09-01-preview",
        "vaults": ["kv-a.vault.azure.net", "kv-b.vault.azure.net"],
        "connect_to": ["a.example:443:10.0.0.4:8443"],
        "self_hosted": {"edge": ["10.0.0.5:443"]},
        "workspace_gateways": "observe",
        "private_networks": [],
        "ca_bundle": None,
        "schedule": "15 */5 * * * *",
        "drift_after_minutes": 120,
        "expires_soon_days": 14,
        "max_syncs": 20,
        "developer_tier_minutes": [0, 0],
        "probe_timeout_seconds": 5,
        "event_budget_seconds": 15,
        "event_queue": None,
        "shard_queue": None,
        "shard_size": 2000,
        "ledger": found.ledger,
        "notices": None,
        "named_values": {},
        "sign_in": False,
        "application_insights": True,
    }
    actual = json.loads(json.dumps(found.to_json()))

    assert expected == actual
    assert SECRET not in json.dumps(found.to_json())


# facts/reliability-and-security.md section 8: ARM, its scope, the authority, Key Vault.
FACTS = {
    "AzureCloud": (
        "management.azure.com",
        "management.azure.com",
        "login.microsoftonline.com",
        "vault.azure.net",
    ),
    "AzureUSGovernment": (
        "management.usgovcloudapi.net",
        "management.core.usgovcloudapi.net",
        "login.microsoftonline.us",
        "vault.usgovcloudapi.net",
    ),
    "AzureChinaCloud": (
        "management.chinacloudapi.cn",
        "management.chinacloudapi.cn",
        "login.chinacloudapi.cn",
        "vault.azure.cn",
    ),
}


def test_the_clouds_are_those_of_the_facts() -> None:
    """Proves every endpoint of every cloud: a wrong one would send tokens astray."""
    expected = {
        name: (f"https://{arm}", f"https://{scope}/.default", f"https://{authority}", suffix)
        for name, (arm, scope, authority, suffix) in FACTS.items()
    }
    actual = {name: (c.arm_url, c.arm_scope, c.authority, c.vault_suffix) for name, c in CLOUDS.items()}

    assert expected == actual


@pytest.mark.parametrize("name", CLOUDS)
def test_a_cloud_brings_its_endpoints(name: str) -> None:
    """Proves that one setting changes all of them, the suffix of vaults by name too."""
    cloud = CLOUDS[name]
    expected = (cloud, cloud.arm_url, frozenset({f"kv-a.{cloud.vault_suffix}"}))
    found = settings(CLOUD=name, VAULTS="kv-a")
    actual = (found.cloud, found.arm_url, found.vaults)

    assert expected == actual


SCHEDULES = {
    "none given": (None, "15 */5 * * * *"),
    "a good one": ("0 */10 * * * *", "0 */10 * * * *"),
    "a wrong one": ("*/5 * * * *", "15 */5 * * * *"),
}


@pytest.mark.parametrize(("text", "expected"), SCHEDULES.values(), ids=SCHEDULES)
def test_the_schedule_to_register_is(
    text: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proves that a wrong schedule does not keep the host from indexing the functions."""
    monkeypatch.delenv("ROTATION_SCHEDULE", raising=False)
    if text:
        monkeypatch.setenv("ROTATION_SCHEDULE", text)
    actual = schedule()

    assert expected == actual


def test_the_environment_of_the_process_is_read_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proves the way in which the app itself loads."""
    for name, value in environ(MODE="enforce").items():
        monkeypatch.setenv(name, value)
    found = load()

    assert isinstance(found, Settings)
    assert found.enforce


@given(
    variables=st.dictionaries(
        st.sampled_from(sorted({name for name, *_ in GOOD.values()} | {"SUBSCRIPTION"})),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    )
)
def test_no_environment_ever_raises(variables: dict[str, str]) -> None:
    """Proves that a misconfigured app starts and says so, whatever was typed."""
    assert isinstance(load(environ(**variables)), Settings | Mistakes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("Authorization=AAD", Identity(None), id="the system-assigned one"),
        pytest.param(f"ClientId={GUID};Authorization=AAD", Identity(GUID), id="a user-assigned one"),
        pytest.param(f" clientid={GUID} ; authorization=aad ", Identity(GUID), id="in another case"),
        pytest.param("", None, id="none"),
    ],
)
def test_the_identity_for_application_insights_is_that_of_the_host(
    text: str, expected: Identity | None
) -> None:
    """Proves that one variable serves the host and the app."""
    found = load({**environ(), "APPLICATIONINSIGHTS_AUTHENTICATION_STRING": text})

    assert isinstance(found, Settings)
    assert expected == found.insights_identity


def test_an_authentication_string_without_aad_is_a_mistake() -> None:
    """Proves that a key is not taken where Entra was meant."""
    found = load({**environ(), "APPLICATIONINSIGHTS_AUTHENTICATION_STRING": "ApiKey=x"})

    assert isinstance(found, Mistakes)
    assert "write Authorization=AAD" in found.sentences[0]
