"""Rehearsals have bounds: equal requests share one, clients have a budget, and what one leaves in the cloud goes."""

import asyncio

import pytest

from tests.system.client import API, until
from tests.system.marks import BOTH

REHEARSALS = {"service": "compute", "method": "POST", "path": "/servers$", "body_matches": "os:scheduler_hints"}
pytestmark = pytest.mark.parametrize("options", [{"grace_seconds": 0.5}], ids=["grace0.5"])


def rehearsed(sim):
    """How many creates the cloud was asked for that made nothing."""
    return len(
        [call for call in sim.calls(service="compute", method="POST", path="/servers$") if call["status"] == 400]
    )


async def tries(client, bodies):
    """The answers to dry runs that are sent together."""
    return await asyncio.gather(*(client.create(False, query="?dry_run=true", **body) for body in bodies))


@BOTH
@pytest.mark.gen_test(timeout=30)
async def test_sixty_equal_dry_runs_cost_the_cloud_one_rehearsal_a_second(client, sim):
    await client.fill(4)
    sim.forget_calls()
    began = asyncio.get_running_loop().time()
    answers = await tries(client, [{}] * 60)
    seconds = asyncio.get_running_loop().time() - began
    assert {answer.status for answer in answers} == {200}
    assert 1 <= rehearsed(sim) <= 1 + seconds


@pytest.mark.gen_test(timeout=30)
async def test_too_many_different_dry_runs_get_retry_after_and_starve_no_create(client, sim):
    """Whoever tries many requests uses up the budget of all who try; a real create is rehearsed all the same."""
    mine = await client.fill(4)
    sim.forget_calls()
    bodies = [{"metadata": {f"key{number}": "" for number in range(count)}} for count in range(60)]
    answers, created = await asyncio.gather(tries(client, bodies), client.create(False, name="wanted"))
    assert (created.status, len(created.json["evicted"])) == (201, 1)
    refused = [answer for answer in answers if answer.status != 200]
    assert {(answer.status, answer.json["error"]) for answer in refused} == {(429, "too_many_requests")}
    assert all(1 <= int(answer.headers["Retry-After"]) <= 5 for answer in refused)
    assert len(refused) >= 30
    assert rehearsed(sim) <= 30
    assert len(set(mine) & sim.servers().keys()) == 3


@BOTH
@pytest.mark.gen_test(timeout=30)
async def test_a_server_that_a_rehearsal_leaves_is_removed_with_its_port_and_no_other(client, sim, project, mode):
    """This Nova does not look for the server group, and its answer is lost."""
    assert mode
    mine = await client.fill(2)
    (stranger,) = sim.foreign(project, name="vmsvc-rehearsal", metadata={"vmsvc_id": "rehearsal"})
    named = await client.create(True, name="vmsvc-rehearsal")
    sim.settings(ignores_groups=1)
    sim.fault(**REHEARSALS, action="cut_after", count=1)
    plan = await client.create(False, query="?dry_run=true")
    assert (plan.status, plan.json["error"]) == (503, "cloud_unavailable")
    (left,) = sim.servers().keys() - {*mine, stranger, named.id}
    await until(lambda: left not in sim.servers(), "the end of what the rehearsal left")
    await until(lambda: left not in sim.ports().values(), "the end of its port")
    shown = await client.text("/metrics")
    assert "vmsvc_servers_without_row 0.0" in shown
    assert sim.servers().keys() == {*mine, stranger, named.id}
    assert not await client.events(type="evict")
    assert (await client.call("GET", f"{API}/vm/{stranger}")).status == 200
    sim.settings(ignores_groups=0)
    sim.clear_faults()
