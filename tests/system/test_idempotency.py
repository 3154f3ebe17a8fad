"""One Idempotency-Key, one VM: in sequence, in parallel, and after a restart."""

import asyncio

import pytest

KEY = {"Idempotency-Key": "order-1"}


@pytest.mark.gen_test(timeout=20)
async def test_a_key_used_again_gives_the_same_vm_and_the_same_answer(client, sim):
    first = await client.create(True, headers=KEY)
    again = await client.create(True, headers=KEY)
    assert (again.status, again.json) == (201, first.json)
    assert again.headers["Location"] == first.headers["Location"]
    other = await client.create(True, name="else", headers=KEY)
    assert (other.status, other.json["error"]) == (422, "idempotency_mismatch")
    assert len(sim.servers()) == 1


@pytest.mark.parametrize("mode", ["operator", "tenant"])
@pytest.mark.gen_test(timeout=20)
async def test_twenty_at_once_with_one_key_make_one_vm(client, sim):
    answers = await asyncio.gather(*(client.create(False, headers=KEY) for _ in range(20)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.id for answer in answers}) == 1
    assert len(sim.servers()) == 1
    assert len(sim.calls(method="POST", path="/servers$")) == 1


@pytest.mark.gen_test(timeout=20)
async def test_a_refusal_is_the_same_for_every_retry(client, sim):
    sim.foreign("demo", count=4)
    first = await client.create(False, headers=KEY)
    assert first.status == 409
    for server in sim.servers():
        sim.vanish(server)
    again = await client.create(False, headers=KEY)
    assert (again.status, again.json["message"]) == (409, first.json["message"])
    assert (await client.create(False)).status == 201


@pytest.mark.gen_test(timeout=30)
async def test_a_key_is_known_after_a_restart(new_replica, sim):
    replica, client = await new_replica()
    first = await client.create(True, headers=KEY)
    await replica.stop()
    _, client = await new_replica()
    again = await client.create(True, headers=KEY)
    assert (again.status, again.json) == (201, first.json)
    assert (await client.create(False, headers=KEY)).status == 422
    assert len(sim.servers()) == 1


@pytest.mark.gen_test(timeout=30)
async def test_a_create_that_is_under_way_when_the_service_stops_goes_on_after_the_restart(new_replica, sim):
    sim.settings(boot_seconds=1)
    replica, client = await new_replica()
    accepted = await client.create(False, headers={**KEY, "Prefer": "respond-async"})
    assert accepted.status == 202
    await client.wait_for_event("create/building")
    await replica.stop()
    _, client = await new_replica()
    created = await client.create(False, headers=KEY)
    assert created.status == 201
    assert created.json["vm"]["vmsvc_id"] == accepted.json["vm"]["vmsvc_id"]
    assert list(sim.servers()) == [created.id]
