"""Records what the project's servers hold on each host: in tenant mode, evidence of what the host can hold.

See docs/explanation/decisions/capacity-by-evidence.md."""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import timedelta

from vmsvc.cloud.cache.server_cache import ServerCache
from vmsvc.cloud.port import Server
from vmsvc.domain.evidence import Held
from vmsvc.domain.resources import Resources, total
from vmsvc.service.runtime import Runtime
from vmsvc.store import evidence, vms
from vmsvc.store.db import Lock, reading, unit

#: Statuses in which a server certainly holds its capacity on the host that it names, unless a task changes it.
_HOLDS = frozenset(
    {"ACTIVE", "PAUSED", "SUSPENDED", "SHUTOFF", "RESCUE", "REBOOT", "HARD_REBOOT", "PASSWORD", "SHELVED"}
)
_SOON = 0.5  # so long after a server changed the list is read, unless it has been: one GET shows no moment of a host
_ALL_SECONDS = 30.0  # between looks at all hosts: at what stands there for long, or since a refusal


class EvidenceWatch:
    """One for each replica in tenant mode; `run` writes what it has seen."""

    def __init__(
        self, runtime: Runtime, server_cache: ServerCache, hours: float, clock: Callable[[], float] = time.monotonic
    ):
        self._runtime = runtime
        self._server_cache = server_cache
        self._hours = hours
        self._clock = clock
        self._on: dict[str, dict[str, Resources]] = {}  # hostId -> server -> what it holds there
        self._host_of: dict[str, str] = {}
        self._touched: set[str] = {*server_cache.servers}  # servers that changed since the last moment
        #: hostId -> vectors that were seen and are not written yet, and when.
        self._seen: dict[str, dict[Resources, float]] = {}
        self._news = asyncio.Event()
        self._news.set()
        server_cache.on_change(self._note)
        server_cache.on_moment(self._look)

    def _note(self, server_id: str) -> None:
        self._touched.add(server_id)
        self._news.set()

    def _look(self) -> None:
        """The server cache shows one moment: see what the hosts hold on which something changed."""
        hosts = set()
        for server_id in self._touched:
            hosts |= self._put(server_id, self._server_cache.servers.get(server_id))
        self._touched.clear()
        for host_id in hosts:
            self._see(host_id)
        if self._seen:
            self._news.set()

    def _put(self, server_id: str, server: Server | None) -> set[str]:
        """Note where a server is and what it holds; returns the hosts on which that changes anything."""
        before, after = self._host_of.pop(server_id, ""), ""
        if before:
            del self._on[before][server_id]
            if not self._on[before]:
                del self._on[before]
        if server is not None and server.host_id and server.status in _HOLDS and server.task_state is None:
            after = self._host_of[server_id] = server.host_id
            self._on.setdefault(after, {})[server_id] = server.resources
        return {before, after} - {""}

    def _see(self, host_id: str) -> None:
        vector = total(self._on.get(host_id, {}).values())
        seen = self._seen.get(host_id, {})
        if vector and not any(other.covers(vector) for other in seen):
            rest = {other: at for other, at in seen.items() if not vector.covers(other)}
            self._seen[host_id] = {**rest, vector: self._clock()}

    async def run(self) -> None:
        """Write what is seen, until this is cancelled."""
        while True:
            await self.write()
            self._runtime.mark_ready("evidence")
            try:
                async with asyncio.timeout(_ALL_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                self._touched |= self._server_cache.servers.keys()
            self._news.clear()
            if self._touched:
                await self._next_moment()

    async def _next_moment(self) -> None:
        """Wait for the next list; read it, unless somebody else does soon. A list that comes in several answers shows
        no moment: the one after it does, which shows only what changed."""
        changed = self._clock()
        await asyncio.sleep(_SOON)
        if self._touched and self._server_cache.read_at < changed:
            await self._server_cache.refresh(_SOON)

    async def write(self) -> None:
        """Write what has been seen and is new."""
        seen, self._seen = self._seen, {}
        if not seen:
            return
        try:
            await self._runtime.offload(_write, seen, self._clock(), self._hours)
        except BaseException:
            for host_id, vectors in seen.items():
                self._seen[host_id] = {**vectors, **self._seen.get(host_id, {})}
            raise


# ---------------------------------------------------------------- in the database pool


def _write(seen: Mapping[str, Mapping[Resources, float]], clock: float, hours: float) -> None:
    """Write down these vectors, seen at these moments of a clock that shows `clock` now."""
    with reading():
        now = vms.clock()
        held = {
            host_id: [Held(vector, now - timedelta(seconds=clock - at)) for vector, at in vectors.items()]
            for host_id, vectors in seen.items()
        }
        if not evidence.changes(evidence.read(hours, held.keys()), held, hours):
            return
    with unit(Lock.SCHEDULER):
        evidence.remember_held(held, hours)
