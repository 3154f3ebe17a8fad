"""Bins in the order of their bounds, kept while bins change and time passes.

Lost work grows with time. A bound holds the rate at which it grows at least; bins whose bounds grow alike share a
sorted list, whose order time does not change, and a bound that has fallen behind is made anew when its turn comes.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Generator, Iterable
from heapq import heapify, heappop, heappush

from vmsvc.domain.bins import Bin
from vmsvc.domain.bound import Bound, Stock
from vmsvc.domain.objective import Objective
from vmsvc.domain.resources import Resources
from vmsvc.domain.solved import Solved

_Key = tuple[tuple[tuple[int, int], ...], int, int]     # victims, ran, rate
_Place = tuple[int, int, str]                           # lost work at time 0, surplus, bin id


class Order:
    """The bins in the order of their bounds for `share` equal requests at once.

    `stale` holds the bins that changed since they got their place, `refusal` what was said when there was no plan.
    """

    def __init__(self, need: Resources, share: int, max_victims: int, bin_ids: Iterable[str],
                 stock: Callable[[Bin], Stock]):
        self.need = need
        self.share = share
        self.max_victims = max_victims
        self.stale = set(bin_ids)
        self.refusal: str | None = None
        self.solved = Solved(stock)
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

    def learn(self, now: int) -> None:
        """Give the bins that were solved the places that this showed them to have."""
        for bin_id, bound in self.solved.news():
            self.put(bin_id, bound, now)

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
        # Plain tuples: comparing Objectives would take most of the time.
        heads: list[tuple] = [(*key[:2], places[0][0] + key[2] * now, *places[0][1:], key, 0)
                              for key, places in self._lists.items()]
        heapify(heads)
        renewed: dict[str, Bound] = {}
        try:
            while heads:
                *costs, bin_id, key, at = heappop(heads)
                objective = Objective(*costs)
                if at is None:
                    yield objective, bin_id
                    continue
                if at + 1 < len(self._lists[key]):
                    lost, surplus, other = self._lists[key][at + 1]
                    heappush(heads, (*key[:2], lost + key[2] * now, surplus, other, key, at + 1))
                if self._places[bin_id][2] < now and bin_id not in self.solved:
                    bound = renew(bin_id)
                    if bound.objective > objective:
                        renewed[bin_id] = bound
                        heappush(heads, (*bound.objective.criteria, bin_id, key, None))
                        continue
                yield objective, bin_id
        finally:
            for bin_id, bound in renewed.items():
                self.put(bin_id, bound, now)
