"""The least that a plan in a bin can cost, and how many victims of each priority it takes at least: without a search.

The candidates of one priority are a level; levels come highest priority first. What a level offers of a resource class
is a list: offer[k] is the most that k of its candidates free together, from offer[0] = 0 to all of them.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from operator import getitem
from typing import NamedTuple

from vmsvc.planner.bins import Bin, Candidate
from vmsvc.planner.objective import Objective
from vmsvc.planner.pruning import largest_within

Counts = tuple[int, ...]  # how many victims of each level
Offers = Sequence[list[int]]  # of one resource class, by level
Group = tuple[int, list[Candidate]]  # how many victims to take, and the candidates to take them from
#: How often counts that turn out too low are raised before the bound is taken as it is.
RAISES = 4


class Bound(NamedTuple):
    """No plan in the bin costs less than `objective` now; its lost work grows by at least `rate` each second.

    A bound without victims is exact: the request fits.
    """

    objective: Objective
    rate: int = 0

    def after(self, seconds: int) -> Objective:
        """The bound so many seconds later."""
        objective = self.objective
        return Objective(objective.victims, objective.ran, objective.lost_work + self.rate * seconds, objective.surplus)


class CandidateLevels:
    """The candidates of a bin by priority, highest first, with what they offer: the part of a bound that is the same
    for every request."""

    __slots__ = ("by_priority", "_offers")

    def __init__(self, candidates: Iterable[Candidate]):
        groups: dict[int, list[Candidate]] = {}
        for candidate in candidates:
            groups.setdefault(candidate.priority, []).append(candidate)
        self.by_priority = [groups[priority] for priority in sorted(groups, reverse=True)]
        self._offers: dict[str, Offers] = {}

    def _offer(self, name: str) -> Offers:
        """What the levels offer of a resource class; computed at the first use."""
        found = self._offers.get(name)
        if found is None:
            found = self._offers[name] = [
                [0, *accumulate(sorted([one.resources.amounts.get(name, 0) for one in level], reverse=True))]
                for level in self.by_priority
            ]
        return found

    def possible(
        self, deficit: Mapping[str, int], max_victims: int, budgets: Mapping[str, int]
    ) -> Iterator[tuple[Counts, list[Group] | None]]:
        """The counts of victims by level that could cover the deficit, the least first; with each the candidates that
        can be among so many of their level, or None when there are too few of them."""
        lacking = tuple(deficit.values())
        offers: list[Offers]
        if budgets:
            offers = [
                [
                    [0, *accumulate(largest_within([(one.resources[name], one.group) for one in level], budgets))]
                    for level in self.by_priority
                ]
                for name in deficit
            ]
        else:
            offers = [self._offer(name) for name in deficit]
        floor: Counts | None = () if self.by_priority else None
        while floor is not None:
            counts = least_counts(lacking, offers, max_victims, floor)
            if counts is None:
                return
            yield counts, self._eligible(counts, deficit, shares(lacking, offers, counts))
            floor = raised(counts, [len(offer) - 1 for offer in offers[0]], max_victims)

    def _eligible(self, counts: Counts, deficit: Iterable[str], least: Sequence[Sequence[int]]) -> list[Group] | None:
        groups = []
        for count, level, share in zip(counts, self.by_priority, least):
            if count:
                for name, amount in zip(deficit, share):
                    if amount > 0:
                        level = [one for one in level if one.resources.amounts.get(name, 0) >= amount]
                if len(level) < count:
                    return None
                groups.append((count, level))
        return groups

    def bound(self, bin_: Bin, max_victims: int, now: int) -> Bound | None:
        """A lower bound on the objective of every plan of up to `max_victims` here; None when there is no plan."""
        deficit = bin_.deficit
        if not deficit:
            return Bound(Objective((), 0, 0, bin_.surplus()))
        for at, (counts, groups) in enumerate(self.possible(deficit, max_victims, {}), 1):
            if groups is not None or at == RAISES:
                return self.cost(bin_, counts, groups, now)
        return None

    def cost(self, bin_: Bin, counts: Counts, groups: Sequence[Group] | None, now: int) -> Bound:
        """The least that so many victims can cost, taken from these groups (None: from all candidates of the level)."""
        return _cost(bin_, groups or [(count, level) for count, level in zip(counts, self.by_priority) if count], now)

    def by_number(self, counts: Counts) -> tuple[tuple[int, int], ...]:
        """Counts by level as `Objective.victims` has them: (priority, how many), without zeros."""
        return tuple((level[0].priority, count) for level, count in zip(self.by_priority, counts) if count)


def _cost(bin_: Bin, groups: Sequence[Group], now: int) -> Bound:
    """The least that so many of each group can cost, criterion by criterion."""
    ran = lost = rate = 0
    left = {name: max(bin_.free[name], 0) - bin_.need[name] for name in bin_.weights}
    for count, candidates in groups:
        for one_ran, one_lost in sorted([(one.ran, one.lost_work + one.rate * now) for one in candidates])[:count]:
            ran += one_ran
            lost += one_lost
        rate += sum(sorted([one.rate for one in candidates])[:count])
        for name in left:
            left[name] += sum(sorted([one.resources.amounts.get(name, 0) for one in candidates])[:count])
    surplus = sum(weight * left[name] for name, weight in bin_.weights.items() if left[name] > 0)
    return Bound(
        Objective(tuple((candidates[0].priority, count) for count, candidates in groups), ran, lost, surplus), rate
    )


def least_counts(deficit: Sequence[int], offers: Sequence[Offers], slots: int, floor: Counts = ()) -> Counts | None:
    """The least counts, in lexicographic order and from the floor on, with which every resource class by itself can be
    covered by at most `slots` candidates. No set that covers all classes has lesser counts. None: there are no counts.

    Takes the deficit of each class and, in the same order, the offers of each class.
    """
    counts = _least_without_limit(deficit, offers, floor)
    if counts is None or sum(counts) <= slots:
        return counts
    return _least(deficit, offers, slots, floor)


def _least_without_limit(deficit: Sequence[int], offers: Sequence[Offers], floor: Counts) -> Counts | None:
    """`least_counts` without the limit `slots`: as few of each level as suffice when all lower levels leave."""
    levels = len(offers[0])
    least = [*floor, *[0] * (levels - len(floor))]
    for lack, offer in zip(deficit, offers):
        if lack > sum(top[-1] for top in offer):
            return None
    lacking = [lack - sum(top[-1] for top in offer) for lack, offer in zip(deficit, offers)]
    for level in range(levels):
        count = least[level]
        for at, offer in enumerate(offers):
            lacking[at] += offer[level][-1]
            if lacking[at] > 0:
                count = max(count, bisect_left(offer[level], lacking[at]))
        if count > least[level]:
            least[level:] = [count, *[0] * (levels - level - 1)]
        if count:
            for at, offer in enumerate(offers):
                lacking[at] -= offer[level][count]
    return tuple(least)


def _least(deficit: Sequence[int], offers: Sequence[Offers], slots: int, floor: Counts) -> Counts | None:
    """`least_counts` within `slots`: the lower levels get only the slots that the higher ones leave."""
    levels = len(offers[0])
    lower = [_lower(offer) for offer in offers]
    least = [*floor, *[0] * (levels - len(floor))]
    counts: list[int] = []
    lacking = list(deficit)
    while len(counts) < levels:
        level = len(counts)
        count = next(
            (
                count
                for count in range(least[level], min(slots, len(offers[0][level]) - 1) + 1)
                if all(
                    lack <= offer[level][count] + rest[level][min(slots - count, len(rest[level]) - 1)]
                    for lack, offer, rest in zip(lacking, offers, lower)
                )
            ),
            None,
        )
        if count is not None:
            if count > least[level]:
                least[level + 1 :] = [0] * (levels - level - 1)
            counts.append(count)
            lacking = [lack - offer[level][count] for lack, offer in zip(lacking, offers)]
            slots -= count
        elif counts:
            count = counts.pop()  # too few of the level above: take one more of it
            least[level - 1 :] = [count + 1, *[0] * (levels - level)]
            lacking = [lack + offer[level - 1][count] for lack, offer in zip(lacking, offers)]
            slots += count
        else:
            return None
    return tuple(counts)


def _lower(offers: Offers) -> list[list[int]]:
    """By level, the most that k candidates of all lower levels together free."""
    lists = []
    amounts: list[int] = []
    for top in reversed(offers):
        lists.append([0, *accumulate(amounts)])
        amounts = sorted(amounts + [more - less for less, more in pairwise(top)], reverse=True)
    return lists[::-1]


def raised(counts: Counts, sizes: Sequence[int], slots: int) -> Counts | None:
    """The floor of the next larger counts; shorter than `counts` when the lower levels start again at 0. None when no
    larger counts exist."""
    for level in reversed(range(len(counts))):
        if counts[level] < sizes[level] and sum(counts[: level + 1]) < slots:
            return (*counts[:level], counts[level] + 1)
    return None


def shares(deficit: Sequence[int], offers: Sequence[Offers], counts: Counts) -> list[list[int]]:
    """By level and class, how much each victim has to free when the numbers of victims are given: even the largest
    other victims leave that part of the deficit. An empty list for a level whose count is 0."""
    over = [sum(map(getitem, offer, counts)) - lack for lack, offer in zip(deficit, offers)]
    return [
        [offer[level][count] - offer[level][count - 1] - more for offer, more in zip(offers, over)] if count else []
        for level, count in enumerate(counts)
    ]
