"""The handlers of events (pages, WebSockets, Server-Sent Events), and of the tickets with which browsers listen."""

import asyncio
import contextlib
import json
import logging
import re
from typing import Any

from marshmallow import fields
from tornado.iostream import IOStream
from tornado.web import HTTPError
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
from vmsvc.service.events.frames import EventFilter, Message, websocket_frame
from vmsvc.service.events.hub import EndReason
from vmsvc.service.identity import tickets
from vmsvc.web.api.handler import CLIENT_GONE, ApiHandler
from vmsvc.web.api.requests import EventsQuery
from vmsvc.web.channel import close_codes
from vmsvc.web.channel.event_stream import MEDIA_TYPE, EventStream, block
from vmsvc.web.channel.frames import ServerProtocol
from vmsvc.web.channel.socket_writer import SocketWriter
from vmsvc.web.channel.subscription import PAGE, Subscription
from vmsvc.web.http.handler import route
from vmsvc.web.openapi import responses
from vmsvc.web.openapi.operations import Response, describe

log = logging.getLogger("vmsvc.web.channel")

_KEY = re.compile(r"[0-9A-Za-z+/]{22}==")  # of 16 bytes


class EventsHandler(ApiHandler, WebSocketHandler):
    """History and channel at one address."""

    address = "/api/v1/events"
    tag = "channel"

    since: int | None
    limit: int
    event_filter: EventFilter
    writer: SocketWriter | None = None
    subscription: Subscription | None = None
    event_stream: EventStream | None = None
    catching_up: asyncio.Task[None] | None = None
    rechecking: asyncio.Task[None] | None = None
    heartbeat: asyncio.TimerHandle | None = None
    opened_at = 0.0  # by the loop's clock
    pong_received = True  # since the last ping

    async def admit(self) -> None:
        await super().admit()
        query = self.query(EventsQuery)
        position = self.last_event_id()
        self.since = position if self.wants_stream() else None
        if self.since is None:  # else the address still has the `since` of the first time
            self.since = query.get("since")
        self.limit = query["limit"]
        self.event_filter = EventFilter(frozenset(query.get("type", ())), query.get("vm"), query.get("preemptible"))

    async def identify(self) -> Principal:
        """The principal: of the ticket with which a browser opens a socket or a stream, else as in every other
        handler."""
        ticket = self.get_query_argument("ticket", None)
        if ticket is None or not (self.is_upgrade() or self.wants_stream()):
            return await super().identify()
        self.limits.spend_read(self.client)  # anybody can invent a ticket, and each costs the database a query
        return await self.dependencies.tickets.redeem(ticket)

    def is_upgrade(self) -> bool:
        """True when the client wants a WebSocket. HEAD and OPTIONS ask about the address."""
        return self.request.method == "GET" and self.request.headers.get("Upgrade", "").lower() == "websocket"

    def wants_stream(self) -> bool:
        """True when the client wants Server-Sent Events."""
        accepted = {
            part.partition(";")[0].strip().lower() for part in self.request.headers.get("Accept", "").split(",")
        }
        return self.request.method == "GET" and MEDIA_TYPE in accepted and not self.is_upgrade()

    def last_event_id(self) -> int | None:
        """The position that a client returns with when it reconnects; None the first time. Raises InvalidRequest."""
        text = self.request.headers.get("Last-Event-ID", "")
        if not re.fullmatch(r"[0-9]{0,18}", text, re.ASCII):
            raise InvalidRequest("Last-Event-ID must be the id of an event", field="Last-Event-ID")
        return int(text) if text else None

    @describe(
        Response(101, "The live channel: each message is an Event."),
        Response(
            200,
            "A page of the history; with `Accept: text/event-stream` the live channel as Server-Sent Events.",
            responses.EventPage,
            {"events": [responses.EVENT], "seq": 42},
            stream=f"id: 42\ndata: {json.dumps(responses.EVENT)}\n\n",
        ),
        query=EventsQuery,
        headers=("Last-Event-ID",),
        errors=(HistoryGone, Timeout),
        notes=close_codes.markdown_table(),
    )
    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Read the history, or listen: with an upgrade, or as Server-Sent Events.

        A page of CloudEvents in the order of their `seq`, and the `since` of the next page (also of a page with fewer
        events than `limit`, or none: up to that `seq` there are no others). A WebSocket gets the
        events after `since`, then the live ones, each once and in order, one event a message. The service pings it
        every 20 s; messages of the client are dropped.

        With `Accept: text/event-stream`, as `EventSource` sends it, the same events come as Server-Sent Events, with
        `seq` as their `id`. `Last-Event-ID` counts more than `since`. Every 15 s there is a comment. A stream that is
        too slow, or whose service stops, ends; `EventSource` reconnects by itself. 410 when the history does not go
        back so far. How a WebSocket can end:
        """
        self.add_header("Vary", "Accept")
        if self.is_upgrade():
            self.check_handshake()
            self.admit_socket()
            await WebSocketHandler.get(self, *args, **kwargs)
        elif self.wants_stream():
            self.admit_socket()
            await self.stream_events()
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
        self.subscription = Subscription(hub, self.writer, self.event_filter, websocket_frame, self.history)
        self.heartbeat = loop.call_later(settings.ping_interval, self.beat)
        since = hub.last_seq if self.since is None else self.since
        if not self.subscription.join(since):
            self.catching_up = asyncio.create_task(self.catch_up(self.subscription, since))

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
        try:
            await self.check_access()
        except (Unauthenticated, Forbidden):
            self.close_with(close_codes.UNAUTHENTICATED)

    async def check_access(self) -> None:
        """Raises Unauthenticated or Forbidden when the principal has lost its access."""
        seconds = asyncio.get_running_loop().time() - self.opened_at
        try:
            await self.dependencies.auth.recheck(self.principal, seconds)
        except (Unauthenticated, Forbidden):
            raise
        except VmsvcError as error:
            log.warning(
                "%s: the service cannot tell whether %s may still listen: %s",
                self.request_id,
                self.principal.name,
                error,
            )

    def on_close(self) -> None:
        """Tornado's hook for a socket that has ended, however it ended."""
        if self.subscription is not None:
            self.subscription.leave()
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
        self.count_end(close_code)
        self.close(close_code.code, close_code.reason)

    async def catch_up(self, subscription: Subscription, sent: int) -> None:
        """Send all events after `sent`, then join the live sockets."""
        try:
            await subscription.catch_up(sent)
        except Exception as error:  # pylint: disable=broad-exception-caught; nothing else awaits this task
            self.close_with(self.close_code_of(error))

    def close_code_of(self, error: Exception) -> close_codes.CloseCode:
        """How to end a socket or a stream that failed of this. What is no client's fault goes into the log."""
        match error:
            case HistoryGone():
                return close_codes.HISTORY_GONE
            case Unauthenticated() | Forbidden():
                return close_codes.UNAUTHENTICATED
            case VmsvcError():
                log.warning("%s: the history for a socket cannot be read: %s", self.request_id, error)
                return close_codes.TRY_AGAIN_LATER
        log.error("%s: a socket failed", self.request_id, exc_info=error)
        return close_codes.INTERNAL_ERROR

    async def stream_events(self) -> None:
        """Send Server-Sent Events for as long as the client listens. Raises HistoryGone before the stream begins."""
        hub, settings = self.dependencies.hub, self.dependencies.settings
        since = hub.last_seq if self.since is None else self.since
        if since < hub.last_seq and hub.page(self.event_filter, since, 1) is None:
            await self.history(since, 1)
        if self._client_gone:
            raise HTTPError(CLIENT_GONE)
        stream = self.detach_stream()
        self.opened_at = asyncio.get_running_loop().time()
        self.event_stream = event_stream = EventStream(
            stream,
            hub,
            lambda writer: Subscription(hub, writer, self.event_filter, block, self.history),
            max_queue=settings.max_queue,
            heartbeat=settings.stream_heartbeat,
            recheck=self.check_access,
            on_end=self.end_stream,
        )
        try:
            await event_stream.run(since)
        except asyncio.CancelledError:
            pass  # the stream has ended
        except Exception as error:  # pylint: disable=broad-exception-caught; the head of the response has left
            self.count_end(self.close_code_of(error))
        finally:
            event_stream.close()

    def detach_stream(self) -> IOStream:
        """Write the head of a response that ends with its connection, and take the connection from Tornado."""
        self.set_header("Content-Type", MEDIA_TYPE)
        self.set_header("Cache-Control", "no-store, no-transform")
        self.set_header("X-Accel-Buffering", "no")  # nginx would keep events back
        self.set_header("Connection", "close")
        stream: IOStream = self.detach()
        lines = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in self._headers.get_all()), "", ""]
        stream.write("\r\n".join(lines).encode("latin1"))
        self.response_sent()
        self._log()
        return stream

    def end_stream(self, reason: EndReason) -> None:
        """The hub or the writer ends the stream."""
        self.count_end(close_codes.BY_END_REASON[reason])
        if self.event_stream is not None:
            self.event_stream.stop()

    def count_end(self, close_code: close_codes.CloseCode) -> None:
        """Count the end of a socket or stream from the service's side."""
        self.dependencies.metrics.count_close(close_code.code)

    async def history(self, since: int, limit: int = PAGE) -> tuple[list[Message], int]:
        """A page from the database. Few sockets read at once, so that other requests get their turn."""
        async with self.limits.history:
            events, seq = await self.read(since, limit)
        return list(map(self.dependencies.hub.encode, events)), seq


class TicketView(responses.OpenObject):
    """The right to open one WebSocket or event stream."""

    ticket = fields.String(
        required=True, metadata={"description": "for the query of one WebSocket or event stream: `ticket=…`"}
    )
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
        """Get a ticket for a WebSocket or an event stream.

        For browsers, which cannot send a token with a WebSocket or an `EventSource`: `GET /api/v1/events?ticket=…`. It
        is good for one socket or stream, at any replica, and for half a minute. Other clients send their token as
        always.
        """
        ticket = await self.dependencies.tickets.issue(self.principal)
        self.set_header("Cache-Control", "no-store")
        self.set_status(201)
        self.finish({"ticket": ticket, "expires_in": tickets.SECONDS})


routes = [route(EventsHandler), route(TicketsHandler)]
