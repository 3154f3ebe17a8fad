"""Metadata and tags of servers. Statuses and texts measured on the real bed (section 6)."""

from vmsvc.sim.api_servers import ServersHandler
from vmsvc.sim.create import check_metadata, check_tag, invalid
from vmsvc.sim.deeds import check_lock
from vmsvc.sim.refusal import Refused, bad_request, conflict, forbidden, not_found
from vmsvc.sim.servers import Server

WRITABLE = ("active", "paused", "suspended", "stopped")


class MetadataHandler(ServersHandler):
    """What both handlers share."""

    def writable(self, server_id: str) -> Server:
        """The server, if its metadata takes writes now (also while it is being deleted: measured, section 4)."""
        server = self.server(server_id)
        check_lock(server, self.token)
        if server.vm_state not in WRITABLE:
            raise conflict(f"Cannot 'update metadata' instance {server_id} while it is in vm_state {server.vm_state}")
        if self.cloud.troubles.strike("metadata_refused", server):
            raise Refused(409, f"Cannot 'update metadata' instance {server_id} while it is in task_state rebuilding")
        return server

    def keep(self, server: Server, items: dict[str, str]) -> None:
        """All metadata of the server from now on."""
        limit = self.cloud.quotas.limits(server.project_id)["metadata_items"]
        if 0 <= limit < len(items):
            raise forbidden(f"Maximum number of metadata items exceeds {limit}")
        server.metadata = items
        self.cloud.servers.touch(server, self.cloud.clock.now())

    def items(self) -> dict[str, str]:
        """The body's metadata."""
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
        """All."""
        self.reply(200, {"metadata": self.server(server_id).metadata})

    def post(self, server_id: str) -> None:
        """Merge."""
        server, items = self.writable(server_id), self.items()
        self.keep(server, {**server.metadata, **items})
        self.reply(200, {"metadata": server.metadata})

    def put(self, server_id: str) -> None:
        """Replace all."""
        server = self.writable(server_id)
        self.keep(server, self.items())
        self.reply(200, {"metadata": server.metadata})


class MetadataItem(MetadataHandler):
    """/servers/{id}/metadata/{key}."""

    def get(self, server_id: str, key: str) -> None:
        """One."""
        server = self.server(server_id)
        if key not in server.metadata:
            raise not_found("Metadata item was not found")
        self.reply(200, {"meta": {key: server.metadata[key]}})

    def put(self, server_id: str, key: str) -> None:
        """Set one."""
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
        """Remove one."""
        server = self.writable(server_id)
        if key not in server.metadata:
            raise not_found("Metadata item was not found")
        self.keep(server, {name: value for name, value in server.metadata.items() if name != key})
        self.reply(204)


class TagsHandler(ServersHandler):
    """Tags exist from 2.26 on, and do not move `updated` (measured, section 6)."""

    def prepare_server(self, server_id: str) -> Server:
        """The server, if the microversion knows tags."""
        if self.version < (2, 26):
            raise not_found("The resource could not be found.")
        return self.server(server_id)

    def keep(self, server: Server, tags: list[str]) -> None:
        """All tags of the server from now on."""
        if len(tags) > 50:
            raise invalid("tags", tags, f"{tags} is too long")
        server.tags = sorted(tags)
        self.cloud.servers.save(server)


class Tags(TagsHandler):
    """/servers/{id}/tags."""

    def get(self, server_id: str) -> None:
        """All."""
        self.reply(200, {"tags": self.prepare_server(server_id).tags})

    def put(self, server_id: str) -> None:
        """Replace all."""
        server, tags = self.prepare_server(server_id), self.body().get("tags")
        if not isinstance(tags, list):
            raise bad_request("'tags' is a required property")
        for index, tag in enumerate(tags):
            check_tag(tag, lambda text, index=index, tag=tag: invalid(str(index), tag, text))
        self.keep(server, list(dict.fromkeys(tags)))
        self.reply(200, {"tags": server.tags})

    def delete(self, server_id: str) -> None:
        """Remove all."""
        self.keep(self.prepare_server(server_id), [])
        self.reply(204)


class Tag(TagsHandler):
    """/servers/{id}/tags/{tag}."""

    def get(self, server_id: str, tag: str) -> None:
        """204 when it has the tag."""
        if tag not in self.prepare_server(server_id).tags:
            raise not_found(f"Server {server_id} has no tag '{tag}'")
        self.reply(204)

    def put(self, server_id: str, tag: str) -> None:
        """201 for a new one, 204 for a known one."""
        server = self.prepare_server(server_id)
        check_tag(tag, lambda text: bad_request(
            f"Tag '{tag}' is invalid. It must be a non empty string without characters '/' and ','. Validation error "
            f"message: {text}"))
        if tag in server.tags:
            self.reply(204)
            return
        self.keep(server, [*server.tags, tag])
        self.set_header("Location", f"{self.address}/v2.1/servers/{server_id}/tags/{tag}")
        self.reply(201)

    def delete(self, server_id: str, tag: str) -> None:
        """Remove one."""
        server = self.prepare_server(server_id)
        if tag not in server.tags:
            raise not_found(f"Instance {server_id} has no tag '{tag}'")
        self.keep(server, [each for each in server.tags if each != tag])
        self.reply(204)


routes = [
    (r"/compute/v2\.1/servers/([^/]+)/metadata", Metadata),
    (r"/compute/v2\.1/servers/([^/]+)/metadata/([^/]+)", MetadataItem),
    (r"/compute/v2\.1/servers/([^/]+)/tags", Tags),
    (r"/compute/v2\.1/servers/([^/]+)/tags/([^/]+)", Tag),
]
