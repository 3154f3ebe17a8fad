"""Keeps later requests from taking the capacity that a request needs which has waited for OVERTAKEN_SECONDS.

In operator mode that is the capacity of one host for each such request: of the host that lacks least for it. Where the
quota is too small for one, the items that it lacks are kept. A tenant does not choose hosts: there the requests behind
wait for their turn, provided that there is evidence that a host can hold such a VM at all.
"""

from collections.abc import Callable, Hashable
from dataclasses import replace

from vmsvc.domain.request import Request
from vmsvc.domain.resources import Resources
from vmsvc.scheduling.decide import decide
from vmsvc.scheduling.decisions import Decision, Evict, Place, Refuse
from vmsvc.scheduling.eligibility import KEPT, eligible
from vmsvc.scheduling.free_capacity import free_on_hosts, free_quota
from vmsvc.scheduling.host_groups import evidence_of, held_now
from vmsvc.scheduling.host_index import IndexedWorld
from vmsvc.scheduling.host_rules import with_host_rules
from vmsvc.scheduling.queue_order import QueueKey
from vmsvc.scheduling.verification import WaitingRequest
from vmsvc.scheduling.world import World

#: Why a request waits though the quota would do for it.
_QUOTA_KEPT = "the quota that is left is kept together for requests that have waited for longer"


#: How many requests of a shape that come before a key (None: at all) may not be overtaken any more.
CountOverdue = Callable[[Hashable, QueueKey | None], int]


class Overtaken:
    """The requests of a pass that may not be overtaken any more: `add` those that do not fit, in their order. The other
    methods concern a request that comes after them, at this `turn`."""

    def __init__(self, overdue: CountOverdue):
        self._overdue = overdue
        self._requests: list[tuple[Request, Hashable, bool]] = []
        self._kept: tuple[list[int], frozenset[str]] = ([], frozenset())

    def __bool__(self) -> bool:
        return bool(self._requests)

    def add(self, request: Request, shape: Hashable, overdue: bool) -> None:
        """This request does not fit, nor do those of its shape behind it. `overdue`: it is not in the queue yet, and
        may not be overtaken."""
        # `_overdue` counts all of a shape: they are kept for once, not once for each that the pass looks at.
        if not overdue and any(known == shape for _, known, alone in self._requests if not alone):
            return
        if overdue or self._overdue(shape, None):
            self._requests.append((request, shape, overdue))

    def keeps_place(self, one: WaitingRequest, other: WaitingRequest | None = None) -> bool:
        """True when this request, or one of its shape that comes before the other request (None: any of its shape), may
        not be overtaken any more."""
        turn = other.turn if other else None
        return one.overdue or (one.shape is not None and self._overdue(one.shape, turn) > 0)

    def decide(self, request: Request, turn: QueueKey, world: IndexedWorld) -> Decision:
        """As `decide.decide`, for a request that does not get what is kept together."""
        decision = decide(request, world)
        if not isinstance(decision, (Place, Evict)):
            return decision
        counts = [self._overdue(shape, turn) + alone for _, shape, alone in self._requests]
        if why := self._why_not(request, counts, world):
            return Refuse("no_capacity", why)
        host = decision.host if isinstance(decision, Place) else decision.bin
        if world.operator and host in (kept := self._hosts(counts, world)):
            return decide(replace(request, kept=kept), world)
        return decision

    def _hosts(self, counts: list[int], world: World) -> frozenset[str]:
        """The hosts whose capacity is kept together for so many of each."""
        if self._kept[0] != counts:
            kept: set[str] = set()
            for (request, _, _), count in zip(self._requests, counts):
                kept.update(_best_hosts(request, count, kept, world))
            self._kept = counts, frozenset(kept)
        return self._kept[1]

    def _why_not(self, request: Request, counts: list[int], world: World) -> str | None:
        """Why a request that fits has to wait all the same, wherever it would go; None when nothing speaks against
        it."""
        for (before, _, _), count in zip(self._requests, counts):
            free = free_quota(world, before).now
            if count and any(free[item] < amount and request.quota[item] for item, amount in before.quota.items()):
                return _QUOTA_KEPT
            if count and not world.operator and _can_be_held(before, world):
                return KEPT
        return None


def _best_hosts(request: Request, count: int, kept: set[str], world: World) -> list[str]:
    """The hosts, at most so many, that lack least for the request; none of those that are kept for others."""
    if not count:
        return []
    request = with_host_rules(request, world)
    hosts = [host for host in world.hosts.values() if host.name not in kept and eligible(host, request)]
    free = free_on_hosts(world, hosts, request)

    def lack(name: str) -> tuple[float, str]:
        missing = (request.resources - free[name].soon).floored()
        return sum(missing[item] / amount for item, amount in request.resources.items() if amount), name

    return sorted(free, key=lack)[:count]


def _can_be_held(request: Request, world: World) -> bool:
    """True when there is evidence that a host can hold the request."""
    held = held_now(world)
    vectors = [vector for host_id in held.keys() | world.evidence.keys() for vector in _shown(world, host_id)]
    return any(vector.covers(request.resources) for vector in (world.declared, *held.values(), *vectors))


def _shown(world: World, host_id: str) -> list[Resources]:
    return [one.resources for one in evidence_of(world, host_id).held]
