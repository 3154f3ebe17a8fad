"""Which hosts a server group, `same_host` and `different_host` leave to a request. For a tenant the hosts are hostIds.

The rules are Nova's (nova/scheduler/filters/affinity_filter.py). A host that they exclude is no place for the request,
so no VM is evicted there: Nova would refuse the request all the same.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from vmsvc.domain.request import Request
from vmsvc.domain.server_group import AFFINITY, ANTI_AFFINITY, SOFT_AFFINITY, SOFT_ANTI_AFFINITY
from vmsvc.scheduling.decisions import Refuse, Wait
from vmsvc.scheduling.vms import VmFacts
from vmsvc.scheduling.world import HOST, HOST_GROUP, World


def with_host_rules(request: Request, world: World) -> Request:
    """The request with the hosts to which its rules limit it now, as the pass has decided so far."""
    if not request.has_host_rules:
        return request
    only, forbidden = None, frozenset(_at(world, server) for server in request.different_host) - {""}
    if request.same_host:
        only = frozenset(_at(world, server) for server in request.same_host) - {""}
    group = world.server_groups.get(request.server_group or "")
    if group is not None and group.policy in (AFFINITY, ANTI_AFFINITY):
        counts = members_by_host(request, world)
        if group.policy == ANTI_AFFINITY:
            forbidden |= {host for host, count in counts.items() if count >= group.most}
        elif counts:
            only = frozenset(counts) if only is None else only & counts.keys()
    return replace(request, only=only, forbidden=forbidden)


def members_by_host(request: Request, world: World) -> Mapping[str, int]:
    """How many members of its server group are on each host, with those that build or have capacity reserved there,
    and without the request itself. One that leaves counts until its server is gone, as Nova counts it."""
    group = world.server_groups.get(request.server_group or "")
    places = {server: _at(world, server) for server in (group.members if group else ())}
    for vm in world.vms.in_server_group(request.server_group or ""):
        if vm.id != request.id and (vm.present or not vm.ended):
            places[vm.cloud_id or vm.id] = place_of(vm, world)
    for reserved in world.reservations.values():
        if (
            reserved.server_group == request.server_group
            and reserved.vm_id != request.id
            and reserved.vm_id not in world.vms
        ):
            places[reserved.vm_id] = reserved.bin if reserved.kind in (HOST, HOST_GROUP) else ""
    return Counter(filter(None, places.values()))


def place_of(vm: VmFacts, world: World) -> str:
    """The host of a VM, for a tenant its hostId; "" while it has none."""
    return (vm.host if world.operator else vm.host_id) or ""


def _at(world: World, server: str) -> str:
    return world.locations.get(server, "")


def objection(request: Request, world: World) -> Refuse | Wait | None:
    """Why nothing can be decided for the request but this: its server group is not there or was not read, or another
    request is about to use its port or address."""
    if request.server_group is not None:
        if request.server_group not in world.server_groups:
            return Wait("the cloud does not say who is in its server group", brief=True)
        if world.server_groups[request.server_group] is None:
            return Refuse("invalid_request", f"server_group: there is no server group {request.server_group} any more")
    if not request.claims:
        return None
    others = [(vm.id, vm.claims) for vm in world.vms.building]
    others += [(reserved.vm_id, reserved.claims) for reserved in world.reservations.values()]
    for vm_id, claims in others:
        if vm_id != request.id and (taken := claims & request.claims):
            return Refuse("conflict", f"the {min(taken)} is for the vm {vm_id}, which came before it")
    return None


def preference(request: Request, world: World) -> Mapping[str, int] | None:
    """By host, how little a soft policy likes it for this request: 0 where a host is missing; None without such a
    policy. vmsvc names the host to Nova, so Nova's own weighing has no say."""
    group = world.server_groups.get(request.server_group or "")
    if group is None or group.policy not in (SOFT_AFFINITY, SOFT_ANTI_AFFINITY):
        return None
    counts = members_by_host(request, world)
    return {host: count if group.policy == SOFT_ANTI_AFFINITY else -count for host, count in counts.items()}


def rules_in_words(request: Request, world: World) -> str:
    """The rules of a request, for people."""
    group = world.server_groups.get(request.server_group or "")
    words = [f"its server group {group.name} ({group.policy})"] if group else []
    words += [f"its hint {name}" for name in ("same_host", "different_host") if getattr(request, name)]
    return " and ".join(words)
