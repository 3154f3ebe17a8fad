"""Makes the requests of one pass free no more than they need together.

Plans equal requests that need victims together, and takes back those victims of different plans whose capacity other
plans free as well."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace

from vmsvc.domain.request import Request
from vmsvc.domain.resources import Resources
from vmsvc.planner import BatchPlan, Bin, NoPlan, plan_batch
from vmsvc.scheduling.bins import Group, likely_groups, quota_bin, sure_groups
from vmsvc.scheduling.candidates import plan_cost, unneeded_victims
from vmsvc.scheduling.changes import Change
from vmsvc.scheduling.decide import MAX_ROUNDS, with_fewer_victims
from vmsvc.scheduling.decisions import Decision, Evict, Place
from vmsvc.scheduling.free_capacity import free_on_host, free_quota
from vmsvc.scheduling.host_index import IndexedWorld, options_of
from vmsvc.scheduling.world import HOST, QUOTA, World

#: Plans for so many requests.
_Planning = Callable[[int], BatchPlan | NoPlan]


def shape_of(request: Request) -> Hashable:
    """What decides what becomes of a request, besides the moment and the world: each of two requests of one shape could
    take the place of the other in a plan."""
    return (
        request.is_preemptible,
        request.quota,
        request.resources,
        request.availability_zone,
        request.refusal,
        request.avoid,
        request.rounds,
        request.traits,
        frozenset(request.cooling.items()),
        request.conditions,
        request.requirements,
        request.invalid,
        request.group,
        request.patient,
        request.kept,
        request.server_group,
        request.same_host,
        request.different_host,
        request.claims,
    )


def decide_batch(requests: Sequence[Request], kind: str, world: IndexedWorld) -> list[Decision] | None:
    """One decision for each of the first n of these equal requests, in their order, with n as large as possible.

    `kind` is the kind of bin in which a plan for the first request alone would evict. None when the requests cannot be
    planned together: quota and hosts are both short, the quota is below what is used, the rounds are used up, no VM
    was ever built under their conditions, other servers decide on their hosts, only one of them can have its port, or
    they have an eviction group of their own. Then the caller decides one request after the other.
    """
    first = requests[0]
    if first.rounds >= MAX_ROUNDS or not first.precedents.accepted or first.group is not None:
        return None
    if first.has_host_rules or first.claims:  # where one of them goes decides about the next
        return None
    for planning, bases in _plannings(first, len(requests), kind, world):
        if found := _largest(planning, len(requests)):
            return _decisions(found, kind, world, first, bases)
    return None


def _plannings(
    request: Request, count: int, kind: str, world: IndexedWorld
) -> Iterator[tuple[_Planning, Mapping[str, Group]]]:
    """The ways to plan for several requests like this one, the best first, each with its host groups by the bin's id;
    none when they cannot be planned together."""
    quota = free_quota(world, request)
    if quota.shortfall:  # the excess over the quota has to leave once, not for each request
        return
    if kind != QUOTA and not quota.soon.covers(
        Resources({item: amount * count for item, amount in request.quota.items()})
    ):
        return
    if kind == HOST:
        yield lambda number: world.up_to_date_index().plan_batch(request, world, number), {}
    elif kind == QUOTA:
        yield _over([quota_bin(request, world, False)], world), {}
    else:
        for groups_of in (sure_groups, *((likely_groups,) if world.likely else ())):
            groups = groups_of(request, world, False)
            yield _over([each.bin for each in groups], world), {each.bin.id: each for each in groups}


def _over(bins: Sequence[Bin], world: IndexedWorld) -> _Planning:
    options = options_of(world)
    return lambda number: plan_batch(
        bins, number, max_victims=options.max_victims, now=options.now, budgets=options.budgets
    )


def _largest(planning: _Planning, count: int) -> BatchPlan | None:
    """The plan for as many requests as possible. When some number does not fit, no larger number does."""
    best, low, high = None, 1, count
    while low <= high:
        middle = high if best is None and low == 1 and high == count else (low + high) // 2
        found = planning(middle)
        if isinstance(found, BatchPlan):
            best, low = found, middle + 1
        else:
            high = middle - 1
    return best


def _decisions(
    found: BatchPlan, kind: str, world: World, request: Request, groups: Mapping[str, Group]
) -> list[Decision]:
    """One decision per request: the victims of a bin are shared out among the requests that go there."""
    number = sum(share.count for share in found.shares)
    criterion = "the best for this request" if number == 1 else f"the best for {number} requests together"
    decisions: list[Decision] = []
    cost = plan_cost(found.objective, world, [victim for share in found.shares for victim in share.victims])
    for share in found.shares:
        fits = not share.victims and kind == HOST and _fit_now(world, share.bin_id, request, share.count)
        group = groups.get(share.bin_id)
        for turn in range(share.count):
            victims = share.victims[turn :: share.count]
            decisions.append(
                Place(share.bin_id)
                if fits
                else Evict(
                    kind,
                    group.host_id if group else share.bin_id,
                    victims,
                    criterion,
                    found.optimal,
                    cost,
                    basis=group.basis if group else None,
                )
            )
    return decisions


def _fit_now(world: World, name: str, request: Request, count: int) -> bool:
    """True when so many requests fit on the host at once."""
    needed = Resources({item: amount * count for item, amount in request.resources.items()})
    return free_on_host(world, world.hosts[name], request).now.covers(needed)


def without_unneeded(changes: Sequence[Change], requests: Mapping[str, Request], world: World) -> list[Change]:
    """The changes of a pass without the notices of victims that are not needed: a later plan frees their capacity too,
    or a later refusal gave back the capacity that they were to replace. `requests`: those of the plans, by id. Brings
    `world`, in which all changes are made, up to date."""
    fresh = [world.vms[notice.vm_id] for change in changes for notice in change.notices]
    if len(changes) < 2 or not (unneeded := unneeded_victims(world, fresh)):  # one plan by itself needs all its victims
        return list(changes)
    world.reprieve(tuple(sorted(unneeded)))
    return [
        replace(
            change,
            decision=with_fewer_victims(requests[change.request_id], change.decision, unneeded, world),
            notices=tuple(notice for notice in change.notices if notice.vm_id not in unneeded),
        )
        if isinstance(change.decision, Evict) and not unneeded.isdisjoint(change.decision.victims)
        else change
        for change in changes
    ]
