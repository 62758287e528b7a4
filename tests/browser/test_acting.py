"""What the page does: it watches a rotation in the sandbox's world, and starts one by its button."""

import os
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from sandbox.demo import contoso
from sandbox.stage import Stage
from sandbox.world import Hostname, Service, World
from tests.browser.conftest import Visitor, complaints_of_axe, expect, look_again

if TYPE_CHECKING:
    from playwright.sync_api import Page

WATCH = 15_000


def headline(page: "Page", said: str) -> None:
    """The page says it after its next look."""
    look_again(page)
    expect(page.get_by_role("heading", level=1)).to_have_text(said)


def test_a_rotation_is_watched_from_the_renewal_to_its_proof(visitor: Visitor) -> None:
    """Key Vault renews, Event Grid delivers, regions switch one by one: the open page tells all of it."""
    service = contoso()
    certificate = service.world.vaults["kv-contoso"].certificates["contoso-com"]
    with Stage(service.world, timers=True) as stage:
        stage.pass_time(5)
        page = visitor.visit(stage)
        expect(page.get_by_role("heading", level=1)).to_have_text(
            "All is well. All 2 hostnames serve the newest certificate."
        )
        old = certificate.newest.thumbprint

        new = certificate.renew().thumbprint
        stage.settle()
        stage.pass_time(5)
        headline(page, "2 of 3 hostnames are on their way to a new certificate.")
        step = page.locator("[aria-current=step] .step")
        expect(page.get_by_role("heading", name="Rotating")).to_have_text(
            "Rotating contoso-com on apim-contoso"
        )
        expect(step).to_have_text("First served")
        row = page.locator(".hostname", has_text="api.contoso.com")
        expect(row).to_contain_text("ServiceUpdating")
        expect(row.locator(".region")).to_have_text(["West Europe 0 of 7", "North Europe 0 of 1"])
        expect(row.locator(".thumbprint code")).to_have_text([f"{new[:10]}…", f"{old[:10]}…"])

        stage.pass_time(10)
        stage.pass_time(5)
        look_again(page)
        expect(row).to_contain_text("PartlyServed")
        expect(step).to_have_text("Proven everywhere")

        for _ in range(3):
            stage.pass_time(5)
        headline(page, "All is well. All 2 hostnames serve the newest certificate.")
        expect(row.locator(".region.tone-good")).to_have_count(2)
        expect(row.locator(".thumbprint code")).to_have_text([f"{new[:10]}…"])
        expect(step).to_have_count(0)
        expect(page.locator(".gateway")).to_contain_text("served in 30 min, caught by event")
        expect(page.locator("#history tbody tr")).to_have_count(1)
        row.locator(".proof summary").click()
        expect(row.locator(".proof")).to_contain_text(new)


def test_a_resync_shows_its_dry_run_acts_once_and_is_watched_until_it_is_served(visitor: Visitor) -> None:
    """Nothing is sent before the second click; progress is read by handshake; the focus comes back."""
    service = contoso()
    world = service.world
    with Stage(world, schema=None) as stage:
        stage.tick()
        world.vaults["kv-contoso"].certificates["contoso-com"].renew()
        page = visitor.visit(stage)
        button = page.get_by_role("button", name="Resync…")
        button.focus()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog", name="Resync apim-contoso")
        expect(dialog).to_contain_text("a sync is needed. Nothing has been sent yet.")
        expect(dialog).to_contain_text("0 of 8 connections on ")
        assert [] == service.syncs

        act = dialog.get_by_role("button", name="Sync now")
        act.click()
        expect(dialog).to_contain_text("The sync was accepted.")
        expect(dialog.locator("progress")).to_have_attribute("value", "0")
        assert 1 == len(service.syncs)
        expect(act).to_be_hidden()

        world.clock.advance(timedelta(minutes=19))
        page.clock.run_for(WATCH)
        expect(dialog.locator("progress")).not_to_have_attribute("value", "0")
        expect(dialog).to_contain_text("developer.contoso.com7 of 7 connections")
        world.clock.advance(timedelta(minutes=30))
        page.clock.run_for(WATCH)
        expect(dialog).to_contain_text("Every connection meets the expected certificate.")
        assert 1 == len(service.syncs)

        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        expect(button).to_be_focused()


