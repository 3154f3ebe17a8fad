"""What a decision changes: worked out on a trial world first, written to the database afterwards."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from vmsvc.domain.lifecycle import State
from vmsvc.domain.request import Request
from vmsvc.domain.resources import Resources
from vmsvc.scheduling.decisions import Decision, Evict, Place, Postpone, Queued, Refuse, Reprieve, Wait
from vmsvc.scheduling.world import HOST_GROUP, World


@dataclass(frozen=True, slots=True)
class Notice:
    """A victim that is to be noticed. `running`: its guest runs; `takes_notice`: the cloud lets vmsvc write a notice
    for the guest."""

    vm_id: str
    running: bool
    takes_notice: bool


@dataclass(frozen=True, slots=True)
class Change:
    """A decision and what follows from it. `reprieved`: victims of the request that stay, with the reason; `notices`:
    new victims (those that have their notice already keep it); `members`: of a host group, what each VM holds there."""

    request_id: str
    decision: Decision
    reprieved: tuple[str, ...] = ()
    reason: str = ""
    notices: tuple[Notice, ...] = ()
    members: Mapping[str, Resources] = field(default_factory=dict)


def change_world(world: World, request: Request, decision: Decision) -> Change:
    """Change `world`, which is in a trial, so that it is true for the next request. Returns what the decision changes
    in the database."""
    noticed = tuple(vm.id for vm in world.victims_of(request.id, State.NOTICED))
    match decision:
        case Wait():
            return Change(request.id, decision)
        case Place(host=host):
            world.reprieve(noticed)
            world.place(request, host)
            return Change(request.id, decision, noticed, "the room is there already")
        case Evict():
            return _evict(world, request, decision, noticed)
        case Reprieve(victims=victims):
            world.reprieve(victims)
            return Change(request.id, decision, victims, "room appeared by itself")
        case Postpone(why=why, groups=groups):
            world.reprieve(noticed)
            world.release(request.id)
            world.use_up_budgets(groups)
            return Change(request.id, decision, noticed, f"the plan has to wait: {why}")
        case Refuse(message=why) | Queued(why=why):
            world.reprieve(noticed)
            world.release(request.id)
            what = "was refused" if isinstance(decision, Refuse) else "waits in the queue"
            return Change(request.id, decision, noticed, f"the request {what}: {why}")
    raise AssertionError(decision)


def _evict(world: World, request: Request, plan: Evict, noticed: tuple[str, ...]) -> Change:
    staying = tuple(vm_id for vm_id in noticed if vm_id not in plan.victims)
    world.reprieve(staying)
    members = _members(world, plan)
    notices = tuple(
        Notice(vm_id, world.vms[vm_id].running, world.vms[vm_id].takes_notice)
        for vm_id in plan.victims
        if vm_id not in noticed
    )
    world.reserve(request, plan.kind, plan.bin, plan.victims, members, plan.basis)
    return Change(request.id, plan, staying, "another plan was made", notices, members)


def _members(world: World, plan: Evict) -> Mapping[str, Resources]:
    if plan.kind != HOST_GROUP:
        return {}
    if plan.members is not None:
        return plan.members
    return {vm.id: vm.resources for vm in world.vms.values() if vm.present and vm.host_id == plan.bin}
