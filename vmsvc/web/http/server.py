"""The HTTP server, with bounds on its connections and on the responses that peers have not taken.

Tornado limits what a peer may send and how long that may take. It does not count connections: thousands that send
nothing use up the process's files, and then no client can connect. It does not limit how long a response may take to
leave. And it does not count the bytes of unsent responses, which fill the memory when peers do not read.
"""

import asyncio
import contextlib
import json
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, cast

from tornado.http1connection import HTTP1ServerConnection
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPConnection, HTTPInputError, HTTPMessageDelegate
from tornado.iostream import IOStream, StreamClosedError
from tornado.web import Application

from vmsvc.domain.errors import Unavailable

_SWEEP_SECONDS = 5.0
_FULL_MESSAGE = "too many connections are open"
_FULL_BODY = json.dumps(
    {"code": "503", "message": _FULL_MESSAGE, "message:": _FULL_MESSAGE, "error": Unavailable.slug, "request_id": "-"}
).encode()
#: The response to a new connection when `max_connections` are open and none of them is idle.
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_FULL_BODY), _FULL_BODY)
)


class Connections:
    """The connections of one server, `limit` at most. One that has become a WebSocket does not count: the hub counts
    those. `answer_timeout` is in seconds."""

    def __init__(self, limit: int, answer_timeout: float):
        self._limit = limit
        self.answer_timeout = answer_timeout
        self._stalled_since: dict[IOStream, float | None] = {}  # of every connection; None: its peer reads
        self._idle: dict[IOStream, None] = {}  # those that send no request, longest idle first

    def __len__(self) -> int:
        return len(self._stalled_since)

    @property
    def idle(self) -> int:
        """How many connections have no request under way."""
        return len(self._idle)

    def add(self, stream: IOStream) -> bool:
        """Count a connection; at the limit, close the one that has been idle longest. False when none is idle: then the
        connection is not counted."""
        if len(self) >= self._limit and not self._close_longest_idle():
            return False
        self._stalled_since[stream] = None
        self._idle[stream] = None
        return True

    def awaits_request(self, stream: IOStream) -> None:
        """The server waits for a request on this connection: the first one, or the next."""
        if stream in self._stalled_since:  # else it was closed to make way before its turn came
            self._stalled_since[stream] = None
            self._idle.pop(stream, None)
            self._idle[stream] = None

    def request_received(self, stream: IOStream) -> None:
        """A request has come, so the peer now waits for the service. Raises HTTPInputError when the connection is
        closed: Tornado would go on with everything that the peer sent before."""
        if stream.closed():
            raise HTTPInputError("the client has gone")
        self._idle.pop(stream, None)

    def remove(self, stream: IOStream) -> None:
        """The connection has ended, or has become a WebSocket."""
        self._stalled_since.pop(stream, None)
        self._idle.pop(stream, None)

    def close_stalled(self, now: float) -> None:
        """Close the connections whose peers have not taken their responses for longer than `answer_timeout`."""
        for stream, since in list(self._stalled_since.items()):
            if not stream.writing():
                self._stalled_since[stream] = None
            elif since is None:
                self._stalled_since[stream] = now
            elif now - since > self.answer_timeout:
                self.remove(stream)
                stream.close()

    def _close_longest_idle(self) -> bool:
        longest = next(iter(self._idle), None)
        if longest is None:
            return False
        self.remove(longest)
        longest.close()
        return True


class UnsentResponses:
    """The bytes of responses that peers have not taken, `limit` at most; a single response may have more. The list is
    one object in memory for all peers that get it, every other response is its peer's own. When all of them together
    exceed the limit, the connections that have waited longest are closed."""

    def __init__(self, limit: int):
        self._limit = limit
        self._of: OrderedDict[IOStream, tuple[Hashable, int]] = OrderedDict()  # longest waiting first
        self._users: Counter[Hashable] = Counter()  # of each object in memory
        self.size = 0
        self.closed_connections = 0

    def __len__(self) -> int:
        return len(self._of)

    def track(self, stream: IOStream, size: int, done: Callable[[], None], shared: Hashable | None = None) -> None:
        """A response of `size` bytes was written to the stream. `done()` is called when the kernel has all of it, or
        the connection has ended. Responses with the same `shared` are one object in memory."""
        if not stream.writing():
            done()
            return
        sent = stream.write(b"")  # done when all that was written before has left, or the stream is closed
        self._add(stream, stream if shared is None else shared, size)

        def ended(_: object) -> None:
            sent.exception()
            self._remove(stream)
            done()

        sent.add_done_callback(ended)
        while self.size > self._limit and len(self._users) > 1:
            self._close_longest_waiting()

    def _add(self, stream: IOStream, key: Hashable, size: int) -> None:
        self._remove(stream)  # a stream has one response at a time
        self._of[stream] = key, size
        if not self._users[key]:
            self.size += size
        self._users[key] += 1

    def _remove(self, stream: IOStream) -> None:
        key, size = self._of.pop(stream, (None, 0))
        if key is not None:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key]
                self.size -= size

    def _close_longest_waiting(self) -> None:
        stream = next(iter(self._of))
        self._remove(stream)
        self.closed_connections += 1
        stream.close()


class WebServer(HTTPServer):
    """Tornado's server with the bounds of `connections`."""

    def __init__(self, app: Application, connections: Connections, **kwargs: Any):
        super().__init__(app, **kwargs)
        self._client_connections = connections  # Tornado has a `_connections` of its own
        self._sweeping: asyncio.TimerHandle | None = None

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        """Tornado's own constructor: it is called with all arguments of `__init__`, of which `connections` is ours."""
        super().initialize(args[0], **kwargs)

    def __len__(self) -> int:
        return len(self._client_connections)

    def __bool__(self) -> bool:
        return True

    @property
    def waiting(self) -> int:
        """How many connections have no request under way."""
        return self._client_connections.idle

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        """Serve a new connection, or answer 503 when there is no place for it."""
        if not self._client_connections.add(stream):
            with contextlib.suppress(StreamClosedError):
                stream.write(FULL)  # so few bytes leave at once
            stream.close()
            return
        if self._sweeping is None:
            self._sweep()
        super().handle_stream(stream, address)

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """Tornado's hook before a request is read."""
        self._client_connections.awaits_request(cast(HTTP1ServerConnection, server_conn).stream)
        return super().start_request(server_conn, request_conn)

    def on_close(self, server_conn: object) -> None:
        """Tornado's hook for a connection that has ended or become a WebSocket."""
        self._client_connections.remove(cast(HTTP1ServerConnection, server_conn).stream)
        super().on_close(server_conn)

    def stop(self) -> None:
        """Take no new connection."""
        super().stop()
        if self._sweeping is not None:
            self._sweeping.cancel()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._client_connections.close_stalled(loop.time())
        self._sweeping = loop.call_later(min(_SWEEP_SECONDS, self._client_connections.answer_timeout / 2), self._sweep)