def test_a_resync_of_what_is_in_sync_is_offered_as_what_it_is(visitor: Visitor) -> None:
    """Nothing is stale: the dry run says so, and the button says "all the same"; a second one is held."""
    service = contoso()
    service.sets_updating = False
    with Stage(service.world, schema=None) as stage:
        stage.tick()
        page = visitor.visit(stage)
        page.get_by_role("button", name="Resync…").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("nothing is stale")
        dialog.get_by_role("button", name="Sync all the same").click()
        expect(dialog).to_contain_text("The sync was accepted.")
        dialog.get_by_role("button", name="Close").click()

        page.get_by_role("button", name="Resync…").click()
        dialog.get_by_role("button", name="Sync all the same").click()
        expect(dialog).to_contain_text("No sync was started.")
        expect(dialog).to_contain_text("possible again")
        assert 1 == len(service.syncs)


def lost_a_name() -> Service:
    """The newest version covers the gateway's hostname, and not the other name that the served one has."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate(
        "contoso-com", ["api.contoso.com", "shop.contoso.com"]
    )
    hostnames = (Hostname("api.contoso.com", certificate=certificate),)
    service = world.add_service("apim-contoso", regions={"West Europe": 1}, hostnames=hostnames)
    certificate.renew(names=["api.contoso.com"], announce=False)
    return service


def test_a_block_is_gone_past_by_its_name_after_a_dry_run_of_that(visitor: Visitor) -> None:
    """Two looks and a choice before anything is sent; what was gone past is in Application Insights."""
    service = lost_a_name()
    with Stage(service.world, schema=None) as stage:
        stage.tick()
        page = visitor.visit(stage)
        page.get_by_role("button", name="Resync…").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("no sync would be sent, because a block holds it")
        expect(dialog).to_contain_text("shop.contoso.com")
        show = dialog.get_by_role("button", name="Show what would happen")
        expect(show).to_be_disabled()
        found = complaints_of_axe(page) if os.environ.get("AXE") else []

        dialog.get_by_role("checkbox", name="Go past NamesLost").press("Space")
        show.press("Enter")
        expect(dialog).to_contain_text("a sync would be sent, past NamesLost. Nothing has been sent yet.")
        expect(dialog.get_by_role("button", name="Close")).to_be_focused()
        assert [] == service.syncs

        dialog.get_by_role("button", name="Sync past NamesLost").click()
        expect(dialog).to_contain_text("The sync was accepted.")
        assert 1 == len(service.syncs)
        service.world.clock.advance(timedelta(minutes=45))
        page.clock.run_for(WATCH)
        expect(dialog).to_contain_text("Every connection meets the expected certificate.")
        (asked,) = service.world.custom_events("SyncRequested")
        assert ("NamesLost", "hand") == (asked.properties["overrides"], asked.properties["trigger"])
        assert [] == found


def test_what_nobody_may_go_past_is_not_offered(visitor: Visitor) -> None:
    """A disabled version: a sync would fail, so there is nothing to choose."""
    service = contoso()
    with Stage(service.world, schema=None) as stage:
        stage.tick()
        service.world.vaults["kv-contoso"].certificates["contoso-com"].disable()
        page = visitor.visit(stage)
        page.get_by_role("button", name="Resync…").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("Dry run:")
        expect(dialog.get_by_role("checkbox")).to_have_count(0)


def test_axe_has_nothing_serious_to_say_about_the_dialog(visitor: Visitor) -> None:
    """Before the sync and while it is watched."""
    service = contoso()
    with Stage(service.world, schema=None) as stage:
        stage.tick()
        service.world.vaults["kv-contoso"].certificates["contoso-com"].renew()
        page = visitor.visit(stage, clock=False)
        page.get_by_role("button", name="Resync…").click()
        act = page.get_by_role("button", name="Sync now")
        expect(act).to_be_visible()
        before = complaints_of_axe(page)
        act.click()
        expect(page.get_by_role("dialog").locator("progress")).to_be_visible()
        expect(page.get_by_role("button", name="Close")).to_be_focused()

        after = complaints_of_axe(page)
        page.close()

    assert [] == before + after


def test_in_observe_mode_the_dry_run_is_all_there_is(visitor: Visitor) -> None:
    """Said on the page and in the dialog; no button that would disappoint."""
    service = contoso()
    with Stage(service.world, {"ROTATION_MODE": "observe"}, schema=None) as stage:
        service.world.vaults["kv-contoso"].certificates["contoso-com"].renew()
        stage.tick()
        page = visitor.visit(stage)
        expect(page.locator("#notices")).to_contain_text("Observe mode.")
        page.get_by_role("button", name="Resync…").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("a sync is needed. Nothing has been sent yet.")
        expect(dialog).to_contain_text("will not sync")
        expect(dialog.get_by_role("button")).to_have_text(["Close"])
        assert [] == [r.path for r in service.world.requests if "refreshHostnames" in r.path]


def test_what_holds_a_sync_back_is_told_instead_of_a_button(visitor: Visitor) -> None:
    """A gateway that a tag pauses."""
    service = contoso()
    service.tags["rotation-pause"] = "true"
    with Stage(service.world, schema=None) as stage:
        service.world.vaults["kv-contoso"].certificates["contoso-com"].renew()
        stage.tick()
        page = visitor.visit(stage)
        expect(page.locator(".held")).to_contain_text("the tag rotation-pause holds it")
        page.get_by_role("button", name="Resync…").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("no sync would be sent now")
        expect(dialog).to_contain_text("the tag rotation-pause holds it")
        expect(dialog.get_by_role("button")).to_have_text(["Close"])


def test_the_kill_switch_is_said_on_the_page_and_in_the_dry_run(visitor: Visitor) -> None:
    """Who pauses, when and why; gone as soon as it is turned off."""
    service = contoso()
    with Stage(service.world, schema=None) as stage:
        stage.tick()
        service.world.vaults["kv-contoso"].certificates["contoso-com"].renew()
        paused = stage.host.request("POST", "/api/pause", json={"reason": "CHG-1234"}, key="function")
        assert 200 == paused.status
        page = visitor.visit(stage)
        expect(page.locator("#notices")).to_contain_text("Syncs are paused since ")
        expect(page.locator("#notices")).to_contain_text("“CHG-1234”")
        page.get_by_role("button", name="Resync…").click()
        expect(page.get_by_role("dialog")).to_contain_text("all syncs are paused")
        expect(page.get_by_role("dialog").get_by_role("button")).to_have_text(["Close"])

        stage.host.request("POST", "/api/resume", key="function")
        look_again(page)
        expect(page.locator("#notices")).to_be_empty()


def test_what_is_under_way_is_watched_and_not_started_again(visitor: Visitor) -> None:
    """A service that is busy, with our sync or with something else."""
    service = contoso()
    with Stage(service.world, schema=None) as stage:
        service.world.vaults["kv-contoso"].certificates["contoso-com"].renew()
        stage.tick()
        page = visitor.visit(stage)
        page.get_by_role("button", name="Resync…").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("a change is under way already")
        expect(dialog.get_by_role("button")).to_have_text(["Close"])

        service.world.clock.advance(timedelta(minutes=40))
        page.clock.run_for(WATCH)
        expect(dialog).to_contain_text("Every connection meets the expected certificate.")
        assert 1 == len(service.syncs)


def test_a_resync_that_fails_says_why_with_an_operation_id(visitor: Visitor) -> None:
    """The gateway is gone since the page was made."""
    visitor.expected = ("404",)
    service = contoso()
    with Stage(service.world, schema=None) as stage:
        stage.tick()
        page = visitor.visit(stage)
        service.world.services.remove(service)
        page.get_by_role("button", name="Resync…").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("The dry run failed. HTTP 404: No gateway in scope matches ")
        expect(dialog).to_contain_text("operation id ")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (
            {"ROTATION_MODE": "sometimes", "ROTATION_SUBSCRIPTIONS": "mine"},
            ["ROTATION_MODE", "ROTATION_SUBSCRIPTIONS"],
        ),
        ({"ROTATION_LEDGER": "/nowhere/at/all.sqlite"}, ["/nowhere/at/all.sqlite"]),
    ],
    ids=["settings", "ledger"],
)
def test_what_keeps_the_page_from_telling_anything_is_a_page_too(
    visitor: Visitor, settings: dict[str, str], named: list[str]
) -> None:
    """503, every mistake, an operation id, and not a word about certificates."""
    visitor.expected = ("503",)
    with Stage(World(), settings, schema=None) as stage:
        page = visitor.visit(stage)
        expect(page.get_by_role("heading", level=1)).to_have_text("The status cannot be shown.")
        for name in named:
            expect(page.locator(".problems")).to_contain_text(name)
        assert 32 == len(page.locator(".facts code").inner_text())


def test_before_the_first_look_the_page_waits_for_it(visitor: Visitor) -> None:
    """An empty ledger, then the first run of the timer."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
    world.add_service(
        "apim-contoso",
        regions={"West Europe": 1},
        hostnames=(Hostname("api.contoso.com", certificate=certificate),),
    )
    with Stage(world, schema=None) as stage:
        page = visitor.visit(stage)
        expect(page.get_by_role("heading", level=1)).to_have_text("Nothing has been looked at yet.")
        stage.tick()
        headline(page, "All is well. The hostname serves the newest certificate.")
