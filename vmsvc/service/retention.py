"""Removes what is too old: events, requests that never became a VM, evidence, deliveries, user data."""

import asyncio
import functools
import time
from collections.abc import Callable

from vmsvc.service.runtime import Runtime
from vmsvc.store import outbox, retention

_ROUND_SECONDS = 60.0
#: Rows in one batch, which takes some ten milliseconds; the pause after it is four times as long, for others.
_EVENTS, _REQUESTS, _USER_DATA, _EVIDENCE, _DELIVERIES = 2000, 500, 100, 1000, 2000
_PAUSE = 4.0
_SHORTEST_PAUSE = 0.02


class Retention:
    """One round a minute, in every replica. Two rounds at the same time take different rows, or one takes none."""

    def __init__(
        self, runtime: Runtime, hours: float, evidence_hours: float, clock: Callable[[], float] = time.monotonic
    ):
        self._runtime = runtime
        self._clock = clock
        self._steps = (
            (functools.partial(outbox.remove_old_events, hours), _EVENTS),
            (functools.partial(retention.remove_requests, hours), _REQUESTS),
            (retention.clear_user_data, _USER_DATA),
            (functools.partial(retention.forget_evidence, evidence_hours), _EVIDENCE),
            (functools.partial(retention.remove_deliveries, hours), _DELIVERIES),
        )
        self._age, self._read_at = 0.0, clock()

    async def run(self) -> None:
        """Make one round a minute, for ever."""
        while True:
            await self.round()
            self._runtime.mark_ready("retention")
            await asyncio.sleep(_ROUND_SECONDS)

    async def round(self) -> None:
        """Remove batches until nothing is too old."""
        for step, limit in self._steps:
            while await self._batch(step, limit) >= limit:
                pass
        self._age, self._read_at = await self._runtime.offload(outbox.oldest_age), self._clock()

    async def _batch(self, step: Callable[[int], int], limit: int) -> int:
        began = self._clock()
        done = await self._runtime.offload(step, limit)
        if done:
            await asyncio.sleep(max(_SHORTEST_PAUSE, _PAUSE * (self._clock() - began)))
        return done

    def oldest_event_age(self) -> float:
        """The age of the oldest event in seconds; 0 without events."""
        return self._age and self._age + self._clock() - self._read_at
