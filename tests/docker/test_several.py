"""Three replicas behind the balancer: which of them answers, and whether it lives to do so, no client has to know."""

import asyncio
import json
from collections import Counter

import pytest
from tornado.httpclient import HTTPClientError

from tests.docker.installation import docker
from tests.system.client import Client


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
        client = Client(port)
        lines = (await client.text("/metrics")).splitlines()
        client.close()
        found.append((sum(float(line.split()[-1]) for line in lines
                          if line.startswith("vmsvc_http_requests_total{") and "/api/v1/vm" in line),
                      next(float(line.split()[-1]) for line in lines if line.startswith("vmsvc_sockets "))))
    return found


async def work(client, number, enough, failures, done):
    """Create, look at, list and delete, again and again; each of these may be repeated by whoever likes."""
    turn = 0
    while not enough.is_set():
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


async def follow(client, since, seen):
    """Every event after `since`, as a client that comes back after each end of its socket gets them."""
    while True:
        try:
            channel = await client.channel(f"?since={since}")
        except (OSError, HTTPClientError):      # nobody is there, or busy with something else
            await asyncio.sleep(0.1)
            continue
        try:
            while (message := await channel.read_message()) is not None:
                since = json.loads(message)["data"]["seq"]
                seen.append(since)
        except asyncio.CancelledError:
            channel.close()
            while await channel.read_message() is not None:
                pass
            raise
        channel.close()


def test_requests_and_sockets_are_spread_and_a_killed_replica_costs_no_idempotent_request(balanced):
    ports = [int(bound["HostPort"]) for container in balanced.inspect("vmsvc")
             for bound in container["NetworkSettings"]["Ports"]["8888/tcp"]]

    async def story():
        client, seen = await balanced.ready(), [[] for _ in range(6)]
        first = (await client.call("GET", "/api/v1/vm")).json["seq"]
        followers = [asyncio.ensure_future(follow(client, first, each)) for each in seen]
        while not all(sockets for _, sockets in await shares(ports)):
            await asyncio.sleep(0.1)
        failures, done, enough = [], [], asyncio.Event()
        workers = [asyncio.ensure_future(work(client, number, enough, failures, done)) for number in range(8)]
        while not all(requests for requests, _ in await shares(ports)) or len(done) < 8:
            await asyncio.sleep(0.1)
        victim, before = balanced.containers("vmsvc")[0], len(done)
        await asyncio.to_thread(docker, "kill", "-s", "KILL", victim)
        while len(done) < before + 16 and not failures:
            await asyncio.sleep(0.1)
        enough.set()
        await asyncio.gather(*workers)
        docker("start", victim)
        history = [event["data"]["seq"] for event in await client.events(first)]
        while not failures and any(each[-1:] != history[-1:] for each in seen):
            await asyncio.sleep(0.1)
        for follower in followers:
            follower.cancel()
        await asyncio.gather(*followers, return_exceptions=True)
        client.close()
        return failures, done, seen, history

    failures, done, seen, history = asyncio.run(asyncio.wait_for(story(), 240))
    assert not failures
    assert max(Counter(done).values()) == 1
    assert seen == [history] * 6


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
