"""One pass: decide for all requests that wait, in their order. Pure; only the trial world changes.

`decide_all` returns what the scheduler does next: `Verify` (ask the cloud, then decide again), `Settle` (wait, then
decide again) or `Commit` (apply these changes in one transaction).
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Protocol

from vmsvc.domain.boot_options import options_in
from vmsvc.domain.evidence import Refusal
from vmsvc.domain.request import FutileEviction, History, Precedents, Request, too_many_waiting
from vmsvc.domain.timing import Timing
from vmsvc.scheduling.batching import decide_batch, shape_of, without_unneeded
from vmsvc.scheduling.changes import Change, change_world
from vmsvc.scheduling.decide import decide, review
from vmsvc.scheduling.decisions import Decision, Evict, Place, Postpone, Queued, Refuse, Wait, needs_victims
from vmsvc.scheduling.futility import is_foreseen, shows_futility
from vmsvc.scheduling.host_groups import note_refusals
from vmsvc.scheduling.host_index import IndexedWorld
from vmsvc.scheduling.overtaking import CountOverdue, Overtaken
from vmsvc.scheduling.queue_order import QueueKey
from vmsvc.scheduling.restarts import RestartGuard
from vmsvc.scheduling.verification import (
    Networks,
    Verification,
    Verified,
    WaitingRequest,
    by_verdict,
    unverified_facts,
    unverified_request,
)
from vmsvc.scheduling.world import World


def none_overdue(shape: Hashable, before: QueueKey | None) -> int:
    """No request waits for longer than it may be overtaken."""
    del shape, before
    return 0


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What a pass knows besides the world. `settling`: seconds for which more requests may come in, so that no VM is
    noticed yet; `settled`: the pass has waited for them already; `waiting`: by owner, how many wait in the queue, and
    `most_waiting`: how many may; `overdue`: counts those in the queue that may not be overtaken any more."""

    now: datetime
    verified: Verified = Verified()
    history: History = History()
    networks: Networks = Networks()
    settling: float = 0.0
    settled: bool = False
    timing: Timing = Timing()
    waiting: Mapping[str, int] = field(default_factory=dict)
    most_waiting: int = 100
    overdue: CountOverdue = none_overdue
    guard: RestartGuard = field(default_factory=RestartGuard)


@dataclass(frozen=True, slots=True)
class Commit:
    """Apply these changes together. `acts`: some of them change anything; `wait`: seconds to the next pass, 0 when no
    request waits any more; `refusals`: by hostId, what refusals by the cloud show of a host's capacity; `again`: there
    may be capacity for requests that the pass did not decide about."""

    changes: tuple[Change, ...]
    acts: bool
    wait: float
    refusals: tuple[tuple[str, Refusal], ...] = ()
    again: bool = False

    @property
    def noticed(self) -> frozenset[str]:
        """The victims of the plans that were made."""
        return frozenset(
            victim
            for change in self.changes
            if isinstance(change.decision, Evict)
            for victim in change.decision.victims
        )


@dataclass(frozen=True, slots=True)
class Verify:
    """Ask the cloud about these, then decide again: nothing of what was decided is applied."""

    what: Verification


@dataclass(frozen=True, slots=True)
class Settle:
    """Wait for so many seconds, then decide again: more requests may come in that have to be planned together."""

    seconds: float


Plan = Commit | Verify | Settle


class KeepsPlace(Protocol):
    """Whether a request must be decided before another one, which comes after it, or before any."""

    def __call__(self, one: WaitingRequest, other: WaitingRequest | None = None) -> bool: ...


@dataclass(slots=True)
class _Tally:
    """What has been decided so far."""

    changes: list[Change] = field(default_factory=list)
    verification: Verification = Verification()
    acts: bool = False
    early: bool = False  # an eviction waits until it has settled
    waits: bool = False  # a request waits on
    again: bool = False  # there may be capacity for requests that this pass did not decide about
    queued: dict[str, int] = field(default_factory=dict)  # by owner, how many wait in the queue
    #: What was decided for a request that waits in the queue, by all that this rests on: others like it wait too, until
    #: the pass frees capacity.
    without_capacity: dict[Hashable, Decision] = field(default_factory=dict)
    overtaken: Overtaken = field(default_factory=lambda: Overtaken(none_overdue))


