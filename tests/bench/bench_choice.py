"""Our choice of victims beside the ways of others, on the same random clouds: `python -m tests.bench.bench_choice`.

Prints two tables in Markdown: whom each way kills, and how long it takes. The ways of others are written from their
descriptions, over the same plain values and without the rest of their schedulers:

- random: a host by lot, its preemptible VMs in random order until the request fits (Aardvark's `chance`);
- oldest first: all preemptible VMs from the oldest on, until those passed on one host make room there;
- Kubernetes: on each node all go, then each is reprieved while the request still fits, the most valuable first; of the
  nodes that with the lowest highest priority, least sum of priorities, fewest victims, latest start. Every node is
  looked at, where Kubernetes itself stops after a tenth of them.
"""

import gc
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from operator import ge

from tests.bench.bench_planner import hard, typical
from vmsvc.planner import Bin, BinIndex, Candidate, Objective, PlanOptions, plan

Choice = tuple[Bin, list[Candidate]]
Amounts = tuple[int, ...]

HIGHEST = 2  # of the priorities in the random clouds
POSITIVE = 2**31  # Kubernetes adds it to each priority, so that a sum of priorities grows with every victim
CHANGED = 50  # bins that change between two plans over a warm index


def cloud(make: Callable, rng: random.Random, hosts: int, candidates: int) -> list[Bin]:
    """A random cloud in which every VM ran: the ways of others know no difference."""
    return [
        replace(place, candidates=tuple(replace(one, ran=True) for one in place.candidates))
        for place in make(rng, hosts, candidates)
    ]


def lacking(place: Bin) -> Amounts:
    """What is short of each class that the request needs."""
    return tuple(need - max(place.free[name], 0) for name, need in place.need.items())


def frees(place: Bin) -> list[Amounts]:
    """What each candidate gives of each of them."""
    names = tuple(place.need)
    return [tuple(one.resources.amounts.get(name, 0) for name in names) for one in place.candidates]


def less(lack: Amounts, gives: Amounts) -> Amounts:
    """What is short when one more has gone."""
    return tuple(amount - given for amount, given in zip(lack, gives))


def age(candidate: Candidate) -> int:
    """Seconds since launch: in the random clouds lost work is VCPUs times that, and the rate is the VCPUs."""
    return candidate.lost_work // candidate.rate


def at_random(bins: Sequence[Bin], rng: random.Random) -> Choice | None:
    """Aardvark's way."""
    for place in rng.sample(bins, len(bins)):
        lack, victims = lacking(place), []
        offers = list(zip(place.candidates, frees(place)))
        rng.shuffle(offers)
        for candidate, gives in offers:
            victims.append(candidate)
            lack = less(lack, gives)
            if max(lack) <= 0:
                return place, victims
    return None


def oldest_first(bins: Sequence[Bin]) -> Choice | None:
    """The greedy way."""
    lacks = [lacking(place) for place in bins]
    victims: list[list[Candidate]] = [[] for _ in bins]
    offers = [(one, at, gives) for at, place in enumerate(bins) for one, gives in zip(place.candidates, frees(place))]
    for candidate, at, gives in sorted(offers, key=lambda offer: age(offer[0]), reverse=True):
        victims[at].append(candidate)
        lacks[at] = less(lacks[at], gives)
        if max(lacks[at]) <= 0:
            return bins[at], victims[at]
    return None


def kubernetes(bins: Sequence[Bin]) -> Choice | None:
    """The way of Kubernetes' default preemption, without disruption budgets."""
    nodes = [(place, victims) for place in bins for victims in (reprieved(place),) if victims]
    return min(nodes, key=lambda node: score(node[1]), default=None)


def score(victims: Sequence[Candidate]) -> tuple[int, ...]:
    """What Kubernetes picks the node by, the least being the best."""
    highest = max(one.priority for one in victims)
    return (
        highest,
        sum(one.priority + POSITIVE for one in victims),
        len(victims),
        max(age(one) for one in victims if one.priority == highest),
    )


def reprieved(place: Bin) -> list[Candidate]:
    """Who is left to go on one node when all that can be reprieved are; nobody when not even all make room."""
    gives = frees(place)
    spare = tuple(sum(column) - lack for column, lack in zip(zip(*gives), lacking(place)))
    if min(spare) < 0:
        return []
    victims = []
    for candidate, amounts in sorted(zip(place.candidates, gives), key=lambda pair: (-pair[0].priority, -age(pair[0]))):
        if all(map(ge, spare, amounts)):
            spare = less(spare, amounts)
        else:
            victims.append(candidate)
    return victims


def ours(bins: Sequence[Bin]) -> Choice:
    """Our plan, made from nothing."""
    outcome = plan(bins)
    place = next(place for place in bins if place.id == outcome.bin_id)
    return place, [one for one in place.candidates if one.id in outcome.victims]


