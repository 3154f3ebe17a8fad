"""Nova over HTTP: servers, their actions, metadata, tags, ports and addresses. Statuses and messages are measured."""

from functools import partial
from typing import Any
from urllib.parse import urlencode

from vmsvc.simulator.clock import micros_text
from vmsvc.simulator.errors import ApiError, bad_request, conflict, forbidden, not_allowed, not_found
from vmsvc.simulator.neutron.model import default_group
from vmsvc.simulator.nova.actions import check_lock, delete_server, do_action
from vmsvc.simulator.nova.api import ComputeHandler, ServerView, links, summary
from vmsvc.simulator.nova.create import check_metadata, check_name, check_tag, create_servers, invalid
from vmsvc.simulator.nova.listing import Listing
from vmsvc.simulator.nova.servers import Server

#: The states in which metadata may be written.
WRITABLE = ("active", "paused", "suspended", "stopped")


class ServersHandler(ComputeHandler):
    """Base of the handlers of /servers."""

    @property
    def view(self) -> ServerView:
        """The view of servers that this request gets."""
        return ServerView(self.cloud, self.address, self.version, self.token.is_admin)

    def in_down_cell(self, server: Server) -> bool:
        """True when the server's cell is down, so that Nova knows next to nothing of it."""
        host = self.cloud.hosts.all.get(server.chosen or "")
        return host is not None and host.cell_down


class Servers(ServersHandler):
    """GET and POST /servers. POST answers 202 with the id; whether the server can be built shows later (measured)."""

    detail = False

    def get(self) -> None:
        listing = Listing(self.cloud, self.token, self.query, self.version)
        servers, more = listing.page()
        body = {"servers": [self._entry(server) for server in servers]}
        if more and "limit" in self.query or len(servers) == self.cloud.settings.max_limit:
            query = urlencode(sorted({**self.query, "marker": servers[-1].id}.items()))
            path = "servers/detail" if self.detail else "servers"
            body["servers_links"] = [{"rel": "next", "href": f"{self.address}/v2.1/{path}?{query}"}]
        self.reply(200, body)

    def _entry(self, server: Server) -> dict[str, Any]:
        if self.in_down_cell(server):
            return self.view.unknown(server)
        return self.view.show(server, alone=False) if self.detail else summary(server, self.address)

    def post(self) -> None:
        server = create_servers(self.cloud, self.token, self.body(), self.version, self.request_id)[0]
        self.set_header("Location", f"{self.address}/v2.1/servers/{server.id}")
        self.reply(
            202,
            {
                "server": {
                    "id": server.id,
                    "links": links(server, self.address),
                    "OS-DCF:diskConfig": "MANUAL",
                    "security_groups": [{"name": "default"}],
                    "adminPass": server.admin_pass,
                }
            },
        )


class Details(Servers):
    """GET /servers/detail."""

    detail = True

    def post(self) -> None:
        self.refuse(405, "The method POST is not allowed for this resource.")


class OneServer(ServersHandler):
    """/servers/{id}: GET, PUT (name and description), DELETE."""

    def get(self, server_id: str) -> None:
        server = self.server(server_id)
        self.reply(200, {"server": self.view.unknown(server) if self.in_down_cell(server) else self.view.show(server)})

    def put(self, server_id: str) -> None:
        server, values = self.server(server_id), self.body().get("server")
        if not isinstance(values, dict):
            raise bad_request("'server' is a required property")
        for name in values:
            if name not in ("name", "description", "hostname", "accessIPv4", "accessIPv6", "OS-DCF:diskConfig"):
                raise invalid("server", values, f"Additional properties are not allowed ('{name}' was unexpected)")
        check_name("name", values.get("name", server.name))
        server.name = values.get("name", server.name)
        server.description = values.get("description", server.description)
        self.cloud.servers.touch(server, self.cloud.clock.now())
        self.reply(200, {"server": self.view.show(server)})

    def delete(self, server_id: str) -> None:
        """Answers 204 at once; the server ends a while later (measured)."""
        delete_server(self.cloud, self.token, self.server(server_id))
        self.reply(204)


