"""Which named values may be written after a pass: only what was proven in full, where nothing holds it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from rotation.model import Mode, Pause, Report, Status, Verdict
from rotation.named_values import Kept, due, event
from tests.unit import build

NAMES = {build.CERTIFICATE: "pin"}


def proven(
    hostname: str = "api.contoso.com",
    *,
    sampled: bool = False,
    paused: bool = False,
    state: str = "Succeeded",
) -> Verdict:
    """A hostname that was seen to serve the newest version on every connection."""
    binding = build.binding(hostname)
    gateway = build.gateway(binding, paused=paused, state=state)
    of = replace(build.evidence(build.served(), of=binding, at=gateway), sampled=sampled)
    return build.verdict(Status.IN_SYNC, of=of)


def test_what_every_hostname_serves_is_due() -> None:
    """Two hostnames, one gateway, one certificate: one named value."""
    verdicts = [proven(), proven("shop.contoso.com")]
    (found,) = due(build.report(verdicts), NAMES)

    assert ("pin", build.CERTIFICATE) == (found.name, found.certificate)
    assert build.version().thumbprint == found.thumbprint
    assert "apim-contoso" == found.gateway.name


HELD: dict[str, Callable[[], Report]] = {
    "one hostname is on its way": lambda: build.report([proven(), build.verdict(Status.SYNCING)]),
    "one could not be seen": lambda: build.report([proven(), build.verdict(Status.UNKNOWN)]),
    "it was only sampled": lambda: build.report([proven(sampled=True)]),
    "one of two was only sampled": lambda: build.report([proven(), proven("b.contoso.com", sampled=True)]),
    "the pass only looks": lambda: build.report([proven()], of=build.run(Mode.OBSERVE)),
    "all syncs are paused": lambda: build.report([proven()], pause=Pause(build.NOW, "freeze")),
    "the gateway is paused": lambda: build.report([proven(paused=True)]),
    "the gateway is updating": lambda: build.report([proven(state="Updating")]),
    "nothing was seen": lambda: build.report([]),
}


@pytest.mark.parametrize("report", HELD.values(), ids=HELD)
def test_nothing_is_due_where(report: Callable[[], Report]) -> None:
    """A wrong pin closes the door to every caller, so doubt means no."""
    assert [] == due(report(), NAMES)


def test_a_certificate_that_nobody_has_named_is_none_of_our_business() -> None:
    """Off by default, and only for what is named."""
    assert [] == due(build.report([proven()]), {})
    assert [] == due(build.report([proven()]), {build.certificate("other"): "pin"})


def test_a_change_and_a_failure_are_told_and_nothing_else() -> None:
    """What is right already is no news, twelve times a day."""
    report = build.report([proven()])
    (one,) = due(report, NAMES)
    changed = event(report, one, Kept(written=True, before="OLD"))
    failed = event(report, one, Kept(written=False, problem="HTTP 403"))

    assert event(report, one, Kept(written=False, before=one.thumbprint)) is None
    assert changed
    assert failed
    assert ("OLD", one.thumbprint, "") == tuple(
        changed.properties[k] for k in ("before", "thumbprint", "problem")
    )
    assert "HTTP 403" == failed.properties["problem"]
