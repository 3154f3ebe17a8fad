"""What an operator's cloud tells of its hosts and of who is on them: plain frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from vmsvc.domain.requirements import Hypervisor
from vmsvc.domain.resources import Inventory, Resources


@dataclass(frozen=True, slots=True)
class Occupant:
    """A server, anybody's, as far as it takes room from a host."""

    id: str
    status: str
    host: str | None
    room: Resources


@dataclass(frozen=True, slots=True)
class Provider:
    """A compute host in Placement's list. `version` grows with every change of its inventories and traits and with
    every claim; the end of a claim may leave it as it is."""

    id: str
    host: str                      # the compute service's host, which `POST /servers` takes as `host`
    parts: tuple[str, ...]         # the providers of its tree: itself, and what is nested in it (GPUs, NUMA cells)
    version: int
    hypervisor: Hypervisor | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """What Placement says of one compute host, its tree taken together."""

    inventories: Mapping[str, Inventory]
    allocations: Mapping[str, Resources]   # consumer (mostly a server's id) -> what it holds
    version: int


@dataclass(frozen=True, slots=True)
class Service:
    """A compute service: what is `up` finishes its work, and takes new work when it is `enabled` too."""

    up: bool
    enabled: bool
    zone: str | None


@dataclass(frozen=True, slots=True)
class OccupantPage:
    """Servers of other projects that changed; `as_of` as with ServerPage."""

    occupants: tuple[Occupant, ...]
    as_of: datetime
