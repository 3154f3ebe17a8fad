"""The migrated schema is what the models say."""

import os
import subprocess
import sys
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import psycopg2
import pytest
from peewee import BigAutoField, BigIntegerField, BooleanField, ForeignKeyField, IntegerField, TextField
from playhouse.migrations import Runner
from playhouse.postgres_ext import BinaryJSONField, DateTimeTZField

from tests.conftest import Database
from vmsvc import bootstrap
from vmsvc.store import db, models, preflight, schema, vms
from vmsvc.store.models import MODELS
from vmsvc.store.vm_cache import VmCache, VmRow

MIGRATIONS = Path(db.__file__).parent / "migrations"
TYPES = {
    BigAutoField: "bigint",
    BigIntegerField: "bigint",
    BooleanField: "boolean",
    IntegerField: "integer",
    TextField: "text",
    BinaryJSONField: "jsonb",
    DateTimeTZField: "timestamp with time zone",
}


def type_of(field):
    """What PostgreSQL calls the type of a column."""
    return next((name for kind, name in TYPES.items() if isinstance(field, kind)), "integer")


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__.lower())
def test_the_columns_are_those_of_the_model(store, model):
    table = model._meta.table_name  # pylint: disable=protected-access
    columns = {
        row["column_name"]: (row["data_type"], row["is_nullable"] == "YES")
        for row in store.rows(
            "SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_name = %s", table
        )
    }
    fields = model._meta.sorted_fields  # pylint: disable=protected-access
    assert not any(isinstance(field, ForeignKeyField) for field in fields)
    assert columns == {field.column_name: (type_of(field), field.null) for field in fields}


def test_a_migrated_schema_is_found_to_be_what_the_models_say(store):
    pool = models.database.obj
    with pool.connection_context():
        schema.locate(pool)
    with db.reading():
        assert not list(schema.differences(pool))
    partial = {name for model in MODELS for name, index in schema.wanted_indexes(model) if index.partial}
    assert partial == {
        row["name"]
        for row in store.rows(
            "SELECT indexrelid::regclass::text AS name FROM pg_index WHERE indpred IS NOT NULL "
            "AND indrelid::regclass::text NOT LIKE 'pg_%%'"
        )
    }


#: What may have been done to a database, and how a start names it.
DAMAGES = {
    "DROP TABLE cooldown": "the table cooldown is missing",
    "ALTER TABLE vm DROP COLUMN avoid": "vm.avoid is missing",
    "ALTER TABLE vm ALTER priority TYPE text": "vm.priority is text, not integer",
    "ALTER TABLE event ALTER seq TYPE integer": "event.seq is integer, not bigint",
    "ALTER TABLE vm ALTER name DROP NOT NULL": "vm.name may be null",
    "ALTER TABLE vm ALTER network SET NOT NULL": "vm.network may not be null",
    "ALTER TABLE vm ADD COLUMN colour text NOT NULL": "vm.colour is not ours, and has no default",
    "ALTER TABLE event ALTER seq DROP DEFAULT": "event.seq is not numbered by itself",
    "DROP INDEX intent_open": "the unique index on intent (vm_id, kind) for a part of the rows is missing",
    "DROP INDEX vm_cloud_id; CREATE INDEX vm_cloud_id ON vm (cloud_id)": "the unique index on vm (cloud_id) is missing",
    "DROP INDEX event_subject_seq": "the index on event (subject, seq) is missing",
    "ALTER TABLE event DROP CONSTRAINT event_pkey": "the unique index on event (seq) is missing",
    "DROP TRIGGER vm_changed ON vm": "the trigger vm_changed on vm is missing or disabled",
    "ALTER TABLE vm DISABLE TRIGGER vm_changed": "the trigger vm_changed on vm is missing or disabled",
}


@pytest.fixture(name="damaged", scope="module")
def fixture_damaged(postgres):
    """A migrated database to be damaged, and mended by whoever damages it."""
    postgres.command("CREATE DATABASE damaged")
    url = postgres.url.replace("/postgres?", "/damaged?")
    bootstrap.migrate(url)
    yield Database(url)
    postgres.command("DROP DATABASE damaged WITH (FORCE)")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_schema_that_is_not_the_release_s_is_reported_by_name(damaged, damage):
    pool = db.open_database(damaged.url, 1)
    try:
        with pool.connection_context():
            schema.locate(pool)
        with db.unit():
            models.database.execute_sql(damage)
            assert [difference.words for difference in schema.differences(pool)] == [DAMAGES[damage]]
            raise _Undo
    except _Undo:
        with db.reading():
            assert not list(schema.differences(pool))
    finally:
        pool.close_all()


