"""Intents: wishes to act on the cloud, committed first, claimed under a lease, done at least once."""

from datetime import datetime

from peewee import fn

from vmsvc.store.db import Unit
from vmsvc.store.models import Intent, database

#: Seconds for which a claim holds; its owner renews it in a third of that. A killed replica's work goes on after it.
LEASE_SECONDS = 30

BOOT, NOTICE, REPRIEVE, EVICT, DELETE = "boot", "notice", "reprieve", "evict", "delete"

_CLAIM = """
UPDATE intent SET lease_owner = %s, lease_until = clock_timestamp() + make_interval(secs => %s),
                  attempts = attempts + 1
WHERE id IN (SELECT id FROM intent
             WHERE done_at IS NULL AND not_before <= clock_timestamp()
               AND (lease_until IS NULL OR lease_until < clock_timestamp())
             ORDER BY not_before, id LIMIT %s FOR UPDATE SKIP LOCKED)
RETURNING id, kind, vm_id, attempts, wishes
"""
_DONE = """
UPDATE intent SET done_at = CASE WHEN wishes = %s THEN %s ELSE done_at END,
                  lease_owner = CASE WHEN wishes = %s THEN lease_owner END, lease_until = NULL
WHERE id = %s AND lease_owner = %s
"""


def wish(work: Unit, kind: str, vm_id: str, not_before: datetime | None = None) -> None:
    """Write an intent that starts at `not_before` (now). Where one of this kind is open for the VM, that one is done
    (again): its performer may have looked at the VM before what is wished now."""
    (Intent.insert(kind=kind, vm_id=vm_id, not_before=not_before or work.now, attempts=0, wishes=1,
                   created_at=work.now)
     .on_conflict(conflict_target=[Intent.vm_id, Intent.kind], conflict_where=Intent.done_at.is_null(),
                  update={Intent.wishes: Intent.wishes + 1})
     .execute())
    work.ring(acts=True)


def claim(owner: str, most: int) -> list[tuple[int, str, str, int, int]]:
    """Take up to `most` due intents that nobody holds: (id, kind, vm id, attempts with this one, wishes)."""
    return database.execute_sql(_CLAIM, (owner, LEASE_SECONDS, most)).fetchall()


def renew(owner: str, ids: list[int]) -> set[int]:
    """Prolong our leases; returns the ids that are still ours."""
    kept = (Intent.update(lease_until=fn.clock_timestamp() + fn.make_interval(0, 0, 0, 0, 0, 0, LEASE_SECONDS))
            .where(Intent.id.in_(ids), Intent.lease_owner == owner, Intent.done_at.is_null())
            .returning(Intent.id).execute())
    return {row.id for row in kept}


def done(work: Unit, owner: str, intent_id: int, wishes: int) -> None:
    """The wish is fulfilled, or has become pointless; if it was wished again meanwhile it is free to be claimed. Who
    has lost its lease changes nothing: the new owner is at it."""
    database.execute_sql(_DONE, (wishes, work.now, wishes, intent_id, owner))


def later(owner: str, intent_id: int, seconds: float) -> None:
    """Give the claim back, if it still is the owner's; somebody tries again after so many seconds."""
    (Intent.update(lease_owner=None, lease_until=None,
                   not_before=fn.clock_timestamp() + fn.make_interval(0, 0, 0, 0, 0, 0, seconds))
     .where(Intent.id == intent_id, Intent.lease_owner == owner, Intent.done_at.is_null()).execute())


def release(owner: str) -> None:
    """An orderly stop: what this replica held is free at once."""
    (Intent.update(lease_owner=None, lease_until=None)
     .where(Intent.lease_owner == owner, Intent.done_at.is_null()).execute())


def hasten(work: Unit, kind: str, vm_id: str) -> None:
    """Let an open intent start now (a victim that left early need not wait for its time)."""
    (Intent.update(not_before=work.now)
     .where(Intent.kind == kind, Intent.vm_id == vm_id, Intent.done_at.is_null(), Intent.not_before > work.now)
     .execute())
    work.ring(acts=True)


def put_off(work: Unit, kind: str, vm_id: str, until: datetime) -> None:
    """Let an open intent start no earlier than this, also when somebody is at it just now: what that one has seen of
    the VM is out of date."""
    (Intent.update(not_before=until, wishes=Intent.wishes + 1)
     .where(Intent.kind == kind, Intent.vm_id == vm_id, Intent.done_at.is_null()).execute())
    work.ring(acts=True)


def drop(work: Unit, kind: str, vm_id: str) -> None:
    """A wish that is no longer wished (a reprieved victim's eviction)."""
    (Intent.update(done_at=work.now)
     .where(Intent.kind == kind, Intent.vm_id == vm_id, Intent.done_at.is_null()).execute())


def seconds_to_next() -> float | None:
    """Until the next open intent that nobody holds is due; None when there is none."""
    query = database.execute_sql(
        "SELECT extract(epoch FROM min(greatest(not_before, coalesce(lease_until, not_before))) - clock_timestamp())"
        " FROM intent WHERE done_at IS NULL")
    value = query.fetchone()[0]
    return None if value is None else max(0.0, float(value))
