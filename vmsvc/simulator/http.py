"""The base of the HTTP handlers of all services: tokens, faults, the log of calls, and the commit before an answer."""

import asyncio
import json
import re
import uuid
from collections import Counter, deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NoReturn, cast
from urllib.parse import parse_qs

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPServerRequest
from tornado.iostream import IOStream, StreamClosedError
from tornado.web import Application, Finish, RequestHandler

from vmsvc.simulator.clock import http_date
from vmsvc.simulator.cloud import Cloud
from vmsvc.simulator.errors import ApiError, bad_request
from vmsvc.simulator.faults import HTTP_ACTIONS, HttpFault, HttpFaults
from vmsvc.simulator.keystone.model import Token

UNAUTHORIZED = {
    "error": {"code": 401, "title": "Unauthorized", "message": "The request you have made requires authentication."}
}
REASONS = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    406: "Not Acceptable",
    409: "Conflict",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
#: The sentence with which WebOb begins an error.
PLAIN_TEXTS = {404: "The resource could not be found."}
#: Ids within a path, which the counts of calls leave out.
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")


class CallLog:
    """The last calls of clients, and how many there were of each kind since the last reset, for tests that assert which
    calls were made."""

    def __init__(self, size: int = 20000):
        self.log: deque[dict[str, Any]] = deque(maxlen=size)
        self.counts: Counter[str] = Counter()
        self.total = 0
        self.in_flight = 0
        self.most_in_flight = 0

    def begin(
        self, service: str, method: str, uri: str, user: str | None, at: float, global_request_id: str | None = None
    ) -> dict[str, Any]:
        """Add a call that has arrived. Its `status` is None until it is answered."""
        self.total += 1
        path = uri.partition("?")[0]
        call = {
            "seq": self.total,
            "at": at,
            "service": service,
            "method": method,
            "path": path,
            "uri": uri,
            "user": user,
            "global_request_id": global_request_id,
            "status": None,
        }
        self.log.append(call)
        self.counts[f"{method} {ID.sub('{id}', path)}"] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        return call

    def end(self, call: dict[str, Any], status: int | None) -> None:
        """Set the status that a call was answered with; None when its connection was cut."""
        call["status"] = status
        self.in_flight -= 1

    def select(
        self,
        *,
        service: str | None = None,
        method: str | None = None,
        path: str = "",
        since: int = 0,
        status: int | None = None,
    ) -> list[dict[str, Any]]:
        """The calls after number `since` that match. `path` is a regular expression for the path with its query."""
        return [
            call
            for call in self.log
            if call["seq"] > since
            and service in (None, call["service"])
            and method in (None, call["method"])
            and status in (None, call["status"])
            and re.search(path, call["uri"])
        ]

    def reset(self) -> None:
        self.log.clear()
        self.counts.clear()
        self.most_in_flight = self.in_flight


@dataclass
class Context:
    """What the handlers of all services share. `released` is set when hanging requests are to end."""

    cloud: Cloud
    http_faults: HttpFaults = field(default_factory=HttpFaults)
    calls: CallLog = field(default_factory=CallLog)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        """End all requests that hang or are delayed now."""
        self.released.set()
        self.released = asyncio.Event()


