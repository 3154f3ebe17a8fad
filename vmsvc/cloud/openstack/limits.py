"""The bounds of calls to the cloud: how many at once, a second and in the queue, how many of these for clients.

`Limiter` lets calls start, `Executor` runs them in threads with a deadline. Both are vmsvc's own: openstacksdk's rate
limit is ignored or fails when set, and keystoneauth's lets a burst through after idle time (it does not reset its
clock) and one call more than the concurrency that it was given.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from vmsvc.cloud.openstack.exchange import LONGEST_PAUSE
from vmsvc.cloud.port import CHECK, CLIENT, SERVICE
from vmsvc.domain.errors import CloudUnavailable
from vmsvc.domain.token_bucket import TokenBucket

T = TypeVar("T")
#: The largest part of all calls that may be for clients, and for checks who they are. The rest is the service's.
SHARES = {CLIENT: 0.5, CHECK: 0.25}
#: Seconds that the loop waits beyond a call's time. The thread's own time-out comes first: it knows what happened.
GRACE = 0.5


class CallShare:
    """A part of the calls: how many run, how many wait, how many start in a second."""

    def __init__(self, slots: int, rate: float, queue: int, clock: Callable[[], float]):
        self._slots = asyncio.Semaphore(slots)
        self._queue = queue
        self.waiting = 0
        self.bucket = TokenBucket(rate, burst=max(1, round(rate / 10)), clock=clock)

    @contextlib.asynccontextmanager
    async def slot(self, patience: float) -> AsyncIterator[None]:
        """Wait for a slot. When the block raises, the slot is given back; otherwise the caller does it by `leave()`.
        Raises CloudUnavailable when the queue is full or no slot is free within `patience` seconds."""
        if self.waiting >= self._queue:
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
    """Call `enter()` before a call, and the function that it returns once the call's thread is free again.

    Belongs to one event loop. The returned function is called when the work really ended, not when its caller gave up:
    so hung calls count, and there are never more of them than `slots`. A client's call waits in the clients' share
    first, so the queue of all calls never holds more of them than that share has slots.
    """

    def __init__(self, slots: int, rate: float, queue: int = 1000, clock: Callable[[], float] = time.monotonic):
        self._rate = rate
        self._clock = clock
        self._paused: dict[str, TokenBucket] = {}
        self._all = CallShare(slots, rate, queue, clock)
        self._shares = {
            name: CallShare(max(1, int(slots * share)), rate * share, queue, clock) for name, share in SHARES.items()
        }

    async def enter(self, service: str, patience: float, whom: str = SERVICE) -> Callable[[], None]:
        """Wait for a slot and a token, and return the function that gives the slot back; raises CloudUnavailable when
        the queue is full or `patience` seconds are not enough. Then nothing was sent."""
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
        """How many calls wait in a share; for SERVICE: how many wait that have passed their own share."""
        return self._shares.get(whom, self._all).waiting

    def pause(self, service: str, seconds: float) -> None:
        """The cloud's service asked (Retry-After) not to be called for so long."""
        bucket = self._paused.setdefault(service, TokenBucket(self._rate, clock=self._clock))
        bucket.pause(min(max(0.0, seconds), LONGEST_PAUSE))

    async def _pace(self, service: str, deadline: float) -> None:
        buckets = [self._all.bucket, *([self._paused[service]] if service in self._paused else [])]
        await asyncio.sleep(_due(service, buckets, deadline - self._clock()))


def _due(service: str, buckets: list[TokenBucket], patience: float) -> float:
    """Take a token of each bucket; returns the seconds until all are due. Raises CloudUnavailable when that is beyond
    `patience`."""
    wait = max(bucket.wait for bucket in buckets)
    if wait > patience:
        raise CloudUnavailable(f"the cloud's {service} service cannot be called for {wait:.0f} s", retry_after=wait)
    return max(bucket.take() for bucket in buckets)


class Attempt:
    """One exchange with the cloud, as its thread and the loop share it.

    The thread calls `begin()` right before it sends; the loop calls `abandon()` when it waits no longer. The first of
    the two decides: an abandoned request is not sent any more, and a request that was sent is known to be.
    """

    def __init__(self, seconds: float):
        self._deadline = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._sent = False
        self._abandoned = False

    @property
    def remaining(self) -> float:
        """Seconds left, at least 0."""
        return max(0.0, self._deadline - time.monotonic())

    def begin(self) -> bool:
        """True when the request may go out now."""
        with self._lock:
            self._sent = not self._abandoned and self.remaining > 0
            return self._sent

    def abandon(self) -> bool:
        """Give up; returns True when the request had gone out."""
        with self._lock:
            self._abandoned = True
            return self._sent


class Late(Exception):
    """The deadline passed while the thread was still at work. `sent`: whether the request had gone out."""

    def __init__(self, sent: bool):
        super().__init__(sent)
        self.sent = sent


class Executor:
    """A pool of `workers` threads. A caller must hold one of as many slots: then no work waits inside the pool."""

    def __init__(self, workers: int):
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="cloud")

    async def run(self, work: Callable[[Attempt], T], seconds: float, done: Callable[[], None] = lambda: None) -> T:
        """Run `work(attempt)` in a thread and return its result; raises Late after `seconds`.

        The thread is not killed (Python cannot): its socket's time-outs end it. `done` is called on the loop when
        the thread has ended, however late.
        """
        loop = asyncio.get_running_loop()
        attempt = Attempt(seconds)
        try:
            future = self._pool.submit(work, attempt)
        except RuntimeError:
            done()
            raise CloudUnavailable("the connection to the cloud is closed") from None
        future.add_done_callback(lambda ended: _call_on(loop, ended, done))
        try:
            async with asyncio.timeout(seconds + GRACE):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise Late(attempt.abandon()) from None
        except asyncio.CancelledError:
            attempt.abandon()
            raise

    def close(self) -> None:
        """No new work; running threads end with their time-outs."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _call_on(loop: asyncio.AbstractEventLoop, ended: Future[T], done: Callable[[], None]) -> None:
    if not ended.cancelled():
        ended.exception()  # an abandoned failure was reported as Late: no caller asks for it again
    with contextlib.suppress(RuntimeError):  # the loop is closed: no call waits for the slot any more
        loop.call_soon_threadsafe(done)
