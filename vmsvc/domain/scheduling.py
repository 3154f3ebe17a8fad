"""What is to be done for a request: pure decisions over a `World`.

`decide` is for a request without reserved room, `review` for one whose victims are on their way. Both answer with one
of `domain.decisions`; `service.scheduler` carries it out in one transaction.
"""

from dataclasses import replace

from vmsvc.domain.bins import Bin
from vmsvc.domain.decisions import Decision, Evict, Place, Postpone, Refuse, Reprieve, Wait
from vmsvc.domain.eligibility import eligible, why_none
from vmsvc.domain.futility import why_futile
from vmsvc.domain.lifecycle import State
from vmsvc.domain.places import Hosts, Listed, Places, group_bins, quota_bin
from vmsvc.domain.planner import Preempt, plan
from vmsvc.domain.planner import Refuse as NoPlan
from vmsvc.domain.quota_shortage import quota_shortage
from vmsvc.domain.resources import Resources
from vmsvc.domain.roomy import elsewhere, roomy
from vmsvc.domain.rooms import group_room, host_room, quota_room
from vmsvc.domain.victims import candidate, cost, eligible_victims, frees
from vmsvc.domain.vm import VmFacts
from vmsvc.domain.world import HOST, HOST_ID, PROJECT, QUOTA, Request, Reserved, World

MAX_ROUNDS = 2          # of eviction for one request
MAX_REFUSALS = 4        # of the cloud, where by our reckoning there was room
MAX_BUILDS = 3          # that fail, each on another host: as many as Nova tries where it may choose the host
_UNSEEN = "servers came while the cloud was read: the next look tells whether they were counted"


def decide(request: Request, world: World) -> Decision:
    """For a request that holds no room."""
    if request.refusal == "cloud_error" and request.refusals >= MAX_BUILDS:
        return Refuse("cloud_error", request.said or "its build failed")
    if request.refusals >= MAX_REFUSALS and (world.operator or request.refusal != "no_capacity"):
        return Refuse(request.refusal or "no_capacity",
                      f"the cloud refused it although there should be room: {request.said or 'it does not say why'}")
    return _decide_operator(request, world) if world.operator else _decide_tenant(request, world)


def review(request: Request, kept: Reserved, world: World) -> Decision:
    """For a request that holds room: is it there, are all its victims still needed, did somebody take the room?"""
    noticed = world.victims_of(request.id, State.NOTICED)
    stays = frozenset(vm.id for vm in noticed)
    spot = _spot(request, kept, world, stays)
    if spot is None:
        return _decide_again(request, world)
    here, fits_now = spot
    if fits_now:
        return Place(kept.bin if kept.kind == HOST else None)
    return (elsewhere(request, world) if noticed else None) or _go_on(request, kept, here, world)


def _go_on(request: Request, kept: Reserved, here: Bin, world: World) -> Decision:
    """The room is not there yet: whom does it still take?"""
    noticed = world.victims_of(request.id, State.NOTICED)
    stays = frozenset(vm.id for vm in noticed)
    candidates = tuple(candidate(vm, _held_in(vm, kept, world), world) for vm in noticed if not vm.locked)
    answer = plan([Bin(here.id, here.need, here.free, here.capacity, candidates)], max_victims=world.max_victims,
                  now=world.now)
    if isinstance(answer, NoPlan):
        if world.vms.unseen:
            return Wait(_UNSEEN)
        return _with_others(request, kept, world) or _decide_again(request, world)
    needed = frozenset(answer.victims if isinstance(answer, Preempt) else ())
    if stays - needed:
        return Reprieve(tuple(sorted(stays - needed)))
    return Wait("its room is being freed")


