"""Images and networks of the cloud, as far as they decide whether and where a server can be created."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Image:
    """An image. `properties`, by name, are those that are not Glance's own: `hw_*`, `os_*`, `trait:*`, ..."""

    id: str
    name: str
    status: str = "active"
    min_ram_mb: int = 0
    min_disk_gb: int = 0
    size_bytes: int = 0
    properties: Mapping[str, str] = field(default_factory=dict)
    of_volume: bool = False  # the request has its root disk in Cinder

    def on_volume(self) -> "Image":
        """The same for a server whose root disk is a volume that Cinder makes of it: the create names no image."""
        return replace(self, id="", of_volume=True)

    @property
    def boots_volume(self) -> bool:
        """True where Nova has the root disk in Cinder, and asks no host for it: also for an image that stands for a
        volume (the snapshot of a server that booted from one)."""
        if self.of_volume:
            return True
        mapping = self.properties.get("block_device_mapping")
        try:
            devices = json.loads(mapping) if isinstance(mapping, str) else mapping
        except ValueError:
            return False
        return isinstance(devices, list) and any(
            isinstance(device, dict)
            and device.get("boot_index") == 0
            and (device.get("destination_type") == "volume" or device.get("source_type") in ("volume", "snapshot"))
            for device in devices
        )


@dataclass(frozen=True, slots=True)
class Network:
    """A network; `subnets` are the ids of its subnets. `own`: it is the project's, so the project sees all its ports,
    and may choose addresses there; `filters`: security groups can be applied to its ports."""

    id: str
    name: str
    subnets: tuple[str, ...] = ()
    own: bool = True
    filters: bool = True


@dataclass(frozen=True, slots=True)
class Port:
    """A port in Neutron. `device_id`: what uses it, a server or a router; None for nothing."""

    id: str
    network_id: str
    project_id: str
    device_id: str | None


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume in Cinder. `properties` are those of the image that it was made of, with `min_ram` among them."""

    id: str
    name: str
    status: str
    size_gb: int
    bootable: bool
    properties: Mapping[str, str] = field(default_factory=dict)

    def as_image(self) -> Image:
        """What stands for the image of a server that boots from it."""
        least = self.properties.get("min_ram", "")
        ram = int(least) if least.isdigit() else 0
        return Image("", f"volume {self.name or self.id}", "active", ram, properties=self.properties, of_volume=True)


@dataclass(frozen=True, slots=True)
class VolumesLeft:
    """How many more volumes, and GiB of them, a project may have in Cinder; None without a limit."""

    count: int | None
    gib: int | None


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses in a network's pools, for the IP version that has fewest left: how many there are, and how many are
    known to be used. `holders` are the ids of the servers that use one and give it back when they are deleted. A tenant
    sees the ports of other projects only on its own networks: elsewhere more than `used` may be in use."""

    total: int
    used: int
    holders: frozenset[str] = frozenset()

    @property
    def free(self) -> int:
        """How many addresses are left, at most."""
        return max(0, self.total - self.used)
