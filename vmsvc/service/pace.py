"""Waiting for a server to become what it shall be, at few calls and without being late.

By hand one looks every 50 ms, and nearly all of these looks are too early: a cloud takes about as long as it took the
last times. On the real bed a build takes ten looks by hand and two or three in this way, and its end is seen as soon.
What is learned is how long it takes at least, by the looks that were in vain. Were it the time at which a server was
seen to be ready, each wait would lengthen the next.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from vmsvc.cloud.mirror import Mirror
from vmsvc.cloud.port import Server

_NEWEST = 8             # of the last times the shortest counts: it is better to look too early than too late
_EARLY = 0.9            # of it; so a cloud that has become faster is followed too
_LONGEST = 1.0          # seconds without a look: a build may end early, or be refused, though none was lately
_FEW = 2                # a GET for each costs the cloud less than the list of all that changed; for more it does not
_PAUSE_SECONDS = 0.05   # between looks at one of a few, at least, ...
_PAUSE_SHARE = 1 / 16   # ... and this share of the time that it has taken already


class Pace:
    """How long one kind of thing takes."""

    def __init__(self):
        self._at_least: deque[float] = deque(maxlen=_NEWEST)

    @property
    def quiet(self) -> float:
        """Seconds from the beginning in which a look is in vain; 0 while nothing is known."""
        return min(_LONGEST, _EARLY * min(self._at_least, default=0.0))

    def note(self, seconds: float) -> None:
        """It took longer than that."""
        self._at_least.append(seconds)


class Lookout:
    """Waits for servers: of a few each is asked for by itself, of many the mirror's list tells."""

    def __init__(self, mirror: Mirror):
        self._mirror = mirror
        self._waiting = 0

    async def until(self, server_id: str, ready: Callable[[Server], bool], since: float, pace: Pace,
                    seconds: float) -> Server | None:
        """Wait until the server is ready, or for so many seconds; None when GET says 404. `since` is the loop's time
        when that began which takes as long as `pace` knows."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        self._waiting += 1
        try:
            if self._waiting <= _FEW:
                await asyncio.sleep(min(seconds, since + pace.quiet - loop.time()))
            if self._waiting > _FEW:
                shown = await self._mirror.until(server_id, lambda shown: shown is None or ready(shown),
                                                 deadline - loop.time())
                if shown is not None:
                    return shown
            return await self._apart(server_id, ready, since, pace, deadline)   # of many, one that the list left out
        finally:
            self._waiting -= 1

    async def _apart(self, server_id: str, ready: Callable[[Server], bool], since: float, pace: Pace,
                     deadline: float) -> Server | None:
        loop = asyncio.get_running_loop()
        in_vain = pace.quiet
        while True:
            began = loop.time()
            server = await self._mirror.look(server_id)
            if server is None or ready(server):
                pace.note(in_vain)
                return server
            in_vain = began - since
            pause = min(_LONGEST, max(_PAUSE_SECONDS, (loop.time() - since) * _PAUSE_SHARE))
            left = deadline - loop.time()
            await asyncio.sleep(min(pause, left))
            if pause >= left:
                return server
