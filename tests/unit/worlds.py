"""Small worlds, written down: hosts of 4 VCPU and 8 GiB, VMs of one VCPU and 1 GiB unless they say otherwise."""

from vmsvc.domain.host import Host
from vmsvc.domain.lifecycle import State
from vmsvc.domain.request import Request
from vmsvc.domain.resources import Inventory, Resources
from vmsvc.scheduling.host_index import IndexedWorld
from vmsvc.scheduling.vms import VmFacts, VmIndex
from vmsvc.scheduling.world import ReservedCapacity


def resources(cpus=1):
    """What a VM of so many VCPUs claims."""
    return Resources({"VCPU": cpus, "MEMORY_MB": 1024 * cpus})


def quota(cpus=1):
    """What it counts for."""
    return Resources({"instances": 1, "cores": cpus, "ram": 1024 * cpus})


def vm(name, cpus=1, **facts):
    """A preemptible VM that runs, on sim-1 unless told otherwise; its cloud id is its name in capitals."""
    place = facts.pop("host", "sim-1")
    return VmFacts(
        name,
        **{
            "state": State.ACTIVE,
            "is_preemptible": True,
            "quota": quota(cpus),
            "resources": resources(cpus),
            "cloud_id": name.upper(),
            "host": place,
            "host_id": f"id-of-{place}",
            "present": True,
            **facts,
        },
    )


def request(name="wanted", cpus=1, **facts):
    """A standard VM that waits."""
    return Request(name, **{"is_preemptible": False, "quota": quota(cpus), "resources": resources(cpus), **facts})


def reserved(name, kind, place, cpus=1, members=()):
    """Room that is kept for it."""
    return ReservedCapacity(
        name, kind, place, quota(cpus), resources(cpus), {member.id: member.resources for member in members}
    )


def host(name="sim-1", vms=(), foreign=0, **facts):
    """A host with what is on it."""
    inventories = {"VCPU": Inventory(4, max_unit=4), "MEMORY_MB": Inventory(8192, max_unit=8192)}
    allocations = {each.cloud_id: each.resources for each in vms if each.host == name and each.present}
    if foreign:
        allocations["foreign"] = resources(foreign)
    return Host(name, inventories, allocations, availability_zone=facts.pop("availability_zone", "nova"), **facts)


def operator(*vms, hosts=None, foreign=0, kept=(), limit=None, **facts):
    """A world seen with an operator's eyes; one host, sim-1, unless told otherwise."""
    return _world(
        vms,
        kept,
        limit,
        operator=True,
        hosts={each.name: each for each in (hosts if hosts is not None else [host("sim-1", vms, foreign)])},
        **facts,
    )


def tenant(*vms, kept=(), limit=None, **facts):
    """A world seen with a tenant's eyes."""
    return _world(vms, kept, limit, operator=False, hosts={}, **facts)


def _world(vms, kept, limit, **facts):
    used = sum((each.quota for each in vms if each.present), Resources())
    limits = Resources({"instances": 100, "cores": 100, "ram": 100_000, **(limit or {})})
    return IndexedWorld(
        quota_limit=limits, quota_used=used, vms=VmIndex(vms), reservations={each.vm_id: each for each in kept}, **facts
    )


def one_of(rng, names, known, changed, leaves):
    """One of them is to change, or with this probability it leaves those who are known. Its name, whether it left."""
    name = rng.choice(names)
    changed.add(name)
    left = rng.random() < leaves
    if left:
        known.pop(name, None)
    return name, left
