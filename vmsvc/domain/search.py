"""The cheapest set of items that covers a deficit: branch and bound, exact.

The counts per level (priority) come first: from the least possible on, the first counts with a cover are the best.
With the counts fixed, items of one level that give the same amounts are alike but for their price, and for a fixed
number of such a class the cheapest are optimal; so the search runs over one count per class. Items of a group with a
budget are alike only among themselves.
"""

from collections.abc import Iterable, Mapping, Sequence
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
    group: str
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
    """One covering problem: what is lacking of each class, the items there are, how many may be taken in all and of
    each group."""

    def __init__(self, deficit: Amounts, items: Iterable[Item], slots: int, budgets: Mapping[str, int]):
        if len(deficit) > 1:
            deficit, items = _with_sum(deficit, items)
        self._deficit = deficit
        self._slots = slots
        self._budgets = {group: max(0, most) for group, most in budgets.items()}
        self._levels, self._width = self._classes(item for item in items if any(item.amounts))
        members = [[item for kind in level for item in kind.items] for level in self._levels]
        self._priorities = [level[0].level for level in members]
        self._offers = [[_sums(sorted([item.amounts[at] for item in self._most(level, at)], reverse=True))
                         for level in members] for at in range(len(deficit))]
        self._sizes = [len(offer) - 1 for offer in self._offers[0]]

    def _most(self, level: list[Item], at: int) -> list[Item]:
        """The items of a level without those that are more than a group's budget, the largest in a class left."""
        if not any(item.group for item in level):
            return level
        room = dict(self._budgets)
        most = []
        for item in sorted(level, key=lambda item: item.amounts[at], reverse=True):
            if item.group:
                room[item.group] -= 1
            if not item.group or room[item.group] >= 0:
                most.append(item)
        return most

    def _classes(self, items: Iterable[Item]) -> tuple[list[list[Class]], int]:
        """The classes by level, highest first, and by how many bits their prices were widened.

        The new bits make the sorted ids the last criterion: among sets of one size those with the lowest ids have
        the greatest sum of 2**-rank. No two sets have the same price then.
        """
        chosen: list[Item] = []
        for (_, amounts, group), alike in groupby(
                sorted(items, key=lambda item: (-item.level, item.amounts, item.group, item.price, item.id)),
                key=lambda item: (item.level, item.amounts, item.group)):
            useful = max(-(-lack // amount) for lack, amount in zip(self._deficit, amounts) if amount)
            chosen += list(alike)[:min(useful, self._slots, self._budgets.get(group, useful))]
        width, whole = len(chosen) + self._slots.bit_length(), 1 << len(chosen)
        rank = {item.id: rank for rank, item in enumerate(sorted(chosen, key=lambda item: item.id), 1)}
        chosen = [item._replace(price=(item.price << width) + whole - (whole >> rank[item.id])) for item in chosen]
        return [[Class(*kind, list(alike))
                 for kind, alike in groupby(level, key=lambda item: (item.amounts, item.group))]
                for _, level in groupby(chosen, key=lambda item: item.level)], width

    def solve(self, limit: Limit | None, budget: Budget) -> tuple[str, ...] | None:
        """The ids of the best cover below the limit, or None when there is none.

        When the budget runs out it is the best that was found. No item of it is needless in either case.
        """
        limit = Limit(limit.counts, limit.price << self._width) if limit else Limit(((inf, 0),), inf)
        best = greedy_cover(self._deficit, self._levels, self._slots, self._budgets)
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
            most = min(left, len(suffix.items))
            if suffix.group:
                most = min(most, self._budgets[suffix.group] - sum(
                    count for other, count in taken if suffixes[other].group == suffix.group))
            for count in range(max(0, left - suffix.others), most + 1):
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
                level = [kind for kind in level if all(map(ge, kind.amounts, least))]
                if sum(len(kind.items) for kind in level) < count:
                    return None
                levels.append((count, level))
        return levels

    def _suffixes(self, levels: Sequence[tuple[int, list[Class]]], cutoff: int | float) -> tuple[list[_Suffix], int]:
        """The classes in the order of search, and the reduced price of the deficit."""
        worth = self._worth(levels, cutoff)
        suffixes: list[_Suffix] = []
        after = (sum(len(kinds) for _, kinds in levels), 0)
        top, least, least_reduced = [0] * len(self._deficit), 0, 0
        for count, kinds in reversed(levels):
            amounts: list[list[int]] = [[] for _ in self._deficit]
            prices: list[int] = []
            reduced_prices: list[int] = []
            priced = [([item.price - sum(map(mul, worth, kind.amounts)) for item in kind.items], kind)
                      for kind in kinds]
            others = 0
            for reduced, kind in sorted(priced, key=lambda entry: entry[0][0], reverse=True):
                members = len(kind.items)
                amounts = [sorted(column + [amount] * members, reverse=True)[:count]
                           for column, amount in zip(amounts, kind.amounts)]
                own = [item.price for item in kind.items]
                prices = sorted(prices + own)[:count]
                reduced_prices = sorted(reduced_prices + reduced)[:count]
                suffixes.append(_Suffix(*kind, _sums(own), _sums(reduced),
                                        tuple(_sums(column, most) for column, most in zip(amounts, top)),
                                        _sums(prices, least), _sums(reduced_prices, least_reduced), others, after))
                others += members
            after = (after[0] - len(kinds), count)
            top = [column[count] for column in suffixes[-1].top]
            least, least_reduced = suffixes[-1].least[count], suffixes[-1].least_reduced[count]
        return suffixes[::-1], sum(map(mul, worth, self._deficit))

    def _worth(self, levels: Sequence[tuple[int, list[Class]]], cutoff: int | float) -> Amounts:
        if sum(count for count, _ in levels) == 1:
            return (0,) * len(self._deficit)
        items = [(count, [(item.amounts, item.price >> self._width) for kind in kinds for item in kind.items])
                 for count, kinds in levels]
        if cutoff == inf:
            target = sum(count * max(price for _, price in priced) for count, priced in items)
        else:
            target = cutoff >> self._width
        return tuple(worth << self._width for worth in multipliers(self._deficit, items, target))
