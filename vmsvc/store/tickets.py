"""Tickets for WebSockets: each is a row, which one DELETE takes."""

from peewee import ModelDelete, fn

from vmsvc.domain.principal import Principal
from vmsvc.store.models import Ticket


def issue(digest: str, principal: Principal, seconds: float) -> None:
    """Write a ticket, by its hash, and remove the tickets whose time is over."""
    now = fn.clock_timestamp()
    ModelDelete(Ticket).where(Ticket.expires_at < now).execute()
    Ticket.insert(
        digest=digest,
        principal=principal.name,
        principal_id=principal.id,
        may_write=principal.may_write,
        credential=principal.credential,
        expires_at=now + fn.make_interval(0, 0, 0, 0, 0, 0, seconds),
    ).execute()


def redeem(digest: str) -> Principal | None:
    """Take the ticket with this hash and return its principal: of two callers at once one gets it. None when there is
    no such ticket or its time is over."""
    taken = list(
        ModelDelete(Ticket)
        .where(Ticket.digest == digest, Ticket.expires_at >= fn.clock_timestamp())
        .returning(Ticket)
        .execute()
    )
    return (
        Principal(taken[0].principal, taken[0].may_write, taken[0].credential, taken[0].principal_id or "")
        if taken
        else None
    )
