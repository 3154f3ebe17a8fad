"""What the planner promises, one sentence at a time. Exactness is in test_planner_exact."""

import pytest

from vmsvc.domain.resources import Resources
from vmsvc.planner import Bin, Candidate, Fits, NoPlan, Objective, Preempt, plan

CAPACITY = {"VCPU": 16, "MEMORY_MB": 32768, "DISK_GB": 100}


def vm(name, vcpus=4, ram=8192, *, disk=0, **facts):
    """A candidate with host resources."""
    return Candidate(name, Resources({"VCPU": vcpus, "MEMORY_MB": ram, "DISK_GB": disk}), **facts)


def host(name, *candidates, need=None, free=None, capacity=None):
    """A host that is full unless told otherwise, asked for 4 VCPU and 8 GiB."""
    return Bin(
        name,
        Resources(need or {"VCPU": 4, "MEMORY_MB": 8192}),
        Resources(free or {}),
        Resources(CAPACITY if capacity is None else capacity),
        candidates,
    )


# Where it fits without anybody leaving


def test_a_request_that_fits_evicts_no_vm_even_where_eviction_would_be_free():
    outcome = plan([host("a", vm("x", ran=False)), host("b", free={"VCPU": 4, "MEMORY_MB": 8192})])
    assert outcome == Fits("b")


def test_among_hosts_with_capacity_the_tightest_is_chosen_and_then_the_lowest_id():
    roomy, tight = {"VCPU": 16, "MEMORY_MB": 32768}, {"VCPU": 6, "MEMORY_MB": 8192}
    assert plan([host("a", free=roomy), host("c", free=tight), host("b", free=tight)]) == Fits("b")


def test_a_request_for_nothing_fits():
    assert plan([host("a", need={"VCPU": 0})]) == Fits("a")


# Who is chosen


@pytest.mark.parametrize(
    "spared, victim, words",
    [
        ({"priority": 3, "ran": False}, {"priority": 2, "lost_work": 900}, "fewer victims of priority 3"),
        ({"ran": True, "lost_work": 0}, {"ran": False, "lost_work": 900}, "fewer running victims"),
        ({"lost_work": 11}, {"lost_work": 10, "vcpus": 8}, "less lost work"),
        ({"vcpus": 6}, {"vcpus": 5}, "less surplus"),
        ({"name": "b"}, {"name": "a"}, "lowest id"),
    ],
)
def test_the_criteria_decide_in_their_order_and_the_one_that_decided_is_named(spared, victim, words):
    spared, victim = vm(**{"name": "spared"} | spared), vm(**{"name": "victim"} | victim)
    together = plan([host("h", spared, victim)])
    apart = plan([host("g", spared), host("h", victim)] if words != "lowest id" else [host("g", victim, spared)])
    for outcome in (together, apart):
        assert (outcome.victims, outcome.criterion, outcome.optimal) == ((victim.id,), words, True)


def test_two_victims_of_a_low_priority_go_before_one_of_a_higher():
    outcome = plan([host("h", vm("small-1", 2, 4096), vm("small-2", 2, 4096), vm("dear", priority=1))])
    assert outcome.victims == ("small-1", "small-2")
    assert outcome.runner_up.victims == ((1, 1),)


def test_one_large_victim_goes_before_two_small_ones_of_the_same_priority():
    outcome = plan([host("h", vm("small-1", 2, 4096), vm("small-2", 2, 4096), vm("large", lost_work=10**9))])
    assert outcome.victims == ("large",)
    assert outcome.criterion == "fewer victims of priority 0"


def test_victims_are_listed_in_the_order_of_eviction_lowest_priority_and_least_loss_first():
    outcome = plan(
        [
            host(
                "h",
                vm("a", 1, 8192, priority=2),
                vm("b", 1, lost_work=5),
                vm("c", 1, lost_work=4),
                vm("d", 1, lost_work=6, ran=False),
            )
        ]
    )
    assert outcome.victims == ("d", "c", "b", "a")


