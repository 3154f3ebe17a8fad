"""Who has to go so that a request fits: pure, exact, the same answer for the same question.

The whole set of victims is decided at once, from one snapshot, before anybody is told. The caller passes only bins
that the cloud would accept for the request (zone, traits, service up, not in cool-down): a bin with free room is
reported as `Fits`, never as a plan with zero victims, and a caller to whom the cloud said no in spite of it leaves
that bin out and asks again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from vmsvc.domain.bins import Bin, Candidate
from vmsvc.domain.bound import Stock
from vmsvc.domain.objective import Objective, Pricing, criterion
from vmsvc.domain.resources import Resources, total
from vmsvc.domain.search import Budget, Cover, Item, Limit

NODE_CAP = 200_000


@dataclass(frozen=True, slots=True)
class Fits:
    """There is room without any eviction, in the bin where least would stay free."""

    bin_id: str


@dataclass(frozen=True, slots=True)
class Preempt:
    """Evict these, in this order, and the request fits into the bin; with any of them left alone it does not.

    `runner_up` is the cost of the best other plan: in another bin, or in this one with at least one victim spared
    (None: there is none). `criterion` names what decided between the two. `optimal` is False when the search hit
    its cap: the plan is then sound and without needless victims, but a better one may exist.
    """

    bin_id: str
    victims: tuple[str, ...]
    objective: Objective
    criterion: str
    runner_up: Objective | None
    optimal: bool = True

    def __post_init__(self):
        if not self.victims:
            raise ValueError("a plan to preempt needs a victim")


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nobody is evicted, because it would not help; `reason` is one sentence for the person who asked."""

    reason: str


Outcome = Fits | Preempt | Refuse


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


def plan(bins: Iterable[Bin], *, max_victims: int = 20, node_cap: int = NODE_CAP, now: int = 0,
         cost_words: str = "less lost work") -> Outcome:
    """Decide where a request goes and who has to leave for it.

    Takes the eligible bins in any order. `now` is in the seconds that the candidates' `rate` counts in, and of no
    interest when that is 0. `cost_words` is what criterion 3 is called in the explanation (it depends on the policy).
    Raises ValueError when an id occurs twice. The same input gives the same outcome.
    """
    places = sorted(bins, key=lambda place: place.id)
    _check_unique(places)
    queue = _queue(places, max_victims, now)
    if queue and not queue[0][0].victims:
        return Fits(queue[0][1].id)
    budget = Budget(node_cap)
    best = best_of(queue, max_victims, budget, now)
    if best is None:
        return Refuse(refusal(places, max_victims, budget))
    others = _queue(variants(best), max_victims, now) + [entry for entry in queue if entry[1] is not best.place]
    second = best_of(sorted(others, key=_order), max_victims, Budget(node_cap), now)
    return preempt(best, second, cost_words, optimal=not budget.spent)


def variants(best: Solution) -> list[Bin]:
    """The bin of a plan once for each victim, with this victim untouchable: every other plan there is in one."""
    return [replace(best.place, candidates=tuple(one for one in best.place.candidates if one is not victim))
            for victim in best.victims]


def preempt(best: Solution, second: Solution | None, cost_words: str, optimal: bool) -> Preempt:
    """The plan with its explanation."""
    runner_up = second and second.objective
    return Preempt(best.place.id, best.ids, best.objective, criterion(best.objective, runner_up, cost_words),
                   runner_up, optimal)


def _check_unique(places: Sequence[Bin]) -> None:
    if len({place.id for place in places}) < len(places):
        raise ValueError("two bins have the same id")
    for place in places:
        if len({candidate.id for candidate in place.candidates}) < len(place.candidates):
            raise ValueError(f"bin {place.id} has a candidate twice")


def _queue(places: Iterable[Bin], max_victims: int, now: int) -> list[tuple[Objective, Bin]]:
    """The bins in which there can be a plan, with their bounds, most promising first."""
    bounds = [(Stock(place.candidates).bound(place, max_victims, now), place) for place in places]
    return sorted([(bound.objective, place) for bound, place in bounds if bound is not None], key=_order)


def _order(entry: tuple[Objective, Bin]) -> tuple[Objective, str]:
    return entry[0], entry[1].id


def refusal(places: Sequence[Bin], max_victims: int, budget: Budget) -> str:
    """Why nobody is evicted."""
    if not places:
        return "There is no place where this request could go."
    if budget.spent:
        return f"No set of up to {max_victims} victims was found within {budget.size} steps."
    lacks = {place.id: (place.free.floored() + total(c.resources for c in place.candidates)).deficit(place.need)
             for place in places}
    if not all(lacks.values()):
        return f"More than {max_victims} preemptible VMs would have to go for this request."
    closest = min(places, key=lambda place: (sum(place.weights[name] * lack for name, lack in lacks[place.id].items()),
                                             place.id))
    lack = ", ".join(f"{amount} {name}" for name, amount in sorted(lacks[closest.id].items()))
    evicted = f"with all {len(closest.candidates)} preemptible VMs evicted" if closest.candidates \
        else "and has no preemptible VM to evict"
    return f"Too large for every place: the best, {closest.id}, lacks {lack} {evicted}."
