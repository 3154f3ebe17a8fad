"""The database: opening, and `unit()`, the only way to change anything.

Peewee is synchronous: everything in this package runs in the database pool of `service.runtime`, never on the loop.
"""

import contextlib
import contextvars
import datetime
import enum
import logging
import select
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg2
import psycopg2.extensions
from peewee import InterfaceError, InternalError, OperationalError, PostgresqlDatabase

from vmsvc.store import models
from vmsvc.store.address import parse
from vmsvc.store.pool import Pool
from vmsvc.store.statements import Statement, outbox_rows

log = logging.getLogger(__name__)

#: The doorbell: NOTIFY on it says that something was committed.
CHANNEL = "vmsvc"
#: The payload when no intent was written: who carries out intents may sleep on. Any other wakes everybody.
NEWS = "news"
#: Prefix of the payloads with which a replica tests whether notifications reach it; other replicas ignore them.
TEST = "test "
#: Seconds within which such a test notification has to arrive.
_HEARING_SECONDS = 2.0
#: The longest time in seconds for a statement that reads for display, of which there may be much.
SHOW_SECONDS = 5.0
#: Keys of our advisory locks share this first half, so that they meet no other program's.
LOCK_SPACE = 0x766D7376

_NEXT_SEQ = """
SELECT setval(pg_get_serial_sequence('event', 'seq'), 1 + greatest(
    coalesce((SELECT max(seq) FROM event), 0), (SELECT removed_seq FROM watermark)), false)
"""

#: InternalError is what a server that takes no changes says (it is a standby, or was told to be read-only).
DATABASE_ERRORS = (OperationalError, InterfaceError, InternalError, psycopg2.OperationalError, psycopg2.InterfaceError,
                   psycopg2.InternalError)


class Lock(enum.IntEnum):
    """Advisory locks, always taken in this order within one transaction."""

    MIGRATE = 1
    SCHEDULER = 2      # one planner at a time
    OUTBOX = 3         # one writer of events at a time, to the end of its transaction


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


#: Who is told of committed events, in the thread that committed them; set by `open_database`, as the database is.
_observers: list[Callable[[CommittedEvent], None]] = []


def open_database(url: str, connections: int,
                  committed: Callable[[CommittedEvent], None] | None = None) -> PostgresqlDatabase:
    """The pool of connections, bound to the models. Nothing is connected yet. `committed` is called with each event
    that this process commits, in a thread of the database."""
    pool = Pool(parse(url), max_connections=connections, stale_timeout=300, timeout=10)
    _observers[:] = [committed] if committed else []
    models.database.initialize(pool)
    return pool


def deployment_id() -> str:
    """Who we are in the cloud; made at the first start and kept with the data."""
    with unit() as work:
        work.lock(Lock.SCHEDULER)
        row = models.Deployment.get_or_none()
        return (row or models.Deployment.create(id=uuid.uuid4().hex[:12], created_at=work.now)).id


