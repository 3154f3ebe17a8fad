"""`/api/v1/evictions`, the record of evictions; `/vm/{id}/ack` and `/vm/{id}/evict` for a VM's owner or guest."""

import re
from functools import partial

from marshmallow import RAISE, Schema, fields, validate

from vmsvc.domain.errors import CloudError, Conflict, NotFound, Timeout
from vmsvc.web.api.field_types import StrictBoolean
from vmsvc.web.api.handler import ApiHandler, OneVmHandler
from vmsvc.web.api.requests import MAX_SEQ, QueryInteger, VmRef, load
from vmsvc.web.http.handler import route
from vmsvc.web.openapi import responses
from vmsvc.web.openapi.operations import Response, describe

EVICTIONS = "/api/v1/evictions"
REASONS = ("capacity", "lifetime", "simulated")
STATES = ("noticed", "reprieved", "evicting", "evicted", "deleted", "lost")

_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
EVICTION = {
    "id": 17,
    "state": "evicted",
    "reason": "capacity",
    "simulated": False,
    "vm": {"id": responses.VICTIM, "name": "preemptible", "vmsvc_id": "5b0f7c1e-3a46-4a39-9f1d-2b8f6f3a7c10"},
    "owner": "anonymous",
    "request": {"id": responses.VM["id"], "name": "standart", "vmsvc_id": responses.VM["vmsvc_id"]},
    "round": 1,
    "bin": "host compute-7",
    "criterion": "less lost work",
    "cost": responses.COST,
    "runner_up": responses.RUNNER_UP_COST,
    "optimal": True,
    "certainty": "sure",
    "evidence": None,
    "wasted": None,
    "planned_at": "2026-11-23T12:00:00.000Z",
    "evict_at": "2026-11-23T12:00:30.000Z",
    "noticed_at": "2026-11-23T12:00:00.140Z",
    "acknowledged_at": None,
    "acknowledged_by": None,
    "reprieved_at": None,
    "evicting_at": "2026-11-23T12:00:30.012Z",
    "stopped_at": "2026-11-23T12:00:33.400Z",
    "deleted_at": "2026-11-23T12:00:33.520Z",
    "freed_at": "2026-11-23T12:00:34.010Z",
    "fulfilled_at": "2026-11-23T12:00:36.900Z",
    "delivery": "metadata",
    "exempt": None,
}
NOTICED = responses.EVENT["data"]["vm"]


class NothingSchema(Schema):
    """A body without any field."""

    class Meta:
        """A field would do nothing, so it is an error."""

        unknown = RAISE


class PracticeSchema(Schema):
    """The optional body of `POST /api/v1/vm/{id}/evict`."""

    class Meta:
        """A misspelt name is an error: a misspelt `notice_only` must not delete anything."""

        unknown = RAISE

    notice_only = StrictBoolean(
        metadata={"description": "true: the VM is reprieved when its time is up", "default": False}
    )


class EvictionsQuery(Schema):
    """The query of `GET /api/v1/evictions`."""

    class Meta:
        """A misspelt name is an error."""

        unknown = RAISE

    before = QueryInteger(
        validate=validate.Range(1, MAX_SEQ),
        metadata={"description": "only evictions with a lower id: the `before` of the page before"},
    )
    limit = QueryInteger(validate=validate.Range(1, 1000), load_default=100)
    vm = VmRef("of this VM; the cloud's id or vmsvc's own")
    request = VmRef("for this VM; the cloud's id or vmsvc's own")
    reason = fields.String(validate=validate.OneOf(REASONS))


class Party(responses.OpenObject):
    """One of the two VMs of an eviction. `id` is the cloud's, or vmsvc's own where there never was a server."""

    id = fields.String(required=True, metadata={"description": "the cloud's id, or vmsvc's own"})
    vmsvc_id = fields.String(required=True, metadata={"description": "vmsvc's own id"})
    name = fields.String(required=True, metadata={"description": "the name of the VM"})


def _moment_of_step(description: str) -> fields.DateTime:
    """The moment of a step that an eviction may lack; null until then."""
    return fields.DateTime(required=True, allow_none=True, metadata={"description": description})


