"""The release before runs on the schema of this one, side by side with it: each migration only adds."""

import hashlib
import shutil
from pathlib import Path

import pytest
from playhouse.migrations import Runner

from tests.conftest import Database
from vmsvc.store import db

FOLDER = Path(db.__file__).parent / "migrations"
FILES = sorted(FOLDER.glob("0*.py"))

COLUMNS = """
SELECT table_name || '.' || column_name AS name, data_type, is_nullable = 'YES' AS optional,
       column_default IS NOT NULL OR is_identity = 'YES' AS filled
FROM information_schema.columns WHERE table_schema = 'public'
"""
UNIQUE = """
SELECT indrelid::regclass::text AS table, pg_get_indexdef(indexrelid) AS definition,
       array(SELECT indrelid::regclass || '.' || attname FROM pg_attribute
             WHERE attrelid = indrelid AND attnum = ANY(indkey)) AS columns
FROM pg_index WHERE indisunique AND indrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
"""


def schema(database):
    """Columns by name, and the unique indexes by their definition."""
    columns = {row["name"]: row for row in database.rows(COLUMNS)}
    unique = {row["definition"]: row for row in database.rows(UNIQUE)}
    return columns, unique


@pytest.fixture(name="empty")
def fixture_empty(postgres):
    """A database without a table."""
    postgres.command("CREATE DATABASE growing")
    yield Database(postgres.url.replace("/postgres?", "/growing?"))
    postgres.command("DROP DATABASE growing WITH (FORCE)")


def test_a_released_migration_is_never_edited():
    """Databases that have applied it would not get what is written into it later."""
    released = dict(reversed(line.split()) for line in (FOLDER / "released.sha256").read_text().splitlines())
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in FILES}
    for name, digest in released.items():
        assert found.get(name) == digest, (
            f"{name} was edited or removed. Undo that, and write what is to change into a new migration."
        )
    added = sorted(found.keys() - released.keys())
    assert not added, f"new: {added}. In {FOLDER}: sha256sum {' '.join(added)} >>released.sha256"
    numbers = [file.name.partition("_")[0] for file in FILES]
    assert len(set(numbers)) == len(numbers), "two migrations have one number"


def test_each_migration_only_adds_what_the_release_before_can_ignore(empty, tmp_path):
    pool = db.open_database(empty.url, 2)
    before = None
    for file in FILES:
        shutil.copy(file, tmp_path)
        with pool.connection_context():
            list(Runner(pool, directory=str(tmp_path)).up())
        columns, unique = schema(empty)
        if before is not None:
            _only_adds(file.stem, *before, columns, unique)
        before = columns, unique
    pool.close_all()


def _only_adds(migration, columns, unique, columns_after, unique_after):
    tables = {name.partition(".")[0] for name in columns}
    for name, column in columns.items():
        after = columns_after.get(name)
        assert after, f"{migration} takes {name} away"
        assert after["data_type"] == column["data_type"], f"{migration} changes the type of {name}"
        assert after["optional"] or not column["optional"], f"{migration} demands {name}"
    for name in columns_after.keys() - columns.keys():
        if name.partition(".")[0] in tables:
            assert columns_after[name]["optional"] or columns_after[name]["filled"], (
                f"{migration}: the release before writes no {name}"
            )
    for definition in unique_after.keys() - unique.keys():
        index = unique_after[definition]
        # The release before leaves a new column null, and PostgreSQL takes no two nulls for equal.
        left_null = any(column not in columns and columns_after[column]["optional"] for column in index["columns"])
        assert index["table"] not in tables or left_null, f"{migration}: the release before may not keep {definition}"
