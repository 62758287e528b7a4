"""Sees the whole world and judges the judge. Shares no code with `rotation.verdict` or `rotation.plan`.

What a pass may say follows from what the world showed to that pass, which the ports have noted, and from
what was true at that moment. The words are the product's, the reasoning is not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from rotation.model import (
    CertificateId,
    LedgerRow,
    Mode,
    Reason,
    Report,
    Status,
    SyncOutcome,
    Trigger,
    Verdict,
)
from sandbox import world as sandbox
from tests.simulation.hosted import Hosted
from tests.simulation.issuers import ITSELF, PUBLIC, LeanLeaf, subject_of
from tests.simulation.listening import Listening, backends, believes, presented
from tests.simulation.loop import EPOCH
from tests.simulation.ports import Worker, versions
from tests.simulation.sim import Simulation
from tests.simulation.weather import Post, Read, Seen, Shown, Trouble

LARGEST_SKEW = timedelta(minutes=20)
A_SECOND = timedelta(seconds=2)
A_DAY = timedelta(hours=24)
MOST_IN_A_DAY = 5
DRIFT_AFTER = timedelta(hours=2)
LONGEST_FLIGHT = timedelta(minutes=45)
FETCHED_WITHIN = timedelta(minutes=1)
LOOKS_WITHIN = timedelta(hours=4, minutes=15)
FRONTS_TOLD_WITHIN = timedelta(hours=2, minutes=10)
WAITS_FOR_A_PERSON = {Reason.ISSUER_CHANGED, Reason.FRONT_DISTRUSTS, Reason.GATEWAY_NOT_LOOKING}
CHANCE_OF_MISSING = 0.01
AN_HOUR = timedelta(hours=1)
A_LONG_TIME = timedelta(hours=10)
FORCE_GAP = timedelta(minutes=10)
LONGEST_PASS = timedelta(minutes=5)
PATIENCE = timedelta(minutes=60)
TICK = timedelta(minutes=5)
_ROLLING_OUT = {Status.IN_SYNC, Status.SYNCING, Status.STALE}
PLAIN_BLOCKS = {Reason.NAMES_LOST, Reason.SYNC_NOT_SUPPORTED, Reason.VERSION_UNUSABLE}


@dataclass(slots=True)
class Figures:
    """What was counted: of one schedule, or of many."""

    schedules: int = 0
    passes: int = 0
    died: int = 0
    troubles: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    false_in_sync: int = 0
    false_stale: int = 0
    other_unfounded: int = 0
    sampled_rollouts: int = 0
    sampled_missed: int = 0
    posts: int = 0
    syncs_started: int = 0
    worst_syncs_in_24_h: int = 0
    over_budget: int = 0
    before_retry_after: int = 0
    overlapping: int = 0
    other_violations: int = 0
    bindings: int = 0
    proven_at_60: int = 0
    alerting_at_60: int = 0
    under_way_at_60: int = 0
    young_at_60: int = 0
    silent: int = 0
    owed: int = 0
    told_more_than_once: int = 0
    never_told: int = 0
    minutes_to_proven: list[float] = field(default_factory=list)
    minutes_to_sync: list[float] = field(default_factory=list)

    def add(self, other: "Figures") -> None:
        """Take another's counts in."""
        for name in self.__slots__:
            mine, others = getattr(self, name), getattr(other, name)
            if isinstance(mine, dict):
                for key, number in others.items():
                    mine[key] = mine.get(key, 0) + number
            elif name.startswith("worst"):
                setattr(self, name, max(mine, others))
            else:
                setattr(self, name, mine + others)

    @property
    def judged(self) -> int:
        """All verdicts."""
        return sum(self.verdicts.values())


@dataclass(slots=True)
class Latest:
    """The last verdict of a hostname."""

    at: datetime
    verdict: Verdict