class ServiceHandler(RequestHandler):
    """Base of the handlers of all services. A subclass sets `service` and gives refusals their form in `refuse`."""

    service = ""
    requires_token = True
    content_type = "application/json"
    _token: Token | None = None
    _faults_after: tuple[HttpFault, ...] = ()
    _answering_with_fault = False
    _call: dict[str, Any] | None = None

    def __init__(self, application: Application, request: HTTPServerRequest, context: Context):
        self.context = context
        self.cloud = context.cloud
        self.request_id = f"req-{uuid.uuid4()}"
        self._closed = asyncio.Event()
        super().__init__(application, request)

    def data_received(self, chunk: bytes) -> None:
        """Not called: the bodies of requests are not streamed."""

    async def prepare(self) -> None:  # pylint: disable=invalid-overridden-method
        """Log the call, apply the faults that it meets, find its token and its microversion."""
        token = self.cloud.identity.token(self.request.headers.get("X-Auth-Token"))
        user = self.cloud.identity.users[token.user_id].name if token else None
        self._call = self.context.calls.begin(
            self.service,
            self.request.method or "",
            self.request.uri or "",
            user,
            self.cloud.clock.now(),
            self.request.headers.get("X-Openstack-Request-Id"),
        )
        await self._apply_faults()
        self._token = self.cloud.identity.token(self.request.headers.get("X-Auth-Token"))
        self.negotiate()
        if self.requires_token and (self._token is None or not self._token.project_id):
            self.unauthorized()

    @property
    def token(self) -> Token:
        """The token of the call. Raises Finish, after a 401, where it has none that is valid."""
        return self._token or self.unauthorized()

    def negotiate(self) -> None:
        """Set the microversion of the request, where the service has any."""

    def set_default_headers(self) -> None:
        self.set_header("Server", "sim")

    def compute_etag(self) -> None:
        """No ETag: Nova, Placement and Keystone send none."""

    @property
    def base(self) -> str:
        """The address under which the client reached this process."""
        return f"{self.request.protocol}://{self.request.host}"

    @property
    def stream(self) -> IOStream:
        """The connection to the client."""
        return cast(HTTP1Connection, self.request.connection).stream

    @property
    def query(self) -> dict[str, str]:
        """The last value of each query parameter."""
        return {name: values[-1].decode() for name, values in self.request.query_arguments.items()}

    @property
    def queries(self) -> dict[str, list[str]]:
        """All values of each query parameter, empty ones too."""
        return parse_qs(self.request.query, keep_blank_values=True)

    def body(self) -> dict[str, Any]:
        """The JSON object of the request's body. Raises ApiError 400 for anything else."""
        try:
            body = json.loads(self.request.body)
        except ValueError:
            raise bad_request("Malformed request body") from None
        if not isinstance(body, dict):
            raise bad_request("Malformed request body")
        return body

    def reply(self, status: int, body: object = None) -> None:
        """Answer with JSON, or without a body."""
        self.set_status(status)
        if body is None:
            if status != 204:
                self.set_header("Content-Length", "0")
            self.clear_header("Content-Type")
            self.finish()
            return
        self.set_header("Content-Type", self.content_type)
        self.finish(json.dumps(body))

    def unauthorized(self) -> NoReturn:
        """Answer 401 (measured). Raises Finish."""
        self.set_header("WWW-Authenticate", f'Keystone uri="{self.base}/identity/v3"')
        self.reply(401, UNAUTHORIZED)
        raise Finish()

    def refuse(self, status: int, message: str) -> None:
        """Answer a refusal in the service's form."""
        raise NotImplementedError

    def plain_error(self, status: int, message: str, with_lead: bool = True) -> None:
        """Answer an error as WebOb does, which all services use somewhere: JSON for a client that accepts it, else
        plain text (measured)."""
        title, self.content_type = REASONS.get(status, "Error"), "application/json"
        lead = PLAIN_TEXTS.get(status, "") if with_lead else ""
        if "json" in self.request.headers.get("Accept", ""):
            text = f"{lead}<br /><br />\n{message}\n\n" if lead else f"{message}<br /><br />\n\n\n"
            self.reply(status, {"message": text, "code": f"{status} {title}", "title": title})
            return
        self.set_status(status)
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.finish(f"{status} {title}\n\n{lead}\n\n {message}  " if lead else f"{status} {title}\n\n{message}\n\n   ")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer an ApiError, or a defect of the simulator, in the service's form."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, ApiError):
            self.refuse(error.status, error.message)
        else:
            self.refuse(status_code, self._reason)

    def log_exception(
        self, typ: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Log defects of the simulator, and not its refusals."""
        if not isinstance(value, ApiError):
            super().log_exception(typ, value, tb)

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """As Tornado's, without clearing the headers: that of the microversion has to stay."""
        if self._headers_written:
            super().send_error(status_code, **kwargs)
            return
        self.set_status(status_code)
        self.write_error(status_code, **kwargs)

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> "asyncio.Future[None]":
        """Commit what was changed, then send the answer, unless a fault puts another one in its place."""
        if self._answering_with_fault:  # Tornado calls this when the method returns, but the fault answers.
            ignored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            ignored.set_result(None)
            return ignored
        self.cloud.store.commit()
        self.set_header("Date", http_date(self.cloud.clock.now()))
        self.set_header("x-openstack-request-id", self.request_id)
        if self._faults_after:
            fault, self._faults_after = self._faults_after[0], self._faults_after[1:]
            self._answering_with_fault = True
            return asyncio.ensure_future(self._answer_with(fault, chunk))
        return super().finish(chunk)

    def on_finish(self) -> None:
        if self._call is not None:
            self.context.calls.end(self._call, self.get_status())
            self._call = None

    def on_connection_close(self) -> None:
        """End the call in the log, without a status: the client closed the connection before its answer."""
        self._closed.set()
        if self._call is not None:
            self.context.calls.end(self._call, None)
            self._call = None

    # Faults

    async def _apply_faults(self) -> None:
        text = self.request.body.decode(errors="replace") if self.context.http_faults.all else ""
        method, uri = self.request.method or "", self.request.uri or ""
        matching = self.context.http_faults.matching(self.service, method, uri, text)
        self._faults_after = tuple(fault for fault in matching if HTTP_ACTIONS[fault.action] == "after")
        for fault in matching:
            if fault in self._faults_after:
                continue
            if fault.action == "delay":
                await self._pause(fault.seconds)
            elif fault.action == "revoke":
                self.cloud.identity.revoke_all()
            elif fault.action == "hang":
                await self._pause(None)
                self._cut()
            elif fault.action == "cut":
                self._cut()
            else:
                self._faults_after = ()
                self._answer(fault)
                raise Finish()

    async def _answer_with(self, fault: HttpFault, chunk: str | bytes | dict[str, Any] | None) -> None:
        if fault.action.startswith(("delay", "hang")):
            await self._pause(fault.seconds if fault.action == "delay_after" else None)
        self._answering_with_fault = False
        if fault.action == "delay_after":
            self.finish(chunk)
        elif fault.action == "status_after":
            self._answer(fault)
        elif fault.action == "html":
            self.set_header("Content-Type", "text/html")
            self.set_status(200)
            super().finish("<html><body><h1>It works!</h1></body></html>")
        elif fault.action == "half_json":
            super().finish(_half(_text(chunk)))
        elif fault.action == "cut_body":
            await self._send_half(_text(chunk))
        else:
            self._cut(raising=False)

    async def _pause(self, seconds: float | None) -> None:
        """Wait for so many seconds (None: for ever), at most until the faults are cleared or the client has closed its
        connection."""
        ends = [asyncio.ensure_future(event.wait()) for event in (self.context.released, self._closed)]
        await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()

    def _answer(self, fault: HttpFault) -> None:
        self.set_status(fault.status, REASONS.get(fault.status, "Simulated"))
        body = fault.body
        if fault.action == "echo":
            token, sent = self.request.headers.get("X-Auth-Token"), self.request.body.decode(errors="replace")
            body = {"error": {"message": f"{token} {sent}"}}
        if not isinstance(body, str):
            self.set_header("Content-Type", "application/json")
            body = json.dumps({} if body is None else body)
        for name, value in fault.headers.items():
            self.set_header(name, value)
        self.finish(body)

    async def _send_half(self, chunk: str) -> None:
        """Send headers that announce the whole body, half of the body, and close the connection."""
        lines = [f"HTTP/1.1 {self.get_status()} OK", f"Content-Length: {len(chunk)}", "Content-Type: application/json"]
        head = "\r\n".join(lines) + "\r\n\r\n"
        try:
            await self.stream.write((head + _half(chunk)).encode())
        except StreamClosedError:
            pass
        self._cut(raising=False)

    def _cut(self, raising: bool = True) -> None:
        """Close the connection without an answer."""
        self._finished = True
        self.on_connection_close()
        self.stream.close()
        if raising:
            raise Finish()


def _text(chunk: str | bytes | dict[str, Any] | None) -> str:
    """A body as text; that of an answer without one is an empty object."""
    if isinstance(chunk, dict):
        return json.dumps(chunk)
    return (chunk.decode() if isinstance(chunk, bytes) else chunk) or "{}"


def _half(text: str) -> str:
    return text[: max(1, len(text) // 2)]
