"""Several equal requests that all need victims: planned together, so that they free no more than they need together."""

from collections.abc import Callable, Sequence

from vmsvc.domain.batch import BatchPlan, plan_batch
from vmsvc.domain.decisions import Decision, Evict, Place
from vmsvc.domain.places import group_bins, quota_bin
from vmsvc.domain.planner import Refuse as NoPlan
from vmsvc.domain.resources import Resources
from vmsvc.domain.rooms import host_room, quota_room
from vmsvc.domain.scheduling import MAX_ROUNDS
from vmsvc.domain.survey import survey_of, terms_of
from vmsvc.domain.victims import cost
from vmsvc.domain.world import HOST, HOST_ID, QUOTA, Request, World

_Planning = Callable[[int], BatchPlan | NoPlan]


def alike(one: Request, other: Request) -> bool:
    """True when the two can stand for each other."""
    return ((one.is_preemptible, one.quota, one.room, one.availability_zone, one.refusal, one.avoid, one.rounds,
             one.traits, one.cooling, one.conditions, one.requirements, one.invalid)
            == (other.is_preemptible, other.quota, other.room, other.availability_zone, other.refusal, other.avoid,
                other.rounds, other.traits, other.cooling, other.conditions, other.requirements, other.invalid))


def decide_batch(requests: Sequence[Request], kind: str, world: World) -> list[Decision] | None:
    """A decision for the first so many of these equal requests, in their order, as many as there can be room for.

    `kind` is that of the bins in which the first alone would evict. None where they cannot be planned together
    (quota and hosts both short, a quota below what is used, a round too many, or conditions under which no VM was ever
    built): then they are decided one after the other.
    """
    if requests[0].rounds >= MAX_ROUNDS or not requests[0].precedents.accepted:
        return None
    planning = _planning(requests[0], len(requests), kind, world)
    found = planning and _largest(planning, len(requests))
    return _decisions(found, kind, world, requests[0]) if found else None


def _planning(request: Request, count: int, kind: str, world: World) -> _Planning | None:
    """How so many of these are planned together, if they can be."""
    quota = quota_room(world, request)
    if quota.short:                 # what is over the quota has to leave once, not for each of them
        return None
    if kind != QUOTA and not quota.soon.covers(
            Resources({item: amount * count for item, amount in request.quota.items()})):
        return None
    if kind == HOST:
        return lambda number: survey_of(world).plan_batch(request, world, number)
    bins = group_bins(request, world, False) if kind == HOST_ID else [quota_bin(request, world, False)]
    terms = terms_of(world)
    return lambda number: plan_batch(bins, number, max_victims=terms.max_victims, now=terms.now,
                                     budgets=terms.budgets)


def _largest(planning: _Planning, count: int) -> BatchPlan | None:
    """The plan for as many as possible; more never fit where fewer do not."""
    best, low, high = None, 1, count
    while low <= high:
        middle = high if best is None and low == 1 and high == count else (low + high) // 2
        found = planning(middle)
        if isinstance(found, BatchPlan):
            best, low = found, middle + 1
        else:
            high = middle - 1
    return best


def _decisions(found: BatchPlan, kind: str, world: World, request: Request) -> list[Decision]:
    """One decision a request: a bin's victims are dealt out among those that it takes."""
    number = sum(share.count for share in found.shares)
    criterion = "the best for this request" if number == 1 else f"the best for {number} requests together"
    decisions: list[Decision] = []
    for share in found.shares:
        fits = not share.victims and kind == HOST and _now(world, share.bin_id, request, share.count)
        for turn in range(share.count):
            victims = share.victims[turn::share.count]
            decisions.append(Place(share.bin_id) if fits else
                             Evict(kind, share.bin_id, victims, criterion, found.optimal, cost(found.objective, world)))
    return decisions


def _now(world: World, name: str, request: Request, count: int) -> bool:
    """True when so many fit there at once."""
    needed = Resources({item: amount * count for item, amount in request.room.items()})
    return host_room(world, world.hosts[name], request).now.covers(needed)
