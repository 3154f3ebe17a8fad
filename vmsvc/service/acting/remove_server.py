"""Removes servers: evicts victims when their time has come, and deletes VMs for their owners."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime

from vmsvc.cloud.cache.server_cache import ServerCache
from vmsvc.cloud.port import Cloud, Server
from vmsvc.domain.errors import CloudUnavailable, Conflict, Locked, NotFound
from vmsvc.domain.events import instant
from vmsvc.domain.grace_period import Step, next_step
from vmsvc.domain.lifecycle import REMOVING, State
from vmsvc.domain.timing import Timing
from vmsvc.service import trace
from vmsvc.service.acting.notice import NOTICE_UNREADABLE, notice_of
from vmsvc.service.acting.polling import MinimumDuration, ServerPoller
from vmsvc.service.acting.restart import record_evicted
from vmsvc.service.runtime import Runtime
from vmsvc.service.scheduling.apply import LOCKED, exempt, reprieve
from vmsvc.store import intents, ledger, vms
from vmsvc.store.db import Lock, connected, unit
from vmsvc.store.intents import Claim
from vmsvc.store.models import Vm

log = logging.getLogger(__name__)

_STOP_LIMIT = 75.0  # the guest has 60 s by Nova's default shutdown_timeout
_LOCK_SECONDS = 0.5  # how old the list may be that shows a server as not locked
_GET_SECONDS = 5.0  # a GET at least this often: a list may lack a server
_REMOVAL_LIMIT = 300.0


class RemoveServer:
    """Performs `evict` and `delete` intents."""

    def __init__(self, runtime: Runtime, cloud: Cloud, server_cache: ServerCache, timing: Timing, stop_first: bool):
        self._runtime = runtime
        self._timing = timing
        self._cloud = cloud
        self._server_cache = server_cache
        self._stop_first = stop_first
        self._poller = ServerPoller(server_cache)
        self._duration = MinimumDuration()

    async def evict(self, claim: Claim) -> None:
        """Stop and delete a victim whose notice has ended, and wait for 404. Never before `evict_at`, nor before the
        guest could read its notice for the whole grace period: see `_begin_eviction`."""
        row = await self._runtime.offload(vms.read, claim.vm_id)
        await trace.begin_eviction(self._runtime, row)
        if row.state == State.NOTICED:
            if await self._is_locked(row.server_id):
                await self._runtime.offload(_record_exempt, row.id, row.notice_end, LOCKED)
                return
            begun = await self._runtime.offload(_begin_eviction, row.id, self._runs(row.server_id), self._timing)
            match begun:
                case Step.EXEMPT:
                    await self._runtime.offload(_record_exempt, row.id, row.notice_end, NOTICE_UNREADABLE)
                case Step.WITHDRAW:
                    await self._runtime.offload(_withdraw_expired, row.id)
            if not isinstance(begun, Vm):
                return
            row = begun
        if row.state != State.EVICTING:
            return
        if self._stop_first:
            await self._shut_down(row.server_id)
            await self._runtime.offload(_record_step, row.id, "stopped_at")
        await self.remove(row.server_id, lambda: self._runtime.offload(_record_step, row.id, "deleted_at"))
        await self._runtime.offload(_record_evicted, row.id)

    async def delete(self, claim: Claim) -> None:
        """Delete the server of a VM that its owner deleted, at whatever step of its build it is."""
        row = await self._runtime.offload(vms.read, claim.vm_id)
        trace.begin_delete(row)
        if row.state != State.DELETING:
            return
        while not row.cloud_id and await self._runtime.offload(_is_being_created, row.id):
            # Its POST may be under way: CreateServer records the server, or finds the request deleted and ends.
            await asyncio.sleep(0.2)
            row = await self._runtime.offload(vms.read, claim.vm_id)
        servers = {row.cloud_id} if row.cloud_id else {server.id for server in await self._cloud.find_servers(row.id)}
        for server_id in sorted(servers):
            await self.remove(server_id)
        await self._runtime.offload(_record_deleted, row.id)

    async def remove(
        self,
        server_id: str,
        on_accepted: Callable[[], Awaitable[None]] | None = None,
        duration: MinimumDuration | None = None,
    ) -> None:
        """Send DELETE until GET says 404. Then both its quota and its capacity are free: Nova removes the allocation
        before the record. `on_accepted` is called when the cloud has accepted the DELETE; `duration` knows how long
        such removals take. Raises Locked, or CloudUnavailable when the delete hangs for minutes."""
        duration = duration or self._duration
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _REMOVAL_LIMIT
        sent_at, resend_after, force, pause = float("-inf"), 0.0, False, 0.05
        while loop.time() < deadline:
            if loop.time() - sent_at > resend_after:
                await self._cloud.delete(server_id, force)
                sent_at, resend_after = loop.time(), self._timing.resend_delete
                if on_accepted:
                    await on_accepted()
            server, at_least = await self._poller.wait_for(server_id, _is_stuck, sent_at, duration, _GET_SECONDS)
            duration.record(at_least)
            if server is None:
                return
            if server.status == "SOFT_DELETED" and not force:
                force, resend_after = True, 0.0  # it holds its host's capacity until Nova reclaims it
            elif server.status == "ERROR" and server.task_state is None:
                resend_after = self._timing.resend_failed_delete  # its teardown failed
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.5)
        raise CloudUnavailable(f"server {server_id} is still there {_REMOVAL_LIMIT:.0f} s after its DELETE")

    async def _is_locked(self, server_id: str) -> bool:
        """True when the server was locked a moment ago: one list serves all removals that run at the same time."""
        await self._server_cache.refresh(_LOCK_SECONDS)
        server = self._server_cache.servers.get(server_id)
        return server is not None and server.locked

    def _runs(self, server_id: str) -> bool:
        """False when the guest is certainly down. A guest that reboots counts as running."""
        server = self._server_cache.servers.get(server_id)
        return server is None or server.runs or server.task_state is not None

    async def _shut_down(self, server_id: str) -> None:
        """Give the guest its ACPI shutdown, for a bounded time."""
        try:
            await self._cloud.stop(server_id)
        except (Locked, NotFound, Conflict) as error:
            log.info("server %s is not stopped first: %s", server_id, error.message)
            return
        await self._server_cache.wait_for(server_id, _is_down, _STOP_LIMIT)


def _is_stuck(server: Server) -> bool:
    return server.status == "SOFT_DELETED" or (server.status == "ERROR" and server.task_state is None)


def _is_down(server: Server | None) -> bool:
    return server is None or (server.status != "ACTIVE" and server.task_state is None)


# ---------------------------------------------------------------- in the database pool


def _is_being_created(vm_id: str) -> bool:
    with connected():
        return intents.is_open(intents.BOOT, vm_id)


def _begin_eviction(vm_id: str, runs: bool, timing: Timing) -> Vm | Step | None:
    """Begin the eviction if its time has come, else put the intent off. Returns the row when the eviction has begun or
    the VM is no longer NOTICED; EXEMPT or WITHDRAW when the caller has to end the notice; else None."""
    with unit() as work:
        row = vms.of_id(vm_id, lock=True)
        # It may have been reprieved and noticed anew since this intent was claimed: the newer notice counts.
        if row.state != State.NOTICED:
            return row
        match next_step(notice_of(row), work.now, runs, timing):
            case datetime() as when:
                intents.put_off(work, intents.EVICT, vm_id, when)
            case Step.REPRIEVE:
                reprieve(work, row, "the notice was only practised")
            case Step.EVICT:
                ledger.record_step(vm_id, "evicting_at")
                ledger.count_round(vm_id)
                return vms.move(work, row, State.EVICTING)
            case step:
                return step
        return None


def _withdraw_expired(vm_id: str) -> None:
    """Withdraw a notice that is out of date, acknowledged or not, and those of the same plan that are out of date too.
    If the eviction is still needed, its cause gives a new notice of a whole grace period: the scheduler plans for the
    request anew."""
    with unit() as work:
        work.lock(Lock.SCHEDULER)
        request = vms.of_id(vm_id).evicted_for
        for noticed in vms.in_states([State.NOTICED]):
            if noticed.id != vm_id and (request is None or noticed.evicted_for != request):
                continue
            row = vms.of_id(noticed.id, lock=True)
            if row.state == State.NOTICED and notice_of(row).has_expired(
                work.now
            ):  # else it has left, or was noticed anew
                reprieve(work, row, f"its notice ended at {instant(row.notice_end)} and was not carried out in time")
                ledger.discount_round(row.id)


def _record_exempt(vm_id: str, evict_at: datetime, reason: str) -> None:
    with unit() as work:
        work.lock(Lock.SCHEDULER)
        row = vms.of_id(vm_id, lock=True)
        if row.state == State.NOTICED and row.evict_at == evict_at:  # else it has left, or was noticed anew
            exempt(work, row, reason)


def _record_step(vm_id: str, step: str) -> None:
    with unit():
        ledger.record_step(vm_id, step)


def _record_evicted(vm_id: str) -> None:
    with unit() as work:
        record_evicted(work, vm_id)


def _record_deleted(vm_id: str) -> None:
    with unit() as work:
        row = vms.of_id(vm_id)
        if row.state in REMOVING:
            vms.move(work, row, State.DELETED)
