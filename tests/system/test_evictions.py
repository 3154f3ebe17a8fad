"""A standard VM needs room that preemptible ones hold: who goes, when, and who is told."""

import asyncio

import pytest

from tests.system.client import until
from tests.system.marks import BOTH, grace

FOUR_HOSTS = pytest.mark.parametrize("hosts", [4])


def evictions(events, state):
    """The VMs with this step of an eviction, in order. (A notice that comes late is given twice.)"""
    return list(
        dict.fromkeys(
            event["subject"] for event in events if (event["type"], event["data"]["state"]) == ("evict", state)
        )
    )


@BOTH
@FOUR_HOSTS
@pytest.mark.gen_test(timeout=40)
async def test_in_a_full_cloud_a_standard_vm_gets_a_host_whose_preemptible_vms_go_after_their_notice(client, sim, mode):
    # A tenant does not see free room: what its own VMs give back must be enough, and m1.small fills a host.
    flavor = "m1.tiny" if mode == "operator" else "m1.small"
    preemptible = await client.fill(16, flavor)
    full = await client.create(True, flavor=flavor)
    assert (full.status, full.json["error"]) == (409, "no_capacity")
    hosts = {server_id: server["host"] for server_id, server in sim.servers().items()}

    creating = asyncio.ensure_future(client.create(False, flavor="m1.large"))
    notice = await client.wait_for_event("evict/noticed")
    victim = notice["subject"]
    assert sim.servers()[victim]["status"] == "ACTIVE"
    told = await until(lambda: sim.guest_metadata(victim).get("vmsvc_evict_at"), "the notice in the guest")
    assert told == notice["data"]["vm"]["evict_at"]
    assert (await client.listed())[victim]["state"] == "noticed"
    created = await creating

    assert created.status == 201, created.json
    victims = created.json["evicted"]
    assert len(victims) == 4 and len({hosts[victim] for victim in victims}) == 1
    assert sim.servers()[created.id]["host"] == hosts[victims[0]]
    assert sim.servers().keys() == {*preemptible, created.id} - {*victims}
    events = await client.events()
    for state in ("noticed", "evicting", "evicted"):
        assert sorted(evictions(events, state)) == sorted(victims)
    assert not evictions(events, "reprieved")
    for event in events:
        if event["data"]["state"] == "evicting":
            assert event["time"] >= event["data"]["vm"]["evict_at"]
    order = [event["subject"] for event in events if event["data"]["state"] in ("evicting", "active")]
    assert order[-1] == created.id and set(order[-5:-1]) == set(victims)


@BOTH
@grace(0.5)
@pytest.mark.gen_test(timeout=30)
async def test_a_dry_run_names_the_victims_of_the_real_call_and_touches_no_vm(client, sim, mode):
    flavor = "m1.tiny" if mode == "operator" else "m1.small"
    for priority in (3, 1, 2, 1):
        await client.create(True, flavor=flavor, priority=priority)
    sim.forget_calls()
    wish = {"flavor": "m1.medium", "name": "wanted"}
    said = await client.create(False, query="?dry_run=true", **wish)
    assert said.status == 200
    plan = said.json if mode == "operator" else said.json["if_no_host_has_room"]
    assert plan["result"] == "evicts" and plan["criterion"]
    # The create that Nova is asked to check is one that it cannot carry out.
    assert [(call["method"], call["status"]) for call in sim.calls() if call["method"] != "GET"] == [("POST", 400)]
    assert "wanted" not in [server["name"] for server in (await client.listed()).values()]
    created = await client.create(False, **wish)
    assert created.json["evicted"] == plan["victims"]
    shown = (await client.events(type="evict"))[0]["data"]
    assert shown["criterion"] == plan["criterion"]


@grace(0.5)
@pytest.mark.gen_test(timeout=20)
async def test_the_owner_with_the_fewest_losses_is_evicted_first(client, database):
    one, two, three, four = [(await client.create(True)).id for _ in range(4)]
    for vm, seconds in ((one, 500), (two, 100), (three, 400), (four, 900)):
        database.rows(
            "UPDATE vm SET launched_at = launched_at - %s * interval '1 second' WHERE cloud_id = %s", seconds, vm
        )
    created = await client.create(False)
    assert created.json["evicted"] == [two]
    assert (await client.events(type="evict"))[0]["data"]["criterion"] == "less lost work"


