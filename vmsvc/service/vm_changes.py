"""What the owner of a VM may change: its kind while it runs, and whether it is started again after an eviction.

The row decides. The metadata of the server follow at once where the cloud takes them; otherwise, and after a crash, the
reconciler puts them right, as it does with marks that somebody has changed.
"""

from typing import Any

from vmsvc.domain.errors import Conflict, Forbidden, NotFound
from vmsvc.domain.lifecycle import BOOTABLE, FINAL, State
from vmsvc.domain.lineage import END
from vmsvc.domain.principal import Principal
from vmsvc.store import lineages, vms
from vmsvc.store.db import Lock, Unit, unit
from vmsvc.store.models import Lineage, Vm


def change_vm(
    ref: str, mark: str | None, principal: Principal, *, ends_restarts: bool, is_preemptible: bool | None
) -> dict[str, Any]:
    """Make these changes, all or none; returns the row as it is then, with what clients see of its lineage. `ref` may
    be any id of a lineage. Raises NotFound, Forbidden for another owner's VM, Conflict for a VM whose kind cannot be
    changed now."""
    with unit() as work:
        if is_preemptible is not None:
            work.lock(Lock.SCHEDULER)  # no plan may count on its old kind
        row, lineage = _locked(ref, mark)
        if not principal.acts_for_others and not principal.owns(row.principal_id, row.principal):
            raise Forbidden(f"vm {ref} is {row.principal}'s: another member may not change it")
        if is_preemptible is not None and is_preemptible != row.is_preemptible:
            row = _convert(work, row, is_preemptible, principal.name)
        if ends_restarts and lineage:
            row = _end_restarts(row, lineage)
        return vms.shown_row(row)


def _locked(ref: str, mark: str | None) -> tuple[Vm, Lineage | None]:
    """The VM that is meant, and its lineage, both locked: the lineage first. Raises NotFound."""
    row = vms.get(ref, mark=mark)
    if row is None:
        raise NotFound(f"vmsvc made no vm {ref}")
    lineage = lineages.lock(row.lineage_id) if row.lineage_id else None
    found = lineages.living(lineage.id) if lineage else vms.get(row.id, lock=True)
    if found is None or State(found.state) in FINAL:
        raise NotFound(f"vm {ref} was {row.state}")
    return found, lineage


def _convert(work: Unit, row: Vm, is_preemptible: bool, by: str) -> Vm:
    if row.state != State.ACTIVE:
        raise Conflict(f"vm {row.id} is {row.state}: only the kind of an active vm can be changed")
    kinds = ("standard", "preemptible") if is_preemptible else ("preemptible", "standard")
    changed = vms.take_step(
        work,
        row,
        ("create", "converted"),
        reason=f"it was {kinds[0]} and is {kinds[1]} now",
        data={"by": by},
        is_preemptible=is_preemptible,
        fell_back_at=None if is_preemptible else row.fell_back_at,
        updated_at=work.now,
    )
    if changed is None:
        raise Conflict(f"vm {row.id} has just changed: ask again")
    return changed


def _end_restarts(row: Vm, lineage: Lineage) -> Vm:
    """The VM stays, and none comes after it. What only its successor would need is forgotten."""
    lineages.change(lineage, on_eviction=END)
    if State(row.state) not in BOOTABLE and row.boot.get("user_data"):
        vms.change(row, boot={**row.boot, "user_data": None})
    return vms.of_id(row.id)
