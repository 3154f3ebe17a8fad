"""Who gets room, and who has to go for it.

A pass reads the cloud outside any transaction, takes the lock that only one planner holds, joins what it read with
what the database has promised meanwhile, decides for the waiting requests in their order, and commits all of it.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from vmsvc.cloud.mirror import Mirror
from vmsvc.cloud.port import Cloud, Flavor
from vmsvc.domain import capacity
from vmsvc.domain.errors import CloudUnavailable
from vmsvc.domain.lifecycle import State
from vmsvc.domain.resources import Resources
from vmsvc.domain.scheduling import Decision, Evict, Place, Refuse, Wait, decide, review
from vmsvc.domain.world import HOST, Request
from vmsvc.service.doorbell import heard
from vmsvc.service.placing import Lost, carry_out, drop_orphans
from vmsvc.service.preview import preview
from vmsvc.service.runtime import Runtime
from vmsvc.service.snapshot import Policy, Snapshot, look, look_again, request_of, world_of
from vmsvc.store import ledger, vms
from vmsvc.store.db import Lock, reading, unit

log = logging.getLogger(__name__)

_POLL_SECONDS = 5.0        # when nobody waits; the bell wakes it earlier
_VERIFICATIONS = 10        # hosts that one pass reads anew before it notices somebody
_LOSSES_SECONDS = 86400    # for so long an owner's loss is a cost of taking another of its VMs
_WAITING_SECONDS = 1.0     # between passes while somebody waits; what the database tells comes by the bell


class Unverified(Exception):
    """Victims were chosen on a host whose inventories may be old; nothing is kept. (host)"""


class Scheduler:
    """The planner's shell: `run` for real, `preview` for asking first."""

    def __init__(self, runtime: Runtime, cloud: Cloud, mirror: Mirror, bell: asyncio.Event, ring, *,
                 grace_seconds: float, policy: Policy):
        self._runtime = runtime
        self._cloud = cloud
        self._mirror = mirror
        self._bell = bell
        self._ring = ring
        self._grace = timedelta(seconds=grace_seconds)
        self._policy = policy

    async def run(self) -> None:
        """Pass after pass while anybody waits."""
        while True:
            waiting = await self._pass()
            self._runtime.well("scheduler")
            await heard(self._bell, _WAITING_SECONDS if waiting else _POLL_SECONDS)

    async def _pass(self) -> bool:
        """Decide for all who waited before the cloud was read. True while somebody still waits."""
        ids = await self._runtime.offload(_waiting_ids)
        if not ids:
            return False
        snapshot = await look(self._cloud, self._mirror)
        for _ in range(_VERIFICATIONS):
            try:
                acted, waits = await self._runtime.offload(self._decide_all, ids, snapshot)
            except Lost as lost:
                log.info("the plan for %s is made again: %s changed meanwhile", *lost.args)
                return True
            except Unverified as chosen:
                snapshot = await look_again(self._cloud, self._mirror, snapshot, chosen.args[0])
                continue
            if acted:
                self._ring()
            return waits
        return True

    def _decide_all(self, ids: frozenset[str], snapshot: Snapshot) -> tuple[bool, bool]:
        acted = waits = False
        with unit() as work:
            work.lock(Lock.SCHEDULER)
            rows, reservations = vms.current(), ledger.open_reservations()
            acted = drop_orphans(work, rows, reservations)
            world = self._world(snapshot, rows, reservations, work.now)
            ended = max((row.ended_at for row in rows if row.ended_at), default=None)
            for row in _in_order(rows, ids):
                request = request_of(row, ended)
                kept = world.reservations.get(row.id)
                decision = review(request, kept, world) if kept else decide(request, world)
                _verify(decision, snapshot)
                if not isinstance(decision, Wait):
                    carry_out(work, row, request, decision, world, self._grace)
                    acted = True
                waits = waits or not isinstance(decision, (Place, Refuse))
        return acted, waits

    def _world(self, snapshot: Snapshot, rows, reservations, now):
        return world_of(snapshot, rows, reservations, now=now, operator=self._cloud.mode == "operator",
                        policy=self._policy, lost=ledger.recent_losses(_LOSSES_SECONDS))

    async def preview(self, columns: dict[str, Any]) -> dict[str, Any]:
        """What would be decided for this request now, upon the same news of the cloud as in earnest. Writes
        nothing."""
        snapshot = await look(self._cloud, self._mirror)
        for _ in range(_VERIFICATIONS):
            try:
                return await self._runtime.offload(self._foresee, columns, snapshot)
            except Unverified as chosen:
                snapshot = await look_again(self._cloud, self._mirror, snapshot, chosen.args[0])
        raise CloudUnavailable("the cloud's hosts change too quickly to say; try again")

    def _foresee(self, columns: dict[str, Any], snapshot: Snapshot) -> dict[str, Any]:
        world, names = self._read_world(snapshot)
        request = Request("", columns["is_preemptible"], Resources(columns["quota"]), Resources(columns["room"]),
                          availability_zone=columns["boot"]["availability_zone"])
        decision = decide(request, world)
        _verify(decision, snapshot)
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
        snapshot = await look(self._cloud, self._mirror)
        world, _ = await self._runtime.offload(self._read_world, snapshot)
        return {"mode": self._cloud.mode, **capacity.of(world, {
            flavor.name: (flavor.vcpus, flavor.ram_mb, flavor.disk_gb, flavor.ephemeral_gb, flavor.swap_mb,
                          dict(flavor.extra_specs)) for flavor in flavors})}


def _verify(decision: Decision, snapshot: Snapshot) -> None:
    """Raises Unverified before anybody would be noticed on old news of the host."""
    if isinstance(decision, Evict) and decision.kind == HOST and decision.victims \
            and decision.bin not in snapshot.fresh:
        raise Unverified(decision.bin)


def _waiting_ids() -> frozenset[str]:
    """Requests that wait, and those that hold room; read before the cloud is."""
    with reading():
        waiting = {row.id for row in vms.in_states([State.PENDING])}
        return frozenset(waiting | {kept.vm_id for kept in ledger.open_reservations()}
                         | {row.evicted_for for row in vms.in_states([State.NOTICED])})


def _in_order(rows, ids: frozenset[str]) -> list:
    """Standard before preemptible, then by age."""
    waiting = [row for row in rows if row.state == State.PENDING and row.id in ids]
    return sorted(waiting, key=lambda row: (row.is_preemptible, row.created_at, row.id))


def _refused(request: Request) -> Request:
    return Request(request.id, request.is_preemptible, request.quota, request.room,
                   availability_zone=request.availability_zone, refusal="no_capacity", refusals=1)
