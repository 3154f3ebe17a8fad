"""The hosts of a world as the next request would find them, kept while the world changes.

A decision looks again at the hosts on which something changed, and at those few of the others that can be the best.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from heapq import heappop, heappush

from vmsvc.domain.batch import BatchPlan
from vmsvc.domain.bins import Bin
from vmsvc.domain.eligibility import eligible
from vmsvc.domain.index import Index
from vmsvc.domain.planner import Outcome, Refuse
from vmsvc.domain.resources import Resources
from vmsvc.domain.rooms import Room, host_rooms
from vmsvc.domain.terms import Terms
from vmsvc.domain.vacancies import Vacancies
from vmsvc.domain.victims import may_go, on_host
from vmsvc.domain.world import Request, World


#: So many hosts may wait for their plans to be looked at again. While there is room nobody asks for plans, and on a
#: full host they are a quarter of a decision; when somebody asks, this many are looked at in some milliseconds.
_BEHIND = 32


def terms_of(world: World) -> Terms:
    """What plans are made under."""
    return Terms(world.max_victims, now=world.now, cost_words=world.cost_words, budgets=world.budgets)


def survey_of(world: World, whole: bool = False) -> "Survey":
    """The survey of a world, up to date; `whole` leaves nothing for when plans are asked for. It is made when first
    asked for, and stays with the world."""
    if world.survey is None:
        world.survey = Survey()
        world.vms.touched.update(world.hosts)
    world.survey.update(world)
    if whole:
        world.survey.catch_up(world)
    return world.survey


class Survey:
    """Get it from `survey_of`, anew for every question. Requests here are such that have no part in the world yet."""

    def __init__(self):
        self._index = Index()
        self._vacancies = Vacancies()
        self._behind: dict[str, Room] = {}          # hosts whose plans are out of date, and the room there is now
        self._spared: list[tuple[int, str]] = []    # heap: when somebody on a host has run as long as was promised
        self._until: dict[str, int] = {}            # the same by host
        self._now = 0

    def update(self, world: World) -> None:
        """Look again at what was touched, and at whom time has changed."""
        touched, world.vms.touched = world.vms.touched, set()
        if world.now < self._now:       # another clock
            touched.update(world.hosts)
        self._now = world.now
        while self._spared and self._spared[0][0] <= world.now:
            name = heappop(self._spared)[1]
            self._until.pop(name, None)
            touched.add(name)
        hosts = [world.hosts[name] for name in touched if name in world.hosts]
        for name in touched - world.hosts.keys():
            self._index.drop(name)
            self._vacancies.drop(name)
            self._behind.pop(name, None)
        for name, room in host_rooms(world, hosts).items():
            self._vacancies.put(name, room.now)
            self._behind[name] = room
        if len(self._behind) > _BEHIND:
            self.catch_up(world)

    def catch_up(self, world: World) -> None:
        """Look at the plans for the hosts that changed. What asks for plans does it first."""
        behind, self._behind = self._behind, {}
        for name, room in behind.items():
            self._put(world, name, room, False)

    def _put(self, world: World, name: str, room: Room, building: bool) -> None:
        until = min((vm.spared_until for vm in world.vms.at(name)
                     if vm.spared_until > world.now and may_go(vm, True)), default=None)
        if until is not None and until != self._until.get(name):
            self._until[name] = until
            heappush(self._spared, (until, name))
        self._index.put(Bin(name, Resources(), room.soon, room.capacity, on_host(world, world.hosts[name], building)),
                        room.short)

    def vacancy(self, request: Request, world: World) -> str | None:
        """The host with room for it now where least would stay free."""
        return next((name for name in self._vacancies.of(request.room) if eligible(world.hosts[name], request)), None)

    def soon(self, request: Request, world: World) -> str | None:
        """The host where it will fit when all that leaves has gone, and least would stay free."""
        self.catch_up(world)
        return self._index.fits(request.room, eligible=_takes(request, world), terms=terms_of(world))

    def plan(self, request: Request, world: World, quota: Bin, budgets: Mapping[str, int]) -> Outcome:
        """Where it goes and who leaves for it; `quota` is the project's, joined with each host when it lacks
        something."""
        self.catch_up(world)
        return self._index.plan(request.room, quota=quota, eligible=_takes(request, world),
                                terms=replace(terms_of(world), budgets=budgets))

    def plan_batch(self, request: Request, world: World, count: int) -> BatchPlan | Refuse:
        """For so many like this one. An over-committed host must lose more than they need, once: that is planned for
        one at a time, so such hosts are left out."""
        self.catch_up(world)
        takes = _takes(request, world)
        return self._index.plan_batch(
            request.room, count, terms=terms_of(world),
            eligible=lambda place: takes(place) and not self._index.short(place.id, request.room))

    @contextmanager
    def with_building(self, world: World) -> Iterator[None]:
        """Inside, those that are still being built may go too."""
        self.catch_up(world)
        hosts = {vm.host: world.hosts[vm.host] for vm in world.vms.building
                 if may_go(vm, True) and vm.host in world.hosts}
        try:
            for name, room in host_rooms(world, hosts.values()).items():
                self._put(world, name, room, True)
            yield
        finally:
            world.vms.touched.update(hosts)


def _takes(request: Request, world: World) -> Callable[[Bin], bool]:
    return partial(_takes_it, request, world)


def _takes_it(request: Request, world: World, place: Bin) -> bool:
    return eligible(world.hosts[place.id], request)
