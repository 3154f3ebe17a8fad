"""The dialog of one VM: names and addresses that stay, what is left of a notice, its lineage, the end of restarts."""

import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.browser.scripted_api import ScriptedApi
from tests.browser.test_axe import violations

# As Nova shows a server: the image is an id, and the network has no name but in the addresses.
OF_NOVA = {"image": {"id": "7d6f"}, "network": None}


def fact(page: Page, term: str) -> Locator:
    """What the dialog says under a term."""
    return page.locator("#details-facts > div", has=page.get_by_text(term, exact=True)).locator("dd")


def test_names_and_addresses_are_there_at_once_and_stay(api: ScriptedApi, visit: Callable[..., Page]):
    vm = api.add("batch-1", preemptible=True)
    api.tell("create", "active", vm)
    api.servers[vm["vmsvc_id"]] = {**vm, **OF_NOVA, "image_name": "bed-image", "network": "bed-net"}
    api.views[vm["id"]] = {"addresses": {"bed-net": [{"addr": "10.0.0.7"}]}}
    page = visit(api)
    page.locator("#vm-rows .name").click()
    for event in ("active", "noticed"):
        expect(fact(page, "Image")).to_have_text("bed-image")
        expect(fact(page, "Network")).to_have_text("bed-net")
        expect(fact(page, "Addresses")).to_have_text("10.0.0.7 (bed-net)")
        if event == "active":
            api.notice(vm, 200)
    expect(fact(page, "Will be evicted at")).to_contain_text(re.compile(r"in 3:(20|1\d)$"))
    first = fact(page, "Will be evicted at").text_content() or ""
    expect(fact(page, "Will be evicted at")).not_to_have_text(first)  # it counts down
    assert "Evicted at" not in page.locator("#details-facts").inner_text()
    assert violations(page) == []


def member(vm: dict[str, Any], state: str = "active") -> dict[str, Any]:
    """A VM as its lineage shows it."""
    ended = None if state == "active" else vm["created_at"]
    kept = {name: vm[name] for name in ("id", "vmsvc_id", "restarts", "created_at")}
    return {**kept, "state": state, "ended_at": ended}


def test_a_lineage_is_a_line_that_opens_and_its_restarts_can_be_ended(api: ScriptedApi, visit: Callable[..., Page]):
    first = api.add("train", preemptible=True, restarts=0, id="c8", vmsvc_id="v8", age=900)
    api.tell("create", "active", first)
    api.tell("evict", "evicted", first)
    api.add("other", age=5000)
    vm = api.add("train", preemptible=True, restarts=1, restart_of=first["vmsvc_id"], id="c9", vmsvc_id="v9", age=60)
    of_one = {"on_eviction": "restart", "restarts_left": 4, "lineage": [member(vm), member(first, "evicted")]}
    api.views["c9"] = of_one
    page = visit(api)
    expect(page.locator("#vm-rows .name").first).to_have_attribute("data-restarts", "1")
    page.locator("#vm-grid").focus()
    for key in ("ArrowDown", "Enter"):
        page.keyboard.press(key)
    line = page.locator("#details-lineage summary")
    expect(line).to_have_text("Lineagestarted again once · 4 restarts left")
    expect(fact(page, "Restarts left")).to_have_text("4")
    line.press("Enter")
    members = page.locator("#details-lineage li")
    expect(members.locator("button")).to_have_text(["Restart 1", "The first VM"])
    expect(members.locator(".chip")).to_have_text(["active", "evicted"])
    assert violations(page) == []
    page.get_by_role("button", name="The first VM").press("Enter")
    expect(fact(page, "State")).to_have_text("evicted")
    expect(fact(page, "Image")).to_have_text("bed-image")
    expect(page.locator("#details-history .chip")).to_have_text(["active", "evicted"])
    page.keyboard.press("Escape")

    page.locator("#vm-grid").press("Enter")
    page.get_by_role("button", name="End restarts…").press("Enter")
    page.get_by_role("button", name="End restarts", exact=True).press("Enter")
    expect(line).to_have_text("Lineagestarted again once · restarts have ended")
    expect(page.get_by_role("button", name="End restarts…")).to_be_hidden()
    changes = [(path, body) for method, path, _, body in api.requests if method == "PATCH"]
    assert changes == [("/api/v1/vm/c9", {"on_eviction": "end"})]
