"""Three replicas behind the balancer: which of them answers, and whether it lives to do so, no client has to know."""

import asyncio
import json
from collections import Counter

import pytest

from tests.docker.installation import docker
from tests.system.client import Client

SECONDS = 12.0


@pytest.fixture(name="three", scope="module")
def fixture_three(installation):
    """The installation with three replicas."""
    assert f"http://127.0.0.1:{installation.port}/" in installation.build(REPLICAS="3")
    return installation


@pytest.fixture(name="balanced")
def fixture_balanced(three, emptied):
    """The same, without the VMs of former tests."""
    del three
    return emptied


async def shares(ports):
    """What each replica says of itself: (API requests that it has answered, sockets that are open there)."""
    found = []
    for port in ports:
        lines = (await Client(port).text("/metrics")).splitlines()
        found.append((sum(float(line.split()[-1]) for line in lines
                          if line.startswith("vmsvc_http_requests_total{") and "/api/v1/vm" in line),
                      next(float(line.split()[-1]) for line in lines if line.startswith("vmsvc_sockets "))))
    return found


async def work(client, number, until, failures, done):
    """Create, look at, list and delete, again and again; each of these may be repeated by whoever likes."""
    turn = 0
    while asyncio.get_running_loop().time() < until:
        turn += 1
        key = {"Idempotency-Key": f"balanced-{number}-{turn}"}
        created = await client.create(True, flavor="m1.tiny", headers=key)
        if created.status != 201:
            failures.append((created.status, created.json))
            continue
        again = await client.create(True, flavor="m1.tiny", headers=key)
        shown, deleted = await client.show(created.id), await client.delete(created.id)
        await client.listed()
        # A DELETE whose answer was lost on the way finds nothing left to delete when it is repeated.
        gone = deleted.status == 200 or deleted.status == 404 and "before" in deleted.json["message"]
        if again.json != created.json or shown.status != 200 or not gone:
            failures.append((again.status, shown.status, deleted.status, deleted.json))
        done.append(created.id)


async def follow(client, seen):
    """Every event from the next on, as a client that comes back after each end of its socket gets them."""
    since = (await client.call("GET", "/api/v1/vm")).json["seq"]
    while True:
        try:
            channel = await client.channel(f"?since={since}")
        except OSError:
            await asyncio.sleep(0.1)
            continue
        try:
            while (message := await channel.read_message()) is not None:
                since = json.loads(message)["data"]["seq"]
                seen.append(since)
        finally:
            channel.close()
            while await channel.read_message() is not None:
                pass


def test_requests_and_sockets_are_spread_and_a_killed_replica_costs_no_idempotent_request(balanced):
    ports = [int(bound["HostPort"]) for container in balanced.inspect("vmsvc")
             for bound in container["NetworkSettings"]["Ports"]["8888/tcp"]]

    async def story():
        client = await balanced.ready()
        seen = [[] for _ in range(6)]
        followers = [asyncio.ensure_future(follow(client, each)) for each in seen]
        failures, done = [], []
        until = asyncio.get_running_loop().time() + SECONDS
        workers = [asyncio.ensure_future(work(client, number, until, failures, done)) for number in range(8)]
        await asyncio.sleep(SECONDS / 3)
        spread = await shares(ports)
        victim = balanced.containers("vmsvc")[0]
        await asyncio.to_thread(docker, "kill", "-s", "KILL", victim)
        await asyncio.gather(*workers)
        docker("start", victim)
        newest = (await client.call("GET", "/api/v1/vm")).json["seq"]
        while any(not each or each[-1] < newest for each in seen):
            await asyncio.sleep(0.1)
        for follower in followers:
            follower.cancel()
        await asyncio.gather(*followers, return_exceptions=True)
        client.close()
        return spread, failures, done, seen

    spread, failures, done, seen = asyncio.run(asyncio.wait_for(story(), 120))
    assert not failures
    assert len(done) >= 8 and max(Counter(done).values()) == 1
    assert all(requests > 0 and sockets > 0 for requests, sockets in spread), spread
    for each in seen:
        assert each == list(range(each[0], each[0] + len(each)))


def test_with_no_replica_ready_the_balancer_lets_those_that_live_say_what_is_wrong(balanced):
    async def story():
        client = await balanced.ready()
        docker("stop", balanced.container("database"))
        try:
            for _ in range(300):
                answer = await client.call("GET", "/readyz")
                if answer.status == 503:
                    break
                await asyncio.sleep(0.1)
            assert answer.json["status"] == "not ready"
        finally:
            docker("start", balanced.container("database"))
            client.close()
        (await balanced.ready()).close()
    asyncio.run(story())
