"""What a pass leaves in a gateway's row: last verdicts, rotations, and events still to be told. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256

from rotation import telemetry
from rotation.model import (
    Binding,
    CertificateId,
    CertificateUnreadable,
    CertificateVersion,
    Event,
    Evidence,
    Gateway,
    LastVerdict,
    LedgerRow,
    Pass,
    Reason,
    Rotation,
    ServedCertificate,
    Status,
    Verdict,
)
from rotation.verdict import fronts_of

ROTATIONS_KEPT = 8
MOST_WAITING = 100
"""Events that a row holds; Application Insights has to be away for hours before there are so many."""

FORGET_AFTER = timedelta(days=7)
SHRINKAGE = 0.2

_UNDER_WAY = frozenset({Status.STALE, Status.SYNCING})
_QUIET = frozenset({Status.IN_SYNC, Status.UNKNOWN})

FRONTS_ASKED_FOR = timedelta(minutes=30)
"""After a rotation: an Application Gateway probes its backends every 30 seconds unless told otherwise."""

SLOTS = 11
"""A prime, so that the slots take turns whether the timer comes every five minutes or every hour."""

SLOT_SECONDS = 300


def settled(row: LedgerRow | None, binding: Binding, expected: CertificateVersion) -> bool:
    """Whether the binding was proven on this version, by enough connections, and in sync ever since."""
    last = row.last.get(binding.key) if row else None
    return last is not None and last.version == expected.version and _done(last.status, binding)


def _done(status: Status, binding: Binding) -> bool:
    """Whether a version has arrived: proven, or configured where there is nowhere to connect to."""
    return status is Status.IN_SYNC or (status is Status.UNMANAGED and not binding.endpoints)


def sampled(
    row: LedgerRow | None,
    binding: Binding,
    expected: CertificateVersion | CertificateUnreadable | None,
    now: datetime,
) -> bool:
    """Whether one connection per endpoint is enough in this pass.

    A settled binding is proven again in a slot of its own: every 55 minutes where the timer comes every five
    minutes; where it comes once an hour the slots take turns.
    """
    if not row or not isinstance(expected, CertificateVersion) or not settled(row, binding, expected):
        return False
    turn = int(now.timestamp()) // SLOT_SECONDS
    # Not the first byte, which a shard's gateways have in common.
    return turn % SLOTS != sha256(row.gateway_key.encode()).digest()[1] % SLOTS


def behind(
    row: LedgerRow | None,
    gateway: Gateway,
    expected: Mapping[CertificateId, CertificateVersion | CertificateUnreadable],
) -> bool:
    """Whether a gateway that others look at was not yet proven on one of these certificates."""
    return any(
        not isinstance(wanted := expected[b.reference.certificate], CertificateVersion)
        or not settled(row, b, wanted)
        for b in gateway.bindings
        if b.reference and b.reference.certificate in expected
    )


def distrusted(row: LedgerRow | None, binding: Binding) -> bool:
    """Whether what stands in front was last said not to believe what is served."""
    last = row.last.get(binding.key) if row else None
    return last is not None and last.reason is Reason.FRONT_DISTRUSTS and last.status is Status.IN_SYNC


def front_due(evidence: Evidence, now: datetime) -> bool:
    """Whether what stands in front is to be asked: after a rotation, and until it is content.

    Where it has not said so since, because it gave no answer, or another verdict has come in between, or
    somebody has changed what it trusts, it is asked whenever the binding is proven in full.
    """
    row, binding = evidence.row, evidence.binding
    if row is None:
        return False
    proven = _proven(row)
    if distrusted(row, binding) or any(now - at <= FRONTS_ASKED_FOR for at in proven):
        return True
    last = row.last.get(binding.key)
    owed = not _is_content(row, evidence.gateway)
    return owed and not evidence.sampled and last is not None and last.status in _QUIET


def reading_rank(
    row: LedgerRow | None,
    gateway: Gateway,
    expected: Mapping[CertificateId, CertificateVersion | CertificateUnreadable],
) -> int | None:
    """How urgently a gateway known from Resource Graph has to be read itself, 0 first; None: not at all.

    First what may be about to be synced, then what was never seen on this version; what is settled costs no
    request.
    """
    ranks = set()
    for binding in gateway.bindings:
        wanted = expected.get(binding.reference.certificate) if binding.reference else None
        if not isinstance(wanted, CertificateVersion) or (binding.reference and binding.reference.version):
            continue
        last = row.last.get(binding.key) if row else None
        if last is None or last.status is Status.UNKNOWN:
            ranks.add(1)
        elif not settled(row, binding, wanted) or (gateway.kind.not_served and not binding.has(wanted)):
            ranks.add(0)
    return min(ranks, default=None) if gateway.listed else None


def note(row: LedgerRow, verdicts: Sequence[Verdict], run: Pass) -> LedgerRow:
    """The row with what this pass has seen; the same row where that is nothing new."""
    events: list[Event] = []
    last: dict[str, LastVerdict] = {}
    for verdict in verdicts:
        key = verdict.evidence.binding.key
        before = row.last.get(key)
        last[key] = _last(verdict, before, run.now)
        if _says_else(verdict, before):
            events.append(telemetry.verdict_changed(run, verdict, before))
    of_certificate: dict[CertificateId, list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.evidence.gateway.kind.not_served:
            continue  # what nobody can connect to is never proven
        if (reference := verdict.evidence.binding.reference) and not reference.version:
            of_certificate.setdefault(reference.certificate, []).append(verdict)
    rotations = _go_on(row, of_certificate, run)
    events += [
        telemetry.rotation_proven(run, verdicts[0].evidence.gateway, rotation)
        for rotation in rotations
        if rotation.proven and rotation not in row.rotations
    ]
    proven_at = row.proven_at
    if not proven_at and _all_wanted_served(row, verdicts):
        proven_at = run.now
    content = _front_content(row, verdicts, run.now)
    seen = (last, rotations, proven_at, *content, None)
    known = (
        row.last,
        row.rotations,
        row.proven_at,
        row.front_content_at,
        row.front_trusts,
        row.missing_since,
    )
    if seen == known and not events:
        return row
    noted = replace(
        row,
        last=last,
        rotations=rotations,
        proven_at=proven_at,
        front_content_at=content[0],
        front_trusts=content[1],
        missing_since=None,
    )
    return waiting(noted, events)


def waiting(row: LedgerRow, events: Iterable[Event]) -> LedgerRow:
    """The row with more to tell.

    Where that is too much, what a later event of the same hostname has overtaken is given up, the oldest
    first; the newest of each stays.
    """
    outbox = (*row.outbox, *events)
    excess = len(outbox) - MOST_WAITING
    if excess > 0:
        newest = {_subject(event): event.event_id for event in outbox}.values()
        overtaken = [event.event_id for event in outbox if event.event_id not in newest][:excess]
        outbox = tuple(event for event in outbox if event.event_id not in overtaken)
    return replace(row, outbox=outbox)


def told(row: LedgerRow, accepted: Iterable[str]) -> LedgerRow:
    """The row without the events that Application Insights has accepted, by id."""
    ids = frozenset(accepted)
    return replace(row, outbox=tuple(event for event in row.outbox if event.event_id not in ids))


def synced(row: LedgerRow, at: datetime) -> LedgerRow:
    """The row after an accepted sync: t2 of the rotations that are under way."""
    under_way = (replace(r, synced=at) if not r.proven and not r.synced else r for r in row.rotations)
    return replace(row, rotations=tuple(under_way))


def forgotten(row: LedgerRow, now: datetime) -> bool:
    """Whether the gateway has been gone for so long that nothing needs to be remembered."""
    return row.missing_since is not None and now - row.missing_since > FORGET_AFTER


def shrunk(missing: Iterable[str], known: int) -> tuple[str, ...]:
    """What to say where more than a fifth of the known gateways have vanished."""
    gone = sorted(key.rpartition("/")[2] for key in missing)
    if len(gone) <= known * SHRINKAGE:
        return ()
    listed = ", ".join(gone[:10]) + (", …" if len(gone) > 10 else "")
    problem = (
        f"The inventory shrank: {len(gone)} of {known} known gateways are no longer listed ({listed})."
        " If they were not deleted, check the app's role on their resource groups, and"
        f" ROTATION_SUBSCRIPTIONS and ROTATION_KINDS; they are forgotten after {FORGET_AFTER.days} days."
    )
    return (problem,)


def _proven(row: LedgerRow) -> list[datetime]:
    """When versions were first seen served everywhere."""
    return [at for at in (row.proven_at, *(rotation.proven for rotation in row.rotations)) if at]


def _front_content(row: LedgerRow, verdicts: Iterable[Verdict], now: datetime) -> tuple[datetime | None, str]:
    """When all that stands in front first was content with what is wanted, and what it trusted then."""
    behind = [v for v in verdicts if fronts_of(v.evidence)]
    content = all(
        v.status is Status.IN_SYNC and v.evidence.front and v.evidence.front.distrusts is False
        for v in behind
    )
    if not behind or not content or _is_content(row, behind[0].evidence.gateway):
        return row.front_content_at, row.front_trusts
    return now, front_trusts(behind[0].evidence.gateway)


def _is_content(row: LedgerRow, gateway: Gateway) -> bool:
    """Whether what stands in front was content with the last rotation, and trusts what it did then."""
    content = row.front_content_at
    since = content is not None and content >= max(_proven(row), default=content)
    return since and row.front_trusts == front_trusts(gateway)


def front_trusts(gateway: Gateway) -> str:
    """A hash of what stands in front and of the roots that it trusts."""
    fronts = sorted(
        (front.id, front.target, front.hostname, sorted(root.thumbprint for root in front.roots or ()))
        for front in gateway.fronts
    )
    return sha256(repr(fronts).encode()).hexdigest()[:16]


def _subject(event: Event) -> tuple[str, str]:
    return event.name, event.properties.get("hostname", "")


def _says_else(verdict: Verdict, before: LastVerdict | None) -> bool:
    """Whether somebody wants to know: what is in sync at first sight is no news."""
    if before is None:
        return verdict.status not in {Status.IN_SYNC, Status.UNMANAGED}
    return not _same(verdict, before)


def _same(verdict: Verdict, before: LastVerdict) -> bool:
    return (before.status, before.reason, before.drift) == (verdict.status, verdict.reason, verdict.drift)


def _last(verdict: Verdict, before: LastVerdict | None, now: datetime) -> LastVerdict:
    """The version is that of the last time when something was seen of it."""
    version = before.version if before else ""
    seen = verdict.status in _UNDER_WAY or _done(verdict.status, verdict.evidence.binding)
    if seen and isinstance(verdict.evidence.expected, CertificateVersion):
        version = verdict.evidence.expected.version
    if before and _same(verdict, before):
        return before if version == before.version else replace(before, version=version)
    return LastVerdict(verdict.status, verdict.reason, verdict.drift, now, version)


def _go_on(
    row: LedgerRow, of_certificate: dict[CertificateId, list[Verdict]], run: Pass
) -> tuple[Rotation, ...]:
    """The rotations of the row, those under way brought up to date and new ones begun."""
    bound = {str(certificate) for certificate in of_certificate}
    kept = {
        (r.certificate, r.version, r.created): r for r in row.rotations if r.proven or r.certificate in bound
    }
    for certificate, verdicts in of_certificate.items():
        current = next((r for r in reversed(row.rotations) if r.certificate == str(certificate)), None)
        rotation = _rotation(row, current, verdicts, run)
        if rotation is None:
            continue
        if current and not current.proven:
            kept.pop((current.certificate, current.version, current.created), None)
        kept[rotation.certificate, rotation.version, rotation.created] = rotation
    return tuple(sorted(kept.values(), key=lambda r: (r.noticed, r.certificate)))[-ROTATIONS_KEPT:]


def _rotation(
    row: LedgerRow, current: Rotation | None, verdicts: Sequence[Verdict], run: Pass
) -> Rotation | None:
    """The rotation of one certificate after this pass; None where there is none, or nothing is known."""
    expected = verdicts[0].evidence.expected
    if not isinstance(expected, CertificateVersion) or not expected.enabled:
        return current
    rotation = current
    if not current or current.version != expected.version:
        if current and expected.available_since <= current.created:
            return current  # an answer of Key Vault from before that version
        known = {
            row.last[v.evidence.binding.key].version for v in verdicts if v.evidence.binding.key in row.last
        }
        known -= {""}
        renewed = current or (known and expected.version not in known)
        behind = not known and any(v.status in {Status.STALE, Status.SYNCING} for v in verdicts)
        if not renewed and not behind:
            return None
        rotation = Rotation(
            certificate=str(expected.certificate),
            version=expected.version,
            created=expected.available_since,
            noticed=run.now,
            caught_by=run.trigger,
        )
    assert rotation
    if rotation.proven:
        return rotation
    leaves = (o for v in verdicts for o in v.evidence.observations if isinstance(o, ServedCertificate))
    if not rotation.first_served and any(leaf.thumbprint == expected.thumbprint for leaf in leaves):
        rotation = replace(rotation, first_served=run.now)
    proven = all(v.status is Status.IN_SYNC for v in verdicts)
    return replace(rotation, proven=run.now) if proven else rotation


def _all_wanted_served(row: LedgerRow, verdicts: Iterable[Verdict]) -> bool:
    """Every hostname that follows a wanted certificate, and at least one, has it in this pass."""
    wanted = [
        verdict
        for verdict in verdicts
        if (reference := verdict.evidence.binding.reference)
        and not reference.version
        and str(reference.certificate) in row.wanted
    ]
    return bool(wanted) and all(_served_as_wanted(row, verdict) for verdict in wanted)


def _served_as_wanted(row: LedgerRow, verdict: Verdict) -> bool:
    expected = verdict.evidence.expected
    return (
        _done(verdict.status, verdict.evidence.binding)
        and isinstance(expected, CertificateVersion)
        and row.asked_for(expected)
    )
