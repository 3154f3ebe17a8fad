"""Intents: what is to be done in the cloud, committed first, claimed under a lease, carried out at least once."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from peewee import Expression

from vmsvc.store import queries
from vmsvc.store.db import Unit
from vmsvc.store.models import Intent, any_of, database, seconds_from_now, tuples_of

BOOT, NOTICE, REPRIEVE, EVICT, DELETE = "boot", "notice", "reprieve", "evict", "delete"


class Claim(NamedTuple):
    """An intent that the caller has claimed. `attempt` is 1 the first time. `times_enqueued` tells `fulfil` whether the
    intent was enqueued again meanwhile."""

    id: int
    kind: str
    vm_id: str
    attempt: int
    times_enqueued: int


def enqueue(work: Unit, kind: str, vm_id: str, not_before: datetime | None = None) -> None:
    """Write an intent that starts at `not_before` (None: now). If the VM has an open intent of this kind, that one is
    carried out once more instead: its worker may have read the VM before the caller's change."""
    (
        Intent.insert(kind=kind, vm_id=vm_id, not_before=not_before or work.now, created_at=work.now)
        .on_conflict(
            conflict_target=[Intent.vm_id, Intent.kind],
            conflict_where=Intent.done_at.is_null(),
            update={Intent.times_enqueued: Intent.times_enqueued + 1},
        )
        .execute()
    )
    work.notify(intents=True)


def claim(owner: str, most: int, lease_seconds: float) -> list[Claim]:
    """Take up to `most` due intents that no replica holds. A claim holds for `lease_seconds`; its owner renews it in a
    third of that. So the work of a killed replica goes on after it."""
    values = {"owner": owner, "lease": lease_seconds, "most": most}
    return list(map(Claim._make, database.execute_sql(queries.CLAIM, values).fetchall()))


def renew(owner: str, ids: list[int], lease_seconds: float) -> set[int]:
    """Prolong our leases; returns the ids that are still ours."""
    renewed = (
        Intent.update(lease_until=seconds_from_now(lease_seconds))
        .where(Intent.id.in_(ids), _held_by(owner))
        .returning(Intent.id)
        .execute()
    )
    return {row.id for row in renewed}


def fulfil(work: Unit, owner: str, done: Sequence[tuple[int, int]]) -> None:
    """Close these intents, (id, times_enqueued) as claimed: they are fulfilled, or have become pointless. An intent
    that was enqueued again meanwhile stays open and can be claimed. An owner that has lost its lease changes nothing:
    another replica carries the intent out."""
    if done:
        ids, seen = map(list, zip(*done))
        database.execute_sql(queries.FULFIL, {"now": work.now, "ids": ids, "seen": seen, "owner": owner})


def retry(owner: str, intent_id: int, seconds: float) -> None:
    """Give up a claim, if the owner still has it; any replica tries again after so many seconds."""
    (
        Intent.update(lease_owner=None, lease_until=None, not_before=seconds_from_now(seconds))
        .where(Intent.id == intent_id, _held_by(owner))
        .execute()
    )


def release_leases(owner: str) -> None:
    """Give up all claims of a replica that stops, so that other replicas can take them at once."""
    Intent.update(lease_owner=None, lease_until=None).where(_held_by(owner)).execute()


def hasten(work: Unit, kind: str, vm_id: str) -> None:
    """Let an open intent start now, as that of a victim which is released before its `evict_at`."""
    Intent.update(not_before=work.now).where(_open(kind, vm_id), Intent.not_before > work.now).execute()
    work.notify(intents=True)


def put_off(work: Unit, kind: str, vm_id: str, until: datetime) -> None:
    """Let an open intent start no earlier than `until`, even one that a worker carries out now: what this worker has
    read of the VM is out of date."""
    Intent.update(not_before=until, times_enqueued=Intent.times_enqueued + 1).where(_open(kind, vm_id)).execute()
    work.notify(intents=True)


def drop(work: Unit, kind: str, vm_id: str) -> None:
    """Close an open intent that is no longer wanted, as the eviction of a victim that is reprieved."""
    Intent.update(done_at=work.now).where(_open(kind, vm_id)).execute()


def is_open(kind: str, vm_id: str) -> bool:
    """True when there is an open intent of this kind for the VM."""
    return Intent.select().where(_open(kind, vm_id)).exists()


def open_for(vm_ids: Collection[str], kinds: Collection[str]) -> set[str]:
    """Those of these VMs that have an open intent of one of these kinds."""
    found = Intent.select(Intent.vm_id).where(
        any_of(Intent.vm_id, vm_ids), Intent.kind.in_(list(kinds)), Intent.done_at.is_null()
    )
    return {vm_id for (vm_id,) in tuples_of(found)}


def seconds_to_next() -> float | None:
    """Until the next open intent that no replica holds is due; None when there is none."""
    seconds = database.execute_sql(queries.NEXT_DUE).fetchone()[0]
    return None if seconds is None else max(0.0, seconds)


def _open(kind: str, vm_id: str) -> Expression:
    return (Intent.kind == kind) & (Intent.vm_id == vm_id) & Intent.done_at.is_null()


def _held_by(owner: str) -> Expression:
    return (Intent.lease_owner == owner) & Intent.done_at.is_null()
