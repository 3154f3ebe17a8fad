"""What is looked at is in the address: Back closes a dialog, a reload and a bookmark lead to the same place."""

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.scripted_api import ScriptedApi


def test_back_closes_what_is_open_and_forward_opens_a_vm_again(api: ScriptedApi, visit: Callable[..., Page]):
    api.add("web-1", age=1)
    api.add("web-2", age=2)
    page = visit(api, viewport={"width": 390, "height": 844})
    details = page.locator("#details-dialog")
    page.get_by_role("button", name="Create VM").click()
    page.go_back()
    expect(page.locator("#create-dialog")).to_be_hidden()
    assert page.url == api.url
    page.locator("#vm-rows .name", has_text="web-2").click()
    expect(page).to_have_url(f"{api.url}#vm/v0000002")
    page.get_by_role("button", name="Delete…").click()
    expect(page.locator("#confirm-dialog")).to_be_visible()
    page.go_back()
    expect(page.locator("#confirm-dialog")).to_be_hidden()
    assert page.url == api.url
    page.locator("#vm-rows .name", has_text="web-1").click()
    expect(page).to_have_url(f"{api.url}#vm/v0000001")
    page.go_back()
    expect(details).to_be_hidden()
    page.go_forward()
    expect(page.locator("#details-title")).to_have_text("web-1")
    page.get_by_role("button", name="Close").click()
    expect(page).to_have_url(api.url)
    expect(page.locator("#connection-text")).to_have_text("Live")
    assert not [request for request in api.requests if request[0] in ("DELETE", "POST")]


def test_a_double_click_opens_and_asks_once_and_closes_nothing(api: ScriptedApi, visit: Callable[..., Page]):
    api.add("web-1")
    page = visit(api)
    page.locator("#vm-rows .name").dblclick()
    expect(page.locator("#details-title")).to_have_text("web-1")
    page.wait_for_timeout(100)
    expect(page.locator("#details-dialog")).to_be_visible()
    page.mouse.click(5, 5)
    expect(page.locator("#details-dialog")).to_be_hidden()
    page.get_by_role("button", name="Delete web-1").dblclick()
    page.wait_for_timeout(100)
    expect(page.locator("#confirm-dialog")).to_be_visible()


def test_a_reload_and_a_bookmark_lead_to_the_same_filter_order_and_vm(api: ScriptedApi, visit: Callable[..., Page]):
    for number in range(4):
        api.add(f"vm-{number}", preemptible=number % 2 == 1, state="active" if number < 3 else "building")
    gone = api.add("gone", preemptible=True, id="c9", vmsvc_id="v9")
    api.tell("evict", "evicted", gone)
    page = visit(api, provoked=True)
    page.get_by_label("Filter by name, id, flavor, host or owner").fill("vm")
    page.get_by_label("Kind", exact=True).first.select_option("preemptible")
    page.get_by_label("State").select_option("active")
    page.get_by_role("columnheader", name="Name").get_by_role("button").click()
    expect(page.locator("#vm-rows .name")).to_have_text(["vm-1"])
    expect(page).to_have_url(re.compile(r"\?q=vm&kind=preemptible&state=active&sort=name$"))
    page.locator("#vm-rows .name").click()
    expect(page.locator("#details-title")).to_have_text("vm-1")
    page.reload()
    expect(page.locator("#details-title")).to_have_text("vm-1")
    page.keyboard.press("Escape")
    expect(page.locator("#vm-rows .name")).to_have_text(["vm-1"])
    expect(page.get_by_role("columnheader", name="Name")).to_have_attribute("aria-sort", "ascending")
    expect(page).to_have_url(re.compile(r"sort=name$"))

    page.goto("about:blank")
    page.goto(f"{api.url}?state=deleting&kind=nonsense#vm/v9")
    expect(page.locator("#details-title")).to_have_text("gone")
    expect(page.locator("#details-facts .chip")).to_have_text("evicted")
    page.keyboard.press("Escape")
    expect(page.get_by_label("State")).to_have_value("deleting")
    expect(page.locator("#vm-empty")).to_have_text("No VM matches the filter.")
    page.go_back()
    expect(page).to_have_url("about:blank")