class Oracle:
    """Watches a simulation.

    Args:
        sim: what it watches.
    """

    def __init__(self, sim: Simulation) -> None:
        self.figures = Figures()
        self.violations: list[str] = []
        self.latest: dict[tuple[str, str], Latest] = {}
        self._sim = sim
        self._counted: dict[tuple[object, ...], list[datetime]] = {}
        self._asked: dict[str, datetime] = {}
        self._forced: dict[tuple[str, int], datetime] = {}
        self._started: dict[tuple[object, ...], list[datetime]] = {}
        self._synced: set[tuple[str, str]] = set()
        self._once_distrusted: set[tuple[str, str]] = set()
        self._untold: dict[tuple[str, str], datetime] = {}
        self._proven_in_full: set[tuple[str, str, str]] = set()
        self.owed: dict[str, int] = {}
        sim.on_store = self._row_stored

    # After every pass.

    def watch(self, worker: Worker, report: Report | None) -> None:
        """Judge a pass that has ended, and what it has done to the world."""
        self.figures.passes += 1
        self._watch_posts(worker)
        by_hand = worker.order.trigger is Trigger.HAND
        if worker.order.mode is Mode.OBSERVE and (worker.posts or (by_hand and worker.writes)):
            self._violation("I10 a dry run has written", worker.name)
        if report is None:
            self.figures.died += 1
            self._watch_what_the_dead_saw(worker.seen)
            return
        for verdict in report.verdicts:
            self._watch_verdict(worker.seen, verdict, report.run.now)

    def _watch_what_the_dead_saw(self, seen: Seen) -> None:
        """A proof that a worker has noted before it died still counts."""
        for gateway_key, name in seen.shown:
            service = self._sim.service(gateway_key)
            hostname = service.hostname(name)
            assert hostname is not None
            view = _View(service, hostname, seen, self._sim.clock.now(), None, timedelta())
            if True in view.healths:
                self._once_distrusted.add((gateway_key, name))
            if view.newest and _in_sync(view) is None:
                self._proven_in_full.add((gateway_key, name, view.newest))

    def _watch_verdict(self, seen: Seen, verdict: Verdict, now: datetime) -> None:
        evidence, status = verdict.evidence, verdict.status
        key = (evidence.gateway.key, evidence.binding.hostname)
        service = self._sim.service(key[0])
        hostname = service.hostname(key[1])
        assert hostname is not None
        self.figures.verdicts[status] = self.figures.verdicts.get(status, 0) + 1
        self.latest[key] = Latest(self._sim.clock.now(), verdict)
        view = _View(service, hostname, seen, now, self._asked.get(key[0]), abs(self._sim.skew))
        if view.newest and (*key, view.newest) in self._proven_in_full:
            view.once = verdict.evidence.sampled
        if True in view.healths:
            self._once_distrusted.add(key)
        view.was_distrusted = key in self._once_distrusted
        why = _CHECKS[status](view, verdict)
        if status in _ROLLING_OUT and view.partly_rolled_out:
            self.figures.sampled_rollouts += 1
            self.figures.sampled_missed += status is Status.IN_SYNC
        if why is None:
            if status is Status.IN_SYNC and view.newest:
                self._proven_in_full.add((*key, view.newest))
            return
        if status is Status.IN_SYNC:
            self.figures.false_in_sync += 1
        elif status is Status.STALE:
            self.figures.false_stale += 1
        else:
            self.figures.other_unfounded += 1
        self._sim.tell(f"UNFOUNDED {status} {verdict.reason}: {why}")
        self.violations.append(f"unfounded {status} {verdict.reason} ({why}): {verdict.message}")

    # Syncs.

    def _watch_posts(self, worker: Worker) -> None:
        for post in worker.posts:
            self.figures.posts += 1
            self.figures.syncs_started += post.started
            service = self._sim.service(post.gateway_key)
            if post.started and not post.forced:
                self._time_sync(service, post)
            if not any(h.followed for h in service.hostnames):
                self._violation("I5 a gateway with nothing to sync was synced", post.gateway_key)
            wait = post.waited_for
            if wait and post.at < wait.until - self._slack:
                self.figures.before_retry_after += 1
                what = f"R9 asked {wait.until - post.at} before the Retry-After of an answer ({wait.because})"
                self._violation(f"{what} has passed:", post.gateway_key)
            self._watch_budget(service, post)

    @property
    def _slack(self) -> timedelta:
        """How far the app's clocks may differ where it once had to do with its own."""
        return LARGEST_SKEW if Trouble.NO_DATE in self._sim.struck else timedelta()

    def _time_sync(self, service: sandbox.Service, post: Post) -> None:
        """From each new version to the first sync of each of its gateways."""
        for newest in dict.fromkeys(h.followed.newest for h in service.hostnames if h.followed):
            key = (post.gateway_key, newest.id)
            if newest.created >= EPOCH and key not in self._synced:
                self._synced.add(key)
                available = max(newest.created, newest.updated)
                self.figures.minutes_to_sync.append((post.at - available) / timedelta(minutes=1))

    def _watch_budget(self, service: sandbox.Service, post: Post) -> None:
        if not post.claimed:
            self._violation("R3 a sync without a stored claim", post.gateway_key, post.at)
        if post.forced:
            asker = (post.gateway_key, self._sim.ledger_epoch)
            last = self._forced.get(asker)
            self._forced[asker] = post.at
            if last and post.at - last < FORCE_GAP - LONGEST_PASS - self._slack:
                self._violation("forced twice within ten minutes", post.gateway_key, post.at)
            return
        if post.refused:
            return
        key = (post.gateway_key, post.wanted, self._sim.ledger_epoch)
        running = [at for at in self._started.get(key, ()) if post.at < at + service.update_duration]
        if post.started:
            self._started.setdefault(key, []).append(post.at)
        if running and post.started:
            self.figures.overlapping += 1
            self._violation("I4 two syncs for the same versions in flight", post.gateway_key)
        times = self._counted.setdefault(key, [])
        times.append(post.at)
        recent = [at for at in times if post.at - at < A_DAY - self._slack]
        self.figures.worst_syncs_in_24_h = max(self.figures.worst_syncs_in_24_h, len(recent))
        late = len(times) > MOST_IN_A_DAY and times[-1] - times[-2] < A_DAY - self._slack - LONGEST_PASS
        if len(recent) > MOST_IN_A_DAY or late:
            self.figures.over_budget += 1
            self._violation(f"R3 sync number {len(recent)} within 24 h", post.gateway_key, post.at)

    def _row_stored(self, worker: Worker, before: LedgerRow | None, after: LedgerRow) -> None:
        """I11: attempts for the same versions go down by a definite refusal only, and then by one."""
        now, key = self._sim.clock.now(), after.gateway_key
        self.owed |= {event.event_id: self._sim.ledger_epoch for event in after.outbox}
        if after.outcome is SyncOutcome.ASKED and (before is None or before.claim_id != after.claim_id):
            self._asked[key] = now
            same = before is not None and versions(before) == versions(after)
            early = before and before.next_at and now < before.next_at - self._slack
            if same and early and worker.order.mode is not Mode.FORCE:
                self._violation("I6 an attempt before its time", worker.name, key)
        if before is None or versions(before) != versions(after):
            return
        given_back = after.outcome is not None and after.outcome.refused
        if after.attempts < before.attempts - given_back:
            self._violation(f"I11 attempts {before.attempts} to {after.attempts}", worker.name)

    # In the end.

    def all_proven(self) -> bool:
        """Whether every hostname that can be is proven on its newest enabled version."""
        return all(self._proven(s, h) for s, h in self._bindings() if not self._hopeless(s, h))

    def nothing_happens_for(self) -> timedelta:
        """How long the next pass can wait without missing anything.

        What is proven, or blocked in truth, stays so. Where only syncs fail, the next one may be due.
        """
        if self._distrusted():
            return TICK
        resting = {self._resting(service, hostname) for service, hostname in self._bindings()}
        return min(resting, default=A_LONG_TIME)

    def last_look(self) -> None:
        """R1: in the end every hostname is proven or alerting."""
        for service, hostname in self._bindings():
            if not self._proven(service, hostname) and not self._alerting(service, hostname):
                self.figures.silent += 1
                self._violation(
                    "R1 neither proven nor alerting in the end:", service.name, hostname.host_name
                )

        now = self._sim.clock.now()
        for key, latest in self.latest.items():
            distrusted = latest.verdict.status is Status.IN_SYNC and self._held(*key)
            behind = [backend for to, backend in backends(self._sim.world) if to == key]
            if distrusted and all(believes(b.roots, presented(b, now)) for b in behind):
                self._violation("R1 what stands in front believes it in the end:", *key)

    def nothing_is_owed(self) -> None:
        """R10: what was once stored to be told has been told, but for what a wiped ledger took along."""
        told = self._sim.told
        self.figures.owed += len(self.owed)
        self.figures.told_more_than_once += sum(len(times) > 1 for times in told.values())
        for event_id, epoch in self.owed.items():
            if event_id not in told and epoch == self._sim.ledger_epoch:
                self.figures.never_told += 1
                self._violation("R10 never told:", event_id)

    def sort_out(self) -> None:
        """Sort every hostname by what is known of it an hour after the last trouble."""
        for service, hostname in self._bindings():
            self.figures.bindings += 1
            if self._proven(service, hostname):
                self.figures.proven_at_60 += 1
            elif self._alerting(service, hostname):
                self.figures.alerting_at_60 += 1
            elif self._under_way(service, hostname):
                self.figures.under_way_at_60 += 1
            elif self._young(hostname):
                self.figures.young_at_60 += 1

    def watch_silence(self) -> None:
        """R1: from an hour after the last trouble nothing may be unproven without anybody being told."""
        for service, hostname in self._bindings():
            known = self._proven(service, hostname) or self._alerting(service, hostname)
            if not known and not self._under_way(service, hostname) and not self._young(hostname):
                self.figures.silent += 1
                latest = self.latest.get((service.id.lower(), hostname.host_name))
                said = latest.verdict.message if latest else "nothing"
                self._violation(f"R1 silent: {service.name} {hostname.host_name}: {said}")
        now, untold = self._sim.clock.now(), self._untold
        self._untold = {key: untold.get(key, now) for key in self._distrusted()}
        for (key, name), since in self._untold.items():
            if now - since > FRONTS_TOLD_WITHIN:
                self.figures.silent += 1
                said = self.latest[key, name].verdict.message
                self._violation(f"R1 what stands in front does not believe what {name} serves: {said}")

    def _distrusted(self) -> list[tuple[str, str]]:
        """The hostnames called fine which what stands in front does not believe."""
        now = self._sim.clock.now()
        return [
            key
            for key, backend in backends(self._sim.world)
            if (latest := self.latest.get(key))
            and latest.verdict.status is Status.IN_SYNC
            and latest.verdict.reason is not Reason.FRONT_DISTRUSTS
            and not believes(backend.roots, presented(backend, now))
        ]

    def _bindings(self) -> list[tuple[sandbox.Service, sandbox.Hostname]]:
        return [(s, h) for s in self._sim.world.services for h in s.hostnames if h.key_vault_id]

    def _proven(self, service: sandbox.Service, hostname: sandbox.Hostname) -> bool:
        latest = self.latest.get((service.id.lower(), hostname.host_name))
        if latest is None or latest.verdict.status is not Status.IN_SYNC or hostname.followed is None:
            return False
        return _everywhere(self._sim, service, hostname, hostname.followed.newest.thumbprint)

    def _resting(self, service: sandbox.Service, hostname: sandbox.Hostname) -> timedelta:
        latest = self.latest.get((service.id.lower(), hostname.host_name))
        blocked = latest is not None and latest.verdict.status is Status.BLOCKED
        if self._proven(service, hostname) or (blocked and self._hopeless(service, hostname)):
            return A_LONG_TIME
        if not self._hopeless(service, hostname):
            return TICK
        row = latest.verdict.evidence.row if latest else None
        wait = row.next_at - self._sim.clock.now() if row and row.next_at else AN_HOUR
        if wait <= timedelta():
            return AN_HOUR
        # An attempt changes what is said.
        return max(TICK, min(wait, AN_HOUR))

    def _hopeless(self, service: sandbox.Service, hostname: sandbox.Hostname) -> bool:
        """It cannot be synced, and that is what was said."""
        latest = self.latest.get((service.id.lower(), hostname.host_name))
        now = self._sim.clock.now()
        cannot = (
            hostname.followed is None
            or not service.identity_can_read_vault
            or not service.offers_sync
            or any(h.followed and not _usable(h.followed, now) for h in service.hostnames)
            or any(self._held(service.id.lower(), h.host_name) for h in service.hostnames)
        )
        told = latest and (latest.verdict.status is Status.BLOCKED or self._alerting(service, hostname))
        return bool(cannot and told)

    def _held(self, gateway_key: str, name: str) -> bool:
        """Whether it was said that a person has to decide, or to give what stands in front another root."""
        latest = self.latest.get((gateway_key, name))
        return latest is not None and latest.verdict.reason in WAITS_FOR_A_PERSON

    def _alerting(self, service: sandbox.Service, hostname: sandbox.Hostname) -> bool:
        latest = self.latest.get((service.id.lower(), hostname.host_name))
        if latest is None:
            return False
        verdict = latest.verdict
        return verdict.status in {Status.BLOCKED, Status.UNKNOWN} or verdict.drift

    def _under_way(self, service: sandbox.Service, hostname: sandbox.Hostname) -> bool:
        """An update is running, or has ended well and only units lag."""
        now = self._sim.clock.now()
        if service.updating_until or any(u.reads_vault and now < u.ends for u in service.updates):
            return True
        followed = hostname.followed
        late = now + timedelta(minutes=40)
        return followed is not None and all(
            service.served(hostname.host_name, region, unit, late).thumbprint == followed.newest.thumbprint
            for region, count in service.regions.items()
            for unit in range(count)
        )

    def _young(self, hostname: sandbox.Hostname) -> bool:
        newest = hostname.followed.newest if hostname.followed else None
        age = self._sim.clock.now() - max(newest.created, newest.updated) if newest else A_DAY
        return age <= DRIFT_AFTER + TICK

    def _violation(self, what: str, *where: object) -> None:
        self._sim.tell(f"VIOLATION {what} {' '.join(map(str, where))}")
        self.violations.append(f"{what} {' '.join(map(str, where))}")
        self.figures.other_violations += 1


