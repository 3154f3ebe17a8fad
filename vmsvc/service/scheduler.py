"""Who gets room, and who has to go for it.

A pass reads the cloud outside any transaction, takes the lock that only one planner holds, joins what it read with
what the database has promised meanwhile, decides for the waiting requests in their order, and commits all of it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from vmsvc.cloud.fleet import Fleet
from vmsvc.cloud.mirror import Mirror
from vmsvc.cloud.port import Cloud, Flavor
from vmsvc.domain import capacity
from vmsvc.domain.batching import alike, decide_batch
from vmsvc.domain.decisions import Decision, Evict, Place, Postpone, Refuse, Wait
from vmsvc.domain.errors import CloudUnavailable
from vmsvc.domain.flavors import quota_request, traits_of
from vmsvc.domain.lifecycle import State
from vmsvc.domain.resources import Resources
from vmsvc.domain.scheduling import decide, review
from vmsvc.domain.world import Request, World, host_room
from vmsvc.service.doorbell import heard
from vmsvc.service.placing import Lost, carry_out, drop_orphans
from vmsvc.service.preview import preview
from vmsvc.service.runtime import Runtime
from vmsvc.service.snapshot import Policy, Snapshot, look, look_again, request_of, traits_in, world_of
from vmsvc.store import ledger, vms
from vmsvc.store.db import Lock, reading, unit
from vmsvc.store.models import Vm

log = logging.getLogger(__name__)

_POLL_SECONDS = 5.0        # when nobody waits; the bell wakes it earlier
_VERIFICATIONS = 10        # hosts that one pass reads anew before it notices somebody
_LOSSES_SECONDS = 86400    # for so long an owner's loss is a cost of taking another of its VMs
_UNTOLD_SECONDS = 300      # for so long a VM is left alone whose guest could not be told of its eviction
_SETTLE_SECONDS = 0.15     # without a new standard request, before somebody is evicted
_SETTLE_LIMIT = 1.0
_WAITING_SECONDS = 1.0     # between passes while somebody waits; what the database tells comes by the bell


class Unverified(Exception):
    """Hosts were chosen that Placement must be asked about first; nothing is kept. (names)"""


class Scheduler:
    """The planner's shell: `run` for real, `preview` for asking first."""

    def __init__(self, runtime: Runtime, cloud: Cloud, mirror: Mirror, fleet: Fleet, bell: asyncio.Event, ring, *,
                 grace_seconds: float, policy: Policy, planned: Callable[[float], None] = lambda seconds: None):
        self._runtime = runtime
        self._cloud = cloud
        self._mirror = mirror
        self._fleet = fleet
        self._bell = bell
        self._ring = ring
        self._grace = timedelta(seconds=grace_seconds)
        self._policy = policy
        self._planned = planned
        #: Requests that wait for room, as of the last pass.
        self.waiting = 0

    async def run(self) -> None:
        """Pass after pass while anybody waits."""
        while True:
            waiting = await self._pass()
            self._runtime.well("scheduler")
            await heard(self._bell, waiting or _POLL_SECONDS)

    async def _pass(self) -> float:
        """Decide for all who waited before the cloud was read. Seconds to the next pass, 0 when nobody waits."""
        ids, traits = await self._runtime.offload(_waiting)
        self.waiting = len(ids)
        if not ids:
            return 0
        snapshot = await look(self._cloud, self._mirror, self._fleet, traits)
        for _ in range(_VERIFICATIONS):
            try:
                acted, waits = await self._runtime.offload(self._timed, ids, snapshot)
            except Lost as lost:
                log.info("the plan for %s is made again: %s changed meanwhile", *lost.args)
                return _WAITING_SECONDS
            except Unverified as chosen:
                snapshot = await look_again(self._mirror, self._fleet, snapshot, chosen.args[0])
                continue
            if acted:
                self._ring()
            return waits
        return _WAITING_SECONDS

    def _timed(self, ids: frozenset[str], snapshot: Snapshot) -> tuple[bool, float]:
        started = time.monotonic()
        try:
            return self._decide_all(ids, snapshot)
        finally:
            self._planned(time.monotonic() - started)

    def _decide_all(self, ids: frozenset[str], snapshot: Snapshot) -> tuple[bool, float]:
        acted, waits, unsure = False, 0.0, set()
        with unit() as work:
            work.lock(Lock.SCHEDULER)
            rows, reservations = vms.current(), ledger.open_reservations()
            acted = drop_orphans(work, rows, reservations)
            world = self._world(snapshot, rows, reservations, work.now)
            ended = max((row.ended_at for row in rows if row.ended_at), default=None)
            cooling = ledger.cooling()
            waiting = [(row, request_of(row, work.now, ended, cooling)) for row in _in_order(rows, ids)]
            settled = _settled(work.now, [row for row in rows if row.state == State.PENDING and not row.is_preemptible
                                          and row.id not in world.reservations])
            while waiting:
                for (row, request), decision in _decided(waiting, world, settled):
                    unsure |= _unsure(request, decision, world, snapshot)
                    if not isinstance(decision, Wait):
                        holds = row.id in world.reservations
                        carry_out(work, row, request, decision, world, self._grace)
                        acted |= holds or not isinstance(decision, Postpone)
                    if not isinstance(decision, (Place, Refuse)):
                        waits = _WAITING_SECONDS if settled else _SETTLE_SECONDS
            if unsure:
                raise Unverified(unsure)
        return acted, waits

    def _world(self, snapshot: Snapshot, rows, reservations, now):
        return world_of(snapshot, rows, reservations, now=now, operator=self._cloud.mode == "operator",
                        policy=self._policy, lost=ledger.recent_losses(_LOSSES_SECONDS),
                        untold=ledger.untold(_UNTOLD_SECONDS))

    async def preview(self, columns: dict[str, Any]) -> dict[str, Any]:
        """What would be decided for this request now, upon the same news of the cloud as in earnest. Writes
        nothing."""
        traits = traits_in(columns["boot"])
        request = Request("", columns["is_preemptible"], Resources(columns["quota"]), Resources(columns["room"]),
                          availability_zone=columns["boot"]["availability_zone"], traits=traits)
        snapshot = await look(self._cloud, self._mirror, self._fleet, traits.required | traits.forbidden)
        for _ in range(_VERIFICATIONS):
            try:
                return await self._runtime.offload(self._foresee, request, columns["boot"], snapshot)
            except Unverified as chosen:
                snapshot = await look_again(self._mirror, self._fleet, snapshot, chosen.args[0])
        raise CloudUnavailable("the cloud's hosts change too quickly to say; try again")

    def _foresee(self, request: Request, boot: dict[str, Any], snapshot: Snapshot) -> dict[str, Any]:
        world, names = self._read_world(snapshot)
        with reading():
            cooling = ledger.cooling().get((boot["flavor_id"], boot["image_id"]), {})
        request = replace(request, cooling=cooling)
        decision = decide(request, world)
        if unsure := _unsure(request, decision, world, snapshot):
            raise Unverified(unsure)
        shown = preview(decision, names, self._grace.total_seconds())
        if isinstance(decision, Place) and not world.operator:
            # The cloud alone knows whether a host has room; what it would cost if none has is known.
            full = decide(_refused(request), world)
            shown["if_no_host_has_room"] = preview(full, names, self._grace.total_seconds())
        return shown

    def _read_world(self, snapshot: Snapshot):
        with reading():
            rows = vms.current()
            names = {row.id: row.cloud_id or row.id for row in rows}
            return self._world(snapshot, rows, ledger.open_reservations(), vms.clock()), names

    async def capacity(self, flavors: Sequence[Flavor]) -> dict[str, Any]:
        """Room as clients see it."""
        wishes = {flavor.name: Request("", False, quota_request(flavor.vcpus, flavor.ram_mb), flavor.room,
                                       traits=traits_of(flavor.extra_specs)) for flavor in flavors}
        named = {trait for wish in wishes.values() for trait in wish.traits.required | wish.traits.forbidden}
        snapshot = await look(self._cloud, self._mirror, self._fleet, named)

        def of() -> dict[str, Any]:
            return capacity.of(self._read_world(snapshot)[0], wishes)
        return {"mode": self._cloud.mode, **await self._runtime.offload(of)}


