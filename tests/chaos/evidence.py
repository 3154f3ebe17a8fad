"""The invariants of vmsvc, checked from outside alone: by the answers to its clients, the events on its sockets and in
its history, and what the cloud shows and has logged. This module imports nothing of vmsvc and reads no database.

`judge(evidence)` returns each invariant that does not hold, and how many things of each kind it checked.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

#: After each event of a VM (type/state; None: before its first event) the events that may come next.
RUNNING = frozenset({"evict/noticed", "delete/deleting", "delete/lost"})
NEXT_STEPS: dict[str | None, frozenset[str]] = {
    None: frozenset({"create/pending"}),
    "create/pending": frozenset({"create/building", "create/failed", "delete/deleting"}),
    # A VM whose host refused it goes back to pending without an event, so `building` can come twice.
    "create/building": frozenset(
        {"create/building", "create/active", "create/failed", "delete/deleting", "delete/lost"}
    ),
    "create/active": RUNNING,
    "evict/noticed": RUNNING | {"evict/reprieved", "evict/evicting"},
    "evict/reprieved": RUNNING,
    "evict/evicting": frozenset({"evict/evicted"}),
    "delete/deleting": frozenset({"delete/deleted"}),
}
FINAL_STEPS = frozenset({"create/failed", "evict/evicted", "delete/deleted", "delete/lost"})
#: A VM whose last event is one of these has a server.
STEPS_WITH_SERVER = frozenset({"create/active", "evict/reprieved"})
LEAVING_STEPS = frozenset({"evict/evicting", "delete/deleting", "delete/lost", "create/failed"})
#: The statuses that a request may get during the disturbances. 400 is never right: the clients send valid requests.
BUSY = frozenset({429, 502, 503, 504})
ANSWERS = {
    "create": BUSY | {201, 202, 403, 409},
    "dry run": BUSY | {200},
    "delete": BUSY | {200, 202, 404},
    "ack": BUSY | {200, 404, 409},
    "practise": BUSY | {202, 404, 409},
    "show": BUSY | {200, 404},
    "show foreign": BUSY | {200, 404},
    "list": BUSY | {200, 304},
    "read": BUSY | {200},
}
MOST_ROUNDS = 2
#: Seconds by which two times may disagree: events have milliseconds, and two processes wrote them.
CLOCK = 0.02


@dataclass
class Attempt:  # pylint: disable=too-many-instance-attributes
    """One HTTP request of a client, and its answer. `status` is None where a replica that was ended cut the connection,
    and 0 where no answer came otherwise. `ref` is the VM's id; for a create or a dry run it is the name, which is the
    same in each try of one request and in no other request."""

    what: str
    ref: str
    at: float  # when it was sent, in seconds since the epoch
    seconds: float = 0.0
    status: int | None = None
    body: dict | None = None
    key: str | None = None
    etag: str | None = None


@dataclass
class Page:
    """A page of the history that a client read while the run went on. `seq` is the answer's: where the page ends."""

    since: int
    limit: int
    kind: str | None
    events: list[dict] = field(default_factory=list)
    seq: int = 0


@dataclass
class ReceivedEvents:
    """The events that one WebSocket client received over all its connections. `kind` is the only type of event that it
    asked for; None: all types."""

    kind: str | None
    events: list[dict] = field(default_factory=list)
    connections: int = 0


