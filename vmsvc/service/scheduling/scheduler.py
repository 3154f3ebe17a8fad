"""The scheduler: which requests get capacity, and which VMs are evicted for them.

A pass takes the queue and a snapshot of the cloud. In one transaction, under the lock that only one scheduler holds, it
brings the world up to date with what the database has promised meanwhile, decides for the waiting requests
(`vmsvc.scheduling.decide_all`, pure), and writes the decisions (`apply`). Where a decision rests on what the cloud was
not asked yet, nothing is written: the cloud is asked outside the transaction, and the pass decides again.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from vmsvc.cloud.cache.server_cache import ServerCache, Watch
from vmsvc.cloud.port import Cloud
from vmsvc.domain.errors import CloudUnavailable
from vmsvc.domain.events import instant
from vmsvc.domain.flavors import Flavor, quota_request, traits_of
from vmsvc.domain.request import Request, Waits, requirements_in, rules_in, traits_in, traits_named
from vmsvc.domain.requirements import requirements_of
from vmsvc.domain.resources import Resources
from vmsvc.domain.timing import Timing
from vmsvc.scheduling.capacity import capacity_of
from vmsvc.scheduling.decide_all import (
    Commit,
    Plan,
    Settle,
    Verify,
    decide_alike,
    decide_all,
    or_queued,
    with_precedents,
)
from vmsvc.scheduling.decisions import Decision, Place, Queued, Refuse
from vmsvc.scheduling.restarts import SteadyCapacity
from vmsvc.scheduling.verification import Verification, WaitingRequest, by_verdict
from vmsvc.service.events.listener import wait_for_wakeup
from vmsvc.service.runtime import Runtime
from vmsvc.service.scheduling.apply import ChangedMeanwhile, apply, clean_up, find_stale_commitments
from vmsvc.service.scheduling.pending_work import PendingWork, pending_work
from vmsvc.service.scheduling.preview import preview_all
from vmsvc.service.scheduling.requests import (
    before_in_queue,
    guard_of,
    is_paused,
    knowledge_of,
    networks_of,
    rows_of,
    turns_of,
    waiting_requests,
)
from vmsvc.service.scheduling.snapshot import Snapshot, Snapshots
from vmsvc.service.scheduling.verdicts import key_of
from vmsvc.service.scheduling.world_cache import View, WorldCache
from vmsvc.store import ledger, request_classes, vms, waiting
from vmsvc.store.db import Lock, reading, unit
from vmsvc.store.models import Vm

log = logging.getLogger(__name__)

_POLL_SECONDS = 5.0  # between passes when no request waits; a notification starts one earlier
_VERIFICATIONS = 10  # how often one pass decides before it gives up: each time the cloud has been asked for more
_VERDICT_SECONDS = 0.3  # how old a verdict may be when a VM is noticed for the request
_PASS_SECONDS = 0.1  # from one pass to the next: requests that come in between are decided about together
_AT_ONCE = 0.001  # the seconds to a pass for requests that the last one did not decide about

T = TypeVar("T")


class Observers(NamedTuple):
    """Who is told of passes. `planned`: the seconds that a pass took. `decided`, for each decision that was applied:
    the id of the client's request, of its VM, what was decided, how many VMs were noticed, the seconds of the pass."""

    planned: Callable[[float], None] = lambda seconds: None
    decided: Callable[[str | None, str, str, int, float], None] = lambda *decision: None


