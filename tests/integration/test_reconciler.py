"""The reconciler among look-alikes: whatever the cloud shows, it deletes what is ours and unwanted, after two
sightings, and nothing else; and it tells of a loss only after a 404."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings, strategies as some

from tests.examples import examples
from tests.integration.conftest import new_vm, read
from tests.servers import server_of
from vmsvc.cloud.port import EVICT_AT, KIND, MARK, OWNER
from vmsvc.domain.errors import CloudUnavailable, Locked, NotFound
from vmsvc.domain.lifecycle import State
from vmsvc.domain.timing import Timing
from vmsvc.service.reconciler import Reconciler
from vmsvc.service.runtime import Runtime
from vmsvc.store import db, vms

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
OURS = "ours"
AT_ONCE = Timing(reconciler_round=0.0, reconciler_round_noticed=0.0)
#: Who says that the server is theirs: pairs of keys and values that look like our mark, or nearly.
MARKS = [
    {OWNER: OURS},
    {OWNER: "another"},
    {OWNER: OURS.upper()},
    {OWNER.upper(): OURS},
    {OWNER: ""},
    {},
    {OWNER: f" {OURS}"},
    {"deployment": OURS},
]


class Enough(Exception):
    """So many rounds were made."""


class Stage:
    """A cloud and its server cache for so many rounds."""

    def __init__(self, rounds):
        self.servers = rounds[0]
        self._rounds = iter(rounds)
        self.deleted, self.asked, self.written = [], [], []
        self.answers = {}

    async def refresh(self, _max_age=0.0):
        """The next round shows this."""
        self.servers = next(self._rounds, None)
        if self.servers is None:
            raise Enough

    async def read_server(self, server_id):
        """GET; None for 404."""
        self.asked.append(server_id)
        error = self.answers.get(server_id)
        if error and not isinstance(error, NotFound):
            raise error
        return None if error else shown(server_id, {})

    async def set_metadata(self, server_id, items):
        """POST metadata."""
        self.written.append((server_id, items))

    async def delete(self, server_id):
        """DELETE."""
        self.deleted.append(server_id)
        if server_id in self.answers:
            raise Locked("locked")


def shown(server_id, metadata, status="ACTIVE"):
    """A server in the list."""
    return server_of(server_id, status=status, metadata=metadata)


def reconcile(*rounds, answers=()):
    """Some rounds over these lists; the stage afterwards."""
    stage = Stage([{server.id: server for server in servers} for servers in rounds])
    stage.answers.update(answers)

    async def run():
        runtime = Runtime(AT_ONCE, 2)
        with pytest.raises(Enough):
            await Reconciler(runtime, stage, stage, AT_ONCE, OURS).run()
        await runtime.stop()

    asyncio.run(run())
    return stage


@pytest.fixture(name="rows")
def fixture_rows(store):
    """A request in each state, by its name; those that have a server have `server-<state>`."""
    assert store
    rows = {}
    for state in ("pending", "building", "active", "deleting", "deleted", "failed"):
        rows[state] = new_vm(is_preemptible=True).id
    store.rows("UPDATE vm SET state = 'building', cloud_id = NULL WHERE id = %s", rows["building"])
    for state in ("active", "deleting", "deleted"):
        store.rows(
            "UPDATE vm SET state = %s, cloud_id = %s, ended_at = CASE WHEN %s = 'deleted' THEN now() END WHERE id = %s",
            state,
            f"server-{state}",
            state,
            rows[state],
        )
    store.rows("UPDATE vm SET state = 'failed', ended_at = now() WHERE id = %s", rows["failed"])
    return rows


def unwanted(rows, server):
    """The rule, in other words than the reconciler's: our deployment's mark on a server that no open row can want."""
    if server.metadata.get(OWNER) != OURS or MARK not in server.metadata:
        return False
    if server.metadata[MARK] not in rows.values():  # a restored backup does not know it
        return False
    wanting = {
        rows["pending"]: None,
        rows["building"]: None,
        rows["active"]: "server-active",
        rows["deleting"]: "server-deleting",
    }
    if server.metadata[MARK] not in wanting:
        return True
    return wanting[server.metadata[MARK]] not in (None, server.id)


@settings(max_examples=examples(20, 60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=some.data())
def test_a_server_with_a_mark_of_another_deployment_is_never_touched(rows, data):
    names = [*rows.values(), "nobody", "", "VM-1"]
    drawn = data.draw(
        some.lists(
            some.tuples(
                some.sampled_from(MARKS),
                some.one_of(some.none(), some.sampled_from(names)),
                some.sampled_from(["ACTIVE", "ERROR", "SHUTOFF", "BUILD"]),
            ),
            max_size=12,
        )
    )
    servers = [
        shown("server-active", {MARK: rows["active"], OWNER: OURS}),
        *(
            shown(f"server-{number}", {**mark, **({} if name is None else {MARK: name})}, status)
            for number, (mark, name, status) in enumerate(drawn)
        ),
    ]
    gone = {server.id for server in servers if unwanted(rows, server)}
    assert not reconcile(servers).deleted, "once seen is not enough"
    assert set(reconcile(servers, servers).deleted) == gone
    assert not reconcile(servers, [], servers).deleted, "twice, but not twice running"


def test_a_left_over_that_cannot_be_deleted_is_tried_again_and_keeps_no_other(rows):
    servers = [
        shown("server-active", {MARK: rows["active"], OWNER: OURS}),
        *(shown(name, {MARK: rows["deleted"], OWNER: OURS}) for name in ("a", "b")),
    ]
    stage = reconcile(servers, servers, servers, answers={"a": Locked("by an admin")})
    assert stage.deleted.count("a") == 2 and "b" in stage.deleted


@pytest.mark.parametrize(
    "answer, state", [(None, "active"), (CloudUnavailable("500"), "active"), (NotFound("404"), "lost")]
)
def test_only_a_404_is_a_loss(rows, store, answer, state):
    stage = reconcile([], [], answers={"server-active": answer} if answer else {})
    assert "server-active" in stage.asked
    assert read(rows["active"]).state == state
    told = [row["state"] for row in store.rows("SELECT state FROM event WHERE type = 'delete'")]
    assert told == (["lost"] if state == "lost" else [])
    assert not stage.deleted


def test_what_leaves_by_our_own_hand_is_not_lost(rows):
    reconcile(
        [shown("server-active", {MARK: rows["active"], OWNER: OURS})], [], answers={"server-deleting": NotFound("404")}
    )
    with db.reading():
        assert vms.get("server-deleting").state == State.DELETING


@pytest.mark.parametrize("carried", ["pending", "failed", "building"])
def test_whom_an_open_row_names_stays_whatever_its_owner_wrote_into_its_marks(rows, carried):
    named = shown("server-active", {MARK: rows[carried], OWNER: OURS})
    stage = reconcile([named], [named], [named])
    assert not stage.deleted
    assert stage.written == [("server-active", {MARK: rows["active"], KIND: "preemptible"})], "once a minute"


def test_a_server_without_a_row_is_known_by_the_reconciler_and_kept(rows, caplog):
    servers = [
        shown("server-active", {MARK: rows["active"], OWNER: OURS, KIND: "preemptible"}),
        shown("server-restored", {MARK: "of-no-row", OWNER: OURS}),
    ]
    stage = reconcile(servers, servers, servers)
    assert not stage.deleted and not stage.written
    assert "server-restored" in caplog.text


def test_a_false_notice_is_put_right_when_it_was_seen_twice_and_once_a_minute(rows, store):
    ours = {MARK: rows["active"], OWNER: OURS, KIND: "preemptible"}
    told, as_it_is = [[shown("server-active", {**ours, **more})] for more in ({EVICT_AT: "2030"}, {})]
    stranger = shown("server-strange", {EVICT_AT: "2030", OWNER: "another", MARK: rows["active"]})

    def wishes():
        return [
            (row["kind"], row["wishes"])
            for row in store.rows(
                "SELECT kind, wishes FROM intent WHERE done_at IS NULL AND kind IN ('notice', 'reprieve')"
            )
        ]

    reconcile(told, as_it_is, told)
    assert not wishes(), "twice, but not twice running"
    stage = reconcile([*told, stranger], [*told, stranger], [*told, stranger], [*told, stranger])
    assert wishes() == [("reprieve", 1)]
    assert not stage.written and not stage.deleted
    reconcile(told, told)
    assert wishes() == [("reprieve", 1)], "somebody is at it anyway"
    store.rows("UPDATE intent SET done_at = now() RETURNING 1")
    reconcile([replace(told[0], locked=True)], [replace(told[0], locked=True)])
    assert not wishes(), "Nova writes no metadata of a locked server"
