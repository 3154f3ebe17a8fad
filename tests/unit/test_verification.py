"""What the cloud is asked once more before a decision is applied."""

import pytest

from tests.unit.worlds import operator, request, reserved, tenant, vm
from vmsvc.scheduling.decisions import Evict, Place, Refuse, Wait
from vmsvc.scheduling.verification import Verification, Verified, unverified_facts
from vmsvc.scheduling.world import HOST, PROJECT, QUOTA

EVICT = Evict(HOST, "sim-1", ("a",), "the only way", True)
OF_QUOTA = Evict(QUOTA, PROJECT, ("a",), "the only way", True)


def snapshot(ordered, **facts):
    """What was asked by a full snapshot, or by a quick one."""
    return Verified(ordered=ordered, **facts)


@pytest.mark.parametrize("world, place", [(tenant(), Place(None)), (operator(vm("a")), Place("sim-1"))])
def test_a_quick_snapshot_will_do_to_place_a_request(world, place):
    assert not unverified_facts(request(), place, world, snapshot(False))


@pytest.mark.parametrize("world, place", [(tenant, Place(None)), (operator, Place("sim-1"))])
def test_a_refusal_counts_while_capacity_is_reserved_for_the_request_itself_and_not_while_it_is_reserved_for_others(
    world, place
):
    own, others = reserved("wanted", QUOTA, PROJECT), reserved("other", QUOTA, PROJECT)
    assert not unverified_facts(request(), place, world(kept=[own]), snapshot(False))
    assert unverified_facts(request(), place, world(kept=[own, others]), snapshot(False)).order
    assert not unverified_facts(request(), place, world(kept=[own, others]), snapshot(True))


@pytest.mark.parametrize("decision", [OF_QUOTA, Refuse("quota_exceeded", "no"), Wait("VMs are leaving")])
def test_no_vm_is_evicted_and_no_request_is_refused_upon_a_quick_snapshot(decision):
    assert unverified_facts(request(), decision, tenant(vm("a")), snapshot(False)) == Verification(order=True)
    assert not unverified_facts(request(), decision, tenant(vm("a")), snapshot(True))


def test_for_a_host_that_will_be_full_its_allocations_are_enough():
    world, full, place = operator(vm("a")), request(cpus=3), Place("sim-1")
    assert unverified_facts(full, place, world, snapshot(False)).hosts == {"sim-1"}
    assert not unverified_facts(full, place, world, snapshot(False, counted=frozenset({"sim-1"})))
    assert unverified_facts(full, EVICT, world, snapshot(True, counted=frozenset({"sim-1"}))).hosts == {"sim-1"}


def test_the_host_is_read_and_placement_is_asked_before_anybody_is_noticed_on_it():
    what = unverified_facts(request(), EVICT, operator(vm("a")), snapshot(True))
    assert what.hosts == {"sim-1"} and len(what.needs) == 1
    asked = snapshot(True, fresh=frozenset({"sim-1"}), sought=what.needs)
    assert not unverified_facts(request(), EVICT, operator(vm("a")), asked)
