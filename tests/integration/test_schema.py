"""The migrated schema is what the models say."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from peewee import (BigAutoField, BigIntegerField, BooleanField, ForeignKeyField, IntegerField, TextField)
from playhouse.migrations import Runner
from playhouse.postgres_ext import BinaryJSONField, DateTimeTZField

from tests.conftest import Database
from vmsvc import bootstrap
from vmsvc.store import db, vms
from vmsvc.store.models import MODELS
from vmsvc.store.rows import Rows

MIGRATIONS = Path(db.__file__).parent / "migrations"
TYPES = {BigAutoField: "bigint", BigIntegerField: "bigint", BooleanField: "boolean", IntegerField: "integer",
         TextField: "text", BinaryJSONField: "jsonb", DateTimeTZField: "timestamp with time zone"}


def type_of(field):
    """What PostgreSQL calls the type of a column."""
    return next((name for kind, name in TYPES.items() if isinstance(field, kind)), "integer")


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__.lower())
def test_the_columns_are_those_of_the_model(store, model):
    table = model._meta.table_name    # pylint: disable=protected-access
    columns = {row["column_name"]: (row["data_type"], row["is_nullable"] == "YES") for row in store.rows(
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_name = %s", table)}
    fields = model._meta.sorted_fields    # pylint: disable=protected-access
    assert not any(isinstance(field, ForeignKeyField) for field in fields)
    assert columns == {field.column_name: (type_of(field), field.null) for field in fields}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__.lower())
def test_every_index_of_the_model_is_there(store, model):
    meta = model._meta    # pylint: disable=protected-access
    first = [set(row["columns"].split()) for row in store.rows("""
        SELECT string_agg(attribute.attname, ' ' ORDER BY attribute.attnum) AS columns FROM pg_index
        JOIN pg_attribute attribute ON attrelid = indrelid AND attnum = ANY (indkey)
        WHERE indrelid = %s::regclass GROUP BY indexrelid""", meta.table_name)]
    wanted = [{field.column_name} for field in meta.sorted_fields if field.index or field.unique]
    wanted += [set(columns) for columns, _ in meta.indexes]
    assert [columns for columns in wanted if columns not in first] == []


@pytest.mark.parametrize("table, columns", [("vm", "cloud_id"), ("idempotency", "principal, key"),
                                            ("intent", "vm_id, kind"), ("reservation", "vm_id")])
def test_what_must_be_there_once_is_unique(store, table, columns):
    found = store.rows("SELECT indexdef FROM pg_indexes WHERE tablename = %s AND indexdef LIKE %s", table,
                       f"CREATE UNIQUE INDEX%({columns})%")
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
            processes = [stack.enter_context(subprocess.Popen([sys.executable, "-m", "vmsvc", "migrate"], env=environ,
                                                              stdout=subprocess.PIPE, text=True)) for _ in range(3)]
            said = sorted(process.communicate(timeout=30)[0].strip() for process in processes)
        names = sorted(path.stem for path in MIGRATIONS.glob("0*.py"))
        assert said == [f"applied: {', '.join(names)}", "the schema is up to date", "the schema is up to date"]
        assert [process.returncode for process in processes] == [0, 0, 0]
    finally:
        postgres.command("DROP DATABASE brand_new WITH (FORCE)")


def test_a_release_that_knows_nothing_of_a_new_column_goes_on_beside_one_that_does(postgres):
    """Its rows from before and those that it writes from now on are all seen."""
    postgres.command("CREATE DATABASE published")
    try:
        old = Database(postgres.url.replace("/postgres?", "/published?"))
        pool = db.open_database(old.url, 4)
        with pool.connection_context():
            Runner(pool, directory=str(MIGRATIONS)).up("0002_untold")
        insert = """INSERT INTO vm (id, name, is_preemptible, state, priority, min_run_seconds, principal, flavor,
                    image, boot, quota, room, avoid, rounds, created_at, updated_at) VALUES (%s, 'any', true, 'pending', 0, 0,
                    'anonymous', 'm1.tiny', 'bed-image', '{}', '{}', '{}', '[]', 0, now(), now())"""
        old.rows(insert, "before")
        assert bootstrap.migrate(old.url) == ["0003_vm_changed"]
        rows = Rows()
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