@dataclass
class Evidence:  # pylint: disable=too-many-instance-attributes
    """What a run observed and did, for `judge`. Lists, servers and the record are read after all disturbances."""

    grace: float  # seconds
    limit: float  # seconds in which every request is answered
    budgets: dict[str, int] = field(default_factory=dict)  # max_unavailable of each eviction group
    attempts: list[Attempt] = field(default_factory=list)
    receivers: list[ReceivedEvents] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)
    events: list[dict] = field(default_factory=list)  # GET /events, all pages
    evictions: list[dict] = field(default_factory=list)  # GET /evictions, all pages
    lists: list[list[dict]] = field(default_factory=list)  # GET /vm of each replica
    servers: dict[str, dict] = field(default_factory=dict)  # of the cloud, by id
    ports: dict[str, str] = field(default_factory=dict)  # port -> server
    consumers: set[str] = field(default_factory=set)  # who has allocations in Placement
    hosts: list[dict] = field(default_factory=list)  # name, used, total
    quota: dict[str, tuple[int, int]] = field(default_factory=dict)  # item -> used, limit
    removal_calls: list[dict] = field(default_factory=list)  # the cloud's log: calls that end a server, with `at`
    vanished: set[str] = field(default_factory=set)  # servers that the run itself deleted in the cloud
    halted: set[str] = field(default_factory=set)  # servers that the run switched off
    foreign: set[str] = field(default_factory=set)  # servers of others, which vmsvc must not delete
    unsettled: list[str] = field(default_factory=list)  # why the run did not settle

    @cached_property
    def lives(self) -> dict[str, list[dict]]:
        """The events of each VM in order, by vmsvc's id."""
        lives: dict[str, list[dict]] = defaultdict(list)
        for event in self.events:
            lives[event["data"]["vm"]["vmsvc_id"]].append(event)
        return dict(lives)

    @cached_property
    def vm_of(self) -> dict[str, str]:
        """vmsvc's id of each VM, by vmsvc's id and, for a VM that was ACTIVE, by the id of its server."""
        known = {vm: vm for vm in self.lives}
        return known | {
            event["subject"]: vm for vm, life in self.lives.items() for event in life if step(event) == "create/active"
        }

    def last(self, vm: str) -> str:
        """The newest event of a VM, as `step` names it."""
        return step(self.lives[vm][-1])


@dataclass(frozen=True)
class Violation:
    """An invariant that does not hold."""

    invariant: str
    what: str
    vm: str | None = None


Invariant = Callable[[Evidence, Counter], Iterator[Violation]]


def step(event: dict) -> str:
    """Type and state of an event in one word, such as `evict/noticed`."""
    return f"{event['type']}/{event['data']['state']}"


def when(text: str | None) -> float | None:
    """Seconds since the epoch of an RFC 3339 time."""
    return None if text is None else datetime.fromisoformat(text).timestamp()


# ---------------------------------------------------------------- history and sockets


def seq_without_gaps(evidence: Evidence, checked: Counter) -> Iterator[Violation]:
    """The history begins at 1, has every number once, and its times do not go back."""
    checked["events"] += len(evidence.events)
    if [event["data"]["seq"] for event in evidence.events] != list(range(1, len(evidence.events) + 1)):
        yield Violation("seq", "the history has a gap, or a number twice")
    times = [when(event["time"]) for event in evidence.events]
    if times != sorted(times):
        yield Violation("seq", "times go back in the history")


def sockets_receive_the_history(evidence: Evidence, checked: Counter) -> Iterator[Violation]:
    """Each WebSocket client received every event of the history once and in order, over all its connections."""
    for number, received in enumerate(evidence.receivers):
        checked["sockets"] += received.connections
        checked["events received"] += len(received.events)
        wanted = [event for event in evidence.events if received.kind in (None, event["type"])]
        for got, event in zip(received.events, wanted):
            if got != event:
                yield Violation(
                    "socket",
                    f"client {number} received {got['id']} {step(got)} where the history has "
                    f"{event['id']} {step(event)}",
                    event["data"]["vm"]["vmsvc_id"],
                )
                break
        else:
            if len(received.events) != len(wanted):
                yield Violation("socket", f"client {number} received {len(received.events)} of {len(wanted)} events")


def pages_are_the_history(evidence: Evidence, checked: Counter) -> Iterator[Violation]:
    """Each page that a client read during the run has exactly these events of the final history."""
    for page in evidence.pages:
        checked["pages of history"] += 1
        wanted = [event for event in evidence.events[page.since : page.seq] if page.kind in (None, event["type"])]
        if page.events != wanted[: page.limit]:
            yield Violation(
                "page",
                f"since={page.since} limit={page.limit} type={page.kind} had "
                f"{[event['id'] for event in page.events]} up to {page.seq}",
            )


