"""Others act on the same cloud: they lock, stop, delete, and a part of the cloud may not answer."""

import asyncio
from dataclasses import replace

import pytest

from tests.system.client import until
from tests.system.marks import BOTH, EITHER, grace
from tests.system.timing import TIMING


def flavor_of(mode):
    """One that fills a host four times over, or, where nobody sees free room, by half."""
    return "m1.tiny" if mode == "operator" else "m1.small"


@EITHER
@pytest.mark.gen_test(timeout=20)
async def test_a_vm_that_vanished_is_reported_as_lost(client, sim):
    vm = (await client.create(False)).id
    sim.vanish(vm)
    lost = await client.wait_for_event("delete/lost", vm)
    assert lost["data"]["vm"]["state"] == "lost"
    assert vm not in await client.listed()
    assert (await client.show(vm)).status == 404
    assert (await client.delete(vm)).status == 404


@EITHER
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
    await client.wait_for_events("create/active", 3)
    assert not await client.events(type="delete")
    assert set(vms) <= (await client.listed()).keys()


@grace(8)
@pytest.mark.gen_test(timeout=30)
async def test_a_victim_that_vanishes_during_its_notice_ends_the_wait(client, sim):
    await client.fill(4)
    creating = asyncio.ensure_future(client.create(False))
    notice = await client.wait_for_event("evict/noticed")
    sim.vanish(notice["subject"])
    created = await creating
    assert created.status == 201
    assert (await client.wait_for_event("create/active", created.id))["time"] < notice["data"]["vm"]["evict_at"]
    # Gone is gone: it is told as lost, or as reprieved first when the room was seen before the loss.
    await client.wait_for_event("delete/lost", notice["subject"])
    assert not [event for event in await client.events(type="evict") if event["data"]["state"] == "evicting"]


@BOTH
@grace(1)
@pytest.mark.gen_test(timeout=30)
async def test_a_victim_that_is_locked_during_its_notice_is_reprieved_and_another_is_evicted(client, sim, mode):
    flavor = "m1.tiny" if mode == "operator" else "m1.small"
    await client.fill(4, flavor)
    creating = asyncio.ensure_future(client.create(False, flavor=flavor))
    locked = (await client.wait_for_event("evict/noticed"))["subject"]
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
async def test_who_takes_our_marks_off_keeps_a_preemptible_vm_and_the_marks_come_back(client, sim, mode, caplog):
    """Taken off, changed, or another VM's: the row knows better."""
    first, second, third, fourth = vms = await client.fill(4, flavor_of(mode), priority=1)
    marks = {vm: sim.servers()[vm]["metadata"] for vm in vms}
    sim.change(first, metadata={"its": "own"})
    sim.change(second, metadata=marks[second] | {"vmsvc_kind": "standard", "vmsvc_deployment": "another"})
    sim.change(third, metadata=marks[fourth])
    for vm in vms:
        await until(lambda vm=vm: sim.servers()[vm]["metadata"].items() >= marks[vm].items(), "the marks")
    assert sim.servers()[first]["metadata"] == marks[first] | {"its": "own"}
    said = [record.getMessage() for record in caplog.records if "was removed or changed" in record.getMessage()]
    assert len(said) == 3 and all("of anonymous" in line for line in said)
    writes = [sim.calls(method="POST", path=f"/{vm}/metadata$") for vm in vms]
    assert [len(calls) for calls in writes] == [1, 1, 1, 0]
    sim.change(first, metadata={"its": "own"})
    await until(lambda: "vmsvc_id" not in sim.servers()[first]["metadata"], "its second try")
    created = [await client.create(False, flavor=flavor_of(mode)) for _ in vms]
    assert sorted(vm for one in created for vm in one.json["evicted"]) == sorted(vms)
    assert len(sim.calls(method="POST", path=f"/{first}/metadata$")) == 2, "its notice; its marks only once a minute"


@BOTH
@grace(0.3)
@pytest.mark.gen_test(timeout=30)
async def test_where_no_item_is_free_for_the_marks_the_row_still_counts(client, sim, mode, caplog):
    vms = await client.fill(4, flavor_of(mode))
    marks = sim.servers()[vms[0]]["metadata"]
    sim.change(vms[0], metadata={f"u{number}": "x" for number in range(128)})
    await until(lambda: "the marks cannot be restored now; the vm stays preemptible" in caplog.text, "the log")
    listed = await client.listed()
    assert listed[vms[0]]["is_preemptible"] and listed[vms[0]]["state"] == "active"
    created = [await client.create(False, flavor=flavor_of(mode)) for _ in vms]
    # An operator's goes by the event; a tenant spares whom nobody can tell.
    assert (vms[0] in [vm for one in created if one.status == 201 for vm in one.json["evicted"]]) == (
        mode == "operator"
    )
    if mode == "tenant":
        sim.change(vms[0], metadata=marks)


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
async def test_a_cloud_that_deletes_softly_gives_its_capacity_back_all_the_same(client, sim, mode):
    sim.settings(reclaim_seconds=3600)
    flavor = "m1.tiny" if mode == "operator" else "m1.small"
    await client.fill(4, flavor)
    created = await client.create(False, flavor=flavor)
    assert created.status == 201
    assert sim.servers().keys().isdisjoint(created.json["evicted"])
    assert (await client.delete(created.id)).status == 200
    assert created.id not in sim.servers()


