"""Which requests wait for capacity, what changes the queue, and what its deadlines do: on a real database."""

import random
import time
from datetime import timedelta

import pytest

from tests.integration.conftest import move, new_vm, read, request as columns_of_request
from vmsvc.cloud.cache.server_cache import Watch
from vmsvc.cloud.port import Quota
from vmsvc.domain.errors import TooManyRequests
from vmsvc.domain.lifecycle import State
from vmsvc.domain.lineage import Terms
from vmsvc.domain.request import Waits
from vmsvc.domain.resources import Resources
from vmsvc.domain.timing import Timing
from vmsvc.scheduling.candidates import Policy
from vmsvc.scheduling.queue_order import positions
from vmsvc.scheduling.restarts import RestartGuard, SteadyCapacity
from vmsvc.scheduling.verification import Verified
from vmsvc.service.scheduling import deadlines, requests
from vmsvc.service.scheduling.pending_work import pending_work
from vmsvc.service.scheduling.request_queue import entry_of
from vmsvc.service.scheduling.requests import turns_of
from vmsvc.service.scheduling.scheduler import _more_wait
from vmsvc.service.scheduling.snapshot import Snapshot
from vmsvc.service.scheduling.world_cache import WorldCache
from vmsvc.store import ledger, usage, vms, waiting
from vmsvc.store.db import reading, unit
from vmsvc.store.models import Vm

pytestmark = pytest.mark.usefixtures("store")


def noticed(request):
    """A VM in its notice, to be evicted for this request."""
    return move(move(new_vm(is_preemptible=True), State.BUILDING, State.ACTIVE), State.NOTICED, evicted_for=request.id)


def test_a_request_that_waits_is_in_the_queue_and_one_that_builds_with_a_reservation_is_not():
    waits, builds = new_vm(), new_vm()
    with unit() as work:
        ledger.reserve(work, builds.id, "quota", "project", {})
    move(builds, State.BUILDING)
    assert pending_work().ids == {waits.id}


def test_a_vm_that_leaves_for_no_request_makes_no_queue():
    move(move(new_vm(is_preemptible=True), State.BUILDING, State.ACTIVE), State.NOTICED)
    assert pending_work().ids == frozenset()


def test_a_reservation_of_a_request_that_has_ended_is_in_the_queue():
    ended = new_vm()
    with unit() as work:
        ledger.reserve(work, ended.id, "quota", "project", {})
    move(ended, State.DELETING, State.DELETED)
    assert pending_work().ids == {ended.id}


def test_the_queue_changes_when_an_eviction_ends_and_not_when_it_begins():
    victim = noticed(new_vm())
    before = pending_work()
    victim = move(victim, State.EVICTING)
    assert pending_work() == before
    move(victim, State.EVICTED)
    assert pending_work() != before


def test_the_victims_that_a_pass_has_noticed_itself_do_not_change_the_queue():
    request, victim = new_vm(), move(new_vm(is_preemptible=True), State.BUILDING, State.ACTIVE)
    before = pending_work()
    move(victim, State.NOTICED, evicted_for=request.id)
    assert pending_work() != before
    assert pending_work() == before.with_noticed([victim.id])


def test_a_host_is_counted_when_capacity_is_reserved_there_and_no_victim_is_leaving():
    request = new_vm()
    victim = move(move(new_vm(is_preemptible=True), State.BUILDING, State.ACTIVE, host="h1"), State.NOTICED)
    with unit() as work:
        ledger.reserve(work, request.id, "host", "h1", {})
    assert not pending_work().hosts
    move(victim, State.EVICTING, State.EVICTED)
    assert pending_work().hosts == {"h1"}
    move(request, State.BUILDING)
    assert not pending_work().hosts


def test_the_queue_changes_when_the_cloud_refuses_a_request():
    row = new_vm()
    before = pending_work()
    move(row, State.BUILDING, State.PENDING)
    assert pending_work().ids == before.ids and pending_work() != before


