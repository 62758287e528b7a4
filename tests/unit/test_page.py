import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from html.parser import HTMLParser
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from rotation.web import page, words
from rotation.web.calendar import DAYS, draw
from rotation.web.fleet import PAGE_SIZE, Fleet, Query, Tone
from tests.browser import scenes
from tests.browser.views import (
    NOW,
    Json,
    decision,
    failed,
    gateway_id,
    leaf,
    rotation,
    seen,
    verdict,
    view,
)

VOID = {"meta", "link", "img", "input", "br"}
BLOCKS = {"p", "td", "th", "dt", "dd", "li", "h4", "div"}
MINUTE = timedelta(minutes=1)


@dataclass
class Element:
    """An element as a parser sees it."""

    name: str
    attributes: dict[str, str]
    text: str = ""
    inside: list[str] = field(default_factory=list)


class Reader(HTMLParser):
    """Reads a page into its elements, each with all text inside it; unbalanced tags are an error."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(html)
        assert [] == self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it."""
        made = Element(tag, {name: value or "" for name, value in attrs}, inside=[e.name for e in self._open])
        self.elements.append(made)
        if tag in BLOCKS:
            self.handle_data(" ")
        if tag not in VOID:
            self._open.append(made)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it; it holds nothing."""
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        """Close the last one, which has to be this."""
        assert tag == self._open.pop().name

    def handle_data(self, data: str) -> None:
        """Text belongs to everything around it."""
        for element in self._open:
            element.text += data

    def all(self, tag: str, **wanted: str) -> list[Element]:
        """The elements of a name with these attributes; `class_` is one of the classes."""
        needed = {key.rstrip("_"): value for key, value in wanted.items()}
        return [e for e in self.elements if e.name == tag and _has(e, needed)]

    def texts(self, tag: str, **wanted: str) -> list[str]:
        """Their texts, white space made single."""
        return [" ".join(e.text.split()) for e in self.all(tag, **wanted)]


def _has(element: Element, needed: dict[str, str]) -> bool:
    return all(
        value in element.attributes.get(key, "").split()
        if key == "class"
        else element.attributes.get(key) == value
        for key, value in needed.items()
    )


def read(data: Json, **params: str) -> Reader:
    """The page of a view."""
    return Reader(page.render(data, NOW, params))


def headline(data: Json) -> str:
    """What the page says first."""
    return read(data).texts("h1")[0]


def stale(**changes: object) -> Json:
    """A verdict about an older version."""
    usual: Json = {"status": "STALE", "reason": "ServesOldVersion", "served": [seen(leaf("old"))], **changes}
    return verdict("b.contoso.com", **usual)


HEADLINES: dict[str, tuple[Json, Tone, str]] = {
    "all in sync": (
        view(verdict(), verdict("b.contoso.com")),
        Tone.GOOD,
        "All is well. All 2 hostnames serve the newest certificate.",
    ),
    "one in sync": (view(verdict()), Tone.GOOD, "All is well. The hostname serves the newest certificate."),
    "one blocked": (
        view(verdict(), verdict("b.contoso.com", "BLOCKED", "PinnedVersion")),
        Tone.BAD,
        "1 of 2 hostnames is blocked.",
    ),
    "drift is worse than unknown": (
        view(stale(drift=True), verdict(status="UNKNOWN", reason="ProbeFailed", served=[failed()])),
        Tone.BAD,
        "1 of 2 hostnames is drifting.",
    ),
    "unknown is never well": (
        view(verdict(), verdict("b.contoso.com", "UNKNOWN", "ProbeFailed", served=[failed()])),
        Tone.WARN,
        "1 of 2 hostnames could not be observed.",
    ),
    "stale": (view(verdict(), stale()), Tone.WARN, "1 of 2 hostnames waits for a sync."),
    "two stale": (view(stale(), stale()), Tone.WARN, "2 of 2 hostnames wait for a sync."),
    "ends soon": (
        view(verdict(reason="ExpiresSoon")),
        Tone.WARN,
        "1 of 1 hostname serves a last version that ends soon.",
    ),
    "an uploaded one ends soon": (
        view(verdict(status="UNMANAGED", reason="ExpiresSoon", certificate=None)),
        Tone.WARN,
        "1 of 1 hostname serves a last version that ends soon.",
    ),
    "served, and the gateway in front answers 502": (
        view(verdict(reason="FrontDistrusts"), verdict("b.contoso.com")),
        Tone.BAD,
        "1 of 2 hostnames is not believed by the gateway in front.",
    ),
    "on the way": (
        view(verdict(status="SYNCING", reason="SyncInFlight")),
        Tone.BUSY,
        "1 of 1 hostname is on its way to a new certificate.",
    ),
    "in sync, but something is hidden": (
        view(verdict(), problems=["A subscription could not be listed."]),
        Tone.WARN,
        "What could be seen is well, but not everything could be seen.",
    ),
    "nothing from Key Vault": (
        view(verdict(status="UNMANAGED", reason="NotFromKeyVault", certificate=None)),
        Tone.NONE,
        "No hostname takes its certificate from Key Vault.",
    ),
    "nothing in scope": (view(), Tone.NONE, "No gateway is in scope."),
    "nothing in scope, and problems": (view(problems=["403"]), Tone.WARN, "No gateway is in scope."),
    "never looked": ({"settings": {}, "report": None}, Tone.NONE, "Nothing has been looked at yet."),
    "looked long ago": (
        view(verdict(), as_of=NOW - 43 * MINUTE),
        Tone.WARN,
        "The last look is 43 min old.",
    ),
    "looked long ago, and it was bad": (
        view(verdict(status="BLOCKED", reason="PinnedVersion"), as_of=NOW - 43 * MINUTE),
        Tone.BAD,
        "The last look is 43 min old.",
    ),
}


@pytest.mark.parametrize(("data", "tone", "said"), HEADLINES.values(), ids=HEADLINES)
def test_the_headline_says_in_words_whether_all_is_well(data: Json, tone: Tone, said: str) -> None:
    """One sentence, its tone, and the same sentence in the window's title."""
    read_page = read(data)

    assert [said] == read_page.texts("h1")
    assert f"{said} · Certificate rotation" == read_page.texts("title")[0]
    assert 1 == len(read_page.all("section", class_=f"tone-{tone}", id="headline"))


