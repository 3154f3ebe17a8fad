"""Nova's compute hosts, and its scheduler, which chooses the host of a server.

It is one with free capacity in Placement that passes the filters, the one with most free memory first."""

import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from vmsvc.simulator.clock import Clock, Settings
from vmsvc.simulator.errors import bad_request, conflict, not_found
from vmsvc.simulator.nova.servers import Groups, Server
from vmsvc.simulator.placement.model import Consumer, Placement, Provider, full_inventory
from vmsvc.simulator.store import Store, Table

#: The fault's message when Placement had no candidate. The space at its end is real (measured).
NO_CANDIDATES = "No valid host was found. "
#: The fault's message when Placement had candidates, and the filters or another claim took all of them (measured).
ALL_FILTERED = "No valid host was found. There are not enough hosts available."
MAX_ATTEMPTS = 3


@dataclass
class Host:
    """One nova-compute service with one node. `number` is the integer id that old microversions show."""

    name: str
    node: str  # hypervisor_hostname
    provider_id: str
    service_id: str
    number: int
    az: str = "nova"
    disabled: bool = False
    disabled_reason: str | None = None
    forced_down: bool = False
    silent_since: float | None = None  # when the machine died; Nova notices later
    refuses: bool = False  # a filter of the scheduler rejects the host, though Placement has capacity
    cell_down: bool = False  # Nova cannot read the host's cell: lists leave its servers out
    arch: str = "x86_64"  # of its CPU


class Hosts:
    """All hosts, by name, and by the id of their resource provider."""

    def __init__(self, store: Store, placement: Placement, clock: Clock, settings: Settings):
        self._placement = placement
        self._clock = clock
        self._settings = settings
        self.all = Table(store, "host", Host)
        for host in sorted(self.all.values(), key=lambda each: each.number):
            self.all[host.name] = self.all.pop(host.name)
        self.by_provider = {host.provider_id: host for host in self.all.values()}

    def add(
        self,
        name: str,
        *,
        vcpus: int = 4,
        ram_mb: int = 8192,
        disk_gb: int = 1000,
        az: str = "nova",
        node: str | None = None,
    ) -> Host:
        """Make a host and its resource provider, with max_unit = total and allocation ratio 1.0."""
        if name in self.all:
            raise conflict(f"host {name} is there already")
        provider = Provider(str(uuid.uuid4()), node or name)
        for resource, total in (("VCPU", vcpus), ("MEMORY_MB", ram_mb), ("DISK_GB", disk_gb)):
            provider.inventories[resource] = {
                "total": total,
                "reserved": 0,
                "min_unit": 1,
                "max_unit": total,
                "step_size": 1,
                "allocation_ratio": 1.0,
            }
        self._placement.add(provider)
        number = 1 + max((host.number for host in self.all.values()), default=0)
        host = Host(name, node or name, provider.uuid, str(uuid.uuid4()), number, az=az)
        self.by_provider[provider.uuid] = host
        self.save(host)
        return host

    def save(self, host: Host) -> None:
        """Store what was changed of a host."""
        self.all.save(host.name, host)

    def remove(self, name: str) -> None:
        """Remove a host. Raises ApiError 409 while a server is on it."""
        host = self.get(name)
        self._placement.remove(host.provider_id)
        del self.by_provider[host.provider_id]
        self.all.remove(name)

    def get(self, name: str) -> Host:
        """Raises ApiError 404 for an unknown name."""
        if name not in self.all:
            raise not_found(f"Compute host {name} could not be found.")
        return self.all[name]

    def matching(self, name: str | None, node: str | None) -> list[Host]:
        """The hosts with this name and this node; None stands for any."""
        if name is not None:
            hosts = [self.all[name]] if name in self.all else []
        elif node is not None:
            provider = self._placement.by_name.get(node)
            hosts = [self.by_provider[provider.uuid]] if provider and provider.uuid in self.by_provider else []
        else:
            return list(self.all.values())
        return [host for host in hosts if node in (None, host.node)]

    def resize(self, host: Host, values: dict[str, Any]) -> None:
        """Set `vcpus`, `ram_mb`, `disk_gb`, and by resource class `inventories` (None removes one), `reserved` and
        `ratio`."""
        provider = self._placement.providers[host.provider_id]
        for resource, inventory in values.get("inventories", {}).items():
            if inventory is None:
                provider.inventories.pop(resource, None)
            else:
                provider.inventories[resource] = full_inventory(inventory)
                if resource.startswith("CUSTOM_"):
                    self._placement.add_class(resource)
        for key, resource in (("vcpus", "VCPU"), ("ram_mb", "MEMORY_MB"), ("disk_gb", "DISK_GB")):
            if key in values:
                provider.inventories[resource].update(total=values[key], max_unit=values[key])
        for key, item in (("reserved", "reserved"), ("ratio", "allocation_ratio")):
            for resource, value in values.get(key, {}).items():
                if resource not in provider.inventories:
                    raise bad_request(f"the host has no {resource}")
                provider.inventories[resource][item] = value
        self._placement.save(provider)

    def set_alive(self, host: Host, alive: bool) -> None:
        """Let the host's machine die without a message to Nova, or come back."""
        host.silent_since = None if alive else (host.silent_since or self._clock.now())
        self.save(host)

    def works(self, host: Host) -> bool:
        """True while the host's nova-compute carries out what it is asked to do."""
        return host.silent_since is None

    def is_up(self, host: Host) -> bool:
        """True while Nova calls the host up: for a dead machine, until service_down_time is over."""
        if host.forced_down:
            return False
        return host.silent_since is None or (
            self._clock.now() - host.silent_since < self._settings.service_down_seconds
        )

    def takes_servers(self, host: Host) -> bool:
        """True when the host passes the scheduler's filters that look at hosts alone."""
        return self.is_up(host) and not host.disabled and not host.refuses

    def zones(self) -> dict[str, list[Host]]:
        """The hosts of each availability zone."""
        zones: dict[str, list[Host]] = {}
        for host in self.all.values():
            zones.setdefault(host.az, []).append(host)
        return zones


