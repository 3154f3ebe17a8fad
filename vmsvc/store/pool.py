"""The connections to the database, and the settings that each transaction brings along."""

import contextlib
import functools
import heapq
import os
import select
import socket
import time
from typing import Any

from peewee import DatabaseError, OperationalError, Psycopg2Adapter
from playhouse.pool import PooledPostgresqlDatabase
from psycopg2 import InterfaceError
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, connection

from vmsvc.store.address import Address

#: What a transaction must not take from the defaults of a database, a role or a pooler's connection. Milliseconds are
#: normal, so nothing waits for a lock for longer than this, nor runs longer. What is committed has to be on the disk,
#: and on the standby's where there is a synchronous one. psycopg2 reads dates and intervals in these styles alone.
_SETTINGS = {"lock_timeout": "10000", "statement_timeout": "20000", "idle_in_transaction_session_timeout": "30000",
             "synchronous_commit": "on", "timezone": "UTC", "datestyle": "ISO", "intervalstyle": "postgres",
             "extra_float_digits": "1"}
#: Seconds that open connections get to finish when the pool closes.
_CLOSE_SECONDS = 1.0
#: The first release that has `transaction_timeout`.
_SEVENTEEN = 170000


class _Adapter(Psycopg2Adapter):
    """Peewee's own knows one of libpq's schemes, and neither several hosts nor keywords."""

    def connect(self, db: "Pool", **params: Any) -> connection:
        """A new connection."""
        return db.address.connect("vmsvc")


class Pool(PooledPostgresqlDatabase):
    """`schema` is where our tables are, once that is known (`store.schema.locate`)."""

    psycopg2_adapter = _Adapter

    def __init__(self, address: Address, **kwargs: Any):
        super().__init__("vmsvc", **kwargs)
        self.address = address
        self._own = tuple(address.session.items())
        self.schema: str | None = None

    @property
    def settings(self) -> str:
        """The statements by which a transaction gets its settings: they come with its first message and end with it.
        Settings of the session would leak: behind a pooler the next client gets the same session."""
        return _settings(self.schema, (self.server_version or 0) >= _SEVENTEEN, self._own)

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """Run a statement. By itself, outside a transaction, it brings its own settings along in the same message, and
        they hold for it alone."""
        if not self.in_transaction():
            sql = f"SET TRANSACTION ISOLATION LEVEL READ COMMITTED; {self.settings}; {sql}"
        try:
            return super().execute_sql(sql, params)
        except DatabaseError as error:
            if _is_silence(error):
                raise OperationalError(*error.args) from error
            raise

    def commit(self) -> Any:
        """End the transaction. Raises OperationalError when PostgreSQL does not answer: it may be committed."""
        try:
            return super().commit()
        except DatabaseError as error:
            if _is_silence(error):
                raise OperationalError(*error.args) from error
            raise

    def connect(self, reuse_if_open: bool = False) -> bool:
        """A connection for this thread. Peewee makes a new one while all others wait for the pool, so that a host that
        has gone without a word costs them one time limit after the other. Ours is made beforehand, without a lock."""
        if self.is_closed() and not self._has_idle():
            fresh = self._adapter.connect(self)
            fresh.autocommit = True
            with self._pool_lock:
                self._heap_counter += 1
                heapq.heappush(self._connections, (time.time(), self._heap_counter, fresh))
        return super().connect(reuse_if_open)

    def close_all(self) -> None:
        """Close all connections. Those that other threads use still are cut after a moment, which ends what they wait
        for; Peewee would wait for it, for ever where a server says nothing."""
        self.close()
        deadline = time.monotonic() + _CLOSE_SECONDS
        while self._in_use and time.monotonic() < deadline:
            time.sleep(0.01)
        with self._pool_lock:
            self.close_idle()
            for entry in self._in_use.values():
                with contextlib.suppress(OSError, InterfaceError), \
                        socket.socket(fileno=os.dup(entry.connection.fileno())) as wire:
                    wire.shutdown(socket.SHUT_RDWR)

    def _has_idle(self) -> bool:
        """Whether there is an idle connection; broken ones are dropped."""
        with self._pool_lock:
            good = [entry for entry in self._connections if not self._is_closed(entry[2])]
            if len(good) < len(self._connections):
                heapq.heapify(good)
                self._connections = good
            return bool(good)

    def _is_closed(self, conn: connection) -> bool:
        """Whether this idle connection is of no use. Peewee asks PostgreSQL each time, while all other threads wait
        for the pool: a third of all messages of a create. A server that has closed it, or died, has told the kernel so:
        nothing else makes an idle connection readable."""
        if conn.closed or conn.info.transaction_status != TRANSACTION_STATUS_IDLE:
            return True
        looks = select.poll()
        looks.register(conn.fileno(), select.POLLIN)
        return bool(looks.poll(0))

    def _can_reuse(self, conn: connection) -> bool:
        # A pooler's connection on which somebody has listened brings notifications, which nobody reads here.
        conn.notifies.clear()
        return super()._can_reuse(conn)


def _is_silence(error: DatabaseError) -> bool:
    """True when PostgreSQL has not answered at all. A server that ends in the middle of a statement can leave psycopg2
    with an error of no kind and without a SQLSTATE ("server closed the connection unexpectedly")."""
    original = error.args[0] if error.args else None
    return error.__class__ is DatabaseError and getattr(original, "pgcode", None) is None


@functools.cache
def _settings(schema: str | None, has_transaction_timeout: bool, own: tuple[tuple[str, str], ...]) -> str:
    parts = [f"SELECT {', '.join(f'set_config({literal(name)}, {literal(value)}, true)' for name, value in own)}"] \
        if own else []
    settings = {**_SETTINGS, "transaction_timeout": "0"} if has_transaction_timeout else _SETTINGS
    parts += [f"SET LOCAL {name} = '{value}'" for name, value in settings.items()]
    if schema:      # pg_temp is searched first unless it is named
        parts.append(f"SET LOCAL search_path = {literal(schema)}, pg_temp")
    return "; ".join(parts)


def literal(text: str) -> str:
    """A text as SQL writes it, whatever `standard_conforming_strings` is, without a percent sign (psycopg2's)."""
    escaped = text.replace("\\", "\\\\").replace("'", "''").replace("%", "\\x25")
    return f"E'{escaped}'"