class Scheduler:
    """`run` makes pass after pass; `preview` says what would be decided; `capacity` is what people see."""

    def __init__(
        self,
        runtime: Runtime,
        cloud: Cloud,
        server_cache: ServerCache,
        world_cache: WorldCache,
        snapshots: Snapshots,
        wakeup: asyncio.Event,
        wake: Callable[[], None],
        timing: Timing,
        *,
        grace_seconds: float,
        observers: Observers = Observers(),
    ):
        self._runtime = runtime
        self._cloud = cloud
        self._server_cache = server_cache
        self._wakeup = wakeup
        self._wake = wake
        self._timing = timing
        self._grace = timedelta(seconds=grace_seconds)
        self._world_cache = world_cache
        self._snapshots = snapshots
        self._observers = observers
        self.max_waiting = world_cache.max_waiting  # requests of one owner in the queue
        self._steady = SteadyCapacity()
        self._decided: PendingWork | None = None  # as the last pass that decided found it ...
        self._again_at = 0.0  # ... and when a pass is made though nothing has changed
        #: Requests that wait for capacity, as of the last pass.
        self.waiting = 0

    async def run(self) -> None:
        """Make a pass whenever something has changed, and from time to time while a request waits. In operator mode the
        whole cloud is read before the first pass, while no other replica waits for the lock."""
        if self._cloud.mode == "operator":
            await self._read(frozenset(), self._prepare)
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            seconds = await self._pass()
            self._runtime.mark_ready("scheduler")
            await wait_for_wakeup(self._wakeup, seconds or _POLL_SECONDS)
            if self.waiting:
                await asyncio.sleep(began + _PASS_SECONDS - loop.time())
                self._wakeup.clear()

    async def _pass(self) -> float:
        """Decide for all requests that waited before the cloud was read. Returns the seconds to the next pass, 0 when
        no request waits."""
        pending = await self._runtime.offload(pending_work)
        self.waiting = len(pending.ids) + (self._world_cache.queued if pending.queued else 0)
        left = self._again_at - time.monotonic()
        if not pending or (pending == self._decided and left > 0):
            return left if pending else 0
        take = functools.partial(self._snapshots.quick_snapshot, hosts=pending.hosts)
        named = (
            pending.traits | self._world_cache.queued_traits,
            pending.server_groups | self._world_cache.queued_server_groups,
        )
        try:
            done = await self._verified(take, named, self._decide_and_apply, pending.ids)
        except ChangedMeanwhile as changed:
            log.info("the plan for %s is made again: %s changed meanwhile", *changed.args)
            return self._timing.pass_while_waiting
        if not isinstance(done, Commit):
            return self._timing.pass_while_waiting
        self._decided, self._again_at = pending.with_noticed(done.noticed), time.monotonic() + done.wait
        if done.acts:
            self._wake()
        return _AT_ONCE if done.again else done.wait

    async def _verified(
        self,
        take: Callable[[Watch, frozenset[str], frozenset[str]], Awaitable[Snapshot]],
        named: tuple[frozenset[str], frozenset[str]],
        decided: Callable[..., T | Verify | Settle],
        *args: Any,
        client: str | None = None,
    ) -> T | Verify | Settle:
        """Take a snapshot, with the traits and the server groups that are `named`, and call `decided(*args, snapshot)`
        in the pool. Where that returns a Verify or a Settle, ask the cloud (on the budget of `client`, if there is one)
        or wait, and call it again, at most _VERIFICATIONS times. Returns what the last call returned. Raises what the
        cloud raises, and TooManyRequests for a client."""
        with self._server_cache.watching() as watch:
            snapshot = await take(watch, *named)
            for _ in range(_VERIFICATIONS):
                found = await self._runtime.offload(decided, *args, snapshot)
                match found:
                    case Verify(what=what):
                        snapshot = await self._snapshots.verify(snapshot, what, client)
                    case Settle(seconds=seconds):
                        await asyncio.sleep(seconds)
                        snapshot = _settled(snapshot, seconds)
                    case _:
                        return found
        return found

    async def _read(self, traits: frozenset[str], function: Callable[[Snapshot], T]) -> T:
        """Take a full snapshot, and return what the function returns for it in the pool."""
        with self._server_cache.watching() as watch:
            return await self._runtime.offload(function, await self._snapshots.full_snapshot(watch, traits))

    def _decide_and_apply(self, ids: frozenset[str], snapshot: Snapshot) -> Plan:
        """Decide for these requests and, if nothing is left to verify, apply the decisions. Returns the plan. Raises
        ChangedMeanwhile."""
        started, cleaned_up = time.monotonic(), False
        try:
            while (found := self._in_one_transaction(ids, snapshot)) is None:
                cleaned_up = True
            plan, rows = found
            if not isinstance(plan, Commit):
                return plan
            for change in plan.changes:
                request_id = rows[change.request_id].boot.get("request_id")
                decision, seconds = type(change.decision).__name__.lower(), time.monotonic() - started
                self._observers.decided(request_id, change.request_id, decision, len(change.notices), seconds)
            return replace(plan, acts=plan.acts or cleaned_up)
        finally:
            self._observers.planned(time.monotonic() - started)

    def _in_one_transaction(self, ids: frozenset[str], snapshot: Snapshot) -> tuple[Plan, Mapping[str, Vm]] | None:
        """Read the world, decide, and write what was decided, all under the lock. Returns the plan and, by id, the rows
        of the requests that it changed; None when earlier decisions had left something behind: then only that was
        cleaned up, and the rows have to be read again."""
        with unit(Lock.SCHEDULER) as work, self._at(snapshot, work.now) as view:
            if stale := find_stale_commitments(view):
                clean_up(work, stale)
                return None
            turns = turns_of(view, ids, snapshot.began, work.now)
            guard = guard_of(turns, self._steady, self._timing)
            knowledge = knowledge_of(turns, view, snapshot, work.now, self._timing, self.max_waiting, guard)
            plan = decide_all(waiting_requests(turns, view, knowledge), view.world, knowledge)
            if isinstance(plan, Settle) and _more_wait(view, ids, work.now):
                return Commit((), False, plan.seconds), {}  # the next pass plans for them too
            if not isinstance(plan, Commit):
                return plan, {}
            rows = rows_of(plan, turns)
            positions = view.queue.positions(plan, rows, work.now)
            apply(work, plan, rows, self._grace, self._world_cache.evidence_hours, positions)
            return plan, rows

    def _prepare(self, snapshot: Snapshot) -> None:
        with reading(), self._at(snapshot, vms.clock()) as view:
            view.world.up_to_date_index(with_bins=True)

    def _at(self, snapshot: Snapshot, now: datetime) -> AbstractContextManager[View]:
        return self._world_cache.at(snapshot, now, self._cloud.mode == "operator")

    async def preview(
        self, columns: dict[str, Any], client: str, owner: str = "", waits: Waits = Waits(), count: int = 1
    ) -> dict[str, Any]:
        """What would be decided now for `count` requests like this one of a client, from the same facts of the cloud as
        for real ones; `owner`: the id of the principal. Writes nothing. Raises TooManyRequests, and what the cloud
        raises."""
        boot = columns["boot"]
        request = Request(
            "",
            columns["is_preemptible"],
            Resources(columns["quota"]),
            Resources(columns["room"]),
            availability_zone=boot["availability_zone"],
            traits=traits_in(boot),
            requirements=requirements_in(boot),
            conditions=tuple(boot["conditions"]),
            owner=owner,
            priority=columns["priority"],
            may_wait=waits.seconds > 0,
            patient=waits.patience > 0,
            **rules_in(boot),
        )
        found = await self._verified(
            self._snapshots.full_snapshot,
            (traits_named(boot), frozenset(filter(None, [request.server_group]))),
            self._foresee,
            WaitingRequest(request, boot, key_of(boot)),
            count,
            client=client,
        )
        if not isinstance(found, dict):
            raise CloudUnavailable("the cloud's hosts change too quickly to say; try again")
        return found

    def _foresee(self, waits: WaitingRequest, count: int, snapshot: Snapshot) -> dict[str, Any] | Verify:
        """The preview of so many requests like this one, or what has to be verified first."""
        with reading(), self._at(snapshot, vms.clock()) as view:
            request, decided, ahead = self._decider(waits, snapshot, view)
            world, verdict = view.world, snapshot.verified.verdicts.get(waits.key)

            def alike(request: Request) -> tuple[list[Decision], Verification]:
                return decide_alike(request, count, world, snapshot.verified, decided)

            decisions, what = alike(request)
            refused = isinstance(decisions[0], (Refuse, Queued))  # in earnest Nova is not asked about it either
            if verdict is None and not refused:  # in earnest the create would show it, if no VM is evicted
                return Verify(what | Verification(boots={waits.key: waits.boot}))
            if what:
                return Verify(what)
            if verdict and verdict.unanswered and not refused:
                raise CloudUnavailable(f"the cloud does not say whether it takes the request: {verdict.unanswered}")
            if verdict and verdict.objection and not refused:
                decisions = [Refuse(verdict.objection.error, verdict.objection.message)] * count
            shown = functools.partial(
                preview_all, vms=world.vms, grace_seconds=self._grace.total_seconds(), ahead=ahead
            )
            answer = shown(decisions)
            if isinstance(decisions[0], Place) and not world.operator:
                # The cloud alone knows whether a host has the capacity; what it would cost if none has is known.
                answer["if_no_host_has_room"] = shown(alike(if_refused(request))[0])
            return answer

    def _decider(
        self, waits: WaitingRequest, snapshot: Snapshot, view: View
    ) -> tuple[Request, Callable[[Request], Decision], int]:
        """The request as it is decided about now, what decides about it and requests like it, and how many the queue
        has before it."""
        world, boot, now = view.world, waits.boot, vms.clock()
        cooling = ledger.cooldowns().get((boot["flavor_id"], boot["image_id"]), {})
        request = replace(waits.request, cooling=cooling, came=now.timestamp())
        waits = with_precedents(replace(waits, request=request), request_classes.history(now, [request.conditions]))
        verdict = snapshot.verified.verdicts.get(waits.key)
        networks = networks_of([boot] if verdict else [], snapshot.verified, view)
        turn, ahead, overtaken = before_in_queue(waits.request, view, now)

        def decided(request: Request) -> Decision:
            found = by_verdict(waits, overtaken.decide(request, turn, world), world, verdict, networks)
            return or_queued(request, found, queued=view.queue.lanes.of_owner, most=self.max_waiting)

        return waits.request, decided, ahead

    async def capacity(self, flavors: Sequence[Flavor]) -> dict[str, Any]:
        """The capacity as clients see it."""
        requests = {
            flavor.name: Request(
                "",
                False,
                quota_request(flavor.vcpus, flavor.ram_mb),
                flavor.resources,
                traits=traits_of(flavor.extra_specs),
                requirements=requirements_of(flavor.extra_specs, {}),
            )
            for flavor in flavors
        }
        named = {trait for one in requests.values() for trait in one.traits.required | one.traits.forbidden}

        def of(snapshot: Snapshot) -> dict[str, Any]:
            with reading(), self._at(snapshot, vms.clock()) as view:
                count, vcpus, oldest = waiting.totals()
                queue = {"count": count, "vcpus": vcpus, "oldest": instant(oldest)}
                return {**capacity_of(view.world, requests), "waiting": queue}

        return {"mode": self._cloud.mode, **await self._read(frozenset(named), of)}


def _more_wait(view: View, ids: frozenset[str], now: datetime) -> bool:
    """True when requests that a plan can be for have come, or come back refused, since this pass read the queue."""
    more = map(view.rows.__getitem__, view.queue.undecided - ids)
    return any(not row.is_preemptible and not is_paused(row, now) for row in more)


def _settled(snapshot: Snapshot, seconds: float) -> Snapshot:
    """The snapshot after a wait of so many seconds. After _VERDICT_SECONDS it has no verdicts: they are too old."""
    verified = snapshot.verified if seconds < _VERDICT_SECONDS else replace(snapshot.verified, verdicts={})
    return replace(snapshot, settled=True, verified=verified)


def if_refused(request: Request) -> Request:
    """The request as it would be if the cloud had refused it for lack of capacity."""
    return replace(request, refusal="no_capacity", refusals=1)
