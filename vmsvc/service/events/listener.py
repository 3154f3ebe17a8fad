"""LISTEN: PostgreSQL says that a transaction was committed, and wakes the loops that read the database.

In /readyz and in the log this part is called `doorbell`."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from vmsvc.domain.errors import VmsvcError
from vmsvc.service.runtime import Runtime
from vmsvc.store.db import NO_INTENTS, TEST_PREFIX, Connection, NotificationsLost, changes, listen

log = logging.getLogger(__name__)

#: Seconds between two polls of the database while this process cannot listen, and until it tries to listen again: when
#: the connection is lost or cannot be made, and when notifications do not reach it.
_POLL_SECONDS = 0.2
_RETRY_SECONDS, _UNREACHED_SECONDS = 2.0, 60.0
_LOST = "the connection that listens to the database was lost"
_NONE = "the connection that listens to the database cannot be made"
_UNREACHED = (
    "notifications do not reach the connection that listens (a pooler in transaction mode, or another "
    "database?); VMSVC_LISTEN_URL can name the database without the pooler"
)


class Listener:
    """One connection that listens. A lost notification delays a loop until its next poll, and loses no event."""

    def __init__(self, runtime: Runtime, url: str):
        self._runtime = runtime
        self._url = url
        self._wakeups: list[asyncio.Event] = []
        self._intent_wakeups: list[asyncio.Event] = []
        self._listening = False

    def wakeup(self, *, intents_only: bool = False) -> asyncio.Event:
        """An event for one loop. The listener sets it at every notification, or only when there may be an intent to
        carry out (`intents_only`); the loop clears it before it reads the database."""
        wakeup = asyncio.Event()
        (self._intent_wakeups if intents_only else self._wakeups).append(wakeup)
        return wakeup

    def wake(self) -> None:
        """To be called after a commit of this process: wake its loops, unless a notification is about to do that."""
        if not self._listening:
            self._wake_loops()

    def _wake_loops(self, events_only: bool = False) -> None:
        for wakeup in self._wakeups if events_only else (*self._wakeups, *self._intent_wakeups):
            wakeup.set()

    async def run(self) -> None:
        """Listen. While that is impossible, poll the database instead, and try to listen again. Raises Unavailable when
        the database does not answer a poll either."""
        while True:
            try:
                await self._listen()
                reason, pause = _LOST, _RETRY_SECONDS
            except NotificationsLost:
                reason, pause = _UNREACHED, _UNREACHED_SECONDS
            except VmsvcError:  # the log has the reason
                reason, pause = _NONE, _RETRY_SECONDS
            note = f"polls the database every {_POLL_SECONDS:g} s: {reason}"
            if self._runtime.notes.get("doorbell") != note:
                log.warning("doorbell: %s", note)
                self._runtime.notes["doorbell"] = note
            await self._poll(pause)

    async def _poll(self, seconds: float) -> None:
        """Poll the database for so many seconds; wake the waiters when something was committed."""
        loop = asyncio.get_running_loop()
        end, before = loop.time() + seconds, None
        while loop.time() < end:
            now = await self._runtime.offload(changes)
            self._runtime.mark_ready("doorbell")
            if now != before:
                before = now
                self._wake_loops()
            await asyncio.sleep(_POLL_SECONDS)

    async def _listen(self) -> None:
        """Listen until the connection is lost. Raises NotificationsLost, or Unavailable when there is no connection."""
        connection = await self._runtime.offload(listen, self._url)
        lost = asyncio.Event()
        loop = asyncio.get_running_loop()
        descriptor = connection.fileno()

        def lose() -> None:
            # libpq has closed the descriptor: the next connection of this process gets its number.
            loop.remove_reader(descriptor)
            lost.set()

        loop.add_reader(descriptor, self._on_readable, connection, lose)
        try:
            self._listening = True
            connection.notifies.clear()
            self._wake_loops()  # what was committed while nobody listened
            self._runtime.mark_ready("doorbell")
            if self._runtime.notes.pop("doorbell", None):
                log.info("doorbell: listens to the database")
            await lost.wait()
        finally:
            self._listening = False
            if not lost.is_set():
                loop.remove_reader(descriptor)
            with contextlib.suppress(Exception):
                connection.close()

    def _on_readable(self, connection: Connection, lose: Callable[[], None]) -> None:
        try:
            connection.poll()
        except Exception:  # pylint: disable=broad-exception-caught
            lose()
            return
        payloads = {notice.payload for notice in connection.notifies if not notice.payload.startswith(TEST_PREFIX)}
        connection.notifies.clear()
        if connection.closed:
            lose()
        if payloads:
            self._wake_loops(events_only=payloads == {NO_INTENTS})


async def wait_for_wakeup(wakeup: asyncio.Event, seconds: float) -> None:
    """Wait for the wakeup, but no longer than so many seconds; then clear it."""
    with contextlib.suppress(TimeoutError):
        # Not wait_for: before Python 3.12 it drops a cancellation that comes together with the event.
        async with asyncio.timeout(seconds):
            await wakeup.wait()
    wakeup.clear()
