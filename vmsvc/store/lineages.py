"""Lineages: a preemptible VM and those that are started again after it.

Whoever starts a successor or ends a lineage locks the lineage's row first, before any row of its VMs. So a DELETE in
the moment of a restart comes before the restart, and there is none, or after it, and ends the successor.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from peewee import ModelDelete, fn

from vmsvc.domain.lifecycle import BOOTABLE, FINAL, State
from vmsvc.domain.lineage import FALLBACK_HOURS, RESTART, Terms
from vmsvc.store.db import Unit
from vmsvc.store.models import Eviction, Lineage, Reservation, Vm, any_of, seconds_from_now, tuples_of

_FINAL = [str(state) for state in FINAL]
#: Columns that clients see with the VM that is there.
_SHOWN = frozenset({"on_eviction", "end_reason"})


def begin(work: Unit, origin: str, owner: str, owner_id: str, terms: Terms) -> None:
    """Write the lineage of a VM that is to be started again; the VM's own row is written after it."""
    Lineage.insert(
        id=origin,
        owner=owner,
        owner_id=owner_id,
        on_eviction=RESTART,
        max_restarts=terms.max_restarts,
        restart_within_seconds=terms.restart_within_seconds,
        fallback_after_evictions=terms.fallback_after_evictions,
        keep_address=terms.keep_address,
        restarts=0,
        short_lives=0,
        created_at=work.now,
    ).execute()


def lock(lineage_id: str) -> Lineage | None:
    """The row, locked to the end of the transaction; None when it was removed with the last of its VMs."""
    found: Lineage | None = Lineage.select().where(Lineage.id == lineage_id).for_update().first()
    return found


def of(lineage_id: str) -> Lineage | None:
    """The row; None when it was removed with the last of its VMs."""
    found: Lineage | None = Lineage.get_or_none(Lineage.id == lineage_id)
    return found


def terms_of(lineage: Lineage) -> Terms:
    """What its owner asked for."""
    return Terms(
        lineage.max_restarts,
        lineage.restart_within_seconds,
        lineage.fallback_after_evictions,
        lineage.keep_address,
    )


def restarts_vms(lineage: Lineage) -> bool:
    """True while its VM is started again after an eviction."""
    return lineage.ended_at is None and lineage.on_eviction == RESTART


def end(lineage: Lineage, reason: str) -> None:
    """No VM of it is started from now on. `reason`: the first one counts."""
    if lineage.ended_at is None:
        # Not the start of the transaction: it may have begun before the one that made the newest VM, and have waited.
        change(lineage, ended_at=fn.clock_timestamp(), end_reason=reason)


def change(lineage: Lineage, **changes: Any) -> None:
    """Change columns of a lineage whose row is locked."""
    Lineage.update(**changes).where(Lineage.id == lineage.id).execute()
    if not _SHOWN.isdisjoint(changes):
        # Caches read a VM and its lineage together, when the row of the VM has changed.
        Vm.update(changed=Vm.changed).where(Vm.lineage_id == lineage.id, Vm.state.not_in(_FINAL)).execute()


def living(lineage_id: str) -> Vm | None:
    """The VM of it that has not ended, locked. PostgreSQL allows one."""
    found: Vm | None = Vm.select().where(Vm.lineage_id == lineage_id, Vm.state.not_in(_FINAL)).for_update().first()
    return found


def newest(origin: str) -> Vm | None:
    """The last VM of the lineage with this id; None when there is no such lineage."""
    found: Vm | None = Vm.select().where(Vm.lineage_id == origin).order_by(Vm.attempt.desc()).first()
    return found


def without_vm(limit: int) -> list[str]:
    """Open lineages none of whose VMs is there."""
    there = Vm.select().where(Vm.lineage_id == Lineage.id, Vm.state.not_in(_FINAL))
    found = Lineage.select(Lineage.id).where(Lineage.ended_at.is_null(), ~fn.EXISTS(there)).limit(limit)
    return [lineage_id for (lineage_id,) in tuples_of(found)]


