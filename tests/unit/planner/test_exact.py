"""The planner against brute force and against itself, on random small clouds."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from tests.examples import examples
from tests.unit.planner.cases import (
    HOST,
    QUOTA,
    as_cost,
    assert_best,
    clouds,
    every_plan,
    odd_cloud,
    random_cloud,
    vectors,
)
from vmsvc.domain.resources import Resources, total
from vmsvc.planner import Bin, Candidate, Fits, NoPlan, Objective, PlanOptions, Preempt, plan
from vmsvc.planner.bin_plans import explore, solve
from vmsvc.planner.bounds import CandidateLevels
from vmsvc.planner.search import NodeBudget

some = settings(max_examples=examples(25, 100), deadline=None, database=None)


def check(bins, max_victims=20, now=0):
    """The outcome is what brute force finds, and the runner-up the next best."""
    plans = every_plan(bins, max_victims, now)
    outcome = plan(bins, max_victims=max_victims, now=now)
    assert_best(outcome, plans)


@pytest.mark.parametrize("seed", range(16))
def test_a_thousand_random_clouds_are_planned_as_by_brute_force(seed):
    rng = random.Random(seed)
    for _ in range(examples(100, 1000)):
        check(random_cloud(rng, *rng.choice(((4, 4), (2, 6), (1, 9)))), rng.choice((2, 3, 20, 20)), rng.choice((0, 5)))


@pytest.mark.parametrize("seed", range(8))
def test_clouds_of_odd_sizes_are_planned_as_by_brute_force(seed):
    rng = random.Random(seed)
    for _ in range(25):
        check(odd_cloud(rng, *rng.choice(((3, 8), (1, 11)))), rng.choice((3, 5, 20, 20)), rng.choice((0, 5)))


@some
@given(clouds(), st.sampled_from((1, 2, 3, 20)))
def test_the_plan_is_the_best_of_all_plans_and_the_runner_up_the_next(bins, max_victims):
    check(bins, max_victims)


@some
@given(clouds())
def test_taking_any_victim_back_breaks_the_fit(bins):
    for node_cap in (0, 10_000):
        outcome = plan(bins, node_cap=node_cap)
        if isinstance(outcome, Preempt):
            place = next(place for place in bins if place.id == outcome.bin_id)
            freed = [candidate for candidate in place.candidates if candidate.id in outcome.victims]
            for spared in (None, *freed):
                room = place.free.floored() + total(one.resources for one in freed if one is not spared)
                assert room.covers(place.need) is (spared is None)


@some
@given(clouds(most_candidates=8), st.integers(0, 20), st.sampled_from((2, 20)))
def test_a_search_that_stops_early_never_claims_a_better_plan_than_there_is(bins, node_cap, max_victims):
    full, early = plan(bins, max_victims=max_victims), plan(bins, node_cap=node_cap, max_victims=max_victims)
    if isinstance(early, Preempt):
        assert (early.objective, early.bin_id) >= (full.objective, full.bin_id)
        if early.criterion == "the only possibility":
            assert full.runner_up is None
        if early.optimal:
            assert (early.objective, early.bin_id, early.victims) == (full.objective, full.bin_id, full.victims)
    else:
        assert early == full or "steps" in early.reason


@some
@given(clouds(), st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(bins, rng):
    shuffled = [
        replace(place, candidates=tuple(rng.sample(place.candidates, len(place.candidates))))
        for place in rng.sample(bins, len(bins))
    ]
    assert plan(shuffled) == plan(bins)


@some
@given(clouds(), clouds(most_bins=1))
def test_one_more_place_never_makes_the_plan_worse(bins, extra):
    before = plan(bins)
    after = plan([*bins, replace(extra[0], id="z")])
    if isinstance(before, Preempt):
        assert isinstance(after, Fits) or after.objective <= before.objective
    elif isinstance(before, Fits):
        assert isinstance(after, Fits)


@some
@given(clouds(same_need=True), vectors(HOST + QUOTA, 0, 2))
def test_a_larger_need_never_takes_fewer_victims_of_the_same_priorities(bins, more):
    small = plan(bins)
    large = plan([replace(place, need=place.need + more) for place in bins])
    if isinstance(large, Preempt):
        assert isinstance(small, Fits) or small.objective.victims <= large.objective.victims
    elif isinstance(large, Fits):
        assert isinstance(small, Fits)
    if isinstance(small, NoPlan):
        assert isinstance(large, NoPlan)


@some
@given(clouds(), st.integers(-5, 5))
def test_a_clock_that_is_off_changes_no_choice(bins, offset):
    """Costs of all candidates moved alike (another epoch for oldest_first) give the same victims."""
    moved = [
        replace(place, candidates=tuple(replace(one, lost_work=one.lost_work + offset) for one in place.candidates))
        for place in bins
    ]
    before, after = plan(bins), plan(moved)
    assert getattr(before, "victims", before) == getattr(after, "victims", after)


@some
@given(clouds(most_candidates=7), st.sampled_from((1, 2, 3, 20)), st.integers(0, 3), st.integers(0, 3))
def test_no_plan_costs_less_than_the_bound_of_its_bin_neither_now_nor_later(bins, max_victims, now, seconds):
    for place in bins:
        bound = CandidateLevels(place.candidates).bound(place, max_victims, now)
        plans = every_plan([place], max_victims, now + seconds)
        if plans:
            later = replace(bound.objective, lost_work=bound.objective.lost_work + bound.rate * seconds)
            assert as_cost(later) <= plans[0][:4]
            assert bool(bound.objective.victims) is bool(plans[0][5])


@pytest.mark.parametrize("seed", range(4))
def test_what_a_search_shows_of_a_bin_is_true_of_every_plan_there(seed):
    rng = random.Random(seed)
    for _ in range(40):
        (place,) = odd_cloud(rng, 1, 9)
        plans = every_plan([place])
        best = solve(place, None, PlanOptions(), NodeBudget(10**5))
        limits = [None, (Objective(((rng.randint(0, 2), rng.randint(1, 4)),), rng.randint(0, 4), 100, 0), "h")]
        if best is not None:
            limits.append((replace(best.objective, lost_work=best.objective.lost_work + rng.randint(-9, 9)), "h"))
        found, least = explore(
            place, CandidateLevels(place.candidates), rng.choice(limits), PlanOptions(), NodeBudget(10**5)
        )
        assert (least is None or as_cost(least) <= plans[0][:4]) if plans else found is None
        assert least is not None or not plans


def test_a_plan_whose_rival_was_not_searched_for_to_the_end_does_not_call_itself_the_only_one():
    bins = random_cloud(random.Random(85), 1, 9)
    assert plan(bins, max_victims=2, node_cap=0).criterion == "the best that was found"
    assert plan(bins, max_victims=2).runner_up is not None


def test_a_place_where_more_is_free_already_than_its_victims_could_free_is_compared_as_it_is():
    place = Bin(
        "b",
        Resources({"VCPU": 1, "MEMORY_MB": 1}),
        Resources({"MEMORY_MB": 97}),
        Resources({"VCPU": 100, "MEMORY_MB": 100}),
        (Candidate("v", Resources({"VCPU": 1})),),
    )

    def below(surplus, bin_id):
        limit = replace(best.objective, surplus=best.objective.surplus + surplus), bin_id
        return solve(place, limit, PlanOptions(max_victims=1), NodeBudget(100)) == best

    best = solve(place, None, PlanOptions(max_victims=1), NodeBudget(100))
    assert below(10**11, "a") and below(1, "a") and below(0, "c")
    assert not below(0, "a") and not below(-1, "c")
