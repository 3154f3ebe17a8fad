"""The connections to the database, and the settings that each transaction brings along."""

import contextlib
import functools
import heapq
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import psycopg2
from peewee import DatabaseError, OperationalError, Psycopg2Adapter
from playhouse.pool import PooledPostgresqlDatabase
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, connection

from vmsvc.store.address import Address

#: What a transaction must not take from the defaults of a database, a role or a pooler's connection. Milliseconds are
#: normal, so nothing waits for a lock for longer than this, nor runs longer. What is committed has to be on the disk,
#: and on the standby's where there is a synchronous one. psycopg2 reads dates and intervals in these styles alone.
_SETTINGS = {
    "lock_timeout": "10000",
    "statement_timeout": "20000",
    "idle_in_transaction_session_timeout": "30000",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
}
#: Seconds that open connections get to finish when the pool closes.
_CLOSE_SECONDS = 1.0
#: The first release that has `transaction_timeout`.
_SEVENTEEN = 170000


class _Adapter(Psycopg2Adapter):
    """Connects by an `Address`. Peewee's own adapter knows one of libpq's schemes, and neither several hosts nor
    keywords."""

    def connect(self, db: "Pool", **params: Any) -> connection:
        """A new connection."""
        return db.address.connect("vmsvc")


class Pool(PooledPostgresqlDatabase):
    """Peewee's pool for an `Address`; each transaction names the schema that has our tables, once that is known."""

    psycopg2_adapter = _Adapter
    _adapter: _Adapter

    def __init__(self, address: Address, **kwargs: Any):
        super().__init__("vmsvc", **kwargs)
        self.address = address
        self._own = tuple(address.session.items())
        self._schema: str | None = None

    @property
    def schema(self) -> str | None:
        """The schema that has our tables, None while that is not known."""
        return self._schema

    def use_schema(self, name: str | None) -> None:
        """From now on each transaction names this schema (see `store.schema.locate`)."""
        self._schema = name

    @property
    def settings(self) -> str:
        """The statements by which a transaction gets its settings: they come with its first message and end with it.
        Settings of the session would leak: behind a pooler the next client gets the same session."""
        return _settings(self._schema, (self.server_version or 0) >= _SEVENTEEN, self._own)

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """Run a statement. By itself, outside a transaction, it brings its own settings along in the same message, and
        they hold for it alone."""
        if not self.in_transaction():
            sql = f"SET TRANSACTION ISOLATION LEVEL READ COMMITTED; {self.settings}; {sql}"
        with _silence_in_words():
            return super().execute_sql(sql, params)

    def commit(self) -> Any:
        """End the transaction. Raises OperationalError when PostgreSQL does not answer: it may be committed."""
        with _silence_in_words():
            return super().commit()

    def connect(self, reuse_if_open: bool = False) -> bool:
        """Open a connection for this thread on which PostgreSQL answers. Peewee makes and checks connections under the
        pool's lock, so that with a host that has silently gone all threads would wait for one time limit after the
        other. Here both are done outside of the lock."""
        while True:
            if self.is_closed() and not self._has_idle():
                fresh = self._adapter.connect(self)
                fresh.autocommit = True
                with self._pool_lock:
                    self._heap_counter += 1
                    heapq.heappush(self._connections, (time.time(), self._heap_counter, fresh))
            opened = super().connect(reuse_if_open)
            if not opened or self._answers():
                return bool(opened)
            self.manual_close()
            self.close_idle()  # what ended this connection has mostly ended the others too

    def _answers(self) -> bool:
        """True when this thread's connection can be used: the server may have ended it while it was idle."""
        with contextlib.suppress(psycopg2.Error), self.connection().cursor() as cursor:
            cursor.execute("SELECT 1")
            return True
        return False

    def close_all(self) -> None:
        """Close all connections. Connections that other threads still use are cut after a moment, so that these threads
        end their waiting. Peewee would wait for the threads, for ever where a server does not answer."""
        self.close()
        deadline = time.monotonic() + _CLOSE_SECONDS
        while self._in_use and time.monotonic() < deadline:
            time.sleep(0.01)
        with self._pool_lock:
            self.close_idle()
            for entry in self._in_use.values():
                with (
                    contextlib.suppress(OSError, psycopg2.InterfaceError),
                    socket.socket(fileno=os.dup(entry.connection.fileno())) as wire,
                ):
                    wire.shutdown(socket.SHUT_RDWR)

    def _has_idle(self) -> bool:
        with self._pool_lock:
            return bool(self._connections)

    def _is_closed(self, conn: connection) -> bool:
        # Peewee's own method asks PostgreSQL while it holds the pool's lock.
        return bool(conn.closed) or conn.info.transaction_status != TRANSACTION_STATUS_IDLE

    def _can_reuse(self, conn: connection) -> bool:
        # A pooler's session on which a client has listened brings notifications; the pool drops them.
        conn.notifies.clear()
        return bool(super()._can_reuse(conn))


@contextlib.contextmanager
def _silence_in_words() -> Iterator[None]:
    """Raise OperationalError when PostgreSQL has not answered at all. When a server ends in the middle of a statement,
    psycopg2 may raise a bare DatabaseError without a SQLSTATE ("server closed the connection unexpectedly")."""
    try:
        yield
    except DatabaseError as error:
        original = error.args[0] if error.args else None
        if error.__class__ is DatabaseError and getattr(original, "pgcode", None) is None:
            raise OperationalError(*error.args) from error
        raise


@functools.cache
def _settings(schema: str | None, has_transaction_timeout: bool, own: tuple[tuple[str, str], ...]) -> str:
    parts = (
        [f"SELECT {', '.join(f'set_config({literal(name)}, {literal(value)}, true)' for name, value in own)}"]
        if own
        else []
    )
    settings = {**_SETTINGS, "transaction_timeout": "0"} if has_transaction_timeout else _SETTINGS
    parts += [f"SET LOCAL {name} = '{value}'" for name, value in settings.items()]
    if schema:  # pg_temp is searched first unless it is named
        parts.append(f"SET LOCAL search_path = {literal(schema)}, pg_temp")
    return "; ".join(parts)


def literal(text: str) -> str:
    """A text as SQL writes it, whatever `standard_conforming_strings` is, without a percent sign (psycopg2's)."""
    escaped = text.replace("\\", "\\\\").replace("'", "''").replace("%", "\\x25")
    return f"E'{escaped}'"
