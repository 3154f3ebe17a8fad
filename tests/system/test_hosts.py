"""Hosts are not alike, and not always there: where VMs go, and what is done when a host refuses or goes down."""

import asyncio

import pytest

from tests.system.client import until
from tests.system.marks import grace

TWO_HOSTS = pytest.mark.parametrize("hosts", [2])
POST = {"method": "POST", "path": "/servers$"}


def host_of(sim, vm):
    """Where a server is."""
    return sim.servers()[vm]["host"]


@pytest.mark.parametrize("hosts", [3])
@grace(0.3)
@pytest.mark.gen_test(timeout=40)
async def test_traits_and_classes_decide_the_host_of_a_vm_and_its_victims(sim, new_replica):
    sim.host("sim-1", traits=["CUSTOM_SSD"])
    sim.host("sim-2", inventories={"PCPU": {"total": 2, "max_unit": 2}, "CUSTOM_GOLD": {"total": 1}})
    sim.nest("sim-3", "gpu", VGPU=1)
    sim.flavor("ssd", extra_specs={"trait:CUSTOM_SSD": "required"})
    sim.flavor("spinning", extra_specs={"trait:CUSTOM_SSD": "forbidden"})
    sim.flavor("gold", extra_specs={"resources:CUSTOM_GOLD": "1"})
    sim.flavor("pinned", vcpus=2, extra_specs={"hw:cpu_policy": "dedicated"})
    sim.flavor("gpu", extra_specs={"resources:VGPU": "1"})
    _, client = await new_replica()
    wanted = {"ssd": "sim-1", "gold": "sim-2", "pinned": "sim-2", "gpu": "sim-3"}
    made = {flavor: (await client.create(True, flavor=flavor)).id for flavor in wanted}
    assert {flavor: host_of(sim, vm) for flavor, vm in made.items()} == wanted
    assert host_of(sim, (await client.create(True, flavor="spinning")).id) != "sim-1"
    for flavor in ("gold", "pinned", "gpu"):
        created = await client.create(False, flavor=flavor)
        assert (created.status, created.json["evicted"]) == (201, [made[flavor]])
        assert (await client.create(False, flavor=flavor)).json["error"] == "no_capacity"
    shown = {each["name"]: each for each in (await client.call("GET", "/api/v1/capacity")).json["flavors"]}
    assert (shown["ssd"]["fits_now"], shown["gpu"]["fits_now"], shown["gpu"]["fits_after_evictions"]) == (3, 0, 0)


@pytest.mark.parametrize("hosts", [4])
@grace(0.3)
@pytest.mark.gen_test(timeout=40)
async def test_zones_disabled_hosts_and_steps_decide_too(sim, new_replica):
    """Mars is a zone of its own, sim-2 takes nobody, and sim-3 gives memory in pieces of 4 GiB."""
    sim.host("sim-1", az="mars")
    sim.host("sim-2", disabled=True)
    sim.host("sim-3", inventories={"MEMORY_MB": {"total": 8192, "max_unit": 8192, "step_size": 4096}})
    _, client = await new_replica()
    made = [(await client.create(True)).id for _ in range(8)]
    assert {host_of(sim, vm) for vm in made} == {"sim-1", "sim-4"}
    assert (await client.create(True)).json["error"] == "no_capacity"
    for zone, host in (("mars", "sim-1"), ("nova", "sim-4")):
        victims = {vm for vm in made if host_of(sim, vm) == host}
        created = await client.create(False, availability_zone=zone)
        assert created.status == 201 and host_of(sim, created.id) == host
        assert len(created.json["evicted"]) == 1 and set(created.json["evicted"]) < victims
        made = [vm for vm in made if vm not in created.json["evicted"]]
    created = await client.create(False, flavor="m1.medium")
    assert (created.json["evicted"], host_of(sim, created.id)) == ([], "sim-3")


@TWO_HOSTS
@pytest.mark.gen_test(timeout=30)
async def test_what_others_servers_hold_is_reckoned_as_placement_counts_it(sim, new_replica):
    """From volumes, with swap, ephemeral disk, dedicated CPUs, custom classes; on a host whose node has another name,
    with reserved and over-committed classes."""
    sim.add_host("rack1", node="rack1.example", vcpus=8)
    sim.host(
        "sim-1",
        reserved={"MEMORY_MB": 512},
        ratio={"VCPU": 4.0},
        inventories={"PCPU": {"total": 4}, "CUSTOM_GOLD": {"total": 9}},
    )
    sim.flavor("disks", disk=20, ephemeral=7, swap=1500)
    sim.flavor("seven", vcpus=7)
    sim.flavor("special", vcpus=2, extra_specs={"hw:cpu_policy": "dedicated", "resources:CUSTOM_GOLD": "3"})
    _, client = await new_replica()
    sim.foreign("demo", flavor="disks", host="sim-1")
    sim.foreign("demo", flavor="disks", host="rack1", volume=True)
    gone = sim.foreign("demo", flavor="special", host="sim-1", count=2)
    sim.vanish(gone[0])
    async with asyncio.timeout(10):
        while {
            host["name"]: host["used"] for host in (await client.call("GET", "/api/v1/capacity")).json["hosts"]
        } != sim.used():
            await asyncio.sleep(0.2)
    (first,) = [
        host for host in (await client.call("GET", "/api/v1/capacity")).json["hosts"] if host["name"] == "sim-1"
    ]
    assert first["used"] == {"VCPU": 1, "PCPU": 2, "MEMORY_MB": 2048, "DISK_GB": 30, "CUSTOM_GOLD": 3}
    assert (first["capacity"]["VCPU"], first["capacity"]["MEMORY_MB"]) == (16, 8192 - 512)
    assert host_of(sim, (await client.create(True, flavor="seven")).id) == "rack1"


