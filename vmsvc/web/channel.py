"""`/api/v1/events`: the history as pages, and with an upgrade the live channel.

A socket that asks with `since` is sent page after page, each when the one before has left, until it lacks nothing;
in that moment it joins the live ones. Nothing is awaited in between, so history and live meet without a gap or a
double. Pages come from the hub's memory of the newest events, older ones from the database.
"""

import asyncio
import contextlib
import logging
import re
from typing import Any

from tornado.websocket import WebSocketClosedError, WebSocketHandler, WebSocketProtocol

from vmsvc.domain.errors import (Forbidden, HistoryGone, InvalidRequest, Timeout, TooManyRequests, Unauthenticated,
                                 Unavailable, VmsvcError)
from vmsvc.domain.principal import Principal
from vmsvc.service.hub import End
from vmsvc.service.message import Message, Wanted, encode
from vmsvc.web import answers, closing
from vmsvc.web.api import ApiHandler
from vmsvc.web.base import route
from vmsvc.web.describe import Answer, describe
from vmsvc.web.outlet import Outlet
from vmsvc.web.protocol import Protocol
from vmsvc.web.schemas import EventsQuery

log = logging.getLogger("vmsvc.web.channel")

PAGE = 100
_KEY = re.compile(r"[0-9A-Za-z+/]{22}==")        # of 16 bytes


