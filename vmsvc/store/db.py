"""The database: `unit()`, the only way to change it; `Unit.commit`, which numbers events; `Lock`, the advisory locks.

Peewee is synchronous: everything in this package runs in the database pool of `service.runtime`, never on the loop.
"""

import contextlib
import contextvars
import datetime
import enum
import json
import logging
import select
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg2
import psycopg2.extensions
from peewee import InterfaceError, InternalError, OperationalError

from vmsvc.store import models, queries
from vmsvc.store.address import parse_url
from vmsvc.store.pool import Pool
from vmsvc.store.queries import LOCK_SPACE

log = logging.getLogger(__name__)

#: The channel of NOTIFY, which says that something was committed.
CHANNEL = "vmsvc"
#: The payload when no intent was written: workers are not woken by it. Any other payload wakes every loop.
NO_INTENTS = "news"
#: Prefix of the payloads with which a replica tests whether notifications reach it; other replicas ignore them.
TEST_PREFIX = "test "
#: Seconds within which such a test notification has to arrive.
_HEARING_SECONDS = 2.0
#: The longest time in seconds for a statement that reads for display, of which there may be much.
SHOW_SECONDS = 5.0

Connection = psycopg2.extensions.connection

#: InternalError is what a server that takes no changes says (it is a standby, or was told to be read-only).
DATABASE_ERRORS = (
    OperationalError,
    InterfaceError,
    InternalError,
    psycopg2.OperationalError,
    psycopg2.InterfaceError,
    psycopg2.InternalError,
)


class Lock(enum.IntEnum):
    """Advisory locks, always taken in this order within one transaction."""

    MIGRATE = 1
    SCHEDULER = 2  # one transaction at a time decides who gets a notice, or reserves capacity
    OUTBOX = 3  # one writer of events at a time, to the end of its transaction
    WEBHOOKS = 4  # one new webhook at a time; it makes no event


@dataclass(frozen=True, slots=True)
class CommittedEvent:
    """An event that this process committed, for metrics. `cause` is why the VM is or was to be evicted (capacity,
    lifetime, simulated; None: it was not), `at` the database's clock when its transaction began."""

    type: str
    state: str
    is_preemptible: bool
    cause: str | None
    at: datetime.datetime
    data: Mapping[str, Any]


#: Functions that get each committed event, in the thread that committed it; `open_database` sets them for the process.
_observers: list[Callable[[CommittedEvent], None]] = []


def open_database(url: str, connections: int, committed: Callable[[CommittedEvent], None] | None = None) -> Pool:
    """The pool of connections, bound to the models. Nothing is connected yet. `committed` is called with each event
    that this process commits, in a thread of the database."""
    pool = Pool(parse_url(url), max_connections=connections, stale_timeout=300, timeout=10)
    models.database.initialize(pool)
    _observers[:] = [committed] if committed else []
    return pool


def deployment_id() -> str:
    """The id of this deployment, which its servers carry in the cloud; made at the first start and kept with the
    data."""
    with unit() as work:
        work.lock(Lock.SCHEDULER)
        row = models.Deployment.get_or_none()
        return (row or models.Deployment.create(id=uuid.uuid4().hex[:12], created_at=work.now)).id


class Unit:
    """One transaction: its changes and the events about them are committed together, or not at all."""

    def __init__(self, now: datetime.datetime):
        self.now = now  # the database's clock when the unit began
        self._events: list[dict[str, Any]] = []
        self._committed: list[CommittedEvent] = []
        self._notifies = False
        self._has_intents = False
        self._lines: list[tuple[contextvars.Context, str, tuple[object, ...], dict[str, object]]] = []

    def lock(self, lock: Lock) -> None:
        """Wait for an advisory lock and keep it to the end of the transaction."""
        models.database.execute_sql(queries.LOCK, {"space": LOCK_SPACE, "lock": lock})

    def emit(self, cause: str | None = None, **event: Any) -> None:
        """Add an event: `type`, `state`, `vm_id`, `subject`, `is_preemptible`, `data`."""
        self._events.append(event)
        self._notifies = True
        self._committed.append(
            CommittedEvent(event["type"], event["state"], event["is_preemptible"], cause, self.now, event["data"])
        )

    def log_on_commit(self, message: str, *args: object, **fields: object) -> None:
        """Write a line into the log once the unit has committed: a unit that fails has changed nothing. The line names
        the request for which the unit works at this call; a unit that decides about many works for one after the
        other. `fields`: for the line in JSON (`vmsvc.log.FIELDS`)."""
        self._lines.append((contextvars.copy_context(), message, args, fields))

    def notify(self, *, intents: bool = False) -> None:
        """Wake the loops of every replica when this is committed; the workers only if there are new `intents`."""
        self._notifies = True
        self._has_intents |= intents

    def commit(self) -> None:
        """Insert the events last, under the lock that orders them, and commit.

        A sequence gives numbers at insert and transactions commit in another order, so a reader that remembers the
        highest number would miss the late one. With the lock held from the first number to the commit it cannot.

        Lock, insert and commit are one message: while the lock is held PostgreSQL never waits for this process, which
        on a busy machine may take milliseconds to get a CPU.
        """
        message = []
        if self._notifies:
            message.append(f"NOTIFY {CHANNEL}" if self._has_intents else f"NOTIFY {CHANNEL}, '{NO_INTENTS}'")
        if self._events:
            message += [_lock_text(Lock.OUTBOX), queries.NUMBER_EVENTS, queries.WRITE_EVENTS]
        message.append("COMMIT")
        models.database.execute_sql("; ".join(message), _columns(self._events))

    def after_commit(self) -> None:
        """Write the log lines and call the observers, after the transaction has committed."""
        for context, message, args, fields in self._lines:
            context.run(log.info, message, *args, extra={"fields": fields})
        for event in self._committed:
            for observe in _observers:
                observe(event)


