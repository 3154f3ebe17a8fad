"""Operator mode on many hosts: the cloud is asked per change, not per host."""

import asyncio
import re
from collections import Counter

import pytest

from tests.system.marks import grace

FIFTY_HOSTS = pytest.mark.parametrize("hosts", [50])
ONE_HOST = re.compile(r"/resource_providers/[^/]+/")


def of_one_host(sim):
    """The calls that asked Placement about one host."""
    return [call["path"] for call in sim.calls(service="placement") if ONE_HOST.search(call["path"])]


@FIFTY_HOSTS
@pytest.mark.gen_test(timeout=60)
async def test_every_host_is_read_once_at_the_start_and_idle_none_but_now_and_then(client, sim):
    asked = Counter(of_one_host(sim))
    assert len(asked) == 100 and set(asked.values()) <= {1, 2}
    assert sum(asked.values()) <= 102
    sim.forget_calls()
    await asyncio.sleep(3)
    assert len(of_one_host(sim)) <= 4
    assert len(sim.calls()) < 40
    assert (await client.call("GET", "/api/v1/capacity")).json["mode"] == "operator"


@FIFTY_HOSTS
@pytest.mark.gen_test(timeout=60)
async def test_vms_that_come_and_go_cost_calls_for_each_of_them_and_not_for_the_hosts(client, sim):
    sim.forget_calls()
    made = [(await client.create(number % 2 == 0)).id for number in range(10)]
    assert len(of_one_host(sim)) <= 3 * 10
    sim.forget_calls()
    for vm in made:
        await client.delete(vm)
    assert len(of_one_host(sim)) <= 2 * 10


@FIFTY_HOSTS
@grace(0.5)
@pytest.mark.gen_test(timeout=60)
async def test_what_others_make_is_seen_by_their_changes_and_the_chosen_host_is_read_before_anybody_is_noticed(
    client, sim
):
    for number in range(1, 50):
        sim.foreign("demo", flavor="m1.large", host=f"sim-{number}")
    mine = await client.fill(4)
    sim.forget_calls()
    created = await client.create(False, flavor="m1.medium")
    assert created.status == 201 and set(created.json["evicted"]) < set(mine)
    assert sim.servers()[created.id]["host"] == "sim-50"
    asked = of_one_host(sim)
    assert 2 <= len(asked) <= 10 and len({path.split("/")[3] for path in asked}) <= 3
