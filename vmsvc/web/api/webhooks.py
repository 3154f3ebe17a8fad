"""`/api/v1/webhooks`: endpoints that events are sent to."""

import re
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, validate

from vmsvc.domain.errors import Conflict, Forbidden, HistoryGone, NotFound, Timeout
from vmsvc.domain.lifecycle import MOVES, STEPS
from vmsvc.domain.webhook_url import MAX_URL
from vmsvc.domain.webhooks import STATUSES
from vmsvc.service.webhooks.endpoints import Webhooks
from vmsvc.web.api.field_types import StrictBoolean, StrictInteger
from vmsvc.web.api.handler import ApiHandler
from vmsvc.web.api.requests import MAX_SEQ, QueryInteger, load
from vmsvc.web.http.handler import route
from vmsvc.web.openapi import responses
from vmsvc.web.openapi.operations import Response, describe

WEBHOOKS = "/api/v1/webhooks"
#: States of events.
STATES = sorted({"pending"} | {event[1] for event in MOVES.values() if event} | {state for _, state in STEPS})
MAX_DESCRIPTION = 255

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_VM = r"^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$"
SECRET = "whsec_vhQmDhjE9Jp2H0Gm1K2cX3uQh5w7ZrY8bN4tL6sV0aE="
WEBHOOK = {
    "id": "7f1d3f0a-8a42-4e0c-9f6a-2b1c5d7e9f10",
    "url": "https://receiver.example/vmsvc",
    "types": ["evict"],
    "states": [],
    "preemptible": True,
    "vm": None,
    "description": "checkpoints before an eviction",
    "owner": "anonymous",
    "status": "verified",
    "off_reason": None,
    "off_at": None,
    "after_seq": 41,
    "pending": 0,
    "failures": 0,
    "failing_since": None,
    "last_success_at": None,
    "last_code": None,
    "last_error": None,
    "old_secret_until": None,
    "created_at": "2026-11-23T12:00:00.000Z",
}
DELIVERY = {
    "seq": 42,
    "type": "evict",
    "state": "noticed",
    "vm": responses.VICTIM,
    "status": "pending",
    "attempts": 2,
    "next_at": "2026-11-23T12:00:10.000Z",
    "waits": False,
    "last_code": 503,
    "last_error": "it answered 503",
    "created_at": "2026-11-23T12:00:00.000Z",
    "done_at": None,
}


class WordList(fields.List[str]):
    """A JSON list of some of these words, each once."""

    def __init__(self, words: tuple[str, ...], description: str):
        super().__init__(
            fields.String(validate=validate.OneOf(words)),
            validate=validate.Length(max=len(words)),
            metadata={"description": description, "uniqueItems": True},
        )

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[str | None]:
        found = super()._deserialize(value, attr, data, **kwargs)
        if len(set(found)) < len(found):
            raise ValidationError("Must name each once.")
        return found


class Rule(Schema):
    """Which events an endpoint gets."""

    class Meta:
        """A misspelt field is an error."""

        unknown = RAISE

    types = WordList(responses.TYPES, "types of events; none: all")
    states = WordList(tuple(STATES), "values of `data.state`; none: all")
    preemptible = StrictBoolean(
        allow_none=True, metadata={"description": "true: events of preemptible VMs only, false: of standard ones"}
    )
    vm = fields.String(
        allow_none=True,
        validate=validate.Regexp(_VM),
        metadata={"description": "events of this VM only; the cloud's id or vmsvc's own"},
    )
    description = fields.String(validate=validate.Length(max=MAX_DESCRIPTION), metadata={"description": "for people"})


def _url(**options: Any) -> fields.String:
    return fields.String(
        validate=validate.Length(1, MAX_URL),
        metadata={"description": "where events are sent: https, without user and password", "format": "uri"},
        **options,
    )


class CreateWebhookSchema(Rule):
    """The body of `POST /api/v1/webhooks`."""

    url = _url(required=True)
    since = StrictInteger(
        validate=validate.Range(0, MAX_SEQ),
        metadata={"description": "it gets the events with a higher seq; without it those from now on"},
    )