@EITHER
@pytest.mark.gen_test(timeout=30)
async def test_a_server_with_our_mark_that_no_request_wants_is_removed(client, sim, project):
    mine, ended = await client.fill(2)
    marks = sim.servers()[ended]["metadata"]
    await client.delete(ended)
    (left_over,) = sim.foreign(project, metadata=marks)
    (other,) = sim.foreign(project, metadata={**marks, "vmsvc_deployment": "another-deployment"})
    await until(lambda: left_over not in sim.servers(), "the removal")
    assert sim.servers().keys() == {mine, other}


@EITHER
@pytest.mark.gen_test(timeout=30)
async def test_a_server_with_our_mark_and_no_row_is_kept_and_reported(client, sim, project, caplog):
    mine = (await client.create(True)).id
    marks = sim.servers()[mine]["metadata"]
    (kept,) = sim.foreign(project, metadata={**marks, "vmsvc_id": "of-no-row"})
    await until(lambda: f"`.venv/bin/python -m vmsvc adopt` makes rows for them: {kept}" in caplog.text, "the log")
    looks = len(sim.calls(path="/servers/detail"))
    await until(lambda: len(sim.calls(path="/servers/detail")) > looks + 2, "more rounds", 30)
    assert "vmsvc_servers_without_row 1.0" in await client.text("/metrics")
    assert kept in sim.servers() and caplog.text.count("have no row") == 1
    sim.vanish(kept)
    await until(lambda: kept not in sim.servers(), "its end")


@pytest.mark.parametrize("mode", ["tenant"])
@pytest.mark.gen_test(timeout=30)
@pytest.mark.parametrize("timing", [replace(TIMING, full_list=0.5)], ids=["timing"])
async def test_what_cannot_be_deleted_or_read_keeps_nothing_else_from_being_seen(client, sim, project):
    one, other, gone, ended = await client.fill(4)
    marks = sim.servers()[ended]["metadata"]
    await client.delete(ended)
    left_over = sim.foreign(project, count=3, flavor="m1.tiny", metadata=marks)
    assert len(left_over) == 1, "the fourth place on the host"
    sim.change(left_over[0], locked_by="admin")
    sim.host("sim-1", cell_down=True)
    sim.fault(action="status", status=500, method="GET", path=f"/servers/({one}|{other})")
    sim.vanish(gone)
    await client.wait_for_event("delete/lost", gone)
    assert (await client.listed()).keys() >= {one, other}
    sim.clear_faults()
    sim.host("sim-1", cell_down=False)
    sim.change(left_over[0], locked_by=None)
    await until(lambda: sim.servers().keys() == {one, other}, "the removal")


@grace(0.5)
@pytest.mark.parametrize("hosts", [2])
@pytest.mark.gen_test(timeout=30)
async def test_a_host_that_is_down_is_no_place_to_free_capacity_on(client, sim):
    """Its victims would go and their room would be of no use."""
    await client.fill(8)
    hosts = {server_id: server["host"] for server_id, server in sim.servers().items()}
    sim.host("sim-1", forced_down=True)
    created = await client.create(False, flavor="m1.medium")
    assert created.status == 201
    assert {hosts[victim] for victim in created.json["evicted"]} == {"sim-2"}
    sim.host("sim-1", forced_down=False)


@EITHER
@grace(0.3)
@pytest.mark.gen_test(timeout=30)
@pytest.mark.parametrize("timing", [replace(TIMING, resend_delete=0.5)], ids=["timing"])
async def test_a_delete_that_hangs_is_sent_again(client, sim, mode):
    flavor = flavor_of(mode)
    await client.fill(4, flavor)
    sim.fault(kind="delete_hangs", count=1)
    created = await client.create(False, flavor=flavor)
    assert created.status == 201 and len(created.json["evicted"]) == 1
    assert len(sim.calls(method="DELETE", path=f"/servers/{created.json['evicted'][0]}$")) == 2
    assert len(sim.servers()) == 4


