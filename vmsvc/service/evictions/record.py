"""Notices and evictions as owners, guests and clients use them: acknowledge (ends a notice early), practise, read."""

import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from vmsvc.cloud.cache.server_cache import ServerCache
from vmsvc.cloud.port import Server
from vmsvc.domain.errors import Conflict, Forbidden, NotFound
from vmsvc.domain.events import instant, view
from vmsvc.domain.lifecycle import State
from vmsvc.domain.principal import ANYBODY, Principal
from vmsvc.scheduling.eviction_groups import budgets
from vmsvc.service.runtime import Runtime
from vmsvc.service.scheduling.apply import give_notice
from vmsvc.store import intents, ledger, vms
from vmsvc.store.db import SHOW_SECONDS, Lock, Unit, reading, unit
from vmsvc.store.models import Vm

log = logging.getLogger(__name__)

_STEPS = (
    "planned_at",
    "evict_at",
    "noticed_at",
    "acknowledged_at",
    "reprieved_at",
    "evicting_at",
    "stopped_at",
    "deleted_at",
    "freed_at",
    "fulfilled_at",
)


class Evictions:
    """What clients may ask about evictions. After each change `wake` wakes the loops of this replica, and
    `invalidate_list` has the list made anew: it must agree with the client's answer, even if PostgreSQL's notification
    comes later."""

    def __init__(
        self,
        runtime: Runtime,
        server_cache: ServerCache,
        wake: Callable[[], None],
        invalidate_list: Callable[[], None],
        grace_seconds: float,
    ):
        self._runtime = runtime
        self._server_cache = server_cache
        self._wake = wake
        self._invalidate_list = invalidate_list
        self._grace = timedelta(seconds=grace_seconds)

    async def acknowledge(self, ref: str, *, principal: Principal = ANYBODY) -> dict[str, Any]:
        """Release a noticed VM early, as its owner or its guest asks, and return its view. To ask twice is no error.
        Raises NotFound, Forbidden for another owner's VM where the principal may not act for others, Conflict."""
        vm = await self._runtime.offload(_acknowledge, ref, principal, self._server_cache.mark_of(ref))
        self._wake()
        self._invalidate_list()
        return vm

    async def practise(self, ref: str, notice_only: bool, *, principal: Principal = ANYBODY) -> dict[str, Any]:
        """Give an ACTIVE preemptible VM the notice of an eviction that no request needs, marked `simulated`: same
        events, timing and metadata. With `notice_only` it is reprieved when the time is up, else it is evicted.

        Raises NotFound, Forbidden, Conflict for one that cannot be noticed now, and what the cloud raises.
        """
        await self._server_cache.refresh()  # is it locked now?
        vm = await self._runtime.offload(
            _practise, ref, dict(self._server_cache.servers), self._grace, notice_only, principal
        )
        self._wake()
        self._invalidate_list()
        return vm

    async def record(
        self,
        *,
        before: int | None,
        limit: int,
        vm: str | None = None,
        request: str | None = None,
        reason: str | None = None,
    ) -> tuple[list[dict[str, Any]], int | None]:
        """A page of the record, newest first, and the id before which the next page begins (None: no more)."""
        return await self._runtime.offload(_record, before, limit, vm, request, reason)

    async def one(self, eviction_id: int) -> dict[str, Any]:
        """One eviction. Raises NotFound."""
        rows, _ = await self._runtime.offload(_record, eviction_id + 1, 1, None, None, None)
        if not rows or rows[0]["id"] != eviction_id:
            raise NotFound(f"there is no eviction {eviction_id}")
        return rows[0]


# ---------------------------------------------------------------- in the database pool


def _locked_row(ref: str, mark: str | None) -> Vm:
    """The row, locked: another transaction that moves it waits. Raises NotFound for a VM that is gone or never was."""
    row = vms.get(ref, lock=True, mark=mark)
    if row is None:
        raise NotFound(f"vmsvc made no vm {ref}")
    if row.state in (State.DELETED, State.LOST):
        raise NotFound(f"vm {ref} was {row.state}")
    return row


def _acknowledge(ref: str, principal: Principal = ANYBODY, mark: str | None = None) -> dict[str, Any]:
    with unit() as work:
        row = _locked_row(ref, mark)
        if not principal.acts_for_others and not principal.owns(row.principal_id, row.principal):
            raise Forbidden(f"vm {ref} is {row.principal}'s: another member may not say that it goes before its time")
        if row.state == State.NOTICED:
            acknowledge(work, row, principal.name)
        elif row.state not in (State.EVICTING, State.EVICTED):
            raise Conflict(f"vm {ref} is {row.state}: only one that was noticed can say that it may go")
        return view(vms.row_of(vms.of_id(row.id)))


