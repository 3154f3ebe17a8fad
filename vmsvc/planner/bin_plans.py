"""The best plan in one bin, and the best over many bins."""

from bisect import insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from vmsvc.planner.bins import Bin, Candidate, PlanOptions
from vmsvc.planner.bounds import CandidateLevels
from vmsvc.planner.objective import Objective, Pricing
from vmsvc.planner.pruning import Deficit, Row, Rows, pruned
from vmsvc.planner.search import Item, NodeBudget, cheapest, greedy_cover

#: A rank (objective, bin id): only plans below it are searched for. None: every plan.
Limit = tuple[Objective, str] | None


@dataclass(frozen=True, slots=True)
class BinPlan:
    """A plan in one bin. It has no victims when the request fits."""

    bin: Bin
    victims: tuple[Candidate, ...]  # in the order of eviction
    objective: Objective

    @property
    def rank(self) -> tuple[Objective, str]:
        """The key by which plans in different bins are compared."""
        return self.objective, self.bin.id

    @property
    def ids(self) -> tuple[str, ...]:
        """The victims' ids in the order of eviction: lowest priority first, then the cheapest."""
        return tuple(victim.id for victim in self.victims)


def solve(bin_: Bin, limit: Limit, options: PlanOptions, nodes: NodeBudget) -> BinPlan | None:
    """The best plan in a bin, if its rank is below the limit; else None."""
    return explore(bin_, CandidateLevels(bin_.candidates), limit, options, nodes)[0]


def explore(
    bin_: Bin, levels: CandidateLevels, limit: Limit, options: PlanOptions, nodes: NodeBudget
) -> tuple[BinPlan | None, Objective | None]:
    """The best plan in a bin, if its rank is below the limit, and a lower bound on the objective of every plan there
    (None: there is no plan). The bound is not valid when `nodes` is spent."""
    deficit = bin_.deficit
    if not deficit:
        fits = BinPlan(bin_, (), Objective.of(bin_, ()))
        return _below(limit, fits), fits.objective
    groups = {one.group for one in bin_.candidates} if options.budgets else set()
    budgets = {group: most for group, most in options.budgets.items() if group in groups}
    found, least = _count_up(bin_, levels, limit, replace(options, budgets=budgets), nodes)
    if nodes.spent:
        quick = _below(limit, _greedy(bin_, levels, budgets, options))
        found = min((each for each in (found, quick) if each), key=lambda each: each.rank, default=None)
    return found, least


def _count_up(
    bin_: Bin, levels: CandidateLevels, limit: Limit, options: PlanOptions, nodes: NodeBudget
) -> tuple[BinPlan | None, Objective | None]:
    """`explore` for a bin where the request does not fit: tries the counts of victims, the least first."""
    deficit = Deficit(bin_.deficit)
    least = None
    for counts, groups in levels.possible(bin_.deficit, options.max_victims, options.budgets):
        nodes.left -= 1
        victims = levels.by_number(counts)
        if nodes.spent or limit is not None and victims > limit[0].victims:
            return None, least or levels.cost(bin_, counts, groups, options.now).objective
        rows = groups and pruned(
            deficit.amounts, [(count, deficit.rows(group)) for count, group in groups], options.budgets
        )
        if rows:
            same = limit is not None and victims == limit[0].victims
            found = _cheapest(bin_, deficit, rows, limit if same else None, options, nodes)
            if found is not None:
                return found, found.objective
            least = limit[0] if same and limit is not None else None
    return None, least


def _below(limit: Limit, found: BinPlan | None) -> BinPlan | None:
    return found if found is None or limit is None or found.rank < limit else None


def _cheapest(
    bin_: Bin, deficit: Deficit, groups: Sequence[Rows], limit: Limit, options: PlanOptions, nodes: NodeBudget
) -> BinPlan | None:
    rows = [row for _, rows in groups for row in rows]
    pricing = Pricing(bin_, [one for _, one in rows], sum(count for count, _ in groups), options.now)
    cutoff = inf if limit is None else pricing.limit(limit[0], inclusive=bin_.id < limit[1])
    price = iter(pricing.prices)
    levels = [(count, [_item(row, next(price), options.budgets) for row in rows]) for count, rows in groups]
    taken = cheapest(deficit.amounts, levels, cutoff, options.budgets, nodes)
    return None if taken is None else _bin_plan(bin_, taken, options.now)


def _item(row: Row, price: int, budgets: Mapping[str, int]) -> Item:
    amounts, one = row
    return Item(one.priority, amounts, price, one.id, one.group if one.group and one.group in budgets else "")


def _greedy(bin_: Bin, levels: CandidateLevels, budgets: Mapping[str, int], options: PlanOptions) -> BinPlan | None:
    prices = Pricing(bin_, bin_.candidates, options.max_victims, options.now).prices
    deficit = Deficit(bin_.deficit)
    price = {candidate.id: price for candidate, price in zip(bin_.candidates, prices)}
    items = [[_item(row, price[row[1].id], budgets) for row in deficit.rows(level)] for level in levels.by_priority]
    taken = greedy_cover(deficit.amounts, items, options.max_victims, budgets)
    return None if taken is None else _bin_plan(bin_, taken, options.now)


def _bin_plan(bin_: Bin, taken: Iterable[Item], now: int) -> BinPlan:
    ids = {item.id for item in taken}
    victims = [candidate for candidate in bin_.candidates if candidate.id in ids]
    victims.sort(key=lambda victim: (victim.priority, victim.ran, victim.lost_work_at(now), victim.id))
    return BinPlan(bin_, tuple(victims), Objective.of(bin_, victims, now))


#: (bound of the bin, bin, limit, options, nodes) -> its best plan below the limit.
Solver = Callable[[Objective, Bin, Limit, PlanOptions, NodeBudget], BinPlan | None]


def solve_anew(_: Objective, bin_: Bin, limit: Limit, options: PlanOptions, nodes: NodeBudget) -> BinPlan | None:
    """A `Solver` that remembers nothing: it searches the bin each time."""
    return solve(bin_, limit, options, nodes)


def best_of(
    queue: Iterable[tuple[Objective, Bin]],
    options: PlanOptions,
    nodes: NodeBudget,
    wanted: int = 1,
    solver: Solver = solve_anew,
    known: Iterable[BinPlan] = (),
) -> list[BinPlan]:
    """The plans of the `wanted` best bins, best first, followed by the others that the search found; `known` plans take
    part. `queue` gives each bin with its bound, the lowest first, so the search ends at the first bin whose bound
    cannot beat the plans found so far."""
    best = list(known)
    for bound, bin_ in queue:
        limit = best[wanted - 1].rank if len(best) >= wanted else None
        if limit is not None and (bound, bin_.id) >= limit:
            break
        found = solver(bound, bin_, limit, options, nodes)
        if found is not None:
            insort(best, found, key=lambda bin_plan: bin_plan.rank)
    return best


def without_each_victim(best: BinPlan) -> list[Bin]:
    """The bin of a plan, once for each victim and without that victim: every other plan in the bin is a plan in one of
    these."""
    return [
        replace(best.bin, candidates=tuple(one for one in best.bin.candidates if one is not victim))
        for victim in best.victims
    ]
