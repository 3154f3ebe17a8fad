"""The end of a preemptible VM's lifetime: an eviction with notice, for which no request waits."""

import asyncio
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta

from vmsvc.cloud.cache.server_cache import ServerCache
from vmsvc.cloud.port import Server
from vmsvc.domain.lifecycle import earliest_end, end_of_life
from vmsvc.domain.timing import Timing
from vmsvc.scheduling.eviction_groups import budgets
from vmsvc.service.runtime import Runtime
from vmsvc.service.scheduling.apply import give_notice
from vmsvc.store import ledger, vms
from vmsvc.store.db import Lock, Unit, unit
from vmsvc.store.models import Vm

log = logging.getLogger(__name__)


class Lifetimes:
    """Notices VMs whose lifetime is nearly over; does nothing when no lifetime is set."""

    def __init__(
        self, runtime: Runtime, server_cache: ServerCache, timing: Timing, lifetime_seconds: float, grace_seconds: float
    ):
        self._runtime = runtime
        self._timing = timing
        self._server_cache = server_cache
        self._lifetime = lifetime_seconds
        self._grace = timedelta(seconds=grace_seconds)

    async def run(self) -> None:
        """End lifetimes round after round, until this is cancelled."""
        while True:
            if self._lifetime:
                await self._runtime.offload(self._notice_expired, dict(self._server_cache.servers))
            self._runtime.mark_ready("lifetimes")
            await asyncio.sleep(self._timing.lifetimes_round)

    def _notice_expired(self, servers: Mapping[str, Server]) -> None:
        """Notice each VM a little more than its grace period before the end of its lifetime, so that it is evicted just
        then, and not together with all VMs that the same round found. VMs live longer while their group's budget is
        used up, while they are locked in the cloud, and after an eviction of theirs could lately not be carried out."""
        with unit() as work:
            work.lock(Lock.SCHEDULER)
            horizon = work.now + self._grace + 2 * timedelta(seconds=self._timing.lifetimes_round)
            expired = vms.preemptible_since(horizon - earliest_end(self._lifetime))
            if not expired:
                return
            budget_left = budgets(vms.row_of(row) for row in vms.current())
            exempt = ledger.exempt_vms(self._timing.exempt)
            for row in expired:
                server = servers.get(row.server_id)
                if row.launched_at is None or server is None or server.locked or row.id in exempt:
                    continue
                end = end_of_life(row.id, row.launched_at, self._lifetime)
                if end <= horizon and (row.group_name is None or budget_left.get(row.group_name, 1) > 0):
                    self._notice(work, row, max(end, work.now + self._grace), server.runs)
                    if row.group_name:
                        budget_left[row.group_name] -= 1

    def _notice(self, work: Unit, row: Vm, evict_at: datetime, running: bool) -> None:
        if give_notice(
            work, row, evict_at, f"its lifetime of {self._lifetime:g} s ends", evict_at - work.now, {"running": running}
        ):
            ledger.record_eviction(work, row, reason="lifetime", evict_at=evict_at)
