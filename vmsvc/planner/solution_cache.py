"""The result of searching a bin, kept until the bin changes.

After a request has used the best plan, the next request needs the second-best plans. So a search also looks for plans
that are somewhat worse than the request at hand needs, and the next request finds them in the cache. On 1,000 hosts
with 40 VMs of odd sizes each, 50 of which change between two plans, a plan searches 30 hosts, not 200.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

from vmsvc.planner.bin_plans import BinPlan, Limit, explore, solve
from vmsvc.planner.bins import Bin, PlanOptions
from vmsvc.planner.bounds import Bound, CandidateLevels
from vmsvc.planner.objective import Objective
from vmsvc.planner.search import NodeBudget

#: How many nodes a search may visit to find worse plans than the request needs: a few times the nodes of most searches.
#: A bin that takes more is searched each time for just what the request needs.
EXTRA_NODES = 200


class _Entry(NamedTuple):
    """At second `at` no plan in the bin cost less than `bound` (None: there was no plan), and `plan`, if known, cost
    just that. Neither keeps to the budgets of eviction groups."""

    at: int
    bound: Bound | None
    plan: BinPlan | None


class SolutionCache:
    """The results for bins with one need and one limit of victims; `levels` gives a bin's candidates by priority."""

    def __init__(self, levels: Callable[[Bin], CandidateLevels]):
        self._levels = levels
        self._entries: dict[str, _Entry] = {}
        self._searched: set[str] = set()  # bins whose bound `searched_bounds` has not given yet

    def __contains__(self, bin_id: str) -> bool:
        return bin_id in self._entries

    def forget(self, bin_id: str) -> None:
        """Drop the result for a bin that has changed."""
        self._entries.pop(bin_id, None)
        self._searched.discard(bin_id)

    def searched_bounds(self) -> Iterator[tuple[str, Bound | None]]:
        """(bin id, bound) of each bin that was searched since the last call."""
        for bin_id in self._searched:
            yield bin_id, self._entries[bin_id].bound
        self._searched.clear()

    def solve(
        self, bound: Objective, bin_: Bin, limit: Limit, options: PlanOptions, nodes: NodeBudget
    ) -> BinPlan | None:
        """As `bin_plans.solve`, for a bin with this bound."""
        entry = self._entries.get(bin_.id)
        if entry is None or not _answers(entry, bin_.id, limit, options.now):
            entry = self._search(bound, bin_, limit, options, nodes)
            if not nodes.spent:
                self._entries[bin_.id] = entry
                self._searched.add(bin_.id)
        found = entry.plan
        if found is None or entry.at != options.now or limit is not None and found.rank >= limit:
            return None  # an entry of another second tells only its bound, and that has reached the limit
        return found if options.allow(found.victims) else solve(bin_, limit, options, nodes)

    def _search(self, bound: Objective, bin_: Bin, limit: Limit, options: PlanOptions, nodes: NodeBudget) -> _Entry:
        levels, free, wide = self._levels(bin_), replace(options, budgets={}), _widened(bound, bin_, limit)
        before = self._entries.get(bin_.id)
        if before is not None and before.plan is not None:  # the best plan now costs no more than this one
            best = Objective.of(bin_, before.plan.victims, options.now), bin_.id + "!"
            wide = best if wide is None else min(wide, best)
        extra = nodes if wide is None else NodeBudget(min(EXTRA_NODES, nodes.left))
        found, least = explore(bin_, levels, wide, free, extra)
        if extra is not nodes:
            nodes.left -= extra.size - max(extra.left, 0)
            if extra.spent:
                found, least = explore(bin_, levels, limit, free, nodes)
        proven = None if least is None else Bound(least, _least_rate(bin_, least))
        return _Entry(options.now, proven, found)


def _answers(entry: _Entry, bin_id: str, limit: Limit, now: int) -> bool:
    """True when the entry tells whether there is a plan below the limit now, and which."""
    if entry.bound is None or entry.plan is not None and entry.at == now:
        return True
    return limit is not None and (entry.bound.after(now - entry.at), bin_id) >= limit


def _widened(bound: Objective, bin_: Bin, limit: Limit) -> Limit:
    """The limit at twice the distance from the bound, so that a bin is not searched for every request anew."""
    if limit is None or (bound.victims, bound.ran) != (limit[0].victims, limit[0].ran):
        return limit
    return max(limit, (replace(limit[0], lost_work=2 * limit[0].lost_work - bound.lost_work), bin_.id))


def _least_rate(bin_: Bin, least: Objective) -> int:
    """The least that the lost work of so many victims grows by each second."""
    return sum(
        sum(sorted([one.rate for one in bin_.candidates if one.priority == priority])[:count])
        for priority, count in least.victims
    )
