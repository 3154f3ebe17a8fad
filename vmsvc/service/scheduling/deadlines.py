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
from vmsvc.domain.timing import Timing
from vmsvc.scheduling.decisions import Refuse
from vmsvc.scheduling.restarts import RESTART_SPAN_SECONDS
from vmsvc.service import trace
from vmsvc.service.runtime import Runtime
from vmsvc.service.scheduling.apply import fail
from vmsvc.service.scheduling.request_queue import owner_of
from vmsvc.store import lineages, vms, waiting
from vmsvc.store.db import Lock, Unit, connected, unit
from vmsvc.store.models import Vm

log = logging.getLogger(__name__)

#: The longest sleep: a request that comes meanwhile waits for at least so long.
_POLL_SECONDS = 1.0
_PAUSE = 0.02  # between two looks, whatever is due
_AT_ONCE = 200  # requests in one transaction
#: A request whose wait ended longer ago (no replica ran) does not fall back any more.
_LATE = timedelta(seconds=30)
#: So much time has a successor, when the storm guard lets it go, to get capacity that stays free; and for so long at
#: most the guard prolongs a wait.
_TURN, _LONGEST_DELAY = timedelta(seconds=15), timedelta(hours=1)
#: The step of a request that goes on as a standard one.
_FELL_BACK = ("create", "fell_back")


class Deadlines:
    """Ends requests whose time is over, and gives those back to the scheduler about which it has to decide anew."""

    def __init__(self, runtime: Runtime, wake: Callable[[], None], timing: Timing):
        self._runtime = runtime
        self._wake = wake
        self._most_restarts = timing.restarts_a_minute

    async def run(self) -> None:
        """Keep the deadlines until this is cancelled."""
        left: float | None = None
        while True:
            await asyncio.sleep(_POLL_SECONDS if left is None else min(max(left, _PAUSE), _POLL_SECONDS))
            due = left is not None and left <= _POLL_SECONDS
            left = await self._runtime.offload(_next_deadline)
            if left is not None and left <= 0:
                await self._runtime.offload(_meet_deadlines, self._most_restarts)
                left = await self._runtime.offload(_next_deadline)
                due = True
            if due:  # the pause before a restart may be over: the scheduler sees that by itself
                self._wake()
            self._runtime.mark_ready("deadlines")


# ---------------------------------------------------------------- in the database pool


def _next_deadline() -> float | None:
    with connected():
        return waiting.seconds_to_next_deadline()


def _meet_deadlines(most_restarts: int = Timing().restarts_a_minute) -> None:
    with unit(Lock.SCHEDULER) as work:
        for row in waiting.falling_back(work.now, work.now - _LATE, _AT_ONCE):
            _fall_back(work, row)
        for row in waiting.without_patience(work.now, work.now - _LATE, _AT_ONCE):
            vms.change(row, patience_until=None, queued_why=None, updated_at=work.now)
            work.notify()
        for row in waiting.expired(work.now, _AT_ONCE):
            turn = _next_turn(row, most_restarts) if row.attempt and row.is_preemptible else None
            if turn:
                vms.change(row, wait_until=turn)
            else:
                _expire(work, row)


def _fall_back(work: Unit, row: Vm) -> None:
    """A preemptible request goes on as a standard one. The scheduler decides about it anew, also when its wait ends at
    the same moment."""
    trace.begin_create(row)
    vms.take_step(
        work,
        row,
        _FELL_BACK,
        reason="there was no capacity for it as a preemptible VM",
        data={"wait_until": instant(row.wait_until)},
        is_preemptible=False,
        fell_back_at=work.now,
        fallback_at=None,
        queued_why=None,
        updated_at=work.now,
    )


def _next_turn(row: Vm, most: int) -> datetime | None:
    """Until when a successor waits on although its time is over: the storm guard has kept it back, because as many VMs
    of its owner were started again lately as may be. None when it has not, or when that has lasted too long."""
    before = lineages.restarted_within(RESTART_SPAN_SECONDS).get(owner_of(row), [])
    lineage = lineages.of(row.lineage_id) if row.lineage_id else None
    if len(before) < most or lineage is None:
        return None
    turn = before[most - 1] + timedelta(seconds=RESTART_SPAN_SECONDS) + _TURN
    asked = row.created_at + timedelta(seconds=lineage.restart_within_seconds)
    return turn if turn <= asked + _LONGEST_DELAY else None


def _expire(work: Unit, row: Vm) -> None:
    """A request has waited long enough."""
    trace.begin_create(row)
    waited, refusal = (work.now - row.created_at).total_seconds(), row.refusal or {}
    error = refusal.get("error") or NoCapacity.slug
    if Refuse(error, "").lacks_capacity:
        why = row.queued_why or refusal.get("message") or "the cloud did not show any"
        message = f"there was no capacity for it within {waited:.0f} s: {why}"
    else:
        message = f"no server could be made for it within {waited:.0f} s; the cloud said last: {refusal['message']}"
    fail(work, row, error, message, at_deadline=True)
