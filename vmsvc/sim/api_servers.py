"""Nova's servers: list, create, show, rename, delete."""

from urllib.parse import urlencode

from vmsvc.sim import create, deeds
from vmsvc.sim.api_compute import ComputeHandler
from vmsvc.sim.listing import Listing
from vmsvc.sim.refusal import bad_request, not_allowed
from vmsvc.sim.servers import Server
from vmsvc.sim.views import ServerView, links, summary


class ServersHandler(ComputeHandler):
    """What handlers of servers share."""

    @property
    def view(self) -> ServerView:
        """How servers look to the caller."""
        return ServerView(self.cloud, self.address, self.version, self.token.is_admin)

    def in_down_cell(self, server: Server) -> bool:
        """True when Nova cannot read it."""
        host = self.cloud.hosts.all.get(server.chosen or "")
        return host is not None and host.cell_down


class Servers(ServersHandler):
    """/servers: GET and POST."""

    detail = False

    def get(self) -> None:
        """A page of servers."""
        listing = Listing(self.cloud, self.token, self.query, self.version)
        servers, more = listing.page()
        body = {"servers": [self._entry(server) for server in servers]}
        if more and "limit" in self.query or len(servers) == self.cloud.settings.max_limit:
            query = urlencode(sorted({**self.query, "marker": servers[-1].id}.items()))
            path = "servers/detail" if self.detail else "servers"
            body["servers_links"] = [{"rel": "next", "href": f"{self.address}/v2.1/{path}?{query}"}]
        self.reply(200, body)

    def _entry(self, server: Server) -> dict:
        if self.in_down_cell(server):
            return self.view.unknown(server)
        return self.view.show(server, alone=False) if self.detail else summary(server, self.address)

    def post(self) -> None:
        """202 with the id; what becomes of it shows later (measured, section 1)."""
        server = create.create(self.cloud, self.token, self.body(), self.version, self.request_id)[0]
        self.set_header("Location", f"{self.address}/v2.1/servers/{server.id}")
        self.reply(202, {"server": {"id": server.id, "links": links(server, self.address), "OS-DCF:diskConfig":
                                    "MANUAL", "security_groups": [{"name": "default"}],
                                    "adminPass": server.admin_pass}})


class Details(Servers):
    """GET /servers/detail."""

    detail = True

    def post(self) -> None:
        """There is none."""
        self.refuse(405, "The method POST is not allowed for this resource.")


class OneServer(ServersHandler):
    """/servers/{id}: GET, PUT (name and description), DELETE."""

    def get(self, server_id: str) -> None:
        """The server."""
        server = self.server(server_id)
        self.reply(200, {"server": self.view.unknown(server) if self.in_down_cell(server)
                         else self.view.show(server)})

    def put(self, server_id: str) -> None:
        """Rename it."""
        server, values = self.server(server_id), self.body().get("server")
        if not isinstance(values, dict):
            raise bad_request("'server' is a required property")
        for name in values:
            if name not in ("name", "description", "hostname", "accessIPv4", "accessIPv6", "OS-DCF:diskConfig"):
                raise create.invalid("server", values,
                                     f"Additional properties are not allowed ('{name}' was unexpected)")
        create.check_name("name", values.get("name", server.name))
        server.name = values.get("name", server.name)
        server.description = values.get("description", server.description)
        self.cloud.servers.touch(server, self.cloud.clock.now())
        self.reply(200, {"server": self.view.show(server)})

    def delete(self, server_id: str) -> None:
        """204 at once; it takes a while (measured, section 4)."""
        deeds.delete(self.cloud, self.token, self.server(server_id))
        self.reply(204)


class Action(ServersHandler):
    """POST /servers/{id}/action."""

    def post(self, server_id: str) -> None:
        """Do what the only key of the body says."""
        server, body = self.server(server_id), self.body()
        if len(body) != 1:
            raise bad_request("Malformed request body")
        name, values = next(iter(body.items()))
        status, answer = deeds.act(self.cloud, self.token, server, name, values, self.request_id)
        self.reply(status, answer)


class Diagnostics(ServersHandler):
    """The admin's diagnostics."""

    def get(self, server_id: str) -> None:
        """Next to nothing."""
        self.server(server_id)
        if not self.token.is_admin:
            raise not_allowed("os_compute_api:os-server-diagnostics")
        self.reply(200, {"state": "running", "driver": "fake", "hypervisor": "fake", "config_drive": False})


routes = [
    (r"/compute/v2\.1/servers", Servers),
    (r"/compute/v2\.1/servers/detail", Details),
    (r"/compute/v2\.1/servers/([^/]+)", OneServer),
    (r"/compute/v2\.1/servers/([^/]+)/action", Action),
    (r"/compute/v2\.1/servers/([^/]+)/diagnostics", Diagnostics),
]
