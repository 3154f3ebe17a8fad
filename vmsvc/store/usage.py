"""What VMs of ours have held over time. Rows of what became a VM are never deleted, so a restart forgets nothing."""

from datetime import datetime
from typing import Any

from vmsvc.domain.survival import Life
from vmsvc.store import queries
from vmsvc.store.models import database

Held = list[tuple[int, bool, int]]


def span() -> tuple[float, float | None]:
    """Now, and when this deployment was first started (None: never), as seconds since 1970 by the database's clock."""
    now, started = database.execute_sql(queries.SPAN).fetchone()
    return now, started


def begun(first: float, step: float) -> Held:
    """(slot, is_preemptible, vCPUs) of what was launched, in slots of `step` seconds from `first` on."""
    return _rows(queries.BEGUN, first, step)


def ended(first: float, step: float) -> Held:
    """As `begun`: what ended."""
    return _rows(queries.ENDED, first, step)


def evicted(first: float, step: float) -> list[tuple[int, int]]:
    """(slot, how many VMs were evicted in it)."""
    return _rows(queries.EVICTED, first, step)


def shares(now: datetime, seconds: float = 86400) -> dict[str, float]:
    """By owner's id, the vCPU-seconds that the owner's VMs have held within the last `seconds`."""
    return dict(database.execute_sql(queries.SHARES, {"now": now, "seconds": seconds}).fetchall())


def lives(flavor: str, since: float, limit: int) -> tuple[list[Life], list[float]]:
    """The lives of the newest `limit` preemptible VMs of the flavor that started since then (seconds since 1970), and
    for how many seconds their requests had waited; a successor of a lineage has no such wait."""
    rows = database.execute_sql(queries.LIVES, {"flavor": flavor, "since": since, "limit": limit}).fetchall()
    return [Life(seconds, was_evicted) for seconds, was_evicted, _ in rows], [
        wait for _, _, wait in rows if wait is not None
    ]


def _rows(query: str, first: float, step: float) -> list[tuple[Any, ...]]:
    return list(database.execute_sql(query, {"first": first, "step": step}).fetchall())
