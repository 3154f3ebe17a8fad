"""Which requests Nova refuses whatever room there is, as far as the flavor, Glance and Neutron tell.

Measured on a real Nova 34 and read in nova/compute/api.py (`_validate_flavor_image_nostatus`). What depends on a policy
of the cloud (a flavor without a disk) or on a combination of properties is Nova's to say: see `Cloud.rehearse`.
"""

from collections.abc import Collection
from dataclasses import dataclass

from vmsvc.domain.flavors import Flavor
from vmsvc.domain.image import Image
from vmsvc.domain.network import Addresses, Network

_GIB = 1024**3
_FEW = 64


@dataclass(frozen=True, slots=True)
class Objection:
    """Why it will be refused: `error` is the slug that the client sees, `field` the part of the request to mend."""

    message: str
    field: str | None = None
    error: str = "invalid_request"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the cloud says of a request before anybody is noticed for it. `objection`: Nova refuses it. `ports`: how
    many more ports the project may have, None without a limit. `addresses`: those of its network, None where they were
    not counted; `unplugged`: how the last build failed that could not be plugged in there, if none has succeeded
    since."""

    objection: Objection | None = None
    ports: int | None = None
    addresses: Addresses | None = None
    unplugged: str | None = None

    @property
    def counts(self) -> bool:
        """True when few enough are left that it matters who else takes one."""
        return self.ports is not None or self.addresses is not None and self.addresses.free <= _FEW

    def object_to(self, leaving: Collection[str], claims: int = 0) -> Objection | None:
        """Why it will be refused even when these servers (ids of the cloud) have gone: each gives back its port and its
        address. `claims`: so many others will take one of each that is not seen in use yet."""
        if self.objection:
            return self.objection
        if self.ports is not None and self.ports + len(leaving) - claims < 1:
            return Objection("the project has as many ports as its quota in Neutron allows, and the VMs that could be "
                             "evicted would not give back enough", "network", "quota_exceeded")
        given_back = self.addresses.holders & set(leaving) if self.addresses else frozenset()
        if self.addresses is not None and self.addresses.free + len(given_back) - claims < 1:
            return Objection(no_address("of this request", self.addresses), "network")
        if self.unplugged and not given_back:
            return Objection(f"the last VM could not be plugged into this network: {self.unplugged}", "network")
        return None


def no_address(network: str, addresses: Addresses) -> str:
    """Why a network takes no server."""
    return f"the network {network} has no free address: all {addresses.total} of its pools are used"


def objection(flavor: Flavor, image: Image, network: Network | None) -> Objection | None:
    """Why Nova refuses this combination, None when nothing of it is to be seen here."""
    if flavor.disabled:
        return Objection(f"the flavor {flavor.name} is disabled", "flavor")
    if image.status != "active":
        return Objection(f"the image {image.name or image.id} is {image.status}, not active", "image")
    if image.properties.get("cinder_encryption_key_id") and not image.boots_volume:
        return Objection(f"the image {image.name} is of an encrypted volume: no server boots from it", "image")
    if flavor.ram_mb < image.min_ram_mb:
        return Objection(f"the image {image.name} needs {image.min_ram_mb} MiB of memory, and the flavor {flavor.name} "
                         f"has {flavor.ram_mb}", "flavor")
    if network is not None and not network.subnets:
        return Objection(f"the network {network.name or network.id} has no subnet: no server can be plugged in",
                         "network")
    return _disk(flavor, image)


def _disk(flavor: Flavor, image: Image) -> Objection | None:
    # The root disk of a flavor without one is as large as the image: Nova compares nothing then.
    if image.boots_volume or not flavor.disk_gb:
        return None
    if image.min_disk_gb > flavor.disk_gb:
        return Objection(f"the image {image.name} needs a disk of {image.min_disk_gb} GiB, and the flavor "
                         f"{flavor.name} has {flavor.disk_gb}", "flavor")
    if image.size_bytes > flavor.disk_gb * _GIB:
        return Objection(f"the image {image.name} has {image.size_bytes} bytes, more than the {flavor.disk_gb} GiB of "
                         f"disk of the flavor {flavor.name}", "flavor")
    return None


def is_peculiar(flavor: Flavor, image: Image) -> bool:
    """True for a combination of which Nova alone knows whether it takes it: without a disk (by policy), or where what
    the flavor and the image say of the virtual hardware has to go together."""
    return ((not flavor.disk_gb and not image.boots_volume)
            or any(name.startswith(("hw_", "os_", "img_")) and name not in _HARMLESS for name in image.properties)
            or any(name.startswith(("hw:", "os:", "pci_passthrough:", "quota:")) for name in flavor.extra_specs))


#: Said of most images, and never refused.
_HARMLESS = frozenset({"os_distro", "os_version", "os_type", "os_admin_user", "hw_architecture", "hw_firmware_type"})
