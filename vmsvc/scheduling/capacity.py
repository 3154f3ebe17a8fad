"""The capacity that people see (`GET /api/v1/capacity`): what there is, who holds it, how many of each flavor fit."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vmsvc.domain.events import instant
from vmsvc.domain.host import Host
from vmsvc.domain.lifecycle import State
from vmsvc.domain.request import Request
from vmsvc.domain.resources import QUOTA_ITEMS, Resources, total
from vmsvc.scheduling.candidates import by_host, candidate_vms, frees
from vmsvc.scheduling.eligibility import eligible
from vmsvc.scheduling.eviction_groups import within_budgets
from vmsvc.scheduling.free_capacity import FreeCapacity, free_on_hosts, free_quota
from vmsvc.scheduling.host_groups import evidence_in_words, evidence_of, held_now
from vmsvc.scheduling.vms import VmFacts
from vmsvc.scheduling.world import HOST, HOST_GROUP, UNLIMITED, World

_NO_REQUEST = Request("", False, Resources(), Resources())


def capacity_of(world: World, flavors: Mapping[str, Request]) -> dict[str, Any]:
    """The capacity of the quota, of each host (to a tenant by hostId, and by evidence) and of each flavor. `flavors`
    holds, by name, a standard request for one VM of the flavor."""
    free = free_on_hosts(world, world.hosts.values())
    candidates = by_host(candidate_vms(world, False))
    groups = [] if world.operator else _groups(world)
    return {
        "quota": _quota(world),
        "hosts": [
            _host(
                world,
                host,
                free[name],
                total(frees(vm, host) for vm in within_budgets(candidates.get(name, ()), world.budgets)),
            )
            for name, host in sorted(world.hosts.items())
        ]
        if world.operator
        else groups,
        "flavors": [
            {
                "name": name,
                "vcpus": request.quota["cores"],
                "ram": request.quota["ram"],
                **_fits(world, request, free, candidates),
                **({} if world.operator else {"fits_by_evidence": _fits_by_evidence(world, request, groups)}),
            }
            for name, request in sorted(flavors.items())
        ],
    }


def _reclaimable(world: World) -> Resources:
    """The quota that evictions could free now."""
    return total(vm.quota for vm in within_budgets(candidate_vms(world, False), world.budgets))


def _quota(world: World) -> dict[str, Any]:
    """An item without a limit has the limit None and is missing from `free`."""
    free = free_quota(world, _NO_REQUEST)
    vms = [vm for vm in world.vms.values() if vm.present or vm.state is State.BUILDING]
    limit = {item: None if world.quota_limit[item] >= UNLIMITED else world.quota_limit[item] for item in QUOTA_ITEMS}
    return {
        "limit": limit,
        "used": dict(world.quota_used),
        "free": {item: free.now[item] for item, most in limit.items() if most is not None},
        "standard": dict(total(vm.quota for vm in vms if not vm.is_preemptible)),
        "preemptible": dict(total(vm.quota for vm in vms if vm.is_preemptible)),
        "reserved": dict(total(reserved.quota for reserved in world.reservations.values())),
        "reclaimable": dict(_reclaimable(world)),
    }


def _host(world: World, host: Host, free: FreeCapacity, reclaimable: Resources) -> dict[str, Any]:
    """One host. What neither kind of VM of vmsvc holds is `foreign`."""
    vms: dict[bool, list[VmFacts]] = {True: [], False: []}
    for vm in world.vms.at(host.name):
        if vm.cloud_id in host.allocations:
            vms[vm.is_preemptible].append(vm)
    held = {is_preemptible: total(frees(vm, host) for vm in each) for is_preemptible, each in vms.items()}
    return {
        "name": host.name,
        "available": host.available,
        "availability_zone": host.availability_zone,
        "capacity": dict(host.capacity),
        "used": dict(host.used),
        "free": dict(free.now),
        "standard": dict(held[False]),
        "preemptible": dict(held[True]),
        "foreign": dict(host.used - held[True] - held[False]),
        "reserved": dict(
            total(
                reserved.resources
                for reserved in world.reservations.values()
                if reserved.kind == HOST and reserved.bin == host.name
            )
        ),
        "reclaimable": dict(reclaimable),
    }


def _groups(world: World) -> list[dict[str, Any]]:
    """The hosts of a tenant, by hostId: those where servers of the project are, and those for which there is
    evidence."""
    held = held_now(world)
    return [
        _group(world, host_id, held.get(host_id, Resources()))
        for host_id in sorted(held.keys() | world.evidence.keys())
    ]


def _group(world: World, host_id: str, held: Resources) -> dict[str, Any]:
    """One host of a tenant. Its capacity is the largest vector that no refusal contradicts, or what is held there."""
    vms = [vm for vm in world.vms.values() if vm.present and vm.host_id == host_id]
    evidence = evidence_of(world, host_id)
    counting = [one.resources for one in evidence.held if all(refusal.at < one.at for refusal in evidence.refusals)] + [
        held
    ]
    capacity = max(counting, key=lambda vector: (vector["VCPU"], vector["MEMORY_MB"], sorted(vector.items())))
    ours = {kind: total(vm.resources for vm in vms if vm.is_preemptible is kind) for kind in (False, True)}
    leaving = [vm for vm in candidate_vms(world, False) if vm.host_id == host_id]
    return {
        "name": host_id,
        "host_id": host_id,
        "available": True,
        "availability_zone": next((vm.zone for vm in vms if vm.zone), None),
        "capacity": dict(capacity),
        "used": dict(held),
        "held": dict(held),
        "free": dict((capacity - held).floored()),
        "standard": dict(ours[False]),
        "preemptible": dict(ours[True]),
        "foreign": dict(held - ours[False] - ours[True]),
        "reserved": dict(
            total(
                reserved.resources
                for reserved in world.reservations.values()
                if reserved.kind == HOST_GROUP and reserved.bin == host_id
            )
        ),
        "reclaimable": dict(total(vm.resources for vm in within_budgets(leaving, world.budgets))),
        "evidence": [
            {
                "resources": dict(one.resources),
                "declared": one.is_declared,
                "seen_at": None if one.is_declared else instant(one.at),
                "words": evidence_in_words(one),
            }
            for one in evidence.held
        ],
        "refusals": [
            {"need": dict(one.need), "total": dict(one.total), "at": instant(one.at)} for one in evidence.refusals
        ],
    }


def _fits(
    world: World, request: Request, free: Mapping[str, FreeCapacity], candidates: Mapping[str, list[VmFacts]]
) -> dict[str, int]:
    """How many more VMs of a flavor fit: by the quota, and in operator mode by the hosts too."""
    quota, overuse = free_quota(world, _NO_REQUEST).now, (world.quota_used - world.quota_limit).floored()
    now = times(quota, request.quota)
    after = times(quota + _reclaimable(world) - overuse, request.quota)
    if world.operator:
        hosts = sorted((host for host in world.hosts.values() if eligible(host, request)), key=lambda host: host.name)
        now = min(now, sum(times(free[host.name].now, request.resources) for host in hosts))
        left = dict(world.budgets)
        after = min(
            after,
            sum(
                _after_evictions(
                    host, free[host.name], request.resources, candidates.get(host.name, ()), world.max_victims, left
                )
                for host in hosts
            ),
        )
    return {"fits_now": now, "fits_after_evictions": after}


def _fits_by_evidence(world: World, request: Request, groups: Sequence[Mapping[str, Any]]) -> int:
    """How many more VMs of a flavor fit for a tenant on the hosts for which there is evidence, and into the quota.
    There may be more hosts, and others may fill these."""
    on_hosts = sum(times(Resources(group["free"]), request.resources) for group in groups)
    return min(on_hosts, times(free_quota(world, _NO_REQUEST).now, request.quota))


def _after_evictions(
    host: Host,
    free: FreeCapacity,
    need: Resources,
    candidates: Iterable[VmFacts],
    max_victims: int,
    left: dict[str, int],
) -> int:
    """How often the need fits on a host after evictions, with up to `max_victims` for each VM that comes.

    Capacity by which the host is over-committed is not free. `left` has the budgets of eviction groups; this subtracts
    its victims from them, so that the results of all hosts together are possible at once."""
    chosen = within_budgets(candidates, left)
    amount = free.now - (Resources() - host.free).floored()
    full = times(amount + total(frees(vm, host) for vm in chosen), need)
    if not full or len(chosen) <= max_victims and not any(vm.group for vm in chosen):
        return full
    fits, taken = times(amount, need), 0
    for number, vm in enumerate(chosen, 1):
        amount += frees(vm, host)
        if fits < times(amount, need) and number <= times(amount, need) * max_victims:
            fits, taken = times(amount, need), number
    for vm in chosen[:taken]:
        if vm.group in left:
            left[vm.group] -= 1
    return fits


def times(free: Resources, need: Resources) -> int:
    """How often the need fits into what is free."""
    return max(0, min((free[name] // amount for name, amount in need.items() if amount > 0), default=0))
