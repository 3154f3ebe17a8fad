"""Reservations of capacity, the record of evictions, hosts in cooldown, and VMs exempt from eviction.

A reservation keeps capacity for a request, from the decision to evict for it (`reserve`) until its VM is ACTIVE or the
request no longer uses that capacity (`release_reservation`).
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from peewee import JOIN, SQL, Expression, ModelDelete, fn

from vmsvc.domain.evidence import LIKELY
from vmsvc.domain.lifecycle import REMOVING
from vmsvc.store import queries
from vmsvc.store.db import Unit
from vmsvc.store.models import (
    Cooldown,
    Eviction,
    Reservation,
    Vm,
    any_of,
    database,
    dicts_of,
    seconds_from_now,
    tuples_of,
)

#: How a notice is delivered: in the guest's metadata and by the event, or by the event alone.
METADATA, EVENT = "metadata", "event"

_UNPLUGGED_SECONDS = 600


def open_reservations() -> list[Reservation]:
    """The reservations that hold now, oldest first."""
    return list(Reservation.select().where(Reservation.released_at.is_null()).order_by(Reservation.id))


def reserve(
    work: Unit,
    vm_id: str,
    bin_kind: str,
    bin_id: str,
    members: Mapping[str, Any],
    evidence: Mapping[str, Any] | None = None,
) -> None:
    """Reserve capacity for a request in one bin, in place of any that it held before. `evidence`, of a host group:
    `certainty`; `free`, what the plan takes to be free there besides; `foreign`, what servers that vmsvc did not make
    held there."""
    release_reservation(work, vm_id)
    Reservation.create(
        vm_id=vm_id, bin_kind=bin_kind, bin=bin_id, members=members, evidence=evidence, created_at=work.now
    )


def release_reservation(work: Unit, vm_id: str) -> None:
    """End a request's reservation, if it has one."""
    if (
        Reservation.update(released_at=work.now)
        .where(Reservation.vm_id == vm_id, Reservation.released_at.is_null())
        .execute()
    ):
        work.notify()


def start_cooldown(work: Unit, host: str, boot: Mapping[str, Any], reason: str, seconds: float) -> None:
    """A host refused such a VM (`boot` has its flavor_id and image_id): others like it avoid this host for a while."""
    until = work.now + timedelta(seconds=seconds)
    ModelDelete(Cooldown).where(Cooldown.until_at < work.now).execute()
    (
        Cooldown.insert(
            host=host, flavor_id=boot["flavor_id"], image_id=boot["image_id"], reason=reason, until_at=until
        )
        .on_conflict(
            conflict_target=[Cooldown.flavor_id, Cooldown.image_id, Cooldown.host],
            update={Cooldown.reason: reason, Cooldown.until_at: until},
        )
        .execute()
    )


def cooldowns() -> dict[tuple[str, str], dict[str, str]]:
    """(flavor id, image id) -> the hosts that refused such VMs lately, with what the cloud said."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    query = Cooldown.select(Cooldown.flavor_id, Cooldown.image_id, Cooldown.host, Cooldown.reason).where(
        Cooldown.until_at > fn.clock_timestamp()
    )
    for flavor_id, image_id, host, reason in tuples_of(query):
        found.setdefault((flavor_id, image_id), {})[host] = reason
    return found


def unplugged(network_id: str) -> str | None:
    """The message of the last build of the last ten minutes that got no address on this network; None without one, or
    when a later build got one. A tenant has no better evidence about another project's network."""
    found = database.execute_sql(queries.UNPLUGGED, {"seconds": _UNPLUGGED_SECONDS, "network": network_id}).fetchone()
    return str(found[0]) if found else None


