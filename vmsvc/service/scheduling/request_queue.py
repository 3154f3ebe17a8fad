"""The requests that wait in the queue, as this replica knows them, and the first of them for each pass.

An update reads those that changed. A pass gets the first ones of each shape.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from vmsvc.domain.boot_options import kind_of, options_in
from vmsvc.domain.lifecycle import State
from vmsvc.domain.request import traits_named
from vmsvc.scheduling.decide_all import Commit
from vmsvc.scheduling.decisions import Queued
from vmsvc.scheduling.overtaking import CountOverdue
from vmsvc.scheduling.queue_order import Lanes, Offer, QueueEntry, Shares, queue_key
from vmsvc.service.scheduling.verdicts import key_of
from vmsvc.service.usage import SharesCache
from vmsvc.store import waiting
from vmsvc.store.models import Vm
from vmsvc.store.vm_cache import VmRow
from vmsvc.store.waiting import QueuedRow

#: How many kinds of requests a replica remembers that the cloud refused; then it forgets the oldest.
_MOST_REFUSED = 1000


class Refused(NamedTuple):
    """The cloud's newest refusal of requests with one flavor, image and zone, for lack of capacity: when the create was
    ordered that it refused, and when it did."""

    tried: datetime
    at: datetime
    message: str


def refused(refusal: Mapping[str, Any]) -> Refused:
    """A refusal as a row has it. One that an older release wrote does not say when the create was ordered."""
    at = datetime.fromisoformat(refusal["at"])
    return Refused(datetime.fromisoformat(refusal.get("tried", refusal["at"])), at, refusal["message"])


class RequestQueue:
    """The queue. `undecided` are the requests that wait without being in it: those that have not been decided yet, and
    those for which capacity is being freed. One thread at a time."""

    def __init__(self) -> None:
        self.lanes = Lanes()
        self.undecided: set[str] = set()
        self._rows: dict[str, tuple[QueuedRow, float]] = {}  # and when this replica first saw it, time.monotonic()
        self._unread: set[str] = set()
        self._traits: Counter[str] = Counter()
        self._server_groups: Counter[str] = Counter()
        self._refused: dict[Hashable, Refused] = {}
        self._shares = SharesCache()

    def update(self, rows: Mapping[str, VmRow], changed: Collection[str]) -> None:
        """Read the requests of the queue among the changed rows, in the caller's transaction."""
        self._unread |= {row_id for row_id in changed if row_id in self._rows or _waits(rows.get(row_id)) is not None}
        for row_id in changed:
            if _waits(rows.get(row_id)) is False:
                self.undecided.add(row_id)
            else:
                self.undecided.discard(row_id)
        if not self._unread:
            return
        asked = {row_id for row_id in self._unread if _waits(rows.get(row_id))}
        found = {row.id: row for row in waiting.queued_rows(asked)} if asked else {}
        for row_id in self._unread:
            self._put(row_id, found.get(row_id))
        self._unread = set()

    def _put(self, row_id: str, row: QueuedRow | None) -> None:
        before, seen = self._rows.pop(row_id, (None, time.monotonic()))
        if before is not None:
            self.lanes.drop(row_id)
            self._traits.subtract(traits_named(before.boot))
            self._server_groups.subtract(_server_groups(before))
        if row is None:
            return
        if before is not None and before.updated_at != row.updated_at:
            seen = time.monotonic()
        self._rows[row_id] = row, seen
        self._traits.update(traits_named(row.boot))
        self._server_groups.update(_server_groups(row))
        self.lanes.put(entry_of(row), _shape(row))

    @property
    def traits(self) -> frozenset[str]:
        """The traits that requests of the queue name."""
        return frozenset(trait for trait, count in tuple(self._traits.items()) if count > 0)

    @property
    def server_groups(self) -> frozenset[str]:
        """The server groups that requests of the queue name."""
        return frozenset(group for group, count in tuple(self._server_groups.items()) if count > 0)

    def refusals(self, rows: Iterable[Vm | QueuedRow]) -> Mapping[Hashable, Refused]:
        """By `place_of`, what the cloud said last, for lack of capacity, of requests that wait; empty while none waits
        in the queue. `rows`: the requests of the pass."""
        for row in rows:
            if row.refusal and row.refusal.get("error") == "no_capacity":
                place, found = place_of(row), refused(row.refusal)
                self._refused[place] = max(found, self._refused.pop(place, found))
        while len(self._refused) > _MOST_REFUSED:
            del self._refused[next(iter(self._refused))]
        return self._refused if self._rows else {}

    def offers(self, shares: Shares) -> list[tuple[QueuedRow, Offer, float]]:
        """The requests of the queue that a pass may decide about, each with the moment (time.monotonic()) since which
        this replica has known it: the cloud has to be read after that."""
        return [(row, offer, since) for offer in self.lanes.offers(shares) for row, since in [self._rows[offer.id]]]

    def overdue_at(self, now: datetime, shares: Shares) -> CountOverdue:
        """Counts the requests of a shape that may not be overtaken any more."""
        return lambda shape, before: self.lanes.overdue(shape, before, shares, now.timestamp())

    def shares(self, now: datetime, owners: Collection[str] = ()) -> Shares:
        """The shares by which the queue is ordered, in the caller's transaction. `owners`: those of requests that are
        not in the queue."""
        return self._shares.of({*self.lanes.of_owner, *owners}, now)

    def positions(self, plan: Commit, rows: Mapping[str, Vm], now: datetime) -> dict[str, int]:
        """By id, the positions of the requests that the plan puts into the queue, after all that the plan changes.
        `rows`: those of the requests of the plan."""
        coming = {change.request_id for change in plan.changes if isinstance(change.decision, Queued)}
        if not coming:
            return {}
        entries = {row_id: entry_of(row) for row_id, row in rows.items()}
        shares = self.shares(now, {entry.owner for entry in entries.values()})
        keys = {row_id: queue_key(entry, shares) for row_id, entry in entries.items()}
        leaving = sorted(keys[row_id] for row_id in keys.keys() - coming if row_id in self.lanes)
        new = sorted(keys[row_id] for row_id in coming if row_id not in self.lanes)
        return {
            row_id: 1
            + self.lanes.ahead(keys[row_id], shares)
            - bisect_left(leaving, keys[row_id])
            + bisect_left(new, keys[row_id])
            for row_id in coming
        }


