"""Write decisions, with all that they change in the database, in the transaction in which the scheduler made them."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from vmsvc.domain.events import instant, view
from vmsvc.domain.lifecycle import State
from vmsvc.domain.lineage import DEADLINE
from vmsvc.scheduling.changes import Change
from vmsvc.scheduling.decide_all import Commit
from vmsvc.scheduling.decisions import Evict, Place, Postpone, Queued, Refuse
from vmsvc.scheduling.futility import is_foreseen, shows_futility
from vmsvc.scheduling.host_groups import amounts_in_words
from vmsvc.scheduling.world import Basis
from vmsvc.service import trace
from vmsvc.service.scheduling.world_cache import View
from vmsvc.store import evidence, intents, ledger, request_classes, vms
from vmsvc.store.db import Unit
from vmsvc.store.models import Vm
from vmsvc.store.vm_cache import VmCache, VmRow

log = logging.getLogger(__name__)

LOCKED = "it is locked in the cloud"


class ChangedMeanwhile(Exception):
    """Another transaction has moved a VM since it was read: the unit is rolled back. (request's id, VM's id)"""


def apply(
    work: Unit,
    commit: Commit,
    rows: Mapping[str, Vm],
    grace: timedelta,
    evidence_hours: float = 168.0,
    positions: Mapping[str, int] = MappingProxyType({}),
) -> None:
    """Write these changes. `rows`: those of the requests, by id; `positions`: of the requests that begin to wait in the
    queue. Raises ChangedMeanwhile."""
    for change in commit.changes:
        if rows[change.request_id].state != State.PENDING:
            raise ChangedMeanwhile(change.request_id, change.request_id)
        apply_decision(work, rows[change.request_id], change, grace, positions.get(change.request_id, 1))
    if commit.refusals:
        evidence.remember_refusals(commit.refusals, evidence_hours)
        for host_id, refusal in commit.refusals:
            work.log_on_commit(
                "host %s has less than its evidence says: the cloud refused a request for %s, which makes %s of ours",
                host_id,
                amounts_in_words(refusal.need),
                amounts_in_words(refusal.total),
            )


def apply_decision(work: Unit, row: Vm, change: Change, grace: timedelta, position: int = 1) -> None:
    """Write one decision, about the request of this row. Raises ChangedMeanwhile."""
    trace.begin_create(row)
    for victim_id in change.reprieved:
        reprieve(work, vms.of_id(victim_id), change.reason)
    match change.decision:
        case Place(host=host):
            _require_moved(vms.move(work, row, State.BUILDING, host=host, placed_at=work.now), row, row)
            intents.enqueue(work, intents.BOOT, row.id)
        case Evict():
            _evict(work, row, change, change.decision, grace)
        case Postpone():
            ledger.release_reservation(work, row.id)
        case Refuse(error=error, message=message):
            fail(work, row, error, message, foreseen=is_foreseen(error))
        case Queued(why=why):
            _put_into_queue(work, row, why, position)


def _put_into_queue(work: Unit, row: Vm, why: str, position: int) -> None:
    """The request waits in the queue from now on; it has no reservation any more."""
    ledger.release_reservation(work, row.id)
    data = {"position": position, "wait_until": instant(row.wait_until), "why": why}
    queued_at = row.queued_at or work.now
    step = ("create", "queued")
    _require_moved(vms.take_step(work, row, step, data=data, queued_why=why, queued_at=queued_at), row, row)


def _require_moved(moved: Vm | None, row: Vm, other: Vm) -> Vm:
    if moved is None:
        raise ChangedMeanwhile(row.id, other.id)
    return moved


def _evict(work: Unit, row: Vm, change: Change, plan: Evict, grace: timedelta) -> None:
    """Reserve the bin and give notice: the promise to both sides in one commit."""
    round_number = row.rounds + bool(change.notices)
    evict_at = work.now + grace
    ledger.reserve(
        work,
        row.id,
        plan.kind,
        plan.bin,
        {member: dict(held) for member, held in change.members.items()},
        kept_basis(plan.basis) if plan.basis else None,
    )
    vms.change(row, rounds=round_number, queued_why=None)
    shape = {
        "round": round_number,
        "bin": f"{plan.kind} {plan.bin}",
        "criterion": plan.criterion,
        "cost": dict(plan.cost),
        "runner_up": plan.runner_up,
        "optimal": plan.optimal,
        "certainty": plan.certainty,
        "evidence": plan.evidence,
    }
    for notice in change.notices:
        victim = vms.of_id(notice.vm_id)
        delivery = ledger.METADATA if notice.takes_notice else ledger.EVENT
        noticed = give_notice(
            work,
            victim,
            evict_at,
            f"room for {row.name} ({row.flavor})",
            grace,
            {
                "for": row.id,
                "by": row.principal,
                "request": row.name,
                "flavor": row.flavor,
                "running": notice.running,
                "delivery": delivery,
                **shape,
            },
            evicted_for=row.id,
        )
        _require_moved(noticed, row, victim)
        ledger.record_eviction(
            work, victim, reason="capacity", evict_at=evict_at, request_vm_id=row.id, delivery=delivery, plan=shape
        )


def kept_basis(basis: Basis) -> dict[str, Any]:
    """The basis of a plan as its reservation keeps it."""
    return {
        "certainty": basis.certainty,
        "free": dict(basis.free),
        "foreign": {server_id: dict(held) for server_id, held in basis.foreign.items()},
        "words": basis.words,
    }


def give_notice(
    work: Unit,
    victim: Vm,
    evict_at: datetime,
    reason: str,
    grace: timedelta,
    notice: dict[str, Any],
    evicted_for: str | None = None,
) -> Vm | None:
    """Give a VM notice: its state, the event, and the intents that write the notice into the guest (unless the event
    alone delivers it) and evict the VM.

    Returns None when another transaction moved the VM first.
    """
    if victim.state != State.ACTIVE:
        return None
    notice = {"reason": reason, "grace_seconds": grace.total_seconds(), "delivery": ledger.METADATA, **notice}
    noticed = vms.move(
        work,
        victim,
        State.NOTICED,
        reason=reason,
        data=_notice_data(evict_at, notice, evicted_for),
        evict_at=evict_at,
        evicted_for=evicted_for,
        acknowledged_at=None,
        notice=notice,
    )
    if noticed:
        if notice["delivery"] == ledger.METADATA:
            intents.enqueue(work, intents.NOTICE, victim.id)
        intents.enqueue(work, intents.EVICT, victim.id, not_before=evict_at)
    return noticed


def delay_notice(work: Unit, victim: Vm, evict_at: datetime) -> None:
    """Move the `evict_at` of a NOTICED VM, whose row is locked, and write the event of it. The caller puts off the
    intent."""
    vms.move(
        work,
        victim,
        State.NOTICED,
        reason=victim.notice["reason"],
        evict_at=evict_at,
        data=_notice_data(evict_at, victim.notice, victim.evicted_for),
    )
    ledger.move_notice(victim.id, evict_at)


def deliver_by_event(work: Unit, victim: Vm) -> None:
    """Record that the guest of a NOTICED VM, whose row is locked, cannot read its notice: the event alone delivers it,
    and another event says so. `evict_at` stays as it was."""
    notice = {**victim.notice, "delivery": ledger.EVENT}
    vms.move(
        work,
        victim,
        State.NOTICED,
        reason=notice["reason"],
        notice=notice,
        data=_notice_data(victim.notice_end, notice, victim.evicted_for),
    )
    ledger.record_delivery_by_event(victim.id)


def _notice_data(evict_at: datetime, notice: dict[str, Any], evicted_for: str | None) -> dict[str, Any]:
    return {
        "evict_at": instant(evict_at),
        "grace_seconds": notice["grace_seconds"],
        "makes_room_for": evicted_for,
        "criterion": notice.get("criterion"),
        "delivery": notice.get("delivery", ledger.METADATA),
        "certainty": notice.get("certainty"),
        "evidence": notice.get("evidence"),
    }


def reprieve(work: Unit, victim: Vm, reason: str) -> None:
    """Withdraw the notice of a VM. Raises ChangedMeanwhile when its eviction has begun."""
    if victim.state != State.NOTICED:
        raise ChangedMeanwhile(victim.id, victim.id)
    _require_moved(
        vms.move(
            work,
            victim,
            State.ACTIVE,
            reason=reason,
            evict_at=None,
            evicted_for=None,
            acknowledged_at=None,
            notice=None,
            data=_simulated(victim),
        ),
        victim,
        victim,
    )
    intents.drop(work, intents.EVICT, victim.id)
    intents.enqueue(work, intents.REPRIEVE, victim.id)
    ledger.record_step(victim.id, "reprieved_at")


def exempt(work: Unit, victim: Vm, reason: str) -> None:
    """Reprieve a noticed VM that cannot be evicted, and do not notice it again as long as its preemptor waits. The
    caller holds the lock SCHEDULER. Raises ChangedMeanwhile when the eviction has begun."""
    reprieve(work, victim, reason)
    ledger.make_exempt(victim.id, reason)


def _simulated(vm: Vm) -> dict[str, bool]:
    return {"simulated": bool((vm.notice or {}).get("simulated"))}


def fail(work: Unit, row: Vm, error: str, message: str, foreseen: bool = False, *, at_deadline: bool = False) -> None:
    """End a request as FAILED. The event's reason is DEADLINE where its time to wait is over (`at_deadline`), or where
    that is over and it lacked capacity. Its reservation is released, and its evictions are on record as wasted. A
    refusal that shows that evictions do not help such requests costs the next one no VM: vmsvc remembers it, unless it
    is `foreseen`, for then a rehearsal shows it before any notice."""
    over = row.wait_until is not None and row.wait_until <= work.now
    late = at_deadline or (over and Refuse(error, message).lacks_capacity)
    data = {"error": error, "message": message} if late else {"error": error}
    failed = vms.move(work, row, State.FAILED, reason=DEADLINE if late else message, data=data)
    if failed is None:
        return
    victims = ledger.victims_of(row.id)
    vms.record_outcome(
        row,
        {
            "ok": False,
            "error": error,
            "message": message,
            "vm": view(vms.row_of(failed)),
            "evicted": vms.cloud_ids(victims),
        },
    )
    ledger.release_reservation(work, row.id)
    ledger.close_evictions(row.id, wasted=message)
    conditions, refusal = row.boot.get("conditions", []), row.refusal or {}
    if not victims or foreseen:
        return
    untried = bool(conditions) and not request_classes.accepted(conditions)
    if shows_futility(error, bool(refusal), bool(refusal.get("with_room")), untried):
        request_classes.remember_futile(work, row, error, refusal.get("message") or message)


@dataclass(frozen=True, slots=True)
class StaleCommitments:
    """What earlier decisions left behind. `orphans`: requests that have ended (their owner deleted them) and still have
    a reservation; `unneeded`: noticed victims of such requests; `locked`: victims that were locked in the cloud during
    their notice."""

    orphans: tuple[str, ...] = ()
    unneeded: tuple[str, ...] = ()
    locked: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.orphans or self.unneeded or self.locked)


def find_stale_commitments(now: View) -> StaleCommitments:
    """What to clean up before anything is decided."""
    rows = now.rows
    victims = [row for row in rows.in_states(State.NOTICED) if row.evicted_for]
    return StaleCommitments(
        tuple(kept.vm_id for kept in now.reservations if not _waits(rows, kept.vm_id)),
        tuple(row.id for row in victims if not _waits(rows, row.evicted_for)),
        tuple(row.id for row in victims if _waits(rows, row.evicted_for) and now.world.vms[row.id].locked),
    )


def clean_up(work: Unit, stale: StaleCommitments) -> None:
    """Release the reservations, and reprieve the victims. Raises ChangedMeanwhile."""
    for vm_id in stale.orphans:
        ledger.release_reservation(work, vm_id)
        ledger.close_evictions(vm_id, wasted="the request was deleted before its room was free")
    for vm_id in stale.unneeded:
        reprieve(work, vms.of_id(vm_id), "the request that needed the room has gone")
    for vm_id in stale.locked:
        exempt(work, vms.of_id(vm_id), LOCKED)


def _waits(rows: VmCache[VmRow], vm_id: str | None) -> bool:
    return vm_id is not None and vm_id in rows and rows[vm_id].state in (State.PENDING, State.BUILDING)
