"""Room for many requests at once.

Equal requests: what j of them cost in each bin, then a knapsack over the bins; exact. One after the other would be
worse, or stuck: the first would take the bin that the others could share. A batch is not exact when bins would together
take too many of an eviction group.
"""

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace

from vmsvc.domain.bins import Bin, Candidate
from vmsvc.domain.objective import Objective
from vmsvc.domain.planner import Refuse, check_unique, queue_of, refusal
from vmsvc.domain.resources import Resources
from vmsvc.domain.search import Budget
from vmsvc.domain.solution import Solution, best_of
from vmsvc.domain.terms import NODE_CAP, Terms

NOTHING = Objective((), 0, 0, 0)

Options = dict[str, list[tuple[int, Solution]]]     # by bin id: so many requests, and their best plan there


@dataclass(frozen=True, slots=True)
class Share:
    """What one bin takes of a batch: so many requests, after the eviction of these (in this order)."""

    bin_id: str
    count: int
    victims: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """Where all requests of a batch go, by bin id, and at what cost; no victims where there is room.

    Of plans with the least objective it is the one whose bins, listed once per request, have the lowest ids.
    """

    shares: tuple[Share, ...]
    objective: Objective
    optimal: bool = True


def several(place: Bin, count: int) -> Bin:
    """The bin for so many requests at once; surplus is measured as for one."""
    capacity = {name: place.capacity[name] or need for name, need in place.need.items()}
    return replace(place, need=Resources({name: need * count for name, need in place.need.items()}),
                   capacity=Resources(capacity))


def plan_batch(bins: Iterable[Bin], count: int, *, max_victims: int = 20, node_cap: int = NODE_CAP,
               now: int = 0, budgets: Mapping[str, int] | None = None) -> BatchPlan | Refuse:
    """Room for `count` equal requests, or for none of them.

    Takes bins as `planner.plan` does; a bin that takes j requests may lose up to j * `max_victims` VMs. Raises
    ValueError when an id occurs twice, also the same candidate in two bins: bins that share candidates (quota and
    hosts both short) cost less together than apart, so they cannot be planned like this.
    """
    places = sorted(bins, key=lambda place: place.id)
    check_unique(places)
    if len({one.id for place in places for one in place.candidates}) < sum(len(place.candidates) for place in places):
        raise ValueError("a candidate is in two bins")

    def queue(share: int) -> Generator[tuple[Objective, Bin], None, None]:
        yield from queue_of([several(place, share) for place in places], _for(share, terms))

    terms = Terms(max_victims, node_cap, now, budgets=budgets or {})
    return decide_batch(queue, lambda budget: refusal(places, max_victims, budget), count, terms)


def _for(share: int, terms: Terms) -> Terms:
    return replace(terms, max_victims=share * terms.max_victims)


def decide_batch(queue: Callable[[int], Generator[tuple[Objective, Bin], None, None]],
                 refuse: Callable[[Budget], str], count: int, terms: Terms) -> BatchPlan | Refuse:
    """`plan_batch` over bins in the order of their bounds: `queue(j)` gives (bound, bin for j requests).

    Each bin keeps to the groups' budgets. Where the bins together do not, of such a group only the cheapest that would
    have gone may go, and all is planned again: sound, though there may be a better way.
    """
    budget = Budget(terms.node_cap)
    chosen: dict[str, frozenset[str]] = {}
    while True:
        options = _options(queue, count, terms, budget, chosen)
        best = _knapsack(options, count)
        if best is None:
            if not options or budget.spent:
                return Refuse(refuse(budget))
            return Refuse(f"There is no room for {count} such requests at once, even after evictions.")
        objective, _, shares = best
        over = _over([dict(options[share.bin_id])[share.count] for share in shares], terms)
        if not over:
            return BatchPlan(shares, objective, optimal=not budget.spent and not chosen)
        chosen |= over


def _options(queue: Callable[[int], Generator[tuple[Objective, Bin], None, None]], count: int, terms: Terms,
             budget: Budget, chosen: Mapping[str, frozenset[str]]) -> Options:
    """What j requests cost in the bins that matter; of the groups in `chosen` nobody else goes.

    For j requests only the count - j + 1 best bins matter: the other requests are in at most count - j bins, so one
    of these is left over and can stand in for any bin that is worse.
    """
    options: Options = {}
    for share in range(1, count + 1):
        with closing(queue(share)) as entries:
            kept = entries if not chosen else ((bound, _keeping(place, chosen)) for bound, place in entries)
            found = best_of(kept, _for(share, terms), budget, wanted=count - share + 1)
        for solution in found[:count - share + 1]:
            options.setdefault(solution.place.id, []).append((share, solution))
        if not found:
            break
    return options


def _keeping(place: Bin, chosen: Mapping[str, frozenset[str]]) -> Bin:
    return replace(place, candidates=tuple(one for one in place.candidates
                                           if one.group not in chosen or one.id in chosen[one.group]))


def _over(solutions: Iterable[Solution], terms: Terms) -> dict[str, frozenset[str]]:
    """The groups of which too many would go, each with the cheapest of them, as many as may."""
    groups: dict[str, list[Candidate]] = {}
    for solution in solutions:
        for victim in solution.victims:
            if victim.group in terms.budgets:
                groups.setdefault(victim.group, []).append(victim)
    return {group: frozenset(victim.id for victim in sorted(
        victims, key=lambda victim: (victim.priority, victim.ran, victim.lost(terms.now), victim.id)
    )[:terms.budgets[group]]) for group, victims in groups.items() if len(victims) > terms.budgets[group]}


def _knapsack(options: Options,
              count: int) -> tuple[Objective, tuple[str, ...], tuple[Share, ...]] | None:
    """The best way to share out the requests; per number placed so far (cost, a bin id per request, shares)."""
    best: dict[int, tuple[Objective, tuple[str, ...], tuple[Share, ...]]] = {0: (NOTHING, (), ())}
    for bin_id, shares in sorted(options.items()):
        before = dict(best)
        for share, solution in shares:
            for placed, (objective, ids, taken) in before.items():
                if placed + share <= count:
                    entry = objective + solution.objective, ids + (bin_id,) * share
                    known = best.get(placed + share)
                    if known is None or entry < known[:2]:
                        best[placed + share] = *entry, (*taken, Share(bin_id, share, solution.ids))
    return best.get(count)
