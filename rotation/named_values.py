"""Named values that follow a proven thumbprint, for policies of API Management that pin it. Pure.

Off unless ROTATION_NAMED_VALUES says which certificate's thumbprint belongs into which named value.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rotation.model import (
    CertificateId,
    CertificateVersion,
    Event,
    Gateway,
    GatewayKind,
    Mode,
    Report,
    Status,
    Verdict,
)
from rotation.telemetry import named_value_kept

WRITE_ACTION = "Microsoft.ApiManagement/service/namedValues/write"

_HAVE_THEM = frozenset({GatewayKind.API_MANAGEMENT})


@dataclass(frozen=True, slots=True)
class Due:
    """A named value of a gateway, and the thumbprint that every hostname with this certificate serves."""

    gateway: Gateway
    certificate: CertificateId
    name: str
    thumbprint: str


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of it: `problem` is empty where it has the thumbprint now."""

    written: bool
    before: str = ""
    problem: str = ""


def due(report: Report, names: Mapping[CertificateId, str]) -> list[Due]:
    """What this pass has proven in full: not from a sample, not for a gateway that is paused or changing.

    A settled hostname is proven in full once an hour, and so is its named value looked at.
    """
    if report.run.mode is Mode.OBSERVE or report.pause:
        return []
    users: dict[tuple[str, CertificateId], list[Verdict]] = {}
    for verdict in report.verdicts:
        reference = verdict.evidence.binding.reference
        if reference and reference.certificate in names:
            users.setdefault((verdict.evidence.gateway.key, reference.certificate), []).append(verdict)
    return [
        Due(verdicts[0].evidence.gateway, certificate, names[certificate], thumbprint)
        for (_, certificate), verdicts in users.items()
        if _may_change(verdicts[0].evidence.gateway) and (thumbprint := _proven(verdicts))
    ]


def event(report: Report, one: Due, kept: Kept) -> Event | None:
    """What Application Insights is told: every change, and every failure."""
    if not (kept.written or kept.problem):
        return None
    return named_value_kept(
        report.run,
        one.gateway,
        {
            "certificate": str(one.certificate),
            "named_value": one.name,
            "before": kept.before,
            "thumbprint": one.thumbprint,
            "problem": kept.problem,
        },
    )


def _may_change(gateway: Gateway) -> bool:
    return gateway.kind.name in _HAVE_THEM and not (gateway.paused or gateway.busy)


def _proven(verdicts: Iterable[Verdict]) -> str:
    """The one thumbprint that all of them have been seen to serve, empty where they have not."""
    seen = [
        verdict.evidence.expected.thumbprint
        if verdict.status is Status.IN_SYNC
        and not verdict.evidence.sampled
        and isinstance(verdict.evidence.expected, CertificateVersion)
        else ""
        for verdict in verdicts
    ]
    return seen[0] if len(set(seen)) == 1 else ""
