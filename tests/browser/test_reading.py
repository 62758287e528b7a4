"""What the page is to somebody who reads it: in a browser, by keyboard, on a phone, without a script."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from sandbox import witness
from tests.browser import scenes
from tests.browser.conftest import TEN_SECONDS, Show, Visitor, complaints_of_axe, expect, look_again
from tests.browser.views import Json, leaf, rotation, seen, verdict, view


def test_what_a_browser_gets_is_looked_at_for_secrets(shown: Show, visitor: Visitor) -> None:
    """As after every test here: the answers, the page that came of them and its console."""
    witness.places.clear()
    page = visitor.visit(shown.stage, clock=False)
    expect(page.locator("h1")).to_be_visible()
    visitor.tell()
    assert [] == witness.take()
    assert 5 <= witness.places["page"]

    page.evaluate("secret => { document.title = secret; console.log(secret) }", witness.canary())
    visitor.tell()
    assert {"page", "console"} == {leak.partition(":")[0] for leak in witness.take()}
    page.evaluate("document.title = ''")


def test_search_and_filters_live_in_the_url_and_survive_a_reload(shown: Show, visitor: Visitor) -> None:
    """Type, press Enter, choose a status, reload: the same hostnames."""
    shown.play(scenes.three_in_the_morning)
    page = visitor.visit(shown.stage)
    names = page.locator(".hostname .name b")
    expect(names).to_have_count(11)

    page.get_by_role("searchbox").fill("woodgrove")
    page.keyboard.press("Enter")
    expect(names).to_have_count(4)
    page.get_by_role("link", name="Needs attention").click()
    expect(names).to_have_text(["pay.woodgrove.com", "login.woodgrove.com", "internal.woodgrove.com"])
    assert "q=woodgrove" in page.url
    assert "status=attention" in page.url
    page.reload()
    expect(names).to_have_count(3)
    expect(page.get_by_role("searchbox")).to_have_value("woodgrove")
    expect(page.get_by_role("link", name="Needs attention")).to_have_attribute("aria-current", "true")
    page.get_by_role("link", name="Clear").click()
    page.get_by_role("link", name="All", exact=False).first.click()
    expect(names).to_have_count(11)


def test_without_a_script_the_page_is_read_searched_and_filtered(shown: Show, visitor: Visitor) -> None:
    """Proof records open, thumbprints are whole; only what needs a script is gone, and that is said."""
    shown.play(scenes.three_in_the_morning)
    page = visitor.visit(shown.stage, clock=False, java_script_enabled=False)

    page.get_by_role("searchbox").fill("pay.woodgrove.com")
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".hostname")).to_have_count(1)
    page.locator(".proof summary").click()
    expect(page.locator(".proof")).to_contain_text(leaf("pay"))
    expect(page.locator(".command code")).to_contain_text("openssl s_client -connect ")
    page.get_by_role("link", name="Unknown").click()
    expect(page.locator(".empty")).to_contain_text("No hostname matches.")
    expect(page.locator(".needs-script:visible")).to_have_count(0)
    expect(page.get_by_text("Without JavaScript this page can be read")).to_be_visible()


def test_everything_is_reached_by_keyboard(shown: Show, visitor: Visitor) -> None:
    """In the order in which it is read, the first stop leads past the pictures, and every stop is seen."""
    shown.play(scenes.monday)
    page = visitor.visit(shown.stage)
    stops = []
    for _ in range(16):
        page.keyboard.press("Tab")
        stops.append(
            page.evaluate(
                "(document.activeElement.textContent || document.activeElement.id).trim().slice(0, 24)"
            )
        )
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", stops[-1]
    expected = [
        "Skip to the hostnames",
        "As a table",
        "All 5",
        "In sync 5",
        "search",
        "Search",
        "Resync…",
        "copy",
    ]

    assert expected == [" ".join(stop.split()) for stop in stops[:8]]
    page.locator(".proof summary").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".proof").first).to_have_attribute("open", "")


def test_a_thumbprint_is_copied_whole(shown: Show, visitor: Visitor) -> None:
    """What is shown short lands in the clipboard in full, and it is said."""
    shown.play(scenes.monday)
    page = visitor.visit(shown.stage, permissions=["clipboard-read", "clipboard-write"])
    button = page.locator(".thumbprint .copy").first
    button.click()

    expect(button).to_have_text("copied")
    expect(page.locator("#copied")).to_have_text(f"Copied {leaf('contoso-com')}")
    assert leaf("contoso-com") == page.evaluate("navigator.clipboard.readText()")
    page.clock.run_for(2500)
    expect(button).to_have_text("copy")


def test_a_rotation_moves_while_it_is_looked_at(shown: Show, visitor: Visitor) -> None:
    """t0 to t4, step by step, without a reload, and the reader keeps what is open, focused and scrolled."""

    def at(*minutes: float, status: str = "SYNCING") -> Callable[[datetime], Json]:
        def scene(now: datetime) -> Json:
            begun = now - timedelta(minutes=20)
            served = [seen(leaf("contoso-com" if len(minutes) > 2 else "old"))]
            return view(
                verdict(
                    status=status, reason="SyncInFlight" if status == "SYNCING" else "Served", served=served
                ),
                *scenes.fabrikam(now),
                as_of=now,
                rotations=[rotation(*minutes, created=begun)],
            )

        return scene

    shown.play(at(0.1))
    page = visitor.visit(shown.stage)
    step = page.locator("[aria-current=step] .step")
    expect(step).to_have_text("Sync accepted")
    page.locator(".proof summary").nth(2).click()
    page.evaluate("document.documentElement.dataset.sameDocument = 'yes'")
    page.locator(".copy:visible").nth(3).focus()
    scrolled = page.evaluate("scrollY")
    focused = page.evaluate("document.activeElement.dataset.copy")
    assert scrolled > 0

    for minutes, waits_for in (((0.1, 0.2), "First served"), ((0.1, 0.2, 17), "Proven everywhere")):
        shown.play(at(*minutes))
        look_again(page)
        expect(step).to_have_text(waits_for)
        expect(page.locator(".proof").nth(2)).to_have_attribute("open", "")
        assert (focused, scrolled) == (
            page.evaluate("document.activeElement.dataset.copy"),
            page.evaluate("scrollY"),
        )
    expect(page.locator(".meter")).to_contain_text("7 of 7 connections met the new version")

    shown.play(at(0.1, 0.2, 17, 20, status="IN_SYNC"))
    look_again(page)
    expect(page.locator(".timeline")).to_have_count(0)
    expect(page.get_by_role("heading", level=1)).to_have_text(
        "All is well. All 5 hostnames serve the newest certificate."
    )
    expect(page.locator("#gateways")).to_contain_text("served in 20 min, caught by event")
    assert "yes" == page.evaluate("document.documentElement.dataset.sameDocument")


def test_words_that_are_selected_are_not_taken_away(shown: Show, visitor: Visitor) -> None:
    """Who marks a message to copy it keeps it until they let go."""
    shown.play(scenes.monday)
    page = visitor.visit(shown.stage)
    page.evaluate("getSelection().selectAllChildren(document.querySelector('h1'))")
    shown.play(scenes.three_in_the_morning)
    page.clock.run_for(TEN_SECONDS)
    assert "All is well" in page.evaluate("getSelection().toString()")

    page.evaluate("getSelection().removeAllRanges()")
    look_again(page)
    expect(page.get_by_role("heading", level=1)).to_contain_text("is blocked")


def test_a_page_that_has_lost_the_app_says_so(shown: Show, visitor: Visitor) -> None:
    """Stale words look like fresh ones, so the page says which they are; and finds back by itself."""
    visitor.expected = ("ERR_INTERNET_DISCONNECTED",)
    shown.play(scenes.monday)
    page = visitor.visit(shown.stage)
    page.context.set_offline(True)
    page.clock.run_for(TEN_SECONDS)
    expect(page.locator("#live")).to_contain_text("Not live")

    page.context.set_offline(False)
    look_again(page)
    expect(page.locator("#live")).to_have_text("Live")


def test_the_page_fills_itself_after_the_first_look(shown: Show, visitor: Visitor) -> None:
    """From nothing in scope to a fleet, without a hand."""
    shown.play(scenes.nothing_in_scope)
    page = visitor.visit(shown.stage)
    expect(page.get_by_role("heading", level=1)).to_have_text("No gateway is in scope.")
    shown.play(scenes.monday)
    look_again(page)
    expect(page.locator(".hostname")).to_have_count(5)


def test_an_unchanged_page_is_not_sent_again(shown: Show, visitor: Visitor) -> None:
    """304 from the second look on, and times move all the same."""
    shown.play(scenes.monday)
    page = visitor.visit(shown.stage)
    expect(page.locator("#live")).to_have_text("Live")
    first = look_again(page)
    expect(page.locator("#headline time")).to_have_text("1 min ago")
    second = look_again(page)

    assert (200, 304) == (first.status, second.status)
    page.clock.run_for(300_000)
    expect(page.locator("#headline time")).to_have_text("6 min ago")


def test_names_that_want_to_be_code_do_nothing(shown: Show, visitor: Visitor) -> None:
    """Subjects, hostnames, regions and messages of an attacker: shown, not run, also after a refresh."""
    shown.play(scenes.hostile)
    page = visitor.visit(shown.stage, "&q=%22%3E%3Cscript%3Edocument.title%3D1%3C%2Fscript%3E")
    expect(page.get_by_role("searchbox")).to_have_value('"><script>document.title=1</script>')
    page.get_by_role("link", name="Clear").click()
    page.locator(".proof summary").click()
    expect(page.locator(".seen")).to_contain_text("<script>document.title='owned'</script>")
    look_again(page)
    expect(page.locator("#live")).to_have_text("Live")

    assert page.title().startswith("1 of 1 hostname is blocked.")
    assert 1 == page.locator("script").count()
    assert 0 == page.locator("[onerror], [onload]").count()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_two_thousand_hostnames_are_paged_searched_and_read(shown: Show, visitor: Visitor) -> None:
    """A hundred at a time, what needs attention first, any of them a search away."""
    shown.play(scenes.two_thousand)
    page = visitor.visit(shown.stage)
    rows = page.locator(".hostname")
    expect(page.get_by_role("heading", level=1)).to_have_text("1 of 2,000 hostnames is blocked.")
    expect(rows).to_have_count(100)
    expect(rows.first).to_contain_text("api-0077.contoso.com")
    page.get_by_role("link", name="Next").click()
    expect(page.locator(".pager")).to_contain_text("Page 2 of 20")
    page.reload()
    expect(page.locator(".pager")).to_contain_text("Page 2 of 20")
    page.get_by_role("searchbox").fill("api-1999")
    page.keyboard.press("Enter")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("api-1999.contoso.com")


def test_the_key_goes_nowhere_but_to_the_app(shown: Show, visitor: Visitor) -> None:
    """In the page's own URL, and in a header of what its script asks; not in files, referrers or storage."""
    shown.play(scenes.monday)
    page = visitor.visit(shown.stage)
    key = shown.stage.host.keys["function"]
    look_again(page)
    holding = [request.url.partition("?")[0] for request in visitor.requests if key in request.url]

    assert {f"{shown.stage.host.url}/api/page"} == set(holding)
    assert 1 == len(holding)
    assert [] == [(r.url, h) for r in visitor.requests if (h := r.all_headers().get("referer"))]
    assert key not in page.locator("body").inner_text()
    assert 0 == page.evaluate("localStorage.length + sessionStorage.length")
    assert "" == page.evaluate("document.cookie")


