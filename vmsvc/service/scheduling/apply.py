"""Carrying out a decision: everything that it changes, in the scheduler's one transaction."""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from vmsvc.domain.events import instant, view
from vmsvc.domain.lifecycle import State
from vmsvc.domain.request import Request
from vmsvc.domain.resources import Resources
from vmsvc.scheduling.decisions import Decision, Evict, Place, Postpone, Refuse, Reprieve
from vmsvc.scheduling.world import HOST_GROUP, World
from vmsvc.service import trace
from vmsvc.store import intents, ledger, request_classes, vms
from vmsvc.store.db import Unit
from vmsvc.store.models import Reservation, Vm
from vmsvc.store.vm_cache import VmCache

log = logging.getLogger(__name__)

LOCKED = "it is locked in the cloud"


class Lost(Exception):
    """Somebody moved a VM between the reading and the lock; the whole pass is made again. (request, vm)"""


def apply_decision(work: Unit, row: Vm, request: Request, decision: Decision, world: World, grace: timedelta) -> None:
    """Write a decision and keep `world` true for the next request. Raises Lost; nothing is kept then."""
    trace.begin_create(row)
    if row.state != State.PENDING:      # its owner has deleted it since the rows were read
        raise Lost(row.id, row.id)
    match decision:
        case Place(host=host):
            _reprieve(work, world, _noticed_for(world, row.id), "the room is there already")
            _must(vms.move(work, row, State.BUILDING, host=host), row, row)
            intents.enqueue(work, intents.BOOT, row.id)
            world.place(request, host)
        case Evict():
            _evict(work, row, request, decision, world, grace)
        case Reprieve(victims=victims):
            _reprieve(work, world, victims, "room appeared by itself")
        case Postpone(why=why, groups=groups):
            _reprieve(work, world, _noticed_for(world, row.id), f"the plan has to wait: {why}")
            world.release(row.id)
            world.hold_back(groups)
            ledger.release(work, row.id)
        case Refuse(error=error, message=message):
            _reprieve(work, world, _noticed_for(world, row.id), f"the request was refused: {message}")
            world.release(row.id)
            fail(work, row, error, message, foreseen=error not in ("no_capacity", "cloud_error"))


def _must(moved: Vm | None, row: Vm, other: Vm) -> Vm:
    if moved is None:
        raise Lost(row.id, other.id)
    return moved


def _evict(work: Unit, row: Vm, request: Request, plan: Evict, world: World, grace: timedelta) -> None:
    """Reserve the bin and give notice: the promise to both sides in one commit."""
    noticed_before = _noticed_for(world, row.id)
    _reprieve(work, world, tuple(vm for vm in noticed_before if vm not in plan.victims), "another plan was made")
    fresh = [vm for vm in plan.victims if vm not in noticed_before]    # the others' notice runs on as it is
    round_number = row.rounds + bool(fresh)
    evict_at = work.now + grace
    members = _members(world, plan)
    ledger.reserve(work, row.id, plan.kind, plan.bin, members)
    world.reserve(request, plan.kind, plan.bin, plan.victims,
                   {member: Resources(held) for member, held in members.items()})
    vms.change(row, rounds=round_number)
    shape = {"round": round_number, "bin": f"{plan.kind} {plan.bin}", "criterion": plan.criterion,
             "cost": dict(plan.cost), "runner_up": plan.runner_up, "optimal": plan.optimal}
    for victim_id in fresh:
        victim = vms.get(victim_id)
        facts = world.vms[victim_id]
        delivery = ledger.METADATA if facts.takes_notice else ledger.EVENT
        noticed = give_notice(work, victim, evict_at, f"room for {row.name} ({row.flavor})", grace, {
            "for": row.id, "by": row.principal, "request": row.name, "flavor": row.flavor,
            "running": facts.running, "delivery": delivery, **shape}, evicted_for=row.id)
        _must(noticed, row, victim)
        ledger.record_eviction(work, victim, reason="capacity", evict_at=evict_at, request_vm_id=row.id,
                               delivery=delivery, plan=shape)


def give_notice(work: Unit, victim: Vm, evict_at: datetime, reason: str, grace: timedelta, notice: dict[str, Any],
                evicted_for: str | None = None) -> Vm | None:
    """Tell a VM when it goes: its state, the event, and the intents that write it into the guest (unless the event
    alone delivers it) and carry it out.

    Returns None when somebody else moved it first.
    """
    if victim.state != State.ACTIVE:
        return None
    notice = {"reason": reason, "grace_seconds": grace.total_seconds(), "delivery": ledger.METADATA, **notice}
    noticed = vms.move(work, victim, State.NOTICED, reason=reason, data=_said(evict_at, notice, evicted_for),
                       evict_at=evict_at, evicted_for=evicted_for, acknowledged_at=None, notice=notice)
    if noticed:
        if notice["delivery"] == ledger.METADATA:
            intents.enqueue(work, intents.NOTICE, victim.id)
        intents.enqueue(work, intents.EVICT, victim.id, not_before=evict_at)
    return noticed


def delay_notice(work: Unit, victim: Vm, evict_at: datetime) -> None:
    """A NOTICED VM, whose row is locked, goes later than was said: it is said again. Its intent is put off by the
    caller."""
    vms.move(work, victim, State.NOTICED, reason=victim.notice["reason"], evict_at=evict_at,
             data=_said(evict_at, victim.notice, victim.evicted_for))
    ledger.move_notice(victim.id, evict_at)


