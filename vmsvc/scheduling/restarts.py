"""The storm guard: when a VM that was evicted may be started again, so that restarts cause no further evictions.

A successor gets only capacity that has been free beyond all reservations for some seconds, and none before the request
that its predecessor was evicted for. Of one owner only so many are started within a minute. The others wait in the
queue.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field

from vmsvc.domain.request import Request
from vmsvc.domain.resources import Resources
from vmsvc.scheduling.batching import shape_of
from vmsvc.scheduling.decisions import Decision, Place, Queued
from vmsvc.scheduling.eligibility import eligible
from vmsvc.scheduling.free_capacity import free_on_host, free_quota
from vmsvc.scheduling.host_rules import with_host_rules
from vmsvc.scheduling.world import World

#: A kind of request that nobody has looked at for so many seconds may have lacked capacity meanwhile.
_GAP_SECONDS = 5.0
_MOST_COUNTED = 256
#: The time in which only so many VMs of an owner are started again.
RESTART_SPAN_SECONDS = 60.0

#: Where a VM would be: a host; None in tenant mode, where the cloud chooses it.
Location = str | None


class SteadyCapacity:
    """Since when there has been capacity for successors, as this replica has seen it pass by pass: by the shape of the
    request and by location, for each number of them the moment since when so many fit. Moments are seconds since the
    epoch. A replica that starts has seen nothing."""

    def __init__(self) -> None:
        self._since: dict[Hashable, dict[Location, list[float]]] = {}
        self._seen: dict[Hashable, float] = {}

    def note(self, shape: Hashable, counts: Mapping[Location, int], now: float) -> None:
        """So many requests of this shape fit at these locations now, and nowhere else as far as is known."""
        before = self._since.get(shape, {}) if now - self._seen.get(shape, 0.0) <= _GAP_SECONDS else {}
        self._since[shape] = {
            location: _cut(before.get(location, []), count, now) for location, count in counts.items() if count > 0
        }
        self._seen[shape] = now
        for old in [kind for kind, seen in self._seen.items() if now - seen > _GAP_SECONDS]:
            del self._seen[old], self._since[old]

    def locations(self, shape: Hashable) -> frozenset[Location]:
        """Where there was capacity for a request of this shape when it was noted last."""
        return frozenset(self._since.get(shape, {}))

    def count(self, shape: Hashable, location: Location, since: float) -> int:
        """How many requests of this shape have fitted there all the time since then."""
        return sum(moment <= since for moment in self._since.get(shape, {}).get(location, ()))


def _cut(moments: list[float], count: int, now: float) -> list[float]:
    kept = moments[:count]
    return kept + [now] * (min(count, _MOST_COUNTED) - len(kept))


@dataclass(slots=True)
class RestartGuard:
    """What a pass knows of restarts, and what it has started. `lately`: by owner, how many VMs were started again
    within the last minute, of `most` that may; `preceded`: successors that must not come before the request that their
    predecessor was evicted for; `seconds`: for how long capacity has to have been free; `freed_for_others`: by
    successor, the host whose capacity was freed for that request."""

    steady: SteadyCapacity = field(default_factory=SteadyCapacity)
    lately: Mapping[str, int] = field(default_factory=dict)
    preceded: frozenset[str] = frozenset()
    seconds: float = 10.0
    most: int = 10
    freed_for_others: Mapping[str, str] = field(default_factory=dict)
    started: dict[str, int] = field(default_factory=dict)  # by owner
    taken: dict[tuple[Hashable, Location], int] = field(default_factory=dict)
    noted: set[Hashable] = field(default_factory=set)  # the shapes that this pass has counted

    def check(self, request: Request, decision: Decision, world: World, now: float, elsewhere: bool = True) -> Decision:
        """The decision about a successor without a reservation, or that it waits. `world`: with all that the pass has
        decided before; `elsewhere`: it may go to another place than the decision's, no capacity is kept together."""
        shape = shape_of(request)
        wanted = {decision.host} if isinstance(decision, Place) else set()
        if shape not in self.noted:
            self.noted.add(shape)
            places = self.steady.locations(shape) | wanted
            self.steady.note(shape, {place: _fitting(request, place, world) for place in places}, now)
        if not isinstance(decision, Place):
            return decision
        if request.id in self.preceded:
            return Queued("no_capacity", "the request that its predecessor was evicted for gets capacity first")
        if self.lately.get(request.owner, 0) + self.started.get(request.owner, 0) >= self.most:
            return Queued("no_capacity", f"{self.most} VMs of its owner were started again within the last minute")
        others = self.steady.locations(shape) - wanted if elsewhere else set()
        for place in (decision.host, *sorted(others, key=str)):
            used = self.taken.get((shape, place), 0)
            if self.steady.count(shape, place, now - self.seconds) > used and _fitting(request, place, world):
                self.taken[shape, place] = used + 1
                self.started[request.owner] = self.started.get(request.owner, 0) + 1
                return Place(place)
        return Queued(
            "no_capacity", f"capacity for it has to be free for {self.seconds:g} s before it is started again"
        )


def _fitting(request: Request, place: Location, world: World) -> int:
    """How many such requests fit there now. What a tenant does not see, it does not count."""
    counts = [_times(free_quota(world, request).now, request.quota)]
    if place is not None:
        host = world.hosts.get(place)
        if host is None or not eligible(host, with_host_rules(request, world)):
            return 0
        counts.append(_times(free_on_host(world, host, request).now, request.resources))
    return min(_MOST_COUNTED, *counts)


def _times(free: Resources, need: Resources) -> int:
    """How often the need fits into what is free."""
    return min((int(free[item] // amount) for item, amount in _amounts(need)), default=_MOST_COUNTED)


def _amounts(need: Resources) -> Iterable[tuple[str, int]]:
    return ((item, amount) for item, amount in need.items() if amount > 0)