class Action(ServersHandler):
    """POST /servers/{id}/action."""

    def post(self, server_id: str) -> None:
        server, body = self.server(server_id), self.body()
        if len(body) != 1:
            raise bad_request("Malformed request body")
        name, values = next(iter(body.items()))
        status, answer = do_action(self.cloud, self.token, server, name, values, self.request_id)
        self.reply(status, answer)


class Diagnostics(ServersHandler):
    """GET /servers/{id}/diagnostics, for admins."""

    def get(self, server_id: str) -> None:
        self.server(server_id)
        if not self.token.is_admin:
            raise not_allowed("os_compute_api:os-server-diagnostics")
        self.reply(200, {"state": "running", "driver": "fake", "hypervisor": "fake", "config_drive": False})


class MetadataHandler(ServersHandler):
    """Base of the handlers of metadata."""

    def writable(self, server_id: str) -> Server:
        """A server whose metadata may be written now, as it may while the server is being deleted (measured). Raises
        ApiError 409 otherwise."""
        server = self.server(server_id)
        check_lock(server, self.token)
        if server.vm_state not in WRITABLE:
            raise conflict(f"Cannot 'update metadata' instance {server_id} while it is in vm_state {server.vm_state}")
        if self.cloud.server_faults.take("metadata_refused", server):
            raise ApiError(409, f"Cannot 'update metadata' instance {server_id} while it is in task_state rebuilding")
        return server

    def keep(self, server: Server, items: dict[str, str]) -> None:
        """Replace all metadata of a server. Raises ApiError 403 for more items than the quota allows."""
        limit = self.cloud.quotas.limits(server.project_id)["metadata_items"]
        if 0 <= limit < len(items):
            raise forbidden(f"Maximum number of metadata items exceeds {limit}")
        server.metadata = items
        self.cloud.servers.touch(server, self.cloud.clock.now())

    def items(self) -> dict[str, str]:
        """The metadata of the body. Raises ApiError 400 for what is none."""
        items = self.body().get("metadata")
        if items is None:
            raise bad_request("'metadata' is a required property")
        if not isinstance(items, dict):
            raise invalid("metadata", items, f"{items} is not of type 'object'")
        check_metadata(items)
        return items


class Metadata(MetadataHandler):
    """/servers/{id}/metadata: POST merges, PUT replaces."""

    def get(self, server_id: str) -> None:
        self.reply(200, {"metadata": self.server(server_id).metadata})

    def post(self, server_id: str) -> None:
        server, items = self.writable(server_id), self.items()
        self.keep(server, {**server.metadata, **items})
        self.reply(200, {"metadata": server.metadata})

    def put(self, server_id: str) -> None:
        server = self.writable(server_id)
        self.keep(server, self.items())
        self.reply(200, {"metadata": server.metadata})


class MetadataItem(MetadataHandler):
    """/servers/{id}/metadata/{key}."""

    def get(self, server_id: str, key: str) -> None:
        server = self.server(server_id)
        if key not in server.metadata:
            raise not_found("Metadata item was not found")
        self.reply(200, {"meta": {key: server.metadata[key]}})

    def put(self, server_id: str, key: str) -> None:
        server, meta = self.writable(server_id), self.body().get("meta")
        if not isinstance(meta, dict):
            raise bad_request("'meta' is a required property")
        if len(meta) > 1:
            raise invalid("meta", meta, f"{meta} has too many properties")
        if list(meta) != [key]:
            raise bad_request("Request body and URI mismatch")
        check_metadata(meta)
        self.keep(server, {**server.metadata, **meta})
        self.reply(200, {"meta": meta})

    def delete(self, server_id: str, key: str) -> None:
        server = self.writable(server_id)
        if key not in server.metadata:
            raise not_found("Metadata item was not found")
        self.keep(server, {name: value for name, value in server.metadata.items() if name != key})
        self.reply(204)


