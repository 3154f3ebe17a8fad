"""The control API, which no real cloud has: /sim changes the simulated cloud, /metadata shows what guests read.

/sim also reads and resets the cloud, and registers faults.

The control API asks for no token: everybody who reaches the port can use it. So the simulator listens on loopback, or
in a network of containers."""

from dataclasses import asdict
from typing import Any

from vmsvc.simulator.errors import ApiError, bad_request, not_found
from vmsvc.simulator.http import ServiceHandler
from vmsvc.simulator.nova.api import ServerView
from vmsvc.simulator.nova.flavors import Flavor
from vmsvc.simulator.nova.servers import Server


class ControlHandler(ServiceHandler):
    """Base of the handlers of the control API. Errors are `{"error": text}`."""

    service = "sim"
    requires_token = False

    async def prepare(self) -> None:
        """Calls of the control API need no token, meet no fault and are not logged."""

    def refuse(self, status: int, message: str) -> None:
        self.reply(status, {"error": message})

    def values(self) -> dict[str, Any]:
        """The JSON of the body, {} without a body."""
        return self.body() if self.request.body else {}

    def find_server(self, key: str) -> Server:
        """A server that GET shows, by its id or its name. Raises ApiError 404."""
        servers = self.cloud.servers
        server = servers.all.get(key) or next((each for each in servers.live(None) if each.name == key), None)
        if server is None or server.gone:
            raise not_found(f"no server {key}")
        return server


class State(ControlHandler):
    """GET /sim/state shows the whole cloud in short; DELETE makes it as new (`?tokens=1`: and revokes all tokens)."""

    def get(self) -> None:
        cloud = self.cloud
        hosts = [
            {
                **asdict(host),
                "up": cloud.hosts.is_up(host),
                "inventories": cloud.placement.providers[host.provider_id].inventories,
                "used": cloud.placement.usage(cloud.placement.providers[host.provider_id]),
                "servers": list(cloud.servers.on_host.get(host.name, ())),
            }
            for host in cloud.hosts.all.values()
        ]
        servers = [] if self.query.get("servers") == "0" else [self._server(each) for each in cloud.servers.live(None)]
        self.reply(
            200,
            {
                "now": cloud.clock.now(),
                "settings": asdict(cloud.settings),
                "hosts": hosts,
                "servers": servers,
                "projects": {each.name: each.id for each in cloud.identity.projects.values()},
                "faults": [fault.view() for fault in self.context.http_faults.all.values()],
                "troubles": [asdict(trouble) for trouble in cloud.server_faults.all.values()],
                "tokens": len(cloud.identity.tokens),
                "ports": len(cloud.ports.all),
            },
        )

    @staticmethod
    def _server(server: Server) -> dict[str, Any]:
        return {
            "id": server.id,
            "name": server.name,
            "project_id": server.project_id,
            "status": server.status,
            "task_state": server.task_state,
            "host": server.chosen,
            "metadata": server.metadata,
            "tags": server.tags,
            "step": server.step,
        }

    def delete(self) -> None:
        self.context.release()
        self.context.http_faults.clear()
        self.context.calls.reset()
        self.cloud.reset(keep_tokens=self.query.get("tokens") != "1")
        self.reply(204)


class Settings(ControlHandler):
    """GET and PUT /sim/settings."""

    def get(self) -> None:
        self.reply(200, asdict(self.cloud.settings))

    def put(self) -> None:
        self.cloud.settings.change(self.values())
        self.cloud.store_settings()
        self.get()


class ClockHandler(ControlHandler):
    """GET /sim/clock; POST {"advance": seconds} moves it forward, {"frozen": true} stops it."""

    def get(self) -> None:
        self.reply(200, {"now": self.cloud.clock.now(), "frozen": self.cloud.clock.frozen_at is not None})

    def post(self) -> None:
        values = self.values()
        if "frozen" in values:
            self.cloud.clock.freeze(bool(values["frozen"]))
        seconds = values.get("advance", 0)
        if not isinstance(seconds, (int, float)) or seconds < 0:
            raise bad_request("advance must be seconds, 0 or more")
        self.cloud.advance(seconds)
        self.get()


