"""Measures how late the event loop is: the wait that every request, socket and timer of this process has in common."""

import asyncio
from collections.abc import Callable

_PAUSE = 0.05  # seconds between two measurements


class LoopLag:
    """Calls `observe`, some 20 times a second, with the seconds by which the loop resumed this coroutine too late."""

    def __init__(self, observe: Callable[[float], None]):
        self._observe = observe

    async def run(self) -> None:
        """Measure until this is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _PAUSE
            await asyncio.sleep(_PAUSE)
            self._observe(max(0.0, loop.time() - due))