def decide_all(waiting: Sequence[WaitingRequest], world: IndexedWorld, knowledge: Knowledge) -> Plan:
    """The decisions for these requests, each made on the world as the earlier decisions change it. `world` is in a
    trial. A refusal is a precedent for the requests after it."""
    tally = _Tally(queued=dict(knowledge.waiting), overtaken=Overtaken(knowledge.overdue))
    rest = in_turn(waiting, world)
    fresh = [one.request for one in waiting if one.request.refusals and not one.request.queued]
    refusals = note_refusals(fresh, world)
    while rest:
        for one, decision in _decide_first(rest, world, knowledge.settling, tally):
            decision = _decide_one(one, decision, world, knowledge, tally)
            if isinstance(decision, Refuse):
                before, knowledge = knowledge.history, _after_refusal(one, decision, knowledge, world.now)
                if knowledge.history is not before:
                    rest = [with_precedents(other, knowledge.history) for other in rest]
            if one.more_behind and isinstance(decision, (Place, Evict)):
                # The next request of its lane comes before those after it, and this pass does not know it.
                tally.again, rest = True, [other for other in rest if other.request.id in world.reservations]
    if tally.verification:
        return Verify(tally.verification)
    if tally.early and not tally.acts and not knowledge.settled:
        return Settle(knowledge.settling)
    wait = knowledge.settling if tally.early else knowledge.timing.pass_while_waiting if tally.waits else 0.0
    changes = without_unneeded(tally.changes, {one.request.id: one.request for one in waiting}, world)
    return Commit(tuple(changes), tally.acts, 0.0 if tally.again else wait, tuple(refusals), tally.again)


def in_turn(waiting: Sequence[WaitingRequest], world: World) -> list[WaitingRequest]:
    """The requests in the order in which they are decided: their own, but of those with a reservation the ones with the
    fewest rounds come first. When a victim of one could not leave, less is free than is reserved. Then the pass plans
    again for that request, whose round does not count, and not for another one whose victims have left."""
    reserved = [one for one in waiting if one.request.id in world.reservations]
    turns = iter(sorted(reserved, key=lambda one: one.request.rounds))
    return [next(turns) if one.request.id in world.reservations else one for one in waiting]


def _decide_first(
    rest: list[WaitingRequest], world: IndexedWorld, settling: float, tally: _Tally
) -> Iterable[tuple[WaitingRequest, Decision]]:
    """As `decide_next`. For a request that waits in the queue the decision may be known from another one; and no
    request gets the capacity that is kept together for those before it."""
    request = rest[0].request
    if request.id in world.reservations:
        return decide_next(rest, world, settling)
    known = tally.without_capacity.get(_facts_of(request)) if request.may_wait else None
    if known is not None:
        return [(rest.pop(0), known)]
    if tally.overtaken and not request.invalid:
        return [(first := rest.pop(0), tally.overtaken.decide(request, first.turn, world))]
    return decide_next(rest, world, settling, tally.overtaken.keeps_place)


def _facts_of(request: Request) -> Hashable:
    """All that the decision for a request without a reservation rests on, besides the world and the moment."""
    return (
        shape_of(request),
        request.freed_since,
        request.refusals,
        request.refused_rounds,
        request.refused_with_capacity,
        request.precedents,
    )


def _decide_one(
    one: WaitingRequest, decision: Decision, world: IndexedWorld, knowledge: Knowledge, tally: _Tally
) -> Decision:
    """Bring the decision about one request into the world and into the tally; returns the decision as it stands."""
    verified, request = knowledge.verified, one.request
    decision = by_verdict(one, decision, world, verified.verdicts.get(one.key), knowledge.networks)
    raw, has_reservation, held_back = decision, request.id in world.reservations, False
    decision = or_queued(request, raw, has_reservation, queued=tally.queued, most=knowledge.most_waiting)
    if request.attempt and request.is_preemptible and not has_reservation:
        guarded = knowledge.guard.check(
            request, decision, world, knowledge.now.timestamp(), elsewhere=not tally.overtaken
        )
        held_back, decision = isinstance(decision, Place) and not isinstance(guarded, Place), guarded
    tally.verification |= unverified_facts(request, decision, world, verified)
    tally.verification |= unverified_request(one, decision, verified, knowledge.now)
    if knowledge.settling and needs_victims(decision):
        tally.early, decision = True, Wait("others may come with the same request, to be planned together")
    tally.waits |= not isinstance(decision, (Place, Refuse))
    if isinstance(decision, Queued) and not held_back:
        tally.without_capacity[_facts_of(request)] = raw
        tally.queued[request.owner] = tally.queued.get(request.owner, 0) + (not request.queued)
        tally.overtaken.add(request, one.shape, one.overdue)
    if not isinstance(decision, Wait) and (not request.queued or not isinstance(decision, Queued)):
        tally.acts |= has_reservation or not isinstance(decision, Postpone)
        tally.changes.append(change_world(world, request, decision))
        if has_reservation:  # what it gives up may be enough for another one
            tally.without_capacity.clear()
    return decision


def or_queued(
    request: Request,
    decision: Decision,
    has_reservation: bool = False,
    *,
    queued: Mapping[str, int] = MappingProxyType({}),
    most: int = 100,
) -> Decision:
    """The decision, or that the request waits in the queue: because there is no capacity, because what would make some
    is under way and may take long, or because nobody is to be evicted for it yet. `queued`: by owner, how many wait
    there; `most`: how many may."""
    if request.patient and needs_victims(decision):
        decision = Refuse("no_capacity", "there is no capacity for it, and nobody is evicted for it yet")
    match decision:
        case Refuse(error=error, message=why) if request.may_wait and decision.lacks_capacity:
            waits = Queued(error, why)
        case Wait(brief=False, why=why) if request.may_wait and not has_reservation:
            waits = Queued("no_capacity", why)
        case _:
            return decision
    if request.has_waited or request.attempt or queued.get(request.owner, 0) < most:
        return waits
    return Refuse("too_many_requests", too_many_waiting(most))


