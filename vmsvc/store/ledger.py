"""What we have promised of the cloud's room: open reservations, and the record of evictions."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from peewee import fn

from vmsvc.store.db import Unit
from vmsvc.store.models import Eviction, Reservation


def open_reservations() -> list[Reservation]:
    """Room that is kept now, oldest first."""
    return list(Reservation.select().where(Reservation.released_at.is_null()).order_by(Reservation.id))


def reserve(work: Unit, vm_id: str, bin_kind: str, bin_id: str, members: Mapping[str, Any]) -> None:
    """Keep room for a request in one bin, in place of any that it held before."""
    release(work, vm_id)
    Reservation.create(vm_id=vm_id, bin_kind=bin_kind, bin=bin_id, members=members, created_at=work.now)


def release(work: Unit, vm_id: str) -> None:
    """The request needs its room no longer: it is ACTIVE, or has failed, or is being deleted."""
    closed = (Reservation.update(released_at=work.now)
              .where(Reservation.vm_id == vm_id, Reservation.released_at.is_null()).execute())
    if closed:
        work.ring()


def record_evictions(work: Unit, request_vm_id: str, victims: Iterable[str], *, round_number: int, bin_id: str,
                     criterion: str, optimal: bool, evict_at: datetime) -> None:
    """Write who is to go for whom."""
    Eviction.insert_many([{
        "vm_id": victim, "request_vm_id": request_vm_id, "round": round_number, "bin": bin_id,
        "criterion": criterion, "optimal": optimal, "planned_at": work.now, "evict_at": evict_at,
    } for victim in victims]).execute()


def stamp(vm_id: str, step: str) -> None:
    """Write the time of a step of a victim's newest eviction, once: `noticed_at`, `stopped_at`, ..."""
    column = getattr(Eviction, step)
    newest = Eviction.select(fn.MAX(Eviction.id)).where(Eviction.vm_id == vm_id)
    (Eviction.update({column: fn.clock_timestamp()})
     .where(Eviction.id == newest, column.is_null()).execute())


def settle(request_vm_id: str, wasted: str | None) -> None:
    """The request has its end: its victims went for something, or (`wasted` says why) for nothing."""
    mine = (Eviction.request_vm_id == request_vm_id) & Eviction.reprieved_at.is_null()
    if wasted is None:
        Eviction.update(fulfilled_at=fn.clock_timestamp()).where(mine).execute()
    else:
        Eviction.update(wasted=wasted).where(mine, Eviction.evicting_at.is_null(False)).execute()


def victims_of(request_vm_id: str) -> list[str]:
    """The vmsvc ids of those that went, or are going, for a request; reprieved ones left out."""
    rows = (Eviction.select(Eviction.vm_id)
            .where(Eviction.request_vm_id == request_vm_id, Eviction.reprieved_at.is_null())
            .order_by(Eviction.id))
    return [row.vm_id for row in rows]