def deliver_by_event(work: Unit, victim: Vm) -> None:
    """The guest of a NOTICED VM, whose row is locked, cannot read its notice: the event that told of it has to do, and
    another says so. `evict_at` stays as it was."""
    notice = {**victim.notice, "delivery": ledger.EVENT}
    vms.move(work, victim, State.NOTICED, reason=notice["reason"], notice=notice,
             data=_said(victim.evict_at, notice, victim.evicted_for))
    ledger.deliver_by_event(victim.id)


def _said(evict_at: datetime, notice: dict[str, Any], evicted_for: str | None) -> dict[str, Any]:
    return {"evict_at": instant(evict_at), "grace_seconds": notice["grace_seconds"], "makes_room_for": evicted_for,
            "criterion": notice.get("criterion"), "delivery": notice.get("delivery", ledger.METADATA)}


def _members(world: World, plan: Evict) -> dict[str, dict[str, int]]:
    if plan.kind != HOST_GROUP:
        return {}
    if plan.members is not None:
        return {member: dict(held) for member, held in plan.members.items()}
    return {vm.id: dict(vm.resources) for vm in world.vms.values() if vm.present and vm.host_id == plan.bin}


def _noticed_for(world: World, request_id: str) -> tuple[str, ...]:
    return tuple(vm.id for vm in world.victims_of(request_id, State.NOTICED))


def _reprieve(work: Unit, world: World, victims: tuple[str, ...], why: str) -> None:
    for victim_id in victims:
        reprieve(work, vms.get(victim_id), why)
    world.reprieve(victims)


def reprieve(work: Unit, victim: Vm, why: str) -> None:
    """A noticed VM stays. Raises Lost when its eviction has begun meanwhile."""
    if victim.state != State.NOTICED:
        raise Lost(victim.id, victim.id)
    _must(vms.move(work, victim, State.ACTIVE, reason=why, evict_at=None, evicted_for=None,
                   acknowledged_at=None, notice=None, data=_simulated(victim)),
          victim, victim)
    intents.drop(work, intents.EVICT, victim.id)
    intents.enqueue(work, intents.REPRIEVE, victim.id)
    ledger.stamp(victim.id, "reprieved_at")


def exempt(work: Unit, victim: Vm, why: str) -> None:
    """Reprieve a noticed VM that cannot be evicted, and do not notice it again as long as its preemptor waits. The
    caller holds the lock SCHEDULER. Raises Lost when the eviction has begun meanwhile."""
    reprieve(work, victim, why)
    ledger.make_exempt(victim.id, why)


def exempt_locked(work: Unit, world: World, rows: VmCache) -> bool:
    """Exempt the victims that somebody locked in the cloud during their notice; True when there was one."""
    locked = [row.id for row in rows.in_states(State.NOTICED) if row.evicted_for and world.vms[row.id].locked]
    for vm_id in locked:
        exempt(work, vms.get(vm_id), LOCKED)
    world.reprieve(tuple(locked))
    return bool(locked)


def _simulated(vm: Vm) -> dict[str, bool]:
    return {"simulated": bool((vm.notice or {}).get("simulated"))}


def fail(work: Unit, row: Vm, error: str, message: str, foreseen: bool = False) -> None:
    """The final no to a request; what it held is free again, and victims that went are on record as wasted. The next
    such request costs nobody a VM: what is `foreseen` the cloud says before a notice, the rest is remembered."""
    failed = vms.move(work, row, State.FAILED, reason=message, data={"error": error})
    if failed is None:
        return
    victims = ledger.victims_of(row.id)
    vms.answer(row, {"ok": False, "error": error, "message": message, "vm": view(vms.row_of(failed)),
                           "evicted": vms.cloud_ids(victims)})
    ledger.release(work, row.id)
    ledger.settle(row.id, wasted=message)
    if victims and not foreseen and _room_was_not_the_cause(row, error):
        request_classes.remember_futile(work, row, error, (row.refusal or {}).get("message") or message)


def _room_was_not_the_cause(row: Vm, error: str) -> bool:
    """True when a failed request did not fail because others took the capacity, or the quota, that was freed for it."""
    if error != "no_capacity":
        return error != "quota_exceeded"
    refusal, conditions = row.refusal or {}, row.boot.get("conditions", [])
    return bool(refusal.get("with_room") or conditions and refusal and not request_classes.accepted(conditions))


def drop_orphans(work: Unit, world: World, rows: VmCache, reservations: Iterable[Reservation]) -> bool:
    """Room that is kept for a request that has ended (its owner deleted it) is free; its noticed victims stay."""
    orphans = [kept.vm_id for kept in reservations if not _waits(rows, kept.vm_id)]
    for vm_id in orphans:
        ledger.release(work, vm_id)
        ledger.settle(vm_id, wasted="the request was deleted before its room was free")
        world.release(vm_id)
    spared = [row.id for row in rows.in_states(State.NOTICED) if row.evicted_for and not _waits(rows, row.evicted_for)]
    _reprieve(work, world, tuple(spared), "the request that needed the room has gone")
    return bool(orphans or spared)


def _waits(rows: VmCache, vm_id: str) -> bool:
    return vm_id in rows and rows[vm_id].state in (State.PENDING, State.BUILDING)
