"""What is not kept for ever besides events: requests that never became a VM, and user data that no boot needs any more.

Each call is one statement, a batch of rows, and safe beside others that do the same.
"""

from vmsvc.store import queries
from vmsvc.store.db import connected
from vmsvc.store.models import database
from vmsvc.store.vms import SHOWN_SECONDS


def forget_requests(hours: float, limit: int) -> int:
    """Remove requests that ended more than so many hours ago and never became a VM, with their Idempotency-Keys;
    returns how many went. An ended request is shown for a while, whatever is set."""
    seconds = max(hours * 3600, 2 * SHOWN_SECONDS)
    with connected():
        return database.execute_sql(queries.FORGET_REQUESTS, {"seconds": seconds, "limit": limit}).fetchone()[0]


def clear_user_data(limit: int) -> int:
    """Remove the user data that an older release left in the rows of VMs that need it no more; returns of how many
    VMs."""
    with connected():
        return database.execute_sql(queries.CLEAR_USER_DATA, {"limit": limit}).rowcount
