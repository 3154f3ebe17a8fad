"""The tail of the outbox: every replica reads it with a cursor of its own, and passes the events to its sockets and
waiters."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from vmsvc.domain.errors import HistoryGone
from vmsvc.domain.lifecycle import State
from vmsvc.service.events.hub import RECENT, Hub
from vmsvc.service.events.listener import wait_for_wakeup
from vmsvc.service.runtime import Runtime
from vmsvc.store import outbox
from vmsvc.store.db import connected, reading

log = logging.getLogger(__name__)

T = TypeVar("T")

_BATCH = 256  # encoding these takes the loop some 5 ms
_POLL_SECONDS = 1.0  # a lost notification costs this much
_NOT_AWAITED = frozenset({State.PENDING, State.BUILDING})  # nobody waits for these


class Waiters:
    """Requests that wait for something to happen to a VM, on whichever replica it happens."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._closed = False

    def close(self) -> None:
        """The service stops: each waiter gets what is there now, and none waits any more."""
        self._closed = True
        for vm_id in self._waiting:
            self.wake(vm_id)

    def wake(self, vm_id: str) -> None:
        """Have the waiters of this VM read again: something happened to it."""
        for event in self._waiting.get(vm_id, ()):
            event.set()

    async def wait_for(self, vm_id: str, read: Callable[[], Awaitable[T | None]], seconds: float) -> T | None:
        """Call `read` now and after every event of the VM until it returns something, or the time is over (None)."""
        event = asyncio.Event()
        self._waiting.setdefault(vm_id, set()).add(event)
        try:
            found = await read()  # even a client that does not wait gets what is there already
            async with asyncio.timeout(seconds):
                while found is None and not self._closed:
                    with contextlib.suppress(TimeoutError):
                        # A read every few seconds covers a feed that is behind.
                        async with asyncio.timeout(5):
                            await event.wait()
                    event.clear()
                    found = await read()
                return found
        except TimeoutError:
            return None
        finally:
            self._waiting[vm_id].discard(event)
            if not self._waiting[vm_id]:
                del self._waiting[vm_id]


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