def acknowledge(work: Unit, row: Vm, by: str | None) -> None:
    """End a notice early: the victim's owner, or a principal that acts for others, asks for it, or (`by` is None) the
    reconciler has seen that the guest powered itself off. `by`: the principal's name. The row is locked and
    NOTICED."""
    if row.acknowledged_at is None:
        vms.change(row, acknowledged_at=work.now)
        ledger.record_acknowledgement(row.id, by)
        work.log_on_commit("vm %s: released before its evict_at%s", row.id, f" by {by}" if by else "")
    intents.hasten(work, intents.EVICT, row.id)


def _practise(
    ref: str, servers: Mapping[str, Server], grace: timedelta, notice_only: bool, principal: Principal
) -> dict[str, Any]:
    with unit() as work:
        work.lock(Lock.SCHEDULER)  # the planner must not take the same VM at the same time
        row = _locked_row(ref, ref in servers and servers[ref].vmsvc_id or None)
        server = _evictable(row, servers.get(row.cloud_id or ""), ref)
        evict_at = work.now + grace
        principal_text = "its owner" if principal.owns(row.principal_id, row.principal) else principal.name
        noticed = give_notice(
            work,
            row,
            evict_at,
            f"simulated by {principal_text}",
            grace,
            {"simulated": True, "by": principal.name, "notice_only": notice_only, "running": server.runs},
        )
        if noticed is None:
            raise Conflict(f"vm {ref} has just changed: ask again")
        ledger.record_eviction(work, row, reason="simulated", evict_at=evict_at, simulated=True)
        return view(vms.row_of(noticed))


def _evictable(row: Vm, server: Server | None, ref: str) -> Server:
    """The server of a VM that can be noticed now. Raises Forbidden or Conflict, with the reason."""
    if not row.is_preemptible:
        raise Forbidden(f"vm {ref} is a standard vm: it is never evicted")
    if row.state != State.ACTIVE:
        raise Conflict(f"vm {ref} is {row.state}: only an active one can be noticed")
    if server is None:
        raise Conflict(f"the cloud does not show vm {ref}")
    if server.locked:
        raise Conflict(f"vm {ref} is locked in the cloud: unlock it first")
    if row.group_name and budgets(vms.row_of(other) for other in vms.current())[row.group_name] < 1:
        raise Conflict(f"the budget of group {row.group_name!r} is used up: as many of it as may be are noticed")
    return server


def _record(
    before: int | None, limit: int, vm: str | None, request: str | None, reason: str | None
) -> tuple[list[dict[str, Any]], int | None]:
    with reading(SHOW_SECONDS):
        rows = ledger.evictions(
            before=before, limit=limit + 1, vm_ids=_ids(vm), request_ids=_ids(request), reason=reason
        )
    more = len(rows) > limit
    return [_view_of_eviction(row) for row in rows[:limit]], rows[limit - 1]["id"] if more else None


def _ids(ref: str | None) -> list[str] | None:
    """The vmsvc id that a reference means; none at all for one that is unknown."""
    if ref is None:
        return None
    row = vms.get(ref)
    return [row.id] if row else []


def _view_of_eviction(row: dict[str, Any]) -> dict[str, Any]:
    """An eviction as clients see it."""
    request = row["request_vm_id"] and {
        "id": row["preemptor_id"] or row["request_vm_id"],
        "name": row["preemptor_name"],
        "vmsvc_id": row["request_vm_id"],
    }
    return {
        "id": row["id"],
        "state": _state_of_eviction(row),
        "reason": row["reason"],
        "simulated": row["simulated"],
        "vm": {"id": row["victim_id"] or row["vm_id"], "name": row["victim_name"], "vmsvc_id": row["vm_id"]},
        "owner": row["owner"],
        "request": request,
        "round": row["round"],
        "bin": row["bin"],
        "criterion": row["criterion"],
        "cost": row["cost"],
        "runner_up": row["runner_up"],
        "optimal": row["optimal"],
        "certainty": row["certainty"],
        "evidence": row["evidence"],
        "wasted": row["wasted"],
        "delivery": row["delivery"],
        "exempt": row["exempt"],
        "acknowledged_by": row["acknowledged_by"],
        **{step: instant(row[step]) for step in _STEPS},
    }


def _state_of_eviction(row: dict[str, Any]) -> str:
    """How far it got. A victim that left during its notice was not evicted: its owner deleted it, or it was lost."""
    if row["reprieved_at"]:
        return "reprieved"
    if row["evicting_at"]:
        return "evicted" if row["freed_at"] else "evicting"
    left = {State.DELETING: "deleted", State.DELETED: "deleted", State.LOST: "lost"}
    return left.get(row["victim_state"], "noticed")