@dataclass(slots=True)
class _View:
    """One hostname as the world showed it to one pass that went by the clock `now`."""

    service: sandbox.Service
    hostname: sandbox.Hostname
    seen: Seen
    now: datetime
    asked: datetime | None
    skew: timedelta
    key: str = field(init=False)
    shown: Mapping[str, Shown] = field(init=False)
    connections: list[str | None] = field(init=False)
    read: Read | None = None
    once: bool = False
    was_distrusted: bool = False

    def __post_init__(self) -> None:
        self.key = self.service.id.lower()
        self.shown = self.seen.shown.get((self.key, self.hostname.host_name), {})
        self.connections = [c for shown in self.shown.values() for c in shown.connections]
        if it := self.hostname.certificate:
            self.read = self.seen.read.get(CertificateId(it.vault.host, it.name))

    @property
    def newest(self) -> str | None:
        """The newest thumbprint, where it was read and is enabled."""
        read = self.read
        return read.version.thumbprint if read and read.readable and not read.answer else None

    @property
    def age(self) -> timedelta:
        """How long the newest version could have been read."""
        assert self.read
        return self.now - self.read.available

    @property
    def older_shown(self) -> bool:
        """Whether a connection showed a version that the newest has replaced."""
        assert self.read
        versions = self.read.version.certificate.versions
        older = {version.thumbprint for version in versions[: versions.index(self.read.version)]}
        return bool((older - {self.newest}) & set(self.connections))

    @property
    def old_leaves(self) -> list[LeanLeaf]:
        """What connections showed that is not the newest."""
        assert self.read
        leaves = (version.leaf for version in self.read.version.certificate.versions)
        shown = set(self.connections) - {self.newest}
        return [leaf for leaf in leaves if isinstance(leaf, LeanLeaf) and leaf.thumbprint in shown]

    @property
    def from_trusted_to_itself(self) -> bool:
        """Whether the newest version is signed by itself, and an old one that was shown is not."""
        return self.new_leaf.root == ITSELF and any(leaf.root == PUBLIC for leaf in self.old_leaves)

    @property
    def new_leaf(self) -> LeanLeaf:
        """The leaf of the newest version."""
        assert self.read
        assert isinstance(self.read.version.leaf, LeanLeaf)
        return self.read.version.leaf

    @property
    def refused(self) -> bool:
        """Whether something in front will refuse the newest version, as far as public parts can tell.

        Where the root that it trusts has issued the old leaf itself, another issuer counts as another root.
        """
        new, old = self.new_leaf, {leaf.issuer for leaf in self.old_leaves}
        return any(
            roots and old and (new.root == ITSELF or (new.issuer not in subjects and subjects & old))
            for roots in self.roots_in_front
            for subjects in ({subject_of(root) for root in roots},)
        )

    @property
    def listed(self) -> bool:
        """Whether the versions were listed, if that was asked for: which leaves are old is known then."""
        it = self.hostname.certificate
        return it is None or CertificateId(it.vault.host, it.name) not in self.seen.versions_unlisted

    @property
    def roots_in_front(self) -> list[tuple[str, ...]]:
        """What each front that was listed trusts for this hostname."""
        backends = (backend for listed in self.seen.fronts.values() for backend in listed)
        mine = (self.service, self.hostname.host_name)
        return [backend.roots for backend in backends if (backend.service, backend.hostname) == mine]

    @property
    def healths(self) -> list[bool | None]:
        """Whether each front that was asked distrusts what it was shown; None where it gave no answer."""
        target = self.service.builtin_host
        asked = self.seen.health.items()
        return [said for (_, *to), said in asked if to == [target, self.hostname.host_name]]

    @property
    def partly_rolled_out(self) -> bool:
        """Whether all connections succeeded and the units of some region differ: some have the newest."""
        mixed = any(len(set(shown.units)) > 1 for shown in self.shown.values())
        return mixed and None not in self.connections and self.newest is not None

    @property
    def configured_differs(self) -> bool:
        """Whether ARM showed something else than the newest."""
        return self.seen.configured[self.key, self.hostname.host_name] != self.newest


