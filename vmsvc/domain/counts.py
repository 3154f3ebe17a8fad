"""How many victims of each priority it takes at least: what is known before looking at who goes together.

Levels (one priority each) come highest first. A level's offer of a resource class is a list: offer[k] is the most that
k of its candidates give, offer[0] is 0, and the list ends with all of them (or with as many as may be taken).
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

Offers = Sequence[Sequence[int]]
Counts = tuple[int, ...]


def least_counts(offers: Iterable[tuple[int, Offers]], levels: int, slots: int, floor: Counts = ()) -> Counts | None:
    """The least counts, in lexicographic order and from the floor on, with which each class by itself can be covered.

    Takes for each class what is lacking and the offers of all levels. No cover has lesser counts. None: no cover has
    counts from the floor on and at most `slots` in all.
    """
    counts = (*floor, *[0] * (levels - len(floor)))
    for lack, offer in offers:
        fewest = _fewest(offer, lack, slots, floor)
        if fewest is None:
            return None
        counts = max(counts, fewest)
    return counts


def _fewest(offers: Offers, lack: int, slots: int, floor: Counts) -> Counts | None:
    """The least counts that can cover one class: as few of a level as will do when all lower ones are taken whole."""
    below = [0] * (len(offers) + 1)
    for level in reversed(range(len(offers))):
        below[level] = below[level + 1] + offers[level][-1]
    least = [*floor, *[0] * (len(offers) - len(floor))]
    counts: list[int] = []
    while len(counts) < len(offers):
        level = len(counts)
        offer, short = offers[level], lack - below[level + 1]
        count = max(bisect_left(offer, short) if short > 0 else 0, least[level])
        if count < len(offer) and count <= slots:
            if count > least[level]:
                least[level + 1:] = [0] * (len(offers) - level - 1)
            lack -= offer[count]
            slots -= count
            counts.append(count)
        else:
            if not counts:
                return None
            last = counts.pop()  # not with so few of the level above: one more of that
            lack += offers[level - 1][last]
            slots += last
            least[level - 1:] = [last + 1, *[0] * (len(offers) - level)]
    return tuple(counts)


def raised(counts: Counts, sizes: Sequence[int], slots: int) -> Counts | None:
    """Where the next larger counts begin, as a floor: shorter than `counts` when the lower levels start again at 0.
    None when there are none."""
    for level in reversed(range(len(counts))):
        if counts[level] < sizes[level] and sum(counts[:level + 1]) < slots:
            return (*counts[:level], counts[level] + 1)
    return None


def slack(deficit: Sequence[int], offers: Sequence[Offers], counts: Counts) -> list[int]:
    """By how much of each class such counts can exceed the deficit at best; negative where they cannot cover it."""
    return [sum(offer[count] for count, offer in zip(counts, levels)) - lack for lack, levels in zip(deficit, offers)]


def least_share(offer: Sequence[int], count: int, over: int) -> int:
    """What each of `count` victims of a level has to give of a class: the others, at their largest, leave so much."""
    return offer[count] - offer[count - 1] - over
