"""The JSON of /api/status as the page shows it: judged as a whole, sorted, searched, grouped. Pure."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from itertools import groupby
from typing import Any, Self
from urllib.parse import urlencode

from rotation.model import Choice, Reason, Status, clean
from rotation.web.words import count, moment, span

Json = Mapping[str, Any]

STALE_AFTER = timedelta(minutes=15)
"""A report older than three runs of the timer tells of the past."""

PAGE_SIZE = 100
ATTENTION = "attention"
DEFAULT_EXPIRES_SOON = 30


class Tone(StrEnum):
    """How something looks: colour and shape go together, and words always stand beside them."""

    GOOD = "good"
    BUSY = "busy"
    WARN = "warn"
    BAD = "bad"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Word:
    """A status for people."""

    label: str
    tone: Tone


WORDS: Mapping[Status, Word] = {
    Status.BLOCKED: Word("Blocked", Tone.BAD),
    Status.STALE: Word("Stale", Tone.WARN),
    Status.UNKNOWN: Word("Unknown", Tone.WARN),
    Status.SYNCING: Word("Syncing", Tone.BUSY),
    Status.IN_SYNC: Word("In sync", Tone.GOOD),
    Status.UNMANAGED: Word("Unmanaged", Tone.NONE),
}
"""In the order in which people need them: what waits for a person stands on top."""

_URGENCY = {status: rank for rank, status in enumerate(WORDS)}


@dataclass(frozen=True, slots=True)
class Query:
    """What the URL asks for. `code` is the function key, which every link of the page has to carry on."""

    code: str = ""
    search: str = ""
    status: str = ""
    page: int = 1

    @classmethod
    def from_params(cls, params: Mapping[str, str]) -> Self:
        """Read the parameters of a request; nonsense is as good as nothing."""
        given = {name.casefold(): value for name, value in params.items()}
        status, page = given.get("status", ""), given.get("page", "")
        return cls(
            code=clean(given.get("code", "")),
            search=clean(given.get("q", "").strip(), 200),
            status=status if status in {ATTENTION, *Status} else "",
            page=int(page) if page.isascii() and page.isdecimal() and len(page) < 5 and int(page) else 1,
        )

    def link(self, *, status: str | None = None, search: str | None = None, page: int = 1) -> str:
        """The same view with another filter, as a relative URL."""
        wanted = {
            "q": self.search if search is None else search,
            "status": self.status if status is None else status,
            "page": str(page) if page > 1 else "",
            "code": self.code,
        }
        return f"?{urlencode({name: value for name, value in wanted.items() if value})}"


@dataclass(frozen=True, slots=True)
class Region:
    """What the connections to one region met; `met` of `total` showed the expected certificate."""

    name: str
    met: int
    failed: int
    total: int

    @property
    def tone(self) -> Tone:
        """All, some or none."""
        if self.met == self.total:
            return Tone.GOOD
        return Tone.BUSY if self.met else Tone.WARN


@dataclass(frozen=True, slots=True)
class Hostname:
    """One verdict, made ready to be shown."""

    verdict: Json
    status: Status
    now: datetime

    @property
    def id(self) -> str:
        """The element's id, the same as long as the hostname is."""
        return _element_id(
            self.verdict["gateway_id"], self.verdict["hostname_type"], self.verdict["hostname"]
        )

    @property
    def word(self) -> Word:
        """Its status for people; drift is said where it is, and what is served in vain."""
        if self.distrusted:
            return Word("Distrusted", Tone.BAD)
        return Word("Drift", Tone.BAD) if self.drift else WORDS[self.status]

    @property
    def drift(self) -> bool:
        """Whether it has been stale for longer than the deadline."""
        return bool(self.verdict.get("drift"))

    @property
    def distrusted(self) -> bool:
        """Whether it serves what it should, and an Application Gateway in front answers 502 because of it."""
        return self.status is Status.IN_SYNC and self.verdict["reason"] == Reason.FRONT_DISTRUSTS

    @property
    def urgency(self) -> tuple[int, bool, str]:
        """Sorts what waits for a person to the top, drift before what is only stale."""
        status = Status.BLOCKED if self.distrusted else self.status
        return _URGENCY[status], not self.drift, self.verdict["hostname"]

    @property
    def needs_attention(self) -> bool:
        """Whether somebody should look: blocked, stale, unknown, distrusted, or about to end."""
        ends = self.verdict["reason"] == Reason.EXPIRES_SOON
        return ends or self.distrusted or self.status in {Status.BLOCKED, Status.STALE, Status.UNKNOWN}

    @property
    def message(self) -> str:
        """The verdict's sentence without the names that stand beside it."""
        told = str(self.verdict["message"])
        told = told.removeprefix(f"{self.verdict['gateway']} {self.verdict['hostname']}: ")
        first, _, _ = told.partition(" ")
        return told[:1].upper() + told[1:] if first.islower() else told

    @property
    def explained(self) -> bool:
        """Whether the sentence is to be read at once, and not only in the proof record."""
        return self.needs_attention or self.status is Status.SYNCING

    @property
    def served(self) -> Sequence[Json]:
        """What was seen, one entry for each endpoint and certificate or fault."""
        seen: Sequence[Json] = self.verdict["served"]
        return seen

    @property
    def thumbprints(self) -> tuple[str, ...]:
        """The distinct thumbprints that are served."""
        return tuple(dict.fromkeys(seen["thumbprint"] for seen in self.served if "thumbprint" in seen))

    @property
    def others(self) -> tuple[str, ...]:
        """The thumbprints that are served and not expected."""
        return tuple(value for value in self.thumbprints if value != self.verdict["expected"])

    @property
    def agrees(self) -> bool:
        """Whether nothing but the expected certificate is served."""
        return self.thumbprints == (self.verdict["expected"],)

    @property
    def regions(self) -> tuple[Region, ...]:
        """The connections, counted by region; without an expected certificate any that is served counts."""
        expected = self.verdict["expected"]
        met: Counter[str] = Counter()
        failed: Counter[str] = Counter()
        total: Counter[str] = Counter()
        for seen in self.served:
            name, number = seen["region"], seen["connections"]
            total[name] += number
            failed[name] += number if "fault" in seen else 0
            met[name] += (
                number
                if "thumbprint" in seen and seen["thumbprint"] == (expected or seen["thumbprint"])
                else 0
            )
        return tuple(Region(name, met[name], failed[name], total[name]) for name in total)

    @property
    def not_after(self) -> datetime | None:
        """When the first of the served certificates ends; that of the expected one where none was seen."""
        ends = [moment(seen["not_after"]) for seen in self.served if seen.get("not_after")]
        return min(filter(None, ends), default=moment(self.verdict["expected_not_after"]))

    @property
    def days_left(self) -> int | None:
        """Whole days until then; negative where it has passed."""
        return (self.not_after - self.now).days if self.not_after else None

    @property
    def certificate(self) -> str:
        """The name of the Key Vault certificate."""
        return object_name(self.verdict["key_vault_id"]) if self.verdict["key_vault_id"] else ""

    def matches(self, words: Iterable[str]) -> bool:
        """Whether each word occurs in something that tells the hostname from others."""
        fields = ("hostname", "hostname_type", "gateway", "gateway_id", "reason", "key_vault_id")
        known = [str(self.verdict[name]) for name in fields] + [self.verdict["expected"] or ""]
        known += [self.word.label, *self.thumbprints, *(region.name for region in self.regions)]
        everything = "\n".join(known).casefold()
        return all(word.casefold() in everything for word in words)


