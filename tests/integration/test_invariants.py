"""The invariants that tests of the whole service end with: each of those about lineages and the queue can fail."""

from types import SimpleNamespace

import pytest

from tests.integration.conftest import move, read, request
from tests.system import invariants
from vmsvc.domain.lifecycle import State
from vmsvc.domain.lineage import Terms
from vmsvc.domain.request import Waits
from vmsvc.service.acting.restart import record_evicted
from vmsvc.service.scheduling import deadlines
from vmsvc.store import vms
from vmsvc.store.db import unit

BOOT = {"asked": {}, "user_data": "Zm9v", "network_id": "net"}


class Changed:
    """The database, with a change of one row as no statement of vmsvc makes it. (Its indexes forbid some.)"""

    def __init__(self, store, table, row_id, **columns):
        self._store, self._table, self._id, self._columns = store, table, row_id, columns

    def rows(self, query, *values):
        """The rows, of which one differs."""
        found = self._store.rows(query, *values)
        if query.startswith(f"SELECT * FROM {self._table} ") or query == f"SELECT * FROM {self._table}":
            return [row | self._columns if row["id"] == self._id else row for row in found]
        return found


@pytest.fixture(name="line")
def fixture_line(store):
    """A lineage with a VM that was evicted and one that runs; their ids."""
    assert store
    with unit() as work:
        columns = request(is_preemptible=True, boot=BOOT)
        vms.accept(work, "first", columns, principal="ann", key=None, terms=Terms(max_restarts=3))
    move(read("first"), State.BUILDING, State.ACTIVE, State.NOTICED, State.EVICTING)
    with unit() as work:
        record_evicted(work, "first")
    (row,) = store.rows("SELECT id FROM vm WHERE restart_of = 'first'")
    move(read(row["id"]), State.BUILDING, State.ACTIVE, launched_at=read("first").created_at)
    return "first", row["id"]


@pytest.mark.parametrize(
    "table, which, columns",
    [
        ("vm", 0, {"state": "active", "ended_at": None}),  # two of it at once
        ("vm", 0, {"state": "lost"}),  # a restart after something else than an eviction
        ("vm", 1, {"attempt": 2}),  # an attempt that was left out
        ("vm", 1, {"restart_of": None}),
        ("vm", 1, {"name": "other"}),
        ("vm", 0, {"boot": BOOT}),  # user data in two places
        ("lineage", 0, {"max_restarts": 0}),
        ("lineage", 0, {"restarts": 0}),  # a VM that was started and not counted
        ("lineage", 0, {"ended_at": "now"}),  # a VM after the end
    ],
)
def test_what_must_not_be_of_a_lineage_is_found(store, line, table, which, columns):
    invariants.lineages_hold(store)
    if columns.get("ended_at"):
        columns = {"ended_at": read(line[0]).created_at}
    with pytest.raises(AssertionError):
        invariants.lineages_hold(Changed(store, table, line[which], **columns))


def test_a_restart_after_the_end_is_found(store, line):
    """Also when it has ended since."""
    _, successor = line
    move(read(successor), State.DELETING, State.DELETED)
    invariants.lineages_hold(store)
    store.rows("UPDATE lineage SET ended_at = (SELECT created_at - interval '1 ms' FROM vm WHERE id = %s)", successor)
    with pytest.raises(AssertionError):
        invariants.lineages_hold(store)


def test_a_lineage_that_is_left_open_or_empty_is_found(store, line):
    store.rows("UPDATE vm SET state = 'evicted', ended_at = now(), boot = '{}' WHERE id = %s", line[1])
    with pytest.raises(AssertionError):
        invariants.lineages_hold(store)
    store.rows("DELETE FROM vm")
    with pytest.raises(AssertionError):
        invariants.lineages_hold(store)


@pytest.mark.parametrize(
    "kept", [{"nobody": "p"}, {"first": "another"}, {"first": "p", "nobody": "q"}], ids=["none", "other", "more"]
)
def test_a_kept_port_without_a_lineage_is_found(store, line, kept):
    store.rows("UPDATE lineage SET port_id = 'p' WHERE id = %s", line[0])

    def left_over(ports):
        every = {origin: {"id": port} for origin, port in ports.items()}
        nothing = dict.fromkeys(("servers", "ports"), dict) | {"allocated": set}
        found = invariants.left_over(store, SimpleNamespace(kept_ports=lambda: every, **nothing))
        return [one for one in found if one.startswith("port")]

    assert not left_over({"first": "p"})
    assert left_over(kept)
    move(read(line[1]), State.DELETING, State.DELETED)
    assert left_over({"first": "p"}), "its lineage has ended"


def waiting(name):
    """A request in the queue."""
    with unit() as work:
        vms.accept(work, name, request(is_preemptible=True), principal="ann", key=None, waits=Waits(60))
    with unit() as work:
        vms.take_step(work, vms.of_id(name), ("create", "queued"), queued_why="the cloud is full", queued_at=work.now)


@pytest.mark.parametrize(
    "change",
    [
        "wait_until = now() - interval '10 s'",  # nobody has ended it
        "wait_until = NULL",
        "state = 'active'",
        "fell_back_at = now()",
    ],
)
def test_what_must_not_be_in_the_queue_is_found(store, change):
    waiting("one")
    invariants.the_queue_is_sound(store)
    store.rows(f"UPDATE vm SET {change}")
    with pytest.raises(AssertionError):
        invariants.the_queue_is_sound(store)


def test_a_request_that_was_ended_before_its_deadline_is_found(store):
    waiting("one")
    store.rows("UPDATE vm SET wait_until = now()")
    deadlines._meet_deadlines()  # pylint: disable=protected-access
    invariants.the_queue_is_sound(store)
    store.rows("UPDATE vm SET wait_until = now() + interval '1 s'")
    with pytest.raises(AssertionError):
        invariants.the_queue_is_sound(store)
