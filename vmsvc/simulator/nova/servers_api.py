"""Nova over HTTP: servers, their actions, metadata, tags, ports and addresses. Statuses and messages are measured."""

from typing import Any
from urllib.parse import urlencode

from vmsvc.simulator.clock import micros_text
from vmsvc.simulator.errors import ApiError, bad_request, conflict, forbidden, not_allowed, not_found
from vmsvc.simulator.nova import schemas
from vmsvc.simulator.nova.actions import check_body, check_lock, delete_server, do_action
from vmsvc.simulator.nova.api import ComputeHandler, ServerView, links, summary
from vmsvc.simulator.nova.create import TRUE, create_servers
from vmsvc.simulator.nova.listing import Listing
from vmsvc.simulator.nova.servers import Server
from vmsvc.simulator.paging import next_page, page
from vmsvc.simulator.schema import first_problem

#: The states in which metadata may be written.
WRITABLE = ("active", "paused", "suspended", "stopped")
_RESIZED = ("compute_finish_resize", "compute_resize_instance", "compute_prep_resize", "cold_migrate")
#: The events of an action, the last one first, where they are not compute_ACTION_instance (measured).
EVENTS: dict[str, tuple[str, ...]] = {
    "create": ("compute__do_build_and_run_instance",),
    "delete": ("compute_terminate_instance",),
    "lock": ("api_lock",),
    "unlock": ("api_unlock",),
    "changePassword": ("compute_set_admin_password",),
    "createImage": ("compute_snapshot_instance",),
    "createBackup": ("compute_backup_instance",),
    "trigger_crash_dump": ("compute_trigger_crash_dump",),
    "resize": (*_RESIZED, "conductor_migrate_server"),
    "migrate": (*_RESIZED, "conductor_migrate_server"),
    "confirmResize": ("compute_confirm_resize",),
    "revertResize": ("compute_finish_revert_resize", "compute_revert_resize"),
    "rebuild": ("compute_rebuild_instance", "rebuild_server"),
    "unshelve": ("compute_unshelve_instance", "schedule_instances", "get_image_info"),
    "live-migration": (
        *("compute_post_live_migration_at_destination", "compute_pre_live_migration", "compute_live_migration"),
        *("compute_check_can_live_migrate_source", "compute_check_can_live_migrate_destination"),
        "conductor_live_migrate_instance",
    ),
    "resetState": (),
}
#: The field of a PUT -> that of the server.
UPDATABLE = {
    "name": "name",
    "description": "description",
    "hostname": "hostname",
    "accessIPv4": "access_ip_v4",
    "accessIPv6": "access_ip_v6",
    "OS-DCF:diskConfig": "disk_config",
}
OLD_DIAGNOSTICS = {
    **{"cpu0_time": 17300000000, "memory": 524288, "vda_errors": -1, "vda_read": 262144, "vda_read_req": 112},
    **{"vda_write": 5778432, "vda_write_req": 488, "vnet1_rx": 2070139, "vnet1_rx_drop": 0, "vnet1_rx_errors": 0},
    **{"vnet1_rx_packets": 26701, "vnet1_tx": 140208, "vnet1_tx_drop": 0, "vnet1_tx_errors": 0},
    "vnet1_tx_packets": 662,
}
DIAGNOSTICS = {
    **{"state": "running", "driver": "libvirt", "hypervisor": "kvm", "hypervisor_os": "ubuntu", "uptime": 46664},
    **{"num_cpus": 1, "num_nics": 1, "num_disks": 1},
    "disk_details": [
        {"read_bytes": 262144, "read_requests": 112, "write_bytes": 5778432, "write_requests": 488, "errors_count": 1}
    ],
    "cpu_details": [{"id": 0, "time": 17300000000, "utilisation": 15}],
    "nic_details": [
        {
            **{"mac_address": "01:23:45:67:89:ab", "rx_octets": 2070139, "rx_errors": 100, "rx_drop": 200},
            **{"rx_packets": 26701, "rx_rate": 300, "tx_octets": 140208, "tx_errors": 400, "tx_drop": 500},
            **{"tx_packets": 662, "tx_rate": 600},
        }
    ],
    "memory_details": {"maximum": 524288, "used": 0},
}


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
        listing = Listing(self.cloud, self.token, self.queries, self.version, self.detail)
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
        body = self.body()
        server = create_servers(self.cloud, self.token, body, self.version, self.request_id)[0]
        if body["server"].get("return_reservation_id") in TRUE:
            self.reply(202, {"reservation_id": server.reservation_id})
            return
        self.set_header("Location", f"{self.address}/v2.1/servers/{server.id}")
        groups = body["server"].get("security_groups") or [{"name": "default"}]
        self.reply(
            202,
            {
                "server": {
                    "id": server.id,
                    "links": links(server, self.address),
                    "OS-DCF:diskConfig": server.disk_config,
                    "security_groups": groups,
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
        body = self.body()
        schemas.check(schemas.update(self.version), body)
        server = self.server(server_id)
        for name, attribute in UPDATABLE.items():
            if name in body["server"]:
                setattr(server, attribute, body["server"][name])
        self.cloud.servers.touch(server, self.cloud.clock.now())
        if self.version >= (2, 75):
            self.reply(200, {"server": self.view.show(server)})
        else:
            self.reply(200, {"server": self.view.short(server)})

    def delete(self, server_id: str) -> None:
        """Answers 204 at once; the server ends a while later (measured)."""
        delete_server(self.cloud, self.token, self.server(server_id), self.request_id)
        self.reply(204)


class Action(ServersHandler):
    """POST /servers/{id}/action."""

    def post(self, server_id: str) -> None:
        body = self.body()
        name = check_body(body, self.version)
        server = self.server(server_id)
        answer = do_action(self.cloud, self.token, server, name, body[name], self.version, self.request_id)
        if answer.shows_server:
            self._show(server, answer.body or {})
        elif answer.image_id is not None and self.version >= (2, 45):
            self.reply(answer.status, {"image_id": answer.image_id})
        else:
            if answer.image_id is not None:
                self.set_header("Location", f"{self.base}/image/images/{answer.image_id}")
            self.reply(answer.status, answer.body)

    def _show(self, server: Server, more: dict[str, Any]) -> None:
        """Answer a rebuild with the server."""
        view = self.view.show(server) if self.version >= (2, 75) else self.view.short(server)
        view.update(more)
        if self.version >= (2, 54):
            view["key_name"] = server.key_name
        if self.version >= (2, 57):
            view["user_data"] = server.user_data
        self.set_header("Location", f"{self.address}/v2.1/servers/{server.id}")
        self.reply(202, {"server": view})


class Diagnostics(ServersHandler):
    """GET /servers/{id}/diagnostics, for admins: the figures of Nova's fake driver (measured)."""

    def get(self, server_id: str) -> None:
        server = self.server(server_id)
        if not self.token.is_admin:
            raise not_allowed("os_compute_api:os-server-diagnostics")
        if server.host is None:
            raise conflict(f"Instance {server_id} is not ready")
        if self.version < (2, 48):
            self.reply(200, OLD_DIAGNOSTICS)
            return
        self.reply(200, {**DIAGNOSTICS, "config_drive": server.config_drive})


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
        body = self.body()
        schemas.check(schemas.METADATA_BODY, body)
        items: dict[str, str] = body["metadata"]
        return items


class Metadata(MetadataHandler):
    """/servers/{id}/metadata: POST merges, PUT replaces."""

    def get(self, server_id: str) -> None:
        self.reply(200, {"metadata": self.server(server_id).metadata})

    def post(self, server_id: str) -> None:
        items, server = self.items(), self.writable(server_id)
        self.keep(server, {**server.metadata, **items})
        self.reply(200, {"metadata": server.metadata})

    def put(self, server_id: str) -> None:
        items, server = self.items(), self.writable(server_id)
        self.keep(server, items)
        self.reply(200, {"metadata": server.metadata})


class MetadataItem(MetadataHandler):
    """/servers/{id}/metadata/{key}."""

    def get(self, server_id: str, key: str) -> None:
        server = self.server(server_id)
        if key not in server.metadata:
            raise not_found("Metadata item was not found")
        self.reply(200, {"meta": {key: server.metadata[key]}})

    def put(self, server_id: str, key: str) -> None:
        body = self.body()
        schemas.check(schemas.META_BODY, body)
        meta = body["meta"]
        if list(meta) != [key]:
            raise bad_request("Request body and URI mismatch")
        server = self.writable(server_id)
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
            raise bad_request("The number of tags exceeded the per-server limit 50")
        server.tags = sorted(tags)
        self.cloud.servers.save(server)


class Tags(TagsHandler):
    """/servers/{id}/tags."""

    def get(self, server_id: str) -> None:
        self.reply(200, {"tags": self.prepare_server(server_id).tags})

    def put(self, server_id: str) -> None:
        body = self.body()
        schemas.check(schemas.TAGS_BODY, body)
        server, tags = self.prepare_server(server_id), body["tags"]
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
        problem = first_problem(schemas.TAG, tag)
        if problem is not None:
            raise bad_request(
                f"Tag '{tag}' is invalid. It must be a non empty string without characters '/' and ','. Validation "
                f"error message: {problem.text}"
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


class Topology(ServersHandler):
    """GET /servers/{id}/topology."""

    def get(self, server_id: str) -> None:
        self.server(server_id)
        self.reply(200, {"nodes": [], "pagesize_kb": None})


class Actions(ServersHandler):
    """GET /servers/{id}/os-instance-actions and one of them, newest first. Of a failure Nova shows just `Error`
    (measured)."""

    def get(self, server_id: str, request_id: str | None = None) -> None:
        if request_id is None:
            schemas.check_query(schemas.query_of("instance_actions", self.version), self.queries)
        server = self._server(server_id)
        if request_id is None:
            self._list(server)
            return
        for action in server.actions:
            if action["request_id"] == request_id:
                view = self._view(server, action)
                if self.token.is_admin or self.version >= (2, 51):
                    view["events"] = self._events(server, action)
                self.reply(200, {"instanceAction": view})
                return
        raise not_found(f"Action {request_id} not found")

    def _server(self, server_id: str) -> Server:
        """The server; from 2.21 on also one that is deleted."""
        server = self.cloud.servers.all.get(server_id)
        if server is not None and server.gone and self.version >= (2, 21):
            if self.token.is_admin or server.project_id == self.token.project_id:
                return server
        return self.server(server_id)

    def _list(self, server: Server) -> None:
        query = self.query if self.version >= (2, 58) else {}
        newest = list(reversed(server.actions))
        shown, full = page(newest, query, lambda each: str(each["request_id"]))
        body: dict[str, Any] = {"instanceActions": [self._view(server, each) for each in shown]}
        if full and "limit" in query:
            path = f"{self.address}/v2.1/servers/{server.id}/os-instance-actions"
            body["links"] = [{"rel": "next", "href": next_page(path, query, shown[-1]["request_id"])}]
        self.reply(200, body)

    def _events(self, server: Server, action: dict[str, Any]) -> list[dict[str, Any]]:
        failed, name = action["message"] == "Error", action["action"]
        names: tuple[str, ...]
        if name == "create" and failed:
            names = ("conductor_schedule_and_build_instances",)
        else:
            names = EVENTS.get(name, (f"compute_{name}_instance",))
        return [self._event(server, action, each, failed and each == names[-1]) for each in names]

    def _event(self, server: Server, action: dict[str, Any], name: str, failed: bool) -> dict[str, Any]:
        event = {
            "event": name,
            "start_time": micros_text(action["start_time"]),
            "finish_time": micros_text(action["updated_at"]),
            "result": "Error" if failed else "Success",
        }
        if self.version >= (2, 62):
            event["hostId"] = server.host_id
        if self.token.is_admin:
            event["traceback"] = None
            if self.version >= (2, 62):
                event["host"] = server.host
            if self.version >= (2, 84):
                event["details"] = None
        return event

    def _view(self, server: Server, action: dict[str, Any]) -> dict[str, Any]:
        view = {**action, "instance_uuid": server.id, "start_time": micros_text(action["start_time"])}
        view["updated_at"] = micros_text(action["updated_at"])
        if self.version < (2, 58):
            del view["updated_at"]
        return view


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
    (r"/compute/v2\.1/servers/([^/]+)/topology", Topology),
    (r"/compute/v2\.1/servers/([^/]+)/os-instance-actions", Actions),
    (r"/compute/v2\.1/servers/([^/]+)/os-instance-actions/([^/]+)", Actions),
]
