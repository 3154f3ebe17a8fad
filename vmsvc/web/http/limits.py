"""Refuses requests (429): too many at once, or more a second than one client may send.

A client is a principal that has shown a credential, from whichever address it comes, and else an address. Each request
that reaches the cloud or the database costs a token of its client's bucket; what is answered from memory (the list, the
catalog, the probes) is free.
"""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_address, ip_network

from vmsvc.domain.errors import TooManyRequests
from vmsvc.domain.principal import Principal
from vmsvc.service.identity.client_buckets import MAX_CLIENTS, Buckets

#: How many sockets, and how many requests for pages, read the history at once: together half of the database's threads,
#: so that the other half is free for everything else.
MAX_SOCKET_READERS, MAX_PAGE_READERS = 2, 2
#: How many requests for pages read the history or wait for their turn; each takes milliseconds.
MAX_PAGES = 64
#: How many refusals (429) of one client leave in a second, how many seconds a refusal is delayed at most, and how many
#: refusals of all clients are delayed at the same time.
REFUSALS_RATE, MAX_DELAY, MAX_DELAYED = 100.0, 5.0, 2048


def client_of(principal: Principal | None, address: str) -> str:
    """The client whose budget a request is on. A holder of one IPv6 address has all of its /64, so these addresses are
    one client."""
    if principal is not None and principal.credential:
        return principal.id
    try:
        found = ip_address(address)
    except ValueError:
        return "from elsewhere"
    if found.version == 6:
        return f"from {ip_network((found.packed[:8] + bytes(8), 64))}"
    return f"from {found}"


class RefusalDelay:
    """Lets `rate` refusals a second leave for each client and delays the others. A client that is refused at once asks
    again at once, and a few hundred of its connections then cost the loop more than all clients that are served."""

    def __init__(self, rate: float, clock: Callable[[], float]):
        self._rate = rate
        self._clock = clock
        self._last_turn: OrderedDict[str, float] = OrderedDict()  # client -> when its last refusal has left
        self.delayed = 0

    def seconds(self, client: str) -> float:
        """By how much to delay a refusal of this client; each call counts as a refusal."""
        now = self._clock()
        turn = max(now, self._last_turn.get(client, now))
        self._last_turn[client] = min(turn, now + MAX_DELAY) + 1 / self._rate
        self._last_turn.move_to_end(client)
        if len(self._last_turn) > MAX_CLIENTS:
            self._last_turn.popitem(last=False)
        return min(MAX_DELAY, turn - now) if self.delayed < MAX_DELAYED else 0.0


class Limits:
    """Counts requests in flight, and keeps two buckets for each client: one of `burst` writes, filled at `rate` a
    second, and one of `read_burst` reads, filled at `read_rate`. A WebSocket holds `history` while it reads the
    history, a request holds `history_page()`."""

    def __init__(
        self,
        max_in_flight: int,
        rate: float,
        burst: int,
        read_rate: float = 100.0,
        read_burst: int = 200,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._max_in_flight = max_in_flight
        self._writes = Buckets(rate, burst, clock)
        self._reads = Buckets(read_rate, read_burst, clock)
        self._refusals = RefusalDelay(REFUSALS_RATE, clock)
        self.in_flight = 0
        self.history = asyncio.Semaphore(MAX_SOCKET_READERS)
        self._page_turn = asyncio.Semaphore(MAX_PAGE_READERS)
        self._pages = 0

    @property
    def delayed_refusals(self) -> int:
        """How many refusals are delayed now."""
        return self._refusals.delayed

    def enter(self) -> None:
        """Count a request as in flight. Raises TooManyRequests when `max_in_flight` are."""
        if self.in_flight >= self._max_in_flight:
            raise TooManyRequests("too many requests are in flight", retry_after=1)
        self.in_flight += 1

    def leave(self) -> None:
        """The request is no longer in flight."""
        self.in_flight -= 1

    @contextlib.asynccontextmanager
    async def history_page(self) -> AsyncIterator[None]:
        """Wait for a turn to read a page of history. Raises TooManyRequests when MAX_PAGES requests read or wait."""
        if self._pages >= MAX_PAGES:
            raise TooManyRequests("too many read the history now", retry_after=1)
        self._pages += 1
        try:
            async with self._page_turn:
                yield
        finally:
            self._pages -= 1

    def spend_write(self, client: str) -> None:
        """Take a token for a request that changes something. Raises TooManyRequests when the client has none left."""
        self._writes.spend(client)

    def spend_read(self, client: str) -> None:
        """Take a token for a request that reads. Raises TooManyRequests when the client has none left."""
        self._reads.spend(client)

    async def delay_refusal(self, client: str) -> None:
        """Wait before this client gets a 429. A request that waits here is not in flight."""
        seconds = self._refusals.seconds(client)
        if seconds > 0:
            self._refusals.delayed += 1
            try:
                await asyncio.sleep(seconds)
            finally:
                self._refusals.delayed -= 1
