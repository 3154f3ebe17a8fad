"""The notice in the guest: server metadata that `meta_data.json` shows, written when it begins and removed when the
VM is reprieved. Nova caches that file for up to 15 s.

The grace period of a guest that runs begins when this is written, not when it was decided: see `due`.
"""

from datetime import datetime, timedelta

from vmsvc.cloud.port import Cloud
from vmsvc.domain.errors import NotFound
from vmsvc.domain.events import instant
from vmsvc.domain.lifecycle import State
from vmsvc.service import trace
from vmsvc.service.actuator import Claim
from vmsvc.service.placing import delay_notice
from vmsvc.service.runtime import Runtime
from vmsvc.store import intents, ledger, vms
from vmsvc.store.db import unit
from vmsvc.store.models import Vm

EVICT_AT, EVICT_WHY = "vmsvc_evict_at", "vmsvc_evict_reason"
_LATE = timedelta(seconds=2)       # a notice that is written later than this says a later time


class Notices:
    """Performs `notice` and `reprieve` intents. Each writes what the row says when it is done, so that it does not
    matter which of the two comes last."""

    def __init__(self, runtime: Runtime, cloud: Cloud, stop_first: bool):
        self._runtime = runtime
        self._cloud = cloud
        self._stop_first = stop_first

    async def perform(self, claim: Claim) -> None:
        """Bring the metadata in line with the row, and look again whether the row has changed meanwhile."""
        while True:
            row = await self._runtime.offload(vms.read, claim.vm_id)
            if row.state == State.NOTICED and not row.notice["grace_seconds"] and not self._stop_first:
                return                  # it is cut off at once: nobody would read it
            await trace.begin_eviction(self._runtime, row)
            try:
                if row.state == State.NOTICED:
                    await self._cloud.set_metadata(row.cloud_id, {EVICT_AT: instant(row.evict_at),
                                                                  EVICT_WHY: _why(row)})
                    await self._runtime.offload(_told, row.id, row.evict_at)
                elif row.state == State.ACTIVE:
                    await self._cloud.unset_metadata(row.cloud_id, EVICT_AT)
                    await self._cloud.unset_metadata(row.cloud_id, EVICT_WHY)
            except NotFound:
                return                  # it has left already; others find out why
            after = await self._runtime.offload(vms.read, claim.vm_id)
            if (after.state, after.evict_at) == (row.state, row.evict_at):
                return


def _why(row: Vm) -> str:
    """At most 255 characters, which is what Nova takes."""
    notice = row.notice or {}
    return "; ".join(filter(None, (notice.get("reason"), notice.get("criterion"))))[:255]


def due(row: Vm) -> datetime | None:
    """When a noticed VM may go, unless it lets itself go earlier; None while its guest runs and could not be told. A
    grace period of zero promises no time in which the notice could be read: nothing waits for its being written."""
    grace = timedelta(seconds=row.notice["grace_seconds"])
    if not grace:
        return row.evict_at
    told = ledger.told_at(row.id)
    if told is None:
        return None if row.notice["running"] else row.evict_at
    return max(row.evict_at, told + grace)


def _told(vm_id: str, evict_at: datetime) -> None:
    """The guest can read that it goes then. Where that took long it goes later, and is told so in the next round."""
    with unit() as work:
        row = vms.get(vm_id, lock=True)
        if row.state != State.NOTICED or row.evict_at != evict_at:
            return                  # that notice is out of date
        ledger.stamp(vm_id, "noticed_at")
        when = due(row)
        if when > row.evict_at and row.acknowledged_at is None:
            intents.put_off(work, intents.EVICT, vm_id, when)
            if when > row.evict_at + _LATE:
                delay_notice(work, row, when)
