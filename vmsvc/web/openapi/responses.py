"""The schemas of what the service answers, for the document alone: no response is filtered through them.

Objects may grow new members, so clients should ignore members that they do not know."""

from typing import Any

from marshmallow import INCLUDE, Schema, fields, validate

from vmsvc.domain.evidence import LIKELY, SURE
from vmsvc.domain.lifecycle import State
from vmsvc.domain.lineage import END, RESTART

VM = {
    "id": "6f3a1c52-5d0e-4b5b-9f0e-0c7b8a3f2d11",
    "name": "standart",
    "vmsvc_id": "b1d6b0f4-7a0e-4a8e-8a55-2f3cf1f0a9c4",
    "links": [
        {"rel": "self", "href": "http://cloud.example/v2.1/servers/6f3a1c52-5d0e-4b5b-9f0e-0c7b8a3f2d11"},
        {"rel": "bookmark", "href": "http://cloud.example/servers/6f3a1c52-5d0e-4b5b-9f0e-0c7b8a3f2d11"},
    ],
    "is_preemptible": False,
    "state": "active",
    "priority": 0,
    "min_run_seconds": 0,
    "group": None,
    "max_unavailable": None,
    "owner": "anonymous",
    "origin": "b1d6b0f4-7a0e-4a8e-8a55-2f3cf1f0a9c4",
    "restarts": 0,
    "restart_of": None,
    "successor": None,
    "evict_at": None,
    "acknowledged_at": None,
    "wait_until": None,
}
#: The same VM without what the cloud says of it, as creates and deletes answer it and events carry it.
ROW = {name: value for name, value in VM.items() if name != "links"} | {
    "flavor": "m1.tiny",
    "image": "cirros",
    "network": "private",
    "host": "compute-7",
    "created_at": "2026-11-23T11:59:58.000Z",
    "launched_at": "2026-11-23T12:00:00.000Z",
    "ended_at": None,
}
VICTIM = "0e4c4f1e-2a3f-4bb6-a4a7-6c5d9f2b8e77"
#: Types of events.
TYPES = ("create", "evict", "delete")
#: How certain a plan is.
CERTAINTIES = (SURE, LIKELY)
#: How a notice reaches a guest.
DELIVERIES = ("metadata", "event")
COST = {"victims_by_priority": {"0": 1}, "running_victims": 1, "lost_work": 7260, "surplus_ppm": 0, "surcharge": 0}
RUNNER_UP_COST = {name: value for name, value in COST.items() if name != "surcharge"} | {"lost_work": 9000}
PLAN = {
    "result": "evicts",
    "reason": "1 preemptible VM would make room in host compute-7 after 30 s of notice; what decided: less lost work",
    "victims": [VICTIM],
    "host": "compute-7",
    "bin": {"kind": "host", "id": "compute-7"},
    "grace_seconds": 30,
    "criterion": "less lost work",
    "cost": COST,
    "runner_up": RUNNER_UP_COST,
    "optimal": True,
    "certainty": "sure",
    "evidence": None,
}
EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "42",
    "source": "/vmsvc",
    "type": "evict",
    "subject": VICTIM,
    "time": "2026-11-23T12:00:00Z",
    "datacontenttype": "application/json",
    "data": {
        "seq": 42,
        "state": "noticed",
        "vm": ROW
        | {
            "id": VICTIM,
            "name": "preemptible",
            "is_preemptible": True,
            "state": "noticed",
            "evict_at": "2026-11-23T12:00:30Z",
        },
        "reason": "room for standart (m1.large)",
        "evict_at": "2026-11-23T12:00:30Z",
        "grace_seconds": 30,
        "makes_room_for": VM["vmsvc_id"],
        "criterion": "less lost work",
        "delivery": "metadata",
        "certainty": "sure",
        "evidence": None,
        "simulated": False,
    },
}


def links(pointer: str, parameter: str = "id", **operations: str) -> dict[str, object]:
    """OpenAPI links by title: an operation whose `parameter` is what the response's body has at `pointer`."""
    return {
        title: {"operationId": operation, "parameters": {parameter: f"$response.body#{pointer}"}}
        for title, operation in operations.items()
    }


def links_of_vm(pointer: str) -> dict[str, object]:
    """Links to the operations on the VM whose id the body has at `pointer`."""
    return links(
        pointer, show="getVm", delete="deleteVm", practise="postPractice", acknowledge="postAcknowledgement"
    ) | links(pointer, "vm", events="getEvents", evictions="getEvictions")


def message_body(code: str, message: str, **members: object) -> dict[str, object]:
    """An example of a body with a message."""
    return {"code": code, "message:": message, "message": message, **members}


class OpenObject(Schema):
    """An object that may have more members than are listed."""

    class Meta:
        """Members that are not listed are allowed."""

        unknown = INCLUDE


