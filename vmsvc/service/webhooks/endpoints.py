"""Clients' commands on webhooks: create, change, test, replay, rotate. Asks the receiver for its consent first."""

import asyncio
import base64
import logging
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from vmsvc.domain import webhook_url
from vmsvc.domain.errors import InvalidRequest
from vmsvc.domain.events import SOURCE, instant
from vmsvc.domain.principal import Principal
from vmsvc.domain.webhooks import BY_OWNER, Health
from vmsvc.service.events.frames import json_of
from vmsvc.service.runtime import Runtime
from vmsvc.service.webhooks.transport import TargetRefused, Transport, TransportFailed, signed_headers
from vmsvc.store import deliveries, outbox, webhooks
from vmsvc.store.db import SHOW_SECONDS, reading, unit
from vmsvc.store.models import Webhook

log = logging.getLogger(__name__)

_SECRET_BYTES = 32
#: Most tests and questions for consent that one replica has under way.
_ASKING = 16


@dataclass(frozen=True, slots=True)
class WebhookPolicy:
    """What the operator allows: endpoints of one owner, hosts that need not consent, and by which name the service asks
    for consent."""

    most: int
    trusted_hosts: frozenset[str]
    origin: str


class Webhooks:
    """The endpoints of clients. Every method may raise Unavailable, and NotFound for an endpoint that is not the
    principal's own; an admin may do all of it with any."""

    def __init__(
        self,
        runtime: Runtime,
        transport: Transport,
        policy: WebhookPolicy,
        message_prefix: Callable[[], str],
        wake: Callable[[], None],
    ):
        self._runtime = runtime
        self._transport = transport
        self._policy = policy
        self._message_prefix = message_prefix
        self._wake = wake
        self._asking = asyncio.Semaphore(_ASKING)

    async def create(
        self, fields: Mapping[str, Any], since: int | None, *, principal: Principal
    ) -> tuple[dict[str, Any], str]:
        """Make an endpoint, and ask its receiver for consent; returns its view and its secret. Raises InvalidRequest
        for a URL to which the service does not send, Conflict when the owner has too many."""
        problem = await self._consent(fields["url"])
        secret = new_secret()
        row = await self._runtime.offload(
            _create,
            {**fields, "secret": secret, "last_error": problem},
            principal,
            self._policy.most,
            since,
            not problem,
        )
        self._wake()
        return view(row, 0), secret

    async def mine(self, principal: Principal) -> list[dict[str, Any]]:
        """The endpoints of the principal; an admin gets all."""
        return await self._runtime.offload(_list, principal)

    async def one(self, webhook_id: str, principal: Principal) -> dict[str, Any]:
        """One endpoint."""
        return await self._runtime.offload(_show, webhook_id, principal)

    async def change(
        self, webhook_id: str, fields: Mapping[str, Any], active: bool | None, principal: Principal
    ) -> dict[str, Any]:
        """Change an endpoint, or switch it off or on. A new URL, and an endpoint that is switched on, has to consent
        anew. Raises InvalidRequest as `create`."""
        row = await self._runtime.offload(_row, webhook_id, principal)
        url = fields.get("url", row.url)
        asked = url if url != row.url or active is True else None
        problem = await self._consent(asked) if asked else None
        changed = await self._runtime.offload(_change, webhook_id, principal, fields, active, asked, problem)
        self._wake()
        return changed

    async def remove(self, webhook_id: str, principal: Principal) -> None:
        """Remove an endpoint and all of its deliveries."""
        await self._runtime.offload(_remove, webhook_id, principal)

    async def rotate(self, webhook_id: str, principal: Principal) -> tuple[dict[str, Any], str]:
        """Give it a new secret, which is returned too; the old one signs along for 24 h. Raises Conflict until then."""
        secret = new_secret()
        return await self._runtime.offload(_rotate, webhook_id, principal, secret), secret

    async def test(self, webhook_id: str, principal: Principal) -> dict[str, Any]:
        """Send a message of type `test` now, and return what became of it. An endpoint that had not consented is asked
        again first."""
        row = await self._runtime.offload(_row, webhook_id, principal)
        if row.verified_at is None:
            problem = await self._consent(row.url)
            await self._runtime.offload(_change, webhook_id, principal, {}, None, row.url, problem)
            if problem:
                return {"delivered": False, "code": None, "reason": problem}
        now = datetime.now(UTC)
        message_id = f"{self._message_prefix()}_test-{uuid.uuid4().hex[:12]}"
        body = json_of(
            {
                "specversion": "1.0",
                "id": message_id,
                "source": SOURCE,
                "type": "test",
                "time": instant(now),
                "datacontenttype": "application/json",
                "data": {"webhook": row.id},
            }
        )
        old = webhooks.old_secret(row, now)
        headers = signed_headers(message_id, (row.secret, old) if old else (row.secret,), now, body)
        try:
            async with self._asking:
                code = await self._transport.post(row.url, headers, body)
        except TransportFailed as error:
            return {"delivered": False, "code": None, "reason": str(error)}
        delivered = 200 <= code < 300
        return {"delivered": delivered, "code": code, "reason": None if delivered else f"it answered {code}"}

    async def replay(self, webhook_id: str, since: int, until: int | None, principal: Principal) -> tuple[int, int]:
        """Send the events after `since` (up to `until`) that it wants once more; returns how many, and the seq up to
        which that reaches. Raises HistoryGone."""
        found = await self._runtime.offload(_replay, webhook_id, principal, since, until)
        self._wake()
        return found

    async def deliveries(
        self, webhook_id: str, status: str | None, before: int | None, limit: int, principal: Principal
    ) -> tuple[list[dict[str, Any]], int | None]:
        """A page of its deliveries, newest event first, and the seq before which the next page begins."""
        return await self._runtime.offload(_deliveries, webhook_id, principal, status, before, limit)

    async def _consent(self, url: str) -> str | None:
        """Why nothing may be sent to this URL yet; None when its receiver consents, or the operator trusts its host.
        Raises InvalidRequest for a URL to which the service never sends."""
        target = webhook_url.parse(url)
        try:
            async with self._asking:
                if target.host in self._policy.trusted_hosts:
                    await self._transport.check(url)
                    return None
                consent = await self._transport.ask_consent(url, self._policy.origin)
        except TargetRefused as error:
            raise InvalidRequest(f"url: {error}", field="url") from None
        except TransportFailed as error:
            return str(error)
        if 200 <= consent.status < 300 and consent.allowed_origin in ("*", self._policy.origin):
            return None
        return (
            f"its answer to OPTIONS ({consent.status}) does not agree: it has to be 2xx with "
            f"WebHook-Allowed-Origin: {self._policy.origin}"
        )