def test_the_rest_stands_under_the_headline() -> None:
    """Nothing that is not well is lost because something worse is said first."""
    said = read(scenes.three_in_the_morning(NOW)).texts("section", id="headline")[0]

    assert (
        "1 is drifting, 1 could not be observed, 3 are on their way to a new certificate and 4 are in sync."
        in said
    )


@pytest.mark.parametrize(("minutes", "is_stale"), [(0, False), (15, False), (15.1, True), (-60, False)])
def test_a_report_older_than_fifteen_minutes_is_told_as_the_past(minutes: float, is_stale: bool) -> None:
    """Also that one from the future, by Azure's clock, is from now."""
    said = headline(view(verdict(), as_of=NOW - minutes * MINUTE))

    assert is_stale == said.startswith("The last look is")


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ({}, ["b", "d", "a", "c"]),
        ({"status": "IN_SYNC"}, ["a", "c"]),
        ({"status": "attention"}, ["b", "d"]),
        ({"status": "BLOCKED"}, ["b"]),
        ({"status": "nonsense"}, ["b", "d", "a", "c"]),
        ({"status": "SYNCING"}, []),
        ({"q": "B.CONTOSO"}, ["b"]),
        ({"q": "apim-fabrikam"}, ["d", "c"]),
        ({"q": "apim-fabrikam pinned"}, []),
        ({"q": "north in sync"}, ["c"]),
        ({"q": leaf("old")[:12].lower()}, ["d"]),
        ({"q": "secrets/mine"}, ["c"]),
        ({"q": "drift"}, ["d"]),
        ({"q": "b.contoso", "status": "IN_SYNC"}, []),
        ({"Q": "b.contoso"}, ["b"]),
    ],
)
def test_search_and_filter_choose_and_what_needs_attention_stands_first(
    params: dict[str, str], names: list[str]
) -> None:
    """Gateways by their most urgent hostname, hostnames by urgency."""
    mine, old = [seen(leaf("mine"), "North Europe")], [seen(leaf("old"))]
    data = view(
        verdict("a.contoso.com"),
        verdict("b.contoso.com", "BLOCKED", "PinnedVersion"),
        verdict("c.contoso.com", gateway="apim-fabrikam", certificate="mine", served=mine),
        verdict("d.contoso.com", "STALE", "SyncOverdue", gateway="apim-fabrikam", drift=True, served=old),
    )
    order = ["b", "a", "d", "c"] if params in ({}, {"status": "nonsense"}) else names
    shown = [each[0] for each in read(data, **params).texts("p", class_="name")]

    assert order == shown
    assert sorted(names) == sorted(shown)