class _Undo(Exception):
    """Rolls a damage back."""


@pytest.mark.parametrize(
    "addition",
    [
        "ALTER TABLE vm ADD COLUMN colour text",
        "ALTER TABLE vm ADD COLUMN colour text NOT NULL DEFAULT 'red'",
        "CREATE TABLE colour (id text)",
        "CREATE INDEX vm_image ON vm (image)",
    ],
)
def test_what_a_newer_release_has_added_is_no_difference(damaged, addition):
    pool = db.open_database(damaged.url, 1)
    try:
        with suppress(_Undo), db.unit():
            models.database.execute_sql(addition)
            assert not list(schema.differences(pool))
            raise _Undo
    finally:
        pool.close_all()


def test_a_database_of_any_earlier_release_is_no_trouble(postgres):
    postgres.command("CREATE DATABASE earlier")
    try:
        url = postgres.url.replace("/postgres?", "/earlier?")
        pool = db.open_database(url, 1)
        for file in sorted(MIGRATIONS.glob("0*.py")):
            with pool.connection_context():
                Runner(pool, directory=str(MIGRATIONS)).up(file.stem)
            assert preflight.examine(url).refusal is None, file.stem
            models.database.initialize(pool)
        pool.close_all()
    finally:
        postgres.command("DROP DATABASE earlier WITH (FORCE)")


def development(postgres, name):
    """A database that a development version made: its first migration had no cooldowns, and two are missing."""
    postgres.command(f"CREATE DATABASE {name}")
    made = Database(postgres.url.replace("/postgres?", f"/{name}?"))
    pool = db.open_database(made.url, 1)
    with pool.connection_context():
        Runner(pool, directory=str(MIGRATIONS)).up("0002_untold")
    pool.close_all()
    made.rows("DROP TABLE cooldown")
    return made


def test_data_of_a_development_version_are_refused_before_anything_is_changed(postgres):
    made = development(postgres, "development")
    try:
        known = preflight.examine(made.url)
        assert "the table cooldown is missing. " in known.refusal, "what will be mended, vm.changed say, is no trouble"
        assert known.pending[0] == "0003_vm_changed"
        with pytest.raises(schema.Unfit, match="table cooldown is missing.*runbook"):
            bootstrap.migrate(made.url)
        pool = db.open_database(made.url, 1)
        try:
            with pytest.raises(schema.Unfit, match="table cooldown is missing"):
                schema.migrate(pool)
        finally:
            pool.close_all()
        assert [row["name"] for row in made.rows("SELECT name FROM schema_migration ORDER BY id")] == [
            "0001_initial",
            "0002_untold",
        ]
    finally:
        postgres.command("DROP DATABASE development WITH (FORCE)")


def test_who_waits_for_another_s_migrations_says_so_and_not_for_ever(postgres, caplog, threads):
    caplog.set_level("INFO", "vmsvc")
    postgres.command("CREATE DATABASE waited")
    url = postgres.url.replace("/postgres?", "/waited?")
    pool = db.open_database(url, 2)
    try:
        with closing(psycopg2.connect(url, application_name="the-other")) as other, other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s, %s)", (db.LOCK_SPACE, db.Lock.MIGRATE))
            with pytest.raises(schema.Unfit, match="the-other"):
                schema.migrate(pool, 0.6)
            assert "another process brings the schema up to date (process" in caplog.text
            waiting = threads.submit(schema.migrate, pool, 20)
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", (db.LOCK_SPACE, db.Lock.MIGRATE))
            assert len(waiting.result(20)) == len(list(MIGRATIONS.glob("0*.py")))
    finally:
        pool.close_all()
        postgres.command("DROP DATABASE waited WITH (FORCE)")


@pytest.mark.parametrize(
    "table, columns",
    [("vm", "cloud_id"), ("idempotency", "principal, key"), ("intent", "vm_id, kind"), ("reservation", "vm_id")],
)
def test_what_must_be_there_once_is_unique(store, table, columns):
    found = store.rows(
        "SELECT indexdef FROM pg_indexes WHERE tablename = %s AND indexdef LIKE %s",
        table,
        f"CREATE UNIQUE INDEX%({columns})%",
    )
    assert found


