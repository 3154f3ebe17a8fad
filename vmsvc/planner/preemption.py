"""Which VMs have to leave so that a request fits: exact, and the same answer for the same question.

The whole set of victims is chosen at once, from one snapshot, before any VM is noticed. The caller passes only bins
that the cloud would accept for the request (zone, traits, service up, not in cool-down). When a bin has enough free
resources the answer is `Fits`, never a plan without victims. When the cloud refuses the request there all the same, the
caller leaves that bin out and plans again.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain

from vmsvc.domain.resources import total
from vmsvc.planner.bin_plans import Solver, best_of, solve_anew, without_each_victim
from vmsvc.planner.bins import NODE_CAP, Bin, PlanOptions
from vmsvc.planner.bounds import CandidateLevels
from vmsvc.planner.objective import Objective, criterion
from vmsvc.planner.search import NodeBudget
from vmsvc.planner.solution_cache import SolutionCache

#: Bins with their bounds, the lowest first.
Entries = Generator[tuple[Objective, Bin], None, None]


@dataclass(frozen=True, slots=True)
class Fits:
    """The request fits without any eviction, in this bin. Of several such bins it is the one with the least surplus."""

    bin_id: str


@dataclass(frozen=True, slots=True)
class Preempt:
    """Evict these victims, in this order, and the request fits into the bin; it does not fit with fewer of them.

    `runner_up` is the objective of the second best plan: in another bin, or in this one without at least one of the
    victims (None: there is no other plan). `criterion` names what decided between the two. `optimal` is False when the
    search reached its cap: the plan is then sound and has no needless victim, but a better one may exist. The search
    for the runner-up has a cap of its own, so the runner-up may not be the true second best.
    """

    bin_id: str
    victims: tuple[str, ...]
    objective: Objective
    criterion: str
    runner_up: Objective | None
    optimal: bool = True

    def __post_init__(self) -> None:
        if not self.victims:
            raise ValueError("a plan to preempt needs a victim")


@dataclass(frozen=True, slots=True)
class NoPlan:
    """No set of victims makes the request fit; `reason` is one sentence for the person who asked."""

    reason: str


Outcome = Fits | Preempt | NoPlan


def plan(
    bins: Iterable[Bin],
    *,
    max_victims: int = 20,
    node_cap: int = NODE_CAP,
    now: int = 0,
    cost_words: str = "less lost work",
    budgets: Mapping[str, int] | None = None,
) -> Outcome:
    """Decide into which bin a request goes and which candidates have to leave for it.

    Takes the eligible bins in any order. `now` is a second of the clock that the candidates' `rate` counts in; it does
    not matter when all rates are 0. `cost_words` names the criterion "lost work" in `Preempt.criterion`, since its
    meaning depends on the eviction policy. `budgets`: how many of each eviction group may leave. Raises ValueError when
    an id occurs twice.
    """
    ordered = sorted(bins, key=lambda each: each.id)
    check_unique(ordered)
    options = PlanOptions(max_victims, node_cap, now, cost_words, budgets or {})
    entries = bins_by_bound(ordered, options)
    cache = SolutionCache(lambda bin_: CandidateLevels(bin_.candidates))
    return plan_in_order(
        lambda skipped: (entry for entry in entries if entry[1].id != skipped),
        lambda nodes: why_no_plan(ordered, max_victims, nodes),
        options,
        cache.solve,
    )


def plan_in_order(
    queue: Callable[[str | None], Entries],
    explain: Callable[[NodeBudget], str],
    options: PlanOptions,
    solver: Solver = solve_anew,
) -> Outcome:
    """`plan` over bins that are already in the order of their bounds.

    `queue(bin_id)` gives the bins with their bounds, the lowest first, without the bin of that id. `explain` gives the
    reason of `NoPlan`. `solver` finds the best plan of one bin and may remember earlier searches.
    """
    nodes = NodeBudget(options.node_cap)
    with closing(queue(None)) as entries:
        first = next(entries, None)
        if first is not None and not first[0].victims:
            return Fits(first[1].id)
        found = best_of(chain([first], entries), options, nodes, solver=solver) if first else []
    if not found:
        return NoPlan(explain(nodes))
    best = found[0]
    same_bin = bins_by_bound(without_each_victim(best), options)
    more = NodeBudget(options.node_cap // 4)
    with closing(queue(best.bin.id)) as entries:
        others = best_of(entries, options, more, solver=solver, known=found[1:])
    others = best_of(same_bin, options, more, known=others)
    # A search that reached its cap can have missed a plan that the search for the runner-up finds.
    best, *others = sorted([best, *others], key=lambda each: each.rank)
    runner_up = others[0].objective if others else None
    words = (
        "the best that was found"
        if more.spent and not others
        else criterion(best.objective, runner_up, options.cost_words)
    )
    return Preempt(best.bin.id, best.ids, best.objective, words, runner_up, optimal=not nodes.spent)


def check_unique(bins: Sequence[Bin]) -> None:
    """Raises ValueError when two bins have one id, or a bin has a candidate twice."""
    if len({each.id for each in bins}) < len(bins):
        raise ValueError("two bins have the same id")
    for each in bins:
        if len({candidate.id for candidate in each.candidates}) < len(each.candidates):
            raise ValueError(f"bin {each.id} has a candidate twice")


def bins_by_bound(bins: Iterable[Bin], options: PlanOptions) -> list[tuple[Objective, Bin]]:
    """The bins in which there can be a plan, with their bounds, the lowest first."""
    bounds = [
        (
            CandidateLevels(one for one in each.candidates if not options.bars(one)).bound(
                each, options.max_victims, options.now
            ),
            each,
        )
        for each in bins
    ]
    return sorted(
        [(bound.objective, each) for bound, each in bounds if bound is not None],
        key=lambda entry: (entry[0], entry[1].id),
    )


def why_no_plan(bins: Sequence[Bin], max_victims: int, nodes: NodeBudget) -> str:
    """Why no set of victims makes the request fit into any of the bins."""
    if not bins:
        return "There is no place where this request could go."
    if nodes.spent:
        return f"No set of up to {max_victims} victims was found within {nodes.size} steps."
    lacks = {
        each.id: (each.free.floored() + total(c.resources for c in each.candidates)).deficit(each.need) for each in bins
    }
    if not all(lacks.values()):
        grouped = any(one.group for each in bins for one in each.candidates)
        return f"More than {max_victims} preemptible VMs would have to go for this request" + (
            ", or more of an eviction group than may go at once." if grouped else "."
        )
    closest = min(
        bins, key=lambda each: (sum(each.weights[name] * lack for name, lack in lacks[each.id].items()), each.id)
    )
    lack = ", ".join(f"{amount} {name}" for name, amount in sorted(lacks[closest.id].items()))
    evicted = (
        f"with all {len(closest.candidates)} preemptible VMs evicted"
        if closest.candidates
        else "and has no preemptible VM to evict"
    )
    return f"Too large for every place: the best, {closest.id}, lacks {lack} {evicted}."
