"""/sim for what is in the cloud: hosts, quotas, servers, users, flavors, tokens; and what the guests read."""

from dataclasses import asdict

from vmsvc.sim.api_sim import SimHandler
from vmsvc.sim.catalog import Flavor
from vmsvc.sim.refusal import Refused, bad_request, not_found
from vmsvc.sim.views import ServerView


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
    forced_down, refuses, cell_down, arch, traits, aggregates, inventories (by class; null takes one away)."""

    def put(self, name: str) -> None:
        """Change it."""
        hosts, values = self.cloud.hosts, self.values()
        host = hosts.get(name)
        known = {"vcpus", "ram_mb", "disk_gb", "reserved", "ratio", "az", "alive", "disabled", "forced_down",
                 "refuses", "cell_down", "arch", "traits", "aggregates", "inventories"}
        if set(values) - known:
            raise bad_request(f"unknown: {', '.join(sorted(set(values) - known))}")
        for key in ("az", "disabled", "forced_down", "refuses", "cell_down", "arch"):
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
                self.cloud.departure.wake(name)
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
        """{"project", "flavor", "count", "host", "name", "metadata", "tags", "volume"}; answers with their ids."""
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
        self.cloud.departure.purge(self.one_server(key))
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
    (r"/sim/hosts", HostsHandler), (r"/sim/hosts/([^/]+)", OneHost), (r"/sim/quotas/([^/]+)", QuotaHandler),
    (r"/sim/servers", ServersHandler), (r"/sim/servers/([^/]+)", OneServer), (r"/sim/users", UsersHandler),
    (r"/sim/flavors", FlavorsHandler), (r"/sim/tokens", TokensHandler),
    (r"/metadata/([^/]+)/openstack/latest/meta_data\.json", GuestMetadata),
]
