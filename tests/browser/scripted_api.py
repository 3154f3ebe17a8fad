"""The service as the page sees it, with answers that a test dictates: for what a real one seldom does on demand."""

import asyncio
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, StaticFileHandler

from tests.browser.scripted_capacity import CAPACITY
from tests.browser.scripted_handlers import STATIC, Capacity, Events, Health, Index, Me, Ready, Tickets, Vm, Vms
from tests.browser.scripted_records import CATALOG, Catalog, Evictions, Practice, Release, Usage

LIMIT = 30  # seconds that a test thread waits for the server's thread


class ScriptedApi:
    """A server in a thread of its own. Fields may be set by the test at any time; the methods may be called from it.

    `servers` is the cloud by vmsvc id (or the cloud's), `removed` the newest seq that history no longer has,
    `refusing` turns upgrades down, `building` leaves new VMs unfinished (202),
    `holding` keeps back the list as it was when it was asked for, the `*_failure` fields are
    (status, slug, message).
    """

    def __init__(self, prefix: str = "/", skew: timedelta = timedelta()):
        self.prefix, self.skew = prefix, skew
        self.servers: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.capacity: dict[str, Any] = CAPACITY
        self.plan: dict[str, Any] = {"result": "placed", "host": "bed-3", "victims": []}
        self.views: dict[str, dict[str, Any]] = {}  # by the cloud's id: what only the view of one VM has
        self.asked_to_foresee: list[int] = []
        self.catalog: dict[str, Any] = CATALOG
        self.usage = {"standard": [1, 2, 4, 4], "preemptible": [0, 6, 4, 4], "evictions": [0, 0, 2, 1]}
        self.records: list[dict[str, Any]] = []
        self.token: str | None = None
        self.version = "1.2.3"
        self.me = {"name": "anonymous", "role": "member"}
        self.parts = {"cloud": "ok", "mirror": "ok", "feed": "ok"}
        self.tickets: set[str] = set()
        self.create_failure: tuple[int, str, str] | None = None
        self.capacity_failure: tuple[int, str, str] | None = None
        self.delete_failure: tuple[int, str, str] | None = None
        self.list_failure: tuple[int, str, str] | None = None
        self.catalog_failure: tuple[int, str, str] | None = None
        self.practice_failure: tuple[int, str, str] | None = None
        self.refusing = self.building = self.holding = False
        self.seq = self.removed = 0
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.connects: list[int] = []
        self.sockets: set[Events] = set()
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

    def add(
        self, name: str, *, preemptible: bool = False, state: str = "active", age: float = 0, **fields: Any
    ) -> dict[str, Any]:
        """A VM of ours that the list shows; no event."""
        number = len(self.servers) + 1
        vm = {
            "id": f"c{number:07d}-0000-4000-8000-000000000000",
            "vmsvc_id": f"v{number:07d}",
            "name": name,
            "status": "ACTIVE",
            "state": state,
            "is_preemptible": preemptible,
            "priority": 0,
            "flavor": "m1.small",
            "host": f"bed-{number % 3 + 1}",
            "image": "bed-image",
            "network": "bed-net",
            "created_at": self.instant(-age),
            "evict_at": None,
            **fields,
        }
        self.servers[vm["vmsvc_id"]] = vm
        return vm

    def find(self, vm_id: str) -> dict[str, Any]:
        """The VM with this id of the cloud's."""
        return next(vm for vm in self.servers.values() if vm["id"] == vm_id)

    def emit(self, kind: str, state: str, vm: dict[str, Any], **data: Any) -> int:
        """Write an event and send it to every socket; returns its seq. To be called from the test."""
        return self._call(lambda: self.tell(kind, state, vm, **data))

    def tell(self, kind: str, state: str, vm: dict[str, Any], **data: Any) -> int:
        """The same, from the server's own thread."""
        steps = {"reprieved": "active", "queued": "pending", "fell_back": "pending"}
        vm = {**vm, "state": steps.get(state, state)}
        if state in ("evicted", "deleted", "failed", "lost"):
            self.servers.pop(vm["vmsvc_id"], None)
        else:
            self.servers[vm["vmsvc_id"]] = vm
        self.seq += 1
        event = {
            "specversion": "1.0",
            "id": str(self.seq),
            "source": "/vmsvc",
            "type": kind,
            "subject": vm["id"],
            "time": self.instant(),
            "datacontenttype": "application/json",
            "data": {"seq": self.seq, "state": state, "vm": vm, **data},
        }
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
        vm = self.add(
            body.get("name", "standart"),
            preemptible=body["is_preemptible"],
            **{key: value for key, value in body.items() if key not in ("is_preemptible", "name")},
        )
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
        self._loop.close()

    def _call(self, work: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(LIMIT)

    async def _serve(self) -> None:
        self._stopped = asyncio.Event()
        application = Application(
            [
                (self.prefix, Index),
                (f"{self.prefix}healthz", Health),
                (f"{self.prefix}readyz", Ready),
                (f"{self.prefix}api/v1/me", Me),
                (f"{self.prefix}api/v1/vm", Vms),
                (f"{self.prefix}api/v1/tickets", Tickets),
                (f"{self.prefix}api/v1/vm/([^/]+)", Vm),
                (f"{self.prefix}api/v1/vm/([^/]+)/ack", Release),
                (f"{self.prefix}api/v1/vm/([^/]+)/evict", Practice),
                (f"{self.prefix}api/v1/evictions", Evictions),
                (f"{self.prefix}api/v1/capacity", Capacity),
                (f"{self.prefix}api/v1/usage", Usage),
                (f"{self.prefix}api/v1/catalog", Catalog),
                (f"{self.prefix}api/v1/events", Events),
                (f"{self.prefix}static/(.*)", StaticFileHandler, {"path": str(STATIC)}),
            ],
            api=self,
            log_function=lambda handler: None,
        )
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