@grace(0.3)
@pytest.mark.gen_test(timeout=30)
async def test_on_an_over_committed_host_free_capacity_is_never_negative_and_enough_go(client, sim):
    """Racing claims have given out more than there is: one VM more has to go before anything fits."""
    await client.fill(4)
    sim.host("sim-1", vcpus=3)
    (host,) = (await client.call("GET", "/api/v1/capacity")).json["hosts"]
    while host["capacity"]["VCPU"] != 3:  # read again in its turn
        assert (await client.create(False, query="?dry_run=true")).status == 200
        (host,) = (await client.call("GET", "/api/v1/capacity")).json["hosts"]
    assert host["free"].get("VCPU", 0) == 0 and min(host["free"].values()) >= 0
    flavors = (await client.call("GET", "/api/v1/capacity")).json["flavors"]
    (tiny,) = [each for each in flavors if each["name"] == "m1.tiny"]
    assert (tiny["fits_now"], tiny["fits_after_evictions"]) == (0, 3)
    created = await client.create(False)
    assert created.status == 201 and len(created.json["evicted"]) == 2


@BOTH
@grace(30)
@pytest.mark.parametrize("hosts", [2])
@pytest.mark.gen_test(timeout=30)
async def test_capacity_that_appears_on_another_host_spares_the_victims_there_too(client, sim, mode):
    flavor = "m1.large"
    mine = await client.fill(1, flavor)
    standard = (await client.create(False, flavor=flavor)).id
    creating = asyncio.ensure_future(client.create(False, flavor=flavor))
    notice = await client.wait_for_event("evict/noticed", mine[0])
    await client.wait_for_notice(sim, mine[0], notice["data"]["evict_at"])
    await client.delete(standard)
    created = await creating
    assert (created.status, created.json["evicted"]) == (201, []), mode
    await client.wait_for_event("evict/reprieved", mine[0])
    await client.wait_for_notice(sim, mine[0], None)
    assert sim.servers().keys() == {*mine, created.id}


@grace(30)
@pytest.mark.parametrize("hosts", [2])
@pytest.mark.gen_test(timeout=40)
@pytest.mark.parametrize("timing", [replace(TIMING, compute_services=0.2)], ids=["timing"])
async def test_a_host_that_goes_down_during_the_notice_costs_its_vms_nothing(client, sim):
    mine = await client.fill(2, "m1.large")
    hosts = {vm: sim.servers()[vm]["host"] for vm in mine}
    creating = asyncio.ensure_future(client.create(False, flavor="m1.large"))
    spared = (await client.wait_for_event("evict/noticed"))["subject"]
    sim.host(hosts[spared], forced_down=True)
    await client.wait_for_event("evict/reprieved", spared)
    (other,) = set(mine) - {spared}
    await client.wait_for_event("evict/noticed", other)
    await client.acknowledge(other)
    created = await creating
    assert (created.status, created.json["evicted"]) == (201, [other])
    assert sim.servers()[created.id]["host"] == hosts[other] and spared in sim.servers()
    sim.host(hosts[spared], forced_down=False)


@BOTH
@grace(30)
@pytest.mark.gen_test(timeout=30)
async def test_an_owner_who_stops_the_victim_in_the_cloud_ends_its_notice(client, sim, mode):
    await client.fill(4, flavor_of(mode))
    creating = asyncio.ensure_future(client.create(False, flavor=flavor_of(mode)))
    notice = await client.wait_for_event("evict/noticed")
    sim.change(notice["subject"], power="off")
    created = await creating
    assert (created.status, created.json["evicted"]) == (201, [notice["subject"]])
    assert (await client.wait_for_event("evict/evicting", notice["subject"]))["time"] < notice["data"]["evict_at"]


@BOTH
@pytest.mark.gen_test(timeout=30)
async def test_servers_that_refusals_leave_in_error_are_deleted_at_once(client, sim, mode):
    await client.fill(4, "m1.small")
    sim.fault(kind="no_valid_host", name="^refused$")
    refused = await client.create(True, flavor="m1.small", name="refused")
    assert (refused.status, refused.json["error"]) == (409, "no_capacity"), mode
    assert len(sim.servers()) == 4 and {server["status"] for server in sim.servers().values()} == {"ACTIVE"}
    sim.clear_faults()


@BOTH
@grace(3)
@pytest.mark.parametrize("gone", ["image", "network", "key_name"])
@pytest.mark.gen_test(timeout=30)
async def test_a_noticed_vm_stays_when_what_the_request_names_is_deleted(client, sim, project, gone):
    preemptible = await client.fill(4)
    sim.quota(project, instances=4)
    body, ends = sim.names_of_one_request(project)
    creating = asyncio.ensure_future(client.create(False, **body))
    await client.wait_for_event("evict/noticed")
    ends[gone]()
    refused = await creating
    assert (refused.status, refused.json["error"]) == (400, "invalid_request")
    assert sim.servers().keys() == set(preemptible)
    assert [event["data"]["state"] for event in await client.events(type="evict")] == ["noticed", "reprieved"]
    sim.quota(project, instances=-1)
