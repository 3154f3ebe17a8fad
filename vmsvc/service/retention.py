"""Forgetting what is over its age, until nothing is: events, requests that never became a VM, user data."""

import asyncio
import functools
import time
from collections.abc import Callable

from vmsvc.service.runtime import Runtime
from vmsvc.store import outbox, retention

_ROUND_SECONDS = 60.0
#: So few rows at once take some ten milliseconds; then others have the database for four times as long.
_EVENTS, _REQUESTS, _USER_DATA = 2000, 500, 100
_PAUSE = 4.0
_SHORTEST_PAUSE = 0.02


class Retention:
    """One round a minute. Every replica has one; of two at once each takes other rows, or none."""

    def __init__(self, runtime: Runtime, hours: float, clock: Callable[[], float] = time.monotonic):
        self._runtime = runtime
        self._clock = clock
        self._steps = ((functools.partial(outbox.forget, hours), _EVENTS),
                       (functools.partial(retention.forget_requests, hours), _REQUESTS),
                       (retention.clear_user_data, _USER_DATA))
        self._age, self._looked = 0.0, clock()

    async def run(self) -> None:
        """Round after round."""
        while True:
            await self.round()
            self._runtime.well("retention")
            await asyncio.sleep(_ROUND_SECONDS)

    async def round(self) -> None:
        """Until nothing is over its age."""
        for step, limit in self._steps:
            while await self._batch(step, limit) >= limit:
                pass
        self._age, self._looked = await self._runtime.offload(outbox.oldest_age), self._clock()

    async def _batch(self, step: Callable[[int], int], limit: int) -> int:
        began = self._clock()
        done = await self._runtime.offload(step, limit)
        if done:
            await asyncio.sleep(max(_SHORTEST_PAUSE, _PAUSE * (self._clock() - began)))
        return done

    def oldest_event_age(self) -> float:
        """How old the oldest event is that is kept, in seconds."""
        return self._age and self._age + self._clock() - self._looked
