"""Records that a victim is gone, and starts its successor in the same transaction.

A successor is a new row: PENDING like any other request, with the deadline and the pause that its lineage gives it. The
scheduler finds capacity for it, and a worker creates its server. So a crash leaves either a VM that is still being
evicted, or an evicted one with its successor.
"""

import uuid
from datetime import timedelta
from typing import Any

from vmsvc.domain.errors import NoCapacity
from vmsvc.domain.events import view
from vmsvc.domain.lifecycle import State
from vmsvc.domain.lineage import RESTARTS_USED_UP, Restart, RestartsUsedUp, after_eviction, restart_data
from vmsvc.store import ledger, lineages, vms
from vmsvc.store.db import Unit
from vmsvc.store.models import Lineage, Vm

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
    following = _following(work, row, lineage) if lineage and lineages.restarts_vms(lineage) else None
    successor_id = str(uuid.uuid4())
    not_before = work.now + timedelta(seconds=following.pause if isinstance(following, Restart) else 0)
    data: dict[str, Any] = {}
    if following:
        data["successor"] = successor_id
    if isinstance(following, Restart):
        data["restart"] = restart_data(row.lineage_id or row.id, following.attempt, not_before)
    if row.state != State.EVICTING or not vms.move(work, row, State.EVICTED, data=data):
        return
    ledger.record_step(vm_id, "freed_at")
    if lineage is None:
        return
    match following:
        case None:
            lineages.end(lineage, str(State.EVICTED))
        case Restart():
            columns = {**_columns(row), "not_before": not_before, "attempt": following.attempt}
            columns["wait_until"] = work.now + timedelta(seconds=lineage.restart_within_seconds)
            _start(work, successor_id, columns, following)
            lineages.change(lineage, restarts=following.attempt, short_lives=following.short_lives)
        case RestartsUsedUp(attempt=attempt, message=message):
            _refuse(work, successor_id, {**_columns(row), "attempt": attempt}, message)


def _following(work: Unit, row: Vm, lineage: Lineage) -> Restart | RestartsUsedUp:
    return after_eviction(
        row.id,
        lineages.terms_of(lineage),
        restarts=lineage.restarts,
        short_lives=lineage.short_lives,
        life_seconds=(work.now - (row.launched_at or work.now)).total_seconds(),
        evictions_lately=lineages.evictions_lately(lineage.id) + 1,
    )


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


def _refuse(work: Unit, vm_id: str, columns: dict[str, Any], message: str) -> None:
    """Write a request that has failed at once, so that whoever looks for the newest VM of the lineage finds out why
    there is none."""
    written = vms.write_request(work, vm_id, columns)
    failed = vms.move(
        work, written, State.FAILED, reason=RESTARTS_USED_UP, data={"error": NoCapacity.slug, "message": message}
    )
    if failed:
        outcome = {"ok": False, "error": NoCapacity.slug, "message": message, "evicted": []}
        vms.record_outcome(failed, {**outcome, "vm": view(vms.row_of(failed))})
