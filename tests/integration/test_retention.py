"""What is over its age goes, all of it; what a guest is given at its boot is kept no longer than a boot may need it."""

import hashlib
import json

import pytest

from tests.integration.conftest import read, request
from vmsvc.domain.lifecycle import State
from vmsvc.domain.timing import Timing
from vmsvc.service.retention import Retention
from vmsvc.service.runtime import Runtime
from vmsvc.store import intents, ledger, outbox, retention, vms
from vmsvc.store.db import Lock, reading, unit

SECRET = "SHVudGVyNU9mVGhlR3Vlc3Q="
HOURS = 2
EVENTS = """
INSERT INTO event (type, state, vm_id, subject, is_preemptible, time, data)
SELECT 'create', 'active', 'vm', 'vm', false, clock_timestamp() - make_interval(secs => %s) + n * interval '1 ms', '{}'
FROM generate_series(1, %s) AS n
"""


@pytest.fixture(name="runtime")
def _runtime(store, io_loop):
    del store
    runtime = Runtime(Timing())
    yield runtime
    io_loop.run_sync(runtime.stop)


def asked(vm_id, key=None, secret=SECRET, principal="anonymous"):
    """Accept a request with user data, as `commands.create` does."""
    body = {"is_preemptible": True, "user_data": secret}
    with unit() as work:
        return vms.accept(
            work,
            vm_id,
            request(boot={"asked": body, "user_data": secret, "flavor_id": "1"}),
            principal=principal,
            key=key,
        )


def moved(vm_id, *states, **changes):
    """Let a VM go through these states."""
    for state in states:
        with unit() as work:
            assert vms.move(work, vms.of_id(vm_id), state, **changes)


def places(store, text):
    """Every table and column in which a text is found."""
    columns = store.rows("SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'")
    return [
        (row["table_name"], row["column_name"])
        for row in columns
        if store.rows(
            f"""SELECT 1 FROM "{row["table_name"]}" WHERE "{row["column_name"]}"::text LIKE %s LIMIT 1""", f"%{text}%"
        )
    ]


@pytest.mark.gen_test(timeout=60)
async def test_one_round_removes_all_that_is_too_old(store, runtime):
    store.rows(EVENTS, HOURS * 3600 + 3600, 12_000)
    store.rows(EVENTS, HOURS * 3600 - 600, 100)
    kept = Retention(runtime, HOURS, HOURS)
    await kept.round()
    assert store.rows("SELECT count(*), min(seq) FROM event") == [{"count": 100, "min": 12_001}]
    assert store.rows("SELECT removed_seq FROM watermark") == [{"removed_seq": 12_000}]
    assert HOURS * 3600 - 610 < kept.oldest_event_age() < HOURS * 3600 - 500


@pytest.mark.gen_test(timeout=60)
async def test_the_oldest_event_is_never_older_than_its_age_and_a_round_while_time_goes_by(store, runtime):
    """An hour of a hundred events a second, in steps of ten minutes: the clock is set on by making all events older."""
    kept = Retention(runtime, 1 / 6, 1)
    for _ in range(6):
        store.rows(EVENTS, 60, 6_000)
        store.rows("UPDATE event SET time = time - interval '10 minutes'")
        await kept.round()
        assert kept.oldest_event_age() <= 600 + 60
        assert store.rows("SELECT count(*) FROM event")[0]["count"] <= 6_000


def test_removing_events_and_writing_them_do_not_wait_for_each_other(store, threads):
    store.rows(EVENTS, 7200, 10)
    with unit(Lock.OUTBOX):
        assert threads.submit(outbox.remove_old_events, 1).result(5) == 10


def test_of_two_replicas_that_remove_events_at_once_one_does(store, threads):
    store.rows(EVENTS, 7200, 3_000)
    assert sum(threads.map(lambda _: outbox.remove_old_events(1), range(4))) == 3_000
    assert store.rows("SELECT removed_seq FROM watermark") == [{"removed_seq": 3_000}]


def test_there_is_no_age_without_an_event(store):
    del store
    assert outbox.oldest_age() == 0.0


