"""The connection: what is missed while it is down is there when it is back, once and in order."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect

from tests.browser.scripted_api import ScriptedApi


@pytest.mark.parametrize("how", [1012, 4008, 1001, "cut"])
def test_after_a_drop_the_page_goes_on_where_it_was(how: int | str, api: ScriptedApi, visit: Callable[..., Page]):
    vm = api.add("db-1")
    page = visit(api, provoked=True)
    last = api.emit("create", "pending", vm)
    expect(page.locator("#log-rows .chip")).to_have_text(["pending"])
    api.refusing = True
    if how == "cut":
        api.break_off()
    else:
        api.drop(how)
    expect(page.locator("#connection-text")).to_have_text("Connection lost")
    api.emit("create", "building", vm)
    api.emit("create", "active", vm)
    api.refusing = False
    expect(page.locator("#connection-text")).to_have_text("Live")
    expect(page.locator("#log-rows .chip")).to_have_text(["active", "building", "pending"])
    expect(page.locator("#vm-rows .chip")).to_have_text("active")
    assert api.connects == [0, last]


def test_the_page_names_the_release_that_runs_also_after_an_upgrade(api: ScriptedApi, visit: Callable[..., Page]):
    page = visit(api, provoked=True)
    expect(page.locator("#version")).to_have_text("1.2.3")
    api.version = "1.3.0"
    api.drop()
    expect(page.locator("#version")).to_have_text("1.3.0")


def test_when_the_history_is_gone_the_list_is_read_anew(api: ScriptedApi, visit: Callable[..., Page]):
    vm = api.add("web-1")
    page = visit(api, provoked=True)
    api.emit("create", "active", vm)
    expect(page.locator("#log-rows .chip")).to_have_text(["active"])
    api.refusing = True
    api.drop()
    api.emit("delete", "deleted", vm)
    api.emit("create", "active", api.add("web-2"))
    api.removed = api.seq
    api.events.clear()
    api.refusing = False
    expect(page.locator("#vm-rows .name")).to_have_text(["web-2"])
    expect(page.locator("#connection-text")).to_have_text("Live")
    assert api.connects == [0, 1, 3]


def test_what_happens_between_the_list_and_the_socket_is_not_lost(api: ScriptedApi, visit: Callable[..., Page]):
    page = visit(api, live=False)
    api.emit("create", "active", api.add("db-1"))
    expect(page.locator("#vm-rows .name")).to_have_text(["db-1"])
    expect(page.locator("#log-rows .chip")).to_have_text(["active"])


def test_a_service_that_is_not_there_yet_is_explained_and_asked_again(api: ScriptedApi, visit: Callable[..., Page]):
    api.list_failure = (503, "cloud_unavailable", "The cloud does not answer now.")
    page = visit(api, provoked=True, live=False)
    expect(page.locator("#vm-empty")).to_have_text("The cloud does not answer now.")
    expect(page.locator("#log-empty")).to_have_text("The events could not be read. The cloud does not answer now.")
    expect(page.locator("#connection-text")).to_have_text("The cloud does not answer now.")
    api.list_failure = None
    expect(page.locator("#connection-text")).to_have_text("Live")


def test_works_behind_a_path_prefix(visit: Callable[..., Page]):
    api = ScriptedApi(prefix="/clouds/vmsvc/")
    try:
        page = visit(api)
        api.emit("create", "active", api.add("web-1"))
        expect(page.locator("#vm-rows .name")).to_have_text(["web-1"])
    finally:
        api.stop()


def test_every_minute_the_list_is_read_again_for_what_has_no_events(api: ScriptedApi, visit: Callable[..., Page]):
    page = visit(api, live=False, own=True)
    page.clock.install()
    page.reload()
    expect(page.locator("#connection-text")).to_have_text("Live")
    api.servers["f-1"] = {"id": "f-1", "name": "made-elsewhere", "status": "ACTIVE", "created": api.instant()}
    page.clock.run_for(61_000)
    expect(page.locator("#vm-rows .name")).to_have_text(["made-elsewhere"])


def test_a_list_that_was_long_on_its_way_takes_nothing_back(api: ScriptedApi, visit: Callable[..., Page]):
    vm = api.add("web-1")
    page = visit(api, live=False, own=True)
    page.clock.install()
    page.reload()
    expect(page.locator("#connection-text")).to_have_text("Live")
    api.holding = True
    api.servers["f-1"] = {"id": "f-1", "name": "made-elsewhere", "status": "ACTIVE", "created": api.instant()}
    with page.expect_request("**/api/v1/vm"):
        page.clock.run_for(61_000)
    api.emit("delete", "deleting", vm)
    expect(page.locator("#vm-rows .chip")).to_have_text(["deleting"])
    api.holding = False
    expect(page.locator("#vm-rows .name")).to_have_text(["made-elsewhere", "web-1"])
    expect(page.locator("#vm-rows .chip")).to_have_text(["active", "deleting"])


def test_a_new_database_with_smaller_numbers_begins_a_new_history(api: ScriptedApi, visit: Callable[..., Page]):
    for _ in range(3):
        api.emit("create", "active", api.add("old"))
    page = visit(api, live=False, own=True)
    page.clock.install()
    page.reload()
    expect(page.locator("#log-rows .log-row")).to_have_count(3)
    api.servers.clear()
    api.events.clear()
    api.seq = 0
    page.clock.run_for(61_000)
    expect(page.locator("#vm-rows .vm-row")).to_have_count(0)
    api.emit("create", "active", api.add("new"))
    expect(page.locator("#log-rows .log-name")).to_have_text(["new"])


def test_a_token_is_asked_for_and_used_for_calls_and_the_socket(api: ScriptedApi, visit: Callable[..., Page]):
    api.token = "s3cret"
    api.add("web-1")
    page = visit(api, provoked=True, live=False)
    page.get_by_label("Token").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#sign-in-text")).to_have_text("That token was not accepted.")
    page.get_by_label("Token").fill("s3cret")
    page.keyboard.press("Enter")
    expect(page.locator("#vm-rows .name")).to_have_text(["web-1"])
    expect(page.locator("#sign-in-dialog")).to_be_hidden()
    expect(page.locator("#connection-text")).to_have_text("Live")


def test_a_token_that_runs_out_is_asked_for_again(api: ScriptedApi, visit: Callable[..., Page]):
    page = visit(api, provoked=True)
    api.token = "s3cret"
    api.drop()
    page.get_by_label("Token").fill("s3cret")
    page.keyboard.press("Enter")
    expect(page.locator("#connection-text")).to_have_text("Live")


@pytest.mark.parametrize("hours", [-5, 5])
def test_ages_go_by_the_servers_clock(hours: int, visit: Callable[..., Page]):
    api = ScriptedApi(skew=timedelta(hours=hours))
    try:
        api.add("web-1", age=200)
        expect(visit(api).locator("#vm-rows .age")).to_have_text("3 min")
    finally:
        api.stop()
