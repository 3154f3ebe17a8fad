"""Writes frames to one socket: straight into the kernel while the peer reads, into a bounded queue when it does not.

The way of an event: outbox, feed, hub, subscription, writer. A peer that does not read is ended (`SLOW`).

Why not Tornado's `write_message`: it makes the frame anew for each socket, and a future and a task for each write. That
is most of what a plain loop over `write_message` costs. Here the frames are ready, and while nothing is queued a write
is one `send`. Measured: over 1,000 and 5,000 sockets the hub and the writers together took 1.05 to 1.1 times the CPU of
a bare loop of `send`. `make bench` measures them beside `write_message` and the bare loop; docs/benchmarks.md has the
figures.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from tornado.iostream import IOStream, SSLIOStream, StreamClosedError

from vmsvc.service.events.hub import EndReason

#: Bytes that a peer that does not read may hold in the kernel (which doubles this). The kernel's own limit is 4 MiB.
KERNEL_BUFFER = 128 * 1024


def _send_nothing(data: bytes) -> int:
    """Leave all of it to the stream."""
    del data
    return 0


class SocketWriter:
    """Sends frames to one detached connection, in order and whole. `on_end(reason)` is called once, when the writer
    ends the subscription.

    `max_queue` is in bytes. The stream's own buffer holds at most one write of the writer's: what is queued while the
    peer does not read follows in one write when that has left. Other code that writes to the stream, as Tornado writes
    control frames, calls `wait_for_stream()` afterwards, so that no frame overtakes or tears another. (To ask the
    stream before each `send` instead would double the cost of this class, the kernel's work aside.)
    """

    __slots__ = ("_stream", "_max_queue", "_on_end", "_send_now", "_writing", "_queue", "_queued", "_ended")

    def __init__(self, stream: IOStream, max_queue: int, on_end: Callable[[EndReason], None]):
        self._stream = stream
        self._max_queue = max_queue
        self._on_end = on_end
        # Raises OSError once the stream has closed the socket. What TLS could not send has to be sent again unchanged,
        # which the stream does.
        self._send_now: Callable[[bytes], int] = (
            _send_nothing if isinstance(stream, SSLIOStream) else stream.socket.send
        )
        self._writing: asyncio.Future[None] | None = None
        self._queue: list[bytes] = []
        self._queued = 0  # bytes
        self._ended = False
        stream.set_nodelay(True)  # an event does not wait until the one before was acknowledged
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER)
        self.wait_for_stream()  # for the response to the handshake, where the peer has not read it yet

    def send(self, data: bytes) -> None:
        """Send whole frames. Never waits; a peer that lags more than `max_queue` bytes behind is ended."""
        if self._ended:
            return
        if self._writing is not None:
            self._enqueue(data)
            return
        try:
            sent = self._send_now(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._stream.close(exc_info=True)  # the handler hears of it as of any end
            return
        if sent < len(data):
            self._write(memoryview(data)[sent:])

    @property
    def oldest_unsent(self) -> object | None:
        """The write that the kernel has not taken whole yet; None when it has all. Another object for each write."""
        return self._writing

    def wait_for_stream(self) -> None:
        """Queue what is sent from now on until the stream has written what is in its buffer."""
        if self._writing is None and self._stream.writing():
            self._write(b"")

    async def drained(self) -> None:
        """Wait until the kernel has all that was sent."""
        while self._writing is not None:
            await asyncio.wait([self._writing])

    def end(self, reason: EndReason) -> None:
        """Send no more, and call `on_end`."""
        if not self._ended:
            self.close()
            self._on_end(reason)

    def close(self) -> None:
        """Send no more."""
        self._ended = True
        self._queue.clear()

    def _enqueue(self, data: bytes) -> None:
        self._queued += len(data)
        if self._queued > self._max_queue:
            self.end(EndReason.SLOW)
        else:
            self._queue.append(data)  # all sockets share the bytes: a stalled peer costs a reference

    def _write(self, data: bytes | memoryview) -> None:
        with contextlib.suppress(StreamClosedError):
            self._writing = self._stream.write(data)
            self._writing.add_done_callback(self._written)

    def _written(self, _: asyncio.Future[None]) -> None:
        self._writing = None
        data = b"".join(self._queue)
        self._queue.clear()
        self._queued = 0
        if self._stream.writing():  # Tornado has written meanwhile
            self._write(data)
        elif data:
            self.send(data)
