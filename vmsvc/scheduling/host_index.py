"""The hosts of a world as the next request would find them, kept in order while the world changes.

A decision reads only the hosts on which something changed, and the few other hosts that can be the best.
`FreeHosts` keeps the hosts by free capacity; the planner's `BinIndex` keeps them by what a plan there costs.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush

from vmsvc.domain.request import Request
from vmsvc.domain.resources import Resources
from vmsvc.planner import BatchPlan, Bin, BinIndex, NoPlan, Outcome, PlanOptions
from vmsvc.scheduling.candidates import candidates_on, is_candidate
from vmsvc.scheduling.eligibility import eligible
from vmsvc.scheduling.free_capacity import FreeCapacity, free_on_hosts
from vmsvc.scheduling.world import World

#: How many changed hosts may wait until their bins are made again. While capacity is free nobody asks for plans, and on
#: a full host its bin is a quarter of a decision. When a plan is asked for, so many bins take a few milliseconds.
_MAX_BEHIND = 32
#: How many needs `FreeHosts` keeps an order for. The least recently used order is dropped.
_NEEDS = 32


def options_of(world: World) -> PlanOptions:
    """The options of every plan in this world."""
    return PlanOptions(world.max_victims, now=world.now, cost_words=world.cost_words, budgets=world.budgets)


class FreeHosts:
    """The hosts by free capacity. The resources that a request leaves free on a host are those that are free there less
    its need, so the order is the same for all needs; only which hosts are in it differs."""

    def __init__(self) -> None:
        self._free: dict[str, Resources] = {}
        self._orders: dict[Resources, _FreeOrder] = {}  # the most recently used is last

    def put(self, host: str, free: Resources) -> None:
        """Set what is free on a host now."""
        if self._free.get(host) != free:
            self._free[host] = free
            self._mark(host)

    def drop(self, host: str) -> None:
        """Remove a host, if it is there."""
        if self._free.pop(host, None) is not None:
            self._mark(host)

    def _mark(self, host: str) -> None:
        for order in self._orders.values():
            order.stale.add(host)

    def with_free(self, need: Resources) -> Iterator[str]:
        """The hosts on which so much is free; first the one where least would stay free."""
        order = self._orders.pop(need, None) or _FreeOrder(need, self._free)
        self._orders[need] = order
        if len(self._orders) > _NEEDS:
            del self._orders[next(iter(self._orders))]
        order.update(self._free)
        return (host for _, host in order.hosts)


class _FreeOrder:
    """The hosts on which one need is free, as (sum of what is free, host); `stale` are those that changed since."""

    def __init__(self, need: Resources, hosts: Mapping[str, Resources]):
        self._need = need
        self.stale = set(hosts)
        self.hosts: list[tuple[int, str]] = []
        self._positions: dict[str, tuple[int, str]] = {}

    def update(self, free_by_host: Mapping[str, Resources]) -> None:
        """Give the stale hosts their positions."""
        for host in self.stale:
            position = self._positions.pop(host, None)
            if position is not None:
                del self.hosts[bisect_left(self.hosts, position)]
            free = free_by_host.get(host)
            if free is not None and free.covers(self._need):
                position = self._positions[host] = sum(free.values()), host
                insort(self.hosts, position)
        self.stale.clear()


class HostIndex:
    """The hosts of one world. Get it from `IndexedWorld.up_to_date_index`, anew for every question. The requests here
    are not part of the world yet: they have no reservation, and they do not build."""

    def __init__(self) -> None:
        self._bins = BinIndex()
        self._free_hosts = FreeHosts()
        self._behind: dict[str, FreeCapacity] = {}  # hosts whose bins are out of date, with what is free there now
        self._promises: list[tuple[int, str]] = []  # heap: when the promised running time of a VM on a host ends
        self._next_end: dict[str, int] = {}  # by host, the first of these moments
        self._now = 0
        self._filled = False

    def update(self, world: World) -> None:
        """Look again at the hosts that changed, and at those where a promised running time has ended."""
        changed = world.vms.take_changed()
        if not self._filled or world.now < self._now:  # or the clock went back
            changed.update(world.hosts)
            self._filled = True
        self._now = world.now
        while self._promises and self._promises[0][0] <= world.now:
            name = heappop(self._promises)[1]
            self._next_end.pop(name, None)
            changed.add(name)
        hosts = [world.hosts[name] for name in changed if name in world.hosts]
        for name in changed - world.hosts.keys():
            self._bins.drop(name)
            self._free_hosts.drop(name)
            self._behind.pop(name, None)
        for name, free in free_on_hosts(world, hosts).items():
            self._free_hosts.put(name, free.now)
            self._behind[name] = free
        if len(self._behind) > _MAX_BEHIND:
            self.catch_up(world)

    def catch_up(self, world: World) -> None:
        """Make the bins of the hosts that changed again. Every question about plans does so first."""
        behind, self._behind = self._behind, {}
        for name, free in behind.items():
            self._put(world, name, free, False)

    def _put(self, world: World, name: str, free: FreeCapacity, building: bool) -> None:
        ends = min(
            (
                vm.protected_until
                for vm in world.vms.at(name)
                if vm.protected_until > world.now and is_candidate(vm, True)
            ),
            default=None,
        )
        if ends is not None and ends != self._next_end.get(name):
            self._next_end[name] = ends
            heappush(self._promises, (ends, name))
        self._bins.put(
            Bin(name, Resources(), free.soon, free.capacity, candidates_on(world, world.hosts[name], building)),
            free.shortfall,
        )

    def free_host(self, request: Request, world: World, reluctance: Mapping[str, int] | None = None) -> str | None:
        """The host on which the request fits now, where least would stay free. `reluctance`: by host, how little it
        suits for another reason, which comes before that; None: there is no such reason."""
        fit = (name for name in self._free_hosts.with_free(request.resources) if eligible(world.hosts[name], request))
        return (
            next(fit, None) if reluctance is None else min(fit, key=lambda name: reluctance.get(name, 0), default=None)
        )

    def free_soon(self, request: Request, world: World) -> str | None:
        """The host on which the request fits when all VMs that leave have gone, where least would stay free."""
        self.catch_up(world)
        return self._bins.fits(request.resources, eligible=_takes(request, world), options=options_of(world))

    def plan(self, request: Request, world: World, quota: Bin, budgets: Mapping[str, int]) -> Outcome:
        """The plan over all eligible hosts. `quota` is the project's quota; when the request does not fit it, each host
        is joined with it."""
        self.catch_up(world)
        return self._bins.plan(
            request.resources,
            quota=quota,
            eligible=_takes(request, world),
            options=replace(options_of(world), budgets=budgets),
        )

    def plan_batch(self, request: Request, world: World, count: int) -> BatchPlan | NoPlan:
        """The plan for so many requests like this one. An over-committed host must lose its shortfall once, not for
        each request, which a batch cannot express: such hosts are left out, and only plans for single requests use
        them."""
        self.catch_up(world)
        takes = _takes(request, world)
        return self._bins.plan_batch(
            request.resources,
            count,
            options=options_of(world),
            eligible=lambda bin_: takes(bin_) and not self._bins.shortfall(bin_.id, request.resources),
        )

    @contextmanager
    def with_building(self, world: World) -> Iterator[None]:
        """In this context VMs that still build are candidates too."""
        self.catch_up(world)
        hosts = {
            vm.host: world.hosts[vm.host]
            for vm in world.vms.building
            if is_candidate(vm, True) and vm.host in world.hosts
        }
        try:
            for name, free in free_on_hosts(world, hosts.values()).items():
                self._put(world, name, free, True)
            yield
        finally:
            world.vms.mark_changed(hosts)


def _takes(request: Request, world: World) -> Callable[[Bin], bool]:
    return lambda bin_: eligible(world.hosts[bin_.id], request)


@dataclass(slots=True)
class IndexedWorld(World):
    """A world with its index of hosts: what decisions are made over."""

    host_index: HostIndex = field(default_factory=HostIndex, repr=False, compare=False)

    def up_to_date_index(self, with_bins: bool = False) -> HostIndex:
        """The index after all changes so far. The bins for plans are made again when a plan is asked for, or now
        (`with_bins`)."""
        self.host_index.update(self)
        if with_bins:
            self.host_index.catch_up(self)
        return self.host_index
