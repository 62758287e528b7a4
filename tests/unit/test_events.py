import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from azure.eventgrid import SystemEventNames
from hypothesis import given
from hypothesis import strategies as st

from rotation.events import OCCASIONS, CertificateEvent, Envelope, Ignored, Occasion, from_json, read
from rotation.model import CertificateId
from tests.unit.build import SUFFIX

CONTRACTS = Path(__file__).resolve().parents[3] / "shared" / "contracts" / "keyvault"
TYPE = "Microsoft.KeyVault.CertificateNewVersionCreated"
TOPIC = (
    "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/sample-rg"
    "/providers/Microsoft.KeyVault/vaults/sample-kv"
)
URL = "https://sample-kv.vault.azure.net/certificates/api-contoso-com/ee059b2bb5bc48398a53b168c6cdcb10"
DATA: dict[str, object] = {
    "Id": URL,
    "VaultName": "sample-kv",
    "ObjectType": "Certificate",
    "ObjectName": "api-contoso-com",
    "Version": "ee059b2bb5bc48398a53b168c6cdcb10",
    "NBF": 1559081980,
    "EXP": 1559082102,
}
CERTIFICATE = CertificateId("sample-kv.vault.azure.net", "api-contoso-com")
ALL_VAULTS: frozenset[str] = frozenset()


ID = "00eccf70-95a7-4e7c-8299-2eb17ee9ad64"


def wire(**changes: object) -> dict[str, object]:
    """An event in Event Grid's own schema, as it is sent, with other fields."""
    return {
        "id": ID,
        "topic": TOPIC,
        "subject": "api-contoso-com",
        "eventType": TYPE,
        "eventTime": "2026-03-02T00:00:00Z",
        "data": DATA,
        "dataVersion": "1",
        "metadataVersion": "1",
    } | changes


def event_grid_event(data: object = DATA, event_type: object = TYPE, topic: object = TOPIC) -> Envelope:
    """An event in Event Grid's own schema."""
    return from_json(json.dumps(wire(data=data, eventType=event_type, topic=topic)))


def cloud_event(data: object = DATA, event_type: object = TYPE, source: object = TOPIC) -> Envelope:
    """The same in the CloudEvents schema."""
    event = {"id": ID, "source": source, "type": event_type, "specversion": "1.0", "data": data}
    return from_json(json.dumps(event))


Build = Callable[..., Envelope]
SCHEMAS: dict[str, Build] = {"Event Grid schema": event_grid_event, "CloudEvents schema": cloud_event}


@pytest.mark.parametrize("build", SCHEMAS.values(), ids=SCHEMAS)
@pytest.mark.parametrize(("event_type", "occasion"), OCCASIONS.items(), ids=OCCASIONS)
def test_each_occasion_is_read_in_both_schemas(build: Build, event_type: str, occasion: Occasion) -> None:
    """Proves all that Key Vault announces of certificates."""
    expected = CertificateEvent(CERTIFICATE, occasion)
    actual = read(build(DATA, event_type), SUFFIX, ALL_VAULTS)

    assert expected == actual


def changed(**fields: object) -> dict[str, object]:
    """The data with other fields; None takes one away."""
    return {key: value for key, value in {**DATA, **fields}.items() if value is not None}


def nested(depth: int) -> list[object]:
    """Lists in lists, deeper than anything walks."""
    inside: list[object] = []
    for _ in range(depth):
        inside = [inside]
    return inside