def _in_sync(view: _View, verdict: Verdict | None = None) -> str | None:
    if view.hostname.followed is None or view.newest is None or view.read is None:
        return "nothing readable to be in sync with"
    version, regions, main = view.read.version, view.service.regions, view.service.location
    if not version.not_before <= view.now < version.not_after:
        return "the newest version is out of its dates"
    if verdict and (why := _front_in_sync(view, verdict)):
        return why
    everywhere = {r: n for r, n in regions.items() if r not in view.service.gateway_disabled}
    needed = everywhere if view.hostname.type == "Proxy" else {main: regions[main]}
    gaps = (_gap(view, region, max(1, units)) for region, units in needed.items())
    return next(filter(None, gaps), None) if needed else "no region to be seen"


def _front_in_sync(view: _View, verdict: Verdict) -> str | None:
    """What stands in front says what it thinks of what is served: told if it is asked, and remembered."""
    said = view.healths
    if verdict.reason is not Reason.FRONT_DISTRUSTS:
        return "what stands in front does not believe it" if True in said else None
    return (
        None
        if True in said or (False not in said and view.was_distrusted) or None in said
        else ("nothing in front has said so")
    )


def _gap(view: _View, region: str, units: int) -> str | None:
    """What is missing to a proof for one region."""
    shown = view.shown.get(region)
    if shown is None:
        return f"{region} was not looked at"
    if set(shown.connections) != {view.newest}:
        return f"{region} showed something else, or nothing"
    enough = view.once or (1 - 1 / units) ** len(shown.connections) <= CHANCE_OF_MISSING
    return None if enough else f"{len(shown.connections)} connections are too few for {units} units"


