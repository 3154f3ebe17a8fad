"""What must be true after every test, however the test ended up there: read from the database and from the cloud."""

from collections import defaultdict
from datetime import datetime

from tests.api.contract import check_event
from tests.conftest import Database
from tests.system.client import until
from tests.system.simulated import Sim
from vmsvc.domain.events import envelope
from vmsvc.domain.lifecycle import MOVES, STEPS, State
from vmsvc.service.acting.notice import EVICT_AT

_REST = ("active", "evicted", "deleted", "failed", "lost")


async def all_settled(database: Database, sim: Sim, seconds: float = 20.0, pause: float = 0.02) -> None:
    """Wait until nobody waits, builds or goes, no wish is left, and what is lost or left over has been seen."""

    def busy() -> list:
        return (
            database.rows("SELECT id, name, state, refusal FROM vm WHERE state NOT IN %s", _REST)
            + database.rows("SELECT kind, vm_id, attempts FROM intent WHERE done_at IS NULL")
            + database.rows("SELECT id, port_id FROM lineage WHERE ended_at IS NOT NULL AND port_id IS NOT NULL")
        )

    try:
        await until(lambda: not busy(), "rest", seconds, pause)
    except AssertionError:
        raise AssertionError(f"these never came to rest: {busy()}") from None
    await until(lambda: _held(database) == _ours(database, sim), "the agreement of rows and cloud", seconds, pause)


def check(database: Database, sim: Sim) -> None:
    """Every invariant; to be called at rest."""
    of_the_database(database)
    _cloud_and_rows_agree(database, sim)
    assert not left_over(database, sim)


def of_the_database(database: Database) -> None:
    """Those that the database alone shows."""
    _ledger_is_closed(database)
    _history_is_legal(database)
    lineages_hold(database)
    _evictions_are_accounted_for(database)
    the_queue_is_sound(database)


def the_queue_is_sound(database: Database, late: float = 2.0) -> None:
    """What holds of the queue at any moment; `late`: seconds after a deadline in which it is kept."""
    assert not database.rows("SELECT id, state FROM vm WHERE queued_why IS NOT NULL AND state <> 'pending'")
    assert not database.rows("SELECT id FROM vm WHERE queued_why IS NOT NULL AND wait_until IS NULL")
    assert not database.rows(
        "SELECT id, queued_why FROM vm WHERE queued_why IS NOT NULL"
        " AND id IN (SELECT vm_id FROM reservation WHERE released_at IS NULL)"
    )
    assert not database.rows(
        "SELECT id, wait_until FROM vm WHERE state = 'pending' AND wait_until < now() - make_interval(secs => %s)"
        " AND id NOT IN (SELECT vm_id FROM reservation WHERE released_at IS NULL)"
        # The scheduler may decide first about one that has just fallen back.
        " AND (queued_why IS NOT NULL OR updated_at < now() - make_interval(secs => 30 + %s))",
        late,
        late,
    )
    assert not database.rows("SELECT id FROM vm WHERE fell_back_at IS NOT NULL AND is_preemptible")
    assert not database.rows(
        "SELECT vm_id FROM event WHERE data ->> 'reason' = 'deadline'"
        " AND time < (SELECT wait_until FROM vm WHERE id = vm_id)"
    ), "a request was ended before its time"


def _ledger_is_closed(database: Database) -> None:
    assert not database.rows("SELECT * FROM reservation WHERE released_at IS NULL")
    assert not database.rows("SELECT id, state FROM vm WHERE outcome IS NULL AND state IN ('active', 'failed')")
    assert not database.rows(
        "SELECT id FROM vm WHERE state = 'active' AND (evict_at IS NOT NULL OR evicted_for "
        "IS NOT NULL OR notice IS NOT NULL)"
    )


def _ours(database: Database, sim: Sim) -> dict[str, str]:
    """The VM of every server that carries our mark."""
    (deployment,) = [row["id"] for row in database.rows("SELECT id FROM deployment")] or [None]
    return {
        server_id: server["metadata"]["vmsvc_id"]
        for server_id, server in sim.servers().items()
        if server["metadata"].get("vmsvc_deployment") == deployment
    }


def _held(database: Database) -> dict[str, str]:
    """The VM of every server that a row says is there."""
    return {row["cloud_id"]: row["id"] for row in database.rows("SELECT id, cloud_id FROM vm WHERE state = 'active'")}


def _cloud_and_rows_agree(database: Database, sim: Sim) -> None:
    ours = _ours(database, sim)
    assert ours == _held(database)
    assert not [
        server for server_id, server in sim.servers().items() if server_id in ours and server["status"] == "ERROR"
    ]


def left_over(database: Database, sim: Sim) -> list[str]:
    """What is there and should not be: servers of ours that no row has, ports and allocations of no server,
    metadata of notices that are over, reservations of nobody."""
    servers, held = sim.servers(), _held(database)
    return [
        *(f"server {one}" for one in _ours(database, sim).keys() - held.keys()),
        *(f"port of {one}" for one in set(sim.ports().values()) - servers.keys()),
        *(f"port {port} kept for no lineage" for port in _ports_without_lineage(database, sim)),
        *(f"allocation of {one}" for one in sim.allocated() - servers.keys()),
        *(f"notice in {one}" for one, server in servers.items() if EVICT_AT in server["metadata"]),
        *(
            f"reservation of {row['vm_id']}"
            for row in database.rows("SELECT vm_id FROM reservation WHERE released_at IS NULL")
        ),
    ]


