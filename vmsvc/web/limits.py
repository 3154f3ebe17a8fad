"""How much the service takes on at once, and how fast one client may ask for changes."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from vmsvc.domain.errors import TooManyRequests

#: How many clients are remembered; the one that was idle longest is forgotten, with its bucket (nearly) full again.
MAX_CLIENTS = 10_000

#: How many sockets read the history at once; half of the database's threads are for everything else.
MAX_READERS = 4


class Limits:
    """A count of requests in flight, and for each client a bucket of `burst` tokens that fills at `rate` a second.
    `history` is to be held by a socket while it reads the history."""

    def __init__(self, max_in_flight: int, rate: float, burst: int, clock: Callable[[], float] = time.monotonic):
        self._max_in_flight = max_in_flight
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()    # client -> tokens, as of
        self.in_flight = 0
        self.history = asyncio.Semaphore(MAX_READERS)

    def enter(self) -> None:
        """Count a request; raises TooManyRequests when there are too many already."""
        if self.in_flight >= self._max_in_flight:
            raise TooManyRequests("too many requests are in flight", retry_after=1)
        self.in_flight += 1

    def leave(self) -> None:
        """The request is over."""
        self.in_flight -= 1

    def spend(self, client: str) -> None:
        """Take one token of the client's; raises TooManyRequests when it has none."""
        now = self._clock()
        tokens, then = self._buckets.pop(client, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - then) * self._rate)
        self._buckets[client] = (tokens - 1 if tokens >= 1 else tokens, now)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        if tokens < 1:
            raise TooManyRequests("this client asks too often", retry_after=(1 - tokens) / self._rate)
