"""Creating, asking and deleting, with the keyboard alone; and errors in words."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.scripted_api import ScriptedApi
from tests.browser.scripted_records import CATALOG


def posts(api: ScriptedApi) -> list[tuple[str, str, dict[str, str], dict]]:
    """The creates that were asked for."""
    return [request for request in api.requests if request[0] == "POST"]


def press(page: Page, *keys: str) -> None:
    """Keys, one after the other."""
    for key in keys:
        page.keyboard.press(key)


def test_a_preemptible_vm_is_created_with_the_keyboard_alone(api: ScriptedApi, visit: Callable[..., Page]):
    page = visit(api)
    press(page, *["Tab"] * 5)
    expect(page.get_by_role("button", name="Create VM")).to_be_focused()
    press(page, "Enter")
    expect(page.get_by_role("radio", name="Standard")).to_be_focused()
    press(page, "ArrowDown", "Tab")
    page.keyboard.type("batch-1")
    press(page, "Tab")
    expect(page.locator("[name=flavor] option")).to_have_count(4)
    page.keyboard.type("m1.s")
    press(page, "Tab", "Tab", "Tab", "Tab")
    page.keyboard.type("5")
    press(page, "Enter")
    expect(page.locator("#create-dialog")).to_be_hidden()
    expect(page.get_by_role("button", name="Create VM")).to_be_focused()
    expect(page.locator("#vm-rows .name")).to_have_text(["batch-1"])
    assert [body for *_, body in posts(api)] == [
        {"is_preemptible": True, "name": "batch-1", "flavor": "f-2", "priority": 5}
    ]


def test_a_vm_is_deleted_with_the_keyboard_alone(api: ScriptedApi, visit: Callable[..., Page]):
    api.add("web-1", age=1)
    api.add("web-2", age=2)
    page = visit(api)
    page.locator("#vm-grid").focus()
    press(page, "ArrowDown", "Delete")
    expect(page.locator("#confirm-text")).to_contain_text("“web-1”")
    expect(page.get_by_role("button", name="Keep it")).to_be_focused()
    press(page, "Tab", "Enter")
    expect(page.locator("#confirm-dialog")).to_be_hidden()
    expect(page.locator("#vm-grid")).to_be_focused()
    expect(page.locator("#vm-rows .chip")).to_have_text(["deleted", "active"])
    assert [request[:2] for request in api.requests if request[0] == "DELETE"] == [
        ("DELETE", "/api/v1/vm/c0000001-0000-4000-8000-000000000000")
    ]


def test_nothing_is_deleted_without_a_yes(api: ScriptedApi, visit: Callable[..., Page]):
    api.add("web-1")
    page = visit(api)
    page.get_by_role("button", name="Delete web-1").click()
    press(page, "Escape")
    expect(page.locator("#confirm-dialog")).to_be_hidden()
    page.get_by_role("button", name="Delete web-1").click()
    press(page, "Enter")
    expect(page.locator("#confirm-dialog")).to_be_hidden()
    assert not [request for request in api.requests if request[0] == "DELETE"]


def test_a_refused_create_says_why_and_trying_again_is_the_same_wish(api: ScriptedApi, visit: Callable[..., Page]):
    api.create_failure = (409, "no_capacity", "no host has room, and no eviction would make it")
    page = visit(api, provoked=True)
    page.get_by_role("button", name="Create VM").click()
    page.locator("#create-submit").click()
    expect(page.locator("#create-outcome")).to_have_text("no host has room, and no eviction would make it")
    api.create_failure = None
    page.locator("#create-submit").click()
    expect(page.locator("#create-dialog")).to_be_hidden()
    keys = [headers["Idempotency-Key"] for _, _, headers, _ in posts(api)]
    assert len(keys) == 2 and keys[0] == keys[1]
    assert posts(api)[0][3] == {"is_preemptible": False}


def test_messages_are_in_plain_words(api: ScriptedApi, visit: Callable[..., Page]):
    host = "0f7c2f9c3a46ab39cf1dd2b8f6f3a7c10e4c4f1e2a3f4bb6a4a76c5d"
    api.create_failure = (409, "no_capacity", f"host_id {host} lacks 2 VCPU, 4096 MEMORY_MB with all VMs evicted")
    page = visit(api, provoked=True)
    page.get_by_role("button", name="Create VM").click()
    page.locator("#create-submit").click()
    expect(page.locator("#create-outcome")).to_have_text(
        "host 0f7c2f9c… lacks 2 vCPU, 4 GiB of RAM with all VMs evicted"
    )


def test_a_count_creates_so_many_each_with_its_own_name_and_key(api: ScriptedApi, visit: Callable[..., Page]):
    page = visit(api)
    page.get_by_role("button", name="Create VM").click()
    page.get_by_label("Name", exact=True).fill("node")
    page.get_by_label("Count").fill("5")
    page.get_by_role("button", name="Create 5").click()
    expect(page.locator("#vm-count")).to_have_text("5")
    assert sorted(body["name"] for *_, body in posts(api)) == [f"node-{number}" for number in range(1, 6)]
    assert len({headers["Idempotency-Key"] for _, _, headers, _ in posts(api)}) == 5


def test_a_service_that_says_not_so_fast_is_asked_again_when_it_says(api: ScriptedApi, visit: Callable[..., Page]):
    api.create_failure = (429, "too_many_requests", "too many creates")
    page = visit(api, provoked=True)
    page.get_by_role("button", name="Create VM").click()
    with page.expect_response(lambda response: response.status == 429):
        page.locator("#create-submit").click()
    api.create_failure = None
    expect(page.locator("#create-dialog")).to_be_hidden()
    assert len({headers["Idempotency-Key"] for _, _, headers, _ in posts(api)}) == 1


def test_what_would_happen_names_the_victims_and_creates_nothing(api: ScriptedApi, visit: Callable[..., Page]):
    victim = api.add("batch-1", preemptible=True)
    api.plan = {
        "result": "evicts",
        "bin": {"kind": "host", "id": "bed-1"},
        "victims": [victim["id"]],
        "criterion": "less lost work",
    }
    page = visit(api)
    page.get_by_role("button", name="Create VM").click()
    page.get_by_role("button", name="What would happen?").click()
    outcome = page.locator("#create-outcome")
    expect(outcome.locator("p")).to_have_text(["It would evict this VM:", "What decided: less lost work."])
    expect(outcome.locator(".victims li")).to_have_text("batch-1m1.small · bed-2 · priority 0")
    expect(page.locator("#vm-count")).to_have_text("1")


def test_what_would_happen_counts_all_that_are_asked_for_and_leaves_the_focus_where_it_is(
    api: ScriptedApi, visit: Callable[..., Page]
):
    victims = [api.add(f"batch-{number}", preemptible=True)["id"] for number in range(7)]
    plan = {"result": "evicts", "grace_seconds": 30, "criterion": "the best for 2 requests together"}
    plans = [
        {**plan, "victims": victims[:4]},
        {**plan, "victims": victims[4:]},
        {"result": "refused", "victims": [], "reason": "no host has room"},
    ]
    api.plan = {**plans[0], "plans": plans}
    page = visit(api)
    page.get_by_role("button", name="Create VM").click()
    page.get_by_label("Name", exact=True).fill("db")
    page.get_by_label("Count").fill("3")
    button = page.get_by_role("button", name="What would happen?")
    button.focus()
    press(page, "Enter")
    outcome = page.locator("#create-outcome")
    expect(outcome.locator("p")).to_have_text(
        [
            "Of 3 VMs, 2 would be placed after 7 evictions, after 30 s of notice, 1 would be refused:",
            "What decided: the best for 2 requests together.",
            "No host has room.",
        ]
    )
    expect(outcome.locator(".victims li")).to_have_count(7)
    expect(button).to_be_focused()
    assert [path for method, path, *_ in posts(api)] == ["/api/v1/vm"] and api.asked_to_foresee == [3]
    page.locator("#create-submit").click()
    expect(page.locator("#create-dialog")).to_be_hidden()
    page.get_by_role("button", name="Create VM").click()
    expect(page.get_by_label("Name", exact=True)).to_have_value("")  # the next VMs are others
    expect(page.get_by_label("Count")).to_have_value("1")


def test_where_there_is_no_default_one_has_to_be_chosen_before_anybody_is_asked(
    api: ScriptedApi, visit: Callable[..., Page]
):
    api.catalog = {**CATALOG, "defaults": {"flavor": None, "image": "bed-image", "network": "bed-net"}}
    page = visit(api)
    page.get_by_role("button", name="Create VM").click()
    flavor = page.locator("[name=flavor]")
    expect(flavor.locator("option").first).to_have_text("Choose…")
    expect(flavor).to_have_attribute("required", "")
    expect(page.locator("[name=image]")).not_to_have_attribute("required", "")
    page.locator("#create-submit").click()
    expect(page.locator("#create-outcome")).to_have_text("Flavor: there is no default, so choose one.")
    expect(flavor).to_be_focused()
    assert not posts(api)
    flavor.select_option("f-2")
    page.locator("#create-submit").click()
    expect(page.locator("#create-dialog")).to_be_hidden()


def test_a_vm_that_is_started_again_can_be_asked_for(api: ScriptedApi, visit: Callable[..., Page]):
    page = visit(api)
    page.get_by_role("button", name="Create VM").click()
    page.get_by_text("More", exact=True).click()
    expect(page.get_by_label("After an eviction")).to_be_hidden()
    page.locator("[name=kind][value=preemptible]").check()
    expect(page.get_by_label("Restarts at most")).to_be_hidden()
    page.get_by_label("After an eviction").select_option("It is started again")
    page.get_by_label("Restarts at most").fill("20")
    page.locator("#create-submit").click()
    expect(page.locator("#create-dialog")).to_be_hidden()
    assert posts(api)[0][3] == {"is_preemptible": True, "on_eviction": "restart", "max_restarts": 20}


def test_a_wrong_number_is_named_before_anybody_is_asked(api: ScriptedApi, visit: Callable[..., Page]):
    page = visit(api)
    page.get_by_role("button", name="Create VM").click()
    page.get_by_label("Count").fill("0")
    press(page, "Enter")
    expect(page.locator("#create-outcome")).to_contain_text("Count:")
    expect(page.get_by_label("Count")).to_be_focused()
    assert not posts(api)


def test_the_cloud_s_lists_are_offered_and_the_defaults_named(api: ScriptedApi, visit: Callable[..., Page]):
    page = visit(api)
    page.get_by_role("button", name="Create VM").click()
    expect(page.locator("[name=flavor] option")).to_have_text(
        ["Default (m1.tiny)", "m1.tiny — 1 vCPU, 1 GiB", "m1.small — 2 vCPU, 2 GiB", "m1.medium — 3 vCPU, 3 GiB"]
    )
    expect(page.locator("[name=image] option")).to_have_text(["Default (bed-image)", "bed-image", "<b>debian</b>"])
    expect(page.locator("[name=network] option")).to_have_text(["Default (bed-net)", "bed-net"])
    page.get_by_text("More").click()
    page.get_by_label("Image").select_option("<b>debian</b>")
    page.get_by_label("Network").select_option("bed-net")
    page.get_by_label("Key pair").select_option("mine")
    page.get_by_label("Availability zone").select_option("nova")
    page.locator("#create-submit").click()
    expect(page.locator("#create-dialog")).to_be_hidden()
    assert posts(api)[0][3] == {
        "is_preemptible": False,
        "image": "i-2",
        "network": "n-1",
        "key_name": "mine",
        "availability_zone": "nova",
    }


def test_a_catalog_that_cannot_be_read_leaves_the_defaults(api: ScriptedApi, visit: Callable[..., Page]):
    api.catalog_failure = (503, "cloud_unavailable", "the cloud has not been read yet")
    page = visit(api, provoked=True)
    page.get_by_role("button", name="Create VM").click()
    expect(page.locator("#create-outcome")).to_contain_text("the cloud has not been read yet")
    page.locator("#create-submit").click()
    expect(page.locator("#create-dialog")).to_be_hidden()
    assert posts(api)[0][3] == {"is_preemptible": False}


def test_a_failed_delete_is_reported_in_words(api: ScriptedApi, visit: Callable[..., Page]):
    api.add("web-1")
    api.delete_failure = (409, "conflict", "the server is locked in the cloud")
    page = visit(api, provoked=True)
    page.get_by_role("button", name="Delete web-1").click()
    page.locator("#confirm-yes").click()
    expect(page.get_by_role("alert")).to_contain_text("“web-1” was not deleted. the server is locked in the cloud")


def test_a_create_that_fails_later_is_reported_to_its_requester(api: ScriptedApi, visit: Callable[..., Page]):
    api.building = True
    page = visit(api)
    page.get_by_role("button", name="Create VM").click()
    page.get_by_label("Name", exact=True).fill("db-1")
    page.locator("#create-submit").click()
    expect(page.locator("#create-dialog")).to_be_hidden()
    api.emit("create", "failed", api.add("not-mine"), reason="the image is broken")
    api.emit(
        "create",
        "failed",
        next(vm for vm in api.servers.values() if vm["name"] == "db-1"),
        reason="No host would build it.",
    )
    expect(page.get_by_role("alert")).to_have_text(["“db-1” could not be created. No host would build it.✕"])


def test_details_show_facts_history_and_json(api: ScriptedApi, visit: Callable[..., Page]):
    vm = api.add("web-1")
    api.emit("create", "pending", vm)
    api.emit("create", "active", vm)
    page = visit(api)
    page.locator("#vm-grid").focus()
    press(page, "ArrowDown", "Enter")
    expect(page.locator("#details-title")).to_have_text("web-1")
    expect(page.locator("#details-history .chip")).to_have_text(["pending", "active"])
    api.emit("delete", "deleting", vm)
    expect(page.locator("#details-facts .chip")).to_have_text("deleting")
    expect(page.locator("#details-history .chip")).to_have_text(["pending", "active", "deleting"])
    page.get_by_text("As JSON", exact=True).click()
    expect(page.locator("#details-json")).to_contain_text('"vmsvc_id": "v0000001"')
    press(page, "Escape")
    expect(page.locator("#vm-grid")).to_be_focused()
