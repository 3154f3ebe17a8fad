"""The best plan of one bin, and of many."""

from bisect import insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from vmsvc.domain.bins import Bin, Candidate
from vmsvc.domain.bound import Stock
from vmsvc.domain.cover import Item, greedy_cover
from vmsvc.domain.objective import Objective, Pricing
from vmsvc.domain.search import Budget, cheapest
from vmsvc.domain.sift import Lack, Row, Rows, sifted
from vmsvc.domain.terms import Terms

Limit = tuple[Objective, str] | None     # only plans whose rank is below it are of interest


@dataclass(frozen=True, slots=True)
class Solution:
    """A plan found in a bin."""

    place: Bin
    victims: tuple[Candidate, ...]   # in the order of eviction
    objective: Objective

    @property
    def rank(self) -> tuple[Objective, str]:
        """What plans of different bins are compared by."""
        return self.objective, self.place.id

    @property
    def ids(self) -> tuple[str, ...]:
        """The victims' ids in the order of eviction: lowest priority first, then the cheapest."""
        return tuple(victim.id for victim in self.victims)


def solve(place: Bin, limit: Limit, terms: Terms, budget: Budget) -> Solution | None:
    """The best plan in a bin, if its rank is below the limit. It has no victims where there is room."""
    return explore(place, Stock(place.candidates), limit, terms, budget)[0]


def explore(place: Bin, stock: Stock, limit: Limit, terms: Terms,
            budget: Budget) -> tuple[Solution | None, Objective | None]:
    """The best plan in a bin, if its rank is below the limit, and what every plan there costs at least (None: there is
    none). The latter is not to be believed when the budget is spent."""
    deficit = place.deficit
    if not deficit:
        found = Solution(place, (), Objective.of(place, ()))
        return _below(limit, found), found.objective
    budgets = {one.group: terms.budgets[one.group] for one in place.candidates if one.group in terms.budgets}
    found, least = _count_up(place, stock, limit, replace(terms, budgets=budgets), budget)
    if budget.spent:
        quick = _below(limit, _quick(place, stock, budgets, terms))
        found = min((each for each in (found, quick) if each), key=lambda each: each.rank, default=None)
    return found, least


def _count_up(place: Bin, stock: Stock, limit: Limit, terms: Terms,
              budget: Budget) -> tuple[Solution | None, Objective | None]:
    """`explore` by the numbers of victims, the least first."""
    lack = Lack(place.deficit)
    least = None
    for counts, groups in stock.possible(place.deficit, terms.max_victims, terms.budgets):
        budget.left -= 1
        victims = stock.named(counts)
        if budget.spent or limit is not None and victims > limit[0].victims:
            return None, least or stock.cost(place, counts, groups, terms.now).objective
        rows = groups and sifted(lack.amounts, [(count, lack.rows(group)) for count, group in groups], terms.budgets)
        if rows:
            same = limit is not None and victims == limit[0].victims
            found = _cheapest(place, lack, rows, limit if same else None, terms, budget)
            if found is not None:
                return found, found.objective
            least = limit[0] if same else None
    return None, least


def _below(limit: Limit, found: Solution | None) -> Solution | None:
    return found if found is None or limit is None or found.rank < limit else None


def _cheapest(place: Bin, lack: Lack, groups: Sequence[Rows], limit: Limit, terms: Terms,
              budget: Budget) -> Solution | None:
    rows = [row for _, rows in groups for row in rows]
    pricing = Pricing(place, [one for _, one in rows], sum(count for count, _ in groups), terms.now)
    cutoff = inf if limit is None else pricing.limit(limit[0], inclusive=place.id < limit[1])
    price = iter(pricing.prices)
    levels = [(count, [_item(row, next(price), terms.budgets) for row in rows]) for count, rows in groups]
    taken = cheapest(lack.amounts, levels, cutoff, terms.budgets, budget)
    return None if taken is None else _solution(place, taken, terms.now)


def _item(row: Row, price: int, budgets: Mapping[str, int]) -> Item:
    amounts, one = row
    return Item(one.priority, amounts, price, one.id, one.group if one.group in budgets else "")


def _quick(place: Bin, stock: Stock, budgets: Mapping[str, int], terms: Terms) -> Solution | None:
    prices = Pricing(place, place.candidates, terms.max_victims, terms.now).prices
    lack = Lack(place.deficit)
    price = {candidate.id: price for candidate, price in zip(place.candidates, prices)}
    levels = [[_item(row, price[row[1].id], budgets) for row in lack.rows(level)] for level in stock.levels]
    taken = greedy_cover(lack.amounts, levels, terms.max_victims, budgets)
    return None if taken is None else _solution(place, taken, terms.now)


def _solution(place: Bin, taken: Iterable[Item], now: int) -> Solution:
    ids = {item.id for item in taken}
    victims = [candidate for candidate in place.candidates if candidate.id in ids]
    victims.sort(key=lambda victim: (victim.priority, victim.ran, victim.lost(now), victim.id))
    return Solution(place, tuple(victims), Objective.of(place, victims, now))


Solver = Callable[[Objective, Bin, Limit, Terms, Budget], Solution | None]


def afresh(_: Objective, place: Bin, limit: Limit, terms: Terms, budget: Budget) -> Solution | None:
    """Solves as if the bin had never been seen, whatever is known of its bound."""
    return solve(place, limit, terms, budget)


def best_of(queue: Iterable[tuple[Objective, Bin]], terms: Terms, budget: Budget, wanted: int = 1,
            solver: Solver = afresh, known: Iterable[Solution] = ()) -> list[Solution]:
    """The best plans of so many different bins, the `known` ones included, best first, and after them others that were
    met with. The bins come with their bounds, most promising first; those that can beat none of the plans in hand are
    not searched."""
    best = list(known)
    for bound, place in queue:
        limit = best[wanted - 1].rank if len(best) >= wanted else None
        if limit is not None and (bound, place.id) >= limit:
            break
        found = solver(bound, place, limit, terms, budget)
        if found is not None:
            insort(best, found, key=lambda solution: solution.rank)
    return best


def variants(best: Solution) -> list[Bin]:
    """The bin of a plan once for each victim, with this victim untouchable: every other plan there is in one."""
    return [replace(best.place, candidates=tuple(one for one in best.place.candidates if one is not victim))
            for victim in best.victims]