def every_history_follows_the_table(evidence: Evidence, checked: Counter) -> Iterator[Violation]:
    """The events of each VM follow the table NEXT, and the last one is final or leaves the VM with a server."""
    for vm, life in evidence.lives.items():
        checked["vms"] += 1
        before = None
        for event in life:
            if step(event) not in NEXT_STEPS.get(before, ()):
                yield Violation("order", f"{step(event)} after {before}", vm)
                break
            before = step(event)
        if evidence.last(vm) not in FINAL_STEPS | STEPS_WITH_SERVER:
            yield Violation("final", f"it ended as {evidence.last(vm)}", vm)
    for what in evidence.unsettled:
        yield Violation("final", what)


# ---------------------------------------------------------------- requests and their answers


def requests_end(evidence: Evidence, checked: Counter) -> Iterator[Violation]:
    """Every request whose replica lives is answered in time, with a status that ANSWERS allows: never 400 or 500."""
    for one in evidence.attempts:
        checked["requests"] += 1
        checked[f"{one.what}: {one.status or 'cut'}"] += 1
        vm = evidence.vm_of.get(one.ref)
        if one.status == 0 or one.seconds > evidence.limit:
            yield Violation("request", f"{one.what} {one.ref} was not answered within {evidence.limit:.0f} s", vm)
        elif one.status is not None and one.status not in ANSWERS[one.what]:
            yield Violation("request", f"{one.what} {one.ref} was answered {one.status}: {one.body}", vm)
        elif one.what == "create" and one.status == 403 and one.body["error"] != "quota_exceeded":
            yield Violation("request", f"create {one.ref} was answered {one.body}", vm)


def one_key_one_vm(evidence: Evidence, checked: Counter) -> Iterator[Violation]:
    """A create becomes one VM, however often and to whichever replica it is sent, and all its final answers are equal.
    A dry run makes no VM. Each VM belongs to a request."""
    named: dict[str, set[str]] = defaultdict(set)
    for vm, life in evidence.lives.items():
        named[life[0]["data"]["vm"]["name"]].add(vm)
    sent: dict[str, list[Attempt]] = defaultdict(list)
    for one in evidence.attempts:
        if one.what in ("create", "dry run"):
            sent[one.ref].append(one)

    def one_of(name: str) -> str | None:
        return min(named[name], default=None)

    for name, tries in sent.items():
        dry = tries[0].what == "dry run"
        checked["keys sent more than once"] += tries[0].key is not None and len(tries) > 1
        known = any(one.status in (201, 202) for one in tries)
        if len(named[name]) > (not dry) or known and not dry and not named[name]:
            yield Violation("one key", f"{name}: {len(tries)} times sent, {len(named[name])} VMs", one_of(name))
        finals = [_answer(one) for one in tries if one.key and one.status in (201, 403, 409)]
        if any(final != finals[0] for final in finals):
            yield Violation("one key", f"{name} has different answers: {finals}", one_of(name))
    for name in named.keys() - sent.keys():
        yield Violation("one key", f"nobody asked for {name}", one_of(name))


def _answer(one: Attempt) -> tuple[int | None, dict]:
    return one.status, {name: value for name, value in one.body.items() if name != "request_id"}


