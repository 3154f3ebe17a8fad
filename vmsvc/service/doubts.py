"""What the cloud has to be asked before a decision is carried out."""

from vmsvc.domain.decisions import Decision, Evict, Place, Refuse
from vmsvc.domain.rooms import host_room
from vmsvc.domain.world import HOST, Request, World
from vmsvc.service.snapshot import Doubts, Snapshot


def doubts_of(request: Request, decision: Decision, world: World, snapshot: Snapshot) -> Doubts:
    """The host, before anybody is noticed for it, and before a boot where the host is doubted or nearly full by our
    reckoning; then it is enough to have asked who holds what there. And, before somebody is noticed or refused, whether
    there is a host with room that we do not know of. In either mode a look in order, unless it is placed while nothing
    is kept for others."""
    order = not snapshot.ordered and (not isinstance(decision, Place) or bool(world.reservations.keys() - {request.id}))
    if not world.operator:
        return Doubts(order=order)
    hosts, needs = set(), set()
    match decision:
        case Evict(kind=kind, bin=name, victims=victims) if victims:
            hosts |= {name} if kind == HOST else set()
            needs.add((request.room, request.traits))
        case Refuse(error="no_capacity"):
            needs.add((request.room, request.traits))
        case Place(host=str() as name):
            left = host_room(world, world.hosts[name], request).now - request.room
            # Where a victim's end was carried out a moment ago nothing but who came in its place can have changed.
            sure = left.covers(request.room) and name not in snapshot.doubted
            hosts |= set() if sure or name in snapshot.counted else {name}
    return Doubts(frozenset(hosts - snapshot.fresh), frozenset(needs - snapshot.sought), order)
