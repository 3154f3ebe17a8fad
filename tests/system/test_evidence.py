"""Tenant mode evicts by evidence: what the project's own servers held on a host at one moment, or what is declared."""

import asyncio
from functools import partial

import pytest

from tests.system.client import until

LARGE = {"VCPU": 4, "MEMORY_MB": 8192}
DECLARED = pytest.mark.parametrize("options", [{"host_capacity": "VCPU=4,MEMORY_MB=8192,DISK_GB=100"}])
DRY = "?dry_run=true"


@pytest.fixture(name="mode")
def fixture_mode():
    """A project member's credentials."""
    return "tenant"


def rows(database, kind="held"):
    """The evidence on record."""
    return database.rows("SELECT host_id, resources, total, seen_at FROM evidence WHERE kind = %s ORDER BY id", kind)


async def held_all(database, hosts=1):
    """Wait until it is on record that so many hosts have held all that they have."""

    def found():
        return hosts == sum({**row["resources"], **LARGE} == row["resources"] for row in rows(database))

    await until(found, f"evidence of {hosts} whole hosts: {rows(database)}")


async def full_once(client, database):
    """The one host was full of m1.small, and now has an m1.tiny in the place of one of them. Its servers."""
    vms = await client.fill(4, "m1.small")
    await held_all(database)
    assert (await client.delete(vms[0])).status == 200
    return [*vms[1:], *await client.fill(1, "m1.tiny")]


async def dry_run(client, flavor="m1.large"):
    """What would be done when no host has room. (A replica whose last look is older waits for one more.)"""
    while True:
        answer = (await client.create(False, flavor=flavor, query=DRY)).json
        if (full := answer.get("if_no_host_has_room", answer))["result"] != "waits":
            return full


@pytest.mark.gen_test(timeout=40)
async def test_a_mix_that_does_not_add_up_to_the_request_is_evicted_where_the_host_has_held_as_much(client, database):
    vms = await full_once(client, database)
    foreseen = await dry_run(client)
    assert (foreseen["result"], foreseen["certainty"], sorted(foreseen["victims"])) == ("evicts", "likely", sorted(vms))
    assert "this host held 4 vCPU, 8 GiB and 4 GB of disk of yours on " in foreseen["evidence"]
    made = await client.create(False, flavor="m1.large")
    assert (made.status, sorted(made.json["evicted"])) == (201, sorted(vms))
    told = [event["data"] for event in await client.events(type="evict") if event["data"]["state"] == "noticed"]
    records = await client.record()
    assert {(one["certainty"], one["evidence"]) for one in (*told, *records)} == {("likely", foreseen["evidence"])}
    assert all(one["fulfilled_at"] and not one["wasted"] for one in records)
    assert not rows(database, "refused"), "the refusal before the eviction shows nothing about what is there after it"


@pytest.mark.gen_test(timeout=40)
async def test_victims_that_are_enough_by_themselves_are_a_sure_plan(client):
    vms = await client.fill(4, "m1.small")
    assert (await dry_run(client))["certainty"] == "sure"
    made = await client.create(False, flavor="m1.large")
    assert sorted(made.json["evicted"]) == sorted(vms)
    assert {one["certainty"] for one in await client.record()} == {"sure"}


@DECLARED
@pytest.mark.gen_test(timeout=40)
async def test_what_is_declared_counts_at_once(client):
    vms = await client.fill(4, "m1.tiny")
    made = await client.create(False, flavor="m1.large")
    assert (made.status, sorted(made.json["evicted"])) == (201, sorted(vms))
    (evidence,) = {one["evidence"] for one in await client.record()}
    assert evidence == "VMSVC_HOST_CAPACITY says that each host has 4 vCPU, 8 GiB and 100 GB of disk for this project"


@pytest.mark.parametrize("options", [{"tenant_eviction": "sure"}])
@pytest.mark.gen_test(timeout=40)
async def test_a_refusal_names_the_setting_that_would_have_made_a_plan_possible(client, database):
    await full_once(client, database)
    refused = await client.create(False, flavor="m1.large")
    assert (refused.status, refused.json["error"]) == (409, "no_capacity")
    assert "VMSVC_TENANT_EVICTION=likely would have made a plan possible: this host held" in refused.json["message"]
    assert not await client.record()


@pytest.mark.gen_test(timeout=40)
async def test_without_evidence_a_refusal_says_what_to_declare(client):
    await client.fill(4, "m1.tiny")
    refused = await client.create(False, flavor="m1.large")
    assert refused.status == 409
    declare = "VMSVC_HOST_CAPACITY=VCPU=4,MEMORY_MB=8192,DISK_GB=1 would have made a plan possible"
    assert declare in refused.json["message"]


@pytest.mark.gen_test(timeout=60)
async def test_a_stranger_in_the_way_costs_one_round_on_record_and_not_again(client, sim, database):
    vms = await full_once(client, database)
    assert (await client.delete(vms.pop())).status == 200
    (stranger,) = sim.foreign("admin", flavor="m1.tiny", count=1)
    assert (await client.create(False, flavor="m1.large")).status == 409
    records = await client.record()
    assert {one["vm"]["id"] for one in records} == {*vms} and {one["round"] for one in records} == {1}
    assert all(one["wasted"].startswith("the cloud refused the request all the same") for one in records)
    assert [row["resources"]["VCPU"] for row in rows(database, "refused")] == [4]
    # Not again, though VMs come back beside the stranger: they show no more than they hold.
    await client.fill(3, "m1.small")
    refused = await client.create(False, flavor="m1.large")
    assert (refused.status, len(await client.record())) == (409, 3)
    # The stranger leaves, and the project's servers hold the whole host again: that is new evidence.
    sim.vanish(stranger)
    again = await client.fill(1, "m1.small")
    await until(lambda: not rows(database, "refused"), "the refusal is void")
    assert (await client.delete(again[0])).status == 200
    await client.fill(1, "m1.tiny")
    assert (await client.create(False, flavor="m1.large")).status == 201


