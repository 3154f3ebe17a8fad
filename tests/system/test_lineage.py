"""A VM that is started again after its eviction: as which one, when, how often, and what ends that."""

import asyncio
import base64
from dataclasses import replace

import pytest

from tests.system.client import until
from tests.system.marks import BOTH
from tests.system.timing import TIMING

USER_DATA = base64.b64encode(b"#!/bin/sh\necho restore\n").decode()


async def restartable(client, **fields) -> dict:
    """A VM that is started again; its view."""
    made = await client.create(True, on_eviction="restart", **fields)
    assert made.status == 201, made.json
    return made.json["vm"]


def age(database, vmsvc_id: str) -> None:
    """Let a VM have run for an hour, so that its life is none of the short ones."""
    database.rows("UPDATE vm SET launched_at = launched_at - interval '1 hour' WHERE id = %s", vmsvc_id)


async def next_of(client, vm: dict) -> dict:
    """The view of the next VM of the lineage, once it runs."""
    deadline = asyncio.get_running_loop().time() + 15
    while asyncio.get_running_loop().time() < deadline:
        shown = await client.show(vm["origin"])
        if shown.status == 200 and shown.json["restart_of"] == vm["vmsvc_id"] and shown.json["state"] == "active":
            return shown.json
        await asyncio.sleep(0.05)
    raise AssertionError(f"no VM was started after {vm}: {await client.events(vm=vm['vmsvc_id'])}")


@BOTH
@pytest.mark.gen_test(timeout=30)
async def test_an_evicted_vm_is_started_again_with_all_that_it_had(client, sim, database):
    asked = {"name": "batch", "flavor": "m1.small", "user_data": USER_DATA, "priority": 7, "metadata": {"job": "7"}}
    vm = await restartable(client, **asked)
    assert (vm["origin"], vm["restarts"], vm["restart_of"], vm["successor"]) == (vm["vmsvc_id"], 0, None, None)
    assert sim.guest_metadata(vm["id"])["vmsvc_origin"] == vm["vmsvc_id"]
    assert sim.guest_metadata(vm["id"])["vmsvc_restarts"] == "0"
    before = sim.made_with(vm["id"])
    assert before["user_data"] == USER_DATA

    await client.practise(vm["id"])
    successor = await next_of(client, vm)

    assert successor["id"] != vm["id"] and successor["vmsvc_id"] != vm["vmsvc_id"]
    assert (successor["origin"], successor["restarts"], successor["successor"]) == (vm["origin"], 1, None)
    assert (successor["name"], successor["priority"], successor["is_preemptible"]) == ("batch", 7, True)
    metadata = sim.guest_metadata(successor["id"])
    assert (successor["image_name"], successor["network"]) == (vm["image"], vm["network"])
    members = [(one["vmsvc_id"], one["restarts"], one["state"]) for one in successor["lineage"]]
    assert members == [(successor["vmsvc_id"], 1, "active"), (vm["vmsvc_id"], 0, "evicted")]
    assert metadata["job"] == "7" and metadata["vmsvc_origin"] == vm["origin"] and metadata["vmsvc_restarts"] == "1"
    assert sim.servers().keys() == {successor["id"]} and sim.made_with(successor["id"]) == before
    assert [call["status"] for call in sim.calls(method="POST", path="/servers$")] == [202, 202]

    evicted = await client.wait_for_event("evict/evicted", vm["id"])
    restart = evicted["data"]["restart"]
    assert (restart["origin"], restart["attempt"]) == (vm["origin"], 1)
    assert evicted["data"]["vm"]["successor"] == successor["vmsvc_id"]
    for event in await client.events(vm=successor["vmsvc_id"]):
        assert event["data"]["restart_of"] == vm["vmsvc_id"], event
    gone = await client.show(vm["id"])
    assert gone.status == 404 and successor["vmsvc_id"] in gone.json["message"]
    assert successor["id"] in await client.listed()
    # The user data lie in one row: that of the VM that is there.
    kept = database.rows("SELECT id FROM vm WHERE boot ->> 'user_data' = %s", USER_DATA)
    assert [row["id"] for row in kept] == [successor["vmsvc_id"]]


@pytest.mark.gen_test(timeout=30)
async def test_an_acknowledged_notice_and_a_guest_that_powers_off_are_evictions_too(client, sim):
    for end in (lambda vm: client.acknowledge(vm["id"]), lambda vm: asyncio.to_thread(sim.power_off, vm["id"])):
        vm = await restartable(client)
        await client.practise(vm["id"])
        await end(vm)
        await next_of(client, vm)
        await client.delete(vm["origin"])


