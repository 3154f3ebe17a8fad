"""Three replicas behind the balancer: which of them answers, and whether it lives to do so, no client has to know."""

import asyncio
import http.client
import json
import socket
import subprocess
import time
from collections import Counter
from contextlib import contextmanager

import pytest
from tornado.httpclient import HTTPClientError

from tests.docker.installation import docker
from tests.docker.poller import EVERY, Poller
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
        found.append(
            (
                sum(
                    float(line.split()[-1])
                    for line in lines
                    if line.startswith("vmsvc_http_requests_total{") and "/api/v1/vm" in line
                ),
                next(float(line.split()[-1]) for line in lines if line.startswith("vmsvc_sockets ")),
            )
        )
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


async def follow(client, since, seen, codes=None):
    """Every event after `since`, as a client that comes back after each end of its socket gets them. `codes` gets those
    with which sockets were closed."""
    while True:
        try:
            channel = await client.channel(f"?since={since}")
        except (OSError, HTTPClientError):  # nobody is there, or busy with something else
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
        if codes is not None:
            codes.append(channel.close_code)
        channel.close()


def test_requests_and_sockets_are_spread_and_a_killed_replica_costs_no_idempotent_request(balanced):
    ports = [balanced.port + number for number in (1, 2, 3)]

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


@contextmanager
def changed(installation, *changes):
    """The tree with these changes, (file, text, new text), for a while."""
    files = [installation.tree / name for name, _, _ in changes]
    before = {file: file.read_text(encoding="utf-8") for file in files}
    for name, text, new in changes:
        file = installation.tree / name
        assert text in before[file]
        file.write_text(before[file].replace(text, new), encoding="utf-8")
    try:
        yield
    finally:
        for file, content in before.items():
            file.write_text(content, encoding="utf-8")


async def create_plainly(client, enough, statuses):
    """Creates without an Idempotency-Key, one after the other: none of them may be repeated by the balancer."""
    while not enough.is_set():
        created = await client.create(True, flavor="m1.tiny")
        statuses.append(created.status)
        if created.status in (201, 202):
            statuses.append((await client.delete(created.json["vm"]["vmsvc_id"])).status)
        await asyncio.sleep(EVERY)  # as the poller: the machine is not to be busy with this


async def clients_during(installation, what):
    """Carry out `what` in a thread while clients work. Gives closing codes, statuses of creates and deletes, the events
    that each socket has seen, and all events."""
    client, seen, codes = await installation.ready(), [[] for _ in range(3)], []
    first = (await client.call("GET", "/api/v1/vm")).json["seq"]
    followers = [asyncio.ensure_future(follow(client, first, each, codes)) for each in seen]
    statuses, enough = [], asyncio.Event()
    worker = asyncio.ensure_future(create_plainly(client, enough, statuses))
    await asyncio.to_thread(what)
    enough.set()
    await worker
    history = [event["data"]["seq"] for event in await client.events(first)]
    while any(each[-1:] != history[-1:] for each in seen):
        await asyncio.sleep(0.1)
    for follower in followers:
        follower.cancel()
    await asyncio.gather(*followers, return_exceptions=True)
    client.close()
    return codes, statuses, seen, history


@contextmanager
def unnoticed(installation):
    """For a client that asks every 0.2 s no request fails, and none takes a second. A machine that is busy with other
    things adds its own: what it adds to an answer of the simulated cloud, one process that goes on all the while, it
    adds at each of the five that an answer of the service passes (proxy, balancer, loop, thread, database)."""
    with (
        Poller(f"http://127.0.0.1:{installation.port}/api/v1/vm") as client,
        Poller(f"http://{installation.address('cloud', 'front')}:8774/identity/v3") as machine,
    ):
        yield
    assert not client.failures and client.slowest < 1 + 5 * machine.slowest, f"{client}; the cloud: {machine}"


def configuration(installation):
    """The balancer's."""
    return docker("exec", installation.container("balancer"), "cat", "/etc/haproxy/haproxy.cfg")


