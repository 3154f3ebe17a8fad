"""The best plan of one bin, and of many."""

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass, replace

from vmsvc.domain.bins import Bin, Candidate
from vmsvc.domain.cover import Item
from vmsvc.domain.objective import Objective, Pricing
from vmsvc.domain.resources import Resources
from vmsvc.domain.search import Budget, Cover, Limit
from vmsvc.domain.terms import Terms


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


def solve(place: Bin, limit: tuple[Objective, str] | None, terms: Terms, budget: Budget) -> Solution | None:
    """The best plan in a bin, if its rank is below the limit. It has no victims where there is room."""
    deficit = place.deficit
    if not deficit:
        found = Solution(place, (), Objective.of(place, ()))
        return found if limit is None or found.rank < limit else None
    pricing = Pricing(place, terms.max_victims, terms.now)
    vectors = [candidate.resources for candidate in place.candidates]
    columns = [[min(amount, lack) for amount in Resources.column(vectors, name)] for name, lack in deficit.items()]
    items = [Item(candidate.priority, amounts, price, candidate.id,
                  candidate.group if candidate.group in terms.budgets else "")
             for candidate, amounts, price in zip(place.candidates, zip(*columns), pricing.prices)]
    ids = Cover(tuple(deficit.values()), items, terms.max_victims, terms.budgets).solve(
        limit and Limit(limit[0].victims, pricing.limit(limit[0], inclusive=place.id < limit[1])), budget)
    if ids is None:
        return None
    victims = [candidate for candidate in place.candidates if candidate.id in ids]
    victims.sort(key=lambda victim: (victim.priority, victim.ran, victim.lost(terms.now), victim.id))
    return Solution(place, tuple(victims), Objective.of(place, victims, terms.now))


def best_of(queue: Iterable[tuple[Objective, Bin]], terms: Terms, budget: Budget, wanted: int = 1) -> list[Solution]:
    """The best plans of so many different bins, best first. The bins come with their bounds, most promising first;
    those that can beat none of the plans in hand are not searched."""
    best: list[Solution] = []
    for bound, place in queue:
        limit = best[-1].rank if len(best) == wanted else None
        if limit is not None and (bound, place.id) >= limit:
            break
        found = solve(place, limit, terms, budget)
        if found is not None:
            insort(best, found, key=lambda solution: solution.rank)
            del best[wanted:]
    return best


def variants(best: Solution) -> list[Bin]:
    """The bin of a plan once for each victim, with this victim untouchable: every other plan there is in one."""
    return [replace(best.place, candidates=tuple(one for one in best.place.candidates if one is not victim))
            for victim in best.victims]
