"""Items that cover a deficit, and a cover that is quickly found: good enough to prune a search with."""

from collections.abc import Iterable, Mapping, Sequence
from operator import ge
from typing import NamedTuple

from vmsvc.domain.sift import Amounts

class Item(NamedTuple):
    """What one candidate gives of each lacking class (never more than is lacking), and its price."""

    level: int
    amounts: Amounts
    price: int
    id: str
    group: str = ""     # of which only so many may be taken; "" has no limit


def greedy_cover(deficit: Amounts, levels: Sequence[Iterable[Item]], slots: int,
                 budgets: Mapping[str, int]) -> list[Item] | None:
    """A cover without needless items, or None when it did not come to one within `slots` and the groups' budgets.
    From the lowest level up (levels come highest first), what covers most goes first."""
    lacking = deficit
    taken: list[Item] = []
    room = dict(budgets)
    for level in reversed(levels):
        offers: dict[tuple[Amounts, str], list[Item]] = {}
        for item in sorted(level, key=lambda item: (item.price, item.id), reverse=True):
            offers.setdefault((item.amounts, item.group), []).append(item)
        while offers and max(lacking) > 0:
            gain, _, key = max((_gain(key[0], lacking, deficit), -items[-1].price, key)
                               for key, items in offers.items())
            if not gain:
                break
            amounts, group = key
            if group:
                room[group] -= 1
                if room[group] < 0:
                    del offers[key]
                    continue
            taken.append(offers[key].pop())
            lacking = tuple(lack - amount for lack, amount in zip(lacking, amounts))
            if not offers[key]:
                del offers[key]
    if max(lacking) > 0:
        return None
    taken = needed(deficit, taken)
    return taken if len(taken) <= slots else None


def _gain(amounts: Amounts, lacking: Amounts, deficit: Amounts) -> int:
    """How much of the deficit an item would cover, in parts per million summed over the classes."""
    return sum(min(amount, lack) * 10**6 // whole for amount, lack, whole in zip(amounts, lacking, deficit) if lack > 0)


def needed(deficit: Amounts, items: Sequence[Item]) -> list[Item]:
    """The cover without what it does not need, the dearest given back first."""
    spare = [sum(column) - lack for column, lack in zip(zip(*(item.amounts for item in items)), deficit)]
    kept = []
    for item in sorted(items, key=lambda item: (-item.level, -item.price)):
        if all(map(ge, spare, item.amounts)):
            spare = [over - amount for over, amount in zip(spare, item.amounts)]
        else:
            kept.append(item)
    return kept
