"""The history of events: reading it in order, and forgetting what is too old."""

import functools
from collections.abc import Collection
from typing import Any

from peewee import JOIN, SQL, ModelDelete, fn

from vmsvc.domain.errors import HistoryGone
from vmsvc.domain.events import envelope
from vmsvc.store.db import Lock, unit
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


def forget(hours: float) -> int:
    """Remove events older than so many hours, some thousands at a time; returns how many went."""
    with unit() as work:
        work.lock(Lock.OUTBOX)
        old = (Event.select(Event.seq)
               .where(Event.time < fn.clock_timestamp() - fn.make_interval(0, 0, 0, 0, 0, 0, hours * 3600))
               .order_by(Event.seq).limit(5000))
        last = max((row.seq for row in old), default=None)
        if last is None:
            return 0
        Watermark.update(removed_seq=fn.GREATEST(Watermark.removed_seq, last)).where(Watermark.id == 1).execute()
        return ModelDelete(Event).where(Event.seq <= last).execute()


def others() -> int:
    """How many sessions of vmsvc there are besides this one: a service that runs on this database."""
    return database.execute_sql(_OTHERS).fetchone()[0]


def begin_anew() -> None:
    """Forget all events, and give the next one a number beyond every one that was ever told, also after the backup from
    which the database was restored. In the caller's unit, while no service runs."""
    database.execute_sql(_BEGIN_ANEW)