class ChangeWebhookSchema(Rule):
    """The body of `PATCH /api/v1/webhooks/{id}`: what is to change."""

    url = _url()
    active = StrictBoolean(
        metadata={"description": "false: switch it off; true: switch it on again, and ask its receiver for consent"}
    )


class ReplaySchema(Schema):
    """The body of `POST /api/v1/webhooks/{id}/replay`."""

    class Meta:
        """A misspelt field is an error."""

        unknown = RAISE

    since = StrictInteger(
        required=True,
        validate=validate.Range(0, MAX_SEQ),
        metadata={"description": "the events with a higher seq"},
    )
    until = StrictInteger(validate=validate.Range(0, MAX_SEQ), metadata={"description": "up to this seq"})


class DeliveriesQuery(Schema):
    """The query of `GET /api/v1/webhooks/{id}/deliveries`."""

    class Meta:
        """A misspelt name is an error."""

        unknown = RAISE

    status = fields.String(validate=validate.OneOf(STATUSES), metadata={"description": "only these"})
    before = QueryInteger(
        validate=validate.Range(1, MAX_SEQ),
        metadata={"description": "only events with a lower seq: the `before` of the page before"},
    )
    limit = QueryInteger(validate=validate.Range(1, 1000), load_default=100)


def _moment(description: str) -> fields.DateTime:
    return fields.DateTime(required=True, allow_none=True, metadata={"description": description})


def _text(description: str, **options: Any) -> fields.String:
    return fields.String(required=True, metadata={"description": description}, **options)


class WebhookView(responses.OpenObject):
    """An endpoint. Its secret is shown once, when it is made."""

    id = _text("its id")
    url = _text("where events are sent")
    types = fields.List(fields.String(), required=True, metadata={"description": "types of events; none: all"})
    states = fields.List(fields.String(), required=True, metadata={"description": "states of events; none: all"})
    preemptible = fields.Boolean(
        required=True, allow_none=True, metadata={"description": "of which kind of VM; null: of both"}
    )
    vm = _text("of which VM; null: of all", allow_none=True)
    description = _text("what its owner wrote")
    owner = _text("the name of the principal that made it")
    status = _text(
        "`verified`: events are sent; `unverified`: its receiver has not agreed, see `last_error`; `off`: nothing is "
        "sent, see `off_reason`",
        validate=validate.OneOf(["verified", "unverified", "off"]),
    )
    off_reason = _text(
        "`gone`: its receiver answered 410; `failing`: no delivery succeeded for 5 days; `by_owner`; null: it is on",
        allow_none=True,
    )
    off_at = _moment("when it was switched off")
    after_seq = fields.Integer(required=True, metadata={"description": "events up to this seq have a delivery"})
    pending = fields.Integer(required=True, metadata={"description": "deliveries that are still to be made"})
    failures = fields.Integer(required=True, metadata={"description": "attempts that failed since the last success"})
    failing_since = _moment("when the first of these failed")
    last_success_at = _moment("when a delivery succeeded last")
    last_code = fields.Integer(
        required=True, allow_none=True, metadata={"description": "the status of the last answer; null: there was none"}
    )
    last_error = _text("why the last attempt, or the question for consent, failed", allow_none=True)
    old_secret_until = _moment("until when the secret before the last rotation signs along")
    created_at = _moment("when it was made")


class WithSecret(responses.OpenObject):
    """An endpoint and its secret."""

    webhook = fields.Nested(WebhookView, required=True)
    secret = _text("signs what is sent; it is not shown again")


class OneWebhook(responses.OpenObject):
    """An endpoint."""

    webhook = fields.Nested(WebhookView, required=True)


class WebhookList(responses.OpenObject):
    """The endpoints of a principal."""

    webhooks = fields.List(fields.Nested(WebhookView), required=True, metadata={"description": "oldest first"})


class TestResult(responses.OpenObject):
    """What became of a test."""

    delivered = fields.Boolean(required=True, metadata={"description": "true: the answer was 2xx"})
    code = fields.Integer(required=True, allow_none=True, metadata={"description": "the status; null: there was none"})
    reason = _text("why it was not delivered", allow_none=True)


class ReplayResult(responses.OpenObject):
    """What is sent again."""

    count = fields.Integer(required=True, metadata={"description": "deliveries that will be made"})
    seq = fields.Integer(
        required=True, metadata={"description": "up to which the events were looked at: the `since` of the next replay"}
    )