@DECLARED
@pytest.mark.gen_test(timeout=40)
async def test_a_refusal_of_what_fits_without_an_eviction_counts_too(client, sim, database):
    vms = await client.fill(2, "m1.small")
    sim.foreign("admin", flavor="m1.medium", count=1)
    assert (await client.create(True, flavor="m1.tiny")).status == 409  # by the reckoning there is room for it
    assert [row["total"]["VCPU"] for row in rows(database, "refused")] == [3]
    assert (await client.create(False, flavor="m1.large")).status == 409
    assert not await client.record() and {*vms} <= (await client.listed()).keys()


@pytest.mark.parametrize("hosts", [2])
@pytest.mark.gen_test(timeout=60)
async def test_a_second_host_is_tried_where_the_refusal_says_nothing_about_its_evidence(client, sim, database):
    """On each host there are three m1.small and one place; a stranger is on the first by the time of the eviction."""
    vms = await client.fill(8, "m1.small")
    await held_all(database, 2)
    by_host = {}
    for vm in vms:
        by_host.setdefault(sim.servers()[vm]["host"], []).append(vm)
    for there in by_host.values():
        assert (await client.delete(there.pop())).status == 200
    for host in by_host:  # no room for an m1.tiny is left, so no refusal of a small request tells beforehand
        sim.foreign("admin", flavor="m1.tiny", count=1, host=host)
    first = await dry_run(client)
    lucky = next(host for host, there in by_host.items() if not {*there} & {*first["victims"]})
    sim.vanish(next(one for one, kept in sim.servers().items() if kept["host"] == lucky and one not in vms))
    made = await client.create(False, flavor="m1.large")
    assert (made.status, sim.servers()[made.id]["host"]) == (201, lucky)
    wasted = {one["round"]: bool(one["wasted"]) for one in await client.record()}
    assert wasted == {1: True, 2: False}


@DECLARED
@pytest.mark.parametrize("hosts", [2])
@pytest.mark.gen_test(timeout=60)
async def test_equal_requests_that_wait_together_are_planned_together(client):
    await client.fill(8, "m1.tiny")
    made = await asyncio.gather(*(client.create(False, flavor="m1.large") for _ in range(2)))
    assert [one.status for one in made] == [201, 201]
    records = await client.record()
    assert len(records) == 8 and {one["certainty"] for one in records} == {"likely"}
    assert {one["criterion"] for one in records} == {"the best for 2 requests together"}


@pytest.mark.gen_test(timeout=60)
async def test_evidence_survives_a_crash_and_is_shared_by_replicas(new_process, environ, database):
    first, second = new_process(environ), new_process(environ)
    client, other = await first.ready(), await second.ready()
    vms = await full_once(client, database)
    foreseen = await dry_run(other)
    assert sorted(foreseen["victims"]) == sorted(vms), foreseen
    first.kill()
    second.kill()
    client = await new_process(environ).ready()
    made = await client.create(False, flavor="m1.large")
    assert (made.status, sorted(made.json["evicted"])) == (201, sorted(vms))


@pytest.mark.gen_test(timeout=40)
async def test_capacity_shows_hosts_with_what_they_hold_and_have_held(client, sim, database):
    vms = await full_once(client, database)
    (foreign,) = [vms.pop(0)]
    assert (await client.delete(foreign)).status == 200
    sim.foreign("demo", flavor="m1.tiny", count=1)
    shown = (await client.call("GET", "/api/v1/capacity")).json
    (host,) = shown["hosts"]
    assert (shown["mode"], host["host_id"]) == ("tenant", host["name"])
    assert host["held"] == {"VCPU": 4, "MEMORY_MB": 6144, "DISK_GB": 4}
    assert host["reclaimable"] == {"VCPU": 3, "MEMORY_MB": 5120, "DISK_GB": 3}
    assert host["foreign"] == {"VCPU": 1, "MEMORY_MB": 1024, "DISK_GB": 1}
    assert {"VCPU": 4, "MEMORY_MB": 8192, "DISK_GB": 4} in [one["resources"] for one in host["evidence"]]
    assert (host["capacity"]["MEMORY_MB"], host["free"]) == (8192, {"MEMORY_MB": 2048})


@pytest.mark.gen_test(timeout=40)
async def test_a_foreign_server_of_the_project_counts_as_held_and_a_victim_s_plan_fits_beside_it(client, sim, database):
    """The m1.large does not fit beside it, whoever leaves: the evidence is of all that stood there together."""
    await client.fill(4, "m1.small")
    await held_all(database)
    for vm in [*await client.listed()]:
        assert (await client.delete(vm)).status == 200
    sim.foreign("demo", flavor="m1.tiny", count=1)
    vms = await client.fill(3, "m1.tiny")
    assert (await client.create(False, flavor="m1.large")).status == 409
    assert not await client.record()
    made = await client.create(False, flavor="m1.medium")
    assert (made.status, len(made.json["evicted"])) == (201, 2) and {*made.json["evicted"]} <= {*vms}


@pytest.mark.gen_test(timeout=40)
async def test_writing_it_costs_nothing_while_nothing_new_is_seen(client, database):
    vms = await client.fill(4, "m1.small")
    await held_all(database)
    before = rows(database)
    assert len(before) == 1
    for _ in range(3):
        assert (await client.delete(vms.pop())).status == 200
        vms += await client.fill(1, "m1.small")
    await asyncio.to_thread(partial(database.rows, "SELECT pg_sleep(0.7)"))
    assert rows(database) == before