class Unit:
    """One transaction: what it changes and the events that tell of it are committed together or not at all."""

    #: What a transaction waits for before its events get their numbers.
    ORDER = f"SELECT pg_advisory_xact_lock({LOCK_SPACE}, {Lock.OUTBOX}); {_NEXT_SEQ}"

    def __init__(self, now: datetime.datetime):
        self.now = now                 # the database's clock when the unit began
        self._events: list[dict] = []
        self._last: list[Statement] = []
        self._news = False
        self._acts = False
        self._lines: list[tuple[contextvars.Context, str, tuple[object, ...]]] = []
        self._committed: list[CommittedEvent] = []

    def lock(self, lock: Lock) -> None:
        """Wait for an advisory lock and keep it to the end of the transaction."""
        models.database.execute_sql("SELECT pg_advisory_xact_lock(%s, %s)", (LOCK_SPACE, lock))

    def emit(self, cause: str | None = None, **event: Any) -> None:
        """Add an event: `type`, `state`, `vm_id`, `subject`, `is_preemptible`, `data`."""
        self._events.append(event)
        self._news = True
        self._committed.append(CommittedEvent(event["type"], event["state"], event["is_preemptible"], cause, self.now,
                                              event["data"]))

    def last(self, text: str, values: Iterable[Any]) -> None:
        """Something to be written at the end, in order, and with it: what nothing in this unit reads costs no message
        of its own."""
        self._last.append((text, list(values)))

    def note(self, message: str, *args: object) -> None:
        """A line for the log, written when this is committed: a unit that fails has changed nothing. It says for whom
        the unit worked when it was noted; one that decides about many requests works for one after the other."""
        self._lines.append((contextvars.copy_context(), message, args))

    def ring(self, *, acts: bool = False) -> None:
        """Wake the loops of every replica when this is committed; those that carry out intents only if there is
        something for them, `acts`."""
        self._news = True
        self._acts |= acts

    def finish(self) -> None:
        """Insert the events last, under the lock that orders them, and commit.

        A sequence gives numbers at insert and transactions commit in another order, so a reader that remembers the
        highest number would miss the late one. With the lock held from the first number to the commit it cannot. Nor
        does a sequence take numbers back, so it is set anew: what was rolled back leaves no gap that looks like a loss.

        Lock, insert and commit are one message: while the lock is held PostgreSQL never waits for this process, which
        on a busy machine may take milliseconds to get a CPU.
        """
        parts = list(self._last)
        if self._acts or self._news:
            parts.append((f"NOTIFY {CHANNEL}" if self._acts else f"NOTIFY {CHANNEL}, '{NEWS}'", []))
        if self._events:
            parts += [(self.ORDER, []), outbox_rows(self._events)]
        parts.append(("COMMIT", []))
        models.database.execute_sql("; ".join(text for text, _ in parts),
                                    [value for _, values in parts for value in values])

    def tell(self) -> None:
        """It is committed: write what was noted into the log, and pass the events to the observers."""
        for context, message, args in self._lines:
            context.run(log.info, message, *args)
        for event in self._committed:
            for observe in _observers:
                observe(event)


@contextlib.contextmanager
def unit(lock: Lock | None = None) -> Iterator[Unit]:
    """A transaction that may emit events, with `lock` from the beginning. No call to the cloud belongs inside one, and
    no other unit."""
    db = models.database
    if db.in_transaction():
        raise RuntimeError("a unit is a transaction of its own")
    with db.connection_context(), db.manual_commit():
        # Each message costs two processes a turn on a CPU: the first tells the time too, the last commits.
        first = f"SELECT pg_advisory_xact_lock({LOCK_SPACE}, {lock:d}); " if lock else ""
        begin = f"BEGIN ISOLATION LEVEL READ COMMITTED; {db.settings}; {first}SELECT clock_timestamp()"
        work = Unit(db.execute_sql(begin).fetchone()[0])
        try:
            yield work
            work.finish()
        except BaseException:
            db.rollback()
            raise
    work.tell()


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


class Unheard(Exception):
    """Notifications do not reach the connection that listens."""


def listen(url: str) -> psycopg2.extensions.connection:
    """A connection of its own, outside the pool, on which the doorbell rings; poll it when it is readable.

    Raises Unheard when a notification that is sent through the pool does not arrive on it: a pooler in transaction
    mode gives each transaction another session, or it is another database.
    """
    connection = parse(url).connect("vmsvc-listen")
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")
            word = f"{TEST}{uuid.uuid4().hex}"
            with connected():
                models.database.execute_sql(f"NOTIFY {CHANNEL}, '{word}'")
            if not _comes(connection, word):
                cursor.execute("UNLISTEN *")
                raise Unheard("notifications do not arrive")
            # The session has shown that it is ours alone, so a setting of it meets nobody else.
            cursor.execute("SET idle_session_timeout = 0")
    except BaseException:
        connection.close()
        raise
    return connection


def _comes(connection: psycopg2.extensions.connection, word: str) -> bool:
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
        return models.database.execute_sql("SELECT pg_current_snapshot()::text").fetchone()[0]
