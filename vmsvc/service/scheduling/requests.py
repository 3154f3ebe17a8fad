"""The requests that wait, read in the transaction that decides, and what is known of requests like them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

from vmsvc.domain.acceptance import Verdict
from vmsvc.domain.boot_options import new_ports
from vmsvc.domain.lifecycle import FINAL, State
from vmsvc.domain.request import Precedents, Request, requirements_in, rules_in, traits_in
from vmsvc.domain.resources import Resources
from vmsvc.domain.timing import Timing
from vmsvc.scheduling.decide_all import Commit, Knowledge, with_precedents
from vmsvc.scheduling.overtaking import Overtaken
from vmsvc.scheduling.queue_order import OVERTAKEN_SECONDS, Offer, QueueEntry, QueueKey, queue_key
from vmsvc.scheduling.restarts import RESTART_SPAN_SECONDS, RestartGuard, SteadyCapacity
from vmsvc.scheduling.verification import Networks, Verified, WaitingRequest
from vmsvc.scheduling.world import HOST
from vmsvc.service.scheduling.request_queue import Refused, entry_of, owner_of, place_of, refused
from vmsvc.service.scheduling.snapshot import Snapshot
from vmsvc.service.scheduling.verdicts import key_of
from vmsvc.service.scheduling.world_cache import View
from vmsvc.store import ledger, lineages, request_classes, vms
from vmsvc.store.models import Vm
from vmsvc.store.vm_cache import VmRow
from vmsvc.store.waiting import QueuedRow, refused_requests

#: Evictions wait for further requests at most so many seconds after the oldest came.
_SETTLE_LIMIT = 1.0

#: (flavor id, image id) -> the hosts that refused such VMs lately, and what the cloud said.
Cooling = Mapping[tuple[str, str], Mapping[str, str]]


class Turn(NamedTuple):
    """A request that a pass decides about: its row, its place in the queue's order, and, of a request in the queue,
    what the pass was offered."""

    row: Vm | QueuedRow
    key: QueueKey
    offer: Offer | None


def turns_of(view: View, ids: Collection[str], began: float, now: datetime) -> list[Turn]:
    """The requests of a pass, in the queue's order: those with these ids that are not in the queue and still wait, and
    the first ones of the queue. `began`: when the reading of the cloud began, time.monotonic().

    A request that the cloud refused may have come back since then. This pass cannot decide about it, so none of the
    queue behind it gets a turn: the next pass begins at once, and keeps the order."""
    queue = view.queue
    hot, missed = queue.undecided.intersection(ids), queue.undecided.difference(ids)
    undecided = [row for row in vms.of_ids(hot) if row.state == State.PENDING and row.queued_why is None] if hot else []
    returned: list[Vm | QueuedRow] = [*refused_requests(missed)] if missed else []
    shares = queue.shares(now, {owner_of(row) for row in (*undecided, *returned)})
    offers = queue.offers(shares)
    returned += [row for row, _, known_since in offers if known_since >= began and row.refusal]
    first_returned = min((queue_key(entry_of(row), shares) for row in returned), default=None)
    turns = [Turn(row, queue_key(entry_of(row), shares), None) for row in undecided]
    for row, offer, known_since in offers:
        key = queue_key(entry_of(row), shares)
        if known_since < began and (first_returned is None or key < first_returned):
            turns.append(Turn(row, key, offer))
    return sorted(turns, key=lambda turn: turn.key)


def before_in_queue(request: Request, view: View, now: datetime) -> tuple[QueueKey, int, Overtaken]:
    """The place of a request in the queue's order, how many requests of the queue would come before it, and those of
    them that may not be overtaken."""
    queue = view.queue
    entry = QueueEntry(request.id, request.is_preemptible, request.priority, request.owner, request.came)
    shares = queue.shares(now, {request.owner})
    overtaken, key = Overtaken(queue.overdue_at(now, shares)), queue_key(entry, shares)
    for row, offer, _ in queue.offers(shares):
        overtaken.add(request_of(row, now, None), offer.shape, False)
    return key, queue.lanes.ahead(key, shares), overtaken


def rows_of(plan: Commit, turns: Sequence[Turn]) -> dict[str, Vm]:
    """By id, the whole rows of the requests that the plan changes."""
    rows = {turn.row.id: turn.row for turn in turns if isinstance(turn.row, Vm)}
    queued = [change.request_id for change in plan.changes if change.request_id not in rows]
    rows.update((row.id, row) for row in (vms.of_ids(queued) if queued else ()))
    return rows


def is_overdue(row: Vm | QueuedRow, now: datetime) -> bool:
    """True when a request waits for longer than it may be overtaken."""
    may_wait = row.wait_until is not None and row.wait_until > now
    return may_wait and now - row.created_at >= timedelta(seconds=OVERTAKEN_SECONDS)


def waiting_requests(turns: Sequence[Turn], view: View, knowledge: Knowledge) -> list[WaitingRequest]:
    """These requests as the decisions see them."""
    ended = max((row.ended_at for row in view.rows.in_states(*FINAL) if row.ended_at and row.cloud_id), default=None)
    refusals = {} if view.world.operator else view.queue.refusals(turn.row for turn in turns)
    cooling = ledger.cooldowns()
    tried = [turn.row.id for turn in turns if turn.row.refusal and turn.row.rounds]
    had_victims = ledger.with_victims(tried) if tried else frozenset()
    found = []
    for row, turn, offer in turns:
        key = key_of(row.boot)
        ends = [view.rows[vm.id].evict_at for vm in view.world.victims_of(row.id, State.NOTICED)]
        request = request_of(
            row,
            knowledge.now,
            ended,
            cooling,
            verdict=knowledge.verified.verdicts.get(key),
            like=refusals.get(place_of(row)),
            try_again=knowledge.timing.try_again,
        )
        if host := knowledge.guard.freed_for_others.get(row.id):
            request = replace(request, avoid=request.avoid | {host})
        found.append(
            with_precedents(
                WaitingRequest(
                    request,
                    row.boot,
                    key,
                    min(filter(None, ends), default=None),
                    row.id in had_victims,
                    turn,
                    offer and offer.shape,
                    offer is None and is_overdue(row, knowledge.now),
                    offer is not None and offer.more_behind,
                ),
                knowledge.history,
            )
        )
    return found


def guard_of(turns: Sequence[Turn], steady: SteadyCapacity, timing: Timing) -> RestartGuard:
    """What a pass that decides for these requests has to know of restarts. A tenant cannot tell the capacity of a
    preemptor from other capacity, so its victims' successors wait for it."""
    successors = [turn.row.id for turn in turns if turn.row.attempt]
    if not successors:
        return RestartGuard(steady)
    before = lineages.waiting_preemptors(successors)
    return RestartGuard(
        steady,
        {owner: len(moments) for owner, moments in lineages.restarted_within(RESTART_SPAN_SECONDS).items()},
        frozenset(row_id for row_id, (kind, _) in before.items() if kind != HOST),
        timing.steady_capacity,
        timing.restarts_a_minute,
        freed_for_others={row_id: name for row_id, (kind, name) in before.items() if kind == HOST},
    )


