"""Removes old data other than events: requests that never became a VM, user data, evidence, deliveries.

User data goes when no boot needs it any more, evidence of the capacity of hosts when it is too old.

Each call is one statement over a batch of rows. Several replicas may call at once.
"""

from peewee import ModelDelete

from vmsvc.store import queries
from vmsvc.store.db import connected
from vmsvc.store.models import Delivery, Evidence, database, seconds_from_now
from vmsvc.store.vms import LISTED_SECONDS


def remove_requests(hours: float, limit: int) -> int:
    """Remove requests that ended more than so many hours ago and never became a VM, with their Idempotency-Keys;
    returns how many. A request that ended within the last 2 * LISTED_SECONDS stays, however low `hours` is."""
    seconds = max(hours * 3600, 2 * LISTED_SECONDS)
    with connected():
        return int(database.execute_sql(queries.REMOVE_REQUESTS, {"seconds": seconds, "limit": limit}).fetchone()[0])


def clear_user_data(limit: int) -> int:
    """Remove the user data that an older release left in rows that no boot needs any more. Returns how many rows."""
    with connected():
        return int(database.execute_sql(queries.CLEAR_USER_DATA, {"limit": limit}).rowcount)


def forget_evidence(hours: float, limit: int) -> int:
    """Remove evidence that is older than so many hours; returns how many rows."""
    with connected():
        old = Evidence.select(Evidence.id).where(Evidence.seen_at < seconds_from_now(-3600 * hours)).limit(limit)
        return int(ModelDelete(Evidence).where(Evidence.id.in_(old)).execute())


def remove_deliveries(hours: float, limit: int) -> int:
    """Remove deliveries of webhooks that ended more than so many hours ago; returns how many rows."""
    with connected():
        old = Delivery.select(Delivery.id).where(Delivery.done_at < seconds_from_now(-3600 * hours)).limit(limit)
        return int(ModelDelete(Delivery).where(Delivery.id.in_(old)).execute())
