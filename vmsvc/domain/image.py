"""An image, as far as it decides whether a server boots from it, and on which hosts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Image:
    """`properties` are those that are not Glance's own: `hw_*`, `os_*`, `trait:*`, ..., by name."""

    id: str
    name: str
    status: str = "active"
    min_ram_mb: int = 0
    min_disk_gb: int = 0
    size_bytes: int = 0
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def boots_volume(self) -> bool:
        """True for an image that stands for a volume (the snapshot of a server that booted from one): Nova makes the
        root disk in Cinder, and asks no host for it."""
        mapping = self.properties.get("block_device_mapping")
        try:
            devices = json.loads(mapping) if isinstance(mapping, str) else mapping
        except ValueError:
            return False
        return isinstance(devices, list) and any(
            isinstance(device, dict) and device.get("boot_index") == 0
            and (device.get("destination_type") == "volume" or device.get("source_type") in ("volume", "snapshot"))
            for device in devices)