def _waits(row: VmRow | None) -> bool | None:
    """True for a request in the queue, False for one that waits without being in it, None for everything else."""
    if row is None or row.state != State.PENDING:
        return None
    return row.queued_why is not None


def owner_of(row: Vm | QueuedRow) -> str:
    """The id of who asked for it."""
    return row.principal_id or row.principal


def entry_of(row: Vm | QueuedRow) -> QueueEntry:
    """What the order of a request depends on."""
    return QueueEntry(row.id, row.is_preemptible, row.priority, owner_of(row), row.created_at.timestamp())


def place_of(row: Vm | QueuedRow) -> Hashable:
    """Equal for requests that the cloud refuses together when it has no capacity."""
    return *(row.boot.get(name) for name in ("flavor_id", "image_id", "availability_zone")), kind_of(row.boot)


def _server_groups(row: QueuedRow) -> list[str]:
    group = options_in(row.boot).server_group
    return [group] if group else []


def _shape(row: QueuedRow) -> Hashable:
    """Equal for requests of which none fits when another one does not."""
    return (
        key_of(row.boot),
        tuple(sorted(row.quota.items())),
        tuple(sorted(row.room.items())),
        row.rounds,
        tuple(sorted(row.avoid)),
        row.group_name if not row.is_preemptible else None,
        row.patience_until is not None,
        owner_of(row) if row.attempt else None,  # successors of one owner may have to wait though there is capacity
    )
