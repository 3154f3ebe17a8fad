"""Practising an eviction and releasing a victim early: asked first, with the keyboard too, refusals in words."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.scripted_api import ScriptedApi


def asked(api: ScriptedApi, end: str) -> list[dict | None]:
    """The bodies of POSTs to addresses with this end."""
    return [body for method, path, _, body in api.requests if method == "POST" and path.endswith(end)]


@pytest.mark.parametrize(
    ("choice", "verb", "notice_only"), [("Notice only", "Give notice", True), ("To the end", "Evict it", False)]
)
def test_an_eviction_is_practised_as_far_as_is_chosen(
    choice: str, verb: str, notice_only: bool, api: ScriptedApi, visit: Callable[..., Page]
):
    api.add("batch-1", preemptible=True)
    page = visit(api)
    page.get_by_role("button", name="Practise the eviction of batch-1").click()
    page.get_by_role("radio", name=choice).check()
    page.get_by_role("button", name=verb).click()
    expect(page.locator(".notice dd").first).to_have_text("simulated by its owner")
    expect(page.locator(".notice").get_by_text("it is reprieved")).to_have_count(int(notice_only))
    assert asked(api, "/evict") == [{"notice_only": notice_only}]


def test_a_practice_that_is_refused_says_why(api: ScriptedApi, visit: Callable[..., Page]):
    api.add("batch-1", preemptible=True)
    api.practice_failure = (409, "conflict", "the budget of its group is used up")
    page = visit(api, provoked=True)
    page.get_by_role("button", name="Practise the eviction of batch-1").click()
    page.get_by_role("button", name="Give notice").click()
    expect(page.get_by_role("alert")).to_contain_text("“batch-1” was not noticed. the budget of its group")


def test_a_victim_is_let_go_from_its_notice_but_not_by_a_slip(api: ScriptedApi, visit: Callable[..., Page]):
    victim = api.add("batch-1", preemptible=True)
    page = visit(api)
    api.notice(victim, 300)
    page.get_by_role("button", name="Release batch-1 early…").click()
    page.keyboard.press("Enter")  # the button that has the focus lets it wait
    expect(page.locator("#confirm-dialog")).to_be_hidden()
    assert not asked(api, "/ack")
    page.get_by_role("button", name="Release batch-1 early…").click()
    page.get_by_role("button", name="Release it", exact=True).click()
    expect(page.locator(".notice-clock")).to_have_text("Evicting")
    expect(page.get_by_role("button", name="Release batch-1 early…")).to_have_count(0)
    assert len(asked(api, "/ack")) == 1


def test_both_are_reached_with_the_keyboard_alone(api: ScriptedApi, visit: Callable[..., Page]):
    victim = api.add("batch-1", preemptible=True)
    page = visit(api)
    page.locator("#vm-grid").focus()
    for key in ("ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.get_by_role("button", name="Practise its eviction…").press("Enter")
    expect(page.locator("#confirm-text")).to_contain_text("“batch-1”")
    page.keyboard.press("Escape")
    expect(page.locator("#vm-grid")).to_be_focused()
    api.notice(victim, 300)
    expect(page.locator("#vm-rows .chip")).to_have_text(["noticed"])
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Release early…").press("Enter")
    page.get_by_role("button", name="Release it", exact=True).press("Enter")
    expect(page.locator("#vm-rows .chip")).to_have_text(["evicting"])


def test_what_makes_no_sense_is_not_offered(api: ScriptedApi, visit: Callable[..., Page]):
    api.add("web-1")
    api.add("batch-1", preemptible=True, state="building")
    api.servers["f-1"] = {"id": "f-1", "name": "legacy", "status": "ACTIVE", "created": api.instant(-90)}
    page = visit(api)
    expect(page.locator("#vm-rows .vm-row")).to_have_count(3)
    expect(page.get_by_role("button", name="Practise")).to_have_count(0)
    expect(page.get_by_role("button", name=re.compile("^Release "))).to_have_count(0)
