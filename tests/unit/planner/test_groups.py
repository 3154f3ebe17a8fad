"""Eviction groups of which only so many may go: exact for one request, sound for many."""

import random
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings, strategies as st

from tests.examples import examples
from tests.unit.planner.cases import (
    as_cost,
    assert_best,
    clouds,
    every_plan,
    grouped,
    random_cloud,
    random_hosts,
    within,
)
from tests.unit.planner.test_joint_quota import random_case
from vmsvc.domain.resources import Resources
from vmsvc.planner import (
    BatchPlan,
    Bin,
    BinIndex,
    Candidate,
    NoPlan,
    PlanOptions,
    Preempt,
    Share,
    join_quota,
    plan,
    plan_batch,
)
from vmsvc.planner.batch import bin_for_many


def host(name, *vms, need=2):
    """A full host of 8 VCPU with VMs of 2 VCPU, each (lost work, group)."""
    return Bin(
        name,
        Resources({"VCPU": need}),
        Resources(),
        Resources({"VCPU": 8}),
        tuple(
            Candidate(f"{name}{at}", Resources({"VCPU": 2}), lost_work=lost, group=group)
            for at, (lost, group) in enumerate(vms)
        ),
    )


def groups_of(bins, victims):
    """The groups of these victims."""
    return [one.group for place in bins for one in place.candidates if one.id in victims]


def check(bins, budgets, max_victims=20, now=0):
    """The outcome is what brute force finds within the budgets, the runner-up the next, and the index says the same."""
    plans = every_plan(bins, max_victims, now, budgets)
    outcome = plan(bins, max_victims=max_victims, now=now, budgets=budgets)
    assert_best(outcome, plans)
    if len({place.need for place in bins}) == 1:
        index = BinIndex()
        for place in bins:
            index.put(place)
        assert index.plan(bins[0].need, options=PlanOptions(max_victims, now=now, budgets=budgets)) == outcome


@pytest.mark.parametrize("seed", range(8))
def test_with_groups_random_clouds_are_planned_as_by_brute_force(seed):
    rng = random.Random(seed)
    for _ in range(examples(100, 500)):
        bins = random_cloud(rng, *rng.choice(((4, 4), (2, 6), (1, 9))))
        if rng.random() < 0.3:
            bins = [replace(place, need=bins[0].need) for place in bins]
        check(*grouped(rng, bins), rng.choice((2, 3, 20, 20)), rng.choice((0, 5)))


@settings(max_examples=examples(25, 100), deadline=None, database=None)
@given(clouds(same_need=True), st.randoms(use_true_random=False))
def test_the_plan_is_the_best_of_all_that_keep_to_the_budgets(bins, rng):
    check(*grouped(rng, bins))


@settings(max_examples=examples(25, 100), deadline=None, database=None)
@given(clouds(most_candidates=8), st.randoms(use_true_random=False), st.integers(0, 20))
def test_a_search_that_stops_early_keeps_to_the_budgets_too(bins, rng, node_cap):
    bins, budgets = grouped(rng, bins)
    full, early = plan(bins, budgets=budgets), plan(bins, budgets=budgets, node_cap=node_cap)
    if isinstance(early, Preempt):
        assert within(
            [
                one.group
                for place in bins
                if place.id == early.bin_id
                for one in place.candidates
                if one.id in early.victims
            ],
            budgets,
        )
        assert early.objective >= full.objective
        assert early.optimal is False or early.objective == full.objective
    else:
        assert early == full or "steps" in early.reason


def test_the_member_on_the_right_host_goes_though_another_is_cheaper():
    bins = [host("a", (1, "web"), (50, None), need=4), host("b", (9, "web"), (9, None), need=4)]
    assert plan(bins, budgets={"web": 1}).victims == ("b0", "b1")


def test_a_group_that_may_lose_nobody_is_spared():
    assert plan([host("a", (1, "web"), (9, None))], budgets={"web": 0}).victims == ("a1",)
    assert plan([host("a", (1, "web"), (9, None))]).victims == ("a0",)


