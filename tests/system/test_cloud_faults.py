"""The wire between the service and its cloud fails: exactly one server comes of one request, and nothing is left."""

import asyncio

import pytest

BOTH = pytest.mark.parametrize("mode", ["operator", "tenant"])
POST = {"method": "POST", "path": "/servers$"}


@BOTH
@pytest.mark.parametrize("action", ["cut_after", "cut_body", "half_json", "html", "status_after"])
@pytest.mark.gen_test(timeout=30)
async def test_a_create_whose_answer_is_spoiled_makes_exactly_one_server(client, sim, action):
    sim.fault(action=action, count=1, **POST, **({"status": 502} if action == "status_after" else {}))
    created = await client.create(False)
    assert created.status == 201, created.json
    assert list(sim.servers()) == [created.id]
    assert len(sim.calls(**POST)) == 1


@pytest.mark.parametrize("options", [{"cloud_timeout": 0.5}], ids=["timeout0.5"])
@pytest.mark.gen_test(timeout=30)
async def test_a_create_that_times_out_after_taking_effect_makes_exactly_one_server(client, sim):
    sim.fault(action="hang_after", count=1, **POST)
    created = await client.create(False)
    assert created.status == 201
    assert list(sim.servers()) == [created.id]
    assert len(sim.calls(**POST)) == 1
    sim.clear_faults()


@BOTH
@pytest.mark.parametrize("status", [500, 503])
@pytest.mark.gen_test(timeout=30)
async def test_a_create_that_failed_without_effect_is_sent_again_in_the_end(client, sim, status):
    sim.fault(action="status", status=status, count=1, **POST)
    created = await client.create(True)
    assert created.status == 201
    assert list(sim.servers()) == [created.id]
    assert len(sim.calls(**POST)) == 2


@BOTH
@pytest.mark.gen_test(timeout=30)
async def test_revoked_tokens_are_nobodys_trouble(client, sim):
    sim.call("DELETE", "/sim/tokens")
    answers = await asyncio.gather(*(client.create(True) for _ in range(4)), client.listed())
    assert [answer.status for answer in answers[:4]] == [201] * 4
    sim.fault(action="revoke", count=3)
    deleted = await asyncio.gather(*(client.delete(answer.id) for answer in answers[:4]))
    assert [answer.status for answer in deleted] == [200] * 4


@pytest.mark.gen_test(timeout=30)
async def test_an_eviction_goes_through_a_cloud_that_fails_every_fifth_call(client, sim):
    await client.fill(4)
    sim.fault(action="status", status=500, service="compute", probability=0.2, seed=7)
    created = await client.create(False)
    assert created.status == 201 and len(created.json["evicted"]) == 1
    sim.clear_faults()


@pytest.mark.gen_test(timeout=30)
async def test_a_delete_whose_answer_is_lost_deletes(client, sim):
    vm = (await client.create(True)).id
    sim.fault(action="cut_after", method="DELETE", path="/servers/", count=1)
    assert (await client.delete(vm)).status == 200
    assert not sim.servers()


@BOTH
@pytest.mark.gen_test(timeout=30)
async def test_a_teardown_that_fails_is_asked_for_again(client, sim):
    vm = (await client.create(True)).id
    sim.fault(kind="delete_fails", count=1)
    assert (await client.delete(vm)).status == 200
    assert not sim.servers()


@pytest.mark.gen_test(timeout=30)
async def test_a_cloud_that_is_away_is_said_so_and_what_was_accepted_is_done_when_it_is_back(client, sim):
    sim.fault(action="status", status=503)
    accepted = await client.create(True, headers={"Prefer": "respond-async"})
    assert accepted.status == 202
    async with asyncio.timeout(10):
        # A list that is younger than a second is still shown.
        while (listed := await client.call("GET", "/api/v1/vm")).status == 200:
            await asyncio.sleep(0.05)
        while (ready := await client.call("GET", "/readyz")).status == 200:
            await asyncio.sleep(0.05)
    assert (listed.status, listed.json["error"]) == (503, "cloud_unavailable")
    assert listed.headers["Retry-After"]
    assert ready.json["status"] == "not ready"
    assert (await client.call("GET", "/healthz")).status == 200
    sim.clear_faults()
    await client.saw("create/active", accepted.json["vm"]["vmsvc_id"], seconds=20)