@pytest.mark.gen_test(timeout=30)
async def test_a_vm_that_is_lost_or_deleted_or_does_not_ask_for_it_is_not_started_again(client, sim, database):
    lost, deleted = await restartable(client), await restartable(client)
    (plain,) = await client.fill(1)
    await asyncio.to_thread(sim.vanish, lost["id"])
    await client.wait_for_event("delete/lost", lost["id"])
    await client.delete(deleted["id"])
    await client.practise(plain)
    gone = await client.wait_for_event("evict/evicted", plain)
    assert "restart" not in gone["data"] and gone["data"]["vm"]["successor"] is None
    assert not database.rows("SELECT id FROM vm WHERE restart_of IS NOT NULL")
    assert {row["end_reason"] for row in database.rows("SELECT end_reason FROM lineage")} == {"lost", "deleted"}
    assert not await client.listed()


@pytest.mark.gen_test(timeout=40)
async def test_it_is_restarted_twice_where_it_may_be_and_then_the_lineage_fails(client, database):
    vm = await restartable(client, max_restarts=2)
    for _ in range(2):
        age(database, vm["vmsvc_id"])
        await client.practise(vm["id"])
        vm = await next_of(client, vm)
    assert vm["restarts"] == 2
    await client.practise(vm["id"])
    failed = (await client.wait_for_event("create/failed"))["data"]
    assert (failed["reason"], failed["restart_of"]) == ("restarts_used_up", vm["vmsvc_id"])
    shown = await client.show(vm["origin"])
    assert shown.json["state"] == "failed" and "max_restarts is 2" in shown.json["message"]
    (lineage,) = database.rows("SELECT * FROM lineage")
    assert (lineage["restarts"], lineage["end_reason"]) == (2, "restarts_used_up")
    assert (await client.delete(vm["origin"])).status == 404


@pytest.mark.gen_test(timeout=30)
async def test_the_idempotency_key_answers_with_the_first_vm_for_ever(client):
    key = {"Idempotency-Key": "batch-7"}
    first = await client.create(True, on_eviction="restart", headers=key)
    vm = first.json["vm"]
    await client.practise(vm["id"])
    await next_of(client, vm)
    again = await client.create(True, on_eviction="restart", headers=key)
    assert (again.status, again.json) == (201, first.json)
    other = await client.create(True, on_eviction="restart", max_restarts=3, headers=key)
    assert (other.status, other.json["error"]) == (422, "idempotency_mismatch")


@pytest.mark.gen_test(timeout=30)
async def test_a_delete_of_any_of_its_ids_ends_the_lineage(client, sim, database):
    for which in ("origin", "first server", "newest server", "newest id"):
        vm = await restartable(client)
        await client.practise(vm["id"])
        newest = await next_of(client, vm)
        named = {
            "origin": vm["origin"],
            "first server": vm["id"],
            "newest server": newest["id"],
            "newest id": newest["vmsvc_id"],
        }
        assert (await client.delete(named[which])).status == 200, which
        assert not sim.servers()
        assert (await client.delete(vm["origin"])).status == 404
    assert not database.rows("SELECT id FROM lineage WHERE ended_at IS NULL OR end_reason <> 'deleted'")


@pytest.mark.gen_test(timeout=30)
async def test_a_delete_while_the_vm_is_being_evicted_lets_nothing_come_after_it(client, sim, database):
    vm = await restartable(client)
    sim.settings(delete_seconds=0.6)
    await client.practise(vm["id"])
    await client.wait_for_event("evict/evicting", vm["id"])
    answer = await client.delete(vm["origin"])
    assert answer.status == 200 and answer.json["vm"]["state"] == "evicted"
    gone = await client.wait_for_event("evict/evicted", vm["id"])
    assert "restart" not in gone["data"]
    await until(lambda: not sim.servers(), "an empty cloud")
    assert len(database.rows("SELECT id FROM vm")) == 1


@pytest.mark.parametrize("timing", [replace(TIMING, restarts_a_minute=100)], ids=["fast"])
@pytest.mark.parametrize("hosts", [2])
@BOTH
@pytest.mark.gen_test(timeout=60)
async def test_all_that_were_evicted_together_come_back_once_when_there_is_capacity_again(client, sim, database, mode):
    if mode == "tenant":
        sim.quota("demo", cores=8, instances=8)
    first = await asyncio.gather(*(restartable(client, user_data=USER_DATA, name=f"vm{i}") for i in range(8)))
    made = await asyncio.gather(*(client.create(False) for _ in range(8)))
    assert [one.status for one in made] == [201] * 8
    await client.wait_for_events("evict/evicted", 8)
    waiting = await client.wait_for_events("create/queued", 8)
    assert {event["data"]["vm"]["origin"] for event in waiting} == {vm["origin"] for vm in first}
    assert sim.servers().keys() == {one.id for one in made}
    await asyncio.gather(*(client.delete(one.id) for one in made))
    successors = await asyncio.gather(*(next_of(client, vm) for vm in first))
    assert sim.servers().keys() == {vm["id"] for vm in successors}
    assert sorted(vm["name"] for vm in successors) == sorted(vm["name"] for vm in first)
    assert {sim.made_with(vm["id"])["user_data"] for vm in successors} == {USER_DATA}
    assert {vm["restarts"] for vm in successors} == {1}
    assert len(database.rows("SELECT id FROM vm")) == 24