@pytest.mark.parametrize("options", [{"grace_seconds": 0.5, "min_run_seconds": 3600}], ids=["min_run"])
@pytest.mark.gen_test(timeout=20)
async def test_vms_too_young_to_go_are_left_alone(client):
    young = await client.fill(4)
    refused = await client.create(False)
    assert (refused.status, refused.json["error"]) == (409, "no_capacity")
    assert (await client.listed()).keys() == set(young)
    assert not await client.events(type="evict")


@BOTH
@pytest.mark.gen_test(timeout=20)
async def test_a_request_too_large_for_any_host_notices_no_vm(client, sim):
    preemptible = await client.fill(2)
    sim.host("sim-1", vcpus=3)
    large = await client.create(False, flavor="m1.large")
    assert (large.status, large.json["error"]) == (409, "no_capacity")
    assert not await client.events(type="evict")
    assert (await client.listed()).keys() == set(preemptible)


@BOTH
@pytest.mark.gen_test(timeout=20)
async def test_capacity_held_by_others_is_not_ours_to_free(client, sim, project):
    other = "demo" if project == "admin" else "admin"
    sim.foreign(other, count=2, host="sim-1")
    sim.foreign(project, count=1, host="sim-1")
    mine = await client.fill(1)
    refused = await client.create(False, flavor="m1.medium")
    assert (refused.status, refused.json["error"]) == (409, "no_capacity")
    assert not await client.events(type="evict")
    assert len(sim.servers()) == 4 and mine[0] in sim.servers()


@grace(1)
@FOUR_HOSTS
@pytest.mark.gen_test(timeout=40)
async def test_two_requests_at_once_share_no_victim(client, sim):
    await client.fill(16)
    answers = await asyncio.gather(*(client.create(False, flavor="m1.large", name=name) for name in ("one", "two")))
    assert [answer.status for answer in answers] == [201, 201]
    first, second = (set(answer.json["evicted"]) for answer in answers)
    assert len(first) == len(second) == 4 and not first & second
    servers = sim.servers()
    assert servers[answers[0].id]["host"] != servers[answers[1].id]["host"]


@grace(1)
@pytest.mark.gen_test(timeout=30)
async def test_capacity_that_is_being_freed_is_taken_neither_by_a_preemptible_vm_nor_by_a_later_standard_one(
    client, sim
):
    await client.fill(4)
    first = asyncio.ensure_future(client.create(False, flavor="m1.large", name="first"))
    noticed = await client.wait_for_event("evict/noticed")
    grabbing = [asyncio.ensure_future(client.create(kind)) for kind in (True, True, False, False)]
    created = await first
    assert created.status == 201
    assert len(created.json["evicted"]) == 4
    assert {answer.status for answer in await asyncio.gather(*grabbing)} == {409}
    assert list(sim.servers()) == [created.id]
    assert noticed["data"]["makes_room_for"] == created.json["vm"]["vmsvc_id"]


@grace(0.5)
@pytest.mark.gen_test(timeout=40)
async def test_many_preemptible_vms_race_a_standard_one_and_none_gets_its_capacity(client, sim):
    await client.fill(4)
    racers = [asyncio.ensure_future(client.create(True)) for _ in range(20)]
    created = await client.create(False, flavor="m1.large")
    racers += [asyncio.ensure_future(client.create(True)) for _ in range(20)]
    assert created.status == 201 and len(created.json["evicted"]) == 4
    assert {answer.status for answer in await asyncio.gather(*racers)} == {409}
    assert list(sim.servers()) == [created.id]


@BOTH
@grace(8)
@pytest.mark.gen_test(timeout=30)
async def test_an_owner_who_deletes_the_noticed_victim_ends_the_wait(client, mode):
    flavor = "m1.tiny" if mode == "operator" else "m1.small"
    await client.fill(4, flavor)
    creating = asyncio.ensure_future(client.create(False, flavor=flavor))
    notice = await client.wait_for_event("evict/noticed")
    assert (await client.delete(notice["subject"])).status == 200
    created = await creating
    assert created.status == 201
    assert (await client.wait_for_event("create/active", created.id))["time"] < notice["data"]["vm"]["evict_at"]
    assert (await client.steps(notice["subject"]))[-3:] == ["evict/noticed", "delete/deleting", "delete/deleted"]
    assert not evictions(await client.events(), "evicting")


