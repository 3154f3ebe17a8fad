"""Deliveries of events to webhooks: written from the outbox, claimed under a lease, recorded or tried again.

Whoever changes the deliveries of an endpoint holds the row of the endpoint, to the end of the transaction. So of each
VM exactly the first pending delivery is not `blocked`: two transactions that did not see each other could else both
leave the next one blocked, for ever.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import groupby
from typing import Any

from peewee import fn

from vmsvc.domain import webhooks as rules
from vmsvc.domain.errors import HistoryGone
from vmsvc.domain.webhooks import DONE, FAILED, MANY_FAILURES, PENDING, Health, Retry
from vmsvc.store import outbox, queries, webhooks
from vmsvc.store.db import Unit
from vmsvc.store.models import Delivery, Event, Webhook, database, dicts_of

#: Events that one turn reads for endpoints that are equally far, and endpoints that it serves.
_EVENTS, _ENDPOINTS = 256, 100
#: Most events that one replay looks at.
MAX_REPLAY = 10_000


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that the caller has claimed; `event` is None when the history no longer has it. `secrets` sign, the
    newest first."""

    id: int
    webhook_id: str
    seq: int
    vm_id: str
    attempt: int
    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    event: Mapping[str, Any] | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a claim: the status of the answer, or why there was none."""

    claim: Claim
    code: int | None
    error: str | None = None
    share: float = 0.0  # a number from 0 to 1, for the pause

    @property
    def succeeded(self) -> bool:
        """True for a status that takes the delivery."""
        return self.code is not None and 200 <= self.code < 300


# ---------------------------------------------------------------- from the outbox


def spread(work: Unit) -> bool:
    """Write the deliveries of events that endpoints do not have yet, and move their cursors; True when more is left to
    do. Endpoints that another transaction holds wait for the next turn."""
    newest, removed = outbox.newest(), outbox.removed_seq()
    behind = list(
        Webhook.select()
        .where(Webhook.verified_at.is_null(False), Webhook.off_at.is_null(), Webhook.after_seq < newest)
        .order_by(Webhook.after_seq)
        .limit(_ENDPOINTS)
        .for_update(skip_locked=True)
    )
    more = len(behind) == _ENDPOINTS
    for after_seq, group in groupby(behind, key=lambda row: max(row.after_seq, removed)):
        rows = list(group)
        events, _ = outbox.tail(after_seq, _EVENTS)
        for row in rows:
            if row.after_seq < removed:
                work.log_on_commit("webhook %s: events up to %d are no longer kept and are not sent", row.id, removed)
        _write(work, [(row.id, event) for row in rows for event in _admitted(row, events)])
        if events:
            last = events[-1]["data"]["seq"]
            more |= last < newest
            Webhook.update(after_seq=last).where(Webhook.id.in_([row.id for row in rows])).execute()
    return more


def _admitted(row: Webhook, events: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of the events that an endpoint wants."""
    rule = webhooks.rule_of(row)
    return [event for event in events if rule.admits(event)]