class DeliveryView(responses.OpenObject):
    """An event on its way to an endpoint."""

    seq = fields.Integer(required=True, metadata={"description": "of the event"})
    type = _text("of the event; null when it is no longer kept", allow_none=True)
    state = _text("of the event; null when it is no longer kept", allow_none=True)
    vm = _text("of the event")
    status = _text("`pending`, `done`, or `failed`", validate=validate.OneOf(STATUSES))
    attempts = fields.Integer(required=True, metadata={"description": "how often it was sent"})
    next_at = _moment("of a pending one: when it is sent next")
    waits = fields.Boolean(required=True, metadata={"description": "true: for an earlier event of the same VM"})
    last_code = fields.Integer(
        required=True, allow_none=True, metadata={"description": "the status of the last answer"}
    )
    last_error = _text("why the last attempt failed", allow_none=True)
    created_at = _moment("when it was written")
    done_at = _moment("when it was made, or had failed")


class DeliveryPage(responses.NewestFirst):
    """Deliveries, the newest event first."""

    deliveries = fields.List(fields.Nested(DeliveryView), required=True, metadata={"description": "newest first"})


class WebhookHandler(ApiHandler):
    """A handler of webhooks: for members, also where it only reads. Each sees its own ones, an admin all."""

    tag = "webhooks"

    async def admit(self) -> None:
        """Raises Forbidden for a reader."""
        await super().admit()
        if not self.principal.may_write:
            raise Forbidden("webhooks are for members")

    @property
    def webhooks(self) -> Webhooks:
        """What clients may ask about webhooks."""
        return self.dependencies.webhooks


class WebhooksHandler(WebhookHandler):
    """All endpoints of a principal."""

    address = WEBHOOKS

    @describe(
        Response(200, "The webhooks.", WebhookList, {"webhooks": [WEBHOOK]}),
        errors=(Timeout,),
    )
    async def get(self) -> None:
        """List your webhooks, oldest first; an admin gets those of all owners."""
        self.finish({"webhooks": await self.while_connected(self.webhooks.mine(self.principal))})

    @describe(
        Response(
            201,
            "It was made.",
            WithSecret,
            {"webhook": WEBHOOK, "secret": SECRET},
            headers=("Location",),
            always=("Location",),
        ),
        body=CreateWebhookSchema,
        examples=(("evictions", {"url": WEBHOOK["url"], "types": ["evict"], "preemptible": True}),),
        errors=(413, 415, Conflict, Timeout),
    )
    async def post(self) -> None:
        """Have events sent to a URL.

        vmsvc asks the receiver by OPTIONS whether it takes events (the abuse protection of CloudEvents 1.0). One that
        does not agree is `unverified`, and gets nothing until `POST …/test` or a change finds that it does. Each event
        is POSTed as the channel has it, signed by Standard Webhooks 1.0, at least once, and in order for each VM. 409
        when you have as many as you may have.
        """
        body = load(CreateWebhookSchema, self.json_body())
        since = body.pop("since", None)
        view, secret = await self.webhooks.create(body, since, principal=self.principal)
        self.set_header("Location", f"{WEBHOOKS}/{view['id']}")
        self.set_header("Cache-Control", "no-store")
        self.set_status(201)
        self.finish({"webhook": view, "secret": secret})


class OfOneWebhook(WebhookHandler):
    """A handler whose address names a webhook."""

    parameters = {"id": ("the webhook's id", _ID.pattern)}

    async def admit(self) -> None:
        """Raises NotFound for a text that is no id."""
        await super().admit()
        if not _ID.fullmatch(self.path_args[0]):
            raise NotFound("there is no webhook with this id")