def test_links_carry_the_key_and_the_filter_and_nothing_else_carries_the_key() -> None:
    """The key stands in links of the page to itself and in a hidden field; never in text or in its files."""
    key = "se/cret=+&key"
    html = page.render(
        scenes.two_thousand(NOW), NOW, {"code": key, "q": "api", "status": "IN_SYNC", "x": "1"}
    )
    found = Reader(html)
    links = [
        urlsplit(link.attributes["href"]) for link in found.all("a") if link.attributes["href"] != "#fleet"
    ]

    assert {("", "", "")} == {(link.scheme, link.netloc, link.path) for link in links}
    assert {key} == {parse_qs(link.query)["code"][0] for link in links}
    assert {"code": [key], "q": ["api"], "status": ["BLOCKED"]} in [parse_qs(link.query) for link in links]
    assert [key] == [e.attributes["value"] for e in found.all("input", name="code")]
    assert ["IN_SYNC"] == [e.attributes["value"] for e in found.all("input", name="status")]
    assert "se/cret" not in " ".join(e.text for e in found.elements if e.name == "body")
    files = [
        e.attributes.get("src") or e.attributes.get("href", "")
        for e in found.elements
        if e.name in {"script", "link", "img"}
    ]
    assert all(re.fullmatch(r"/api/page/\w+\.\w+\?v=[0-9a-f]{12}", name) for name in files)


def test_a_search_for_what_cannot_be_written_finds_nothing() -> None:
    """Half a character has no place in a link, and an escape none in a page."""
    found = read(scenes.two_thousand(NOW), q="api\ud800\x1b[2J", code="\udfff")

    assert all(element.attributes["value"].isprintable() for element in found.all("input"))
    assert [] == found.texts("p", class_="name")


def test_without_a_key_in_the_url_none_is_in_the_page() -> None:
    """Whoever came with a header or a sign-in needs none."""
    found = read(scenes.monday(NOW))

    assert [] == found.all("input", name="code")
    assert [] == [link for link in found.all("a") if "code" in link.attributes["href"]]


def test_names_that_want_to_be_code_are_shown_as_text() -> None:
    """Every outside string, in text and in attributes; control and bidirectional characters are gone."""
    html = page.render(
        scenes.hostile(NOW), NOW, {"q": "\"'><script>", "code": "\"'><script>", "status": "<b>"}
    )
    found = Reader(html)
    names = {
        "html",
        "head",
        "meta",
        "title",
        "link",
        "script",
        "body",
        "svg",
        "symbol",
        "circle",
        "path",
        "use",
    }
    names |= {
        "rect",
        "line",
        "text",
        "a",
        "header",
        "main",
        "section",
        "div",
        "p",
        "h1",
        "h2",
        "h3",
        "h4",
        "b",
    }
    names |= {"span", "time", "code", "button", "img", "ul", "ol", "li", "dl", "dt", "dd", "br", "details"}
    names |= {"summary", "form", "input", "nav", "noscript", "dialog", "progress", "table", "thead", "tbody"}

    assert [] == [e.name for e in found.elements if e.name not in names]
    assert 1 == len(found.all("script"))
    assert 2 == html.count("<script") + html.count("</script")
    assert [""] == [e.attributes["alt"] for e in found.all("img")]
    assert [] == [a for e in found.elements for a in e.attributes if a.startswith("on") or a == "style"]
    assert [] == re.findall("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069]", html)
    assert "a" * 2500 not in html


def test_the_openssl_command_quotes_what_comes_from_outside() -> None:
    """It is made to be pasted into a shell."""
    observed = seen(leaf("x"), host="$(reboot)", sni="`id`;'\"\n")
    expected = "-connect '$(reboot):443' -servername '`id`;'\"'\"'\" '"

    assert expected in page.openssl_command(observed)
    assert "-connect a.b:443 -servername c.d <" in page.openssl_command(seen("", host="a.b", sni="c.d"))


