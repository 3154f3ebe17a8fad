"""What the handlers of all services share: tokens, faults, the log of calls, and the commit before an answer."""

import asyncio
import json
import uuid
from dataclasses import dataclass, field

from tornado.iostream import StreamClosedError
from tornado.web import Finish, RequestHandler

from vmsvc.sim.calls import Calls
from vmsvc.sim.clock import http_date
from vmsvc.sim.cloud import Cloud
from vmsvc.sim.faults import Fault, Faults
from vmsvc.sim.identity import Token
from vmsvc.sim.refusal import Refused, bad_request

UNAUTHORIZED = {"error": {"code": 401, "title": "Unauthorized",
                          "message": "The request you have made requires authentication."}}
REASONS = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 406: "Not Acceptable",
           409: "Conflict", 500: "Internal Server Error", 503: "Service Unavailable"}


@dataclass
class World:
    """What every handler is given."""

    cloud: Cloud
    faults: Faults = field(default_factory=Faults)
    calls: Calls = field(default_factory=Calls)
    released: asyncio.Event = field(default_factory=asyncio.Event)  # set: hanging requests end

    def release(self) -> None:
        """End all requests that hang or are delayed now."""
        self.released.set()
        self.released = asyncio.Event()


class ServiceHandler(RequestHandler):
    """Base of all imitated services. A subclass says `service` and shapes refusals in `refuse`."""

    service = ""
    needs_token = True
    content_type = "application/json"
    token: Token | None = None
    _spoilers: tuple[Fault, ...] = ()
    _spoiling = False
    _call: dict | None = None

    def __init__(self, application, request, world: World):
        self.world = world
        self.cloud = world.cloud
        self.request_id = f"req-{uuid.uuid4()}"
        self._closed = asyncio.Event()
        super().__init__(application, request)

    def data_received(self, chunk: bytes) -> None:
        """Bodies come whole."""

    async def prepare(self) -> None:  # pylint: disable=invalid-overridden-method
        """Log the call, meet its faults, find out who asks."""
        known = self.cloud.identity.token(self.request.headers.get("X-Auth-Token"))
        user = self.cloud.identity.users[known.user_id].name if known else None
        self._call = self.world.calls.begin(self.service, self.request.method, self.request.uri, user,
                                            self.cloud.clock.now(), self.request.headers.get("X-Openstack-Request-Id"))
        await self._meet_faults()
        self.token = self.cloud.identity.token(self.request.headers.get("X-Auth-Token"))
        self.negotiate()
        if self.needs_token and (self.token is None or self.token.project_id is None):
            self.unauthorized()

    def negotiate(self) -> None:
        """Find the microversion."""

    def set_default_headers(self) -> None:
        """Names as the real services write them."""
        self.set_header("Server", "sim")

    def compute_etag(self) -> None:
        """Nova, Placement and Keystone send none."""

    @property
    def base(self) -> str:
        """The address that clients used."""
        return f"{self.request.protocol}://{self.request.host}"

    @property
    def query(self) -> dict[str, str]:
        """The last value of each query parameter."""
        return {name: values[-1].decode() for name, values in self.request.query_arguments.items()}

    def body(self) -> dict:
        """The JSON object of the request; 400 otherwise."""
        try:
            body = json.loads(self.request.body)
        except ValueError:
            raise bad_request("Malformed request body") from None
        if not isinstance(body, dict):
            raise bad_request("Malformed request body")
        return body

    def reply(self, status: int, body: object = None) -> None:
        """Answer with JSON (None: no body)."""
        self.set_status(status)
        if body is None:
            if status != 204:
                self.set_header("Content-Length", "0")
            self.clear_header("Content-Type")
            self.finish()
            return
        self.set_header("Content-Type", self.content_type)
        self.finish(json.dumps(body))

    def unauthorized(self) -> None:
        """401 (measured)."""
        self.set_header("WWW-Authenticate", f'Keystone uri="{self.base}/identity/v3"')
        self.reply(401, UNAUTHORIZED)
        raise Finish()

    def refuse(self, status: int, message: str) -> None:
        """Answer a refusal in the service's shape."""
        raise NotImplementedError

    def write_error(self, status_code: int, **kwargs) -> None:
        """Refusals of the model, and defects, in the service's shape."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, Refused):
            self.refuse(error.status, error.message)
        else:
            self.refuse(status_code, self._reason)

    def log_exception(self, typ, value, tb) -> None:
        """A refusal is no error of ours."""
        if not isinstance(value, Refused):
            super().log_exception(typ, value, tb)

    def send_error(self, status_code: int = 500, **kwargs) -> None:
        """Keep the headers that were set (Tornado would clear the microversion's)."""
        if self._headers_written:
            super().send_error(status_code, **kwargs)
            return
        self.set_status(status_code)
        self.write_error(status_code, **kwargs)

    def finish(self, chunk=None):
        """Commit first: what is answered survives a kill. Then send, unless a fault spoils the answer."""
        if self._spoiling:  # Tornado finishes for us when the method returns; the fault has the word.
            return None
        self.cloud.store.commit()
        self.set_header("Date", http_date(self.cloud.clock.now()))
        self.set_header("x-openstack-request-id", self.request_id)
        if self._spoilers:
            spoiler, self._spoilers = self._spoilers[0], self._spoilers[1:]
            self._spoiling = True
            return asyncio.ensure_future(self._spoil(spoiler, chunk))
        return super().finish(chunk)

    def on_finish(self) -> None:
        """Close the entry in the log."""
        if self._call is not None:
            self.world.calls.end(self._call, self.get_status())
            self._call = None

    def on_connection_close(self) -> None:
        """The client went away before its answer."""
        self._closed.set()
        if self._call is not None:
            self.world.calls.end(self._call, None)
            self._call = None

    # Faults

    async def _meet_faults(self) -> None:
        text = self.request.body.decode(errors="replace") if self.world.faults.all else ""
        met = self.world.faults.met(self.service, self.request.method, self.request.uri, text)
        self._spoilers = tuple(fault for fault in met if fault.action.endswith("_after")
                               or fault.action in ("cut_body", "half_json", "html"))
        for fault in met:
            if fault in self._spoilers:
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
                self._spoilers = ()
                self._answer(fault)
                raise Finish()

    async def _spoil(self, fault: Fault, chunk) -> None:
        if fault.action.startswith(("delay", "hang")):
            await self._pause(fault.seconds if fault.action == "delay_after" else None)
        self._spoiling = False
        if fault.action == "delay_after":
            self.finish(chunk)
        elif fault.action == "status_after":
            self._answer(fault)
        elif fault.action == "html":
            self.set_header("Content-Type", "text/html")
            self.set_status(200)
            super().finish("<html><body><h1>It works!</h1></body></html>")
        elif fault.action == "half_json":
            super().finish((chunk or "{}")[:max(1, len(chunk or "{}") // 2)])
        elif fault.action == "cut_body":
            await self._send_half(chunk or "{}")
        else:
            self._cut(raising=False)

    async def _pause(self, seconds: float | None) -> None:
        """Wait so long (None: for ever), at most until the faults are cleared or the client has left."""
        ends = [asyncio.ensure_future(event.wait()) for event in (self.world.released, self._closed)]
        await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()

    def _answer(self, fault: Fault) -> None:
        self.set_status(fault.status, REASONS.get(fault.status, "Simulated"))
        body = fault.body if fault.action != "echo" else {"error": {
            "message": f"{self.request.headers.get('X-Auth-Token')} {self.request.body.decode(errors='replace')}"}}
        if not isinstance(body, str):
            self.set_header("Content-Type", "application/json")
            body = json.dumps({} if body is None else body)
        for name, value in fault.headers.items():
            self.set_header(name, value)
        self.finish(body)

    async def _send_half(self, chunk: str) -> None:
        """Headers that promise all of it, half of the body, and the end of the connection."""
        lines = [f"HTTP/1.1 {self.get_status()} OK", f"Content-Length: {len(chunk)}", "Content-Type: application/json"]
        head = "\r\n".join(lines) + "\r\n\r\n"
        stream = self.request.connection.stream
        try:
            await stream.write((head + chunk[:max(1, len(chunk) // 2)]).encode())
        except StreamClosedError:
            pass
        self._cut(raising=False)

    def _cut(self, raising: bool = True) -> None:
        """Close the connection without an answer."""
        self._finished = True
        self.on_connection_close()
        self.request.connection.stream.close()
        if raising:
            raise Finish()
