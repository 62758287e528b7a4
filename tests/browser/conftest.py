"""A real browser in front of the real app on its host; skipped where either is missing."""

import asyncio
import os
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from rotation.clients.sqlite_ledger import SqliteLedger
from sandbox.stage import Stage
from sandbox.witness import told
from sandbox.world import World
from tests.browser.views import Json

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, Response

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
TEN_SECONDS = 10_000
WITHIN = 15_000
"""Milliseconds to wait for what a test expects; far more than it takes, because machines are shared."""


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """One browser for each module: playwright keeps an event loop running as long as it is open."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM:
        pytest.skip("there is no chromium: apt-get install chromium, or set CHROMIUM to its path")
    playwright.expect.set_options(timeout=WITHIN)
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Visitor:
    """Opens pages of a host, and remembers what they did that no page should do."""

    browser: "Browser"
    complaints: list[str] = field(default_factory=list)
    requests: "list[Request]" = field(default_factory=list)
    responses: "list[Response]" = field(default_factory=list)
    expected: tuple[str, ...] = ()

    def visit(self, stage: Stage, query: str = "", *, clock: bool = True, **options: Any) -> "Page":
        """The status page in a fresh profile, with a function key in its URL.

        Its clock is the test's: `look_again` lets ten seconds pass without waiting for them.
        """
        context = self.browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(WITHIN)
        page = context.new_page()
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("response", self._response)
        page.on("request", lambda request: self._request(stage, request))
        if clock:
            page.clock.install()
        page.goto(f"{stage.host.url}/api/page?code={stage.host.keys['function']}{query}")
        return page

    def tell(self) -> None:
        """What came and what became of it, to the witness, who sees only what the sandbox's client gets."""
        from playwright.sync_api import Error

        for response in self.responses:
            with suppress(Error):  # 304 and what a closed page had asked for have no body
                told(f"page: {response.url}", response.body(), response.url)
        for page in (page for context in self.browser.contexts for page in context.pages):
            told(f"page: {page.url}", page.content(), page.url)

    def _console(self, message: "ConsoleMessage") -> None:
        told("console", message.text)
        if message.type in {"error", "warning"} and not any(e in message.text for e in self.expected):
            self.complaints.append(f"{message.type}: {message.text}")

    def _response(self, response: "Response") -> None:
        self.responses.append(response)

    def _request(self, stage: Stage, request: "Request") -> None:
        self.requests.append(request)
        if urlsplit(request.url).netloc != urlsplit(stage.host.url).netloc:
            self.complaints.append(f"asked somebody else: {request.url}")


@pytest.fixture
def visitor(browser: "Browser") -> Iterator[Visitor]:
    """A visitor whose pages have had nothing to complain about at the end: no error, no policy violation."""
    visitor = Visitor(browser)
    yield visitor
    visitor.tell()
    for context in browser.contexts:
        context.close()

    assert [] == visitor.complaints


@dataclass(frozen=True)
class Show:
    """A host whose ledger is filled by the test."""

    stage: Stage
    ledger: Path

    def put(self, data: Json) -> None:
        """Make this the last report, as a run of the timer would; in a thread, as playwright has a loop."""
        save = SqliteLedger(str(self.ledger)).save_report(data["report"])
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, save).result()

    def play(self, scene: Callable[[datetime], Json]) -> None:
        """The same with a scene, set now."""
        self.put(scene(datetime.now(UTC)))


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Show]:
    """The app in enforce mode over an empty world; nothing runs but the page."""
    ledger = tmp_path_factory.mktemp("show") / "ledger.sqlite"
    with Stage(World(), {"ROTATION_LEDGER": str(ledger)}, schema=None) as stage:
        stage.tick()
        yield Show(stage, ledger)


def expect(locator: "Locator") -> Any:
    """What playwright waits for; imported where there is a browser."""
    from playwright.sync_api import expect as expectation

    return expectation(locator)


def look_again(page: "Page") -> "Response":
    """Let the page's ten seconds pass, and wait for the answer that it gets."""
    with page.expect_response(re.compile("/api/page$")) as answer:
        page.clock.run_for(TEN_SECONDS)
    return answer.value


def complaints_of_axe(page: "Page") -> list[str]:
    """What axe finds that is worse than minor; skips the test where there is no axe."""
    if not (path := os.environ.get("AXE")):
        pytest.skip("set AXE to the path of axe.min.js (npm install --prefix .axe axe-core)")
    page.evaluate(Path(path).read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    return [
        f"{each['impact']} {each['id']}: {[node['html'][:120] for node in each['nodes'][:3]]}"
        for each in found
        if each["impact"] != "minor"
    ]