def test_a_hostname_shows_short_thumbprints_with_the_whole_to_copy() -> None:
    """Expected and served, once where they agree, apart where they do not, each with its whole self."""
    agreeing, differing = verdict(), stale(expected=leaf("new"))
    both = verdict(
        served=[seen(leaf("contoso-com"), connections=3, of=7), seen(leaf("old"), connections=4, of=7)]
    )

    def shown(data: Json) -> tuple[list[str], list[str]]:
        found = read(view(data))
        inside = found.all("span", class_="thumbprint")
        codes = [e.attributes["title"] for e in found.all("code") if "title" in e.attributes]
        copied = [e.attributes["data-copy"] for e in found.all("button", class_="copy")][: len(inside)]
        assert copied == codes
        return found.texts("p", class_="thumbprints"), codes

    assert [leaf("contoso-com")] == shown(agreeing)[1]
    assert [leaf("new"), leaf("old")] == shown(differing)[1]
    assert [leaf("contoso-com"), leaf("old")] == shown(both)[1]
    assert "also served" in shown(both)[0][0]
    assert leaf("old")[:10] + "…" in shown(differing)[0][0]


def test_regions_are_counted_one_by_one() -> None:
    """Connections that met the expected certificate, and those that met nothing."""
    groups = [
        seen(leaf("contoso-com"), connections=3, of=7),
        seen(leaf("old"), connections=4, of=7),
        seen(leaf("contoso-com"), "North Europe", connections=1),
        failed(region="East US", connections=2, of=2),
    ]
    expected = ["West Europe 3 of 7", "North Europe 1 of 1", "East US 0 of 2, 2 failed"]

    assert expected == read(view(verdict(served=groups))).texts("span", class_="region")


def test_the_proof_record_holds_what_an_auditor_asks_for() -> None:
    """Leaf, serial, issuer, end, address, protocol, time and the command to repeat it."""
    record = read(view(verdict())).texts("details", class_="proof")[0]
    one = seen(leaf("contoso-com"))

    for name in (
        "thumbprint",
        "sha256",
        "serial",
        "subject",
        "issuer",
        "address",
        "tls_version",
        "host",
        "sni",
    ):
        assert one[name] in record
    assert "7 of 7 connections, looked at 2026-03-02 09:58:00 UTC" in record
    assert page.openssl_command(one) in record


def test_a_rotation_under_way_is_a_timeline() -> None:
    """t0 to t4: what is done with its time, what is next, what is ahead."""
    data = view(
        verdict(status="SYNCING", reason="SyncInFlight", served=[seen(leaf("old"))]),
        rotations=[rotation(0.1, 0.2)],
    )
    found = read(data)
    steps = [
        (e.attributes["class"], " ".join(e.text.split()))
        for e in found.all("li")
        if "step-" in e.attributes.get("class", "")
    ]

    assert [
        ("step-done", "Version created 09:40:00"),
        ("step-done", "Noticed 09:40:06 +6 s"),
        ("step-done", "Sync accepted 09:40:12 +12 s"),
        ("step-next", "First served waiting"),
        ("step-ahead", "Proven everywhere \N{EN DASH}"),
    ] == steps
    assert ["Rotating contoso-com on apim-contoso"] == found.texts("h2")[:1]
    assert "0 of 7 connections met the new version" in found.texts("p", class_="meter")[0]


def test_a_step_that_api_management_took_by_itself_is_not_waited_for() -> None:
    """First served without any sync of ours."""
    data = view(verdict(status="SYNCING", reason="PartlyServed"), rotations=[rotation(0.1, None, 5)])
    states = [e.attributes["class"] for e in read(data).all("li") if "step-" in e.attributes.get("class", "")]

    assert ["step-done", "step-done", "step-skipped", "step-done", "step-next"] == states


def test_one_version_on_many_gateways_is_one_timeline() -> None:
    """A wildcard certificate is renewed once, however many gateways follow it."""
    verdicts = [verdict(f"h{n}.contoso.com", gateway=f"apim-{n}") for n in range(500)]
    rotations = [rotation(0.1, 0.2, *([9, 15] if n < 480 else []), gateway=f"apim-{n}") for n in range(500)]
    found = read(view(*verdicts, rotations=rotations))

    assert 1 == len(found.all("ol", class_="timeline"))
    assert ["Rotating contoso-com on 500 gateways"] == found.texts("h2")[:1]
    assert ["First served 480 of 500"] == found.texts("li", class_="step-next")


