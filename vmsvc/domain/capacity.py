"""Room as people want to see it: what there is, who has it, and how many of each flavor would fit."""

from collections.abc import Iterable, Mapping
from typing import Any

from vmsvc.domain.eligibility import eligible
from vmsvc.domain.host import Host
from vmsvc.domain.lifecycle import State
from vmsvc.domain.resources import QUOTA_ITEMS, Resources, total
from vmsvc.domain.rooms import Room, host_rooms, quota_room
from vmsvc.domain.victims import by_host, eligible_victims, frees, within
from vmsvc.domain.vm import VmFacts
from vmsvc.domain.world import HOST, UNLIMITED, Request, World

_NOBODY = Request("", False, Resources(), Resources())


def of(world: World, flavors: Mapping[str, Request]) -> dict[str, Any]:
    """Quota, hosts (operator) and flavors, each as a standard request for it."""
    rooms = host_rooms(world, world.hosts.values())
    victims = by_host(eligible_victims(world, False))
    return {
        "quota": _quota(world),
        "hosts": [_host(world, host, rooms[name], total(
            frees(vm, host) for vm in within(victims.get(name, ()), world.budgets)))
            for name, host in sorted(world.hosts.items())],
        "flavors": [{"name": name, "vcpus": wish.quota["cores"], "ram": wish.quota["ram"],
                     **_fits(world, wish, rooms, victims)} for name, wish in sorted(flavors.items())],
    }


def _reclaimable(world: World) -> Resources:
    """The quota that those hold who could all go now."""
    return total(vm.quota for vm in within(eligible_victims(world, False), world.budgets))


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
        "reclaimable": dict(_reclaimable(world)),
    }


def _host(world: World, host: Host, room: Room, reclaimable: Resources) -> dict[str, Any]:
    ours: dict[bool, list[VmFacts]] = {True: [], False: []}
    for vm in world.vms.at(host.name):
        if vm.cloud_id in host.allocations:
            ours[vm.is_preemptible].append(vm)
    held = {kind: total(frees(vm, host) for vm in vms) for kind, vms in ours.items()}
    return {
        "name": host.name, "available": host.available, "availability_zone": host.availability_zone,
        "capacity": dict(host.capacity), "used": dict(host.used), "free": dict(room.now),
        "standard": dict(held[False]), "preemptible": dict(held[True]),
        "foreign": dict(host.used - held[True] - held[False]),
        "reserved": dict(total(kept.room for kept in world.reservations.values()
                               if kept.kind == HOST and kept.bin == host.name)),
        "reclaimable": dict(reclaimable),
    }


def _fits(world: World, wish: Request, rooms: Mapping[str, Room],
          victims: Mapping[str, list[VmFacts]]) -> dict[str, int]:
    """How many more of a flavor fit: by the quota, and in operator mode by the hosts too."""
    free, overuse = quota_room(world, _NOBODY).now, (world.quota_used - world.quota_limit).floored()
    now = times(free, wish.quota)
    after = times(free + _reclaimable(world) - overuse, wish.quota)
    if world.operator:
        hosts = sorted((host for host in world.hosts.values() if eligible(host, wish)), key=lambda host: host.name)
        now = min(now, sum(times(rooms[host.name].now, wish.room) for host in hosts))
        left = dict(world.budgets)
        after = min(after, sum(_after(host, rooms[host.name], wish.room, victims.get(host.name, ()), world.max_victims,
                                      left) for host in hosts))
    return {"fits_now": now, "fits_after_evictions": after}


def _after(host: Host, room: Room, need: Resources, there: Iterable[VmFacts], most: int, left: dict[str, int]) -> int:
    """How many would fit there with victims gone, up to `most` for each: no fewer than can be had at once with other
    hosts, for what they take of the groups' budgets is gone from `left`. What the host is over-committed by is not
    free."""
    chosen = within(there, left)
    free = room.now - (Resources() - host.free).floored()
    full = times(free + total(frees(vm, host) for vm in chosen), need)
    if not full or len(chosen) <= most and not any(vm.group for vm in chosen):
        return full
    fits, taken = times(free, need), 0
    for number, vm in enumerate(chosen, 1):
        free += frees(vm, host)
        if fits < times(free, need) and number <= times(free, need) * most:
            fits, taken = times(free, need), number
    for vm in chosen[:taken]:
        if vm.group in left:
            left[vm.group] -= 1
    return fits


def times(free: Resources, need: Resources) -> int:
    """How often the need fits in what is free."""
    return max(0, min((free[name] // amount for name, amount in need.items() if amount > 0), default=0))
