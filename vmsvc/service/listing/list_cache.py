"""The list that clients get: kept, and made anew when a client asks for it and something may have changed.

Something may have changed when the listener was notified (any replica committed something), when this replica sent an
event that the list does not include, and when the server cache found a change. A list older than a second is made anew
in any case, so that a lost notification, a stuck feed or an absent database makes it at most a second late. While no
client asks, nothing is done.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

from vmsvc.cloud.cache.server_cache import ServerCache
from vmsvc.cloud.port import SERVICE, Server, working_for
from vmsvc.domain.lifecycle import State
from vmsvc.service.listing.encoded_list import EncodedList, ListedVm, ListPage
from vmsvc.service.runtime import Runtime
from vmsvc.service.usage import SharesCache
from vmsvc.store import outbox, vms
from vmsvc.store.db import reading
from vmsvc.store.vm_cache import VmCache

_MAX_AGE = 1.0  # seconds: how old a list may be
_MAX_CHANGES = 1000  # so many changes, or as many as there are servers, and nobody asked: it is forgotten


class ListCache:
    """`wakeup` is set whenever a replica commits something; `published_seq()` is the seq of the newest event that
    clients of this replica may have received."""

    def __init__(
        self, runtime: Runtime, server_cache: ServerCache, wakeup: asyncio.Event, published_seq: Callable[[], int]
    ):
        self._runtime = runtime
        self._server_cache = server_cache
        self._wakeup = wakeup
        self._published_seq = published_seq
        self._lock = asyncio.Lock()
        self._read_at = float("-inf")  # time.monotonic() when reading of the rows began
        self._searched: frozenset[str] = frozenset()  # missing servers for which the server cache was read again
        self._shares = SharesCache()
        self._forget()
        server_cache.on_change(self._changed)

    def _forget(self) -> None:
        """Drop the list and all that it was made from. A thread that still works on them may finish; its result is not
        used."""
        self._vm_cache, self._encoded_list = VmCache(ListedVm), EncodedList()
        self._page: ListPage | None = None
        self._changes: dict[str, None] | None = None  # servers; None stands for all

    def _changed(self, server_id: str) -> None:
        if self._changes is not None:
            self._changes[server_id] = None
            if len(self._changes) > max(_MAX_CHANGES, len(self._server_cache.servers)):
                self._forget()

    def invalidate(self) -> None:
        """Have the next list made anew: a client is about to get an answer that the list must agree with."""
        self._wakeup.set()

    def current(self) -> ListPage | None:
        """The list as `page()` has it, if nothing has to be read for it."""
        page = self._page
        return page if page is not None and self._is_current(page) else None

    async def page(self) -> ListPage:
        """The list: no older than the events that this replica has sent and its answers, and a second at most.

        Raises what the cloud raises, and Unavailable when the database is away.
        """
        page = self.current()
        if page is not None:
            return page
        requested_at = time.monotonic()
        async with self._lock:
            if self._page is not None and self._read_at > requested_at:  # for another call, while this one waited
                return self._page
            with working_for(SERVICE):  # all readers wait for this one
                return await self._update()

    def _is_current(self, page: ListPage) -> bool:
        oldest = time.monotonic() - _MAX_AGE
        return (
            not self._wakeup.is_set()
            and not self._changes
            and page.seq >= self._published_seq()
            and self._read_at >= oldest
            and self._server_cache.read_at >= oldest
        )

    async def _update(self) -> ListPage:
        # Servers are read before rows, so that each server of ours that the list shows has its row.
        await self._server_cache.refresh(_MAX_AGE)
        vm_cache, encoded_list = self._vm_cache, self._encoded_list
        try:
            self._wakeup.clear()
            self._page = None  # later calls wait for the changes that the wakeup announced
            self._read_at = time.monotonic()
            page = await self._runtime.offload(_read, vm_cache, encoded_list, self._take_changes(), self._shares)
            if page.missing - self._searched:
                await self._server_cache.refresh()
                found = {server_id: self._server_cache.servers.get(server_id) for server_id in page.missing}
                page = await self._runtime.offload(encoded_list.update, vm_cache, (), found, page.seq)
            self._searched = page.missing
        except BaseException:
            self._forget()
            raise
        if encoded_list is self._encoded_list:
            self._page = page
        return page

    def _take_changes(self) -> Mapping[str, Server | None]:
        changes, self._changes = self._changes, {}
        servers = self._server_cache.servers
        return dict(servers) if changes is None else {server_id: servers.get(server_id) for server_id in changes}


def _read(
    vm_cache: VmCache[ListedVm],
    encoded_list: EncodedList,
    servers: Mapping[str, Server | None],
    shares: SharesCache,
) -> ListPage:
    """The page of the rows, with the seq of the newest event as of the same moment: both are read in one snapshot."""
    with reading():
        seq, now = outbox.newest(), vms.clock()
        changed = vm_cache.update(now)
        waiting = vm_cache.in_states(State.PENDING)
        queue = shares.of({row.principal_id or row.principal for row in waiting if row.queued_why is not None}, now)
    return encoded_list.update(vm_cache, changed, servers, seq, queue)
