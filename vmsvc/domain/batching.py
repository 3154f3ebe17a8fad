"""Several equal requests that all need victims: planned together, so that they free no more than they need together."""

from collections.abc import Sequence

from vmsvc.domain.batch import BatchPlan, plan_batch
from vmsvc.domain.bins import Bin
from vmsvc.domain.decisions import Decision, Evict, Place
from vmsvc.domain.eligibility import eligible
from vmsvc.domain.objective import cost_of
from vmsvc.domain.resources import Resources
from vmsvc.domain.scheduling import MAX_ROUNDS, group_bins
from vmsvc.domain.victims import candidate, eligible_victims, frees, on_hosts
from vmsvc.domain.world import HOST, HOST_ID, PROJECT, QUOTA, Request, World, host_room, host_rooms, quota_room


def alike(one: Request, other: Request) -> bool:
    """True when the two can stand for each other."""
    return ((one.is_preemptible, one.quota, one.room, one.availability_zone, one.refusal, one.avoid, one.rounds,
             one.traits, one.cooling)
            == (other.is_preemptible, other.quota, other.room, other.availability_zone, other.refusal, other.avoid,
                other.rounds, other.traits, other.cooling))


def decide_batch(requests: Sequence[Request], kind: str, world: World) -> list[Decision] | None:
    """A decision for the first so many of these equal requests, in their order, as many as there can be room for.

    `kind` is that of the bins in which the first alone would evict. None where they cannot be planned together
    (quota and hosts both short, or a round too many): then they are decided one after the other.
    """
    if requests[0].rounds >= MAX_ROUNDS:
        return None
    bins = _bins(requests[0], len(requests), kind, world)
    if bins is None:
        return None
    found = _largest(bins, len(requests), world)
    return found and _decisions(found, kind, world, requests[0])


def _bins(request: Request, count: int, kind: str, world: World) -> list[Bin] | None:
    quota = quota_room(world, request)
    if kind == QUOTA:
        return [Bin(PROJECT, request.quota, quota.soon, quota.capacity,
                    tuple(candidate(vm, vm.quota) for vm in eligible_victims(world, False)))]
    if not quota.soon.covers(Resources({item: amount * count for item, amount in request.quota.items()})):
        return None
    if kind == HOST_ID:
        return group_bins(request, world, False)
    hosts = {host.name: host for host in world.hosts.values() if eligible(host, request)}
    there = on_hosts(eligible_victims(world, False))
    # An over-committed host must lose more than the requests need, once: that is planned for one request at a time.
    return [Bin(name, request.room, room.soon, room.capacity,
                tuple(candidate(vm, held) for vm in there.get(name, []) if (held := frees(vm, hosts[name]))))
            for name, room in host_rooms(world, hosts.values(), request).items() if not room.short]


def _largest(bins: list[Bin], count: int, world: World) -> BatchPlan | None:
    """The plan for as many as possible; more never fit where fewer do not."""
    best, low, high = None, 1, count
    while low <= high:
        middle = high if best is None and low == 1 and high == count else (low + high) // 2
        found = plan_batch(bins, middle, max_victims=world.max_victims, budgets=world.budgets)
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
                             Evict(kind, share.bin_id, victims, criterion, found.optimal, cost_of(found.objective)))
    return decisions


def _now(world: World, name: str, request: Request, count: int) -> bool:
    """True when so many fit there at once."""
    needed = Resources({item: amount * count for item, amount in request.room.items()})
    return host_room(world, world.hosts[name], request).now.covers(needed)
