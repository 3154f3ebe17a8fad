"""The index gives what the planner gives over the same bins, whatever happened to it before."""

import random
from dataclasses import replace
from unittest import mock

import pytest
from hypothesis import given, settings, strategies as st

from tests.examples import examples
from tests.unit.planner.cases import clouds, grouped, odd_cloud, random_cloud
from vmsvc.domain.resources import Resources
from vmsvc.planner import Bin, BinIndex, Candidate, Fits, PlanOptions, Preempt, plan, solution_cache
from vmsvc.planner.bin_index import NEEDS

NEED = Resources({"VCPU": 2})


def host(name, *lost, free=0, rate=0):
    """A host with one VM of 2 VCPU for each lost work."""
    return Bin(
        name,
        Resources(),
        Resources({"VCPU": free}),
        Resources({"VCPU": 8}),
        tuple(Candidate(f"{name}{at}", NEED, lost_work=work, rate=rate) for at, work in enumerate(lost)),
    )


def filled(*bins):
    """An index of these."""
    index = BinIndex()
    for place in bins:
        index.put(place)
    return index


@pytest.mark.parametrize("seed", range(examples(12, 40)))
def test_after_any_changes_and_at_any_time_it_plans_as_the_planner_does(seed):
    rng = random.Random(seed)
    index, bins, needs, now = BinIndex(), {}, [], 0
    for _ in range(60):
        for place in random_cloud(rng, 3, 5):
            name = f"h{rng.randint(0, 9)}"
            if rng.random() < 0.15:
                index.drop(name)
                bins.pop(name, None)
            else:
                bins[name] = replace(place, id=name)
                index.put(bins[name])
            needs = [*needs[-4:], place.need]
        now += rng.choice((0, 1, 7, -3))
        need, max_victims, barred = rng.choice(needs), rng.choice((2, 20, 20)), rng.choice((None, None, "h1"))
        expected = plan(
            [replace(place, need=need) for place in bins.values() if place.id != barred],
            max_victims=max_victims,
            now=now,
        )
        eligible = None if barred is None else lambda place, barred=barred: place.id != barred
        assert index.plan(need, eligible=eligible, options=PlanOptions(max_victims, now=now)) == expected


@pytest.mark.parametrize("seed", range(6))
def test_a_cloud_of_odd_sizes_in_which_victims_leave_is_planned_as_by_the_planner(seed):
    rng = random.Random(seed)
    bins, budgets = grouped(rng, odd_cloud(rng, 1, 1)) if seed % 2 else (odd_cloud(rng, 1, 1), {})
    need, now, bins = bins[0].need, 0, {}
    index = BinIndex()
    for turn in range(40):
        for name in [f"h{at}" for at in range(12)] if not turn else rng.sample(sorted(bins), 2):
            (place,), _ = grouped(rng, odd_cloud(rng, 1, 12, need)) if budgets else (odd_cloud(rng, 1, 12, need), {})
            bins[name] = replace(place, id=name)
            index.put(bins[name])
        options = PlanOptions(now=now, budgets=rng.choice((budgets, {})))
        outcome = index.plan(need, options=options)
        assert outcome == plan(bins.values(), now=now, budgets=options.budgets)
        if isinstance(outcome, Preempt) and rng.random() < 0.8:
            place = bins[outcome.bin_id]
            bins[place.id] = replace(
                place, candidates=tuple(one for one in place.candidates if one.id not in outcome.victims)
            )
            index.put(bins[place.id])
        now += rng.choice((0, 1, 30, 1000))


@settings(max_examples=examples(25, 100), deadline=None, database=None)
@given(clouds(same_need=True), st.lists(st.integers(0, 9), min_size=1, max_size=4))
def test_as_time_passes_it_plans_as_the_planner_does(bins, times):
    index = filled(*bins)
    for now in times:
        assert index.plan(bins[0].need, options=PlanOptions(now=now)) == plan(bins, now=now)


def test_who_lost_least_changes_with_time_when_one_grows_faster():
    index = filled(host("fast", 10, rate=8), host("slow", 50, rate=1))
    assert index.plan(NEED).victims == ("fast0",)
    assert index.plan(NEED, options=PlanOptions(now=100)).victims == ("slow0",)


def test_a_clock_that_goes_back_is_taken_as_it_is():
    index = filled(host("fast", 10, rate=8), host("slow", 50, rate=1))
    assert index.plan(NEED, options=PlanOptions(now=100)).victims == ("slow0",)
    assert index.plan(NEED).victims == ("fast0",)


def test_a_bin_that_changed_is_seen_as_it_is_now():
    index = filled(host("a", 1), host("b", 2))
    assert index.plan(NEED).victims == ("a0",)
    index.put(host("a"))
    assert index.plan(NEED).victims == ("b0",)
    index.put(host("b", 2, free=2))
    assert index.plan(NEED) == Fits("b")
    index.drop("b")
    index.drop("b")
    assert "has no preemptible VM to evict" in index.plan(NEED).reason
    index.put(host("a", 5))
    assert index.plan(NEED).victims == ("a0",)


def test_more_needs_than_it_keeps_are_planned_all_the_same():
    index = filled(host("a", *range(9)))
    for _ in range(2):
        for vcpus in range(1, NEEDS + 5):
            need = Resources({"VCPU": vcpus, "DISK_GB": 0})
            assert index.plan(need) == plan([replace(host("a", *range(9)), need=need)])


def test_a_plan_reads_only_the_bins_that_can_be_the_best_or_the_runner_up():
    looked = []
    index = filled(*(host(f"h{at:04}", at) for at in range(1000)))
    outcome = index.plan(NEED, eligible=lambda place: looked.append(place.id) or True)
    assert outcome.victims == ("h00000",)
    assert len(set(looked)) < 10


def test_why_there_is_no_plan_is_told_of_the_bins_that_may_be_used_alone():
    index = filled(host("a", 1, 2), host("b", 3))
    need = Resources({"VCPU": 99, "DISK_GB": 0})
    for outcome in (
        index.plan(need, eligible=lambda place: place.id == "b"),
        index.plan_batch(need, 2, eligible=lambda place: place.id == "b"),
    ):
        assert "the best, b, lacks" in outcome.reason


def test_a_bin_is_not_searched_again_until_it_changes():
    bins = [
        replace(place, id=f"h{at:03}")
        for at in range(100)
        for place in odd_cloud(random.Random(at), 1, 12, Resources({"VCPU": 9, "MEMORY_MB": 40, "DISK_GB": 40}))
    ]
    index = filled(*bins)
    with mock.patch.object(solution_cache, "explore", side_effect=solution_cache.explore) as explore:
        outcome = index.plan(bins[0].need)
        assert explore.call_count
        explore.reset_mock()
        assert index.plan(bins[0].need) == outcome
        assert not explore.call_count
        index.put(next(place for place in bins if place.id == outcome.bin_id))
        assert index.plan(bins[0].need) == outcome
        assert [call.args[0].id for call in explore.call_args_list] == [outcome.bin_id]


def test_a_candidate_given_twice_is_a_mistake_of_the_caller():
    twice = (Candidate("x", NEED), Candidate("x", NEED))
    with pytest.raises(ValueError):
        BinIndex().put(Bin("a", Resources(), Resources(), Resources(), twice))