def answers_are_true(evidence: Evidence, checked: Counter) -> Iterator[Violation]:
    """A VM that a 201 named was ACTIVE, and is in the cloud or has an event that says why not. A VM that a 404 named
    was leaving by then."""
    for one in evidence.attempts:
        if one.what == "create" and one.status == 201:
            checked["201 followed to the cloud"] += 1
            server = one.body["vm"]["id"]
            vm = evidence.vm_of.get(server)
            if vm is None:
                yield Violation("201", f"{one.ref}: no event says that {server} was active")
            elif evidence.last(vm) not in FINAL_STEPS and server not in evidence.servers:
                yield Violation("201", f"{server} is not in the cloud, and no event says why", vm)
        elif one.what in ("show", "delete") and one.status in (404, 200) and (vm := evidence.vm_of.get(one.ref)):
            checked["404 and deletes explained"] += one.status == 404 or one.what == "delete"
            left = [when(event["time"]) for event in evidence.lives[vm] if step(event) in LEAVING_STEPS]
            if one.status == 404 and not any(time <= one.at + one.seconds + CLOCK for time in left):
                if not evidence.vanished & {event["subject"] for event in evidence.lives[vm]}:
                    yield Violation("404", f"{one.what} {one.ref} was answered 404, and it had not left", vm)
            if one.what == "delete" and one.status == 200 and evidence.last(vm) not in FINAL_STEPS:
                yield Violation("deleted", f"{one.ref} was answered as deleted and is {evidence.last(vm)}", vm)


# ---------------------------------------------------------------- the cloud


def cloud_and_list_agree(evidence: Evidence, checked: Counter) -> Iterator[Violation]:
    """The history, every replica's list and the cloud have the same VMs, each with one server."""
    held = {
        life_end(life)["subject"]: vm
        for vm, life in evidence.lives.items()
        if step(life_end(life)) in STEPS_WITH_SERVER
    }
    ours = {
        server: shown["metadata"]["vmsvc_id"]
        for server, shown in evidence.servers.items()
        if "vmsvc_id" in shown["metadata"]
    }
    checked["servers"] += len(evidence.servers)
    for server in held.items() ^ ours.items():
        yield Violation(
            "cloud",
            f"server {server[0]} is "
            + (
                "not in the cloud"
                if server in held.items()
                else "in the cloud, and the history has it as "
                f"{evidence.lives.get(server[1]) and evidence.last(server[1])}"
            ),
            server[1],
        )
    for number, listed in enumerate(evidence.lists):
        shown = {one["id"]: one["vmsvc_id"] for one in listed if "vmsvc_id" in one}
        checked["listed"] += len(shown)
        for server, vm in shown.items() ^ held.items():
            yield Violation("list", f"replica {number}'s list and the history differ in {server}", vm)
        for one in listed:
            if "vmsvc_id" in one and one["state"] != "active":
                yield Violation("list", f"{one['id']} is listed as {one['state']}", one["vmsvc_id"])
    for server in evidence.foreign - evidence.servers.keys():
        yield Violation("foreign", f"somebody else's server {server} is gone")


def life_end(life: list[dict]) -> dict:
    """The last event of a VM's life, which says how it ended."""
    return life[-1]


def nothing_is_left_over(evidence: Evidence, checked: Counter) -> Iterator[Violation]:
    """No port or allocation is left of a server that is gone, no guest reads a notice, and no host and no quota is used
    beyond its limit."""
    checked["ports"] += len(evidence.ports)
    for server in set(evidence.ports.values()) - evidence.servers.keys():
        yield Violation("left over", f"a port of {server}, which is not there", evidence.vm_of.get(server))
    for server in evidence.consumers - evidence.servers.keys():
        yield Violation("left over", f"capacity of {server}, which is not there", evidence.vm_of.get(server))
    for server, shown in evidence.servers.items():
        if "vmsvc_evict_at" in shown["metadata"]:
            yield Violation("left over", f"{server} still reads a notice", evidence.vm_of.get(server))
    for host in evidence.hosts:
        checked["hosts"] += 1
        for what, used in host["used"].items():
            if used > host["total"].get(what, 0):
                yield Violation("capacity", f"{host['name']} holds {used} {what} of {host['total'].get(what, 0)}")
    for what, (used, limit) in evidence.quota.items():
        if 0 <= limit < used:
            yield Violation("capacity", f"the project holds {used} {what} of {limit}")


