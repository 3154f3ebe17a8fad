"""What tests of several kinds share: one embedded PostgreSQL for the whole run, a fresh database for each test."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extras import RealDictCursor

from vmsvc import bootstrap
from vmsvc.simulator.postgres import Postgres

_HISTORY = "schema_migration"  # what Peewee's runner remembers


def pytest_addoption(parser):
    """How long to look for interleavings that break a promise."""
    parser.addoption("--examples", type=int, help="random interleavings to try, other ones in each run")


def pytest_configure():
    """Without this, Tornado's first loop finds a loop that asyncio makes unasked, and puts it back when it ends. The
    next `asyncio.run` drops that loop unclosed, and some later test fails of it."""
    asyncio.set_event_loop(None)


def pytest_terminal_summary(terminalreporter):
    """How much the tests of random cases looked at, so that the log of a run shows it."""
    for report in terminalreporter.getreports("passed"):
        for name, what in report.user_properties:
            if name == "looked at":
                terminalreporter.write_line(f"looked at {what}")


class Database:
    """One database of the run's server, for looking at it from outside."""

    def __init__(self, url: str):
        self.url = url

    def rows(self, query: str, *values: object) -> list[dict]:
        """The rows of a query; what it changes is committed."""
        with closing(psycopg2.connect(self.url, cursor_factory=RealDictCursor)) as connection:
            with connection, connection.cursor() as cursor:
                cursor.execute(query, values or None)
                return [dict(row) for row in cursor.fetchall()] if cursor.description else []

    def command(self, statement: str) -> None:
        """A statement that no transaction may hold, such as CREATE DATABASE."""
        with closing(psycopg2.connect(self.url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)


@contextmanager
def server_with(name: str) -> Iterator[Database]:
    """A server of its own for as long as it is used, with a migrated database of this name."""
    with server_of(Path(tempfile.mkdtemp(prefix="vmsvc-")), name) as (_, maintenance):
        yield maintenance


@contextmanager
def server_of(folder: Path, name: str) -> Iterator[tuple[Postgres, Database]]:
    """The same in a folder, which is removed in the end; the server comes too, to be stopped and started."""
    server = Postgres(folder)
    try:
        maintenance = Database(server.start())
        # Nobody pulls the plug of a test run.
        maintenance.command("ALTER SYSTEM SET fsync = off")
        maintenance.rows("SELECT pg_reload_conf()")
        maintenance.command(f"CREATE DATABASE {name}")
        bootstrap.migrate(maintenance.url.replace("/postgres?", f"/{name}?"))
        yield server, maintenance
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture(name="postgres", scope="session")
def fixture_postgres():
    """The server, with a migrated database `test` that every test finds as new."""
    with server_with("test") as maintenance:
        yield maintenance


@pytest.fixture(name="database")
def fixture_database(postgres):
    """A migrated, empty database. (Emptying one takes a tenth of the time that making one does.)"""
    database = Database(postgres.url.replace("/postgres?", "/test?"))
    database.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    tables = ", ".join(
        row["tablename"]
        for row in database.rows(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> %s", _HISTORY
        )
    )
    database.rows("ALTER DATABASE test RESET ALL")
    database.rows(f"TRUNCATE {tables} RESTART IDENTITY; INSERT INTO watermark (id, removed_seq) VALUES (1, 0)")
    return database
