"""The cheapest set of items that covers a deficit, with a given number of items per level (priority): exact.

`cheapest` is a branch and bound. Items of one level that give the same amounts differ only in price, so of such a class
the cheapest are the best: the search chooses one number per class. Items of an eviction group with a budget form
classes of their own. Lagrange multipliers give the search its lower bound, `greedy_cover` finds a good set quickly. A
`NodeBudget` limits the number of nodes, so a search may stop before it has proved its best set.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from math import inf
from operator import attrgetter, ge, gt, mul, sub
from typing import NamedTuple

from vmsvc.planner.pruning import Amounts

#: How many subgradient steps `_multipliers` takes.
STEPS = 8


class Item(NamedTuple):
    """One candidate: how much of the deficit it frees by class (never more than is lacking), and its price."""

    level: int
    amounts: Amounts
    price: int
    id: str
    group: str = ""  # eviction group with a budget; "" for none


def greedy_cover(
    deficit: Amounts, levels: Sequence[Iterable[Item]], slots: int, budgets: Mapping[str, int]
) -> list[Item] | None:
    """A set of up to `slots` items that covers the deficit, keeps to the groups' budgets and has no needless item; None
    when the greedy choice does not find one. `levels` come highest first; the lowest is used first, and in it the item
    that covers most."""
    lacking = deficit
    taken: list[Item] = []
    left = dict(budgets)
    for level in reversed(levels):
        offers: dict[tuple[Amounts, str], list[Item]] = {}
        for item in sorted(level, key=lambda item: (item.price, item.id), reverse=True):
            offers.setdefault((item.amounts, item.group), []).append(item)
        while offers and max(lacking) > 0:
            gain, _, key = max(
                (_gain(key[0], lacking, deficit), -items[-1].price, key) for key, items in offers.items()
            )
            if not gain:
                break
            amounts, group = key
            if group:
                left[group] -= 1
                if left[group] < 0:
                    del offers[key]
                    continue
            taken.append(offers[key].pop())
            lacking = tuple(lack - amount for lack, amount in zip(lacking, amounts))
            if not offers[key]:
                del offers[key]
    if max(lacking) > 0:
        return None
    taken = _needed(deficit, taken)
    return taken if len(taken) <= slots else None


def _gain(amounts: Amounts, lacking: Amounts, deficit: Amounts) -> int:
    """How much of the deficit an item covers: parts per million, summed over the classes."""
    return sum(min(amount, lack) * 10**6 // whole for amount, lack, whole in zip(amounts, lacking, deficit) if lack > 0)


def _needed(deficit: Amounts, items: Sequence[Item]) -> list[Item]:
    """The items without those that the deficit does not need; the dearest are left out first."""
    spare = [sum(column) - lack for column, lack in zip(zip(*(item.amounts for item in items)), deficit)]
    kept = []
    for item in sorted(items, key=lambda item: (-item.level, -item.price)):
        if all(map(ge, spare, item.amounts)):
            spare = [over - amount for over, amount in zip(spare, item.amounts)]
        else:
            kept.append(item)
    return kept


class NodeBudget:
    """How many nodes a search may visit (`size`), and how many of them are left. Several searches may share one."""

    __slots__ = ("size", "left")

    def __init__(self, size: int):
        self.size = size
        self.left = size

    @property
    def spent(self) -> bool:
        """True when a search had to stop early."""
        return self.left < 0


class _Class(NamedTuple):
    """Items of one level and group with equal amounts, cheapest first."""

    amounts: Amounts
    group: str
    items: list[Item]
    prices: list[int]
    reduced: list[int]  # price less the worth, by the multipliers, of what the item frees


class _Suffix(NamedTuple):
    """One step of the search: a class, and what this class and the later ones offer when k more items of the level are
    taken, the lower levels included."""

    kind: _Class
    given: list[Amounts]  # what the first k of the class free
    prices: list[int]
    reduced: list[int]
    top: list[Amounts]  # top[k]: the most that can still be freed
    least: list[int]  # least[k]: the least that the rest costs, in reduced prices
    others: int  # how many items of the level come after the class
    after: tuple[int, int]  # where the next lower level begins, and how many of it are taken


_Levels = list[tuple[int, list[_Class]]]
#: A node of the search: (step, how many of its level to take, deficit, price, reduced price, taken so far). What is
#: taken are pairs (step, how many of its class).
_Node = tuple[int, int, Amounts, int, int, tuple[tuple[int, int], ...]]


def _sums(values: Iterable[int], start: int = 0) -> list[int]:
    return list(accumulate(values, initial=start))


def cheapest(
    deficit: Amounts,
    levels: Sequence[tuple[int, Sequence[Item]]],
    cutoff: int | float,
    budgets: Mapping[str, int],
    nodes: NodeBudget,
) -> list[Item] | None:
    """The cheapest set of so many items of each level that covers the deficit, if its price is below the cutoff; else
    None. When `nodes` runs out, the result is the best set that was found until then."""
    if sum(sum(sorted([item.price for item in items])[:count]) for count, items in levels) >= cutoff:
        return None
    kinds = [(count, _kinds(deficit, items, count, budgets)) for count, items in levels]
    width, prices = _widened(kinds)
    cutoff = cutoff if isinstance(cutoff, float) else cutoff << width
    worth, chosen = _worth(deficit, kinds, cutoff, width)
    if chosen and not budgets:
        cutoff = min(cutoff, sum(prices[item.id] for item in chosen) + 1)
    priced = [(count, [_priced(alike, prices, worth) for alike in each]) for count, each in kinds]
    whole = sum(map(mul, worth, deficit))
    promising = _promising(priced, whole, cutoff)
    if promising is None:
        return None
    return _search(_suffixes(deficit, promising), (0, promising[0][0], deficit, 0, whole, ()), cutoff, budgets, nodes)


def _kinds(deficit: Amounts, items: Iterable[Item], slots: int, budgets: Mapping[str, int]) -> list[list[Item]]:
    """The items that can matter, in lists of equal ones (same amounts and group), the cheapest first."""
    found: dict[tuple[Amounts, str], list[Item]] = {}
    for item in sorted(items, key=attrgetter("price", "id")):
        found.setdefault((item.amounts, item.group), []).append(item)
    for (amounts, group), alike in found.items():
        if len(alike) > 1:
            useful = max((-(-lack // amount) for lack, amount in zip(deficit, amounts) if amount), default=0)
            del alike[min(useful, slots, budgets.get(group, useful)) :]
    return [*filter(None, found.values())]


def _widened(kinds: Sequence[tuple[int, list[list[Item]]]]) -> tuple[int, dict[str, int]]:
    """By how many bits the prices were widened, and the widened prices by id.

    The new bits make the ids the last criterion, so that no two sets have the same price: of sets of one size the one
    with the lowest ids has the greatest sum of 2**-rank.
    """
    items = sorted([item for _, each in kinds for alike in each for item in alike], key=attrgetter("id"))
    width, whole = len(items) + sum(count for count, _ in kinds).bit_length(), 1 << len(items)
    return width, {item.id: (item.price << width) + whole - (whole >> rank) for rank, item in enumerate(items, 1)}


def _worth(
    deficit: Amounts, kinds: Sequence[tuple[int, list[list[Item]]]], cutoff: int | float, width: int
) -> tuple[Amounts, list[Item]]:
    """The multipliers, and a set that covers the deficit if the search for them met one (else an empty list)."""
    levels = [(count, [item for alike in each for item in alike]) for count, each in kinds]
    if sum(count for count, _ in levels) == 1:
        return (0,) * len(deficit), []
    if isinstance(cutoff, float):
        target = sum(count * max((item.price for item in items), default=0) for count, items in levels)
    else:
        target = cutoff >> width
    worth, chosen = _multipliers(
        deficit, [(count, [(item.amounts, item.price) for item in items]) for count, items in levels], target
    )
    return tuple(one << width for one in worth), [items[at] for (_, items), each in zip(levels, chosen) for at in each]


def _priced(alike: list[Item], prices: Mapping[str, int], worth: Amounts) -> _Class:
    own, saved = [prices[item.id] for item in alike], sum(map(mul, worth, alike[0].amounts))
    return _Class(alike[0].amounts, alike[0].group, alike, own, [price - saved for price in own])


def _promising(levels: _Levels, whole: int, cutoff: int | float) -> _Levels | None:
    """The classes of which a set below the cutoff can have an item; None when no set is below the cutoff.

    A set with an item that is not among the cheapest by reduced price costs at least the difference more."""
    columns = [sorted([price for kind in kinds for price in kind.reduced]) for _, kinds in levels]
    if any(len(column) < count for (count, _), column in zip(levels, columns)):
        return None
    spare = cutoff - whole - sum(sum(column[:count]) for (count, _), column in zip(levels, columns))
    if spare <= 0:
        return None
    return [
        (count, [kind for kind in kinds if kind.reduced[0] < column[count - 1] + spare])
        for (count, kinds), column in zip(levels, columns)
    ]


def _suffixes(deficit: Amounts, levels: _Levels) -> list[_Suffix]:
    """The steps of the search in their order: level by level, the class with the least reduced price first."""
    suffixes: list[_Suffix] = []
    after = (sum(len(kinds) for _, kinds in levels), 0)
    top, least = (0,) * len(deficit), 0
    for count, kinds in reversed(levels):
        columns: list[list[int]] = [[] for _ in deficit]
        prices: list[int] = []
        others = 0
        for kind in sorted(kinds, key=lambda kind: kind.reduced[0], reverse=True):
            members = len(kind.items)
            columns = [
                sorted(column + [amount] * members, reverse=True)[:count]
                for column, amount in zip(columns, kind.amounts)
            ]
            prices = sorted(prices + kind.reduced)[:count]
            suffixes.append(
                _Suffix(
                    kind,
                    [tuple(map(taken.__mul__, kind.amounts)) for taken in range(members + 1)],
                    _sums(kind.prices),
                    _sums(kind.reduced),
                    [*zip(*map(_sums, columns, top))],
                    _sums(prices, least),
                    others,
                    after,
                )
            )
            others += members
        after = (after[0] - len(kinds), count)
        top, least = suffixes[-1].top[count], suffixes[-1].least[count]
    return suffixes[::-1]


def _search(
    suffixes: Sequence[_Suffix], start: _Node, cutoff: int | float, budgets: Mapping[str, int], nodes: NodeBudget
) -> list[Item] | None:
    """The search itself: depth first, class by class."""
    best = None
    stack = [start]
    while stack and not nodes.spent:
        at, left, lacking, price, reduced, taken = stack.pop()
        if not left:
            if price < cutoff and max(lacking) <= 0:
                cutoff, best = price, taken
            continue
        nodes.left -= 1
        suffix = suffixes[at]
        if reduced + suffix.least[left] >= cutoff or any(map(gt, lacking, suffix.top[left])):
            continue
        most = min(left, len(suffix.kind.items))
        if suffix.kind.group:
            most = min(
                most,
                budgets[suffix.kind.group]
                - sum(count for other, count in taken if suffixes[other].kind.group == suffix.kind.group),
            )
        for count in range(max(0, left - suffix.others), most + 1):
            stack.append(
                (
                    *((at + 1, left - count) if count < left else suffix.after),
                    tuple(map(sub, lacking, suffix.given[count])),
                    price + suffix.prices[count],
                    reduced + suffix.reduced[count],
                    (*taken, (at, count)) if count else taken,
                )
            )
    return None if best is None else [item for at, count in best for item in suffixes[at].kind.items[:count]]


def _multipliers(
    deficit: Sequence[int], levels: Sequence[tuple[int, Sequence[tuple[Sequence[int], int]]]], target: float
) -> tuple[tuple[int, ...], list[list[int]]]:
    """Lagrange multipliers: by resource class, what one unit of the deficit is worth, as whole numbers.

    Takes (how many to take, [(amounts, price), ...]) by level. Also returns the cheapest set below `target` that covers
    the deficit and that was met on the way (by level, the items' indexes; empty when none was). With any multipliers
    m >= 0 a set costs at least m * deficit + the sum over its items of (price - m * amounts). So the search is exact
    with whatever comes from here; only the number of its nodes depends on it.
    """
    scaled = [
        (
            count,
            [
                ([amount / lack for amount, lack in zip(amounts, deficit)], price, at)
                for at, (amounts, price) in enumerate(items)
            ],
        )
        for count, items in levels
    ]
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


def _covers(
    deficit: Sequence[int],
    levels: Sequence[tuple[int, Sequence[tuple[Sequence[int], int]]]],
    chosen: Sequence[Sequence[int]],
) -> bool:
    amounts = [items[at][0] for (_, items), each in zip(levels, chosen) for at in each]
    return all(sum(column) >= lack for column, lack in zip(zip(*amounts), deficit))
