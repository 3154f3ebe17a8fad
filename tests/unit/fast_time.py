"""A loop whose time is only reckoned: where it would wait for a timer, the time is there at once. So what a test sees
does not depend on how busy the machine is."""

import asyncio
import functools
from collections.abc import Awaitable, Callable

from tests.integration.model.stepping import Loop


class FastLoop(Loop):
    """For code that waits for nothing but time."""

    def __init__(self):
        super().__init__()
        self._wait, self._selector.select = self._selector.select, self._skip

    def _skip(self, seconds: float | None = None) -> list:
        assert seconds is not None, "nothing is left to wait for"
        self.now += seconds
        return self._wait(0)


def in_fast_time(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run this test in such a loop."""

    @functools.wraps(test)
    def run(*args, **keywords) -> None:
        with asyncio.Runner(loop_factory=FastLoop) as runner:
            runner.run(test(*args, **keywords))

    return run