class Events(ApiHandler, WebSocketHandler):
    """History and channel at one address."""

    address = "/api/v1/events"

    since: int | None
    limit: int
    wanted: Wanted
    outlet: Outlet | None = None
    catching_up: asyncio.Task[None] | None = None
    checking: asyncio.Task[None] | None = None
    heartbeat: asyncio.TimerHandle | None = None
    opened = 0.0                        # by the loop's clock
    answered = True                     # the last ping

    async def admit(self) -> None:
        await super().admit()
        query = self.query(EventsQuery)
        self.since = query.get("since")
        self.limit = query["limit"]
        self.wanted = Wanted(frozenset(query.get("type", ())), query.get("vm"),
                             query.get("preemptible"))

    async def identify(self) -> Principal:
        """A browser shows a ticket, everybody else what he always shows."""
        ticket = self.get_query_argument("ticket", None)
        if ticket is None or not self.is_upgrade():
            return await super().identify()
        self.limits.spend_read(self.client)         # anybody can make a ticket up, and the database is asked
        return await self.settings["tickets"].redeem(ticket)

    def is_upgrade(self) -> bool:
        """Is it to be a WebSocket? HEAD and OPTIONS ask about the address."""
        return self.request.method == "GET" and self.request.headers.get("Upgrade", "").lower() == "websocket"

    @describe(Answer(101, "The live channel: each message is an Event."),
              Answer(200, "A page of the history.", answers.EventPage, {"events": [answers.EVENT], "seq": 42}),
              query=EventsQuery, errors=(HistoryGone, Timeout), notes=closing.table())
    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Read the history, or with an upgrade listen.

        A page of CloudEvents in the order of their `seq`, and the `since` of the next page (also of a page with fewer
        events than `limit`, or none: up to that `seq` there are no others). A WebSocket gets the
        events after `since`, then the live ones, each once and in order, one event a message. The service pings it
        every 20 s; what the client says is dropped. How it can end:
        """
        if self.is_upgrade():
            self.admit_socket()
            await WebSocketHandler.get(self, *args, **kwargs)
        else:
            events, seq = await self.in_turn(self.page)
            self.finish({"events": events, "seq": seq})

    async def page(self) -> tuple[list[dict], int]:
        """One page; without `since` it begins at the oldest event that is kept."""
        try:
            return await self.read(self.since or 0, self.limit)
        except HistoryGone as gone:
            if self.since is not None:
                raise
            return await self.read(gone.oldest - 1, self.limit)

    async def read(self, since: int, limit: int) -> tuple[list[dict], int]:
        """The wanted events after `since`."""
        return await self.commands.events(since=since, limit=limit, types=self.wanted.types, vm=self.wanted.vm,
                                          preemptible=self.wanted.preemptible)

    def admit_socket(self) -> None:
        """Raises when there is no place for another socket."""
        self.check_handshake()
        if self.hub.closed:
            raise Unavailable("the service stops", retry_after=1)
        if len(self.hub) >= self.web.max_sockets:
            raise TooManyRequests("too many sockets are open", retry_after=5)

    def check_handshake(self) -> None:
        """Raises InvalidRequest for half a handshake: Tornado would answer in a shape of its own."""
        headers = self.request.headers
        if "upgrade" not in {word.strip().lower() for word in headers.get("Connection", "").split(",")}:
            raise InvalidRequest("an upgrade needs Connection: Upgrade", field="Connection")
        if headers.get("Sec-WebSocket-Version") != "13":
            self.set_header("Sec-WebSocket-Version", "13")
            raise InvalidRequest("only version 13 of the WebSocket protocol is known", field="Sec-WebSocket-Version")
        if not _KEY.fullmatch(headers.get("Sec-WebSocket-Key", "")):
            raise InvalidRequest("Sec-WebSocket-Key must be 16 bytes in base64", field="Sec-WebSocket-Key")

    def check_origin(self, origin: str) -> bool:
        """Raises Forbidden for the page of another site (asked by Tornado when Origin and Host differ)."""
        if not self.check_trusted_origin(origin):
            raise Forbidden("sockets from another site's pages are refused")
        return True

    def get_websocket_protocol(self) -> WebSocketProtocol | None:
        """Tornado's way to read and write frames, with a little more."""
        return Protocol.instead_of(super().get_websocket_protocol())

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """A browser that offers some gives up unless one is chosen."""
        return "vmsvc" if "vmsvc" in subprotocols else None

    def open(self) -> None:
        """Join the live ones, at once or when what was missed has been sent."""
        if self.ws_connection.stream.closed():      # the peer has gone during the handshake; on_close() comes next
            return
        self.opened = asyncio.get_running_loop().time()
        self.outlet = Outlet(self.ws_connection.stream, self.web.max_queue, self.ended)
        self.hub.enter(self.outlet)
        self.heartbeat = asyncio.get_running_loop().call_later(self.web.ping_interval, self.beat)
        since = self.hub.last_seq if self.since is None else self.since
        if not self.hub.join(self.outlet, self.wanted, since):
            self.catching_up = asyncio.create_task(self.catch_up(self.outlet, since))

    def on_message(self, message: str | bytes) -> None:
        """The channel goes one way; what a client says is dropped."""

    def on_pong(self, data: bytes) -> None:
        """The peer lives."""
        self.answered = True

    def beat(self) -> None:
        """Ping; a peer that has not answered the last one reads nothing, or is gone."""
        if not self.answered:
            self.outlet.end(End.SLOW)
            return
        self.answered = False
        if not self.settings["auth"].lasting and (self.checking is None or self.checking.done()):
            self.checking = asyncio.create_task(self.check())
        with contextlib.suppress(WebSocketClosedError):
            self.ping()
        self.heartbeat = asyncio.get_running_loop().call_later(self.web.ping_interval, self.beat)

    async def check(self) -> None:
        """May the peer still listen? While nobody can tell (Keystone is away) it may."""
        seconds = asyncio.get_running_loop().time() - self.opened
        try:
            await self.settings["auth"].still(self.principal, seconds)
        except (Unauthenticated, Forbidden):
            self.hang_up(closing.WHO_ARE_YOU)
        except VmsvcError as error:
            log.warning("%s: whether %s may still listen is not known: %s", self.request_id, self.principal.name, error)

    def on_close(self) -> None:
        """However it ended."""
        if self.outlet is not None:
            self.outlet.close()
            self.hub.leave(self.outlet, self.wanted)
            self.heartbeat.cancel()
        if self.catching_up is not None:
            self.catching_up.cancel()
        if self.checking is not None and self.checking is not asyncio.current_task():
            self.checking.cancel()

    def ended(self, why: End) -> None:
        """The outlet sends no more."""
        self.hang_up(closing.OF_END[why])

    def hang_up(self, how: closing.Closing) -> None:
        """Close from our side, and count it."""
        self.on_close()
        self.settings["metrics"].ended(how.code)
        self.close(how.code, how.reason)

    async def catch_up(self, outlet: Outlet, sent: int) -> None:
        """All that came after `sent`, up to the moment when there is no more."""
        try:
            while not self.hub.join(outlet, self.wanted, sent):
                messages, sent = self.hub.page(self.wanted, sent, PAGE) or await self.history(sent)
                if messages:
                    outlet.send(b"".join([message.frame for message in messages]))
                    await outlet.drained()
        except HistoryGone:
            self.hang_up(closing.HISTORY_GONE)
        except VmsvcError as error:
            log.warning("%s: no history for a socket: %s", self.request_id, error)
            self.hang_up(closing.TRY_LATER)
        except Exception:  # pylint: disable=broad-exception-caught; the task is nobody else's to watch
            log.exception("%s: a socket failed", self.request_id)
            self.hang_up(closing.INTERNAL)

    async def history(self, since: int) -> tuple[list[Message], int]:
        """A page from the database. Few sockets read at once: who asks for something else must get his turn too."""
        async with self.limits.history:
            events, seq = await self.read(since, PAGE)
        return list(map(encode, events)), seq


routes = [route(Events)]
