"""Room for many requests at once: exact for equal ones, sound for different ones."""

import random
from dataclasses import replace
from itertools import product

import pytest

from tests.unit.planner.cases import every_plan, random_hosts
from vmsvc.domain.resources import Resources
from vmsvc.planner import (
    BatchPlan,
    Bin,
    BinIndex,
    Candidate,
    Fits,
    NoPlan,
    Objective,
    PlanOptions,
    Preempt,
    Share,
    plan,
    plan_batch,
)
from vmsvc.planner.batch import bin_for_many


def host(name, *sizes, free=0, need=4, **facts):
    """A host of 16 VCPU with VMs of these sizes."""
    return Bin(
        name,
        Resources({"VCPU": need}),
        Resources({"VCPU": free}),
        Resources({"VCPU": 16}),
        tuple(
            Candidate(f"{name}{at}", Resources({"VCPU": size}), lost_work=size, **facts)
            for at, size in enumerate(sizes)
        ),
    )


def every_batch(bins, count, max_victims):
    """The best of all ways to place a batch: (counts, ran, lost work, surplus, a bin id per request, victims)."""
    options = []
    for place in bins:
        costs = [([0, 0, 0], 0, 0, 0, place.id, [])]
        for share in range(1, count + 1):
            plans = every_plan([bin_for_many(place, share)], share * max_victims)
            costs.append(plans[0] if plans else None)
        options.append(costs)
    found = []
    for shares in product(range(count + 1), repeat=len(bins)):
        if sum(shares) == count:
            parts = [costs[share] for costs, share in zip(options, shares)]
            if None not in parts:
                ids = sorted(place.id for place, share in zip(bins, shares) for _ in range(share))
                found.append(
                    (
                        [sum(column) for column in zip(*(part[0] for part in parts))],
                        *(sum(part[at] for part in parts) for at in (1, 2, 3)),
                        ids,
                        sorted(victim for part in parts for victim in part[5]),
                    )
                )
    return min(found, default=None)


@pytest.mark.parametrize("seed", range(8))
def test_random_batches_are_planned_as_by_brute_force(seed):
    rng = random.Random(seed)
    for _ in range(60):
        need = Resources({"VCPU": rng.randint(0, 3), "MEMORY_MB": rng.randint(0, 3)})
        bins = random_hosts(rng, need, 6)
        count, max_victims = rng.randint(1, 4), rng.choice((1, 20))
        expected, outcome = every_batch(bins, count, max_victims), plan_batch(bins, count, max_victims=max_victims)
        if expected is None:
            assert isinstance(outcome, NoPlan)
        else:
            counts, cost = dict(outcome.objective.victims), outcome.objective
            assert outcome.optimal
            assert (
                [counts.get(p, 0) for p in (2, 1, 0)],
                cost.ran,
                cost.lost_work,
                cost.surplus,
                sorted(share.bin_id for share in outcome.shares for _ in range(share.count)),
                sorted(victim for share in outcome.shares for victim in share.victims),
            ) == expected


@pytest.mark.parametrize("seed", range(4))
def test_an_index_plans_a_batch_as_it_is_planned_over_its_bins(seed):
    rng = random.Random(seed)
    index, bins = BinIndex(), {}
    for now in range(40):
        place = host(
            f"h{rng.randint(0, 5)}",
            *(rng.randint(1, 6) for _ in range(rng.randint(0, 4))),
            free=rng.randint(-1, 4),
            rate=rng.randint(0, 2),
        )
        bins[place.id] = place
        index.put(place)
        count = rng.randint(1, 4)
        found = index.plan_batch(place.need, count, options=PlanOptions(now=now))
        assert found == plan_batch(bins.values(), count, now=now)


def test_a_batch_of_one_is_planned_as_one_request():
    bins = [host("a", 2, 2, 6), host("b", 5, 1), host("c", 3)]
    alone, batch = plan(bins), plan_batch(bins, 1)
    assert isinstance(alone, Preempt)
    assert batch == BatchPlan((Share(alone.bin_id, 1, alone.victims),), alone.objective)


def test_two_requests_share_the_capacity_of_one_large_victim_where_one_by_one_would_take_two():
    bins = [host("a", 8), host("b", 4), host("c", 4)]
    assert plan(bins).victims == ("b0",)
    assert plan_batch(bins, 2).shares == (Share("a", 2, ("a0",)),)


def test_requests_that_fit_evict_nobody():
    outcome = plan_batch([host("a", 4, free=9), host("b", 4, free=5)], 3)
    assert outcome.shares == (Share("a", 2, ()), Share("b", 1, ()))
    assert not outcome.objective.victims


def test_a_batch_is_placed_as_a_whole_or_refused():
    assert plan_batch([host("a", 4), host("b", 4)], 3) == NoPlan(
        "There is no room for 3 such requests at once, even after evictions."
    )
    assert "lacks 1 VCPU" in plan_batch([host("a", 3)], 2).reason


def test_bins_that_share_a_candidate_cannot_be_planned_as_a_batch():
    with pytest.raises(ValueError):
        plan_batch([host("a", 4), replace(host("a", 4), id="b")], 2)


def test_a_batch_at_the_cap_says_that_it_may_not_be_the_best():
    outcome = plan_batch([host(name, 3, 3, 2, 1) for name in "abc"], 3, node_cap=0)
    assert isinstance(outcome, BatchPlan) and not outcome.optimal


def test_the_sum_of_objectives_is_the_cost_of_both_plans():
    one, two = Objective(((2, 1), (0, 3)), 4, 10, 7), Objective(((1, 1), (0, 1)), 1, 5, 1)
    assert one + two == Objective(((2, 1), (1, 1), (0, 4)), 5, 15, 8)


def test_nothing_is_needed_by_a_batch_of_requests_for_nothing():
    assert plan([host("a", need=0)]) == Fits("a")
    assert plan_batch([host("a", need=0)], 2).shares == (Share("a", 2, ()),)