# ---------------------------------------------------------------- the queue and its deadlines


def asked(wait=0, fallback=None, patience=0, *, owner="ann", name="q", **columns):
    """A request that was just accepted, with what it says of waiting."""
    with unit() as work:
        count = Vm.select().count()
        vm_id = vms.accept(
            work,
            f"{name}-{count}",
            columns_of_request(**columns),
            principal=owner,
            key=None,
            waits=Waits(wait, fallback, patience),
            max_waiting=4,
        )
    return read(vm_id)


def change(row, **columns):
    """The row with these columns."""
    with unit():
        vms.change(row, **columns)
    return read(row.id)


def put(row, why="the cloud is full"):
    """The row in the queue."""
    with unit() as work:
        vms.take_step(work, row, ("create", "queued"), queued_why=why, queued_at=work.now)
    return read(row.id)


def past(row, **seconds):
    """The row, of which these moments are so many seconds ago."""
    with reading():
        now = vms.clock()
    return change(row, **{name: now - timedelta(seconds=ago) for name, ago in seconds.items()})


def clock_now():
    """The database's clock."""
    with reading():
        return vms.clock()


def last_event(store, row):
    """The newest event of a VM: its state and its data."""
    (event,) = store.rows("SELECT state, data FROM event WHERE vm_id = %s ORDER BY seq DESC LIMIT 1", row.id)
    return event["state"], event["data"]


def test_a_body_of_today_waits_for_nothing():
    row = asked()
    assert (row.wait_until, row.fallback_at, row.patience_until, row.attempt) == (None, None, None, 0)
    with reading():
        assert waiting.seconds_to_next_deadline() is None


def test_a_request_waits_for_as_long_as_it_says_and_for_as_long_as_its_patience():
    row = asked(60, 20, is_preemptible=True)
    assert (row.wait_until - row.created_at, row.fallback_at - row.created_at) == (
        timedelta(seconds=60),
        timedelta(seconds=20),
    )
    row = asked(0, None, 30)
    assert row.wait_until == row.patience_until == row.created_at + timedelta(seconds=30)
    with reading():
        assert 19 < waiting.seconds_to_next_deadline() < 20


def test_the_queue_is_told_by_one_of_its_requests_and_is_no_reason_for_a_pass():
    row = asked(60)
    assert pending_work().ids == {row.id} and not pending_work().queued
    put(row)
    before = pending_work()
    assert not before.ids and not before.moving and before.queued and before
    put(asked(60))
    assert pending_work() == before


def test_a_restart_that_is_put_off_is_not_in_the_queue_before_its_time():
    row = past(asked(60), not_before=-20)
    assert not pending_work()
    with reading():
        assert 19 < waiting.seconds_to_next_deadline() < 20
    past(row, not_before=1)
    assert pending_work().ids == {row.id}


def test_a_wait_ends_by_the_clock_of_the_database_and_says_what_lacked(store):
    row, reserved = put(asked(60)), asked(60)
    with unit() as work:
        ledger.reserve(work, reserved.id, "quota", "project", {})
    past(row, wait_until=1)
    past(reserved, wait_until=1)
    with reading():
        assert waiting.seconds_to_next_deadline() <= 0
    deadlines._meet_deadlines()  # pylint: disable=protected-access
    row = read(row.id)
    assert (row.state, row.queued_why) == (State.FAILED, None) and row.outcome["error"] == "no_capacity"
    assert "the cloud is full" in row.outcome["message"]
    state, data = last_event(store, row)
    assert (state, data["reason"], data["error"]) == ("failed", "deadline", "no_capacity")
    assert read(reserved.id).state == State.PENDING, "capacity is being freed for it"
    with reading():
        assert waiting.seconds_to_next_deadline() is None


