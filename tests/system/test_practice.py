"""Practising an eviction: all of it is as in earnest, but that nobody needs the room."""

import asyncio

import pytest

from tests.system.client import until
from tests.system.marks import BOTH, grace


@BOTH
@grace(1)
@pytest.mark.gen_test(timeout=30)
async def test_a_practised_eviction_is_as_a_real_one_and_says_that_it_is_none(client, sim):
    vm, other = await client.fill(2)
    said = await client.practise(vm)
    evict_at = said.json["vm"]["evict_at"]
    assert (said.status, said.json["message"]) == (202, f"vm {vm} was noticed; it goes at {evict_at}")
    await client.wait_for_notice(sim, vm, evict_at)
    assert sim.guest_metadata(vm)["vmsvc_evict_reason"] == "simulated by its owner"
    gone = await client.wait_for_event("evict/evicted", vm)
    events = [event for event in await client.events(vm=vm) if event["type"] == "evict"]
    assert [event["data"]["state"] for event in events] == ["noticed", "evicting", "evicted"]
    assert all(event["data"]["simulated"] is True for event in events)
    noticed, evicting, _ = events
    assert (noticed["data"]["evict_at"], noticed["data"]["grace_seconds"]) == (evict_at, 1)
    assert noticed["data"]["makes_room_for"] is None
    assert evicting["time"] >= evict_at and gone == events[-1]
    assert sim.servers().keys() == (await client.listed()).keys() == {other}
    (one,) = await client.record()
    assert (one["state"], one["reason"], one["simulated"], one["request"]) == ("evicted", "simulated", True, None)
    assert one["vm"]["id"] == vm and one["wasted"] is None and one["fulfilled_at"] is None


@BOTH
@grace(1)
@pytest.mark.gen_test(timeout=30)
async def test_with_the_notice_only_it_is_reprieved_when_its_time_is_up(client, sim):
    (vm,) = await client.fill(1)
    said = await client.practise(vm, notice_only=True)
    evict_at = said.json["vm"]["evict_at"]
    assert (said.status, said.json["message"]) == (
        202,
        f"vm {vm} was noticed; it stays, and is reprieved at {evict_at}",
    )
    await client.wait_for_notice(sim, vm, evict_at)
    spared = await client.wait_for_event("evict/reprieved", vm)
    assert spared["time"] >= evict_at and spared["data"]["simulated"] is True
    assert spared["data"]["vm"]["state"] == "active" and "notice" not in spared["data"]["vm"]
    await client.wait_for_notice(sim, vm, None)
    await until(lambda: "vmsvc_evict_reason" not in sim.guest_metadata(vm), "the end of the reason")
    assert sim.servers()[vm]["status"] == "ACTIVE"
    (one,) = await client.record(vm=vm)
    assert (one["state"], one["simulated"], one["evicting_at"]) == ("reprieved", True, None)
    # ... and it can be practised again.
    assert (await client.practise(vm, notice_only=True)).status == 202
    assert (await client.acknowledge(vm)).status == 200
    await client.wait_for_events("evict/reprieved", 2, vm)
    assert [one["state"] for one in await client.record(vm=vm)] == ["reprieved", "reprieved"]


@pytest.mark.gen_test(timeout=20)
async def test_who_cannot_be_evicted_cannot_practise_it(client, sim, project):
    standard, locked, noticed, gone = [(await client.create(kind)).id for kind in (False, True, True, True)]
    await client.delete(gone)
    (foreign,) = sim.foreign(project)
    sim.change(locked, locked_by="owner")
    assert (await client.practise(noticed, notice_only=True)).status == 202
    for ref, status, error in (
        (standard, 403, "forbidden"),
        (noticed, 409, "conflict"),
        (locked, 409, "conflict"),
        (gone, 404, "not_found"),
        (foreign, 404, "not_found"),
        ("nobody", 404, "not_found"),
    ):
        answer = await client.practise(ref)
        assert (answer.status, answer.json["error"]) == (status, error), ref
    await client.wait_for_event("evict/reprieved", noticed)
    assert len(await client.record()) == 1
    sim.change(locked, locked_by=None)


@pytest.mark.gen_test(timeout=20)
async def test_many_who_practise_one_vm_give_it_one_notice(client):
    (vm,) = await client.fill(1)
    answers = await asyncio.gather(*(client.practise(vm) for _ in range(5)))
    assert sorted(answer.status for answer in answers) == [202, 409, 409, 409, 409]
    await client.wait_for_event("evict/evicted", vm)
    assert len(await client.record()) == 1


@grace(1.5)
@pytest.mark.gen_test(timeout=30)
async def test_a_practised_notice_frees_no_capacity_and_another_vm_is_evicted(client):
    mine = await client.fill(4)
    assert (await client.practise(mine[0], notice_only=True)).status == 202
    created = await client.create(False)
    assert created.status == 201
    assert len(created.json["evicted"]) == 1 and mine[0] not in created.json["evicted"]
    assert "evict/reprieved" in await client.steps(mine[0])
    assert {one["reason"] for one in await client.record()} == {"capacity", "simulated"}


@grace(1.5)
@pytest.mark.gen_test(timeout=30)
async def test_a_practised_eviction_frees_capacity_and_no_other_vm_is_evicted(client):
    mine = await client.fill(4)
    assert (await client.practise(mine[0])).status == 202
    created = await client.create(False)
    assert (created.status, created.json["evicted"]) == (201, [])
    assert [one["vm"]["id"] for one in await client.record()] == [mine[0]]


@grace(8)
@pytest.mark.gen_test(timeout=30)
async def test_an_owner_may_delete_what_practises(client):
    (vm,) = await client.fill(1)
    await client.practise(vm)
    assert (await client.delete(vm)).status == 200
    assert (await client.steps(vm))[-3:] == ["evict/noticed", "delete/deleting", "delete/deleted"]
    assert "simulated" not in (await client.events(vm=vm))[-1]["data"]
    (one,) = await client.record()
    assert (one["state"], one["evicting_at"]) == ("deleted", None)


@grace(1)
@pytest.mark.gen_test(timeout=30)
async def test_a_group_shows_its_budget_and_practises_within_it(client):
    team = [(await client.create(True, group="team", max_unavailable=2)).id for _ in range(3)]
    shown = (await client.listed())[team[0]]
    assert (shown["group"], shown["max_unavailable"]) == ("team", 2)
    assert [(await client.practise(vm, notice_only=True)).status for vm in team] == [202, 202, 409]
    await client.wait_for_events("evict/reprieved", 2)
    assert (await client.practise(team[2], notice_only=True)).status == 202
    # The least that a VM of the group asks for counts, and one that says nothing asks for one.
    await client.wait_for_events("evict/reprieved", 3)
    await client.create(True, group="team")
    assert [(await client.practise(vm, notice_only=True)).status for vm in team[:2]] == [202, 409]


@pytest.mark.gen_test(timeout=20)
async def test_a_budget_needs_a_group_and_a_group_preemptible_vms(client):
    for preemptible, fields, field in (
        (True, {"max_unavailable": 2}, "max_unavailable"),
        (True, {"group": "a", "max_unavailable": 0}, "max_unavailable"),
        (True, {"group": ""}, "group"),
        (False, {"group": "a"}, "group"),
    ):
        answer = await client.create(preemptible, **fields)
        assert (answer.status, answer.json["field"]) == (400, field)
