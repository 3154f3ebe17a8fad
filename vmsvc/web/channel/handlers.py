"""`/api/v1/events`: the history as pages, and with an upgrade the live channel; `/api/v1/tickets`, for browsers.

A socket that asks with `since` gets page after page, each when the page before has left, until it lacks no event. At
that moment it joins the live sockets. Nothing is awaited in between, so no event is missed or sent twice. Pages come
from the hub's memory of the newest events, older ones from the database.
"""

import asyncio
import contextlib
import logging
import re
from typing import Any

from marshmallow import fields
from tornado.websocket import WebSocketClosedError, WebSocketHandler, WebSocketProtocol

from vmsvc.domain.errors import (
    Forbidden,
    HistoryGone,
    InvalidRequest,
    Timeout,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    VmsvcError,
)
from vmsvc.domain.principal import Principal
from vmsvc.service.events.frames import EventFilter, Message
from vmsvc.service.events.hub import EndReason
from vmsvc.service.identity import tickets
from vmsvc.web.api.handler import ApiHandler
from vmsvc.web.api.requests import EventsQuery
from vmsvc.web.channel import close_codes
from vmsvc.web.channel.frames import ServerProtocol
from vmsvc.web.channel.socket_writer import SocketWriter
from vmsvc.web.http.handler import route
from vmsvc.web.openapi import responses
from vmsvc.web.openapi.operations import Response, describe

log = logging.getLogger("vmsvc.web.channel")

PAGE = 100  # events that a socket is sent at once while it catches up
_KEY = re.compile(r"[0-9A-Za-z+/]{22}==")  # of 16 bytes


