"""The least that a plan in a bin can cost, found without searching."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from vmsvc.domain.bins import Bin, Candidate
from vmsvc.domain.counts import Counts, Offers, least_counts, raised, shares
from vmsvc.domain.objective import Objective
from vmsvc.domain.sift import within

#: How often a count of victims that turns out too low is raised before the bound is taken as it is.
RAISES = 4

Group = tuple[int, list[Candidate]]     # so many of these


class Bound(NamedTuple):
    """No plan in the bin costs less than `objective` now; its lost work grows by at least `rate` each second.

    Without victims it is exact: the request fits.
    """

    objective: Objective
    rate: int = 0

    def after(self, seconds: int) -> Objective:
        """What it has become so much later."""
        objective = self.objective
        return Objective(objective.victims, objective.ran, objective.lost_work + self.rate * seconds, objective.surplus)


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
            found = self._offers[name] = [
                [0, *accumulate(sorted([one.resources.amounts.get(name, 0) for one in level], reverse=True))]
                for level in self.levels]
        return found

    def possible(self, deficit: Mapping[str, int], max_victims: int,
                 budgets: Mapping[str, int]) -> Iterator[tuple[Counts, list[Group] | None]]:
        """The numbers of victims per level that could do, the least first, each with who can be among so many of a
        level. None instead of these when they are too few."""
        lacking = tuple(deficit.values())
        if budgets:
            offers = [[[0, *accumulate(within([(one.resources[name], one.group) for one in level], budgets))]
                       for level in self.levels] for name in deficit]
        else:
            offers = [self._offer(name) for name in deficit]
        floor: Counts | None = () if self.levels else None
        while floor is not None:
            counts = least_counts(lacking, offers, max_victims, floor)
            if counts is None:
                return
            yield counts, self._eligible(counts, deficit, shares(lacking, offers, counts))
            floor = raised(counts, [len(offer) - 1 for offer in offers[0]], max_victims)

    def _eligible(self, counts: Counts, deficit: Iterable[str],
                  least: Sequence[Sequence[int]]) -> list[Group] | None:
        groups = []
        for count, level, share in zip(counts, self.levels, least):
            if count:
                for name, amount in zip(deficit, share):
                    if amount > 0:
                        level = [one for one in level if one.resources.amounts.get(name, 0) >= amount]
                if len(level) < count:
                    return None
                groups.append((count, level))
        return groups

    def bound(self, place: Bin, max_victims: int, now: int) -> Bound | None:
        """A lower bound on every plan of up to `max_victims` for the bin; None when there is no plan."""
        deficit = place.deficit
        if not deficit:
            return Bound(Objective((), 0, 0, place.surplus()))
        for at, (counts, groups) in enumerate(self.possible(deficit, max_victims, {}), 1):
            if groups is not None or at == RAISES:
                return self.cost(place, counts, groups, now)
        return None

    def cost(self, place: Bin, counts: Counts, groups: Sequence[Group] | None, now: int) -> Bound:
        """The cheapest that such numbers of victims can be, of these groups or of all."""
        return _cost(place, groups or [(count, level) for count, level in zip(counts, self.levels) if count], now)

    def named(self, counts: Counts) -> tuple[tuple[int, int], ...]:
        """Such numbers of victims as (priority, how many), without zeros."""
        return tuple((level[0].priority, count) for level, count in zip(self.levels, counts) if count)


def _cost(place: Bin, groups: Sequence[Group], now: int) -> Bound:
    """The cheapest that so many of each group can be, criterion by criterion."""
    ran = lost = rate = 0
    left = {name: max(place.free[name], 0) - place.need[name] for name in place.weights}
    for count, candidates in groups:
        for one_ran, one_lost in sorted([(one.ran, one.lost_work + one.rate * now) for one in candidates])[:count]:
            ran += one_ran
            lost += one_lost
        rate += sum(sorted([one.rate for one in candidates])[:count])
        for name in left:
            left[name] += sum(sorted([one.resources.amounts.get(name, 0) for one in candidates])[:count])
    surplus = sum(weight * left[name] for name, weight in place.weights.items() if left[name] > 0)
    return Bound(Objective(tuple((candidates[0].priority, count) for count, candidates in groups), ran, lost, surplus),
                 rate)
