"""Waits for a server to get ready, with few calls and without being late.

A plain loop looks every 50 ms, and nearly all of these looks are too early: a cloud takes about as long as it took the
last times. On the real cloud a build takes ten looks in a plain loop, and two or three here that see its end as soon.
A `Pace` learns how long an action takes at least, from looks that came too early. If it learned the time at which a
server was seen to be ready, each wait would lengthen the next.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from vmsvc.cloud.cache.server_cache import ServerCache
from vmsvc.cloud.port import Server

_NEWEST = 8  # of the last times the shortest counts: it is better to look too early than too late
_EARLY = 0.9  # of it: the next one may be as quick
_LONGEST = 1.0  # seconds without a look: a build may end early, or be refused, though none was lately
_FEW = 2  # a GET for each costs the cloud less than the list of all that changed; for more it does not
_PAUSE_SECONDS = 0.05  # between looks at one of a few, at least, ...
_PAUSE_SHARE = 1 / 16  # ... and this share of the time that it has taken already


class Pace:
    """How long one kind of action takes at least. When the first look finds one done, it may have taken less than was
    known: then `shrinks` of the known time is taken."""

    def __init__(self, shrinks: float = 1.0):
        self._at_least: deque[float] = deque(maxlen=_NEWEST)
        self._shrinks = shrinks

    @property
    def quiet(self) -> float:
        """Seconds from the beginning of the action in which it is never done yet; 0 while nothing is known."""
        return min(_LONGEST, _EARLY * min(self._at_least, default=0.0))

    @property
    def sooner(self) -> float:
        """How long an action that the first look found done took at least."""
        return self._shrinks * self.quiet

    def note(self, in_vain: float | None) -> None:
        """Record that an action took longer than so many seconds; None records nothing."""
        if in_vain is not None:
            self._at_least.append(in_vain)


class PollResult(NamedTuple):
    """The server as it was seen last (None: GET says 404). `in_vain`: how many seconds
    the action took at least, for `Pace.note`; None when the server did not get ready, and when a list showed it."""

    server: Server | None
    in_vain: float | None


class ServerPoller:
    """Waits for servers to get ready: a few of them by a GET for each, many of them by the server cache's list."""

    def __init__(self, server_cache: ServerCache):
        self._server_cache = server_cache
        self._waiting = 0

    async def until(
        self, server_id: str, ready: Callable[[Server], bool], since: float, pace: Pace, seconds: float
    ) -> PollResult:
        """Wait until the server is ready or has gone, or for so many seconds. `pace` knows how long such an action
        takes; `since` is the loop's time at which it began. The caller may pass `in_vain` of the result to the pace."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        self._waiting += 1
        try:
            if self._waiting <= _FEW:
                await asyncio.sleep(min(seconds, since + pace.quiet - loop.time()))
            if self._waiting > _FEW:
                shown = await self._server_cache.until(
                    server_id, lambda shown: shown is None or ready(shown), deadline - loop.time()
                )
                if shown is not None:
                    return PollResult(shown, None)
            return await self._apart(server_id, ready, since, pace, deadline)  # of many, one that the list left out
        finally:
            self._waiting -= 1

    async def _apart(
        self, server_id: str, ready: Callable[[Server], bool], since: float, pace: Pace, deadline: float
    ) -> PollResult:
        loop = asyncio.get_running_loop()
        in_vain = pace.sooner
        while True:
            began = loop.time()
            server = await self._server_cache.look(server_id)
            if server is None or ready(server):
                return PollResult(server, in_vain)
            in_vain = began - since
            pause = min(_LONGEST, max(_PAUSE_SECONDS, (loop.time() - since) * _PAUSE_SHARE))
            left = deadline - loop.time()
            await asyncio.sleep(min(pause, left))
            if pause >= left:
                return PollResult(server, None)
