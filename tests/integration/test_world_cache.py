"""What a decision is made upon: what is read first and what later, and what a failure leaves behind."""

import random
from contextlib import suppress
from types import SimpleNamespace

import pytest

from tests.integration.conftest import new_vm, read
from vmsvc.cloud.cache.server_cache import Watch
from vmsvc.cloud.port import Quota
from vmsvc.domain.host import Host
from vmsvc.domain.lifecycle import State
from vmsvc.domain.resources import Inventory, Resources
from vmsvc.domain.timing import Timing
from vmsvc.scheduling.candidates import Policy
from vmsvc.service.scheduling.world_cache import WorldCache
from vmsvc.store import ledger, vms
from vmsvc.store.db import unit

SNAPSHOT = SimpleNamespace(quota=Quota({}, Resources()), watch=Watch(), server_groups={})


@pytest.fixture(name="cache")
def fixture_cache(store):
    """One that has seen nothing yet."""
    assert store
    return WorldCache(Policy(), Timing())


def seen(cache):
    """The states of all VMs, and for whom room is kept."""
    with unit() as work, cache.at(SNAPSHOT, work.now, True) as view:
        return (
            {row.id: row.state for row in view.rows.values()},
            {kept.vm_id for kept in view.reservations},
            set(view.world.vms),
        )


def building():
    """A request that builds where room was kept for it."""
    row = new_vm()
    with unit() as work:
        ledger.reserve(work, row.id, "host", "sim-1", {})
        vms.move(work, row, State.BUILDING)
    return read(row.id)


def done(row):
    """It has got its room."""
    with unit() as work:
        vms.move(work, row, State.ACTIVE)
        ledger.release_reservation(work, row.id)


def test_a_request_that_gets_its_capacity_meanwhile_still_waits_or_holds_nothing(cache, monkeypatch, threads):
    """Else the room would seem to be kept for nobody, and its victims to have gone in vain."""
    row, open_reservations = building(), ledger.open_reservations

    def slowly():
        found = open_reservations()
        threads.submit(done, row).result(10)
        return found

    monkeypatch.setattr(ledger, "open_reservations", slowly)
    states, kept, _ = seen(cache)
    assert kept == {row.id} and states[row.id] == "building"
    monkeypatch.undo()
    assert seen(cache) == ({row.id: "active"}, set(), {row.id})


def test_what_was_read_before_a_failure_is_not_lost(cache, monkeypatch):
    row = building()
    for broken in (
        "vmsvc.service.scheduling.world_cache.ledger.exempt_vms",
        "vmsvc.service.scheduling.world_builder.WorldBuilder._charge",
    ):
        monkeypatch.setattr(broken, lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            seen(cache)
        monkeypatch.undo()
        assert seen(cache)[2] == {row.id}
        row = read(row.id)
        with unit():
            vms.change(row, priority=row.priority + 1)


def test_what_is_decided_and_not_written_is_forgotten(cache):
    row = building()
    with unit() as work, cache.at(SNAPSHOT, work.now, True) as view:
        view.world.release(row.id)
        view.world.vms.drop(row.id)
    with unit() as work, cache.at(SNAPSHOT, work.now, True) as view:
        assert set(view.world.vms) == set(view.world.reservations) == {row.id}


def facts(cache):
    """All of the world that decisions are made upon."""
    with unit() as work, cache.at(SNAPSHOT, work.now, True) as view:
        world = view.world
        return (
            dict(world.vms),
            dict(world.hosts),
            dict(world.reservations),
            world.budgets,
            world.full_budgets,
            world.surcharges,
            world.quota_limit,
            world.quota_used,
        )


LIFE = {
    State.PENDING: State.BUILDING,
    State.BUILDING: State.ACTIVE,
    State.ACTIVE: State.NOTICED,
    State.NOTICED: State.EVICTING,
    State.EVICTING: State.EVICTED,
}


@pytest.mark.parametrize("seed", range(3))
def test_a_world_that_is_kept_is_equal_to_one_that_is_built_from_nothing(cache, seed):
    """Whatever is committed, rolled back or decided in a trial between two decisions."""
    rng, hosts, ids = random.Random(seed), {}, []
    for _ in range(25):
        name = f"sim-{rng.randint(1, 3)}"
        hosts[name] = Host(name, {"VCPU": Inventory(rng.randint(2, 4))}, {}, availability_zone="nova")
        cache.add_changes({}, {name: hosts[name]})
        if len(ids) < 6:
            ids.append(new_vm(is_preemptible=True, group_name=rng.choice((None, "web")), max_unavailable=1).id)
        row = read(rng.choice(ids))
        with suppress(ZeroDivisionError), unit() as work:
            if row.state in LIFE and rng.random() < 0.8:
                vms.move(work, row, LIFE[row.state], **({"host": name} if row.state == State.PENDING else {}))
            else:
                ledger.reserve(work, row.id, "host", name, {})
            assert rng.random() < 0.8 or 1 / 0, "a unit that fails is rolled back"
        with unit() as work, cache.at(SNAPSHOT, work.now, True) as view:
            for vm in list(view.world.vms.values())[:2]:
                view.world.vms.drop(vm.id)
            view.world.reservations.clear()
        anew = WorldCache(Policy(), Timing())
        anew.add_changes({}, hosts)
        assert facts(cache) == facts(anew)