def _write(work: Unit, wanted: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Write the deliveries of these events to these endpoints, which are locked."""
    rows = [
        (webhook_id, event["data"]["seq"], event["data"]["vm"]["vmsvc_id"], rules.urgent_until(event))
        for webhook_id, event in wanted
    ]
    if not rows:
        return
    hooks, seqs, vms, urgent = map(list, zip(*rows))
    values = {"webhooks": hooks, "seqs": seqs, "vms": vms, "urgent": urgent, "now": work.now}
    database.execute_sql(queries.SPREAD, values)
    if any(urgent):
        database.execute_sql(queries.HASTEN, values)


def replay(work: Unit, row: Webhook, since: int, until: int | None) -> tuple[int, int]:
    """Have a locked endpoint get the events after `since` up to `until` again that it wants; returns how many, and the
    seq up to which that reaches (MAX_REPLAY events at most). Raises HistoryGone."""
    last = min(row.after_seq, row.after_seq if until is None else until)
    if since < (removed := outbox.removed_seq()):
        raise HistoryGone(removed + 1)
    events = [event for event in outbox.tail(since, MAX_REPLAY)[0] if event["data"]["seq"] <= last]
    wanted = _admitted(row, events)
    _write(work, [(row.id, event) for event in wanted])
    seqs = [event["data"]["seq"] for event in wanted]
    values = {"webhook": row.id, "seqs": seqs, "now": work.now}
    database.execute_sql(queries.REPLAY, values)
    database.execute_sql(queries.ORDER, values)
    return len(seqs), events[-1]["data"]["seq"] if len(events) == MAX_REPLAY else max(since, last)


# ---------------------------------------------------------------- the work


def claim(work: Unit, owner: str, limit: int, lease_seconds: float) -> list[Claim]:
    """Take up to `limit` due deliveries, as many of each endpoint as it may have in flight in the whole deployment. A
    claim holds for `lease_seconds`; then another replica sends the event again."""
    ready = database.execute_sql(queries.READY, {"now": work.now}).fetchall()
    if not ready or limit <= 0:
        return []
    troubled = [failures >= MANY_FAILURES for *_, failures in ready]
    claimed = database.execute_sql(
        queries.CLAIM_DELIVERIES,
        {
            "webhooks": [row[0] for row in ready],
            "slots": [rules.TROUBLED_IN_FLIGHT if bad else rules.IN_FLIGHT for bad in troubled],
            "again": [rules.TROUBLED_REPETITIONS if bad else rules.REPETITIONS for bad in troubled],
            "now": work.now,
            "owner": owner,
            "lease": lease_seconds,
            "limit": limit,
        },
    ).fetchall()
    events = outbox.of_seqs({seq for _, _, seq, _, _ in claimed})
    endpoints = {row[0]: row for row in ready}
    found = []
    for delivery_id, webhook_id, seq, vm_id, attempt in claimed:
        _, url, secret, old_secret, _ = endpoints[webhook_id]
        signing = (secret, old_secret) if old_secret else (secret,)
        found.append(Claim(delivery_id, webhook_id, seq, vm_id, attempt, url, signing, events.get(seq)))
    return found


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: the pauses after the first, second, ... failure of a delivery, and while it is urgent; and the pause
    of an endpoint between two attempts after many failures."""

    schedule: Sequence[float]
    urgent: float
    troubled: float


def record(work: Unit, owner: str, results: Sequence[Result], pace: Pace) -> list[tuple[Result, str]]:
    """Record what became of claims: `done`, `failed`, or `pending` again; returns each result with that. A claim that
    its owner has lost is left out: another replica has it. An endpoint that answered 410, or has failed for days, is
    switched off."""
    recorded: list[tuple[Result, str]] = []
    for row in _locked({result.claim.webhook_id for result in results}):
        own = [result for result in results if result.claim.webhook_id == row.id]
        succeeded = [result for result in own if result.succeeded]
        made = _record_made(work, owner, succeeded)
        recorded += [(result, DONE) for result in succeeded if result.claim.id in made]
        freed = [(row.id, vm_id) for vm_id in made.values()]
        health, last = webhooks.health_of(row), own[-1]
        if succeeded:
            health = rules.after_success()
        for result in own:
            if result.succeeded:
                continue
            health = rules.after_failure(health, work.now, result.code)
            status = _record_failure(work, owner, result, pace)
            if status is not None:
                recorded.append((result, status))
            if status == FAILED:
                freed.append((row.id, result.claim.vm_id))
        _unblock(freed)
        columns: dict[str, Any] = {"last_success_at": work.now} if succeeded else {}
        if health.failures >= MANY_FAILURES:
            columns["not_before"] = work.now + timedelta(seconds=pace.troubled)
        elif row.not_before is not None:
            columns["not_before"] = None
        webhooks.change(
            row,
            failures=health.failures,
            failing_since=health.failing_since,
            last_code=last.code,
            last_error=last.error,
            **columns,
        )
        if health.off is not None and row.off_at is None:
            switch_off(work, row, health)
    return recorded


def _locked(webhook_ids: set[str]) -> list[Webhook]:
    """These endpoints, locked, in the order in which everybody locks several."""
    return list(Webhook.select().where(Webhook.id.in_(sorted(webhook_ids))).order_by(Webhook.id).for_update())


def _record_made(work: Unit, owner: str, results: Sequence[Result]) -> dict[int, str]:
    """Close deliveries that were made; returns the VM of each that the caller still held."""
    if not results:
        return {}
    values = {
        "ids": [result.claim.id for result in results],
        "codes": [result.code for result in results],
        "owner": owner,
        "now": work.now,
    }
    return dict(database.execute_sql(queries.DELIVERED, values).fetchall())


def _record_failure(work: Unit, owner: str, result: Result, pace: Pace) -> str | None:
    row = Delivery.get_or_none(
        Delivery.id == result.claim.id, Delivery.lease_owner == owner, Delivery.status == PENDING
    )
    if row is None:
        return None
    retry: Retry | None = None
    if result.claim.event is not None:
        retry = rules.retry_of(row.step, work.now, row.urgent_until, result.share, pace.schedule, pace.urgent)
    columns: dict[str, Any] = {"status": FAILED, "done_at": work.now}
    if retry is not None:
        columns = {"next_at": retry.at, "step": retry.step}
    (
        Delivery.update(lease_owner=None, lease_until=None, last_code=result.code, last_error=result.error, **columns)
        .where(Delivery.id == row.id)
        .execute()
    )
    return PENDING if retry is not None else FAILED


def _unblock(freed: list[tuple[str, str]]) -> None:
    if freed:
        hooks, vms = map(list, zip(*freed))
        database.execute_sql(queries.UNBLOCK, {"webhooks": hooks, "vms": vms})


def switch_off(work: Unit, row: Webhook, health: Health) -> None:
    """Send a locked endpoint nothing more. What is pending has failed; it can be replayed."""
    webhooks.change(row, off_at=work.now, off_reason=health.off)
    (
        Delivery.update(
            status=FAILED,
            done_at=work.now,
            last_error=fn.COALESCE(Delivery.last_error, "the webhook was switched off"),
            lease_owner=None,
            lease_until=None,
        )
        .where(Delivery.webhook_id == row.id, Delivery.status == PENDING)
        .execute()
    )
    work.log_on_commit("webhook %s of %s: switched off (%s)", row.id, row.owner, health.off)


def release(work: Unit, owner: str) -> None:
    """Give up all claims of a replica that stops, so that other replicas can take them at once."""
    Delivery.update(lease_owner=None, lease_until=None, next_at=work.now).where(Delivery.lease_owner == owner).execute()


def seconds_to_next() -> float | None:
    """Until the next delivery that may be sent is due; None when there is none."""
    seconds = database.execute_sql(queries.NEXT_DELIVERY).fetchone()[0]
    return None if seconds is None else max(0.0, seconds)


# ---------------------------------------------------------------- for people


def page(webhook_id: str, status: str | None, before: int | None, limit: int) -> list[dict[str, Any]]:
    """Deliveries of an endpoint, the newest event first, with type and state of the event where it is kept."""
    found = (
        Delivery.select(Delivery, Event.type, Event.state, Event.subject)
        .left_outer_join(Event, on=Event.seq == Delivery.seq)
        .where(Delivery.webhook_id == webhook_id)
        .order_by(Delivery.seq.desc())
        .limit(limit)
    )
    if status is not None:
        found = found.where(Delivery.status == status)
    if before is not None:
        found = found.where(Delivery.seq < before)
    return list(dicts_of(found))
