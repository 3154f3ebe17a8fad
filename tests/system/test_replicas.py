"""Two replicas on one database and one cloud: clients cannot tell them apart."""

import asyncio
import json
from contextlib import closing

import psycopg2
import pytest

from tests.system.client import until


async def read(channel, count):
    """The next events of a WebSocket."""
    return [json.loads(await asyncio.wait_for(channel.read_message(), 15)) for _ in range(count)]


@pytest.mark.gen_test(timeout=40)
async def test_every_socket_of_every_replica_gets_each_event_once_and_in_order(client, new_process, environ):
    clients = [client, await new_process(environ).ready()]
    live = [await client.channel() for client in clients]
    made = await asyncio.gather(*(clients[number % 2].create(True) for number in range(4)))
    await asyncio.gather(*(clients[1 - number % 2].delete(answer.id) for number, answer in enumerate(made)))
    # pending, building, active, deleting, deleted
    streams = [await read(channel, 20) for channel in live]
    late = await clients[0].channel("?since=0")
    streams.append(await read(late, 20))
    history = await clients[1].events()
    assert [event["data"]["seq"] for event in history] == list(range(1, 21))
    for stream in streams:
        assert stream == history
    middle = await clients[1].channel("?since=7&type=delete")
    assert await read(middle, 8) == [event for event in history if event["type"] == "delete"]
    for channel in (*live, late, middle):
        channel.close()


@pytest.mark.parametrize("options", [{"grace_seconds": 0.5}], ids=["grace0.5"])
@pytest.mark.gen_test(timeout=40)
async def test_requests_at_both_replicas_share_capacity_and_victims(client, new_process, environ, sim):
    one, other = client, await new_process(environ).ready()
    await one.fill(2)
    await other.fill(2)
    answers = await asyncio.gather(*(client.create(False) for client in (one, other, one, other, one, other)))
    assert sorted(answer.status for answer in answers) == [201] * 4 + [409] * 2
    victims = [victim for answer in answers if answer.status == 201 for victim in answer.json["evicted"]]
    assert len(victims) == len(set(victims)) == 4
    assert len(sim.servers()) == 4


@pytest.mark.gen_test(timeout=40)
async def test_a_client_waits_at_one_replica_for_what_the_other_does(client, new_process, environ, sim):
    sim.settings(boot_seconds=1)
    process = new_process(environ)
    first = await process.ready()
    accepted = await first.create(False, headers={"Prefer": "respond-async", "Idempotency-Key": "shared"})
    waiting = asyncio.ensure_future(client.create(False, headers={"Idempotency-Key": "shared"}))
    await client.wait_for_event("create/building")
    process.tell_to_stop()
    created = await waiting
    assert created.status == 201
    assert created.json["vm"]["vmsvc_id"] == accepted.json["vm"]["vmsvc_id"]
    assert len(sim.servers()) == 1
    assert await process.exit_status() == 0


@pytest.mark.gen_test(timeout=30)
async def test_a_stop_writes_down_what_has_just_been_done(new_replica, database, sim):
    """Or the next replica waits for the lease, and does it again."""
    sim.settings(boot_seconds=0.5)
    replica, client = await new_replica()
    creating = asyncio.ensure_future(client.create(False))
    await client.wait_for_event("create/building")
    with closing(psycopg2.connect(database.url)) as other, other.cursor() as cursor:
        cursor.execute("SELECT id FROM intent FOR UPDATE")
        assert (await creating).status == 201
        await until(lambda: database.rows("SELECT 1 FROM pg_locks WHERE NOT granted"), "the wait for the intent's row")
        stopping = asyncio.ensure_future(replica.stop())
        await asyncio.wait([stopping], timeout=0.2)
        other.rollback()
        await stopping
    assert not database.rows("SELECT * FROM intent WHERE done_at IS NULL")


@pytest.mark.gen_test(timeout=40)
async def test_the_list_and_its_seq_fit_together(client):
    """Whoever reads the list and goes on from its seq knows the state of every VM at any time."""
    creating = [asyncio.ensure_future(client.create(True)) for _ in range(4)]
    while not all(task.done() for task in creating):
        answer = await client.call("GET", "/api/v1/vm")
        listed = {server["vmsvc_id"]: server["state"] for server in answer.json["servers"]}
        assert len(listed) == len(answer.json["servers"]), "a VM is listed once"
        history = await client.events()
        before = {event["data"]["vm"]["vmsvc_id"] for event in history if event["data"]["seq"] <= answer.json["seq"]}
        assert before <= listed.keys()
        # The list is as of its seq or a little later: each state is one that an event from then on told, or the last.
        for vm, state in listed.items():
            told = [event["data"] for event in history if event["data"]["vm"]["vmsvc_id"] == vm]
            earlier = [data["state"] for data in told if data["seq"] <= answer.json["seq"]][-1:]
            assert state in earlier + [data["state"] for data in told if data["seq"] > answer.json["seq"]]
