"""The bins of a cloud kept between requests, so that a plan looks at the few that matter.

For each need that was asked for, the bins stand in the order of their bounds. A bin that changes loses its place in
every order and gets a new one when the need is asked for again. Lost work grows with time: a bound holds its growth
rate, bins that grow alike share a sorted list whose order time does not change, and a bound that has fallen behind is
made anew when its turn comes.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import replace
from heapq import heapify, heappop, heappush

from vmsvc.domain.bins import Bin
from vmsvc.domain.bound import Bound, Stock
from vmsvc.domain.objective import Objective
from vmsvc.domain.planner import NODE_CAP, Outcome, Terms, decide, refusal
from vmsvc.domain.resources import Resources
from vmsvc.domain.search import Budget

#: How many needs an index keeps an order for: flavors are few; the need that was not asked for longest goes.
NEEDS = 32

_Key = tuple[tuple[tuple[int, int], ...], int, int]     # victims, ran, rate
_Place = tuple[int, int, str]                           # lost work at time 0, surplus, bin id


class _Order:
    """The bins in the order of their bounds for one need."""

    def __init__(self, need: Resources, max_victims: int, bin_ids: Iterable[str]):
        self.need = need
        self.max_victims = max_victims
        self.stale = set(bin_ids)
        self.refusal: str | None = None
        self._lists: dict[_Key, list[_Place]] = {}
        self._places: dict[str, tuple[_Key, _Place, int]] = {}

    def put(self, bin_id: str, bound: Bound | None, now: int) -> None:
        """Give a bin its place, or none when there can be no plan in it."""
        self.drop(bin_id)
        if bound is not None:
            objective = bound.objective
            key = objective.victims, objective.ran, bound.rate
            place = objective.lost_work - bound.rate * now, objective.surplus, bin_id
            insort(self._lists.setdefault(key, []), place)
            self._places[bin_id] = key, place, now

    def drop(self, bin_id: str) -> None:
        """Take a bin out."""
        found = self._places.pop(bin_id, None)
        if found is not None:
            key, place, _ = found
            places = self._lists[key]
            del places[bisect_left(places, place)]
            if not places:
                del self._lists[key]

    def bounds(self, now: int, renew: Callable[[str], Bound | None]) -> Generator[tuple[Objective, str], None, None]:
        """(bound, bin id) in ascending order; `renew` makes the bound of a bin as of now. The bounds that were renewed
        are kept when the iterator is closed or ends."""
        heads = []
        for key, places in self._lists.items():
            lost, surplus, bin_id = places[0]
            heads.append((Objective(*key[:2], lost + key[2] * now, surplus), bin_id, key, 0))
        heapify(heads)
        renewed: dict[str, Bound] = {}
        try:
            while heads:
                objective, bin_id, key, at = heappop(heads)
                if at is None:
                    yield objective, bin_id
                    continue
                if at + 1 < len(self._lists[key]):
                    lost, surplus, other = self._lists[key][at + 1]
                    heappush(heads, (Objective(*key[:2], lost + key[2] * now, surplus), other, key, at + 1))
                if self._places[bin_id][2] < now:
                    bound = renewed[bin_id] = renew(bin_id)
                    if bound.objective > objective:
                        heappush(heads, (bound.objective, bin_id, key, None))
                        continue
                yield objective, bin_id
        finally:
            for bin_id, bound in renewed.items():
                self.put(bin_id, bound, now)


class Index:
    """Bins to be planned over, as they stand now. The bins that are put in have no need: each plan brings its own.

    Gives the same outcome as `planner.plan` over the same bins. Not for two threads at once.
    """

    def __init__(self):
        self._bins: dict[str, Bin] = {}
        self._stocks: dict[str, Stock] = {}
        self._orders: dict[tuple[Resources, int], _Order] = {}
        self._now = 0

    def put(self, place: Bin) -> None:
        """Add a bin, or replace it when anything about it changed. Raises ValueError for a candidate given twice."""
        if len({candidate.id for candidate in place.candidates}) < len(place.candidates):
            raise ValueError(f"bin {place.id} has a candidate twice")
        self._bins[place.id] = place
        self._stocks.pop(place.id, None)
        for order in self._orders.values():
            order.stale.add(place.id)

    def drop(self, bin_id: str) -> None:
        """Forget a bin; one that is not there counts as forgotten."""
        if self._bins.pop(bin_id, None) is not None:
            self._stocks.pop(bin_id, None)
            for order in self._orders.values():
                order.stale.add(bin_id)

    def __len__(self) -> int:
        return len(self._bins)

    def plan(self, need: Resources, *, now: int = 0, eligible: Callable[[Bin], bool] | None = None,
             max_victims: int = 20, node_cap: int = NODE_CAP, cost_words: str = "less lost work") -> Outcome:
        """As `planner.plan`, over the bins for which `eligible` is true."""
        if now < self._now:
            self._orders.clear()  # bounds hold for later times only
        self._now = now
        order = self._order(need, max_victims)

        def refuse(budget: Budget) -> str:
            if order.refusal is None or eligible is not None or budget.spent:
                places = [replace(place, need=need) for _, place in sorted(self._bins.items())
                          if eligible is None or eligible(place)]
                reason = refusal(places, max_victims, budget)
                if eligible is not None or budget.spent:
                    return reason
                order.refusal = reason
            return order.refusal

        return decide(lambda skipped: self._queue(order, skipped, eligible), refuse,
                      Terms(max_victims, node_cap, now, cost_words))

    def _order(self, need: Resources, max_victims: int) -> _Order:
        """The order for a need, up to date; the one that was used last is last."""
        key = need, max_victims
        order = self._orders.pop(key, None) or _Order(need, max_victims, self._bins)
        self._orders[key] = order
        if len(self._orders) > NEEDS:
            del self._orders[next(iter(self._orders))]
        if order.stale:
            order.refusal = None
        for bin_id in order.stale:
            if bin_id in self._bins:
                order.put(bin_id, self._bound(order, bin_id), self._now)
            else:
                order.drop(bin_id)
        order.stale.clear()
        return order

    def _bound(self, order: _Order, bin_id: str) -> Bound | None:
        place = self._bins[bin_id]
        stock = self._stocks.get(bin_id)
        if stock is None:
            stock = self._stocks[bin_id] = Stock(place.candidates)
        return stock.bound(replace(place, need=order.need), order.max_victims, self._now)

    def _queue(self, order: _Order, skipped: str | None,
               eligible: Callable[[Bin], bool] | None) -> Generator[tuple[Objective, Bin], None, None]:
        with closing(order.bounds(self._now, lambda bin_id: self._bound(order, bin_id))) as bounds:
            for objective, bin_id in bounds:
                place = self._bins[bin_id]
                if bin_id != skipped and (eligible is None or eligible(place)):
                    yield objective, replace(place, need=order.need)