def test_the_last_rotation_of_a_gateway_and_its_time_to_served_stand_beside_its_name() -> None:
    """The newest one that was proven, and the fleet's history below."""
    rotations = [
        rotation(0.1, 0.2, 9, 31, created=NOW - timedelta(days=2)),
        rotation(0.1, 0.2, 9, 47, created=NOW - timedelta(days=60), version="older", caught_by="timer"),
    ]
    found = read(view(verdict(), rotations=rotations))
    told = found.texts("section", class_="gateway")[0]

    assert "served in 31 min, caught by event" in told
    assert (
        "half of them were served within 39 min; 1 of 2 caught by event"
        in found.texts("div", id="history")[0]
    )
    assert [] == found.all("ol", class_="timeline")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (view(verdict(), mode="observe"), "Observe mode. The app looks and tells, and syncs nothing."),
        (
            view(verdict(), paused={"at": (NOW - timedelta(hours=2)).isoformat(), "reason": "change CHG-1"}),
            "Syncs are paused since 2 h ago: “change CHG-1”.",
        ),
        (view(verdict(), problems=["No access to 42."]), "Not everything could be seen. No access to 42."),
    ],
    ids=["observe", "paused", "problems"],
)
def test_what_one_has_to_know_first_stands_under_the_headline(data: Json, said: str) -> None:
    """Observe mode, the kill switch and blind spots."""
    assert said in read(data).texts("div", id="notices")[0]
    assert [""] == read(view(verdict())).texts("div", id="notices")


def test_what_holds_a_gateway_back_is_said() -> None:
    """The decision, unless there was nothing to do."""
    held = decision("NeedsWindow", "apim-contoso: the Developer tier goes down while it updates.")
    idle = decision("NothingStale", "apim-contoso: no hostname is stale.")

    assert ["API Management · rg-apim · 1 hostname"] == read(view(verdict())).texts("p", class_="facts")[2:3]
    assert [held["message"]] == read(view(stale(), decisions=[held])).texts("p", class_="held")
    assert [] == read(view(verdict(), decisions=[idle])).texts("p", class_="held")


def test_gateways_of_one_name_in_two_groups_stay_apart() -> None:
    """The id decides, in whatever case ARM writes it."""
    one, other = verdict(group="rg-a"), verdict(group="rg-b")
    shouted = {**verdict("b.contoso.com"), "gateway_id": gateway_id("apim-contoso", "RG-A")}
    found = read(view(one, other, shouted))

    assert 2 == len(found.all("section", class_="gateway"))
    ids = [e.attributes["id"] for e in found.elements if "id" in e.attributes]
    assert len(set(ids)) == len(ids)


def test_two_thousand_hostnames_come_in_pages_of_a_bounded_size() -> None:
    """A page is small enough to be asked for every ten seconds, and all pages together show everything."""
    data = scenes.two_thousand(NOW)
    pages = {number: page.render(data, NOW, {"page": str(number)}) for number in (1, 2, 20)}
    names = [re.findall(r'<p class="name"><b>([^<]+)', html) for html in pages.values()]
    found = [hostname.verdict["hostname"] for hostname in Fleet.from_json(data, NOW).found(Query())]

    assert 2000 == len(set(found))
    assert [found[:PAGE_SIZE], found[PAGE_SIZE : 2 * PAGE_SIZE], found[-PAGE_SIZE:]] == names
    assert {f"api-{n:04}.contoso.com" for n in (77, 600, 1500)} <= set(found[:PAGE_SIZE])
    assert max(map(len, pages.values())) < 600_000
    assert "Page 20 of 20" in read(data, page="9999").texts("nav", class_="pager")[0]


@pytest.mark.parametrize("number", ["0", "-1", "x", "99999", "²", "1e3", ""])
def test_a_page_that_does_not_exist_is_the_first(number: str) -> None:
    """Nonsense in the URL is as good as nothing."""
    assert 1 == Query.from_params({"page": number}).page


def test_the_calendar_puts_each_end_on_its_day() -> None:
    """Hostnames by day; what has ended and what is later stands in words."""
    ends = {"a": -1, "b": 3, "c": 3, "d": 64, "e": 200}
    verdicts = [
        verdict(f"{name}.contoso.com", not_after=NOW + timedelta(days=days)) for name, days in ends.items()
    ]
    fleet = Fleet.from_json(view(*verdicts), NOW)
    calendar = draw(fleet.hostnames, NOW, 30)

    assert [(3, 2, Tone.WARN), (64, 1, Tone.BUSY)] == [
        (b.days_left, b.hostnames, b.tone) for b in calendar.bars
    ]
    assert (1, 1) == (calendar.ended, calendar.later)
    assert calendar.bars[0].height > calendar.bars[1].height > 0
    assert all(0 < bar.left < 100 for bar in calendar.bars)
    assert DAYS == 90


