"""`unit()`: what changes and what tells of it are one, and the order of events is the order of commits."""

import select
import threading
from contextlib import closing, suppress

import psycopg2
import pytest
from peewee import DatabaseError, ProgrammingError
from playhouse.pool import PooledPostgresqlDatabase

from tests.conftest import Database
from tests.integration.conftest import new_vm, read, request
from vmsvc.domain.errors import HistoryGone
from vmsvc.domain.lifecycle import InvalidTransition, State
from vmsvc.store import intents, outbox, vms
from vmsvc.store.db import CHANNEL, DATABASE_ERRORS, Lock, listen, reading, unit
from vmsvc.store.models import database


def history(since=0, limit=10_000, **query):
    """The events after a seq."""
    with reading():
        return outbox.page(since, limit, **query)[0]


@pytest.mark.parametrize(("end", "step"), [(unit, "execute_sql"), (reading, "execute_sql"), (reading, "commit")])
def test_a_server_that_ends_within_a_statement_counts_as_one_that_does_not_answer(store, monkeypatch, end, step):
    del store

    def broken(*_):
        raise DatabaseError(psycopg2.DatabaseError("server closed the connection unexpectedly"))

    monkeypatch.setattr(PooledPostgresqlDatabase, step, broken)
    with pytest.raises(DATABASE_ERRORS), end():
        assert step == "commit"


def test_a_statement_that_postgresql_refuses_stays_a_defect(store):
    del store
    with pytest.raises(ProgrammingError), reading():
        database.execute_sql("SELECT nothing FROM nowhere")


def test_a_change_that_fails_leaves_no_event_behind(store):
    vm = new_vm()
    with pytest.raises(RuntimeError):
        with unit() as work:
            assert vms.move(work, vm, State.BUILDING)
            raise RuntimeError("the power went out")
    assert read(vm.id).state == State.PENDING
    assert [event["data"]["state"] for event in history()] == ["pending"]
    assert store.rows("SELECT count(*) FROM event") == [{"count": 1}]


def test_what_is_rolled_back_after_its_events_leaves_no_gap_in_seq(store):
    vm = new_vm()
    with pytest.raises(RuntimeError):
        with unit() as work:
            vms.move(work, vm, State.BUILDING)
            work.commit()
            raise RuntimeError("killed right before the commit")
    new_vm()
    store.rows("DELETE FROM event")
    store.rows("UPDATE watermark SET removed_seq = 2")
    new_vm()
    assert store.rows("SELECT seq FROM event") == [{"seq": 3}], "numbers go on after those that are forgotten"


def test_an_event_carries_the_vm_as_it_is_after_the_change(store):
    vm = new_vm(name="web")
    with unit() as work:
        vms.move(work, vm, State.BUILDING, host="sim-1", reason="room was found", data={"extra": 1})
    event = history(1)[0]
    assert (event["type"], event["subject"], event["id"]) == ("create", vm.id, "2")
    assert (event["data"]["reason"], event["data"]["extra"]) == ("room was found", 1)
    shown = event["data"]["vm"]
    assert (shown["state"], shown["host"], shown["name"]) == ("building", "sim-1", "web")
    assert store.rows("SELECT type FROM event WHERE seq = 2") == [{"type": "create"}]


def test_only_one_of_many_who_move_a_vm_at_once_does(store, threads):
    vm = new_vm()
    start = threading.Barrier(20)

    def move(_):
        start.wait(10)
        with unit() as work:
            return vms.move(work, vm, State.BUILDING) is not None

    assert sum(threads.map(move, range(20))) == 1
    assert [event["data"]["state"] for event in history()] == ["pending", "building"]
    assert store.rows("SELECT state FROM vm") == [{"state": "building"}]


def test_a_move_that_the_table_of_life_does_not_have_is_a_defect(store):
    vm = new_vm()
    with pytest.raises(InvalidTransition, match="pending to active"):
        with unit() as work:
            vms.move(work, vm, State.ACTIVE)
    assert store.rows("SELECT state FROM vm") == [{"state": "pending"}]


def test_the_order_of_seq_is_the_order_of_commits_and_a_reader_misses_nothing(store, threads):
    """Many writers, and a reader that remembers the highest seq it saw: it must see each event, once and in order."""
    writers, each = 10, 15
    done = threading.Event()
    seen = []

    def read_on():
        cursor = 0
        while True:
            last = done.is_set()
            for event in history(cursor, 7):
                cursor = event["data"]["seq"]
                seen.append(cursor)
            if last and not history(cursor):
                return

    def write(_):
        for number in range(each):
            with unit() as work:
                vms.accept(work, f"{threading.get_ident()}-{number}", request(), principal="anonymous", key=None)
                if number % 3 == 0:  # a transaction that takes longer than those which begin after it
                    store.rows("SELECT pg_sleep(0.005)")

    reader = threads.submit(read_on)
    list(threads.map(write, range(writers)))
    done.set()
    reader.result(30)
    assert seen == list(range(1, writers * each + 1))
    times = [row["time"] for row in store.rows("SELECT time FROM event ORDER BY seq")]
    assert times == sorted(times)


def test_a_reader_from_any_since_gets_the_rest(store):
    vm_ids = [new_vm().id for _ in range(5)]
    for since in range(6):
        assert [event["data"]["seq"] for event in history(since)] == list(range(since + 1, 6))
    assert [event["subject"] for event in history(0, 2)] == vm_ids[:2]
    assert [event["data"]["seq"] for event in history(vm=vm_ids[2])] == [3]
    assert not history(types={"evict"}) and len(history(types={"create", "evict"})) == 5
    assert store.rows("SELECT max(seq) FROM event") == [{"max": 5}]


