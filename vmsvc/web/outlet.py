"""The way out to one socket: straight into the kernel while the peer reads, a bounded queue when it does not.

`write_message` builds the frame anew for each socket, and a future and a task for each write; that is most of what a
plain loop over it costs. Here the frames are ready, and while nothing is queued one `send` is all there is: over 1,000
and 5,000 sockets hub and outlet together took 1.05 to 1.1 times the CPU of a bare loop of `send`. Measured beside both
by `make bench`; the figures are in the README.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from tornado.iostream import IOStream, SSLIOStream, StreamClosedError

from vmsvc.service.hub import End

#: What a peer that does not read may hold in the kernel (which doubles this). Its own limit is 4 MiB a socket.
KERNEL_BUFFER = 128 * 1024


def _nothing(data: bytes) -> int:
    """Leave all of it to the stream."""
    del data
    return 0


class Outlet:
    """Sends frames to one upgraded connection, in order and whole; `on_end(why)` is called once, when it has to go.

    The stream's own buffer holds at most one piece of ours: what was queued while the peer did not read goes out as
    the next piece when that is gone. Whoever writes into the stream besides, as Tornado its control frames, calls
    `give_way()` after it, so that nothing overtakes and no frame is torn. To ask the stream before each send instead
    would cost as much as all of the rest that is not the kernel's.
    """

    __slots__ = ("_stream", "_bound", "_on_end", "_put", "_writing", "_queue", "_queued", "_ended")

    def __init__(self, stream: IOStream, bound: int, on_end: Callable[[End], None]):
        self._stream = stream
        self._bound = bound             # bytes
        self._on_end = on_end
        # Raises OSError once the stream has closed it. What TLS could not send has to be tried again as it was, which
        # the stream does and we would not.
        self._put: Callable[[bytes], int] = _nothing if isinstance(stream, SSLIOStream) else stream.socket.send
        self._writing: asyncio.Future[None] | None = None
        self._queue: list[bytes] = []
        self._queued = 0
        self._ended = False
        stream.set_nodelay(True)        # an event does not wait until the one before was acknowledged
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER)
        self.give_way()                 # to the answer to the handshake, where the peer has not read what was before

    def send(self, data: bytes) -> None:
        """Some whole frames. Never waits; a peer that lags too far behind is ended."""
        if self._ended:
            return
        if self._writing is not None:
            self._wait_in_line(data)
            return
        try:
            sent = self._put(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._stream.close(exc_info=True)       # the handler hears of it as of any end
            return
        if sent < len(data):
            self._write(memoryview(data)[sent:])

    def give_way(self) -> None:
        """Somebody else has written: if the kernel has not taken all of that, what we send waits until it has."""
        if self._writing is None and self._stream.writing():
            self._write(b"")

    async def drained(self) -> None:
        """Wait until the kernel has taken all that was sent."""
        while self._writing is not None:
            await asyncio.wait([self._writing])

    def end(self, why: End) -> None:
        """Send no more, and say why; once."""
        if not self._ended:
            self.close()
            self._on_end(why)

    def close(self) -> None:
        """Send no more."""
        self._ended = True
        self._queue.clear()

    def _wait_in_line(self, data: bytes) -> None:
        self._queued += len(data)
        if self._queued > self._bound:
            self.end(End.SLOW)
        else:
            self._queue.append(data)    # shared with the others: a stalled peer costs us a reference

    def _write(self, data: bytes | memoryview) -> None:
        with contextlib.suppress(StreamClosedError):
            self._writing = self._stream.write(data)
            self._writing.add_done_callback(self._written)

    def _written(self, _: asyncio.Future[None]) -> None:
        self._writing = None
        data = b"".join(self._queue)
        self._queue.clear()
        self._queued = 0
        if self._stream.writing():      # what somebody else has written meanwhile
            self._write(data)
        elif data:
            self.send(data)
