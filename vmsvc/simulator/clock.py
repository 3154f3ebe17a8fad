"""The simulated cloud's time: a clock that clients can move and stop, and the durations of what happens in the cloud.

What happens later (a boot, a teardown) waits in one heap. A jump of the clock runs everything that falls due on the
way, each action at its own time, so a jump of ten minutes leaves the same traces as ten minutes of waiting."""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from vmsvc.simulator.errors import bad_request


class Clock:
    """Seconds since the epoch, `offset` ahead of the machine's clock. It never goes back, and stands still while it is
    frozen. `after_run` is called after due actions."""

    def __init__(self, after_run: Callable[[], None], offset: float = 0.0, frozen_at: float | None = None):
        self.offset = offset
        self.frozen_at = frozen_at
        self._last = 0.0
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._replaying: float | None = None
        self._after_run = after_run

    def now(self) -> float:
        """The cloud's time. During a jump it is the time at which the current action was due."""
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
        """Move forward by so many seconds and run all actions that fall due."""
        if seconds < 0:
            raise ValueError("time does not go back")
        if self.frozen_at is not None:
            self.frozen_at += seconds
        else:
            self.offset += seconds
        self.run_due()

    def freeze(self, frozen: bool) -> None:
        """Stop the clock, which only `advance` moves then, or let it go on from where it stands."""
        if frozen and self.frozen_at is None:
            self.frozen_at = self.now()
        elif not frozen and self.frozen_at is not None:
            self.offset = self.frozen_at - time.time()
            self.frozen_at = None
        self._arm()

    def run_due(self) -> None:
        """Run the actions that are due, in order of time."""
        horizon = self.now()
        try:
            while self._waiting and self._waiting[0][0] <= horizon:
                due, _, action = heapq.heappop(self._waiting)
                self._replaying = max(due, self._replaying or 0.0)
                action()
        finally:
            self._replaying = None
        self._after_run()
        self._arm()

    def forget(self) -> None:
        """Drop all actions."""
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
            return  # The cloud is being loaded; the server calls `run_due` once the event loop runs.
        self._timer = loop.call_later(max(0.0, self._waiting[0][0] - self.now()), self.run_due)


def seconds_text(moment: float) -> str:
    """A time as Nova shows `created` and `updated`: whole seconds, with Z."""
    return f"{_second(int(moment))}Z"


def micros_text(moment: float | None) -> str | None:
    """A time as Nova shows `launched_at`: with microseconds, which are always 0, and without a zone."""
    if moment is None:
        return None
    return f"{_second(int(moment))}.000000"


@lru_cache(1024)
def _second(moment: int) -> str:
    """Cached, because lists show the same few seconds again and again."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def http_date(moment: float) -> str:
    """A time as the headers Date and Last-Modified have it."""
    return _http_second(int(moment))


@lru_cache(16)
def _http_second(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")


@dataclass
class Settings:
    """Durations in seconds of the cloud's clock, and limits. The command line and PUT /sim/settings set them."""

    schedule_seconds: float = 0.2  # from POST to the choice of a host
    boot_seconds: float = 0.6  # from the choice of a host to ACTIVE
    delete_seconds: float = 0.4  # teardown of a server that has a host
    stop_seconds: float = 0.2  # os-stop until SHUTOFF; other actions take as long
    migrate_seconds: float = 0.6  # copying a server from one host to another
    fault_lag_seconds: float = 0.05  # ERROR shows before its fault (measured: 7 of 20 first looks)
    token_seconds: float = 3600.0
    service_down_seconds: float = 20.0  # until Nova calls a dead host down (Nova's service_down_time)
    reclaim_seconds: float = 0.0  # reclaim_instance_interval: above 0, DELETE makes SOFT_DELETED
    max_limit: int = 1000  # servers per page
    deleted_kept: int = 10000  # deleted servers that changes-since still shows
    ignores_groups: float = 0  # 1: Nova does not check whether a server group exists
    metadata_cache_seconds: float = 0.0  # Nova's metadata_cache_expiration: how long a guest may read old metadata

    def change(self, values: dict[str, Any]) -> None:
        """Change some settings, all or none. Raises ApiError 400 for an unknown name or a wrong value."""
        known = {field.name: field.type for field in fields(self)}
        for name, value in values.items():
            if name not in known:
                raise bad_request(f"no such setting: {name}")
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
                raise bad_request(f"setting {name} must be a number, 0 or more")
        for name, value in values.items():
            setattr(self, name, value)
