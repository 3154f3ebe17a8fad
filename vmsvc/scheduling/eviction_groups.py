"""Eviction groups: counts how many more VMs of each group may be noticed, as a PodDisruptionBudget has it.

Counted under the lock SCHEDULER. The planner's search, the end of a lifetime and a practised eviction keep to that
number; a request that needs more victims is postponed (`decide`).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from vmsvc.domain.lifecycle import State
from vmsvc.scheduling.vms import VmFacts

#: The states that count against the budget of a group.
UNAVAILABLE = frozenset({State.NOTICED, State.EVICTING})
_MEMBERS = UNAVAILABLE | {State.BUILDING, State.ACTIVE}


def budgets(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """By group, how many more VMs may be noticed now. Takes rows with `group_name`, `state` and `max_unavailable`. A VM
    that only practises its notice counts as noticed, because its owner sees it noticed."""
    return {group: max(0, most - unavailable) for group, (most, unavailable) in _counted(rows).items()}


def full_budgets(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """By group, how many VMs may be noticed when all of the group are available: the least `max_unavailable` that a VM
    of the group asks for, 1 where none does."""
    return {group: most for group, (most, _) in _counted(rows).items()}


def _counted(rows: Iterable[Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    """By group, its full budget and how many of it are unavailable."""
    most: dict[str, int] = {}
    unavailable: dict[str, int] = {}
    for row in rows:
        group, state = row["group_name"], State(row["state"])
        if group is None or state not in _MEMBERS:
            continue
        most[group] = min(most.get(group, 2**31), row["max_unavailable"] or 1)
        unavailable[group] = unavailable.get(group, 0) + (state in UNAVAILABLE)
    return {group: (count, unavailable[group]) for group, count in most.items()}


def within_budgets(vms: Iterable[VmFacts], left: Mapping[str, int]) -> list[VmFacts]:
    """Of these VMs those that could leave together: all without a group, and of each group as many of the largest as
    its budget in `left` allows."""
    left = dict(left)
    chosen = []
    for vm in sorted(vms, key=lambda vm: (-vm.quota["cores"], -vm.quota["ram"], vm.id)):
        if vm.group not in left or left[vm.group] > 0:
            chosen.append(vm)
        if vm.group in left:
            left[vm.group] -= 1
    return chosen
