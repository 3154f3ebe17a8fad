"""How much room there is for a request: what is used, what is promised to others, what is on its way."""

from collections.abc import Iterable
from dataclasses import dataclass

from vmsvc.domain.host import Host
from vmsvc.domain.lifecycle import State
from vmsvc.domain.resources import Resources, total
from vmsvc.domain.world import HOST, Request, Reserved, World


@dataclass(frozen=True, slots=True)
class Room:
    """Room in one bin for one request: `now` it can be claimed, `soon` when all that leaves is gone; `short` is what
    must leave beyond that before anything fits, because the bin is over-committed or others were promised its room.
    Servers so new that the cloud's answer may lack them (`unseen`) take room off `now`, lest a request be placed too
    early, and not off `soon`, lest somebody go for room that is there."""

    now: Resources
    soon: Resources
    capacity: Resources
    short: Resources = Resources()
    unseen: Resources = Resources()

    @property
    def sure(self) -> Resources:
        """What will be there even if the new servers were not counted: enough to spare a victim."""
        return (self.soon - self.unseen).floored()


def _room(capacity: Resources, free: Resources, kept: Iterable[tuple[Resources, Resources]],
          coming: Resources, needed: Resources | None, unseen: Resources = Resources()) -> Room:
    """`kept`: others' reservations, each with what its own victims still hold of it: that part is not free yet.
    `needed`: the classes of which a shortage matters; None for all."""
    later, now = free + coming, free
    for held, still in kept:
        later, now = later - held, now - (held - still).floored()
    short = {name: -later[name] for name in (later if needed is None else needed) if later[name] < 0}
    return Room(now=(now - unseen).floored(), soon=later.floored(), capacity=capacity, short=Resources(short),
                unseen=unseen)


def quota_room(world: World, request: Request, stays: frozenset[str] = frozenset()) -> Room:
    """The project's quota as this request may use it. `stays`: leaving VMs that are not to be counted as coming."""
    building = total(vm.quota for vm in world.vms.building if not vm.present and vm.id != request.id)
    leaving = [vm for vm in world.vms.leaving if vm.id not in stays]
    kept = [(kept.quota, total(vm.quota for vm in world.vms.victims_of(kept.vm_id)
                               if vm.leaves and vm.id not in stays))
            for kept in world.reservations.values() if kept.vm_id != request.id]
    unseen = total(vm.quota for vm in world.vms.unseen if vm.id != request.id
                   and (vm.present or vm.state is not State.BUILDING))
    return _room(world.quota_limit, world.quota_limit - world.quota_used - building, kept,
                 total(vm.quota for vm in leaving), request.quota, unseen)


def host_rooms(world: World, hosts: Iterable[Host], request: Request | None = None,
               stays: frozenset[str] = frozenset()) -> dict[str, Room]:
    """Hosts as this request may use them, by name; without one, as anybody may who has no part in the world yet."""
    kept: dict[str, list[Reserved]] = {}
    for each in world.reservations.values():
        if each.kind == HOST and (request is None or each.vm_id != request.id):
            kept.setdefault(each.bin, []).append(each)
    return {host.name: _host_room(world, host, kept.get(host.name, []), request, stays) for host in hosts}


def host_room(world: World, host: Host, request: Request, stays: frozenset[str] = frozenset()) -> Room:
    """One host as this request may use it."""
    return host_rooms(world, [host], request, stays)[host.name]


def _host_room(world: World, host: Host, others: list[Reserved], request: Request | None,
               stays: frozenset[str]) -> Room:
    mine = None if request is None else request.id
    moving = [vm for vm in world.vms.moving(host.name) if vm.id != mine and vm.id not in stays]
    building = [vm.room for vm in moving if vm.state is State.BUILDING and vm.cloud_id not in host.allocations]
    leaving = {vm.id: (vm.evicted_for, host.allocations[vm.cloud_id]) for vm in moving
               if vm.leaves and vm.cloud_id in host.allocations}
    kept = [(each.room, total(held for owner, held in leaving.values() if owner == each.vm_id)) for each in others]
    free = host.free - total(building) if building else host.free
    unseen = total(vm.room for vm in world.vms.at(host.name) if vm.unseen and vm.state is not State.BUILDING
                   and vm.cloud_id not in host.allocations) if world.vms.unseen else Resources()
    return _room(host.capacity, free, kept, total(held for _, held in leaving.values()),
                 None if request is None else request.room, unseen)


def group_room(world: World, kept: Reserved, stays: frozenset[str] = frozenset()) -> Room:
    """A hostId group whose true free room nobody tells us: what its members held that have left since the plan, less
    what newcomers have taken of it and what is kept there for others of the same batch."""
    present = {vm.id: vm for vm in world.vms.values() if vm.present}
    gone = total(held for member, held in kept.members.items() if member not in present)
    others = {other.vm_id for other in world.reservations.values()
              if other.vm_id != kept.vm_id and (other.kind, other.bin) == (kept.kind, kept.bin)}
    taken = total(vm.room for vm in world.vms.values() if vm.id not in kept.members and vm.id != kept.vm_id
                  and (vm.present and vm.host_id == kept.bin
                       or vm.state is State.BUILDING and not vm.host_id and vm.id in others))
    leaving = [(present[member], held) for member, held in kept.members.items()
               if member in present and present[member].leaves and member not in stays]
    promised = [(world.reservations[other].room, total(held for vm, held in leaving if vm.evicted_for == other))
                for other in others]
    return _room(kept.room, gone - taken, promised, total(held for _, held in leaving), kept.room)
