"""The rows of webhooks: each endpoint, its owner, and how its deliveries have gone."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from peewee import ModelDelete, fn

from vmsvc.domain.errors import Conflict, NotFound
from vmsvc.domain.principal import Principal
from vmsvc.domain.webhooks import ROTATION, EventRule, Health
from vmsvc.store import outbox
from vmsvc.store.db import Lock, Unit
from vmsvc.store.models import Delivery, Webhook, tuples_of

#: What a client may change of an endpoint, besides its URL.
RULE = ("types", "states", "preemptible", "vm")


def create(
    work: Unit, webhook_id: str, principal: Principal, columns: Mapping[str, Any], *, most: int, since: int | None
) -> Webhook:
    """Write an endpoint that gets the events after `since` (None: those from now on). Raises Conflict when its owner
    has `most` already."""
    work.lock(Lock.WEBHOOKS)
    if Webhook.select().where(Webhook.owner_id == principal.id).count() >= most:
        raise Conflict(f"you have {most} webhooks, and may not have more; delete one")
    newest = outbox.newest()
    return Webhook.create(
        id=webhook_id,
        owner=principal.name,
        owner_id=principal.id,
        after_seq=newest if since is None else min(since, newest),
        created_at=work.now,
        **columns,
    )


def of_owner(principal: Principal) -> list[Webhook]:
    """The endpoints that the principal may see, oldest first: its own; an admin sees all."""
    found = Webhook.select().order_by(Webhook.created_at, Webhook.id)
    return list(found if principal.is_admin else found.where(Webhook.owner_id == principal.id))


def get(webhook_id: str, principal: Principal, *, lock: bool = False) -> Webhook:
    """An endpoint, locked where it is to be changed. Raises NotFound, also for one that the principal may not see."""
    found = Webhook.select().where(Webhook.id == webhook_id)
    row: Webhook | None = (found.for_update() if lock else found).first()
    if row is None or not (principal.is_admin or row.owner_id == principal.id):
        raise NotFound(f"there is no webhook {webhook_id}")
    return row


def change(row: Webhook, **columns: Any) -> Webhook:
    """Write some columns of a locked endpoint; returns it as it is then."""
    Webhook.update(**columns).where(Webhook.id == row.id).execute()
    return Webhook.get_by_id(row.id)


def remove(row: Webhook) -> None:
    """Remove a locked endpoint with its deliveries."""
    ModelDelete(Delivery).where(Delivery.webhook_id == row.id).execute()
    ModelDelete(Webhook).where(Webhook.id == row.id).execute()


def rotate(work: Unit, row: Webhook, secret: str) -> Webhook:
    """Give a locked endpoint a new secret; the old one signs along for a while. Raises Conflict within that time."""
    if row.old_secret_until is not None and work.now < row.old_secret_until:
        raise Conflict(f"the secret was rotated before; the one before it signs along until {row.old_secret_until}")
    return change(row, secret=secret, old_secret=row.secret, old_secret_until=work.now + ROTATION)


def old_secret(row: Webhook, now: datetime) -> str | None:
    """The secret before the last rotation, while it signs along."""
    return row.old_secret if row.old_secret_until is not None and now < row.old_secret_until else None


def rule_of(row: Webhook) -> EventRule:
    """Which events an endpoint gets."""
    return EventRule(frozenset(row.types), frozenset(row.states), row.preemptible, row.vm)


def health_of(row: Webhook) -> Health:
    """How an endpoint has taken its deliveries."""
    return Health(row.failures, row.failing_since, row.off_reason)


def open_deliveries(webhook_ids: list[str]) -> dict[str, int]:
    """How many deliveries of each of these endpoints are pending."""
    found = (
        Delivery.select(Delivery.webhook_id, fn.COUNT(Delivery.id))
        .where(Delivery.webhook_id.in_(webhook_ids), Delivery.status == "pending")
        .group_by(Delivery.webhook_id)
    )
    return dict(tuples_of(found))


def any_exist() -> bool:
    """True when there is an endpoint."""
    return Webhook.select().exists()


def totals() -> tuple[int, int]:
    """How many endpoints are switched off, and how many deliveries are pending, in the whole deployment."""
    off = Webhook.select().where(Webhook.off_at.is_null(False)).count()
    return off, Delivery.select().where(Delivery.status == "pending").count()
