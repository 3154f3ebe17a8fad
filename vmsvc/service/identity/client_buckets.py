"""The kinds of buckets of tokens, one bucket for each client, for a bounded number of clients.

`web.http.limits` has the buckets of requests. Rehearsals, invalid Keystone tokens and unknown ids have buckets of their
own.
"""

import time
from collections.abc import Callable

from cachetools import LRUCache

from vmsvc.domain.errors import TooManyRequests
from vmsvc.domain.token_bucket import TokenBucket

#: How many clients are remembered; the client that was idle longest is forgotten, with its bucket (nearly) full again.
MAX_CLIENTS = 10_000


class Buckets:
    """A bucket of `burst` tokens for each client, which fills at `rate` a second."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic):
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: LRUCache[str, TokenBucket] = LRUCache(MAX_CLIENTS)

    def spend(self, client: str) -> None:
        """Take one token of the client's; raises TooManyRequests when it has none."""
        bucket = self._bucket_of(client)
        if wait := bucket.wait:
            raise TooManyRequests("this client asks too often", retry_after=wait)
        bucket.take()

    def give_back(self, client: str) -> None:
        """A token that the client took was not used."""
        self._bucket_of(client).give_back()

    def _bucket_of(self, client: str) -> TokenBucket:
        bucket = self._buckets.get(client)
        if bucket is None:
            bucket = self._buckets[client] = TokenBucket(self._rate, self._burst, clock=self._clock)
        return bucket
