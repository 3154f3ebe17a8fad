"""What searching a bin has shown, kept as long as nothing about the bin changes.

The next request finds the best plans gone and looks among those that were not good enough for this one. So a bin is
searched for somewhat worse plans than are needed at once, and the next time it is not searched again. On 1,000 hosts
with 40 VMs of odd sizes, 50 of which change between two plans, a plan searches some 30 hosts instead of 200.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

from vmsvc.domain.bins import Bin
from vmsvc.domain.bound import Bound, Stock
from vmsvc.domain.objective import Objective
from vmsvc.domain.search import Budget
from vmsvc.domain.solution import Limit, Solution, explore, solve
from vmsvc.domain.terms import Terms

#: How many nodes a search may visit to find more than is needed at once: a few times those of most searches. Where a
#: bin takes more, it is searched for what is needed, and each time again.
PATIENCE = 200


class _Known(NamedTuple):
    """No plan in the bin costs less than the bound as of then (None: there is no plan), and this one costs just that
    much, if it is known. Eviction groups are not looked at."""

    at: int
    bound: Bound | None
    plan: Solution | None


class Solved:
    """The bins with one need and one number of victims; `stock` gives what they have."""

    def __init__(self, stock: Callable[[Bin], Stock]):
        self._stock = stock
        self._known: dict[str, _Known] = {}
        self._news: set[str] = set()

    def __contains__(self, bin_id: str) -> bool:
        return bin_id in self._known

    def forget(self, bin_id: str) -> None:
        """Something about the bin has changed."""
        self._known.pop(bin_id, None)
        self._news.discard(bin_id)

    def news(self) -> Iterator[tuple[str, Bound | None]]:
        """The bounds of the bins that were searched since the last time."""
        for bin_id in self._news:
            yield bin_id, self._known[bin_id].bound
        self._news.clear()

    def solve(self, bound: Objective, place: Bin, limit: Limit, terms: Terms, budget: Budget) -> Solution | None:
        """As `solution.solve`, in a bin with that bound."""
        known = self._known.get(place.id)
        if known is None or not _tells(known, place.id, limit, terms.now):
            known = self._search(bound, place, limit, terms, budget)
            if not budget.spent:
                self._known[place.id] = known
                self._news.add(place.id)
        found = known.plan
        if found is None or known.at != terms.now or limit is not None and found.rank >= limit:
            return None         # of another time only the bound is good: it has reached the limit
        return found if terms.allow(found.victims) else solve(place, limit, terms, budget)

    def _search(self, bound: Objective, place: Bin, limit: Limit, terms: Terms, budget: Budget) -> _Known:
        stock, free, wide = self._stock(place), replace(terms, budgets={}), _widened(bound, place, limit)
        before = self._known.get(place.id)
        if before is not None and before.plan is not None:      # the best of then: today's is no worse
            best = Objective.of(place, before.plan.victims, terms.now), place.id + "!"
            wide = best if wide is None else min(wide, best)
        patience = budget if wide is None else Budget(min(PATIENCE, budget.left))
        found, least = explore(place, stock, wide, free, patience)
        if patience is not budget:
            budget.left -= patience.size - max(patience.left, 0)
            if patience.spent:
                found, least = explore(place, stock, limit, free, budget)
        return _Known(terms.now, least and Bound(least, _least_rate(place, least)), found)


def _tells(known: _Known, bin_id: str, limit: Limit, now: int) -> bool:
    """True when it says whether there is a plan below the limit now, and which."""
    if known.bound is None or known.plan is not None and known.at == now:
        return True
    return limit is not None and (known.bound.after(now - known.at), bin_id) >= limit


def _widened(bound: Objective, place: Bin, limit: Limit) -> Limit:
    """Twice as far above the bound, so that a bin is not searched often before it is known well enough."""
    if limit is None or (bound.victims, bound.ran) != (limit[0].victims, limit[0].ran):
        return limit
    return max(limit, (replace(limit[0], lost_work=2 * limit[0].lost_work - bound.lost_work), place.id))


def _least_rate(place: Bin, least: Objective) -> int:
    """The least at which the lost work of so many victims grows."""
    return sum(sum(sorted([one.rate for one in place.candidates if one.priority == priority])[:count])
               for priority, count in least.victims)
