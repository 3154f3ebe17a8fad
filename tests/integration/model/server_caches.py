"""What a replica remembers of the model cloud, without the rhythm of the real memory: each wish to see is one read."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from tests.integration.model.cloud import ModelCloud
from vmsvc.cloud.cache.server_cache import Watch
from vmsvc.cloud.port import Server
from vmsvc.domain.errors import NotFound
from vmsvc.domain.host import Host


class ModelServerCache:
    """The server cache without its rhythm: each wish to see is one read of the list."""

    def __init__(self, cloud: ModelCloud):
        self._cloud = cloud
        self.servers: dict[str, Server] = {}
        self._told: dict[str, Server] = {}
        self._watches: list[tuple[set[str], Watch]] = []

    async def refresh(self, _max_age: float = 0.0) -> None:
        """Read the list."""
        await self._cloud.gate("list")
        self.servers = self._cloud.shown()
        for before, watch in self._watches:
            watch.added, watch.removed = self.servers.keys() - before, before - self.servers.keys()

    async def servers_and_occupants(self, _since) -> None:
        """The list of all projects; the hosts are read together with it."""
        await self.refresh()

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """Who comes and goes meanwhile."""
        before, watch = set(self.servers), Watch()
        self._watches.append((before, watch))
        try:
            yield watch
        finally:
            self._watches.remove((before, watch))

    def take_changes(self) -> dict[str, Server | None]:
        """What changed since the last call."""
        before, self._told = self._told, dict(self.servers)
        return {
            server_id: self._told.get(server_id)
            for server_id in before.keys() | self._told.keys()
            if before.get(server_id) != self._told.get(server_id)
        }

    def shows_mark(self, vmsvc_id: str) -> bool:
        """Whether a server carries it."""
        return any(server.vmsvc_id == vmsvc_id for server in self.servers.values())

    async def wait_for(self, server_id: str, _ready, _seconds: float) -> Server | None:
        """One look; whoever waits looks again."""
        await self.refresh()
        return self.servers.get(server_id)

    async def read_server(self, server_id: str) -> Server | None:
        """One server, read now."""
        try:
            self.servers[server_id] = await self._cloud.server(server_id)
        except NotFound:
            self.forget(server_id)
        return self.servers.get(server_id)

    def forget(self, server_id: str) -> None:
        """The cloud said 404."""
        self.servers.pop(server_id, None)


class ModelHostCache:
    """The hosts; they are up to date when they were refreshed, and sure when they were read."""

    def __init__(self, cloud: ModelCloud):
        self._cloud = cloud
        self._hosts: dict[str, Host] = {}
        self._told: dict[str, Host] = {}
        self._read_at: dict[str, float] = {}
        self.uncertain: frozenset[str] = frozenset()

    def hosts(self) -> dict[str, Host]:
        """As they are known now."""
        return dict(self._hosts)

    def take_changes(self) -> dict[str, Host | None]:
        """What changed since the last call."""
        before, self._told = self._told, dict(self._hosts)
        return {
            name: self._told.get(name)
            for name in before.keys() | self._told.keys()
            if before.get(name) != self._told.get(name)
        }

    def is_down(self, name: str) -> bool:
        """As far as is known."""
        return name in self._hosts and not self._hosts[name].available

    def read_since(self, moment: float) -> frozenset[str]:
        """Those that were read since."""
        return frozenset(name for name, read_at in self._read_at.items() if read_at >= moment)

    async def refresh(self, _max_age: float, _traits=(), read_changes=None) -> None:
        """Hear of all changes."""
        if self._cloud.mode == "operator":
            await (read_changes(None) if read_changes else self._cloud.gate("hosts"))
            self._hosts = {name: self._cloud.host(name) for name in self._cloud.sizes}

    async def find_capacity(self, _resources, _traits) -> None:
        """Nothing is hidden here."""

    async def count(self, names) -> None:
        """Ask Placement who holds what there."""
        if names:
            await self._cloud.gate(f"count {sorted(names)}")
        for name in names:
            self._hosts[name] = replace(self._hosts[name], allocations=self._cloud.host(name).allocations)

    async def read(self, names) -> None:
        """Ask Placement about these."""
        began = time.monotonic()
        await self._cloud.gate(f"read {sorted(names)}")
        for name in names:
            self._hosts[name], self._read_at[name] = self._cloud.host(name), began
