"""Notices: a countdown that can be believed, whatever the browser's clock says."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from playwright.sync_api import Page, expect

from tests.browser.scripted_api import ScriptedApi


def seconds_shown(page: Page) -> int:
    """What the first countdown says."""
    minutes, seconds = (page.locator(".notice-clock").first.text_content() or "").split(":")
    return 60 * int(minutes) + int(seconds)


def test_a_notice_names_the_victim_its_time_the_preemptor_and_the_reason(api: ScriptedApi, visit: Callable[..., Page]):
    db = api.add("db-1")
    victim = api.add("batch-1", preemptible=True)
    page = visit(api)
    expect(page.locator("#notices")).to_be_hidden()
    api.notice(victim, 30, makes_room_for=db["vmsvc_id"], criterion="less lost work")
    notice = page.locator(".notice")
    expect(notice.locator(".notice-name")).to_have_text("batch-1")
    expect(notice.locator("dd")).to_have_text(["db-1", "less lost work"])
    expect(notice.locator(".notice-head .note")).to_have_text("m1.small on bed-3")
    expect(notice.locator(".notice-clock")).to_have_text(re.compile(r"0:(30|2\d)"))
    expect(page.locator("#announcer")).to_have_text(
        re.compile(r"batch-1 will be evicted in (30|29) seconds to free capacity for db-1\.")
    )


@pytest.mark.parametrize("skew", [timedelta(hours=-7), timedelta(days=400, seconds=0.4)])
def test_the_countdown_goes_by_the_servers_clock(skew: timedelta, visit: Callable[..., Page]):
    api = ScriptedApi(skew=skew)
    try:
        victim = api.add("batch-1", preemptible=True)
        page = visit(api)
        api.notice(victim, 20)
        expect(page.locator(".notice-clock")).to_have_text(re.compile(r"0:(20|19)"))
        page.wait_for_timeout(1000)
        # Against the server's own clock, whatever this machine was busy with meanwhile.
        deadline = datetime.fromisoformat(api.events[-1]["data"]["evict_at"])
        left = (deadline - api.now()).total_seconds()
        assert left - 0.6 <= seconds_shown(page) <= left + 1.6
    finally:
        api.stop()


@pytest.mark.parametrize(("state", "shown"), [("reprieved", "Reprieved"), ("evicted", "Evicted")])
def test_what_became_of_it_is_shown_and_said(state: str, shown: str, api: ScriptedApi, visit: Callable[..., Page]):
    victim = api.add("batch-1", preemptible=True)
    page = visit(api)
    victim = api.notice(victim, 30)
    expect(page.locator(".notice-clock")).to_have_text(re.compile(r"0:\d\d"))
    api.emit("evict", state, {**victim, "evict_at": None})
    expect(page.locator(".notice-clock")).to_have_text(shown)
    expect(page.locator("#announcer")).to_contain_text(f"batch-1: {shown.lower()}.")


def test_at_its_deadline_a_notice_does_not_count_on(api: ScriptedApi, visit: Callable[..., Page]):
    victim = api.add("batch-1", preemptible=True)
    page = visit(api)
    api.notice(victim, 1)
    expect(page.locator(".notice-clock")).to_have_text("Evicting")


def test_a_notice_given_before_the_page_came_is_shown(api: ScriptedApi, visit: Callable[..., Page]):
    api.add(
        "batch-1",
        preemptible=True,
        state="noticed",
        evict_at=api.instant(50),
        notice={"for": "v9", "request": "db-9", "criterion": "the only possibility", "grace_seconds": 60},
    )
    notice = visit(api).locator(".notice")
    expect(notice.locator("dd")).to_have_text(["db-9", "the only possibility"])
    expect(notice.locator(".notice-clock")).to_have_text(re.compile(r"0:(50|4\d)"))


def test_many_notices_at_once_are_announced_as_one_and_sorted_by_time(api: ScriptedApi, visit: Callable[..., Page]):
    victims = [api.add(f"batch-{number}", preemptible=True) for number in range(6)]
    page = visit(api, viewport={"width": 1800, "height": 800})
    for number, victim in enumerate(victims):
        api.notice(victim, 60 - number)
    expect(page.locator("#announcer")).to_have_text("6 VMs got their notice.")
    expect(page.locator(".notice-name")).to_have_text([f"batch-{number}" for number in reversed(range(6))])


def test_notices_take_one_row_grouped_by_preemptor_and_the_table_keeps_eight_rows(
    api: ScriptedApi, visit: Callable[..., Page]
):
    vms = [api.add(f"batch-{number:02d}", preemptible=True) for number in range(60)]
    requests = [{"vmsvc_id": f"r{number}", "name": f"urgent-{number}"} for number in range(12)]
    for number, vm in enumerate(vms[:48]):
        request, seconds = requests[number % 12], 60 + number % 12
        notice = {"for": request["vmsvc_id"], "request": request["name"], "criterion": "less lost work"}
        api.tell("evict", "noticed", {**vm, "notice": notice, "evict_at": api.instant(seconds)})
    page = visit(api, viewport={"width": 1280, "height": 720})
    row, every = page.locator("#notice-list > li"), page.locator("#notices-all > li")
    expect(row).to_have_count(4)
    expect(row.locator(".notice-name")).to_have_text(["urgent-0", "urgent-1", "urgent-2", "9 more"])
    expect(row.locator(".note")).to_have_text(["4 VMs", "4 VMs", "4 VMs", "36 VMs"])
    expect(row.first.locator(".notice-clock")).to_have_text(re.compile(r"0:5\d|1:00"))
    tops = row.evaluate_all("rows => rows.map(row => row.getBoundingClientRect().top)")
    assert len(set(tops)) == 1
    seen = "grid => Math.floor((grid.clientHeight - grid.querySelector('.grid-head').offsetHeight) / 38.5)"
    assert page.locator("#vm-grid").evaluate(seen) >= 8
    page.locator("#vm-grid").scroll_into_view_if_needed()
    assert page.evaluate("scrollY > 0 && document.documentElement.scrollWidth <= innerWidth")

    page.get_by_role("button", name="urgent-1", exact=True).click()
    expect(page.locator("#notices-dialog-title")).to_have_text("Capacity for urgent-1")
    expect(every.locator(".notice-name")).to_have_text(["batch-01", "batch-13", "batch-25", "batch-37"])
    every.first.get_by_role("button", name="Release batch-01 early…").click()
    page.get_by_role("button", name="Release it", exact=True).click()
    expect(every.first.locator(".notice-clock")).to_have_text("Evicting")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="9 more").click()
    expect(every).to_have_count(48)


def test_a_notice_that_ended_while_the_page_was_away_does_not_stay(api: ScriptedApi, visit: Callable[..., Page]):
    victim = api.add("batch-1", preemptible=True)
    page = visit(api, provoked=True)
    victim = api.notice(victim, 300)
    expect(page.locator(".notice")).to_have_count(1)
    api.refusing = True
    api.drop()
    api.emit("evict", "reprieved", {**victim, "evict_at": None})
    api.removed = api.seq
    api.events.clear()
    api.refusing = False
    expect(page.locator(".notice-clock")).to_have_text("Reprieved")
