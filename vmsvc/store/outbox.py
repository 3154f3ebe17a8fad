"""The history of events: reading it in order, and forgetting what is too old."""

import functools
from collections.abc import Collection
from typing import Any

from peewee import JOIN, SQL, fn

from vmsvc.domain.errors import HistoryGone
from vmsvc.domain.events import TYPES, envelope
from vmsvc.store.db import connected
from vmsvc.store.models import Event, Watermark, database


#: The columns of an event that its envelope is made of.
_TOLD = ("seq", "type", "state", "subject", "time", "data")
_OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND starts_with(application_name, 'vmsvc') AND pid <> pg_backend_pid()
"""
#: How far `begin_anew` raises `seq`: more events than any deployment writes between two backups.
_LEAP = 1_000_000_000
_BEGIN_ANEW = f"""
UPDATE watermark SET removed_seq = greatest(removed_seq, coalesce((SELECT max(seq) FROM event), 0)) + {_LEAP};
DELETE FROM event
"""
#: One statement, and so one transaction. Whoever locks the watermark's row removes; others skip their turn.
_FORGET = """
WITH turn AS (SELECT FROM watermark WHERE id = 1 FOR UPDATE SKIP LOCKED),
    old AS (SELECT max(seq) AS seq FROM (
        SELECT seq FROM event WHERE time < clock_timestamp() - make_interval(secs => %s) AND EXISTS (SELECT FROM turn)
        ORDER BY time LIMIT %s) AS batch),
    moved AS (UPDATE watermark SET removed_seq = greatest(removed_seq, old.seq) FROM old
              WHERE id = 1 AND old.seq IS NOT NULL)
DELETE FROM event WHERE seq <= (SELECT seq FROM old)
"""
_OLDEST_AGE = "SELECT extract(epoch FROM clock_timestamp() - time)::float8 FROM event ORDER BY seq LIMIT 1"
#: The most events of one VM that a page looks at. A VM has a dozen, unless its owner practises its eviction all day.
LOOK = 5000
_COLUMNS = ", ".join(f'"{name}"' for name in _TOLD)
_ALL = f"SELECT {_COLUMNS} FROM event WHERE seq > %s ORDER BY seq LIMIT %s"
#: `subject` is the cloud's id once there is one, `vm_id` is ours.
_OF_VM = """
SELECT seq FROM ((SELECT seq FROM event WHERE subject = %s AND seq > %s ORDER BY seq LIMIT %s)
                 UNION (SELECT seq FROM event WHERE vm_id = %s AND seq > %s ORDER BY seq LIMIT %s)) AS found
ORDER BY seq LIMIT %s
"""
_CHOSEN = f"""
SELECT {_COLUMNS} FROM event WHERE seq = ANY(%s) AND (type, is_preemptible) IN %s ORDER BY seq LIMIT %s
"""
#: The next of one kind are neighbours in an index; PostgreSQL would not find that out for several kinds at once.
_OF_KIND = "(SELECT seq FROM event WHERE type = %s AND is_preemptible = %s AND seq > %s ORDER BY seq LIMIT %s)"


@functools.cache
def _of_kinds(number: int) -> str:
    """The statement for so many kinds. Values: type, is_preemptible, since, limit of each, then limit."""
    found = " UNION ALL ".join([_OF_KIND] * number)
    return f"""SELECT {_COLUMNS} FROM event WHERE seq = ANY(ARRAY(
        SELECT seq FROM ({found}) AS found ORDER BY seq LIMIT %s)) ORDER BY seq"""


@functools.cache
def _tail() -> str:
    """The statement, which Peewee takes longer to write than PostgreSQL to carry out. Values: since, limit."""
    rest = Event.select().where(Event.seq > 0).order_by(Event.seq).limit(1).alias("rest")
    return (Watermark.select(Watermark.removed_seq, *(getattr(rest.c, name) for name in _TOLD))
            .join(rest, JOIN.LEFT_OUTER, on=SQL("true")).order_by(rest.c.seq)).sql()[0]


def newest() -> int:
    """The newest event's number, 0 before the first. Read it before the rows that it shall vouch for."""
    kept = Event.select(fn.MAX(Event.seq)).scalar()
    return kept if kept is not None else removed()


