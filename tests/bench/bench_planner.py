"""How long one plan takes: `python -m tests.bench.bench_planner`. Prints milliseconds and nodes; asserts nothing.

typical: six flavors, hosts full, three priorities. hard: every VM has its own odd size, several classes are short at
once and most VMs are too small, so that counting alone does not decide.
"""

import gc
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from unittest import mock

from vmsvc.domain.resources import Resources
from vmsvc.planner import NODE_CAP, Bin, BinIndex, Candidate, PlanOptions, plan, plan_batch, preemption
from vmsvc.planner.search import NodeBudget

FLAVORS = [(1, 1024, 10), (2, 2048, 20), (2, 4096, 20), (4, 8192, 40), (4, 16384, 40), (8, 16384, 80)]


def typical(rng: random.Random, hosts: int, candidates: int) -> list[Bin]:
    """A full cloud of ordinary flavors and a request for a large one."""
    sizes = [Resources({"VCPU": v, "MEMORY_MB": m, "DISK_GB": d}) for v, m, d in FLAVORS]
    need = rng.choice(sizes[3:])
    return [
        Bin(
            f"host-{h:05}",
            need,
            Resources(
                {"VCPU": rng.randint(0, 2), "MEMORY_MB": rng.randint(0, 4) * 1024, "DISK_GB": rng.randint(0, 30)}
            ),
            Resources({"VCPU": 128, "MEMORY_MB": 524288, "DISK_GB": 4000}),
            tuple(
                Candidate(
                    f"vm-{h}-{c}",
                    size,
                    rng.choice((0, 0, 0, 1, 2)),
                    rng.random() < 0.97,
                    size["VCPU"] * rng.randint(60, 10**6),
                    size["VCPU"],
                )
                for c in range(candidates)
                for size in (rng.choice(sizes),)
            ),
        )
        for h in range(hosts)
    ]


def hard(rng: random.Random, hosts: int, candidates: int) -> list[Bin]:
    """Odd sizes and a request that takes several victims on every host."""
    need = Resources({"VCPU": 24, "MEMORY_MB": 65536, "DISK_GB": 300})
    return [
        Bin(
            f"host-{h:05}",
            need,
            Resources({"VCPU": rng.randint(0, 3), "MEMORY_MB": rng.randint(0, 4096)}),
            Resources({"VCPU": 128, "MEMORY_MB": 524288, "DISK_GB": 4000}),
            tuple(
                Candidate(
                    f"vm-{h}-{c}",
                    Resources({"VCPU": vcpus, "MEMORY_MB": rng.randint(512, 16384), "DISK_GB": rng.randint(1, 80)}),
                    rng.choice((0, 1, 2)),
                    True,
                    vcpus * rng.randint(60, 10**6),
                    vcpus,
                )
                for c in range(candidates)
                for vcpus in (rng.randint(1, 8),)
            ),
        )
        for h in range(hosts)
    ]


def report(kind: str, times: Sequence[float], nodes: Sequence[int]) -> None:
    """One line of the table: CPU milliseconds and nodes, median and worst."""
    print(
        f"{kind:36} median {statistics.median(times):8.2f} ms  worst {max(times):8.2f} ms  "
        f"nodes {statistics.median(nodes):7.0f} / {max(nodes):7}",
        flush=True,
    )


def timed(call) -> tuple[float, int]:
    """CPU milliseconds and nodes of one plan, the search for the runner-up included."""
    budgets = [NodeBudget(NODE_CAP), NodeBudget(NODE_CAP)]
    with mock.patch.object(preemption, "NodeBudget", side_effect=list(budgets)):
        start = time.process_time()
        outcome = call()
        elapsed = (time.process_time() - start) * 1000
    assert outcome.optimal
    return elapsed, sum(budget.size - budget.left for budget in budgets)


def once(make, hosts: int, candidates: int, rounds: int) -> None:
    """Plans over bins that are seen for the first time."""
    figures = []
    for seed in range(rounds):
        bins = make(random.Random(seed), hosts, candidates)
        figures.append(timed(lambda bins=bins: plan(bins)))
    report(f"{make.__name__:8} {hosts:6} x {candidates:3}", *zip(*figures))


def warm(make, hosts: int, candidates: int, rounds: int, changes: int) -> None:
    """Plans over an index: the first for a need, then again and again while bins change, time passes and the victims
    of each plan are gone."""
    rng = random.Random(0)
    bins = {place.id: place for place in make(rng, hosts, candidates)}
    need = next(iter(bins.values())).need
    index = BinIndex()
    for place in bins.values():
        index.put(place)
    report(f"{make.__name__:8} {hosts:6} x {candidates:3} index, new need", *zip(timed(lambda: index.plan(need))))
    gc.collect()
    gc.freeze()  # as a service should once its index is filled: a full collection costs more than a plan
    figures = []
    for at in range(1, rounds + 1):
        outcome = index.plan(need, options=PlanOptions(now=at * 30 - 30))
        place = bins[outcome.bin_id]
        left = tuple(one for one in place.candidates if one.id not in outcome.victims)
        for place in [replace(place, candidates=left), *rng.sample(list(bins.values()), changes)]:
            bins[place.id] = place
            index.put(place)
        figures.append(timed(lambda at=at: index.plan(need, options=PlanOptions(now=at * 30))))
    gc.unfreeze()
    report(f"{make.__name__:8} {hosts:6} x {candidates:3} index, {changes} changed", *zip(*figures))


def batch(make, hosts: int, candidates: int, count: int) -> None:
    """Batches: over bins that are seen for the first time, then over an index that knows the need."""
    bins = make(random.Random(0), hosts, candidates)
    index = BinIndex()
    for place in bins:
        index.put(place)
    for title, call in (
        ("batch", lambda: plan_batch(bins, count)),
        ("index, batch, new", lambda: index.plan_batch(bins[0].need, count)),
        ("index, batch", lambda: index.plan_batch(bins[0].need, count)),
    ):
        start = time.process_time()
        assert call().optimal
        print(
            f"{make.__name__:8} {hosts:6} x {candidates:3} {title} of {count:3}: "
            f"{(time.process_time() - start) * 1000:8.1f} ms",
            flush=True,
        )


def main() -> None:
    """Print the table; an argument gives the number of rounds."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    for hosts, candidates in ((100, 20), (500, 40), (1000, 40), (10000, 20)):
        for make in (typical, hard):
            once(make, hosts, candidates, rounds if hosts <= 1000 else 1)
    for make in (typical, hard):
        warm(make, 10000, 20, rounds, 50)
        for hosts, count in ((100, 10), (1000, 10), (1000, 30)):
            batch(make, hosts, 20, count)


if __name__ == "__main__":
    main()
