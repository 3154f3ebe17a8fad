"""What each call sends, how it reads the answer, and when it tries again: flows, without input or output.

`Core` has one flow for each call. `clients` makes the methods of `Client` and `AsyncClient` of them.
"""

import itertools
import json
import random
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, TypeVar, Unpack

from vmsvc.client import errors, results
from vmsvc.client.steps import Answer, Block, Flow, Give, Listen, NextBlock, NoAnswer, Pause, Request, Send, Stream

T = TypeVar("T")

#: Seconds for which one request waits for an outcome: shorter than the idle time-outs of usual proxies.
TURN = 25.0
#: Seconds between two requests for one outcome, at least.
BETWEEN_TURNS = 1.0
#: Seconds after which an event stream without a sign of life is dead. The service sends one every 15 s.
SILENCE = 45.0
#: Rows of a page.
PAGE = 1000
_TRY_AGAIN = (429, 502, 503, 504)
_EVENT_STREAM = "text/event-stream"


class VmFields(TypedDict, total=False):
    """What a create may name besides the kind; the API's document describes each."""

    name: str
    flavor: str
    image: str
    network: str
    key_name: str
    user_data: str
    metadata: Mapping[str, str]
    availability_zone: str
    priority: int
    min_run_seconds: int
    group: str
    max_unavailable: int
    wait_seconds: int
    fallback_after_seconds: int
    patience_seconds: int
    on_eviction: Literal["end", "restart"]
    max_restarts: int
    restart_within_seconds: int
    fallback_after_evictions: int
    keep_address: bool
    networks: Sequence[Mapping[str, str]]
    security_groups: Sequence[str]
    tags: Sequence[str]
    server_group: str
    scheduler_hints: Mapping[str, str | Sequence[str]]
    config_drive: bool
    hostname: str
    trusted_image_certificates: Sequence[str]
    block_device_mapping_v2: Sequence[Mapping[str, Any]]


class WebhookFields(TypedDict, total=False):
    """What may change in a webhook."""

    url: str
    types: Sequence[str]
    states: Sequence[str]
    preemptible: bool | None
    vm: str | None
    description: str
    active: bool


@dataclass(slots=True)
class _Attempts:
    """What became of the attempts to send a request."""

    lost: int = 0  # sent, and no answer came


@dataclass(slots=True)
class _Place:
    """How far a caller has got in the order of events: up to `seq`; None: at the end of what there was."""

    seq: int | None

    def event_of(self, block: Block) -> results.Event | None:
        """The event in a block of the stream; None when the block only moves the place, or is there again. Raises
        BadAnswer."""
        if not block.data:
            if block.id.isdecimal():
                self.seq = max(self.seq or 0, int(block.id))
            return None
        event = results.read(results.Event, _parsed(block.data))
        if self.seq is not None and event.seq <= self.seq:
            return None
        self.seq = event.seq
        return event