def _stale(view: _View, verdict: Verdict) -> str | None:
    if view.hostname.followed is None or view.newest is None:
        return "nothing readable to be stale against"
    if abs(view.age - DRIFT_AFTER) > A_SECOND and verdict.drift is not (view.age > DRIFT_AFTER):
        return f"{'drift' if verdict.drift else 'no drift'} at the age of {view.age}"
    if view.refused and view.listed:
        return "what stands in front would refuse the newest version"
    if view.from_trusted_to_itself and view.listed:
        return "the newest version is its own issuer, and the one served is trusted"
    return None if view.older_shown or view.configured_differs else "nothing old was shown"


def _blocked(view: _View, verdict: Verdict) -> str | None:
    read, reason = view.read, verdict.reason
    if reason is Reason.PINNED_VERSION:
        return None if view.hostname.pinned_version else "not pinned"
    if reason is Reason.SERVED_BY_OTHER:
        followed = view.hostname.followed
        own = {v.thumbprint for v in followed.versions} if followed else set()
        return None if any(c and c not in own for c in view.connections) else "only own leaves were shown"
    if reason in PLAIN_BLOCKS:
        return None
    if reason is Reason.GATEWAY_NOT_POLLING:
        return _not_polling(view)
    return _blocked_by_version(view, read, reason) if read else "Key Vault was not asked"