READ_ALL_THE_SAME: dict[str, Envelope] = {
    "stray spaces around keys and values, as in Microsoft's own sample": event_grid_event(
        {"Id": f" {URL} ", "VaultName ": " sample-kv", "ObjectName ": " api-contoso-com "}
    ),
    "keys in lower camel case, as in the Swagger": event_grid_event(
        {"id": URL, "vaultName": "sample-kv", "objectName": "api-contoso-com"}
    ),
    "names in another case": event_grid_event(changed(VaultName="Sample-KV", ObjectName="API-Contoso-COM")),
    "an id in another case": event_grid_event(changed(Id=URL.upper())),
    "a topic in another case": event_grid_event(topic=TOPIC.upper()),
    "nothing but the id": event_grid_event({"Id": URL}),
    "the secret behind the certificate": event_grid_event(changed(Id=URL.replace("certificates", "secrets"))),
    "an id without a version": event_grid_event(changed(Id=URL.rpartition("/")[0])),
    "a version of a strange length": event_grid_event(changed(Id=URL[:-20])),
    "another version in the data": event_grid_event(changed(Version="0000")),
    "dates as text": event_grid_event(changed(NBF="1559081980", EXP="1559082102")),
    "dates that are none": event_grid_event(changed(NBF=-1, EXP="NaN")),
    "dates beyond all time": event_grid_event(changed(NBF=1e300, EXP=float("nan"))),
    "dates that are lists": event_grid_event(changed(NBF=[], EXP={"a": 1})),
    "an unknown object type": event_grid_event(changed(ObjectType="Something")),
    "fields of a dead letter": event_grid_event(changed(deadLetterReason="MaxDeliveryAttemptsExceeded")),
    "a field nested deeper than can be shown": Envelope(ID, TYPE, TOPIC, changed(Version=nested(100_000))),
    "script in a field that we do not know": event_grid_event(changed(Comment="<script>alert(1)</script>")),
    "a time with an offset": from_json(json.dumps(wire(eventTime="2026-03-02T02:00:00+02:00"))),
    "a time that is none": from_json(json.dumps(wire(eventTime="yesterday"))),
    "a time that is a list": from_json(json.dumps(wire(eventTime=[]))),
    "an id that is an object": from_json(json.dumps(wire(id={"a": 1}))),
    "half a character": from_json(json.dumps(wire(subject="\ud800"))),
    "nothing but what is looked at": Envelope("", TYPE, TOPIC, DATA),
}


@pytest.mark.parametrize("event", READ_ALL_THE_SAME.values(), ids=READ_ALL_THE_SAME)
def test_an_event_is_read_all_the_same_with(event: Envelope) -> None:
    """Proves that nothing is lost to spelling, and that no fact of the event is believed or needed."""
    expected = CertificateEvent(CERTIFICATE, Occasion.NEW_VERSION)
    actual = read(event, SUFFIX, ALL_VAULTS)

    assert expected == actual


