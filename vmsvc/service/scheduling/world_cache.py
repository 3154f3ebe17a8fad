"""The world of this replica: kept between decisions, and brought up to date for each of them.

Only `at` gives access to it. It equals a world that is built from nothing, of the same rows and the same cloud (the
tests compare the two).
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from vmsvc.cloud.port import Server
from vmsvc.domain.host import Host
from vmsvc.domain.timing import Timing
from vmsvc.scheduling.candidates import Policy
from vmsvc.scheduling.host_index import IndexedWorld
from vmsvc.service.scheduling.request_queue import RequestQueue
from vmsvc.service.scheduling.snapshot import Snapshot
from vmsvc.service.scheduling.world_builder import CloudChanges, Commitments, WorldBuilder
from vmsvc.store import evidence, ledger
from vmsvc.store.models import Reservation
from vmsvc.store.vm_cache import VmCache, VmRow
from vmsvc.tuning import GrowingWorld

_LOSSES_SECONDS = 86400  # for so long an eviction makes the next of its owner's VMs cost more


@dataclass(frozen=True, slots=True)
class View:
    """What a decision rests on: the world, the rows that it was built from, all open reservations, and the queue."""

    world: IndexedWorld
    rows: VmCache[VmRow]
    reservations: Sequence[Reservation]
    queue: RequestQueue


class WorldCache:
    """The world of this replica. Threads wait for each other in `at`."""

    def __init__(self, policy: Policy, timing: Timing):
        self._timing = timing
        self._turn = threading.Lock()
        self._rows = VmCache(VmRow)
        self._changed: set[str] = set()
        self._queue = RequestQueue()
        self._builder = WorldBuilder(policy)
        self.evidence_hours = policy.evidence_hours
        self.max_waiting = policy.max_waiting
        self._growing = GrowingWorld()

    def add_changes(self, servers: Mapping[str, Server | None], hosts: Mapping[str, Host | None]) -> None:
        """Keep what changed in the cloud, as of one moment, for the decisions from now on; None for what has gone. May
        be called at any time."""
        self._builder.add_changes(CloudChanges(servers, hosts))

    @property
    def queued(self) -> int:
        """How many requests wait in the queue, as of the last reading."""
        return len(self._queue.lanes)

    @property
    def queued_traits(self) -> frozenset[str]:
        """The traits that these name."""
        return self._queue.traits

    @property
    def queued_server_groups(self) -> frozenset[str]:
        """The server groups that these name."""
        return self._queue.server_groups

    @contextmanager
    def at(self, snapshot: Snapshot, now: datetime, operator: bool) -> Iterator[View]:
        """The world as the caller's transaction sees it now, in a trial. The transaction must not have written anything
        yet. At the end the world is as before; the next call reads what the transaction has committed."""
        with self._turn:
            # Rows before reservations: a request that has just become ACTIVE would otherwise seem to hold a
            # reservation for which no request waits.
            changed = self._rows.update(now)
            self._changed |= changed
            self._queue.update(self._rows, changed)
            commitments = Commitments(
                now,
                ledger.open_reservations(),
                ledger.recent_losses(_LOSSES_SECONDS),
                ledger.exempt_vms(self._timing.exempt),
                {} if operator else evidence.read(self.evidence_hours),
            )
            world = self._updated(snapshot, commitments, operator)
            with world.trial():
                yield View(world, self._rows, commitments.reservations, self._queue)
            self._growing.has(len(world.vms) + len(world.hosts))

    def _updated(self, snapshot: Snapshot, commitments: Commitments, operator: bool) -> IndexedWorld:
        changed, self._changed = self._changed, set()
        try:
            return self._builder.update(
                self._rows,
                changed,
                snapshot.quota,
                commitments,
                operator=operator,
                added=frozenset(snapshot.watch.added),
                removed=frozenset(snapshot.watch.removed),
                server_groups=snapshot.server_groups,
            )
        except BaseException:  # the world may be half up to date: build it from nothing
            self._rows, self._queue = VmCache(VmRow), RequestQueue()
            self._builder.forget()
            raise