def _ports_without_lineage(database: Database, sim: Sim) -> list[str]:
    rows = database.rows("SELECT id, port_id FROM lineage WHERE ended_at IS NULL AND port_id IS NOT NULL")
    ports = {row["id"]: row["port_id"] for row in rows}
    return [port["id"] for origin, port in sim.kept_ports().items() if ports.get(origin) != port["id"]]


def _history_is_legal(database: Database) -> None:
    events = database.rows("SELECT seq, type, state, vm_id, subject, time, data FROM event ORDER BY seq")
    for event in events:
        check_event(envelope(event))
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)
    lives: dict[str, list[dict]] = defaultdict(list)
    for event in events:
        lives[event["vm_id"]].append(event)
    for row in database.rows("SELECT id, state FROM vm"):
        vm_id, state, steps = row["id"], row["state"], lives[row["id"]]
        assert _walk([(step["type"], step["state"]) for step in steps]) == state, vm_id
        active = sum(step["type"] == "create" and step["state"] == "active" for step in steps)
        assert steps[0]["state"] == "pending" or steps[0]["data"]["adopted"], vm_id
        assert active == 1 if state == "active" else active <= 1, vm_id
        _no_notice_was_cut_short(steps)


def _walk(steps: list[tuple[str, str]]) -> State:
    """Follow the table of life from event to event; returns the state at the end. Only the way back from BUILDING
    to PENDING leaves no event."""
    assert steps[0] in (("create", "pending"), ("create", "active")), "it is asked for, or adopted"
    state = State(steps[0][1])
    for step in steps[1:]:
        if step in STEPS:
            assert STEPS[step] & {state, *({State.PENDING} if state is State.BUILDING else ())}, f"{step} after {state}"
            state = State.PENDING if State.PENDING in STEPS[step] else state
            continue
        sources = {state} | ({State.PENDING} if state is State.BUILDING else set())
        targets = {target for (source, target), told in MOVES.items() if source in sources and told == step}
        assert len(targets) == 1, f"{step} after {state}: {steps}"
        state = targets.pop()
    return state


def _no_notice_was_cut_short(steps: list[dict]) -> None:
    due = None
    for step in steps:
        if step["state"] == "noticed":
            due = datetime.fromisoformat(step["data"]["vm"]["evict_at"])
        if step["state"] == "evicting":
            assert step["time"] >= due or step["data"]["vm"]["acknowledged_at"], step


def _evictions_are_accounted_for(database: Database) -> None:
    """Who was evicted is on record with the time of each step, and, if it went for a request, with what came of it."""
    unexplained = database.rows("""
        SELECT vm.id FROM vm WHERE vm.state = 'evicted' AND NOT EXISTS (
            SELECT 1 FROM eviction WHERE eviction.vm_id = vm.id AND reprieved_at IS NULL
            AND evicting_at >= least(evict_at, acknowledged_at) AND freed_at >= evicting_at
            AND (fulfilled_at IS NULL) = (wasted IS NOT NULL OR request_vm_id IS NULL))""")
    assert not unexplained, database.rows("SELECT * FROM eviction")
    assert not database.rows("SELECT vm_id FROM eviction WHERE reprieved_at IS NULL GROUP BY vm_id HAVING count(*) > 1")
    assert not database.rows("SELECT request_vm_id FROM eviction GROUP BY request_vm_id HAVING max(round) > 2")


def lineages_hold(database: Database) -> None:
    """Never two VMs of a lineage at once, never one more than it may have, none after its end, each attempt once."""
    lines: dict[str, list[dict]] = defaultdict(list)
    for row in database.rows("SELECT * FROM vm WHERE lineage_id IS NOT NULL ORDER BY lineage_id, attempt"):
        lines[row["lineage_id"]].append(row)
    lineages = {row["id"]: row for row in database.rows("SELECT * FROM lineage")}
    assert lines.keys() == lineages.keys()
    for lineage_id, members in lines.items():
        lineage = lineages[lineage_id]
        assert [row["attempt"] for row in members] == list(range(len(members))), members
        assert [row["restart_of"] for row in members] == [None, *(row["id"] for row in members[:-1])], members
        assert members[0]["id"] == lineage_id and all(row["state"] == "evicted" for row in members[:-1]), members
        restarts = sum(row["attempt"] > 0 and row["launched_at"] is not None for row in members)
        assert restarts <= lineage["restarts"] <= lineage["max_restarts"], lineage
        living = [row for row in members if row["ended_at"] is None]
        assert bool(living) == (lineage["ended_at"] is None), (lineage, members)
        for before, after in zip(members, members[1:]):
            assert before["ended_at"] <= after["created_at"]
            assert after["name"] == before["name"] and after["flavor"] == before["flavor"]
        if lineage["ended_at"] is not None:
            assert all(row["created_at"] <= lineage["ended_at"] for row in members), (lineage, members)
        kept = {row["id"] for row in members if (row["boot"] or {}).get("user_data")}
        assert kept <= {row["id"] for row in living}, "user data are kept for the VM that is there alone"