def test_a_preemptible_request_falls_back_in_time_to_be_planned_for(store):
    row = past(put(asked(60, 20, is_preemptible=True)), fallback_at=1, wait_until=0)
    deadlines._meet_deadlines()  # pylint: disable=protected-access
    row = read(row.id)
    assert (row.state, row.is_preemptible, row.queued_why, row.fallback_at) == (State.PENDING, False, None, None)
    assert row.fell_back_at and row.updated_at == row.fell_back_at > row.wait_until
    state, data = last_event(store, row)
    assert state == "fell_back" and not data["vm"]["is_preemptible"]
    assert pending_work().ids == {row.id}


def met(row):
    """The row after its deadlines were met."""
    deadlines._meet_deadlines()  # pylint: disable=protected-access
    return read(row.id)


@pytest.mark.parametrize("kind", ["fallback", "patience"])
@pytest.mark.parametrize("end", ["queued", "late"])
def test_a_request_that_was_given_back_when_its_wait_ended_gets_its_decision_first(store, kind, end):
    """However slow the cloud is; but not for ever, and not once the scheduler has found no capacity for it."""
    if kind == "fallback":
        row = met(past(put(asked(60, 60, is_preemptible=True)), created_at=60, fallback_at=0, wait_until=0))
    else:
        row = met(past(put(asked(0, None, 60)), created_at=60, patience_until=0, wait_until=0))
    for seconds in (0, 5, 20):
        row = met(past(row, updated_at=seconds))
        assert (row.state, row.queued_why, row.is_preemptible) == (State.PENDING, None, False)
        with reading():
            assert waiting.seconds_to_next_deadline() is None
        assert not requests.request_of(row, clock_now(), None).may_wait
    row = met(put(row) if end == "queued" else past(row, updated_at=31))
    assert row.state == State.FAILED and last_event(store, row)[1]["reason"] == "deadline"


def test_at_its_deadline_a_request_says_what_the_cloud_has_refused_it_for_last(store):
    row = past(move(asked(60), State.BUILDING, State.PENDING), created_at=60, wait_until=0)
    said = {"error": "cloud_error", "message": "the build failed: no route", "at": row.updated_at.isoformat()}
    row = met(change(row, refusal=said))
    assert (row.state, row.outcome["error"]) == (State.FAILED, "cloud_error")
    assert row.outcome["message"].endswith("within 60 s; the cloud said last: the build failed: no route")
    state, data = last_event(store, row)
    assert (state, data["reason"], data["message"]) == ("failed", "deadline", row.outcome["message"])


# ---------------------------------------------------------------- successors


def successor(owner="ann", within=60, *, placed=None, ended=None, **columns):
    """The first successor of a lineage, which was placed or ended so many seconds ago."""
    with unit() as work:
        name = f"lineage-{Vm.select().count()}"
        vms.accept(
            work,
            name,
            columns_of_request(is_preemptible=True),
            principal=owner,
            key=None,
            terms=Terms(restart_within_seconds=within),
        )
    move(read(name), State.BUILDING, State.ACTIVE, State.NOTICED, State.EVICTING, State.EVICTED)
    with unit() as work:
        wanted = {"principal": owner, "principal_id": owner, "lineage_id": name, "restart_of": name, "attempt": 1}
        wait = {"wait_until": work.now + timedelta(seconds=within)}
        row = vms.write_request(
            work, f"{name}+1", {**columns_of_request(is_preemptible=True), **wanted, **wait, **columns}
        )
    if placed is not None:
        row = past(move(row, State.BUILDING), placed_at=placed)
    if ended is not None:
        row = past(move(row, State.FAILED), ended_at=ended)
    return row


def test_two_replicas_start_ten_of_an_owner_within_a_minute_together_whatever_became_of_them():
    """Each replica reads from the database whom another one has started."""
    for number in range(12):
        successor(placed=5 * number + 1, ended=number if number % 2 else None)
    successor(placed=61)
    successor("bob", placed=1)
    waits = put(successor())
    for steady in (SteadyCapacity(), SteadyCapacity()):
        with reading():
            guard = requests.guard_of([requests.Turn(waits, (True, 0, 0.0, 0.0, ""), None)], steady, Timing())
        assert guard.lately == {"ann": 12, "bob": 1}