class NewestFirst(OpenObject):
    """A page of a list, newest first."""

    before = fields.Integer(
        required=True,
        allow_none=True,
        metadata={"description": "ask for the next page with this `before`; null: there is none"},
    )


class Link(OpenObject):
    """An address of the VM in the cloud."""

    rel = fields.String(required=True, metadata={"description": "`self` or `bookmark`"})
    href = fields.String(required=True, metadata={"description": "the address"})


class MemberView(OpenObject):
    """A VM of a lineage."""

    id = fields.String(required=True, metadata={"description": "the cloud's id; vmsvc's own while there is no server"})
    vmsvc_id = fields.String(required=True, metadata={"description": "vmsvc's own id"})
    restarts = fields.Integer(required=True, metadata={"description": "0 for the first VM, n for the n-th after it"})
    state = fields.String(required=True, metadata={"description": "the step of its life"})
    created_at = fields.DateTime(required=True, metadata={"description": "when it was asked for"})
    ended_at = fields.DateTime(required=True, allow_none=True, metadata={"description": "when it ended; null: not yet"})


class VmView(OpenObject):
    """A server of the project, or a request that has none yet. What the cloud says of it is there too, under the
    cloud's names; the members below `links` are there when vmsvc made it."""

    id = fields.String(required=True, metadata={"description": "the cloud's id; vmsvc's own while there is no server"})
    name = fields.String(required=True, metadata={"description": "the name of the server"})
    links = fields.List(fields.Nested(Link), metadata={"description": "its addresses in the cloud"})
    vmsvc_id = fields.String(metadata={"description": "vmsvc's own id, which it has from the start"})
    is_preemptible = fields.Boolean(metadata={"description": "true: vmsvc may evict it"})
    state = fields.String(
        validate=validate.OneOf([str(state) for state in State]), metadata={"description": "the step of its life"}
    )
    priority = fields.Integer(metadata={"description": "higher is evicted later"})
    min_run_seconds = fields.Integer(
        metadata={"description": "a preemptible VM that has run for less time is no victim"}
    )
    owner = fields.String(metadata={"description": "the name of the principal that created it"})
    image_name = fields.String(
        metadata={"description": "of a server: the name that its image had; `image` is the cloud's"}
    )
    network = fields.String(metadata={"description": "the name of the network that it was created on"})
    origin = fields.String(
        metadata={
            "description": "the handle that stays: the vmsvc id of the first VM of its lineage. "
            "`GET /api/v1/vm/{origin}` shows the newest one"
        }
    )
    restarts = fields.Integer(metadata={"description": "how often it was started again before: 0 for the first VM"})
    restart_of = fields.String(allow_none=True, metadata={"description": "the vmsvc id of the VM before it"})
    successor = fields.String(
        allow_none=True, metadata={"description": "of an evicted VM: the vmsvc id of the one that is started after it"}
    )
    group = fields.String(allow_none=True, metadata={"description": "its eviction group"})
    max_unavailable = fields.Integer(
        allow_none=True,
        metadata={"description": "its limit for that group: so many of it in notice or eviction at once"},
    )
    evict_at = fields.DateTime(
        allow_none=True, metadata={"description": "the end of its notice: nobody touches it before"}
    )
    acknowledged_at = fields.DateTime(
        allow_none=True,
        metadata={"description": "when its owner or its guest acknowledged the notice, which ends it early"},
    )
    wait_until = fields.DateTime(
        allow_none=True, metadata={"description": "until when it waits, or waited, for capacity; null: not at all"}
    )
    position = fields.Integer(
        allow_none=True,
        metadata={
            "description": "of a request without a server: its position in the queue, 1 is next; null: it is not there"
        },
    )
    options = fields.Dict(
        metadata={
            "description": "of one request without a server, not in lists: the options that it asks for, as `networks` "
            "or `tags`. Of a server the cloud's own members say them"
        }
    )
    on_eviction = fields.String(
        validate=validate.OneOf((END, RESTART)),
        metadata={"description": "what follows its eviction; not in events"},
    )
    max_restarts = fields.Integer(
        allow_none=True,
        metadata={"description": "how often its lineage may be started again; null: it has none; not in events"},
    )
    restarts_left = fields.Integer(
        metadata={"description": "how often it may still be started again: 0 once that has ended; not in events"}
    )
    lineage = fields.List(
        fields.Nested(MemberView),
        metadata={
            "description": "of one VM, not in lists: the VMs of its lineage, the newest first, at most 50; empty: it "
            "is never started again"
        },
    )
    message = fields.String(
        metadata={"description": "of a VM that is built: since when; of a request that failed: why"}
    )
    error = fields.String(metadata={"description": "of a request that failed: the slug that the create ended with"})
    notice = fields.Dict(metadata={"description": "of a victim: its preemptor and the criterion that decided"})


