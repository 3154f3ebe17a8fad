"""What scheduling looks at: the cloud as it was read, joined with what the database says that we have promised.

Quota items (`instances`, `cores`, `ram`) and resource classes (`VCPU`, `MEMORY_MB`, ...) have different names, so the
sum of a quota vector and a room vector is one vector in which both shortages can be seen at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vmsvc.domain.lifecycle import LEAVING, State
from vmsvc.domain.resources import Inventory, Resources, total

QUOTA, HOST, HOST_ID = "quota", "host", "host_id"    # kinds of bin
PROJECT = "project"                                  # the one bin of kind QUOTA
UNLIMITED = 2**53                                    # stands for a quota without a limit: no request reaches it


@dataclass(frozen=True, slots=True)
class VmFacts:
    """One of our VMs: row and server together."""

    id: str
    state: State
    is_preemptible: bool
    quota: Resources
    room: Resources
    priority: int = 0
    cloud_id: str | None = None
    host: str | None = None            # operator: where it is, or where it is to be built
    host_id: str = ""
    present: bool = False              # the cloud's answer counted its server
    unseen: bool = False               # it stays, and its server came so late that the quota may not count it yet
    untouchable: bool = False          # locked, too young, or no longer carrying our mark: never a victim
    ran: bool = True
    lost_work: int = 0
    evicted_for: str | None = None
    group: str | None = None
    running: bool = True               # its guest can read a notice

    @property
    def leaves(self) -> bool:
        """True when the room that it still holds will be free without our doing more."""
        return self.present and (self.state in LEAVING or self.state is State.NOTICED or self.ended)

    @property
    def ended(self) -> bool:
        """True when it ended after the cloud was read: the answer still counts it."""
        return self.state in (State.EVICTED, State.DELETED, State.LOST, State.FAILED)


@dataclass(frozen=True, slots=True)
class HostFacts:
    """A compute host (operator mode)."""

    name: str
    inventories: Mapping[str, Inventory]
    allocations: Mapping[str, Resources]       # cloud id -> what it holds here
    available: bool = True
    availability_zone: str | None = None

    @property
    def capacity(self) -> Resources:
        """What Placement lets be claimed, by class."""
        return Resources({name: inventory.capacity for name, inventory in self.inventories.items()})

    def admits(self, room: Resources) -> bool:
        """True when an empty host like this would take the claim."""
        return all(name in self.inventories and self.inventories[name].admits(amount)
                   for name, amount in room.items())


@dataclass(frozen=True, slots=True)
class Request:
    """A VM that waits for room."""

    id: str
    is_preemptible: bool
    quota: Resources
    room: Resources
    availability_zone: str | None = None
    refusal: str | None = None                 # what the cloud said last: no_capacity, quota_exceeded
    refusals: int = 0
    freed_since: bool = False                  # room was freed after that refusal: trying again is worth it
    avoid: frozenset[str] = frozenset()
    rounds: int = 0


@dataclass(frozen=True, slots=True)
class Reserved:
    """Room kept for a request. `members`: what each server of a hostId group held when the plan was made."""

    vm_id: str
    kind: str
    bin: str
    quota: Resources
    room: Resources
    members: Mapping[str, Resources] = field(default_factory=dict)


@dataclass(slots=True)
class World:
    """All of it. `placed` and `noticed` keep it true while one pass decides several requests."""

    operator: bool
    quota_limit: Resources
    quota_used: Resources
    hosts: Mapping[str, HostFacts]
    vms: dict[str, VmFacts]
    reservations: dict[str, Reserved]
    budgets: dict[str, int] = field(default_factory=dict)    # group -> how many more of it may be noticed
    max_victims: int = 20

    def victims_of(self, vm_id: str, *states: State) -> list[VmFacts]:
        """Who is to go for a request, in these states."""
        return [vm for vm in self.vms.values() if vm.evicted_for == vm_id and vm.state in states]

    def placed(self, request: Request, host: str | None) -> None:
        """The request builds now: what it needs is taken although the cloud does not count it yet."""
        self.vms[request.id] = VmFacts(request.id, State.BUILDING, request.is_preemptible, request.quota,
                                       request.room, host=host)

    def reserved(self, request: Request, kind: str, bin_id: str, victims: tuple[str, ...],
                 members: Mapping[str, Resources]) -> None:
        """Room is kept for the request and its victims are told."""
        self.reservations[request.id] = Reserved(request.id, kind, bin_id, request.quota, request.room, members)
        for victim in victims:
            noticed = self.vms[victim] = replace(self.vms[victim], state=State.NOTICED, evicted_for=request.id)
            if noticed.group:
                self.budgets[noticed.group] -= 1

    def reprieved(self, victims: tuple[str, ...]) -> None:
        """These stay after all."""
        for victim in victims:
            spared = self.vms[victim] = replace(self.vms[victim], state=State.ACTIVE, evicted_for=None)
            if spared.group:
                self.budgets[spared.group] += 1

    def settled(self, vm_id: str) -> None:
        """The request no longer holds room."""
        self.reservations.pop(vm_id, None)


@dataclass(frozen=True, slots=True)
class Room:
    """Room in one bin for one request: `now` it can be claimed, `soon` when all that leaves is gone; `short` is what
    others were promised there beyond that. Servers so new that the cloud's answer may lack them (`unseen`) take room
    off `now`, lest a request be placed too early, and not off `soon`, lest somebody go for room that is there."""

    now: Resources
    soon: Resources
    capacity: Resources
    short: Resources = Resources()
    unseen: Resources = Resources()

    @property
    def sure(self) -> Resources:
        """What will be there even if the new servers were not counted: enough to spare a victim."""
        return (self.soon - self.unseen).floored()


def _room(capacity: Resources, used: Resources, held: Resources, coming_for_held: Resources,
          coming: Resources) -> Room:
    """Others' reservations count, less what their own victims still hold: that part is not free yet anyway."""
    free = capacity - used
    later = free + coming - held
    return Room(now=(free - (held - coming_for_held).floored()).floored(), soon=later.floored(), capacity=capacity,
                short=(Resources() - later).floored())


