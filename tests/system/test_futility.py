"""The cloud says "No valid host" for a reason that no eviction mends."""

import asyncio

import pytest

from tests.system.marks import BOTH, TENANT

pytestmark = pytest.mark.parametrize("options", [{"grace_seconds": 0.3}], ids=["grace0.3"])


@pytest.fixture(name="sim")
def fixture_sim(sim):
    """A cloud with a flavor that asks for a trait which no host has."""
    sim.flavor("odd", extra_specs={"trait:CUSTOM_ODD": "required"})
    return sim


async def filled(client) -> list[str]:
    """The preemptible VMs that fill the cloud, until it has no room for one more."""
    mine = []
    while (answer := await client.create(True)).status == 201:
        mine.append(answer.id)
    assert (answer.status, answer.json["error"]) == (409, "no_capacity")
    return mine


@BOTH
@pytest.mark.gen_test(timeout=20)
async def test_on_a_cloud_that_has_capacity_no_vm_is_evicted_for_a_vm_that_no_host_takes(client, sim, mode):
    mine = await client.fill(3)
    plan = (await client.create(False, query="?dry_run=true", flavor="odd")).json
    assert plan.get("if_no_host_has_room", plan)["result"] == "refused"
    refused = await client.create(False, flavor="odd")
    assert (refused.status, refused.json["error"]) == (409, "no_capacity")
    if mode == "tenant":
        assert "trait:CUSTOM_ODD=required (flavor)" in refused.json["message"]
    assert not await client.events(type="evict") and sim.servers().keys() == set(mine)


@TENANT
@pytest.mark.gen_test(timeout=30)
async def test_on_a_full_cloud_it_costs_one_round_once_and_nobody_else_is_blamed(client, sim, mode):
    assert mode == "tenant"
    mine = await filled(client)
    asked = await asyncio.gather(*(client.create(False, flavor="odd") for _ in range(3)))
    assert {(answer.status, answer.json["error"]) for answer in asked} == {(409, "no_capacity")}
    gone = set(mine) - sim.servers().keys()
    assert len(gone) == 1, "of three that ask for the same one is tried"
    assert not [answer for answer in asked if "others" in answer.json["message"]]
    (record,) = await client.record()
    assert record["vm"]["id"] in gone and "trait:CUSTOM_ODD=required (flavor)" in record["wasted"]
    assert (await client.create(True)).status == 201
    plan = (await client.create(False, query="?dry_run=true", flavor="odd")).json["if_no_host_has_room"]
    assert (plan["result"], plan["error"]) == ("refused", "no_capacity") and "nobody is evicted" in plan["reason"]
    again = await client.create(False, flavor="odd")
    assert (again.status, again.json["error"]) == (409, "no_capacity")
    assert len(await client.record()) == 1


@TENANT
@pytest.mark.gen_test(timeout=30)
async def test_once_a_host_took_such_a_vm_it_frees_capacity_as_any_other(client, sim, mode):
    assert mode == "tenant"
    sim.host("sim-1", traits=["CUSTOM_ODD"])
    first = await client.create(False, flavor="odd")
    assert first.status == 201
    await client.fill(3)
    created = await client.create(False, flavor="odd")
    assert (created.status, len(created.json["evicted"])) == (201, 1)


@pytest.mark.parametrize("hosts", [2])
@pytest.mark.gen_test(timeout=30)
async def test_a_round_after_which_the_capacity_was_there_is_the_last(client, sim, hosts):
    mine = await client.fill(4 * hosts)
    sim.fault(kind="no_valid_host", name="^cursed$")
    refused = await client.create(False, name="cursed")
    assert (refused.status, refused.json["error"]) == (409, "no_capacity")
    assert "the capacity that was freed for it was there" in refused.json["message"]
    (record,) = await client.record()
    assert record["wasted"] == refused.json["message"]
    assert len(set(mine) & sim.servers().keys()) == 4 * hosts - 1
    sim.clear_faults()


@TENANT
@pytest.mark.parametrize("hosts", [2])
@pytest.mark.gen_test(timeout=30)
async def test_a_tenant_frees_no_capacity_in_another_zone(new_replica, sim, mode, hosts):
    assert (mode, hosts) == ("tenant", 2)
    sim.host("sim-2", az="mars")
    sim.foreign("admin", host="sim-2", flavor="m1.large")
    _, client = await new_replica()
    mine = await filled(client)
    refused = await client.create(False, availability_zone="mars")
    assert (refused.status, refused.json["error"]) == (409, "no_capacity")
    assert not await client.events(type="evict") and sim.servers().keys() > set(mine)
