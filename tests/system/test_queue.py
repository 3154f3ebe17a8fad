"""Requests wait for capacity: in the queue's order, until their deadline, as what they are or as what they fall back
to."""

import asyncio
import time
from datetime import datetime

import pytest

ASYNC = {"Prefer": "respond-async"}


async def timed(answer):
    """An answer, and after how many seconds it came."""
    began = time.monotonic()
    return await answer, time.monotonic() - began


def age(event):
    """How many seconds after the request came, by the database's clock."""
    came = datetime.fromisoformat(event["data"]["vm"]["created_at"])
    return (datetime.fromisoformat(event["time"]) - came).total_seconds()


async def queued(client, count):
    """The requests of the queue by position, when so many wait there."""
    while True:
        waiting = {one["position"]: one for one in (await client.listed()).values() if one.get("position")}
        if len(waiting) == count:
            return waiting
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("mode", ["operator", "tenant"])
@pytest.mark.gen_test(timeout=60)
async def test_of_twenty_that_wait_the_first_five_get_what_becomes_free_and_the_others_fail_in_time(client, sim, mode):
    del mode
    held = await client.fill(4)
    answers = [await client.create(True, headers=ASYNC, name=f"w{number}", wait_seconds=12) for number in range(20)]
    asked = [answer.headers["Location"].rpartition("/")[2] for answer in answers]
    waiting = await queued(client, 20)
    assert [waiting[position]["id"] for position in sorted(waiting)] == asked
    for number, vm in enumerate(asked[:5]):
        await client.delete(held[number])
        active = await client.wait_for_event("create/active", vm)
        held.append(active["subject"])
    assert len([one for one in await client.events() if one["data"]["state"] == "active"]) == 9
    await client.wait_for_events("create/failed", 15)
    failed = [event for event in await client.events() if event["data"]["state"] == "failed"]
    assert [event["subject"] for event in failed] == asked[5:]
    for event in failed:
        assert (event["data"]["reason"], event["data"]["error"]) == ("deadline", "no_capacity")
        assert 12 <= age(event) <= 14
    assert len(sim.servers()) == 4


@pytest.mark.parametrize("mode", ["operator", "tenant"])
@pytest.mark.gen_test(timeout=40)
async def test_a_preemptible_request_falls_back_and_evicts_one_vm_for_itself(client, sim, mode):
    del mode
    await client.fill(4)
    answer, seconds = await timed(client.create(True, name="batch", wait_seconds=20, fallback_after_seconds=2))
    assert answer.status == 201 and not answer.json["vm"]["is_preemptible"]
    assert 2.5 <= seconds <= 4.5, "the fallback, the notice and the build"
    assert len(answer.json["evicted"]) == 1 and len(sim.servers()) == 4
    assert sim.servers()[answer.id]["metadata"]["vmsvc_kind"] == "standard"
    steps = await client.steps(answer.json["vm"]["vmsvc_id"])
    assert [step for step in steps if step != "create/building"] == [
        "create/pending",
        "create/queued",
        "create/fell_back",
        "create/active",
    ]


@pytest.mark.gen_test(timeout=40)
async def test_a_fallback_at_the_end_of_the_wait_gets_its_plan_however_slow_the_cloud_is(client, sim):
    await client.fill(4)
    asked = asyncio.ensure_future(client.create(True, wait_seconds=2, fallback_after_seconds=2))
    await queued(client, 1)
    sim.fault(action="delay", seconds=2.5, service="placement")
    answer = await asked
    sim.clear_faults()
    assert answer.status == 201 and len(answer.json["evicted"]) == 1, answer.json


@pytest.mark.gen_test(timeout=30)
async def test_a_request_that_fell_back_evicts_nobody_of_its_own_group(client):
    mine = await client.fill(4, group="web", max_unavailable=4)
    answer, seconds = await timed(client.create(True, group="web", wait_seconds=3, fallback_after_seconds=1))
    assert answer.status == 409 and 3 <= seconds <= 5
    assert (await client.listed()).keys() == set(mine)