def test_the_picture_of_the_calendar_has_a_table_beside_it() -> None:
    """For those who cannot see it."""
    found = read(view(verdict()))
    rows = found.texts("tr")

    assert "2026-05-05 64 days 1 contoso-com" in rows
    assert ["2026-05-05: 1 hostname"] == found.texts("title")[1:]


@pytest.mark.parametrize(
    "scene",
    [
        scenes.three_in_the_morning,
        scenes.monday,
        scenes.observing,
        scenes.nothing_in_scope,
        scenes.hostile,
        lambda _: {"settings": {}, "report": None},
        lambda _: {"settings": {}, "report": view(verdict())["report"]},
    ],
)
def test_every_scene_is_well_formed(scene: Callable[..., Json]) -> None:
    """Balanced, ids once only, labels that lead somewhere, nothing inline and nothing external."""
    found = read(scene(NOW))
    ids = [e.attributes["id"] for e in found.elements if "id" in e.attributes]
    references = {
        e.attributes[name]
        for e in found.elements
        for name in ("aria-labelledby", "aria-describedby")
        if name in e.attributes
    }

    assert len(set(ids)) == len(ids)
    assert references <= set(ids)
    assert 1 == len(found.all("h1"))
    assert [] == [e.name for e in found.elements if e.name == "style" or "style" in e.attributes]
    urls = [e.attributes.get(name, "") for e in found.elements for name in ("src", "href", "action")]
    assert [] == [url for url in urls if url and not url.startswith(("/api/page/", "?", "#"))]


def test_a_problem_is_a_page_that_says_nothing_about_certificates() -> None:
    """What is wrong, the operation id, and a way back."""
    html = page.render_problem(
        HTTPStatus.SERVICE_UNAVAILABLE, ["<b>ROTATION_MODE</b> is wrong."], "4bf92f35", {"code": "k"}
    )
    found = Reader(html)

    assert ["<b>ROTATION_MODE</b> is wrong."] == found.texts("li")
    assert "4bf92f35" in found.texts("section", id="fleet")[0]
    assert ["?code=k"] == [e.attributes["href"] for e in found.all("a", class_="button")]
    assert "All is well" not in html


def test_the_tag_of_the_page_changes_with_what_it_says_and_not_with_the_time() -> None:
    """Unless the time makes the report old."""
    data = view(verdict())
    tags = [page.etag(data, NOW + minutes * MINUTE) for minutes in (0, 5, 30, 31)]
    other = page.etag(view(verdict(drift=True)), NOW)

    assert tags[0] == tags[1] != tags[2] == tags[3]
    assert tags[0] != other
    assert re.fullmatch(r'"[0-9a-f]{32}"', tags[0])


def test_only_the_files_of_the_page_can_be_asked_for() -> None:
    """Three names, and no way out of the folder."""
    assert all(page.file(name) for name in page.FILES)
    assert [None] * 4 == [page.file(n) for n in ("page.html", "../settings.py", "", "/etc/passwd")]


def test_the_policy_allows_nothing_inline_and_nobody_else() -> None:
    """Held for the files too: neither asks for anything from outside."""
    policy = page.HEADERS["Content-Security-Policy"]
    folder = Path(page.__file__).parent

    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert [] == re.findall(r"url\(|@import|https?:", (folder / "style.css").read_text())
    assert [] == re.findall(
        r"https?:|innerHTML|outerHTML|insertAdjacent|eval\(|document\.write",
        (folder / "script.js").read_text(),
    )


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (47 * 3600 + 60, "47 h 1 min"),
        (48 * 3600, "2 days"),
        (64 * 86400, "64 days"),
    ],
)
def test_spans_are_said_in_two_units_at_most(seconds: float, said: str) -> None:
    """The table of words.py, which script.js follows."""
    assert said == words.span(seconds)
    assert said == words.span(timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "just now"), (9, "just now"), (-9, "just now"), (180, "3 min ago"), (-86400 * 24, "in 24 days")],
)
def test_times_are_said_relative_to_now(seconds: float, said: str) -> None:
    """Both directions."""
    assert said == words.relative(NOW - timedelta(seconds=seconds), NOW)
