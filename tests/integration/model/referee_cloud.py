"""A referee's cloud as the port `Cloud`: calls wait at gates, and what Nova takes time for is done at once."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import SimpleNamespace

from tests.integration.model.cloud import ModelCloud
from tests.unit.referee import MOST_METADATA, Referee, Server, Wanted
from tests.unit.shown import cloud_id, server_groups, shown_host, shown_quota, shown_server
from vmsvc.cloud import port
from vmsvc.domain.errors import Conflict, Forbidden, InvalidRequest, Locked, NotFound, QuotaExceeded
from vmsvc.domain.host import Host
from vmsvc.domain.server_group import ServerGroup


class RefereeCloud(ModelCloud):
    """`thieves` come when something has been evicted and a request is booted; `refusals` are what Nova said to each."""

    def __init__(self, judge: Referee, gate: Callable, clock: SimpleNamespace):
        super().__init__(judge.cloud.mode, gate, clock, {host.name: host.vcpus for host in judge.cloud.hosts}, -1)
        self.judge = judge
        self.wanted = {wanted.name: wanted for wanted in judge.cloud.wanted}
        self.thieves = list(judge.cloud.thieves)
        self.refusals: dict[str, list[str]] = {name: [] for name in self.wanted}
        self.refused: Callable[[Wanted], object] = lambda wanted: None  # called for each refusal for want of room
        self.known = dict(judge.servers)
        self._faults: dict[str, str] = {}
        self._metadata: dict[str, dict[str, str]] = {}
        self._evicted = False

    # ------------------------------------------------------------ what is there

    def view(self, machine: Server) -> port.Server:
        """A server as Nova shows it."""
        shown = shown_server(self.judge, machine, cloud_id(machine.name))
        return replace(
            shown,
            created=self.clock.now,
            fault=self._faults.get(machine.name),
            metadata={**shown.metadata, **self._metadata.get(machine.name, {})},
        )

    def shown(self) -> dict[str, port.Server]:
        """Every server of the project."""
        return {cloud_id(one.name): self.view(one) for one in self.judge.servers.values() if one.ours}

    def host(self, name: str) -> Host:
        """A host as Placement and Nova have it now."""
        return shown_host(self.judge, name)

    def _get(self, server_id: str) -> Server:
        found = next((one for one in self.judge.servers.values() if cloud_id(one.name) == server_id), None)
        if found is None:
            raise NotFound(f"no server {server_id}")
        return found

    # ------------------------------------------------------------ the port

    async def create_server(self, spec: port.BootSpec) -> str:
        """POST /servers; the build ends at once."""
        await self.gate(f"POST {spec.vmsvc_id}")
        wanted = self.wanted[spec.vmsvc_id]
        if self._evicted and self.thieves:
            self.judge.steal(self.thieves.pop(0), wanted, spec.host)
        slug, words = self.judge.boot(wanted, spec.host)
        if slug:
            self.refusals[wanted.name].append(slug)
        if slug == "no_capacity":
            self.refused(wanted)
        if slug == "invalid_request":
            raise InvalidRequest(words)
        if slug == "quota_exceeded":
            raise QuotaExceeded(words)
        if slug:
            self.judge.servers[wanted.name] = Server(wanted.name, wanted.flavor, None, status="ERROR", kind="standard")
            self._faults[wanted.name] = words
        self.known[wanted.name] = self.judge.servers[wanted.name]
        return cloud_id(wanted.name)

    async def rehearse(self, spec: port.BootSpec) -> None:
        """Nova checks such a create."""
        await self.gate(f"rehearse {spec.flavor_id}")
        for wanted in self.wanted.values():
            if (repr(wanted.flavor), repr(wanted.image)) == (spec.flavor_id, spec.image_id) and (
                words := self.judge.unfit(wanted)
            ):
                raise InvalidRequest(words)

    async def stop(self, server_id: str) -> None:
        """os-stop."""
        await self.gate(f"stop {server_id}")
        one = self._unlocked(server_id)
        if one.status != "ACTIVE":
            raise Conflict("not active")
        self.judge.servers[one.name] = replace(one, status="SHUTOFF")

    async def delete(self, server_id: str, _force: bool = False) -> None:
        """DELETE."""
        await self.gate(f"DELETE {server_id}")
        try:
            one = self._unlocked(server_id)
        except NotFound:
            return
        self._evicted |= one.kind == "preemptible"
        del self.judge.servers[one.name]
        self._faults.pop(one.name, None)

    async def set_metadata(self, server_id: str, items: Mapping[str, str]) -> None:
        """POST metadata; who is stubborn is locked by it."""
        await self.gate(f"metadata {server_id}")
        one = self._unlocked(server_id)
        if one.mute:
            raise Forbidden("the policy forbids it")
        if max(one.items, 3) + len(items) > MOST_METADATA:
            raise QuotaExceeded("Maximum number of metadata items exceeds its limit")
        self._metadata.setdefault(one.name, {}).update(items)
        if one.stubborn:
            self.judge.servers[one.name] = replace(one, locked=True)

    async def unset_metadata(self, server_id: str, key: str) -> None:
        """DELETE one key."""
        await self.gate(f"unset {server_id}")
        self._metadata.get(self._unlocked(server_id).name, {}).pop(key, None)

    async def server_group(self, group_id: str) -> ServerGroup:
        """GET one server group."""
        await self.gate(f"group {group_id}")
        return server_groups(self.judge)[group_id]

    async def quota(self) -> port.Quota:
        """GET /limits."""
        await self.gate("quota")
        return shown_quota(self.judge)

    def _unlocked(self, server_id: str) -> Server:
        one = self._get(server_id)
        if one.locked:
            raise Locked("locked")
        return one
