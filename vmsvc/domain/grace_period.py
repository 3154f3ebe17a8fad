"""When a noticed VM may be evicted: pure decisions about its notice.

A victim keeps its whole grace period, from the moment when its guest can read the notice, unless it ends the notice
itself. `next_step` is asked in the transaction that begins the eviction.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from vmsvc.domain.timing import Timing

#: A notice is out of date when it ended longer ago than this, and longer ago than its grace period lasted: the service
#: or the cloud was away, or a backup was restored.
EXPIRED_AFTER = timedelta(minutes=10)


class Step(Enum):
    """What a worker does with a noticed VM now."""

    EVICT = "evict"  # its time has come
    REPRIEVE = "reprieve"  # the same, but its owner wanted to practise the notice alone
    EXEMPT = "exempt"  # its guest could not read the notice for too long, so the VM stays
    WITHDRAW = "withdraw"  # its notice is out of date: whether an eviction is still needed is decided anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """The notice of a VM. `readable_at`: since when its guest can read it, or, where the event alone delivers it, when
    the event was written; None while it was not delivered. `running`: its guest ran when the notice was decided.
    `acknowledged_at`: when its owner or guest ended it early. `only_practised`: no eviction follows."""

    evict_at: datetime
    grace: timedelta
    readable_at: datetime | None
    running: bool
    acknowledged_at: datetime | None = None
    only_practised: bool = False

    @property
    def due(self) -> datetime | None:
        """When the VM may be evicted, unless it is released early; None while its guest runs and cannot read the notice
        yet. With a grace period of zero the eviction does not wait for the notice: there is no time to read it."""
        if not self.grace:
            return self.evict_at
        if self.readable_at is None:
            return None if self.running else self.evict_at
        return max(self.evict_at, self.readable_at + self.grace)

    def has_expired(self, now: datetime) -> bool:
        """True when it ended long ago and was not carried out, acknowledged or not."""
        ended = max(self.evict_at, self.due or self.evict_at)
        return now - ended > max(EXPIRED_AFTER, self.grace)


def next_step(notice: Notice, now: datetime, runs: bool, timing: Timing) -> Step | datetime:
    """What to do with a noticed VM now, or when to ask again. `runs`: its guest may be running; one that does not run
    reads no notice, so its eviction waits for none."""
    if notice.has_expired(now):
        return Step.WITHDRAW
    when = notice.acknowledged_at or notice.due
    if when is None and runs:
        if now >= notice.evict_at + timedelta(seconds=timing.unreadable_notice):
            return Step.EXEMPT
        when = now + timedelta(seconds=timing.unreadable_notice_poll)
    elif when is None:
        when = notice.evict_at
    if when > now:
        return when
    return Step.REPRIEVE if notice.only_practised else Step.EVICT
