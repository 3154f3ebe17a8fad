"""What a decision is made upon: what is read first and what later, and what a failure leaves behind."""

from types import SimpleNamespace

import pytest

from tests.integration.conftest import new_vm, read
from vmsvc.cloud.cache.server_cache import Watch
from vmsvc.cloud.port import Quota
from vmsvc.domain.lifecycle import State
from vmsvc.domain.resources import Resources
from vmsvc.service.scheduling.vm_join import Policy
from vmsvc.service.scheduling.world_cache import WorldCache
from vmsvc.store import ledger, vms
from vmsvc.store.db import unit

SNAPSHOT = SimpleNamespace(quota=Quota({}, Resources()), watch=Watch())


@pytest.fixture(name="desk")
def fixture_desk(store):
    """One that has seen nothing yet."""
    assert store
    return WorldCache(Policy())


def seen(desk):
    """The states of all VMs, and for whom room is kept."""
    with unit() as work, desk.at(SNAPSHOT, work.now, True) as view:
        return ({row.id: row.state for row in view.rows.values()}, {kept.vm_id for kept in view.reservations},
                set(view.world.vms))


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
        ledger.release(work, row.id)


def test_a_request_that_gets_its_room_meanwhile_still_waits_or_holds_nothing(desk, monkeypatch, threads):
    """Else the room would seem to be kept for nobody, and its victims to have gone in vain."""
    row, open_reservations = building(), ledger.open_reservations

    def slowly():
        found = open_reservations()
        threads.submit(done, row).result(10)
        return found
    monkeypatch.setattr(ledger, "open_reservations", slowly)
    states, kept, _ = seen(desk)
    assert kept == {row.id} and states[row.id] == "building"
    monkeypatch.undo()
    assert seen(desk) == ({row.id: "active"}, set(), {row.id})


def test_what_was_read_before_a_failure_is_not_lost(desk, monkeypatch):
    row = building()
    for broken in ("vmsvc.service.scheduling.world_cache.ledger.exempt",
                   "vmsvc.service.scheduling.world_builder.WorldBuilder._charge"):
        monkeypatch.setattr(broken, lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            seen(desk)
        monkeypatch.undo()
        assert seen(desk)[2] == {row.id}
        row = read(row.id)
        with unit():
            vms.change(row, priority=row.priority + 1)


def test_what_is_decided_and_not_written_is_forgotten(desk):
    row = building()
    with unit() as work, desk.at(SNAPSHOT, work.now, True) as view:
        view.world.release(row.id)
        view.world.vms.drop(row.id)
    with unit() as work, desk.at(SNAPSHOT, work.now, True) as view:
        assert set(view.world.vms) == set(view.world.reservations) == {row.id}