class Core:
    """The flows of all calls.

    `timeout`: seconds that a call may take with all its repetitions, besides the wait for an outcome. `patience`:
    seconds for which it tries to reach a service that is away.
    """

    def __init__(
        self,
        timeout: float = 60.0,
        patience: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ):
        self._timeout = timeout
        self._patience = patience
        self._clock = clock
        self._chance = chance

    # ------------------------------------------------------------ VMs

    def create(
        self,
        is_preemptible: bool,
        *,
        wait: bool = True,
        timeout: float = 600.0,
        idempotency_key: str | None = None,
        **fields: Unpack[VmFields],
    ) -> Flow[results.Outcome]:
        """Create a VM and wait until it is active, or until it has failed, which raises that error.

        The request has an Idempotency-Key, so that it makes one VM however often it has to be sent. Raises StillPending
        after `timeout` seconds; the service goes on. Without `wait` the outcome may not be `done`.
        """
        key = idempotency_key or str(uuid.uuid4())
        if not (key.isascii() and key.isprintable() and len(key) <= 255):
            raise ValueError("an Idempotency-Key is 1 to 255 printable ASCII characters")
        body = _without_none({"is_preemptible": is_preemptible, **fields})
        deadline = self._clock() + timeout
        try:
            while True:
                began = self._clock()
                request = _waiting(Request("POST", "/vm", body=body), wait, deadline - began, key)
                answer = yield from self._exchange(request)
                outcome = _outcome_of(answer)
                if outcome.done or not wait:
                    return outcome
                vm_id = answer.headers.get("location", "").rpartition("/")[2]
                yield from self._await_turn(began, deadline, f"vm {vm_id} is not active yet", vm_id)
        except errors.ClientError as error:
            error.idempotency_key = key  # the service may have taken the request: with it the caller may go on
            raise

    def plan(self, is_preemptible: bool, **fields: Unpack[VmFields]) -> Flow[results.Plan]:
        """Show what a create would do now: placed, evicts whom and why, waits, or refused. It changes nothing."""
        body = _without_none({"is_preemptible": is_preemptible, **fields})
        answer = yield from self._exchange(Request("POST", "/vm", {"dry_run": "true"}, body))
        return results.read(results.Plan, _json(answer))

    def list(self) -> Flow[results.VmList]:
        """List the servers of the project, and the requests that wait."""
        return (yield from self._get(results.VmList, "/vm"))

    def show(self, vm_id: str) -> Flow[results.Vm]:
        """Show a VM, by the cloud's id or vmsvc's own; by its origin the newest of a lineage. Raises NotFound."""
        return (yield from self._get(results.Vm, _path("vm", vm_id)))

    def delete(self, vm_id: str, *, wait: bool = True, timeout: float = 600.0) -> Flow[results.Outcome]:
        """Delete a VM that vmsvc made, with its lineage, and wait until it is gone. Raises NotFound, and StillPending
        after `timeout` seconds."""
        deadline, attempts, accepted = self._clock() + timeout, _Attempts(), False
        while True:
            began = self._clock()
            request = _waiting(Request("DELETE", _path("vm", vm_id)), wait, deadline - began)
            try:
                answer = yield from self._exchange(request, attempts)
            except errors.NotFound:
                if accepted or attempts.lost:  # the service has deleted it, and this is the second answer
                    return results.Outcome(message=f"vm {vm_id} was deleted")
                raise
            outcome, accepted = _outcome_of(answer), True
            if outcome.done or not wait:
                return outcome
            yield from self._await_turn(began, deadline, f"vm {vm_id} is not deleted yet", vm_id)

    def patch(
        self, vm_id: str, *, is_preemptible: bool | None = None, on_eviction: Literal["end"] | None = None
    ) -> Flow[results.Vm]:
        """Change the kind of a VM that runs, or end its restarts. Raises Conflict from its notice on."""
        body = _without_none({"is_preemptible": is_preemptible, "on_eviction": on_eviction})
        return (yield from self._act(Request("PATCH", _path("vm", vm_id), body=body)))

    def ack(self, vm_id: str) -> Flow[results.Vm]:
        """Release a VM that has its notice before its time. Raises Conflict for one that has none."""
        return (yield from self._act(Request("POST", f"{_path('vm', vm_id)}/ack", body={})))

    def evict(self, vm_id: str, *, notice_only: bool = False) -> Flow[results.Vm]:
        """Practise the eviction of a preemptible VM; with `notice_only` it is reprieved when its time is up."""
        body = {"notice_only": notice_only}
        return (yield from self._act(Request("POST", f"{_path('vm', vm_id)}/evict", body=body, repeatable=False)))

    # ------------------------------------------------------------ capacity, evictions, events

    def capacity(self) -> Flow[results.Capacity]:
        """Show mode, quota, hosts, how many VMs of each flavor fit now and after evictions, and the queue."""
        return (yield from self._get(results.Capacity, "/capacity"))

    def evictions(
        self, *, vm: str | None = None, request: str | None = None, reason: str | None = None
    ) -> Stream[results.Eviction]:
        """Iterate over the record of evictions, newest first: of one VM, for one request, for one reason."""
        before: int | None = None
        while True:
            query = {"vm": vm, "request": request, "reason": reason, "before": before, "limit": PAGE}
            page = yield from self._get(results.EvictionPage, "/evictions", query)
            for eviction in page.evictions:
                yield Give(eviction)
            if (before := page.before) is None:
                return

    def eviction(self, number: int) -> Flow[results.Eviction]:
        """Show one eviction."""
        return (yield from self._get(results.Eviction, f"/evictions/{number:d}"))

    def history(
        self,
        since: int | None = None,
        *,
        types: Iterable[str] = (),
        vm: str | None = None,
        preemptible: bool | None = None,
    ) -> Stream[results.Event]:
        """Iterate over the events after `since` that there are now; without it over all that are kept. Raises
        HistoryGone."""
        while True:
            query = {**_filter(types, vm, preemptible), "since": since, "limit": PAGE}
            page = yield from self._get(results.EventPage, "/events", query)
            for event in page.events:
                yield Give(event)
            if page.seq == since:  # a page with few events, or none, may still not be the last
                return
            since = page.seq

    def events(
        self,
        since: int | None = None,
        *,
        types: Iterable[str] = (),
        vm: str | None = None,
        preemptible: bool | None = None,
        patience: float = 600.0,
    ) -> Stream[results.Event]:
        """Iterate over the events after `since`, each once and in order, and then over new ones as they come; without
        `since` over new ones alone.

        It reconnects by itself. Raises HistoryGone when the service no longer keeps what comes next: then read the
        list, and begin again with its `seq`. Raises Unreachable when the service was away for `patience` seconds.
        """
        query, place = _filter(types, vm, preemptible), _Place(since)
        heard, attempt = self._clock(), 0
        while True:
            failure: errors.ClientError = errors.Unreachable("the event stream ends before each event")
            try:
                answer = yield Listen(_listening(query, place.seq))
                while _is_stream(answer) and (block := (yield NextBlock())) is not None:
                    heard, attempt = self._clock(), 0
                    if (event := place.event_of(block)) is not None:
                        yield Give(event)
                if not _is_stream(answer):
                    failure = _error_of(answer)
                    if answer.status not in _TRY_AGAIN:
                        raise failure
            except NoAnswer as broken:
                failure = _unreachable(broken)
                if broken.hopeless:
                    raise failure from broken
            pause = max(self._back_off(attempt), getattr(failure, "retry_after", None) or 0.0)
            if self._clock() + pause - heard > patience:
                raise failure
            attempt += 1
            yield Pause(pause)

    # ------------------------------------------------------------ webhooks

    def webhooks(self) -> Flow[tuple[results.Webhook, ...]]:
        """List your webhooks, oldest first."""
        return (yield from self._get(results.WebhookList, "/webhooks")).webhooks

    def webhook(self, webhook_id: str) -> Flow[results.Webhook]:
        """Show a webhook, with its state and what went wrong last."""
        return (yield from self._get(results.OneWebhook, _path("webhooks", webhook_id))).webhook

    def create_webhook(
        self,
        url: str,
        *,
        types: Iterable[str] = (),
        states: Iterable[str] = (),
        preemptible: bool | None = None,
        vm: str | None = None,
        description: str = "",
        since: int | None = None,
    ) -> Flow[results.NewSecret]:
        """Have events sent to a URL. The answer has the secret, which is shown this once."""
        rule = {"types": [*types], "states": [*states], "preemptible": preemptible, "vm": vm}
        body = _without_none({"url": url, **rule, "description": description, "since": since})
        answer = yield from self._exchange(Request("POST", "/webhooks", body=body, repeatable=False))
        return results.read(results.NewSecret, _json(answer))

    def patch_webhook(self, webhook_id: str, **changes: Unpack[WebhookFields]) -> Flow[results.Webhook]:
        """Change what `changes` names. `active` switches it off, or on again."""
        answer = yield from self._exchange(Request("PATCH", _path("webhooks", webhook_id), body={**changes}))
        return results.read(results.OneWebhook, _json(answer)).webhook

    def delete_webhook(self, webhook_id: str) -> Flow[None]:
        """Remove a webhook, with all its deliveries. Raises NotFound."""
        attempts = _Attempts()
        try:
            yield from self._exchange(Request("DELETE", _path("webhooks", webhook_id)), attempts)
        except errors.NotFound:
            if not attempts.lost:
                raise

    def rotate_webhook(self, webhook_id: str) -> Flow[results.NewSecret]:
        """Give a webhook a new secret; the old one signs along for 24 h. Raises Conflict within these."""
        request = Request("POST", f"{_path('webhooks', webhook_id)}/rotate", repeatable=False)
        return results.read(results.NewSecret, _json((yield from self._exchange(request))))

    def test_webhook(self, webhook_id: str) -> Flow[results.WebhookTest]:
        """Send a message of type `test` now, and show what the receiver answered."""
        request = Request("POST", f"{_path('webhooks', webhook_id)}/test")
        return results.read(results.WebhookTest, _json((yield from self._exchange(request))))

    def replay_webhook(self, webhook_id: str, since: int, *, until: int | None = None) -> Flow[results.Replay]:
        """Send the events after `since` once more. Raises HistoryGone."""
        body = _without_none({"since": since, "until": until})
        request = Request("POST", f"{_path('webhooks', webhook_id)}/replay", body=body, repeatable=False)
        return results.read(results.Replay, _json((yield from self._exchange(request))))

    def deliveries(self, webhook_id: str, *, status: str | None = None) -> Stream[results.Delivery]:
        """Iterate over the deliveries of a webhook, the newest event first."""
        before: int | None = None
        while True:
            query = {"status": status, "before": before, "limit": PAGE}
            page = yield from self._get(results.DeliveryPage, f"{_path('webhooks', webhook_id)}/deliveries", query)
            for delivery in page.deliveries:
                yield Give(delivery)
            if (before := page.before) is None:
                return

    # ------------------------------------------------------------ one exchange

    def _get(self, kind: type[T], path: str, query: Mapping[str, object] | None = None) -> Flow[T]:
        wanted = {name: str(value) for name, value in (query or {}).items() if value is not None}
        return results.read(kind, _json((yield from self._exchange(Request("GET", path, wanted)))))

    def _act(self, request: Request) -> Flow[results.Vm]:
        """The VM in the answer."""
        vm = _outcome_of((yield from self._exchange(request))).vm
        if vm is None:
            raise errors.BadAnswer("the answer has no vm")
        return vm

    def _exchange(self, request: Request, attempts: _Attempts | None = None) -> Flow[Answer]:
        """Send a request, again where that can help. `attempts` counts those whose answer was lost. Raises
        ClientError."""
        began, failed_at = self._clock(), None
        for attempt in itertools.count():
            failure: errors.ClientError
            try:
                answer: Answer = yield Send(request)
            except NoAnswer as broken:
                failure = _unreachable(broken)
                if broken.sent and not request.repeatable:
                    raise errors.OutcomeUnknown(failure.message) from broken
                failed_at = failed_at or self._clock()
                if broken.sent and attempts is not None:
                    attempts.lost += 1
                pause, limit = self._back_off(attempt), failed_at + self._patience
                if broken.hopeless:
                    raise failure from broken
            else:
                if answer.status < 300:
                    return answer
                failure = refusal = _error_of(answer)
                # A create that was accepted has a Location, and keeps its answer for ever.
                if answer.status not in _TRY_AGAIN or "location" in answer.headers:
                    raise failure
                told = isinstance(refusal, errors.ServiceError) and refusal.retry_after is not None
                if not told and not request.repeatable:
                    raise failure
                pause = max(self._back_off(attempt), (getattr(refusal, "retry_after", None) or 0.0))
                limit, failed_at = began + self._timeout, None
            if self._clock() + pause > min(limit, began + self._timeout):
                raise failure
            yield Pause(pause)
        raise AssertionError("unreachable")

    def _await_turn(self, began: float, deadline: float, message: str, vm_id: str) -> Flow[None]:
        """Wait until the service may be asked once more for an outcome. Raises StillPending."""
        pause = max(0.0, began + BETWEEN_TURNS - self._clock())
        if self._clock() + pause >= deadline:
            raise errors.StillPending(message, vm_id=vm_id)
        if pause:
            yield Pause(pause)

    def _back_off(self, attempt: int) -> float:
        """Seconds before the next attempt: longer each time, and not the same for all clients."""
        return float(min(0.25 * 2**attempt, 5.0) * (0.5 + self._chance() / 2))


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _path(*parts: str) -> str:
    """An address of these parts. Raises ValueError for a text that would be more than one part."""
    for part in parts:
        if not part or not part.isascii() or not part.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"{part!a} is no id")
    return "/" + "/".join(parts)