def _blocked_by_version(view: _View, read: Read, reason: Reason) -> str | None:
    """A block that the newest version is the ground of, as far as it could be read."""
    grounds = {
        Reason.CERTIFICATE_DELETED: read.deleted,
        Reason.CERTIFICATE_NOT_FOUND: read.answer is Trouble.VAULT_MISSING,
        Reason.VERSION_DISABLED: not read.enabled,
        Reason.VERSION_EXPIRED: read.version.not_after <= view.now,
        Reason.VERSION_NOT_YET_VALID: read.version.not_before > view.now,
        Reason.NAME_NOT_COVERED: view.hostname.host_name not in read.version.leaf.names,
        Reason.ISSUER_CHANGED: view.from_trusted_to_itself,
        Reason.FRONT_DISTRUSTS: view.refused,
        Reason.GATEWAY_NOT_LOOKING: isinstance(view.service, Listening)
        and view.older_shown
        and view.age > LOOKS_WITHIN,
        Reason.GATEWAY_CANNOT_READ_VAULT: view.key in view.seen.cannot_read_vault,
    }
    return None if grounds.get(reason) else "no ground for it"


def _not_polling(view: _View) -> str | None:
    """A gateway that was given time to fetch what its entity has, and shows something older."""
    service, read = view.service, view.read
    if not isinstance(service, Hosted) or read is None or not view.older_shown or view.configured_differs:
        return "nothing that it could have fetched"
    had = service.has_had(read.version, view.now + view.skew - FETCHED_WITHIN)
    return None if had else "its entity has it too shortly"


