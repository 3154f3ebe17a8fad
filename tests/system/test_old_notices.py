"""A notice that should have ended long ago is not carried out: the service was away, or a backup was restored."""

from datetime import datetime, timedelta

import pytest

from tests.system.client import until
from tests.system.marks import BOTH

ASYNC = {"Prefer": "respond-async"}
_AWAY = """
UPDATE vm SET evict_at = evict_at - interval '1 hour', updated_at = updated_at - interval '1 hour'
WHERE state = 'noticed';
UPDATE eviction SET evict_at = evict_at - interval '1 hour', planned_at = planned_at - interval '1 hour',
    noticed_at = noticed_at - interval '1 hour' WHERE reprieved_at IS NULL;
UPDATE intent SET not_before = not_before - interval '1 hour' WHERE done_at IS NULL;
"""
pytestmark = pytest.mark.parametrize("options", [{"grace_seconds": 2}], ids=["grace2"])


async def noticed_and_away(new_replica, database, sim, project, flavor):
    """Two VMs are noticed for one request, and the service is away for an hour: the VMs, and the request's id."""
    replica, client = await new_replica()
    sim.quota(project, instances=4)
    await client.fill(4)
    wanted = (await client.create(False, flavor=flavor, headers=ASYNC)).json["vm"]["vmsvc_id"]
    count = {"m1.tiny": 1, "m1.medium": 2}[flavor]
    victims = [event["subject"] for event in await client.wait_for_events("evict/noticed", count)]
    await until(lambda: all("vmsvc_evict_at" in sim.servers()[vm]["metadata"] for vm in victims), "their notice")
    await replica.stop()
    for statement in filter(str.strip, _AWAY.split(";")):
        database.rows(statement + " RETURNING 1")
    return victims, wanted


@BOTH
@pytest.mark.gen_test(timeout=40)
async def test_a_victim_that_is_still_needed_gets_a_new_notice_of_full_length(new_replica, database, sim, project):
    sim.quota(project, cores=4)
    victims, wanted = await noticed_and_away(new_replica, database, sim, project, "m1.medium")
    _, client = await new_replica()
    created = await client.wait_for_event("create/active", wanted)
    assert len(created["data"]["evicted"]) == 2
    for vm in created["data"]["evicted"]:
        new = (await client.wait_for_events("evict/noticed", 2 if vm in victims else 1, vm))[-1]
        begun = await client.wait_for_event("evict/evicting", vm)
        assert begun["time"] >= new["data"]["evict_at"]
        length = datetime.fromisoformat(begun["time"]) - datetime.fromisoformat(new["time"])
        assert length >= timedelta(seconds=2)
    for vm in victims:
        spared = await client.wait_for_event("evict/reprieved", vm)
        assert "was not carried out in time" in spared["data"]["reason"]
    assert {one["round"] for one in await client.record() if one["state"] == "evicted"} == {1}


@BOTH
@pytest.mark.gen_test(timeout=40)
async def test_a_victim_that_is_no_longer_needed_stays(new_replica, database, sim, project, mode):
    """There is capacity by now."""
    victims, wanted = await noticed_and_away(new_replica, database, sim, project, "m1.tiny")
    sim.quota(project, instances=-1)
    sim.add_host("sim-2")
    _, client = await new_replica()
    await client.wait_for_event("create/active", wanted)
    await client.wait_for_event("evict/reprieved", victims[0])
    await client.wait_for_notice(sim, victims[0], None)
    assert victims[0] in sim.servers() and not [one for one in await client.record() if one["evicting_at"]], mode


@pytest.mark.gen_test(timeout=40)
async def test_a_practice_that_nobody_waits_for_any_more_ends_no_vm(new_replica, database, sim):
    replica, client = await new_replica()
    (vm,) = await client.fill(1)
    await client.practise(vm)
    await until(lambda: "vmsvc_evict_at" in sim.servers()[vm]["metadata"], "its notice")
    await replica.stop()
    for statement in filter(str.strip, _AWAY.split(";")):
        database.rows(statement + " RETURNING 1")
    _, client = await new_replica()
    await client.wait_for_event("evict/reprieved", vm)
    await client.wait_for_notice(sim, vm, None)
    assert vm in sim.servers()
