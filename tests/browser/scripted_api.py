"""The service as the page sees it, with answers that a test dictates: for what a real one seldom does on demand."""

import asyncio
import base64
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler, StaticFileHandler
from tornado.websocket import WebSocketHandler

STATIC = Path(__file__).parents[2] / "static"
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
          "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'")
LIMIT = 30  # seconds that a test thread waits for the server's thread



def _host(name: str, standard: int, preemptible: int, reserved: int = 0, *, foreign: int = 0,
          available: bool = True) -> dict[str, Any]:
    """A host of 4 vCPUs and 8 GiB; the amounts are vCPUs with 2 GiB each."""
    amounts = {"standard": standard, "preemptible": preemptible, "foreign": foreign, "reserved": reserved,
               "used": standard + preemptible + foreign, "capacity": 4, "reclaimable": preemptible,
               "free": 4 - standard - preemptible - foreign - reserved}
    return {"name": name, "available": available, "availability_zone": "nova",
            **{part: {"VCPU": amount, "MEMORY_MB": 2048 * amount} for part, amount in amounts.items()}}


ROOM = {
    "mode": "operator",
    "quota": {"limit": {"instances": 20, "cores": 16, "ram": 40960}, "used": {"instances": 9, "cores": 10, "ram": 20480},
              "standard": {"instances": 4, "cores": 5, "ram": 10240},
              "preemptible": {"instances": 4, "cores": 4, "ram": 8192}, "reserved": {"cores": 2, "ram": 4096},
              "reclaimable": {"instances": 4, "cores": 4, "ram": 8192},
              "free": {"instances": 11, "cores": 4, "ram": 16384}},
    "hosts": [_host("bed-1", 2, 2), _host("bed-2", 1, 1, 2), _host("bed-3", 2, 0, foreign=1),
              _host("bed-4", 0, 1, available=False)],
    "flavors": [{"name": "m1.tiny", "fits_now": 1, "fits_after_evictions": 6},
                {"name": "m1.small", "fits_now": 1, "fits_after_evictions": 5},
                {"name": "m1.medium", "fits_now": 0, "fits_after_evictions": 2},
                {"name": "m1.large", "fits_now": 0, "fits_after_evictions": 0}],
}


class _Base(RequestHandler):
    """What all answers share: the policy of the real service, and a Date of the scripted clock."""

    def initialize(self, api: "ScriptedApi") -> None:
        """Keep the script."""
        self.api = api

    def set_default_headers(self) -> None:
        """The headers of the real service."""
        self.set_header("Cache-Control", "no-store")

    def prepare(self) -> None:
        """Note the request; date the answer."""
        self.set_header("Date", format_datetime(self.api.now(), usegmt=True))
        self.api.requests.append((self.request.method, self.request.path, dict(self.request.headers),
                                  json.loads(self.request.body or b"null")))
        if self.api.token is not None and "/api/" in self.request.path and not self._signed_in(self.api.token):
            self.set_header("WWW-Authenticate", "Bearer")
            self.fail(401, "unauthenticated", "Say who you are.")

    def _signed_in(self, token: str) -> bool:
        offered = self.request.headers.get("Sec-WebSocket-Protocol", "")
        bearer = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
        return (self.request.headers.get("Authorization") == f"Bearer {token}"
                or f"bearer.{bearer}" in offered.split(", "))

    def fail(self, status: int, slug: str, message: str) -> None:
        """An error in the contract's shape."""
        self.set_status(status)
        self.finish({"code": str(status), "error": slug, "message": message, "message:": message, "request_id": "r-1"})


class _Vms(_Base):
    """`/api/v1/vm`."""

    async def get(self) -> None:
        """The list as scripted; a new one is made for every answer, as the database would."""
        if self.api.list_failure:
            self.fail(*self.api.list_failure)
            return
        self.finish({"servers": list(self.api.servers.values()), "seq": self.api.seq})

    async def post(self) -> None:
        """What the script says, else a VM that is active at once."""
        body = json.loads(self.request.body)
        if self.api.create_failure:
            self.fail(*self.api.create_failure)
        elif self.get_query_argument("dry_run", "") == "true":
            self.finish(self.api.plan)
        else:
            vm = self.api.boot(body)
            self.set_status(202 if self.api.building else 201)
            self.finish({"code": "201", "message": "ok", "vm": vm, "evicted": []})