def remove_empty(lineage_id: str) -> None:
    """Remove a lineage, whose row is locked, if it has neither a VM nor a port: retention has removed its VMs."""
    vm = Vm.select().where(Vm.lineage_id == lineage_id)
    ModelDelete(Lineage).where(Lineage.id == lineage_id, Lineage.port_id.is_null(), ~fn.EXISTS(vm)).execute()


def members(lineage_id: str, limit: int = 50) -> list[Vm]:
    """The VMs of the lineage with this id, the newest first, at most so many."""
    return list(Vm.select().where(Vm.lineage_id == lineage_id).order_by(Vm.attempt.desc()).limit(limit))


def successor_of(vm_id: str) -> Vm | None:
    """The VM that was started after this one; None when there is none."""
    found: Vm | None = Vm.select().where(Vm.restart_of == vm_id).first()
    return found


def evictions_lately(lineage_id: str) -> int:
    """How many VMs of it were evicted within FALLBACK_HOURS."""
    since = seconds_from_now(-3600 * FALLBACK_HOURS)
    evicted = Vm.lineage_id == lineage_id, Vm.state == str(State.EVICTED), Vm.ended_at > since
    return int(Vm.select().where(*evicted).count())


def waiting_preemptors(vm_ids: Collection[str]) -> dict[str, tuple[str, str]]:
    """Of these successors, those whose predecessor was evicted for a request that still waits or builds, with capacity
    reserved for it: the kind and the id of the bin whose capacity was freed for it."""
    preemptor = Vm.alias()
    reserved = Reservation.select().where(Reservation.vm_id == preemptor.id, Reservation.released_at.is_null())
    query = (
        Vm.select(Vm.id, Eviction.bin)
        .join(Eviction, on=(Eviction.vm_id == Vm.restart_of) & Eviction.reprieved_at.is_null())
        .join(preemptor, on=preemptor.id == Eviction.request_vm_id)
        .where(any_of(Vm.id, vm_ids), preemptor.state.in_([str(state) for state in BOOTABLE]), fn.EXISTS(reserved))
    )
    return {vm_id: tuple((bin_name or " ").split(" ", 1)) for vm_id, bin_name in tuples_of(query)}


def restarted_within(seconds: float) -> dict[str, list[datetime]]:
    """By owner's id, when VMs were started again within so many seconds, newest first: by all replicas, and whatever
    became of them since."""
    since = seconds_from_now(-seconds)
    rows = (
        Vm.select(fn.COALESCE(Vm.principal_id, Vm.principal), Vm.placed_at)
        .where(Vm.state.not_in(_FINAL) | (Vm.ended_at > since), Vm.attempt > 0, Vm.placed_at > since)
        .order_by(Vm.placed_at.desc())
    )
    found: dict[str, list[datetime]] = {}
    for owner, placed_at in tuples_of(rows):
        found.setdefault(owner, []).append(placed_at)
    return found


# ---------------------------------------------------------------- ports that keep an address


def servers_of(lineage_id: str) -> frozenset[str]:
    """The servers that VMs of it have, or have had."""
    named = Vm.lineage_id == lineage_id, Vm.cloud_id.is_null(False)
    return frozenset(server_id for (server_id,) in tuples_of(Vm.select(Vm.cloud_id).where(*named)))


def removable_ports() -> list[tuple[str, str]]:
    """Lineages that have ended, with the ports that they still have; none while one of their VMs is there."""
    there = Vm.select().where(Vm.lineage_id == Lineage.id, Vm.state.not_in(_FINAL))
    ended = Lineage.ended_at.is_null(False), Lineage.port_id.is_null(False), ~fn.EXISTS(there)
    return list(tuples_of(Lineage.select(Lineage.id, Lineage.port_id).where(*ended).order_by(Lineage.id)))


def any_keeps_address() -> bool:
    """True when a lineage keeps, or has kept, its address."""
    return Lineage.select().where(Lineage.keep_address).exists()


def expected_ports(lineage_ids: Collection[str]) -> dict[str, str | None]:
    """By lineage, the port that it has; None for one that has not ended and may get its port just now."""
    found = Lineage.select(Lineage.id, Lineage.port_id).where(
        any_of(Lineage.id, lineage_ids),
        Lineage.keep_address,
        Lineage.port_id.is_null(False) | Lineage.ended_at.is_null(),
    )
    return dict(tuples_of(found))
