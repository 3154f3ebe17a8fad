"""Rows that are kept between readings show what a whole reading would, whoever writes meanwhile."""

import threading
from datetime import timedelta

import pytest

from tests.integration.conftest import new_vm
from vmsvc.domain.lifecycle import State
from vmsvc.store import vms
from vmsvc.store.db import reading, unit
from vmsvc.store.vm_cache import VmCache, VmRow


@pytest.fixture(name="rows")
def fixture_rows(store):
    """Nothing read yet."""
    assert store
    return VmCache(VmRow)


def seen(rows):
    """What they show now: state by id; a whole reading must show the same."""
    with reading():
        rows.update(vms.clock())
        shown = {row.id: row.state for row in rows.values()}
        assert shown == {row.id: row.state for row in vms.current()}
        assert shown == {row.id: state for state in State for row in rows.in_states(state)}
    return shown


def changes(rows):
    """The ids of those that are another since the last time."""
    with reading():
        return rows.update(vms.clock())


def test_what_is_new_and_what_changed_is_seen(rows):
    one, two = new_vm(), new_vm()
    assert seen(rows) == {one.id: "pending", two.id: "pending"}
    with unit() as work:
        vms.move(work, one, State.BUILDING)
    three = new_vm()
    assert seen(rows) == {one.id: "building", two.id: "pending", three.id: "pending"}


def test_a_row_that_did_not_change_is_the_same_object(rows):
    one, two = new_vm(), new_vm()
    assert changes(rows) == {one.id, two.id}
    before = dict(rows)
    with unit():
        vms.change(one, priority=5)
    assert changes(rows) == {one.id}
    assert rows[two.id] is before[two.id] and rows[one.id] is not before[one.id]
    assert (before[one.id].priority, rows[one.id].priority) == (0, 5)
    assert not changes(rows)


def test_what_ended_is_shown_for_a_while(rows, store):
    one = new_vm()
    assert seen(rows)
    with unit() as work:
        vms.move(work, one, State.FAILED)
    assert seen(rows) == {one.id: "failed"}
    store.rows("UPDATE vm SET ended_at = ended_at - interval '1 hour'")
    assert changes(rows) == {one.id}
    assert seen(rows) == {}
    assert seen(VmCache(VmRow)) == {}


def test_what_may_yet_be_rolled_back_is_not_read(rows):
    one = new_vm()
    assert seen(rows)
    with pytest.raises(RuntimeError), unit() as work:
        vms.move(work, one, State.BUILDING)
        rows.update(work.now)
    assert seen(rows) == {one.id: "pending"}


def test_of_a_database_that_is_another_all_is_read_anew(rows, store):
    """As after a failover to one that lacks the last transactions: its numbers tell nothing."""
    one, two = new_vm(), new_vm()
    assert seen(rows)
    rows._mark = rows._mark[0] + 10**6, rows._mark[1] - timedelta(days=1)  # pylint: disable=protected-access
    store.rows("DELETE FROM vm WHERE id = %s", two.id)
    assert changes(rows) == {two.id}
    assert seen(rows) == {one.id: "pending"}


def test_a_transaction_that_began_early_and_ended_late_is_not_missed(rows, threads):
    one, two = new_vm(), new_vm()
    wrote, finish = threading.Event(), threading.Event()

    def slowly():
        with unit() as work:
            vms.move(work, one, State.BUILDING)
            wrote.set()
            assert finish.wait(10)

    slow = threads.submit(slowly)
    assert wrote.wait(10)
    with unit() as work:
        vms.move(work, two, State.BUILDING)
    assert seen(rows) == {one.id: "pending", two.id: "building"}
    finish.set()
    slow.result(10)
    assert seen(rows) == {one.id: "building", two.id: "building"}


def test_a_reader_that_reads_earlier_events_does_not_hide_what_others_saw(rows, threads):
    """Its transaction sees the world as it was when it began."""
    one = new_vm()
    began, go = threading.Event(), threading.Event()

    def late():
        with reading():
            now = vms.clock()
            began.set()
            assert go.wait(10)
            rows.update(now)
            return {row.state for row in rows.values()}

    looking = threads.submit(late)
    assert began.wait(10)
    with unit() as work:
        vms.move(work, one, State.BUILDING)
    assert seen(rows) == {one.id: "building"}
    go.set()
    looking.result(10)
    assert seen(rows) == {one.id: "building"}


def test_a_reading_costs_what_changed(rows, store):
    for _ in range(20):
        new_vm()
    assert len(seen(rows)) == 20
    newest = store.rows("SELECT max(changed) AS newest FROM vm")[0]["newest"]
    assert seen(rows)
    mark = rows._mark[0]  # pylint: disable=protected-access
    assert mark > newest and not store.rows("SELECT 1 FROM vm WHERE changed >= %s", mark)
