"""What the exporter has sent of a whole rotation, compared with the schema that is published."""

import json
from collections import Counter
from datetime import timedelta
from typing import Any

import jsonschema

from sandbox.stage import PROJECT, Stage
from sandbox.world import Hostname, World

SCHEMA = json.loads((PROJECT / "docs/telemetry.schema.json").read_text(encoding="utf-8"))
RESULT = SCHEMA["$defs"]["AvailabilityResult"]


def record(envelope: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The kind of an envelope, and what it says without what the exporter adds to each."""
    data = envelope["data"]
    told = {name: value for name, value in data["baseData"].items() if name != "ver"}
    told["properties"] = {k: v for k, v in told["properties"].items() if k != "logger_name"}
    if data["baseType"] == "AvailabilityData":
        told.pop("measurements", None)
    else:
        told.setdefault("measurements", {})
    return data["baseType"], told


def test_every_envelope_of_a_rotation_is_as_the_schema_says() -> None:
    """Proves each kind of event and result on the wire, and that nothing else is sent."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
    service = world.add_service(
        "apim-contoso",
        regions={"West Europe": 2, "North Europe": 1},
        hostnames=(Hostname("api.contoso.com", certificate=certificate),),
    )
    service.update_duration = timedelta(minutes=15)
    with Stage(world) as stage:
        stage.tick()
        certificate.renew()
        stage.settle()
        for _ in range(6):
            world.clock.advance(timedelta(minutes=5))
            stage.tick()
        told = [record(envelope) for envelope in world.telemetry]

    for kind, each in told:
        jsonschema.validate(each, RESULT if kind == "AvailabilityData" else SCHEMA)
    events = Counter(each["name"] for kind, each in told if kind == "EventData")
    results = [each for kind, each in told if kind == "AvailabilityData"]
    by_option = {"NamedValueKept"}
    assert {event["title"] for event in SCHEMA["oneOf"]} - by_option == set(events)
    assert {"EventData", "AvailabilityData"} == {kind for kind, _ in told}
    assert {"West Europe", "North Europe"} == {each["runLocation"] for each in results}
    assert {"api.contoso.com @ apim-contoso"} <= {each["name"] for each in results}
    assert len(results) == len({each["id"] for each in results})
    assert all(each["duration"] > "0.00:00:00.0000000" for each in results)
    assert 1 == events["RotationProven"]
    (proven,) = (each["measurements"] for _, each in told if each["name"] == "RotationProven")
    last = next(each for _, each in reversed(told) if each["name"] == "CertificateVerified")
    assert proven["seconds_to_served"] == last["measurements"]["seconds_to_served"]
