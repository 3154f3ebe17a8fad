"""Lagrange multipliers: what a unit of each lacking class is worth, so that prices can tell the useful from the cheap.

With any multipliers m >= 0 a cover costs at least m * deficit + the sum over its items of (price - m * amounts): the
search is exact with whatever comes from here, only the number of its nodes depends on it.
"""

from collections.abc import Sequence
from math import inf
from operator import mul, sub

STEPS = 8


def multipliers(deficit: Sequence[int], levels: Sequence[tuple[int, Sequence[tuple[Sequence[int], int]]]],
                target: float) -> tuple[tuple[int, ...], list[list[int]]]:
    """Good multipliers for taking so many of each level's (amounts, price) items, whole numbers, one per class, and the
    cheapest cover that was met with below `target` (by level the items' places), if any. Subgradient steps towards a
    bound of that price."""
    scaled = [(count, [([amount / lack for amount, lack in zip(amounts, deficit)], price, at)
                       for at, (amounts, price) in enumerate(items)]) for count, items in levels]
    worth = [0.0] * len(deficit)
    best, kept = -inf, worth
    cover: list[list[int]] = []
    for _ in range(STEPS):
        value, slope, whole = sum(worth), [1.0] * len(deficit), 0
        chosen = []
        for count, items in scaled:
            cheap = sorted([(price - sum(map(mul, worth, shares)), at) for shares, price, at in items])[:count]
            for reduced, at in cheap:
                value += reduced
                whole += items[at][1]
                slope = [*map(sub, slope, items[at][0])]
            chosen.append([at for _, at in cheap])
        if value > best:
            best, kept = value, worth
        if whole < target and max(slope) < 1e-6 and _covers(deficit, levels, chosen):
            target, cover = whole, chosen
        length = sum(map(mul, slope, slope))
        if value >= target or length < 1e-9:
            break
        step = (target - value) / length
        worth = [max(0.0, one + step * by) for one, by in zip(worth, slope)]
    return tuple(int(one / lack) for one, lack in zip(kept, deficit)), cover


def _covers(deficit: Sequence[int], levels: Sequence[tuple[int, Sequence[tuple[Sequence[int], int]]]],
            chosen: Sequence[Sequence[int]]) -> bool:
    amounts = [items[at][0] for (_, items), each in zip(levels, chosen) for at in each]
    return all(sum(column) >= lack for column, lack in zip(zip(*amounts), deficit))
