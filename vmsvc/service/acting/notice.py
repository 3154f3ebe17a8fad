"""Writes a victim's notice into its server's metadata, and removes it when the VM is reprieved.

The guest reads it in `meta_data.json`, which Nova caches for up to 15 s.

The grace period of a guest that runs begins when its notice is written, not when it was decided: see
`vmsvc.domain.grace_period`. Where the cloud refuses for good to write the notice (the metadata is full, the policy
forbids it), the victim stays in tenant mode. In operator mode the event alone delivers the notice and the victim is
evicted: otherwise an owner could prevent evictions by filling the metadata.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from vmsvc.cloud.port import EVICT_AT, EVICT_REASON, Cloud
from vmsvc.domain.errors import Conflict, Forbidden, InvalidRequest, Locked, NotFound, QuotaExceeded, VmsvcError
from vmsvc.domain.events import instant
from vmsvc.domain.grace_period import Notice
from vmsvc.domain.lifecycle import State
from vmsvc.service import trace
from vmsvc.service.runtime import Runtime
from vmsvc.service.scheduling.apply import LOCKED, delay_notice, deliver_by_event, exempt
from vmsvc.store import intents, ledger, vms
from vmsvc.store.db import Lock, unit
from vmsvc.store.intents import Claim
from vmsvc.store.models import Vm

NOTICE_UNREADABLE = "its guest could not read the notice"
_TOLERANCE = timedelta(seconds=2)  # a notice that is written later than this gets a later `evict_at`


class NoticeWriter:
    """Performs `notice` and `reprieve` intents. Each writes what the row says at that moment, so the order of the two
    does not matter."""

    def __init__(self, runtime: Runtime, cloud: Cloud, stop_first: bool):
        self._runtime = runtime
        self._cloud = cloud
        self._stop_first = stop_first

    async def perform(self, claim: Claim) -> None:
        """Write the row's notice into the metadata, or remove it, and repeat that if the row has changed meanwhile."""
        while True:
            row = await self._runtime.offload(vms.read, claim.vm_id)
            if row.state == State.NOTICED and self._needs_no_metadata(row.notice):
                return
            await trace.begin_eviction(self._runtime, row)
            try:
                if row.state == State.NOTICED:
                    await self._deliver(row)
                elif row.state == State.ACTIVE:
                    await self._cloud.unset_metadata(row.server_id, EVICT_AT)
                    await self._cloud.unset_metadata(row.server_id, EVICT_REASON)
            except NotFound:
                return  # the server is gone: its removal or the reconciler finds out why
            after = await self._runtime.offload(vms.read, claim.vm_id)
            if (after.state, after.evict_at) == (row.state, row.evict_at):
                return

    def _needs_no_metadata(self, notice: Mapping[str, Any]) -> bool:
        """True when no guest reads the metadata: the VM is deleted at once, or the event alone delivers the notice."""
        return (not notice["grace_seconds"] and not self._stop_first) or notice.get("delivery") == ledger.EVENT

    async def _deliver(self, row: Vm) -> None:
        """Write the notice into the metadata. Where the cloud refuses that for good, the victim is evicted without it,
        or is exempt. Raises the error of a call that a later try may repeat with success."""
        try:
            await self._write(row)
        except Conflict as error:
            if not isinstance(error, Locked) and not await self._is_permanent(row.server_id):
                raise  # a task changes the server, or no guest runs: try again later
            await self._handle_refusal(row, error)
        except (InvalidRequest, QuotaExceeded, Forbidden) as error:
            await self._handle_refusal(row, error)
        else:
            await self._runtime.offload(_record_readable, row.id, row.notice_end)

    async def _write(self, row: Vm) -> None:
        evict_at = {EVICT_AT: instant(row.notice_end)}
        try:
            await self._cloud.set_metadata(row.server_id, {**evict_at, EVICT_REASON: _reason_text(row)})
        except (InvalidRequest, QuotaExceeded):  # one item may fit where two do not: the time matters most
            await self._cloud.set_metadata(row.server_id, evict_at)

    async def _is_permanent(self, server_id: str) -> bool:
        """True when Nova's 409 will last: the guest runs in a state (VERIFY_RESIZE) in which Nova writes no metadata,
        and which may last for ever."""
        server = await self._cloud.server(server_id)
        return server.runs and server.status != "ACTIVE"

    async def _handle_refusal(self, row: Vm, error: VmsvcError) -> None:
        # A locked server could not be deleted either.
        evicts = self._cloud.mode == "operator" and not isinstance(error, Locked)
        reason = LOCKED if isinstance(error, Locked) else f"{NOTICE_UNREADABLE}: {error.message}"
        await self._runtime.offload(_record_undeliverable, row.id, row.notice_end, evicts, reason)