def needless(place: Bin, victims: Sequence[Candidate]) -> bool:
    """True when one of them could have stayed."""
    lack = lacking(place)
    rows = frees(replace(place, candidates=tuple(victims)))
    freed = [sum(column) for column in zip(*rows)]
    return any(all(total - amount >= short for total, amount, short in zip(freed, row, lack)) for row in rows)


def choices(make: Callable, clouds: int) -> None:
    """The first table: whom each way kills."""
    ways = {
        "vmsvc": ours,
        "Kubernetes": kubernetes,
        "oldest first": oldest_first,
        "random": lambda bins: at_random(bins, random.Random(0)),
    }
    found: dict[str, list[Choice]] = {name: [] for name in ways}
    for seed in range(clouds):
        bins = cloud(make, random.Random(seed), 100, 20)
        for name, way in ways.items():
            found[name].append(way(bins))
    costs = {name: [Objective.of(*choice) for choice in chosen] for name, chosen in found.items()}
    least = sum(cost.lost_work for cost in costs["vmsvc"])
    for name, chosen in found.items():
        victims = sum(len(choice[1]) for choice in chosen) / clouds
        highest = sum(one.priority == HIGHEST for _, gone in chosen for one in gone) / clouds
        worse = sum(cost.victims > best.victims for cost, best in zip(costs[name], costs["vmsvc"]))
        print(
            f"| {make.__name__} | {name} | {victims:.2f} | {highest:.2f} | "
            f"{sum(cost.lost_work for cost in costs[name]) / least:.2f} | {sum(needless(*one) for one in chosen)} | "
            f"{worse} |",
            flush=True,
        )


def rounds_of(
    make: Callable, hosts: int, candidates: int, rounds: int
) -> Iterator[tuple[dict[str, Bin], BinIndex, int]]:
    """A cloud that lives: in each round the victims of the last plan are gone, some bins change, time passes."""
    rng = random.Random(0)
    bins = {place.id: place for place in cloud(make, rng, hosts, candidates)}
    need = bins[min(bins)].need
    index = BinIndex()
    for place in bins.values():
        index.put(place)
    gc.collect()
    gc.freeze()  # as a service should once its index is filled
    for now in range(0, rounds * 30, 30):
        outcome = index.plan(need, options=PlanOptions(now=now))
        place = bins[outcome.bin_id]
        left = tuple(one for one in place.candidates if one.id not in outcome.victims)
        for place in [replace(place, candidates=left), *rng.sample(list(bins.values()), CHANGED)]:
            bins[place.id] = place
            index.put(place)
        yield bins, index, now
    gc.unfreeze()


def durations(make: Callable, hosts: int, candidates: int, rounds: int) -> None:
    """Some lines of the second table: CPU time of each way in the same rounds."""
    times: dict[str, list[float]] = {}
    for bins, index, now in rounds_of(make, hosts, candidates, rounds):
        places, need = list(bins.values()), next(iter(bins.values())).need
        ways = {
            "vmsvc, warm index": lambda index=index, need=need, now=now: index.plan(need, options=PlanOptions(now=now)),
            "vmsvc, cold": lambda places=places, now=now: plan(places, now=now),
            "Kubernetes": lambda places=places: kubernetes(places),
            "oldest first": lambda places=places: oldest_first(places),
            "random": lambda places=places: at_random(places, random.Random(0)),
        }
        for name, way in ways.items():
            start = time.process_time()
            assert way()
            times.setdefault(name, []).append((time.process_time() - start) * 1000)
    warm = statistics.median(times["vmsvc, warm index"])
    for name, spent in times.items():
        median = statistics.median(spent)
        print(
            f"| {make.__name__} {hosts:,} x {candidates} | {name} | {median:.1f} | "
            f"{min(spent):.1f}–{max(spent):.1f} | {median / warm:.{2 if median < 10 * warm else 0}f} |",
            flush=True,
        )


def main() -> None:
    """Print the tables; an argument gives the number of clouds in the first, a second one the rounds in the other."""
    clouds, rounds = (int(each) for each in (*sys.argv[1:], *("200", "7")[len(sys.argv) - 1 :]))
    print(
        f"| cloud ({clouds} each, 100 hosts x 20 VMs) | way | victims per request | of the highest priority | "
        "lost work (vmsvc = 1) | clouds with a needless victim | clouds with more or higher victims than the least |"
    )
    print("|---|---|---|---|---|---|---|")
    for make in (typical, hard):
        choices(make, clouds)
    print("\n| cloud (hosts x VMs) | way | CPU ms per plan, median | least–most | ratio (warm = 1) |")
    print("|---|---|---|---|---|")
    for make in (typical, hard):
        for hosts, candidates in ((1000, 40), (10000, 20)):
            durations(make, hosts, candidates, rounds)


if __name__ == "__main__":
    main()