@pytest.mark.gen_test(timeout=30)
async def test_a_standard_request_with_patience_evicts_nobody_before_it_is_over(client):
    await client.fill(4)
    answer, seconds = await timed(client.create(False, patience_seconds=2))
    assert answer.status == 201 and 2.5 <= seconds <= 4.5
    noticed = await client.wait_for_event("evict/noticed")
    came = datetime.fromisoformat(answer.json["vm"]["created_at"])
    assert (datetime.fromisoformat(noticed["time"]) - came).total_seconds() >= 2


@pytest.mark.gen_test(timeout=30)
async def test_what_becomes_free_in_the_meantime_spares_the_victim_of_a_patient_request(client):
    held = await client.fill(4)
    asked = asyncio.ensure_future(client.create(False, wait_seconds=20, patience_seconds=10))
    await queued(client, 1)
    await client.delete(held[0])
    answer = await asked
    assert answer.status == 201 and not answer.json["evicted"]


@pytest.mark.gen_test(timeout=30)
async def test_the_queue_is_seen_in_views_in_the_capacity_and_in_a_dry_run(client):
    await client.fill(4)
    assert (await client.call("GET", "/api/v1/capacity")).json["waiting"] == {"count": 0, "vcpus": 0, "oldest": None}
    first = await client.create(True, headers=ASYNC, wait_seconds=30)
    assert first.status == 202 and first.headers["Location"]
    await queued(client, 1)
    await client.create(False, headers=ASYNC, wait_seconds=30, patience_seconds=30)
    waiting = await queued(client, 2)
    assert [waiting[1]["is_preemptible"], waiting[2]["is_preemptible"]] == [False, True]
    shown = (await client.show(waiting[2]["id"])).json
    assert shown["position"] == 2 and shown["wait_until"] == waiting[2]["wait_until"]
    event = await client.wait_for_event("create/queued", waiting[2]["id"])
    assert event["data"]["position"] == 1 and event["data"]["why"] and event["data"]["wait_until"]
    seen = (await client.call("GET", "/api/v1/capacity")).json["waiting"]
    assert (seen["count"], seen["vcpus"], seen["oldest"]) == (2, 2, waiting[2]["created_at"])
    tried = (await client.create(True, query="?dry_run=true", wait_seconds=30)).json
    assert (tried["result"], tried["position"]) == ("waits", 3) and "position 3" in tried["reason"]
    assert (await client.create(True, query="?dry_run=true")).json["result"] == "refused"
    for one in waiting.values():
        assert (await client.delete(one["id"])).status == 200


@pytest.mark.parametrize("options", [{"grace_seconds": 0.5, "max_waiting": 2}], ids=["two"])
@pytest.mark.gen_test(timeout=30)
async def test_no_more_requests_of_an_owner_wait_than_may(client):
    await client.fill(4)
    answers = [await client.create(True, headers={"Prefer": "wait=1"}, wait_seconds=20) for _ in range(3)]
    assert [answer.status for answer in answers] == [202, 202, 429]
    assert (await client.create(True, wait_seconds=20)).json["error"] == "too_many_requests"
    assert (await client.create(True)).status == 409
    for one in (await queued(client, 2)).values():
        await client.delete(one["id"])


@pytest.mark.gen_test(timeout=30)
async def test_what_can_never_fit_does_not_wait(client, sim):
    sim.flavor("giant", vcpus=64)
    answer, seconds = await timed(client.create(True, flavor="giant", wait_seconds=20))
    assert answer.status in (403, 409) and seconds < 5, answer.json


@pytest.mark.gen_test(timeout=30)
async def test_a_deadline_is_kept_while_the_cloud_is_away(client, sim):
    await client.fill(4)
    asked = asyncio.ensure_future(timed(client.create(True, wait_seconds=3)))
    await queued(client, 1)
    sim.fault(action="status", service="compute", status=503)
    answer, seconds = await asked
    sim.clear_faults()
    assert answer.status == 409 and 3 <= seconds <= 5
