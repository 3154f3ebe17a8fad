"""Which candidates can be victims when the number of victims of each priority is given.

Even when the other victims are the largest that there are, some of the deficit remains, and each victim has to free at
least that. `pruned` drops the candidates that free less; the largest that remain are then smaller, so it repeats until
no candidate drops out. Rows are plain tuples and the loops use `map`, because a plan prunes every host that changed.
"""

from collections.abc import Iterable, Mapping, Sequence
from operator import ge, itemgetter, mul

from vmsvc.planner.bins import Candidate

Amounts = tuple[int, ...]
Row = tuple[Amounts, Candidate]  # how much of the deficit a candidate frees: see `Deficit`
Rows = tuple[int, list[Row]]  # how many victims to take, and the rows to take them from

_amounts = itemgetter(0)


class Deficit:
    """How much is lacking of each class, and, as one class more, the weighted sum of all classes. Every set of victims
    that covers the deficit covers the sum too. The sum rules out sets that the single classes do not: those whose
    members are rich in one class and poor in another."""

    def __init__(self, deficit: Mapping[str, int]):
        self._deficit = deficit
        self._weights = [10**6 // lack or 1 for lack in deficit.values()]
        self.amounts = self._with_sum(tuple(deficit.values()))

    def _with_sum(self, amounts: Amounts) -> Amounts:
        return amounts if len(amounts) == 1 else (*amounts, sum(map(mul, amounts, self._weights)))

    def rows(self, candidates: Sequence[Candidate]) -> list[Row]:
        """How much of the deficit each candidate frees, never more than is lacking."""
        columns = [
            [min(one.resources.amounts.get(name, 0), lack) for one in candidates]
            for name, lack in self._deficit.items()
        ]
        return [*zip(map(self._with_sum, zip(*columns)), candidates)]


def pruned(lacking: Amounts, groups: list[Rows], budgets: Mapping[str, int]) -> list[Rows] | None:
    """The groups without the candidates that cannot be victims. None when no set with these numbers of victims covers
    the deficit."""
    while True:
        columns = [_columns(rows, budgets) for _, rows in groups]
        tops = [[sum(column[:count]) for column in each] for (count, _), each in zip(groups, columns)]
        over = [sum(top) - lack for top, lack in zip(zip(*tops), lacking)]
        if min(over) < 0:
            return None
        kept = []
        for (count, rows), each in zip(groups, columns):
            if len(each[0]) < count:
                return None
            least = [column[count - 1] - more for column, more in zip(each, over)]
            kept.append((count, [row for row in rows if all(map(ge, row[0], least))]))
            if len(kept[-1][1]) < count:
                return None
        if all(len(rows) == len(before) for (_, rows), (_, before) in zip(kept, groups)):
            return groups
        groups = kept


def _columns(rows: Sequence[Row], budgets: Mapping[str, int]) -> list[list[int]]:
    """The amounts by class, the largest first; of an eviction group only as many as its budget allows."""
    columns = zip(*map(_amounts, rows))
    if not budgets:
        return [sorted(column, reverse=True) for column in columns]
    groups = [one.group for _, one in rows]
    return [largest_within(zip(column, groups), budgets) for column in columns]


def largest_within(amounts: Iterable[tuple[int, str | None]], budgets: Mapping[str, int]) -> list[int]:
    """Of pairs (amount, eviction group), the largest amounts that the groups' budgets allow together, largest first."""
    left = dict(budgets)
    kept = []
    for amount, group in sorted(amounts, key=_amounts, reverse=True):
        if group in left:
            left[group] -= 1
            if left[group] < 0:
                continue
        kept.append(amount)
    return kept
