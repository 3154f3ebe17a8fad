"""The list that clients get: kept, and made anew when a client asks for it and something may have changed.

Something may have changed when the doorbell rang (any replica committed something), when this replica sent an event
that the list does not include, and when the server cache saw a change. A list older than a second is made anew in any
case, so that a lost notification, a stuck feed or an absent database makes it at most a second late. While no client
asks, nothing is done.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

from vmsvc.cloud.cache.server_cache import ServerCache
from vmsvc.cloud.port import SERVICE, Server, working_for
from vmsvc.service.listing.encoded_list import EncodedList, Listed, Page
from vmsvc.service.runtime import Runtime
from vmsvc.store import outbox, vms
from vmsvc.store.db import reading
from vmsvc.store.vm_cache import VmCache

_AGE = 1.0  # seconds: how old a list may be
_MANY = 1000  # so many changes, or as many as there are servers, and nobody asked: it is forgotten


class ListCache:
    """`bell` is set whenever a replica commits something; `told()` is the seq of the newest event that clients of this
    replica may have received."""

    def __init__(self, runtime: Runtime, server_cache: ServerCache, bell: asyncio.Event, told: Callable[[], int]):
        self._runtime = runtime
        self._server_cache = server_cache
        self._bell = bell
        self._told = told
        self._renewing = asyncio.Lock()
        self._read_at = float("-inf")  # time.monotonic() when reading of the rows began
        self._sought: frozenset[str] = frozenset()  # missing servers that the server cache looked for since
        self._forget()
        server_cache.follow(self._changed)

    def _forget(self) -> None:
        """Drop the list and all that it was made from. A thread that still works on them may go on: its result is not
        used."""
        self._rows, self._roll = VmCache(Listed), EncodedList()
        self._page: Page | None = None
        self._changes: dict[str, None] | None = None  # servers; None stands for all

    def _changed(self, server_id: str) -> None:
        if self._changes is not None:
            self._changes[server_id] = None
            if len(self._changes) > max(_MANY, len(self._server_cache.servers)):
                self._forget()

    def stale(self) -> None:
        """Have the next list made anew: a client is about to get an answer that the list must agree with."""
        self._bell.set()

    def current(self) -> Page | None:
        """The list as `page()` has it, if nothing has to be read for it."""
        page = self._page
        return page if page is not None and self._is_current(page) else None

    async def page(self) -> Page:
        """The list: no older than what this replica has told or answered, and a second at most.

        Raises what the cloud raises, and Unavailable when the database is away.
        """
        page = self.current()
        if page is not None:
            return page
        called = time.monotonic()
        async with self._renewing:
            if self._page is not None and self._read_at > called:  # for another call, while this one waited
                return self._page
            with working_for(SERVICE):  # all readers wait for this one
                return await self._renew()

    def _is_current(self, page: Page) -> bool:
        oldest = time.monotonic() - _AGE
        return (
            not self._bell.is_set()
            and not self._changes
            and page.seq >= self._told()
            and self._read_at >= oldest
            and self._server_cache.read_at >= oldest
        )

    async def _renew(self) -> Page:
        # Servers are read before rows, so that each server of ours that the list shows has its row.
        await self._server_cache.refresh(_AGE)
        rows, roll = self._rows, self._roll
        try:
            self._bell.clear()
            self._page = None  # later calls wait for the changes that the bell announced
            self._read_at = time.monotonic()
            page = await self._runtime.offload(_read, rows, roll, self._news())
            if page.missing - self._sought:
                await self._server_cache.refresh()
                found = {server_id: self._server_cache.servers.get(server_id) for server_id in page.missing}
                page = await self._runtime.offload(roll.update, rows, (), found, page.seq)
            self._sought = page.missing
        except BaseException:
            self._forget()
            raise
        if roll is self._roll:
            self._page = page
        return page

    def _news(self) -> Mapping[str, Server | None]:
        changes, self._changes = self._changes, {}
        servers = self._server_cache.servers
        return dict(servers) if changes is None else {server_id: servers.get(server_id) for server_id in changes}


def _read(rows: VmCache[Listed], roll: EncodedList, servers: Mapping[str, Server | None]) -> Page:
    """The rows and the number of the newest event in one view of the database: so it is true of them."""
    with reading():
        seq = outbox.newest()
        changed = rows.update(vms.clock())
    return roll.update(rows, changed, servers, seq)