def servers_are_removed_after_the_event(evidence: Evidence, checked: Counter) -> Iterator[Violation]:
    """vmsvc stopped or deleted the server of a VM only after the event that the VM is evicted or deleted."""
    begins = {
        vm: min(
            (when(event["time"]) for event in life if step(event) in ("evict/evicting", "delete/deleting")),
            default=None,
        )
        for vm, life in evidence.lives.items()
    }
    for call in evidence.removal_calls:
        server = call["path"].partition("/servers/")[2].partition("/")[0]
        vm = evidence.vm_of.get(server)
        if server in evidence.foreign:
            yield Violation("foreign", f"{call['method']} of {server}, which is somebody else's")
        if vm is None or server == vm:
            continue  # it never was ACTIVE: vmsvc removed a failed build
        checked["stops and deletes in the cloud"] += 1
        if begins[vm] is None or call["at"] < begins[vm] - CLOCK:
            yield Violation("untouched", f"{call['method']} of {server} before any event of its end", vm)


# ---------------------------------------------------------------- evictions


def notices_are_kept(evidence: Evidence, checked: Counter) -> Iterator[Violation]:
    """A notice lasts a whole grace period and is never shortened. No victim leaves before its end, unless its owner
    acknowledged the notice or its guest was switched off."""
    acked = {evidence.vm_of.get(one.ref) for one in evidence.attempts if one.what == "ack"}
    for vm, life in evidence.lives.items():
        due = begun = None
        for event in life:
            if step(event) == "evict/noticed":
                checked["notices"] += 1
                promised, begun = when(event["data"]["evict_at"]), begun or when(event["time"])
                if due is not None and promised < due:
                    yield Violation("notice", f"seq {event['id']} takes back a promise", vm)
                due = promised
            elif step(event) == "evict/evicting":
                early = event["data"]["vm"]["acknowledged_at"]
                if due is None or when(event["time"]) < due - CLOCK and not early:
                    yield Violation("notice", f"seq {event['id']} is before its evict_at", vm)
                # The notice of a guest that is switched off counts from the decision: it reads nothing.
                elif (
                    not early
                    and event["subject"] not in evidence.halted
                    and when(event["time"]) < begun + evidence.grace - CLOCK
                ):
                    yield Violation(
                        "notice", f"seq {event['id']} comes less than {evidence.grace} s after the notice", vm
                    )
                if early and vm not in acked and event["subject"] not in evidence.halted:
                    yield Violation("notice", "nobody said that it may go early", vm)
            else:
                due = begun = None


def evictions_are_explained(evidence: Evidence, checked: Counter) -> Iterator[Violation]:
    """Each eviction is on record once. Its request is a standard VM that became active, or the record says why the
    eviction was wasted."""
    carried: dict[str, list[dict]] = defaultdict(list)
    for record in evidence.evictions:
        checked["records of evictions"] += 1
        if record["evicting_at"]:
            carried[record["vm"]["vmsvc_id"]].append(record)
        if record["round"] > MOST_ROUNDS:
            yield Violation("record", f"round {record['round']} for {record['request']}", record["vm"]["vmsvc_id"])
    for vm in carried.keys() | {vm for vm in evidence.lives if evidence.last(vm) == "evict/evicted"}:
        found = carried.get(vm, [])
        checked["evictions"] += 1
        if len(found) != 1 or evidence.last(vm) != "evict/evicted":
            yield Violation("record", f"it is {evidence.last(vm)} with {len(found)} evictions on record", vm)
            continue
        if not found[0]["freed_at"] or not evidence.lives[vm][0]["data"]["vm"]["is_preemptible"]:
            yield Violation("record", "it is not preemptible, or not on record as gone", vm)
        if found[0]["request"]:
            yield from _served(evidence, vm, found[0])
    yield from _answers_name_victims(evidence, carried)


