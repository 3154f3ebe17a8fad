"""The project's quota is short, whatever room the hosts have."""

import asyncio

import pytest

from tests.system.marks import BOTH

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
async def test_the_answer_comes_when_its_victims_are_on_record_as_gone_unless_one_hangs(
    client, sim, project, seconds, state
):
    sim.quota(project, cores=3)
    for vm in await client.fill(3):
        sim.fault(action="delay", method="GET", path=f"/servers/{vm}$", seconds=seconds)
    created = await client.create(False, flavor="m1.medium")
    assert created.status == 201
    record = await client.record()
    assert {one["vm"]["id"]: one["state"] for one in record} == dict.fromkeys(created.json["evicted"], state)
    sim.clear_faults()
    for victim in created.json["evicted"]:
        await client.wait_for_event("evict/evicted", victim)


@BOTH
@pytest.mark.gen_test(timeout=30)
async def test_a_request_over_the_quota_with_everybody_evicted_notices_no_vm(client, sim, project):
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
        await client.wait_for_events("evict/evicted", round_number)
        sim.foreign(project)
    answer = await creating
    assert answer.status in (403, 409)
    assert [row["round"] for row in database.rows("SELECT round FROM eviction ORDER BY round")] == [1, 2]
    assert len(sim.servers()) == 3


#: A quota below what six m1.tiny use, in each of its items.
BELOW_USE = pytest.mark.parametrize(
    "limit", [{"cores": 3}, {"ram": 3 * 1024}, {"instances": 3}], ids=["cores", "ram", "instances"]
)


@BOTH
@BELOW_USE
@pytest.mark.parametrize("hosts", [2])
@pytest.mark.gen_test(timeout=30)
async def test_what_is_over_a_quota_that_was_lowered_has_to_leave_too(client, sim, project, hosts, limit):
    assert hosts == 2
    preemptible = await client.fill(6)
    sim.quota(project, **limit)
    plan = (await client.create(False, query="?dry_run=true")).json
    assert (plan["result"], len(plan["victims"])) == ("evicts", 4)
    created = await client.create(False)
    assert (created.status, len(created.json["evicted"])) == (201, 4)
    assert len(sim.servers()) == 3 and len(sim.servers().keys() & set(preemptible)) == 2
    assert {row["round"] for row in await client.record()} == {1}


@BOTH
@BELOW_USE
@pytest.mark.parametrize("filled", [6, 8], ids=["hosts-with-room", "hosts-full"])
@pytest.mark.parametrize("hosts", [2])
@pytest.mark.gen_test(timeout=30)
async def test_no_vm_is_noticed_where_a_lowered_quota_cannot_be_met(client, sim, project, hosts, limit, filled):
    """Standard VMs use the whole quota, and preemptible ones what is over it."""
    assert hosts == 2
    for _ in range(3):
        await client.create(False)
    await client.fill(filled - 3)
    sim.quota(project, **limit)
    plan = (await client.create(False, query="?dry_run=true")).json
    assert (plan["result"], plan["error"], plan["victims"]) == ("refused", "quota_exceeded", [])
    refused = await client.create(False)
    assert (refused.status, refused.json["error"]) == (403, "quota_exceeded")
    assert refused.json["message"] == plan["reason"]
    assert not await client.events(type="evict") and len(sim.servers()) == filled


@BOTH
@pytest.mark.parametrize("hosts", [3])
@pytest.mark.gen_test(timeout=30)
async def test_a_request_that_is_larger_than_the_quota_is_refused_by_the_quota(client, sim, project, hosts):
    assert hosts == 3
    await client.fill(11)
    sim.quota(project, cores=3)
    plan = (await client.create(False, query="?dry_run=true", flavor="m1.large")).json
    assert (plan["result"], plan["error"]) == ("refused", "quota_exceeded")
    assert plan["reason"] == "it needs 4 cores, and the project's quota is 3"
    refused = await client.create(False, flavor="m1.large")
    assert (refused.status, refused.json["error"]) == (403, "quota_exceeded")
    fits = {
        flavor["name"]: flavor["fits_after_evictions"]
        for flavor in (await client.call("GET", "/api/v1/capacity")).json["flavors"]
    }
    assert (fits["m1.large"], fits["m1.medium"]) == (0, 1)
    assert not await client.events(type="evict") and len(sim.servers()) == 11
