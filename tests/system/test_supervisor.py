"""VMSVC_REPLICAS: several processes on one port, watched over by another; and how a service is told to stop."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import time

import pytest
from tornado.simple_httpclient import HTTPStreamClosedError

from tests.system.client import Client, until
from vmsvc.simulator.process import start_time


@pytest.fixture(name="three")
def fixture_three(environ):
    """The environment of three replicas."""
    return {**environ, "VMSVC_REPLICAS": "3"}


def replicas(process):
    """The process of each replica that was ever started."""
    return [int(pid) for pid in re.findall(r"replica \d of 3 is process (\d+)", process.text())]


def consecutive_ports(count):
    """Ports on which nobody listens, below those that the kernel gives away."""
    for first in range(20000 + os.getpid() % 1000 * 10, 32000, 10):
        with contextlib.ExitStack() as probes, contextlib.suppress(OSError):
            ports = range(first, first + count)
            for port in ports:
                probes.enter_context(socket.create_server(("127.0.0.1", port)))
            return list(ports)
    raise AssertionError("all ports are taken")


async def metrics_of(ports, name):
    """For each of these ports the values of a metric, by its labels."""
    texts = [await Client(port).text("/metrics") for port in ports]
    return [
        {labels: float(value) for labels, value in re.findall(rf"^{name}({{.*}})? (\S+)$", text, re.MULTILINE)}
        for text in texts
    ]


def lives(pid):
    """False once it has ended. (Whether an orphan is reaped then is up to the machine's first process.)"""
    return start_time(pid) is not None


@pytest.mark.gen_test(timeout=60)
async def test_a_replica_that_is_killed_is_replaced_and_the_others_serve_meanwhile(new_process, three, sim):
    ports = consecutive_ports(3)
    process = new_process({**three, "VMSVC_METRICS_PORT": str(ports[0])})
    client = await process.ready()
    await until(lambda: process.text().count("ready in operator mode") == 3, "all three", 30)
    first = replicas(process)
    assert await metrics_of(ports, "vmsvc_hosts") == [{'{available="yes"}': 1, '{available="no"}': 0}] * 3
    answered = [sum(found.values()) for found in await metrics_of(ports, "vmsvc_http_requests_total")]
    for _ in range(20):
        await client.call("GET", "/api/v1/catalog")
    added = [sum(found.values()) for found in await metrics_of(ports, "vmsvc_http_requests_total")]
    assert sum(added) - sum(answered) == 20 + 3  # each reading of the metrics is a request too
    sim.settings(boot_seconds=1)
    keyed = {"Idempotency-Key": "one", "Prefer": "respond-async"}
    assert (await client.create(False, headers=keyed)).status == 202
    os.kill(first[0], signal.SIGKILL)
    while len(replicas(process)) < 4:
        assert (await client.call("GET", "/healthz")).status == 200
    await until(lambda: process.text().count("ready in operator mode") == 4, "the fourth", 30)
    created = await client.create(False, headers={"Idempotency-Key": "one"})
    assert created.status == 201
    assert len(await metrics_of(ports, "vmsvc_build_info")) == 3  # the fourth has the port of the first
    assert list(sim.servers()) == [created.id]
    process.tell_to_stop()
    assert await process.exit_status() == 0
    assert not [pid for pid in replicas(process) if lives(pid)]
    assert "Traceback" not in process.text()


@pytest.mark.gen_test(timeout=60)
async def test_replicas_do_not_outlive_their_supervisor(new_process, three):
    process = new_process(three)
    await process.ready()
    process.kill()
    await until(lambda: not [pid for pid in replicas(process) if lives(pid)], "the end of all", 30)


@pytest.mark.gen_test(timeout=60)
async def test_ctrl_c_ends_all_replicas_and_says_come_back_to_sockets(new_process, three):
    process = new_process(three)
    client = await process.ready()
    channel = await client.channel()
    process.interrupt()
    assert await asyncio.wait_for(channel.read_message(), 20) is None
    assert channel.close_code == 1012
    channel.close()
    assert await process.exit_status() == 0
    assert not [pid for pid in replicas(process) if lives(pid)]


@pytest.mark.gen_test(timeout=60)
async def test_a_client_that_waits_for_a_create_when_the_service_stops_gets_the_address_of_its_answer(
    new_process, environ, sim, new_replica
):
    sim.settings(boot_seconds=9)
    process = new_process(environ)
    client = await process.ready()
    waiting = asyncio.ensure_future(client.create(False))
    await until(sim.servers, "the server")
    process.tell_to_stop()
    answer = await waiting
    assert answer.status == 202
    assert await process.exit_status() == 0
    sim.call("POST", "/sim/clock", {"advance": 9})
    _, client = await new_replica()
    await client.wait_for_event("create/active", answer.headers["Location"].rpartition("/")[2])


@pytest.mark.gen_test(timeout=60)
async def test_what_ends_soon_is_finished_before_the_service_stops(new_process, environ, sim, database):
    sim.settings(boot_seconds=1.5)
    process = new_process(environ)
    client = await process.ready()
    waiting = asyncio.ensure_future(client.create(False))
    await until(sim.servers, "the server")
    process.tell_to_stop()
    assert (await waiting).status == 201
    assert await process.exit_status() == 0
    assert not database.rows("SELECT * FROM intent WHERE done_at IS NULL")


@pytest.mark.gen_test(timeout=60)
async def test_systemd_tells_every_process_and_so_does_the_supervisor_and_the_stop_is_orderly(
    new_process, three, sim, database
):
    sim.settings(boot_seconds=1.5)
    process = new_process(three)
    client = await process.ready()
    await until(lambda: process.text().count("ready in operator mode") == 3, "all three", 30)
    waiting = asyncio.ensure_future(client.create(False))
    await until(sim.servers, "the server")
    for pid in (*replicas(process), process.pid):
        os.kill(pid, signal.SIGTERM)
    await until(lambda: process.text().count("stopping") == 3, "the first signal at each")
    for pid in (*replicas(process), process.pid):
        with contextlib.suppress(ProcessLookupError):  # one that had nothing in hand
            os.kill(pid, signal.SIGTERM)
    assert (await waiting).status in (201, 202)  # 202: its replica was not the one that boots it
    assert await process.exit_status() == 0
    assert not database.rows("SELECT * FROM intent WHERE lease_until > now() AND done_at IS NULL")
    assert "Traceback" not in process.text()


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.gen_test(timeout=60)
async def test_a_second_ctrl_c_stops_it_at_once_whatever_hangs(new_process, environ, sim, number):
    sim.fault(action="hang", method="POST", path="/servers$")
    process = new_process({**environ, "VMSVC_REPLICAS": str(number)})
    client = await process.ready()
    await until(lambda: process.text().count("ready in operator mode") == number, "all of them", 30)
    waiting = asyncio.ensure_future(client.create(False))
    await until(lambda: sim.calls(method="POST", path="/servers$"), "the call that hangs")
    process.interrupt()
    await until(lambda: "stopping" in process.text(), "the first signal")
    asked = time.monotonic()
    process.interrupt()
    assert await process.exit_status() in (0, 130)
    assert time.monotonic() - asked < 3
    sim.clear_faults()
    (answer,) = await asyncio.gather(waiting, return_exceptions=True)
    # 202: it waited at a replica that had nothing in hand and was done before the second signal came.
    assert isinstance(answer, (HTTPStreamClosedError, OSError)) or answer.status in (202, 503)


@pytest.mark.gen_test(timeout=60)
async def test_a_second_ctrl_c_ends_a_replica_too_that_has_seen_neither(new_process, three):
    process = new_process(three)
    await process.ready()
    await until(lambda: process.text().count("ready in operator mode") == 3, "all three", 30)
    os.kill(replicas(process)[0], signal.SIGSTOP)  # two signals reach it as one, when its turn comes
    process.interrupt()
    await until(lambda: process.text().count("stopping") == 2, "the first signal")
    asked = time.monotonic()
    process.interrupt()
    assert await process.exit_status() == 0
    assert time.monotonic() - asked < 3
    assert not [pid for pid in replicas(process) if lives(pid)]


@pytest.mark.gen_test(timeout=60)
async def test_a_service_stops_in_time_though_the_cloud_hangs_and_the_database_is_away(
    new_process, environ, sim, database, postgres
):
    process = new_process(environ)
    client = await process.ready()
    sim.fault(action="hang")
    waiting = asyncio.ensure_future(client.create(True))
    await until(lambda: database.rows("SELECT id FROM vm"), "the request")
    name = database.rows("SELECT current_database() AS name")[0]["name"]
    postgres.command(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    try:
        postgres.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", name)
        process.tell_to_stop()
        assert await process.exit_status() == 0
        assert "Traceback" not in process.text()
    finally:
        postgres.command(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        sim.clear_faults()
    await asyncio.gather(waiting, return_exceptions=True)