@grace(0.3)
@pytest.mark.gen_test(timeout=30)
async def test_capacity_that_something_else_than_a_server_holds_is_found_before_anybody_is_noticed(client, sim):
    migration = sim.claim("sim-1", VCPU=3)
    (mine,) = await client.fill(1)
    refused = await client.create(False, flavor="m1.medium")
    assert (refused.status, refused.json["error"]) == (409, "no_capacity")
    assert not await client.events(type="evict")
    sim.release(migration)
    created = await client.create(False, flavor="m1.medium")
    assert created.json["evicted"] == [] and mine in sim.servers()


@grace(0.3)
@pytest.mark.gen_test(timeout=30)
async def test_what_a_host_is_over_committed_by_is_evicted_too(client, sim):
    await client.fill(4)
    sim.host("sim-1", vcpus=2)
    created = await client.create(False)
    assert created.status == 201 and len(created.json["evicted"]) == 3


@TWO_HOSTS
@grace(3)
@pytest.mark.gen_test(timeout=40)
async def test_when_the_chosen_host_goes_down_its_victims_stay_and_others_are_evicted(client, sim):
    await client.fill(8)
    hosts = {vm: server["host"] for vm, server in sim.servers().items()}
    creating = asyncio.ensure_future(client.create(False, flavor="m1.medium"))
    down = hosts[(await client.wait_for_event("evict/noticed"))["subject"]]
    sim.host(down, forced_down=True)
    created = await creating
    assert created.status == 201 and host_of(sim, created.id) != down
    assert down not in {hosts[victim] for victim in created.json["evicted"]}
    reprieved = {event["subject"] for event in await client.wait_for_events("evict/reprieved", 2)}
    assert {hosts[vm] for vm in reprieved} == {down}
    sim.host(down, forced_down=False)


@TWO_HOSTS
@pytest.mark.gen_test(timeout=40)
async def test_a_host_that_refuses_a_kind_of_vm_is_left_alone_by_others_of_that_kind(client, sim, database):
    sim.host("sim-1", refuses=True)
    assert host_of(sim, (await client.create(False)).id) == "sim-2"
    assert len(sim.calls(**POST)) == 2
    for _ in range(2):
        assert host_of(sim, (await client.create(True)).id) == "sim-2"
    assert len(sim.calls(**POST)) == 4
    for tried in (5, 5):
        refused = await client.create(True, flavor="m1.medium")
        assert (refused.status, refused.json["error"]) == (409, "no_capacity")
        assert len(sim.calls(**POST)) == tried
    cooling = database.rows("SELECT host, flavor_id FROM cooldown ORDER BY flavor_id")
    assert [(row["host"], row["flavor_id"]) for row in cooling] == [("sim-1", "m1.medium"), ("sim-1", "m1.tiny")]
    database.rows("UPDATE cooldown SET until_at = now()")
    sim.host("sim-1", refuses=False)
    await client.fill(1)
    assert host_of(sim, (await client.create(True)).id) == "sim-1"


@TWO_HOSTS
@pytest.mark.gen_test(timeout=40)
async def test_a_build_on_a_host_that_dies_goes_on_elsewhere(client, sim):
    sim.settings(service_down_seconds=1)
    sim.host("sim-1", alive=False)
    created = await client.create(False)
    assert created.status == 201 and host_of(sim, created.id) == "sim-2"
    assert len(sim.servers()) == 1
    sim.host("sim-1", alive=True)


@TWO_HOSTS
@pytest.mark.gen_test(timeout=40)
async def test_a_build_that_fails_on_one_host_is_tried_on_another(client, sim):
    sim.fault(kind="spawn_fails", host="sim-1")
    created = await client.create(False)
    assert created.status == 201 and host_of(sim, created.id) == "sim-2"
    assert not await client.events(type="evict")


@TWO_HOSTS
@pytest.mark.gen_test(timeout=40)
async def test_a_host_that_is_taken_away_costs_nobody_anything(client, sim):
    sim.call("DELETE", "/sim/hosts/sim-1")
    created = await client.create(False)
    assert created.status == 201 and host_of(sim, created.id) == "sim-2"
    sim.add_host("sim-3")
    await until(lambda: sim.calls(path="/os-hypervisors"), "a look at new hosts", 5)