@pytest.mark.parametrize("timing", [replace(TIMING, restarts_a_minute=2)], ids=["two"])
@pytest.mark.gen_test(timeout=30)
async def test_of_one_owner_only_so_many_are_started_again_within_a_minute(client, sim, database):
    first = await asyncio.gather(*(restartable(client) for _ in range(3)))
    await asyncio.gather(*(client.practise(vm["id"]) for vm in first))
    await client.wait_for_events("evict/evicted", 3)
    await until(lambda: len(sim.servers()) == 2, "two restarts")

    def held_back() -> list:
        return database.rows("SELECT id, queued_why FROM vm WHERE state = 'pending' AND queued_why IS NOT NULL")

    (waiting,) = await until(held_back, "the third one in the queue")
    await asyncio.sleep(1)
    assert len(sim.servers()) == 2
    assert (await client.show(waiting["id"])).json["position"] == 1
    database.rows("UPDATE vm SET placed_at = placed_at - interval '1 minute' WHERE attempt > 0")
    await until(lambda: len(sim.servers()) == 3, "the third restart")


@pytest.mark.gen_test(timeout=30)
async def test_a_successor_that_gets_no_capacity_in_time_ends_its_lineage(client, sim, database):
    vm = await restartable(client, flavor="m1.large", restart_within_seconds=60)
    standard = await client.create(False, flavor="m1.large")
    assert standard.json["evicted"] == [vm["id"]]
    queued = (await client.wait_for_event("create/queued"))["data"]
    assert queued["restart_of"] == vm["vmsvc_id"] and queued["position"] == 1
    database.rows("UPDATE vm SET wait_until = now() WHERE state = 'pending'")
    failed = (await client.wait_for_event("create/failed"))["data"]
    assert (failed["reason"], failed["restart_of"]) == ("deadline", vm["vmsvc_id"])
    assert [row["end_reason"] for row in database.rows("SELECT end_reason FROM lineage")] == ["deadline"]
    assert sim.servers().keys() == {standard.id}


@pytest.mark.gen_test(timeout=40)
async def test_after_so_many_evictions_within_a_day_the_next_one_is_standard(client, sim, database):
    vm = await restartable(client, fallback_after_evictions=2, group="g")
    for kind in (True, False):
        age(database, vm["vmsvc_id"])
        await client.practise(vm["id"])
        vm = await next_of(client, vm)
        assert vm["is_preemptible"] is kind
    assert sim.guest_metadata(vm["id"])["vmsvc_kind"] == "standard"
    fell = await client.wait_for_event("create/fell_back", vm["vmsvc_id"])
    assert fell["data"]["restart_of"] == vm["restart_of"]
    assert (await client.practise(vm["id"])).status == 403


@pytest.mark.gen_test(timeout=40)
async def test_a_successor_waits_out_its_pause(client, database):
    vm = await restartable(client)
    await client.practise(vm["id"])
    vm = await next_of(client, vm)
    await client.practise(vm["id"])
    gone = await client.wait_for_event("evict/evicted", vm["id"])
    (row,) = database.rows(
        "SELECT id, extract(epoch FROM not_before - created_at)::float8 AS pause FROM vm WHERE attempt = 2"
    )
    assert 24 <= row["pause"] <= 36 and gone["data"]["restart"]["attempt"] == 2
    await asyncio.sleep(1)
    assert (await client.show(vm["origin"])).json["state"] == "pending"
    database.rows("UPDATE vm SET not_before = now() WHERE id = %s", row["id"])
    await next_of(client, vm)


@pytest.mark.parametrize("hosts", [8])
@pytest.mark.gen_test(timeout=60)
async def test_a_delete_at_any_moment_is_the_end_of_it(client, sim, database):
    """Each lineage is deleted at another moment of its eviction and its restart, from the notice on. `python -m
    tests.chaos.lineages` does it at a thousand."""
    lines = await asyncio.gather(*(restartable(client, user_data=USER_DATA) for _ in range(30)))

    async def delete_after(vm: dict, seconds: float) -> None:
        assert (await client.practise(vm["id"])).status == 202
        await asyncio.sleep(seconds)
        ref = vm["origin"] if round(100 * seconds) % 2 else vm["id"]
        answer = await client.delete(ref)
        assert answer.status == 200, answer.json

    await asyncio.gather(*(delete_after(vm, 0.07 * number) for number, vm in enumerate(lines)))
    await until(lambda: not sim.servers(), "an empty cloud", pause=0.05)
    await asyncio.sleep(1.5)  # the guard would have started any of them by now
    assert not sim.servers()
    assert not database.rows("SELECT id FROM lineage WHERE ended_at IS NULL")
    assert not database.rows("SELECT id FROM vm WHERE state NOT IN ('deleted', 'evicted')")
