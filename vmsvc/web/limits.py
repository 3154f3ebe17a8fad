"""How much the service takes on at once, and how fast one client may ask for changes."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from vmsvc.domain.errors import TooManyRequests
from vmsvc.service.buckets import Buckets

#: How many sockets, and how many requests for pages, read the history at once: together half of the database's threads,
#: so that the other half is free for everything else.
MAX_SOCKET_READERS, MAX_PAGE_READERS = 2, 2
#: How many requests for pages read the history or wait for their turn; each takes milliseconds.
MAX_PAGES = 64


class Limits:
    """A count of requests in flight, and for each client a bucket of `burst` changes that fills at `rate` a second.
    `history` is to be held by a socket while it reads the history, `page()` by a request."""

    def __init__(self, max_in_flight: int, rate: float, burst: int, clock: Callable[[], float] = time.monotonic):
        self._max_in_flight = max_in_flight
        self._changes = Buckets(rate, burst, clock)
        self.in_flight = 0
        self.history = asyncio.Semaphore(MAX_SOCKET_READERS)
        self._page_turn = asyncio.Semaphore(MAX_PAGE_READERS)
        self._pages = 0

    def has_room(self) -> bool:
        """True when one more request may enter."""
        return self.in_flight < self._max_in_flight

    def enter(self) -> None:
        """Count a request; raises TooManyRequests when there are too many already."""
        if not self.has_room():
            raise TooManyRequests("too many requests are in flight", retry_after=1)
        self.in_flight += 1

    def leave(self) -> None:
        """The request is over."""
        self.in_flight -= 1

    @contextlib.asynccontextmanager
    async def page(self) -> AsyncIterator[None]:
        """A turn to read the history for a page. Raises TooManyRequests when too many wait for one already."""
        if self._pages >= MAX_PAGES:
            raise TooManyRequests("too many read the history now", retry_after=1)
        self._pages += 1
        try:
            async with self._page_turn:
                yield
        finally:
            self._pages -= 1

    def spend(self, client: str) -> None:
        """Count a change that the client asks for; raises TooManyRequests when there were too many."""
        self._changes.spend(client)