def new_secret() -> str:
    """A random secret, in the form of Standard Webhooks."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode('ascii')}"


def view(row: Webhook, pending: int) -> dict[str, Any]:
    """An endpoint as its owner sees it: never with its secret."""
    status = "verified" if row.verified_at else "unverified"
    return {
        "id": row.id,
        "url": row.url,
        "types": row.types,
        "states": row.states,
        "preemptible": row.preemptible,
        "vm": row.vm,
        "description": row.description,
        "owner": row.owner,
        "status": "off" if row.off_at else status,
        "off_reason": row.off_reason,
        "off_at": instant(row.off_at),
        "after_seq": row.after_seq,
        "pending": pending,
        "failures": row.failures,
        "failing_since": instant(row.failing_since),
        "last_success_at": instant(row.last_success_at),
        "last_code": row.last_code,
        "last_error": row.last_error,
        "old_secret_until": instant(row.old_secret_until),
        "created_at": instant(row.created_at),
    }


def _delivery_view(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "seq": row["seq"],
        "type": row["type"],
        "state": row["state"],
        "vm": row["subject"] or row["vm_id"],
        "status": row["status"],
        "attempts": row["attempts"],
        "next_at": instant(row["next_at"]) if row["status"] == "pending" else None,
        "waits": row["blocked"] and row["status"] == "pending",
        "last_code": row["last_code"],
        "last_error": row["last_error"],
        "created_at": instant(row["created_at"]),
        "done_at": instant(row["done_at"]),
    }


# ---------------------------------------------------------------- in the database pool


def _create(columns: Mapping[str, Any], principal: Principal, most: int, since: int | None, verified: bool) -> Webhook:
    with unit() as work:
        return webhooks.create(
            work,
            str(uuid.uuid4()),
            principal,
            {**columns, "verified_at": work.now if verified else None},
            most=most,
            since=since,
        )


def _list(principal: Principal) -> list[dict[str, Any]]:
    with reading(SHOW_SECONDS):
        rows = webhooks.of_owner(principal)
        pending = webhooks.open_deliveries([row.id for row in rows])
        return [view(row, pending.get(row.id, 0)) for row in rows]


def _row(webhook_id: str, principal: Principal) -> Webhook:
    with reading():
        return webhooks.get(webhook_id, principal)


def _show(webhook_id: str, principal: Principal) -> dict[str, Any]:
    with reading():
        row = webhooks.get(webhook_id, principal)
        return view(row, webhooks.open_deliveries([row.id]).get(row.id, 0))


def _change(
    webhook_id: str,
    principal: Principal,
    fields: Mapping[str, Any],
    active: bool | None,
    asked: str | None,
    problem: str | None,
) -> dict[str, Any]:
    """The receiver at the URL `asked` was asked for consent, and `problem` says why that is lacking."""
    with unit() as work:
        row = webhooks.get(webhook_id, principal, lock=True)
        columns = dict(fields)
        if asked is not None and asked == columns.get("url", row.url):  # else another change came in between
            columns |= {"verified_at": None if problem else work.now, "last_error": problem}
        if active is True and row.off_at is not None:
            columns |= {"off_at": None, "off_reason": None, "failures": 0, "failing_since": None}
            columns["not_before"] = None
            columns["after_seq"] = outbox.newest()  # what it missed comes by a replay
        if columns:
            row = webhooks.change(row, **columns)
        if active is False and row.off_at is None:
            deliveries.switch_off(work, row, Health(off=BY_OWNER))
            row = webhooks.get(webhook_id, principal)
        return view(row, webhooks.open_deliveries([row.id]).get(row.id, 0))


def _remove(webhook_id: str, principal: Principal) -> None:
    with unit():
        webhooks.remove(webhooks.get(webhook_id, principal, lock=True))


def _rotate(webhook_id: str, principal: Principal, secret: str) -> dict[str, Any]:
    with unit() as work:
        row = webhooks.rotate(work, webhooks.get(webhook_id, principal, lock=True), secret)
        return view(row, webhooks.open_deliveries([row.id]).get(row.id, 0))


def _replay(webhook_id: str, principal: Principal, since: int, until: int | None) -> tuple[int, int]:
    with unit() as work:
        return deliveries.replay(work, webhooks.get(webhook_id, principal, lock=True), since, until)


def _deliveries(
    webhook_id: str, principal: Principal, status: str | None, before: int | None, limit: int
) -> tuple[list[dict[str, Any]], int | None]:
    with reading(SHOW_SECONDS):
        row = webhooks.get(webhook_id, principal)
        found = [_delivery_view(one) for one in deliveries.page(row.id, status, before, limit)]
        return found, found[-1]["seq"] if len(found) == limit else None
