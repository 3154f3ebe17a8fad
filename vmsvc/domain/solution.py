"""The best plan of one bin, and of many."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from vmsvc.domain.bins import Bin, Candidate
from vmsvc.domain.objective import Objective, Pricing
from vmsvc.domain.resources import Resources
from vmsvc.domain.search import Budget, Cover, Item, Limit


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


def solve(place: Bin, incumbent: Solution | None, max_victims: int, budget: Budget, now: int = 0) -> Solution | None:
    """The best plan in a bin that lacks something, if it is better than the incumbent."""
    deficit = place.deficit
    pricing = Pricing(place, max_victims, now)
    vectors = [candidate.resources for candidate in place.candidates]
    columns = [[min(amount, lack) for amount in Resources.column(vectors, name)] for name, lack in deficit.items()]
    items = [Item(candidate.priority, amounts, price, candidate.id)
             for candidate, amounts, price in zip(place.candidates, zip(*columns), pricing.prices)]
    limit = incumbent and Limit(incumbent.objective.victims,
                                pricing.limit(incumbent.objective, place.id < incumbent.place.id))
    found = Cover(tuple(deficit.values()), items, max_victims).solve(limit, budget)
    if found is None:
        return None
    victims = [candidate for candidate in place.candidates if candidate.id in found]
    victims.sort(key=lambda victim: (victim.priority, victim.ran, victim.lost(now), victim.id))
    return Solution(place, tuple(victims), Objective.of(place, victims, now))


def best_of(queue: Iterable[tuple[Objective, Bin]], max_victims: int, budget: Budget, now: int = 0) -> Solution | None:
    """The best plan of all bins, which come with their bounds, most promising first: one incumbent, until no bin
    that is left can beat it."""
    best = None
    for bound, place in queue:
        if best is not None and (bound, place.id) >= best.rank:
            break
        best = solve(place, best, max_victims, budget, now) or best
    return best


def variants(best: Solution) -> list[Bin]:
    """The bin of a plan once for each victim, with this victim untouchable: every other plan there is in one."""
    return [replace(best.place, candidates=tuple(one for one in best.place.candidates if one is not victim))
            for victim in best.victims]
