"""Quota and hosts short at once."""

import random
from dataclasses import replace

import pytest

from tests.examples import examples
from tests.unit.planner.cases import every_plan
from vmsvc.domain.resources import Resources
from vmsvc.planner import Bin, BinIndex, Candidate, PlanOptions, Preempt, join_quota, plan

ROOM, QUOTA = Resources({"VCPU": 2}), Resources({"cores": 2})


def host(name, *vms, free=0):
    """A host that is asked for 2 VCPU, with VMs of (id, VCPU, lost work)."""
    return Bin(
        name,
        ROOM,
        Resources({"VCPU": free}),
        Resources({"VCPU": 8}),
        tuple(Candidate(vm, Resources({"VCPU": vcpus}), lost_work=lost) for vm, vcpus, lost in vms),
    )


def project(*vms, free=0):
    """The quota, asked for 2 cores, with the same VMs."""
    return Bin(
        "project",
        QUOTA,
        Resources({"cores": free}),
        Resources({"cores": 20}),
        tuple(Candidate(vm, Resources({"cores": vcpus}), lost_work=lost) for vm, vcpus, lost in vms),
    )


def random_case(rng):
    """Some hosts, the quota, and every host joined with all VMs of the project that are elsewhere."""
    vms = [
        (
            f"v{at}",
            rng.randint(0, 4),
            Candidate(
                "",
                Resources({"cores": rng.randint(0, 3)}),
                rng.randint(0, 1),
                rng.random() < 0.8,
                rng.randint(0, 3),
                rng.randint(0, 2),
            ),
        )
        for at in range(rng.randint(0, 7))
    ]
    need = Resources({"VCPU": rng.randint(0, 4)})
    hosts = [
        Bin(
            f"h{at}",
            need,
            Resources({"VCPU": rng.randint(-1, 5)}),
            Resources({"VCPU": 8}),
            tuple(
                replace(vm, id=name, resources=Resources({"VCPU": rng.randint(0, 3)}))
                for name, where, vm in vms
                if where == at
            ),
        )
        for at in range(rng.randint(1, 4))
    ]
    quota = Bin(
        "project",
        Resources({"cores": rng.randint(1, 5)}),
        Resources({"cores": rng.randint(0, 2)}),
        Resources({"cores": 9}),
        tuple(replace(vm, id=name) for name, _, vm in vms),
    )
    return hosts, quota, [joined_with(quota, place) for place in hosts]


def joined_with(quota, place):
    """The bin of a host and the quota at once, with all VMs of the project."""
    held = {one.id: one.resources for one in place.candidates}
    return Bin(
        place.id,
        place.need + quota.need,
        place.free.floored() + quota.free,
        place.capacity + quota.capacity,
        tuple(replace(one, resources=one.resources + held.get(one.id, {})) for one in quota.candidates),
    )


@pytest.mark.parametrize("seed", range(8))
def test_with_the_few_that_can_matter_it_is_planned_as_with_all_of_the_project(seed):
    rng = random.Random(seed)
    for _ in range(examples(60, 250)):
        hosts, quota, joined = random_case(rng)
        if quota.deficit:
            now, max_victims = rng.choice((0, 3)), rng.choice((2, 20))
            outcome = plan(join_quota(hosts, quota, max_victims=max_victims, now=now), max_victims=max_victims, now=now)
            assert type(outcome) is type(plan(joined, max_victims=max_victims, now=now))
            if isinstance(outcome, Preempt):
                assert outcome == plan(joined, max_victims=max_victims, now=now)
                assert sorted(outcome.victims) == every_plan(joined, max_victims, now)[0][5]
            index = BinIndex()
            for place in hosts:
                index.put(place)
            found = index.plan(hosts[0].need, quota=quota, options=PlanOptions(max_victims, now=now))
            assert type(found) is type(outcome)
            if isinstance(outcome, Preempt):
                assert found == outcome


def test_a_victim_that_frees_both_goes_before_two_that_free_one_each():
    vms = [("a1", 2, 9), ("b1", 2, 1)]
    bins = join_quota([host("a", vms[0]), host("b", free=2)], project(*vms))
    assert plan(bins).victims == ("b1",)
    bins = join_quota([host("a", vms[0]), host("b")], project(*vms))
    assert (plan(bins).bin_id, plan(bins).victims) == ("a", ("a1",))


def test_a_quota_that_suffices_changes_nothing():
    hosts = [host("a", ("a1", 2, 9))]
    assert join_quota(hosts, project(("a1", 2, 9), free=2)) == hosts
    index = BinIndex()
    index.put(hosts[0])
    assert index.plan(ROOM, quota=project(free=2)) == plan(hosts)


def test_of_many_vms_elsewhere_each_host_sees_only_those_that_could_be_taken():
    vms = [(f"v{at:03}", 1, at) for at in range(500)]
    bins = join_quota([host("a", free=2), host("b", vms[0], free=2)], project(*vms))
    assert [len(place.candidates) for place in bins] == [3, 4]
    assert plan(bins).victims == ("v000", "v001")


def test_a_quota_that_no_eviction_could_free_is_named_as_the_reason():
    index = BinIndex()
    index.put(host("a", free=2))
    assert (
        index.plan(ROOM, quota=project()).reason
        == "Too large for every place: the best, project, lacks 2 cores and has no preemptible VM to evict."
    )
