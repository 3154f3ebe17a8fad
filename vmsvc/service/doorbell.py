"""LISTEN: somebody committed something. A doorbell, not a message: who hears it reads the database."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from vmsvc.service.runtime import Runtime
from vmsvc.store.db import NEWS, listen

log = logging.getLogger(__name__)

_RETRY_SECONDS = 2.0


class Doorbell:
    """One connection that listens. A lost notification costs at most a poll of those who wait, never an event."""

    def __init__(self, runtime: Runtime, url: str):
        self._runtime = runtime
        self._url = url
        self._bells: list[asyncio.Event] = []
        self._for_acts: list[asyncio.Event] = []
        self._listening = False

    def bell(self, *, acts: bool = False) -> asyncio.Event:
        """An event of one's own that is set at every ring, or only when there may be an intent to carry out (`acts`);
        clear it before reading."""
        bell = asyncio.Event()
        (self._for_acts if acts else self._bells).append(bell)
        return bell

    def ring(self) -> None:
        """We have committed something: wake everybody here, unless the database is about to."""
        if not self._listening:
            self._wake()

    def _wake(self, news_alone: bool = False) -> None:
        for bell in self._bells if news_alone else (*self._bells, *self._for_acts):
            bell.set()

    async def run(self) -> None:
        """Listen, and connect again whenever the connection is lost."""
        while True:
            connection = await self._runtime.offload(listen, self._url)
            lost = asyncio.Event()
            loop = asyncio.get_running_loop()
            descriptor = connection.fileno()

            def lose() -> None:
                # libpq has closed the descriptor: the next connection of this process gets its number.
                loop.remove_reader(descriptor)
                lost.set()
            loop.add_reader(descriptor, self._heard, connection, lose)
            try:
                self._listening = True
                self._wake()             # what was committed while nobody listened
                self._runtime.well("doorbell")
                await lost.wait()
            finally:
                self._listening = False
                if not lost.is_set():
                    loop.remove_reader(descriptor)
                with contextlib.suppress(Exception):
                    connection.close()
            self._runtime.problems["doorbell"] = "the connection that listens was lost"
            log.warning("the connection that listens to the database was lost; connecting again")
            await asyncio.sleep(_RETRY_SECONDS)

    def _heard(self, connection, lose: Callable[[], None]) -> None:
        try:
            connection.poll()
        except Exception:  # pylint: disable=broad-exception-caught
            lose()
            return
        told = {notice.payload for notice in connection.notifies}
        connection.notifies.clear()
        if connection.closed:
            lose()
        self._wake(news_alone=told == {NEWS})


async def heard(bell: asyncio.Event, seconds: float) -> None:
    """Wait for the bell, but no longer than so many seconds; then clear it."""
    with contextlib.suppress(TimeoutError):
        # Not wait_for: before Python 3.12 it drops a cancellation that comes together with the ring.
        async with asyncio.timeout(seconds):
            await bell.wait()
    bell.clear()