class FaultsHandler(ControlHandler):
    """/sim/faults: POST registers a fault of calls (with `action`, see `faults.HTTP_ACTIONS`) or of servers (with
    `kind`, see `faults.SERVER_KINDS`); DELETE forgets all and ends the requests that hang."""

    def get(self) -> None:
        self.reply(
            200,
            {
                "faults": [fault.view() for fault in self.context.http_faults.all.values()],
                "troubles": [asdict(trouble) for trouble in self.cloud.server_faults.all.values()],
            },
        )

    def post(self) -> None:
        values = self.values()
        if "kind" in values:
            self.reply(201, asdict(self.cloud.server_faults.add(values)))
        else:
            self.reply(201, self.context.http_faults.add(values).view())

    def delete(self) -> None:
        self.context.http_faults.clear()
        self.cloud.server_faults.clear()
        self.context.release()
        self.reply(204)


class OneFault(ControlHandler):
    """DELETE /sim/faults/{id} for a fault of calls, /sim/troubles/{id} for one of servers."""

    def delete(self, kind: str, key: str) -> None:
        (self.context.http_faults if kind == "faults" else self.cloud.server_faults).remove(key)
        self.reply(204)


class CallsHandler(ControlHandler):
    """GET and DELETE /sim/calls: the log of calls. GET selects by service, method, path (a regular expression), status
    and since (a number of the log)."""

    def get(self) -> None:
        query, calls = self.query, self.context.calls
        found = calls.select(
            service=query.get("service"),
            method=query.get("method"),
            path=query.get("path", ""),
            since=int(query.get("since", 0)),
            status=int(query["status"]) if "status" in query else None,
        )
        self.reply(
            200,
            {
                "count": len(found),
                "last": calls.total,
                "in_flight": calls.in_flight,
                "most_in_flight": calls.most_in_flight,
                "counts": dict(calls.counts),
                "calls": found[-int(query.get("limit", 1000)) :],
            },
        )

    def delete(self) -> None:
        self.context.calls.reset()
        self.reply(204)


class HostsHandler(ControlHandler):
    """POST /sim/hosts makes a host: name, vcpus, ram_mb, disk_gb, az, node."""

    def post(self) -> None:
        try:
            host = self.cloud.hosts.add(**self.values())
        except TypeError as error:
            raise bad_request(str(error)) from None
        self.reply(201, asdict(host))


class OneHost(ControlHandler):
    """PUT and DELETE /sim/hosts/{name}. PUT takes vcpus, ram_mb, disk_gb, reserved, ratio, az, alive, disabled,
    forced_down, refuses, cell_down, arch, traits, aggregates, inventories (by class; null removes one)."""

    def put(self, name: str) -> None:
        hosts, values = self.cloud.hosts, self.values()
        host = hosts.get(name)
        known = {
            "vcpus",
            "ram_mb",
            "disk_gb",
            "reserved",
            "ratio",
            "az",
            "alive",
            "disabled",
            "forced_down",
            "refuses",
            "cell_down",
            "arch",
            "traits",
            "aggregates",
            "inventories",
        }
        if set(values) - known:
            raise bad_request(f"unknown: {', '.join(sorted(set(values) - known))}")
        for key in ("az", "disabled", "forced_down", "refuses", "cell_down", "arch"):
            if key in values:
                setattr(host, key, values[key])
        provider = self.cloud.placement.providers[host.provider_id]
        for key in ("traits", "aggregates"):
            if key in values:
                setattr(provider, key, list(values[key]))
        self.cloud.placement.add_traits(provider.traits)
        hosts.resize(host, values)
        hosts.save(host)
        if "alive" in values:
            hosts.set_alive(host, values["alive"])
            if values["alive"]:
                self.cloud.deletion.resume_on_host(name)
        self.reply(200, asdict(host))

    def delete(self, name: str) -> None:
        """Answers 409 while a server is on the host."""
        self.cloud.hosts.remove(name)
        self.reply(204)


class QuotaHandler(ControlHandler):
    """PUT /sim/quotas/{project's name or id}: instances, cores, ram, port, …; {} sets the defaults."""

    def put(self, name: str) -> None:
        identity = self.cloud.identity
        project = identity.projects.get(name) or identity.project_named(name)
        if project is None:
            raise not_found(f"no project {name}")
        values = self.values()
        if values:
            self.cloud.quotas.set(project.id, values)
        else:
            self.cloud.quotas.reset(project.id)
        self.reply(200, self.cloud.quotas.limits(project.id))


