"""The deadlines of requests that wait: the end of the wait, the fallback, the end of a patience.

They are kept by the database's clock, in a loop of its own, without the cloud: a cloud that does not answer must not
make a request wait for longer.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from vmsvc.domain.errors import NoCapacity
from vmsvc.domain.events import instant
from vmsvc.service import trace
from vmsvc.service.runtime import Runtime
from vmsvc.service.scheduling.apply import fail
from vmsvc.store import vms, waiting
from vmsvc.store.db import Lock, Unit, connected, unit
from vmsvc.store.models import Vm

log = logging.getLogger(__name__)

#: The longest sleep: a request that comes meanwhile waits for at least so long.
_POLL_SECONDS = 1.0
_PAUSE = 0.02  # between two looks, whatever is due
_AT_ONCE = 200  # requests in one transaction
#: For so long the scheduler may plan for a request that has fallen back just when its wait ends too. One whose wait
#: ended longer ago (no replica ran) gets no such time.
_PLANNING = timedelta(seconds=1.5)
_LATE = timedelta(seconds=30)
#: The step of a request that goes on as a standard one.
_FELL_BACK = ("create", "fell_back")


class Deadlines:
    """Ends requests whose time is over, and gives those back to the scheduler about which it has to decide anew."""

    def __init__(self, runtime: Runtime, wake: Callable[[], None]):
        self._runtime = runtime
        self._wake = wake

    async def run(self) -> None:
        """Keep the deadlines until this is cancelled."""
        left: float | None = None
        while True:
            await asyncio.sleep(_POLL_SECONDS if left is None else min(max(left, _PAUSE), _POLL_SECONDS))
            due = left is not None and left <= _POLL_SECONDS
            left = await self._runtime.offload(_next_deadline)
            if left is not None and left <= 0:
                await self._runtime.offload(_meet_deadlines)
                left = await self._runtime.offload(_next_deadline)
                due = True
            if due:  # the pause before a restart may be over: the scheduler sees that by itself
                self._wake()
            self._runtime.mark_ready("deadlines")


# ---------------------------------------------------------------- in the database pool


def _next_deadline() -> float | None:
    with connected():
        return waiting.seconds_to_next_deadline()


def _meet_deadlines() -> None:
    with unit(Lock.SCHEDULER) as work:
        for row in waiting.falling_back(work.now, work.now - _LATE, _AT_ONCE):
            _fall_back(work, row)
        for row in waiting.without_patience(work.now, work.now - _LATE, _AT_ONCE):
            # Where its wait ends too, it is from now on a request that does not wait.
            waits_on = row.wait_until is not None and row.wait_until > work.now + _PLANNING
            vms.change(row, patience_until=None, queued_why=None, wait_until=row.wait_until if waits_on else None)
            work.notify()
        for row in waiting.expired(work.now, _AT_ONCE):
            _expire(work, row)


def _fall_back(work: Unit, row: Vm) -> None:
    """A preemptible request goes on as a standard one. The scheduler decides about it anew."""
    trace.begin_create(row)
    vms.take_step(
        work,
        row,
        _FELL_BACK,
        reason="there was no capacity for it as a preemptible VM",
        data={"wait_until": instant(_end_of_wait(work, row))},
        is_preemptible=False,
        fell_back_at=work.now,
        fallback_at=None,
        wait_until=_end_of_wait(work, row),
        queued_why=None,
        updated_at=work.now,
    )


def _end_of_wait(work: Unit, row: Vm) -> datetime:
    return max(row.wait_until or work.now, work.now + _PLANNING)


def _expire(work: Unit, row: Vm) -> None:
    """A request has waited long enough."""
    trace.begin_create(row)
    waited = (work.now - row.created_at).total_seconds()
    why = row.queued_why or (row.refusal or {}).get("message") or "the cloud did not show any"
    error = (row.refusal or {}).get("error") or NoCapacity.slug
    fail(work, row, error, f"there was no capacity for it within {waited:.0f} s: {why}")