def decide_next(
    waiting: list[WaitingRequest],
    world: IndexedWorld,
    settling: float,
    keeps_place: KeepsPlace = lambda one, other=None: False,
) -> Iterable[tuple[WaitingRequest, Decision]]:
    """Take the first requests off the list, with a decision for each: one request, or as many equal ones as need
    victims. `keeps_place`: as `Overtaken.keeps_place`."""
    first = waiting.pop(0)
    request = first.request
    if request.invalid:
        return [(first, Refuse(request.invalid.error, request.invalid.message))]
    reserved = world.reservations.get(request.id)
    decision = review(request, reserved, world) if reserved else decide(request, world)
    if settling or request.patient or not needs_victims(decision):
        return [(first, decision)]
    peers = [] if reserved else _peers(request, waiting, world, keeps_place)
    together = decide_batch([request, *(peer.request for peer in peers)], decision.kind, world) if peers else None
    if not together:
        return [(first, decision)]
    taken = [first, *peers][: len(together)]
    ids = {one.request.id for one in taken}
    waiting[:] = [one for one in waiting if one.request.id not in ids]
    return list(zip(taken, together))


def _peers(
    request: Request,
    waiting: Sequence[WaitingRequest],
    world: World,
    keeps_place: KeepsPlace,
) -> list[WaitingRequest]:
    """The requests that are planned together with this one: equal ones without a reservation, up to the first that
    would come before one which must not be overtaken any more."""
    shape, peers = shape_of(request), []
    passed: list[WaitingRequest] = []  # of other shapes, one of each that must not be overtaken
    seen: set[Hashable] = set()
    for one in waiting:
        if one.request.id in world.reservations:
            continue
        if shape_of(one.request) != shape:
            if (one.shape, one.overdue) not in seen and keeps_place(one):
                passed.append(one)
            seen.add((one.shape, one.overdue))
        elif any(keeps_place(other, one) for other in passed):
            break
        else:
            peers.append(one)
    return peers


def decide_alike(
    request: Request, count: int, world: IndexedWorld, verified: Verified, decided: Callable[[Request], Decision]
) -> tuple[list[Decision], Verification]:
    """What a pass would decide for so many requests like this one, each on the world as the earlier decisions change
    it, and what has to be verified before. `decided` decides for one of them. `world` is in a trial, and is afterwards
    as it was before."""
    requests = [replace(request, id=f"{request.id}#{number}") for number in range(count)]
    changes: list[Change] = []
    what = Verification()
    with world.trial():
        while left := requests[len(changes) :]:
            decision = decided(left[0])
            together = None
            if needs_victims(decision) and not request.patient and len(left) > 1:
                together = decide_batch(left, decision.kind, world)
            for one, each in zip(left, together or [decision]):
                what |= unverified_facts(one, each, world, verified)
                changes.append(change_world(world, one, each))
        changes = without_unneeded(changes, {one.id: one for one in requests}, world)
    return [change.decision for change in changes], what


def with_precedents(one: WaitingRequest, history: History) -> WaitingRequest:
    """The request with what the history says of requests like it. Only a request for a standard VM can cost others a
    VM."""
    request = one.request
    precedents = (
        Precedents()
        if request.is_preemptible
        else history.precedents(request.id, one.request_class, request.conditions, request.resources)
    )
    return replace(one, request=replace(request, precedents=precedents))


def _after_refusal(one: WaitingRequest, refusal: Refuse, knowledge: Knowledge, now: int) -> Knowledge:
    """What is known when this request is refused."""
    futile = (
        FutileEviction(refusal.error, one.request.cloud_message or refusal.message, now)
        if one.had_victims and _is_futile(one.request, refusal.error, knowledge.history)
        else None
    )
    return replace(
        knowledge,
        history=knowledge.history.after_refusal(one.request.id, one.request_class, futile),
        networks=knowledge.networks.after_refusal(_plain_network(one.boot), refusal.message),
    )


def _plain_network(boot: Mapping[str, Any]) -> str | None:
    """The network that a build shows to be out of order when it gets no port; None where the cause may be another of
    its networks, or the address that was asked for. `store.queries.UNPLUGGED` has the same condition for later passes.
    """
    nics = options_in(boot).nics
    return boot.get("network_id") if len(nics) <= 1 and not any(nic.fixed_ip for nic in nics) else None


def _is_futile(request: Request, error: str, history: History) -> bool:
    untried = bool(request.conditions) and request.conditions not in history.accepted
    return not is_foreseen(error) and shows_futility(
        error, bool(request.refusal), request.refused_with_capacity, untried
    )