def _served(evidence: Evidence, vm: str, record: dict) -> Iterator[Violation]:
    """Check the request that a VM was evicted for, against the record of this eviction."""
    life = evidence.lives.get(record["request"]["vmsvc_id"], [])
    was_active = any(step(event) == "create/active" for event in life)
    if not life or life[0]["data"]["vm"]["is_preemptible"]:
        yield Violation("record", "it went for a preemptible VM, or for nobody", vm)
    if was_active != bool(record["fulfilled_at"]) or was_active == bool(record["wasted"]):
        yield Violation(
            "record",
            f"its request was{'' if was_active else ' not'} active; on record: fulfilled at "
            f"{record['fulfilled_at']}, wasted: {record['wasted']}",
            vm,
        )


def _answers_name_victims(evidence: Evidence, carried: dict[str, list[dict]]) -> Iterator[Violation]:
    went: dict[str, set[str]] = defaultdict(set)
    for records in carried.values():
        for record in records:
            if record["request"]:
                went[record["request"]["vmsvc_id"]].add(record["vm"]["id"])
    for one in evidence.attempts:
        if one.what == "create" and one.status == 201 and (vm := evidence.vm_of.get(one.body["vm"]["id"])):
            if set(one.body["evicted"]) != went[vm]:
                yield Violation("record", f"answered as evicted: {one.body['evicted']}; on record: {went[vm]}", vm)


def budgets_are_kept(evidence: Evidence, checked: Counter) -> Iterator[Violation]:
    """No more VMs of an eviction group are noticed or evicting at once than its budget allows."""
    leaving: dict[str, set[str]] = defaultdict(set)
    for event in evidence.events:
        vm = event["data"]["vm"]
        if not vm["group"]:
            continue
        checked["events of groups"] += 1
        if step(event) in ("evict/noticed", "evict/evicting"):
            leaving[vm["group"]].add(vm["vmsvc_id"])
        else:
            leaving[vm["group"]].discard(vm["vmsvc_id"])
        if len(leaving[vm["group"]]) > evidence.budgets[vm["group"]]:
            yield Violation("budget", f"{len(leaving[vm['group']])} of {vm['group']} go at once", vm["vmsvc_id"])


INVARIANTS: tuple[Invariant, ...] = (
    seq_without_gaps,
    sockets_receive_the_history,
    pages_are_the_history,
    every_history_follows_the_table,
    requests_end,
    one_key_one_vm,
    answers_are_true,
    cloud_and_list_agree,
    nothing_is_left_over,
    servers_are_removed_after_the_event,
    notices_are_kept,
    evictions_are_explained,
    budgets_are_kept,
)


def judge(evidence: Evidence) -> tuple[list[Violation], Counter]:
    """Check all invariants. Returns what does not hold, and how many things of each kind were checked."""
    checked: Counter = Counter()
    return [wrong for invariant in INVARIANTS for wrong in invariant(evidence, checked)], checked


def report(evidence: Evidence, wrong: Violation) -> str:
    """A report on one broken invariant: its VM's events, records of evictions, calls to the cloud and requests."""
    lines = [f"{wrong.invariant}: {wrong.what}"]
    if wrong.vm is None:
        return lines[0]
    servers = {event["subject"] for event in evidence.lives.get(wrong.vm, ())} - {wrong.vm}
    lines += [
        f"  {event['time']} seq {event['id']} {step(event)} {event['subject']} {event['data'].get('reason')}"
        for event in evidence.lives.get(wrong.vm, ())
    ]
    lines += [
        f"  on record: {record}"
        for record in evidence.evictions
        if wrong.vm in (record["vm"]["vmsvc_id"], (record["request"] or {}).get("vmsvc_id"))
    ]
    lines += [
        f"  the cloud was told at {call['at']:.3f}: {call['method']} {call['path']} {call['status']}"
        for call in evidence.removal_calls
        if any(server in call["path"] for server in servers)
    ]
    names = {event["data"]["vm"]["name"] for event in evidence.lives.get(wrong.vm, ())}
    lines += [
        f"  a client at {one.at:.3f}, {one.seconds:.2f} s: {one.what} -> {one.status} "
        f"{(one.body or {}).get('message', '')}"
        for one in evidence.attempts
        if one.ref in servers | names | {wrong.vm}
    ]
    return "\n".join(lines)
