"""Where a request fits at once, with nobody evicted."""

from collections.abc import Mapping

from vmsvc.domain.decisions import Place
from vmsvc.domain.eligibility import eligible
from vmsvc.domain.host import Host
from vmsvc.domain.lifecycle import State
from vmsvc.domain.world import HOST_ID, Request, Room, World, host_rooms, quota_room


def eligible_hosts(request: Request, world: World) -> list[Host]:
    """The hosts to which it could go, were they empty."""
    return [host for host in world.hosts.values() if eligible(host, request)]


def roomy(request: Request, rooms: Mapping[str, Room], quota: Room) -> Place | None:
    """Where it fits at once, and least stays free."""
    fits = [name for name, room in rooms.items() if room.now.covers(request.room)]
    if not fits or not quota.now.covers(request.quota):
        return None
    return Place(min(fits, key=lambda name: (sum((rooms[name].now - request.room).values()), name)))


def elsewhere(request: Request, world: World) -> Place | None:
    """Room that has appeared in another place: whoever is only noticed need not go. A tenant may know of it when a VM
    as large has left since the cloud said no, and not to make room."""
    if world.operator:
        return roomy(request, host_rooms(world, eligible_hosts(request, world), request), quota_room(world, request))
    alone = not any(kept.kind == HOST_ID for owner, kept in world.reservations.items() if owner != request.id)
    left = any(vm.state in (State.DELETED, State.LOST) and vm.evicted_for is None and vm.room.covers(request.room)
               and vm.ended_at > request.refused_at for vm in world.vms.values()) if request.refused_at else False
    return Place() if alone and left and quota_room(world, request).now.covers(request.quota) else None
