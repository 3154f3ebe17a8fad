"""The judge of an integrity run can fail: recorded runs, each with one thing wrong."""

import copy
from datetime import UTC, datetime

import pytest

from tests.chaos.outside import Attempt, Ear, Evidence, Page, judge, told

START = datetime(2026, 11, 30, 8, 0, tzinfo=UTC).timestamp()
VICTIM, ASKER = "row-victim", "row-asker"
VICTIM_SERVER, ASKER_SERVER = "server-victim", "server-asker"


def at(seconds):
    """A time of the run as events write it."""
    return datetime.fromtimestamp(START + seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event(seq, seconds, kind, vm, subject, **data):
    """An event of the victim or of the request that it goes for."""
    victim = vm == VICTIM
    view = {
        "vmsvc_id": vm,
        "id": subject,
        "name": "vm-1" if victim else "vm-2",
        "is_preemptible": victim,
        "group": "batch" if victim else None,
        "acknowledged_at": None,
    }
    return {
        "id": str(seq),
        "type": kind.partition("/")[0],
        "subject": subject,
        "time": at(seconds),
        "data": {"seq": seq, "state": kind.partition("/")[2], "vm": view, **data},
    }


def whole():
    """A run in which one VM is evicted for another, all in order."""
    seen = Evidence(grace=1.0, limit=10.0, budgets={"batch": 1})
    seen.events = [
        event(1, 0, "create/pending", VICTIM, VICTIM),
        event(2, 0.1, "create/building", VICTIM, VICTIM),
        event(3, 1, "create/active", VICTIM, VICTIM_SERVER),
        event(4, 2, "create/pending", ASKER, ASKER),
        event(5, 3, "evict/noticed", VICTIM, VICTIM_SERVER, evict_at=at(4)),
        event(6, 4, "evict/evicting", VICTIM, VICTIM_SERVER),
        event(7, 5, "evict/evicted", VICTIM, VICTIM_SERVER),
        event(8, 5.1, "create/building", ASKER, ASKER),
        event(9, 6, "create/active", ASKER, ASKER_SERVER),
    ]
    seen.ears = [Ear(None, list(seen.events), 2), Ear("evict", seen.events[4:7], 1)]
    seen.pages = [Page(2, 2, None, seen.events[2:4], 4)]
    seen.attempts = [
        Attempt("create", "vm-1", START, 1, 201, {"vm": {"id": VICTIM_SERVER}, "evicted": []}, "vm-1"),
        Attempt("create", "vm-2", START + 2, 4, 201, {"vm": {"id": ASKER_SERVER}, "evicted": [VICTIM_SERVER]}, "vm-2"),
        Attempt(
            "create", "vm-2", START + 7, 0.1, 201, {"vm": {"id": ASKER_SERVER}, "evicted": [VICTIM_SERVER]}, "vm-2"
        ),
        Attempt("dry run", "dry-1", START, 0.1, 200, {}),
        Attempt("show", VICTIM_SERVER, START + 8, 0.1, 404, {}),
    ]
    seen.evictions = [
        {
            "vm": {"vmsvc_id": VICTIM, "id": VICTIM_SERVER},
            "request": {"vmsvc_id": ASKER},
            "round": 1,
            "evicting_at": at(4),
            "freed_at": at(5),
            "fulfilled_at": at(6),
            "wasted": None,
        }
    ]
    seen.servers = {ASKER_SERVER: {"metadata": {"vmsvc_id": ASKER}}, "other": {"metadata": {}}}
    seen.foreign, seen.ports, seen.consumers = {"other"}, {"port": ASKER_SERVER}, {ASKER_SERVER, "other"}
    seen.lists = [[{"id": ASKER_SERVER, "vmsvc_id": ASKER, "state": "active"}, {"id": "other"}]]
    seen.hosts, seen.quota = [{"name": "host", "used": {"VCPU": 2}, "total": {"VCPU": 4}}], {"Cores": (1, 4)}
    seen.touched = [{"at": START + 4.1, "method": "DELETE", "path": f"/v2.1/servers/{VICTIM_SERVER}", "status": 204}]
    return copy.deepcopy(seen)


def leave_out(seq):
    """The history without one event, with numbers that hide it."""

    def act(seen):
        del seen.events[seq - 1]
        for number, one in enumerate(seen.events, 1):
            one["data"]["seq"], one["id"] = number, str(number)
        seen.ears, seen.pages = [], []

    return act


def early(seen):
    """It goes half a second after its notice, which promised so."""
    seen.events[4]["data"]["evict_at"], seen.events[5]["time"] = at(3.5), at(3.5)


def twice(seen):
    """Its notice is said again, with an earlier time."""
    again = event(6, 3.2, "evict/noticed", VICTIM, VICTIM_SERVER, evict_at=at(3.9))
    seen.events.insert(5, again)


def other_vm(seen):
    """One more VM by the name of the request."""
    seen.events += [
        event(10, 7, "create/pending", "another", "another"),
        event(11, 7.1, "create/failed", "another", "another"),
    ]


def change(path, value):
    """Put a value somewhere into the evidence: `path` are attributes, keys and numbers."""

    def act(seen):
        target = seen
        for name in path[:-1]:
            target = getattr(target, name) if isinstance(name, str) and hasattr(target, name) else target[name]
        if hasattr(target, "__dataclass_fields__"):
            setattr(target, path[-1], value)
        else:
            target[path[-1]] = value

    return act


BROKEN = {
    "a gap in the history": ("seq", lambda seen: seen.events.pop(3)),
    "times that go back": ("seq", change(("events", 3, "time"), at(0))),
    "a socket that missed one": ("socket", lambda seen: seen.ears[0].heard.pop(4)),
    "a socket that heard one twice": ("socket", lambda seen: seen.ears[0].heard.insert(4, seen.events[3])),
    "a socket that heard no end": ("socket", lambda seen: seen.ears[1].heard.pop()),
    "a socket that heard something else": (
        "socket",
        change(("ears", 0, "heard", 4), event(5, 3, "delete/lost", VICTIM, VICTIM_SERVER)),
    ),
    "a page that left one out": ("page", lambda seen: seen.pages[0].events.pop(0)),
    "an eviction without a notice": ("order", leave_out(5)),
    "a vm that never was active": ("order", leave_out(3)),
    "a vm that is still on its way": ("final", lambda seen: seen.events.pop()),
    "no rest": ("final", lambda seen: seen.hurt.append("there was no rest")),
    "a request that hangs": ("request", change(("attempts", 3, "status"), 0)),
    "a late answer": ("request", change(("attempts", 3, "seconds"), 99)),
    "a 500": ("request", change(("attempts", 3, "status"), 500)),
    "a good request that is refused": ("request", change(("attempts", 0, "status"), 400)),
    "two vms for one key": ("one key", other_vm),
    "a vm that nobody asked for": ("one key", lambda seen: seen.attempts.pop(0)),
    "a vm from a dry run": ("one key", change(("attempts", 0, "what"), "dry run")),
    "another answer for a key": ("one key", change(("attempts", 2, "body"), {"vm": {"id": "x"}, "evicted": []})),
    "an answer without a vm": ("201", change(("attempts", 0, "body"), {"vm": {"id": "x"}, "evicted": []})),
    "a vm that vanished": ("201", lambda seen: seen.servers.pop(ASKER_SERVER)),
    "a 404 for one that is there": ("404", change(("attempts", 4, "ref"), ASKER_SERVER)),
    "a delete that did nothing": ("deleted", change(("attempts", 4), Attempt("delete", ASKER, START + 8, 1, 200))),
    "a server of ours that no vm has": ("cloud", change(("servers", "x"), {"metadata": {"vmsvc_id": VICTIM}})),
    "a server of another vm": ("cloud", change(("servers", ASKER_SERVER, "metadata", "vmsvc_id"), VICTIM)),
    "a list without it": ("list", lambda seen: seen.lists[0].pop(0)),
    "a list that is behind": ("list", change(("lists", 0, 0, "state"), "building")),
    "somebody else's server": ("foreign", lambda seen: seen.servers.pop("other")),
    "a touch of somebody else's": ("foreign", change(("touched", 0, "path"), "/v2.1/servers/other")),
    "a port": ("left over", change(("ports", "x"), VICTIM_SERVER)),
    "an allocation": ("left over", lambda seen: seen.consumers.add(VICTIM_SERVER)),
    "a notice": ("left over", change(("servers", ASKER_SERVER, "metadata", "vmsvc_evict_at"), at(9))),
    "too full a host": ("capacity", change(("hosts", 0, "used"), {"VCPU": 5})),
    "more than the quota": ("capacity", change(("quota", "Cores"), (5, 4))),
    "a stop before the event": ("untouched", change(("touched", 0, "at"), START + 3.9)),
    "a delete of one that stays": ("untouched", change(("touched", 0, "path"), f"/v2.1/servers/{ASKER_SERVER}")),
    "an eviction before its time": ("notice", change(("events", 5, "time"), at(3.5))),
    "a short notice": ("notice", early),
    "a notice that is taken back": ("notice", twice),
    "an ack that nobody sent": ("notice", change(("events", 5, "data", "vm", "acknowledged_at"), at(3.9))),
    "no record": ("record", lambda seen: seen.evictions.clear()),
    "two records": ("record", lambda seen: seen.evictions.append(seen.evictions[0])),
    "one that was never freed": ("record", change(("evictions", 0, "freed_at"), None)),
    "one for nothing": ("record", change(("evictions", 0, "fulfilled_at"), None)),
    "a third round": ("record", change(("evictions", 0, "round"), 3)),
    "for a preemptible vm": ("record", change(("events", 3, "data", "vm", "is_preemptible"), True)),
    "of a standard vm": ("record", change(("events", 0, "data", "vm", "is_preemptible"), False)),
    "an answer that hides its victims": ("record", lambda seen: seen.attempts[1].body.update(evicted=[])),
    "more of a group than may": ("budget", change(("budgets", "batch"), 0)),
}


def test_a_run_in_order_passes_and_all_of_it_is_looked_at():
    wrong, looked = judge(whole())
    assert not wrong
    assert looked["events"] == 9 and looked["evictions"] == 1 and looked["events heard"] == 12


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_found(name):
    invariant, break_it = BROKEN[name]
    seen = whole()
    break_it(seen)
    wrong, _ = judge(seen)
    assert invariant in {one.invariant for one in wrong}
    assert all(told(seen, one) for one in wrong)


def test_the_report_has_the_history_of_the_vm():
    seen = whole()
    seen.evictions.clear()
    text = told(seen, next(one for one in judge(seen)[0] if one.vm == VICTIM))
    for part in ("seq 5 evict/noticed", "DELETE /v2.1/servers/server-victim", "show -> 404", "create -> 201"):
        assert part in text