def test_a_reader_of_removed_events_gets_the_seq_where_history_begins(store):
    for _ in range(4):
        new_vm()
    store.rows("UPDATE event SET time = time - interval '3 hours' WHERE seq <= 2")
    assert outbox.remove_old_events(2) == 2
    for since in (0, 1):
        with pytest.raises(HistoryGone) as told:
            history(since)
        assert told.value.oldest == 3
    assert [event["data"]["seq"] for event in history(2)] == [3, 4]
    store.rows("UPDATE event SET time = time - interval '3 hours'")
    assert outbox.remove_old_events(2) == 2
    with reading():
        assert outbox.newest() == 4, "the number of the newest event is known though none is kept"
    assert not history(4)
    assert outbox.remove_old_events(2) == 0


def test_a_later_event_that_is_older_by_its_clock_is_kept_with_those_before_it(store):
    """A clock that was set back must not make a hole: history is forgotten from its beginning only."""
    for _ in range(3):
        new_vm()
    store.rows("UPDATE event SET time = time - interval '3 hours' WHERE seq IN (1, 3)")
    outbox.remove_old_events(2)
    kept = [row["seq"] for row in store.rows("SELECT seq FROM event ORDER BY seq")]
    assert kept in ([2, 3], [])


def test_the_doorbell_rings_after_the_commit_and_not_without_one(store):
    with closing(listen(store.url)) as connection:
        vm = new_vm()
        select.select([connection], [], [], 10)
        connection.poll()
        assert [notice.channel for notice in connection.notifies] == [CHANNEL]
        connection.notifies.clear()
        with pytest.raises(RuntimeError):
            with unit() as work:
                vms.move(work, vm, State.BUILDING)
                raise RuntimeError
        with unit():
            pass
        connection.poll()
        assert not connection.notifies


def test_a_lock_is_held_to_the_end_of_its_unit(store):
    probe = "SELECT pg_try_advisory_lock(%s, %s) AS free"
    others = Database(store.url)  # what a query locks ends with its connection
    with unit() as work:
        work.lock(Lock.SCHEDULER)
        assert others.rows(probe, 0x766D7376, Lock.SCHEDULER) == [{"free": False}]
        assert others.rows(probe, 0x766D7376, Lock.OUTBOX) == [{"free": True}]
    assert others.rows(probe, 0x766D7376, Lock.SCHEDULER) == [{"free": True}]
    with unit(Lock.SCHEDULER):
        assert others.rows(probe, 0x766D7376, Lock.SCHEDULER) == [{"free": False}]


def test_reading_sees_one_moment(store):
    vm = new_vm()
    with reading():
        before = outbox.newest()
        store.rows("UPDATE vm SET name = 'changed'")
        store.rows(
            "INSERT INTO event (type, state, vm_id, subject, is_preemptible, time, data) "
            "VALUES ('create', 'pending', 'x', 'x', false, now(), '{}')"
        )
        assert outbox.newest() == before and vms.get(vm.id).name == "standart"
    assert read(vm.id).name == "changed"


def test_connections_that_the_server_ended_fail_at_most_once_and_are_replaced(store):
    vm = new_vm()
    store.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
        "AND datname = current_database()"
    )
    with suppress(DATABASE_ERRORS):
        read(vm.id)
    assert read(vm.id).state == State.PENDING
    new_vm()
    assert store.rows("SELECT count(*) FROM vm") == [{"count": 2}]


def test_a_connection_that_the_server_ended_while_nobody_used_it_costs_nobody_an_answer(store):
    vm = new_vm()
    ours = "FROM pg_stat_activity WHERE application_name = 'vmsvc' AND datname = current_database()"
    store.rows(f"SELECT pg_terminate_backend(pid, 10000) {ours}")
    assert store.rows(f"SELECT count(*) {ours}") == [{"count": 0}]
    assert read(vm.id).state == State.PENDING


def test_what_is_enqueued_and_dropped_is_committed_with_the_rest_in_its_order_or_not_at_all(store):
    vm = new_vm()
    for fails in (True, False):
        with suppress(RuntimeError), unit() as work:
            intents.enqueue(work, intents.EVICT, vm.id)
            intents.drop(work, intents.EVICT, vm.id)
            intents.enqueue(work, intents.EVICT, vm.id)
            vms.record_outcome(vm, {"ok": True})
            if fails:
                raise RuntimeError
        wished = store.rows("SELECT done_at IS NULL AS open FROM intent ORDER BY id")
        assert wished == ([] if fails else [{"open": False}, {"open": True}])
    assert read(vm.id).outcome == {"ok": True}


def test_the_log_tells_what_was_committed_and_nothing_else(store, caplog):
    caplog.set_level("INFO", "vmsvc")
    vm = new_vm()
    with pytest.raises(RuntimeError), unit() as work:
        vms.move(work, vm, State.BUILDING)
        raise RuntimeError
    with unit() as work:
        vms.move(work, vm, State.FAILED, reason="no room")
    assert [record.getMessage() for record in caplog.records] == [
        f"vm {vm.id}: accepted, standard m1.tiny",
        f"vm {vm.id}: pending -> failed (no room)",
    ]
    assert store.rows("SELECT state FROM vm") == [{"state": "failed"}]
