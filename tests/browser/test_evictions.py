"""The record of an eviction on the page of its VM: who for whom, what decided, and every step with its time."""

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, expect

from tests.browser.scripted_api import ScriptedApi

STEPS = (
    *("planned_at", "evict_at", "noticed_at", "acknowledged_at", "reprieved_at"),
    *("evicting_at", "stopped_at", "deleted_at", "freed_at", "fulfilled_at"),
)


def record(
    api: ScriptedApi, victim: dict[str, Any], request: dict[str, Any] | None, state: str, **times: float
) -> dict[str, Any]:
    """An eviction whose steps were so many seconds ago."""
    party = ("id", "name", "vmsvc_id")
    kept = {
        "id": len(api.records) + 1,
        "state": state,
        "reason": "capacity" if request else "simulated",
        "simulated": request is None,
        "vm": {name: victim[name] for name in party},
        "owner": "anonymous",
        "request": request and {name: request[name] for name in party},
        "round": 1,
        "bin": "host bed-2",
        "criterion": "less lost work",
        "optimal": True,
        "wasted": None,
        "cost": {"victims_by_priority": {"0": 2}, "running_victims": 2, "lost_work": 7260, "surplus_ppm": 0},
        "runner_up": {"victims_by_priority": {"0": 2}, "running_victims": 2, "lost_work": 9000, "surplus_ppm": 0},
        **{step: api.instant(-times[step]) if step in times else None for step in STEPS},
    }
    api.records.append(kept)
    return kept


def test_an_eviction_is_shown_with_its_timeline(api: ScriptedApi, visit: Callable[..., Page]):
    db, victim = api.add("db-1"), api.add("batch-1", preemptible=True)
    record(
        api,
        victim,
        db,
        "evicted",
        planned_at=60,
        noticed_at=59.8,
        evict_at=30,
        evicting_at=29.9,
        stopped_at=26,
        deleted_at=25.5,
        freed_at=25,
        fulfilled_at=20,
    )
    api.tell("evict", "evicted", victim)
    page = visit(api)
    page.locator(".log-row").filter(has_text="evicted").click()
    eviction = page.locator(".record")
    expect(eviction.locator("summary strong")).to_have_text("Capacity for db-1")
    expect(eviction.locator("dd")).to_have_text(
        [
            "db-1",
            "host bed-2",
            "less lost work",
            "2 of priority 0 · 2 running · 7,260 vCPU-seconds of work lost",
            "2 of priority 0 · 2 running · 9,000 vCPU-seconds of work lost",
        ]
    )
    expect(eviction.locator(".timeline li > span:last-child")).to_have_text(
        [
            "Chosen as a victim; event sent",
            "Readable in the guest's metadata",
            "The grace period ended",
            "Eviction began",
            "Guest shut down",
            "The cloud took the delete",
            "Gone from the cloud: its capacity is free",
            "db-1 is active",
        ]
    )
    expect(eviction.locator(".timeline .after")).to_have_text(
        ["", "+0.20 s", "+30.0 s", "+30.1 s", "+34.0 s", "+34.5 s", "+35.0 s", "+40.0 s"]
    )


def test_the_preemptor_shows_its_victims(api: ScriptedApi, visit: Callable[..., Page]):
    db = api.add("db-1")
    for number in (1, 2):
        record(api, api.add(f"batch-{number}", preemptible=True, age=9), db, "evicted", planned_at=60, freed_at=25)
    page = visit(api)
    page.locator("#vm-rows .name").first.click()
    expect(page.locator(".record summary strong")).to_have_text(["batch-1 freed capacity", "batch-2 freed capacity"])
    expect(page.locator(".record[open]")).to_have_count(1)


def test_a_reprieve_and_a_practice_are_reported_as_what_they_were(api: ScriptedApi, visit: Callable[..., Page]):
    victim = api.add("batch-1", preemptible=True)
    record(api, victim, None, "reprieved", planned_at=60, evict_at=30, reprieved_at=30)
    record(api, victim, api.add("db-1", age=9), "reprieved", planned_at=90, evict_at=10, reprieved_at=70)
    page = visit(api)
    page.locator("#vm-rows .name").first.click()
    expect(page.locator(".record summary strong")).to_have_text(["Practised by its owner", "Capacity for db-1"])
    page.locator(".record summary").nth(1).click()
    expect(page.locator(".record").nth(1).locator(".timeline li > span:last-child")).to_have_text(
        ["Chosen as a victim; event sent", "Reprieved"]
    )


def test_a_surcharge_for_owners_is_not_shown_as_lost_work(api: ScriptedApi, visit: Callable[..., Page]):
    victim = api.add("batch-1", preemptible=True)
    kept = record(api, victim, api.add("db-1", age=9), "evicted", planned_at=60, freed_at=25)
    kept["cost"] |= {"lost_work": 345_620, "surcharge": 345_600}
    kept["runner_up"] |= {"lost_work": 345_800}
    page = visit(api)
    page.locator("#vm-rows .name").first.click()
    expect(page.locator(".record .facts")).to_contain_text(
        "20 vCPU-seconds of work lost · 345,600 more because its owners lost VMs lately"
    )
    expect(page.locator(".record .facts")).to_contain_text("345,800 for lost work and owners together")


def test_while_it_is_noticed_its_deadline_stands_open(api: ScriptedApi, visit: Callable[..., Page]):
    victim = api.add("batch-1", preemptible=True)
    page = visit(api)
    record(api, victim, None, "noticed", planned_at=1, evict_at=-300)
    api.notice(victim, 300)
    page.locator(".notice-name").click()
    expect(page.locator(".timeline [data-open]")).to_contain_text("The grace period ends")
