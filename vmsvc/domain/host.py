"""A compute host as Placement and Nova show it (operator mode)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from vmsvc.domain.resources import Inventory, Resources, total


@dataclass(frozen=True, slots=True)
class Hypervisor:
    """What `/os-hypervisors/detail` says of a host, as far as it hardly ever changes."""

    type: str = ""
    version: int = 0  # 6002000 is 6.2.0
    hostname: str = ""
    vcpus: int = 0
    cpu: Mapping[str, object] = field(default_factory=dict)  # `cpu_info`: arch, model, vendor, features, topology

    def shown(self, path: list[str]) -> object | None:
        """The value of an attribute of Nova's HostState, given as a path; None where it is not known."""
        value: object = {
            "hypervisor_type": self.type or None,
            "hypervisor_version": self.version or None,
            "hypervisor_hostname": self.hostname or None,
            "vcpus_total": self.vcpus or None,
            "cpu_info": self.cpu or None,
        }.get(path[0])
        for name in path[1:]:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value


@dataclass(frozen=True, slots=True)
class Host:
    """One host, with all resource providers that are nested in it. A host that changes is a new object.

    `allocations` is by consumer: the id of a server, or of whatever else has claimed resources there. `free` can be
    below 0, because racing claims over-commit a host: then so much must leave before anything fits.
    """

    name: str  # the compute service's host, which `POST /servers` takes as `host`
    inventories: Mapping[str, Inventory]
    allocations: Mapping[str, Resources]
    available: bool = True  # service up and enabled
    availability_zone: str | None = None
    traits: frozenset[str] = frozenset()
    hypervisor: Hypervisor | None = None
    capacity: Resources = field(init=False, compare=False)
    used: Resources = field(init=False, compare=False)
    free: Resources = field(init=False, compare=False)

    def __post_init__(self) -> None:
        capacity = Resources({name: inventory.capacity for name, inventory in self.inventories.items()})
        used = total(self.allocations.values())
        for name, value in (("capacity", capacity), ("used", used), ("free", capacity - used)):
            object.__setattr__(self, name, value)

    def admits(self, claim: Resources) -> bool:
        """True when this host, if empty, would take the claim: its classes, smallest and largest units, steps."""
        inventories = self.inventories
        return all(name in inventories and inventories[name].admits(amount) for name, amount in claim.amounts.items())
