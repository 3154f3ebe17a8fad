"""What is not kept for ever besides events: requests that never became a VM, and user data that no boot needs any more.

Each call is one statement, a batch of rows, and safe beside others that do the same.
"""

from vmsvc.domain.lifecycle import BOOTABLE
from vmsvc.store.db import connected
from vmsvc.store.models import database
from vmsvc.store.vms import SHOWN_SECONDS

#: An ended request is shown for a while whatever is set; one that VMs were evicted for is part of their record.
_FORGET = """
WITH gone AS (
    DELETE FROM vm WHERE id IN (
        SELECT id FROM vm WHERE launched_at IS NULL AND ended_at < clock_timestamp() - make_interval(secs => %s)
            AND NOT EXISTS (SELECT FROM eviction WHERE request_vm_id = vm.id)
            AND NOT EXISTS (SELECT FROM intent WHERE vm_id = vm.id AND done_at IS NULL)
        ORDER BY ended_at LIMIT %s FOR UPDATE SKIP LOCKED)
    RETURNING id),
keys AS (DELETE FROM idempotency WHERE vm_id IN (SELECT id FROM gone))
SELECT count(*) FROM gone
"""
_CLEAR_USER_DATA = f"""
UPDATE vm SET boot = jsonb_set(boot, '{{user_data}}', 'null') #- '{{asked,user_data}}' WHERE id IN (
    SELECT id FROM vm WHERE boot ->> 'user_data' IS NOT NULL AND state NOT IN ({', '.join(map(repr, map(str,
    BOOTABLE)))}) LIMIT %s FOR UPDATE SKIP LOCKED)
"""


def forget_requests(hours: float, limit: int) -> int:
    """Remove requests that ended more than so many hours ago and never became a VM, with their Idempotency-Keys;
    returns how many went."""
    with connected():
        return database.execute_sql(_FORGET, (max(hours * 3600, 2 * SHOWN_SECONDS), limit)).fetchone()[0]


def clear_user_data(limit: int) -> int:
    """Remove the user data that an older release left in the rows of VMs that need it no more; returns of how many
    VMs."""
    with connected():
        return database.execute_sql(_CLEAR_USER_DATA, (limit,)).rowcount