@BOTH
@grace(8)
@pytest.mark.gen_test(timeout=30)
async def test_an_owner_who_deletes_the_waiting_request_reprieves_its_victims(client, sim, mode):
    flavor = "m1.tiny" if mode == "operator" else "m1.small"
    mine = await client.fill(4, flavor)
    creating = asyncio.ensure_future(client.create(False, flavor="m1.large"))
    notice = await client.wait_for_event("evict/noticed")
    assert (await client.delete(notice["data"]["makes_room_for"])).status == 200
    for vm in mine:
        await client.wait_for_event("evict/reprieved", vm)
    told = await creating
    assert (told.status, told.json["error"]) == (409, "conflict")
    assert sim.servers().keys() == set(mine)
    assert {server["state"] for server in (await client.listed()).values()} == {"active"}


@grace(8)
@pytest.mark.gen_test(timeout=30)
async def test_capacity_that_appears_by_itself_reprieves_the_victims(client, sim):
    (other,) = sim.foreign("demo", flavor="m1.medium", host="sim-1")
    mine = await client.fill(2)
    creating = asyncio.ensure_future(client.create(False, flavor="m1.medium"))
    await client.wait_for_event("evict/noticed")
    sim.vanish(other)
    created = await creating
    assert created.status == 201 and created.json["evicted"] == []
    for vm in mine:
        await client.wait_for_event("evict/reprieved", vm)
    assert sim.servers().keys() == {*mine, created.id}


@grace(0.3)
@pytest.mark.gen_test(timeout=30)
async def test_when_nova_s_scheduler_lags_behind_the_freed_capacity_no_other_vm_is_evicted(client, sim):
    await client.fill(4)
    sim.fault(kind="no_valid_host", name="^wanted$", count=2)
    created = await client.create(False, name="wanted")
    assert created.status == 201
    assert len(created.json["evicted"]) == 1 and len(sim.servers()) == 4


@BOTH
@grace(0.3)
@pytest.mark.gen_test(timeout=30)
async def test_vms_that_are_still_being_built_can_go_once_they_run(client, sim, mode):
    sim.settings(boot_seconds=1)
    flavor = "m1.tiny" if mode == "operator" else "m1.small"
    filling = asyncio.ensure_future(client.fill(4, flavor))
    await client.wait_for_events("create/building", 4)
    created = await client.create(False, flavor=flavor)
    preemptible = await filling
    assert created.status == 201, created.json
    assert len(created.json["evicted"]) == 1 and set(created.json["evicted"]) < set(preemptible)


@pytest.mark.gen_test(timeout=30)
@FOUR_HOSTS
async def test_a_host_that_refuses_costs_nobody_anything(client, sim):
    """Placement has room on it and a filter of the scheduler says no: another host is tried."""
    sim.host("sim-1", refuses=True)
    sim.host("sim-2", refuses=True)
    created = await client.create(False)
    assert created.status == 201
    assert sim.servers()[created.id]["host"] in ("sim-3", "sim-4")
    sim.forget_calls()
    assert (await client.create(False)).status == 201
    assert len(sim.calls(method="POST", path="/servers$")) == 1, "those that refused are not asked again so soon"


@grace(0.3)
@pytest.mark.parametrize("hosts", [3])
@pytest.mark.gen_test(timeout=40)
async def test_a_thief_costs_at_most_two_rounds_and_all_victims_are_on_record(client, sim, database):
    """Somebody outside takes the freed room each time before the request can."""
    mine = await client.fill(12)
    hosts = {server_id: server["host"] for server_id, server in sim.servers().items()}
    # The first try of each round is slow (there are three more): the thief is first for sure.
    sim.fault(action="delay", method="POST", path="/servers$", body_matches="robbed", nth=[1, 5], seconds=1)
    creating = asyncio.ensure_future(client.create(False, name="robbed"))
    for round_number in (1, 2):
        gone = await client.wait_for_events("evict/evicted", round_number)
        assert sim.foreign("demo", host=hosts[gone[-1]["subject"]])
    answer = await creating
    assert (answer.status, answer.json["error"]) == (409, "no_capacity")
    assert len(sim.servers()) == 12
    record = database.rows("SELECT vm_id, round, wasted FROM eviction ORDER BY round")
    assert [row["round"] for row in record] == [1, 2]
    assert all(row["wasted"] for row in record)
    assert len({event["subject"] for event in gone} & set(mine)) == 2
