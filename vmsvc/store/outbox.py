"""The history of events: reading it in order, and forgetting what is too old."""

import functools
from collections.abc import Collection
from typing import Any

from peewee import JOIN, SQL, fn

from vmsvc.domain.errors import HistoryGone
from vmsvc.domain.events import envelope
from vmsvc.store.db import connected
from vmsvc.store.models import Event, Watermark, database


#: The columns of an event that its envelope is made of.
_TOLD = ("seq", "type", "state", "subject", "time", "data")
_OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND starts_with(application_name, 'vmsvc') AND pid <> pg_backend_pid()
"""
#: How much further the numbers go: more events than any deployment writes between two backups.
_LEAP = 1_000_000_000
_BEGIN_ANEW = f"""
UPDATE watermark SET removed_seq = greatest(removed_seq, coalesce((SELECT max(seq) FROM event), 0)) + {_LEAP};
DELETE FROM event
"""
#: One statement, and so one transaction. The row of the watermark is the turn of who removes.
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


def after(since: int, limit: int, *, types: Collection[str] = (), vm: str | None = None,
          preemptible: bool | None = None) -> list[dict[str, Any]]:
    """The events after `since` in order, `limit` at most, as clients get them.

    Raises HistoryGone when some of what came after `since` is no longer kept.
    """
    gone = removed()
    if since < gone:
        raise HistoryGone(gone + 1)
    query = Event.select().where(Event.seq > since).order_by(Event.seq).limit(limit)
    if types:
        query = query.where(Event.type.in_(list(types)))
    if vm is not None:
        query = query.where((Event.subject == vm) | (Event.vm_id == vm))
    if preemptible is not None:
        query = query.where(Event.is_preemptible == preemptible)
    return [envelope(row) for row in query.dicts()]


def forget(hours: float, limit: int = 5000) -> int:
    """Remove events older than so many hours, the oldest `limit`; returns how many went, 0 also while somebody else
    does it. Writers of events do not wait for it: `removed_seq` and the rows change at once for whoever looks."""
    with connected():
        return database.execute_sql(_FORGET, (hours * 3600, limit)).rowcount


def oldest_age() -> float:
    """For how many seconds the oldest event has been kept; 0 when there is none."""
    with connected():
        found = database.execute_sql(_OLDEST_AGE).fetchone()
    return max(0.0, found[0]) if found else 0.0


def others() -> int:
    """How many sessions of vmsvc there are besides this one: a service that runs on this database."""
    return database.execute_sql(_OTHERS).fetchone()[0]


def begin_anew() -> None:
    """Forget all events, and give the next one a number beyond every one that was ever told, also after the backup from
    which the database was restored. In the caller's unit, while no service runs."""
    database.execute_sql(_BEGIN_ANEW)