class NoValidHost(Exception):
    """No host can take the server. The message is that of the server's fault."""


class Scheduler:
    """Chooses a host for a server and allocates the capacity on it."""

    def __init__(self, hosts: Hosts, placement: Placement, groups: Groups):
        self._hosts = hosts
        self._placement = placement
        self._groups = groups

    def place(
        self,
        server: Server,
        flavor: dict[str, Any] | None = None,
        host: str | None = None,
        avoid: Collection[str] = (),
    ) -> Host:
        """Allocate capacity for the server and return its host: for another flavor than its own, on this host only, or
        on none of those. Raises NoValidHost."""
        flavor, has_candidates = flavor or server.flavor, False
        if not self._placement.knows_traits((*flavor["traits"], *flavor.get("forbidden", ()))):
            raise NoValidHost(NO_CANDIDATES)  # Placement refuses the query with 400 (measured).
        request = flavor["request"]
        for found in self._by_weight(server, request, host):
            if found.name in avoid:
                continue
            allocations = self._allocations(found, flavor, request)
            if allocations is None:
                continue
            has_candidates = True
            if self._passes_filters(found, server):
                claim = Consumer(server.id, server.project_id, server.user_id, allocations)
                if self._placement.claim(claim):
                    return found
        raise NoValidHost(ALL_FILTERED if has_candidates else NO_CANDIDATES)

    def _by_weight(self, server: Server, request: dict[str, int], asked: str | None) -> Iterator[Host]:
        """The hosts that the server may go to (the one that was asked for, those of a pin, of a zone, or all), the best
        one first."""
        if asked is not None:
            yield from self._hosts.matching(asked, None)
            return
        if (server.asked_host or server.asked_node) and server.vm_state == "building":
            yield from self._hosts.matching(server.asked_host, server.asked_node)
            return
        for provider_id in self._placement.by_free_memory.at_least(request.get("MEMORY_MB", 0)):
            host = self._hosts.by_provider.get(provider_id)
            if host is not None and server.asked_az in (None, host.az):
                yield host

    def _allocations(
        self, host: Host, flavor: dict[str, Any], request: dict[str, int]
    ) -> dict[str, dict[str, int]] | None:
        """What the server would take of each provider of the host; None without capacity or with a wrong trait."""
        traits = {trait for part in self._placement.tree(host.provider_id) for trait in part.traits}
        if not set(flavor["traits"]) <= traits or traits & set(flavor.get("forbidden", ())):
            return None
        return self._placement.allocate_over_tree(host.provider_id, request)

    def _passes_filters(self, host: Host, server: Server) -> bool:
        """Nova's filters: the service, the hosts that were tried before, the image's properties, the server group."""
        wanted = server.flavor.get("image_wants", ("", "", ""))
        return (
            self._hosts.takes_servers(host)
            and host.name not in server.tried_hosts
            and all(want in ("", has) for want, has in zip(wanted, (host.arch, "fake", "hvm")))
            and self._groups.allows(server, host.name)
        )
