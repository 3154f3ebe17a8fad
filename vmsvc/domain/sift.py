"""Who can be among the victims when there are to be just so many of each priority.

Each of them has to give what the others, at their largest, leave lacking; who does not is out, the others are then
smaller than they could have been, and so on until nobody is out any more. Rows are plain tuples and the loops are those
of `map`, because every host that changed comes through here.
"""

from collections.abc import Iterable, Mapping, Sequence
from operator import ge, itemgetter, mul

from vmsvc.domain.bins import Candidate

Amounts = tuple[int, ...]
Row = tuple[Amounts, Candidate]     # what a candidate gives of what is lacking: see `Lack`
Rows = tuple[int, list[Row]]        # so many of these

_amounts = itemgetter(0)


class Lack:
    """What is lacking of each class, and as one class more the sum of all, in parts of what is lacking. That is covered
    by every cover, and tells what the classes one by one do not: that those rich in one are poor in the other."""

    def __init__(self, deficit: Mapping[str, int]):
        self._deficit = deficit
        self._weights = [10**6 // lack or 1 for lack in deficit.values()]
        self.amounts = self._with_sum(tuple(deficit.values()))

    def _with_sum(self, amounts: Amounts) -> Amounts:
        return amounts if len(amounts) == 1 else (*amounts, sum(map(mul, amounts, self._weights)))

    def rows(self, candidates: Sequence[Candidate]) -> list[Row]:
        """What each of them gives: never more than is lacking."""
        columns = [[min(one.resources.amounts.get(name, 0), lack) for one in candidates]
                   for name, lack in self._deficit.items()]
        return [*zip(map(self._with_sum, zip(*columns)), candidates)]


def sifted(lacking: Amounts, groups: list[Rows], budgets: Mapping[str, int]) -> list[Rows] | None:
    """Of each group those who can be among so many of it; None when there are no victims of these numbers."""
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
    """Class by class, the largest amount first; of those with a budget no more than may go."""
    columns = zip(*map(_amounts, rows))
    if not budgets:
        return [sorted(column, reverse=True) for column in columns]
    groups = [one.group for _, one in rows]
    return [within(zip(column, groups), budgets) for column in columns]


def within(amounts: Iterable[tuple[int, str | None]], budgets: Mapping[str, int]) -> list[int]:
    """The largest of these (amount, eviction group) that could go together, the largest first."""
    left = dict(budgets)
    kept = []
    for amount, group in sorted(amounts, key=_amounts, reverse=True):
        if group in left:
            left[group] -= 1
        if left.get(group, 0) >= 0:
            kept.append(amount)
    return kept
