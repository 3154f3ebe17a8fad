"""Who the viewer is, and what that allows; and a token that no browser can send."""

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.scripted_api import ScriptedApi

CHANGES = re.compile(r"^(Delete[ …]|Practise|Release|End restarts)")


def test_a_reader_sees_who_it_is_and_is_offered_no_change(api: ScriptedApi, visit: Callable[..., Page]):
    api.me = {"name": "bob", "role": "reader"}
    api.add("web-1", age=1)
    victim = api.add("batch-1", preemptible=True, age=2)
    api.add("batch-2", preemptible=True, age=3)
    page = visit(api)
    api.notice(victim, 300)
    expect(page.locator("#who")).to_have_text(re.compile(r"bob\s+reader"))
    expect(page.get_by_role("button", name="Create VM")).to_be_disabled()
    expect(page.get_by_role("button", name="Create VM")).to_have_attribute("title", re.compile("reader"))
    expect(page.get_by_role("button", name="Webhooks")).to_be_disabled()
    expect(page.locator(".notice")).to_have_count(1)
    expect(page.get_by_role("button", name=CHANGES, disabled=False)).to_have_count(0)
    page.locator("#vm-grid").focus()
    for key in ("ArrowDown", "Delete"):
        page.keyboard.press(key)
    expect(page.locator("#confirm-dialog")).to_be_hidden()
    page.keyboard.press("Enter")
    expect(page.locator("#details-title")).to_have_text("web-1")
    expect(page.get_by_role("button", name=CHANGES, disabled=False)).to_have_count(0)


def test_a_token_that_cannot_be_sent_is_refused_in_words_and_forgotten(api: ScriptedApi, visit: Callable[..., Page]):
    api.token, api.me = "s3cret", {"name": "alice", "role": "member"}
    page = visit(api, provoked=True, live=False)
    for wrong in ("пароль", "s3cret\u200b", "two words"):
        page.get_by_label("Token").fill(wrong)
        page.keyboard.press("Enter")
        expect(page.locator("#sign-in-text")).to_contain_text("no letters outside of ASCII")
    page.evaluate("sessionStorage['vmsvc.token'] = 'пароль'")  # as an earlier release kept it
    page.reload()
    page.get_by_label("Token").fill("s3cret")
    page.keyboard.press("Enter")
    expect(page.locator("#connection-text")).to_have_text("Live")
    expect(page.locator("#who")).to_have_text(re.compile(r"alice\s+member"))
    expect(page.get_by_role("button", name="Create VM")).to_be_enabled()
