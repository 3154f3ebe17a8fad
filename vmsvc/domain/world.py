"""What scheduling looks at: the cloud as it was read, joined with what the database says that we have promised.

Quota items (`instances`, `cores`, `ram`) and resource classes (`VCPU`, `MEMORY_MB`, ...) have different names, so the
sum of a quota vector and a room vector is one vector in which both shortages can be seen at once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from vmsvc.domain.flavors import Traits
from vmsvc.domain.host import Host
from vmsvc.domain.lifecycle import State
from vmsvc.domain.resources import Resources, total
from vmsvc.domain.roster import Roster
from vmsvc.domain.vm import VmFacts

QUOTA, HOST, HOST_ID = "quota", "host", "host_id"    # kinds of bin
PROJECT = "project"                                  # the one bin of kind QUOTA
UNLIMITED = 2**53                                    # stands for a quota without a limit: no request reaches it


@dataclass(frozen=True, slots=True)
class Request:
    """A VM that waits for room."""

    id: str
    is_preemptible: bool
    quota: Resources
    room: Resources
    availability_zone: str | None = None
    traits: Traits = Traits()
    refusal: str | None = None                 # what the cloud said last: no_capacity, quota_exceeded
    refusals: int = 0
    refused_at: datetime | None = None
    freed_since: bool = False                  # room was freed after that refusal: trying again is worth it
    said: str | None = None                    # ... in its own words
    avoid: frozenset[str] = frozenset()        # hosts that refused it
    cooling: Mapping[str, str] = field(default_factory=dict)   # hosts that refused others like it lately, and how
    rounds: int = 0
    waited: float = 0.0                        # seconds since it came, or came back refused


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
    hosts: Mapping[str, Host]
    vms: Roster
    reservations: dict[str, Reserved]
    budgets: dict[str, int] = field(default_factory=dict)    # group -> how many more of it may be noticed
    limits: Mapping[str, int] = field(default_factory=dict)  # ... and how many when nobody of it is away
    patience: float = 600.0                                  # seconds for which a request waits for a budget
    max_victims: int = 20
    cost_words: str = "less lost work"                       # what criterion 3 is called, by the policy

    def victims_of(self, vm_id: str, *states: State) -> list[VmFacts]:
        """Who is to go for a request, in these states."""
        return [vm for vm in self.vms.victims_of(vm_id) if vm.state in states]

    def placed(self, request: Request, host: str | None) -> None:
        """The request builds now: what it needs is taken although the cloud does not count it yet."""
        self.vms.put(VmFacts(request.id, State.BUILDING, request.is_preemptible, request.quota, request.room,
                             host=host))

    def reserved(self, request: Request, kind: str, bin_id: str, victims: tuple[str, ...],
                 members: Mapping[str, Resources]) -> None:
        """Room is kept for the request and its victims are told."""
        self.reservations[request.id] = Reserved(request.id, kind, bin_id, request.quota, request.room, members)
        for victim in victims:
            known = self.vms[victim]
            if known.group and known.state is not State.NOTICED:
                self.budgets[known.group] -= 1
            self.vms.put(replace(known, state=State.NOTICED, evicted_for=request.id))

    def reprieved(self, victims: tuple[str, ...]) -> None:
        """These stay after all."""
        for victim in victims:
            spared = replace(self.vms[victim], state=State.ACTIVE, evicted_for=None)
            self.vms.put(spared)
            if spared.group:
                self.budgets[spared.group] += 1

    def unnoticed(self, request_id: str) -> "World":
        """The same world as if nobody had been noticed for this request yet: for making its plan again."""
        again = replace(self, vms=Roster(self.vms.values()), budgets=dict(self.budgets))
        noticed = self.victims_of(request_id, State.NOTICED)
        again.reprieved(tuple(vm.id for vm in noticed))
        for vm in noticed:
            again.vms.put(replace(again.vms[vm.id], untouchable=vm.locked))
        return again

    def held_back(self, groups: Iterable[str]) -> None:
        """An earlier request waits for the budgets of these: nobody later in the order uses what is left of them."""
        self.budgets.update(dict.fromkeys(groups, 0))

    def settled(self, vm_id: str) -> None:
        """The request no longer holds room."""
        self.reservations.pop(vm_id, None)


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
          coming: Resources, needed: Resources, unseen: Resources = Resources()) -> Room:
    """`kept`: others' reservations, each with what its own victims still hold of it: that part is not free yet."""
    later, now = free + coming, free
    for held, still in kept:
        later, now = later - held, now - (held - still).floored()
    short = {name: -later[name] for name in needed if later[name] < 0}
    return Room(now=(now - unseen).floored(), soon=later.floored(), capacity=capacity, short=Resources(short),
                unseen=unseen)


def quota_room(world: World, request: Request, stays: frozenset[str] = frozenset()) -> Room:
    """The project's quota as this request may use it. `stays`: leaving VMs that are not to be counted as coming."""
    building = total(vm.quota for vm in world.vms.building if not vm.present and vm.id != request.id)
    leaving = [vm for vm in world.vms.leaving if vm.id not in stays]
    kept = [(kept.quota, total(vm.quota for vm in leaving if vm.evicted_for == kept.vm_id))
            for kept in world.reservations.values() if kept.vm_id != request.id]
    unseen = total(vm.quota for vm in world.vms.unseen if vm.id != request.id
                   and (vm.present or vm.state is not State.BUILDING))
    return _room(world.quota_limit, world.quota_limit - world.quota_used - building, kept,
                 total(vm.quota for vm in leaving), request.quota, unseen)


def host_rooms(world: World, hosts: Iterable[Host], request: Request,
               stays: frozenset[str] = frozenset()) -> dict[str, Room]:
    """Hosts as this request may use them, by name."""
    kept: dict[str, list[Reserved]] = {}
    for each in world.reservations.values():
        if each.kind == HOST and each.vm_id != request.id:
            kept.setdefault(each.bin, []).append(each)
    return {host.name: _host_room(world, host, kept.get(host.name, []), request, stays) for host in hosts}


def host_room(world: World, host: Host, request: Request, stays: frozenset[str] = frozenset()) -> Room:
    """One host as this request may use it."""
    return host_rooms(world, [host], request, stays)[host.name]


def _host_room(world: World, host: Host, others: list[Reserved], request: Request, stays: frozenset[str]) -> Room:
    moving = [vm for vm in world.vms.moving(host.name) if vm.id != request.id and vm.id not in stays]
    building = [vm.room for vm in moving if vm.state is State.BUILDING and vm.cloud_id not in host.allocations]
    leaving = {vm.id: (vm.evicted_for, host.allocations[vm.cloud_id]) for vm in moving
               if vm.leaves and vm.cloud_id in host.allocations}
    kept = [(each.room, total(held for owner, held in leaving.values() if owner == each.vm_id)) for each in others]
    free = host.free - total(building) if building else host.free
    unseen = total(vm.room for vm in world.vms.unseen if vm.host == host.name and vm.state is not State.BUILDING
                   and vm.cloud_id not in host.allocations)
    return _room(host.capacity, free, kept, total(held for _, held in leaving.values()), request.room, unseen)


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