def _with_others(request: Request, kept: Reserved, world: World) -> Evict | None:
    """In a hostId group, a plan that adds victims to those that have left there for this request; None where there is
    none. Only the reservation knows of the capacity that those freed: a new plan would count it as used."""
    if kept.kind != HOST_ID or request.rounds >= MAX_ROUNDS or why_futile(request, world):
        return None
    with world.unnoticed(request.id):
        here, _ = _spot(request, kept, world, frozenset())
        candidates = tuple(candidate(vm, _held_in(vm, kept, world), world) for vm in eligible_victims(world, False))
        answer = plan([replace(here, candidates=candidates)], max_victims=world.max_victims, now=world.now,
                      cost_words=world.cost_words, budgets=world.budgets)
        if not isinstance(answer, Preempt):
            return None
        return Evict(HOST_ID, kept.bin, answer.victims, answer.criterion, answer.optimal,
                     cost(answer.objective, world), cost(answer.runner_up, world), members=kept.members)


def _decide_again(request: Request, world: World) -> Decision:
    with world.unnoticed(request.id):
        decision = decide(request, world)
    if isinstance(decision, Wait) and decision.for_others:
        # Each of two such requests would keep a reservation that its plan cannot use, and wait for the other one for
        # ever. So this one gives its reservation up.
        return Postpone(decision.why, frozenset())
    return decision


def _spot(request: Request, kept: Reserved, world: World, stays: frozenset[str]) -> tuple[Bin, bool] | None:
    """The reserved bin with the noticed victims counted as staying, and whether the request fits there already."""
    # What others were promised counts with the need: a victim of ours may be what makes room for both of us.
    quota = quota_room(world, request, stays)
    if kept.kind == QUOTA:
        return (Bin(PROJECT, request.quota + quota.short, quota.sure, quota.capacity, ()),
                quota.now.covers(request.quota))
    need = request.room + request.quota
    if kept.kind == HOST:
        host = world.hosts.get(kept.bin)
        if host is None or not eligible(host, request):
            return None
        room = host_room(world, host, request, stays)
    else:
        room = group_room(world, kept, stays)
    return (Bin(kept.bin, need + room.short + quota.short, room.sure + quota.sure, room.capacity + quota.capacity, ()),
            (room.now + quota.now).covers(need))


def _held_in(vm: VmFacts, kept: Reserved, world: World) -> Resources:
    """What a victim frees in the reserved bin, quota included where that counts."""
    if kept.kind == QUOTA:
        return vm.quota
    if kept.kind == HOST_ID:
        return kept.members.get(vm.id, Resources()) + vm.quota
    return frees(vm, world.hosts[kept.bin]) + vm.quota


# ---------------------------------------------------------------- operator: hosts are known

def _decide_operator(request: Request, world: World) -> Decision:
    if place := roomy(request, world):
        return place
    if request.refusal == "cloud_error":
        # Its build failed. It may be tried on another host, as Nova does by itself, but nobody goes for that.
        return Refuse("cloud_error", request.said or "its build failed")
    hopeless = None if any(eligible(host, request) for host in world.hosts.values()) else why_none(request, world)
    return _by_plan(request, world, HOST, Hosts(request, world), hopeless)


# ---------------------------------------------------------------- tenant: only the quota and hostId hashes are known

def _decide_tenant(request: Request, world: World) -> Decision:
    if any(kept.kind == HOST_ID and kept.vm_id != request.id for kept in world.reservations.values()):
        return Wait("room is being freed for another request, and this cloud does not say where a VM would go", True)
    quota = quota_room(world, request)
    refused = request.refusal == "no_capacity"
    worth_trying = not refused or (request.freed_since and request.refusals < MAX_REFUSALS)
    if quota.now.covers(request.quota) and worth_trying:
        return Place()
    if refused:                 # quota alone would not help it
        return _decide_refused(request, world)
    bins = Listed(lambda building: [quota_bin(request, world, building)], world,
                  lambda _: quota.sure.covers(request.quota + quota.short))
    return _by_plan(request, world, QUOTA, bins)