class EventsHandler(ApiHandler, WebSocketHandler):
    """History and channel at one address."""

    address = "/api/v1/events"
    tag = "channel"

    since: int | None
    limit: int
    event_filter: EventFilter
    writer: SocketWriter | None = None
    catching_up: asyncio.Task[None] | None = None
    rechecking: asyncio.Task[None] | None = None
    heartbeat: asyncio.TimerHandle | None = None
    opened_at = 0.0  # by the loop's clock
    pong_received = True  # since the last ping

    async def admit(self) -> None:
        await super().admit()
        query = self.query(EventsQuery)
        self.since = query.get("since")
        self.limit = query["limit"]
        self.event_filter = EventFilter(frozenset(query.get("type", ())), query.get("vm"), query.get("preemptible"))

    async def identify(self) -> Principal:
        """The principal: of the ticket with which a browser opens a socket, else as in every other handler."""
        ticket = self.get_query_argument("ticket", None)
        if ticket is None or not self.is_upgrade():
            return await super().identify()
        self.limits.spend_read(self.client)  # anybody can invent a ticket, and each costs the database a query
        return await self.dependencies.tickets.redeem(ticket)

    def is_upgrade(self) -> bool:
        """True when the client wants a WebSocket. HEAD and OPTIONS ask about the address."""
        return self.request.method == "GET" and self.request.headers.get("Upgrade", "").lower() == "websocket"

    @describe(
        Response(101, "The live channel: each message is an Event."),
        Response(200, "A page of the history.", responses.EventPage, {"events": [responses.EVENT], "seq": 42}),
        query=EventsQuery,
        errors=(HistoryGone, Timeout),
        notes=close_codes.markdown_table(),
    )
    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Read the history, or with an upgrade listen.

        A page of CloudEvents in the order of their `seq`, and the `since` of the next page (also of a page with fewer
        events than `limit`, or none: up to that `seq` there are no others). A WebSocket gets the
        events after `since`, then the live ones, each once and in order, one event a message. The service pings it
        every 20 s; messages of the client are dropped. How it can end:
        """
        if self.is_upgrade():
            self.admit_socket()
            await WebSocketHandler.get(self, *args, **kwargs)
        else:
            events, seq = await self.read_history(self.page)
            self.finish({"events": events, "seq": seq})

    async def page(self) -> tuple[list[dict[str, Any]], int]:
        """One page; without `since` it begins at the oldest event that is kept."""
        try:
            return await self.read(self.since or 0, self.limit)
        except HistoryGone as gone:
            if self.since is not None:
                raise
            return await self.read(gone.oldest - 1, self.limit)

    async def read(self, since: int, limit: int) -> tuple[list[dict[str, Any]], int]:
        """The wanted events after `since`, and the seq up to which they reach."""
        return await self.commands.events(
            since=since,
            limit=limit,
            types=self.event_filter.types,
            vm=self.event_filter.vm,
            preemptible=self.event_filter.preemptible,
        )

    def admit_socket(self) -> None:
        """Raises Unavailable while the service stops, TooManyRequests when `max_sockets` are open."""
        self.check_handshake()
        if self.dependencies.hub.closed:
            raise Unavailable("the service stops", retry_after=1)
        if len(self.dependencies.hub) >= self.dependencies.settings.max_sockets:
            raise TooManyRequests("too many sockets are open", retry_after=5)

    def check_handshake(self) -> None:
        """Raises InvalidRequest for an incomplete handshake, which Tornado would answer in a shape of its own."""
        headers = self.request.headers
        if "upgrade" not in {word.strip().lower() for word in headers.get("Connection", "").split(",")}:
            raise InvalidRequest("an upgrade needs Connection: Upgrade", field="Connection")
        if headers.get("Sec-WebSocket-Version") != "13":
            self.set_header("Sec-WebSocket-Version", "13")
            raise InvalidRequest("only version 13 of the WebSocket protocol is known", field="Sec-WebSocket-Version")
        if not _KEY.fullmatch(headers.get("Sec-WebSocket-Key", "")):
            raise InvalidRequest("Sec-WebSocket-Key must be 16 bytes in base64", field="Sec-WebSocket-Key")

    def check_origin(self, origin: str) -> bool:
        """Tornado's hook for an Origin that differs from Host. Raises Forbidden for the page of another site."""
        if not self.check_trusted_origin(origin):
            raise Forbidden("sockets from another site's pages are refused")
        return True

    def get_websocket_protocol(self) -> WebSocketProtocol | None:
        """Tornado's hook: how frames are read and written."""
        return ServerProtocol.instead_of(super().get_websocket_protocol(), self)

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """Tornado's hook: a browser that offers subprotocols gives up unless the server chooses one."""
        return "vmsvc" if "vmsvc" in subprotocols else None

    def open(self) -> None:
        """Tornado's hook for an open socket: join the live sockets, at once or when it has caught up."""
        stream = self.ws_connection.stream if self.ws_connection else None
        if stream is None or stream.closed():  # the peer has gone during the handshake; on_close() comes next
            return
        loop, settings, hub = asyncio.get_running_loop(), self.dependencies.settings, self.dependencies.hub
        self.opened_at = loop.time()
        self.writer = SocketWriter(stream, settings.max_queue, self.on_writer_end)
        hub.register(self.writer)
        self.heartbeat = loop.call_later(settings.ping_interval, self.beat)
        since = hub.last_seq if self.since is None else self.since
        if not hub.subscribe(self.writer, self.event_filter, since):
            self.catching_up = asyncio.create_task(self.catch_up(self.writer, since))

    def on_message(self, message: str | bytes) -> None:
        """The channel goes one way: a client's message is dropped."""

    def on_pong(self, data: bytes) -> None:
        """Tornado's hook: the peer has answered a ping."""
        self.pong_received = True

    def beat(self) -> None:
        """Ping the peer. When it has not answered the last ping it does not read, or is gone: its socket is closed."""
        if self.writer is None:
            return
        if not self.pong_received:
            self.writer.end(EndReason.SLOW)
            return
        self.pong_received = False
        if not self.dependencies.auth.lasting and (self.rechecking is None or self.rechecking.done()):
            self.rechecking = asyncio.create_task(self.recheck())
        with contextlib.suppress(WebSocketClosedError):
            self.ping()
        self.heartbeat = asyncio.get_running_loop().call_later(self.dependencies.settings.ping_interval, self.beat)

    async def recheck(self) -> None:
        """Close the socket when its principal has lost its access. While Keystone is away the socket stays."""
        seconds = asyncio.get_running_loop().time() - self.opened_at
        try:
            await self.dependencies.auth.recheck(self.principal, seconds)
        except (Unauthenticated, Forbidden):
            self.close_with(close_codes.UNAUTHENTICATED)
        except VmsvcError as error:
            log.warning(
                "%s: the service cannot tell whether %s may still listen: %s",
                self.request_id,
                self.principal.name,
                error,
            )

    def on_close(self) -> None:
        """Tornado's hook for a socket that has ended, however it ended."""
        if self.writer is not None:
            self.writer.close()
            self.dependencies.hub.unregister(self.writer, self.event_filter)
        if self.heartbeat is not None:
            self.heartbeat.cancel()
        if self.catching_up is not None:
            self.catching_up.cancel()
        if self.rechecking is not None and self.rechecking is not asyncio.current_task():
            self.rechecking.cancel()

    def on_writer_end(self, reason: EndReason) -> None:
        """The writer sends no more: close the socket."""
        self.close_with(close_codes.BY_END_REASON[reason])

    def close_with(self, close_code: close_codes.CloseCode) -> None:
        """Close the socket from the service's side, and count it."""
        self.on_close()
        self.dependencies.metrics.count_close(close_code.code)
        self.close(close_code.code, close_code.reason)

    async def catch_up(self, writer: SocketWriter, sent: int) -> None:
        """Send all events after `sent`, then join the live sockets."""
        hub = self.dependencies.hub
        try:
            while not hub.subscribe(writer, self.event_filter, sent):
                messages, sent = hub.page(self.event_filter, sent, PAGE) or await self.history(sent)
                if messages:
                    writer.send(b"".join([message.frame for message in messages]))
                    await writer.drained()
        except HistoryGone:
            self.close_with(close_codes.HISTORY_GONE)
        except VmsvcError as error:
            log.warning("%s: the history for a socket cannot be read: %s", self.request_id, error)
            self.close_with(close_codes.TRY_AGAIN_LATER)
        except Exception:  # pylint: disable=broad-exception-caught; nothing else awaits this task
            log.exception("%s: a socket failed", self.request_id)
            self.close_with(close_codes.INTERNAL_ERROR)

    async def history(self, since: int) -> tuple[list[Message], int]:
        """A page from the database. Few sockets read at once, so that other requests get their turn."""
        async with self.limits.history:
            events, seq = await self.read(since, PAGE)
        return list(map(self.dependencies.hub.encode, events)), seq


