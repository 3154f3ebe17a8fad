"""Nova's host aggregates. One with the metadata `availability_zone` makes that zone of its hosts."""

import uuid
from dataclasses import dataclass, field
from typing import Any

from vmsvc.simulator.errors import bad_request, conflict, not_found
from vmsvc.simulator.nova.scheduling import Host, Hosts
from vmsvc.simulator.placement.model import Placement
from vmsvc.simulator.store import Store, Table

ZONE = "availability_zone"


@dataclass
class Aggregate:
    """An aggregate, which is an aggregate of the same uuid in Placement too."""

    id: int
    uuid: str
    name: str
    created: float
    updated: float | None = None
    hosts: list[str] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)


class Aggregates:
    """All aggregates, by id."""

    def __init__(self, store: Store, hosts: Hosts, placement: Placement):
        self._hosts = hosts
        self._placement = placement
        self.all = Table(store, "aggregate", Aggregate)

    def get(self, key: str) -> Aggregate:
        """Raises ApiError 404."""
        if key not in self.all:
            raise not_found(f"Aggregate {key} could not be found.")
        return self.all[key]

    def add(self, name: str, zone: str | None, now: float) -> Aggregate:
        """Make an empty aggregate. Raises ApiError 409 for a name that there is."""
        self._require_new(name)
        number = 1 + max((int(key) for key in self.all), default=1000)
        aggregate = Aggregate(number, str(uuid.uuid4()), name, now, metadata={ZONE: zone} if zone else {})
        self.all.save(str(number), aggregate)
        return aggregate

    def _require_new(self, name: str) -> None:
        if any(each.name == name for each in self.all.values()):
            raise conflict(f"Aggregate {name} already exists.")

    def rename(self, aggregate: Aggregate, name: str) -> None:
        """Raises ApiError 409 for a name that there is."""
        if name != aggregate.name:
            self._require_new(name)
        aggregate.name = name

    def save(self, aggregate: Aggregate, now: float) -> None:
        """Store what was changed, and set the zones of the hosts."""
        aggregate.updated = now
        self.all.save(str(aggregate.id), aggregate)
        for name in aggregate.hosts:
            self._set_zone(self._hosts.all[name])

    def set_metadata(self, aggregate: Aggregate, changes: dict[str, Any], now: float) -> None:
        """Set some metadata; null removes a key."""
        merged = {**aggregate.metadata, **changes}
        aggregate.metadata = {name: value for name, value in merged.items() if value is not None}
        self.save(aggregate, now)

    def add_host(self, aggregate: Aggregate, name: str, now: float) -> None:
        """Raises ApiError 404 for an unknown host, 409 for one that is in already, or in another zone."""
        host = self._hosts.all.get(name)
        if host is None:
            raise not_found(f"Compute host {name} could not be found.")
        if name in aggregate.hosts:
            raise conflict(f"Aggregate {aggregate.id} already has host {name}.")
        zones = {each.metadata[ZONE] for each in self.all.values() if name in each.hosts and ZONE in each.metadata}
        if ZONE in aggregate.metadata and zones - {aggregate.metadata[ZONE]}:
            raise conflict(
                f"Cannot add host to aggregate {aggregate.id}. Reason: One or more hosts already in availability "
                f"zone(s) {sorted(zones)}."
            )
        aggregate.hosts = [*aggregate.hosts, name]
        self._mirror(host, aggregate, True)
        self.save(aggregate, now)

    def remove_host(self, aggregate: Aggregate, name: str, now: float) -> None:
        """Raises ApiError 404 for a host that is not in."""
        host = self._hosts.all.get(name)
        if host is None:
            raise not_found(f"Compute host {name} could not be found.")
        if name not in aggregate.hosts:
            raise not_found(f"Aggregate {aggregate.id} has no host {name}.")
        aggregate.hosts = [each for each in aggregate.hosts if each != name]
        self._mirror(host, aggregate, False)
        self.save(aggregate, now)
        self._set_zone(host)

    def remove(self, aggregate: Aggregate) -> None:
        """Raises ApiError 400 while a host is in."""
        if aggregate.hosts:
            raise bad_request(f"Cannot remove host from aggregate {aggregate.id}. Reason: Host aggregate is not empty.")
        self.all.remove(str(aggregate.id))

    def _mirror(self, host: Host, aggregate: Aggregate, member: bool) -> None:
        provider = self._placement.providers[host.provider_id]
        others = [each for each in provider.aggregates if each != aggregate.uuid]
        provider.aggregates = [*others, aggregate.uuid] if member else others
        self._placement.save(provider)

    def _set_zone(self, host: Host) -> None:
        zones = (each.metadata.get(ZONE) for each in self.all.values() if host.name in each.hosts)
        host.az = next((zone for zone in zones if zone), "nova")
        self._hosts.save(host)