class MessageBody(OpenObject):
    """A body with a message. It has the same text under `message:` too, as the documented original spells it; that key
    is not in the schemas, since generators of clients make one name of the two and drop what has both."""

    code = fields.String(required=True, metadata={"description": "the status; 204 for a delete"})
    message = fields.String(
        required=True, metadata={"description": "a sentence for people; the body has it under the key `message:` too"}
    )


class Created(MessageBody):
    """The VM runs."""

    vm = fields.Nested(VmView, required=True)
    evicted = fields.List(fields.String(), required=True, metadata={"description": "the ids of its victims"})


class Accepted(MessageBody):
    """The outcome is still open; `Location` has the address to look at."""

    vm = fields.Nested(VmView)


class Done(MessageBody):
    """The request was carried out."""

    vm = fields.Nested(VmView, required=True)


class BinSchema(OpenObject):
    """Where capacity would be freed."""

    kind = fields.String(
        required=True,
        validate=validate.OneOf(["host", "quota", "host_id"]),
        metadata={"description": "a host (operator), the project's quota, or the VMs that share a `hostId` (tenant)"},
    )
    id = fields.String(required=True, metadata={"description": "the id of the host or of the `hostId`"})


class Plan(OpenObject):
    """What would happen: placed at once, placed after evictions, waiting (for capacity that is freed now, or in the
    queue), or refused."""

    result = fields.String(
        required=True,
        validate=validate.OneOf(["placed", "evicts", "waits", "refused"]),
        metadata={"description": "what would happen"},
    )
    reason = fields.String(required=True, metadata={"description": "the same in a sentence"})
    victims = fields.List(
        fields.String(),
        required=True,
        metadata={"description": "the ids of the VMs that would be evicted, in that order"},
    )
    host = fields.String(allow_none=True, metadata={"description": "the host of the VM; null: the cloud chooses"})
    position = fields.Integer(
        metadata={"description": "of `waits` in the queue: the position it would have, 1 is next"}
    )
    error = fields.String(metadata={"description": "of `refused`: the slug that a create would end with"})
    bin = fields.Nested(BinSchema, metadata={"description": "of `evicts`, and of `waits` when capacity is being freed"})
    grace_seconds = fields.Float(metadata={"description": "of `evicts`: the victims' notice"})
    criterion = fields.String(
        metadata={"description": "of `evicts`: the criterion that decided between this plan and the next best"}
    )
    cost = fields.Dict(
        metadata={
            "description": "of `evicts`, in the order in which plans are compared. `surcharge` is the part of "
            "`lost_work` that no VM lost: it is added for owners that lost VMs lately"
        }
    )
    runner_up = fields.Dict(
        allow_none=True,
        metadata={"description": "of `evicts`: the cost of the next best plan; null: there is no other"},
    )
    optimal = fields.Boolean(metadata={"description": "of `evicts`; false: a better plan was not ruled out"})
    certainty = fields.String(
        validate=validate.OneOf(CERTAINTIES),
        metadata={
            "description": "of `evicts`: `sure`, all that the plan counts on is known; `likely`, it counts on capacity "
            "for which there is evidence (tenant mode)"
        },
    )
    evidence = fields.String(allow_none=True, metadata={"description": "of `likely`: what the plan counts on"})


class Plans(Plan):
    """What would happen to one request and, with `count`, to each of so many."""

    plans = fields.List(
        fields.Nested(Plan),
        metadata={
            "description": "with a `count` over 1: for each of the requests, in their order; the first is the one above"
        },
    )


class DryRun(Plans):
    """What would happen. The cloud does not tell a tenant whether a host has free capacity: `if_no_host_has_room` says
    what would happen when no host has."""

    if_no_host_has_room = fields.Nested(
        Plans, metadata={"description": "what would happen if no host had free capacity"}
    )


class VmList(OpenObject):
    """Every server of the project, and the seq that was read before them."""

    servers = fields.List(
        fields.Nested(VmView),
        required=True,
        metadata={"description": "every server of the project, and the requests that wait"},
    )
    seq = fields.Integer(
        required=True, metadata={"description": "the last event before the list was read: follow the events from here"}
    )


class RestartSchema(OpenObject):
    """How an evicted VM is started again."""

    origin = fields.String(required=True, metadata={"description": "its lineage"})
    attempt = fields.Integer(required=True, metadata={"description": "how often it is started again with this time"})
    not_before = fields.DateTime(
        required=True, metadata={"description": "the end of the pause before it gets capacity"}
    )


