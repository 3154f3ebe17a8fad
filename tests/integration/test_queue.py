"""Who waits for room, and what makes the line another one."""

import pytest

from tests.integration.conftest import new_vm
from vmsvc.domain.lifecycle import State
from vmsvc.service.scheduling.queue import waiting_queue
from vmsvc.store import ledger, vms
from vmsvc.store.db import unit

pytestmark = pytest.mark.usefixtures("store")


def move(row, *states, **columns):
    """Through these states."""
    for state in states:
        with unit() as work:
            row = vms.move(work, row, state, **columns)
    return row


def noticed(request):
    """A VM that has to go for a request."""
    return move(move(new_vm(is_preemptible=True), State.BUILDING, State.ACTIVE), State.NOTICED, evicted_for=request.id)


def test_in_line_is_who_waits_and_not_who_builds_where_room_is_kept_for_it():
    waits, builds = new_vm(), new_vm()
    with unit() as work:
        ledger.reserve(work, builds.id, "quota", "project", {})
    move(builds, State.BUILDING)
    assert waiting_queue().ids == {waits.id}


def test_room_that_is_kept_for_a_request_that_has_ended_is_seen():
    ended = new_vm()
    with unit() as work:
        ledger.reserve(work, ended.id, "quota", "project", {})
    move(ended, State.DELETING, State.DELETED)
    assert waiting_queue().ids == {ended.id}


def test_that_an_eviction_begins_makes_no_other_line_and_that_it_ends_does():
    victim = noticed(new_vm())
    before = waiting_queue()
    victim = move(victim, State.EVICTING)
    assert waiting_queue() == before
    move(victim, State.EVICTED)
    assert waiting_queue() != before


def test_whom_a_pass_has_noticed_itself_makes_no_other_line():
    request, victim = new_vm(), move(new_vm(is_preemptible=True), State.BUILDING, State.ACTIVE)
    before = waiting_queue()
    move(victim, State.NOTICED, evicted_for=request.id)
    assert waiting_queue() != before
    assert waiting_queue() == before.with_noticed([victim.id])


def test_a_host_is_to_be_counted_when_room_is_kept_there_and_nobody_is_on_his_way_out():
    request = new_vm()
    victim = move(move(new_vm(is_preemptible=True), State.BUILDING, State.ACTIVE, host="h1"), State.NOTICED)
    with unit() as work:
        ledger.reserve(work, request.id, "host", "h1", {})
    assert not waiting_queue().hosts
    move(victim, State.EVICTING, State.EVICTED)
    assert waiting_queue().hosts == {"h1"}
    move(request, State.BUILDING)
    assert not waiting_queue().hosts


def test_a_request_that_comes_back_refused_makes_another_line():
    row = new_vm()
    before = waiting_queue()
    move(row, State.BUILDING, State.PENDING)
    assert waiting_queue().ids == before.ids and waiting_queue() != before