def _decided(waiting: list[tuple[Vm, Request]], world: World,
             settled: bool) -> Iterable[tuple[tuple[Vm, Request], Decision]]:
    """Take the first that wait off the list, with a decision for each: one, or as many equal ones as need victims."""
    first = waiting.pop(0)
    row, request = first
    kept = world.reservations.get(row.id)
    decision = review(request, kept, world) if kept else decide(request, world)
    if not isinstance(decision, Evict) or not decision.victims:
        return [(first, decision)]
    if not settled:
        return [(first, Wait("others may come with the same wish: they are planned together"))]
    peers = [] if kept else [one for one in waiting if alike(request, one[1]) and one[0].id not in world.reservations]
    together = peers and decide_batch([request, *(peer for _, peer in peers)], decision.kind, world)
    if not together:
        return [(first, decision)]
    taken = [first, *peers][:len(together)]
    waiting[:] = [one for one in waiting if one not in taken]
    return zip(taken, together)


def _settled(now: datetime, rows: Sequence[Vm]) -> bool:
    """True unless a burst of standard requests seems to be still coming in, or coming back refused: then evictions
    wait a moment, for a plan for all of them together costs fewer victims than plans one by one. `rows` includes
    those that came after the cloud was read."""
    ages = [(now - row.updated_at).total_seconds() for row in rows]
    return not ages or min(ages) >= _SETTLE_SECONDS or max(ages) >= _SETTLE_LIMIT


def _unsure(request: Request, decision: Decision, world: World, snapshot: Snapshot) -> set[str]:
    """The host that Placement has to be asked about before this is done: always before anybody is noticed, and before
    a boot when the host is doubted or is nearly full by our reckoning."""
    match decision:
        case Evict(kind="host", bin=host, victims=victims) if victims:
            doubtful = True
        case Place(host=str() as host):
            left = host_room(world, world.hosts[host], request).now - request.room
            doubtful = host in snapshot.doubted or not left.covers(request.room)
        case _:
            return set()
    return {host} if doubtful and host not in snapshot.fresh else set()


def _waiting() -> tuple[frozenset[str], frozenset[str]]:
    """Requests that wait, and those that hold room; read before the cloud is. And the traits that they name."""
    with reading():
        waiting = vms.in_states([State.PENDING])
        ids = ({row.id for row in waiting} | {kept.vm_id for kept in ledger.open_reservations()}
               | {row.evicted_for for row in vms.in_states([State.NOTICED])})
    asked = [traits_in(row.boot) for row in waiting]
    return frozenset(ids), frozenset(trait for traits in asked for trait in traits.required | traits.forbidden)


def _in_order(rows, ids: frozenset[str]) -> list:
    """Standard before preemptible, then by age."""
    waiting = [row for row in rows if row.state == State.PENDING and row.id in ids]
    return sorted(waiting, key=lambda row: (row.is_preemptible, row.created_at, row.id))


def _refused(request: Request) -> Request:
    return Request(request.id, request.is_preemptible, request.quota, request.room,
                   availability_zone=request.availability_zone, traits=request.traits, refusal="no_capacity",
                   refusals=1)
