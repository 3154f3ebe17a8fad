"""Lineages on a real database: what an older release or the retention does to them beside this release."""

import pytest

from tests.integration.conftest import move, new_vm, read, request
from vmsvc.domain.errors import NotFound
from vmsvc.domain.lifecycle import State
from vmsvc.domain.lineage import Terms
from vmsvc.domain.principal import ANYBODY
from vmsvc.service import commands, vm_changes
from vmsvc.service.acting import kept_ports
from vmsvc.service.acting.restart import complete_lineages
from vmsvc.store import lineages, retention, vms
from vmsvc.store.db import reading, unit

pytestmark = pytest.mark.usefixtures("store")
BOOT = {"asked": {}, "user_data": "Zm9v", "network_id": "net"}
TO_EVICTED = (State.NOTICED, State.EVICTING, State.EVICTED)
#: As a release that knows nothing of lineages ends a VM.
ENDED = (
    "UPDATE vm SET state = %s, ended_at = clock_timestamp(), boot = jsonb_set(boot, '{user_data}', %s) WHERE id = %s"
)


def restartable(name="first", **terms):
    """The first VM of a lineage, ACTIVE."""
    with unit() as work:
        columns = request(is_preemptible=True, boot=BOOT)
        vms.accept(work, name, columns, principal="ann", key=None, terms=Terms(**terms))
    return move(read(name), State.BUILDING, State.ACTIVE, launched_at=read(name).created_at)


def lineage_of(name):
    """The row of a lineage."""
    with reading():
        return lineages.of(name)


def test_what_an_older_release_has_evicted_is_started_again_once(store, threads):
    row = restartable()
    assert not complete_lineages()
    store.rows(ENDED, "evicted", '"Zm9v"', row.id)
    list(threads.map(lambda _: complete_lineages(), range(8)))
    (successor,) = store.rows("SELECT * FROM vm WHERE restart_of = %s", row.id)
    assert (successor["state"], successor["attempt"], successor["boot"]["user_data"]) == ("pending", 1, "Zm9v")
    assert successor["wait_until"] and lineage_of(row.id).restarts == 1
    assert not complete_lineages()


@pytest.mark.parametrize("state", ["deleted", "lost", "failed", "evicted"])
def test_a_lineage_ends_with_a_vm_that_an_older_release_has_ended(store, state):
    row = restartable()
    if state == "evicted":
        vm_changes.change_vm(row.id, None, ANYBODY, ends_restarts=True, is_preemptible=None)
    store.rows(ENDED, state, "null", row.id)
    assert complete_lineages() == 1
    assert lineage_of(row.id).end_reason == state and len(store.rows("SELECT id FROM vm")) == 1


def test_a_vm_whose_user_data_an_older_release_has_removed_is_not_started_without_them(store):
    row = restartable()
    store.rows(ENDED, "evicted", "null", row.id)
    complete_lineages()
    (failed,) = store.rows("SELECT state, outcome FROM vm WHERE restart_of = %s", row.id)
    assert failed["state"] == "failed" and "has removed its user data" in failed["outcome"]["message"]
    assert lineage_of(row.id).end_reason == "failed"


def test_a_lineage_without_a_vm_is_removed(store):
    for name, port in (("one", None), ("two", "a port")):
        restartable(name)
        store.rows("UPDATE lineage SET port_id = %s WHERE id = %s", port, name)
    store.rows("DELETE FROM vm")
    complete_lineages()
    assert lineage_of("one") is None and lineage_of("two").ended_at
    kept_ports._record_port("two", None)  # pylint: disable=protected-access
    assert lineage_of("two") is None
    kept_ports._record_port("two", None)  # pylint: disable=protected-access


def test_retention_removes_a_lineage_with_its_vms_once_its_port_is_gone(store):
    for name, port in (("one", None), ("two", "a port")):
        with unit() as work:
            vms.accept(work, name, request(is_preemptible=True), principal="ann", key=None, terms=Terms())
        move(read(name), State.FAILED)
        store.rows("UPDATE lineage SET port_id = %s WHERE id = %s", port, name)
    store.rows("UPDATE vm SET ended_at = ended_at - interval '3 hours'")
    assert retention.remove_requests(1, 10) == 2
    assert lineage_of("one") is None and lineage_of("two")
    kept_ports._record_port("two", None)  # pylint: disable=protected-access
    assert lineage_of("two") is None


@pytest.mark.parametrize("ask", ["delete", "change", "move"])
def test_what_retention_has_removed_meanwhile_is_not_found(store, monkeypatch, ask):
    """Between the reading of the VM and that of its lineage."""
    row, get = restartable(), vms.get

    def removed_after(ref, *args, **options):
        found = get(ref, *args, **options)
        store.rows("DELETE FROM vm; DELETE FROM lineage")
        return found

    if ask == "move":
        store.rows("DELETE FROM vm; DELETE FROM lineage")
        with unit() as work:
            assert vms.move(work, row, State.LOST) is None
        return
    monkeypatch.setattr(vms, "get", removed_after)
    if ask == "delete":
        assert commands._request_deletion(row.id) is None  # pylint: disable=protected-access
    else:
        with pytest.raises(NotFound):
            vm_changes.change_vm(row.id, None, ANYBODY, ends_restarts=True, is_preemptible=None)


def test_a_vm_without_lineage_is_no_part_of_it(store):
    store.rows(ENDED, "evicted", "null", move(new_vm(is_preemptible=True), State.BUILDING, State.ACTIVE).id)
    assert not complete_lineages()