def test_a_successor_that_the_storm_guard_has_kept_back_waits_on_for_its_turn():
    for number in range(10):
        successor(placed=30 + number)
    row = met(past(put(successor()), created_at=60, wait_until=0))
    assert row.state == State.PENDING
    # The one that was started first is a minute old then; and there is time for capacity that stays free.
    assert row.wait_until == min(one.placed_at for one in placed_ones()) + timedelta(seconds=60 + 15)
    other = met(past(put(successor("bob")), created_at=60, wait_until=0))
    assert other.state == State.FAILED, "nobody of its owner was started"
    for one in placed_ones():
        change(one, placed_at=one.placed_at - timedelta(seconds=60))
    row = met(past(row, wait_until=0))
    assert (row.state, row.outcome["error"]) == (State.FAILED, "no_capacity")


def test_the_storm_guard_prolongs_a_wait_by_an_hour_at_most():
    for _ in range(10):
        successor(placed=30)
    row = past(put(successor(within=600)), created_at=600 + 3500, wait_until=0)
    assert met(row).state == State.PENDING
    assert met(past(row, created_at=600 + 3600, wait_until=0)).state == State.FAILED


def placed_ones():
    """The VMs whose servers were ordered."""
    with reading():
        return list(Vm.select().where(Vm.placed_at.is_null(False)))


def test_a_standard_successor_in_its_pause_does_not_keep_others_from_being_planned_together():
    snapshot, cache = Snapshot(0.0, Quota({}, Resources()), Watch(), Verified()), WorldCache(Policy(), Timing())
    paused = past(successor(is_preemptible=False), updated_at=3600, not_before=-3600)
    moment = asked().updated_at + timedelta(milliseconds=10)
    ids = pending_work().ids
    assert paused.id not in ids
    for over in (False, True):
        if over:
            past(paused, not_before=3600)
        with unit() as work, cache.at(snapshot, work.now, True) as view:
            turns = requests.turns_of(view, ids, float("inf"), moment)
            known = requests.knowledge_of(turns, view, snapshot, moment, Timing(), 100, RestartGuard())
            assert (known.settling == 0, _more_wait(view, ids, moment)) == (over, over)


def test_a_request_whose_wait_ended_long_ago_does_not_fall_back_any_more():
    row = past(put(asked(60, 20, is_preemptible=True)), fallback_at=90, wait_until=60)
    deadlines._meet_deadlines()  # pylint: disable=protected-access
    assert read(row.id).state == State.FAILED


def test_when_its_patience_is_over_the_scheduler_decides_about_a_request_anew():
    row = past(put(asked(60, None, 20)), patience_until=1)
    deadlines._meet_deadlines()  # pylint: disable=protected-access
    row = read(row.id)
    assert (row.patience_until, row.queued_why) == (None, None) and pending_work().ids == {row.id}


def test_a_request_that_leaves_the_queue_is_in_it_no_more():
    building, deleted = move(put(asked(60)), State.BUILDING), move(put(asked(60)), State.DELETING)
    assert building.queued_why is None and deleted.queued_why is None
    assert not pending_work().queued


def test_no_more_requests_of_an_owner_are_accepted_than_may_wait():
    for _ in range(4):
        put(asked(60))
    with pytest.raises(TooManyRequests, match="4 requests"):
        asked(60)
    assert asked(60, owner="bob") and asked()
    with reading():
        assert waiting.totals()[:2] == (4, 4)


