"""How certain a plan is, and what it counts on: in the dry run, the notice, the record and the capacity of a tenant."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.scripted_api import ScriptedApi
from tests.browser.scripted_capacity import CAPACITY
from tests.browser.test_evictions import record

WORDS = "this host held 4 vCPU and 8 GiB of yours on Monday, 2026-11-23"
LIKELY = {"certainty": "likely", "evidence": WORDS}
HOST_ID = "0f7c2f9c3a46ab39cf1dd2b8f6f3a7c10e4c4f1e2a3f4bb6a4a76c5d"


def test_a_dry_run_says_whether_a_plan_is_sure_and_what_a_likely_one_counts_on(
    api: ScriptedApi, visit: Callable[..., Page]
):
    victim = api.add("batch-1", preemptible=True)
    likely = {"result": "evicts", "bin": {"kind": "host_id", "id": HOST_ID}, "victims": [victim["id"]], **LIKELY}
    api.plan = {"result": "placed", "reason": "", "victims": [], "host": None, "if_no_host_has_room": likely}
    page = visit(api)
    page.get_by_role("button", name="Create VM").click()
    page.get_by_role("button", name="What would happen?").click()
    outcome = page.locator("#create-outcome")
    expect(outcome).to_contain_text(f"Likely, not sure: {WORDS}.")
    api.plan = {"result": "evicts", "victims": [victim["id"]], "certainty": "sure", "evidence": None}
    page.get_by_role("button", name="What would happen?").click()
    expect(outcome).to_contain_text("Sure: all that the plan counts on is known.")


def test_a_notice_and_its_event_say_that_the_plan_is_likely(api: ScriptedApi, visit: Callable[..., Page]):
    victim = api.add("batch-1", preemptible=True)
    page = visit(api)
    api.notice(victim, 20, **LIKELY)
    expect(page.locator(".notice")).to_contain_text(WORDS)
    expect(page.locator(".log-row").filter(has_text="noticed")).to_contain_text("likely")


def test_the_record_says_it_and_what_came_of_it(api: ScriptedApi, visit: Callable[..., Page]):
    db, victim = api.add("db-1"), api.add("batch-1", preemptible=True)
    kept = record(api, victim, db, "evicted", planned_at=60, evicting_at=30, freed_at=25)
    kept |= {**LIKELY, "wasted": "the cloud refused the request all the same"}
    api.tell("evict", "evicted", victim)
    page = visit(api)
    page.locator(".log-row").filter(has_text="evicted").click()
    facts = page.locator(".record .facts")
    expect(facts).to_contain_text(f"Likely, not sure: {WORDS}.")
    expect(facts).to_contain_text("the cloud refused the request all the same")


def test_a_tenant_sees_its_hosts_by_what_it_has_held_there(api: ScriptedApi, visit: Callable[..., Page]):
    held = {"VCPU": 1, "MEMORY_MB": 2048}
    host = {
        "name": HOST_ID,
        "host_id": HOST_ID,
        "available": True,
        "availability_zone": "nova",
        "capacity": {"VCPU": 4, "MEMORY_MB": 8192},
        **dict.fromkeys(("used", "held", "preemptible", "reclaimable"), held),
        **dict.fromkeys(("standard", "foreign", "reserved"), {}),
        "free": {"VCPU": 3, "MEMORY_MB": 6144},
        "evidence": [{"resources": {"VCPU": 4, "MEMORY_MB": 8192}, "declared": False, "words": WORDS}],
        "refusals": [],
    }
    api.capacity = {**CAPACITY, "mode": "tenant", "hosts": [host]}
    page = visit(api)
    tile = page.locator(".capacity-hosts .tile")
    expect(tile).to_contain_text("Host 0f7c2f9c")
    expect(tile).to_contain_text("by evidence")
    expect(tile).to_have_attribute("title", WORDS)
    expect(page.locator(".capacity-whole")).to_contain_text("1 host, by evidence")
    expect(page.locator("#strip-readout")).to_contain_text("of 16 vCPUs")  # the quota's: evidence is no measure
