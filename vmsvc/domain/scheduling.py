"""What is to be done for a request: pure decisions over a `World`.

`decide` is for a request without reserved room, `review` for one whose victims are on their way. Both answer with one
of `domain.decisions`; `service.scheduler` carries it out in one transaction.
"""

from collections.abc import Callable, Iterable

from vmsvc.domain.decisions import Decision, Evict, Place, Postpone, Refuse, Reprieve, Wait
from vmsvc.domain.eligibility import eligible, why_none
from vmsvc.domain.host import Host
from vmsvc.domain.lifecycle import State
from vmsvc.domain.objective import Candidate, cost_of
from vmsvc.domain.planner import Bin, Fits, Outcome, Preempt, plan
from vmsvc.domain.planner import Refuse as NoPlan
from vmsvc.domain.quota import join
from vmsvc.domain.resources import Resources
from vmsvc.domain.roomy import eligible_hosts, elsewhere, roomy
from vmsvc.domain.victims import candidate, eligible_victims, frees, on_hosts, within
from vmsvc.domain.vm import VmFacts
from vmsvc.domain.world import (HOST, HOST_ID, PROJECT, QUOTA, Request, Reserved, World, group_room, host_room,
                                host_rooms, quota_room)

MAX_ROUNDS = 2          # of eviction for one request
MAX_REFUSALS = 4        # of the cloud, where by our reckoning there was room
MAX_BUILDS = 3          # that fail, each on another host: as many as Nova tries where it may choose the host
_UNSEEN = "servers came while the cloud was read: the next look tells whether they were counted"
_NO_MORE_ROUNDS = Refuse("no_capacity", f"after {MAX_ROUNDS} rounds of eviction there is no room for it: others took "
                                        f"it each time, or its victims could not go")


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
        return decide(request, world.unnoticed(request.id))
    here, fits_now = spot
    if fits_now:
        return Place(kept.bin if kept.kind == HOST else None)
    return (elsewhere(request, world) if noticed else None) or _go_on(request, kept, here, world)


def _go_on(request: Request, kept: Reserved, here: Bin, world: World) -> Decision:
    """The room is not there yet: whom does it still take?"""
    noticed = world.victims_of(request.id, State.NOTICED)
    stays = frozenset(vm.id for vm in noticed)
    candidates = tuple(candidate(vm, _held_in(vm, kept, world)) for vm in noticed if not vm.locked)
    answer = plan([Bin(here.id, here.need, here.free, here.capacity, candidates)], max_victims=world.max_victims)
    if isinstance(answer, NoPlan):
        if world.vms.unseen:
            return Wait(_UNSEEN)
        return decide(request, world.unnoticed(request.id))
    needed = frozenset(answer.victims if isinstance(answer, Preempt) else ())
    if stays - needed:
        return Reprieve(tuple(sorted(stays - needed)))
    return Wait("its room is being freed")


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
    quota = quota_room(world, request)
    hosts = eligible_hosts(request, world)
    rooms = host_rooms(world, hosts, request)
    if place := roomy(request, rooms, quota):
        return place
    if request.refusal == "cloud_error":
        # Its build failed. It may be tried on another host, as Nova does by itself, but nobody goes for that.
        return Refuse("cloud_error", request.said or "its build failed")

    def bins(building: bool) -> list[Bin]:
        victims = eligible_victims(world, building)
        there = on_hosts(victims)
        places = [Bin(host.name, request.room + rooms[host.name].short, rooms[host.name].soon,
                      rooms[host.name].capacity, _on_host(there.get(host.name, []), host)) for host in hosts]
        project = Bin(PROJECT, request.quota + quota.short, quota.soon, quota.capacity,
                      tuple(candidate(vm, vm.quota) for vm in victims))
        return join(places, project, max_victims=world.max_victims)

    def sure(host: str) -> bool:
        return (rooms[host].sure.covers(request.room + rooms[host].short)
                and quota.sure.covers(request.quota + quota.short))

    return _by_plan(request, world, HOST, bins, sure, "no_capacity",
                    None if hosts else why_none(request, world))


def _on_host(there: Iterable[VmFacts], host: Host) -> tuple[Candidate, ...]:
    """Those who free room there."""
    return tuple(candidate(vm, freed) for vm in there if (freed := frees(vm, host)))


# ---------------------------------------------------------------- tenant: only the quota and hostId hashes are known

def _decide_tenant(request: Request, world: World) -> Decision:
    if any(kept.kind == HOST_ID and kept.vm_id != request.id for kept in world.reservations.values()):
        return Wait("room is being freed for an earlier request, and this cloud does not say where a VM would go")
    quota = quota_room(world, request)
    refused = request.refusal == "no_capacity"
    worth_trying = not refused or (request.freed_since and request.refusals < MAX_REFUSALS)
    if quota.now.covers(request.quota) and worth_trying:
        return Place()
    if refused:                 # quota alone would not help it
        return _decide_refused(request, world)
    return _by_plan(request, world, QUOTA, lambda building: [
        Bin(PROJECT, request.quota, quota.soon, quota.capacity,
            tuple(candidate(vm, vm.quota) for vm in eligible_victims(world, building)))],
            lambda _: quota.sure.covers(request.quota + quota.short), "quota_exceeded")


