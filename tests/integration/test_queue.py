"""Which requests wait for capacity, and what changes the queue."""

import pytest

from tests.integration.conftest import move, new_vm
from vmsvc.domain.lifecycle import State
from vmsvc.service.scheduling.queue import waiting_queue
from vmsvc.store import ledger
from vmsvc.store.db import unit

pytestmark = pytest.mark.usefixtures("store")


def noticed(request):
    """A VM in its notice, to be evicted for this request."""
    return move(move(new_vm(is_preemptible=True), State.BUILDING, State.ACTIVE), State.NOTICED, evicted_for=request.id)


def test_a_request_that_waits_is_in_the_queue_and_one_that_builds_with_a_reservation_is_not():
    waits, builds = new_vm(), new_vm()
    with unit() as work:
        ledger.reserve(work, builds.id, "quota", "project", {})
    move(builds, State.BUILDING)
    assert waiting_queue().ids == {waits.id}


def test_a_vm_that_leaves_for_no_request_makes_no_queue():
    move(move(new_vm(is_preemptible=True), State.BUILDING, State.ACTIVE), State.NOTICED)
    assert waiting_queue().ids == frozenset()


def test_a_reservation_of_a_request_that_has_ended_is_in_the_queue():
    ended = new_vm()
    with unit() as work:
        ledger.reserve(work, ended.id, "quota", "project", {})
    move(ended, State.DELETING, State.DELETED)
    assert waiting_queue().ids == {ended.id}


def test_the_queue_changes_when_an_eviction_ends_and_not_when_it_begins():
    victim = noticed(new_vm())
    before = waiting_queue()
    victim = move(victim, State.EVICTING)
    assert waiting_queue() == before
    move(victim, State.EVICTED)
    assert waiting_queue() != before


def test_the_victims_that_a_pass_has_noticed_itself_do_not_change_the_queue():
    request, victim = new_vm(), move(new_vm(is_preemptible=True), State.BUILDING, State.ACTIVE)
    before = waiting_queue()
    move(victim, State.NOTICED, evicted_for=request.id)
    assert waiting_queue() != before
    assert waiting_queue() == before.with_noticed([victim.id])


def test_a_host_is_counted_when_capacity_is_reserved_there_and_no_victim_is_leaving():
    request = new_vm()
    victim = move(move(new_vm(is_preemptible=True), State.BUILDING, State.ACTIVE, host="h1"), State.NOTICED)
    with unit() as work:
        ledger.reserve(work, request.id, "host", "h1", {})
    assert not waiting_queue().hosts
    move(victim, State.EVICTING, State.EVICTED)
    assert waiting_queue().hosts == {"h1"}
    move(request, State.BUILDING)
    assert not waiting_queue().hosts


def test_the_queue_changes_when_the_cloud_refuses_a_request():
    row = new_vm()
    before = waiting_queue()
    move(row, State.BUILDING, State.PENDING)
    assert waiting_queue().ids == before.ids and waiting_queue() != before
