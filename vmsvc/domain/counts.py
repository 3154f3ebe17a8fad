"""How many victims of each priority it takes at least: what is known before looking at who goes together.

Levels (one priority each) come highest first. What they offer of a resource class is one list per level: offer[k] is
the most that k of its candidates give together, from offer[0] = 0 to all of them.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, pairwise
from operator import getitem

Counts = tuple[int, ...]
Offers = Sequence[list[int]]


def least_counts(deficit: Sequence[int], offers: Sequence[Offers], slots: int, floor: Counts = ()) -> Counts | None:
    """The least counts, in lexicographic order and from the floor on, for which every class by itself can be covered
    with at most `slots` candidates. No cover has lesser counts. None: there are none.

    Takes what is lacking of each class and, in the same order, its offers.
    """
    counts = _least_without_limit(deficit, offers, floor)
    if counts is None or sum(counts) <= slots:
        return counts
    return _least(deficit, offers, slots, floor)


def _least_without_limit(deficit: Sequence[int], offers: Sequence[Offers], floor: Counts) -> Counts | None:
    """As few of a level as will do for every class when all lower levels are taken whole."""
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
    """The same within `slots`: of the lower levels only so many can be taken as there are slots left."""
    levels = len(offers[0])
    lower = [_lower(offer) for offer in offers]
    least = [*floor, *[0] * (levels - len(floor))]
    counts: list[int] = []
    lacking = list(deficit)
    while len(counts) < levels:
        level = len(counts)
        count = next((count for count in range(least[level], min(slots, len(offers[0][level]) - 1) + 1)
                      if all(lack <= offer[level][count] + rest[level][min(slots - count, len(rest[level]) - 1)]
                             for lack, offer, rest in zip(lacking, offers, lower))), None)
        if count is not None:
            if count > least[level]:
                least[level + 1:] = [0] * (levels - level - 1)
            counts.append(count)
            lacking = [lack - offer[level][count] for lack, offer in zip(lacking, offers)]
            slots -= count
        elif counts:
            count = counts.pop()  # not with so few of the level above: one more of that
            least[level - 1:] = [count + 1, *[0] * (levels - level)]
            lacking = [lack + offer[level - 1][count] for lack, offer in zip(lacking, offers)]
            slots += count
        else:
            return None
    return tuple(counts)


def _lower(offers: Offers) -> list[list[int]]:
    """By level: the most that k candidates of all lower levels together give."""
    lists = []
    amounts: list[int] = []
    for top in reversed(offers):
        lists.append([0, *accumulate(amounts)])
        amounts = sorted(amounts + [more - less for less, more in pairwise(top)], reverse=True)
    return lists[::-1]


def raised(counts: Counts, sizes: Sequence[int], slots: int) -> Counts | None:
    """Where the next larger counts begin, as a floor: shorter than `counts` when the lower levels start again at 0.
    None when there are none."""
    for level in reversed(range(len(counts))):
        if counts[level] < sizes[level] and sum(counts[:level + 1]) < slots:
            return (*counts[:level], counts[level] + 1)
    return None


def shares(deficit: Sequence[int], offers: Sequence[Offers], counts: Counts) -> list[list[int]]:
    """What each victim has to give of each class (inner lists) when there are just so many, by level: the others, at
    their largest, leave so much. Only where the count of the level is not 0."""
    over = [sum(map(getitem, offer, counts)) - lack for lack, offer in zip(deficit, offers)]
    return [[offer[level][count] - offer[level][count - 1] - more for offer, more in zip(offers, over)]
            if count else [] for level, count in enumerate(counts)]
