"""The cheapest set of just so many items per level (priority) that covers a deficit: branch and bound, exact.

Items of one level that give the same amounts are alike but for their price, and for a fixed number of such a class the
cheapest are optimal; so the search runs over one count per class. Items of a group with a budget are alike only among
themselves.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from math import inf
from operator import attrgetter, gt, mul, sub
from typing import NamedTuple

from vmsvc.domain.cover import Item
from vmsvc.domain.multipliers import multipliers
from vmsvc.domain.sift import Amounts


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


class _Class(NamedTuple):
    """Items of one level and group with equal amounts, cheapest first."""

    amounts: Amounts
    group: str
    items: list[Item]
    prices: list[int]
    reduced: list[int]           # what the multipliers leave of the prices


class _Suffix(NamedTuple):
    """A class, and what it and the later ones offer when k more of its level are taken, with all lower levels."""

    kind: _Class
    given: list[Amounts]         # by the first k of the class
    prices: list[int]
    reduced: list[int]
    top: list[Amounts]           # top[k]: the most there is
    least: list[int]             # least[k]: the least reduced price
    others: int                  # how many items of the level come after the class
    after: tuple[int, int]       # where the next lower level begins, and how many of it are taken


_Levels = list[tuple[int, list[_Class]]]


def _sums(values: Iterable[int], start: int = 0) -> list[int]:
    return list(accumulate(values, initial=start))


def cheapest(deficit: Amounts, levels: Sequence[tuple[int, Sequence[Item]]], cutoff: int | float,
             budgets: Mapping[str, int], budget: Budget) -> list[Item] | None:
    """The best cover of so many items of each level and a price below the cutoff, or None when there is none. When the
    budget runs out it is the best that was found."""
    if sum(sum(sorted([item.price for item in items])[:count]) for count, items in levels) >= cutoff:
        return None
    kinds = [(count, _kinds(deficit, items, count, budgets)) for count, items in levels]
    width, prices = _widened(kinds)
    cutoff = cutoff if cutoff == inf else cutoff << width
    worth, chosen = _worth(deficit, kinds, cutoff, width)
    if chosen and not budgets:
        cutoff = min(cutoff, sum(prices[item.id] for item in chosen) + 1)
    priced = [(count, [_priced(alike, prices, worth) for alike in each]) for count, each in kinds]
    whole = sum(map(mul, worth, deficit))
    priced = _promising(priced, whole, cutoff)
    if priced is None:
        return None
    return _search(_suffixes(deficit, priced), (0, priced[0][0], deficit, 0, whole, ()), cutoff, budgets, budget)


def _kinds(deficit: Amounts, items: Iterable[Item], slots: int, budgets: Mapping[str, int]) -> list[list[Item]]:
    """The items that matter, those that are alike together, the cheapest first."""
    found: dict[tuple[Amounts, str], list[Item]] = {}
    for item in sorted(items, key=attrgetter("price", "id")):
        found.setdefault((item.amounts, item.group), []).append(item)
    for (amounts, group), alike in found.items():
        if len(alike) > 1:
            useful = max((-(-lack // amount) for lack, amount in zip(deficit, amounts) if amount), default=0)
            del alike[min(useful, slots, budgets.get(group, useful)):]
    return [*filter(None, found.values())]


def _widened(kinds: Sequence[tuple[int, list[list[Item]]]]) -> tuple[int, dict[str, int]]:
    """The prices by id, and by how many bits they were widened.

    The new bits make the sorted ids the last criterion: among sets of one size those with the lowest ids have the
    greatest sum of 2**-rank. No two sets have the same price then.
    """
    items = sorted([item for _, each in kinds for alike in each for item in alike], key=attrgetter("id"))
    width, whole = len(items) + sum(count for count, _ in kinds).bit_length(), 1 << len(items)
    return width, {item.id: (item.price << width) + whole - (whole >> rank) for rank, item in enumerate(items, 1)}


def _worth(deficit: Amounts, kinds: Sequence[tuple[int, list[list[Item]]]], cutoff: int | float,
           width: int) -> tuple[Amounts, list[Item]]:
    """Multipliers, and a cover that was met on the way to them, if any."""
    levels = [(count, [item for alike in each for item in alike]) for count, each in kinds]
    if sum(count for count, _ in levels) == 1:
        return (0,) * len(deficit), []
    if cutoff == inf:
        target = sum(count * max((item.price for item in items), default=0) for count, items in levels)
    else:
        target = cutoff >> width
    worth, chosen = multipliers(deficit, [(count, [(item.amounts, item.price) for item in items])
                                          for count, items in levels], target)
    return tuple(one << width for one in worth), [items[at] for (_, items), each in zip(levels, chosen) for at in each]


def _priced(alike: list[Item], prices: Mapping[str, int], worth: Amounts) -> _Class:
    own, saved = [prices[item.id] for item in alike], sum(map(mul, worth, alike[0].amounts))
    return _Class(alike[0].amounts, alike[0].group, alike, own, [price - saved for price in own])


def _promising(levels: _Levels, whole: int, cutoff: int | float) -> _Levels | None:
    """The classes without those that no cover below the cutoff has an item of; None when there is no such cover.

    With one item that is not among the cheapest, by reduced price, a cover costs so much more at least."""
    columns = [sorted([price for kind in kinds for price in kind.reduced]) for _, kinds in levels]
    if any(len(column) < count for (count, _), column in zip(levels, columns)):
        return None
    spare = cutoff - whole - sum(sum(column[:count]) for (count, _), column in zip(levels, columns))
    if spare <= 0:
        return None
    return [(count, [kind for kind in kinds if kind.reduced[0] < column[count - 1] + spare])
            for (count, kinds), column in zip(levels, columns)]


def _suffixes(deficit: Amounts, levels: _Levels) -> list[_Suffix]:
    """The classes in the order of search."""
    suffixes: list[_Suffix] = []
    after = (sum(len(kinds) for _, kinds in levels), 0)
    top, least = (0,) * len(deficit), 0
    for count, kinds in reversed(levels):
        columns: list[list[int]] = [[] for _ in deficit]
        prices: list[int] = []
        others = 0
        for kind in sorted(kinds, key=lambda kind: kind.reduced[0], reverse=True):
            members = len(kind.items)
            columns = [sorted(column + [amount] * members, reverse=True)[:count]
                       for column, amount in zip(columns, kind.amounts)]
            prices = sorted(prices + kind.reduced)[:count]
            suffixes.append(_Suffix(
                kind, [tuple(map(taken.__mul__, kind.amounts)) for taken in range(members + 1)],
                _sums(kind.prices), _sums(kind.reduced), [*zip(*map(_sums, columns, top))], _sums(prices, least),
                others, after))
            others += members
        after = (after[0] - len(kinds), count)
        top, least = suffixes[-1].top[count], suffixes[-1].least[count]
    return suffixes[::-1]


def _search(suffixes: Sequence[_Suffix], start: tuple, cutoff: int | float, budgets: Mapping[str, int],
            budget: Budget) -> list[Item] | None:
    """Depth first, class by class."""
    best = None
    stack = [start]
    while stack and not budget.spent:
        at, left, lacking, price, reduced, taken = stack.pop()
        if not left:
            if price < cutoff and max(lacking) <= 0:
                cutoff, best = price, taken
            continue
        budget.left -= 1
        suffix = suffixes[at]
        if reduced + suffix.least[left] >= cutoff or any(map(gt, lacking, suffix.top[left])):
            continue
        most = min(left, len(suffix.kind.items))
        if suffix.kind.group:
            most = min(most, budgets[suffix.kind.group] - sum(
                count for other, count in taken if suffixes[other].kind.group == suffix.kind.group))
        for count in range(max(0, left - suffix.others), most + 1):
            stack.append((*((at + 1, left - count) if count < left else suffix.after),
                          tuple(map(sub, lacking, suffix.given[count])),
                          price + suffix.prices[count], reduced + suffix.reduced[count],
                          (*taken, (at, count)) if count else taken))
    return None if best is None else [item for at, count in best for item in suffixes[at].kind.items[:count]]