HOST = "https://sample-kv.vault.azure.net"
HOSTILE_IDS = {
    "an id of another site": "https://evil.example/certificates/x/1",
    "an id of a site that begins like the vault": "https://sample-kv.vault.azure.net.evil.example/certificates/x",
    "an id of a site that ends like the vault": "https://sample-kv.evilvault.azure.net/certificates/x",
    "an id with user info": "https://sample-kv.vault.azure.net@evil.example/certificates/x",
    "an id with a user before the vault": "https://evil@sample-kv.vault.azure.net/certificates/x",
    "an id with a port": "https://sample-kv.vault.azure.net:8443/certificates/x",
    "an id of another cloud": "https://sample-kv.vault.azure.cn/certificates/x",
    "an id without TLS": "http://sample-kv.vault.azure.net/certificates/x",
    "an id of another scheme": "file:///certificates/x",
    "an id of a key": f"{HOST}/keys/api-contoso-com/1",
    "an id of nothing": HOST,
    "an id without a name": f"{HOST}/certificates/",
    "an id that climbs": f"{HOST}/certificates/../x",
    "an id with an encoded slash": f"{HOST}/certificates/a%2fb",
    "an id with too many parts": f"{HOST}/certificates/x/1/2",
    "an id with a query": f"{HOST}/certificates/x?api-version=7.4",
    "an id with a fragment": f"{HOST}/certificates/x#y",
    "an id with an underscore": f"{HOST}/certificates/a_b",
    "an id with a name of 128 characters": f"{HOST}/certificates/{'x' * 128}",
    "an id with a vault of 300 characters": f"https://{'v' * 300}.vault.azure.net/certificates/x",
    "an id with a line break inside": f"{HOST}/certificates/api-con\r\ntoso-com",
    "an id with a look-alike letter": "https://\u0455ample-kv.vault.azure.net/certificates/x",
    "an id with a letter that folds to ASCII": "https://sample-\u212av.vault.azure.net/certificates/x",
    "an id with a full-width solidus": "https://sample-kv.vault.azure.net\uff0f.evil.example/certificates/x",
    "an id with a broken bracket": "https://[sample-kv.vault.azure.net/certificates/x",
    "an id of a metadata service": "https://169.254.169.254/certificates/x",
    "an id with script": "<script>alert(1)</script>",
    "an empty id": "",
}
IGNORED: dict[str, Envelope] = {
    **{
        f"a {kind} event": event_grid_event(event_type=f"Microsoft.KeyVault.{kind}")
        for kind in (
            "SecretNewVersionCreated",
            "KeyNewVersionCreated",
            "KeyNearExpiry",
            "VaultAccessPolicyChanged",
        )
    },
    "a type in another case": event_grid_event(event_type=TYPE.lower()),
    "a type with something behind": event_grid_event(event_type=f"{TYPE}.evil"),
    "an unknown type": event_grid_event(event_type="Contoso.Something"),
    "an empty type": event_grid_event(event_type=""),
    "no type": event_grid_event(event_type=None),
    "a type that is a list": event_grid_event(event_type=[TYPE]),
    "a validation event": event_grid_event(
        {"validationCode": "1"}, "Microsoft.EventGrid.SubscriptionValidationEvent"
    ),
    "an unknown type of a cloud event": cloud_event(event_type="com.example.thing"),
    "no data": event_grid_event(None),
    "data that is a list": event_grid_event([DATA]),
    "data that is a string": event_grid_event(json.dumps(DATA)),
    "data that is text of a cloud event": cloud_event(json.dumps(DATA)),
    "data that is a number": event_grid_event(5),
    "data that is true": event_grid_event(data=True),
    "empty data": event_grid_event({}),
    "data without an id": event_grid_event(changed(Id=None)),
    "an id that is null": event_grid_event({**DATA, "Id": None}),
    "an id that is a number": event_grid_event(changed(Id=5)),
    "an id that is an object": event_grid_event(changed(Id={"url": URL})),
    "an id that is a list": event_grid_event(changed(Id=[URL])),
    **{name: event_grid_event({"Id": url}) for name, url in HOSTILE_IDS.items()},
    "the vault of another name": event_grid_event(changed(VaultName="other-kv")),
    "a vault name that climbs": event_grid_event(changed(VaultName="../sample-kv")),
    "a vault name with a line break": event_grid_event(changed(VaultName="sample-kv\r\nX: y")),
    "the object of another name": event_grid_event(changed(ObjectName="www-contoso-com")),
    "an object name that climbs": event_grid_event(changed(ObjectName="../api-contoso-com")),
    "the topic of another vault": event_grid_event(topic=TOPIC.replace("sample-kv", "other-kv")),
    "a topic that ends like the vault": event_grid_event(topic=TOPIC.replace("sample-kv", "evil-sample-kv")),
    "a topic of another provider": event_grid_event(topic=TOPIC.replace("KeyVault", "Storage")),
    "a topic with something behind": event_grid_event(topic=f"{TOPIC}/certificates/x"),
    "a topic that is no id": event_grid_event(topic="sample-kv"),
    "an empty topic": event_grid_event(topic=""),
    "no topic": event_grid_event(topic=None),
    "a cloud event without a source": cloud_event(source=None),
    "a cloud event of another vault": cloud_event(source=TOPIC.replace("sample-kv", "other-kv")),
    "an id nested deeper than can be shown": Envelope(ID, TYPE, TOPIC, changed(Id=nested(100_000))),
    "an object without anything of an event": from_json(b'{"a": 1}'),
    "a cloud event without anything else": from_json(b'{"specversion": "1.0"}'),
}


@pytest.mark.parametrize("event", IGNORED.values(), ids=IGNORED)
def test_an_event_is_ignored_with_a_reason_for(event: Envelope) -> None:
    """Proves that what is malformed or made up ends well, in a line that can be logged."""
    found = read(event, SUFFIX, ALL_VAULTS)

    assert isinstance(found, Ignored)
    assert len(found.why) > 10
    assert found.why.isprintable()
    assert len(found.why) < 600


def test_a_vault_that_is_not_looked_at_is_ignored() -> None:
    """Proves that ROTATION_VAULTS holds for events too."""
    expected = Ignored("sample-kv.vault.azure.net is not in ROTATION_VAULTS")
    actual = read(event_grid_event(), SUFFIX, frozenset({"other-kv.vault.azure.net"}))

    assert expected == actual


def test_a_vault_that_is_looked_at_is_read() -> None:
    """Proves the other side, in the cloud of the vault."""
    vaults = frozenset({"sample-kv.vault.azure.cn"})
    expected = CertificateEvent(
        CertificateId("sample-kv.vault.azure.cn", "api-contoso-com"), Occasion.NEW_VERSION
    )
    data = changed(Id=URL.replace("vault.azure.net", "vault.azure.cn"))
    actual = read(event_grid_event(data), "vault.azure.cn", vaults)

    assert expected == actual


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NEARLY_DATA = st.dictionaries(
    st.sampled_from(["Id", "id ", "VaultName", "ObjectName", "Version"]),
    st.sampled_from([URL, "sample-kv", "api-contoso-com", ""]) | JSON_VALUES,
)


