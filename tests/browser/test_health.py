"""A service that cannot do its work says so: in amber, in words, and with the age of what is shown."""

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.scripted_api import ScriptedApi
from tests.browser.test_axe import violations


def test_while_the_cloud_is_away_nothing_looks_live(api: ScriptedApi, visit: Callable[..., Page]):
    api.add("going", state="deleting")
    page = visit(api, provoked=True)
    expect(page.locator("#connection-text")).to_have_text("Live")
    expect(page.locator("#health")).to_be_hidden()
    expect(page.locator(".capacity-fits td").first).to_be_visible()
    api.parts = {
        "cloud": "ok",
        "mirror": "no answer since 12:00:03",
        "scheduler": "no answer since 12:00:03",
        "feed": "ok",
    }
    api.capacity_failure = (503, "cloud_unavailable", "the cloud does not answer")
    expect(page.locator("#connection")).to_have_attribute("data-state", "impaired")
    expect(page.locator("#connection-text")).to_have_text("The cloud does not answer")
    expect(page.locator("#health-parts li")).to_have_text(["Cloud: no answer since 12:00:03"])
    expect(page.locator("#health-age")).to_have_text(re.compile(r"is from \d\d:\d\d:\d\d, \d+ s ago"))
    expect(page.locator("#health-retry")).to_have_text(re.compile(r"Next check in \d s|Checking"))
    expect(page.locator("#capacity-age")).to_have_text(re.compile(r"^as of \d\d:\d\d:\d\d, \d+ s ago$"))
    expect(page.locator("#capacity-body")).to_have_attribute("data-aged", "true")
    expect(page.locator("#vm-rows .note")).to_have_text("waits for the cloud")
    page.locator("#vm-rows .name").click()
    expect(page.locator("#details-facts")).to_contain_text("waits for the cloud")
    page.keyboard.press("Escape")
    assert violations(page) == []

    api.parts, api.capacity_failure = {"cloud": "ok", "feed": "ok"}, None
    page.get_by_role("button", name="Check now").click()
    expect(page.locator("#health")).to_be_hidden()
    expect(page.locator("#connection-text")).to_have_text("Live")
    expect(page.locator("#capacity-age")).to_be_hidden()
    expect(page.locator("#vm-rows .note")).to_have_text("")
