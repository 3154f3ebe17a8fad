"""Blocking work in a bounded pool of threads, with a deadline that the loop keeps."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from vmsvc.domain.errors import CloudUnavailable

T = TypeVar("T")
#: The thread's own time-out comes first: it knows better what happened.
GRACE = 0.5


class Attempt:
    """One exchange with the cloud, as its thread and the loop share it.

    The thread calls `begin()` right before it sends; the loop calls `abandon()` when it waits no longer. Whoever is
    first decides: what was abandoned is not sent any more, and what was sent is known to be.
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
    """The deadline passed while the thread was still at it. `sent`: whether the request had gone out."""

    def __init__(self, sent: bool):
        super().__init__(sent)
        self.sent = sent


class Executor:
    """A pool of `workers` threads. Who submits must hold one of as many slots: then no work waits inside the pool."""

    def __init__(self, workers: int):
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="cloud")

    async def run(self, work: Callable[[Attempt], T], seconds: float, done: Callable[[], None] = lambda: None) -> T:
        """Run `work(attempt)` in a thread and return its result; raises Late after `seconds`.

        The thread is not killed (Python cannot): its socket's time-outs end it. `done` is called on the loop when
        it has ended, however late.
        """
        loop = asyncio.get_running_loop()
        attempt = Attempt(seconds)
        try:
            future = self._pool.submit(work, attempt)
        except RuntimeError:
            done()
            raise CloudUnavailable("the connection to the cloud is closed") from None
        future.add_done_callback(lambda ended: _tell(loop, ended, done))
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


def _tell(loop: asyncio.AbstractEventLoop, ended: Future, done: Callable[[], None]) -> None:
    if not ended.cancelled():
        ended.exception()  # an abandoned failure was reported as Late: nobody else asks for it
    with suppress(RuntimeError):  # the loop is closed: nobody waits for the slot any more
        loop.call_soon_threadsafe(done)
