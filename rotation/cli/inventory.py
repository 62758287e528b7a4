"""What `report` finds in what was seen: ends, pins and their mending, certificates nobody renews. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from shlex import quote

from rotation.model import (
    Binding,
    CertificateId,
    CertificateVersion,
    Gateway,
    Reason,
    Report,
    ServedCertificate,
    Verdict,
)
from rotation.verdict import covers

HORIZON = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Ending:
    """A hostname whose served certificate ends within the horizon."""

    not_after: datetime
    days: int
    gateway: str
    hostname: str
    thumbprint: str
    certificate: str | None


@dataclass(frozen=True, slots=True)
class Pinned:
    """A binding that will never follow a renewal, and how to mend it in three languages."""

    gateway: str
    hostname: str
    key_vault_id: str
    versionless: str
    bicep: str
    terraform: str
    az: str


@dataclass(frozen=True, slots=True)
class Unrenewed:
    """A certificate in use whose newest version is about to end."""

    certificate: str
    not_after: datetime
    days: int
    hostnames: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LookAlike:
    """A hostname that several certificates cover: which one is renewed may not be the one in use."""

    hostname: str
    used: str
    others: tuple[str, ...]


def endings(report: Report, horizon: timedelta = HORIZON) -> list[Ending]:
    """What ends first stands first; one line for each certificate that a hostname serves."""
    found: dict[tuple[str, str, str], Ending] = {}
    for verdict in report.verdicts:
        binding, gateway = verdict.evidence.binding, verdict.evidence.gateway
        for seen in verdict.evidence.observations:
            if not isinstance(seen, ServedCertificate) or seen.not_after is None:
                continue
            left = seen.not_after - report.run.now
            if left <= horizon:
                found[gateway.key, binding.key, seen.thumbprint] = Ending(
                    seen.not_after,
                    left.days,
                    gateway.name,
                    binding.hostname,
                    seen.thumbprint,
                    str(binding.reference.certificate) if binding.reference else None,
                )
    return sorted(found.values(), key=lambda each: (each.not_after, each.gateway, each.hostname))


def pinned(report: Report) -> list[Pinned]:
    """Every binding with a version in its keyVaultId, with the lines that take it away."""
    return [
        _mend(verdict.evidence.gateway, verdict.evidence.binding)
        for verdict in report.verdicts
        if verdict.reason is Reason.PINNED_VERSION
    ]


def unrenewed(report: Report, soon: timedelta) -> list[Unrenewed]:
    """Newest versions that end within `soon`: no event will come for them unless somebody renews."""
    users: dict[CertificateVersion, set[str]] = defaultdict(set)
    for verdict in report.verdicts:
        if isinstance(verdict.evidence.expected, CertificateVersion):
            users[verdict.evidence.expected].add(verdict.evidence.binding.hostname)
    return sorted(
        (
            Unrenewed(
                str(v.certificate), v.not_after, (v.not_after - report.run.now).days, tuple(sorted(hosts))
            )
            for v, hosts in users.items()
            if v.not_after - report.run.now <= soon
        ),
        key=lambda each: (each.not_after, each.certificate),
    )


def look_alikes(
    verdicts: Iterable[Verdict], versions: Mapping[CertificateId, CertificateVersion]
) -> list[LookAlike]:
    """Hostnames that another certificate covers as well, among all that could be read."""
    found: dict[str, LookAlike] = {}
    for verdict in verdicts:
        binding = verdict.evidence.binding
        if not binding.reference:
            continue
        used = binding.reference.certificate
        others = tuple(
            str(other)
            for other, version in sorted(versions.items())
            if other != used and covers(version.names, binding.hostname)
        )
        if others:
            found[binding.hostname] = LookAlike(binding.hostname, str(used), others)
    return [found[hostname] for hostname in sorted(found)]


def orphans(listed: Iterable[CertificateId], verdicts: Iterable[Verdict]) -> list[str]:
    """Certificates of the vaults in use that no gateway in scope refers to."""
    used = {c for verdict in verdicts for c in verdict.evidence.gateway.certificates}
    return [str(certificate) for certificate in sorted(set(listed) - used)]


def _mend(gateway: Gateway, binding: Binding) -> Pinned:
    assert binding.reference
    _, _, subscription, _, group, *_ = gateway.id.split("/")
    url, unpin = binding.reference.certificate.secret_url, gateway.kind.unpin
    words = {
        "url": url,
        "id": gateway.id,
        "subscription": subscription,
        "group": group,
        "name": gateway.name,
        "hostname": binding.hostname,
        "position": gateway.bindings.index(binding),
    }
    return Pinned(
        gateway.name,
        binding.hostname,
        binding.key_vault_id or "",
        url,
        bicep=unpin.bicep.format(**words),
        terraform=unpin.terraform.format(**words),
        az=unpin.az.format(**{name: quote(str(word)) for name, word in words.items()}),
    )
