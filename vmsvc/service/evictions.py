"""Evictions as their victims and their owners meet them: acknowledging, practising, and the record."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from vmsvc.domain.errors import Conflict, Forbidden, NotFound
from vmsvc.domain.events import instant, view
from vmsvc.domain.groups import budgets
from vmsvc.domain.lifecycle import State
from vmsvc.service.placing import give_notice
from vmsvc.service.runtime import Runtime
from vmsvc.store import intents, ledger, vms
from vmsvc.store.db import Lock, Unit, reading, unit
from vmsvc.store.models import Vm

log = logging.getLogger(__name__)

_STEPS = ("planned_at", "evict_at", "noticed_at", "acknowledged_at", "reprieved_at", "evicting_at", "stopped_at",
          "deleted_at", "freed_at", "fulfilled_at")


class Evictions:
    """What clients may ask about evictions."""

    def __init__(self, runtime: Runtime, ring: Callable[[], None], grace_seconds: float):
        self._runtime = runtime
        self._ring = ring
        self._grace = timedelta(seconds=grace_seconds)

    async def acknowledge(self, ref: str) -> dict[str, Any]:
        """A noticed VM says that it may go early. Saying it twice is no error; raises NotFound, Forbidden, Conflict."""
        shown = await self._runtime.offload(_acknowledge, ref)
        self._ring()
        return shown

    async def practise(self, ref: str, notice_only: bool) -> dict[str, Any]:
        """Give an ACTIVE preemptible VM the notice of an eviction that nobody needs, marked `simulated`: same events,
        timing and metadata. With `notice_only` it is reprieved when the time is up, else it goes.

        Raises NotFound, Forbidden, and Conflict for one that cannot be noticed now.
        """
        shown = await self._runtime.offload(_practise, ref, self._grace, notice_only)
        self._ring()
        return shown

    async def record(self, *, before: int | None, limit: int, vm: str | None = None, request: str | None = None,
                     reason: str | None = None) -> tuple[list[dict[str, Any]], int | None]:
        """A page of the record, newest first, and the id before which the next page begins (None: no more)."""
        return await self._runtime.offload(_record, before, limit, vm, request, reason)

    async def one(self, eviction_id: int) -> dict[str, Any]:
        """One eviction. Raises NotFound."""
        found, _ = await self._runtime.offload(_record, eviction_id + 1, 1, None, None, None)
        if not found or found[0]["id"] != eviction_id:
            raise NotFound(f"there is no eviction {eviction_id}")
        return found[0]


# ---------------------------------------------------------------- in the database pool

def _ours(ref: str) -> Vm:
    row = vms.get(ref)
    if row is None:
        raise NotFound(f"vmsvc made no vm {ref}")
    return row


def _acknowledge(ref: str) -> dict[str, Any]:
    with unit() as work:
        row = _ours(ref)
        if row.state == State.NOTICED:
            acknowledge(work, row)
        elif row.state not in (State.EVICTING, State.EVICTED):
            raise Conflict(f"vm {ref} is {row.state}: only one that was noticed can say that it may go")
        return view(vms.row_of(vms.get(row.id)))


def acknowledge(work: Unit, row: Vm) -> None:
    """End the notice early: at the victim's own word, never at ours."""
    if row.acknowledged_at is None:
        vms.change(row, acknowledged_at=work.now)
        ledger.stamp(row.id, "acknowledged_at")
    intents.hasten(work, intents.EVICT, row.id)


def _practise(ref: str, grace: timedelta, notice_only: bool) -> dict[str, Any]:
    with unit() as work:
        work.lock(Lock.SCHEDULER)          # the planner must not take the same VM at the same time
        row = _ours(ref)
        if not row.is_preemptible:
            raise Forbidden(f"vm {ref} is a standard vm: it is never evicted")
        if row.state != State.ACTIVE:
            raise Conflict(f"vm {ref} is {row.state}: only an active one can be noticed")
        if row.group_name and budgets(vms.row_of(other) for other in vms.current()).get(row.group_name, 0) < 1:
            raise Conflict(f"the budget of group {row.group_name!r} is used up: as many of it as may be are noticed")
        evict_at = work.now + grace
        noticed = give_notice(work, row, evict_at, "simulated by its owner", grace,
                              {"simulated": True, "notice_only": notice_only, "running": True})
        if noticed is None:
            raise Conflict(f"vm {ref} was changed at the same moment; try again")
        ledger.record_eviction(work, row, reason="simulated", evict_at=evict_at, simulated=True)
        return view(vms.row_of(noticed))


def _record(before: int | None, limit: int, vm: str | None, request: str | None,
            reason: str | None) -> tuple[list[dict[str, Any]], int | None]:
    with reading():
        rows = ledger.evictions(before=before, limit=limit + 1, vm_ids=_ids(vm), request_ids=_ids(request),
                                reason=reason)
    more = len(rows) > limit
    return [_shown(row) for row in rows[:limit]], rows[limit - 1]["id"] if more else None


def _ids(ref: str | None) -> list[str] | None:
    """The vmsvc id that a reference means; none at all for one that is unknown."""
    if ref is None:
        return None
    row = vms.get(ref)
    return [row.id] if row else []


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """An eviction as clients see it."""
    asked = row["request_vm_id"] and {"id": row["asker_id"] or row["request_vm_id"], "name": row["asker_name"],
                                      "vmsvc_id": row["request_vm_id"]}
    return {
        "id": row["id"], "state": _state(row), "reason": row["reason"], "simulated": row["simulated"],
        "vm": {"id": row["victim_id"] or row["vm_id"], "name": row["victim_name"], "vmsvc_id": row["vm_id"]},
        "owner": row["owner"], "request": asked, "round": row["round"], "bin": row["bin"],
        "criterion": row["criterion"], "cost": row["cost"], "runner_up": row["runner_up"], "optimal": row["optimal"],
        "wasted": row["wasted"], **{step: instant(row[step]) for step in _STEPS},
    }


def _state(row: dict[str, Any]) -> str:
    if row["reprieved_at"]:
        return "reprieved"
    if row["freed_at"]:
        return "evicted"
    return "evicting" if row["evicting_at"] else "noticed"
