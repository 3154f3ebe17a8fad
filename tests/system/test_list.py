"""The list is kept, and nobody can tell: what a client has heard of is in it, and what others do comes in time."""

import asyncio
import time

import pytest

from tests.system.client import API
from tests.system.test_database_faults import outage, settled_answer

LIST = f"{API}/vm"
#: Seconds: the age that a list may have, and time for a busy machine.
SOON = 1 + 2


async def listed_with(client, condition, seconds=SOON):
    """The list as soon as this is true of it."""
    deadline = time.monotonic() + seconds
    while not condition(servers := await client.listed()):
        assert time.monotonic() < deadline, servers
        await asyncio.sleep(0.02)
    return servers


@pytest.mark.gen_test(timeout=40)
async def test_a_client_that_got_the_answer_finds_it_in_the_next_list(client):
    for _ in range(3):
        created = await client.create(True)
        assert (await client.listed())[created.id]["state"] == "active"
        assert (await client.practise(created.id, notice_only=True)).status in (200, 202)
        assert (await client.listed())[created.id]["state"] == "noticed"
        assert (await client.delete(created.id)).status == 200
        assert not await client.listed()
    later = await client.create(True, headers={"Prefer": "respond-async"})
    assert later.status == 202
    (shown,) = (await client.listed()).values()
    assert shown["vmsvc_id"] == later.json["vm"]["vmsvc_id"]
    leaving = await client.delete(shown["vmsvc_id"], headers={"Prefer": "respond-async"})
    assert leaving.status in (200, 202)
    assert all(each["state"] == "deleting" for each in (await client.listed()).values())


@pytest.mark.gen_test(timeout=40)
async def test_a_client_that_got_an_event_finds_it_in_the_next_list(client):
    channel = await client.channel()
    creating = asyncio.ensure_future(client.create(True))
    for state in ("pending", "building", "active"):
        message = await asyncio.wait_for(channel.read_message(), 15)
        answer = await client.call("GET", LIST)
        assert f'"state":"{state}"' in message
        assert answer.json["seq"] >= ("pending", "building", "active").index(state) + 1
    assert (await creating).status == 201
    channel.close()


@pytest.mark.gen_test(timeout=40)
async def test_what_one_replica_does_is_soon_in_the_list_of_the_other(client, new_process, environ):
    other = await new_process(environ).ready()
    assert not await other.listed()
    created = await client.create(True)
    servers = await listed_with(other, lambda servers: servers)
    assert servers.keys() == {created.id} or [each["vmsvc_id"] for each in servers.values()]
    await listed_with(other, lambda servers: servers[created.id]["state"] == "active")
    answer = await other.call("GET", LIST)
    assert answer.json["seq"] == 3, "pending, building, active"
    assert (await client.delete(created.id)).status == 200
    await listed_with(other, lambda servers: not servers)


@pytest.mark.parametrize("mode", ["operator", "tenant"])
@pytest.mark.gen_test(timeout=40)
async def test_servers_made_elsewhere_come_change_and_go(client, sim, project):
    await client.listed()
    (foreign,) = sim.foreign(project, name="theirs")
    servers = await listed_with(client, lambda servers: foreign in servers)
    assert "is_preemptible" not in servers[foreign]
    sim.change(foreign, power="off")
    await listed_with(client, lambda servers: servers[foreign]["status"] == "SHUTOFF")
    sim.vanish(foreign)
    await listed_with(client, lambda servers: not servers)


@pytest.mark.gen_test(timeout=40)
async def test_a_client_that_has_the_list_is_not_sent_it_again(client):
    created = await client.create(True)
    first = await client.call("GET", LIST)
    for known in (first.headers["Etag"], f'"other", W/{first.headers["Etag"]}', "*"):
        again = await client.call("GET", LIST, headers={"If-None-Match": known})
        assert (again.status, again.json) == (304, None)
        for name in ("Etag", "Cache-Control", "Content-Security-Policy", "X-Request-Id"):
            assert name in again.headers
        assert again.headers["Etag"] == first.headers["Etag"]
    head = await client.call("HEAD", LIST)
    assert (head.status, head.json) == (200, None)
    assert [head.headers[name] for name in ("Etag", "Content-Length")] == [
        first.headers[name] for name in ("Etag", "Content-Length")
    ]
    await client.delete(created.id)
    changed = await client.call("GET", LIST, headers={"If-None-Match": first.headers["Etag"]})
    assert changed.status == 200 and changed.headers["Etag"] != first.headers["Etag"]


@pytest.mark.gen_test(timeout=40)
async def test_a_change_without_a_notification_is_listed_within_a_second(client, database):
    created = await client.create(True)
    await client.listed()
    database.rows("UPDATE vm SET priority = 7")
    await listed_with(client, lambda servers: servers[created.id]["priority"] == 7)


@pytest.mark.gen_test(timeout=60)
async def test_while_the_cloud_or_the_database_is_away_no_old_list_is_served(client, sim, database, postgres):
    created = await client.create(True)
    sim.fault(action="status", status=503, service="compute")
    refused = await settled_answer(client, LIST, 503)
    assert refused.json["error"] == "cloud_unavailable" and int(refused.headers["Retry-After"]) > 0
    sim.clear_faults()
    await settled_answer(client, LIST, 200)
    assert created.id in await client.listed()
    with outage(database, postgres):
        refused = await settled_answer(client, LIST, 503)
        assert refused.json["error"] == "unavailable" and int(refused.headers["Retry-After"]) > 0
    await settled_answer(client, LIST, 200)
    assert created.id in await client.listed()


@pytest.mark.gen_test(timeout=40)
async def test_many_lists_at_once_are_one_read_of_the_cloud(client, sim):
    await client.create(True)
    await client.listed()
    await asyncio.sleep(1.1)  # older than a list may be
    sim.forget_calls()
    await asyncio.gather(*(client.listed() for _ in range(50)))
    assert len(sim.calls(service="compute", method="GET", path="/servers/detail")) <= 2, "one may be the mirror's own"