def test_a_refusal_for_a_group_s_sake_says_so():
    outcome = plan([host("a", (1, "web"), (1, "web"), need=4)], budgets={"web": 1})
    assert outcome == NoPlan(
        "More than 20 preemptible VMs would have to go for this request, "
        "or more of an eviction group than may go at once."
    )


@pytest.mark.parametrize("seed", range(4))
def test_quota_and_hosts_short_at_once_keep_to_the_budgets_exactly(seed):
    rng = random.Random(seed)
    for _ in range(examples(50, 150)):
        hosts, quota, _ = random_case(rng)
        if not quota.deficit:
            continue
        names = {one.id: rng.choice((None, "a", "b")) for one in quota.candidates}
        budgets = {"a": rng.randint(0, 2), "b": 1}
        hosts, quota = (
            [
                replace(place, candidates=tuple(replace(one, group=names[one.id]) for one in place.candidates))
                for place in hosts
            ],
            replace(quota, candidates=tuple(replace(one, group=names[one.id]) for one in quota.candidates)),
        )
        whole = []
        for place in hosts:
            here = {one.id: one.resources for one in place.candidates}
            whole.append(
                Bin(
                    place.id,
                    place.need + quota.need,
                    place.free.floored() + quota.free,
                    place.capacity + quota.capacity,
                    tuple(replace(one, resources=one.resources + here.get(one.id, {})) for one in quota.candidates),
                )
            )
        plans = every_plan(whole, budgets=budgets)
        outcome = plan(join_quota(hosts, quota), budgets=budgets)
        assert isinstance(outcome, Preempt) is bool(plans)
        if plans:
            assert (outcome.bin_id, sorted(outcome.victims)) == plans[0][4:]
            index = BinIndex()
            for place in hosts:
                index.put(place)
            assert index.plan(hosts[0].need, quota=quota, options=PlanOptions(budgets=budgets)) == outcome


def best_batch(bins, count, max_victims, budgets):
    """The cost of the best way to place a batch, all plans of all bins tried together; None when there is none."""
    options = [
        [(0, ([0, 0, 0], 0, 0, 0, place.id, []))]
        + [
            (share, one)
            for share in range(1, count + 1)
            for one in every_plan([bin_for_many(place, share)], share * max_victims, budgets=budgets)
        ]
        for place in bins
    ]
    found = []
    for parts in product(*options):
        if sum(share for share, _ in parts) == count:
            victims = [victim for _, one in parts for victim in one[5]]
            if within(groups_of(bins, victims), budgets):
                found.append(
                    (
                        [sum(column) for column in zip(*(one[0] for _, one in parts))],
                        *(sum(one[at] for _, one in parts) for at in (1, 2, 3)),
                    )
                )
    return min(found, default=None)


@pytest.mark.parametrize("seed", range(4))
def test_a_batch_keeps_to_the_budgets_and_is_called_optimal_only_where_it_is(seed):
    rng = random.Random(seed)
    exact = 0
    for _ in range(60):
        need = Resources({"VCPU": rng.randint(1, 3), "MEMORY_MB": rng.randint(0, 3)})
        bins = random_hosts(rng, need, 5)
        bins, budgets = grouped(rng, bins)
        count = rng.randint(1, 3)
        outcome = plan_batch(bins, count, budgets=budgets)
        best = best_batch(bins, count, 20, budgets)
        if isinstance(outcome, BatchPlan):
            victims = [victim for share in outcome.shares for victim in share.victims]
            assert within(groups_of(bins, victims), budgets)
            assert sum(share.count for share in outcome.shares) == count
            assert as_cost(outcome.objective) == best if outcome.optimal else as_cost(outcome.objective) >= best
            exact += outcome.optimal
        index = BinIndex()
        for place in bins:
            index.put(place)
        assert index.plan_batch(need, count, options=PlanOptions(budgets=budgets)) == outcome
    assert exact


def test_a_batch_that_would_take_two_of_a_group_on_two_hosts_takes_another_there():
    bins = [host("a", (1, "web"), (7, None)), host("b", (2, "web"), (8, None))]
    outcome = plan_batch(bins, 2, budgets={"web": 1})
    assert outcome.shares == (Share("a", 2, ("a0", "a1")),)
    assert not outcome.optimal
    assert plan_batch(bins, 2, budgets={"web": 2}).optimal
