"""How many calls go to the cloud: so many at once, so many a second, so many in line.

Our own, because the SDK's rate limit is ignored or fails when set, and keystoneauth's lets a burst through after it
was idle (it does not reset its clock) and one call more than the concurrency it was given.
"""

import asyncio
import time
from collections.abc import Callable

from vmsvc.cloud.exchange import LONGEST_PAUSE
from vmsvc.domain.errors import CloudUnavailable


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


class Limiter:
    """The way in: `enter()` before a call, `leave()` once its thread is free again.

    Belongs to one event loop. `leave()` is called when the work really ended, not when its caller gave up: so hung
    calls count, and there are never more of them than `slots`.
    """

    def __init__(self, slots: int, rate: float, line: int = 1000, clock: Callable[[], float] = time.monotonic):
        self._rate = rate
        self._clock = clock
        self._slots = asyncio.Semaphore(slots)
        self._paused: dict[str, TokenBucket] = {}
        self._all = TokenBucket(rate, burst=max(1, round(rate / 10)), clock=clock)
        self._waiting = 0
        self._line = line

    async def enter(self, service: str, patience: float) -> None:
        """Wait for a slot and a token; raises CloudUnavailable when the line is full or `patience` seconds are not
        enough. Then nothing was sent."""
        if self._waiting >= self._line:
            raise CloudUnavailable(f"{self._waiting} calls to the cloud are waiting already")
        deadline = self._clock() + patience
        self._waiting += 1
        try:
            await self._take_slot(patience)
            try:
                await asyncio.sleep(self._delay(service, deadline - self._clock()))
            except BaseException:
                self._slots.release()
                raise
        finally:
            self._waiting -= 1

    def leave(self) -> None:
        """Give the slot back."""
        self._slots.release()

    def pause(self, service: str, seconds: float) -> None:
        """The service asked (Retry-After) not to be called for so long."""
        bucket = self._paused.setdefault(service, TokenBucket(self._rate, clock=self._clock))
        bucket.pause(min(max(0.0, seconds), LONGEST_PAUSE))

    async def _take_slot(self, patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                await self._slots.acquire()
        except TimeoutError:
            raise CloudUnavailable("all calls to the cloud that may run at once are still waiting for it") from None

    def _delay(self, service: str, patience: float) -> float:
        buckets = [self._all, *([self._paused[service]] if service in self._paused else [])]
        wait = max(bucket.wait for bucket in buckets)
        if wait > patience:
            raise CloudUnavailable(f"the cloud's {service} service cannot be called for {wait:.0f} s", retry_after=wait)
        return max(bucket.take() for bucket in buckets)
