"""What the owner of a VM changes while it is there: its kind, and whether it is started again."""

import asyncio
from dataclasses import replace

import pytest

from tests.system.client import until
from tests.system.test_lineage import USER_DATA, next_of, restartable
from tests.system.timing import TIMING


@pytest.mark.gen_test(timeout=30)
async def test_a_vm_that_became_standard_is_no_victim_and_one_that_became_preemptible_is(client, sim):
    first, second, third = await client.fill(3)
    standard = (await client.create(False)).id
    for vm in (first, second, third):
        changed = await client.change(vm, is_preemptible=False)
        assert (changed.status, changed.json["vm"]["is_preemptible"]) == (200, False)
    assert (await client.listed())[first]["is_preemptible"] is False
    refused = await client.create(False)
    assert (refused.status, refused.json["error"]) == (409, "no_capacity")
    assert (await client.change(standard, is_preemptible=True)).status == 200
    assert sim.guest_metadata(standard)["vmsvc_kind"] == "preemptible"
    assert sim.guest_metadata(first)["vmsvc_kind"] == "standard"
    made = await client.create(False)
    assert made.json["evicted"] == [standard]
    converted = await client.wait_for_events("create/converted", 4)
    assert {event["subject"] for event in converted} == {first, second, third, standard}
    assert {event["data"]["vm"]["is_preemptible"] for event in converted[:3]} == {False}
    assert converted[0]["data"]["reason"] == "it was preemptible and is standard now"
    # To say once more what is so already is no change.
    assert (await client.change(first, is_preemptible=False)).status == 200
    assert len(await client.wait_for_events("create/converted", 4)) == 4


@pytest.mark.parametrize("options", [{"grace_seconds": 2}], ids=["grace2"])
@pytest.mark.gen_test(timeout=30)
async def test_the_kind_of_a_noticed_vm_stays_and_so_does_that_of_one_that_is_not_there(client):
    (vm,) = await client.fill(1)
    await client.practise(vm, notice_only=True)
    for kind in (False, True):
        answer = await client.change(vm, is_preemptible=kind)
        assert answer.status == (200 if kind else 409), answer.json
    assert (await client.change(vm, is_preemptible=False, on_eviction="end")).status == 409
    await client.wait_for_event("evict/reprieved", vm)
    await client.delete(vm)
    assert (await client.change(vm, is_preemptible=False)).status == 404
    assert (await client.change("0e4c4f1e-2a3f-4bb6-a4a7-6c5d9f2b8e77", is_preemptible=False)).status == 404


@pytest.mark.parametrize("timing", [replace(TIMING, restore_marks=0.5)], ids=["restore"])
@pytest.mark.gen_test(timeout=30)
async def test_metadata_that_the_cloud_did_not_take_follow_later(client, sim):
    (vm,) = await client.fill(1)
    sim.fault(action="status", status=500, method="POST", path="/metadata$")
    changed = await client.change(vm, is_preemptible=False)
    assert changed.status == 200 and sim.guest_metadata(vm)["vmsvc_kind"] == "preemptible"
    sim.clear_faults()
    await until(lambda: sim.guest_metadata(vm)["vmsvc_kind"] == "standard", "the kind in the guest")


@pytest.mark.gen_test(timeout=30)
async def test_ended_restarts_leave_the_vm_and_nothing_comes_after_it(client, sim, database):
    vm = await restartable(client, user_data=USER_DATA, max_restarts=4)
    shown = (await client.show(vm["origin"])).json
    assert restarts_of(shown) == restarts_of((await client.listed())[vm["id"]]) == ("restart", 4, 4)
    changed = await client.change(vm["origin"], on_eviction="end")
    assert (changed.status, restarts_of(changed.json["vm"])) == (200, ("end", 4, 0))
    assert restarts_of((await client.listed())[vm["id"]]) == ("end", 4, 0)
    assert sim.servers()[vm["id"]]["status"] == "ACTIVE"
    assert not database.rows("SELECT id FROM vm WHERE boot ->> 'user_data' IS NOT NULL")
    await client.practise(vm["id"])
    gone = await client.wait_for_event("evict/evicted", vm["id"])
    assert "restart" not in gone["data"]
    assert [row["end_reason"] for row in database.rows("SELECT end_reason FROM lineage")] == ["evicted"]
    assert (await client.change(vm["origin"], on_eviction="end")).status == 404


def restarts_of(view: dict) -> tuple:
    """What the view of a VM says of its restarts."""
    return view["on_eviction"], view["max_restarts"], view["restarts_left"]


@pytest.mark.gen_test(timeout=40)
async def test_the_list_shows_how_often_a_vm_may_still_be_started_again(client, sim):
    vm, (plain,) = await restartable(client, max_restarts=2), await client.fill(1)
    listed = await client.listed()
    assert (restarts_of(listed[vm["id"]]), restarts_of(listed[plain])) == (("restart", 2, 2), ("end", None, 0))
    await client.practise(vm["id"])
    vm = await next_of(client, vm)
    assert restarts_of(vm) == restarts_of((await client.listed())[vm["id"]]) == ("restart", 2, 1)
    sim.settings(delete_seconds=2)
    await client.practise(vm["id"])
    await client.wait_for_event("evict/evicting", vm["id"])
    assert (await client.delete(vm["origin"], {"Prefer": "respond-async"})).status == 202
    leaving = (await client.listed())[vm["id"]]
    assert (leaving["state"], restarts_of(leaving)) == ("evicting", ("end", 2, 0))
    await until(lambda: vm["id"] not in sim.servers(), "its end")


@pytest.mark.gen_test(timeout=30)
async def test_a_vm_that_is_none_of_a_lineage_has_no_restarts_to_end(client):
    (vm,) = await client.fill(1)
    assert (await client.change(vm, on_eviction="end")).status == 200
    assert (await client.show(vm)).json["on_eviction"] == "end"
    answers = await asyncio.gather(
        client.call("PATCH", f"/api/v1/vm/{vm}", {}),
        client.change(vm, on_eviction="restart"),
        client.change(vm, is_preemptible="yes"),
        client.change(vm, name="other"),
    )
    assert [answer.status for answer in answers] == [400] * 4
