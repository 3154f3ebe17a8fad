"""Compute hosts: the service as Nova knows it, and what is wrong with it."""

import uuid
from dataclasses import dataclass

from vmsvc.sim.clock import Clock
from vmsvc.sim.placement import Placement, Provider, full_inventory
from vmsvc.sim.refusal import bad_request, conflict, not_found
from vmsvc.sim.settings import Settings
from vmsvc.sim.store import Store


@dataclass
class Host:
    """One nova-compute with one node. `number` is the integer id that old microversions show."""

    name: str
    node: str                          # hypervisor_hostname
    provider_id: str
    service_id: str
    number: int
    az: str = "nova"
    disabled: bool = False
    disabled_reason: str | None = None
    forced_down: bool = False
    silent_since: float | None = None  # the machine died then; Nova notices later
    refuses: bool = False              # a scheduler filter says no though Placement has room
    cell_down: bool = False            # lists leave its servers out
    arch: str = "x86_64"               # of its CPU


class Hosts:
    """All hosts, by name."""

    def __init__(self, store: Store, placement: Placement, clock: Clock, settings: Settings):
        self._store = store
        self._placement = placement
        self._clock = clock
        self._settings = settings
        self.all: dict[str, Host] = {}
        for key, body in sorted(store.load("host"), key=lambda row: row[1]["number"]):
            self.all[key] = Host(**body)
        self.by_provider = {host.provider_id: host for host in self.all.values()}

    def add(self, name: str, *, vcpus: int = 4, ram_mb: int = 8192, disk_gb: int = 1000, az: str = "nova",
            node: str | None = None) -> Host:
        """A new host with its provider. Limits as on the real bed: max_unit = total, ratio 1.0."""
        if name in self.all:
            raise conflict(f"host {name} is there already")
        provider = Provider(str(uuid.uuid4()), node or name)
        for resource, total in (("VCPU", vcpus), ("MEMORY_MB", ram_mb), ("DISK_GB", disk_gb)):
            provider.inventories[resource] = {"total": total, "reserved": 0, "min_unit": 1, "max_unit": total,
                                              "step_size": 1, "allocation_ratio": 1.0}
        self._placement.add(provider)
        number = 1 + max((host.number for host in self.all.values()), default=0)
        host = Host(name, node or name, provider.uuid, str(uuid.uuid4()), number, az=az)
        self.all[name] = self.by_provider[provider.uuid] = host
        self.changed(host)
        return host

    def changed(self, host: Host) -> None:
        """Keep what was changed."""
        self._store.put("host", host.name, host)

    def remove(self, name: str) -> None:
        """Take a host away; 409 while a server is on it."""
        host = self.get(name)
        self._placement.remove(host.provider_id)
        del self.all[name], self.by_provider[host.provider_id]
        self._store.drop("host", name)

    def get(self, name: str) -> Host:
        """The host, or 404."""
        if name not in self.all:
            raise not_found(f"Compute host {name} could not be found.")
        return self.all[name]

    def matching(self, name: str | None, node: str | None) -> list[Host]:
        """The hosts that a pin means; all of them without one."""
        if name is not None:
            found = [self.all[name]] if name in self.all else []
        elif node is not None:
            provider = self._placement.by_name.get(node)
            found = [self.by_provider[provider.uuid]] if provider and provider.uuid in self.by_provider else []
        else:
            return list(self.all.values())
        return [host for host in found if node in (None, host.node)]

    def resize(self, host: Host, values: dict) -> None:
        """Set `vcpus`, `ram_mb`, `disk_gb`, `inventories`, `reserved` and `ratio` (these by class)."""
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
        self._placement.changed(provider)

    def set_alive(self, host: Host, alive: bool) -> None:
        """Let the machine die without a word, or come back."""
        host.silent_since = None if alive else (host.silent_since or self._clock.now())
        self.changed(host)

    def works(self, host: Host) -> bool:
        """True when its nova-compute does what it is told."""
        return host.silent_since is None

    def is_up(self, host: Host) -> bool:
        """What Nova believes: a silent host is up until service_down_time is over."""
        if host.forced_down:
            return False
        return host.silent_since is None or (
            self._clock.now() - host.silent_since < self._settings.service_down_seconds)

    def takes_servers(self, host: Host) -> bool:
        """True when the scheduler's filters let it pass."""
        return self.is_up(host) and not host.disabled and not host.refuses

    def zones(self) -> dict[str, list[Host]]:
        """The hosts of each availability zone."""
        zones: dict[str, list[Host]] = {}
        for host in self.all.values():
            zones.setdefault(host.az, []).append(host)
        return zones
