"""The database is away for a while, or cuts its connections: nothing is lost, and the service comes back by itself."""

import asyncio
import contextlib
import json

import pytest


@contextlib.contextmanager
def outage(database, postgres):
    """The database takes no connections and cuts those it has."""
    name = database.rows("SELECT current_database() AS name")[0]["name"]
    postgres.command(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    try:
        cut(postgres, name)
        yield
    finally:
        postgres.command(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def cut(postgres, name):
    """End every session of a database."""
    postgres.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", name)


async def settled_answer(client, path, status):
    """The answer as soon as it has this status."""
    async with asyncio.timeout(20):
        while (answer := await client.call("GET", path)).status != status:
            await asyncio.sleep(0.05)
        return answer


@pytest.mark.gen_test(timeout=60)
async def test_while_the_database_is_away_clients_hear_so_and_afterwards_all_goes_on(client, database, postgres, sim):
    before = (await client.create(True)).id
    channel = await client.channel("?since=0")
    with outage(database, postgres):
        for answer in (await client.create(True), await client.show(before), await client.delete(before)):
            assert (answer.status, answer.json["error"]) == (503, "cloud_unavailable")
            assert int(answer.headers["Retry-After"]) > 0
        await settled_answer(client, "/readyz", 503)
        assert (await client.call("GET", "/healthz")).status == 200
    await settled_answer(client, "/readyz", 200)
    after = await client.create(True)
    assert after.status == 201
    assert sim.servers().keys() == {before, after.id}
    # The socket was open all the time, and misses nothing.
    history = await client.events()
    assert [json.loads(await asyncio.wait_for(channel.read_message(), 10)) for _ in history] == history
    channel.close()


@pytest.mark.parametrize("options", [{"grace_seconds": 1}], ids=["grace1"])
@pytest.mark.gen_test(timeout=60)
async def test_an_outage_during_the_notice_neither_shortens_nor_forgets_it(client, database, postgres):
    await client.fill(4)
    accepted = await client.create(False, headers={"Prefer": "respond-async"})
    notice = await client.saw("evict/noticed")
    with outage(database, postgres):
        await settled_answer(client, "/readyz", 503)
    await settled_answer(client, "/readyz", 200)
    evicting = await client.saw("evict/evicting", notice["subject"], seconds=40)
    assert evicting["time"] >= notice["data"]["vm"]["evict_at"]
    await client.saw("create/active", accepted.json["vm"]["vmsvc_id"])


@pytest.mark.gen_test(timeout=60)
async def test_sessions_that_are_cut_again_and_again_cost_time_and_nothing_else(client, database, postgres, sim):
    name = database.rows("SELECT current_database() AS name")[0]["name"]
    asked = [asyncio.ensure_future(client.create(number % 2 == 0, headers={"Idempotency-Key": f"{number}"}))
             for number in range(4)]
    while not all(task.done() for task in asked):
        cut(postgres, name)
        await asyncio.sleep(0.3)
    # Whoever was answered 503 asks again with the same key, as a client should.
    answers = [await client.create(number % 2 == 0, headers={"Idempotency-Key": f"{number}"}) for number in range(4)]
    assert [answer.status for answer in answers] == [201] * 4
    assert sim.servers().keys() == {answer.id for answer in answers}
