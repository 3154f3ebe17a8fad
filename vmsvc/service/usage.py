"""Use and evictions over the last hours, as a strip chart draws them; and who used how much, for the queue's order."""

import math
import time
from collections.abc import Collection
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

from vmsvc.domain.events import instant
from vmsvc.scheduling.queue_order import Shares
from vmsvc.store import usage
from vmsvc.store.db import SHOW_SECONDS, reading

_SLOTS = 120  # what a strip can show; the answer stays small however long the time is
_LEAST_SECONDS = 600.0
#: How old shares may be. They cover 24 h: what happened in so short a time changes little.
_SHARES_SECONDS = 10.0
_NO_SHARES: Shares = {}  # one object: what is in order by it stays in order


class SharesCache:
    """The shares by which the queue is ordered. Threads that ask at once may each read them."""

    def __init__(self) -> None:
        self._shares: dict[str, float] = {}
        self._read_at = float("-inf")

    def of(self, owners: Collection[str], now: datetime) -> Shares:
        """The shares now, read on the caller's connection if need be; empty where fewer than two owners wait, for then
        they decide nothing."""
        if len(owners) < 2:
            return _NO_SHARES
        return self.now(now)

    def now(self, now: datetime) -> Shares:
        """The same, whoever waits."""
        if time.monotonic() - self._read_at > _SHARES_SECONDS:
            self._shares, self._read_at = usage.shares(now), time.monotonic()
        return self._shares


def over(hours: float) -> dict[str, Any]:
    """The last hours, or the time since the first start when that is shorter. Runs in the database pool.

    Slots lie on multiples of their length, so that an answer and the next one agree on what was in a slot.
    """
    with reading(SHOW_SECONDS):
        now, born = usage.span()
        seconds = min(hours * 3600, max(_LEAST_SECONDS, now - (now if born is None else born)))
        step = math.ceil(seconds / _SLOTS)
        first = math.floor((now - seconds) / step) * step
        begun, ended = usage.begun(first, step), usage.ended(first, step)
        evicted = dict(usage.evicted(first, step))
    slots = math.floor((now - first) / step) + 1
    return {
        "since": instant(datetime.fromtimestamp(first, UTC)),
        "until": instant(datetime.fromtimestamp(now, UTC)),
        "step_seconds": step,
        "standard": held(slots, begun, ended, preemptible=False),
        "preemptible": held(slots, begun, ended, preemptible=True),
        "evictions": [evicted.get(slot, 0) for slot in range(slots)],
    }


def held(slots: int, begun: usage.Held, ended: usage.Held, *, preemptible: bool) -> list[int]:
    """What was held at the end of each slot. A launch or an end that a clock dates later than now counts now."""
    changes = [0] * slots
    for sign, rows in ((1, begun), (-1, ended)):
        for slot, kind, amount in rows:
            if kind == preemptible:
                changes[min(slot, slots - 1)] += sign * amount
    return list(accumulate(changes))
