"""Where a request fits at once, with nobody evicted."""

from vmsvc.domain.decisions import Place
from vmsvc.domain.lifecycle import State
from vmsvc.domain.rooms import quota_room
from vmsvc.domain.survey import survey_of
from vmsvc.domain.world import HOST_ID, Request, World


def roomy(request: Request, world: World) -> Place | None:
    """The host where it fits at once, and least stays free."""
    if not quota_room(world, request).now.covers(request.quota):
        return None
    host = survey_of(world).vacancy(request, world)
    return None if host is None else Place(host)


def elsewhere(request: Request, world: World) -> Place | None:
    """Room that has appeared in another place than the one that is kept: whoever is only noticed need not go. A tenant
    may know of it when a VM as large has left since the cloud said no, and not to make room."""
    if world.operator:
        return roomy(request, world)
    alone = not any(kept.kind == HOST_ID for owner, kept in world.reservations.items() if owner != request.id)
    left = any(vm.state in (State.DELETED, State.LOST) and vm.evicted_for is None and vm.room.covers(request.room)
               and vm.ended_at > request.refused_at for vm in world.vms.values()) if request.refused_at else False
    return Place() if alone and left and quota_room(world, request).now.covers(request.quota) else None
