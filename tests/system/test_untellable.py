"""Victims whose guests cannot be told: full metadata, a cloud that refuses to write it, a lock. Who is skipped, who
goes by the event alone, and that a round in which nobody left is no round."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from tests.system.client import until
from tests.system.marks import BOTH, TENANT, grace
from tests.system.timing import TIMING

MOST = 128


def fill_metadata(sim, *vms, items=MOST):
    """Their owner writes metadata until each has so many items."""
    for vm in vms:
        metadata = sim.servers()[vm]["metadata"]
        sim.change(vm, metadata=metadata | {f"u{number}": "x" for number in range(items - len(metadata))})


async def seen(client, vms, items=MOST):
    """Wait until the service has seen that each has so many items."""
    async with asyncio.timeout(15):
        while [vm for vm, server in (await client.listed()).items() if vm in vms and len(server["metadata"]) != items]:
            await asyncio.sleep(0.05)


def refuse(sim, *vms):
    """The cloud's policy lets nobody write their metadata, which nobody can see beforehand."""
    sim.fault(
        action="status",
        status=403,
        service="compute",
        method="POST",
        path=f"/({'|'.join(vms)})/metadata$",
        body={
            "forbidden": {
                "code": 403,
                "message": "Policy doesn't allow os_compute_api:server-metadata:create to be performed.",
            }
        },
    )


async def notices(client, **query):
    """The events of notices, in order."""
    return [event for event in await client.events(type="evict", **query) if event["data"]["state"] == "noticed"]


def moment(text):
    """The moment that an RFC 3339 text means."""
    return datetime.fromisoformat(text)


@TENANT
@grace(1)
@pytest.mark.gen_test(timeout=30)
async def test_a_tenant_skips_victims_that_cannot_read_a_notice_and_evicts_the_others_in_one_round(
    client, sim, project
):
    full = await client.fill(2, priority=-10)
    (third,) = await client.fill(1, priority=5)
    fill_metadata(sim, *full)
    sim.quota(project, instances=3)
    await seen(client, full)
    assert (await client.create(False, query="?dry_run=true")).json["victims"] == [third]
    created = await client.create(False)
    assert (created.status, created.json["evicted"]) == (201, [third])
    assert {event["subject"] for event in await notices(client)} == {third}
    (one,) = await client.record()
    assert (one["round"], one["delivery"], one["exempt"]) == (1, "metadata", None)
    refused = await client.create(False)
    assert (refused.status, refused.json["error"]) == (403, "quota_exceeded")
    assert set(full) <= sim.servers().keys() and len(await notices(client)) == 1
    sim.quota(project, instances=-1)


@grace(1)
@pytest.mark.gen_test(timeout=30)
async def test_an_owner_cannot_prevent_an_operator_s_eviction_which_comes_by_event_after_a_whole_notice(client, sim):
    full = await client.fill(1, priority=-10)
    await client.fill(3, priority=5)
    fill_metadata(sim, full[0])
    await seen(client, full)
    created = await client.create(False)
    assert (created.status, created.json["evicted"]) == (201, full)
    (notice,) = await notices(client)
    assert notice["data"]["delivery"] == notice["data"]["vm"]["notice"]["delivery"] == "event"
    went = await client.wait_for_event("evict/evicting", full[0])
    assert moment(went["time"]) - moment(notice["time"]) >= timedelta(seconds=1)
    (one,) = await client.record()
    assert (one["delivery"], one["noticed_at"], one["round"]) == ("event", None, 1)
    assert not sim.calls(method="POST", path=f"/{full[0]}/metadata$")


@grace(1)
@pytest.mark.gen_test(timeout=30)
async def test_an_unreadable_notice_that_an_operator_finds_late_gets_a_second_event_and_no_earlier_end(client, sim):
    vms = await client.fill(4)
    refuse(sim, *vms)
    created = await client.create(False)
    (victim,) = created.json["evicted"]
    first, second = await notices(client)
    assert [event["data"]["delivery"] for event in (first, second)] == ["metadata", "event"]
    assert first["data"]["evict_at"] == second["data"]["evict_at"] and second["subject"] == victim
    went = await client.wait_for_event("evict/evicting", victim)
    assert moment(went["time"]) - moment(first["time"]) >= timedelta(seconds=1)
    sim.clear_faults()


@TENANT
@grace(20)
@pytest.mark.gen_test(timeout=30)
async def test_a_refusal_for_good_ends_the_notice_at_once_and_costs_no_round(client, sim, project):
    """Three of four cannot be told, which shows when it is tried: none of them waits for its time."""
    vms = await client.fill(4)
    sim.quota(project, instances=4)
    refuse(sim, *vms[:3])
    creating = asyncio.ensure_future(client.create(False))
    await client.wait_for_notice(
        sim, vms[3], (await client.wait_for_event("evict/noticed", vms[3]))["data"]["evict_at"]
    )
    await client.acknowledge(vms[3])
    created = await creating
    assert (created.status, created.json["evicted"]) == (201, [vms[3]])
    record = {one["vm"]["id"]: one for one in await client.record()}
    assert {one["round"] for one in record.values()} == {1}
    assert record[vms[3]]["exempt"] is None
    assert all("could not read the notice" in one["exempt"] for vm, one in record.items() if vm != vms[3])
    assert len(await notices(client)) == len(record), "nobody was noticed twice"
    sim.clear_faults()
    sim.quota(project, instances=-1)