def quota_room(world: World, request: Request, stays: frozenset[str] = frozenset()) -> Room:
    """The project's quota as this request may use it. `stays`: leaving VMs that are not to be counted as coming."""
    building = total(vm.quota for vm in world.vms.values()
                     if vm.state is State.BUILDING and not vm.present and vm.id != request.id)
    others = [kept for kept in world.reservations.values() if kept.vm_id != request.id]
    leaving = [vm for vm in world.vms.values() if vm.leaves and vm.id not in stays]
    owners = {kept.vm_id for kept in others}
    unseen = total(vm.quota for vm in world.vms.values() if vm.unseen and vm.id != request.id
                   and (vm.present or vm.state is not State.BUILDING))
    room = _room(world.quota_limit, world.quota_used + building, total(kept.quota for kept in others),
                 total(vm.quota for vm in leaving if vm.evicted_for in owners), total(vm.quota for vm in leaving))
    return replace(room, now=(room.now - unseen).floored(), unseen=unseen)


def host_room(world: World, host: HostFacts, request: Request, stays: frozenset[str] = frozenset()) -> Room:
    """One host as this request may use it."""
    building = total(vm.room for vm in world.vms.values()
                     if vm.state is State.BUILDING and vm.host == host.name and vm.id != request.id
                     and vm.cloud_id not in host.allocations)
    others = [kept for kept in world.reservations.values()
              if kept.vm_id != request.id and kept.kind == HOST and kept.bin == host.name]
    owners = {kept.vm_id for kept in others}
    leaving = [(vm, host.allocations[vm.cloud_id]) for vm in world.vms.values()
               if vm.leaves and vm.cloud_id in host.allocations and vm.id not in stays]
    unseen = total(vm.room for vm in world.vms.values() if vm.unseen and vm.state is not State.BUILDING
                   and vm.host == host.name and vm.cloud_id not in host.allocations)
    room = _room(host.capacity, total(host.allocations.values()) + building, total(kept.room for kept in others),
                 total(held for vm, held in leaving if vm.evicted_for in owners), total(held for _, held in leaving))
    return replace(room, now=(room.now - unseen).floored(), unseen=unseen)


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
    room = _room(gone, taken, total(world.reservations[other].room for other in others),
                 total(held for vm, held in leaving if vm.evicted_for in others), total(held for _, held in leaving))
    return replace(room, capacity=kept.room)
