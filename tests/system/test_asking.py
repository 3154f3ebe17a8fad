"""Asking first: dry runs, capacity and the catalog, and that what they say is what then happens."""

import asyncio

import pytest

from tests.system.client import API
from tests.system.marks import BOTH


def options(**values):
    """Settings of a test."""
    return pytest.mark.parametrize("options", [values], ids=["-".join(map(str, values.values()))])


async def ask(client, preemptible=False, **fields):
    """The answer to a dry run."""
    answer = await client.create(preemptible, query="?dry_run=true", **fields)
    assert answer.status == 200, answer.json
    return answer.json


@options(grace_seconds=0.5)
@pytest.mark.parametrize("hosts", [2])
@pytest.mark.gen_test(timeout=30)
async def test_a_dry_run_names_the_host_the_victims_in_order_what_decided_and_what_it_beat(client, sim):
    for priority in (2, 1, 2, 1, 2, 3, 3, 1):
        await client.create(True, priority=priority)
    plan = await ask(client, flavor="m1.medium")
    assert plan["result"] == "evicts" and len(plan["victims"]) == 2
    assert plan["host"] == plan["bin"]["id"] and plan["bin"]["kind"] == "host"
    assert plan["criterion"] == "fewer victims of priority 2"
    assert plan["cost"]["victims_by_priority"] == {"1": 2}
    assert plan["runner_up"]["victims_by_priority"] == {"2": 1, "1": 1}
    assert plan["optimal"] is True and plan["grace_seconds"] == 0.5
    assert plan["reason"] == (
        f"2 preemptible VMs would make room in host {plan['host']} after 0.5 s of notice; "
        f"what decided: {plan['criterion']}"
    )
    assert not await client.events(type="evict")
    created = await client.create(False, flavor="m1.medium")
    assert created.json["evicted"] == plan["victims"]
    assert sim.servers()[created.id]["host"] == plan["host"]
    record = await client.record()
    assert [one["vm"]["id"] for one in reversed(record)] == plan["victims"]
    for one in record:
        assert (one["criterion"], one["optimal"]) == (plan["criterion"], plan["optimal"])
        for costs in ("cost", "runner_up"):  # work is lost second by second
            assert {**one[costs], "lost_work": 0} == {**plan[costs], "lost_work": 0}


@pytest.mark.parametrize("hosts", [3])
@pytest.mark.gen_test(timeout=30)
async def test_where_there_is_capacity_the_dry_run_names_the_host_that_is_then_taken(client, sim):
    sim.foreign("demo", count=3, host="sim-2")
    plan = await ask(client, True)
    assert plan == {"result": "placed", "host": "sim-2", "victims": [], "reason": "host sim-2 has room for it"}
    created = await client.create(True)
    assert sim.servers()[created.id]["host"] == "sim-2"


@pytest.mark.parametrize("mode", ["tenant"])
@pytest.mark.gen_test(timeout=30)
async def test_a_tenant_hears_what_would_happen_in_either_case(client):
    mine = await client.fill(4, "m1.small")
    plan = await ask(client)
    assert (plan["result"], plan["host"], plan["victims"]) == ("placed", None, [])
    full = plan["if_no_host_has_room"]
    assert (full["result"], full["bin"]["kind"], full["host"]) == ("evicts", "host_id", None)
    assert len(full["victims"]) == 1 and full["victims"][0] in mine


@pytest.mark.gen_test(timeout=30)
async def test_a_dry_run_for_several_requests_names_the_victims_that_they_have_together(client):
    await client.fill(4)
    answer = await client.create(False, query="?dry_run=true&count=3", flavor="m1.medium")
    plans = answer.json["plans"]
    assert [plan["result"] for plan in plans] == ["evicts", "evicts", "refused"]
    foreseen = {victim for plan in plans for victim in plan["victims"]}
    assert len(foreseen) == 4 and answer.json["victims"] == plans[0]["victims"]
    created = await asyncio.gather(*(client.create(False, flavor="m1.medium") for _ in range(3)))
    assert sorted(each.status for each in created) == [201, 201, 409]
    assert {victim for each in created if each.status == 201 for victim in each.json["evicted"]} == foreseen


@options(grace_seconds=30)
@pytest.mark.gen_test(timeout=30)
async def test_capacity_that_is_being_freed_is_waited_for(client):
    vm = (await client.fill(4))[0]
    await client.practise(vm)
    plan = await ask(client)
    assert (plan["result"], plan["victims"], plan["host"]) == ("waits", [], "sim-1")
    assert plan["reason"] == "room for it is being freed already, in host sim-1"
    creating = asyncio.ensure_future(client.create(False))
    await client.acknowledge(vm)
    created = await creating
    assert (created.status, created.json["evicted"]) == (201, [])


@BOTH
@pytest.mark.gen_test(timeout=30)
async def test_a_dry_run_is_refused_in_the_words_of_the_real_call(client, sim, project):
    sim.quota(project, instances=0)
    plan = await ask(client)
    real = await client.create(False)
    assert plan == {"result": "refused", "victims": [], "error": real.json["error"], "reason": real.json["message"]}
    assert real.status == 403 and real.json["error"] == "quota_exceeded"


@BOTH
@pytest.mark.gen_test(timeout=30)
async def test_capacity_tells_what_fits_now_and_after_evictions(client, sim, mode, project):
    sim.quota(project, instances=-1, cores=6)
    await client.fill(3)
    await client.create(False)
    room = (await client.call("GET", f"{API}/capacity")).json
    assert room["mode"] == mode
    assert room["quota"]["limit"]["instances"] is None and room["quota"]["limit"]["cores"] == 6
    assert room["quota"]["free"]["cores"] == 2 and "instances" not in room["quota"]["free"]
    assert room["quota"]["reclaimable"]["cores"] == 3
    (tiny,) = [flavor for flavor in room["flavors"] if flavor["name"] == "m1.tiny"]
    assert (tiny["vcpus"], tiny["ram"]) == (1, 1024)
    # A tenant is told of its quota alone, an operator of the one host too, which has 4 vCPUs.
    assert (tiny["fits_now"], tiny["fits_after_evictions"]) == ((0, 3) if mode == "operator" else (2, 5))


@options(grace_seconds=1, flavor="m1.small")
@pytest.mark.gen_test(timeout=30)
async def test_the_catalog_tells_what_a_request_may_name_and_what_a_bare_one_gets(client, sim):
    offer = (await client.call("GET", f"{API}/catalog")).json
    assert [flavor["name"] for flavor in offer["flavors"]] == ["m1.tiny", "m1.small", "m1.medium", "m1.large"]
    assert offer["defaults"]["flavor"] == "m1.small" and "nova" in offer["availability_zones"]
    bare = await client.create(False)
    assert bare.json["vm"]["flavor"] == "m1.small"
    named = await client.create(
        True,
        flavor=offer["flavors"][0]["id"],
        image=offer["images"][0]["id"],
        network=offer["networks"][0]["id"],
        availability_zone=offer["availability_zones"][0],
    )
    assert named.status == 201, named.json
    assert {server["status"] for server in sim.servers().values()} == {"ACTIVE"}


@pytest.mark.gen_test(timeout=30)
async def test_calls_to_the_cloud_are_in_the_metrics(client):
    await client.create(False)
    shown = await client.text("/metrics")
    assert 'vmsvc_cloud_calls_total{operation="create_server",outcome="ok"} 1.0' in shown
    assert 'vmsvc_cloud_call_seconds_count{operation="create_server"} 1.0' in shown
