"""The planner against a solver made by others: `python -m tests.bench.cp_sat [rounds]`, where ortools is installed.

Clouds too large for brute force. One criterion after the other is minimised by CP-SAT and then held; the cost must be
the planner's to the last digit. Of no use to the project otherwise, so ortools is not among its requirements.
"""

import importlib
import random
import sys

from tests.bench.bench_planner import hard, typical
from vmsvc.planner import Bin, Fits, NoPlan, Objective, plan, plan_batch
from vmsvc.planner.batch import bin_for_many

cp_model = importlib.import_module("ortools.sat.python.cp_model")  # not installed where the linter looks


def best_cost(bins: list[Bin], count: int, max_victims: int) -> Objective | None:
    """What CP-SAT finds for so many equal requests; None when they do not fit."""
    model = cp_model.CpModel()
    terms: dict[object, list] = {"ran": [], "lost": [], "surplus": []}
    shares = []
    for place in bins:
        place = bin_for_many(place, 1)
        share = model.new_int_var(0, count, "")
        used = model.new_bool_var("")
        model.add(share == 0).only_enforce_if(~used)
        shares.append(share)
        taken = [model.new_bool_var("") for _ in place.candidates]
        for name, weight in place.weights.items():
            free = max(place.free[name], 0)
            freed = sum(one.resources[name] * var for one, var in zip(place.candidates, taken))
            model.add(free * used + freed >= place.need[name] * share)
            terms["surplus"].append(weight * (free * used + freed - place.need[name] * share))
        model.add(sum(taken) <= max_victims * share)
        for one, var in zip(place.candidates, taken):
            terms.setdefault(one.priority, []).append(var)
            terms["ran"].append(one.ran * var)
            terms["lost"].append(one.lost_work * var)
    model.add(sum(shares) == count)
    values = {}
    for criterion in [*sorted((key for key in terms if isinstance(key, int)), reverse=True), "ran", "lost", "surplus"]:
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        model.minimize(sum(terms[criterion]))
        if solver.solve(model) != cp_model.OPTIMAL:
            return None
        values[criterion] = round(solver.objective_value)
        model.add(sum(terms[criterion]) == values[criterion])
    counts = tuple((key, value) for key, value in values.items() if isinstance(key, int) and value)
    return Objective(counts, values["ran"], values["lost"], values["surplus"])


def main() -> None:
    """Compare on random clouds; raises AssertionError at the first difference."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    for seed in range(rounds):
        rng = random.Random(seed)
        make = rng.choice((typical, hard))
        bins = make(rng, rng.randint(1, 6), rng.randint(10, 40))
        max_victims = rng.choice((2, 5, 20))
        outcome = plan(bins, max_victims=max_victims)
        if not isinstance(outcome, Fits):
            found = None if isinstance(outcome, NoPlan) else outcome.objective
            expected = best_cost(bins, 1, max_victims)
            assert found == expected, (seed, found, expected)
        count = rng.randint(2, 4)
        batch = plan_batch(bins, count, max_victims=max_victims)
        found = None if isinstance(batch, NoPlan) else batch.objective
        expected = best_cost(bins, count, max_victims)
        assert found == expected, (seed, count, found, expected)
        print(f"{seed}: {make.__name__}, {len(bins)} x {len(bins[0].candidates)}, {count}: {found}", flush=True)


if __name__ == "__main__":
    main()
