"""Intents: claimed by one, renewed, taken over, put off, hastened, dropped."""

import threading
from datetime import timedelta

from tests.integration.conftest import new_vm
from vmsvc.domain.timing import Timing
from vmsvc.store import intents
from vmsvc.store.db import unit

LEASE = Timing().lease


def wish(kind, vm_id, seconds=0.0):
    """A wish that is due in so many seconds."""
    with unit() as work:
        intents.enqueue(work, kind, vm_id, work.now + timedelta(seconds=seconds))


def claim(owner, most=100):
    """Claim, as (kind, vm id)."""
    with unit():
        return [(kind, vm_id) for _, kind, vm_id, _, _ in intents.claim(owner, most, LEASE)]


def whole_claim(owner):
    """Claim one, as it comes."""
    with unit():
        (row,) = intents.claim(owner, 1, LEASE)
    return row


def leases_run_out(store):
    """As if the time of every lease had passed."""
    store.rows("UPDATE intent SET lease_until = clock_timestamp() - interval '1 second'")


def test_a_wish_that_is_due_is_claimed_once(store):
    vm = new_vm().id
    wish(intents.BOOT, vm)
    assert claim("one") == [(intents.BOOT, vm)]
    assert not claim("one") and not claim("other")
    assert store.rows("SELECT lease_owner, attempts FROM intent") == [{"lease_owner": "one", "attempts": 1}]


def test_a_wish_is_not_claimed_before_its_time(store):
    wish(intents.EVICT, "vm", 60)
    assert not claim("one")
    store.rows("UPDATE intent SET not_before = clock_timestamp()")
    assert claim("one") == [(intents.EVICT, "vm")]


def test_many_owners_at_once_claim_each_wish_once(store, threads):
    for number in range(50):
        wish(intents.BOOT, f"vm-{number}")
    start = threading.Barrier(20)

    def claim_some(owner):
        start.wait(10)
        return claim(f"owner-{owner}", 4)

    claimed = [vm_id for found in threads.map(claim_some, range(20)) for _, vm_id in found]
    assert len(claimed) == len(set(claimed))
    claimed += [vm_id for _, vm_id in claim("last")]
    assert sorted(claimed) == sorted(f"vm-{number}" for number in range(50))
    assert store.rows("SELECT count(*) FROM intent WHERE attempts <> 1") == [{"count": 0}]


def test_a_lease_that_ran_out_is_taken_over_and_its_old_owner_finds_out(store):
    wish(intents.BOOT, "vm")
    intent_id = whole_claim("one")[0]
    with unit():
        assert intents.renew("one", [intent_id], LEASE) == {intent_id}
        assert not intents.renew("other", [intent_id], LEASE)
    assert not claim("other")
    leases_run_out(store)
    taken = whole_claim("other")
    assert (taken[0], taken[3]) == (intent_id, 2)
    with unit():
        assert not intents.renew("one", [intent_id], LEASE)
        assert intents.renew("other", [intent_id], LEASE) == {intent_id}


def test_what_an_owner_gives_back_others_can_have_at_once(store):
    for vm in ("a", "b"):
        wish(intents.BOOT, vm)
    claim("one")
    with unit():
        intents.release_leases("one")
    assert sorted(claim("other")) == [(intents.BOOT, "a"), (intents.BOOT, "b")]
    assert store.rows("SELECT DISTINCT lease_owner FROM intent") == [{"lease_owner": "other"}]


def test_there_is_one_open_wish_of_a_kind_for_a_vm(store):
    wish(intents.EVICT, "vm", 60)
    wish(intents.EVICT, "vm", 5)
    wish(intents.NOTICE, "vm")
    assert store.rows("SELECT kind, wishes FROM intent ORDER BY kind") == [
        {"kind": "evict", "wishes": 2},
        {"kind": "notice", "wishes": 1},
    ]


def test_a_wish_that_is_wished_again_while_it_is_carried_out_is_carried_out_again(store):
    wish(intents.NOTICE, "vm")
    intent_id, _, _, _, wishes = whole_claim("one")
    wish(intents.NOTICE, "vm")
    with unit() as work:
        intents.fulfil(work, "one", [(intent_id, wishes)])
    again = whole_claim("other")
    assert again[0] == intent_id and again[4] == 2
    with unit() as work:
        intents.fulfil(work, "other", [(intent_id, again[4])])
    assert not claim("one")
    wish(intents.NOTICE, "vm")
    assert claim("one") == [(intents.NOTICE, "vm")], "one that is done makes room for the next"
    assert store.rows("SELECT count(*) FROM intent") == [{"count": 2}]


def test_what_is_put_off_is_free_after_a_while(store):
    wish(intents.DELETE, "vm")
    intent_id = whole_claim("one")[0]
    with unit():
        intents.retry("one", intent_id, 60)
    assert not claim("other")
    with unit():
        assert 55 < intents.seconds_to_next() <= 60
    store.rows("UPDATE intent SET not_before = clock_timestamp()")
    assert claim("other") == [(intents.DELETE, "vm")]
    assert store.rows("SELECT attempts FROM intent") == [{"attempts": 2}]


def test_a_victim_that_left_early_need_not_wait_for_its_time(store):
    wish(intents.EVICT, "vm", 60)
    wish(intents.EVICT, "other", 60)
    with unit() as work:
        intents.hasten(work, intents.EVICT, "vm")
    assert claim("one") == [(intents.EVICT, "vm")]
    assert store.rows("SELECT vm_id FROM intent WHERE lease_owner IS NULL") == [{"vm_id": "other"}]


def test_a_wish_that_is_dropped_is_never_claimed(store):
    wish(intents.EVICT, "vm")
    with unit() as work:
        intents.drop(work, intents.EVICT, "vm")
    assert not claim("one")
    with unit():
        assert intents.seconds_to_next() is None
    wish(intents.EVICT, "vm")
    assert claim("one") == [(intents.EVICT, "vm")], "a VM that was reprieved can be a victim again"
    assert store.rows("SELECT count(*) FROM intent WHERE done_at IS NULL") == [{"count": 1}]


def test_the_time_to_the_next_one_counts_leases_of_others(store):
    wish(intents.BOOT, "vm")
    with unit():
        assert intents.seconds_to_next() == 0
    claim("one")
    with unit():
        assert LEASE - 5 < intents.seconds_to_next() <= LEASE
    leases_run_out(store)
    with unit():
        assert intents.seconds_to_next() == 0


def test_who_has_lost_its_lease_neither_ends_nor_puts_off_what_another_does(store):
    wish(intents.BOOT, "vm")
    intent_id, _, _, _, wishes = whole_claim("one")
    leases_run_out(store)
    whole_claim("other")
    with unit() as work:
        intents.retry("one", intent_id, 60)
        intents.fulfil(work, "one", [(intent_id, wishes)])
        intents.fulfil(work, "one", [(intent_id, wishes + 1)])
    assert store.rows("SELECT lease_owner, done_at, lease_until > clock_timestamp() AS held FROM intent") == [
        {"lease_owner": "other", "done_at": None, "held": True}
    ]