class _Vm(_Base):
    """`/api/v1/vm/{id}`."""

    async def delete(self, vm_id: str) -> None:
        """Gone at once, or what the script says."""
        if self.api.delete_failure:
            self.fail(*self.api.delete_failure)
            return
        vm = next(vm for vm in self.api.servers.values() if vm["id"] == vm_id)
        self.api.tell("delete", "deleting", vm)
        self.api.tell("delete", "deleted", vm)
        self.finish({"code": "204", "message": f"vm {vm_id} was deleted succesfully"})


class _Capacity(_Base):
    """`/api/v1/capacity`."""

    async def get(self) -> None:
        """As scripted."""
        self.finish(self.api.room)


class _Events(WebSocketHandler, _Base):
    """`/api/v1/events`: pages of history, and the channel."""

    async def get(self, *args: Any, **kwargs: Any) -> None:
        """History, or an upgrade."""
        if self.request.headers.get("Upgrade", "").lower() == "websocket":
            if self.api.refusing:
                self.set_status(503)
                self.finish()
                return
            await super().get(*args, **kwargs)
            return
        since = int(self.get_query_argument("since", str(self.api.removed)))
        vm = self.get_query_argument("vm", None)
        if since < self.api.removed:
            self.fail(410, "history_gone", f"events up to {self.api.removed} are no longer kept")
            return
        found = [event for event in self.api.events if event["data"]["seq"] > since
                 and (vm is None or vm in (event["subject"], event["data"]["vm"].get("vmsvc_id")))]
        self.finish({"events": found[:int(self.get_query_argument("limit", "100"))], "seq": self.api.seq})

    def open(self, *args: str, **kwargs: str) -> None:
        """Send what came after `since`, then live."""
        since = int(self.get_query_argument("since"))
        self.api.connects.append(since)
        if since < self.api.removed:
            self.close(4009, "history gone")
            return
        self.api.sockets.add(self)
        for event in self.api.events:
            if event["data"]["seq"] > since:
                self.write_message(json.dumps(event))

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """Never the one that carries a token."""
        return "vmsvc" if "vmsvc" in subprotocols else None

    def on_message(self, message: str | bytes) -> None:
        """The page never speaks."""

    def on_close(self) -> None:
        """Forget the socket."""
        self.api.sockets.discard(self)


class _Index(_Base):
    """The page itself."""

    async def get(self) -> None:
        """index.html under the service's policy."""
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish((STATIC / "index.html").read_bytes())


