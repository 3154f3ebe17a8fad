"""How many victims of each priority it takes at least: what is known before looking at who goes together.

Levels (one priority each) come highest first. What a level offers of a resource class is a pair of lists: top[k] is
the most that k of its candidates give, lower[k] the most that k candidates of all lower levels together give.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

Counts = tuple[int, ...]
Offer = tuple[list[int], list[int]]


def offers_of(levels: Iterable[Iterable[int]]) -> list[Offer]:
    """The offers of one class by levels, from the amounts of their candidates; highest level first."""
    offers = []
    merged: list[int] = []
    lower = [0]
    for amounts in reversed([list(level) for level in levels]):
        amounts.sort(reverse=True)
        offers.append(([0, *accumulate(amounts)], lower))
        merged = sorted(merged + amounts, reverse=True)
        lower = [0, *accumulate(merged)]
    return offers[::-1]


def least_counts(deficit: Sequence[int], offers: Sequence[Sequence[Offer]], slots: int,
                 floor: Counts = ()) -> Counts | None:
    """The least counts, in lexicographic order and from the floor on, for which every class by itself can be covered
    with at most `slots` candidates. No cover has lesser counts. None: there are none.

    Takes what is lacking of each class and, in the same order, its offers.
    """
    levels = len(offers[0])
    least = [*floor, *[0] * (levels - len(floor))]
    counts: list[int] = []
    lacking = list(deficit)
    while len(counts) < levels:
        level = len(counts)
        count = _fewest(lacking, [offer[level] for offer in offers], slots, least[level])
        if count is not None:
            if count > least[level]:
                least[level + 1:] = [0] * (levels - level - 1)
            counts.append(count)
        elif counts:
            count = -counts.pop()  # not with so few of the level above: one more of that
            level -= 1
            least[level:] = [1 - count, *[0] * (levels - level - 1)]
        else:
            return None
        slots -= count
        if count:
            sign = 1 if count > 0 else -1
            lacking = [lack - sign * offer[level][0][abs(count)] for lack, offer in zip(lacking, offers)]
    return tuple(counts)


def _fewest(lacking: Sequence[int], offers: Sequence[Offer], slots: int, least: int) -> int | None:
    """How few of one level will do for every class when as many of the lower levels as may be are taken."""
    for lack, (top, lower) in zip(lacking, offers):
        if lack > lower[-1]:
            least = max(least, bisect_left(top, lack - lower[-1]))
    while least <= slots and least < len(offers[0][0]):
        rest = slots - least
        if all(lack <= top[least] + lower[min(rest, len(lower) - 1)] for lack, (top, lower) in zip(lacking, offers)):
            return least
        least += 1
    return None


def raised(counts: Counts, sizes: Sequence[int], slots: int) -> Counts | None:
    """Where the next larger counts begin, as a floor: shorter than `counts` when the lower levels start again at 0.
    None when there are none."""
    for level in reversed(range(len(counts))):
        if counts[level] < sizes[level] and sum(counts[:level + 1]) < slots:
            return (*counts[:level], counts[level] + 1)
    return None


def shares(deficit: Sequence[int], offers: Sequence[Sequence[Offer]], counts: Counts) -> list[list[int]]:
    """What each victim has to give of each class (inner lists) when there are just so many, by level: the others, at
    their largest, leave so much. Only where the count of the level is not 0."""
    over = [sum(offer[level][0][count] for level, count in enumerate(counts)) - lack
            for lack, offer in zip(deficit, offers)]
    return [[offer[level][0][count] - offer[level][0][count - 1] - more for offer, more in zip(offers, over)]
            if count else [] for level, count in enumerate(counts)]
