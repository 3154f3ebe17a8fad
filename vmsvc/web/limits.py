"""How much the service takes on at once, and how fast one client may ask.

A client is a principal that has shown who it is, from wherever it comes, and else an address. Every path to the cloud
or to the database costs a token of its bucket; what memory answers (the list, the catalog, the probes) is free.
"""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_address, ip_network

from vmsvc.domain.errors import TooManyRequests
from vmsvc.domain.principal import Principal
from vmsvc.service.buckets import MAX_CLIENTS, Buckets

#: How many sockets, and how many requests for pages, read the history at once: together half of the database's threads,
#: so that the other half is free for everything else.
MAX_SOCKET_READERS, MAX_PAGE_READERS = 2, 2
#: How many requests for pages read the history or wait for their turn; each takes milliseconds.
MAX_PAGES = 64
#: How many refusals of one client leave in a second, how many seconds one is held back at most, and how many are.
REFUSALS_RATE, MAX_HOLD, MAX_HELD = 100.0, 5.0, 2048


def client_of(principal: Principal | None, address: str) -> str:
    """Whose budget it is. Whoever has one IPv6 address has all of its /64, so these are one client."""
    if principal is not None and principal.credential:
        return principal.id
    try:
        found = ip_address(address)
    except ValueError:
        return "from elsewhere"
    if found.version == 6:
        return f"from {ip_network((found.packed[:8] + bytes(8), 64))}"
    return f"from {found}"


class Row:
    """Puts what each client is refused in a row, in which `rate` a second move up. Whoever is refused at once asks
    again at once, and a few hundred connections of his then cost the loop more than all who are served."""

    def __init__(self, rate: float, clock: Callable[[], float]):
        self._rate = rate
        self._clock = clock
        self._ends: OrderedDict[str, float] = OrderedDict()     # client -> when the last of its row has moved up
        self.held = 0

    def wait(self, client: str) -> float:
        """Stand at the end; the seconds until one's turn."""
        now = self._clock()
        turn = max(now, self._ends.get(client, now))
        self._ends[client] = min(turn, now + MAX_HOLD) + 1 / self._rate
        self._ends.move_to_end(client)
        if len(self._ends) > MAX_CLIENTS:
            self._ends.popitem(last=False)
        return min(MAX_HOLD, turn - now) if self.held < MAX_HELD else 0.0


class Limits:
    """A count of requests in flight, and for each client two buckets: of `burst` changes, filled at `rate` a second,
    and of `read_burst` reads, filled at `read_rate`. `history` is to be held by a socket while it reads the
    history, `page()` by a request."""

    def __init__(self, max_in_flight: int, rate: float, burst: int, read_rate: float = 100.0, read_burst: int = 200,
                 clock: Callable[[], float] = time.monotonic):
        self._max_in_flight = max_in_flight
        self._changes = Buckets(rate, burst, clock)
        self._reads = Buckets(read_rate, read_burst, clock)
        self._refused = Row(REFUSALS_RATE, clock)
        self.in_flight = 0
        self.history = asyncio.Semaphore(MAX_SOCKET_READERS)
        self._page_turn = asyncio.Semaphore(MAX_PAGE_READERS)
        self._pages = 0

    @property
    def held(self) -> int:
        """How many refusals are held back."""
        return self._refused.held

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

    def spend_read(self, client: str) -> None:
        """The same for something that is read."""
        self._reads.spend(client)

    async def hold_back(self, client: str) -> None:
        """Wait before this client hears that it asks too often. What waits here is not in flight."""
        wait = self._refused.wait(client)
        if wait > 0:
            self._refused.held += 1
            try:
                await asyncio.sleep(wait)
            finally:
                self._refused.held -= 1
