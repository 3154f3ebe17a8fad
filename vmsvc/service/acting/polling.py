"""Polls a server until it is ready, with few calls and without being late.

A plain loop polls every 50 ms, and nearly all of these polls are too early: a cloud takes about as long as it took the
last times. On the real cloud a plain loop needs ten polls for a build; here two or three find its end as soon. A
`MinimumDuration` learns how long an action takes at least, from polls that came too early. If it learned the time at
which a poll found the server ready, each wait would lengthen the next.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from vmsvc.cloud.cache.server_cache import ServerCache
from vmsvc.cloud.port import Server

_KEPT = 8  # the shortest of the last times counts: it is better to poll too early than too late
_SAFETY_SHARE = 0.9  # the first poll comes after this share of it: the next action may be as quick
_MAX_PAUSE_SECONDS = 1.0  # without a poll: a build may end early, or be refused, though none was recently
_FEW_WAITERS = 2  # a GET for each costs the cloud less than the list of all that changed; for more it does not
_PAUSE_SECONDS = 0.05  # between two polls of a server, at least, ...
_PAUSE_SHARE = 1 / 16  # ... and this share of the time that the action has taken already


class MinimumDuration:
    """How long one kind of action takes at least. When the first poll finds an action done, the action may have taken
    less than was known: then it counts as `shrink_factor` of the known time."""

    def __init__(self, shrink_factor: float = 1.0):
        self._latest: deque[float] = deque(maxlen=_KEPT)
        self._shrink_factor = shrink_factor

    @property
    def initial_delay(self) -> float:
        """Seconds from the beginning of the action to the first poll; 0 while nothing is known."""
        return min(_MAX_PAUSE_SECONDS, _SAFETY_SHARE * min(self._latest, default=0.0))

    @property
    def after_early_end(self) -> float:
        """What to `record` for an action that the first poll found done."""
        return self._shrink_factor * self.initial_delay

    def record(self, at_least: float | None) -> None:
        """Record that an action took longer than so many seconds; None records nothing."""
        if at_least is not None:
            self._latest.append(at_least)


class PollResult(NamedTuple):
    """The server as the last poll found it; None when GET said 404. `at_least`: how many seconds the action took at
    least, for `MinimumDuration.record`; None when the server did not get ready, and when a list showed it."""

    server: Server | None
    at_least: float | None


class ServerPoller:
    """Waits for servers to get ready: a few of them by a GET for each, many of them by the server cache's list."""

    def __init__(self, server_cache: ServerCache):
        self._server_cache = server_cache
        self._waiting = 0

    async def wait_for(
        self, server_id: str, ready: Callable[[Server], bool], since: float, duration: MinimumDuration, seconds: float
    ) -> PollResult:
        """Wait until the server is ready or has gone, or for so many seconds. `duration` knows how long such an action
        takes; `since` is the loop's time at which the action began. The caller may record `at_least` of the result in
        `duration`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        self._waiting += 1
        try:
            if self._waiting <= _FEW_WAITERS:
                await asyncio.sleep(min(seconds, since + duration.initial_delay - loop.time()))
            if self._waiting > _FEW_WAITERS:
                shown = await self._server_cache.wait_for(
                    server_id, lambda shown: shown is None or ready(shown), deadline - loop.time()
                )
                if shown is not None:
                    return PollResult(shown, None)
            return await self._poll_server(server_id, ready, since, duration, deadline)  # one that the list left out
        finally:
            self._waiting -= 1

    async def _poll_server(
        self, server_id: str, ready: Callable[[Server], bool], since: float, duration: MinimumDuration, deadline: float
    ) -> PollResult:
        loop = asyncio.get_running_loop()
        at_least = duration.after_early_end
        while True:
            began = loop.time()
            server = await self._server_cache.read_server(server_id)
            if server is None or ready(server):
                return PollResult(server, at_least)
            at_least = began - since
            pause = min(_MAX_PAUSE_SECONDS, max(_PAUSE_SECONDS, (loop.time() - since) * _PAUSE_SHARE))
            remaining = deadline - loop.time()
            await asyncio.sleep(min(pause, remaining))
            if pause >= remaining:
                return PollResult(server, None)
