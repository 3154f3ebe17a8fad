"""`/api/v1/events`: the history as pages, and with an upgrade the live channel.

A socket subscribes first, reads the history after that, then gets what is live: nothing is missed, and what is in
both is sent once. One task writes to the socket and awaits each write, so a slow peer delays nobody else.
"""

import asyncio
import logging
from typing import Any

from tornado.web import HTTPError
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from vmsvc.domain.errors import CloudUnavailable, Forbidden, HistoryGone, Timeout, TooManyRequests, VmsvcError
from vmsvc.service.hub import End, Message, Subscription, Wanted, encode
from vmsvc.web import answers
from vmsvc.web.api import ApiHandler
from vmsvc.web.base import route
from vmsvc.web.describe import Answer, describe
from vmsvc.web.schemas import EventsQuery

log = logging.getLogger("vmsvc.web.channel")

#: Close codes: those of RFC 6455's registry where there is one, else from its private range.
GOING_AWAY = (1012, "the service restarts: reconnect with since")
TRY_LATER = (1013, "the history cannot be read now: reconnect with since")
INTERNAL = (1011, "internal error: reconnect with since")
TOO_SLOW = (4008, "reconnect with since")
HISTORY_GONE = (4009, "history gone: reload the list")
ENDS = {End.OVERFLOW: TOO_SLOW, End.STOPPED: GOING_AWAY}

PAGE = 100


class Events(ApiHandler, WebSocketHandler):
    """History and channel at one address."""

    address = "/api/v1/events"

    since: int | None
    limit: int
    wanted: Wanted
    subscription: Subscription | None = None
    writer: asyncio.Task[None] | None = None

    async def admit(self) -> None:
        await super().admit()
        query = self.query(EventsQuery)
        self.since = query.get("since")
        self.limit = query["limit"]
        self.wanted = Wanted(frozenset(filter(None, query.get("type", "").split(","))), query.get("vm"))

    @describe(Answer(101, "The live channel: each message is an Event."),
              Answer(200, "A page of the history.", answers.EventPage, {"events": [answers.EVENT], "seq": 42}),
              query=EventsQuery, errors=(HistoryGone, Timeout))
    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Read the history, or with an upgrade listen.

        A page of CloudEvents in the order of their `seq`, and the `since` of the next page. A WebSocket gets the
        events after `since`, then the live ones, each once and in order. It is closed with 4008 when it reads too
        slowly (reconnect with `since`), 4009 when `since` is older than the history that is kept (reload the list),
        1012 when the service stops.
        """
        if self.request.headers.get("Upgrade", "").lower() == "websocket":
            self.admit_socket()
            await WebSocketHandler.get(self, *args, **kwargs)
        else:
            events, seq = await self.page()
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
        return await self.commands.events(since=since, limit=limit, types=self.wanted.types, vm=self.wanted.vm)

    def admit_socket(self) -> None:
        """Raises when there is no place for another socket."""
        if self.request.method != "GET":
            raise HTTPError(405)
        if self.hub.closed:
            raise CloudUnavailable("the service stops", retry_after=1)
        if len(self.hub) >= self.web.max_sockets:
            raise TooManyRequests("too many sockets are open", retry_after=5)

    def check_origin(self, origin: str) -> bool:
        """Raises Forbidden for the page of another site (asked by Tornado when Origin and Host differ)."""
        if not self.check_trusted_origin(origin):
            raise Forbidden("sockets from another site's pages are refused")
        return True

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """A browser that offers some gives up unless one is chosen; a token among them is not to be said back."""
        return "vmsvc" if "vmsvc" in subprotocols else None

    def open(self) -> None:
        """Subscribe, and start the one task that writes."""
        self.subscription = self.hub.subscribe(self.wanted, self.ended)
        self.writer = asyncio.create_task(self.write_all(self.subscription))

    def on_message(self, message: str | bytes) -> None:
        """The channel goes one way; what a client says is dropped."""

    def on_close(self) -> None:
        """However it ended."""
        if self.subscription is not None:
            self.hub.unsubscribe(self.subscription)
        if self.writer is not None:
            self.writer.cancel()

    def ended(self, why: End) -> None:
        """The hub ended the subscription. A write that hangs must not keep the close from being sent."""
        self.on_close()
        self.hang_up(*ENDS[why])

    def hang_up(self, code: int, reason: str) -> None:
        """Close from our side, and count it."""
        self.settings["metrics"].ended(code)
        self.close(code, reason)

    async def write_all(self, subscription: Subscription) -> None:
        """All that this socket is to get, until it closes."""
        try:
            sent = await self.catch_up(subscription)
            while True:
                message = await subscription.take()
                if message.seq > sent:
                    await self.send(message)
        except HistoryGone:
            self.hang_up(*HISTORY_GONE)
        except WebSocketClosedError:
            log.debug("%s: the peer is gone", self.request_id)
        except VmsvcError as error:
            log.warning("%s: no history for a socket: %s", self.request_id, error)
            self.hang_up(*TRY_LATER)
        except Exception:  # pylint: disable=broad-exception-caught; the task is nobody else's to watch
            log.exception("%s: a socket failed", self.request_id)
            self.hang_up(*INTERNAL)
        finally:
            self.hub.unsubscribe(subscription)

    async def catch_up(self, subscription: Subscription) -> int:
        """Send the history after `since`; returns the last seq that need not be sent again."""
        sent = self.since
        while sent is not None:
            subscription.restart()
            events, _ = await self.read(sent, PAGE)
            for message in map(encode, events):
                await self.send(message)
                sent = message.seq
            if len(events) < PAGE and subscription.go_live():
                return sent
        subscription.go_live()
        return 0

    async def send(self, message: Message) -> None:
        """Write, and wait until the kernel has taken it."""
        await self.write_message(message.text)


routes = [route(Events)]
