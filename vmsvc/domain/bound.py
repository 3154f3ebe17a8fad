"""The least that a plan in a bin can cost, found without searching."""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

from vmsvc.domain.bins import Bin, Candidate
from vmsvc.domain.counts import Counts, Offers, least_counts, least_share, raised, slack
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


class Level:
    """The candidates of one priority, and what they can give of a class; sorted when first asked for."""

    __slots__ = ("priority", "candidates", "_offers")

    def __init__(self, priority: int, candidates: list[Candidate]):
        self.priority = priority
        self.candidates = candidates
        self._offers: dict[str, list[int]] = {}

    def offer(self, name: str) -> list[int]:
        """offer[k] is the most of the class that k candidates give together."""
        found = self._offers.get(name)
        if found is None:
            amounts = Resources.column([candidate.resources for candidate in self.candidates], name)
            amounts.sort(reverse=True)
            found = self._offers[name] = [0, *accumulate(amounts)]
        return found


class Stock:
    """The candidates of a bin by level, highest priority first: all of a bound that no request changes."""

    __slots__ = ("levels",)

    def __init__(self, candidates: Iterable[Candidate]):
        groups: dict[int, list[Candidate]] = {}
        for candidate in candidates:
            groups.setdefault(candidate.priority, []).append(candidate)
        self.levels = [Level(priority, groups[priority]) for priority in sorted(groups, reverse=True)]

    def bound(self, place: Bin, max_victims: int, now: int) -> Bound | None:
        """A lower bound on every plan of up to `max_victims` for the bin; None when there is no plan."""
        deficit = place.deficit
        if not deficit:
            return Bound(Objective((), 0, 0, place.surplus()))
        lacking = tuple(deficit.values())
        offers = [[level.offer(name) for level in self.levels] for name in deficit]
        floor: Counts | None = ()
        groups = None
        for _ in range(RAISES):
            counts = least_counts(zip(lacking, offers), len(self.levels), max_victims, floor)
            if counts is None:
                return None
            groups = self._eligible(counts, deficit, offers)
            if groups is not None:
                break
            floor = raised(counts, [len(level.candidates) for level in self.levels], max_victims)
            if floor is None:
                return None
        if groups is None:
            groups = [(count, level.candidates) for count, level in zip(counts, self.levels) if count]
        return _cost(place, groups, now)

    def _eligible(self, counts: Counts, deficit: dict[str, int],
                  offers: Sequence[Offers]) -> list[tuple[int, list[Candidate]]] | None:
        """Per level with a count: who can be among just so many victims, because the others at their largest leave no
        more to cover than this one gives. None when there are too few of them."""
        overs = slack(tuple(deficit.values()), offers, counts)
        if min(overs) < 0:
            return None
        groups = []
        for at, (count, level) in enumerate(zip(counts, self.levels)):
            if count:
                candidates = level.candidates
                for name, levels, over in zip(deficit, offers, overs):
                    least = least_share(levels[at], count, over)
                    if least > 0:
                        candidates = [one for one in candidates if one.resources.amounts.get(name, 0) >= least]
                if len(candidates) < count:
                    return None
                groups.append((count, candidates))
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
