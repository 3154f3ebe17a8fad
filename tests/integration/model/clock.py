"""The database's clock in the hands of the test: PostgreSQL finds our `clock_timestamp()` before its own."""

from datetime import UTC, datetime, timedelta

import psycopg2
from psycopg2.extras import RealDictCursor

_START = datetime(2030, 1, 1, tzinfo=UTC)
_TABLES = (
    "intent",
    "reservation",
    "eviction",
    "idempotency",
    "event",
    "cooldown",
    "request_class",
    "evidence",
    "vm",
    "lineage",
)
_SETUP = """
CREATE SCHEMA model;
CREATE TABLE model.clock (at timestamptz);
INSERT INTO model.clock VALUES (now());
CREATE FUNCTION model.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT at FROM model.clock';
"""


class Clock:
    """The clock, and a connection for looking at the database from outside."""

    def __init__(self, database):
        self._database = database
        database.rows(_SETUP)
        name = database.rows("SELECT current_database() AS name")[0]["name"]
        database.command(f"ALTER DATABASE {name} SET search_path = model, pg_catalog, public")
        self._connection = psycopg2.connect(database.url, cursor_factory=RealDictCursor)
        self._connection.autocommit = True
        self.now = _START

    def rows(self, query: str, *values: object) -> list[dict]:
        """The rows of a query."""
        with self._connection.cursor() as cursor:
            cursor.execute(query, values or None)
            return [dict(row) for row in cursor.fetchall()] if cursor.description else []

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.now += timedelta(seconds=seconds)
        self.rows("UPDATE model.clock SET at = %s", self.now)

    def begin(self) -> None:
        """An empty database at the beginning of time."""
        # Not DELETE: where rows lie decides their order where a query asks for none, and a story must repeat.
        self.rows(f"TRUNCATE {', '.join(_TABLES)} RESTART IDENTITY")
        self.now = _START
        self.advance(0)

    def close(self) -> None:
        """Give PostgreSQL its own clock back."""
        self._connection.close()
        self._database.command("DROP SCHEMA model CASCADE")
