"""How long the cloud takes over a thing, to look when there may be something to see.

Who waits by hand looks every 50 ms, and nearly all of these looks are too early: a cloud takes about as long as the
last times. On the real bed a build takes ten looks by hand and three in this way, and the end is seen as soon.
"""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

_NEWEST = 8         # of the last times the shortest counts: it is better to look too early than too late
_EARLY = 0.9        # of it; so a cloud that has become faster is followed too
_LONGEST = 1.0      # seconds without a look: a build may be refused early though none was lately


class Pace:
    """Of one kind of wait."""

    def __init__(self):
        self._took: deque[float] = deque(maxlen=_NEWEST)

    @property
    def quiet(self) -> float:
        """Seconds from the beginning in which a look is in vain; 0 while nothing is known."""
        return min(_LONGEST, _EARLY * min(self._took, default=0.0))

    def note(self, seconds: float) -> None:
        """It took so long."""
        self._took.append(seconds)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """What is done inside is waiting for it, from beginning to end."""
        began = time.monotonic()
        yield
        self.note(time.monotonic() - began)
