"""The project's servers as last read, kept up to date by `changes-since`: one list answers all callers that wait.

In operator mode each change is passed on to `host_allocations`.

Following the cloud costs one short call per interval, whatever the number of servers and of waiting callers.
"""

import asyncio
import contextlib
import contextvars
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from vmsvc.cloud.cache.host_allocations import HostAllocations
from vmsvc.cloud.port import Cloud, OccupantPage, Server
from vmsvc.domain.errors import NotFound, VmsvcError
from vmsvc.domain.timing import Timing

log = logging.getLogger(__name__)

_BUSY_SECONDS = 0.05  # between reads while a caller waits for a server, at least, ...
_BUSY_LIMIT = 1.0  # ... at most; between the two as long as the last read took: a slow cloud is read less often
_IDLE_SECONDS = 5.0
_THROTTLE_SECONDS = 1.0  # between reads for ids that are in no list
_PAGE = 1000  # shown, and costs a page a minute, however many servers there are
_DELETED = frozenset({"DELETED"})


class Watch:
    """The servers that were added to the cache, and removed from it, since the watch began."""

    def __init__(self) -> None:
        self.added: set[str] = set()
        self.removed: set[str] = set()

    def record(self, server_id: str, added: bool) -> None:
        """Record that a server was added, or removed."""
        target, opposite = (self.added, self.removed) if added else (self.removed, self.added)
        if server_id in opposite:
            opposite.remove(server_id)
        else:
            target.add(server_id)


@dataclass(eq=False, slots=True)
class Waiter:
    """A call of `wait_for`: it waits for a read that began after `since` and shows the server `ready`."""

    server_id: str
    ready: Callable[[Server | None], bool]
    since: float
    result: asyncio.Future[Server | None]


def _as_listed(server: Server) -> Server:
    """A server from GET as a list shows it: only GET of one server has its server groups (Nova 2.71). Otherwise a
    server would seem to change from one way of reading to the other."""
    return replace(server, body={key: value for key, value in server.body.items() if key != "server_groups"})


