"""The cheapest set of items that covers a deficit: branch and bound, exact.

Items of one level (priority) that give the same amounts are alike but for their price. For a fixed number taken from
such a class the cheapest are optimal, so the search runs over one count per class. Prices are those of
`objective.Pricing`: one item of a higher level costs more than all the items below it together.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate, groupby
from typing import NamedTuple

Amounts = tuple[int, ...]


class Item(NamedTuple):
    """What one candidate gives of each lacking class (never more than is lacking), and its price."""

    level: int
    amounts: Amounts
    price: int
    id: str


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
    """What the classes from one on, to the end of their level, can give at best."""

    top: tuple[list[int], ...]   # top[c][k]: the most of class c that k items give
    cheap: list[int]             # cheap[k]: the least price of k items
    below: Amounts               # what all items of the lower levels give together
    after: int                   # where the next lower level begins


class _Class(NamedTuple):
    """Items of equal level and amounts, cheapest first; prices[k] is the price of the first k."""

    level: int
    amounts: Amounts
    items: list[Item]
    prices: list[int]


def _suffix(items: Sequence[tuple[Amounts, int]], below: Amounts, after: int, slots: int) -> _Suffix:
    columns = zip(*(amounts for amounts, _ in items))
    top = tuple([0, *accumulate(sorted(column, reverse=True)[:slots])] for column in columns)
    cheap = [0, *accumulate(sorted([price for _, price in items])[:slots])]
    return _Suffix(top, cheap, below, after)


def _lower_bound(suffixes: Sequence[_Suffix], first: int, lacking: Amounts, slots: int) -> int | None:
    """A price that no cover of what is lacking can be below; None when there is no cover.

    For each class alone: from the highest level down, the fewest items that still suffice when all lower levels are
    taken whole, at the price of the cheapest. The dearest of these answers holds for all classes together.
    """
    if first >= len(suffixes):
        return None
    bound = 0
    for column, lack in enumerate(lacking):
        price, left, at = 0, slots, first
        while lack > 0:
            suffix = suffixes[at]
            short = lack - suffix.below[column]
            if short > 0:
                top = suffix.top[column]
                count = bisect_left(top, short)
                if count == len(top) or count > left:
                    if at == first:
                        return None
                    break  # more of a higher level might do: what was counted so far stays a bound
                price += suffix.cheap[count]
                left -= count
                lack -= top[count]
            at = suffix.after
        bound = max(bound, price)
    return bound


def _sums(vectors: Iterable[Amounts], width: int) -> Amounts:
    total = [0] * width
    for vector in vectors:
        for column, amount in enumerate(vector):
            total[column] += amount
    return tuple(total)


class Cover:
    """One covering problem: what is lacking of each class, the items there are, how many may be taken."""

    def __init__(self, deficit: Amounts, items: Iterable[Item], slots: int):
        self.deficit = deficit
        self.items = [item for item in items if any(item.amounts)]
        self.slots = slots

    def solve(self, limit: int | None, budget: Budget) -> tuple[str, ...] | None:
        """The ids of the cheapest cover with a price below the limit, or None when there is none.

        When the budget runs out it is the best that was found. No item of it is needless in either case.
        """
        classes, width = self._classes()
        cutoff = None if limit is None else limit << width
        best = self._greedy(classes)
        if best is not None:
            price = sum(item.price for item in best)
            if cutoff is None or price < cutoff:
                cutoff = price
            else:
                best = None
        best = self._descend(classes, cutoff, budget) or best
        if best is None:
            return None
        return tuple(sorted(item.id for item in self._needed(best)))

    def _classes(self) -> tuple[list[_Class], int]:
        """The classes, highest level first, and by how many bits their prices were widened.

        The new bits make the sorted ids the last criterion: among sets of one size those with the lowest ids have
        the greatest sum of 2**-rank.
        """
        chosen: list[Item] = []
        for (_, amounts), group in groupby(sorted(self.items, key=lambda item: (-item.level, item.amounts, item.price,
                                                                                item.id)), key=lambda item: item[:2]):
            useful = max(-(-lack // amount) for lack, amount in zip(self.deficit, amounts) if amount)
            chosen += list(group)[:min(useful, self.slots)]
        width = len(chosen) + self.slots.bit_length()
        rank = {item.id: rank for rank, item in enumerate(sorted(chosen, key=lambda item: item.id))}
        whole = 1 << len(chosen)
        priced = [item._replace(price=(item.price << width) + whole - (whole >> rank[item.id] + 1)) for item in chosen]
        classes = []
        for (level, amounts), group in groupby(priced, key=lambda item: item[:2]):
            items = list(group)
            classes.append(_Class(level, amounts, items, [0, *accumulate(item.price for item in items)]))
        return classes, width

    def _suffixes(self, classes: list[_Class]) -> list[_Suffix]:
        suffixes: list[_Suffix] = []
        below, total, after, level = (0,) * len(self.deficit), (0,) * len(self.deficit), len(classes), None
        members: list[tuple[Amounts, int]] = []
        for at in reversed(range(len(classes))):
            group = classes[at]
            if group.level != level:
                below, after, level, members = total, at + 1, group.level, []
            members = members + [(group.amounts, item.price) for item in group.items]
            total = _sums([total, *(item.amounts for item in group.items)], len(total))
            suffixes.append(_suffix(members, below, after, self.slots))
        return suffixes[::-1]

    def _descend(self, classes: list[_Class], cutoff: int | None, budget: Budget) -> list[Item] | None:
        """The cheapest cover below the cutoff: depth first, the count of one class after the other."""
        suffixes = self._suffixes(classes)
        best = None
        stack = [(0, self.deficit, self.slots, 0, ())]
        while stack and not budget.spent:
            at, lacking, slots, price, taken = stack.pop()
            if max(lacking) <= 0:
                if cutoff is None or price < cutoff:
                    cutoff, best = price, taken
                continue
            budget.left -= 1
            rest = _lower_bound(suffixes, at, lacking, slots)
            if rest is None or cutoff is not None and price + rest >= cutoff:
                continue
            group = classes[at]
            useful = max((-(-lack // amount) for lack, amount in zip(lacking, group.amounts) if amount and lack > 0),
                         default=0)
            for count in range(min(useful, slots, len(group.items)) + 1):
                left = tuple(lack - count * amount for lack, amount in zip(lacking, group.amounts))
                stack.append((at + 1, left, slots - count, price + group.prices[count],
                              (*taken, (at, count)) if count else taken))
        return None if best is None else [item for at, count in best for item in classes[at].items[:count]]

    def _greedy(self, classes: list[_Class]) -> list[Item] | None:
        """A cover that is good enough to prune with: level by level from the lowest, what covers most goes first."""
        lacking = self.deficit
        taken: list[Item] = []
        for _, level in groupby(reversed(classes), key=lambda group: group.level):
            offers = {group.amounts: group.items[::-1] for group in level}
            while offers and max(lacking) > 0:
                gain, _, amounts = max((self._gain(amounts, lacking), -items[-1].price, amounts)
                                       for amounts, items in offers.items())
                if not gain:
                    break
                taken.append(offers[amounts].pop())
                lacking = tuple(lack - amount for lack, amount in zip(lacking, amounts))
                if not offers[amounts]:
                    del offers[amounts]
        if max(lacking) > 0:
            return None
        taken = self._needed(taken)
        return taken if len(taken) <= self.slots else None

    def _gain(self, amounts: Amounts, lacking: Amounts) -> int:
        """How much of the deficit an item would cover, in parts per million summed over the classes."""
        return sum(min(amount, lack) * 10**6 // whole
                   for amount, lack, whole in zip(amounts, lacking, self.deficit) if lack > 0)

    def _needed(self, items: list[Item]) -> list[Item]:
        """The cover without what it does not need, the dearest given back first."""
        spare = [have - lack for have, lack in zip(_sums((item.amounts for item in items), len(self.deficit)),
                                                   self.deficit)]
        kept = []
        for item in sorted(items, key=lambda item: -item.price):
            if all(amount <= over for amount, over in zip(item.amounts, spare)):
                spare = [over - amount for over, amount in zip(spare, item.amounts)]
            else:
                kept.append(item)
        return kept
