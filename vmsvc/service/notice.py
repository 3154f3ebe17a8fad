"""The notice in the guest: server metadata that `meta_data.json` shows, written when it begins and removed when the
VM is reprieved. Nova caches that file for up to 15 s."""

from vmsvc.cloud.port import Cloud
from vmsvc.domain.errors import NotFound
from vmsvc.domain.events import instant
from vmsvc.domain.lifecycle import State
from vmsvc.service import trace
from vmsvc.service.actuator import Claim
from vmsvc.service.runtime import Runtime
from vmsvc.store import ledger, vms
from vmsvc.store.db import unit
from vmsvc.store.models import Vm

EVICT_AT, EVICT_WHY = "vmsvc_evict_at", "vmsvc_evict_reason"


class Notices:
    """Performs `notice` and `reprieve` intents. Each writes what the row says when it is done, so that it does not
    matter which of the two comes last."""

    def __init__(self, runtime: Runtime, cloud: Cloud):
        self._runtime = runtime
        self._cloud = cloud

    async def perform(self, claim: Claim) -> None:
        """Bring the metadata in line with the row, and look again whether the row has changed meanwhile."""
        while True:
            row = await self._runtime.offload(vms.read, claim.vm_id)
            await trace.begin_eviction(self._runtime, row)
            try:
                if row.state == State.NOTICED:
                    await self._cloud.set_metadata(row.cloud_id, {EVICT_AT: instant(row.evict_at),
                                                                  EVICT_WHY: _why(row)})
                    await self._runtime.offload(_stamp, row.id)
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


def _stamp(vm_id: str) -> None:
    with unit():
        ledger.stamp(vm_id, "noticed_at")
