"""The base of all handlers: checks before the body is read, the request's id, headers, and errors in one shape.

An error leaves as `{"code", "message", "message:", "error", "request_id"}` (and `field`), whatever raised it. The
status of a domain error is looked up here and nowhere else.
"""

import functools
import logging
import math
import re
from asyncio import Future
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, cast

from tornado.http1connection import HTTP1Connection
from tornado.web import HTTPError, RequestHandler

from vmsvc.domain import errors
from vmsvc.service import trace
from vmsvc.service.commands import Commands
from vmsvc.service.events.hub import Hub
from vmsvc.service.evictions.record import Evictions
from vmsvc.service.identity.tickets import Tickets
from vmsvc.service.webhooks.endpoints import Webhooks
from vmsvc.web.http.auth import Auth
from vmsvc.web.http.limits import Limits
from vmsvc.web.http.metrics import WebMetrics
from vmsvc.web.http.request import host_name_of, request_id_of
from vmsvc.web.http.server import Connections, UnsentResponses
from vmsvc.web.http.settings import MAX_BODY, WebSettings

log = logging.getLogger("vmsvc.web")

#: The status of each domain error; a subclass has its parent's unless it has its own.
STATUS: dict[type[errors.VmsvcError], int] = {
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

#: Errors of HTTP itself: status -> (slug, message).
HTTP_REFUSALS = {
    400: ("invalid_request", "the request is not valid HTTP"),
    403: ("forbidden", "requests from another site's pages are refused"),
    404: ("not_found", "there is nothing at this address"),
    405: ("method_not_allowed", "this address does not know that method"),
    413: ("payload_too_large", f"the body is larger than {MAX_BODY} bytes"),
    415: ("unsupported_media_type", "the body must be sent as Content-Type: application/json, not compressed"),
}
INTERNAL = ("internal", "vmsvc failed at this; its log has the details under this request_id")

#: Seconds, for an error that does not say when to ask again.
RETRY_AFTER = 5.0

#: Methods that change nothing.
SAFE = ("GET", "HEAD", "OPTIONS")

#: Headers of every response, errors too.
COMMON_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


#: Called for each response: the request's id, its method, its route, the status, and the seconds that it took.
Traced = Callable[[str, str, str, int, float], None]


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What handlers work with. They find it as `self.dependencies`."""

    settings: WebSettings
    commands: Commands
    evictions: Evictions
    tickets: Tickets
    webhooks: Webhooks
    hub: Hub
    auth: Auth
    limits: Limits
    connections: Connections
    unsent: UnsentResponses
    metrics: WebMetrics
    traced: Traced


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error as a client gets it."""

    status: int
    slug: str
    message: str
    field: str | None = None
    retry_after: float = RETRY_AFTER


def status_of(kind: type[errors.VmsvcError]) -> int:
    """The status of a class of domain errors: its own, or that of the nearest parent that has one."""
    return next(STATUS[cls] for cls in kind.__mro__ if cls in STATUS)


def refusal_of(error: BaseException | None, status: int = 500) -> Refusal:
    """The refusal for an exception. The client learns nothing of one that is neither a domain error nor HTTP's."""
    if isinstance(error, errors.VmsvcError):
        return Refusal(
            status_of(type(error)),
            error.slug,
            error.message,
            getattr(error, "field", None),
            getattr(error, "retry_after", RETRY_AFTER),
        )
    if isinstance(error, HTTPError):
        status = error.status_code
    return Refusal(status, *HTTP_REFUSALS.get(status, INTERNAL))


class Handler(RequestHandler):
    """Checks the Host header and the method, and shapes responses. A body is read as a stream (see `app.Application`),
    so that a body which is too large, or whose sender is refused, is answered before it is kept."""

    #: The address as the document and the metrics have it: `/api/v1/vm/{id}`.
    address = "unknown"
    #: The parts of the address: description and pattern, for the document.
    parameters: dict[str, tuple[str, str]] = {}
    #: The group of the handler's operations in the document.
    tag = ""
    #: True: it identifies its clients, and its operations have the errors of every operation of the API.
    is_api = False
    csp = "default-src 'none'; frame-ancestors 'none'"
    shared_body: str | None = None  # names the object in memory that other responses share, see UnsentResponses
    _body_size = 0

    @functools.cached_property
    def _chunks(self) -> list[bytes]:
        return []

    @property
    def dependencies(self) -> Dependencies:
        """What the application was made with."""
        found: Dependencies = self.settings["dependencies"]
        return found

    @functools.cached_property
    def request_id(self) -> str:
        """See `request_id_of`."""
        return request_id_of(self.request)

    def set_default_headers(self) -> None:
        """Tornado's hook for the headers of every response, errors too."""
        self.clear_header("Server")
        # Not by set_header(), which checks each value: these cannot be wrong, and every response has them.
        self._headers.update(COMMON_HEADERS, **{"X-Request-Id": self.request_id, "Content-Security-Policy": self.csp})

    def prepare(self) -> Awaitable[None]:
        """Tornado's hook between the headers and the body. OPTIONS needs no identified client: which methods an address
        has is no secret."""
        return Handler.admit(self) if self.request.method == "OPTIONS" else self.admit()

    async def admit(self) -> None:
        """Raises the error with which the request is refused before its body is read. Subclasses add their checks."""
        trace.begin_client(self.request_id)
        self.check_host()
        self.check_method()
        length = self.request.headers.get("Content-Length", "0")
        # Python converts at most 4,300 digits; leading zeros are no size.
        if length.isdecimal() and (len(length) > 100 or int(length) > MAX_BODY):
            raise HTTPError(413)

    @property
    def host_name(self) -> str:
        """The name in the request's Host header, without a port."""
        return host_name_of(self.request.host)

    def check_host(self) -> None:
        """Raises Forbidden when the Host header has a name that is not the service's."""
        if not self.dependencies.settings.allows_host(self.host_name):
            raise errors.Forbidden("this Host is not served here")

    def check_method(self) -> None:
        """Raises HTTPError 405. This comes before other checks: nothing else in the request could mend it."""
        if self.request.method not in self.methods():
            raise HTTPError(405)

    async def head(self, *args: str) -> None:
        """As GET, with the same headers; Tornado leaves the body out."""
        done = self.get(*args)
        if done is not None:
            await done

    def options(self, *_args: str) -> None:
        """The methods of this address."""
        self.set_status(204)
        self.set_header("Allow", ", ".join(self.methods()))
        self.finish()

    def data_received(self, chunk: bytes) -> None:
        """Keep a chunk of the body; keep nothing of a body that turns out too large."""
        self._body_size += len(chunk)
        if self._body_size <= MAX_BODY:
            self._chunks.append(chunk)
        else:
            self._chunks.clear()

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> "Future[None]":
        """As Tornado's; `response_sent()` is called when the kernel has the whole response, or the peer is gone."""
        stream = cast(HTTP1Connection, self.request.connection).stream
        finished = super().finish(chunk)
        if stream is None or self.get_status() == 101:
            self.response_sent()
        else:
            size = int(self._headers.get("Content-Length", 0)) if self.request.method != "HEAD" else 0
            self.dependencies.unsent.track(stream, size, self.response_sent, self.shared_body)
        return finished

    def response_sent(self) -> None:
        """The response has left. Subclasses extend this."""

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Tornado's hook for a handler that raised: one shape for all errors."""
        if status_code == 500 and "exc_info" not in kwargs:  # so Tornado reports a handler that is cancelled
            self.refuse(Refusal(503, errors.Unavailable.slug, "the service stops; ask again", retry_after=1))
        else:
            self.refuse(refusal_of(kwargs.get("exc_info", (None, None))[1], status_code))

    def refuse(self, refusal: Refusal) -> None:
        """Finish with an error."""
        self.set_status(refusal.status)
        match refusal.status:
            case 401:
                self.set_header("WWW-Authenticate", self.dependencies.auth.challenge)
            case 405:
                self.set_header("Allow", ", ".join(self.methods()))
            case 413:
                self.set_header("Connection", "close")
            case 429 | 503:
                self.set_header("Retry-After", str(math.ceil(refusal.retry_after)))
        body = {
            "code": str(refusal.status),
            "message": refusal.message,
            "message:": refusal.message,
            "error": refusal.slug,
            "request_id": self.request_id,
        }
        self.finish(body | ({"field": refusal.field} if refusal.field else {}))

    @classmethod
    @functools.cache
    def methods(cls) -> list[str]:
        """The methods of this address."""
        own = [
            name
            for name in cls.SUPPORTED_METHODS
            if getattr(cls, name.lower()) is not getattr(RequestHandler, name.lower())
        ]
        return own if "GET" in own else [name for name in own if name != "HEAD"]

    def log_exception(
        self, typ: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Tornado's hook. A refusal concerns the client alone; anything else is a defect of the service."""
        if isinstance(value, HTTPError | errors.VmsvcError) and refusal_of(value).status != 500:
            log.debug("%s refused: %s", self.request_id, value)
        else:
            log.error(
                "%s failed: %s %s",
                self.request_id,
                self.request.method,
                self.request.path,
                exc_info=(typ, value, tb) if typ and value else None,
            )


def route(handler: type[Handler]) -> tuple[str, type[Handler]]:
    """The routing rule of a handler: each `{part}` of its address is one argument."""
    return re.sub(r"\{\w+\}", "([^/]+)", handler.address), handler


class ServerOptions(Handler):
    """`OPTIONS *`: the methods of the whole server."""

    address = "*"

    def check_method(self) -> None:
        """Raises HTTPError 404: `*` is no address, and has no other method."""
        if self.request.method != "OPTIONS":
            raise HTTPError(404)

    @classmethod
    @functools.cache
    def methods(cls) -> list[str]:
        """The methods that some address has."""
        return ["GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"]


class UnknownAddress(Handler):
    """Every address that no route has."""

    def check_method(self) -> None:
        """Raises HTTPError 404."""
        raise HTTPError(404)