class TagsHandler(ServersHandler):
    """Tags exist from 2.26 on, and do not move `updated` (measured)."""

    def prepare_server(self, server_id: str) -> Server:
        """The server. Raises ApiError 404 in a microversion without tags."""
        if self.version < (2, 26):
            raise not_found("The resource could not be found.")
        return self.server(server_id)

    def keep(self, server: Server, tags: list[str]) -> None:
        """Replace all tags of a server."""
        if len(tags) > 50:
            raise invalid("tags", tags, f"{tags} is too long")
        server.tags = sorted(tags)
        self.cloud.servers.save(server)


class Tags(TagsHandler):
    """/servers/{id}/tags."""

    def get(self, server_id: str) -> None:
        self.reply(200, {"tags": self.prepare_server(server_id).tags})

    def put(self, server_id: str) -> None:
        server, tags = self.prepare_server(server_id), self.body().get("tags")
        if not isinstance(tags, list):
            raise bad_request("'tags' is a required property")
        for index, tag in enumerate(tags):
            check_tag(tag, partial(invalid, str(index), tag))
        self.keep(server, list(dict.fromkeys(tags)))
        self.reply(200, {"tags": server.tags})

    def delete(self, server_id: str) -> None:
        self.keep(self.prepare_server(server_id), [])
        self.reply(204)


class Tag(TagsHandler):
    """/servers/{id}/tags/{tag}."""

    def get(self, server_id: str, tag: str) -> None:
        """Answers 204 when the server has the tag, else 404."""
        if tag not in self.prepare_server(server_id).tags:
            raise not_found(f"Server {server_id} has no tag '{tag}'")
        self.reply(204)

    def put(self, server_id: str, tag: str) -> None:
        """Answers 201 for a new one, 204 for one that exists."""
        server = self.prepare_server(server_id)
        check_tag(
            tag,
            lambda text: bad_request(
                f"Tag '{tag}' is invalid. It must be a non empty string without characters '/' and ','. Validation "
                f"error message: {text}"
            ),
        )
        if tag in server.tags:
            self.reply(204)
            return
        self.keep(server, [*server.tags, tag])
        self.set_header("Location", f"{self.address}/v2.1/servers/{server_id}/tags/{tag}")
        self.reply(201)

    def delete(self, server_id: str, tag: str) -> None:
        server = self.prepare_server(server_id)
        if tag not in server.tags:
            raise not_found(f"Instance {server_id} has no tag '{tag}'")
        self.keep(server, [each for each in server.tags if each != tag])
        self.reply(204)


class Interfaces(ServersHandler):
    """GET /servers/{id}/os-interface."""

    def get(self, server_id: str) -> None:
        self.reply(
            200,
            {
                "interfaceAttachments": [
                    {
                        "net_id": port.network_id,
                        "port_id": port.id,
                        "mac_addr": port.mac,
                        "port_state": port.status,
                        "fixed_ips": [{"subnet_id": port.subnet_id, "ip_address": port.address}],
                        "tag": None,
                    }
                    for port in self.cloud.ports.of(self.server(server_id).id)
                ]
            },
        )


class Addresses(ServersHandler):
    """GET /servers/{id}/ips and /ips/{network}."""

    def get(self, server_id: str, network: str | None = None) -> None:
        addresses: dict[str, list[dict[str, Any]]] = {}
        for port in self.cloud.ports.of(self.server(server_id).id):
            name = self.cloud.networks[port.network_id].name
            addresses.setdefault(name, []).append({"version": 4, "addr": port.address})
        if network is None:
            self.reply(200, {"addresses": addresses})
        elif network not in addresses:
            raise not_found("Instance is not a member of specified network")
        else:
            self.reply(200, {network: addresses[network]})


