"""How long a preemptible VM may run: ends are spread, so that a hundred born together do not die together."""

import hashlib
from datetime import datetime, timedelta

#: Ends lie in this last part of the lifetime.
SPREAD = 0.1


def earliest_end(lifetime_seconds: float) -> timedelta:
    """How long every VM may run at least."""
    return timedelta(seconds=lifetime_seconds * (1 - SPREAD))


def end_of_life(vm_id: str, launched_at: datetime, lifetime_seconds: float) -> datetime:
    """When a VM's time is up: between 90 and 100 % of the lifetime after launch, by its id, the same on every
    replica and after every restart."""
    share = int.from_bytes(hashlib.sha256(vm_id.encode()).digest()[:8], "big") / 2**64
    return launched_at + timedelta(seconds=lifetime_seconds * (1 - SPREAD * share))
