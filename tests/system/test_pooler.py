"""Behind pgbouncer, in session mode and in transaction mode."""

import asyncio
import time

import psycopg2
import pytest

from tests.conftest import Database
from tests.system.pooler import pooler
from vmsvc import bootstrap, config
from vmsvc.store import db, models, preflight

ADVISORY = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"


@pytest.fixture(name="pool_mode", params=["session", "transaction"])
def fixture_pool_mode(request):
    """How long a client keeps a connection."""
    return request.param


@pytest.fixture(name="bouncer")
def fixture_bouncer(postgres, pool_mode):
    """In front of the run's server."""
    with pooler(postgres.url, pool_mode) as running:
        yield running


@pytest.fixture(name="brand_new")
def fixture_brand_new(postgres):
    """A database without a table."""
    postgres.command("CREATE DATABASE pooled")
    yield Database(postgres.url.replace("/postgres?", "/pooled?"))
    postgres.command("DROP DATABASE pooled WITH (FORCE)")


@pytest.mark.gen_test(timeout=90)
async def test_replicas_that_start_side_by_side_all_serve_and_hear_each_other(
    brand_new, bouncer, pool_mode, environ, sim, new_process
):
    environ = {**environ, "VMSVC_DATABASE_URL": bouncer.url("pooled")}
    processes = [new_process(environ) for _ in range(3)]
    first, second, third = [await process.ready() for process in processes]
    assert brand_new.rows(ADVISORY) == [{"count": 0}]
    created = await asyncio.gather(*(client.create(True) for client in (first, second, third)))
    assert [answer.status for answer in created] == [201] * 3
    assert sim.servers().keys() == {answer.id for answer in created}
    # What one commits the others hear of within a fraction of a second, by NOTIFY or by asking.
    channel = await second.channel()
    asked = time.monotonic()
    assert (await first.delete(created[0].id)).status == 200
    await asyncio.wait_for(channel.read_message(), 5)
    assert time.monotonic() - asked < 5
    channel.close()
    parts = (await first.call("GET", "/readyz")).json["parts"]
    if pool_mode == "session":
        assert parts["doorbell"] == "ok"
    else:
        assert parts["doorbell"].startswith("ok; polls the database every 0.2 s")
        assert "VMSVC_LISTEN_URL" in parts["doorbell"]
        assert processes[0].text().count("notifications do not reach") == 1
    assert not any("Traceback" in process.text() for process in processes)
    assert "unsupported startup parameter" not in bouncer.log()


@pytest.mark.parametrize("pool_mode", ["transaction"], indirect=True)
@pytest.mark.gen_test(timeout=60)
async def test_with_a_way_past_the_pooler_it_listens(bouncer, new_process, environ, database):
    name = database.rows("SELECT current_database() AS name")[0]["name"]
    process = new_process({**environ, "VMSVC_DATABASE_URL": bouncer.url(name), "VMSVC_LISTEN_URL": database.url})
    client = await process.ready()
    assert (await client.call("GET", "/readyz")).json["parts"]["doorbell"] == "ok"
    assert (await client.create(True)).status == 201


@pytest.mark.gen_test(timeout=60)
async def test_a_listener_that_cannot_connect_does_not_keep_the_service_from_hearing(new_process, environ):
    process = new_process({**environ, "VMSVC_LISTEN_URL": "postgresql://nobody@127.0.0.1:1/none"})
    client = await process.ready()
    assert "cannot be made" in (await client.call("GET", "/readyz")).json["parts"]["doorbell"]
    assert (await client.create(True)).status == 201


@pytest.mark.parametrize("pool_mode", ["transaction"], indirect=True)
def test_what_a_transaction_sets_is_nobody_else_s(bouncer, database):
    name = database.rows("SELECT current_database() AS name")[0]["name"]
    pool = db.open_database(bouncer.url(name), 2)
    try:
        with db.unit(db.Lock.SCHEDULER):
            pass
        with db.reading():
            pass
        with db.connected():
            assert models.database.execute_sql("SHOW statement_timeout").fetchone() == ("20s",)
        other = Database(bouncer.url(name))
        for _ in range(3):
            assert other.rows("SHOW statement_timeout") == [{"statement_timeout": "0"}]
            assert other.rows("SHOW search_path") == [{"search_path": '"$user", public'}]
    finally:
        pool.close_all()


def test_check_says_whether_it_hears(bouncer, pool_mode, database):
    name = database.rows("SELECT current_database() AS name")[0]["name"]
    assert preflight.hears(bouncer.url(name), bouncer.url(name)) == (pool_mode == "session")
    assert preflight.hears(bouncer.url(name), database.url)
    assert preflight.hears(database.url, database.url)
    assert not preflight.hears(database.url, database.url.replace(f"/{name}?", "/postgres?"))


@pytest.mark.parametrize("pool_mode", ["transaction"], indirect=True)
def test_a_schema_that_the_address_names_is_used_behind_it(bouncer, brand_new):
    brand_new.rows("CREATE SCHEMA own")
    url = f"{bouncer.url('pooled')}?options=-csearch_path%3Down"
    assert bootstrap.migrate(url)
    assert not bootstrap.migrate(url)
    assert brand_new.rows("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [{"count": 0}]
    assert brand_new.rows("SELECT count(*) FROM own.vm") == [{"count": 0}]


def test_what_an_older_release_left_locked_keeps_nobody_from_starting(database):
    """A pooler keeps the session, and its lock with it."""
    connection = psycopg2.connect(database.url)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s, %s)", (db.LOCK_SPACE, db.Lock.MIGRATE))
        connection.commit()
        started = time.monotonic()
        assert not bootstrap.migrate(database.url)
        assert time.monotonic() - started < 3
    finally:
        connection.close()


@pytest.mark.parametrize("pool_mode", ["transaction"], indirect=True)
@pytest.mark.gen_test(timeout=60)
async def test_a_database_that_says_nothing_does_not_keep_the_service_from_stopping(
    bouncer, environ, new_process, database
):
    name = database.rows("SELECT current_database() AS name")[0]["name"]
    process = new_process({**environ, "VMSVC_DATABASE_URL": bouncer.url(name)})
    await process.ready()
    with bouncer.silent():
        await asyncio.sleep(0.5)  # calls are under way by now
        process.tell_to_stop()
        assert await process.exit_status() == 0
    assert "Traceback" not in process.text()


def test_the_settings_refuse_a_way_past_nothing():
    with pytest.raises(config.ConfigError, match="VMSVC_LISTEN_URL needs"):
        config.load({"VMSVC_LISTEN_URL": "postgresql://localhost/vmsvc"})
