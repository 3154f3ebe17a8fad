"""Who may be a victim at all, what the planner sees of it, and what a plan costs."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from vmsvc.domain.bins import Candidate
from vmsvc.domain.host import Host
from vmsvc.domain.lifecycle import State
from vmsvc.domain.objective import Objective, cost_of
from vmsvc.domain.resources import Resources
from vmsvc.domain.vm import VmFacts
from vmsvc.domain.world import World


def may_go(vm: VmFacts, building: bool) -> bool:
    """True when it may be a victim once it has run for as long as it was promised; `building` allows those that are
    not up yet. How many of an eviction group may go together is for the plan to see to."""
    return vm.is_preemptible and not vm.untouchable and (
        vm.state is State.ACTIVE and vm.present or building and vm.state is State.BUILDING)


def eligible_victims(world: World, building: bool) -> list[VmFacts]:
    """Who may go now, as far as it is for each to say."""
    return [vm for vm in world.vms.values() if may_go(vm, building) and vm.spared_until <= world.now]


def within(victims: Iterable[VmFacts], budgets: Mapping[str, int]) -> list[VmFacts]:
    """Those that could go together: all without a group, and of each group as many of the largest as may."""
    left = dict(budgets)
    chosen = []
    for vm in sorted(victims, key=lambda vm: (-vm.quota["cores"], -vm.quota["ram"], vm.id)):
        if vm.group not in left or left[vm.group] > 0:
            chosen.append(vm)
        if vm.group in left:
            left[vm.group] -= 1
    return chosen


def candidate(vm: VmFacts, freed: Resources, world: World) -> Candidate:
    """A VM as the planner sees it, with what taking it frees in the bin at hand. Its cost is a linear function of
    time, so that it stays the same VM while time passes."""
    return Candidate(vm.id, freed, vm.priority, vm.ran,
                     vm.lost_work - vm.rate * vm.since + world.surcharges.get(vm.owner, 0) - world.usual, vm.rate,
                     vm.group)


def on_host(world: World, host: Host, building: bool) -> tuple[Candidate, ...]:
    """Those who would free room on a host, were they to go now."""
    return tuple(candidate(vm, freed, world) for vm in world.vms.at(host.name)
                 if may_go(vm, building) and vm.spared_until <= world.now and (freed := frees(vm, host)))


def frees(vm: VmFacts, host: Host) -> Resources:
    """The room that a VM gives back on its host when it goes: what Placement says that it holds there."""
    held = host.allocations.get(vm.cloud_id or "")
    if held is None:
        return vm.room if vm.state is State.BUILDING and vm.host == host.name else Resources()
    return held


def by_host(victims: Iterable[VmFacts]) -> dict[str, list[VmFacts]]:
    """Victims by the host that they are on, or are to be built on."""
    found: dict[str, list[VmFacts]] = {}
    for vm in victims:
        if vm.host is not None:
            found.setdefault(vm.host, []).append(vm)
    return found


def cost(objective: Objective | None, world: World) -> Mapping[str, Any] | None:
    """What a plan costs, in full."""
    if objective is None:
        return None
    count = sum(number for _, number in objective.victims)
    return cost_of(replace(objective, lost_work=objective.lost_work + count * world.usual))