class ServerCache:
    """Read it through `servers`; it is never older than the last successful `refresh`."""

    def __init__(self, cloud: Cloud, allocations: HostAllocations, timing: Timing):
        self._cloud = cloud
        self._timing = timing
        self._allocations = allocations
        self._reading = asyncio.Lock()
        self._has_waiters = asyncio.Event()
        self._waiters: set[Waiter] = set()
        self._full_read_at = self._read_began = float("-inf")
        self._read: asyncio.Task[None] | None = None  # the newest, which began after `_read_began`
        self.as_of: datetime | None = None  # the cloud's clock when that read began, less a margin
        self.servers: dict[str, Server] = {}
        self.read_at = float("-inf")  # time.monotonic() when the newest successful read began
        self._read_seconds = 0.0  # seconds that it took
        self._watches: list[Watch] = []
        self._changes: set[str] = set()
        self._callbacks: list[Callable[[str], None]] = []
        self._moment_callbacks: list[Callable[[], None]] = []
        self._marks: Counter[str] = Counter()

    @contextlib.contextmanager
    def watching(self) -> Iterator[Watch]:
        """In this context the watch records the servers that are added and removed."""
        watch = Watch()
        self._watches.append(watch)
        try:
            yield watch
        finally:
            self._watches.remove(watch)

    @property
    def pause(self) -> float:
        """Seconds from the end of one read to the next while callers wait."""
        return min(_BUSY_LIMIT, max(_BUSY_SECONDS, self._read_seconds))

    def take_changes(self) -> dict[str, Server | None]:
        """The servers that changed since the last call, None for those that are no longer there."""
        changes, self._changes = self._changes, set()
        return {server_id: self.servers.get(server_id) for server_id in changes}

    def shows_mark(self, vmsvc_id: str) -> bool:
        """True when the last read showed a server that carries this mark."""
        return self._marks[vmsvc_id] > 0

    def on_change(self, callback: Callable[[str], None]) -> None:
        """From now on call `callback(id)` for each server that is added, changes or is removed."""
        self._callbacks.append(callback)

    def on_moment(self, callback: Callable[[], None]) -> None:
        """From now on call `callback()` whenever a read has just made `servers` show all servers as of one moment.
        After a read that came in several answers, and between reads, that may not be so: servers are read one by one
        too."""
        self._moment_callbacks.append(callback)

    async def refresh(self, max_age: float = 0.0) -> None:
        """Make sure that what `servers` shows was read no longer ago than `max_age` seconds before this call.

        Many callers at once share one read, also one that fails, and the read goes on when some callers do not wait any
        more: however many clients come and disconnect, the cloud is read once. Raises what the cloud raises; the old
        content then stays.
        """
        wanted = time.monotonic() - max_age
        while self.read_at < wanted:
            if self._read is None or self._read.done() and not self._failed_since(wanted):
                self._read_began = time.monotonic()
                # In no context of a client's: others wait for it too.
                self._read = asyncio.create_task(self._read_changes(), context=contextvars.Context())
            is_earlier = self._read_began < wanted  # then it does not matter what becomes of this one
            with contextlib.suppress(VmsvcError) if is_earlier else contextlib.nullcontext():
                await asyncio.shield(self._read)

    async def refresh_throttled(self) -> None:
        """As `refresh`, but the read begins no sooner than a second after the one before. So unknown ids cost the cloud
        one read a second, however many there are, and a server that was made just now is found."""
        called = time.monotonic()
        await asyncio.sleep(self._read_began + _THROTTLE_SECONDS - called)
        await self.refresh(time.monotonic() - called)

    def _failed_since(self, moment: float) -> bool:
        if self._read is None or self._read_began < moment:
            return False
        return not self._read.cancelled() and self._read.exception() is not None

    async def _read_changes(self) -> None:
        async with self._reading:
            began = time.monotonic()
            full = began - self._full_read_at > self._timing.full_list * max(1.0, len(self.servers) / _PAGE)
            page = await self._cloud.servers(None if full else self.as_of)
            at_once = page.at_once
            if full:
                at_once &= await self._replace(page.servers)
                self._full_read_at = began
            else:
                self._merge(page.servers)
            self.as_of = page.as_of
            self.read_at, self._read_seconds = began, time.monotonic() - began
            for callback in self._moment_callbacks if at_once else ():
                callback()
        self._resolve_waiters()

    async def servers_and_occupants(self, since: datetime) -> OccupantPage:
        """As `refresh`, and in the same call the other projects' servers that changed since then."""
        async with self._reading:
            began = time.monotonic()
            ours, others = await self._cloud.servers_and_occupants(min(since, self.as_of) if self.as_of else since)
            self._merge(ours.servers)
            self.as_of, self.read_at = ours.as_of, began
        self._resolve_waiters()
        return others

    def mark_of(self, server_id: str) -> str | None:
        """The vmsvc id that the server carries as its mark; None when the cache has no such server, or it has no mark.
        Its row may not name it yet."""
        server = self.servers.get(server_id)
        return server.vmsvc_id if server else None

    async def read_server(self, server_id: str) -> Server | None:
        """Read one server now; None when the cloud says 404. Only that proves that a server has gone: a list may leave
        it out while its cell is down, or while Nova moves it from one cell to another."""
        known = server_id in self.servers
        server = await self._get_server(server_id)
        if server is None:
            self._drop(server_id)
            return None
        async with self._reading:  # a list that began earlier would restore an older state
            if server_id in self.servers or not known:  # else a list has shown meanwhile that it is deleted
                self._merge((_as_listed(server),))
        return server

    async def _get_server(self, server_id: str) -> Server | None:
        try:
            return await self._cloud.server(server_id)
        except NotFound:
            self._allocations.remove_server(server_id)
            return None

    def _resolve_waiters(self) -> None:
        """Wake the waiters whose server is ready. To wake each of a thousand waiters after every read would block the
        loop for a while."""
        for waiter in self._waiters:
            if self.read_at >= waiter.since and not waiter.result.done():
                shown = self.servers.get(waiter.server_id)
                if waiter.ready(shown):
                    waiter.result.set_result(shown)

    def _merge(self, servers: tuple[Server, ...]) -> None:
        for server in servers:
            if server.status in _DELETED:
                self.forget(server.id)
            else:
                self._put(server)

    async def _replace(self, servers: tuple[Server, ...]) -> bool:
        """Take the servers of a complete list, and those that the list left out though GET shows them. Returns True
        when it left out none of them."""
        listed = {server.id: server for server in servers if server.status not in _DELETED}
        count = len(listed)
        for server_id in self.servers.keys() - listed.keys():
            try:
                if (server := await self._get_server(server_id)) is not None:
                    listed[server_id] = _as_listed(server)
            except VmsvcError as error:  # a broken cell must not keep us from seeing the others
                log.info("server %s is missing in the list, and cannot be read: %s", server_id, error.message)
                listed[server_id] = self.servers[server_id]
        for server_id in self.servers.keys() - listed.keys():
            self._drop(server_id)
        for server in listed.values():
            self._put(server)
        return len(listed) == count

    def forget(self, server_id: str) -> None:
        """Remove a server for which the cloud said 404, until a read shows it again."""
        self._drop(server_id)
        self._allocations.remove_server(server_id)

    def _put(self, server: Server) -> None:
        before = self.servers.get(server.id)
        self.servers[server.id] = server
        self._count_mark(before, -1)
        self._count_mark(server, 1)
        if before is None:
            for watch in self._watches:
                watch.record(server.id, True)
        if before != server:
            self._report_change(server.id)
        self._update_allocations(server)

    def _drop(self, server_id: str) -> None:
        if (server := self.servers.pop(server_id, None)) is not None:
            self._count_mark(server, -1)
            self._report_change(server_id)
            for watch in self._watches:
                watch.record(server_id, False)

    def _count_mark(self, server: Server | None, by: int) -> None:
        if server is not None and (mark := server.vmsvc_id) is not None:
            self._marks[mark] += by
            if not self._marks[mark]:
                del self._marks[mark]

    def _report_change(self, server_id: str) -> None:
        self._changes.add(server_id)
        for callback in self._callbacks:
            callback(server_id)

    def _update_allocations(self, server: Server) -> None:
        if self._cloud.mode == "operator":
            self._allocations.update_server(server.occupant)

    async def wait_for(self, server_id: str, ready: Callable[[Server | None], bool], seconds: float) -> Server | None:
        """Wait until a read that began after this call shows the server such that `ready(server)` is true; `ready` gets
        None when the cache does not have the server. Returns the server, or after so many seconds the server as it is
        in the cache then, ready or not."""
        result: asyncio.Future[Server | None] = asyncio.get_running_loop().create_future()
        waiter = Waiter(server_id, ready, time.monotonic(), result)
        self._waiters.add(waiter)
        self._has_waiters.set()
        try:
            async with asyncio.timeout(seconds):
                return await result
        except TimeoutError:
            return self.servers.get(server_id)
        finally:
            self._waiters.discard(waiter)

    async def run(self, mark_ready: Callable[[], None]) -> None:
        """Read until this is cancelled: often while callers wait, seldom otherwise."""
        try:
            await self._read_repeatedly(mark_ready)
        finally:
            if self._read is not None:
                self._read.cancel()

    async def _read_repeatedly(self, mark_ready: Callable[[], None]) -> None:
        while True:
            self._has_waiters.clear()
            await self.refresh(_BUSY_SECONDS)
            mark_ready()
            if self._waiters:
                await asyncio.sleep(self.pause)
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_IDLE_SECONDS):
                        await self._has_waiters.wait()