@dataclass(frozen=True, slots=True)
class Step:
    """One of t0 to t4 of a rotation; `at` where all of its gateways have reached it."""

    label: str
    at: datetime | None
    reached: int
    since_start: timedelta | None
    state: str


@dataclass(frozen=True, slots=True)
class Rotation:
    """A new version on its way, to one gateway or to many at once."""

    certificate: str
    version: str
    members: tuple[Json, ...]
    met: int
    total: int

    STEPS = (
        ("Version created", "created"),
        ("Noticed", "noticed"),
        ("Sync accepted", "synced"),
        ("First served", "first_served"),
        ("Proven everywhere", "proven"),
    )

    @property
    def id(self) -> str:
        """The element's id."""
        return _element_id(self.certificate, self.version)

    @property
    def name(self) -> str:
        """The name of the certificate."""
        return object_name(self.certificate)

    @property
    def gateways(self) -> str:
        """Where to, in words."""
        return self.members[0]["gateway"] if len(self.members) == 1 else count(len(self.members), "gateway")

    @property
    def created(self) -> datetime | None:
        """t0."""
        return moment(self.members[0]["created"])

    @property
    def steps(self) -> tuple[Step, ...]:
        """t0 to t4. A step that was overtaken by a later one is skipped: API Management synced by itself."""
        reached = [[moment(m[field]) for m in self.members if m[field]] for _, field in self.STEPS]
        done = [len(times) == len(self.members) for times in reached]
        furthest = max((n for n, is_done in enumerate(done) if is_done), default=-1)
        steps = []
        for number, (label, _) in enumerate(self.STEPS):
            times = [time for time in reached[number] if time]
            at = max(times) if done[number] and times else None
            behind = number < furthest
            state = "done" if at else "skipped" if behind else "next" if number == furthest + 1 else "ahead"
            since = at - self.created if at and number and self.created else None
            steps.append(Step(label, at, len(times), since, state))
        return tuple(steps)


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway with those of its hostnames that are shown."""

    hostnames: tuple[Hostname, ...]
    total: int
    decision: Json | None
    last_rotation: Json | None

    @property
    def verdict(self) -> Json:
        """A verdict that names it."""
        return self.hostnames[0].verdict

    @property
    def id(self) -> str:
        """The element's id."""
        return _element_id(self.verdict["gateway_id"])

    @property
    def held(self) -> str:
        """What is done about it or holds it; nothing where there is nothing to do."""
        if not self.decision or self.decision["choice"] == Choice.NOTHING_STALE:
            return ""
        return str(self.decision["message"])

    @property
    def kind(self) -> str:
        """What it is, in words: the kind's own name, taken apart."""
        return re.sub("(?<=[a-z])(?=[A-Z])", " ", str(self.verdict["gateway_kind"])).replace("Api ", "API ")

    @property
    def group(self) -> str:
        """The resource group, which tells gateways of the same name apart."""
        parts = str(self.verdict["gateway_id"]).split("/")
        return parts[4] if len(parts) > 4 else ""