def record_eviction(
    work: Unit,
    victim: Vm,
    *,
    reason: str,
    evict_at: datetime,
    request_vm_id: str | None = None,
    simulated: bool = False,
    delivery: str = METADATA,
    plan: Mapping[str, Any] | None = None,
) -> None:
    """Write that a VM is to be evicted, for which request and why. `plan`: round, bin, criterion, cost, runner_up,
    optimal, certainty, evidence."""
    no_plan: dict[str, object] = {
        "round": 0,
        "bin": None,
        "criterion": None,
        "cost": {},
        "runner_up": None,
        "optimal": True,
    }
    Eviction.create(
        vm_id=victim.id,
        owner=victim.principal,
        owner_id=victim.principal_id,
        reason=reason,
        simulated=simulated,
        request_vm_id=request_vm_id,
        planned_at=work.now,
        evict_at=evict_at,
        delivery=delivery,
        **{**no_plan, **(plan or {})},
    )


def record_step(vm_id: str, step: str) -> None:
    """Write the time of a step of a victim's newest eviction, once: `noticed_at`, `stopped_at`, ..."""
    column = getattr(Eviction, step)
    Eviction.update({column: fn.clock_timestamp()}).where(_newest(vm_id), column.is_null()).execute()


def record_acknowledgement(vm_id: str, by: str | None) -> None:
    """Write when a victim's newest eviction was acknowledged, once, and the name of who did it."""
    (
        Eviction.update(acknowledged_at=fn.clock_timestamp(), acknowledged_by=by)
        .where(_newest(vm_id), Eviction.acknowledged_at.is_null())
        .execute()
    )


def readable_since(vm_id: str) -> datetime | None:
    """Since when the guest of a VM can read its newest notice; None when it cannot."""
    found: datetime | None = Eviction.select(Eviction.noticed_at).where(_newest(vm_id)).scalar()
    return found


def exempt_vms(seconds: float) -> frozenset[str]:
    """VMs that must not be noticed: those exempted within the last `seconds`, and those exempted for a request that
    still waits. So a request never returns to such a VM, and its candidates become fewer each time."""
    return frozenset(vm_id for (vm_id,) in database.execute_sql(queries.EXEMPT, {"seconds": seconds}).fetchall())


def make_exempt(vm_id: str, reason: str) -> None:
    """Record why the newest eviction of a VM could not be carried out. A round in which nobody left does not count, so
    the request may have another. The caller holds the lock SCHEDULER, under which rounds are counted."""
    Eviction.update(exempt=reason).where(_newest(vm_id)).execute()
    discount_round(vm_id)


def discount_round(vm_id: str) -> None:
    """Do not count the round of a VM's newest notice if no victim left in it. The caller holds the lock SCHEDULER."""
    database.execute_sql(queries.ROUND_IS_NONE, {"vm": vm_id})


def count_round(vm_id: str) -> None:
    """Count the round of a victim that leaves, even if other victims of that round were exempted."""
    database.execute_sql(queries.ROUND_COUNTS, {"vm": vm_id})


def record_delivery_by_event(vm_id: str) -> None:
    """Record that the event alone delivers the newest notice of a VM, for its guest cannot read it."""
    Eviction.update(delivery=EVENT).where(_newest(vm_id)).execute()


def noticed_event_at(vm_id: str) -> datetime | None:
    """When the first event of a VM's newest notice was written; None when history no longer has it."""
    found: datetime | None = database.execute_sql(queries.NOTICED_EVENT_AT, {"vm": vm_id}).fetchone()[0]
    return found


def move_notice(vm_id: str, evict_at: datetime) -> None:
    """Record a later `evict_at` for the newest eviction of a VM."""
    Eviction.update(evict_at=evict_at).where(_newest(vm_id)).execute()


def close_evictions(request_vm_id: str, wasted: str | None) -> None:
    """Record the end of a request with its evictions: fulfilled, or wasted (`wasted` says why). Those of a likely plan
    that the cloud refused are wasted already, and stay so."""
    of_request = (Eviction.request_vm_id == request_vm_id) & Eviction.reprieved_at.is_null() & Eviction.wasted.is_null()
    if wasted is None:
        Eviction.update(fulfilled_at=fn.clock_timestamp()).where(of_request).execute()
    else:
        Eviction.update(wasted=wasted).where(of_request, Eviction.evicting_at.is_null(False)).execute()