def history_of(installation, since, old, new):
    """What became of these replicas, in order: old ones that stopped, new ones that started and were healthy."""
    ours = f"label=com.docker.compose.project={installation.project}"
    said = docker(
        "events",
        "--since",
        str(since),
        "--until",
        str(time.time()),
        "--filter",
        "type=container",
        "--filter",
        ours,
        "--format",
        "{{.ID}} {{.Action}}",
    )
    for line in said.splitlines():
        container, _, what = line.partition(" ")
        if container in old and what == "die" or container in new and what in ("start", "health_status: healthy"):
            yield what


def test_the_balancer_takes_up_another_configuration_and_open_sockets_stay(balanced):
    async def story():
        client = await balanced.ready()
        channel = await client.channel()
        await asyncio.to_thread(balanced.build)
        created = await client.create(True, flavor="m1.tiny")
        told = await channel.read_message()
        channel.close()
        while await channel.read_message() is not None:
            pass
        client.close()
        return created, told

    before = balanced.condition()["containers"]
    with unnoticed(balanced), changed(balanced, ("docker/balancer/haproxy.cfg", "maxconn 4000", "maxconn 3999")):
        created, told = asyncio.run(asyncio.wait_for(story(), 120))
    assert balanced.condition()["containers"] == before
    assert created.status == 201 and json.loads(told)["data"]["vm"]["vmsvc_id"] == created.json["vm"]["vmsvc_id"]
    assert "maxconn 3999" in configuration(balanced)


def test_a_new_image_and_a_new_setting_come_to_one_replica_after_the_other_and_no_client_notices(balanced):
    """The figures of docs/how-to/docker.md: `python -m tests.docker.poller` takes them of any installation."""
    began, former = time.time(), {one["Id"] for one in balanced.inspect("vmsvc")}
    before = {service: set(balanced.containers(service)) for service in ("vmsvc", "database", "cloud", "balancer")}
    with unnoticed(balanced), changed(balanced, ("static/index.html", "</html>", "<!-- a new release --></html>")):
        codes, statuses, seen, history = asyncio.run(
            asyncio.wait_for(clients_during(balanced, lambda: balanced.build(VMSVC_GRACE_SECONDS="9")), 240)
        )
    assert set(statuses) <= {200, 201, 202}
    assert codes and set(codes) == {1012}
    assert seen == [history] * 3
    after = {service: set(balanced.containers(service)) for service in before}
    assert len(after["vmsvc"]) == 3 and not after["vmsvc"] & before["vmsvc"]
    assert {service: after[service] for service in ("database", "cloud", "balancer")} == {
        service: before[service] for service in ("database", "cloud", "balancer")
    }
    replicas = {
        one["Id"]: int(one["NetworkSettings"]["Ports"]["8888/tcp"][0]["HostPort"]) for one in balanced.inspect("vmsvc")
    }
    assert set(replicas.values()) == {balanced.port + number for number in (1, 2, 3)}
    assert list(history_of(balanced, began, former, set(replicas))) == ["die", "start", "health_status: healthy"] * 3


def test_a_release_that_does_not_come_up_is_taken_back_and_no_client_notices(balanced):
    before = balanced.condition()
    with (
        unnoticed(balanced),
        changed(
            balanced,
            ("vmsvc/cli.py", "ensure_future(service.start())", "ensure_future(sys.exit(7))"),
            ("docker/balancer/haproxy.cfg", "maxconn 4000", "maxconn 3998"),
        ),
    ):
        failed = balanced.make("build")
    assert failed.returncode != 0 and "does not stay up" in failed.stderr
    after = balanced.condition()
    assert set(after["containers"]) == set(before["containers"])
    assert {status for _, status in after["containers"].values()} == {"running"}
    assert {**after, "containers": 0} == {**before, "containers": 0}
    assert "maxconn 3998" not in configuration(balanced)