class TicketView(responses.OpenObject):
    """The right to open one WebSocket."""

    ticket = fields.String(required=True, metadata={"description": "for the query of one WebSocket: `ticket=…`"})
    expires_in = fields.Integer(required=True, metadata={"description": "seconds"})


class TicketsHandler(ApiHandler):
    """Tickets, with which browsers open WebSockets."""

    address = "/api/v1/tickets"
    tag = "tickets"
    for_members = False  # a socket only reads

    @describe(
        Response(
            201,
            "A ticket.",
            TicketView,
            {"ticket": "0cJ3f7QyXn1vW9Zb2mS8tK4hRp6uLdEaG5iFoNwYxMc", "expires_in": tickets.SECONDS},
        ),
        errors=(Timeout,),
    )
    async def post(self) -> None:
        """Get a ticket for a WebSocket.

        For browsers, which cannot send a token with a WebSocket: `GET /api/v1/events?ticket=…` with an upgrade. It is
        good for one socket, at any replica, and for half a minute. Other clients send their token as always.
        """
        ticket = await self.dependencies.tickets.issue(self.principal)
        self.set_header("Cache-Control", "no-store")
        self.set_status(201)
        self.finish({"ticket": ticket, "expires_in": tickets.SECONDS})


routes = [route(EventsHandler), route(TicketsHandler)]
