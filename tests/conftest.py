"""What tests of several kinds share: one embedded PostgreSQL for the whole run, a fresh database for each test."""

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extras import RealDictCursor

from tests.order import (  # noqa: F401  pylint: disable=unused-import; pytest looks for hooks here
    pytest_collection_modifyitems,
    pytest_xdist_make_scheduler,
)
from tests.system import warm_start
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


def pytest_unconfigure():
    """Nothing is left of the processes that start services."""
    warm_start.end()


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
            return _rows(connection, query, values)

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


class KeptDatabase(Database):
    """One that keeps its connection from query to query: a new one costs the server as much as ten queries, and a test
    that waits asks fifty times a second."""

    def __init__(self, url: str):
        super().__init__(url)
        self._kept = None
        self._busy = threading.Lock()

    def rows(self, query: str, *values: object) -> list[dict]:
        # Not `with`: a thread that would have to wait takes a connection of its own.
        if not self._busy.acquire(blocking=False):  # pylint: disable=consider-using-with
            return super().rows(query, *values)
        try:
            while True:
                is_new = self._kept is None
                if is_new:
                    self._kept = psycopg2.connect(self.url, cursor_factory=RealDictCursor)
                try:
                    return _rows(self._kept, query, values)
                except psycopg2.Error:
                    if not self._kept.closed:
                        raise
                    self._kept = None
                    if is_new:
                        raise
        finally:
            self._busy.release()

    def command(self, statement: str) -> None:
        super().command(statement)
        self.close()  # it may have been a setting of the database: those hold for new connections

    def close(self) -> None:
        """Give the connection back; the next query takes a new one."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None


def _rows(connection, query: str, values: tuple) -> list[dict]:
    with connection, connection.cursor() as cursor:
        cursor.execute(query, values or None)
        return [dict(row) for row in cursor.fetchall()] if cursor.description else []


#: A table larger than this is truncated with all others. Many small ones are deleted from in a tenth of that time.
_LARGE = 1_000_000


def _empty(database: Database) -> None:
    """Leave the database as a migration leaves a new one."""
    tables = database.rows(
        "SELECT tablename AS name, pg_relation_size(tablename::regclass) AS size FROM pg_tables "
        "WHERE schemaname = 'public' AND tablename <> %s",
        _HISTORY,
    )
    if any(table["size"] > _LARGE for table in tables):
        database.rows(f"TRUNCATE {', '.join(table['name'] for table in tables)} RESTART IDENTITY")
    else:
        deletes = "; ".join(f"DELETE FROM {table['name']}" for table in tables)
        # No foreign key is checked: all rows go.
        database.rows(
            f"SET LOCAL session_replication_role = replica; {deletes}; "
            "SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false) FROM pg_sequences"
        )
    database.rows("INSERT INTO watermark (id, removed_seq) VALUES (1, 0)")


@pytest.fixture(name="database")
def fixture_database(postgres):
    """A migrated, empty database. (Emptying one takes a tenth of the time that making one does.)"""
    database = KeptDatabase(postgres.url.replace("/postgres?", "/test?"))
    database.rows(
        "ALTER DATABASE test RESET ALL; SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    database.close()  # settings of the database hold for new connections
    _empty(database)
    yield database
    database.close()
