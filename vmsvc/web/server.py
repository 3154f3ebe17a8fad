"""The HTTP server, with a bound on its connections: whoever only holds one gives way to whoever has something to ask.

Tornado limits what a peer may send and how long that may take. It neither counts connections (thousands that send
nothing use up the process's files, and then nobody can come in) nor limits how long an answer may take to leave.
"""

import asyncio
import contextlib
import json
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPInputError
from tornado.iostream import IOStream, StreamClosedError
from tornado.web import Application

from vmsvc.domain.errors import Unavailable
from vmsvc.web.settings import WebSettings

_ROUND_SECONDS = 5.0
_SAID = "too many connections are open"
_BODY = json.dumps({"code": "503", "message": _SAID, "message:": _SAID, "error": Unavailable.slug,
                    "request_id": "-"}).encode()
#: Said when there is no room, and nobody waits who could give way.
FULL = (b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY))


class Server(HTTPServer):
    """An HTTPServer that serves `max_connections` at most; what has become a WebSocket is the hub's to count."""

    def __init__(self, app: Application, **kwargs: Any):
        super().__init__(app, **kwargs)
        self._limits: WebSettings = app.settings["web"]
        self._stuck: dict[IOStream, float | None] = {}      # since when its peer does not take an answer
        self._waiting: dict[IOStream, None] = {}            # for a request; first those who have waited longest
        self._sweeping: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._stuck)

    def __bool__(self) -> bool:
        return True

    @property
    def waiting(self) -> int:
        """How many connections wait for a request."""
        return len(self._waiting)

    def handle_stream(self, stream: IOStream, address: tuple) -> None:
        """Take a connection; in need, in the place of one that asks nothing."""
        if len(self) >= self._limits.max_connections and not self._make_room():
            with contextlib.suppress(StreamClosedError):
                stream.write(FULL)          # as little goes out at once
            stream.close()
            return
        if self._sweeping is None:
            self._sweep()
        self._stuck[stream] = None
        self._waiting[stream] = None
        super().handle_stream(stream, address)

    def start_request(self, server_conn: Any, request_conn: Any) -> Any:
        """A connection begins to wait for a request: its first one, or the next."""
        stream = server_conn.stream
        if stream in self._stuck:           # else it gave way before its turn came
            self._stuck[stream] = None
            self._waiting.pop(stream, None)
            self._waiting[stream] = None
        return super().start_request(server_conn, request_conn)

    def asked(self, server_conn: Any) -> None:
        """Its request has come: now it waits for us, and not we for it. Raises HTTPInputError when it has gone: Tornado
        would go on with all that it sent before."""
        if server_conn.stream.closed():
            raise HTTPInputError("the client has gone")
        self._waiting.pop(server_conn.stream, None)

    def on_close(self, server_conn: Any) -> None:
        """It has ended, or has become a WebSocket."""
        self._forget(server_conn.stream)
        super().on_close(server_conn)

    def stop(self) -> None:
        """Take no new connection."""
        super().stop()
        if self._sweeping is not None:
            self._sweeping.cancel()

    def _make_room(self) -> bool:
        longest = next(iter(self._waiting), None)
        if longest is None:
            return False
        self._forget(longest)
        longest.close()
        return True

    def _forget(self, stream: IOStream) -> None:
        self._stuck.pop(stream, None)
        self._waiting.pop(stream, None)

    def _sweep(self) -> None:
        """Hang up on those who do not take their answers."""
        loop = asyncio.get_running_loop()
        for stream, since in list(self._stuck.items()):
            if not stream.writing():
                self._stuck[stream] = None
            elif since is None:
                self._stuck[stream] = loop.time()
            elif loop.time() - since > self._limits.answer_timeout:
                self._forget(stream)
                stream.close()
        self._sweeping = loop.call_later(min(_ROUND_SECONDS, self._limits.answer_timeout / 2), self._sweep)
