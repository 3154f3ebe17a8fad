"""What the cloud has to be asked before a decision is carried out."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from vmsvc.domain.acceptance import Verdict
from vmsvc.domain.lifecycle import State
from vmsvc.domain.request import Request
from vmsvc.scheduling.decisions import Decision, Evict, Place, Postpone, Refuse, Reprieve, Wait
from vmsvc.scheduling.free_capacity import free_on_host
from vmsvc.scheduling.world import HOST, World
from vmsvc.service.scheduling.snapshot import Doubts, Snapshot
from vmsvc.service.scheduling.verdicts import key_of
from vmsvc.service.scheduling.world_cache import View
from vmsvc.store import ledger, vms
from vmsvc.store.models import Vm

#: So long before the first victim goes the cloud is asked about the request again, in each pass of the scheduler.
_LAST_LOOK = timedelta(seconds=2)


def doubts_of(request: Request, decision: Decision, world: World, snapshot: Snapshot,
              boot: Mapping[str, Any] | None = None) -> Doubts:
    """Before anybody is noticed: whether Nova takes such a request at all (`boot`), and the host. The host also before
    a boot where it is doubted or nearly full by our reckoning; then it is enough to have asked who holds what there.
    And, before somebody is noticed or refused, whether there is a host with room that we do not know of. In either mode
    a look in order, unless it is placed while nothing is kept for others."""
    order = not snapshot.ordered and (not isinstance(decision, Place) or bool(world.reservations.keys() - {request.id}))
    boots = {}
    if boot is not None and isinstance(decision, Evict) and decision.victims:
        boots = {key: boot for key in [key_of(boot)] if key not in snapshot.verdicts}
    if not world.operator:
        return Doubts(order=order, boots=boots)
    hosts, needs = set(), set()
    match decision:
        case Evict(kind=kind, bin=name, victims=victims) if victims:
            hosts |= {name} if kind == HOST else set()
            needs.add((request.resources, request.traits))
        case Refuse(error="no_capacity"):
            needs.add((request.resources, request.traits))
        case Place(host=str() as name):
            left = free_on_host(world, world.hosts[name], request).now - request.resources
            # Where a victim's end was carried out a moment ago nothing but who came in its place can have changed.
            sure = left.covers(request.resources) and name not in snapshot.doubted
            hosts |= set() if sure or name in snapshot.counted else {name}
    return Doubts(frozenset(hosts - snapshot.fresh), frozenset(needs - snapshot.sought), order, boots)


def last_doubts(row: Vm, view: View, snapshot: Snapshot, now: datetime) -> Doubts:
    """Shortly before the victims of a request go: whether Nova still takes it, and whether a port and an address are
    left for it. What it names may have been deleted during their notice, and what was free been taken."""
    noticed = view.world.victims_of(row.id, State.NOTICED)
    going = [view.rows[vm.id].evict_at for vm in noticed if view.rows[vm.id].evict_at]
    key = key_of(row.boot)
    if not going or min(going) - now > _LAST_LOOK or key in snapshot.verdicts:
        return Doubts()
    return Doubts(boots={key: row.boot})


def examined(row: Vm | None, decision: Decision, view: View, verdict: Verdict | None,
             boot: Mapping[str, Any] | None = None) -> Decision:
    """The decision, or a refusal where the cloud has said that the request could not be carried out though its victims
    had gone: those of a new plan, or those that have their notice already. `row` is the request's, None for one that is
    only asked about (then `boot` is what it asks for)."""
    victims = _victims(row, decision, view.world) if verdict else frozenset()
    if not victims:
        return decision
    if verdict.unanswered:
        return (Postpone(f"the cloud does not say whether it takes the request: {verdict.unanswered}", frozenset())
                if isinstance(decision, Evict) else decision)
    boot = boot or row.boot
    world, network = view.world, boot["network_id"]
    leaving = {vm.cloud_id for vm in (*map(world.vms.__getitem__, victims), *world.vms.leaving)
               if vm.id in victims or vm.state is State.DELETING or (row and vm.evicted_for == row.id)}
    claims = 0
    if verdict.counts:
        holders = verdict.addresses.holders if verdict.addresses else frozenset()
        taking = {vm.id for vm in world.vms.building if vm.cloud_id not in holders} | world.reservations.keys()
        claims = vms.on_network(network, taking - {row and row.id})
    verdict = replace(verdict, unplugged=ledger.unplugged(network))
    objection = verdict.object_to(leaving, claims)
    return Refuse(objection.error, objection.message) if objection else decision


def _victims(row: Vm | None, decision: Decision, world: World) -> frozenset[str]:
    """Who is to go by this decision and has not begun to."""
    match decision:
        case Evict(victims=victims):
            return frozenset(victims)
        case Wait() | Reprieve() if row is not None:
            spared = decision.victims if isinstance(decision, Reprieve) else ()
            return frozenset(vm.id for vm in world.victims_of(row.id, State.NOTICED)) - {*spared}
    return frozenset()
