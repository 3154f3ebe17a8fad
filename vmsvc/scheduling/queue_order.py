"""The one order in which everything that waits gets capacity, and a structure that keeps many requests in it.

`queue_key` is the order. `Lanes` keeps the requests that wait in the queue: those of one kind, priority and owner that
are alike form a lane, in which the oldest is first. Where the first of a lane does not fit, nothing behind it there
does. So a pass looks at the first requests of each lane, whatever the number of those behind them.
"""

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

#: For so long after it came a request may be overtaken by others, behind it in the order, that fit where it does not.
OVERTAKEN_SECONDS = 3600
#: How many requests of a lane a pass decides about at first, and at most.
_FIRST_OFFER, _MOST_OFFERED = 2, 256

#: By owner: the vCPU-seconds that the owner's VMs held within the last 24 h.
Shares = Mapping[str, float]
QueueKey = tuple[bool, int, float, float, str]


class QueueEntry(NamedTuple):
    """What the order of a request depends on. `came`: when it came, in seconds since the epoch."""

    id: str
    is_preemptible: bool
    priority: int
    owner: str
    came: float


def queue_key(entry: QueueEntry, shares: Shares) -> QueueKey:
    """The order, as a key for sorting: standard before preemptible; then the higher priority, then the owner with the
    least share, then the older request."""
    return entry.is_preemptible, -entry.priority, shares.get(entry.owner, 0.0), entry.came, entry.id


def positions(entries: Iterable[QueueEntry], shares: Shares) -> dict[str, int]:
    """By id, the position of each request in the queue; 1 is next."""
    ordered = sorted(entries, key=lambda entry: queue_key(entry, shares))
    return {entry.id: number for number, entry in enumerate(ordered, 1)}


class Offer(NamedTuple):
    """A request that a pass decides about. `overdue`: how many requests of its lane, from this one on, wait for longer
    than they may be overtaken, as far as the pass does not decide about them too. `more_behind`: the pass does not know
    the next request of the lane."""

    id: str
    overdue: int
    more_behind: bool


@dataclass(slots=True)
class _Lane:
    """Requests that are alike, oldest first, as (came, id)."""

    kind: tuple[bool, int]  # the first two items of their keys
    owner: str
    waiting: list[tuple[float, str]] = field(default_factory=list)
    offered: tuple[str, ...] = ()  # in the last pass
    count: int = _FIRST_OFFER

    def offer(self, now: float) -> Iterator[Offer]:
        """The first requests. Where all that were offered last have left the lane, twice as many: so much has become
        free."""
        ids = {waiting_id for _, waiting_id in self.waiting[: self.count]}
        all_left = self.offered and ids.isdisjoint(self.offered)
        self.count = min(2 * self.count, _MOST_OFFERED) if all_left else _FIRST_OFFER
        first = self.waiting[: self.count]
        self.offered = tuple(waiting_id for _, waiting_id in first)
        overdue = bisect_left(self.waiting, (now - OVERTAKEN_SECONDS, ""))
        for number, (_, waiting_id) in enumerate(first):
            last = number == len(first) - 1
            due = max(0, overdue - number)
            yield Offer(waiting_id, due if last else min(1, due), last and len(self.waiting) > len(first))


class Lanes:
    """The requests that wait in the queue. A change costs what it concerns; `offers` costs the number of lanes."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[QueueEntry, Hashable]] = {}
        self._lanes: dict[Hashable, _Lane] = {}
        self._of_owner: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._entries

    @property
    def of_owner(self) -> Mapping[str, int]:
        """By owner, how many requests wait."""
        return self._of_owner

    def put(self, entry: QueueEntry, shape: Hashable) -> None:
        """Add a request, or replace it. Requests of one shape fit together or not at all."""
        self.drop(entry.id)
        kind = entry.is_preemptible, -entry.priority
        key = (kind, entry.owner, shape)
        self._entries[entry.id] = entry, key
        lane = self._lanes.setdefault(key, _Lane(kind, entry.owner))
        insort(lane.waiting, (entry.came, entry.id))
        self._of_owner[entry.owner] = self._of_owner.get(entry.owner, 0) + 1

    def drop(self, request_id: str) -> None:
        """Remove a request, if it is there."""
        entry, key = self._entries.pop(request_id, (None, None))
        if entry is None:
            return
        lane = self._lanes[key]
        del lane.waiting[bisect_left(lane.waiting, (entry.came, entry.id))]
        if not lane.waiting:
            del self._lanes[key]
        self._of_owner[entry.owner] -= 1
        if not self._of_owner[entry.owner]:
            del self._of_owner[entry.owner]

    def offers(self, now: float) -> list[Offer]:
        """The requests that a pass decides about, in no order; `now` in seconds since the epoch."""
        return [offer for lane in self._lanes.values() for offer in lane.offer(now)]

    def overdue(self, entry: QueueEntry, shares: Shares, now: float) -> list[tuple[str, int]]:
        """By the first request of each lane that comes before this one: how many of the lane wait for longer than they
        may be overtaken."""
        front = list(queue_key(entry, shares)[:3])
        found = []
        for lane in self._lanes.values():
            if [*lane.kind, shares.get(lane.owner, 0.0)] <= front:
                if count := bisect_left(lane.waiting, (now - OVERTAKEN_SECONDS, "")):
                    found.append((lane.waiting[0][1], count))
        return found

    def ahead(self, entry: QueueEntry, shares: Shares) -> int:
        """How many requests of the queue come before this one, which need not be in it."""
        *front, came, request_id = queue_key(entry, shares)
        count = 0
        for lane in self._lanes.values():
            theirs = [*lane.kind, shares.get(lane.owner, 0.0)]
            if theirs < front:
                count += len(lane.waiting)
            elif theirs == front:
                count += bisect_left(lane.waiting, (came, request_id))
        return count
