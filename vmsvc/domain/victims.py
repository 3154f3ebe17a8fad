"""Who may be a victim at all, and what the planner sees of it."""

from collections.abc import Iterable, Mapping

from vmsvc.domain.bins import Candidate
from vmsvc.domain.host import Host
from vmsvc.domain.lifecycle import State
from vmsvc.domain.resources import Resources
from vmsvc.domain.vm import VmFacts
from vmsvc.domain.world import World


def eligible_victims(world: World, building: bool) -> list[VmFacts]:
    """Who may go, as far as it is for each to say; `building` adds those that are not up yet. How many of an eviction
    group may go together is for the plan to see to."""
    states = {State.ACTIVE, State.BUILDING} if building else {State.ACTIVE}
    return [vm for vm in world.vms.values() if vm.is_preemptible and vm.state in states and not vm.untouchable
             and (vm.present or vm.state is State.BUILDING)]


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


def candidate(vm: VmFacts, freed: Resources) -> Candidate:
    """A VM as the planner sees it, with what taking it frees in the bin at hand."""
    return Candidate(vm.id, freed, priority=vm.priority, ran=vm.ran, lost_work=vm.lost_work, group=vm.group)


def on_hosts(victims: Iterable[VmFacts]) -> dict[str, list[VmFacts]]:
    """Victims by the host that they are on, or are to be built on."""
    found: dict[str, list[VmFacts]] = {}
    for vm in victims:
        if vm.host is not None:
            found.setdefault(vm.host, []).append(vm)
    return found


def frees(vm: VmFacts, host: Host) -> Resources:
    """The room that a VM gives back on its host when it goes: what Placement says that it holds there."""
    held = host.allocations.get(vm.cloud_id or "")
    if held is None:
        return vm.room if vm.state is State.BUILDING and vm.host == host.name else Resources()
    return held
