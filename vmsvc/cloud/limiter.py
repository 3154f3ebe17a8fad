"""How many calls go to the cloud: so many at once, so many a second, so many in line; and of these so many for clients.

Our own, because the SDK's rate limit is ignored or fails when set, and keystoneauth's lets a burst through after it
was idle (it does not reset its clock) and one call more than the concurrency it was given.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from vmsvc.cloud.exchange import LONGEST_PAUSE
from vmsvc.cloud.port import CHECK, CLIENT, SERVICE
from vmsvc.domain.errors import CloudUnavailable

#: The largest part of all calls that may be for clients, and for checks who they are. The rest is the service's.
SHARES = {CLIENT: 0.5, CHECK: 0.25}


class TokenBucket:
    """`rate` tokens a second; idle time saves up at most `burst` of them. No I/O and no waiting: it says how long."""

    def __init__(self, rate: float, burst: int = 1, clock: Callable[[], float] = time.monotonic):
        self._interval = 1.0 / rate
        self._credit = (burst - 1) * self._interval
        self._clock = clock
        self._next = float("-inf")

    @property
    def wait(self) -> float:
        """Seconds until the next token is due."""
        return max(0.0, self._next - self._clock())

    def take(self) -> float:
        """Take the next token; returns the seconds until it is due."""
        wait = self.wait
        self._next = max(self._next, self._clock() - self._credit) + self._interval
        return wait

    def pause(self, seconds: float) -> None:
        """No token is due before `seconds` from now, and no burst follows."""
        self._next = max(self._next, self._clock() + seconds)


class Share:
    """A part of the calls: how many run, how many wait, how many start in a second."""

    def __init__(self, slots: int, rate: float, line: int, clock: Callable[[], float]):
        self._clock = clock
        self._slots = asyncio.Semaphore(slots)
        self._line = line
        self.waiting = 0
        self.bucket = TokenBucket(rate, burst=max(1, round(rate / 10)), clock=clock)

    @contextlib.asynccontextmanager
    async def slot(self, patience: float) -> AsyncIterator[None]:
        """Wait for a slot, which is given back when the block raises, and else by `leave()`. Raises CloudUnavailable
        when the line is full or `patience` seconds are not enough."""
        if self.waiting >= self._line:
            raise CloudUnavailable(f"{self.waiting} calls to the cloud are waiting already")
        self.waiting += 1
        try:
            await self._take_slot(patience)
            try:
                yield
            except BaseException:
                self.leave()
                raise
        finally:
            self.waiting -= 1

    def leave(self) -> None:
        """Give a slot back."""
        self._slots.release()

    async def _take_slot(self, patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                await self._slots.acquire()
        except TimeoutError:
            raise CloudUnavailable("all calls to the cloud that may run at once are still waiting for it") from None


class Limiter:
    """The way in: `enter()` before a call, and the function that it returns once the call's thread is free again.

    Belongs to one event loop. That function is called when the work really ended, not when its caller gave up: so hung
    calls count, and there are never more of them than `slots`. A client's call waits in the clients' share first, so
    in the line of all there are never more of its kind than that.
    """

    def __init__(self, slots: int, rate: float, line: int = 1000, clock: Callable[[], float] = time.monotonic):
        self._rate = rate
        self._clock = clock
        self._paused: dict[str, TokenBucket] = {}
        self._all = Share(slots, rate, line, clock)
        self._shares = {name: Share(max(1, int(slots * share)), rate * share, line, clock)
                       for name, share in SHARES.items()}

    async def enter(self, service: str, patience: float, whom: str = SERVICE) -> Callable[[], None]:
        """Wait for a slot and a token, and return what gives the slot back; raises CloudUnavailable when the line is
        full or `patience` seconds are not enough. Then nothing was sent."""
        deadline = self._clock() + patience
        own = self._shares.get(whom)
        if own is None:
            async with self._all.slot(patience):
                await self._pace(service, deadline)
            return self._all.leave
        async with own.slot(patience):
            await asyncio.sleep(_due(service, [own.bucket], deadline - self._clock()))
            async with self._all.slot(deadline - self._clock()):
                await self._pace(service, deadline)

        def leave() -> None:
            self._all.leave()
            own.leave()
        return leave

    def waiting(self, whom: str = SERVICE) -> int:
        """How many calls for this one wait; for the service: of all that have passed their own share."""
        return self._shares.get(whom, self._all).waiting

    def pause(self, service: str, seconds: float) -> None:
        """The service asked (Retry-After) not to be called for so long."""
        bucket = self._paused.setdefault(service, TokenBucket(self._rate, clock=self._clock))
        bucket.pause(min(max(0.0, seconds), LONGEST_PAUSE))

    async def _pace(self, service: str, deadline: float) -> None:
        buckets = [self._all.bucket, *([self._paused[service]] if service in self._paused else [])]
        await asyncio.sleep(_due(service, buckets, deadline - self._clock()))


def _due(service: str, buckets: list[TokenBucket], patience: float) -> float:
    """Take a token of each; the seconds until all are due. Raises CloudUnavailable when that is beyond the patience."""
    wait = max(bucket.wait for bucket in buckets)
    if wait > patience:
        raise CloudUnavailable(f"the cloud's {service} service cannot be called for {wait:.0f} s", retry_after=wait)
    return max(bucket.take() for bucket in buckets)
