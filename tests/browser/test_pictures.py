"""The pictures of the documents: taken by SCREENSHOTS=1, of the page as it is."""

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from sandbox.demo import contoso
from sandbox.stage import Stage
from tests.browser import scenes
from tests.browser.conftest import Show, Visitor, expect
from tests.browser.views import Json

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2}

pytestmark = pytest.mark.skipif(
    not os.environ.get("SCREENSHOTS"), reason="set SCREENSHOTS=1 to take pictures"
)


@pytest.mark.parametrize(
    ("name", "scene", "options"),
    [
        ("page-rotating", scenes.three_in_the_morning, {}),
        ("page-dark", scenes.three_in_the_morning, {"color_scheme": "dark"}),
        ("page-well", scenes.monday, {}),
        ("page-phone", scenes.three_in_the_morning, PHONE),
    ],
)
def test_the_page_is_pictured(
    shown: Show, visitor: Visitor, name: str, scene: Callable[[datetime], Json], options: dict[str, Any]
) -> None:
    """What a reader of the README sees first."""
    shown.play(scene)
    page = visitor.visit(shown.stage, **options)
    picture = page.screenshot(path=IMAGES / f"{name}.png", animations="disabled")

    assert len(picture) > 10_000


def test_the_dry_run_of_a_resync_is_pictured(visitor: Visitor) -> None:
    """The dialog over the fleet."""
    service = contoso()
    with Stage(service.world, schema=None) as stage:
        stage.tick()
        service.world.vaults["kv-contoso"].certificates["contoso-com"].renew()
        page = visitor.visit(stage)
        page.get_by_role("button", name="Resync…").click()
        expect(page.get_by_role("dialog")).to_contain_text("a sync is needed. Nothing has been sent yet.")
        picture = page.screenshot(path=IMAGES / "page-resync.png", animations="disabled")

    assert len(picture) > 10_000
