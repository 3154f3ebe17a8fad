"""What the cloud is asked once more before a decision is carried out."""

import time

import pytest

from tests.unit.worlds import operator, request, reserved, tenant, vm
from vmsvc.cloud.cache.server_cache import Watch
from vmsvc.cloud.port import Quota
from vmsvc.domain.resources import Resources
from vmsvc.scheduling.decisions import Evict, Place, Refuse, Wait
from vmsvc.scheduling.world import HOST, PROJECT, QUOTA
from vmsvc.service.scheduling.snapshot import Doubts, Snapshot
from vmsvc.service.scheduling.verification import doubts_of

EVICT = Evict(HOST, "sim-1", ("a",), "the only way", True)
OF_QUOTA = Evict(QUOTA, PROJECT, ("a",), "the only way", True)


def snapshot(ordered, **facts):
    """A look, or a mere glance."""
    return Snapshot(time.monotonic(), Quota({}, Resources()), Watch(), **{
        "fresh": frozenset(), "doubted": frozenset(), "ordered": ordered, **facts})


@pytest.mark.parametrize("world, place", [(tenant(), Place(None)), (operator(vm("a")), Place("sim-1"))])
def test_a_glance_will_do_to_place_a_request(world, place):
    assert not doubts_of(request(), place, world, snapshot(False))


@pytest.mark.parametrize("world, place", [(tenant, Place(None)), (operator, Place("sim-1"))])
def test_it_does_while_room_is_kept_for_the_request_itself_and_not_while_it_is_kept_for_others(world, place):
    own, others = reserved("wanted", QUOTA, PROJECT), reserved("other", QUOTA, PROJECT)
    assert not doubts_of(request(), place, world(kept=[own]), snapshot(False))
    assert doubts_of(request(), place, world(kept=[own, others]), snapshot(False)).order
    assert not doubts_of(request(), place, world(kept=[own, others]), snapshot(True))


@pytest.mark.parametrize("decision", [OF_QUOTA, Refuse("quota_exceeded", "no"), Wait("VMs are leaving")])
def test_nobody_goes_or_is_refused_upon_a_glance(decision):
    assert doubts_of(request(), decision, tenant(vm("a")), snapshot(False)) == Doubts(order=True)
    assert not doubts_of(request(), decision, tenant(vm("a")), snapshot(True))


def test_of_a_host_that_will_be_full_it_is_enough_to_know_who_holds_what_there():
    world, full, place = operator(vm("a")), request(cpus=3), Place("sim-1")
    assert doubts_of(full, place, world, snapshot(False)).hosts == {"sim-1"}
    assert not doubts_of(full, place, world, snapshot(False, counted=frozenset({"sim-1"})))
    assert doubts_of(full, EVICT, world, snapshot(True, counted=frozenset({"sim-1"}))).hosts == {"sim-1"}


def test_the_host_is_read_and_placement_is_asked_before_anybody_is_noticed_on_it():
    doubts = doubts_of(request(), EVICT, operator(vm("a")), snapshot(True))
    assert doubts.hosts == {"sim-1"} and len(doubts.needs) == 1
    asked = snapshot(True, fresh=frozenset({"sim-1"}), sought=doubts.needs)
    assert not doubts_of(request(), EVICT, operator(vm("a")), asked)