def test_a_build_that_cannot_succeed_changes_nothing(three, tmp_path):
    clouds = tmp_path / "clouds.yaml"
    clouds.write_text("clouds: {other: {auth: {auth_url: 'http://127.0.0.1:1/v3'}}}", encoding="utf-8")
    before = three.condition()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for words, told in (
            (f"port {port} cannot be had", {"PORT": port}),
            ("no whole number", {"REPLICAS": "many"}),
            ("is not a number", {"VMSVC_GRACE_SECONDS": "soon"}),
            ("is no whole", {"REPLICAS": "17"}),
            ("nowhere", {"OS_CLOUD": "nowhere", "OS_CLIENT_CONFIG_FILE": str(clouds)}),
        ):
            failed = three.make("build", **told)
            assert failed.returncode != 0 and words in failed.stderr, failed.stderr
            assert three.condition() == before, told
    for change in (
        ("Dockerfile", "COPY static static", "COPY static static\nRUN false"),
        ("docker/balancer/haproxy.cfg", "balance leastconn", "balance nobody"),
        ("docker-compose.yml", "services:", "services: []"),
    ):
        with changed(three, change):
            assert three.make("build").returncode != 0
        assert three.condition() == before, change


def test_each_replica_can_be_scraped_from_this_machine_and_by_nobody_else_without_a_token(three):
    token = three.compose("run", "--rm", "vmsvc", "token", "new", "--name", "prometheus", "--role", "reader").strip()
    # The way there is not always straight.
    three.killed_build("replica 2 of 3", VMSVC_AUTH="token")
    three.build(VMSVC_AUTH="token")
    assert len(three.containers("vmsvc")) == 3
    ports = [three.port + number for number in (1, 2, 3)]
    for port in ports:
        assert asks(port, "/metrics") == 200
        assert asks(port, "/api/v1/vm") == 401
        assert asks(port, "/metrics", Host="vms.example") != 200
        assert asks(port, "/api/v1/vm", Authorization=f"Bearer {token}") == 200
    assert asks(three.port, "/metrics") == 404
    inside = (
        "import sys, urllib.request as r\n"
        "try: print(r.urlopen(r.Request(sys.argv[1] + '/metrics', headers=dict(Host='localhost', "
        "Authorization=sys.argv[2]))).status)\nexcept r.HTTPError as e: print(e.code)"
    )
    network = f"{three.project}_front"
    for container in three.inspect("vmsvc"):
        address = f"http://{container['NetworkSettings']['Networks'][network]['IPAddress']}:8888"
        asked = [
            docker("run", "--rm", "--network", network, "--entrypoint", "python", "vmsvc", "-c", inside, address, words)
            for words in ("", f"Bearer {token}")
        ]
        assert asked == ["401", "200"]


def test_the_replicas_know_clients_by_their_own_addresses_and_not_by_the_balancers_or_a_forged_one(three):
    balancer, network = three.address("balancer", "front"), f"{three.project}_front"
    deadline = time.monotonic() + 30
    while not all(f"trusted proxy balancer is {balancer}" in log for log in logs(three)):
        assert time.monotonic() < deadline, logs(three)
        time.sleep(0.2)
    forged = {"X-Forwarded-For": f"198.51.100.1, {balancer}", "X-Forwarded-Proto": "https"}
    for number in range(3):
        assert asks(three.port, "/api/v1/vm/nobody", **forged, **{"X-Request-Id": f"of-the-machine-{number}"}) in (
            401,
            404,
        )
    inside = (
        "import http.client, sys\nclient = http.client.HTTPConnection('balancer', 8888)\nclient.connect()\n"
        "print(client.sock.getsockname()[0])\n"
        "client.request('GET', '/api/v1/vm/nobody', headers={'Host': 'localhost', 'X-Request-Id': "
        "'of-a-container', 'X-Forwarded-For': sys.argv[1]})\nclient.getresponse()"
    )
    container = docker(
        "run", "--rm", "--network", network, "--entrypoint", "python", "vmsvc", "-c", inside, forged["X-Forwarded-For"]
    )
    (front,) = (each["NetworkSettings"]["Networks"][network] for each in three.inspect("balancer"))
    lines = [line for log in logs(three) for line in log.splitlines() if "vmsvc.access" in line]
    for number in range(3):
        assert [f" {front['Gateway']} " in line for line in lines if f"of-the-machine-{number}" in line] == [True]
    assert [f" {container} " in line for line in lines if "of-a-container" in line] == [True]


def logs(installation):
    """What each replica has logged."""
    return [
        subprocess.run(["docker", "logs", each], capture_output=True, text=True, check=True).stderr
        for each in installation.containers("vmsvc")
    ]


def asks(port, path, **headers):
    """The status of an answer to a request from this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers=headers)
    status = connection.getresponse().status
    connection.close()
    return status
