"""The one order in which everything that waits gets capacity, and a structure that keeps many requests in it.

`queue_key` is the order. `Lanes` keeps the requests that wait in the queue by their shapes: where one of a shape does
not fit, none of that shape behind it does. So a pass looks at the first requests of each shape, whatever the number of
those behind them. The requests of one shape, kind, priority and owner form a lane, in which the oldest is first.
"""

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from typing import NamedTuple

#: For so long after it came a request may be overtaken by others, behind it in the order, that fit where it does not.
OVERTAKEN_SECONDS = 3600
#: How many requests of a shape a pass decides about at first, and at most.
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
    """A request that a pass decides about. `more_behind`: the pass does not know the next one of its shape."""

    id: str
    shape: Hashable
    more_behind: bool


@dataclass(slots=True)
class _Lane:
    """Requests of one shape, kind, priority and owner, oldest first, as (came, id)."""

    kind: tuple[bool, int]  # the first two items of their keys
    owner: str
    waiting: list[tuple[float, str]] = field(default_factory=list)

    def front(self, shares: Shares) -> tuple[bool, int, float]:
        """What all their keys begin with."""
        return *self.kind, shares.get(self.owner, 0.0)

    def before(self, key: QueueKey | None, shares: Shares, limit: int | None = None) -> int:
        """How many of the first `limit` requests come before this key; all of them without a key."""
        limit = len(self.waiting) if limit is None else limit
        front = self.front(shares)
        if key is None or front < key[:3]:
            return limit
        return bisect_left(self.waiting, key[3:], hi=limit) if front == key[:3] else 0


@dataclass(slots=True)
class _Shape:
    """Requests that fit together or not at all, in lanes. `first` are the first `count` of them, by `shares`."""

    lanes: dict[Hashable, _Lane] = field(default_factory=dict)
    size: int = 0
    count: int = _FIRST_OFFER
    offered: tuple[str, ...] = ()
    changed: bool = True  # since they were offered
    shares: Shares | None = None

    def offer(self, shares: Shares) -> tuple[str, ...]:
        """The first requests in their order. Where all that were offered last have left, twice as many: so much has
        become free."""
        if self.changed or self.shares is not shares:
            first = self._first(len(self.offered), shares)
            all_left = bool(self.offered) and set(first).isdisjoint(self.offered)
            self.count = min(2 * self.count, _MOST_OFFERED) if all_left else _FIRST_OFFER
            self.offered = self._first(self.count, shares)
            self.changed, self.shares = False, shares
        return self.offered

    def _first(self, count: int, shares: Shares) -> tuple[str, ...]:
        heads = [(lane.front(shares), lane.waiting[0], 0, key) for key, lane in enumerate(self.lanes.values())]
        lanes = list(self.lanes.values())
        heapify(heads)
        found: list[str] = []
        while heads and len(found) < count:
            front, (_, request_id), number, key = heads[0]
            found.append(request_id)
            if number + 1 < len(lanes[key].waiting):
                heapreplace(heads, (front, lanes[key].waiting[number + 1], number + 1, key))
            else:
                heappop(heads)
        return tuple(found)


class Lanes:
    """The requests that wait in the queue. A change costs what it concerns, a pass the number of shapes."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[QueueEntry, Hashable, Hashable]] = {}
        self._shapes: dict[Hashable, _Shape] = {}
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
        key = kind, entry.owner
        self._entries[entry.id] = entry, shape, key
        alike = self._shapes.setdefault(shape, _Shape())
        insort(alike.lanes.setdefault(key, _Lane(kind, entry.owner)).waiting, (entry.came, entry.id))
        alike.size, alike.changed = alike.size + 1, True
        self._of_owner[entry.owner] = self._of_owner.get(entry.owner, 0) + 1

    def drop(self, request_id: str) -> None:
        """Remove a request, if it is there."""
        if request_id not in self._entries:
            return
        entry, shape, key = self._entries.pop(request_id)
        alike = self._shapes[shape]
        lane = alike.lanes[key]
        del lane.waiting[bisect_left(lane.waiting, (entry.came, entry.id))]
        alike.size, alike.changed = alike.size - 1, True
        if not lane.waiting:
            del alike.lanes[key]
        if not alike.lanes:
            del self._shapes[shape]
        self._of_owner[entry.owner] -= 1
        if not self._of_owner[entry.owner]:
            del self._of_owner[entry.owner]

    def offers(self, shares: Shares) -> list[Offer]:
        """The requests that a pass decides about, in no order."""
        found = []
        for shape, alike in self._shapes.items():
            first = alike.offer(shares)
            last = len(first) - 1
            found += [
                Offer(request_id, shape, number == last and alike.size > len(first))
                for number, request_id in enumerate(first)
            ]
        return found

    def overdue(self, shape: Hashable, before: QueueKey | None, shares: Shares, now: float) -> int:
        """How many requests of this shape that come before this key wait for longer than they may be overtaken; `now`
        in seconds since the epoch."""
        alike, limit = self._shapes.get(shape), (now - OVERTAKEN_SECONDS, "")
        if alike is None:
            return 0
        return sum(
            lane.before(before, shares, bisect_left(lane.waiting, limit))
            for lane in alike.lanes.values()
            if lane.waiting[0] < limit
        )

    def ahead(self, key: QueueKey, shares: Shares) -> int:
        """How many requests of the queue come before this key."""
        return sum(lane.before(key, shares) for alike in self._shapes.values() for lane in alike.lanes.values())
