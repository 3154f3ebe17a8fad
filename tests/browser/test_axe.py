"""axe-core finds nothing: with some of everything on the page, on a wall and a phone, by day and night, in dialogs."""

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.scripted_api import ScriptedApi
from tests.browser.test_evictions import record
from tests.browser.test_look import busy

SIZES = {"wall": {"width": 1600, "height": 1000}, "phone": {"width": 390, "height": 844}}


def violations(page: Page) -> list[str]:
    """What axe-core says against the page as it is now."""
    page.evaluate("() => document.getAnimations().forEach(animation => animation.finish())")
    found = Axe().run(page).response["violations"]
    return [f"{one['impact']} {one['id']}: {one['help']}: {[node['html'] for node in one['nodes']]}" for one in found]


@pytest.fixture(name="full")
def a_full_page(api: ScriptedApi, visit: Callable[..., Page]) -> Callable[..., Page]:
    """Opens a page with some of everything."""
    busy(api)
    vms = list(api.servers.values())
    record(api, vms[3], vms[0], "noticed", planned_at=60, noticed_at=59.8, evict_at=-30)

    def open_page(scheme: str, size: str) -> Page:
        page = visit(api, color_scheme=scheme, viewport=SIZES[size], reduced_motion="reduce")
        page.wait_for_selector(".capacity-fits td")
        page.wait_for_selector(".strip-evictions .eviction")
        expect(page.locator(".notice")).to_have_count(2)
        return page

    return open_page


@pytest.mark.parametrize(("scheme", "size"), [("light", "wall"), ("dark", "phone")])
def test_the_page_has_no_violation(scheme: str, size: str, full: Callable[..., Page]):
    page = full(scheme, size)
    assert violations(page) == []
    page.get_by_role("button", name="Create VM").click()
    page.locator("[name=kind][value=preemptible]").check()
    page.get_by_text("More").click()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="a-rather-long-name-for-a-vm-3").first.click()
    expect(page.locator(".timeline li")).to_have_count(3)
    assert violations(page) == []
    page.get_by_role("button", name="Release early…").click()
    assert violations(page) == []
