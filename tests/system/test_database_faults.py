"""The database is away for a while, or cuts its connections: nothing is lost, and the service comes back by itself."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import psycopg2
import pytest

from tests.conftest import Database
from tests.system.client import until
from vmsvc.simulator.postgres import Postgres, PostgresFailed


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
    deadline = time.monotonic() + 40
    while (answer := await client.call("GET", path)).status != status:
        assert time.monotonic() < deadline, answer.json
        await asyncio.sleep(0.05)
    return answer


@pytest.mark.gen_test(timeout=60)
async def test_while_the_database_is_away_clients_hear_so_and_afterwards_all_goes_on(client, database, postgres, sim):
    before = (await client.create(True)).id
    channel = await client.channel("?since=0")
    with outage(database, postgres):
        for answer in (await client.create(True), await client.show(before), await client.delete(before)):
            assert (answer.status, answer.json["error"]) == (503, "unavailable")
            assert "database" in answer.json["message"]
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
    notice = await client.wait_for_event("evict/noticed")
    with outage(database, postgres):
        await settled_answer(client, "/readyz", 503)
    await settled_answer(client, "/readyz", 200)
    evicting = await client.wait_for_event("evict/evicting", notice["subject"], seconds=40)
    assert evicting["time"] >= notice["data"]["vm"]["evict_at"]
    await client.wait_for_event("create/active", accepted.json["vm"]["vmsvc_id"])


@pytest.mark.gen_test(timeout=60)
async def test_sessions_that_are_cut_again_and_again_cost_time_and_nothing_else(client, database, postgres, sim):
    name = database.rows("SELECT current_database() AS name")[0]["name"]
    asked = [
        asyncio.ensure_future(client.create(number % 2 == 0, headers={"Idempotency-Key": f"{number}"}))
        for number in range(4)
    ]
    while not all(task.done() for task in asked):
        cut(postgres, name)
        await asyncio.sleep(0.3)
    # Whoever was answered 503 asks again with the same key, as a client should.
    answers = [await client.create(number % 2 == 0, headers={"Idempotency-Key": f"{number}"}) for number in range(4)]
    assert [answer.status for answer in answers] == [201] * 4
    assert sim.servers().keys() == {answer.id for answer in answers}


#: What the server says to every change, and how it is made to; then how it is made well again.
COMPLAINTS = {
    "read-only": (
        "ALTER DATABASE {name} SET default_transaction_read_only = on",
        "ALTER DATABASE {name} RESET default_transaction_read_only",
    ),
    "disk full": (
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION "
        "'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END$$; "
        "CREATE TRIGGER full_vm BEFORE INSERT OR UPDATE ON vm EXECUTE FUNCTION full_disk(); "
        "CREATE TRIGGER full_intent BEFORE INSERT OR UPDATE ON intent EXECUTE FUNCTION full_disk(); "
        "CREATE TRIGGER full_event BEFORE INSERT ON event EXECUTE FUNCTION full_disk()",
        "DROP FUNCTION full_disk() CASCADE",
    ),
}


@pytest.mark.parametrize("complaint", COMPLAINTS)
@pytest.mark.gen_test(timeout=60)
async def test_a_database_that_takes_no_changes_costs_time_and_nothing_else(client, database, postgres, sim, complaint):
    sim.settings(boot_seconds=0.6)
    name = database.rows("SELECT current_database() AS name")[0]["name"]
    ill, well = COMPLAINTS[complaint]
    under_way = asyncio.ensure_future(client.create(False, headers={"Idempotency-Key": "one"}))
    await client.wait_for_event("create/building")
    database.command(ill.format(name=name))
    try:
        cut(postgres, name)
        refused = await client.create(True)
        assert (refused.status, refused.json["error"]) == (503, "unavailable")
        assert (await settled_answer(client, "/api/v1/vm", 200)).json["servers"], "it can still be read"
        await settled_answer(client, "/readyz", 503)
    finally:
        # The session that makes it well again must itself be allowed to.
        (database if complaint == "disk full" else postgres).command(well.format(name=name))
    cut(postgres, name)
    await settled_answer(client, "/readyz", 200)
    answer = await under_way
    if answer.status == 503:
        answer = await client.create(False, headers={"Idempotency-Key": "one"})
    assert answer.status == 201
    assert list(sim.servers()) == [answer.id]


@pytest.mark.gen_test(timeout=60)
async def test_a_database_that_is_slow_slows_its_clients_and_nothing_else(client, database, sim):
    with contextlib.closing(psycopg2.connect(database.url)) as holder, holder.cursor() as cursor:
        cursor.execute("LOCK TABLE event")
        creating = asyncio.ensure_future(client.create(True))
        for _ in range(20):
            assert (await client.call("GET", "/healthz")).status == 200
            await asyncio.sleep(0.1)
        assert not creating.done()
        holder.rollback()
    created = await creating
    assert created.status == 201
    assert list(sim.servers()) == [created.id]


@pytest.fixture(name="own_postgres", scope="module")
def fixture_own_postgres():
    """A server that may be killed."""
    folder = Path(tempfile.mkdtemp(prefix="vmsvc-own-"))
    server = Postgres(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


def own_database(server, name):
    """A new database on it."""
    url = server.start()
    Database(url).command(f"CREATE DATABASE {name}")
    return Database(url.replace("/postgres?", f"/{name}?"))


def pid_of(server):
    """The process that all of a server's sessions come from."""
    return int((server.data / "postmaster.pid").read_text().split("\n", 1)[0])


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["restarted", "killed"])
@pytest.mark.gen_test(timeout=90)
async def test_a_database_that_is_restarted_loses_nothing_that_was_answered(
    own_postgres, new_process, environ, sim, how
):
    database = own_database(own_postgres, f"of_{how.name.lower()}")
    client = await new_process({**environ, "VMSVC_DATABASE_URL": database.url}).ready()
    first = await client.create(True, headers={"Idempotency-Key": "first"})
    channel = await client.channel("?since=0")
    sim.settings(boot_seconds=1)
    accepted = await client.create(False, headers={"Idempotency-Key": "second", "Prefer": "respond-async"})
    assert accepted.status == 202
    pid = pid_of(own_postgres)
    os.kill(pid, how)
    await until(lambda: not Path(f"/proc/{pid}").exists(), "the end of the server")
    await settled_answer(client, "/readyz", 503)
    assert (await client.call("GET", "/healthz")).status == 200
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(PostgresFailed):  # sessions of the dead one may still be ending
                own_postgres.start()
                break
            await asyncio.sleep(0.2)
    await settled_answer(client, "/readyz", 200)
    again = await client.create(True, headers={"Idempotency-Key": "first"})
    assert (again.status, again.json) == (201, first.json)
    second = await client.create(False, headers={"Idempotency-Key": "second"})
    assert second.status == 201
    assert sim.servers().keys() == {first.id, second.id}
    history = await client.events()
    assert [event["data"]["seq"] for event in history] == list(range(1, len(history) + 1))
    assert [json.loads(await asyncio.wait_for(channel.read_message(), 10)) for _ in history] == history
    channel.close()


@pytest.mark.gen_test(timeout=90)
async def test_a_database_without_a_connection_to_spare_is_waited_for(own_postgres, new_process, environ, sim):
    database = own_database(own_postgres, "crowded")
    process = new_process({**environ, "VMSVC_DATABASE_URL": database.url})
    client = await process.ready()
    taken = []
    database.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'vmsvc%'")
    with pytest.raises(psycopg2.OperationalError):
        while True:
            taken.append(psycopg2.connect(database.url))
    async with asyncio.timeout(30):
        while (answer := await client.create(True)).status != 503:  # those it still has it may use
            taken[0].rollback()
            with taken[0].cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'vmsvc%'"
                )
            with contextlib.suppress(psycopg2.OperationalError):
                while True:
                    taken.append(psycopg2.connect(database.url))
    assert int(answer.headers["Retry-After"]) > 0
    for connection in taken:
        connection.close()
    await settled_answer(client, "/readyz", 200)
    assert (await client.create(True)).status == 201
    assert "Traceback" not in process.text()
    assert sim.servers()