def _filter(types: Iterable[str], vm: str | None, preemptible: bool | None) -> dict[str, str]:
    """The query that selects events."""
    kind = None if preemptible is None else str(preemptible).lower()
    return _without_none({"type": ",".join(types) or None, "vm": vm, "preemptible": kind})


def _waiting(request: Request, wait: bool, seconds: float, key: str | None = None) -> Request:
    """The same request, which waits for its outcome for one turn, or not at all."""
    turn = int(max(0.0, min(TURN, seconds)))
    headers = {"Prefer": f"wait={turn}" if wait else "respond-async", **({"Idempotency-Key": key} if key else {})}
    return Request(
        request.method, request.path, request.query, request.body, headers, read_seconds=turn + request.read_seconds
    )


def _listening(query: Mapping[str, str], position: int | None) -> Request:
    """The request for the event stream after a position."""
    headers = {"Accept": _EVENT_STREAM, "Cache-Control": "no-store"}
    if position is not None:
        headers["Last-Event-ID"] = str(position)
    return Request("GET", "/events", query, headers=headers, read_seconds=SILENCE)


def _is_stream(answer: Answer) -> bool:
    return answer.status == 200 and answer.headers.get("content-type", "").startswith(_EVENT_STREAM)


def _parsed(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise errors.BadAnswer("the answer is not JSON: does vmsvc listen at this address?") from error


def _json(answer: Answer) -> Any:
    return _parsed(answer.body)


def _outcome_of(answer: Answer) -> results.Outcome:
    outcome = results.read(results.Outcome, _json(answer))
    return outcome if answer.status != 202 else results.Outcome(message=outcome.message, vm=outcome.vm, done=False)


def _error_of(answer: Answer) -> errors.ClientError:
    """The error that an answer means; BadAnswer when vmsvc did not write it."""
    try:
        body = _json(answer)
        code, message = str(body["error"]), str(body["message"])
    except (errors.BadAnswer, KeyError, TypeError):
        return errors.BadAnswer(f"an answer with status {answer.status} did not come from vmsvc", status=answer.status)
    given = answer.headers.get("retry-after", "")
    return errors.BY_CODE.get(code, errors.ServiceError)(
        message,
        status=answer.status,
        code=code,
        request_id=body.get("request_id"),
        field=body.get("field"),
        retry_after=float(given) if given.isdecimal() else None,
    )


def _unreachable(broken: NoAnswer) -> errors.Unreachable:
    return errors.Unreachable(f"no answer from vmsvc: {broken.reason}")
