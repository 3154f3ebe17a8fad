"""Reads new events from the outbox, and passes them to the sockets and to requests that wait for a VM.

Every replica has a cursor of its own.
"""

import asyncio
import logging
from typing import Any

from vmsvc.domain.errors import HistoryGone
from vmsvc.domain.lifecycle import State
from vmsvc.service.events.hub import RECENT, Hub
from vmsvc.service.events.listener import wait_for_wakeup
from vmsvc.service.events.waiters import Waiters
from vmsvc.service.runtime import Runtime
from vmsvc.store import outbox
from vmsvc.store.db import connected, reading

log = logging.getLogger(__name__)

_BATCH = 256  # encoding these takes the loop some 5 ms
_POLL_SECONDS = 1.0  # a lost notification costs this much
_NOT_AWAITED = frozenset({State.PENDING, State.BUILDING})  # nobody waits for these


class Feed:
    """Publishes what is committed, in order, each event once: `begin()`, then `run()`."""

    def __init__(self, runtime: Runtime, hub: Hub, waiters: Waiters, wakeup: asyncio.Event):
        self._runtime = runtime
        self._hub = hub
        self._waiters = waiters
        self._wakeup = wakeup
        self._cursor = 0

    async def begin(self) -> None:
        """Read the newest history, so that the hub has it before the first socket opens."""
        since, events = await self._runtime.offload(_latest, RECENT)
        self._hub.begin(since, events)
        self._cursor = self._hub.last_seq

    async def run(self) -> None:
        """Publish what comes after the history that `begin` read."""
        while True:
            while await self._publish() == _BATCH:
                pass
            self._runtime.mark_ready("feed")
            await wait_for_wakeup(self._wakeup, _POLL_SECONDS)

    async def _publish(self) -> int:
        try:
            events, removed = await self._runtime.offload(_tail, self._cursor, _BATCH)
        except HistoryGone as error:
            log.error("the feed was so far behind that events before %d are gone", error.oldest)
            self._cursor = error.oldest - 1
            self._hub.skip(self._cursor)
            return _BATCH
        self._hub.publish(events)
        self._hub.forget(removed)
        for event in events:
            if event["data"]["state"] not in _NOT_AWAITED:
                self._waiters.wake(event["data"]["vm"]["vmsvc_id"])
            self._cursor = event["data"]["seq"]
        return len(events)


def _latest(limit: int) -> tuple[int, list[dict[str, Any]]]:
    with reading():
        return outbox.latest(limit)


def _tail(since: int, limit: int) -> tuple[list[dict[str, Any]], int]:
    with connected():
        return outbox.tail(since, limit)
