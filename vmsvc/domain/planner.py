"""Who has to go so that a request fits: pure, exact, the same answer for the same question.

The whole set of victims is decided at once, from one snapshot, before anybody is told. The caller passes only bins
that the cloud would accept for the request (zone, traits, service up, not in cool-down): a bin with free room is
reported as `Fits`, never as a plan with zero victims, and a caller to whom the cloud said no in spite of it leaves
that bin out and asks again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vmsvc.domain.objective import WHOLE, Candidate, Objective, Pricing, criterion
from vmsvc.domain.resources import Resources, total
from vmsvc.domain.search import Budget, Cover, Item

NODE_CAP = 200_000


@dataclass(frozen=True, slots=True)
class Bin:
    """One place where the request could go: a host, the project's quota, a group of servers with one hostId.

    Quota and host short at once: one bin per host with the vectors joined (`VCPU`... and `cores`...), in which the
    project's VMs on other hosts are candidates with their quota part alone.
    """

    id: str
    need: Resources                       # what the request needs here
    free: Resources                       # below 0 counts as 0; empty when nobody knows (hostId groups)
    capacity: Resources                   # the measure of surplus; a class it lacks is measured by the need
    candidates: tuple[Candidate, ...] = ()


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


@dataclass(slots=True)
class _Problem:
    """A bin that lacks something, with its candidates priced."""

    place: Bin
    base: int           # surplus before anybody is evicted; negative, for the lacking classes count in full
    cover: Cover

    @property
    def bound(self) -> tuple[int, str]:
        """No plan in this bin is better than that."""
        return self.base + self.cover.bound, self.place.id

    def solve(self, incumbent: "_Solution | None", budget: Budget) -> "_Solution | None":
        """The best plan in this bin, if it is better than the incumbent."""
        limit = None
        if incumbent is not None:
            limit = incumbent.rank[0] - self.base + (self.place.id < incumbent.rank[1])
        found = self.cover.solve(limit, budget)
        return found and _Solution((found[0] + self.base, self.place.id), self, found[1])

    def without(self, candidate_id: str) -> "_Problem":
        """The same with one candidate untouchable."""
        cover = self.cover
        items = [item for item in cover.items if item.id != candidate_id]
        return _Problem(self.place, self.base, Cover(cover.deficit, items, cover.slots))


@dataclass(frozen=True, slots=True)
class _Solution:
    rank: tuple[int, str]
    problem: _Problem
    victims: tuple[str, ...]

    @property
    def objective(self) -> Objective:
        """The cost of it, criterion by criterion."""
        place, ids = self.problem.place, set(self.victims)
        victims = [candidate for candidate in place.candidates if candidate.id in ids]
        freed = total(candidate.resources for candidate in victims)
        return Objective.of(victims, _surplus(place, place.free.floored() + freed - place.need))

    def ordered(self) -> tuple[str, ...]:
        """The victims in the order of eviction: lowest priority first, then the cheapest."""
        ids = set(self.victims)
        victims = [candidate for candidate in self.problem.place.candidates if candidate.id in ids]
        victims.sort(key=lambda victim: (victim.priority, victim.ran, victim.lost_work, victim.id))
        return tuple(victim.id for victim in victims)


def _surplus(place: Bin, amounts: Resources) -> int:
    """These amounts as parts of the bin's capacity, over the classes that the request needs. Exactly additive."""
    return sum(amounts[name] * (WHOLE // (place.capacity[name] or need)) for name, need in place.need.items()
               if need > 0)


def plan(bins: Iterable[Bin], *, max_victims: int = 20, node_cap: int = NODE_CAP,
         cost_words: str = "less lost work") -> Outcome:
    """Decide where a request goes and who has to leave for it.

    Takes the eligible bins in any order. `cost_words` is what criterion 3 is called in the explanation (it depends
    on the policy). Raises ValueError when an id occurs twice. The same input gives the same outcome.
    """
    places = sorted(bins, key=lambda place: place.id)
    _check_unique(places)
    fitting = [place for place in places if place.free.covers(place.need)]
    if fitting:
        return Fits(min((_surplus(place, place.free.floored() - place.need), place.id) for place in fitting)[1])
    problems = _problems(places, max_victims)
    budget = Budget(node_cap)
    best = _best([problem for problem in problems if problem.cover.bound is not None], budget)
    if best is None:
        return Refuse(_reason(places, max_victims, budget))
    others = [problem for problem in problems if problem is not best.problem]
    others += [best.problem.without(victim) for victim in best.victims]
    second = _best([problem for problem in others if problem.cover.bound is not None], Budget(node_cap))
    runner_up = second and second.objective
    return Preempt(best.problem.place.id, best.ordered(), best.objective,
                   criterion(best.objective, runner_up, cost_words), runner_up, optimal=not budget.spent)


def _check_unique(places: Sequence[Bin]) -> None:
    if len({place.id for place in places}) < len(places):
        raise ValueError("two bins have the same id")
    for place in places:
        if len({candidate.id for candidate in place.candidates}) < len(place.candidates):
            raise ValueError(f"bin {place.id} has a candidate twice")


def _problems(places: Sequence[Bin], max_victims: int) -> list[_Problem]:
    """The bins as covering problems over what they lack, all priced alike."""
    weights = {place.id: [_surplus(place, candidate.resources) for candidate in place.candidates] for place in places}
    pricing = Pricing([candidate for place in places for candidate in place.candidates],
                      max((max(row, default=0) for row in weights.values()), default=0), max_victims)
    problems = []
    for place in places:
        deficit = place.free.floored().deficit(place.need)
        items = [Item(candidate.priority,
                      tuple(min(max(candidate.resources[name], 0), lack) for name, lack in deficit.items()),
                      pricing.price(candidate, weight), candidate.id)
                 for candidate, weight in zip(place.candidates, weights[place.id])]
        base = _surplus(place, place.free.floored() - place.need)
        problems.append(_Problem(place, base, Cover(tuple(deficit.values()), items, max_victims)))
    return problems


def _best(problems: Iterable[_Problem], budget: Budget) -> _Solution | None:
    """The best plan of all bins: one incumbent, most promising bin first, until no bin left can beat it."""
    incumbent = None
    for problem in sorted(problems, key=lambda problem: problem.bound):
        if incumbent is not None and problem.bound >= incumbent.rank:
            break
        incumbent = problem.solve(incumbent, budget) or incumbent
    return incumbent


def _reason(places: Sequence[Bin], max_victims: int, budget: Budget) -> str:
    """Why nobody is evicted."""
    if not places:
        return "There is no place where this request could go."
    if budget.spent:
        return f"No set of up to {max_victims} victims was found within {budget.size} steps."
    lacks = {place.id: (place.free.floored() + total(c.resources for c in place.candidates)).deficit(place.need)
             for place in places}
    if not all(lacks.values()):
        return f"More than {max_victims} preemptible VMs would have to go for this request."
    closest = min(places, key=lambda place: (_surplus(place, lacks[place.id]), place.id))
    lack = ", ".join(f"{amount} {name}" for name, amount in sorted(lacks[closest.id].items()))
    evicted = f"with all {len(closest.candidates)} preemptible VMs evicted" if closest.candidates \
        else "and has no preemptible VM to evict"
    return f"Too large for every place: the best, {closest.id}, lacks {lack} {evicted}."