@pytest.mark.parametrize(
    "states",
    [
        (State.FAILED,),
        (State.BUILDING, State.FAILED),
        (State.BUILDING, State.ACTIVE),
        (State.BUILDING, State.PENDING, State.FAILED),
        (State.DELETING,),
        (State.BUILDING, State.DELETING, State.DELETED),
        (State.BUILDING, State.ACTIVE, State.LOST),
    ],
    ids="-".join,
)
def test_user_data_is_removed_with_the_end_of_its_request(store, states):
    asked("vm", "key")
    assert places(store, SECRET) == [("vm", "boot")]
    moved("vm", *states)
    assert not places(store, SECRET)
    assert (read("vm").boot["user_data"], read("vm").boot["flavor_id"]) == (None, "1")


def test_user_data_is_kept_once_while_a_boot_may_need_it(store):
    asked("vm")
    for states in ((State.BUILDING,), (State.PENDING,), (State.BUILDING,)):
        moved("vm", *states)
        assert read("vm").boot["user_data"] == SECRET and "user_data" not in read("vm").boot["asked"]
    assert not store.rows("SELECT 1 FROM vm WHERE boot #>> '{asked,user_data}' IS NOT NULL")


def test_a_body_is_known_again_by_its_hash(store):
    """As the release before has reckoned it: its keys stay good."""
    assert asked("vm", "key") == asked("other", "key") == "vm"
    body = json.dumps({"is_preemptible": True, "user_data": SECRET}, sort_keys=True).encode()
    assert store.rows("SELECT body_hash FROM idempotency") == [{"body_hash": hashlib.sha256(body).hexdigest()}]
    moved("vm", State.FAILED)
    assert asked("another", "key") == "vm"
    with pytest.raises(Exception, match="another body"):
        asked("another", "key", secret="b3RoZXI=")


def test_user_data_of_the_release_before_is_removed_too(store):
    for vm_id, states in (("ended", (State.FAILED,)), ("runs", (State.BUILDING, State.ACTIVE)), ("waits", ())):
        asked(vm_id)
        moved(vm_id, *states)
    store.rows(
        """UPDATE vm SET boot = boot || jsonb_build_object('user_data', %s::text, 'asked',
                  jsonb_build_object('is_preemptible', true, 'user_data', %s::text))""",
        SECRET,
        SECRET,
    )
    assert (retention.clear_user_data(1), retention.clear_user_data(10), retention.clear_user_data(10)) == (1, 1, 0)
    assert [row["id"] for row in store.rows("SELECT id FROM vm WHERE boot::text LIKE %s", f"%{SECRET}%")] == ["waits"]
    assert read("runs").boot["asked"] == {"is_preemptible": True} and read("runs").boot["user_data"] is None


def test_requests_that_never_became_a_vm_go_with_their_keys(store):
    for vm_id in ("failed", "deleted", "young", "waits", "made room", "has work left", "ran"):
        asked(vm_id, f"key of {vm_id}")
    for vm_id in ("failed", "young", "made room", "has work left"):
        moved(vm_id, State.FAILED)
    moved("deleted", State.DELETING, State.DELETED)
    with unit() as work:
        moved_at = work.now
    moved("ran", State.BUILDING, State.ACTIVE, launched_at=moved_at)
    moved("ran", State.DELETING, State.DELETED)
    with unit() as work:
        ledger.record_eviction(work, vms.of_id("ran"), reason="capacity", evict_at=work.now, request_vm_id="made room")
        intents.enqueue(work, intents.DELETE, "has work left")
    store.rows("UPDATE vm SET ended_at = ended_at - interval '3 hours' WHERE id <> 'young'")
    assert (retention.remove_requests(HOURS, 1), retention.remove_requests(HOURS, 10)) == (1, 1)
    left = {"young", "waits", "made room", "has work left", "ran"}
    assert {row["id"] for row in store.rows("SELECT id FROM vm")} == left
    assert {row["vm_id"] for row in store.rows("SELECT vm_id FROM idempotency")} == left
    assert asked("anew", "key of failed") == "anew", "after its time a key begins anew"
    with reading():
        assert vms.get("failed") is None
