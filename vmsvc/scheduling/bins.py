"""The bins that a request could go to: all hosts (operator mode), or the project's quota and its host groups (tenant
mode)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from vmsvc.domain.request import Request
from vmsvc.domain.resources import Resources
from vmsvc.planner import Bin, Fits, Outcome, plan
from vmsvc.scheduling.candidates import as_candidate, candidate_vms
from vmsvc.scheduling.free_capacity import free_on_host, free_quota
from vmsvc.scheduling.host_index import IndexedWorld
from vmsvc.scheduling.world import PROJECT, World


class Bins(Protocol):
    """The bins of one request, with the questions that a decision asks of them."""

    def free_soon(self) -> str | None:
        """The id of the bin in which the request fits, without an eviction, when all VMs that leave have gone."""

    def is_sure(self, bin_id: str) -> bool:
        """True when the request fits there even if the cloud has not counted the newest servers yet."""

    def plan(self, building: bool, budgets: Mapping[str, int]) -> Outcome:
        """The plan with these budgets of eviction groups. `building`: VMs that still build are candidates too."""


class ListedBins:
    """A few bins, all given by `bins(building)`."""

    def __init__(
        self, bins: Callable[[bool], Sequence[Bin]], world: World, is_sure: Callable[[str], bool] = lambda _: True
    ):
        self._bins = bins
        self._world = world
        self.is_sure = is_sure

    def free_soon(self) -> str | None:
        """See Bins."""
        outcome = self._plan([replace(each, candidates=()) for each in self._bins(False)], {})
        return outcome.bin_id if isinstance(outcome, Fits) else None

    def plan(self, building: bool, budgets: Mapping[str, int]) -> Outcome:
        """See Bins."""
        return self._plan(self._bins(building), budgets)

    def _plan(self, bins: Sequence[Bin], budgets: Mapping[str, int]) -> Outcome:
        return plan(
            bins,
            max_victims=self._world.max_victims,
            now=self._world.now,
            cost_words=self._world.cost_words,
            budgets=budgets,
        )


class HostBins:
    """All hosts, by the index of the world."""

    def __init__(self, request: Request, world: IndexedWorld):
        self._request = request
        self._world = world
        self._quota = free_quota(world, request)

    def free_soon(self) -> str | None:
        """See Bins."""
        if not self._quota.soon.covers(self._request.quota):
            return None
        return self._world.up_to_date_index().free_soon(self._request, self._world)

    def is_sure(self, bin_id: str) -> bool:
        """See Bins."""
        host = free_on_host(self._world, self._world.hosts[bin_id], self._request)
        return host.sure.covers(self._request.resources + host.shortfall) and self._quota.sure.covers(
            self._request.quota + self._quota.shortfall
        )

    def plan(self, building: bool, budgets: Mapping[str, int]) -> Outcome:
        """See Bins."""
        quota, index = quota_bin(self._request, self._world, building), self._world.up_to_date_index()
        if not building:
            return index.plan(self._request, self._world, quota, budgets)
        with index.with_building(self._world):
            return index.plan(self._request, self._world, quota, budgets)


def quota_bin(request: Request, world: World, building: bool) -> Bin:
    """The project's quota as a bin. It has candidates only when the request does not fit it."""
    free = free_quota(world, request)
    quota = Bin(PROJECT, request.quota + free.shortfall, free.soon, free.capacity)
    if not quota.deficit:
        return quota
    return replace(quota, candidates=tuple(as_candidate(vm, vm.quota, world) for vm in candidate_vms(world, building)))


def group_bins(request: Request, world: World, building: bool) -> list[Bin]:
    """One bin for each host group in the zone that the request asks for. No API tells a tenant what is free in a group,
    so nothing counts as free, and the victims there must suffice by themselves. When the quota is short too, VMs of
    other groups are candidates that free quota."""
    vms, quota = candidate_vms(world, building), free_quota(world, request)
    groups = sorted({vm.host_id for vm in vms if vm.host_id and request.availability_zone in (None, vm.zone)})
    need = request.resources
    if quota.soon.covers(request.quota):
        return [
            Bin(
                group,
                need,
                Resources(),
                need,
                tuple(as_candidate(vm, vm.resources, world) for vm in vms if vm.host_id == group),
            )
            for group in groups
        ]
    return [
        Bin(
            group,
            need + request.quota + quota.shortfall,
            quota.soon,
            need + quota.capacity,
            tuple(as_candidate(vm, vm.resources + vm.quota if vm.host_id == group else vm.quota, world) for vm in vms),
        )
        for group in groups
    ]
