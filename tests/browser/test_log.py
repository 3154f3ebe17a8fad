"""The event log: newest first, filtered, paused, and back to the beginning of history."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.scripted_api import ScriptedApi


def names(page: Page) -> list[str]:
    """The names in the log, newest first."""
    return page.locator("#log-rows .log-name").all_text_contents()


def fill(api: ScriptedApi, count: int) -> None:
    """So many events of the past."""
    vm = api.add("vm")
    for number in range(count):
        api.tell("create", "active", {**vm, "name": f"e-{number}"})


def test_shows_what_happened_before_the_page_came(api: ScriptedApi, visit: Callable[..., Page]):
    fill(api, 3)
    expect(visit(api).locator("#log-rows .log-name")).to_have_text(["e-2", "e-1", "e-0"])


def test_scrolling_reads_the_history_to_its_beginning(api: ScriptedApi, visit: Callable[..., Page]):
    fill(api, 450)
    page = visit(api)
    expect(page.locator("#log-rows .log-name").first).to_have_text("e-449")
    scroll = page.locator("#log-scroll")
    scroll.focus()
    for _ in range(400):
        page.keyboard.press("End")
        page.wait_for_timeout(50)
        if names(page)[-1] == "e-0":
            break
    assert names(page)[-1] == "e-0"
    assert page.locator("#log-rows .log-row").count() < 60


def test_history_that_is_no_longer_kept_ends_the_scroll(api: ScriptedApi, visit: Callable[..., Page]):
    fill(api, 60)
    api.removed = 40
    del api.events[:40]
    page = visit(api, provoked=True)
    expect(page.locator("#log-rows .log-name")).to_have_text([f"e-{number}" for number in range(59, 39, -1)])


def test_gaps_in_the_numbers_hide_nothing(api: ScriptedApi, visit: Callable[..., Page]):
    fill(api, 2)
    api.seq = 700
    fill(api, 1)
    expect(visit(api).locator("#log-rows .log-row")).to_have_count(3)


def test_types_can_be_hidden_and_shown(api: ScriptedApi, visit: Callable[..., Page]):
    vm = api.add("web-1", preemptible=True)
    api.tell("create", "active", vm)
    api.tell("evict", "noticed", vm)
    page = visit(api)
    button = page.get_by_role("button", name="Create", exact=True)
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
    expect(page.locator("#log-rows .chip")).to_have_text(["noticed"])
    button.click()
    expect(page.locator("#log-rows .chip")).to_have_text(["noticed", "active"])


def test_paused_it_holds_still_and_counts(api: ScriptedApi, visit: Callable[..., Page]):
    vm = api.add("web-1")
    api.tell("create", "pending", vm)
    page = visit(api)
    expect(page.locator("#log-rows .chip")).to_have_text(["pending"])
    page.get_by_role("button", name="Pause").click()
    api.emit("create", "building", vm)
    api.emit("create", "active", vm)
    expect(page.get_by_role("button", name="Resume (2)")).to_be_visible()
    expect(page.locator("#log-rows .chip")).to_have_text(["pending"])
    page.get_by_role("button", name="Resume (2)").click()
    expect(page.locator("#log-rows .chip")).to_have_text(["active", "building", "pending"])


def test_new_events_do_not_move_what_is_being_read(api: ScriptedApi, visit: Callable[..., Page]):
    fill(api, 80)
    page = visit(api)
    expect(page.locator("#log-rows .log-name").first).to_have_text("e-79")
    page.locator("#log-scroll").evaluate("log => { log.scrollTop = 1500; }")
    place = "log => document.elementFromPoint(log.getBoundingClientRect().x + 60, 500).closest('.log-row').textContent"
    expect(page.locator("#log-rows .log-name").first).not_to_have_text("e-79")
    before = page.locator("#log-scroll").evaluate(place)
    api.emit("create", "active", {**api.servers["v0000001"], "name": "new"})
    expect(page.get_by_role("button", name="1 new event")).to_be_visible()
    assert page.locator("#log-scroll").evaluate(place) == before
    page.get_by_role("button", name="1 new event").click()
    expect(page.locator("#log-rows .log-name").first).to_have_text("new")
