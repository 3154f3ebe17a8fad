"""The table of VMs: what it shows, and that neither size nor names hurt it."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.scripted_api import ScriptedApi
from tests.browser.test_evictions import record

HOSTILE = "<img src=x onerror=\"alert('run')\"><script>alert('run')</script>"
TOLD = ".cell:not(.owner, .actions)"


def test_rows_show_kind_state_flavor_host_and_priority(api: ScriptedApi, visit: Callable[..., Page]):
    api.add("web-1", flavor="m1.large", host="bed-2", age=65)
    api.add("batch-1", preemptible=True, priority=7, age=3 * 3600)
    page = visit(api)
    rows = page.locator("#vm-rows .vm-row")
    expect(rows.nth(0).locator(TOLD)).to_have_text(["web-1", "Standard", "active", "m1.large", "bed-2", "", "1 min"])
    expect(rows.nth(1).locator(TOLD)).to_have_text(
        ["batch-1", "Preemptible", "active", "m1.small", "bed-3", "7", "3 h 00 min"]
    )


def test_owners_have_a_column_and_a_filter_where_there_are_any(api: ScriptedApi, visit: Callable[..., Page]):
    api.add("web-1", owner="anonymous", age=1)
    page = visit(api)
    expect(page.locator("#vm-count")).to_have_text("1")
    expect(page.locator("#filter-owner")).to_be_hidden()
    expect(page.locator("#vm-rows .owner")).to_be_hidden()
    api.me = {"name": "alice", "role": "member"}
    api.add("web-2", owner="alice", age=5)
    api.add("web-3", owner="bob", age=9)
    page.reload()
    expect(page.locator("#vm-rows .owner")).to_have_text(["anonymous", "alice", "bob"])
    owners = page.get_by_label("Owner", exact=True)
    expect(owners.locator("option")).to_have_text(["All owners", "Mine (alice)", "alice", "anonymous", "bob"])
    owners.select_option("@me")
    expect(page.locator("#vm-rows .name")).to_have_text(["web-2"])
    page.reload()
    expect(page.locator("#vm-rows .name")).to_have_text(["web-2"])
    owners.select_option("bob")
    expect(page.locator("#vm-rows .name")).to_have_text(["web-3"])


def test_a_server_made_elsewhere_is_shown_and_cannot_be_deleted(api: ScriptedApi, visit: Callable[..., Page]):
    api.servers["f-1"] = {
        "id": "f-1",
        "name": "legacy",
        "status": "SHUTOFF",
        "created": api.instant(-90),
        "flavor": {"original_name": "m1.tiny", "vcpus": 1, "ram": 1024},
        "hostId": "0123456789abcdef",
    }
    row = visit(api).locator("#vm-rows .vm-row")
    expect(row.locator(".cell:nth-child(-n+5)")).to_have_text(["legacy", "Not ours", "shutoff", "m1.tiny", "01234567"])
    expect(row.locator(".row-delete")).to_be_disabled()


def test_a_server_of_vmsvc_s_that_no_record_knows_is_pointed_out(api: ScriptedApi, visit: Callable[..., Page]):
    api.servers["f-1"] = {
        "id": "f-1",
        "name": "restored",
        "status": "ACTIVE",
        "created": api.instant(-90),
        "metadata": {"vmsvc_id": "v1", "vmsvc_kind": "preemptible"},
    }
    page = visit(api)
    row = page.locator("#vm-rows .vm-row")
    expect(row.locator(".cell:nth-child(2)")).to_have_text("No record")
    row.locator(".cell").first.click()
    expect(page.locator("#details-facts")).to_contain_text("The database is lost")


def test_events_add_change_and_remove_rows(api: ScriptedApi, visit: Callable[..., Page]):
    page = visit(api, live=False, own=True)
    page.clock.install()
    page.reload()
    expect(page.locator("#vm-empty")).to_have_text("No VMs yet. Create the first one.")
    vm = api.add("db-1")
    api.emit("create", "pending", vm)
    expect(page.locator("#vm-rows .chip")).to_have_text("pending")
    api.emit("create", "active", vm)
    expect(page.locator("#vm-rows .chip")).to_have_text("active")
    api.emit("delete", "deleted", vm)
    expect(page.locator("#vm-rows .chip")).to_have_text("deleted")
    page.clock.run_for(12_000)
    expect(page.locator("#vm-rows .vm-row")).to_have_count(0)


def test_a_request_in_the_queue_shows_its_position_and_its_deadline(api: ScriptedApi, visit: Callable[..., Page]):
    vms = {
        name: api.add(name, preemptible=True, state="pending", status=None, position=number, wait_until=api.instant(90))
        for number, name in enumerate(("first", "second"), 1)
    }
    page = visit(api)

    def note(name: str) -> Locator:
        return page.locator("#vm-rows .vm-row", has_text=name).locator(".cell.state .note")

    expect(note("second")).to_contain_text("no. 2 · 1:")
    late = api.add("third", preemptible=True, state="pending", status=None, wait_until=api.instant(90))
    api.emit("create", "queued", late, position=3, wait_until=late["wait_until"], why="the cloud is full")
    expect(note("third")).to_contain_text("no. 3")
    api.emit("create", "building", vms["first"])
    expect(note("second")).to_contain_text("no. 1")
    expect(note("third")).to_contain_text("no. 2")
    page.locator("#vm-rows .vm-row", has_text="third").locator(".cell").first.click()
    expect(page.locator("#details-facts")).to_contain_text("Position in the queue2")
    expect(page.locator("#details-facts")).to_contain_text("Waits until")
    expect(page.locator("#details-history")).to_contain_text("position 3")


def test_a_click_on_a_column_sorts_and_another_turns_it_round(api: ScriptedApi, visit: Callable[..., Page]):
    for name in ("b-2", "b-10", "a-1"):
        api.add(name)
    page = visit(api)
    head = page.get_by_role("columnheader", name="Name")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    expect(page.locator("#vm-rows .name")).to_have_text(["a-1", "b-2", "b-10"])
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "descending")
    expect(page.locator("#vm-rows .name")).to_have_text(["b-10", "b-2", "a-1"])


def test_filters_by_words_kind_and_state(api: ScriptedApi, visit: Callable[..., Page]):
    api.add("web-1", flavor="m1.large")
    api.add("batch-1", preemptible=True)
    api.add("batch-2", preemptible=True, state="building")
    page = visit(api)
    page.get_by_label("Kind", exact=True).first.select_option("preemptible")
    expect(page.locator("#vm-count")).to_have_text("2 of 3")
    page.get_by_label("State").select_option("building")
    expect(page.locator("#vm-rows .name")).to_have_text(["batch-2"])
    page.get_by_label("State").select_option("")
    page.get_by_label("Kind", exact=True).first.select_option("")
    page.get_by_label("Filter by name, id, flavor, host or owner").fill("LARGE")
    expect(page.locator("#vm-rows .name")).to_have_text(["web-1"])


def test_five_thousand_rows_stay_quick_and_all_can_be_reached(api: ScriptedApi, visit: Callable[..., Page]):
    for number in range(5000):
        api.add(f"vm-{number:04d}", preemptible=number % 2 == 0, age=number)
    page = visit(api)
    expect(page.locator("#vm-count")).to_have_text("5,000")
    assert page.locator("#vm-rows .vm-row").count() < 60
    took = page.evaluate("""async () => {
      const frame = () => new Promise(resolve => requestAnimationFrame(resolve));
      const begun = performance.now();
      document.querySelector('[data-column=name]').click();
      await frame(); await frame(); await frame();
      return performance.now() - begun;
    }""")
    assert took < 1000
    page.locator("#vm-grid").focus()
    page.keyboard.press("End")
    expect(page.locator("#vm-rows [data-active] .name")).to_have_text("vm-4999")
    page.keyboard.press("Home")
    expect(page.locator("#vm-rows [data-active] .name")).to_have_text("vm-0000")
    page.get_by_label("Filter by name, id, flavor, host or owner").fill("vm-2711")
    expect(page.locator("#vm-rows .name")).to_have_text(["vm-2711"])
    api.emit("create", "active", {**api.servers["v0000001"], "name": "vm-2711-b"})
    expect(page.locator("#vm-count")).to_have_text("2 of 5,000")


def test_the_active_row_is_reported_to_screen_readers(api: ScriptedApi, visit: Callable[..., Page]):
    api.add("web-1", age=1)
    api.add("web-2", age=2)
    page = visit(api)
    page.locator("#vm-grid").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#vm-rows [data-active] .name")).to_have_text("web-2")
    expect(page.locator("#vm-grid")).to_have_attribute(
        "aria-activedescendant", page.locator("#vm-rows [data-active]").get_attribute("id") or ""
    )
    expect(page.locator("#vm-grid")).to_have_attribute("aria-rowcount", "3")


def test_a_name_that_is_read_from_the_right_keeps_its_beginning(api: ScriptedApi, visit: Callable[..., Page]):
    vm = api.add("خادم الدفعات رقم واحد وهو اسم طويل جدا", preemptible=True)
    page = visit(api)
    api.notice(vm, 300)
    page.locator(".notice-name").click()
    for place in ("#vm-rows .name", ".notice-name", ".log-name", "#details-title"):
        direction = page.locator(place).first.evaluate("element => getComputedStyle(element).direction")
        assert (place, direction) == (place, "rtl")


@pytest.mark.parametrize("name", [HOSTILE, "\u202egnp.exe", "a" * 255])
def test_a_hostile_name_stays_a_name_wherever_it_is_shown(name: str, api: ScriptedApi, visit: Callable[..., Page]):
    vm = api.add(name, preemptible=True, flavor=name, host=name)
    page = visit(api)
    images = page.locator("img").count()
    record(api, vm, vm, "noticed", planned_at=1, evict_at=-30)
    api.notice(vm, 30, makes_room_for=vm["vmsvc_id"], criterion=name, reason=name)
    for place in ("#vm-rows .name", ".notice-name", ".log-name"):
        expect(page.locator(place).first).to_have_text(name)
    page.locator(".log-name").first.click()
    expect(page.locator("#details-title")).to_have_text(name)
    expect(page.locator(".record strong")).to_have_text([f"{name} freed capacity"] * 2)
    page.get_by_role("button", name="Delete…").click()
    expect(page.locator("#confirm-text")).to_contain_text(name)
    assert page.locator("img").count() == images
    assert page.locator("script").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
