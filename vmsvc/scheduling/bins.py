"""The bins that a request could go to, and the plan for each: sure plans before likely ones.

In operator mode the bins are all hosts, in tenant mode the project's quota and its host groups."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from vmsvc.domain.evidence import EVER, LIKELY, SURE, Held, HostEvidence
from vmsvc.domain.request import Request
from vmsvc.domain.resources import Resources, total
from vmsvc.planner import Bin, Fits, NoPlan, Outcome, Preempt, plan
from vmsvc.scheduling.candidates import as_candidate, candidate_vms
from vmsvc.scheduling.eviction_groups import within_budgets
from vmsvc.scheduling.free_capacity import FreeCapacity, free_on_host, free_quota
from vmsvc.scheduling.host_groups import Slack, evidence_in_words, evidence_of, held_now, in_order, slacks
from vmsvc.scheduling.host_index import IndexedWorld
from vmsvc.scheduling.vms import VmFacts
from vmsvc.scheduling.world import PROJECT, Basis, World


class Bins(Protocol):
    """The bins of one request, with the questions that a decision asks of them."""

    def free_soon(self) -> str | None:
        """The id of the bin in which the request fits, without an eviction, when all VMs that leave have gone."""

    def is_sure(self, bin_id: str) -> bool:
        """True when the request fits there even if the cloud has not counted the newest servers yet."""

    def plan(self, building: bool, budgets: Mapping[str, int]) -> Outcome:
        """The plan with these budgets of eviction groups. `building`: VMs that still build are candidates too."""

    def basis(self, bin_id: str) -> tuple[str, Basis | None]:
        """Of a bin of the last plan: what is reserved for it, and what the plan counts on besides its victims."""

    def advice(self) -> str:
        """Which setting would have made a plan possible, as a sentence; empty where none would."""


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
        return _plan(bins, self._world, budgets)

    def basis(self, bin_id: str) -> tuple[str, Basis | None]:
        """See Bins."""
        return bin_id, None

    def advice(self) -> str:
        """See Bins."""
        return ""


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

    def basis(self, bin_id: str) -> tuple[str, Basis | None]:
        """See Bins."""
        return bin_id, None

    def advice(self) -> str:
        """See Bins."""
        return ""


@dataclass(frozen=True, slots=True)
class Group:
    """A host group as a bin of the planner, and what a plan there counts on besides its victims."""

    host_id: str
    bin: Bin
    basis: Basis


class GroupBins:
    """The host groups of a tenant. A plan whose victims cover the request by themselves comes before any other one."""

    def __init__(self, request: Request, world: World):
        self._request = request
        self._world = world
        self._groups: dict[str, Group] = {}  # by the bin's id, those of the last plan

    def free_soon(self) -> str | None:
        """See Bins. The cloud has just refused the request, so nothing counts as free for it without an eviction."""
        return None

    def is_sure(self, bin_id: str) -> bool:
        """See Bins."""
        del bin_id
        return True

    def plan(self, building: bool, budgets: Mapping[str, int]) -> Outcome:
        """See Bins."""
        found = self._plan(sure_groups(self._request, self._world, building), budgets)
        if not isinstance(found, NoPlan) or not self._world.likely:
            return found
        likely = self._plan(likely_groups(self._request, self._world, building), budgets)
        return found if isinstance(likely, NoPlan) else likely

    def _plan(self, groups: Sequence[Group], budgets: Mapping[str, int]) -> Outcome:
        self._groups = {each.bin.id: each for each in groups}
        return _plan([each.bin for each in groups], self._world, budgets)

    def basis(self, bin_id: str) -> tuple[str, Basis | None]:
        """See Bins."""
        found = self._groups[bin_id]
        return found.host_id, found.basis

    def advice(self) -> str:
        """See Bins."""
        if not self._world.likely:
            found = self._plan(likely_groups(self._request, self._world, False), self._world.budgets)
            if isinstance(found, Preempt):
                _, basis = self.basis(found.bin_id)
                words = basis.words if basis else ""
                return f"VMSVC_TENANT_EVICTION=likely would have made a plan possible: {words}."
        needed = capacity_needed(self._request, self._world)
        if needed is None:
            return ""
        amounts = ",".join(f"{name}={amount}" for name, amount in in_order(needed))
        also = "" if self._world.likely else " and VMSVC_TENANT_EVICTION=likely"
        return (
            f"vmsvc does not know what else is free there: if each host has so much for this project, "
            f"VMSVC_HOST_CAPACITY={amounts}{also} would have made a plan possible."
        )


def _plan(bins: Sequence[Bin], world: World, budgets: Mapping[str, int]) -> Outcome:
    return plan(bins, max_victims=world.max_victims, now=world.now, cost_words=world.cost_words, budgets=budgets)


def quota_bin(request: Request, world: World, building: bool) -> Bin:
    """The project's quota as a bin. It has candidates only when the request does not fit it."""
    free = free_quota(world, request)
    quota = Bin(PROJECT, request.quota + free.shortfall, free.soon, free.capacity)
    if not quota.deficit:
        return quota
    return replace(quota, candidates=tuple(as_candidate(vm, vm.quota, world) for vm in candidate_vms(world, building)))