def _decide_refused(request: Request, world: World) -> Decision:
    """The cloud had no room for it: that is all a tenant is told."""
    if any(vm.evicted_for != request.id for vm in world.vms.leaving):
        return Wait("a VM is leaving and may make room")
    if request.is_preemptible:
        return Refuse("no_capacity", "no host has room for it now, and a preemptible VM evicts nobody")
    if any(vm.id != request.id for vm in world.vms.building):
        return Wait("other VMs are being built; where they land decides")
    return _by_plan(request, world, HOST_ID, Listed(lambda building: group_bins(request, world, building), world))


# ---------------------------------------------------------------- both

def _by_plan(request: Request, world: World, kind: str, places: Places, hopeless: str | None = None) -> Decision:
    coming = places.soon()
    if request.is_preemptible:
        if coming is not None:
            return Wait("VMs are leaving and make room")
        if not quota_room(world, request).soon.covers(request.quota):
            return Refuse("quota_exceeded", "it does not fit the quota now, and a preemptible VM evicts nobody")
        return Refuse("no_capacity",
                      f"{hopeless or 'no host has room for it now'}, and a preemptible VM evicts nobody")
    if coming is not None:
        if not places.sure(coming):
            return Wait(_UNSEEN)
        return Evict(kind, coming, (), "room that is being freed already", True)
    return _by_victims(request, world, kind, places, hopeless)


def _by_victims(request: Request, world: World, kind: str, places: Places, hopeless: str | None) -> Decision:
    answer = places.plan(False, world.budgets)
    if isinstance(answer, Preempt):
        return _evict(request, world, kind, answer)
    building = any(vm.is_preemptible for vm in world.vms.building)
    if building and not isinstance(places.plan(True, world.budgets), NoPlan):
        return Wait("VMs that could make room are still being built")
    if groups := _used_up(places, world):
        return _until_they_are_back(request, world, groups)
    if reason := quota_shortage(request, world):
        return Refuse("quota_exceeded", reason)
    return Refuse("no_capacity", hopeless or answer.reason)


def _evict(request: Request, world: World, kind: str, found: Preempt) -> Decision:
    """Evict by this plan, unless the rounds are used up or `why_futile` decides otherwise."""
    if request.rounds >= MAX_ROUNDS:
        return _no_more_rounds(request, world)
    return why_futile(request, world) or Evict(
        kind, found.bin_id, found.victims, found.criterion, found.optimal, cost(found.objective, world),
        cost(found.runner_up, world))


def _no_more_rounds(request: Request, world: World) -> Refuse:
    """The refusal after the last round. Its message depends on the mode: only an operator sees what hosts have free."""
    if request.refusal is None:
        why = "its victims could not leave, or other VMs took the capacity that they freed"
    elif world.operator:
        why = f"the freed capacity was in use again when the cloud refused it ({request.said})"
    else:
        why = (f"the cloud refused it each time ({request.said}), and does not show a project whether the freed "
               "capacity was still there")
    return Refuse("no_capacity", f"after {MAX_ROUNDS} rounds of eviction there is no capacity for it: {why}")


def _until_they_are_back(request: Request, world: World, groups: frozenset[str]) -> Decision:
    names = ", ".join(sorted(groups))
    if request.rounds >= MAX_ROUNDS:
        return _no_more_rounds(request, world)
    if request.waited >= world.patience:
        return Refuse("no_capacity", f"the budget of eviction group {names} has been used up all the while")
    return Postpone(f"as many VMs of eviction group {names} as may go at once are noticed or leaving", groups)


def _used_up(places: Places, world: World) -> frozenset[str]:
    """The groups of the best plan where there is none only because some of a group are away now."""
    if all(world.budgets.get(group, 0) >= most for group, most in world.limits.items()):
        return frozenset()
    answer = places.plan(True, world.limits)
    victims = answer.victims if isinstance(answer, Preempt) else ()
    return frozenset(group for group in (world.vms[victim].group for victim in victims) if group)