def knowledge_of(
    turns: Sequence[Turn],
    view: View,
    snapshot: Snapshot,
    now: datetime,
    timing: Timing,
    most_waiting: int,
    guard: RestartGuard,
) -> Knowledge:
    """What a pass that decides for these requests has to know besides the world."""
    verified = snapshot.verified
    rows = [turn.row for turn in turns]
    history = request_classes.history(now, [tuple(row.boot.get("conditions", ())) for row in rows])
    settling = settling_seconds(
        now,
        [
            row
            for row in map(view.rows.__getitem__, view.queue.undecided)
            if not row.is_preemptible and row.id not in view.world.reservations and not is_paused(row, now)
        ],
        timing.settle,
    )
    networks = networks_of(
        [row.boot for row in rows if key_of(row.boot) in verified.verdicts], verified, view, [row.id for row in rows]
    )
    return Knowledge(
        now,
        verified,
        history,
        networks,
        settling,
        snapshot.settled,
        timing,
        view.queue.lanes.of_owner,
        most_waiting,
        view.queue.overdue_at(now, view.queue.shares(now, {owner_of(row) for row in rows})),
        guard,
    )


def is_paused(row: VmRow, now: datetime) -> bool:
    """True for a successor during the pause before its start: no pass decides about it."""
    return row.not_before is not None and row.not_before > now