def _columns(events: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The values of `queries.WRITE_EVENTS`: a list for each column."""
    names = ("type", "state", "vm_id", "subject", "is_preemptible")
    return {
        **{name: [event[name] for event in events] for name in names},
        "data": [json.dumps(event["data"]) for event in events],
    }


def _lock_text(lock: Lock) -> str:
    return f"SELECT pg_advisory_xact_lock({LOCK_SPACE}, {lock:d})"


@contextlib.contextmanager
def unit(lock: Lock | None = None) -> Iterator[Unit]:
    """A transaction that may emit events, with `lock` from the beginning. No call to the cloud belongs inside one, and
    no other unit."""
    db = models.database
    if db.in_transaction():
        raise RuntimeError("a unit is a transaction of its own")
    with db.connection_context(), db.manual_commit():
        # Each message costs two processes a turn on a CPU: the first tells the time too, the last commits.
        first = f"{_lock_text(lock)}; " if lock else ""
        begin = f"BEGIN ISOLATION LEVEL READ COMMITTED; {db.settings}; {first}SELECT clock_timestamp()"
        work = Unit(db.execute_sql(begin).fetchone()[0])
        try:
            yield work
            work.commit()
        except BaseException:
            db.rollback()
            raise
    work.after_commit()


@contextlib.contextmanager
def reading(seconds: float | None = None) -> Iterator[None]:
    """One consistent view of the database for several reads, each limited to `seconds` (None: the usual limit)."""
    db = models.database
    limit = "" if seconds is None else f"; SET LOCAL statement_timeout = {1000 * seconds:.0f}"
    with db.connection_context(), db.manual_commit():
        try:
            db.execute_sql(f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {db.settings}{limit}")
            yield
        except BaseException:
            db.rollback()
            raise
        db.commit()


@contextlib.contextmanager
def connected() -> Iterator[None]:
    """A connection without a transaction, for a single statement that reads."""
    with models.database.connection_context():
        yield


class NotificationsLost(Exception):
    """Notifications do not reach the connection that listens."""


def listen(url: str) -> Connection:
    """Open a connection outside the pool that receives the channel's notifications; poll it when it is readable.

    Raises NotificationsLost when a test notification from the pool does not arrive on it: a pooler in transaction mode
    gives each transaction another session, or the URL names another database than the pool's.
    """
    connection = parse_url(url).connect("vmsvc-listen")
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")
            word = f"{TEST_PREFIX}{uuid.uuid4().hex}"
            with connected():
                models.database.execute_sql(f"NOTIFY {CHANNEL}, '{word}'")
            if not _arrives(connection, word):
                cursor.execute("UNLISTEN *")
                raise NotificationsLost("notifications do not arrive")
            # The test has shown that the session is ours alone, so a setting of the session reaches no other client.
            cursor.execute("SET idle_session_timeout = 0")
    except BaseException:
        connection.close()
        raise
    return connection


def _arrives(connection: Connection, word: str) -> bool:
    deadline = time.monotonic() + _HEARING_SECONDS
    while not any(notice.payload == word for notice in connection.notifies):
        if not select.select([connection], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
        connection.poll()
    connection.notifies[:] = [notice for notice in connection.notifies if notice.payload != word]
    return True


def changes() -> str:
    """A text that changes whenever a transaction that wrote anything ends: PostgreSQL's snapshot."""
    with connected():
        return str(models.database.execute_sql(queries.SNAPSHOT).fetchone()[0])
