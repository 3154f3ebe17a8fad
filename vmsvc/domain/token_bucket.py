"""How often something may happen: so many times a second, and some of them at once after a quiet while."""

from collections.abc import Callable

#: Seconds by which a sum of intervals may be off.
_ROUNDING = 1e-6


class TokenBucket:
    """`rate` tokens a second; idle time saves up at most `burst` of them. The bucket never waits, it says how long its
    caller has to. `clock` returns seconds, as time.monotonic does."""

    def __init__(self, rate: float, burst: float = 1, *, clock: Callable[[], float]):
        self._interval = 1.0 / rate
        self._credit = (burst - 1) * self._interval
        self._clock = clock
        self._next = float("-inf")

    @property
    def wait(self) -> float:
        """Seconds until the next token is due."""
        wait = self._next - self._clock()
        return wait if wait > _ROUNDING else 0.0

    def take(self) -> float:
        """Take the next token; returns the seconds until that token is due."""
        wait = self.wait
        self._next = max(self._next, self._clock() - self._credit) + self._interval
        return wait

    def give_back(self) -> None:
        """The last token was not used."""
        self._next -= self._interval

    def pause(self, seconds: float) -> None:
        """No token is due before `seconds` from now, and no burst follows."""
        self._next = max(self._next, self._clock() + seconds)