def settling_seconds(now: datetime, rows: Sequence[VmRow], settle: float) -> float:
    """Seconds for which evictions wait, because more standard requests may be coming in, or coming back refused: a plan
    for all of them together costs fewer victims than a plan for each. `rows` includes those that came after the cloud
    was read."""
    ages = [(now - row.updated_at).total_seconds() for row in rows]
    return max(0.0, settle - min(ages)) if ages and max(ages) < _SETTLE_LIMIT else 0.0


def networks_of(
    boots: Sequence[Mapping[str, Any]], verified: Verified, view: View, waiting: Sequence[str] = ()
) -> Networks:
    """What is known of the networks of requests with these boots, about which the cloud was asked. `waiting`: the ids
    of those that may build next."""
    if not boots:
        return Networks()
    taking = {*waiting, *(vm.id for vm in view.world.vms.building), *view.world.reservations}
    counts = any(verdict.counts for verdict in verified.verdicts.values())
    return Networks(
        vms.networks_by_vm(taking) if counts else {},
        {network: ledger.unplugged(network) for network in {network for boot in boots for network in new_ports(boot)}},
    )


def request_of(
    row: Vm | QueuedRow,
    now: datetime,
    ended_since: datetime | None,
    cooling: Cooling = MappingProxyType({}),
    precedents: Precedents = Precedents(),
    verdict: Verdict | None = None,
    like: Refused | None = None,
    try_again: float = Timing().try_again,
) -> Request:
    """The request of a row that waits. `ended_since`: when the newest VM ended, to see whether another try is worth it;
    `like`: the cloud's newest refusal of a request like it, in tenant mode; `try_again`: seconds after which a request
    in the queue is tried again though nothing has ended, because other projects may have freed capacity."""
    may_wait = row.wait_until is not None and row.wait_until > now
    refusal, last = _refusal_of(row, now, like, try_again)
    again = may_wait and last is not None and (now - last.at).total_seconds() >= try_again
    # A VM that ended after the create was ordered may have ended too late for it. A request that can wait tries again.
    refused_at = last and (last.tried if may_wait else last.at)
    return Request(
        row.id,
        row.is_preemptible,
        Resources(row.quota),
        Resources(row.room),
        availability_zone=row.boot.get("availability_zone"),
        traits=traits_in(row.boot),
        requirements=requirements_in(row.boot),
        **rules_in(row.boot),
        invalid=verdict.objection if verdict else None,
        refusals=0 if again else refusal.get("count", 0),
        **_in_words(refusal),
        avoid=frozenset(() if again else row.avoid),
        cooling=cooling.get((row.boot.get("flavor_id", ""), row.boot.get("image_id", "")), {}),
        rounds=row.rounds,
        waited=(now - row.updated_at).total_seconds(),
        refused_at=last and last.at,
        conditions=tuple(row.boot.get("conditions", ())),
        precedents=precedents,
        refused_rounds=refusal.get("rounds", 0),
        refused_with_capacity=refusal.get("with_room", False),
        freed_since=again or bool(refused_at and ended_since and ended_since > refused_at),
        owner=owner_of(row),
        priority=row.priority,
        came=row.created_at.timestamp(),
        group=None if row.is_preemptible else row.group_name,
        may_wait=may_wait,
        queued=row.queued_why is not None,
        has_waited=isinstance(row, QueuedRow) or row.queued_at is not None,
        patient=row.patience_until is not None and row.patience_until > now,
        attempt=row.attempt,
    )


def _in_words(refusal: Mapping[str, Any]) -> dict[str, Any]:
    """The refusal as a request has it."""
    return {"refusal": refusal.get("error"), "cloud_message": refusal.get("message")}


def _refusal_of(
    row: Vm | QueuedRow, now: datetime, like: Refused | None, try_again: float
) -> tuple[Mapping[str, Any], Refused | None]:
    """What the cloud said last of the request, and of this one or one like it. A preemptible request does not try first
    what others, who wait in the queue, have tried in vain a moment ago."""
    if row.refusal:
        own = refused(row.refusal)
        return row.refusal, max(own, like) if like else own
    if like and row.is_preemptible and (now - like.at).total_seconds() < try_again:
        return {"error": "no_capacity", "message": like.message}, like
    return {}, None
