"""Lagrange multipliers: what a unit of each lacking class is worth, so that prices can tell the useful from the cheap.

With any multipliers m >= 0 a cover costs at least m * deficit + the sum over its items of (price - m * amounts): the
search is exact with whatever comes from here, only the number of its nodes depends on it.
"""

from collections.abc import Sequence
from operator import mul

STEPS = 12


def multipliers(deficit: Sequence[int], levels: Sequence[tuple[int, Sequence[tuple[Sequence[int], int]]]],
                target: int) -> tuple[int, ...]:
    """Good multipliers for taking so many of each level's (amounts, price) items; subgradient steps towards a bound of
    `target`, the price of a cover that is known. Whole numbers, one per class."""
    scaled = [(count, [([amount / lack for amount, lack in zip(amounts, deficit)], float(price))
                       for amounts, price in items]) for count, items in levels]
    worth = [0.0] * len(deficit)
    best, kept = -1.0, worth
    for _ in range(STEPS):
        value, slope = sum(worth), [1.0] * len(deficit)
        for count, items in scaled:
            reduced = [(price - sum(map(mul, worth, shares)), at) for at, (shares, price) in enumerate(items)]
            for price, at in sorted(reduced)[:count]:
                value += price
                for column, share in enumerate(items[at][0]):
                    slope[column] -= share
        if value > best:
            best, kept = value, worth
        length = sum(step * step for step in slope)
        if value >= target or length < 1e-9:
            break
        worth = [max(0.0, one + (target - value) / length * step) for one, step in zip(worth, slope)]
    return tuple(int(one / lack) for one, lack in zip(kept, deficit))