class OneWebhookHandler(OfOneWebhook):
    """One endpoint."""

    address = f"{WEBHOOKS}/{{id}}"

    @describe(Response(200, "The webhook.", OneWebhook, {"webhook": WEBHOOK}), errors=(NotFound, Timeout))
    async def get(self, webhook_id: str) -> None:
        """Show a webhook, with its state and what went wrong last."""
        self.finish({"webhook": await self.while_connected(self.webhooks.one(webhook_id, self.principal))})

    @describe(
        Response(200, "It was changed.", OneWebhook, {"webhook": WEBHOOK}),
        body=ChangeWebhookSchema,
        examples=(("events of one state", {"states": ["noticed"]}), ("switch it on again", {"active": True})),
        errors=(413, 415, NotFound, Timeout),
    )
    async def patch(self, webhook_id: str) -> None:
        """Change a webhook, or switch it off or on.

        Only what the body names changes. The receiver of a new URL has to agree anew. What was missed while a webhook
        was off comes by `POST …/replay`.
        """
        body = load(ChangeWebhookSchema, self.json_body())
        active = body.pop("active", None)
        self.finish({"webhook": await self.webhooks.change(webhook_id, body, active, self.principal)})

    @describe(
        Response(
            200, "It was removed.", responses.MessageBody, responses.message_body("204", "the webhook was removed")
        ),
        errors=(NotFound, Timeout),
    )
    async def delete(self, webhook_id: str) -> None:
        """Remove a webhook, with all its deliveries."""
        await self.webhooks.remove(webhook_id, self.principal)
        self.answer(200, "the webhook was removed", code=204)


class RotateHandler(OfOneWebhook):
    """A new secret."""

    address = f"{WEBHOOKS}/{{id}}/rotate"

    @describe(
        Response(200, "The new secret.", WithSecret, {"webhook": WEBHOOK, "secret": SECRET}),
        errors=(NotFound, Conflict, Timeout),
    )
    async def post(self, webhook_id: str) -> None:
        """Give a webhook a new secret.

        The old one signs along for 24 h, so that the receiver can change to the new one meanwhile. 409 within these.
        """
        view, secret = await self.webhooks.rotate(webhook_id, self.principal)
        self.set_header("Cache-Control", "no-store")
        self.finish({"webhook": view, "secret": secret})


class TestHandler(OfOneWebhook):
    """A test."""

    address = f"{WEBHOOKS}/{{id}}/test"

    @describe(
        Response(200, "What became of it.", TestResult, {"delivered": True, "code": 204, "reason": None}),
        errors=(NotFound, Timeout),
    )
    async def post(self, webhook_id: str) -> None:
        """Send a message of type `test` now, and show what the receiver answered.

        A receiver that has not agreed yet is asked again first.
        """
        self.finish(await self.while_connected(self.webhooks.test(webhook_id, self.principal)))


class ReplayHandler(OfOneWebhook):
    """A replay."""

    address = f"{WEBHOOKS}/{{id}}/replay"

    @describe(
        Response(202, "They will be sent.", ReplayResult, {"count": 12, "seq": 42}),
        body=ReplaySchema,
        examples=(("since", {"since": 30}),),
        errors=(413, 415, NotFound, HistoryGone, Timeout),
    )
    async def post(self, webhook_id: str) -> None:
        """Send events once more.

        Those that the webhook wants, also what had failed; each with the `webhook-id` that it had before. At most
        10,000 events are looked at; go on with `seq` as `since`.
        """
        body = load(ReplaySchema, self.json_body())
        count, seq = await self.webhooks.replay(webhook_id, body["since"], body.get("until"), self.principal)
        self.set_status(202)
        self.finish({"count": count, "seq": seq})


class DeliveriesHandler(OfOneWebhook):
    """The deliveries of an endpoint."""

    address = f"{WEBHOOKS}/{{id}}/deliveries"

    @describe(
        Response(200, "A page of deliveries.", DeliveryPage, {"deliveries": [DELIVERY], "before": None}),
        query=DeliveriesQuery,
        errors=(NotFound, Timeout),
    )
    async def get(self, webhook_id: str) -> None:
        """Show the deliveries of a webhook, the newest event first."""
        query = self.query(DeliveriesQuery)
        found, before = await self.read_history(
            lambda: self.webhooks.deliveries(
                webhook_id, query.get("status"), query.get("before"), query["limit"], self.principal
            )
        )
        self.finish({"deliveries": found, "before": before})


routes = [
    route(WebhooksHandler),
    route(OneWebhookHandler),
    route(RotateHandler),
    route(TestHandler),
    route(ReplayHandler),
    route(DeliveriesHandler),
]
