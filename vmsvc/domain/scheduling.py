"""What is to be done for a request: pure decisions over a `World`.

`decide` is for a request without reserved room, `review` for one whose victims are on their way. Both answer with one
of the decisions below; `service.scheduler` carries it out in one transaction.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vmsvc.domain.bins import Bin
from vmsvc.domain.eligibility import eligible, why_none
from vmsvc.domain.lifecycle import State
from vmsvc.domain.places import Hosts, Listed, Places, group_bins, quota_bin
from vmsvc.domain.planner import Preempt, plan
from vmsvc.domain.planner import Refuse as NoPlan
from vmsvc.domain.resources import Resources, total
from vmsvc.domain.rooms import group_room, host_room, quota_room
from vmsvc.domain.survey import survey_of
from vmsvc.domain.victims import candidate, cost, eligible_victims, frees
from vmsvc.domain.vm import VmFacts
from vmsvc.domain.world import HOST, HOST_ID, PROJECT, QUOTA, Request, Reserved, World

MAX_ROUNDS = 2          # of eviction for one request
MAX_REFUSALS = 4        # of the cloud, where by our reckoning there was room
MAX_BUILDS = 3          # that fail, each on another host: as many as Nova tries where it may choose the host


@dataclass(frozen=True, slots=True)
class Place:
    """Boot it now, on this host (operator) or wherever the cloud likes; NOTICED victims that are left stay."""

    host: str | None = None


@dataclass(frozen=True, slots=True)
class Evict:
    """Keep this bin's room for it and give these notice; no victims: the room is on its way by itself."""

    kind: str
    bin: str
    victims: tuple[str, ...]
    criterion: str
    optimal: bool
    cost: Mapping[str, Any] = field(default_factory=dict)
    runner_up: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Reprieve:
    """These victims are no longer needed."""

    victims: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing now: something under way decides first."""

    why: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """No: nobody is evicted. `error` is the slug that the client sees."""

    error: str
    message: str


Decision = Place | Evict | Reprieve | Wait | Refuse


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
    candidates = tuple(candidate(vm, _held_in(vm, kept, world), world) for vm in noticed if not vm.locked)
    answer = plan([Bin(here.id, here.need, here.free, here.capacity, candidates)], max_victims=world.max_victims,
                  now=world.now)
    if isinstance(answer, NoPlan):
        if world.vms.unseen:
            return Wait("servers came while the cloud was read: the next look tells whether they were counted")
        return _decide_again(request, world)
    needed = frozenset(answer.victims if isinstance(answer, Preempt) else ())
    if stays - needed:
        return Reprieve(tuple(sorted(stays - needed)))
    return Wait("its room is being freed")


def _decide_again(request: Request, world: World) -> Decision:
    with world.unnoticed(request.id):
        return decide(request, world)


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
    if quota_room(world, request).now.covers(request.quota):
        roomy = survey_of(world).vacancy(request, world)
        if roomy is not None:
            return Place(roomy)
    if request.refusal == "cloud_error":
        # Its build failed. It may be tried on another host, as Nova does by itself, but nobody goes for that.
        return Refuse("cloud_error", request.said or "its build failed")
    hopeless = None if any(eligible(host, request) for host in world.hosts.values()) else why_none(request, world)
    return _by_plan(request, world, HOST, Hosts(request, world), "no_capacity", hopeless)


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
    return _by_plan(request, world, QUOTA, Listed(lambda building: [replace(
        quota_bin(request, world, building), need=request.quota)], world), "quota_exceeded")


def _decide_refused(request: Request, world: World) -> Decision:
    """The cloud had no room for it: that is all a tenant is told."""
    if any(vm.evicted_for != request.id for vm in world.vms.leaving):
        return Wait("a VM is leaving and may make room")
    if request.is_preemptible:
        return Refuse("no_capacity", "no host has room for it now, and a preemptible VM evicts nobody")
    if any(vm.id != request.id for vm in world.vms.building):
        return Wait("other VMs are being built; where they land decides")
    return _by_plan(request, world, HOST_ID, Listed(lambda building: group_bins(request, world, building), world),
                    "no_capacity")


# ---------------------------------------------------------------- both

def _by_plan(request: Request, world: World, kind: str, places: Places, error: str,
             hopeless: str | None = None) -> Decision:
    coming = places.soon()
    if request.is_preemptible:
        if coming is not None:
            return Wait("VMs are leaving and make room")
        why = "the quota has no room for it now" if _error(request, world, error) == "quota_exceeded" else \
            "no host has room for it now"
        return Refuse(_error(request, world, error), f"{hopeless or why}, and a preemptible VM evicts nobody")
    if coming is not None:
        return Evict(kind, coming, (), "room that is being freed already", True)
    return _by_victims(request, world, kind, places, error, hopeless)


def _by_victims(request: Request, world: World, kind: str, places: Places, error: str,
                hopeless: str | None) -> Decision:
    answer = places.plan(building=False)
    if isinstance(answer, Preempt):
        if request.rounds >= MAX_ROUNDS:
            return Refuse("no_capacity", f"room was freed {MAX_ROUNDS} times and taken by others each time")
        return Evict(kind, answer.bin_id, answer.victims, answer.criterion, answer.optimal,
                     cost(answer.objective, world), cost(answer.runner_up, world))
    if any(vm.is_preemptible for vm in world.vms.building) and not isinstance(places.plan(building=True), NoPlan):
        return Wait("VMs that could make room are still being built")
    return Refuse(_error(request, world, error), hopeless or answer.reason)


def _error(request: Request, world: World, error: str) -> str:
    """A host was looked for, but it is the quota that no eviction could satisfy: say so."""
    if error == "no_capacity" and not quota_room(world, request).soon.covers(request.quota):
        free = quota_room(world, request).soon
        mine = Resources() if request.is_preemptible else total(vm.quota for vm in eligible_victims(world, False))
        if not (free + mine).covers(request.quota):
            return "quota_exceeded"
    return error
