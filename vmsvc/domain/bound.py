"""The least that a plan in a bin can cost, found without searching."""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

from vmsvc.domain.bins import Bin, Candidate
from vmsvc.domain.counts import Counts, Offers, least_counts, raised, shares
from vmsvc.domain.objective import Objective
from vmsvc.domain.resources import Resources

#: How often a count of victims that turns out too low is raised before the bound is taken as it is.
RAISES = 4


class Bound(NamedTuple):
    """No plan in the bin costs less than `objective` now; its lost work grows by at least `rate` each second.

    Without victims it is exact: the request fits.
    """

    objective: Objective
    rate: int = 0


class Stock:
    """The candidates of a bin by level, highest priority first: all of a bound that no request changes."""

    __slots__ = ("levels", "_offers")

    def __init__(self, candidates: Iterable[Candidate]):
        groups: dict[int, list[Candidate]] = {}
        for candidate in candidates:
            groups.setdefault(candidate.priority, []).append(candidate)
        self.levels = [groups[priority] for priority in sorted(groups, reverse=True)]
        self._offers: dict[str, Offers] = {}

    def _offer(self, name: str) -> Offers:
        """What the levels offer of a class; found when first asked for."""
        found = self._offers.get(name)
        if found is None:
            columns = (Resources.column([one.resources for one in level], name) for level in self.levels)
            found = self._offers[name] = [[0, *accumulate(sorted(column, reverse=True))] for column in columns]
        return found

    def bound(self, place: Bin, max_victims: int, now: int) -> Bound | None:
        """A lower bound on every plan of up to `max_victims` for the bin; None when there is no plan."""
        deficit = place.deficit
        if not deficit:
            return Bound(Objective((), 0, 0, place.surplus()))
        if not self.levels:
            return None
        lacking = tuple(deficit.values())
        offers = [self._offer(name) for name in deficit]
        floor: Counts | None = ()
        groups = None
        for _ in range(RAISES):
            counts = floor is not None and least_counts(lacking, offers, max_victims, floor)
            if not counts:
                return None
            groups = self._eligible(counts, deficit, offers)
            if groups is not None:
                break
            floor = raised(counts, [len(level) for level in self.levels], max_victims)
        if groups is None:
            groups = [(count, level) for count, level in zip(counts, self.levels) if count]
        return _cost(place, groups, now)

    def _eligible(self, counts: Counts, deficit: dict[str, int],
                  offers: Sequence[Offers]) -> list[tuple[int, list[Candidate]]] | None:
        """Per level with a count: who can be among just so many victims. None when there are too few of them."""
        groups = []
        for count, level, least in zip(counts, self.levels, shares(tuple(deficit.values()), offers, counts)):
            if count:
                for name, share in zip(deficit, least):
                    if share > 0:
                        level = [one for one in level if one.resources.amounts.get(name, 0) >= share]
                if len(level) < count:
                    return None
                groups.append((count, level))
        return groups


def _cost(place: Bin, groups: Sequence[tuple[int, list[Candidate]]], now: int) -> Bound:
    """The cheapest that so many of each group can be, criterion by criterion."""
    ran = lost = rate = 0
    left = {name: max(place.free[name], 0) - place.need[name] for name in place.weights}
    for count, candidates in groups:
        for one_ran, one_lost in sorted([(one.ran, one.lost_work + one.rate * now) for one in candidates])[:count]:
            ran += one_ran
            lost += one_lost
        rate += sum(sorted([one.rate for one in candidates])[:count])
        vectors = [one.resources for one in candidates]
        for name in left:
            left[name] += sum(sorted(Resources.column(vectors, name))[:count])
    surplus = sum(weight * left[name] for name, weight in place.weights.items() if left[name] > 0)
    return Bound(Objective(tuple((candidates[0].priority, count) for count, candidates in groups), ran, lost, surplus),
                 rate)
