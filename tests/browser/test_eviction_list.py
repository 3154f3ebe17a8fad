"""The record of evictions as a page: what happened last night in one look, found, narrowed down and saved."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.scripted_api import ScriptedApi
from tests.browser.test_axe import violations
from tests.browser.test_evictions import record

HOUR = 3600


def night(api: ScriptedApi) -> None:
    """Three evictions of the last day and 520 of the last week, of VMs that are gone."""
    db = api.add("db-1", owner="alice")
    for number in range(520):
        victim = {"id": f"o{number}", "vmsvc_id": f"w{number}", "name": f"old-{number}"}
        record(api, victim, db, "evicted", planned_at=50 * HOUR, freed_at=50 * HOUR - 33)
    gone = {"id": "c9", "vmsvc_id": "v9", "name": "=train"}
    record(api, gone, db, "evicted", planned_at=9 * HOUR, evict_at=9 * HOUR - 30, freed_at=9 * HOUR - 33)
    record(api, gone, None, "reprieved", planned_at=8 * HOUR, reprieved_at=8 * HOUR - 30)
    record(api, {**gone, "name": "web-2"}, db, "evicted", planned_at=HOUR, freed_at=HOUR - 30)["owner"] = "alice"
    api.tell("create", "active", api.add("=train", preemptible=True, id="c9", vmsvc_id="v9"))
    api.tell("evict", "evicted", api.servers["v9"])


def test_what_happened_last_night_is_one_look_away(api: ScriptedApi, visit: Callable[..., Page], tmp_path: Path):
    night(api)
    api.me = {"name": "alice", "role": "member"}
    page = visit(api)
    page.get_by_role("button", name="Evictions", exact=True).click()
    rows = page.locator("#evictions-rows tr")
    expect(rows.locator("th")).to_have_text(["web-2", "=train", "=train"])
    expect(rows.nth(2).locator("td")).to_contain_text(
        ["", "anonymous", "db-1", "less lost work", "evictedafter 33.0 s"]
    )
    expect(rows.nth(1)).to_contain_text("Practised by its owner")
    assert violations(page) == []
    page.get_by_label("Since").select_option("7 days")
    expect(page.locator("#evictions-count")).to_have_text("523")
    page.get_by_label("Search by VM").fill("train")
    expect(rows).to_have_count(2)
    page.get_by_label("Outcome").select_option("evicted")
    expect(page.locator("#evictions-count")).to_have_text("1 of 523")
    expect(page).to_have_url(f"{api.url}?edays=7&eq=train&estate=evicted#evictions")

    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as CSV").click()
    saved.value.save_as(tmp_path / "evictions.csv")
    (row,) = csv.DictReader((tmp_path / "evictions.csv").read_text("utf-8").splitlines())
    assert (row["vm"], row["vm_id"], row["preemptor"], row["state"]) == ("'=train", "c9", "db-1", "evicted")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as JSON").click()
    saved.value.save_as(tmp_path / "evictions.json")
    assert json.loads((tmp_path / "evictions.json").read_text("utf-8")) == [api.records[520]]

    page.get_by_role("link", name="=train").click()  # it is gone, and still found
    expect(page.locator("#details-facts .chip")).to_have_text("evicted")
    expect(page).to_have_url(f"{api.url}?edays=7&eq=train&estate=evicted#vm/v9")
    page.locator("#details-evictions").get_by_role("link", name="db-1").first.click()
    expect(page.locator("#details-title")).to_have_text("db-1")
    page.go_back()
    expect(page.locator("#details-dialog")).to_be_hidden()
    expect(rows).to_have_count(1)
    page.reload()
    expect(page.locator("#evictions-count")).to_have_text("1 of 523")
    page.get_by_label("Outcome").select_option("")
    page.get_by_label("Search by VM").fill("")
    page.get_by_label("Whose").select_option("Mine")
    expect(rows.locator("th")).to_have_text(["web-2"])
    page.keyboard.press("Escape")
    expect(page.locator("#evictions-dialog")).to_be_hidden()
    assert "#" not in page.url
