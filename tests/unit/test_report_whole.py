"""One report of the reports of all shards."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from rotation.model import Authority, Scope, Shard, Status
from rotation.report import to_json, whole
from tests.unit import build
from tests.unit.build import NOW


def part(number: int, of: int, minute: int = 0, *statuses: Status, **more: Any) -> Mapping[str, Any]:
    """What a shard keeps."""
    at = NOW + timedelta(minutes=minute)
    scope = Scope(shard=Shard(number, of)) if of > 1 else Scope()
    names = [f"apim-{of}-{number}-{n}" for n in range(len(statuses))]
    gateways = [build.gateway(name=name, resource_id=f"/{name}") for name in names]
    verdicts = tuple(
        build.verdict(status, of=build.evidence(at=gateway))
        for status, gateway in zip(statuses, gateways, strict=True)
    )
    report = build.report(verdicts, of=build.run(scope=scope, now=at), **more)
    return to_json(report)


def test_the_parts_add_up() -> None:
    """Proves sums, order and age: as old as the oldest part."""
    found = whole(
        [
            part(2, 2, 5, Status.IN_SYNC, Status.BLOCKED, problems=("a", "b"), missing=1),
            part(1, 2, 0, Status.STALE, problems=("b",), missing=2),
        ]
    )

    assert found
    assert ("everything", None, NOW.isoformat(), 3, 3) == tuple(
        found[name] for name in ("scope", "shard", "as_of", "gateways", "missing")
    )
    assert ["BLOCKED", "STALE", "IN_SYNC"] == [verdict["status"] for verdict in found["verdicts"]]
    assert {"in_sync": 1, "syncing": 0, "stale": 1, "blocked": 1, "unknown": 0, "unmanaged": 0} == found[
        "counts"
    ]
    assert ["a", "b"] == found["problems"]


ONE, TWO = [part(1, 1, 0, Status.IN_SYNC)], [part(1, 2, 5), part(2, 2, 5)]
CHOSEN = {
    "nothing was kept": ([], None),
    "one pass": (ONE, 1),
    "the newer whole set": ([*ONE, *TWO], 2),
    "one pass by hand after it": ([*TWO, part(1, 1, 6)], 1),
    "a whole set before a newer one that is not": ([*TWO, part(3, 4, 9)], 2),
}


@pytest.mark.parametrize(("parts", "of"), CHOSEN.values(), ids=CHOSEN)
def test_the_report_is_the_newest_whole_set(parts: list[Mapping[str, Any]], of: int | None) -> None:
    """Proves that a number of shards that changes never hides a part of the fleet."""
    found = whole(parts)

    assert (found and found["as_of"]) == (of and max(p["as_of"] for p in parts if _of(p) == of))


def _of(written: Mapping[str, Any]) -> int:
    return written["shard"]["of"] if written["shard"] else 1


def test_a_set_that_was_never_whole_says_so() -> None:
    """Proves that half a fleet is not taken for all of it."""
    found = whole([part(1, 4, 0, Status.IN_SYNC)])

    assert found
    assert ["3 of 4 shards were not looked at yet."] == found["problems"]


def test_what_every_shard_sees_is_told_once() -> None:
    """Proves it of authorities, also with a report that was kept before there were any."""
    named = {"service_id": "/x/apim", "gateway": "edge-berlin", "name": "corp-root"}
    root = Authority(**named, trusted=True, subject="", thumbprint=None, not_after=NOW)
    parts = [dict(part(number, 2, 5 * number)) for number in (1, 2)]
    for each in parts:
        each["authorities"] = to_json(replace(build.report(), authorities=(root,)))["authorities"]
    old = [{name: value for name, value in each.items() if name != "authorities"} for each in parts]

    assert ["corp-root"] == [each["name"] for each in (whole(parts) or {})["authorities"]]
    assert [] == (whole(old) or {})["authorities"]