def _unknown(view: _View, verdict: Verdict) -> str | None:
    read, reason = view.read, verdict.reason
    certificate = view.hostname.certificate
    unlisted = certificate and CertificateId(certificate.vault.host, certificate.name)
    grounds = {
        Reason.OUT_OF_SCOPE: read is None,
        Reason.VAULT_UNREADABLE: (view.seen.reads_late if read is None else read.answer is not None)
        or unlisted in view.seen.versions_unlisted,
        Reason.PROBE_FAILED: None in view.connections,
        Reason.NOT_OBSERVABLE: not view.shown,
    }
    return None if grounds.get(reason) else "no ground for it"


def _syncing(view: _View, verdict: Verdict) -> str | None:
    grounds = {
        Reason.SERVICE_UPDATING: view.seen.busy[view.key],
        Reason.PARTLY_SERVED: view.newest in view.connections and view.older_shown,
        Reason.SYNC_IN_FLIGHT: (view.asked and view.now - view.asked <= LONGEST_FLIGHT + view.skew)
        or (isinstance(view.service, Hosted) and view.older_shown and not view.configured_differs),
    }
    return None if grounds.get(verdict.reason) else "no ground for it"


def _unmanaged(view: _View, _: Verdict) -> str | None:
    return "it is from Key Vault" if view.hostname.key_vault_id else None


_CHECKS: dict[Status, Callable[[_View, Verdict], str | None]] = {
    Status.IN_SYNC: _in_sync,
    Status.STALE: _stale,
    Status.BLOCKED: _blocked,
    Status.UNKNOWN: _unknown,
    Status.SYNCING: _syncing,
    Status.UNMANAGED: _unmanaged,
}


def _usable(certificate: sandbox.Certificate, now: datetime) -> bool:
    newest = certificate.newest
    return newest.enabled and not certificate.deleted and newest.not_before <= now < newest.not_after


def _everywhere(
    sim: Simulation, service: sandbox.Service, hostname: sandbox.Hostname, thumbprint: str
) -> bool:
    now = sim.clock.now()
    return all(
        service.served(hostname.host_name, region, unit, now).thumbprint == thumbprint
        for region, count in service.regions.items()
        for unit in range(count)
        if region not in service.gateway_disabled
    )
