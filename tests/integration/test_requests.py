"""Accepting requests: keys, either id, and what a restart finds."""

import threading

import pytest

from tests.integration.conftest import new_vm, read, request
from vmsvc.domain.errors import IdempotencyMismatch
from vmsvc.domain.lifecycle import State
from vmsvc.service import commands
from vmsvc.store import db, ledger, vms
from vmsvc.store.db import reading, unit


def accept(vm_id, key, principal="anonymous", principal_id=None, **asked):
    """Accept a request under a key."""
    with unit() as work:
        return vms.accept(
            work,
            vm_id,
            request(boot={"asked": {"is_preemptible": True, **asked}}),
            principal=principal,
            principal_id=principal_id,
            key=key,
        )


def test_a_key_stands_for_one_request_of_one_client(store):
    assert accept("a", "key") == "a"
    assert accept("b", "key") == "a"
    assert accept("c", "key", principal="somebody else") == "c"
    assert accept("d", "another key") == "d"
    with pytest.raises(IdempotencyMismatch):
        accept("e", "key", name="other")
    assert sorted(row["id"] for row in store.rows("SELECT id FROM vm")) == ["a", "c", "d"]
    assert store.rows("SELECT count(*) FROM event") == [{"count": 3}]


def test_an_idempotency_key_belongs_to_the_principal_s_id_and_not_to_its_name(store):
    assert accept("a", "key", "team_one@Default", "keystone:1") == "a"
    assert accept("b", "key", "team_one@Default", "keystone:2") == "b"
    assert accept("c", "key", "renamed@Default", "keystone:1") == "a"
    assert accept("d", "key", "keystone:1") == "a", "where there is no id the name is one"
    assert {row["id"]: (row["principal"], row["principal_id"]) for row in store.rows("SELECT * FROM vm")} == {
        "a": ("team_one@Default", "keystone:1"),
        "b": ("team_one@Default", "keystone:2"),
    }


def test_a_key_from_when_there_were_only_names_stays_good(store):
    assert accept("old", "key", "alice@Default") == "old"
    store.rows("UPDATE vm SET principal_id = NULL")
    assert accept("new", "key", "alice@Default", "keystone:1") == "old"
    with pytest.raises(IdempotencyMismatch):
        accept("new", "key", "alice@Default", "keystone:1", name="other")
    assert accept("other", "key", "bob@Default", "keystone:2") == "other"
    assert accept("third", "another", "alice@Default", "keystone:1") == "third"


def test_the_record_says_so_of_victims_whose_request_is_deleted_while_it_waits_again(store):
    asker, victim = new_vm(), new_vm(is_preemptible=True)
    with unit() as work:  # they went, the cloud refused all the same, and nothing is reserved any more
        ledger.record_eviction(work, victim, reason="capacity", evict_at=work.now, request_vm_id=asker.id)
        ledger.record_step(victim.id, "evicting_at")
    commands._request_deletion(asker.id)  # pylint: disable=protected-access
    assert store.rows("SELECT wasted FROM eviction") == [{"wasted": "the request was deleted before its vm was active"}]


def test_losses_to_evictions_are_counted_by_the_owner_s_id(store):
    def lose(**owner):
        with unit() as work:
            vm = vms.of_id(vms.accept(work, f"vm-{len(store.rows('SELECT id FROM vm'))}", request(), key=None, **owner))
            ledger.record_eviction(work, vm, reason="capacity", evict_at=work.now)
            ledger.record_step(vm.id, "evicting_at")

    lose(principal="team_one@Default", principal_id="keystone:1")
    lose(principal="team_one@Default", principal_id="keystone:1")
    lose(principal="team_one@Default", principal_id="keystone:2")
    lose(principal="anonymous")
    with reading():
        assert ledger.recent_losses(60) == {"keystone:1": 2, "keystone:2": 1, "anonymous": 1}


def test_twenty_with_one_key_at_once_are_one_request(store, threads):
    start = threading.Barrier(20)

    def race(number):
        start.wait(10)
        return accept(f"vm-{number}", "key")

    (winner,) = set(threads.map(race, range(20)))
    assert store.rows("SELECT id FROM vm") == [{"id": winner}]
    assert store.rows("SELECT count(*) FROM event") == [{"count": 1}]


def test_a_vm_is_found_by_either_id(store):
    vm = new_vm()
    with unit() as work:
        vms.move(work, vm, State.BUILDING)
        vms.change(vm, cloud_id="server-1")
    with reading():
        assert vms.get("server-1").id == vms.get(vm.id).id == vm.id
        assert vms.get("nobody") is None
        assert vms.cloud_ids([vm.id, "nobody"]) == ["server-1"]
    assert store.rows("SELECT cloud_id FROM vm") == [{"cloud_id": "server-1"}]


def test_what_has_ended_long_ago_is_not_current(store):
    old, young, running = new_vm(), new_vm(), new_vm()
    for vm in (old, young):
        with unit() as work:
            assert vms.move(work, vm, State.FAILED).ended_at
    store.rows("UPDATE vm SET ended_at = ended_at - interval '1 hour' WHERE id = %s", old.id)
    with reading():
        assert [vm.id for vm in vms.current()] == [young.id, running.id]
        assert [vm.id for vm in vms.in_states([State.PENDING])] == [running.id]


def test_a_request_holds_capacity_in_one_place_at_a_time(store):
    vm = new_vm()
    with unit() as work:
        ledger.reserve(work, vm.id, "host", "sim-1", {})
        ledger.reserve(work, vm.id, "host", "sim-2", {})
    with reading():
        assert [(kept.vm_id, kept.bin) for kept in ledger.open_reservations()] == [(vm.id, "sim-2")]
    with unit() as work:
        ledger.release_reservation(work, vm.id)
    with reading():
        assert not ledger.open_reservations()
    assert store.rows("SELECT count(*) FROM reservation WHERE released_at IS NOT NULL") == [{"count": 2}]


def test_the_deployment_id_never_changes(store, threads):
    start = threading.Barrier(10)

    def ask(_):
        start.wait(10)
        return db.deployment_id()

    (first,) = set(threads.map(ask, range(10)))
    assert store.rows("SELECT id FROM deployment") == [{"id": first}]


def test_what_was_accepted_is_there_after_everything_was_closed(store):
    vm_id = new_vm().id
    pool = db.open_database(store.url, 2)
    assert read(vm_id).state == State.PENDING
    pool.close_all()