def test_a_database_that_is_up_to_date_is_left_alone(store):
    before = store.rows("SELECT * FROM information_schema.columns WHERE table_schema = 'public'")
    assert not bootstrap.migrate(store.url)
    assert store.rows("SELECT * FROM information_schema.columns WHERE table_schema = 'public'") == before


def test_processes_that_migrate_a_new_database_at_once_do_it_once(postgres):
    postgres.command("CREATE DATABASE brand_new")
    try:
        environ = {**os.environ, "VMSVC_DATABASE_URL": postgres.url.replace("/postgres?", "/brand_new?")}
        with ExitStack() as stack:
            processes = [
                stack.enter_context(
                    subprocess.Popen(
                        [sys.executable, "-m", "vmsvc", "migrate"], env=environ, stdout=subprocess.PIPE, text=True
                    )
                )
                for _ in range(3)
            ]
            said = sorted(process.communicate(timeout=30)[0].strip() for process in processes)
        names = sorted(path.stem for path in MIGRATIONS.glob("0*.py"))
        assert said == [f"applied: {', '.join(names)}", "the schema is up to date", "the schema is up to date"]
        assert [process.returncode for process in processes] == [0, 0, 0]
    finally:
        postgres.command("DROP DATABASE brand_new WITH (FORCE)")


def test_a_migration_and_a_transaction_of_the_release_before_do_not_wait_for_each_other(postgres, threads):
    """The transaction comes to the tables in the order of a create: its key, the VM, its event."""
    postgres.command("CREATE DATABASE published")
    try:
        old = Database(postgres.url.replace("/postgres?", "/published?"))
        pool = db.open_database(old.url, 4)
        with pool.connection_context():
            Runner(pool, directory=str(MIGRATIONS)).up("0005_exempt")
        pool.close_all()
        with closing(psycopg2.connect(old.url)) as connection, connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO idempotency (principal, key, body_hash, vm_id, created_at) "
                "VALUES ('a', 'b', 'c', 'd', now())"
            )
            migrating = threads.submit(bootstrap.migrate, old.url)
            while not old.rows(
                "SELECT 1 AS waits FROM pg_locks JOIN pg_database ON pg_database.oid = database "
                "WHERE datname = 'published' AND NOT granted"
            ):
                assert not migrating.done(), migrating.result()
                time.sleep(0.02)
            cursor.execute(
                "UPDATE vm SET priority = 1; SELECT max(seq) FROM event; INSERT INTO event (type, state, "
                "vm_id, subject, is_preemptible, time, data) VALUES ('a', 'b', 'c', 'd', true, now(), '{}')"
            )
            connection.commit()
        assert migrating.result(20)[0] == "0006_identity"
    finally:
        postgres.command("DROP DATABASE published WITH (FORCE)")


def test_a_release_that_knows_nothing_of_a_new_column_goes_on_beside_one_that_does(postgres):
    """Its rows from before and those that it writes from now on are all seen."""
    postgres.command("CREATE DATABASE published")
    try:
        old = Database(postgres.url.replace("/postgres?", "/published?"))
        pool = db.open_database(old.url, 4)
        with pool.connection_context():
            Runner(pool, directory=str(MIGRATIONS)).up("0002_untold")
        insert = """INSERT INTO vm (id, name, is_preemptible, state, priority, min_run_seconds, principal, flavor,
                    image, boot, quota, room, avoid, rounds, created_at, updated_at)
                    VALUES (%s, 'any', true, 'pending', 0, 0, 'anonymous', 'm1.tiny',
                    'bed-image', '{}', '{}', '{}', '[]', 0, now(), now())"""
        old.rows(insert, "before")
        assert bootstrap.migrate(old.url)[0] == "0003_vm_changed"
        rows = VmCache(VmRow)
        with db.reading():
            assert rows.update(vms.clock()) == {"before"}
        old.rows(insert, "after")
        with db.reading():
            assert rows.update(vms.clock()) == {"after"}
        old.rows("UPDATE vm SET priority = 7 WHERE id = 'before'")
        with db.reading():
            assert rows.update(vms.clock()) == {"before"}
        pool.close_all()
    finally:
        postgres.command("DROP DATABASE published WITH (FORCE)")
