"""A rolling restart under load, onto the schema of the next release."""

import asyncio
import signal

import pytest

from tests.chaos.fleet import Launcher
from tests.chaos.scenarios import Clients
from tests.chaos.system_under_test import Watcher
from tests.conftest import Database
from tests.system import invariants
from tests.system.timing import TIMING
from vmsvc import bootstrap

ROUNDS = 2
#: As the next release would change the schema: what it adds the release before neither reads nor writes.
NEXT_RELEASE = (
    "ALTER TABLE vm ADD COLUMN next_release text",
    "ALTER TABLE vm ADD COLUMN next_flag boolean NOT NULL DEFAULT false",
    "ALTER TABLE intent ADD COLUMN next_number integer NOT NULL DEFAULT 0",
    "ALTER TABLE event ADD COLUMN next_data jsonb",
    "CREATE TABLE next_table (id bigserial PRIMARY KEY)",
    "CREATE INDEX next_index ON vm (principal)",
    "INSERT INTO schema_migration (name, applied) VALUES ('9999_next', now())",
)


@pytest.fixture(name="database")
def fixture_database(postgres):
    """One of its own: its schema changes."""
    postgres.command("CREATE DATABASE rolling")
    database = Database(postgres.url.replace("/postgres?", "/rolling?"))
    bootstrap.migrate(database.url)
    yield database
    postgres.command("DROP DATABASE rolling WITH (FORCE)")


@pytest.fixture(name="launcher")
def fixture_launcher():
    """Starts services quickly."""
    launcher = Launcher()
    yield launcher
    launcher.close()


async def ask_on(clients, name, restarted):
    """Create and delete until the restart is over; returns how many were created."""
    number = 0
    while not restarted.is_set():
        created = await clients.created(f"{name}-{number}", number % 2 == 0, "m1.tiny")
        await clients.delete(created.id)
        number += 1
    return number


@pytest.mark.parametrize("hosts", [2])
@pytest.mark.gen_test(timeout=120)
async def test_a_rolling_restart_loses_no_request_and_no_event(launcher, environ, sim, database, tmp_path):
    replicas, logs = [], iter(tmp_path / f"log{number}" for number in range(100))

    def start():
        replicas.append(launcher.start(environ, next(logs), TIMING))
        return replicas[-1]

    await asyncio.gather(start().ready(), start().ready())
    restarted, clients = asyncio.Event(), Clients(replicas)
    watchers = [Watcher(replicas, number) for number in range(2)]
    watching = [asyncio.create_task(watcher.run()) for watcher in watchers]
    asking = [asyncio.create_task(ask_on(clients, f"client-{number}", restarted)) for number in range(4)]
    try:
        for statement in NEXT_RELEASE:
            database.rows(statement)
        for _ in range(2 * ROUNDS):
            old = replicas[0]
            await start().ready()
            old.send_signal(signal.SIGTERM)
            await old.end()
            replicas.remove(old)
            assert "Traceback" not in old.text()
        restarted.set()
        made = sum(await asyncio.gather(*asking))
        await invariants.all_settled(database, sim)
        invariants.check(database, sim)
        assert made == database.rows("SELECT count(*) AS number FROM vm")[0]["number"], "one VM for each key"
        for watcher in watchers:
            await watcher.caught_up(database)
            assert (watcher.lost, watcher.doubled) == (0, 0)
        assert sum(watcher.reconnects for watcher in watchers) >= ROUNDS
    finally:
        for task in (*watching, *asking):
            task.cancel()
        await asyncio.gather(*watching, *asking, return_exceptions=True)
        for replica in replicas:
            await replica.clean_up()
