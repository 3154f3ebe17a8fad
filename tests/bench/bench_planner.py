"""How long one plan takes: `python -m tests.bench.bench_planner`. Prints milliseconds and nodes; asserts nothing.

typical: six flavors, hosts full, three priorities. hard: every VM has its own odd size, several classes are short at
once and most VMs are too small, so that counting alone does not decide.
"""

import random
import statistics
import sys
import time
from unittest import mock

from vmsvc.domain import planner
from vmsvc.domain.planner import Bin, Candidate
from vmsvc.domain.resources import Resources
from vmsvc.domain.search import Budget

FLAVORS = [(1, 1024, 10), (2, 2048, 20), (2, 4096, 20), (4, 8192, 40), (4, 16384, 40), (8, 16384, 80)]


def typical(rng: random.Random, hosts: int, candidates: int) -> list[Bin]:
    """A full cloud of ordinary flavors and a request for a large one."""
    sizes = [Resources({"VCPU": v, "MEMORY_MB": m, "DISK_GB": d}) for v, m, d in FLAVORS]
    need = rng.choice(sizes[3:])
    return [Bin(f"host-{h:05}", need, Resources({"VCPU": rng.randint(0, 2), "MEMORY_MB": rng.randint(0, 4) * 1024,
                                                 "DISK_GB": rng.randint(0, 30)}),
                Resources({"VCPU": 128, "MEMORY_MB": 524288, "DISK_GB": 4000}),
                tuple(Candidate(f"vm-{h}-{c}", size, rng.choice((0, 0, 0, 1, 2)), rng.random() < 0.97,
                                size["VCPU"] * rng.randint(60, 10**6))
                      for c in range(candidates) for size in (rng.choice(sizes),)))
            for h in range(hosts)]


def hard(rng: random.Random, hosts: int, candidates: int) -> list[Bin]:
    """Odd sizes and a request that takes several victims on every host."""
    need = Resources({"VCPU": 24, "MEMORY_MB": 65536, "DISK_GB": 300})
    return [Bin(f"host-{h:05}", need, Resources({"VCPU": rng.randint(0, 3), "MEMORY_MB": rng.randint(0, 4096)}),
                Resources({"VCPU": 128, "MEMORY_MB": 524288, "DISK_GB": 4000}),
                tuple(Candidate(f"vm-{h}-{c}", Resources({"VCPU": vcpus, "MEMORY_MB": rng.randint(512, 16384),
                                                          "DISK_GB": rng.randint(1, 80)}),
                                rng.choice((0, 1, 2)), True, vcpus * rng.randint(60, 10**6))
                      for c in range(candidates) for vcpus in (rng.randint(1, 8),)))
            for h in range(hosts)]


def measure(make, hosts: int, candidates: int, rounds: int) -> str:
    """One line of the table: CPU milliseconds (median, worst) and nodes (median, worst) over some random clouds."""
    times, nodes, capped = [], [], 0
    for seed in range(rounds):
        bins = make(random.Random(seed), hosts, candidates)
        budgets = [Budget(planner.NODE_CAP), Budget(planner.NODE_CAP)]   # the plan's and the runner-up's
        with mock.patch.object(planner, "Budget", side_effect=list(budgets)):
            start = time.process_time()
            outcome = planner.plan(bins)
            times.append((time.process_time() - start) * 1000)
        nodes.append(sum(budget.size - budget.left for budget in budgets))
        capped += not getattr(outcome, "optimal", True)
    return (f"{make.__name__:8} {hosts:6} x {candidates:3}  median {statistics.median(times):8.1f} ms  "
            f"worst {max(times):8.1f} ms  nodes {statistics.median(nodes):9.0f} / {max(nodes):9}  capped {capped}")


def main() -> None:
    """Print the table; an argument gives the number of rounds."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    for hosts, candidates in ((100, 20), (500, 40), (1000, 40), (10000, 20)):
        for make in (typical, hard):
            print(measure(make, hosts, candidates, rounds if hosts <= 1000 else 1), flush=True)


if __name__ == "__main__":
    main()
