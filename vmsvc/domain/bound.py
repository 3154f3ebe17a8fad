"""The least that a plan in a bin can cost, found without searching."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from heapq import nsmallest
from itertools import accumulate
from typing import NamedTuple

from vmsvc.domain.bins import Bin, Candidate
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

    __slots__ = ("priority", "candidates", "_lower", "_offers")

    def __init__(self, priority: int, candidates: list[Candidate], lower: "Level | None"):
        self.priority = priority
        self.candidates = candidates
        self._lower = lower
        self._offers: dict[str, tuple[list[int], int]] = {}

    def offer(self, name: str) -> tuple[list[int], int]:
        """(top, below): top[k] is the most of the class that k candidates give, below what all lower levels give."""
        found = self._offers.get(name)
        if found is None:
            amounts = Resources.column([candidate.resources for candidate in self.candidates], name)
            amounts.sort(reverse=True)
            below = 0
            if self._lower is not None:
                top, below = self._lower.offer(name)
                below += top[-1]
            found = self._offers[name] = [0, *accumulate(amounts)], below
        return found


class Stock:
    """The candidates of a bin by level, highest priority first: all of a bound that no request changes."""

    __slots__ = ("levels",)

    def __init__(self, candidates: Iterable[Candidate]):
        groups: dict[int, list[Candidate]] = {}
        for candidate in candidates:
            groups.setdefault(candidate.priority, []).append(candidate)
        self.levels: list[Level] = []
        lower = None
        for priority in sorted(groups):
            lower = Level(priority, groups[priority], lower)
            self.levels.insert(0, lower)

    def bound(self, place: Bin, max_victims: int, now: int) -> Bound | None:
        """A lower bound on every plan of up to `max_victims` for the bin; None when there is no plan."""
        deficit = place.deficit
        if not deficit:
            return Bound(Objective((), 0, 0, place.surplus()))
        counts = (0,) * len(self.levels)
        for name, lack in deficit.items():
            fewest = self._fewest(name, lack, max_victims)
            if fewest is None:
                return None
            counts = max(counts, fewest)
        groups = None
        for _ in range(RAISES):
            groups = self._eligible(counts, deficit)
            if groups is not None:
                break
            counts = self._raised(counts, max_victims)
            if counts is None:
                return None
        if groups is None:
            groups = [(count, level.candidates) for count, level in zip(counts, self.levels) if count]
        return _cost(place, groups, now)

    def _fewest(self, name: str, lack: int, slots: int) -> tuple[int, ...] | None:
        """The least counts, highest level first, that could give enough of one class; None when nothing could.

        From the highest level down: as few as suffice when all lower levels are taken whole.
        """
        counts = []
        for level in self.levels:
            top, below = level.offer(name)
            count = bisect_left(top, lack - below) if lack > below else 0
            if count > slots or count == len(top):
                if not counts:
                    return None
                break  # more of a higher level might do: what was counted so far stays a bound
            lack -= top[count]
            slots -= count
            counts.append(count)
        if not counts:
            return None
        return (*counts, *[0] * (len(self.levels) - len(counts)))

    def _eligible(self, counts: Sequence[int], deficit: dict[str, int]) -> list[tuple[int, list[Candidate]]] | None:
        """Per level with a count: who can be among the victims when there are just so many, because the others at
        their largest leave no more to cover than this one gives. None when there are too few of them."""
        slack = {name: sum(level.offer(name)[0][count] for count, level in zip(counts, self.levels) if count) - lack
                 for name, lack in deficit.items()}
        if min(slack.values()) < 0:
            return None
        groups = []
        for count, level in zip(counts, self.levels):
            if count:
                candidates = level.candidates
                for name, over in slack.items():
                    top = level.offer(name)[0]
                    least = top[count] - top[count - 1] - over
                    if least > 0:
                        candidates = [candidate for candidate in candidates if candidate.resources[name] >= least]
                if len(candidates) < count:
                    return None
                groups.append((count, candidates))
        return groups

    def _raised(self, counts: tuple[int, ...], slots: int) -> tuple[int, ...] | None:
        """The next larger counts, lowest level first; None when there are none."""
        for at in reversed(range(len(counts))):
            if sum(counts[:at + 1]) < slots and counts[at] < len(self.levels[at].candidates):
                return (*counts[:at], counts[at] + 1, *[0] * (len(counts) - at - 1))
        return None


def _cost(place: Bin, groups: Sequence[tuple[int, list[Candidate]]], now: int) -> Bound:
    """The cheapest that so many of each group can be, criterion by criterion."""
    ran = lost = rate = 0
    for count, candidates in groups:
        for one_ran, one_lost in nsmallest(count, [(one.ran, one.lost_work + one.rate * now) for one in candidates]):
            ran += one_ran
            lost += one_lost
        rate += sum(nsmallest(count, [one.rate for one in candidates]))
    surplus = 0
    for name, weight in place.weights.items():
        left = max(place.free[name], 0) - place.need[name]
        for count, candidates in groups:
            left += sum(nsmallest(count, Resources.column([one.resources for one in candidates], name)))
        surplus += weight * max(left, 0)
    victims = tuple((candidates[0].priority, count) for count, candidates in groups)
    return Bound(Objective(victims, ran, lost, surplus), rate)
