"""The simulated cloud's own time: it runs like the real one, and can be moved forward by request.

What happens later (a boot, a teardown) waits in one heap. A jump runs all that falls due on the way, each at its own
time, so that a jump of ten minutes leaves the same traces as ten minutes of waiting.
"""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache


class Clock:
    """Seconds since the epoch, `offset` ahead of the machine's clock. It never goes back."""

    def __init__(self, offset: float = 0.0, frozen_at: float | None = None):
        self.offset = offset
        self.frozen_at = frozen_at
        self._last = 0.0
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._replaying: float | None = None
        self.after_run: Callable[[], None] = lambda: None

    def now(self) -> float:
        """The time in the cloud; while a jump is replayed, the time of the thing that happens."""
        if self._replaying is not None:
            return self._replaying
        current = self.frozen_at if self.frozen_at is not None else time.time() + self.offset
        self._last = max(self._last, current)
        return self._last

    def at(self, due: float, action: Callable[[], None]) -> None:
        """Run the action when the cloud's time reaches `due`."""
        heapq.heappush(self._waiting, (due, next(self._order), action))
        if self._waiting[0][0] == due:
            self._arm()

    def advance(self, seconds: float) -> None:
        """Move forward by so many seconds and do all that falls due."""
        if seconds < 0:
            raise ValueError("time does not go back")
        if self.frozen_at is not None:
            self.frozen_at += seconds
        else:
            self.offset += seconds
        self.run_due()

    def freeze(self, frozen: bool) -> None:
        """Stop the clock (only `advance` moves it then), or let it run on from where it stands."""
        if frozen and self.frozen_at is None:
            self.frozen_at = self.now()
        elif not frozen and self.frozen_at is not None:
            self.offset = self.frozen_at - time.time()
            self.frozen_at = None
        self._arm()

    def run_due(self) -> None:
        """Do what is due, in order of time."""
        horizon = self.now()
        try:
            while self._waiting and self._waiting[0][0] <= horizon:
                due, _, action = heapq.heappop(self._waiting)
                self._replaying = max(due, self._replaying or 0.0)
                action()
        finally:
            self._replaying = None
        self.after_run()
        self._arm()

    def forget(self) -> None:
        """Drop all that waits."""
        self._waiting.clear()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiting or self.frozen_at is not None:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # Loading at start: the server arms the clock once the loop runs.
        self._timer = loop.call_later(max(0.0, self._waiting[0][0] - self.now()), self.run_due)


def seconds_text(moment: float) -> str:
    """As Nova shows `created` and `updated`: whole seconds, Z."""
    return f"{_second(int(moment))}Z"


def micros_text(moment: float | None) -> str | None:
    """As Nova shows `launched_at`: microseconds that are always 0, no zone."""
    if moment is None:
        return None
    return f"{_second(int(moment))}.000000"


@lru_cache(1024)
def _second(moment: int) -> str:
    """Lists show the same few seconds again and again."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def http_date(moment: float) -> str:
    """For the headers Date and Last-Modified."""
    return _http_second(int(moment))


@lru_cache(16)
def _http_second(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
