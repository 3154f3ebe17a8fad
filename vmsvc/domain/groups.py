"""Eviction groups: never more than so many of a group in notice or eviction at once."""

from collections.abc import Iterable, Mapping
from typing import Any

from vmsvc.domain.lifecycle import State

#: Those that count against a group's budget.
AWAY = frozenset({State.NOTICED, State.EVICTING})
_THERE = AWAY | {State.BUILDING, State.ACTIVE}


def budgets(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many more of each group may be noticed now; a VM that only practises its notice counts too, for its owner
    sees it noticed."""
    return {group: max(0, most - away) for group, (most, away) in _counted(rows).items()}


def limits(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The same with nobody noticed or going: the least `max_unavailable` that a VM of the group asks for, 1 where none
    does."""
    return {group: most for group, (most, _) in _counted(rows).items()}


def _counted(rows: Iterable[Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    """Each group's limit, and how many of it are away."""
    limit: dict[str, int] = {}
    away: dict[str, int] = {}
    for row in rows:
        group, state = row["group_name"], State(row["state"])
        if group is None or state not in _THERE:
            continue
        limit[group] = min(limit.get(group, 2**31), row["max_unavailable"] or 1)
        away[group] = away.get(group, 0) + (state in AWAY)
    return {group: (most, away[group]) for group, most in limit.items()}
