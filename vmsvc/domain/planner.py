"""Who has to go so that a request fits: pure, exact, the same answer for the same question.

The whole set of victims is decided at once, from one snapshot, before anybody is told. The caller passes only bins
that the cloud would accept for the request (zone, traits, service up, not in cool-down): a bin with free room is
reported as `Fits`, never as a plan with zero victims, and a caller to whom the cloud said no in spite of it leaves
that bin out and asks again.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain

from vmsvc.domain.bins import Bin
from vmsvc.domain.bound import Stock
from vmsvc.domain.objective import Objective, criterion
from vmsvc.domain.resources import total
from vmsvc.domain.search import Budget
from vmsvc.domain.solution import Solver, afresh, best_of, variants
from vmsvc.domain.solved import Solved
from vmsvc.domain.terms import NODE_CAP, Terms

@dataclass(frozen=True, slots=True)
class Fits:
    """There is room without any eviction, in the bin where least would stay free."""

    bin_id: str


@dataclass(frozen=True, slots=True)
class Preempt:
    """Evict these, in this order, and the request fits into the bin; with any of them left alone it does not.

    `runner_up` is the cost of the best other plan: in another bin, or in this one with at least one victim spared
    (None: there is none). `criterion` names what decided between the two. `optimal` is False when the search hit its
    cap: the plan is then sound and without needless victims, but a better one may exist. The search for the runner-up
    has a cap of its own: at worst it is the best that was found.
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


def plan(bins: Iterable[Bin], *, max_victims: int = 20, node_cap: int = NODE_CAP, now: int = 0,
         cost_words: str = "less lost work", budgets: Mapping[str, int] | None = None) -> Outcome:
    """Decide where a request goes and who has to leave for it.

    Takes the eligible bins in any order. `now` is in the seconds that the candidates' `rate` counts in, and of no
    interest when that is 0. `cost_words` is what criterion 3 is called in the explanation (it depends on the policy).
    Raises ValueError when an id occurs twice. The same input gives the same outcome.
    """
    places = sorted(bins, key=lambda place: place.id)
    check_unique(places)
    terms = Terms(max_victims, node_cap, now, cost_words, budgets or {})
    entries = queue_of(places, terms)
    solved = Solved(lambda place: Stock(place.candidates))
    return decide(lambda skipped: (entry for entry in entries if entry[1].id != skipped),
                  lambda budget: refusal(places, max_victims, budget), terms, solved.solve)


def decide(queue: Callable[[str | None], Generator[tuple[Objective, Bin], None, None]],
           refuse: Callable[[Budget], str], terms: Terms, solver: Solver = afresh) -> Outcome:
    """`plan` over bins that stand in the order of their bounds. `queue` gives (bound, bin), most promising first,
    without the bin of the given id; `refuse` says why there is no plan; `solver` may know these bins already."""
    budget = Budget(terms.node_cap)
    with closing(queue(None)) as entries:
        first = next(entries, None)
        if first is not None and not first[0].victims:
            return Fits(first[1].id)
        found = best_of(chain([first], entries), terms, budget, solver=solver) if first else []
    if not found:
        return Refuse(refuse(budget))
    best = found[0]
    spared = queue_of(variants(best), terms)
    more = Budget(terms.node_cap // 4)
    with closing(queue(best.place.id)) as entries:
        others = best_of(entries, terms, more, solver=solver, known=found[1:])
    others = best_of(spared, terms, more, known=others)
    best, *others = sorted([best, *others], key=lambda solution: solution.rank)  # a capped search can be outdone
    runner_up = others[0].objective if others else None
    words = "the best that was found" if more.spent and not others else \
        criterion(best.objective, runner_up, terms.cost_words)
    return Preempt(best.place.id, best.ids, best.objective, words, runner_up, optimal=not budget.spent)


def check_unique(places: Sequence[Bin]) -> None:
    """Raises ValueError when two bins have one id, or a bin has a candidate twice."""
    if len({place.id for place in places}) < len(places):
        raise ValueError("two bins have the same id")
    for place in places:
        if len({candidate.id for candidate in place.candidates}) < len(place.candidates):
            raise ValueError(f"bin {place.id} has a candidate twice")


def queue_of(places: Iterable[Bin], terms: Terms) -> list[tuple[Objective, Bin]]:
    """The bins in which there can be a plan, with their bounds, most promising first."""
    bounds = [(Stock(one for one in place.candidates if not terms.barred(one))
               .bound(place, terms.max_victims, terms.now), place) for place in places]
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
        grouped = any(one.group for place in places for one in place.candidates)
        return f"More than {max_victims} preemptible VMs would have to go for this request" + \
            (", or more of an eviction group than may go at once." if grouped else ".")
    closest = min(places, key=lambda place: (sum(place.weights[name] * lack for name, lack in lacks[place.id].items()),
                                             place.id))
    lack = ", ".join(f"{amount} {name}" for name, amount in sorted(lacks[closest.id].items()))
    evicted = f"with all {len(closest.candidates)} preemptible VMs evicted" if closest.candidates \
        else "and has no preemptible VM to evict"
    return f"Too large for every place: the best, {closest.id}, lacks {lack} {evicted}."