class Volumes(ServersHandler):
    """GET /servers/{id}/os-volume_attachments: there is no Cinder."""

    def get(self, server_id: str) -> None:
        self.server(server_id)
        self.reply(200, {"volumeAttachments": []})


class SecurityGroups(ServersHandler):
    """GET /servers/{id}/os-security-groups: the default group, without its rules."""

    def get(self, server_id: str) -> None:
        project_id = self.server(server_id).project_id
        self.reply(
            200,
            {
                "security_groups": [
                    {
                        "id": default_group(project_id),
                        "name": "default",
                        "rules": [],
                        "description": "Default security group",
                        "tenant_id": project_id,
                    }
                ]
            },
        )


class Topology(ServersHandler):
    """GET /servers/{id}/topology."""

    def get(self, server_id: str) -> None:
        self.server(server_id)
        self.reply(200, {"nodes": [], "pagesize_kb": None})


class Actions(ServersHandler):
    """GET /servers/{id}/os-instance-actions and one of them, newest first. Of a failure Nova shows just `Error`
    (measured)."""

    def get(self, server_id: str, request_id: str | None = None) -> None:
        server = self.server(server_id)
        if request_id is None:
            self.reply(200, {"instanceActions": [self._view(server, each) for each in reversed(server.actions)]})
            return
        for action in server.actions:
            if action["request_id"] == request_id:
                events = self._events(server, action)
                self.reply(200, {"instanceAction": {**self._view(server, action), "events": events}})
                return
        raise not_found(f"Action {request_id} not found")

    def _events(self, server: Server, action: dict[str, Any]) -> list[dict[str, Any]]:
        failed = action["message"] == "Error"
        event = {
            "event": "conductor_schedule_and_build_instances"
            if action["action"] == "create"
            else f"compute_{action['action']}_instance",
            "start_time": micros_text(action["start_time"]),
            "finish_time": micros_text(action["updated_at"]),
            "result": "Error" if failed else "Success",
        }
        if self.version >= (2, 62):
            event["hostId"] = server.host_id
        if self.token.is_admin:
            event.update(traceback=None, host=server.host, details=None)
        return [event]

    @staticmethod
    def _view(server: Server, action: dict[str, Any]) -> dict[str, Any]:
        return {
            **action,
            "instance_uuid": server.id,
            "start_time": micros_text(action["start_time"]),
            "updated_at": micros_text(action["updated_at"]),
        }


routes = [
    (r"/compute/v2\.1/servers", Servers),
    (r"/compute/v2\.1/servers/detail", Details),
    (r"/compute/v2\.1/servers/([^/]+)", OneServer),
    (r"/compute/v2\.1/servers/([^/]+)/action", Action),
    (r"/compute/v2\.1/servers/([^/]+)/diagnostics", Diagnostics),
    (r"/compute/v2\.1/servers/([^/]+)/metadata", Metadata),
    (r"/compute/v2\.1/servers/([^/]+)/metadata/([^/]+)", MetadataItem),
    (r"/compute/v2\.1/servers/([^/]+)/tags", Tags),
    (r"/compute/v2\.1/servers/([^/]+)/tags/([^/]+)", Tag),
    (r"/compute/v2\.1/servers/([^/]+)/os-interface", Interfaces),
    (r"/compute/v2\.1/servers/([^/]+)/ips", Addresses),
    (r"/compute/v2\.1/servers/([^/]+)/ips/([^/]+)", Addresses),
    (r"/compute/v2\.1/servers/([^/]+)/os-volume_attachments", Volumes),
    (r"/compute/v2\.1/servers/([^/]+)/os-security-groups", SecurityGroups),
    (r"/compute/v2\.1/servers/([^/]+)/topology", Topology),
    (r"/compute/v2\.1/servers/([^/]+)/os-instance-actions", Actions),
    (r"/compute/v2\.1/servers/([^/]+)/os-instance-actions/([^/]+)", Actions),
]
