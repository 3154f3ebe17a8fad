"""The browser's notifications: only when somebody switched them on and the browser allows them, and never too many."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.scripted_api import ScriptedApi

# Headless Chromium shows none, so the page's calls are noted where a desktop would show them.
NOTED = """
  window.noted = [];
  window.Notification = class extends EventTarget {
    static permission = sessionStorage.allowed ?? 'default';
    static async requestPermission() {
      return this.permission = sessionStorage.allowed = sessionStorage.answer ?? 'granted';
    }
    constructor(title, { body } = {}) {
      super();
      if (Notification.permission === 'granted') { window.noted.push([title, body].filter(Boolean).join(' ')); }
    }
    close() {}
  };
"""
# Chromium on Android: there is a class, and its constructor throws.
ANDROID = "window.Notification = class { static permission = 'default'; constructor() { throw new TypeError(); } };"


def noted(page: Page) -> list[str]:
    """What was shown."""
    return page.evaluate("noted")


def ready(page: Page, script: str = "") -> None:
    """The page again, with the notifications noted."""
    page.add_init_script(script + NOTED)
    page.reload()
    page.wait_for_selector("body[data-connection=live]")


def test_evictions_are_notified_once_they_are_allowed(api: ScriptedApi, visit: Callable[..., Page]):
    db, victim = api.add("db-1"), api.add("batch-1", preemptible=True)
    page = visit(api, own=True)
    ready(page)
    api.notice(victim, 300, makes_room_for=db["vmsvc_id"])
    expect(page.locator(".notice")).to_have_count(1)
    page.get_by_role("button", name="Notify me").click()
    expect(page.get_by_role("button", name="Notify me")).to_have_attribute("aria-pressed", "true")
    assert noted(page) == []
    api.notice(victim, 300, makes_room_for=db["vmsvc_id"])
    page.wait_for_function("() => noted.length === 1")
    api.emit("evict", "evicted", victim)
    page.wait_for_function("() => noted.length === 2")
    assert noted(page) == ["batch-1 will be evicted in 5 minutes It frees capacity for db-1.", "batch-1 was evicted"]
    page.reload()
    expect(page.get_by_role("button", name="Notify me")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Notify me").click()
    expect(page.get_by_role("button", name="Notify me")).to_have_attribute("aria-pressed", "false")


def test_many_at_once_are_one(api: ScriptedApi, visit: Callable[..., Page]):
    victims = [api.add(f"batch-{number}", preemptible=True) for number in range(5)]
    page = visit(api, own=True)
    ready(page, "sessionStorage.allowed = 'granted'; localStorage['vmsvc.notify'] = 'yes';")
    for victim in victims:
        api.notice(victim, 300)
    page.wait_for_function("() => noted.length > 0")
    assert noted(page) == ["5 VMs will be evicted"]


def test_a_browser_that_refuses_is_not_asked_again(api: ScriptedApi, visit: Callable[..., Page]):
    page = visit(api, own=True)
    ready(page, "sessionStorage.answer = 'denied';")
    page.get_by_role("button", name="Notify me").click()
    expect(page.get_by_role("button", name="Notify me")).to_be_disabled()
    expect(page.get_by_role("button", name="Notify me")).to_have_attribute("aria-pressed", "false")


def test_where_a_page_may_show_none_they_are_not_offered(api: ScriptedApi, visit: Callable[..., Page]):
    page = visit(api, own=True)
    expect(page.get_by_role("button", name="Notify me")).to_be_visible()
    page.add_init_script(ANDROID)
    page.reload()
    expect(page.locator("#connection-text")).to_have_text("Live")
    expect(page.get_by_role("button", name="Notify me")).to_be_hidden()
