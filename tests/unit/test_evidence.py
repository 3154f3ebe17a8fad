"""The judge of an integrity run can fail: recorded runs, each with one thing wrong."""

import copy
from datetime import UTC, datetime

import pytest

from tests.chaos.evidence import Attempt, Evidence, Page, ReceivedEvents, judge, report

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
    evidence = Evidence(grace=1.0, limit=10.0, budgets={"batch": 1})
    evidence.events = [
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
    evidence.receivers = [
        ReceivedEvents(None, list(evidence.events), 2),
        ReceivedEvents("evict", evidence.events[4:7], 1),
    ]
    evidence.pages = [Page(2, 2, None, evidence.events[2:4], 4)]
    evidence.attempts = [
        Attempt("create", "vm-1", START, 1, 201, {"vm": {"id": VICTIM_SERVER}, "evicted": []}, "vm-1"),
        Attempt("create", "vm-2", START + 2, 4, 201, {"vm": {"id": ASKER_SERVER}, "evicted": [VICTIM_SERVER]}, "vm-2"),
        Attempt(
            "create", "vm-2", START + 7, 0.1, 201, {"vm": {"id": ASKER_SERVER}, "evicted": [VICTIM_SERVER]}, "vm-2"
        ),
        Attempt("dry run", "dry-1", START, 0.1, 200, {}),
        Attempt("show", VICTIM_SERVER, START + 8, 0.1, 404, {}),
    ]
    evidence.evictions = [
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
    evidence.servers = {ASKER_SERVER: {"metadata": {"vmsvc_id": ASKER}}, "other": {"metadata": {}}}
    evidence.foreign, evidence.ports, evidence.consumers = {"other"}, {"port": ASKER_SERVER}, {ASKER_SERVER, "other"}
    evidence.lists = [[{"id": ASKER_SERVER, "vmsvc_id": ASKER, "state": "active"}, {"id": "other"}]]
    evidence.hosts, evidence.quota = [{"name": "host", "used": {"VCPU": 2}, "total": {"VCPU": 4}}], {"Cores": (1, 4)}
    evidence.removal_calls = [
        {"at": START + 4.1, "method": "DELETE", "path": f"/v2.1/servers/{VICTIM_SERVER}", "status": 204}
    ]
    return copy.deepcopy(evidence)


def leave_out(seq):
    """The history without one event, with numbers that hide it."""

    def act(evidence):
        del evidence.events[seq - 1]
        for number, one in enumerate(evidence.events, 1):
            one["data"]["seq"], one["id"] = number, str(number)
        evidence.receivers, evidence.pages = [], []

    return act


def early(evidence):
    """It goes half a second after its notice, which promised so."""
    evidence.events[4]["data"]["evict_at"], evidence.events[5]["time"] = at(3.5), at(3.5)


def twice(evidence):
    """Its notice is said again, with an earlier time."""
    again = event(6, 3.2, "evict/noticed", VICTIM, VICTIM_SERVER, evict_at=at(3.9))
    evidence.events.insert(5, again)


def other_vm(evidence):
    """One more VM by the name of the request."""
    evidence.events += [
        event(10, 7, "create/pending", "another", "another"),
        event(11, 7.1, "create/failed", "another", "another"),
    ]


def change(path, value):
    """Put a value somewhere into the evidence: `path` are attributes, keys and numbers."""

    def act(evidence):
        target = evidence
        for name in path[:-1]:
            target = getattr(target, name) if isinstance(name, str) and hasattr(target, name) else target[name]
        if hasattr(target, "__dataclass_fields__"):
            setattr(target, path[-1], value)
        else:
            target[path[-1]] = value

    return act


BROKEN = {
    "a gap in the history": ("seq", lambda evidence: evidence.events.pop(3)),
    "times that go back": ("seq", change(("events", 3, "time"), at(0))),
    "a socket that missed one": ("socket", lambda evidence: evidence.receivers[0].events.pop(4)),
    "a socket that received one twice": (
        "socket",
        lambda evidence: evidence.receivers[0].events.insert(4, evidence.events[3]),
    ),
    "a socket that received no end": ("socket", lambda evidence: evidence.receivers[1].events.pop()),
    "a socket that received something else": (
        "socket",
        change(("receivers", 0, "events", 4), event(5, 3, "delete/lost", VICTIM, VICTIM_SERVER)),
    ),
    "a page that left one out": ("page", lambda evidence: evidence.pages[0].events.pop(0)),
    "an eviction without a notice": ("order", leave_out(5)),
    "a vm that never was active": ("order", leave_out(3)),
    "a vm that is still on its way": ("final", lambda evidence: evidence.events.pop()),
    "no rest": ("final", lambda evidence: evidence.unsettled.append("there was no rest")),
    "a request that hangs": ("request", change(("attempts", 3, "status"), 0)),
    "a late answer": ("request", change(("attempts", 3, "seconds"), 99)),
    "a 500": ("request", change(("attempts", 3, "status"), 500)),
    "a good request that is refused": ("request", change(("attempts", 0, "status"), 400)),
    "two vms for one key": ("one key", other_vm),
    "a vm that nobody asked for": ("one key", lambda evidence: evidence.attempts.pop(0)),
    "a vm from a dry run": ("one key", change(("attempts", 0, "what"), "dry run")),
    "another answer for a key": ("one key", change(("attempts", 2, "body"), {"vm": {"id": "x"}, "evicted": []})),
    "an answer without a vm": ("201", change(("attempts", 0, "body"), {"vm": {"id": "x"}, "evicted": []})),
    "a vm that vanished": ("201", lambda evidence: evidence.servers.pop(ASKER_SERVER)),
    "a 404 for one that is there": ("404", change(("attempts", 4, "ref"), ASKER_SERVER)),
    "a delete that did nothing": ("deleted", change(("attempts", 4), Attempt("delete", ASKER, START + 8, 1, 200))),
    "a server of ours that no vm has": ("cloud", change(("servers", "x"), {"metadata": {"vmsvc_id": VICTIM}})),
    "a server of another vm": ("cloud", change(("servers", ASKER_SERVER, "metadata", "vmsvc_id"), VICTIM)),
    "a list without it": ("list", lambda evidence: evidence.lists[0].pop(0)),
    "a list that is behind": ("list", change(("lists", 0, 0, "state"), "building")),
    "somebody else's server": ("foreign", lambda evidence: evidence.servers.pop("other")),
    "a touch of somebody else's": ("foreign", change(("removal_calls", 0, "path"), "/v2.1/servers/other")),
    "a port": ("left over", change(("ports", "x"), VICTIM_SERVER)),
    "an allocation": ("left over", lambda evidence: evidence.consumers.add(VICTIM_SERVER)),
    "a notice": ("left over", change(("servers", ASKER_SERVER, "metadata", "vmsvc_evict_at"), at(9))),
    "too full a host": ("capacity", change(("hosts", 0, "used"), {"VCPU": 5})),
    "more than the quota": ("capacity", change(("quota", "Cores"), (5, 4))),
    "a stop before the event": ("untouched", change(("removal_calls", 0, "at"), START + 3.9)),
    "a delete of one that stays": ("untouched", change(("removal_calls", 0, "path"), f"/v2.1/servers/{ASKER_SERVER}")),
    "an eviction before its time": ("notice", change(("events", 5, "time"), at(3.5))),
    "a short notice": ("notice", early),
    "a notice that is taken back": ("notice", twice),
    "an ack that nobody sent": ("notice", change(("events", 5, "data", "vm", "acknowledged_at"), at(3.9))),
    "no record": ("record", lambda evidence: evidence.evictions.clear()),
    "two records": ("record", lambda evidence: evidence.evictions.append(evidence.evictions[0])),
    "one that was never freed": ("record", change(("evictions", 0, "freed_at"), None)),
    "one for nothing": ("record", change(("evictions", 0, "fulfilled_at"), None)),
    "a third round": ("record", change(("evictions", 0, "round"), 3)),
    "for a preemptible vm": ("record", change(("events", 3, "data", "vm", "is_preemptible"), True)),
    "of a standard vm": ("record", change(("events", 0, "data", "vm", "is_preemptible"), False)),
    "an answer that hides its victims": ("record", lambda evidence: evidence.attempts[1].body.update(evicted=[])),
    "more of a group than may": ("budget", change(("budgets", "batch"), 0)),
}


def test_a_run_in_order_passes_and_all_of_it_is_checked():
    wrong, checked = judge(whole())
    assert not wrong
    assert checked["events"] == 9 and checked["evictions"] == 1 and checked["events received"] == 12


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_found(name):
    invariant, break_it = BROKEN[name]
    evidence = whole()
    break_it(evidence)
    wrong, _ = judge(evidence)
    assert invariant in {one.invariant for one in wrong}
    assert all(report(evidence, one) for one in wrong)


def test_the_report_has_the_history_of_the_vm():
    evidence = whole()
    evidence.evictions.clear()
    text = report(evidence, next(one for one in judge(evidence)[0] if one.vm == VICTIM))
    for part in ("seq 5 evict/noticed", "DELETE /v2.1/servers/server-victim", "show -> 404", "create -> 201"):
        assert part in text
