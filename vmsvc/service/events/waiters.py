"""Lets a request wait for an event of its VM, and ends the wait when its seconds (`Prefer: wait=N`) are over.

The handler's base reads the seconds, `service.commands` says what is waited for, and the feed wakes the waiters.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


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
