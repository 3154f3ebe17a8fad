"""How much capacity a request may use: what is free, less what is reserved for others, plus what is being freed."""

from collections.abc import Iterable
from dataclasses import dataclass

from vmsvc.domain.host import Host
from vmsvc.domain.lifecycle import State
from vmsvc.domain.request import Request
from vmsvc.domain.resources import Resources, total
from vmsvc.scheduling.world import HOST, ReservedCapacity, World


@dataclass(frozen=True, slots=True)
class FreeCapacity:
    """The capacity of one bin that a request may use.

    `now` can be claimed at once; `soon` when all VMs that leave have gone. `shortfall` must leave beyond that before
    anything fits, because the bin is over-committed or its capacity is reserved for others. The cloud's answer may not
    count `uncounted` servers yet. They reduce `now`, so that no request is placed too early, but not `soon`, so that no
    VM is evicted for capacity that is there.
    """

    now: Resources
    soon: Resources
    capacity: Resources
    shortfall: Resources = Resources()
    uncounted: Resources = Resources()

    @property
    def sure(self) -> Resources:
        """What will be free even if the cloud has not counted the new servers: if the request fits into that, a victim
        may stay."""
        return (self.soon - self.uncounted).floored()


def _free_capacity(
    capacity: Resources,
    free: Resources,
    others: Iterable[tuple[Resources, Resources]],
    coming: Resources,
    needed: Resources | None,
    uncounted: Resources = Resources(),
) -> FreeCapacity:
    """`others`: what is reserved for each other request, and what that request's victims still hold of it, which is not
    free yet. `needed`: the classes in which a shortfall matters; None for all."""
    later, now = free + coming, free
    for reserved, still_held in others:
        later, now = later - reserved, now - (reserved - still_held).floored()
    shortfall = {name: -later[name] for name in (later if needed is None else needed) if later[name] < 0}
    return FreeCapacity(
        now=(now - uncounted).floored(),
        soon=later.floored(),
        capacity=capacity,
        shortfall=Resources(shortfall),
        uncounted=uncounted,
    )


def free_quota(world: World, request: Request | None = None, staying: frozenset[str] = frozenset()) -> FreeCapacity:
    """The project's quota as this request may use it; without a request, as a request may that is not part of the
    world. VMs in `staying` (ids) do not count as leaving."""
    own = None if request is None else request.id
    building = total(vm.quota for vm in world.vms.building if not vm.present and vm.id != own)
    leaving = [vm for vm in world.vms.leaving if vm.id not in staying]
    others = [
        (
            reserved.quota,
            total(vm.quota for vm in world.vms.victims_of(reserved.vm_id) if vm.is_leaving and vm.id not in staying),
        )
        for reserved in world.reservations.values()
        if reserved.vm_id != own
    ]
    uncounted = total(
        vm.quota for vm in world.vms.uncounted if vm.id != own and (vm.present or vm.state is not State.BUILDING)
    )
    return _free_capacity(
        world.quota_limit,
        world.quota_limit - world.quota_used - building,
        others,
        total(vm.quota for vm in leaving),
        None if request is None else request.quota,
        uncounted,
    )


def free_on_hosts(
    world: World, hosts: Iterable[Host], request: Request | None = None, staying: frozenset[str] = frozenset()
) -> dict[str, FreeCapacity]:
    """By name, the hosts as this request may use them; without a request, as a request may that is not part of the
    world."""
    reservations: dict[str, list[ReservedCapacity]] = {}
    for each in world.reservations.values():
        if each.kind == HOST and (request is None or each.vm_id != request.id):
            reservations.setdefault(each.bin, []).append(each)
    return {host.name: _free_on_host(world, host, reservations.get(host.name, []), request, staying) for host in hosts}


def free_on_host(world: World, host: Host, request: Request, staying: frozenset[str] = frozenset()) -> FreeCapacity:
    """One host as this request may use it."""
    return free_on_hosts(world, [host], request, staying)[host.name]


def _free_on_host(
    world: World, host: Host, others: list[ReservedCapacity], request: Request | None, staying: frozenset[str]
) -> FreeCapacity:
    own = None if request is None else request.id
    changing = [vm for vm in world.vms.in_transition(host.name) if vm.id != own and vm.id not in staying]
    building = [vm.resources for vm in changing if vm.state is State.BUILDING and vm.cloud_id not in host.allocations]
    leaving = {
        vm.id: (vm.evicted_for, held)
        for vm in changing
        if vm.is_leaving and (held := host.allocations.get(vm.cloud_id or "")) is not None
    }
    reserved = [
        (each.resources, total(held for preemptor, held in leaving.values() if preemptor == each.vm_id))
        for each in others
    ]
    free = host.free - total(building) if building else host.free
    uncounted = (
        total(
            vm.resources
            for vm in world.vms.at(host.name)
            if vm.uncounted and vm.state is not State.BUILDING and vm.cloud_id not in host.allocations
        )
        if world.vms.uncounted
        else Resources()
    )
    return _free_capacity(
        host.capacity,
        free,
        reserved,
        total(held for _, held in leaving.values()),
        None if request is None else request.resources,
        uncounted,
    )


def free_in_group(world: World, reserved: ReservedCapacity, staying: frozenset[str] = frozenset()) -> FreeCapacity:
    """A host group as the owner of this reservation may use it. A tenant does not see what is free there. So it counts
    as free what the plan counted on, and what members have left since, less what newcomers have taken of that, and what
    is reserved there for others of the same batch."""
    present = {vm.id: vm for vm in world.vms.values() if vm.present}
    gone = total(held for member, held in reserved.members.items() if member not in present)
    gone += _foreign_change(world, reserved)
    others = {
        other.vm_id
        for other in world.reservations.values()
        if other.vm_id != reserved.vm_id and (other.kind, other.bin) == (reserved.kind, reserved.bin)
    }
    taken = total(
        vm.resources
        for vm in world.vms.values()
        if vm.id not in reserved.members
        and vm.id != reserved.vm_id
        and (
            vm.present
            and vm.host_id == reserved.bin
            or vm.state is State.BUILDING
            and not vm.host_id
            and vm.id in others
        )
    )
    leaving = [
        (present[member], held)
        for member, held in reserved.members.items()
        if member in present and present[member].is_leaving and member not in staying
    ]
    for_others = [
        (world.reservations[other].resources, total(held for vm, held in leaving if vm.evicted_for == other))
        for other in others
    ]
    return _free_capacity(
        reserved.resources, gone - taken, for_others, total(held for _, held in leaving), reserved.resources
    )


def _foreign_change(world: World, reserved: ReservedCapacity) -> Resources:
    """What the plan took to be free, and what servers that no VM accounts for have freed or taken there since."""
    basis = reserved.basis
    if basis is None:
        return Resources()
    return basis.free + total(basis.foreign.values()) - total(world.foreign.get(reserved.bin, {}).values())
