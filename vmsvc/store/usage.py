"""What VMs of ours have held over time. Rows of what became a VM are never deleted, so a restart forgets nothing."""

from vmsvc.store.models import database

_SPAN = """
SELECT extract(epoch FROM clock_timestamp())::float8,
       extract(epoch FROM (SELECT min(created_at) FROM deployment))::float8
"""
#: vCPUs that began and ended to be held, by slot. What began before the first slot and still was there counts as of
#: the first one.
_HELD = """
SELECT GREATEST(0, floor((extract(epoch FROM {moment}) - %(first)s) / %(step)s))::int AS slot, is_preemptible,
       sum((quota ->> 'cores')::int)::int
FROM vm
WHERE launched_at IS NOT NULL AND (ended_at IS NULL OR ended_at >= to_timestamp(%(first)s)) AND {moment} IS NOT NULL
GROUP BY 1, 2
"""
_EVICTED = """
SELECT floor((extract(epoch FROM evicting_at) - %(first)s) / %(step)s)::int AS slot, count(*)::int
FROM eviction WHERE evicting_at >= to_timestamp(%(first)s) GROUP BY 1
"""

Held = list[tuple[int, bool, int]]


def span() -> tuple[float, float | None]:
    """Now, and when this deployment was first started (None: never), as seconds since 1970 by the database's clock."""
    return database.execute_sql(_SPAN).fetchone()


def begun(first: float, step: float) -> Held:
    """(slot, is_preemptible, vCPUs) of what was launched, in slots of `step` seconds from `first` on."""
    return _rows(_HELD.format(moment="launched_at"), first, step)


def ended(first: float, step: float) -> Held:
    """As `begun`: what ended."""
    return _rows(_HELD.format(moment="ended_at"), first, step)


def evicted(first: float, step: float) -> list[tuple[int, int]]:
    """(slot, how many VMs were evicted in it)."""
    return _rows(_EVICTED, first, step)


def _rows(query: str, first: float, step: float) -> list[tuple]:
    return database.execute_sql(query, {"first": first, "step": step}).fetchall()