@dataclass(frozen=True, slots=True)
class Headline:
    """Whether all is well, in words."""

    tone: Tone
    title: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Everything that the page tells."""

    settings: Json
    report: Json
    rotations: Sequence[Json]
    paused: Json | None
    hostnames: tuple[Hostname, ...]
    now: datetime

    @classmethod
    def from_json(cls, view: Json, now: datetime) -> Self:
        """Read what /api/status answers. A report from the future (Azure's clock decides) is from now."""
        report: Json = view.get("report") or {}
        now = max(now, moment(report.get("as_of")) or now)
        verdicts = [Hostname(v, Status(v["status"]), now) for v in report.get("verdicts", ())]
        return cls(
            settings=view.get("settings") or {},
            report=report,
            rotations=view.get("rotations") or (),
            paused=view.get("paused"),
            hostnames=tuple(sorted(verdicts, key=lambda hostname: hostname.urgency)),
            now=now,
        )

    @property
    def as_of(self) -> datetime | None:
        """When the app last looked at everything."""
        return moment(self.report.get("as_of"))

    @property
    def stale(self) -> bool:
        """Whether that is too long ago to be believed."""
        return self.as_of is not None and self.now - self.as_of > STALE_AFTER

    @property
    def problems(self) -> Sequence[str]:
        """What the last look could not see."""
        told: Sequence[str] = self.report.get("problems", ())
        return told

    @property
    def authorities(self) -> list[Json]:
        """What self-hosted gateways judge their clients by, the first to end on top."""
        return sorted(self.report.get("authorities", ()), key=lambda each: str(each["not_after"] or ""))

    @property
    def observes(self) -> bool:
        """Whether the app only looks."""
        return self.settings.get("mode") == "observe"

    @property
    def expires_soon(self) -> int:
        """Within how many days an end is near."""
        return int(self.settings.get("expires_soon_days", DEFAULT_EXPIRES_SOON))

    @property
    def counts(self) -> Counter[str]:
        """Hostnames by status, and those that need attention."""
        counted = Counter[str](hostname.status for hostname in self.hostnames)
        counted[ATTENTION] = sum(hostname.needs_attention for hostname in self.hostnames)
        return counted

    @property
    def headline(self) -> Headline:
        """The first thing to be read, whatever else is wrong."""
        if not self.report:
            return Headline(
                Tone.NONE,
                "Nothing has been looked at yet.",
                "The timer looks for the first time within five minutes of the start. If this stays, look at"
                " the function check_drift in the portal: it has to be enabled and to run.",
            )
        judged = self._judged()
        if self.stale and self.as_of:
            title = f"The last look is {span(self.now - self.as_of)} old."
            detail = (
                f"What it saw then: {judged.title} Check that the function check_drift runs; until it does,"
                " nothing on this page is news."
            )
            return Headline(Tone.BAD if judged.tone is Tone.BAD else Tone.WARN, title, detail)
        return judged

    def _judged(self) -> Headline:
        if not self.hostnames:
            return Headline(
                Tone.WARN if self.problems else Tone.NONE,
                "No gateway is in scope.",
                "Check ROTATION_SUBSCRIPTIONS, and that the app's identity has the role Reader there.",
            )
        counts, drifting = self.counts, sum(hostname.drift for hostname in self.hostnames)
        ends_soon = sum(hostname.verdict["reason"] == Reason.EXPIRES_SOON for hostname in self.hostnames)
        distrusted = sum(hostname.distrusted for hostname in self.hostnames)
        wanting = (
            (Tone.BAD, counts[Status.BLOCKED], "is blocked", "are blocked"),
            (
                Tone.BAD,
                distrusted,
                "is not believed by the gateway in front",
                "are not believed by the gateway in front",
            ),
            (Tone.BAD, drifting, "is drifting", "are drifting"),
            (Tone.WARN, counts[Status.UNKNOWN], "could not be observed", "could not be observed"),
            (Tone.WARN, counts[Status.STALE] - drifting, "waits for a sync", "wait for a sync"),
            (
                Tone.WARN,
                ends_soon,
                "serves a last version that ends soon",
                "serve a last version that ends soon",
            ),
            (
                Tone.BUSY,
                counts[Status.SYNCING],
                "is on its way to a new certificate",
                "are on their way to a new certificate",
            ),
        )
        said = [
            (tone, f"{number:,} {one if number == 1 else many}")
            for tone, number, one, many in wanting
            if number
        ]
        managed = len(self.hostnames) - counts[Status.UNMANAGED]
        if not said:
            return self._well(managed, counts[Status.IN_SYNC])
        tone, first = said[0]
        number, _, does = first.partition(" ")
        rest = [what for _, what in said[1:]]
        if well := counts[Status.IN_SYNC] - distrusted:
            rest.append(f"{well:,} {'is' if well == 1 else 'are'} in sync")
        return Headline(tone, f"{number} of {count(len(self.hostnames), 'hostname')} {does}.", _listed(rest))

    def _well(self, managed: int, in_sync: int) -> Headline:
        if self.problems:
            return Headline(Tone.WARN, "What could be seen is well, but not everything could be seen.")
        if not managed:
            return Headline(Tone.NONE, "No hostname takes its certificate from Key Vault.")
        everyone = "The hostname serves" if managed == 1 else f"All {in_sync:,} hostnames serve"
        return Headline(Tone.GOOD, f"All is well. {everyone} the newest certificate.")

    def found(self, query: Query) -> tuple[Hostname, ...]:
        """The hostnames that the query asks for, by gateway; the gateway with the most urgent one first."""
        words = query.search.split()
        chosen = [h for h in self.hostnames if _has_status(h, query.status) and h.matches(words)]
        first: dict[str, int] = {}
        for rank, hostname in enumerate(chosen):
            first.setdefault(_gateway_key(hostname), rank)
        order = {
            key: (chosen[rank].urgency[:2], str(chosen[rank].verdict["gateway"]), key)
            for key, rank in first.items()
        }
        return tuple(sorted(chosen, key=lambda h: (order[_gateway_key(h)], h.urgency)))

    def gateways(self, shown: Sequence[Hostname]) -> list[Gateway]:
        """Hostnames in their order, put together by gateway."""
        totals = Counter(map(_gateway_key, self.hostnames))
        decisions = {str(d["gateway_id"]).casefold(): d for d in self.report.get("decisions", ())}
        proven = {str(r["gateway_id"]).casefold(): r for r in reversed(self.proven)}
        return [
            Gateway(tuple(hostnames), totals[key], decisions.get(key), proven.get(key))
            for key, hostnames in groupby(shown, _gateway_key)
        ]

    @property
    def proven(self) -> list[Json]:
        """The rotations that ended, the newest proof first."""
        return sorted(
            (r for r in self.rotations if r["proven"]), key=lambda r: str(r["proven"]), reverse=True
        )

    @property
    def running(self) -> list[Rotation]:
        """The rotations under way, those of one version together."""
        together: dict[tuple[str, str], list[Json]] = {}
        for rotation in self.rotations:
            together.setdefault((rotation["certificate"], rotation["version"]), []).append(rotation)
        return [
            Rotation(certificate, version, tuple(members), *self._met(version, members))
            for (certificate, version), members in together.items()
            if not all(member["proven"] for member in members)
        ]

    def _met(self, version: str, members: Iterable[Json]) -> tuple[int, int]:
        """How many connections of these gateways met the version, and of how many."""
        keys = {str(member["gateway_id"]).casefold() for member in members}
        regions = [
            region
            for h in self.hostnames
            if h.verdict["expected_version"] == version and _gateway_key(h) in keys
            for region in h.regions
        ]
        return sum(region.met for region in regions), sum(region.total for region in regions)


def object_name(url: str) -> str:
    """The name in a Key Vault URL: https://VAULT/secrets/NAME/VERSION."""
    parts = url.split("/")
    return parts[4] if len(parts) > 4 else url


def _listed(parts: Sequence[str]) -> str:
    """Parts as the end of a sentence: 1 is drifting, 2 wait for a sync and 7 in sync."""
    if not parts:
        return ""
    return f"{' and '.join(filter(None, (', '.join(parts[:-1]), parts[-1])))}."


def _has_status(hostname: Hostname, wanted: str) -> bool:
    return hostname.needs_attention if wanted == ATTENTION else wanted in {"", hostname.status}


def _gateway_key(hostname: Hostname) -> str:
    return str(hostname.verdict["gateway_id"]).casefold()


def _element_id(*names: str) -> str:
    return f"e{sha256('/'.join(names).casefold().encode()).hexdigest()[:12]}"