class EventData(OpenObject):
    """The finer step, and the VM at that moment."""

    seq = fields.Integer(required=True, metadata={"description": "the number of the event: ascending, without gaps"})
    state = fields.String(required=True, metadata={"description": "the step"})
    vm = fields.Nested(VmView, metadata={"description": "the VM at that moment"})
    by = fields.String(
        metadata={
            "description": "the principal that asked for it: for the VM, for its deletion, or for the preemptor; "
            "missing when nobody did"
        }
    )
    reason = fields.String(
        allow_none=True,
        metadata={"description": "a sentence that says why; of `failed`, `deadline`: it waited as long as it was to"},
    )
    position = fields.Integer(metadata={"description": "of `queued`: its position in the queue at that moment"})
    wait_until = fields.DateTime(
        allow_none=True, metadata={"description": "of `queued` and `fell_back`: until when it waits for capacity"}
    )
    why = fields.String(metadata={"description": "of `queued`: what it lacks, in words"})
    message = fields.String(
        metadata={"description": "of `failed` with the reason `deadline`: a sentence that says why"}
    )
    evict_at = fields.DateTime(
        metadata={
            "description": "of `noticed`; a second `noticed` has a later one when the "
            "notice reached the guest late, or has `delivery: event`"
        }
    )
    grace_seconds = fields.Float(metadata={"description": "of `noticed`: the seconds from the notice to `evict_at`"})
    makes_room_for = fields.String(
        allow_none=True, metadata={"description": "of `noticed`: the vmsvc id of the request; null when there is none"}
    )
    criterion = fields.String(allow_none=True, metadata={"description": "of `noticed`: the criterion that decided"})
    delivery = fields.String(
        validate=validate.OneOf(DELIVERIES),
        metadata={
            "description": "of `noticed`: `metadata`, the guest can read the notice too; `event`, it is in "
            "this event alone"
        },
    )
    certainty = fields.String(
        allow_none=True,
        validate=validate.OneOf([*CERTAINTIES, None]),
        metadata={
            "description": "of `noticed`: of the plan, as in a dry run; null where no request needs the capacity"
        },
    )
    evidence = fields.String(
        allow_none=True, metadata={"description": "of `noticed`: what a `likely` plan counts on, in words"}
    )
    simulated = fields.Boolean(metadata={"description": "of every `evict`: true when the owner practises the eviction"})
    evicted = fields.List(fields.String(), metadata={"description": "of `active`: the ids of its victims"})
    error = fields.String(metadata={"description": "of `failed`: the slug that the create ends with"})
    restart = fields.Nested(
        RestartSchema, metadata={"description": "of `evicted`: how the VM is started again; missing when it is not"}
    )
    restart_of = fields.String(
        metadata={"description": "of each `create` of a VM that is started again: the vmsvc id of the one before it"}
    )


class EventSchema(OpenObject):
    """A CloudEvents 1.0 object."""

    specversion = fields.String(
        required=True, validate=validate.Equal("1.0"), metadata={"description": "the version of CloudEvents"}
    )
    id = fields.String(required=True, metadata={"description": "the seq as a string"})
    source = fields.String(required=True, metadata={"description": "`/vmsvc`"})
    type = fields.String(
        required=True, validate=validate.OneOf(TYPES), metadata={"description": "the kind of the event"}
    )
    subject = fields.String(metadata={"description": "the cloud's id of the VM; vmsvc's own while there is no server"})
    time = fields.DateTime(required=True, metadata={"description": "when it was committed, by the database's clock"})
    datacontenttype = fields.String(metadata={"description": "`application/json`"})
    data = fields.Nested(EventData, required=True)


class EventPage(OpenObject):
    """Events in the order of their seq; ask for the next page with `since=<seq>`."""

    events = fields.List(
        fields.Nested(EventSchema), required=True, metadata={"description": "in the order of their seq"}
    )
    seq = fields.Integer(required=True, metadata={"description": "ask for the next page with this `since`"})


class HealthView(OpenObject):
    """The event loop answers."""

    status = fields.String(required=True, metadata={"description": "`ok`"})
    version = fields.String(required=True, metadata={"description": "the release that runs"})


class ReadyView(OpenObject):
    """Each part of the service: `ok`, or what is wrong with it."""

    status = fields.String(
        required=True,
        validate=validate.OneOf(["ready", "not ready"]),
        metadata={"description": "whether the replica takes requests"},
    )
    parts = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        required=True,
        metadata={"description": "by the name of the part: `ok`, or what is wrong"},
    )


class Error(MessageBody):
    """Any error. Quote `request_id` when you ask about it."""

    error = fields.String(required=True, metadata={"description": "a stable word"})
    request_id = fields.String(required=True, metadata={"description": "the id that the logs have too"})
    field = fields.String(metadata={"description": "the part of the request to mend"})
