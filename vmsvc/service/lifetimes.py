"""The end of a preemptible VM's lifetime: an eviction with notice, which nobody's request caused."""

import asyncio
import logging
from datetime import timedelta

from vmsvc.domain.groups import budgets
from vmsvc.domain.lifecycle import State
from vmsvc.domain.lifetime import end_of_life
from vmsvc.service.placing import give_notice
from vmsvc.service.runtime import Runtime
from vmsvc.store import ledger, vms
from vmsvc.store.db import Lock, unit

log = logging.getLogger(__name__)

_ROUND_SECONDS = 2.0


class Lifetimes:
    """Looks for VMs whose time is nearly up; does nothing when no lifetime is set."""

    def __init__(self, runtime: Runtime, lifetime_seconds: float, grace_seconds: float):
        self._runtime = runtime
        self._lifetime = lifetime_seconds
        self._grace = timedelta(seconds=grace_seconds)

    async def run(self) -> None:
        """Round after round."""
        while True:
            if self._lifetime:
                await self._runtime.offload(self._notice_the_old)
            self._runtime.well("lifetimes")
            await asyncio.sleep(_ROUND_SECONDS)

    def _notice_the_old(self) -> None:
        """Notice each so early that its grace period ends with its life; a group's budget makes some live longer."""
        with unit() as work:
            work.lock(Lock.SCHEDULER)
            rows = vms.in_states([State.ACTIVE, State.NOTICED, State.EVICTING, State.BUILDING])
            left = budgets(vms.row_of(row) for row in rows)
            for row in rows:
                if row.state != State.ACTIVE or not row.is_preemptible or not row.launched_at:
                    continue
                end = end_of_life(row.id, row.launched_at, self._lifetime)
                if end - self._grace > work.now or left.get(row.group_name, 1) < 1:
                    continue
                evict_at = max(end, work.now + self._grace)
                reason = f"its lifetime of {self._lifetime:g} s ends"
                if give_notice(work, row, evict_at, reason, evict_at - work.now, {"running": True}):
                    ledger.record_eviction(work, row, reason="lifetime", evict_at=evict_at)
                    if row.group_name:
                        left[row.group_name] -= 1
