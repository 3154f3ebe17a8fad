"""Others act on the same cloud: they lock, stop, delete, and a part of the cloud may not answer."""

import asyncio

import pytest

from tests.system.client import until

BOTH = pytest.mark.parametrize("mode", ["operator", "tenant"])


def grace(seconds):
    """The notice that the service gives in a test."""
    return pytest.mark.parametrize("options", [{"grace_seconds": seconds}], ids=[f"grace{seconds}"])


@BOTH
@pytest.mark.gen_test(timeout=20)
async def test_a_vm_that_vanished_is_told_as_lost(client, sim):
    vm = (await client.create(False)).id
    sim.vanish(vm)
    lost = await client.saw("delete/lost", vm)
    assert lost["data"]["vm"]["state"] == "lost"
    assert vm not in await client.listed()
    assert (await client.show(vm)).status == 404
    assert (await client.delete(vm)).status == 404


@BOTH
@pytest.mark.gen_test(timeout=30)
async def test_a_cell_that_is_down_loses_nothing(client, sim):
    """Its servers are missing in lists, and a GET does not say 404."""
    vms = await client.fill(2)
    sim.host("sim-1", cell_down=True)
    refreshed = len(sim.calls(path="/servers/detail"))
    await client.create(True, headers={"Prefer": "respond-async"})
    await asyncio.sleep(0)
    while len(sim.calls(path="/servers/detail")) < refreshed + 2:
        assert set(vms) <= (await client.listed()).keys()
    sim.host("sim-1", cell_down=False)
    await client.saw_times("create/active", 3)
    assert not await client.events(type="delete")
    assert set(vms) <= (await client.listed()).keys()


@grace(8)
@pytest.mark.gen_test(timeout=30)
async def test_a_victim_that_vanishes_during_its_notice_ends_the_wait(client, sim):
    await client.fill(4)
    creating = asyncio.ensure_future(client.create(False))
    notice = await client.saw("evict/noticed")
    sim.vanish(notice["subject"])
    created = await creating
    assert created.status == 201
    assert (await client.saw("create/active", created.id))["time"] < notice["data"]["vm"]["evict_at"]
    # Gone is gone: it is told as lost, or as reprieved first when the room was seen before the loss.
    await client.saw("delete/lost", notice["subject"])
    assert not [event for event in await client.events(type="evict") if event["data"]["state"] == "evicting"]


@BOTH
@grace(1)
@pytest.mark.gen_test(timeout=30)
async def test_a_victim_that_is_locked_during_its_notice_is_spared_and_another_goes(client, sim, mode):
    flavor = "m1.tiny" if mode == "operator" else "m1.small"
    await client.fill(4, flavor)
    creating = asyncio.ensure_future(client.create(False, flavor=flavor))
    locked = (await client.saw("evict/noticed"))["subject"]
    sim.change(locked, locked_by="owner")
    created = await creating
    assert created.status == 201
    assert locked in sim.servers() and locked not in created.json["evicted"]
    assert len(created.json["evicted"]) == 1
    assert "evict/reprieved" in await client.steps(locked)
    sim.change(locked, locked_by=None)
    # Its metadata could not be written while it was locked; the notice goes when it can.


@grace(0.3)
@pytest.mark.gen_test(timeout=30)
async def test_a_locked_vm_is_no_victim(client, sim):
    vms = await client.fill(4)
    for vm in vms[:3]:
        sim.change(vm, locked_by="owner")
    created = await client.create(False)
    assert created.json["evicted"] == [vms[3]]
    refused = await client.create(False, flavor="m1.medium")
    assert refused.status == 409
    assert set(vms[:3]) <= sim.servers().keys()


