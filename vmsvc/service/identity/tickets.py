"""Tickets: what a browser shows to open a WebSocket, for it cannot set a header there.

A ticket stands in the address, where proxies write it into their logs: so it is good for one socket and half a minute.
It is a row in the database, and taking the row is one statement. A signed value would need no row to be good on
another replica, but "only once" needs one place that remembers anyway, and then the signature and its key add nothing.
"""

import secrets

from vmsvc.domain.errors import Unauthenticated
from vmsvc.domain.principal import Principal
from vmsvc.service.identity.tokens import digest_of
from vmsvc.service.runtime import Runtime
from vmsvc.store import tickets
from vmsvc.store.db import unit

SECONDS = 30


class Tickets:
    """Issued by any replica, taken by any, once."""

    def __init__(self, runtime: Runtime):
        self._runtime = runtime

    async def issue(self, principal: Principal) -> str:
        """A ticket for this principal, good for SECONDS."""
        ticket = secrets.token_urlsafe(32)
        await self._runtime.offload(_issue, digest_of(ticket), principal)
        return ticket

    async def redeem(self, ticket: str) -> Principal:
        """The principal of this ticket, which is used up then. Raises Unauthenticated for a ticket that was used, is
        too old, or never was."""
        principal = await self._runtime.offload(_redeem, digest_of(ticket))
        if principal is None:
            raise Unauthenticated("this ticket was used, or is too old; ask for a new one: POST /api/v1/tickets")
        return principal


def _issue(digest: str, principal: Principal) -> None:
    with unit():
        tickets.issue(digest, principal, SECONDS)


def _redeem(digest: str) -> Principal | None:
    with unit():
        return tickets.redeem(digest)
