"""What a real cloud has not: /sim, to read, reset and trouble the simulated one.

/sim asks for no token: whoever reaches the sim may steer it, so it listens on loopback, or in a network of containers.
"""

from dataclasses import asdict

from vmsvc.sim.handler import ServiceHandler
from vmsvc.sim.refusal import bad_request, not_found
from vmsvc.sim.servers import Server


class SimHandler(ServiceHandler):
    """Errors are `{"error": text}`. Faults do not meet these calls, and the log of calls leaves them out."""

    service = "sim"
    needs_token = False

    async def prepare(self) -> None:
        """No token, no faults, no log."""

    def refuse(self, status: int, message: str) -> None:
        self.reply(status, {"error": message})

    def values(self) -> dict:
        """The body, {} without one."""
        return self.body() if self.request.body else {}

    def one_server(self, key: str) -> Server:
        """A server that is not gone, by id or by name."""
        servers = self.cloud.servers
        server = servers.all.get(key) or next((each for each in servers.live(None) if each.name == key), None)
        if server is None or server.gone:
            raise not_found(f"no server {key}")
        return server


class State(SimHandler):
    """GET /sim/state; DELETE /sim/state resets (`?tokens=1` ends the tokens too)."""

    def get(self) -> None:
        """All of it in short."""
        cloud = self.cloud
        hosts = [{**asdict(host), "up": cloud.hosts.is_up(host),
                  "inventories": cloud.placement.providers[host.provider_id].inventories,
                  "used": cloud.placement.usage(cloud.placement.providers[host.provider_id]),
                  "servers": list(cloud.servers.on_host.get(host.name, ()))} for host in cloud.hosts.all.values()]
        servers = [] if self.query.get("servers") == "0" else [self._server(each) for each in cloud.servers.live(None)]
        self.reply(200, {"now": cloud.clock.now(), "settings": asdict(cloud.settings), "hosts": hosts,
                         "servers": servers, "projects": {each.name: each.id
                                                          for each in cloud.identity.projects.values()},
                         "faults": [fault.view() for fault in self.world.faults.all.values()],
                         "troubles": [asdict(trouble) for trouble in cloud.troubles.all.values()],
                         "tokens": len(cloud.identity.tokens), "ports": len(cloud.ports.all)})

    @staticmethod
    def _server(server: Server) -> dict:
        return {"id": server.id, "name": server.name, "project_id": server.project_id, "status": server.status,
                "task_state": server.task_state, "host": server.chosen, "metadata": server.metadata,
                "tags": server.tags, "step": server.step}

    def delete(self) -> None:
        """As new."""
        self.world.release()
        self.world.faults.clear()
        self.world.calls.reset()
        self.cloud.reset(keep_tokens=self.query.get("tokens") != "1")
        self.reply(204)


class Settings(SimHandler):
    """GET and PUT /sim/settings."""

    def get(self) -> None:
        """All."""
        self.reply(200, asdict(self.cloud.settings))

    def put(self) -> None:
        """Change some."""
        self.cloud.settings.change(self.values())
        self.cloud.keep_settings()
        self.get()


class ClockHandler(SimHandler):
    """GET /sim/clock; POST {"advance": seconds} and {"frozen": true}."""

    def get(self) -> None:
        """The time."""
        self.reply(200, {"now": self.cloud.clock.now(), "frozen": self.cloud.clock.frozen_at is not None})

    def post(self) -> None:
        """Move or stop it."""
        values = self.values()
        if "frozen" in values:
            self.cloud.clock.freeze(bool(values["frozen"]))
        seconds = values.get("advance", 0)
        if not isinstance(seconds, (int, float)) or seconds < 0:
            raise bad_request("advance must be seconds, 0 or more")
        self.cloud.advance(seconds)
        self.get()


class FaultsHandler(SimHandler):
    """/sim/faults: faults of the wire (see `faults.ACTIONS`) and troubles of servers (see `troubles.KINDS`)."""

    def get(self) -> None:
        """What is registered, with hits."""
        self.reply(200, {"faults": [fault.view() for fault in self.world.faults.all.values()],
                         "troubles": [asdict(trouble) for trouble in self.cloud.troubles.all.values()]})

    def post(self) -> None:
        """Register one: with `action` a fault of the wire, with `kind` a trouble."""
        values = self.values()
        if "kind" in values:
            self.reply(201, asdict(self.cloud.troubles.add(values)))
        else:
            self.reply(201, self.world.faults.add(values).view())

    def delete(self) -> None:
        """Forget all; what hangs is cut."""
        self.world.faults.clear()
        self.cloud.troubles.clear()
        self.world.release()
        self.reply(204)


class OneFault(SimHandler):
    """DELETE /sim/faults/{id} and /sim/troubles/{id}."""

    def delete(self, kind: str, key: str) -> None:
        """Forget one."""
        (self.world.faults if kind == "faults" else self.cloud.troubles).remove(key)
        self.reply(204)


class CallsHandler(SimHandler):
    """GET and DELETE /sim/calls."""

    def get(self) -> None:
        """`service`, `method`, `path` (regular expression), `status`, `since` (a seq) select."""
        query, calls = self.query, self.world.calls
        found = calls.select(service=query.get("service"), method=query.get("method"), path=query.get("path", ""),
                             since=int(query.get("since", 0)), status=int(query["status"]) if "status" in query
                             else None)
        self.reply(200, {"count": len(found), "last": calls.total, "in_flight": calls.in_flight,
                         "most_in_flight": calls.most_in_flight, "counts": dict(calls.counts),
                         "calls": found[-int(query.get("limit", 1000)):]})

    def delete(self) -> None:
        """Forget all."""
        self.world.calls.reset()
        self.reply(204)


routes = [
    (r"/sim/state", State), (r"/sim/settings", Settings), (r"/sim/clock", ClockHandler),
    (r"/sim/faults", FaultsHandler), (r"/sim/(faults|troubles)/(\d+)", OneFault), (r"/sim/calls", CallsHandler),
]
