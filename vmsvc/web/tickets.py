"""`/api/v1/tickets`: how a browser takes its principal along to a WebSocket."""

from marshmallow import fields

from vmsvc.domain.errors import Timeout
from vmsvc.service import tickets
from vmsvc.web.answers import Open
from vmsvc.web.api import ApiHandler
from vmsvc.web.base import route
from vmsvc.web.describe import Answer, describe


class TicketView(Open):
    """The right to open one WebSocket."""

    ticket = fields.String(required=True)
    expires_in = fields.Integer(required=True, metadata={"description": "seconds"})


class Tickets(ApiHandler):
    """Where they are got."""

    address = "/api/v1/tickets"
    for_members = False             # a socket only reads

    @describe(Answer(201, "A ticket.", TicketView,
                     {"ticket": "0cJ3f7QyXn1vW9Zb2mS8tK4hRp6uLdEaG5iFoNwYxMc", "expires_in": tickets.SECONDS}),
              errors=(Timeout,))
    async def post(self) -> None:
        """Get a ticket for a WebSocket.

        For browsers, which cannot send a token with a WebSocket: `GET /api/v1/events?ticket=…` with an upgrade. It is
        good for one socket, at any replica, and for half a minute. Other clients send their token as always.
        """
        ticket = await self.settings["tickets"].issue(self.principal)
        self.set_header("Cache-Control", "no-store")
        self.set_status(201)
        self.finish({"ticket": ticket, "expires_in": tickets.SECONDS})


routes = [route(Tickets)]