def test_the_objective_adds_up_what_the_plan_costs():
    outcome = plan([host("h", vm("a", 2, 8192, lost_work=7, priority=1), vm("b", 3, 8192, ran=False, lost_work=1))])
    # 1 of 16 VCPU and 8192 of 32768 MiB more than asked for
    assert (outcome.objective.victims, outcome.objective.ran, outcome.objective.lost_work) == (((1, 1), (0, 1)), 1, 8)
    assert outcome.objective.surplus_ppm == 312_500
    assert (outcome.runner_up, outcome.criterion) == (None, "the only possibility")


def test_capacity_that_is_already_free_counts_and_only_the_rest_is_taken():
    outcome = plan([host("h", vm("small", 1, 1024), vm("large"), free={"VCPU": 3, "MEMORY_MB": 7168})])
    assert outcome.victims == ("small",)


def test_an_over_committed_host_needs_no_more_victims_than_a_full_one():
    over = plan([host("h", vm("x"), vm("y"), free={"VCPU": -4, "MEMORY_MB": -1})])
    assert over.victims == plan([host("h", vm("x"), vm("y"))]).victims == ("x",)


def test_surplus_is_measured_by_the_need_where_the_capacity_is_unknown():
    outcome = plan([host("group", vm("a", 6), vm("b", 5), capacity={})])
    assert (outcome.victims, outcome.objective.surplus_ppm) == (("b",), 250_000)


def test_negative_costs_of_the_policy_newest_first_choose_the_newest():
    outcome = plan([host("h", vm("old", lost_work=-1000), vm("new", lost_work=-2000))], cost_words="newer victims")
    assert (outcome.victims, outcome.criterion) == (("new",), "newer victims")


def test_a_quota_shortage_takes_victims_on_any_host():
    quota = Bin(
        "project",
        Resources({"instances": 1, "cores": 4}),
        Resources({"instances": 5, "cores": 1}),
        Resources({"instances": 10, "cores": 20}),
        (
            Candidate("big", Resources({"instances": 1, "cores": 4}), lost_work=9),
            Candidate("small", Resources({"instances": 1, "cores": 2}), lost_work=1),
        ),
    )
    assert plan([quota]).victims == ("big",)


def test_short_of_quota_and_of_capacity_at_once_victims_elsewhere_free_their_quota_part_alone():
    def joined(name, *here):
        elsewhere = [Candidate(other, Resources({"cores": 2})) for other in ("a1", "b1") if other not in here]
        local = [Candidate(other, Resources({"cores": 2, "VCPU": 2}), lost_work=name == "b") for other in here]
        return Bin(
            name,
            Resources({"cores": 4, "VCPU": 2}),
            Resources(),
            Resources({"cores": 40, "VCPU": 16}),
            (*local, *elsewhere),
        )

    outcome = plan([joined("a", "a1"), joined("b", "b1"), joined("c")])
    assert (outcome.bin_id, outcome.victims) == ("a", ("a1", "b1"))


# Why not


def test_a_request_for_which_no_place_is_eligible_is_refused():
    assert plan([]) == NoPlan("There is no place where this request could go.")


def test_a_request_larger_than_every_bin_evicts_no_vm_and_the_reason_says_what_the_best_lacks():
    outcome = plan([host("a", vm("x"), need={"VCPU": 32}), host("b", vm("y", 8), vm("z", 2), need={"VCPU": 32})])
    assert outcome == NoPlan(
        "Too large for every place: the best, b, lacks 22 VCPU with all 2 preemptible VMs evicted."
    )


def test_a_full_cloud_without_preemptible_vms_says_so():
    assert plan([host("a", free={"VCPU": 1})]) == NoPlan(
        "Too large for every place: the best, a, lacks 8192 MEMORY_MB, 3 VCPU and has no preemptible VM to evict."
    )


