"""What every handler shares: who asks, the request's id, the answer's shape, and errors in one form.

An error leaves as `{"code", "message", "message:", "error", "request_id"}` (and `field`), whatever raised it. The
status of a domain error is looked up here and nowhere else.
"""

import logging
import math
import re
import uuid
from asyncio import Future
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from tornado.httputil import HTTPServerRequest
from tornado.web import HTTPError, RequestHandler

from vmsvc.domain import errors
from vmsvc.service import trace
from vmsvc.web.settings import MAX_BODY, WebSettings

log = logging.getLogger("vmsvc.web")

#: The status of each domain error; a subclass has its parent's unless it has its own.
STATUS: dict[type[BaseException], int] = {
    errors.VmsvcError: 500,
    errors.InvalidRequest: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.QuotaExceeded: 403,
    errors.NotFound: 404,
    errors.NoCapacity: 409,
    errors.Conflict: 409,
    errors.HistoryGone: 410,
    errors.IdempotencyMismatch: 422,
    errors.TooManyRequests: 429,
    errors.CloudError: 502,
    errors.CloudUnavailable: 503,
    errors.Unavailable: 503,
    errors.Timeout: 504,
}
STATUS_OF_SLUG = {cls.slug: status for cls, status in STATUS.items()}

#: What HTTP itself refuses: status -> (slug, message).
HTTP_REFUSALS = {
    400: ("invalid_request", "the request is not valid HTTP"),
    403: ("forbidden", "requests from another site's pages are refused"),
    404: ("not_found", "there is nothing at this address"),
    405: ("method_not_allowed", "this address does not know that method"),
    413: ("payload_too_large", f"the body is larger than {MAX_BODY} bytes"),
    415: ("unsupported_media_type", "the body must be sent as Content-Type: application/json, not compressed"),
}
INTERNAL = ("internal", "vmsvc failed at this; its log has the details under this request_id")

#: Seconds, when the one who refuses did not say.
RETRY_AFTER = 5.0

#: Methods that change nothing.
SAFE = ("GET", "HEAD", "OPTIONS")

#: On every answer, errors too.
STANDING = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}

_REQUEST_ID = re.compile(r"[0-9A-Za-z._:-]{1,128}")


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error as a client gets to see it."""

    status: int
    slug: str
    message: str
    field: str | None = None
    retry_after: float = RETRY_AFTER


def request_id_of(request: HTTPServerRequest) -> str:
    """The client's X-Request-Id when it is a sane one, else a new one."""
    given = request.headers.get("X-Request-Id", "")
    return given if _REQUEST_ID.fullmatch(given) else f"req-{uuid.uuid4()}"


def status_of(kind: type[BaseException]) -> int:
    """The status of a class of domain errors: its own, or that of the nearest parent that has one."""
    return next(STATUS[cls] for cls in kind.__mro__ if cls in STATUS)


def refusal_of(error: BaseException | None, status: int = 500) -> Refusal:
    """What to answer for an exception. What is not ours or HTTP's own says nothing about itself."""
    if isinstance(error, errors.VmsvcError):
        return Refusal(status_of(type(error)), error.slug, error.message, getattr(error, "field", None),
                       getattr(error, "retry_after", RETRY_AFTER))
    if isinstance(error, HTTPError):
        status = error.status_code
    return Refusal(status, *HTTP_REFUSALS.get(status, INTERNAL))


