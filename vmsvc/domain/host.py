"""A compute host as Placement and Nova count it (operator mode)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from vmsvc.domain.requirements import Hypervisor
from vmsvc.domain.resources import Inventory, Resources, total


@dataclass(frozen=True, slots=True)
class Host:
    """One host, with all that is nested in it. Frozen: what changes is a new one.

    `allocations` is by consumer: a server's id, or whatever else has claimed room there. `free` can be below 0 (racing
    claims over-commit a host): then so much must leave before anything fits.
    """

    name: str                                  # the compute service's host, which `POST /servers` takes as `host`
    inventories: Mapping[str, Inventory]
    allocations: Mapping[str, Resources]
    available: bool = True                     # service up and enabled
    availability_zone: str | None = None
    traits: frozenset[str] = frozenset()
    hypervisor: Hypervisor | None = None
    capacity: Resources = field(init=False, compare=False)
    used: Resources = field(init=False, compare=False)
    free: Resources = field(init=False, compare=False)

    def __post_init__(self):
        capacity = Resources({name: inventory.capacity for name, inventory in self.inventories.items()})
        used = total(self.allocations.values())
        for name, value in (("capacity", capacity), ("used", used), ("free", capacity - used)):
            object.__setattr__(self, name, value)

    def admits(self, room: Resources) -> bool:
        """True when an empty host like this would take the claim: its classes, smallest and largest units, steps."""
        inventories = self.inventories
        return all(name in inventories and inventories[name].admits(amount) for name, amount in room.amounts.items())
