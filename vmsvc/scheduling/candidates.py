"""The policy: which VMs are candidates, what the planner gets of them, and which victims are no longer needed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from vmsvc.domain.host import Host
from vmsvc.domain.lifecycle import State
from vmsvc.domain.resources import Resources, total
from vmsvc.planner import Candidate, Objective, cost_of
from vmsvc.scheduling.free_capacity import free_on_hosts, free_quota
from vmsvc.scheduling.vms import VmFacts
from vmsvc.scheduling.world import HOST, HOST_GROUP, PROJECT, World


@dataclass(frozen=True, slots=True)
class Policy:
    """How victims are chosen: what criterion 3 compares, what it adds for owners that lost VMs lately, and how many
    victims a plan may have; for how many seconds a request waits for the budget of an eviction group; and in tenant
    mode, what is declared of each host, whether likely plans are made, and for how long evidence counts."""

    name: str = "least_lost"
    owner_cost: int = 0
    max_victims: int = 20
    patience: float = 600.0
    notices: bool = True  # there is a grace period, in which a guest reads its notice
    declared: Resources = Resources()
    likely: bool = True
    evidence_hours: float = 168.0
    max_waiting: int = 100  # requests of one owner in the queue

    @property
    def words(self) -> str:
        """The name of criterion 3, for messages about a decision by it."""
        return "less lost work" if self.name == "least_lost" else self.name.replace("_", " ")

    def rate(self, vcpus: int) -> int:
        """What a second of running adds to the cost of criterion 3: the work that would be lost, or, by the other
        policies, age."""
        return {"least_lost": vcpus, "oldest_first": -1, "newest_first": 1}[self.name]


def is_candidate(vm: VmFacts, building: bool) -> bool:
    """True when the VM may be evicted after its promised running time. `building`: VMs that still build may be, too.
    How many of an eviction group may leave together is decided by the plan."""
    return (
        vm.is_preemptible
        and not vm.untouchable
        and (vm.state is State.ACTIVE and vm.present or building and vm.state is State.BUILDING)
    )


def candidate_vms(world: World, building: bool) -> list[VmFacts]:
    """The VMs that may be evicted now, whatever the budgets of their groups."""
    return [vm for vm in world.vms.values() if is_candidate(vm, building) and vm.protected_until <= world.now]


def as_candidate(vm: VmFacts, freed: Resources, world: World) -> Candidate:
    """The planner's view of a VM whose eviction frees so much in the bin at hand. The cost is a linear function of
    time, so that the candidate stays the same while time passes."""
    return Candidate(
        vm.id,
        freed,
        vm.priority,
        vm.ran,
        vm.lost_work - vm.rate * vm.since + world.surcharges.get(vm.owner, 0) - world.common_surcharge,
        vm.rate,
        vm.group,
    )


def candidates_on(world: World, host: Host, building: bool) -> tuple[Candidate, ...]:
    """The candidates whose eviction now would free resources on a host."""
    return tuple(
        as_candidate(vm, freed, world)
        for vm in world.vms.at(host.name)
        if is_candidate(vm, building) and vm.protected_until <= world.now and (freed := frees(vm, host))
    )


def frees(vm: VmFacts, host: Host) -> Resources:
    """What the eviction of a VM frees on a host: what Placement says that it holds there; for a VM that is to be built
    there, what it will claim."""
    held = host.allocations.get(vm.cloud_id or "")
    if held is None:
        return vm.resources if vm.state is State.BUILDING and vm.host == host.name else Resources()
    return held


def by_host(vms: Iterable[VmFacts]) -> dict[str, list[VmFacts]]:
    """VMs by the host that they are on, or are to be built on."""
    found: dict[str, list[VmFacts]] = {}
    for vm in vms:
        if vm.host is not None:
            found.setdefault(vm.host, []).append(vm)
    return found


def plan_cost(objective: Objective, world: World, victims: Iterable[str]) -> Mapping[str, Any]:
    """The objective of a plan with these victims as `cost_of` shows it, with the common surcharge that plans leave out.
    `surcharge` is the part of `lost_work` that no VM lost: it is added because the owners lost VMs lately."""
    surcharge = sum(world.surcharges.get(world.vms[victim].owner, 0) for victim in victims)
    return {**_whole_cost(objective, world), "surcharge": surcharge}


def runner_up_cost(objective: Objective | None, world: World) -> Mapping[str, Any] | None:
    """As `plan_cost`, for a plan of which only the objective is known; None for None."""
    return None if objective is None else _whole_cost(objective, world)


def _whole_cost(objective: Objective, world: World) -> dict[str, Any]:
    count = sum(number for _, number in objective.victims)
    return cost_of(replace(objective, lost_work=objective.lost_work + count * world.common_surcharge))


def unneeded_victims(world: World, victims: Iterable[VmFacts]) -> frozenset[str]:
    """Of these noticed victims the ids of those that could all stay together: without what they free, everything that
    is reserved still fits. Where only one of two could stay, it is the one whose eviction costs more. The victims of a
    plan for a host group are needed: a tenant does not see what is free there."""
    costliest_first = sorted(victims, key=lambda vm: _cost(vm, world), reverse=True)
    if not costliest_first:
        return frozenset()
    needs = _reserved_by_bin(world)
    hosts = [world.hosts[name] for name in needs if name in world.hosts]
    spare = {PROJECT: free_quota(world).sure, **{name: free.sure for name, free in free_on_hosts(world, hosts).items()}}
    unneeded = set()
    for vm in costliest_first:
        reserved = world.reservations.get(vm.evicted_for or "")
        if reserved is not None and reserved.kind == HOST_GROUP:
            continue
        freed = {PROJECT: vm.quota} if vm.is_leaving else {}  # one that is locked frees nothing
        if freed and vm.host in spare:
            freed[vm.host] = frees(vm, world.hosts[vm.host])
        # What nobody has reserved may be short: it is needed for nothing.
        freed = {name: Resources({item: held[item] for item in needs[name]}) for name, held in freed.items()}
        if all(spare[name].covers(held) for name, held in freed.items()):
            unneeded.add(vm.id)
            spare |= {name: spare[name] - held for name, held in freed.items()}
    return frozenset(unneeded)


def _reserved_by_bin(world: World) -> dict[str, Resources]:
    """What is reserved in the quota and, by name, on each host where anything is."""
    reserved = world.reservations.values()
    hosts: dict[str, list[Resources]] = {}
    for each in reserved:
        if each.kind == HOST:
            hosts.setdefault(each.bin, []).append(each.resources)
    return {PROJECT: total(each.quota for each in reserved)} | {name: total(needs) for name, needs in hosts.items()}


def _cost(vm: VmFacts, world: World) -> tuple[int, bool, int, str]:
    """What the eviction of a VM costs, by the planner's criteria in their order."""
    return vm.priority, vm.ran, as_candidate(vm, Resources(), world).lost_work_at(world.now), vm.id
