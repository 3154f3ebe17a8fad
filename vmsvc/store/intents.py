"""Intents: wishes to act on the cloud, committed first, claimed under a lease, done at least once."""

from collections.abc import Collection, Sequence
from datetime import datetime

from peewee import fn

from vmsvc.store.db import Unit
from vmsvc.store.models import Intent, database
from vmsvc.store.statements import insert

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
_OPEN = "kind = %s AND vm_id = %s AND done_at IS NULL"
#: For an insert: of each kind there is one open intent for a VM.
_AGAIN = "ON CONFLICT (vm_id, kind) WHERE done_at IS NULL DO UPDATE SET wishes = intent.wishes + 1"
_DONE = """
UPDATE intent SET done_at = CASE WHEN wishes = seen THEN %s ELSE done_at END,
                  lease_owner = CASE WHEN wishes = seen THEN lease_owner END, lease_until = NULL
FROM unnest(%s::bigint[], %s::int[]) AS done(intent_id, seen) WHERE id = intent_id AND lease_owner = %s
"""


def wish(work: Unit, kind: str, vm_id: str, not_before: datetime | None = None) -> None:
    """Write an intent that starts at `not_before` (now). Where one of this kind is open for the VM, that one is done
    (again): its performer may have looked at the VM before what is wished now."""
    work.last(*insert(Intent, {"kind": kind, "vm_id": vm_id, "not_before": not_before or work.now,
                               "created_at": work.now}, _AGAIN))
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


def done(work: Unit, owner: str, fulfilled: Sequence[tuple[int, int]]) -> None:
    """These wishes, (id, wishes) as claimed, are fulfilled, or have become pointless; one that was wished again
    meanwhile is free to be claimed. Who has lost its lease changes nothing: the new owner is at it."""
    if fulfilled:
        database.execute_sql(_DONE, (work.now, *map(list, zip(*fulfilled)), owner))


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
    work.last(f"UPDATE intent SET not_before = %s WHERE {_OPEN} AND not_before > %s", (work.now, kind, vm_id, work.now))
    work.ring(acts=True)


def put_off(work: Unit, kind: str, vm_id: str, until: datetime) -> None:
    """Let an open intent start no earlier than this, also when somebody is at it just now: what that one has seen of
    the VM is out of date."""
    work.last(f"UPDATE intent SET not_before = %s, wishes = wishes + 1 WHERE {_OPEN}", (until, kind, vm_id))
    work.ring(acts=True)


def drop(work: Unit, kind: str, vm_id: str) -> None:
    """A wish that is no longer wished (a reprieved victim's eviction)."""
    work.last(f"UPDATE intent SET done_at = %s WHERE {_OPEN}", (work.now, kind, vm_id))


def open_for(vm_ids: Collection[str], kinds: Collection[str]) -> set[str]:
    """Those of these VMs that have an open intent of one of these kinds."""
    found = database.execute_sql("SELECT vm_id FROM intent WHERE done_at IS NULL AND vm_id = ANY(%s) "
                                 "AND kind = ANY(%s)", (list(vm_ids), list(kinds)))
    return {vm_id for vm_id, in found.fetchall()}


def seconds_to_next() -> float | None:
    """Until the next open intent that nobody holds is due; None when there is none."""
    query = database.execute_sql(
        "SELECT extract(epoch FROM min(greatest(not_before, coalesce(lease_until, not_before))) - clock_timestamp())"
        " FROM intent WHERE done_at IS NULL")
    value = query.fetchone()[0]
    return None if value is None else max(0.0, float(value))
