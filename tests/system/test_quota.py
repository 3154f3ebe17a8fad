"""The project's quota is short, whatever room the hosts have."""

import asyncio

import pytest

BOTH = pytest.mark.parametrize("mode", ["operator", "tenant"])
pytestmark = pytest.mark.parametrize("options", [{"grace_seconds": 0.3}], ids=["grace0.3"])


@BOTH
@pytest.mark.gen_test(timeout=30)
async def test_preemptible_vms_are_evicted_when_the_quota_is_used_up(client, sim, project):
    sim.quota(project, cores=3)
    preemptible = await client.fill(3)
    full = await client.create(True)
    assert (full.status, full.json["error"]) == (403, "quota_exceeded")
    created = await client.create(False, flavor="m1.medium")
    assert created.status == 201
    assert len(created.json["evicted"]) == 2 and set(created.json["evicted"]) < set(preemptible)
    assert len(sim.servers()) == 2


@BOTH
@pytest.mark.parametrize("seconds, state", [(1.5, "evicted"), (12, "evicting")])
@pytest.mark.gen_test(timeout=40)
async def test_the_answer_comes_when_its_victims_are_on_record_as_gone_unless_one_hangs(client, sim, project, seconds,
                                                                                       state):
    sim.quota(project, cores=3)
    for vm in await client.fill(3):
        sim.fault(action="delay", method="GET", path=f"/servers/{vm}$", seconds=seconds)
    created = await client.create(False, flavor="m1.medium")
    assert created.status == 201
    record = await client.record()
    assert {one["vm"]["id"]: one["state"] for one in record} == dict.fromkeys(created.json["evicted"], state)
    sim.clear_faults()
    for victim in created.json["evicted"]:
        await client.saw("evict/evicted", victim)


@BOTH
@pytest.mark.gen_test(timeout=30)
async def test_a_request_over_the_quota_with_everybody_evicted_notices_nobody(client, sim, project):
    sim.quota(project, cores=3)
    preemptible = await client.fill(3)
    refused = await client.create(False, flavor="m1.large")
    assert (refused.status, refused.json["error"]) == (403, "quota_exceeded")
    assert not await client.events(type="evict")
    assert sim.servers().keys() == set(preemptible)


@BOTH
@pytest.mark.parametrize("hosts", [2])
@pytest.mark.gen_test(timeout=30)
async def test_quota_is_freed_on_any_host(client, sim, project, hosts):
    """The room is on one host, the preemptible VMs are on both: only as many go as the quota needs."""
    assert hosts == 2
    sim.quota(project, instances=4)
    await client.fill(4)
    created = await client.create(False)
    assert created.status == 201 and len(created.json["evicted"]) == 1


@BOTH
@pytest.mark.parametrize("hosts", [2])
@pytest.mark.gen_test(timeout=30)
async def test_standard_vms_that_want_the_last_of_the_quota_each_get_a_true_answer(client, sim, project, hosts):
    assert hosts == 2
    sim.quota(project, instances=4)
    await client.fill(2)
    answers = await asyncio.gather(*(client.create(False) for _ in range(6)))
    assert sorted(answer.status for answer in answers) == [201] * 4 + [403] * 2
    assert sum(len(answer.json["evicted"]) for answer in answers if answer.status == 201) == 2
    assert len(sim.servers()) == 4


@BOTH
@pytest.mark.gen_test(timeout=30)
async def test_the_quota_of_ports_is_a_quota_too_but_no_reason_to_evict(client, sim, project):
    """Nova tells it at the POST; the service does not count ports."""
    sim.quota(project, port=2)
    preemptible = await client.fill(2)
    refused = await client.create(False)
    assert (refused.status, refused.json["error"]) == (403, "quota_exceeded")
    assert sim.servers().keys() == set(preemptible)


@BOTH
@pytest.mark.gen_test(timeout=30)
async def test_others_who_use_up_the_quota_meanwhile_cost_at_most_two_rounds(client, sim, project, database):
    sim.quota(project, instances=3)
    await client.fill(3)
    sim.fault(action="delay", method="POST", path="/servers$", body_matches="robbed", count=2, seconds=1)
    creating = asyncio.ensure_future(client.create(False, name="robbed"))
    for round_number in (1, 2):
        await client.saw_times("evict/evicted", round_number)
        sim.foreign(project)
    answer = await creating
    assert answer.status in (403, 409)
    assert [row["round"] for row in database.rows("SELECT round FROM eviction ORDER BY round")] == [1, 2]
    assert len(sim.servers()) == 3
