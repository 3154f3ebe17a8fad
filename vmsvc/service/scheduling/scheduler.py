"""Who gets room, and who has to go for it.

A pass reads the cloud outside any transaction, takes the lock that only one planner holds, joins what it read with
what the database has promised meanwhile, decides for the waiting requests in their order, and commits all of it.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from vmsvc.cloud.cache.host_cache import HostCache
from vmsvc.cloud.cache.server_cache import ServerCache, Watch
from vmsvc.cloud.port import Cloud, Flavor
from vmsvc.domain.errors import CloudUnavailable
from vmsvc.domain.flavors import quota_request, traits_of
from vmsvc.domain.lifecycle import FINAL, State
from vmsvc.domain.request import Precedents, Request
from vmsvc.domain.requirements import requirements_of
from vmsvc.domain.resources import Resources
from vmsvc.scheduling.batching import alike, decide_batch
from vmsvc.scheduling.capacity import capacity_of
from vmsvc.scheduling.decide import decide, review
from vmsvc.scheduling.decisions import Decision, Evict, Place, Postpone, Refuse, Wait
from vmsvc.scheduling.host_index import IndexedWorld
from vmsvc.service.events.listener import heard
from vmsvc.service.runtime import Runtime
from vmsvc.service.scheduling.apply import Lost, apply_decision, drop_orphans, exempt_locked
from vmsvc.service.scheduling.preview import preview
from vmsvc.service.scheduling.queue import Queue, in_order, settling_seconds, waiting_queue
from vmsvc.service.scheduling.snapshot import (
    Doubts,
    Observer,
    Snapshot,
    request_of,
    requirements_in,
    traits_in,
    traits_named,
)
from vmsvc.service.scheduling.verdicts import Verdicts, key_of
from vmsvc.service.scheduling.verification import doubts_of, examined, last_doubts
from vmsvc.service.scheduling.vm_join import Policy
from vmsvc.service.scheduling.world_cache import View, WorldCache
from vmsvc.store import ledger, vms
from vmsvc.store.db import Lock, reading, unit
from vmsvc.store.models import Vm
from vmsvc.store.request_classes import History

log = logging.getLogger(__name__)

_POLL_SECONDS = 5.0        # when nobody waits; the bell wakes it earlier
_VERIFICATIONS = 10        # times that one pass asks Placement anew before it acts
_VERDICT_SECONDS = 0.3     # so old what the cloud said of a request may be when somebody is noticed for it
_PASS_SECONDS = 0.1        # from one pass to the next: who comes in between is decided about together
_WAITING_SECONDS = 1.0     # between passes while somebody waits; what the database tells comes by the bell

T = TypeVar("T")


class Unverified(Exception):
    """The cloud must be asked first; nothing is kept. (doubts)"""


class Unsettled(Exception):
    """Others may come with the same wish, and are to be planned together; nothing is kept. (seconds to wait)"""


class Scheduler:
    """The planner's shell: `run` for real, `preview` for asking first."""

    def __init__(self, runtime: Runtime, cloud: Cloud, server_cache: ServerCache, host_cache: HostCache,
                 verdicts: Verdicts, bell: asyncio.Event, ring, *, grace_seconds: float, policy: Policy,
                 planned: Callable[[float], None] = lambda seconds: None):
        self._runtime = runtime
        self._cloud = cloud
        self._server_cache = server_cache
        self._bell = bell
        self._ring = ring
        self._grace = timedelta(seconds=grace_seconds)
        self._desk = WorldCache(policy)
        self._observer = Observer(cloud, server_cache, host_cache, verdicts, self._desk.tell)
        self._planned = planned
        self._queue: Queue | None = None     # as the last pass that decided found it ...
        self._again_at = 0.0               # ... and when a pass is made though nothing has changed
        #: Requests that wait for room, as of the last pass.
        self.waiting = 0

    async def run(self) -> None:
        """Pass after pass while anybody waits. In operator mode all that there is is read before the first, when nobody
        waits for the lock yet."""
        if self._cloud.mode == "operator":
            await self._verified(self._observer.look, frozenset(), self._prepare)
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            waiting = await self._pass()
            self._runtime.well("scheduler")
            await heard(self._bell, waiting or _POLL_SECONDS)
            if self.waiting:
                await asyncio.sleep(began + _PASS_SECONDS - loop.time())
                self._bell.clear()

    async def _pass(self) -> float:
        """Decide for all who waited before the cloud was read. Seconds to the next pass, 0 when nobody waits."""
        queue = await self._runtime.offload(waiting_queue)
        self.waiting = len(queue.ids)
        left = self._again_at - time.monotonic()
        if not queue.ids or (queue == self._queue and left > 0):
            return left if queue.ids else 0
        try:
            glance = functools.partial(self._observer.glance, hosts=queue.hosts)
            acted, waits, noticed = await self._verified(glance, queue.traits, self._timed, queue.ids)
        except Lost as lost:
            log.info("the plan for %s is made again: %s changed meanwhile", *lost.args)
            return _WAITING_SECONDS
        except Unverified:
            return _WAITING_SECONDS
        self._queue, self._again_at = queue.with_noticed(noticed), time.monotonic() + waits
        if acted:
            self._ring()
        return waits

    async def _verified(self, look: Callable[[Watch, frozenset[str]], Awaitable[Snapshot]], traits: frozenset[str],
                        decided: Callable[..., T], *args: Any, client: str | None = None) -> T:
        """What `decided(*args, snapshot)` returns in the pool, once the cloud was asked all that it has to be, for that
        client if there is one. Raises Unverified when there is no end to that, TooManyRequests for a client."""
        with self._server_cache.watching() as watch:
            snapshot = await look(watch, traits)
            for _ in range(_VERIFICATIONS):
                try:
                    return await self._runtime.offload(decided, *args, snapshot)
                except Unverified as chosen:
                    snapshot = await self._observer.look_again(snapshot, chosen.args[0], client)
                except Unsettled as early:
                    await asyncio.sleep(early.args[0])
                    # What was said of an image or a network before a longer while is asked again.
                    verdicts = snapshot.verdicts if early.args[0] < _VERDICT_SECONDS else {}
                    snapshot = replace(snapshot, settled=True, verdicts=verdicts)
        raise Unverified(Doubts())

    def _timed(self, ids: frozenset[str], snapshot: Snapshot) -> tuple[bool, float, set[str]]:
        started = time.monotonic()
        try:
            return self._decide_all(ids, snapshot)
        finally:
            self._planned(time.monotonic() - started)

    def _decide_all(self, ids: frozenset[str], snapshot: Snapshot) -> tuple[bool, float, set[str]]:
        """Whether anything was done, the seconds to the next pass, and who is to go."""
        acted, early, waits, doubts, noticed = False, False, 0.0, Doubts(), set()
        with unit(Lock.SCHEDULER) as work:
            with self._at(snapshot, work.now) as view:
                world, rows = view.world, view.rows
                acted = drop_orphans(work, world, rows, view.reservations) | exempt_locked(work, world, rows)
                waiting = _waiting(view, ids, snapshot, work.now)
                settling = settling_seconds(work.now, [row for row in rows.in_states(State.PENDING)
                                                       if not row.is_preemptible and row.id not in world.reservations])
                while waiting:
                    for (row, request), decision in _decided(waiting, world, settling):
                        decision = examined(row, decision, view, snapshot.verdicts.get(key_of(row.boot)))
                        doubts |= doubts_of(request, decision, world, snapshot, row.boot)
                        doubts |= last_doubts(row, view, snapshot, work.now)
                        if settling and _needs_victims(decision):
                            early, decision = True, Wait("others may come with the same wish, to be planned together")
                        if not isinstance(decision, Wait):
                            holds = row.id in world.reservations
                            apply_decision(work, row, request, decision, world, self._grace)
                            acted |= holds or not isinstance(decision, Postpone)
                            noticed.update(decision.victims if isinstance(decision, Evict) else ())
                        if not isinstance(decision, (Place, Refuse)):
                            waits = settling if early else _WAITING_SECONDS
                        if isinstance(decision, Refuse) and row.rounds:
                            waiting = _informed(waiting, work.now)
                if doubts:
                    raise Unverified(doubts)
                if early and not acted and not snapshot.settled:
                    raise Unsettled(settling)
        return acted, waits, noticed

    def _prepare(self, snapshot: Snapshot) -> None:
        with reading(), self._at(snapshot, vms.clock()) as view:
            view.world.up_to_date_index(with_bins=True)

    def _at(self, snapshot: Snapshot, now: datetime) -> AbstractContextManager[View]:
        return self._desk.at(snapshot, now, self._cloud.mode == "operator")

    async def preview(self, columns: dict[str, Any], client: str) -> dict[str, Any]:
        """What would be decided for this request of a client now, upon the same news of the cloud as in earnest. Writes
        nothing. Raises TooManyRequests, and what the cloud raises."""
        boot = columns["boot"]
        request = Request("", columns["is_preemptible"], Resources(columns["quota"]), Resources(columns["room"]),
                          availability_zone=boot["availability_zone"], traits=traits_in(boot),
                          requirements=requirements_in(boot), conditions=tuple(boot["conditions"]))
        try:
            return await self._verified(self._observer.look, traits_named(boot), self._foresee, request, boot,
                                        client=client)
        except Unverified:
            raise CloudUnavailable("the cloud's hosts change too quickly to say; try again") from None

    def _foresee(self, request: Request, boot: dict[str, Any], snapshot: Snapshot) -> dict[str, Any]:
        with reading(), self._at(snapshot, vms.clock()) as view:
            world = view.world
            request = replace(request, cooling=ledger.cooling().get((boot["flavor_id"], boot["image_id"]), {}),
                              precedents=History(vms.clock()).precedents("", boot, request.resources))
            key = key_of(boot)
            verdict = snapshot.verdicts.get(key)
            decision = examined(None, decide(request, world), view, verdict, boot)
            doubts = doubts_of(request, decision, world, snapshot)
            if verdict is None:         # in earnest it would be found out by the create, if nobody has to go for it
                doubts |= Doubts(boots={key: boot})
            if doubts:
                raise Unverified(doubts)
            if verdict.unanswered:
                raise CloudUnavailable(f"the cloud does not say whether it takes the request: {verdict.unanswered}")
            if verdict.objection:
                decision = Refuse(verdict.objection.error, verdict.objection.message)
            shown = preview(decision, world.vms, self._grace.total_seconds())
            if isinstance(decision, Place) and not world.operator:
                # The cloud alone knows whether a host has room; what it would cost if none has is known.
                full = examined(None, decide(_refused(request), world), view, verdict, boot)
                shown["if_no_host_has_room"] = preview(full, world.vms, self._grace.total_seconds())
            return shown

    async def capacity(self, flavors: Sequence[Flavor]) -> dict[str, Any]:
        """Room as clients see it."""
        wishes = {flavor.name: Request("", False, quota_request(flavor.vcpus, flavor.ram_mb), flavor.resources,
                                       traits=traits_of(flavor.extra_specs),
                                       requirements=requirements_of(flavor.extra_specs, {})) for flavor in flavors}
        named = {trait for wish in wishes.values() for trait in wish.traits.required | wish.traits.forbidden}

        def of(snapshot: Snapshot) -> dict[str, Any]:
            with reading(), self._at(snapshot, vms.clock()) as view:
                return capacity_of(view.world, wishes)
        return {"mode": self._cloud.mode, **await self._verified(self._observer.look, frozenset(named), of)}


