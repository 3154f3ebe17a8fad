"""The handlers of the scripted service: thin, and obedient to the script."""

import asyncio
import json
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from tornado.web import RequestHandler
from tornado.websocket import WebSocketHandler

from vmsvc.web.http.static_files import DASHBOARD_POLICY

STATIC = Path(__file__).parents[2] / "static"


class Base(RequestHandler):
    """What all answers share: the policy of the real service, and a Date of the scripted clock."""

    @property
    def api(self) -> Any:
        """The script."""
        return self.settings["api"]

    def data_received(self, chunk: bytes) -> None:
        """Bodies are read whole."""

    def set_default_headers(self) -> None:
        """The headers of the real service."""
        self.set_header("Cache-Control", "no-store")

    def prepare(self) -> None:
        """Note the request; date the answer."""
        self.set_header("Date", format_datetime(self.api.now(), usegmt=True))
        self.api.requests.append(
            (
                self.request.method,
                self.request.path,
                dict(self.request.headers),
                json.loads(self.request.body or b"null"),
            )
        )
        if self.api.token is not None and "/api/" in self.request.path and not self._signed_in(self.api.token):
            self.set_header("WWW-Authenticate", "Bearer")
            self.fail(401, "unauthenticated", "Say who you are.")

    def _signed_in(self, token: str) -> bool:
        if self.request.headers.get("Authorization") == f"Bearer {token}":
            return True
        ticket = self.get_query_argument("ticket", "")
        if ticket not in self.api.tickets:
            return False
        self.api.tickets.remove(ticket)
        return True

    def fail(self, status: int, slug: str, message: str) -> None:
        """An error in the contract's shape."""
        if status in (429, 503):
            self.set_header("Retry-After", "1")
        self.set_status(status)
        self.finish({"code": str(status), "error": slug, "message": message, "message:": message, "request_id": "r-1"})


class Tickets(Base):
    """`/api/v1/tickets`."""

    def post(self) -> None:
        """Make a ticket that opens one WebSocket."""
        ticket = f"ticket-{len(self.api.requests)}"
        self.api.tickets.add(ticket)
        self.set_status(201)
        self.finish({"ticket": ticket, "expires_in": 30})


class Health(Base):
    """`/healthz`, which is always well."""

    def get(self) -> None:
        self.finish({"status": "ok", "version": self.api.version})


class Me(Base):
    """`/api/v1/me`: name and role of who looks at the page."""

    def get(self) -> None:
        """The principal that the test has set."""
        self.finish(self.api.me)


class Ready(Base):
    """`/readyz`: what does not work."""

    def get(self) -> None:
        """503 while one of the parts that the test has set is not "ok"."""
        ready = all(text == "ok" for text in self.api.parts.values())
        self.set_status(200 if ready else 503)
        self.finish({"status": "ready" if ready else "not ready", "parts": self.api.parts})


class Vms(Base):
    """`/api/v1/vm`."""

    async def get(self) -> None:
        """Answer with the list as of this call, once the script no longer holds answers back."""
        if self.api.list_failure:
            self.fail(*self.api.list_failure)
            return
        answer = json.dumps({"servers": list(self.api.servers.values()), "seq": self.api.seq})
        while self.api.holding:
            await asyncio.sleep(0.02)
        self.set_header("Content-Type", "application/json")
        self.finish(answer)

    async def post(self) -> None:
        """Answer with the script's failure or dry run, else with a VM that is active (or building)."""
        body = json.loads(self.request.body)
        if self.api.create_failure:
            self.fail(*self.api.create_failure)
        elif self.get_query_argument("dry_run", "") == "true":
            self.api.asked_to_foresee.append(int(self.get_query_argument("count", "1")))
            self.finish(self.api.plan)
        else:
            vm = self.api.boot(body)
            self.set_status(202 if self.api.building else 201)
            self.finish({"code": "201", "message": "ok", "vm": vm, "evicted": []})


class Vm(Base):
    """`/api/v1/vm/{id}`."""

    def get(self, vm_id: str) -> None:
        """As it is, with what only the view of one VM has."""
        vm = next((vm for vm in self.api.servers.values() if vm_id in (vm["id"], vm.get("vmsvc_id"))), None)
        if vm is None:
            self.fail(404, "not_found", f"there is no vm {vm_id}")
        else:
            self.finish({"on_eviction": "end", "restarts_left": 0, "lineage": []} | vm | self.api.views.get(vm_id, {}))

    def patch(self, vm_id: str) -> None:
        """End the restarts of the VM's lineage, whatever the body asks for."""
        self.api.views[vm_id] |= {"on_eviction": "end", "restarts_left": 0}
        vm = self.api.find(vm_id)
        self.finish({"code": "200", "message": f"vm {vm_id} was changed", "vm": vm | self.api.views[vm_id]})

    async def delete(self, vm_id: str) -> None:
        """Gone at once, or what the script says."""
        if self.api.delete_failure:
            self.fail(*self.api.delete_failure)
            return
        vm = self.api.find(vm_id)
        self.api.tell("delete", "deleting", vm)
        self.api.tell("delete", "deleted", vm)
        self.finish({"code": "204", "message": f"vm {vm_id} was deleted succesfully"})


class Capacity(Base):
    """`/api/v1/capacity`."""

    async def get(self) -> None:
        """As scripted."""
        if self.api.capacity_failure:
            self.fail(*self.api.capacity_failure)
        else:
            self.finish(self.api.capacity)


class Events(WebSocketHandler, Base):
    """`/api/v1/events`: pages of history, and the channel."""

    async def get(self, *args: Any, **kwargs: Any) -> None:
        """History, or an upgrade."""
        if self.request.headers.get("Upgrade", "").lower() == "websocket":
            if self.api.refusing:
                self.set_status(503)
                self.finish()
                return
            await WebSocketHandler.get(self, *args, **kwargs)
            return
        since = int(self.get_query_argument("since", str(self.api.removed)))
        vm = self.get_query_argument("vm", None)
        if since < self.api.removed:
            self.fail(410, "history_gone", f"events up to {self.api.removed} are no longer kept")
            return
        found = [
            event
            for event in self.api.events
            if event["data"]["seq"] > since
            and (vm is None or vm in (event["subject"], event["data"]["vm"].get("vmsvc_id")))
        ]
        self.finish({"events": found[: int(self.get_query_argument("limit", "100"))], "seq": self.api.seq})

    def open(self, *args: str, **kwargs: str) -> None:
        """Send what came after `since`, then live."""
        del args, kwargs
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
        """The service's own."""
        return "vmsvc" if "vmsvc" in subprotocols else None

    def on_message(self, message: str | bytes) -> None:
        """The page never speaks."""

    def on_close(self) -> None:
        """Forget the socket."""
        self.api.sockets.discard(self)


class Index(Base):
    """The page itself."""

    async def get(self) -> None:
        """index.html under the service's policy."""
        self.set_header("Content-Security-Policy", DASHBOARD_POLICY)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish((STATIC / "index.html").read_bytes())
