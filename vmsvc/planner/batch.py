"""One plan for many equal requests at once.

`plan_batch` finds what j requests cost in each bin, for every j, and then shares the requests out over the bins by a
knapsack: exact. One plan after the other would be worse or get stuck, because the first request would take the bin that
several could share. The plan is not exact when bins together would take too many VMs of an eviction group.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace

from vmsvc.domain.resources import Resources
from vmsvc.planner.bin_plans import BinPlan, best_of
from vmsvc.planner.bins import NODE_CAP, Bin, Candidate, PlanOptions
from vmsvc.planner.objective import Objective
from vmsvc.planner.preemption import Entries, NoPlan, bins_by_bound, check_unique, why_no_plan
from vmsvc.planner.search import NodeBudget

_ZERO = Objective((), 0, 0, 0)

#: By place (a bin, or bins of which one can be used): so many requests, and their best plan there.
_Choices = dict[str, list[tuple[int, BinPlan]]]


@dataclass(frozen=True, slots=True)
class Share:
    """The part of a batch that goes into one bin: so many requests, after the eviction of these victims in order."""

    bin_id: str
    count: int
    victims: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """Where all requests of a batch go, by bin id, and the objective of all evictions together. A bin with enough free
    resources has no victims.

    Of plans with the least objective it is the one whose bins, listed once per request, have the lowest ids.
    """

    shares: tuple[Share, ...]
    objective: Objective
    optimal: bool = True


def bin_for_many(bin_: Bin, count: int) -> Bin:
    """The bin for so many requests at once; its surplus is measured as for one."""
    capacity = {name: bin_.capacity[name] or need for name, need in bin_.need.items()}
    return replace(
        bin_, need=Resources({name: need * count for name, need in bin_.need.items()}), capacity=Resources(capacity)
    )


def plan_batch(
    bins: Iterable[Bin],
    count: int,
    *,
    max_victims: int = 20,
    node_cap: int = NODE_CAP,
    now: int = 0,
    budgets: Mapping[str, int] | None = None,
) -> BatchPlan | NoPlan:
    """A plan for all `count` equal requests; `NoPlan` when only some of them would fit.

    Takes bins as `plan` does; a bin that takes j requests may lose up to j * `max_victims` VMs. Raises ValueError when
    an id occurs twice, and when bins of two places have the same candidate: joint bins (see `joint_quota`) share
    candidates, so they cost less together than apart and cannot be planned like this.
    """
    ordered = sorted(bins, key=lambda each: each.id)
    check_unique(ordered)
    places: dict[str, set[str]] = {}
    for each in ordered:
        places.setdefault(_place(each), set()).update(one.id for one in each.candidates)
    if len(set().union(*places.values())) < sum(map(len, places.values())):
        raise ValueError("a candidate is in two bins")
    alternatives = max(Counter(map(_place, ordered)).values(), default=1)

    def queue(share: int) -> Entries:
        yield from bins_by_bound([bin_for_many(each, share) for each in ordered], _for(share, options))

    options = PlanOptions(max_victims, node_cap, now, budgets=budgets or {})

    def explain(nodes: NodeBudget) -> str:
        return why_no_plan(ordered, max_victims, nodes)

    return plan_batch_in_order(queue, explain, count, options, alternatives)


def _place(bin_: Bin) -> str:
    return bin_.place or bin_.id


def _for(share: int, options: PlanOptions) -> PlanOptions:
    return replace(options, max_victims=share * options.max_victims)


def plan_batch_in_order(
    queue: Callable[[int], Entries],
    explain: Callable[[NodeBudget], str],
    count: int,
    options: PlanOptions,
    alternatives: int = 1,
) -> BatchPlan | NoPlan:
    """`plan_batch` over bins that are already in order: `queue(j)` gives the bins for j requests with their bounds, the
    lowest first; `explain` gives the reason of `NoPlan`; no place has more bins than `alternatives`.

    The plan of each bin keeps to the groups' budgets. When the bins together exceed the budget of a group, only its
    cheapest victims stay candidates, as many as the budget allows, and the batch is planned again: sound, though a
    better plan may exist.
    """
    nodes = NodeBudget(options.node_cap)
    chosen: dict[str, frozenset[str]] = {}
    while True:
        choices = _choices(queue, count, options, nodes, chosen, alternatives)
        best = _knapsack(choices, count)
        if best is None:
            if not choices or nodes.spent:
                return NoPlan(explain(nodes))
            return NoPlan(f"There is no room for {count} such requests at once, even after evictions.")
        objective, _, shares = best
        plans = {(one.bin.id, share): one for options_there in choices.values() for share, one in options_there}
        over = _over_budget([plans[share.bin_id, share.count] for share in shares], options)
        if not over:
            return BatchPlan(shares, objective, optimal=not nodes.spent and not chosen)
        chosen |= over


def _choices(
    queue: Callable[[int], Entries],
    count: int,
    options: PlanOptions,
    nodes: NodeBudget,
    chosen: Mapping[str, frozenset[str]],
    alternatives: int,
) -> _Choices:
    """What j requests cost in the places that matter, for j up to `count`. Of the groups in `chosen`, only the VMs that
    it names are candidates.

    For j requests only the count - j + 1 best places matter: the other requests are in at most count - j places, so one
    of the best is unused and can replace any that is worse.
    """
    choices: _Choices = {}
    for share in range(1, count + 1):
        with closing(queue(share)) as entries:
            kept = entries if not chosen else ((bound, _keeping(each, chosen)) for bound, each in entries)
            found = best_of(kept, _for(share, options), nodes, wanted=(count - share + 1) * alternatives)
        best: dict[str, BinPlan] = {}
        for bin_plan in found:
            best.setdefault(_place(bin_plan.bin), bin_plan)
        for place, bin_plan in list(best.items())[: count - share + 1]:
            choices.setdefault(place, []).append((share, bin_plan))
        if not found:
            break
    return choices


def _keeping(bin_: Bin, chosen: Mapping[str, frozenset[str]]) -> Bin:
    def keeps(one: Candidate) -> bool:
        return one.group is None or one.group not in chosen or one.id in chosen[one.group]

    return replace(bin_, candidates=tuple(filter(keeps, bin_.candidates)))


def _over_budget(bin_plans: Iterable[BinPlan], options: PlanOptions) -> dict[str, frozenset[str]]:
    """The groups of which too many would leave, each with its cheapest victims, as many as its budget allows."""
    groups: dict[str, list[Candidate]] = {}
    for bin_plan in bin_plans:
        for victim in bin_plan.victims:
            if victim.group is not None and victim.group in options.budgets:
                groups.setdefault(victim.group, []).append(victim)
    return {
        group: frozenset(
            victim.id
            for victim in sorted(
                victims, key=lambda victim: (victim.priority, victim.ran, victim.lost_work_at(options.now), victim.id)
            )[: options.budgets[group]]
        )
        for group, victims in groups.items()
        if len(victims) > options.budgets[group]
    }


def _knapsack(choices: _Choices, count: int) -> tuple[Objective, tuple[str, ...], tuple[Share, ...]] | None:
    """The best way to share the requests out over the places: (objective, one place per request, shares)."""
    best: dict[int, tuple[Objective, tuple[str, ...], tuple[Share, ...]]] = {0: (_ZERO, (), ())}
    for place, shares in sorted(choices.items()):
        before = dict(best)
        for share, bin_plan in shares:
            for placed, (objective, ids, taken) in before.items():
                if placed + share <= count:
                    entry = objective + bin_plan.objective, ids + (place,) * share
                    known = best.get(placed + share)
                    if known is None or entry < known[:2]:
                        best[placed + share] = *entry, (*taken, Share(bin_plan.bin.id, share, bin_plan.ids))
    return best.get(count)
