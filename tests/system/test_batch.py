"""Several standard requests at once: no victim is shared, and no more go than the best plan for all of them needs."""

import asyncio

import pytest


@pytest.mark.parametrize("hosts", [2], indirect=False)
@pytest.mark.parametrize("options", [{"grace_seconds": 0.5}], ids=["grace0.5"])
@pytest.mark.gen_test(timeout=40)
async def test_equal_requests_at_once_free_no_more_than_they_need_together(client, sim):
    # One host has two VMs of 2 vCPUs, the other has four of 1: for two requests of 2 vCPUs the first alone is best.
    medium = [(await client.create(True, flavor="m1.medium", priority=0)).id for _ in range(2)]
    tiny = await client.fill(4, "m1.tiny")
    assert (await client.create(True, flavor="m1.tiny")).status == 409

    answers = await asyncio.gather(*(client.create(False, flavor="m1.medium") for _ in range(2)))

    assert [answer.status for answer in answers] == [201, 201], [answer.json for answer in answers]
    gone = [victim for answer in answers for victim in answer.json["evicted"]]
    assert sorted(gone) == sorted(medium)
    assert sim.servers().keys() == {*tiny, *(answer.id for answer in answers)}


@pytest.mark.parametrize("hosts", [4], indirect=False)
@pytest.mark.parametrize("mode", ["operator", "tenant"])
@pytest.mark.parametrize("options", [{"grace_seconds": 0.5}], ids=["grace0.5"])
@pytest.mark.gen_test(timeout=60)
async def test_four_requests_for_whole_hosts_at_once_share_no_victim(client, sim, mode):
    del mode
    everybody = await client.fill(16, "m1.small")
    answers = await asyncio.gather(*(client.create(False, flavor="m1.large") for _ in range(4)))
    assert [answer.status for answer in answers] == [201] * 4, [answer.json for answer in answers]
    gone = [victim for answer in answers for victim in answer.json["evicted"]]
    assert sorted(gone) == sorted(everybody)
    assert sim.servers().keys() == {answer.id for answer in answers}


@pytest.mark.parametrize("hosts", [2], indirect=False)
@pytest.mark.parametrize("options", [{"grace_seconds": 0.5}], ids=["grace0.5"])
@pytest.mark.gen_test(timeout=40)
async def test_of_too_many_requests_at_once_the_oldest_are_served_and_the_rest_hear_why(client, sim):
    await client.fill(8, "m1.small")
    answers = await asyncio.gather(*(client.create(False, flavor="m1.large") for _ in range(3)))
    assert sorted(answer.status for answer in answers) == [201, 201, 409]
    assert len(sim.servers()) == 2


@pytest.mark.parametrize("options", [{"grace_seconds": 30}], ids=["grace30"])
@pytest.mark.gen_test(timeout=40)
async def test_standard_vms_come_before_preemptible_ones_and_the_older_before_the_younger(client, sim):
    """All of them wait for one place that is on its way."""
    (leaving, *others) = await client.fill(4)
    for vm in others:
        sim.change(vm, locked_by="owner")
    await client.practise(leaving)
    waiting = []
    for name, kind in (("spot", True), ("older", False), ("younger", False)):
        waiting.append(asyncio.ensure_future(client.create(kind, name=name)))
        while name not in {server["name"] for server in (await client.listed()).values()}:
            assert not waiting[-1].done() or name == "younger"
    await client.acknowledge(leaving)
    answers = [await answer for answer in waiting]
    assert [answer.status for answer in answers] == [409, 201, 409], [answer.json for answer in answers]
    assert sim.servers().keys() == {*others, answers[1].id}
    for vm in others:
        sim.change(vm, locked_by=None)
