"""Room as people want to see it: what there is, who has it, and how many of each flavor would fit."""

from collections.abc import Mapping
from typing import Any

from vmsvc.domain.flavors import placement_request, quota_request
from vmsvc.domain.lifecycle import State
from vmsvc.domain.resources import QUOTA_ITEMS, Resources, total
from vmsvc.domain.world import HOST, UNLIMITED, HostFacts, Request, World, host_room, quota_room

_NOBODY = Request("", False, Resources(), Resources())


def of(world: World, flavors: Mapping[str, tuple]) -> dict[str, Any]:
    """Quota, hosts (operator) and flavors. A flavor is (vcpus, ram MiB, disk, ephemeral GiB, swap MiB, specs)."""
    return {
        "quota": _quota(world),
        "hosts": [_host(world, host) for _, host in sorted(world.hosts.items())],
        "flavors": [{"name": name, "vcpus": flavor[0], "ram": flavor[1], **_fits(world, flavor)}
                    for name, flavor in sorted(flavors.items())],
    }


def _victims(world: World) -> list:
    return [vm for vm in world.vms.values() if vm.is_preemptible and vm.state is State.ACTIVE and vm.present
            and not vm.untouchable]


def _quota(world: World) -> dict[str, Any]:
    """Of an item without a limit (None) nobody can say how much is free."""
    room = quota_room(world, _NOBODY)
    mine = [vm for vm in world.vms.values() if vm.present or vm.state is State.BUILDING]
    limit = {item: None if world.quota_limit[item] >= UNLIMITED else world.quota_limit[item] for item in QUOTA_ITEMS}
    return {
        "limit": limit, "used": dict(world.quota_used),
        "free": {item: room.now[item] for item, most in limit.items() if most is not None},
        "standard": dict(total(vm.quota for vm in mine if not vm.is_preemptible)),
        "preemptible": dict(total(vm.quota for vm in mine if vm.is_preemptible)),
        "reserved": dict(total(kept.quota for kept in world.reservations.values())),
        "reclaimable": dict(total(vm.quota for vm in _victims(world))),
    }


def _host(world: World, host: HostFacts) -> dict[str, Any]:
    room = host_room(world, host, _NOBODY)
    held = {kind: total(host.allocations[vm.cloud_id] for vm in world.vms.values()
                        if vm.cloud_id in host.allocations and vm.is_preemptible is kind) for kind in (True, False)}
    used = total(host.allocations.values())
    return {
        "name": host.name, "available": host.available, "availability_zone": host.availability_zone,
        "capacity": dict(host.capacity), "used": dict(used), "free": dict(room.now),
        "standard": dict(held[False]), "preemptible": dict(held[True]),
        "foreign": dict(used - held[True] - held[False]),
        "reserved": dict(total(kept.room for kept in world.reservations.values()
                               if kept.kind == HOST and kept.bin == host.name)),
        "reclaimable": dict(total(host.allocations[vm.cloud_id] for vm in _victims(world)
                                  if vm.cloud_id in host.allocations)),
    }


def _fits(world: World, flavor: tuple) -> dict[str, int]:
    """How many more of a flavor fit: by the quota, and in operator mode by the hosts too."""
    vcpus, ram, disk, ephemeral, swap, specs = flavor
    quota, room = quota_request(vcpus, ram), placement_request(vcpus, ram, disk, ephemeral_gb=ephemeral,
                                                               swap_mb=swap, extra_specs=specs)
    free, victims = quota_room(world, _NOBODY).now, _victims(world)
    now = times(free, quota)
    after = times(free + total(vm.quota for vm in victims), quota)
    if world.operator:
        hosts = [host for host in world.hosts.values() if host.available and host.admits(room)]
        now = min(now, sum(times(host_room(world, host, _NOBODY).now, room) for host in hosts))
        after = min(after, sum(times(_reclaimed(world, host, victims), room) for host in hosts))
    return {"fits_now": now, "fits_after_evictions": after}


def _reclaimed(world: World, host: HostFacts, victims: list) -> Resources:
    freed = total(host.allocations[vm.cloud_id] for vm in victims if vm.cloud_id in host.allocations)
    return host_room(world, host, _NOBODY).now + freed


def times(free: Resources, need: Resources) -> int:
    """How often the need fits in what is free."""
    return min((free[name] // amount for name, amount in need.items() if amount > 0), default=0)