def _waiting(view: View, ids: frozenset[str], snapshot: Snapshot, now: datetime) -> list[tuple[Vm, Request]]:
    """Those who wait, in their order, with all that is known of each."""
    ended = max((row.ended_at for row in view.rows.in_states(*FINAL)), default=None)
    cooling, history = ledger.cooling(), History(now)
    return [(row, request_of(row, now, ended, cooling, _precedents(row, history),
                             snapshot.verdicts.get(key_of(row.boot)))) for row in in_order(view, ids)]


def _informed(waiting: list[tuple[Vm, Request]], now: datetime) -> list[tuple[Vm, Request]]:
    """The same requests, with the precedents read again: one that was refused after its evictions is a
    precedent for its class."""
    history = History(now)
    return [(row, replace(request, precedents=_precedents(row, history))) for row, request in waiting]


def _precedents(row: Vm, history: History) -> Precedents:
    """Only a standard VM can cost anybody anything."""
    return Precedents() if row.is_preemptible else history.precedents(row.id, row.boot, Resources(row.room))


def _needs_victims(decision: Decision) -> bool:
    return isinstance(decision, Evict) and bool(decision.victims)


def _decided(waiting: list[tuple[Vm, Request]], world: IndexedWorld,
             settling: float) -> Iterable[tuple[tuple[Vm, Request], Decision]]:
    """Take the first that wait off the list, with a decision for each: one, or as many equal ones as need victims."""
    first = waiting.pop(0)
    row, request = first
    if request.invalid:
        return [(first, Refuse(request.invalid.error, request.invalid.message))]
    kept = world.reservations.get(row.id)
    decision = review(request, kept, world) if kept else decide(request, world)
    if settling or not _needs_victims(decision):
        return [(first, decision)]
    peers = [] if kept else [one for one in waiting if alike(request, one[1]) and one[0].id not in world.reservations]
    together = peers and decide_batch([request, *(peer for _, peer in peers)], decision.kind, world)
    if not together:
        return [(first, decision)]
    taken = [first, *peers][:len(together)]
    waiting[:] = [one for one in waiting if one not in taken]
    return zip(taken, together)


def _refused(request: Request) -> Request:
    return replace(request, refusal="no_capacity", refusals=1)