def metadata_differs(row: Vm, metadata: Mapping[str, str]) -> bool:
    """True when the metadata of a VM's server show its guest another notice than the row has: one that was never given
    or was withdrawn, one with another time or reason, or none though there is one. For a VM that is ACTIVE or
    NOTICED; False for any other."""
    if row.state == State.ACTIVE:
        return EVICT_AT in metadata or EVICT_REASON in metadata
    if row.state != State.NOTICED or not row.notice["grace_seconds"] or row.notice.get("delivery") == ledger.EVENT:
        return False
    # The reason may be missing: a server with space for one item only gets the time alone.
    return metadata.get(EVICT_AT) != instant(row.notice_end) or metadata.get(
        EVICT_REASON, _reason_text(row)
    ) != _reason_text(row)


def _reason_text(row: Vm) -> str:
    """The reason of a notice, for the metadata: at most 255 characters, which is Nova's limit. Characters beyond the
    basic plane become `?`, because Nova answers 500 where its database (MySQL's utf8mb3) cannot store them."""
    notice = row.notice or {}
    text = "; ".join(filter(None, (notice.get("reason"), notice.get("criterion"))))
    return "".join(character if character <= "\uffff" else "?" for character in text)[:255]


def notice_of(row: Vm) -> Notice:
    """The notice of a NOTICED VM, read in the caller's transaction."""
    grace, evict_at = timedelta(seconds=row.notice["grace_seconds"]), row.notice_end
    readable_at: datetime | None
    if row.notice.get("delivery") == ledger.EVENT:
        readable_at = ledger.noticed_event_at(row.id) or evict_at - grace
    else:
        readable_at = ledger.readable_since(row.id)
    return Notice(
        evict_at=evict_at,
        grace=grace,
        readable_at=readable_at,
        running=row.notice["running"],
        acknowledged_at=row.acknowledged_at,
        only_practised=bool(row.notice.get("notice_only")),
    )


def _record_readable(vm_id: str, evict_at: datetime) -> None:
    """Record that the guest can read its notice with this `evict_at`. Where writing the notice took long, `evict_at`
    moves, and the next round writes the new time."""
    with unit() as work:
        row = vms.of_id(vm_id, lock=True)
        if row.state != State.NOTICED or row.evict_at != evict_at:
            return  # that notice is out of date
        ledger.record_step(vm_id, "noticed_at")
        when = notice_of(row).due
        if when is not None and when > row.notice_end and row.acknowledged_at is None:
            intents.put_off(work, intents.EVICT, vm_id, when)
            if when > row.notice_end + _TOLERANCE:
                delay_notice(work, row, when)


def _record_undeliverable(vm_id: str, evict_at: datetime, evicts: bool, reason: str) -> None:
    """Record that the cloud writes no notice for this guest: the VM is to be evicted (`evicts`), with the event alone
    as its notice, or else it is exempt (`reason`)."""
    with unit() as work:
        work.lock(Lock.SCHEDULER)
        row = vms.of_id(vm_id, lock=True)
        if row.state != State.NOTICED or row.evict_at != evict_at:
            return  # that notice is out of date
        if ledger.readable_since(vm_id):
            return  # its guest could read the notice, which was removed since
        if evicts:
            deliver_by_event(work, row)
        else:
            exempt(work, row, reason)
