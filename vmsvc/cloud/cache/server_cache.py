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

log = logging.getLogger(__name__)

_BUSY_SECONDS = 0.05  # between reads while somebody waits for a server, at least, ...
_BUSY_LIMIT = 1.0  # ... at most; between the two as long as the last read took: a slow cloud is asked less
_IDLE_SECONDS = 5.0
_SEEK_SECONDS = 1.0  # between reads for servers that nobody knows
_WHOLE_SECONDS = 60.0  # between reads of the whole list, for each page of it: it finds what changes-since has not
_PAGE = 1000  # told, and costs a page a minute, however many servers there are
_GONE = frozenset({"DELETED"})


class Watch:
    """The servers that came (`came`) and went (`went`) since the watch began."""

    def __init__(self) -> None:
        self.came: set[str] = set()
        self.went: set[str] = set()

    def note(self, server_id: str, came: bool) -> None:
        """A server came or went."""
        arrived, left = (self.came, self.went) if came else (self.went, self.came)
        if server_id in left:
            left.remove(server_id)
        else:
            arrived.add(server_id)


@dataclass(eq=False, slots=True)
class Waiter:
    """A call of `until`: it waits for a read that began after `called` and shows the server `ready`."""

    server_id: str
    ready: Callable[[Server | None], bool]
    called: float
    told: asyncio.Future[Server | None]


def _as_listed(server: Server) -> Server:
    """A server from GET as a list shows it: only GET of one server has its server groups (Nova 2.71). Otherwise a
    server would seem to change from one way of reading to the other."""
    return replace(server, body={key: value for key, value in server.body.items() if key != "server_groups"})