@given(
    data=JSON_VALUES | NEARLY_DATA, source=st.text() | st.just(TOPIC), event_type=st.sampled_from([TYPE, "x"])
)
def test_no_event_ever_raises(data: object, source: str, event_type: str) -> None:
    """Proves over made-up JSON that the answer is always a value."""
    for event in (event_grid_event(data, event_type, source), cloud_event(data, event_type, source)):
        found = read(event, SUFFIX, ALL_VAULTS)

        assert isinstance(found, CertificateEvent | Ignored)
        assert isinstance(found, Ignored) or str(found.certificate).startswith("https://")


def contract(name: str) -> Any:
    """An official payload, kept beside the project."""
    if not CONTRACTS.is_dir():
        pytest.skip(f"the contract data is not at {CONTRACTS}")
    return json.loads((CONTRACTS / name).read_text())


@pytest.mark.parametrize("name", ["docs-sample.eventgrid-schema.json", "docs-sample.cloudevents.json"])
def test_microsofts_samples_are_of_a_secret_and_ignored(name: str) -> None:
    """Proves that the event of the secret behind a certificate does not start a second pass."""
    expected = [Ignored("type 'Microsoft.KeyVault.SecretNewVersionCreated' is not one that is acted upon")]
    actual = [read(from_json(json.dumps(event)), SUFFIX, ALL_VAULTS) for event in contract(name)]

    assert expected == actual


@pytest.mark.parametrize("name", ["docs-sample.eventgrid-schema.json", "docs-sample.cloudevents.json"])
def test_microsofts_samples_are_read_once_they_are_of_a_certificate(name: str) -> None:
    """Proves that the typing mistakes of the documentation, also to be met on the wire, do no harm."""
    expected = [
        CertificateEvent(CertificateId("sample-kv.vault.azure.net", "newsecret"), Occasion.NEW_VERSION)
    ]
    text = json.dumps(contract(name)).replace("SecretNewVersion", "CertificateNewVersion")
    actual = [read(from_json(json.dumps(event)), SUFFIX, ALL_VAULTS) for event in json.loads(text)]

    assert expected == actual


def test_the_derived_samples_are_read_alike() -> None:
    """Proves that both schemas lead to the same certificate."""
    samples = contract("derived-sample.CertificateNewVersionCreated.json")
    expected = [CertificateEvent(CERTIFICATE, Occasion.NEW_VERSION)] * 2
    actual = [
        read(from_json(json.dumps(event)), SUFFIX, ALL_VAULTS)
        for event in (*samples["eventGridSchema"], samples["cloudEvents10"])
    ]

    assert expected == actual


def test_the_occasions_have_the_names_of_microsofts_package() -> None:
    """Proves that none is misspelled."""
    expected = {
        name.value for name in SystemEventNames if name.value.startswith("Microsoft.KeyVault.Certificate")
    }
    actual = set(OCCASIONS)

    assert expected == actual


def test_the_occasions_are_those_of_the_official_typespec() -> None:
    """Proves against the contract that none of Key Vault's certificate events is missed."""
    definitions = contract("KeyVault.events.typespec.schema.json")["definitions"]
    expected = {
        f"Microsoft.KeyVault.{name.removeprefix('KeyVault').removesuffix('EventData')}"
        for name in definitions
        if name.startswith("KeyVaultCertificate")
    }
    actual = set(OCCASIONS)

    assert expected == actual


@pytest.mark.parametrize("text", [json.dumps(wire()), json.dumps(wire()).encode()], ids=["text", "bytes"])
def test_an_event_keeps_its_id_for_the_log(text: str | bytes) -> None:
    """Proves that an event can be found again, whether the webhook or a queue brought it."""
    expected = Envelope(ID, TYPE, TOPIC, DATA)

    assert expected == from_json(text)


NO_EVENTS: dict[str, bytes] = {
    "nothing": b"",
    "words": b"hello",
    "a number": b"5",
    "null": b"null",
    "a list": b"[1]",
    "bytes that are no text": b"\xff\xfe",
    "a list nested deeper than can be parsed": b"[" * 100_000,
}


@pytest.mark.parametrize("body", NO_EVENTS.values(), ids=NO_EVENTS)
def test_what_is_no_event_is_refused_in_a_line_that_can_be_logged_for(body: bytes) -> None:
    """Proves that it is no crash either."""
    with pytest.raises(ValueError, match=r"^it is no event of Event Grid \([ -~]+\)$"):
        from_json(body)


@given(st.binary() | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_ever_raise_anything_else(body: bytes) -> None:
    """Proves over made-up bytes that they are an event or none."""
    with contextlib.suppress(ValueError):
        assert isinstance(from_json(body), Envelope)