@TENANT
@grace(3)
@pytest.mark.parametrize("hosts", [2])
@pytest.mark.gen_test(timeout=30)
async def test_of_several_victims_each_that_cannot_read_its_notice_is_replaced_within_the_round(client, sim, project):
    vms = await client.fill(5)
    sim.quota(project, cores=5)
    refuse(sim, *vms[:3])
    created = await client.create(False, flavor="m1.medium")
    assert (created.status, sorted(created.json["evicted"])) == (201, sorted(vms[3:]))
    record = [one for one in await client.record() if one["state"] == "evicted"]
    assert [one["round"] for one in record] == [1, 1] and all(one["fulfilled_at"] for one in record)
    sim.clear_faults()
    sim.quota(project, cores=-1)


@TENANT
@grace(20)
@pytest.mark.gen_test(timeout=30)
async def test_when_no_victim_can_read_a_notice_the_answer_comes_at_once_and_no_vm_is_evicted(client, sim, project):
    vms = await client.fill(4)
    sim.quota(project, instances=4)
    refuse(sim, *vms)
    refused = await client.create(False)
    assert (refused.status, refused.json["error"], refused.json.get("evicted", [])) == (403, "quota_exceeded", [])
    assert sim.servers().keys() == set(vms)
    assert len(await notices(client)) == 4
    sim.clear_faults()
    sim.quota(project, instances=-1)


@BOTH
@grace(1)
@pytest.mark.gen_test(timeout=30)
async def test_where_one_metadata_item_is_free_the_guest_reads_evict_at(client, sim, mode):
    flavor = "m1.tiny" if mode == "operator" else "m1.small"
    vms = await client.fill(4, flavor)
    fill_metadata(sim, *vms, items=MOST - 1)
    await seen(client, vms, MOST - 1)
    creating = asyncio.ensure_future(client.create(False, flavor=flavor))
    notice = await client.wait_for_event("evict/noticed")
    await client.wait_for_notice(sim, notice["subject"], notice["data"]["evict_at"])
    assert "vmsvc_evict_reason" not in sim.servers()[notice["subject"]]["metadata"]
    assert (await creating).json["evicted"] == [notice["subject"]]
    (one,) = await client.record()
    assert one["noticed_at"] and one["delivery"] == "metadata"


@BOTH
@grace(20)
@pytest.mark.gen_test(timeout=40)
async def test_who_is_locked_during_its_notice_costs_no_round_and_is_not_noticed_again(client, sim, mode):
    flavor = "m1.tiny" if mode == "operator" else "m1.small"
    vms = await client.fill(4, flavor)
    creating = asyncio.ensure_future(client.create(False, flavor=flavor))
    locked = []
    for number in range(1, 4):
        last = (await client.wait_for_events("evict/noticed", number))[-1]["subject"]
        await client.wait_for_notice(sim, last, (await client.show(last)).json["evict_at"])
        sim.change(last, locked_by="owner")
        await client.wait_for_event("evict/reprieved", last)
        locked.append(last)
        if number > 1:  # to toggle the lock makes nobody a candidate for that request again
            sim.change(locked[number - 2], locked_by=None)
    (victim,) = set(vms) - set(locked)
    await client.wait_for_event("evict/noticed", victim)
    await client.acknowledge(victim)
    created = await creating
    assert (created.status, created.json["evicted"]) == (201, [victim])
    record = {one["vm"]["id"]: (one["round"], one["exempt"]) for one in await client.record()}
    assert record == {**dict.fromkeys(locked, (1, "it is locked in the cloud")), victim: (1, None)}
    sim.change(locked[-1], locked_by=None)


@TENANT
@pytest.mark.parametrize("options", [{"grace_seconds": 0.3, "max_lifetime_seconds": 1}], ids=["lifetime"])
@pytest.mark.gen_test(timeout=30)
@pytest.mark.parametrize("timing", [replace(TIMING, lifetimes_round=0.1)], ids=["timing"])
async def test_a_lifetime_that_ends_where_no_notice_can_be_written_is_no_flood_of_notices(client, sim):
    vm = (await client.create(True)).id
    fill_metadata(sim, vm)
    reprieved = await client.wait_for_event("evict/reprieved", vm)
    assert "could not read the notice" in reprieved["data"]["reason"]
    looks = len(sim.calls(path="/servers/detail"))
    await until(lambda: len(sim.calls(path="/servers/detail")) > looks + 1, "more rounds", 20)
    assert len(await notices(client)) == 1 and vm in sim.servers()


@BOTH
@grace(0.5)
@pytest.mark.gen_test(timeout=30)
async def test_practice_of_a_vm_that_cannot_read_a_notice_says_so(client, sim, mode):
    vm = (await client.create(True)).id
    fill_metadata(sim, vm)
    await client.practise(vm)
    if mode == "tenant":
        assert "could not read the notice" in (await client.wait_for_event("evict/reprieved", vm))["data"]["reason"]
        return
    await client.wait_for_event("evict/evicted", vm)
    assert [event["data"]["delivery"] for event in await notices(client)] == ["metadata", "event"]
