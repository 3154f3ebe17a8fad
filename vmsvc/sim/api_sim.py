"""What a real cloud has not: /sim, to steer the simulated one; and what the guests would read of it.

/sim asks for no token: the sim listens on loopback only.
"""

from dataclasses import asdict

from vmsvc.sim.catalog import Flavor
from vmsvc.sim.handler import ServiceHandler
from vmsvc.sim.refusal import Refused, bad_request, not_found
from vmsvc.sim.servers import Server
from vmsvc.sim.views import ServerView


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


class HostsHandler(SimHandler):
    """POST /sim/hosts: {"name", "vcpus", "ram_mb", "disk_gb", "az", "node"}."""

    def post(self) -> None:
        """A new host."""
        try:
            host = self.cloud.hosts.add(**self.values())
        except TypeError as error:
            raise bad_request(str(error)) from None
        self.reply(201, asdict(host))


class OneHost(SimHandler):
    """PUT and DELETE /sim/hosts/{name}. PUT takes vcpus, ram_mb, disk_gb, reserved, ratio, az, alive, disabled,
    forced_down, refuses, cell_down, traits, aggregates."""

    def put(self, name: str) -> None:
        """Change it."""
        hosts, values = self.cloud.hosts, self.values()
        host = hosts.get(name)
        known = {"vcpus", "ram_mb", "disk_gb", "reserved", "ratio", "az", "alive", "disabled", "forced_down",
                 "refuses", "cell_down", "traits", "aggregates"}
        if set(values) - known:
            raise bad_request(f"unknown: {', '.join(sorted(set(values) - known))}")
        for key in ("az", "disabled", "forced_down", "refuses", "cell_down"):
            if key in values:
                setattr(host, key, values[key])
        provider = self.cloud.placement.providers[host.provider_id]
        for key in ("traits", "aggregates"):
            if key in values:
                setattr(provider, key, list(values[key]))
        hosts.resize(host, values)
        hosts.changed(host)
        if "alive" in values:
            hosts.set_alive(host, values["alive"])
            if values["alive"]:
                self.cloud.life.wake(name)
        self.reply(200, asdict(host))

    def delete(self, name: str) -> None:
        """Take it away; 409 while a server is on it."""
        self.cloud.hosts.remove(name)
        self.reply(204)


class QuotaHandler(SimHandler):
    """PUT /sim/quotas/{project name or id}: {"instances", "cores", "ram", "port", …}; {} puts the defaults back."""

    def put(self, name: str) -> None:
        """Set them."""
        identity = self.cloud.identity
        project = identity.projects.get(name) or identity.find(identity.projects, {"name": name})
        if project is None:
            raise not_found(f"no project {name}")
        values = self.values()
        if values:
            self.cloud.quotas.set(project.id, values)
        else:
            self.cloud.quotas.reset(project.id)
        self.reply(200, self.cloud.quotas.limits(project.id))


class ServersHandler(SimHandler):
    """POST /sim/servers: foreign servers that are there at once, whoever's they are."""

    def post(self) -> None:
        """{"project", "flavor", "count", "host", "name", "metadata", "tags"}; answers with their ids."""
        values, identity = self.values(), self.cloud.identity
        project = identity.find(identity.projects, {"name": values.pop("project", "demo")})
        if project is None:
            raise bad_request("no such project")
        made = self.cloud.settle(project, **values)
        self.reply(201, {"ids": [server.id for server in made]})


class OneServer(SimHandler):
    """PUT /sim/servers/{id or name}: {"power": "off"} (the guest halts itself), {"vm_state", "task_state", "fault",
    "locked_by", "metadata"} as given. DELETE: it vanishes at once, whatever it is doing."""

    def get(self, key: str) -> None:
        """As Nova shows it to an admin at the newest microversion."""
        view = ServerView(self.cloud, f"{self.base}/compute", (2, 100), True)
        self.reply(200, view.show(self.one_server(key)))

    def put(self, key: str) -> None:
        """Change it behind Nova's API."""
        server, values = self.one_server(key), self.values()
        if values.pop("power", None) == "off":
            values.update(vm_state="stopped", power_state=4)
        for name, value in values.items():
            if name not in ("vm_state", "task_state", "power_state", "fault", "locked_by", "metadata", "host"):
                raise bad_request(f"unknown: {name}")
            setattr(server, name, value)
        self.cloud.servers.touch(server, self.cloud.clock.now())
        self.reply(200, {"id": server.id, "status": server.status})

    def delete(self, key: str) -> None:
        """Gone."""
        self.cloud.life.vanish(self.one_server(key))
        self.reply(204)


class UsersHandler(SimHandler):
    """POST /sim/users: {"name", "project", "role"} makes both where needed and grants the role."""

    def post(self) -> None:
        """For example the admin role in demo's project."""
        values, identity = self.values(), self.cloud.identity
        name, role = values.get("project", "demo"), values.get("role", "member")
        project = identity.find(identity.projects, {"name": name}) or identity.add_project(name)
        user = identity.find(identity.users, {"name": values.get("name")}) or identity.add_user(values["name"], {})
        if role not in ("reader", "member", "admin"):
            raise bad_request("role must be reader, member or admin")
        identity.grant(user, project, role)
        self.reply(201, {"user_id": user.id, "project_id": project.id})


class FlavorsHandler(SimHandler):
    """POST /sim/flavors: {"id", "vcpus", "ram", "disk", "extra_specs", …}."""

    def post(self) -> None:
        """A new or changed flavor."""
        try:
            flavor = Flavor(**self.values())
        except TypeError as error:
            raise bad_request(str(error)) from None
        self.cloud.catalog.add_flavor(flavor)
        self.reply(201, asdict(flavor))


class TokensHandler(SimHandler):
    """DELETE /sim/tokens."""

    def delete(self) -> None:
        """Revoke all."""
        self.reply(200, {"revoked": self.cloud.identity.revoke_all()})


class GuestMetadata(SimHandler):
    """GET /metadata/{server}/openstack/latest/meta_data.json: what 169.254.169.254 shows inside the guest."""

    def get(self, server_id: str) -> None:
        """Metadata writes show here after at most `metadata_cache_seconds` (15 on a real cloud, read)."""
        server = self.one_server(server_id)
        if server.host is None:
            raise Refused(404, "no such guest")
        body = {"uuid": server.id, "name": server.name, "hostname": server.hostname, "launch_index":
                server.launch_index, "availability_zone": server.az, "project_id": server.project_id, "devices": [],
                "random_seed": "", "dedicated_cpus": []}
        meta = self.cloud.guests.meta(server)
        if meta:
            body["meta"] = meta
        self.reply(200, body)


routes = [
    (r"/sim/state", State), (r"/sim/settings", Settings), (r"/sim/clock", ClockHandler),
    (r"/sim/faults", FaultsHandler), (r"/sim/(faults|troubles)/(\d+)", OneFault), (r"/sim/calls", CallsHandler),
    (r"/sim/hosts", HostsHandler), (r"/sim/hosts/([^/]+)", OneHost), (r"/sim/quotas/([^/]+)", QuotaHandler),
    (r"/sim/servers", ServersHandler), (r"/sim/servers/([^/]+)", OneServer), (r"/sim/users", UsersHandler),
    (r"/sim/flavors", FlavorsHandler), (r"/sim/tokens", TokensHandler),
    (r"/metadata/([^/]+)/openstack/latest/meta_data\.json", GuestMetadata),
]
