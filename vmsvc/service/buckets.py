"""How fast one client may go: a bucket of tokens for each, of a bounded number of clients."""

import time
from collections import OrderedDict
from collections.abc import Callable

from vmsvc.domain.errors import TooManyRequests

#: How many clients are remembered; the one that was idle longest is forgotten, with its bucket (nearly) full again.
MAX_CLIENTS = 10_000


class Buckets:
    """A bucket of `burst` tokens for each client, which fills at `rate` a second."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic):
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()    # client -> tokens, as of

    def spend(self, client: str) -> None:
        """Take one token of the client's; raises TooManyRequests when it has none."""
        tokens = self._tokens(client)
        self._keep(client, tokens - 1 if tokens >= 1 else tokens)
        if tokens < 1:
            raise TooManyRequests("this client asks too often", retry_after=(1 - tokens) / self._rate)

    def give_back(self, client: str) -> None:
        """A token that the client took was not used."""
        self._keep(client, min(self._burst, self._tokens(client) + 1))

    def _keep(self, client: str, tokens: float) -> None:
        self._buckets[client] = (tokens, self._clock())
        self._buckets.move_to_end(client)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)

    def _tokens(self, client: str) -> float:
        now = self._clock()
        tokens, then = self._buckets.get(client, (self._burst, now))
        return min(self._burst, tokens + (now - then) * self._rate)