class EvictionSchema(responses.OpenObject):
    """Which VM was (or was to be) evicted for which request and why, and when each step was done: null for a step that
    was not."""

    id = fields.Integer(required=True, metadata={"description": "the number of the record: higher is newer"})
    state = fields.String(
        required=True,
        validate=validate.OneOf(STATES),
        metadata={"description": "`deleted` and `lost`: it left during its notice, and vmsvc did not evict it"},
    )
    reason = fields.String(
        required=True, validate=validate.OneOf(REASONS), metadata={"description": "why the VM was chosen"}
    )
    simulated = fields.Boolean(required=True, metadata={"description": "true: the owner practised it"})
    vm = fields.Nested(Party, required=True)
    owner = fields.String(required=True, metadata={"description": "the name of the principal that created the VM"})
    request = fields.Nested(
        Party,
        required=True,
        allow_none=True,
        metadata={"description": "the preemptor; null for a lifetime that ended and for a simulated eviction"},
    )
    round = fields.Integer(required=True, metadata={"description": "of the request's rounds of eviction, from 1"})
    bin = fields.String(required=True, allow_none=True, metadata={"description": "where capacity was freed"})
    criterion = fields.String(required=True, allow_none=True, metadata={"description": "the criterion that decided"})
    cost = fields.Dict(
        required=True, metadata={"description": "of all victims of the round, in the order in which plans are compared"}
    )
    runner_up = fields.Dict(required=True, allow_none=True, metadata={"description": "the cost of the next best plan"})
    optimal = fields.Boolean(required=True, metadata={"description": "false: a better plan was not ruled out"})
    certainty = fields.String(
        required=True,
        allow_none=True,
        validate=validate.OneOf([*responses.CERTAINTIES, None]),
        metadata={
            "description": "`sure`: all that the plan counted on was known; `likely`: it counted on capacity for which "
            "there was evidence; null: there was no plan, or a release before this one made it"
        },
    )
    evidence = fields.String(
        required=True, allow_none=True, metadata={"description": "what a `likely` plan counted on, in words"}
    )
    wasted = fields.String(
        required=True, allow_none=True, metadata={"description": "why the eviction freed nothing for its preemptor"}
    )
    delivery = fields.String(
        required=True,
        validate=validate.OneOf(responses.DELIVERIES),
        metadata={
            "description": "`event`: the cloud did not let vmsvc write the notice for the guest, so the "
            "event alone carried it"
        },
    )
    exempt = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "why it was reprieved, if the eviction could not be carried out"},
    )
    planned_at = fields.DateTime(required=True, metadata={"description": "when the notice was decided"})
    evict_at = fields.DateTime(required=True, metadata={"description": "the end of the notice"})
    noticed_at = _moment_of_step("the notice was in the server's metadata")
    acknowledged_at = _moment_of_step("the notice was acknowledged, which ended it early: see `acknowledged_by`")
    acknowledged_by = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "the principal that acknowledged the notice; null when the guest powered itself off, or "
            "nobody did"
        },
    )
    reprieved_at = _moment_of_step("when the notice was withdrawn")
    evicting_at = _moment_of_step("when the eviction began")
    stopped_at = _moment_of_step("when the server was stopped")
    deleted_at = _moment_of_step("the cloud accepted the DELETE")
    freed_at = _moment_of_step("the cloud answered 404 for it: its capacity and quota are free")
    fulfilled_at = _moment_of_step("the VM that it was evicted for was active")


class EvictionPage(responses.NewestFirst):
    """Evictions, newest first; ask for the next page with `before=<before>` (null: there is none)."""

    evictions = fields.List(fields.Nested(EvictionSchema), required=True, metadata={"description": "newest first"})