class ServersHandler(ControlHandler):
    """POST /sim/servers: servers that are ACTIVE at once, without a quota check."""

    def post(self) -> None:
        """Takes project, flavor, count, host, name, metadata, tags and volume. Answers with the ids."""
        values, identity = self.values(), self.cloud.identity
        project = identity.project_named(values.pop("project", "demo"))
        if project is None:
            raise bad_request("no such project")
        servers = self.cloud.add_active_servers(project, **values)
        self.reply(201, {"ids": [server.id for server in servers]})


class OneServer(ControlHandler):
    """/sim/servers/{id or name}: PUT {"power": "off"} (the guest shuts down), or vm_state, task_state, power_state,
    fault, locked_by, metadata, host as given. DELETE ends the server at once, in any state."""

    def get(self, key: str) -> None:
        """Answer as Nova answers an admin at the newest microversion."""
        view = ServerView(self.cloud, f"{self.base}/compute", (2, 100), True)
        self.reply(200, view.show(self.find_server(key)))

    def put(self, key: str) -> None:
        server, values = self.find_server(key), self.values()
        if values.pop("power", None) == "off":
            values.update(vm_state="stopped", power_state=4)
        for name, value in values.items():
            if name not in ("vm_state", "task_state", "power_state", "fault", "locked_by", "metadata", "host"):
                raise bad_request(f"unknown: {name}")
            setattr(server, name, value)
        self.cloud.servers.touch(server, self.cloud.clock.now())
        self.reply(200, {"id": server.id, "status": server.status})

    def delete(self, key: str) -> None:
        self.cloud.deletion.purge(self.find_server(key))
        self.reply(204)


class UsersHandler(ControlHandler):
    """POST /sim/users: name, project, role. Makes the user and the project where needed, and grants the role."""

    def post(self) -> None:
        values, identity = self.values(), self.cloud.identity
        name, role = values.get("project", "demo"), values.get("role", "member")
        project = identity.project_named(name) or identity.add_project(name)
        user = identity.user_named(values.get("name", "")) or identity.add_user(values["name"], {})
        if role not in ("reader", "member", "admin"):
            raise bad_request("role must be reader, member or admin")
        identity.grant(user, project, role)
        self.reply(201, {"user_id": user.id, "project_id": project.id})


class FlavorsHandler(ControlHandler):
    """POST /sim/flavors makes or replaces a flavor: id, vcpus, ram, disk, extra_specs, …"""

    def post(self) -> None:
        try:
            flavor = Flavor(**self.values())
        except TypeError as error:
            raise bad_request(str(error)) from None
        self.cloud.flavors.save(flavor.id, flavor)
        self.reply(201, asdict(flavor))


class TokensHandler(ControlHandler):
    """DELETE /sim/tokens revokes all tokens."""

    def delete(self) -> None:
        self.reply(200, {"revoked": self.cloud.identity.revoke_all()})


class GuestMetadata(ControlHandler):
    """GET /metadata/{server}/openstack/latest/meta_data.json: what 169.254.169.254 shows inside the guest."""

    def get(self, server_id: str) -> None:
        """A change of metadata shows here after at most `metadata_cache_seconds` (15 on a real cloud, read)."""
        server = self.find_server(server_id)
        if server.host is None:
            raise ApiError(404, "no such guest")
        body = {
            "uuid": server.id,
            "name": server.name,
            "hostname": server.hostname,
            "launch_index": server.launch_index,
            "availability_zone": server.az,
            "project_id": server.project_id,
            "devices": [],
            "random_seed": "",
            "dedicated_cpus": [],
        }
        meta = self.cloud.metadata_service.read(server)
        if meta:
            body["meta"] = meta
        self.reply(200, body)


routes = [
    (r"/sim/state", State),
    (r"/sim/settings", Settings),
    (r"/sim/clock", ClockHandler),
    (r"/sim/faults", FaultsHandler),
    (r"/sim/(faults|troubles)/(\d+)", OneFault),
    (r"/sim/calls", CallsHandler),
    (r"/sim/hosts", HostsHandler),
    (r"/sim/hosts/([^/]+)", OneHost),
    (r"/sim/quotas/([^/]+)", QuotaHandler),
    (r"/sim/servers", ServersHandler),
    (r"/sim/servers/([^/]+)", OneServer),
    (r"/sim/users", UsersHandler),
    (r"/sim/flavors", FlavorsHandler),
    (r"/sim/tokens", TokensHandler),
    (r"/metadata/([^/]+)/openstack/latest/meta_data\.json", GuestMetadata),
]