def removed() -> int:
    """The newest event that is no longer kept, 0 when all are."""
    return Watermark.get_by_id(1).removed_seq


def latest(limit: int) -> tuple[int, list[dict[str, Any]]]:
    """The newest events in order, `limit` at most, and the seq after which they are all there are."""
    rows = list(Event.select().order_by(Event.seq.desc()).limit(limit).dicts())[::-1]
    since = rows[0]["seq"] - 1 if len(rows) == limit else removed()
    return since, [envelope(row) for row in rows]


def tail(since: int, limit: int) -> tuple[list[dict[str, Any]], int]:
    """As `after()`, for the feed: also what `removed()` says. One statement is one view, without a transaction's calls;
    this is most of the way from a commit to the sockets."""
    rows = database.execute_sql(_tail(), (since, limit)).fetchall()
    gone = rows[0][0]
    if since < gone:
        raise HistoryGone(gone + 1)
    return [envelope(dict(zip(_TOLD, row))) for _, *row in rows if row[0] is not None], gone


def page(since: int, limit: int, *, types: Collection[str] = (), vm: str | None = None,
         preemptible: bool | None = None) -> tuple[list[dict[str, Any]], int]:
    """The events after `since` in order, `limit` at most, as clients get them, and the seq up to which that reaches.
    It looks at few more rows than it returns, whatever is wanted; among the events of one VM it ends after LOOK, and
    returns what it has. In the caller's transaction, which is one view.

    Raises HistoryGone when some of what came after `since` is no longer kept.
    """
    gone, last = removed(), newest()
    if since < gone:
        raise HistoryGone(gone + 1)
    wanted = [(kind, preempts) for kind in sorted(set(types or TYPES))
              for preempts in ((False, True) if preemptible is None else (preemptible,))]
    if vm is not None:
        seqs = [seq for seq, in database.execute_sql(_OF_VM, (vm, since, LOOK, vm, since, LOOK, LOOK)).fetchall()]
        if len(seqs) == LOOK:
            last = seqs[-1]
        rows = database.execute_sql(_CHOSEN, (seqs, tuple(wanted), limit)).fetchall() if seqs else []
    elif len(wanted) == 2 * len(TYPES):
        rows = database.execute_sql(_ALL, (since, limit)).fetchall()
    else:
        values = [value for pair in wanted for value in (*pair, since, limit)]
        rows = database.execute_sql(_of_kinds(len(wanted)), (*values, limit)).fetchall()
    events = [envelope(dict(zip(_TOLD, row))) for row in rows]
    return events, events[-1]["data"]["seq"] if len(events) == limit else max(last, since)


def forget(hours: float, limit: int = 5000) -> int:
    """Remove the oldest `limit` of the events older than so many hours; returns how many, 0 also while another replica
    does it. Writers of events do not wait for it. Readers see the rows and `removed_seq` change at the same moment."""
    with connected():
        return database.execute_sql(_FORGET, (hours * 3600, limit)).rowcount


def oldest_age() -> float:
    """The age of the oldest event in seconds; 0 when there is none."""
    with connected():
        found = database.execute_sql(_OLDEST_AGE).fetchone()
    return max(0.0, found[0]) if found else 0.0


def others() -> int:
    """How many sessions of vmsvc there are besides this one: a service that runs on this database."""
    return database.execute_sql(_OTHERS).fetchone()[0]


def begin_anew() -> None:
    """Remove all events, and give the next one a `seq` above every one that a client may have seen, also of events
    after the backup from which the database was restored. In the caller's unit, while no service runs."""
    database.execute_sql(_BEGIN_ANEW)