class Handler(RequestHandler):
    """Host check, request id, security headers and error bodies. A body is read as a stream (see `app.Front`), so that
    one which is too large, or whose sender may not ask, is answered before it is kept."""

    #: The address as the document and the metrics call it: `/api/v1/vm/{id}`.
    address = "unknown"
    #: What the parts of the address are and what they look like, for the document.
    parameters: dict[str, tuple[str, str]] = {}
    csp = "default-src 'none'; frame-ancestors 'none'"
    piece: str | None = None    # of memory that the answer shares with others
    _size = 0

    @cached_property
    def _chunks(self) -> list[bytes]:
        return []

    @property
    def web(self) -> WebSettings:
        """The web layer's settings."""
        return self.settings["web"]

    @cached_property
    def request_id(self) -> str:
        """See `request_id_of`."""
        return request_id_of(self.request)

    def set_default_headers(self) -> None:
        """Tornado's hook for what is on every answer, errors too."""
        self.clear_header("Server")
        self.set_header("X-Request-Id", self.request_id)
        self.set_header("Content-Security-Policy", self.csp)
        for name, value in STANDING.items():
            self.set_header(name, value)

    def prepare(self) -> Awaitable[None]:
        """Tornado's hook between the headers and the body. Which methods an address knows is no secret, so nobody has
        to say who is asking for that."""
        return Handler.admit(self) if self.request.method == "OPTIONS" else self.admit()

    async def admit(self) -> None:
        """Raises what the request is refused with before its body is read. To be extended."""
        trace.begin_client(self.request_id)
        self.check_host()
        self.check_method()
        length = self.request.headers.get("Content-Length", "0")
        # Python converts at most 4,300 digits; leading zeros are no size.
        if length.isdecimal() and (len(length) > 100 or int(length) > MAX_BODY):
            raise HTTPError(413)

    @property
    def name(self) -> str:
        """The name by which the request calls us, without a port."""
        return name_in(self.request.host)

    def check_host(self) -> None:
        """Raises Forbidden when the request calls us by a name that is not ours."""
        if not self.web.allows_host(self.name):
            raise errors.Forbidden("this Host is not served here")

    def check_method(self) -> None:
        """Raises HTTPError 405, before anything else is looked at: nothing in the request could mend it."""
        if self.request.method not in self.methods():
            raise HTTPError(405)

    async def head(self, *args: str) -> None:
        """As GET, with the same headers; Tornado leaves the body out."""
        done = self.get(*args)
        if done is not None:
            await done

    def options(self, *_args: str) -> None:
        """Which methods this address knows."""
        self.set_status(204)
        self.set_header("Allow", ", ".join(self.methods()))
        self.finish()

    def data_received(self, chunk: bytes) -> None:
        """Keep a chunk of the body; of one that turns out too large, nothing."""
        self._size += len(chunk)
        if self._size <= MAX_BODY:
            self._chunks.append(chunk)
        else:
            self._chunks.clear()

    def finish(self, chunk: str | bytes | dict | None = None) -> "Future[None]":
        """As Tornado's; `left()` is called when the kernel has all of the answer, or the peer is gone."""
        stream = self.request.connection.stream
        finished = super().finish(chunk)
        if stream is None or self.get_status() == 101:
            self.left()
        else:
            size = int(self._headers.get("Content-Length", 0)) if self.request.method != "HEAD" else 0
            self.settings["unsent"].follow(stream, size, self.left, self.piece)
        return finished

    def left(self) -> None:
        """The answer has left. To be extended."""

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """The one shape of all errors."""
        if status_code == 500 and "exc_info" not in kwargs:      # Tornado's word for a handler that is cancelled
            self.refuse(Refusal(503, errors.Unavailable.slug, "the service stops; ask again", retry_after=1))
        else:
            self.refuse(refusal_of(kwargs.get("exc_info", (None, None))[1], status_code))

    def refuse(self, refusal: Refusal) -> None:
        """Finish with an error."""
        self.set_status(refusal.status)
        match refusal.status:
            case 401:
                self.set_header("WWW-Authenticate", self.settings["auth"].challenge)
            case 405:
                self.set_header("Allow", ", ".join(self.methods()))
            case 413:
                self.set_header("Connection", "close")
            case 429 | 503:
                self.set_header("Retry-After", str(math.ceil(refusal.retry_after)))
        body = {"code": str(refusal.status), "message": refusal.message, "message:": refusal.message,
                "error": refusal.slug, "request_id": self.request_id}
        self.finish(body | ({"field": refusal.field} if refusal.field else {}))

    @classmethod
    def methods(cls) -> list[str]:
        """The methods that this address knows."""
        own = [name for name in cls.SUPPORTED_METHODS
               if getattr(cls, name.lower()) is not getattr(RequestHandler, name.lower())]
        return own if "GET" in own else [name for name in own if name != "HEAD"]

    def log_exception(self, typ: type[BaseException] | None, value: BaseException | None,
                      tb: TracebackType | None) -> None:
        """A refusal is the client's news, not the log's; anything else is a defect of ours."""
        if isinstance(value, HTTPError | errors.VmsvcError) and refusal_of(value).status != 500:
            log.debug("%s refused: %s", self.request_id, value)
        else:
            log.error("%s failed: %s %s", self.request_id, self.request.method, self.request.path,
                      exc_info=(typ, value, tb) if typ and value else None)


@lru_cache(64)
def name_in(host: str) -> str:
    """The name in a Host header, without a port; nothing when there is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def route(handler: type[Handler]) -> tuple[str, type[Handler]]:
    """The routing rule of a handler: each `{part}` of its address is one argument."""
    return re.sub(r"\{\w+\}", "([^/]+)", handler.address), handler


class WholeServer(Handler):
    """`OPTIONS *` asks what the server knows at all."""

    address = "*"

    def check_method(self) -> None:
        """It is no address: nothing can be got there."""
        if self.request.method != "OPTIONS":
            raise HTTPError(404)

    @classmethod
    def methods(cls) -> list[str]:
        """Those that some address knows."""
        return ["GET", "HEAD", "POST", "DELETE", "OPTIONS"]


class Unknown(Handler):
    """Every address that no route knows."""

    def check_method(self) -> None:
        """There is nothing that could know one."""
        raise HTTPError(404)
