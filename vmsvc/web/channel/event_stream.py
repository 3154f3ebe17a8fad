"""Server-Sent Events: `GET /api/v1/events` with `Accept: text/event-stream`, as `EventSource` reads it.

Each event has its seq as `id`, which a browser sends back as `Last-Event-ID` when it reconnects. A block with an `id`
and no data moves that position and fires nothing: the stream begins with one, and each heartbeat has one. So a client
whose filter lets nothing through for hours still reconnects at the right place.

The response has no length and is not chunked: it ends with its connection. So the bytes of an event are the same for
every client, also behind a proxy that speaks HTTP/1.0.
"""

import asyncio
from collections.abc import Awaitable, Callable

from tornado.iostream import IOStream

from vmsvc.service.events.frames import Message
from vmsvc.service.events.hub import EndReason, Hub
from vmsvc.web.channel.socket_writer import SocketWriter
from vmsvc.web.channel.subscription import Subscription

MEDIA_TYPE = "text/event-stream"
#: Milliseconds after which `EventSource` reconnects.
RETRY_MILLISECONDS = 1000


def block(message: Message) -> bytes:
    """An event as a block of the stream."""
    return b"id: %d\ndata: %b\n\n" % (message.seq, message.text)


def position(seq: int) -> bytes:
    """A block that tells the client where it is."""
    return b"id: %d\n\n" % seq


class EventStream:
    """One stream on a connection whose head has been written. `recheck` is called at each heartbeat, and
    `on_end(reason)` when the hub or the writer ends the stream."""

    def __init__(
        self,
        stream: IOStream,
        hub: Hub,
        subscribe: Callable[[SocketWriter], Subscription],
        *,
        max_queue: int,
        heartbeat: float,
        recheck: Callable[[], Awaitable[None]],
        on_end: Callable[[EndReason], None],
    ):
        self._stream = stream
        self._hub = hub
        self._heartbeat = heartbeat
        self._recheck = recheck
        self.subscription = subscribe(SocketWriter(stream, max_queue, on_end))
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def run(self, since: int) -> None:
        """Send what came after `since`, then live events and heartbeats, until the connection or the task ends. Raises
        HistoryGone, Unauthenticated, Forbidden, and what a reading of the database raises."""
        self._task = asyncio.current_task()
        self._stream.set_close_callback(self.stop)
        writer = self.subscription.writer
        writer.send(b"retry: %d\n%b" % (RETRY_MILLISECONDS, position(since)))
        await self.subscription.catch_up(since)
        while True:
            unsent = writer.oldest_unsent
            await asyncio.sleep(self._heartbeat)
            if unsent is not None and writer.oldest_unsent is unsent:  # the peer has taken nothing since
                writer.end(EndReason.SLOW)
            await self._recheck()
            writer.send(b": \n" + position(max(self._hub.delivered_seq, self.subscription.joined_at or 0)))

    def stop(self) -> None:
        """End the stream from outside of `run`, or from within: `run` is cancelled."""
        if not self._closed:
            self.close()
            if self._task is not None:
                self._task.cancel()

    def close(self) -> None:
        """End the connection, and leave the hub."""
        self._closed = True
        self.subscription.leave()
        self._stream.set_close_callback(None)
        self._stream.close()
