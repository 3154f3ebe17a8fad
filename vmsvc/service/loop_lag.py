"""How late the loop is: what every request, socket and timer of this process waits for before anything else."""

import asyncio
from collections.abc import Callable

_PAUSE = 0.05       # seconds between two looks


class LoopLag:
    """`tell` hears, some 20 times a second, how many seconds too late the loop woke us."""

    def __init__(self, tell: Callable[[float], None]):
        self._tell = tell

    async def run(self) -> None:
        """Look again and again."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _PAUSE
            await asyncio.sleep(_PAUSE)
            self._tell(max(0.0, loop.time() - due))
