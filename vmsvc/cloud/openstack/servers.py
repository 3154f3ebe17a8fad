"""Servers: create, read, stop, delete, metadata, and what they hold of the quota and of ports."""

import asyncio
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial

from vmsvc.cloud.openstack import parse
from vmsvc.cloud.openstack.calls import Caller, Calls
from vmsvc.cloud.openstack.exchange import Answer, CloudRequest, Json
from vmsvc.cloud.port import BootSpec, Quota, Server, ServerPage
from vmsvc.domain.boot_options import Nic
from vmsvc.domain.errors import CloudError, Garbled, InvalidRequest, NotFound

#: Nova stamps changes in whole seconds, by the clock of the host that made them, before it commits them. A watermark
#: this much older than the answer's Date misses none; the price is that a change is shown again for so long.
MARGIN = timedelta(seconds=5)
#: The same by our own clock, for a cloud whose answers carry no Date.
OWN_CLOCK_MARGIN = timedelta(seconds=60)
#: `fault` is written after the status: 7 of the first 20 reads of ERROR had none.
FAULT_SECONDS = 0.3


class Changes:
    """The servers of the newest page of changes. The margin makes the cloud show each change for seconds, read after
    read; to compare it with the last one costs a tenth of taking it in. Used by one read at a time."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[Json, Server]] = {}
        self._now: dict[str, tuple[Json, Server]] = {}

    def begin(self) -> None:
        """A new read: what the last but one showed is forgotten."""
        self._before, self._now = self._now, {}

    def read(self, raw: Json) -> Server:
        """A server of it, taken in."""
        known = self._before.get(raw["id"])
        server = known[1] if known is not None and known[0] == raw else parse.server(raw)
        self._now[server.id] = raw, server
        return server


class ServerCalls(Caller):
    """The calls on servers. Every one raises CloudUnavailable and CloudError, a write OutcomeUnknown too."""

    def __init__(self, calls: Calls):
        super().__init__(calls)
        self._changes = Changes()

    async def create_server(self, spec: BootSpec) -> str:
        """POST /servers, once. Returns the server's id.

        Raises QuotaExceeded, InvalidRequest, Forbidden, CloudUnavailable (nothing was made) or OutcomeUnknown (look
        with `find_servers`). A lack of capacity does not show here: Nova says 202 and the server goes to ERROR.
        """
        body = {"server": _boot(spec), **_hints(spec)}
        request = CloudRequest("create_server", "compute", "POST", "/servers", body=body)
        read = partial(parse.whole, "a new server", lambda body: str(body["server"]["id"]))
        try:
            return await self._calls.send(request, read)
        except NotFound as error:  # of what the request names; there is nothing else to be found
            raise InvalidRequest(error.message) from None

    async def rehearse(self, spec: BootSpec) -> None:
        """Let Nova check such a create without making a server: see `Cloud.rehearse`. Raises CloudError, too, for a
        Nova that makes the server all the same (it is deleted)."""
        group = str(uuid.uuid4())
        body = {"server": _boot(spec), "os:scheduler_hints": {"group": group}}
        # Read in nova/compute/api.py: networks, port quota, key pair, image, flavor and metadata are checked before the
        # server group is looked for; the quota of instances after it.
        try:
            made = await self._calls.send(
                CloudRequest("rehearse", "compute", "POST", "/servers", body=body),
                partial(parse.whole, "a new server", lambda body: str(body["server"]["id"])),
            )
        except InvalidRequest as error:
            if group in error.message and error.message.startswith("Instance group"):
                return
            raise
        except NotFound as error:
            raise InvalidRequest(error.message) from None
        await self.delete(made)  # this Nova does not look for the group: the server must not stay
        raise CloudError("the cloud made a server in a server group that does not exist")

    async def find_servers(self, vmsvc_id: str) -> tuple[Server, ...]:
        """The servers that carry this mark: none, one, or (a defect elsewhere) more.

        Nova cannot filter by metadata, so the create puts the mark in a tag too. Metadata has the last word: where
        Nova does not know the filter it returns every server.
        """
        found, _ = await self._calls.list(
            CloudRequest("find_servers", "compute", "GET", "/servers/detail", {"tags": vmsvc_id}),
            "servers",
            parse.server,
        )
        return tuple(server for server in found if server.vmsvc_id == vmsvc_id)

    async def server(self, server_id: str) -> Server:
        """GET one. Raises NotFound only when the cloud said 404."""
        server = await self._server(server_id)
        if server.status == "ERROR" and server.fault is None:
            await asyncio.sleep(FAULT_SECONDS)
            server = await self._server(server_id)
        return server

    async def servers(self, changes_since: datetime | None = None) -> ServerPage:
        """Every server of the project; with `changes_since` (aware) those that changed, deleted ones included.

        No `limit` is asked for: with one Nova leaves out the servers of a cell that is down without a word.
        """
        params = {"changes-since": changes_since.astimezone(UTC).isoformat()} if changes_since else None
        asked = datetime.now(UTC)
        self._changes.begin()
        pages = await self._calls.pages(
            CloudRequest("servers", "compute", "GET", "/servers/detail", params),
            "servers",
            self._changes.read if changes_since else parse.server,
        )
        # One that changes while pages are read comes twice.
        latest = {server.id: server for page in pages for server in page.items}
        date = pages[0].date
        as_of = date - MARGIN if date else asked - OWN_CLOCK_MARGIN
        return ServerPage(tuple(latest.values()), as_of, at_once=len(pages) == 1)

    async def stop(self, server_id: str) -> None:
        """os-stop. Raises NotFound, Locked, Conflict (already stopped, or busy)."""
        await self._action("stop", server_id, {"os-stop": None})

    async def delete(self, server_id: str, force: bool = False) -> None:
        """DELETE, or forceDelete. Returns on 204 and on 404 alike. Raises Locked."""
        try:
            if force:
                await self._action("force_delete", server_id, {"forceDelete": None})
            else:
                await self._calls.send(CloudRequest("delete", "compute", "DELETE", f"/servers/{server_id}"), _taken)
        except NotFound:
            pass

    async def set_metadata(self, server_id: str, items: Mapping[str, str]) -> None:
        """Merge keys into the metadata. Raises NotFound, Locked, Conflict, InvalidRequest."""
        await self._calls.send(
            CloudRequest(
                "set_metadata", "compute", "POST", f"/servers/{server_id}/metadata", body={"metadata": dict(items)}
            ),
            partial(parse.whole, "metadata", lambda body: body["metadata"]),
        )

    async def unset_metadata(self, server_id: str, key: str) -> None:
        """Remove one key; a key or server that is absent counts as done. Raises Locked, Conflict."""
        try:
            await self._calls.send(
                CloudRequest("unset_metadata", "compute", "DELETE", f"/servers/{server_id}/metadata/{key}"), _taken
            )
        except NotFound:
            pass

    async def quota(self) -> Quota:
        """GET /limits of the project; open to every member."""
        return await self._calls.send(
            CloudRequest("quota", "compute", "GET", "/limits"), partial(parse.whole, "the quota", parse.quota)
        )

    async def ports(self, server_id: str) -> tuple[str, ...]:
        """The ids of the ports whose device is this server."""
        found, _ = await self._calls.list(
            CloudRequest("ports", "network", "GET", "/ports", {"device_id": server_id, "fields": "id"}),
            "ports",
            lambda raw: raw["id"],
        )
        return found

    async def _server(self, server_id: str) -> Server:
        read = partial(parse.whole, "a server", lambda body: parse.server(body["server"]))
        return await self._calls.send(CloudRequest("server", "compute", "GET", f"/servers/{server_id}"), read)

    async def _action(self, operation: str, server_id: str, action: Mapping[str, object]) -> None:
        request = CloudRequest(operation, "compute", "POST", f"/servers/{server_id}/action", body=action)
        await self._calls.send(request, _taken)


def _taken(answer: Answer) -> None:
    """Require an answer without a body, as Nova gives when it accepts an action. A page with status 200 comes from a
    proxy, and Nova may not have received the request. Raises Garbled."""
    if answer.text.strip():
        raise Garbled(f"the cloud answered {answer.status} with a text where it has nothing to say")


def _boot(spec: BootSpec) -> dict[str, object]:
    """The body of the create; what was not asked for is left out, so that the cloud's defaults hold."""
    options = spec.options
    asked = {
        "key_name": spec.key_name,
        "user_data": spec.user_data,
        "availability_zone": spec.availability_zone,
        "host": spec.host,
        "security_groups": [{"name": group} for group in options.security_groups] or None,
        "config_drive": options.config_drive,
        "hostname": options.hostname,
        "trusted_image_certificates": [*options.trusted_image_certificates] or None,
        "block_device_mapping_v2": [dict(device) for device in options.block_devices] or None,
    }
    return {
        "name": spec.name,
        "flavorRef": spec.flavor_id,
        **({} if options.block_devices else {"imageRef": spec.image_id}),
        # Nova wants `networks` from 2.37 on; 'auto' takes the only one there is.
        "networks": _networks(spec),
        "metadata": dict(spec.metadata),
        "tags": [spec.vmsvc_id, *options.tags],
        **{name: value for name, value in asked.items() if value is not None},
    }


def _hints(spec: BootSpec) -> dict[str, object]:
    """The scheduler's hints, which stand beside the server in the body."""
    options = spec.options
    hints = {"group": options.server_group, "same_host": options.same_host, "different_host": options.different_host}
    given = {name: [*value] if isinstance(value, tuple) else value for name, value in hints.items() if value}
    return {"os:scheduler_hints": given} if given else {}


def _nic(nic: Nic) -> dict[str, str]:
    if nic.port_id:
        return {"port": nic.port_id}
    return {"uuid": nic.network_id, **({"fixed_ip": nic.fixed_ip} if nic.fixed_ip else {})}


def _networks(spec: BootSpec) -> object:
    if spec.port_id:
        return [{"port": spec.port_id}]
    if spec.options.nics:
        return [_nic(nic) for nic in spec.options.nics]
    return [{"uuid": spec.network_id}] if spec.network_id else spec.networks