def sure_groups(request: Request, world: World, building: bool) -> list[Group]:
    """One bin for each host group in the zone that the request asks for, in which nothing counts as free: the victims
    there suffice by themselves."""
    quota, vms, host_ids = _candidates(request, world, building)
    nothing = Slack(Resources(), Held(request.resources, EVER))
    return [_group(host_id, host_id, request, quota, vms, world, nothing) for host_id in host_ids]


def likely_groups(request: Request, world: World, building: bool) -> list[Group]:
    """Bins for the same host groups, in which capacity counts as free for which there is evidence: one for each vector
    that shows more than another one. Not for a host on which the request fits without an eviction: the cloud has just
    refused it, so the evidence for that host does not hold."""
    quota, vms, host_ids = _candidates(request, world, building)
    held, found = held_now(world), []
    for host_id in host_ids:
        there = slacks(world, host_id, held.get(host_id, Resources()), request.resources)
        if any(slack.free.covers(request.resources) for slack in there):
            continue
        for number, slack in enumerate(there):
            found.append(_group(f"{host_id} {number}", host_id, request, quota, vms, world, slack, LIKELY))
    return found


def _candidates(request: Request, world: World, building: bool) -> tuple[FreeCapacity, list[VmFacts], list[str]]:
    """The quota, the candidates, and the hostIds of those that are in the zone of the request, as far as its rules
    allow them."""
    vms = candidate_vms(world, building)
    host_ids = {
        vm.host_id
        for vm in vms
        if vm.host_id and request.availability_zone in (None, vm.zone) and request.may_be_at(vm.host_id)
    }
    return free_quota(world, request), vms, sorted(host_ids)


def _group(
    bin_id: str,
    host_id: str,
    request: Request,
    quota: FreeCapacity,
    vms: Sequence[VmFacts],
    world: World,
    slack: Slack,
    certainty: str = SURE,
) -> Group:
    """The bin of a host group where so much counts as free. What the project holds there beyond the evidence has to
    leave besides. When the quota is short too, VMs of other groups are candidates that free quota."""
    need = request.resources + (Resources() - slack.free).floored()
    free, capacity = slack.free.floored(), Resources({name: slack.shown_by.resources[name] for name in need})
    if quota.soon.covers(request.quota):
        candidates = [as_candidate(vm, vm.resources, world) for vm in vms if vm.host_id == host_id]
    else:
        need, free = need + request.quota + quota.shortfall, free + quota.soon
        capacity = capacity + quota.capacity
        candidates = [
            as_candidate(vm, vm.resources + vm.quota if vm.host_id == host_id else vm.quota, world) for vm in vms
        ]
    words = evidence_in_words(slack.shown_by) if certainty == LIKELY else None
    basis = Basis(certainty, slack.free, world.foreign.get(host_id, {}), words)
    return Group(host_id, Bin(bin_id, need, free, capacity, tuple(candidates), place=host_id), basis)


def capacity_needed(request: Request, world: World) -> Resources | None:
    """What a host group would have to have, at least, for a plan there: what stays there when all candidates leave, and
    the request. None where no declared capacity would help, because a refusal has shown that nothing is free there."""
    quota, vms, host_ids = _candidates(request, world, False)
    held, found = held_now(world), []
    for host_id in host_ids:
        there = within_budgets([vm for vm in vms if vm.host_id == host_id], world.budgets)
        stays = held.get(host_id, Resources()) - total(vm.resources for vm in there)
        needed = Resources({name: amount + max(0, stays[name]) for name, amount in request.resources.items()})
        declared = HostEvidence(refusals=evidence_of(world, host_id).refusals).with_declared(needed)
        for one in declared.counting(request.resources):
            slack = Slack(Resources({name: needed[name] - held[host_id][name] for name in needed}), one)
            group = _group(host_id, host_id, request, quota, vms, world, slack, LIKELY)
            if isinstance(_plan([group.bin], world, world.budgets), Preempt):
                found.append(needed)
    return min(found, key=lambda needed: (sum(needed.values()), sorted(needed.items())), default=None)
