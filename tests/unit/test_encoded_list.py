"""A list that is kept shows what one would that is made from scratch, whatever happened and in whichever order."""

import json
import random
from datetime import timedelta

import pytest

from tests.unit.test_snapshot import NOW, server
from tests.unit.worlds import one_of
from vmsvc.cloud.port import MARK
from vmsvc.domain.lifecycle import FINAL, State
from vmsvc.service.listing import vm_view
from vmsvc.service.listing.encoded_list import EncodedList, ListedVm


def row(name, state=State.ACTIVE, **fields):
    """A row; its server's id is its name in capitals, once it has one."""
    return ListedVm(
        **{
            "id": name,
            "cloud_id": None if state is State.PENDING else name.upper(),
            "name": f"vm {name}",
            "state": state,
            "is_preemptible": True,
            "flavor": "m1.tiny",
            "image": "i",
            "network": "n",
            "host": None,
            "priority": 0,
            "min_run_seconds": 0,
            "group_name": None,
            "max_unavailable": None,
            "principal": "ann",
            "created_at": NOW,
            "launched_at": NOW,
            "evict_at": None,
            "acknowledged_at": None,
            "ended_at": None,
            "notice": None,
            "outcome": None,
            **fields,
        }
    )


def from_scratch(servers, rows):
    """Every server once, ours with its row, then the requests without a server, oldest first. Where the one that is
    built is not in the cloud, the request is still there."""
    by_server = {each.cloud_id: each for each in rows.values() if each.cloud_id}
    without = {each.id: each for each in rows.values() if not each.cloud_id}
    found = []
    for each in sorted(servers.values(), key=lambda server: server.id):
        joined = by_server.get(each.id) or without.pop(each.vmsvc_id, None)
        if joined is None or joined.state not in FINAL:
            found.append(vm_view.server_view(each, joined and joined._asdict()))
    lost = [each for each in by_server.values() if each.state is State.BUILDING and each.cloud_id not in servers]
    waiting = sorted(
        (each for each in [*without.values(), *lost] if each.state not in FINAL),
        key=lambda row: (row.created_at, row.id),
    )
    return json.loads(json.dumps(found)), json.loads(
        json.dumps([vm_view.request_view(each._asdict()) for each in waiting])
    )


class Life:
    """Rows and servers that change at random."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.rows, self.servers, self.changed, self.seen = {}, {}, set(), set()

    def change_row(self):
        """A row is new, changes, or is left out."""
        rng = self.rng
        name, is_removed = one_of(rng, "abcdefgh", self.rows, self.changed, leaves=0.15)
        if is_removed:
            return
        state = rng.choice(
            (
                State.PENDING,
                State.BUILDING,
                *[State.ACTIVE] * 3,
                State.NOTICED,
                State.DELETING,
                State.DELETED,
                State.FAILED,
            )
        )
        taken = {each.cloud_id for each in self.rows.values() if each.id != name}
        named = rng.choice((None, name.upper(), name.upper(), rng.choice("ABCDEFGH")))
        self.rows[name] = row(
            name,
            state,
            cloud_id=None if named in taken else named,
            priority=rng.randint(0, 1),
            created_at=NOW + timedelta(seconds=rng.randint(0, 3)),
        )

    def change_server(self):
        """A server comes, changes or goes; sometimes it carries another's mark, or none."""
        rng = self.rng
        name, is_removed = one_of(rng, "ABCDEFGH", self.servers, self.seen, leaves=0.3)
        if is_removed:
            return
        mark = rng.choice((name.lower(), name.lower(), rng.choice("abcdefgh"), None))
        self.servers[name] = server(
            name, metadata={MARK: mark} if mark else {}, body={"id": name, "status": rng.choice(("ACTIVE", "BUILD"))}
        )

    def take_changes(self):
        """What changed since the last time, as the roll is told it."""
        changed, self.changed = self.changed, set()
        seen, self.seen = self.seen, set()
        return self.rows, changed, {name: self.servers.get(name) for name in seen}


@pytest.mark.parametrize("seed", range(40))
def test_the_updated_list_equals_one_made_from_scratch(seed):
    life, encoded_list = Life(seed), EncodedList()
    for seq in range(100):
        for _ in range(life.rng.choice((0, 1, 1, 2, 5))):
            life.rng.choice((life.change_row, life.change_server))()
        page = encoded_list.update(*life.take_changes(), seq)
        shown = json.loads(page.body)
        servers, waiting = from_scratch(life.servers, life.rows)
        assert shown["seq"] == page.seq == seq
        assert sorted(shown["servers"][: len(servers)], key=lambda each: each["id"]) == servers
        assert shown["servers"][len(servers) :] == waiting
        assert (
            page.missing
            == {each.cloud_id for each in life.rows.values() if each.cloud_id and each.state not in FINAL}
            - life.servers.keys()
        )


def test_without_a_change_the_page_is_the_same_and_equal_bytes_have_equal_tags():
    encoded_list, rows, servers = EncodedList(), {"a": row("a")}, {"A": server("A", body={"id": "A"})}
    page = encoded_list.update(rows, rows, servers, 7)
    assert encoded_list.update(rows, (), {}, 7) is page
    assert encoded_list.update(rows, rows, servers, 7) is page, "it was told again as it was"
    other = EncodedList().update(rows, rows, servers, 7)
    assert (other.body, other.etag) == (page.body, page.etag)
    later = encoded_list.update(rows, (), {}, 8)
    assert later.etag != page.etag and json.loads(later.body)["seq"] == 8


def test_a_server_that_a_row_names_and_the_cloud_has_not_shown_is_missing():
    encoded_list, rows = EncodedList(), {"a": row("a"), "b": row("b", State.DELETED), "c": row("c", State.PENDING)}
    page = encoded_list.update(rows, rows, {}, 1)
    assert page.missing == {"A"}
    assert [each["id"] for each in json.loads(page.body)["servers"]] == ["c"]
    page = encoded_list.update(rows, (), {"A": server("A", body={"id": "A"})}, 1)
    assert not page.missing
    assert [each["id"] for each in json.loads(page.body)["servers"]] == ["A", "c"]
