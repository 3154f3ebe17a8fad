"""Where decisions are made: the world kept in one place, brought up to date for each of them."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from vmsvc.scheduling.host_index import IndexedWorld
from vmsvc.service.scheduling.snapshot import Snapshot
from vmsvc.service.scheduling.vm_join import Policy
from vmsvc.service.scheduling.world_builder import CloudChanges, Commitments, WorldBuilder
from vmsvc.store import ledger
from vmsvc.store.models import Reservation
from vmsvc.store.vm_cache import VmCache
from vmsvc.tuning import GrowingWorld

_LOSSES_SECONDS = 86400    # for so long an owner's loss is a cost of taking another of its VMs
_EXEMPT_SECONDS = 300      # for so long at least a VM is left alone that could not be made to go


@dataclass(frozen=True, slots=True)
class View:
    """What a decision is made upon. `reservations` are all that are open."""

    world: IndexedWorld
    rows: VmCache
    reservations: Sequence[Reservation]


class WorldCache:
    """Threads take turns at it."""

    def __init__(self, policy: Policy):
        self._turn = threading.Lock()
        self._rows = VmCache()
        self._changed: set[str] = set()
        self._picture = WorldBuilder(policy)
        self._growing = GrowingWorld()

    def tell(self, news: CloudChanges) -> None:
        """What changed in the cloud, for the decisions from now on. May be called at any time."""
        self._picture.tell(news)

    @contextmanager
    def at(self, snapshot: Snapshot, now: datetime, operator: bool) -> Iterator[View]:
        """The world as it is now, by the caller's transaction, which has written nothing yet. What is decided in it is
        undone at the end: what was written and committed comes back with the next reading."""
        with self._turn:
            # First the rows: a request that has just got its room would otherwise hold some that nobody waits for.
            self._changed |= self._rows.update(now)
            promises = Commitments(now, ledger.open_reservations(), ledger.recent_losses(_LOSSES_SECONDS),
                                ledger.exempt(_EXEMPT_SECONDS))
            world = self._take_in(snapshot, promises, operator)
            with world.trial():
                yield View(world, self._rows, promises.reservations)
            self._growing.has(len(world.vms) + len(world.hosts))

    def _take_in(self, snapshot: Snapshot, promises: Commitments, operator: bool) -> IndexedWorld:
        changed, self._changed = self._changed, set()
        try:
            return self._picture.update(
                self._rows, changed, snapshot.quota, promises, operator=operator,
                came=frozenset(snapshot.watch.came), went=frozenset(snapshot.watch.went))
        except BaseException:       # half of it may have been taken in: begin anew
            self._rows = VmCache()
            self._picture.forget()
            raise
