"""Records that a victim is gone, and starts its successor in the same transaction.

A successor is a new row: PENDING like any other request, with the deadline and the pause that its lineage gives it. The
scheduler finds capacity for it, and a worker creates its server. So a crash leaves either a VM that is still being
evicted, or an evicted one with its successor.
"""

import logging
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from vmsvc.domain.errors import Conflict, NoCapacity
from vmsvc.domain.events import view
from vmsvc.domain.lifecycle import State
from vmsvc.domain.lineage import (
    RESTARTS_USED_UP,
    Restart,
    RestartsUsedUp,
    UserDataLost,
    after_eviction,
    restart_data,
)
from vmsvc.store import ledger, lineages, vms
from vmsvc.store.db import Unit, connected, unit
from vmsvc.store.models import Lineage, Vm

log = logging.getLogger(__name__)

_AT_ONCE = 100  # lineages that one call completes
#: What a successor takes over from the VM before it.
_TAKEN_OVER = (
    "name",
    "is_preemptible",
    "priority",
    "min_run_seconds",
    "group_name",
    "max_unavailable",
    "principal",
    "principal_id",
    "flavor",
    "image",
    "network",
    "quota",
    "room",
    "lineage_id",
)


def record_evicted(work: Unit, vm_id: str) -> None:
    """Record that a victim's server is gone. If the VM is to be started again, write its successor; if it was started
    again as often as it may, write a request that has failed for that reason."""
    row = vms.of_id(vm_id)
    lineage = lineages.lock(row.lineage_id) if row.lineage_id else None
    following = _following(work, row, lineage) if lineage else None
    data: dict[str, Any] = {}
    if following:
        data["successor"] = following.vm_id
        if isinstance(following.what, Restart):
            data["restart"] = restart_data(row.lineage_id or row.id, following.what.attempt, following.not_before)
    if row.state != State.EVICTING or not vms.move(work, row, State.EVICTED, data=data):
        return
    ledger.record_step(vm_id, "freed_at")
    if lineage:
        _follow(work, row, lineage, following)


def complete_lineages() -> int:
    """Do what is due in open lineages none of whose VMs is there: a replica of an older release, which knows nothing of
    lineages, has ended the VM. Returns in how many."""
    with connected():
        left = lineages.without_vm(_AT_ONCE)
    for lineage_id in left:
        with unit() as work:
            lineage = lineages.lock(lineage_id)
            if lineage is None or lineage.ended_at is not None or lineages.living(lineage_id):
                continue
            row = lineages.newest(lineage_id)
            if row is None:
                lineages.end(lineage, str(State.DELETED))
                lineages.remove_empty(lineage_id)
            elif row.state == State.EVICTED:
                log.warning("vm %s: an older release has evicted it; what follows is done now", row.id)
                _follow(work, row, lineage, _following(work, row, lineage))
            else:
                lineages.end(lineage, row.state)
    return len(left)


@dataclass(frozen=True, slots=True)
class _Following:
    """What comes after a VM, and the id that the row of that gets."""

    what: Restart | RestartsUsedUp | UserDataLost
    vm_id: str
    not_before: datetime


def _following(work: Unit, row: Vm, lineage: Lineage) -> _Following | None:
    if not lineages.restarts_vms(lineage):
        return None
    what: Restart | RestartsUsedUp | UserDataLost = after_eviction(
        row.id,
        lineages.terms_of(lineage),
        restarts=lineage.restarts,
        short_lives=lineage.short_lives,
        life_seconds=((row.ended_at or work.now) - (row.launched_at or work.now)).total_seconds(),
        evictions_lately=lineages.evictions_lately(lineage.id) + (row.state != State.EVICTED),
    )
    if isinstance(what, Restart) and row.boot.get("with_user_data") and not row.boot.get("user_data"):
        what = UserDataLost(what.attempt)
    pause = what.pause if isinstance(what, Restart) else 0.0
    return _Following(what, str(uuid.uuid4()), work.now + timedelta(seconds=pause))


def _follow(work: Unit, row: Vm, lineage: Lineage, following: _Following | None) -> None:
    """Write what comes after this VM, which was evicted, or end its lineage."""
    if following is None:
        lineages.end(lineage, str(State.EVICTED))
        return
    columns = {**_columns(row), "attempt": following.what.attempt}
    match following.what:
        case Restart() as restart:
            # From the eviction on: an older release may have evicted it long ago.
            wait_until = (row.ended_at or work.now) + timedelta(seconds=lineage.restart_within_seconds)
            columns |= {"not_before": following.not_before, "wait_until": wait_until}
            _start(work, following.vm_id, columns, restart)
            lineages.change(lineage, restarts=restart.attempt, short_lives=restart.short_lives)
        case RestartsUsedUp(message=message):
            _refuse(work, following.vm_id, columns, RESTARTS_USED_UP, NoCapacity.slug, message)
        case UserDataLost(message=message):
            _refuse(work, following.vm_id, columns, message, Conflict.slug, message)


def _columns(row: Vm) -> dict[str, Any]:
    """The columns of a successor of this VM, as the VM was before it ended."""
    taken = vms.row_of(row)
    boot = {name: value for name, value in row.boot.items() if name not in ("delete_request_id", "deleted_by")}
    return {**{name: taken[name] for name in _TAKEN_OVER}, "boot": boot, "restart_of": row.id}


def _start(work: Unit, vm_id: str, columns: dict[str, Any], restart: Restart) -> None:
    if not restart.falls_back:
        vms.write_request(work, vm_id, columns)
        return
    standard = {"is_preemptible": False, "fell_back_at": work.now}
    written = vms.write_request(work, vm_id, {**columns, **standard})
    vms.take_step(work, written, ("create", "fell_back"), reason="its lineage was evicted as often as it allows")


def _refuse(work: Unit, vm_id: str, columns: dict[str, Any], reason: str, error: str, message: str) -> None:
    """Write a request that has failed at once, so that whoever looks for the newest VM of the lineage finds out why
    there is none."""
    written = vms.write_request(work, vm_id, columns)
    failed = vms.move(work, written, State.FAILED, reason=reason, data={"error": error, "message": message})
    if failed:
        outcome = {"ok": False, "error": error, "message": message, "evicted": []}
        vms.record_outcome(failed, {**outcome, "vm": view(vms.row_of(failed))})
