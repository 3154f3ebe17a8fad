"""The history of events: reading it in order, and removing what is too old.

`store.db.Unit.commit` writes the events and gives them their numbers.
"""

from collections.abc import Collection
from typing import Any

from peewee import ModelSelect, Tuple, fn

from vmsvc.domain.errors import HistoryGone
from vmsvc.domain.events import TYPES, envelope
from vmsvc.store import queries
from vmsvc.store.db import connected
from vmsvc.store.models import Event, Watermark, database, dicts_of, tuples_of

#: The columns of an event that its envelope is made of.
_COLUMNS = ("seq", "type", "state", "subject", "time", "data")
#: How far `restart_history` raises `seq`: more events than any deployment writes between two backups.
_LEAP = 1_000_000_000
#: The most events of one VM that a page reads. A VM has a dozen, unless its owner practises its eviction all day.
MAX_VM_EVENTS = 5000
_FIELDS = tuple(getattr(Event, name) for name in _COLUMNS)


def newest() -> int:
    """The newest event's number, 0 before the first. Read it before rows that are to include all events up to it."""
    newest_seq = Event.select(fn.MAX(Event.seq)).scalar()
    return newest_seq if newest_seq is not None else removed_seq()


def removed_seq() -> int:
    """The newest event that is no longer kept, 0 when all are."""
    return Watermark.get_by_id(1).removed_seq


def latest(limit: int) -> tuple[int, list[dict[str, Any]]]:
    """The newest events in order, `limit` at most, and the seq after which there are no others."""
    rows = list(dicts_of(Event.select().order_by(Event.seq.desc()).limit(limit)))[::-1]
    since = rows[0]["seq"] - 1 if len(rows) == limit else removed_seq()
    return since, [envelope(row) for row in rows]


def tail(since: int, limit: int) -> tuple[list[dict[str, Any]], int]:
    """The events after `since`, for the feed, and `removed_seq()`. Raises HistoryGone. One statement is one snapshot,
    without a transaction's calls; this is most of the way from a commit to the sockets."""
    rows = database.execute_sql(queries.TAIL, {"since": since, "limit": limit}).fetchall()
    removed = rows[0][0]
    if since < removed:
        raise HistoryGone(removed + 1)
    return [envelope(dict(zip(_COLUMNS, row))) for _, *row in rows if row[0] is not None], removed


def of_seqs(seqs: Collection[int]) -> dict[int, dict[str, Any]]:
    """The events with these numbers, as far as they are kept."""
    rows = tuples_of(Event.select(*_FIELDS).where(Event.seq.in_(sorted(seqs)))) if seqs else ()
    return {row[0]: envelope(dict(zip(_COLUMNS, row))) for row in rows}


def page(
    since: int, limit: int, *, types: Collection[str] = (), vm: str | None = None, preemptible: bool | None = None
) -> tuple[list[dict[str, Any]], int]:
    """The events after `since` in order, `limit` at most, as clients get them, and the seq up to which that reaches.
    It reads few more rows than it returns, whatever the conditions; among the events of one VM it ends after
    MAX_VM_EVENTS, and returns what it has. In the caller's transaction, which is one snapshot.

    Raises HistoryGone when some of what came after `since` is no longer kept.
    """
    removed, last = removed_seq(), newest()
    if since < removed:
        raise HistoryGone(removed + 1)
    kinds = [
        (kind, preempts)
        for kind in sorted(set(types or TYPES))
        for preempts in ((False, True) if preemptible is None else (preemptible,))
    ]
    if vm is not None:
        found = database.execute_sql(queries.OF_VM, {"vm": vm, "since": since, "limit": MAX_VM_EVENTS}).fetchall()
        if len(found) == MAX_VM_EVENTS:
            last = found[-1][0]
        rows = tuples_of(_first_events(kinds, limit).where(Event.seq.in_([seq for (seq,) in found])))
    elif len(kinds) == 2 * len(TYPES):
        rows = tuples_of(Event.select(*_FIELDS).where(Event.seq > since).order_by(Event.seq).limit(limit))
    else:
        rows = database.execute_sql(
            queries.OF_KINDS,
            {
                "types": [kind for kind, _ in kinds],
                "preemptible": [preempts for _, preempts in kinds],
                "since": since,
                "limit": limit,
            },
        ).fetchall()
    events = [envelope(dict(zip(_COLUMNS, row))) for row in rows]
    return events, events[-1]["data"]["seq"] if len(events) == limit else max(last, since)


def _first_events(kinds: Collection[tuple[str, bool]], limit: int) -> "ModelSelect[Event]":
    """A query for the first events of these kinds."""
    return (
        Event.select(*_FIELDS)
        .where(Tuple(Event.type, Event.is_preemptible).in_(list(kinds)))
        .order_by(Event.seq)
        .limit(limit)
    )


def remove_old_events(hours: float, limit: int = 5000) -> int:
    """Remove the oldest `limit` of the events older than so many hours; returns how many, 0 also while another replica
    does it. Writers of events do not wait for it. Readers see the rows and `removed_seq` change at the same moment."""
    with connected():
        return int(database.execute_sql(queries.REMOVE_EVENTS, {"seconds": hours * 3600, "limit": limit}).rowcount)


def oldest_age() -> float:
    """The age of the oldest event in seconds; 0 when there is none."""
    with connected():
        found = database.execute_sql(queries.OLDEST_AGE).fetchone()
    return max(0.0, found[0]) if found else 0.0


def other_sessions() -> int:
    """How many sessions of vmsvc there are besides this one: a service that runs on this database."""
    return int(database.execute_sql(queries.OTHER_SESSIONS).fetchone()[0])


def restart_history() -> None:
    """Remove all events, and give the next one a `seq` above every one that a client may have seen, also of events
    after the backup from which the database was restored. In the caller's unit, while no service runs."""
    database.execute_sql(queries.RESTART_HISTORY, {"leap": _LEAP})