class AcknowledgementHandler(OneVmHandler):
    """The acknowledgement of a notice."""

    address = "/api/v1/vm/{id}/ack"
    tag = "evictions"

    @describe(
        Response(
            200,
            "It is evicted now.",
            responses.Done,
            responses.message_body(
                "200",
                f"vm {responses.VICTIM} may go before its time",
                vm=NOTICED | {"acknowledged_at": "2026-11-23T12:00:09.000Z"},
            ),
        ),
        body=NothingSchema,
        body_required=False,
        examples=(("nothing", {}),),
        errors=(413, 415, NotFound, Conflict, Timeout),
    )
    async def post(self, ref: str) -> None:
        """Release a noticed VM before its time.

        For the VM's owner or its guest, once its work is saved: the preemptor then starts so much earlier. To
        acknowledge twice is no error. It cannot be taken back. 409 for a VM that was not noticed; with Keystone's
        tokens 403 for another owner's VM, unless the token has one of the roles in `VMSVC_ADMIN_ROLES`.
        """
        if self.has_body():
            load(NothingSchema, self.json_body())
        vm = await self.dependencies.evictions.acknowledge(ref, principal=self.principal)
        self.answer(200, f"vm {ref} may go before its time", vm=vm)


class PracticeHandler(OneVmHandler):
    """The practised eviction of a VM, for which no request waits."""

    address = "/api/v1/vm/{id}/evict"
    tag = "evictions"

    @describe(
        Response(
            202,
            "The VM has its notice.",
            responses.Done,
            responses.message_body(
                "202", f"vm {responses.VICTIM} was noticed; it goes at 2026-11-23T12:00:30.000Z", vm=NOTICED
            ),
        ),
        body=PracticeSchema,
        body_required=False,
        examples=(("to the end", {}), ("notice only", {"notice_only": True})),
        errors=(413, 415, NotFound, Conflict, CloudError, Timeout),
    )
    async def post(self, ref: str) -> None:
        """Practise the eviction of a preemptible VM.

        It gets the notice of a real eviction: the same events (with `simulated: true`), timing and metadata. Then it is
        evicted; with `notice_only` it is reprieved when its time is up. 403 for a standard VM; 409 when it is not
        active, is locked, or when the budget of its group is used up.
        """
        body = load(PracticeSchema, self.json_body()) if self.has_body() else {}
        notice_only = body.get("notice_only", False)
        vm = await self.dependencies.evictions.practise(ref, notice_only, principal=self.principal)
        goes = f"it stays, and is reprieved at {vm['evict_at']}" if notice_only else f"it goes at {vm['evict_at']}"
        self.answer(202, f"vm {ref} was noticed; {goes}", vm=vm)


class EvictionsHandler(ApiHandler):
    """The record of evictions."""

    address = EVICTIONS
    tag = "evictions"

    @describe(
        Response(
            200,
            "A page of the record.",
            EvictionPage,
            {"evictions": [EVICTION], "before": 17},
            links=(
                responses.links("/evictions/0/id", show="getOneEviction")
                | responses.links("/before", "before", go_on="getEvictions")
            ),
        ),
        query=EvictionsQuery,
        errors=(Timeout,),
    )
    async def get(self) -> None:
        """Show who was evicted for whom and why, newest first."""
        query = self.query(EvictionsQuery)
        found, before = await self.read_history(
            partial(
                self.dependencies.evictions.record,
                before=query.get("before"),
                limit=query["limit"],
                vm=query.get("vm"),
                request=query.get("request"),
                reason=query.get("reason"),
            )
        )
        self.finish({"evictions": found, "before": before})


class OneEvictionHandler(ApiHandler):
    """One eviction."""

    address = f"{EVICTIONS}/{{id}}"
    tag = "evictions"
    parameters = {"id": ("the eviction's number", _NUMBER.pattern)}

    @describe(Response(200, "The eviction.", EvictionSchema, EVICTION), errors=(NotFound, Timeout))
    async def get(self, number: str) -> None:
        """Show one eviction."""
        if not _NUMBER.fullmatch(number):
            raise NotFound("there is no eviction with this id")
        self.finish(await self.while_connected(self.dependencies.evictions.one(int(number))))


routes = [route(AcknowledgementHandler), route(PracticeHandler), route(EvictionsHandler), route(OneEvictionHandler)]
