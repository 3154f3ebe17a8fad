"""The places that a request could go to: all hosts (operator), or the project's quota and its groups (tenant)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from vmsvc.domain.bins import Bin
from vmsvc.domain.planner import Fits, Outcome, plan
from vmsvc.domain.resources import Resources
from vmsvc.domain.rooms import host_room, quota_room
from vmsvc.domain.survey import survey_of
from vmsvc.domain.victims import candidate, eligible_victims
from vmsvc.domain.world import PROJECT, Request, World


class Places(Protocol):
    """What is asked of them."""

    def soon(self) -> str | None:
        """The place where the request fits without anybody's being evicted, once all that leaves has gone."""

    def sure(self, place: str) -> bool:
        """True when it fits there even if the cloud has not counted the newest servers yet."""

    def plan(self, building: bool, budgets: Mapping[str, int]) -> Outcome:
        """Where it goes and who leaves for it, so many of each eviction group at most; `building` allows for those
        that are still being built."""


class Listed:
    """Few places: `bins(building)` are all of them."""

    def __init__(self, bins: Callable[[bool], Sequence[Bin]], world: World,
                 sure: Callable[[str], bool] = lambda _: True):
        self._bins = bins
        self._world = world
        self.sure = sure

    def soon(self) -> str | None:
        """See Places."""
        outcome = self._plan([replace(each, candidates=()) for each in self._bins(False)], {})
        return outcome.bin_id if isinstance(outcome, Fits) else None

    def plan(self, building: bool, budgets: Mapping[str, int]) -> Outcome:
        """See Places."""
        return self._plan(self._bins(building), budgets)

    def _plan(self, bins: Sequence[Bin], budgets: Mapping[str, int]) -> Outcome:
        return plan(bins, max_victims=self._world.max_victims, now=self._world.now, cost_words=self._world.cost_words,
                    budgets=budgets)


class Hosts:
    """All hosts, by the survey of the world."""

    def __init__(self, request: Request, world: World):
        self._request = request
        self._world = world
        self._quota = quota_room(world, request)

    def soon(self) -> str | None:
        """See Places."""
        if not self._quota.soon.covers(self._request.quota):
            return None
        return survey_of(self._world).soon(self._request, self._world)

    def sure(self, place: str) -> bool:
        """See Places."""
        room = host_room(self._world, self._world.hosts[place], self._request)
        return (room.sure.covers(self._request.room + room.short)
                and self._quota.sure.covers(self._request.quota + self._quota.short))

    def plan(self, building: bool, budgets: Mapping[str, int]) -> Outcome:
        """See Places."""
        quota, survey = quota_bin(self._request, self._world, building), survey_of(self._world)
        if not building:
            return survey.plan(self._request, self._world, quota, budgets)
        with survey.with_building(self._world):
            return survey.plan(self._request, self._world, quota, budgets)


def quota_bin(request: Request, world: World, building: bool) -> Bin:
    """The project's quota as a place; it has candidates only when it lacks something."""
    room = quota_room(world, request)
    place = Bin(PROJECT, request.quota + room.short, room.soon, room.capacity)
    if not place.deficit:
        return place
    return replace(place, candidates=tuple(candidate(vm, vm.quota, world) for vm in eligible_victims(world, building)))


def group_bins(request: Request, world: World, building: bool) -> list[Bin]:
    """One bin for each hostId in the zone that is asked for: its free capacity is unknown and counted as none, so
    a set of victims there suffices by itself.
    Where quota is short too, those elsewhere free that."""
    victims, quota = eligible_victims(world, building), quota_room(world, request)
    groups = sorted({vm.host_id for vm in victims
                     if vm.host_id and request.availability_zone in (None, vm.zone)})
    if quota.soon.covers(request.quota):
        return [Bin(group, request.room, Resources(), request.room,
                    tuple(candidate(vm, vm.room, world) for vm in victims if vm.host_id == group)) for group in groups]
    return [Bin(group, request.room + request.quota + quota.short, quota.soon, request.room + quota.capacity,
                tuple(candidate(vm, vm.room + vm.quota if vm.host_id == group else vm.quota, world) for vm in victims))
            for group in groups]