@BOTH
@grace(0.3)
@pytest.mark.gen_test(timeout=30)
async def test_a_vm_that_lost_our_mark_is_nobody_we_may_touch(client, sim, mode):
    flavor = "m1.tiny" if mode == "operator" else "m1.small"
    vms = await client.fill(4, flavor)
    marks = {vm: sim.servers()[vm]["metadata"] for vm in vms}
    for vm in vms[:3]:
        sim.change(vm, metadata={"vmsvc_id": "somebody-else's"})
    created = await client.create(False, flavor=flavor)
    assert created.json["evicted"] == [vms[3]]
    for vm in vms[:3]:
        sim.change(vm, metadata=marks[vm])


@grace(0.3)
@pytest.mark.gen_test(timeout=30)
async def test_a_victim_that_is_stopped_already_is_evicted_all_the_same(client, sim):
    vms = await client.fill(4)
    for vm in vms:
        sim.change(vm, power="off")
    created = await client.create(False)
    assert created.status == 201 and len(created.json["evicted"]) == 1


@BOTH
@grace(0.3)
@pytest.mark.gen_test(timeout=30)
async def test_a_cloud_that_deletes_softly_gives_its_room_back_all_the_same(client, sim, mode):
    sim.settings(reclaim_seconds=3600)
    flavor = "m1.tiny" if mode == "operator" else "m1.small"
    await client.fill(4, flavor)
    created = await client.create(False, flavor=flavor)
    assert created.status == 201
    assert sim.servers().keys().isdisjoint(created.json["evicted"])
    assert (await client.delete(created.id)).status == 200
    assert created.id not in sim.servers()


@BOTH
@pytest.mark.gen_test(timeout=30)
async def test_a_server_with_our_mark_that_no_request_wants_is_removed(client, sim, project):
    mine = (await client.create(True)).id
    deployment = sim.servers()[mine]["metadata"]["vmsvc_deployment"]
    (left_over,) = sim.foreign(project, metadata={"vmsvc_id": "of-a-request-long-gone",
                                                  "vmsvc_deployment": deployment})
    (other,) = sim.foreign(project, metadata={"vmsvc_id": "of-another", "vmsvc_deployment": "another-deployment"})
    await until(lambda: left_over not in sim.servers(), "the removal")
    assert sim.servers().keys() == {mine, other}


@pytest.mark.parametrize("mode", ["tenant"])
@pytest.mark.gen_test(timeout=30)
async def test_what_cannot_be_deleted_or_read_keeps_nothing_else_from_being_seen(monkeypatch, client, sim, project):
    monkeypatch.setattr("vmsvc.cloud.mirror._WHOLE_SECONDS", 0.5)
    one, other, gone = await client.fill(3)
    deployment = sim.servers()[one]["metadata"]["vmsvc_deployment"]
    left_over = sorted(sim.foreign(project, count=3, flavor="m1.tiny", metadata={
        "vmsvc_id": "of-a-request-long-gone", "vmsvc_deployment": deployment}))
    assert len(left_over) == 1, "the fourth place on the host"
    sim.change(left_over[0], locked_by="admin")
    sim.host("sim-1", cell_down=True)
    sim.fault(action="status", status=500, method="GET", path=f"/servers/({one}|{other})")
    sim.vanish(gone)
    await client.saw("delete/lost", gone)
    assert (await client.listed()).keys() >= {one, other}
    sim.clear_faults()
    sim.host("sim-1", cell_down=False)
    sim.change(left_over[0], locked_by=None)
    await until(lambda: sim.servers().keys() == {one, other}, "the removal")


@grace(0.5)
@pytest.mark.parametrize("hosts", [2])
@pytest.mark.gen_test(timeout=30)
async def test_a_host_that_is_down_is_no_place_to_make_room_on(client, sim):
    """Its victims would go and their room would be of no use."""
    await client.fill(8)
    hosts = {server_id: server["host"] for server_id, server in sim.servers().items()}
    sim.host("sim-1", forced_down=True)
    created = await client.create(False, flavor="m1.medium")
    assert created.status == 201
    assert {hosts[victim] for victim in created.json["evicted"]} == {"sim-2"}
    sim.host("sim-1", forced_down=False)
