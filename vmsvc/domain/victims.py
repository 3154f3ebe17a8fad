"""Who may be a victim at all, and what the planner sees of it."""

from vmsvc.domain.bins import Candidate
from vmsvc.domain.lifecycle import State
from vmsvc.domain.resources import Resources
from vmsvc.domain.world import VmFacts, World


def eligible_victims(world: World, building: bool) -> list[VmFacts]:
    """Who may go, of each eviction group no more than its budget allows; `building` adds those that are not up yet."""
    states = {State.ACTIVE, State.BUILDING} if building else {State.ACTIVE}
    found = [vm for vm in world.vms.values() if vm.is_preemptible and vm.state in states and not vm.untouchable
             and (vm.present or vm.state is State.BUILDING)]
    if not any(vm.group for vm in found):
        return found
    left = dict(world.budgets)
    within = []
    for vm in sorted(found, key=lambda vm: (vm.priority, vm.ran, vm.lost_work, vm.id)):
        if vm.group:
            left[vm.group] = left.get(vm.group, 0) - 1
        if not vm.group or left[vm.group] >= 0:
            within.append(vm)
    return within


def candidate(vm: VmFacts, frees: Resources) -> Candidate:
    """A VM as the planner sees it, with what taking it frees in the bin at hand."""
    return Candidate(vm.id, frees, priority=vm.priority, ran=vm.ran, lost_work=vm.lost_work)