def waste_likely_round(request_vm_id: str, round_number: int, why: str) -> None:
    """The cloud has refused the request after this round. If its plan was only likely, the evictions are wasted."""
    (
        Eviction.update(wasted=why)
        .where(
            Eviction.request_vm_id == request_vm_id,
            Eviction.round == round_number,
            Eviction.certainty == LIKELY,
            Eviction.evicting_at.is_null(False),
            Eviction.wasted.is_null(),
        )
        .execute()
    )


def victims_of(request_vm_id: str) -> list[str]:
    """The vmsvc ids of the VMs that were or are being evicted for a request, without those that were reprieved and
    those that left by themselves during their notice."""
    rows = (
        Eviction.select(Eviction.vm_id)
        .where(Eviction.request_vm_id == request_vm_id, Eviction.evicting_at.is_null(False))
        .order_by(Eviction.id)
    )
    return [row.vm_id for row in rows]


def with_victims(request_vm_ids: Collection[str]) -> frozenset[str]:
    """Those of these requests for which a VM was evicted, or is being evicted."""
    rows = (
        Eviction.select(Eviction.request_vm_id)
        .distinct()
        .where(any_of(Eviction.request_vm_id, request_vm_ids), Eviction.evicting_at.is_null(False))
    )
    return frozenset(vm_id for (vm_id,) in tuples_of(rows))


def has_leaving_victims(request_vm_id: str) -> bool:
    """True while one of the VMs that `victims_of` returns is still being removed."""
    return (
        Eviction.select()
        .join(Vm, on=Vm.id == Eviction.vm_id)
        .where(
            Eviction.request_vm_id == request_vm_id,
            Eviction.evicting_at.is_null(False),
            Vm.state.in_([str(state) for state in REMOVING]),
        )
        .exists()
    )


def recent_losses(seconds: float) -> dict[str, int]:
    """How many VMs each owner, by id, lost to evictions within so many seconds; practised evictions do not count."""
    rows = (
        Eviction.select(fn.COALESCE(Eviction.owner_id, Eviction.owner), fn.COUNT(Eviction.id))
        .where(Eviction.evicting_at > seconds_from_now(-seconds), ~Eviction.simulated)
        .group_by(SQL("1"))
    )
    return dict(tuples_of(rows))


def evictions(
    *,
    before: int | None,
    limit: int,
    vm_ids: Collection[str] | None = None,
    request_ids: Collection[str] | None = None,
    reason: str | None = None,
) -> list[dict[str, Any]]:
    """The record, newest first: rows joined with the two VMs' names and cloud ids."""
    victim, preemptor = Vm.alias(), Vm.alias()
    query = (
        Eviction.select(
            Eviction,
            victim.cloud_id.alias("victim_id"),
            victim.name.alias("victim_name"),
            victim.state.alias("victim_state"),
            preemptor.cloud_id.alias("preemptor_id"),
            preemptor.name.alias("preemptor_name"),
        )
        .join(victim, JOIN.LEFT_OUTER, on=victim.id == Eviction.vm_id)
        .join(preemptor, JOIN.LEFT_OUTER, on=preemptor.id == Eviction.request_vm_id)
        .order_by(Eviction.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(Eviction.id < before)
    if vm_ids is not None:
        query = query.where(Eviction.vm_id.in_(list(vm_ids)))
    if request_ids is not None:
        query = query.where(Eviction.request_vm_id.in_(list(request_ids)))
    if reason is not None:
        query = query.where(Eviction.reason == reason)
    return list(dicts_of(query))


def _newest(vm_id: str) -> Expression:
    """The condition that a row is the newest eviction of this VM."""
    newest = Eviction.alias()
    return Eviction.id == newest.select(fn.MAX(newest.id)).where(newest.vm_id == vm_id)