class ServerCache:
    """Read it through `servers`; it is never older than the last successful `refresh`."""

    def __init__(self, cloud: Cloud, allocations: HostAllocations):
        self._cloud = cloud
        self._allocations = allocations
        self._reading = asyncio.Lock()
        self._wanted = asyncio.Event()
        self._waiters: set[Waiter] = set()
        self._whole_at = self._read_from = float("-inf")
        self._read: asyncio.Task[None] | None = None  # the newest, which began after `_read_from`
        self.as_of: datetime | None = None  # the cloud's clock when that read began, less a margin
        self.servers: dict[str, Server] = {}
        self.read_at = float("-inf")  # time.monotonic() when the newest successful read began
        self._took = 0.0  # seconds that it took
        self._watches: list[Watch] = []
        self._changes: set[str] = set()
        self._followers: list[Callable[[str], None]] = []
        self._marks: Counter[str] = Counter()

    @contextlib.contextmanager
    def watching(self) -> Iterator[Watch]:
        """In this context the watch notes the servers that come and go."""
        watch = Watch()
        self._watches.append(watch)
        try:
            yield watch
        finally:
            self._watches.remove(watch)

    @property
    def pause(self) -> float:
        """Seconds from the end of one read to the next while callers wait."""
        return min(_BUSY_LIMIT, max(_BUSY_SECONDS, self._took))

    def news(self) -> dict[str, Server | None]:
        """The servers that changed since the last call, None for those that are no longer there."""
        changes, self._changes = self._changes, set()
        return {server_id: self.servers.get(server_id) for server_id in changes}

    def shows_mark(self, vmsvc_id: str) -> bool:
        """True when the last read showed a server that carries this mark."""
        return self._marks[vmsvc_id] > 0

    def follow(self, tell: Callable[[str], None]) -> None:
        """From now on call `tell(id)` for each server that comes, changes or goes."""
        self._followers.append(tell)

    async def refresh(self, max_age: float = 0.0) -> None:
        """Make sure that what `servers` shows was read no longer ago than `max_age` seconds before this call.

        Many callers at once share one read, also one that fails, and it goes on when some of them do not wait any more:
        however many clients ask and go, the cloud is asked once. Raises what the cloud raises; the old content then
        stays.
        """
        wanted = time.monotonic() - max_age
        while self.read_at < wanted:
            if self._read is None or self._read.done() and not self._failed_since(wanted):
                self._read_from = time.monotonic()
                # In no context of a client's: others wait for it too.
                self._read = asyncio.create_task(self._read_changes(), context=contextvars.Context())
            early = self._read_from < wanted  # then it does not matter what becomes of this one
            with contextlib.suppress(VmsvcError) if early else contextlib.nullcontext():
                await asyncio.shield(self._read)

    async def seek(self) -> None:
        """As `refresh`, but the read begins no sooner than a second after the one before. So unknown ids cost the cloud
        one read a second, however many there are, and a server that was made just now is found."""
        called = time.monotonic()
        await asyncio.sleep(self._read_from + _SEEK_SECONDS - called)
        await self.refresh(time.monotonic() - called)

    def _failed_since(self, moment: float) -> bool:
        if self._read is None or self._read_from < moment:
            return False
        return not self._read.cancelled() and self._read.exception() is not None

    async def _read_changes(self) -> None:
        async with self._reading:
            began = time.monotonic()
            whole = began - self._whole_at > _WHOLE_SECONDS * max(1.0, len(self.servers) / _PAGE)
            page = await self._cloud.servers(None if whole else self.as_of)
            if whole:
                await self._replace(page.servers)
                self._whole_at = began
            else:
                self._merge(page.servers)
            self.as_of = page.as_of
            self.read_at, self._took = began, time.monotonic() - began
        self._tell()

    async def everybody(self, since: datetime) -> OccupantPage:
        """As `refresh`, and in the same call the other projects' servers that changed since then."""
        async with self._reading:
            began = time.monotonic()
            ours, others = await self._cloud.everybody(min(since, self.as_of) if self.as_of else since)
            self._merge(ours.servers)
            self.as_of, self.read_at = ours.as_of, began
        self._tell()
        return others

    def mark_of(self, server_id: str) -> str | None:
        """Our id, where a server of this id is shown and carries one: its row may not name it yet."""
        server = self.servers.get(server_id)
        return server.vmsvc_id if server else None

    async def look(self, server_id: str) -> Server | None:
        """Read one server now; None when the cloud says 404. Only that proves that a server has gone: a list may leave
        it out while its cell is down, or while Nova moves it from one cell to another."""
        known = server_id in self.servers
        server = await self._get(server_id)
        if server is None:
            self._hide(server_id)
            return None
        async with self._reading:  # a list that began earlier would bring back what was
            if server_id in self.servers or not known:  # else a list has told meanwhile that it went
                self._merge((_as_listed(server),))
        return server

    async def _get(self, server_id: str) -> Server | None:
        try:
            return await self._cloud.server(server_id)
        except NotFound:
            self._allocations.gone(server_id)
            return None

    def _tell(self) -> None:
        """Wake the waiters whose server is ready. To wake each of a thousand waiters after every read would block the
        loop for a while."""
        for waiter in self._waiters:
            if self.read_at >= waiter.called and not waiter.told.done():
                shown = self.servers.get(waiter.server_id)
                if waiter.ready(shown):
                    waiter.told.set_result(shown)

    def _merge(self, servers: tuple[Server, ...]) -> None:
        for server in servers:
            if server.status in _GONE:
                self.forget(server.id)
            else:
                self._show(server)

    async def _replace(self, servers: tuple[Server, ...]) -> None:
        """Show the servers of a complete list, and those that the list left out though GET shows them."""
        fresh = {server.id: server for server in servers if server.status not in _GONE}
        for server_id in self.servers.keys() - fresh.keys():
            try:
                if (server := await self._get(server_id)) is not None:
                    fresh[server_id] = _as_listed(server)
            except VmsvcError as error:  # a broken cell must not keep us from seeing the others
                log.info("server %s is missing in the list, and cannot be read: %s", server_id, error.message)
                fresh[server_id] = self.servers[server_id]
        for server_id in self.servers.keys() - fresh.keys():
            self._hide(server_id)
        for server in fresh.values():
            self._show(server)

    def forget(self, server_id: str) -> None:
        """The cloud said 404: do not show it until the next read."""
        self._hide(server_id)
        self._allocations.gone(server_id)

    def _show(self, server: Server) -> None:
        before = self.servers.get(server.id)
        self.servers[server.id] = server
        self._count_mark(before, -1)
        self._count_mark(server, 1)
        if before is None:
            for watch in self._watches:
                watch.note(server.id, True)
        if before != server:
            self._change(server.id)
        self._claim(server)

    def _hide(self, server_id: str) -> None:
        if (server := self.servers.pop(server_id, None)) is not None:
            self._count_mark(server, -1)
            self._change(server_id)
            for watch in self._watches:
                watch.note(server_id, False)

    def _count_mark(self, server: Server | None, by: int) -> None:
        if server is not None and (mark := server.vmsvc_id) is not None:
            self._marks[mark] += by
            if not self._marks[mark]:
                del self._marks[mark]

    def _change(self, server_id: str) -> None:
        self._changes.add(server_id)
        for tell in self._followers:
            tell(server_id)

    def _claim(self, server: Server) -> None:
        if self._cloud.mode == "operator":
            self._allocations.saw(server.occupant)

    async def until(self, server_id: str, ready: Callable[[Server | None], bool], seconds: float) -> Server | None:
        """Wait until a read that began after this call shows the server such that `ready(server)` is true; `ready` gets
        None when the server cache does not show it. Returns the server, or after so many seconds what is shown then,
        ready or not."""
        told: asyncio.Future[Server | None] = asyncio.get_running_loop().create_future()
        waiter = Waiter(server_id, ready, time.monotonic(), told)
        self._waiters.add(waiter)
        self._wanted.set()
        try:
            async with asyncio.timeout(seconds):
                return await told
        except TimeoutError:
            return self.servers.get(server_id)
        finally:
            self._waiters.discard(waiter)

    async def run(self, well: Callable[[], None]) -> None:
        """Read until this is cancelled: often while callers wait, seldom otherwise."""
        try:
            await self._follow(well)
        finally:
            if self._read is not None:
                self._read.cancel()

    async def _follow(self, well: Callable[[], None]) -> None:
        while True:
            self._wanted.clear()
            await self.refresh(_BUSY_SECONDS)
            well()
            if self._waiters:
                await asyncio.sleep(self.pause)
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_IDLE_SECONDS):
                        await self._wanted.wait()