def test_more_victims_than_allowed_are_never_taken():
    bins = [host("h", *(vm(f"v{i}", 1, 2048) for i in range(4)))]
    assert plan(bins, max_victims=3) == NoPlan("More than 3 preemptible VMs would have to go for this request.")
    assert len(plan(bins, max_victims=4).victims) == 4


def test_a_cap_on_victims_can_force_a_higher_priority():
    bins = [host("h", vm("s1", 2, 4096), vm("s2", 2, 4096), vm("big", priority=1))]
    assert plan(bins, max_victims=1).victims == ("big",)


@pytest.mark.parametrize(
    "bins",
    [
        [host("a"), host("a")],
        [host("a", vm("x"), vm("x"))],
    ],
)
def test_ids_that_occur_twice_are_a_mistake_of_the_caller(bins):
    with pytest.raises(ValueError):
        plan(bins)


def test_a_plan_with_zero_victims_cannot_be_made():
    with pytest.raises(ValueError, match="^a plan to preempt needs a victim$"):
        Preempt("h", (), Objective((), 0, 0, 0), "lowest id", None)


# Defects of Aardvark, as far as a pure plan can have them


def test_defect_1_a_class_with_nothing_free_is_filled_up_too():
    outcome = plan(
        [
            host(
                "h",
                vm("x", 4, 8192, disk=0),
                vm("y", 1, 1024, disk=20, priority=9),
                need={"VCPU": 2, "MEMORY_MB": 2048, "DISK_GB": 20},
                free={"VCPU": 8, "MEMORY_MB": 16384, "DISK_GB": 0},
            )
        ]
    )
    assert outcome.victims == ("y",)


def test_defect_4_a_host_that_was_refused_in_spite_of_its_capacity_does_not_win_with_zero_victims():
    refused, other = host("a", free={"VCPU": 8, "MEMORY_MB": 16384}), host("b", vm("x"))
    assert plan([refused, other]) == Fits("a")
    assert plan([other]).victims == ("x",)


def test_defect_5_capacity_that_is_reserved_is_not_free_for_the_next_plan():
    first = plan([host("h", vm("x"), vm("y"))])
    left = [vm(name) for name in ("x", "y") if name not in first.victims]
    second = plan([host("h", *left, free=Resources({"VCPU": 4, "MEMORY_MB": 8192}) - {"VCPU": 4, "MEMORY_MB": 8192})])
    assert not set(first.victims) & set(second.victims)


def test_defect_6_the_plan_is_the_whole_set_and_each_victim_is_in_the_record_once():
    outcome = plan([host("h", *(vm(f"v{i}", 1, 2048, lost_work=i) for i in range(9)))])
    assert outcome.victims == ("v0", "v1", "v2", "v3")


def test_defect_8_forty_candidates_of_odd_sizes_on_a_host_are_no_trouble():
    odd = [vm(f"v{i:02}", 1 + i % 7, 700 + i * 37 % 997, lost_work=i * 31 % 101) for i in range(40)]
    outcome = plan([host("h", *odd, need={"VCPU": 16, "MEMORY_MB": 4096})])
    assert outcome.optimal and outcome.objective.victims == ((0, 3),)


def test_defect_9_fewest_victims_beat_the_least_leftover():
    outcome = plan([host("h", vm("exact-1", 2, 4096), vm("exact-2", 2, 4096), vm("loose", 16, 32768))])
    assert outcome.victims == ("loose",)


# At the cap


def test_a_search_that_hits_its_cap_still_gives_a_sound_plan_without_needless_victims_and_admits_it():
    odd = [vm(f"v{i:02}", 1 + i % 7, 700 + i * 37 % 997, lost_work=i * 31 % 101) for i in range(40)]
    place = host("h", *odd, need={"VCPU": 23, "MEMORY_MB": 6000})
    outcome = plan([place], node_cap=0)
    assert not outcome.optimal
    sizes = {candidate.id: candidate.resources for candidate in odd}
    for spared in (None, *outcome.victims):
        freed = sum((sizes[victim] for victim in outcome.victims if victim != spared), start=Resources())
        assert freed.covers(place.need) is (spared is None)
