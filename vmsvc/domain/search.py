"""The cheapest set of items that covers a deficit: branch and bound, exact.

The counts per level (priority) come first: from the least possible on, the first counts with a cover are the best.
With the counts fixed, items of one level that give the same amounts are alike but for their price, and for a fixed
number of such a class the cheapest are optimal; so the search runs over one count per class.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate, groupby
from math import inf
from operator import ge, mul
from typing import NamedTuple

from vmsvc.domain.counts import Counts, least_counts, raised, shares
from vmsvc.domain.cover import Amounts, Class, Item, greedy_cover, needed
from vmsvc.domain.multipliers import multipliers


class Limit(NamedTuple):
    """Only covers below this are of interest: (level, count), highest first, without zeros, then the price."""

    counts: tuple[tuple[int, int], ...]
    price: int | float


class Budget:
    """How many nodes a search may still visit."""

    __slots__ = ("size", "left")

    def __init__(self, size: int):
        self.size = size
        self.left = size

    @property
    def spent(self) -> bool:
        """True when the search had to stop early."""
        return self.left < 0


class _Suffix(NamedTuple):
    """A class, and what it and the later ones offer when k more of its level are taken, with all lower levels."""

    amounts: Amounts
    items: list[Item]
    prices: list[int]            # of the first k of the class
    reduced: list[int]
    top: tuple[list[int], ...]   # top[c][k]: the most there is of class c
    least: list[int]             # least[k]: the least price
    least_reduced: list[int]
    others: int                  # how many items of the level come after the class
    after: tuple[int, int]       # where the next lower level begins, and how many of it are taken


def _sums(values: Iterable[int], start: int = 0) -> list[int]:
    return list(accumulate(values, initial=start))


def _with_sum(deficit: Amounts, items: Iterable[Item]) -> tuple[Amounts, list[Item]]:
    """One class more, that every cover covers: the sum of all, in parts of what is lacking. Alone it tells what the
    classes one by one do not, for instance that items rich in one are poor in the other."""
    weights = [10**6 // lack or 1 for lack in deficit]
    return ((*deficit, sum(map(mul, weights, deficit))),
            [item._replace(amounts=(*item.amounts, sum(map(mul, weights, item.amounts)))) for item in items])


class Cover:
    """One covering problem: what is lacking of each class, the items there are, how many may be taken."""

    def __init__(self, deficit: Amounts, items: Iterable[Item], slots: int):
        if len(deficit) > 1:
            deficit, items = _with_sum(deficit, items)
        self._deficit = deficit
        self._slots = slots
        self._levels, self._width = self._classes(item for item in items if any(item.amounts))
        members = [[item for group in level for item in group.items] for level in self._levels]
        self._priorities = [level[0].level for level in members]
        self._sizes = [len(level) for level in members]
        self._offers = [[_sums(sorted([item.amounts[at] for item in level], reverse=True)) for level in members]
                        for at in range(len(deficit))]

    def _classes(self, items: Iterable[Item]) -> tuple[list[list[Class]], int]:
        """The classes by level, highest first, and by how many bits their prices were widened.

        The new bits make the sorted ids the last criterion: among sets of one size those with the lowest ids have
        the greatest sum of 2**-rank. No two sets have the same price then.
        """
        chosen: list[Item] = []
        for (_, amounts), group in groupby(sorted(items, key=lambda item: (-item.level, *item[1:])),
                                           key=lambda item: item[:2]):
            useful = max(-(-lack // amount) for lack, amount in zip(self._deficit, amounts) if amount)
            chosen += list(group)[:min(useful, self._slots)]
        width, whole = len(chosen) + self._slots.bit_length(), 1 << len(chosen)
        rank = {item.id: rank for rank, item in enumerate(sorted(chosen, key=lambda item: item.id), 1)}
        chosen = [item._replace(price=(item.price << width) + whole - (whole >> rank[item.id])) for item in chosen]
        return [[Class(amounts, list(group)) for amounts, group in groupby(level, key=lambda item: item.amounts)]
                for _, level in groupby(chosen, key=lambda item: item.level)], width

    def solve(self, limit: Limit | None, budget: Budget) -> tuple[str, ...] | None:
        """The ids of the best cover below the limit, or None when there is none.

        When the budget runs out it is the best that was found. No item of it is needless in either case.
        """
        limit = Limit(limit.counts, limit.price << self._width) if limit else Limit(((inf, 0),), inf)
        best = greedy_cover(self._deficit, self._levels, self._slots)
        if best is not None:
            cost = Limit(self._named([sum(item.level == level for item in best) for level in self._priorities]),
                         sum(item.price for item in best))
            limit, best = (cost, best) if cost < limit else (limit, None)
        floor: Counts | None = ()
        while floor is not None and self._levels:
            counts = least_counts(self._deficit, self._offers, self._slots, floor)
            if counts is None or self._named(counts) > limit.counts or budget.spent:
                break
            found = self._search(counts, limit.price if self._named(counts) == limit.counts else inf, budget)
            if found is not None:
                best = found
                break
            floor = raised(counts, self._sizes, self._slots)
        return None if best is None else tuple(sorted(item.id for item in needed(self._deficit, best)))

    def _named(self, counts: Sequence[int]) -> tuple[tuple[int, int], ...]:
        return tuple((level, count) for level, count in zip(self._priorities, counts) if count)

    def _search(self, counts: Counts, cutoff: int | float, budget: Budget) -> list[Item] | None:
        """The cheapest cover with just these counts and below the cutoff: depth first, class by class."""
        levels = self._eligible(counts)
        if levels is None:
            return None
        suffixes, reduced = self._suffixes(levels, cutoff)
        best = None
        stack = [(0, levels[0][0], self._deficit, 0, reduced, ())]
        while stack and not budget.spent:
            at, left, lacking, price, reduced, taken = stack.pop()
            if not left:
                if price < cutoff and max(lacking) <= 0:
                    cutoff, best = price, taken
                continue
            budget.left -= 1
            suffix = suffixes[at]
            if price + suffix.least[left] >= cutoff or reduced + suffix.least_reduced[left] >= cutoff:
                continue
            if any(lack > top[left] for lack, top in zip(lacking, suffix.top)):
                continue
            for count in range(max(0, left - suffix.others), min(left, len(suffix.items)) + 1):
                stack.append((*((at + 1, left - count) if count < left else suffix.after),
                              tuple(lack - count * amount for lack, amount in zip(lacking, suffix.amounts)),
                              price + suffix.prices[count], reduced + suffix.reduced[count],
                              (*taken, (at, count)) if count else taken))
        return None if best is None else [item for at, count in best for item in suffixes[at].items[:count]]

    def _eligible(self, counts: Counts) -> list[tuple[int, list[Class]]] | None:
        """Per level with a count: the classes that can be in a cover with just these counts."""
        levels = []
        for count, level, least in zip(counts, self._levels, shares(self._deficit, self._offers, counts)):
            if count:
                level = [group for group in level if all(map(ge, group.amounts, least))]
                if sum(len(group.items) for group in level) < count:
                    return None
                levels.append((count, level))
        return levels

    def _suffixes(self, levels: Sequence[tuple[int, list[Class]]], cutoff: int | float) -> tuple[list[_Suffix], int]:
        """The classes in the order of search, and the reduced price of the deficit."""
        worth = self._worth(levels, cutoff)
        suffixes: list[_Suffix] = []
        after = (sum(len(groups) for _, groups in levels), 0)
        top, least, least_reduced = [0] * len(self._deficit), 0, 0
        for count, groups in reversed(levels):
            amounts: list[list[int]] = [[] for _ in self._deficit]
            prices: list[int] = []
            reduced_prices: list[int] = []
            priced = [([item.price - sum(map(mul, worth, group.amounts)) for item in group.items], group)
                      for group in groups]
            others = 0
            for reduced, group in sorted(priced, key=lambda entry: entry[0][0], reverse=True):
                members = len(group.items)
                amounts = [sorted(column + [amount] * members, reverse=True)[:count]
                           for column, amount in zip(amounts, group.amounts)]
                own = [item.price for item in group.items]
                prices = sorted(prices + own)[:count]
                reduced_prices = sorted(reduced_prices + reduced)[:count]
                suffixes.append(_Suffix(group.amounts, group.items, _sums(own), _sums(reduced),
                                        tuple(_sums(column, most) for column, most in zip(amounts, top)),
                                        _sums(prices, least), _sums(reduced_prices, least_reduced), others, after))
                others += members
            after = (after[0] - len(groups), count)
            top = [column[count] for column in suffixes[-1].top]
            least, least_reduced = suffixes[-1].least[count], suffixes[-1].least_reduced[count]
        return suffixes[::-1], sum(map(mul, worth, self._deficit))

    def _worth(self, levels: Sequence[tuple[int, list[Class]]], cutoff: int | float) -> Amounts:
        if sum(count for count, _ in levels) == 1:
            return (0,) * len(self._deficit)
        items = [(count, [(item.amounts, item.price >> self._width) for group in groups for item in group.items])
                 for count, groups in levels]
        if cutoff == inf:
            target = sum(count * max(price for _, price in priced) for count, priced in items)
        else:
            target = cutoff >> self._width
        return tuple(worth << self._width for worth in multipliers(self._deficit, items, target))