def _decide_refused(request: Request, world: World) -> Decision:
    """The cloud had no room for it: that is all a tenant is told."""
    if any(vm.evicted_for != request.id for vm in world.vms.leaving):
        return Wait("a VM is leaving and may make room")
    if request.is_preemptible:
        return Refuse("no_capacity", "no host has room for it now, and a preemptible VM evicts nobody")
    if any(vm.id != request.id for vm in world.vms.building):
        return Wait("other VMs are being built; where they land decides")
    return _by_plan(request, world, HOST_ID, lambda building: group_bins(request, world, building), lambda _: True,
                    "no_capacity")


def group_bins(request: Request, world: World, building: bool) -> list[Bin]:
    """One bin for each hostId: its true free room is unknown and taken as none, so what is freed there suffices.
    Where quota is short too, those elsewhere free that."""
    victims, quota = eligible_victims(world, building), quota_room(world, request)
    groups = sorted({vm.host_id for vm in victims if vm.host_id})
    if quota.soon.covers(request.quota):
        return [Bin(group, request.room, Resources(), request.room,
                    tuple(candidate(vm, vm.room) for vm in victims if vm.host_id == group)) for group in groups]
    return [Bin(group, request.room + request.quota, quota.soon, request.room + quota.capacity,
                tuple(candidate(vm, vm.room + vm.quota if vm.host_id == group else vm.quota) for vm in victims))
            for group in groups]


# ---------------------------------------------------------------- both

def _by_plan(request: Request, world: World, kind: str, bins: Callable[[bool], list[Bin]],
             sure: Callable[[str], bool], error: str, hopeless: str | None = None) -> Decision:
    """Ask the planner; `bins(building)` gives them without or with the VMs that are still being built, `sure` tells
    of a bin whether what is coming there suffices even if the cloud has not counted the newest servers yet."""
    without_victims = [Bin(each.id, each.need, each.free, each.capacity, ()) for each in bins(False)]
    coming = plan(without_victims, max_victims=world.max_victims)
    if request.is_preemptible:
        if isinstance(coming, Fits):
            return Wait("VMs are leaving and make room")
        why = "the quota has no room for it now" if _error(request, world, error) == "quota_exceeded" else \
            "no host has room for it now"
        return Refuse(_error(request, world, error), f"{hopeless or why}, and a preemptible VM evicts nobody")
    if isinstance(coming, Fits):
        if not sure(coming.bin_id):
            return Wait(_UNSEEN)
        return Evict(kind, coming.bin_id, (), "room that is being freed already", True)
    return _by_victims(request, world, kind, bins, error, hopeless)


def _by_victims(request: Request, world: World, kind: str, bins: Callable[[bool], list[Bin]], error: str,
                hopeless: str | None) -> Decision:
    answer = _plan(bins(False), world)
    if isinstance(answer, Preempt):
        if request.rounds >= MAX_ROUNDS:
            return _NO_MORE_ROUNDS
        return Evict(kind, answer.bin_id, answer.victims, answer.criterion, answer.optimal,
                     cost_of(answer.objective), cost_of(answer.runner_up))
    if not isinstance(_plan(bins(True), world), NoPlan):
        return Wait("VMs that could make room are still being built")
    if groups := _used_up(bins(True), world):
        return _until_they_are_back(request, world, groups)
    return Refuse(_error(request, world, error), hopeless or answer.reason)


def _until_they_are_back(request: Request, world: World, groups: frozenset[str]) -> Decision:
    names = ", ".join(sorted(groups))
    if request.rounds >= MAX_ROUNDS:
        return _NO_MORE_ROUNDS
    if request.waited >= world.patience:
        return Refuse("no_capacity", f"the budget of eviction group {names} has been used up all the while")
    return Postpone(f"as many VMs of eviction group {names} as may go at once are noticed or leaving", groups)


def _used_up(bins: list[Bin], world: World) -> frozenset[str]:
    """The groups of the best plan where there is none only because some of a group are away now."""
    if all(world.budgets.get(group, 0) >= most for group, most in world.limits.items()):
        return frozenset()
    answer = plan(bins, max_victims=world.max_victims, budgets=world.limits)
    victims = answer.victims if isinstance(answer, Preempt) else ()
    return frozenset(group for group in (world.vms[victim].group for victim in victims) if group)


def _plan(bins: list[Bin], world: World) -> Outcome:
    return plan(bins, max_victims=world.max_victims, cost_words=world.cost_words, budgets=world.budgets)


def _error(request: Request, world: World, error: str) -> str:
    """A host was looked for, but it is the quota that no eviction could satisfy: say so."""
    if error == "no_capacity" and not quota_room(world, request).soon.covers(request.quota):
        free = quota_room(world, request).soon
        mine = Resources() if request.is_preemptible else sum(
            (vm.quota for vm in within(eligible_victims(world, False), world.limits)), Resources())
        if not (free + mine).covers(request.quota):
            return "quota_exceeded"
    return error
