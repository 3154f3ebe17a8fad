"""The list that clients get: kept, and made anew when it is asked for and something may have changed.

What may have changed: the doorbell rang (any replica committed something), an event was told here that it does not
include, the server cache saw another server; and after a second it is looked at in any case, so that a lost
notification, a feed that is stuck or a database that is away costs a second and no more. Nothing is done while nobody
asks.
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

_AGE = 1.0          # seconds: how old a list may be
_MANY = 1000        # so many changes, or as many as there are servers, and nobody asked: it is forgotten


class ListCache:
    """`bell` is one of the doorbell's, `told` the seq of the newest event that was told here."""

    def __init__(self, runtime: Runtime, server_cache: ServerCache, bell: asyncio.Event, told: Callable[[], int]):
        self._runtime = runtime
        self._server_cache = server_cache
        self._bell = bell
        self._told = told
        self._renewing = asyncio.Lock()
        self._read_at = float("-inf")       # time.monotonic() when reading of the rows began
        self._sought: frozenset[str] = frozenset()      # missing servers that the server cache looked for since
        self._forget()
        server_cache.follow(self._changed)

    def _forget(self) -> None:
        """Begin anew. A thread that is still at the roll may go on with it: nobody sees what it does."""
        self._rows, self._roll = VmCache(Listed), EncodedList()
        self._page: Page | None = None
        self._changes: dict[str, None] | None = None    # servers; None stands for all

    def _changed(self, server_id: str) -> None:
        if self._changes is not None:
            self._changes[server_id] = None
            if len(self._changes) > max(_MANY, len(self._server_cache.servers)):
                self._forget()

    def stale(self) -> None:
        """A client is about to hear what became of its request: the next list shows it."""
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
            if self._page is not None and self._read_at > called:       # for another call, while this one waited
                return self._page
            with working_for(SERVICE):          # all readers wait for this one
                return await self._renew()

    def _is_current(self, page: Page) -> bool:
        oldest = time.monotonic() - _AGE
        return (not self._bell.is_set() and not self._changes and page.seq >= self._told()
                and self._read_at >= oldest and self._server_cache.read_at >= oldest)

    async def _renew(self) -> Page:
        # Before the rows: each server of ours that it shows has its row by then.
        await self._server_cache.refresh(_AGE)
        rows, roll = self._rows, self._roll
        try:
            self._bell.clear()
            self._page = None           # whoever asks from now on waits for what the bell rang for
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