@pytest.mark.parametrize(
    ("path", "key", "status", "kind"),
    [
        ("/api/page", "function", 200, "text/html"),
        ("/api/page/", "function", 200, "text/html"),
        ("/api/page", None, 401, None),
        ("/api/page", "wrong", 401, None),
        ("/api/page/style.css", None, 200, "text/css"),
        ("/api/page/script.js", None, 200, "text/javascript"),
        ("/api/page/icon.svg", None, 200, "image/svg+xml"),
        ("/api/page/page.html", None, 404, None),
        ("/api/page/..%2fpage.py", None, 404, None),
    ],
)
def test_the_page_needs_a_key_and_its_files_do_not(
    shown: Show, path: str, key: str | None, status: int, kind: str | None
) -> None:
    """And both say how they are to be treated."""
    answer = shown.stage.host.request("GET", path, key=key)

    assert status == answer.status
    if kind:
        assert kind == answer.headers["Content-Type"].partition(";")[0]
        assert "nosniff" == answer.headers["X-Content-Type-Options"]
    if kind == "text/html":
        assert "utf-8" in answer.headers["Content-Type"]
        assert "no-store" == answer.headers["Cache-Control"]
        assert "no-referrer" == answer.headers["Referrer-Policy"]
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; ")


SCENES: dict[str, Callable[[datetime], Json]] = {
    "three-in-the-morning": scenes.three_in_the_morning,
    "monday": scenes.monday,
    "observing": scenes.observing,
    "nothing-in-scope": scenes.nothing_in_scope,
    "two-thousand": scenes.two_thousand,
}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("scene", [name for name in SCENES if name != "two-thousand"])
def test_axe_has_nothing_serious_to_say(shown: Show, visitor: Visitor, scene: str, look: str) -> None:
    """Contrast, names, roles and structure, with a proof record open."""
    shown.play(SCENES[scene])
    page = visitor.visit(shown.stage, clock=False, **LOOKS[look])
    if page.locator(".proof summary").count():
        page.locator(".proof summary").first.click()

    assert [] == complaints_of_axe(page)


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("scene", SCENES)
def test_nothing_runs_over_the_side(shown: Show, visitor: Visitor, scene: str, look: str) -> None:
    """Also with everything open."""
    shown.play(SCENES[scene])
    page = visitor.visit(shown.stage, **LOOKS[look])
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")

    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
