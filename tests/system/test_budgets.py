"""Eviction groups: never more of one away than its budget, and nobody is refused for want of it."""

import asyncio
from dataclasses import replace

import pytest

from tests.system.client import API
from tests.system.marks import BOTH, grace
from tests.system.timing import TIMING


async def room(client):
    """GET /capacity."""
    return (await client.call("GET", f"{API}/capacity")).json


@BOTH
@grace(1)
@pytest.mark.gen_test(timeout=40)
async def test_a_request_waits_for_a_used_up_budget_and_is_served_when_it_is_free(client, sim, mode):
    flavor = "m1.tiny" if mode == "operator" else "m1.small"
    team = await client.fill(4, flavor, group="team")
    assert (await client.practise(team[0], notice_only=True)).status == 202
    plan = (await client.create(False, query="?dry_run=true", flavor=flavor)).json
    plan = plan.get("if_no_host_has_room", plan)
    assert (plan["result"], plan["victims"]) == ("waits", [])
    assert plan["reason"] == "as many VMs of eviction group team as may go at once are noticed or leaving"
    creating = asyncio.ensure_future(client.create(False, flavor=flavor, name="wanted"))
    await client.wait_for_event("create/pending")
    created = await creating
    assert (created.status, len(created.json["evicted"])) == (201, 1), created.json
    events = [event for event in await client.events() if event["type"] == "evict"]
    steps = [(event["subject"], event["data"]["state"]) for event in events]
    gone = created.json["evicted"][0]
    assert steps == [
        (team[0], "noticed"),
        (team[0], "reprieved"),
        (gone, "noticed"),
        (gone, "evicting"),
        (gone, "evicted"),
    ]
    assert sim.servers().keys() == {*team, created.id} - {gone}


@grace(0.5)
@pytest.mark.gen_test(timeout=40)
async def test_requests_that_need_one_group_are_served_one_after_the_other_in_their_order(client):
    await client.fill(4, group="team")
    answers = await asyncio.gather(*(client.create(False) for _ in range(4)))
    assert [answer.status for answer in answers] == [201] * 4
    away = 0
    for event in await client.events(type="evict"):
        away += {"noticed": 1, "evicted": -1, "reprieved": -1}.get(event["data"]["state"], 0)
        assert away <= 1
    assert len(await client.record()) == 4


@grace(1)
@pytest.mark.gen_test(timeout=40)
@pytest.mark.parametrize("timing", [replace(TIMING, removal=-1.7)], ids=["timing"])
async def test_the_wait_for_a_budget_has_an_end(new_replica):
    _, client = await new_replica()
    team = await client.fill(4, group="team")
    assert (await client.practise(team[0], notice_only=True)).status == 202
    refused = await client.create(False)
    assert (refused.status, refused.json["error"]) == (409, "no_capacity")
    assert refused.json["message"] == "the budget of eviction group team has been used up all the while"
    await client.wait_for_event("evict/reprieved", team[0])
    assert {one["reason"] for one in await client.record()} == {"simulated"}


@BOTH
@grace(8)
@pytest.mark.gen_test(timeout=40)
async def test_what_no_plan_may_take_is_not_reclaimable_and_no_promise(client, sim, project, mode):
    sim.quota(project, cores=4)
    team = await client.fill(3, group="team", max_unavailable=2)
    await client.fill(1)
    shown = await room(client)
    assert shown["quota"]["reclaimable"]["cores"] == 3
    fits = {flavor["name"]: flavor["fits_after_evictions"] for flavor in shown["flavors"]}
    assert (fits["m1.tiny"], fits["m1.medium"], fits["m1.large"]) == (3, 1, 0)
    large = await client.create(False, flavor="m1.large")
    assert (large.status, large.json["error"]) == (403, "quota_exceeded")

    await client.practise(team[0], notice_only=True)
    shown = await room(client)
    assert shown["quota"]["reclaimable"]["cores"] == 2
    if mode == "operator":
        assert shown["hosts"][0]["reclaimable"]["VCPU"] == 2
    assert {flavor["fits_after_evictions"] for flavor in shown["flavors"] if flavor["name"] == "m1.tiny"} == {2}
    assert not [event for event in await client.events(type="evict") if not event["data"]["simulated"]]
    await client.acknowledge(team[0])
    await client.wait_for_event("evict/reprieved", team[0])
