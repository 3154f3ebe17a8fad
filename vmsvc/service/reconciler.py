"""Rows against cloud: what vanished without us, and what of ours is left over.

Absence from a list proves nothing (a cell may be down): LOST needs a GET that says 404. A left-over server must carry
our mark and our deployment's id and be seen in two rounds; nothing foreign is ever touched.
"""

import asyncio
import logging

from vmsvc.cloud.mirror import Mirror
from vmsvc.cloud.port import MARK, Cloud
from vmsvc.domain.errors import NotFound, VmsvcError
from vmsvc.domain.lifecycle import FINAL, State
from vmsvc.service.boot import OWNER
from vmsvc.service.evictions import acknowledge
from vmsvc.service.runtime import Runtime
from vmsvc.store import intents, vms
from vmsvc.store.db import reading, unit
from vmsvc.store.models import Vm

log = logging.getLogger(__name__)

_ROUND_SECONDS = 5.0
_NOTICED_SECONDS = 1.0     # while somebody is noticed: who powers itself off need not wait for its time
_CONFIRMATIONS = 20        # GETs in one round, at most


class Reconciler:
    """One round every few seconds, at the cost of one database read when all is in order."""

    def __init__(self, runtime: Runtime, cloud: Cloud, mirror: Mirror, deployment: str):
        self._runtime = runtime
        self._cloud = cloud
        self._mirror = mirror
        self._deployment = deployment
        self._suspects: set[str] = set()
        self._round = 0
        self._looked_at: dict[str, int] = {}     # missing server -> the round in which it was last asked for

    async def run(self) -> None:
        """Round after round."""
        pause = _ROUND_SECONDS
        while True:
            await asyncio.sleep(pause)
            await self._mirror.refresh(pause)
            shown = dict(self._mirror.servers)
            noticed = await self._runtime.offload(_let_go, {
                server.id for server in shown.values() if server.status == "SHUTOFF" and server.task_state is None})
            pause = _NOTICED_SECONDS if noticed else _ROUND_SECONDS
            await self._find_lost(shown)
            await self._sweep(shown)
            self._runtime.well("reconciler")

    async def _find_lost(self, shown: dict) -> None:
        held = await self._runtime.offload(_held)
        missing = {server_id: vm_id for vm_id, server_id in held if server_id not in shown}
        # Who waited longest comes first: those of a cell that is down must not keep the others from being looked at.
        self._looked_at = {server_id: self._looked_at.get(server_id, 0) for server_id in missing}
        self._round += 1
        for server_id in sorted(missing, key=self._looked_at.__getitem__)[:_CONFIRMATIONS]:
            self._looked_at[server_id] = self._round
            try:
                await self._cloud.server(server_id)
            except NotFound:
                await self._runtime.offload(_lost, missing[server_id])
            except VmsvcError as error:
                log.warning("server %s is missing in the list, and cannot be read: %s", server_id, error.message)

    async def _sweep(self, shown: dict) -> None:
        ours = {server.id: server.metadata[MARK] for server in shown.values()
                if MARK in server.metadata and server.metadata.get(OWNER) == self._deployment}
        left_over = await self._runtime.offload(_left_over, ours) if ours else set()
        for server_id in sorted(left_over & self._suspects)[:_CONFIRMATIONS]:
            log.warning("server %s carries our mark but no request of ours wants it: deleting it", server_id)
            try:
                await self._cloud.delete(server_id)
            except VmsvcError as error:
                log.warning("server %s cannot be deleted now: %s", server_id, error.message)
        self._suspects = left_over


def _held() -> list[tuple[str, str]]:
    with reading():
        return [(row.id, row.cloud_id) for row in vms.in_states([State.BUILDING, State.ACTIVE, State.NOTICED])
                if row.cloud_id]


def _let_go(down: set[str]) -> bool:
    """End the notice of guests that ran when it began and have powered themselves off. True while any is noticed."""
    with unit() as work:
        noticed = vms.in_states([State.NOTICED])
        for row in noticed:
            if row.cloud_id in down and row.notice["running"] and row.acknowledged_at is None:
                row = vms.get(row.id, lock=True)
                if row.state == State.NOTICED:
                    log.info("vm %s: powered off during its notice; it goes now", row.id)
                    acknowledge(work, row)
        return bool(noticed)


def _lost(vm_id: str) -> None:
    with unit() as work:
        row = Vm.get_by_id(vm_id)
        if row.state not in (State.ACTIVE, State.NOTICED):
            return                          # its boot, or its leaving, finds out by itself
        if vms.move(work, row, State.LOST, reason="it vanished from the cloud; vmsvc did not delete it"):
            intents.drop(work, intents.EVICT, vm_id)


def _left_over(ours: dict[str, str]) -> set[str]:
    """Servers of ours that no open row wants: their row has ended, or has another server."""
    with reading():
        rows = {row.id: row for row in vms.of_ids(set(ours.values()))}
    return {server_id for server_id, vm_id in ours.items()
            if vm_id not in rows or State(rows[vm_id].state) in FINAL
            or rows[vm_id].cloud_id not in (None, server_id)}