class ScriptedApi:
    """A server in a thread of its own. Fields may be set by the test at any time; the methods may be called from it.

    `servers` is the cloud by vmsvc id (or the cloud's), `removed` the newest seq that history no longer has,
    `refusing` turns upgrades down, `building` leaves new VMs unfinished (202), the `*_failure` fields are (status, slug, message).
    """

    def __init__(self, prefix: str = "/", skew: timedelta = timedelta()):
        self.prefix, self.skew = prefix, skew
        self.servers: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.room: dict[str, Any] = ROOM
        self.plan: dict[str, Any] = {"result": "placed", "host": "bed-3", "victims": []}
        self.token: str | None = None
        self.create_failure: tuple[int, str, str] | None = None
        self.delete_failure: tuple[int, str, str] | None = None
        self.list_failure: tuple[int, str, str] | None = None
        self.refusing = self.building = False
        self.seq = self.removed = 0
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.connects: list[int] = []
        self.sockets: set[_Events] = set()
        self._loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stopped: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)
        self._thread.start()
        assert self._ready.wait(LIMIT)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    def now(self) -> datetime:
        """The server's clock."""
        return datetime.now(UTC) + self.skew

    def instant(self, seconds: float = 0) -> str:
        """A moment so many seconds from now, as the service writes it."""
        moment = self.now() + timedelta(seconds=seconds)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def add(self, name: str, *, preemptible: bool = False, state: str = "active", age: float = 0,
            **fields: Any) -> dict[str, Any]:
        """A VM of ours that the list shows; no event."""
        number = len(self.servers) + 1
        vm = {"id": f"c{number:07d}-0000-4000-8000-000000000000", "vmsvc_id": f"v{number:07d}", "name": name,
              "status": "ACTIVE", "state": state, "is_preemptible": preemptible, "priority": 0, "flavor": "m1.small",
              "host": f"bed-{number % 3 + 1}", "image": "bed-image", "network": "bed-net",
              "created_at": self.instant(-age), "evict_at": None, **fields}
        self.servers[vm["vmsvc_id"]] = vm
        return vm

    def emit(self, kind: str, state: str, vm: dict[str, Any], **data: Any) -> int:
        """Write an event and send it to every socket; returns its seq. To be called from the test."""
        return self._call(lambda: self.tell(kind, state, vm, **data))

    def tell(self, kind: str, state: str, vm: dict[str, Any], **data: Any) -> int:
        """The same, from the server's own thread."""
        vm = {**vm, "state": "active" if state == "reprieved" else state}
        if state in ("evicted", "deleted", "failed", "lost"):
            self.servers.pop(vm["vmsvc_id"], None)
        else:
            self.servers[vm["vmsvc_id"]] = vm
        self.seq += 1
        event = {"specversion": "1.0", "id": str(self.seq), "source": "/vmsvc", "type": kind, "subject": vm["id"],
                 "time": self.instant(), "datacontenttype": "application/json",
                 "data": {"seq": self.seq, "state": state, "vm": vm, **data}}
        self.events.append(event)
        for socket in self.sockets:
            socket.write_message(json.dumps(event))
        return self.seq

    def notice(self, vm: dict[str, Any], seconds: float, **data: Any) -> dict[str, Any]:
        """Tell a VM that it goes in so many seconds; returns it as it is then."""
        evict_at = self.instant(seconds)
        vm = {**vm, "evict_at": evict_at, "state": "noticed"}
        self.emit("evict", "noticed", vm, evict_at=evict_at, grace_seconds=seconds, **data)
        return vm

    def boot(self, body: dict[str, Any]) -> dict[str, Any]:
        """A VM that was asked for, with its three events. From the server's own thread."""
        vm = self.add(body.get("name", "standart"), preemptible=body["is_preemptible"],
                      **{key: value for key, value in body.items() if key not in ("is_preemptible", "name")})
        for state in ("pending", "building") if self.building else ("pending", "building", "active"):
            self.tell("create", state, vm)
        return vm

    def drop(self, code: int = 1012) -> None:
        """Close every socket with this code."""
        def close() -> None:
            for socket in tuple(self.sockets):
                self.sockets.discard(socket)
                socket.close(code)
        self._call(close)

    def break_off(self) -> None:
        """End every connection of the channel without a word, as a cut wire does."""
        def cut() -> None:
            for socket in tuple(self.sockets):
                self.sockets.discard(socket)
                if socket.ws_connection is not None:
                    socket.ws_connection.stream.close()
        self._call(cut)

    def stop(self) -> None:
        """End the server and its thread."""
        self._call(lambda: self._stopped and self._stopped.set())
        self._thread.join(LIMIT)

    def _call(self, work: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return work()
        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(LIMIT)

    async def _serve(self) -> None:
        self._stopped = asyncio.Event()
        common = {"api": self}
        application = Application([
            (self.prefix, _Index, common),
            (f"{self.prefix}api/v1/vm", _Vms, common),
            (f"{self.prefix}api/v1/vm/([^/]+)", _Vm, common),
            (f"{self.prefix}api/v1/capacity", _Capacity, common),
            (f"{self.prefix}api/v1/events", _Events, common),
            (f"{self.prefix}static/(.*)", StaticFileHandler, {"path": str(STATIC)}),
        ], log_function=lambda handler: None)
        sockets = bind_sockets(0, "127.0.0.1")
        self.port = sockets[0].getsockname()[1]
        server = HTTPServer(application)
        server.add_sockets(sockets)
        self._ready.set()
        await self._stopped.wait()
        server.stop()
        for socket in tuple(self.sockets):
            socket.close()
        await server.close_all_connections()