def test_shares_are_what_each_owner_held_within_a_day():
    for owner, cores, began, ended in (
        ("ann", 2, 3600, None),
        ("ann", 1, 7200, 3600),
        ("bob", 1, 3 * 86_400, None),
        ("bob", 4, 3 * 86_400, 2 * 86_400),
    ):
        row = asked(owner=owner, quota={"instances": 1, "cores": cores, "ram": 1})
        row = move(row, State.BUILDING, State.ACTIVE)
        row = move(row, State.DELETING, State.DELETED) if ended else row
        past(row, launched_at=began, **({"ended_at": ended} if ended else {}))
    with reading():
        shares = usage.shares(vms.clock())
    assert shares == {"ann": pytest.approx(2 * 3600 + 3600, abs=5), "bob": pytest.approx(86_400, abs=5)}


def test_a_position_is_that_of_the_queues_order():
    chance = random.Random(7)
    for number in range(60):
        owner, name = chance.choice(["ann", "bob", "cid", "dot"]), chance.choice(["a", "B", "_", "ä"])
        with unit() as work:
            wanted = columns_of_request(is_preemptible=chance.random() < 0.7, priority=chance.randrange(3))
            vms.accept(work, f"{name}{number}", wanted, principal=owner, key=None, waits=Waits(60))
        row = put(read(f"{name}{number}"))
        if chance.random() < 0.5:
            past(row, created_at=3600)
    move(new_vm(), State.BUILDING)
    with reading():
        rows = list(Vm.select().where(waiting.is_queued()))
        for shares in ({}, {"ann": 5.0, "bob": 0.25}, {"ann": 1.0, "bob": 1.0, "cid": 3.0, "elf": 2.0}):
            assert {row.id: waiting.position(row, shares) for row in rows} == positions(map(entry_of, rows), shares)


def test_a_pass_reads_the_first_of_the_queue_in_its_order_and_what_changed():
    snapshot = Snapshot(0.0, Quota({}, Resources()), Watch(), Verified())
    cache, rows = WorldCache(Policy(), Timing()), [put(asked(60, is_preemptible=True, owner="ann")) for _ in range(3)]
    busy = move(asked(owner="ann"), State.BUILDING, State.ACTIVE)
    past(busy, launched_at=100)
    other = put(asked(60, is_preemptible=True, owner="bob"))

    def turns():
        with unit() as work, cache.at(snapshot, work.now, True) as view:
            return [turn.row.id for turn in turns_of(view, pending_ids, float("inf"), work.now)]

    pending_ids = frozenset()
    assert turns() == [other.id, rows[0].id]
    standard = asked(60)
    pending_ids = {standard.id}
    move(rows[0], State.DELETING)
    assert turns() == [standard.id, other.id, rows[1].id]
    with unit() as work, cache.at(snapshot, work.now, True) as view:
        assert not turns_of(view, frozenset(), 0.0, work.now), "they came after the cloud was read"


def test_nobody_gets_a_turn_before_one_that_came_back_from_a_refusal_while_the_pass_read_the_cloud():
    snapshot = Snapshot(0.0, Quota({}, Resources()), Watch(), Verified())
    cache = WorldCache(Policy(), Timing())
    first, second, third = (put(asked(60, is_preemptible=True)) for _ in range(3))

    def turns(*ids, began=float("inf")):
        with unit() as work, cache.at(snapshot, work.now, False) as view:
            return [turn.row.id for turn in turns_of(view, ids, began, work.now)]

    assert turns() == [first.id, second.id]
    second = move(second, State.BUILDING)
    assert turns() == [first.id, third.id]
    began = time.monotonic()
    said = {"error": "no_capacity", "message": "No valid host was found.", "at": "2026-11-30T12:00:00.000Z"}
    second = change(move(second, State.PENDING), refusal=said)
    assert turns(began=began) == [first.id], "third is behind the one about which this pass cannot decide"
    assert turns(second.id) == [first.id, second.id, third.id]
    second = put(second)
    assert turns(began=began) == [first.id], "it is in the queue, but the cloud was read before"
    assert turns() == [first.id, second.id]
    new = asked(60, is_preemptible=True, priority=9)
    assert turns() == [first.id, second.id], "one that nobody has decided about yet holds up nobody"
    assert turns(new.id) == [new.id, first.id, second.id]
