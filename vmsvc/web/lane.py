"""The short way of `GET /api/v1/vm`: a list that is current leaves in the turn of the loop in which it was asked for.

A handler of Tornado's costs a task, two more turns of the loop, a dictionary of headers that is made, checked and
encoded each time, and a copy of the body behind them. Here the parts of the head that stay are kept encoded with the
list. Of 190 kB (100 servers) a request took 130 us of CPU where a bare handler that writes the same bytes took 230 and
our own 290 (`tests.bench.bench_list`).

Only what is as usual is answered here; whatever is not (a list that has to be made anew, a stranger, a Host that is not
ours, a body, an older HTTP, ...) is left to the handler, which answers the same.
"""

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest, format_timestamp
from tornado.iostream import IOStream, SSLIOStream

from vmsvc.service.roll import Page
from vmsvc.web.auth import Auth
from vmsvc.web.base import STANDING, name_in, request_id_of
from vmsvc.web.limits import Limits
from vmsvc.web.settings import WebSettings
from vmsvc.web.unsent import Unsent
from vmsvc.web.vms import JSON, VMS, Vms

#: What makes a request unusual; of `Connection` all but `keep-alive` does.
_UNUSUAL = ("Content-Length", "Transfer-Encoding", "Content-Type", "Expect")

#: Called with the request, its route, the answer's status, who asked, and the request's id.
Note = Callable[[HTTPServerRequest, str, int, str, str], None]


class Lane:
    """Takes the requests for the list that need not wait for anything."""

    def __init__(self, commands: Any, settings: WebSettings, auth: Auth, limits: Limits, unsent: Unsent, note: Note):
        self._commands = commands
        self._settings = settings
        self._auth = auth
        self._limits = limits
        self._unsent = unsent
        self._note = note

    def take(self, request: HTTPServerRequest) -> HTTPMessageDelegate | None:
        """Who answers the request; None when that is the handler."""
        if request.uri != VMS or not _is_usual(request) or not self._limits.has_room():
            return None
        if not self._settings.allows_host(name_in(request.host)):
            return None
        tag = request.headers.get("If-None-Match")
        principal, page = self._auth.at_once(request), self._commands.kept_vms()
        if principal is None or page is None or tag not in (None, page.etag):
            return None
        return Answer(request, page, principal.name, self._note, self._follow)

    def _follow(self, stream: IOStream, page: Page) -> None:
        """An answer that has not left yet is in flight."""
        self._limits.in_flight += 1
        self._unsent.follow(stream, len(page.body), self._limits.leave, page.etag)


def _is_usual(request: HTTPServerRequest) -> bool:
    headers = request.headers
    return (request.version == "HTTP/1.1" and request.method in ("GET", "HEAD")
            and not any(name in headers for name in _UNUSUAL)
            and headers.get("Connection", "keep-alive").lower() == "keep-alive")


class Answer(HTTPMessageDelegate):
    """The list for one request."""

    def __init__(self, request: HTTPServerRequest, page: Page, principal: str, note: Note,
                 follow: Callable[[IOStream, Page], None]):
        self._request = request
        self._page = page
        self._principal = principal
        self._follow = follow
        self._note = note

    def finish(self) -> None:
        """The request has come whole, there is no body: answer."""
        request, page = self._request, self._page
        request_id = request_id_of(request)
        status = 304 if "If-None-Match" in request.headers else 200
        head = b"%bDate: %b\r\nX-Request-Id: %b\r\n\r\n" % (
            _head(status, page.etag, len(page.body)), _date(int(time.time())), request_id.encode("ascii"))
        stream = request.connection.stream
        _put(request.connection, head, page.body if status == 200 and request.method == "GET" else b"")
        if stream.writing():
            self._follow(stream, page)
        request.connection.finish()
        self._note(request, VMS, status, self._principal, request_id)


@lru_cache(8)
def _head(status: int, etag: str, length: int) -> bytes:
    """What stays of an answer's head while the list is the same."""
    if status == 200:
        lines = ["HTTP/1.1 200 OK", f"Content-Type: {JSON}", f"Content-Length: {length}"]
    else:
        lines = ["HTTP/1.1 304 Not Modified"]
    standing = {**STANDING, "Content-Security-Policy": Vms.csp, "Etag": etag}
    return "".join(f"{line}\r\n" for line in [*lines, *map(": ".join, standing.items())]).encode("ascii")


@lru_cache(2)
def _date(second: int) -> bytes:
    return format_timestamp(second).encode("ascii")


def _put(connection: Any, head: bytes, body: bytes) -> None:
    """Send both in one piece. Past Tornado's stream as long as nothing waits in it: it would join them first, and make
    a future and three callbacks to tell when they have gone."""
    stream, sent = connection.stream, 0
    if not isinstance(stream, SSLIOStream) and not stream.writing() and not stream.closed():
        try:
            sent = stream.socket.sendmsg((head, body))
        except BlockingIOError:
            pass
        except OSError:
            stream.close(exc_info=True)
    if sent < len(head):
        connection.write(head[sent:])
        connection.write(memoryview(body))      # a reference, where joining the two would make a copy for each peer
    elif sent < len(head) + len(body):
        connection.write(memoryview(body)[sent - len(head):])
