"""Which requests Nova refuses however much capacity there is, as far as the flavor, Glance and Neutron show.

Measured on a real Nova 34 and read in nova/compute/api.py (`_validate_flavor_image_nostatus`). Only Nova can judge what
depends on a policy of the cloud (a flavor without a disk) or on a combination of properties: see `Cloud.rehearse`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from vmsvc.domain.catalog import Addresses, Image, Network
from vmsvc.domain.flavors import Flavor

_GIB = 1024**3
#: With so few free addresses it matters which VMs take or give back one.
_FEW_ADDRESSES = 64


@dataclass(frozen=True, slots=True)
class Objection:
    """Why Nova will refuse a request. `error` is the slug that the client gets; `field` is the part of the request to
    correct."""

    message: str
    field: str | None = None
    error: str = "invalid_request"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The cloud's answer about a request, asked before any VM is noticed for it. `objection`: why Nova refuses it.
    `ports`: how many more ports the project may have; None without a limit. `addresses`: those of its network; None
    where they were not counted; `addresses_of`: of several networks, by their ids. `unplugged`: the message of the last
    build that failed because the network gave it no address, unless a later build got one. `unanswered`: why the cloud
    gave no answer; None when it did."""

    objection: Objection | None = None
    ports: int | None = None
    addresses: Addresses | None = None
    unplugged: str | None = None
    unanswered: str | None = None
    addresses_of: Mapping[str, Addresses] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """True when so few ports or addresses are left that it matters which other VMs take or give back one."""
        counted = [*self.addresses_of.values(), *([self.addresses] if self.addresses else [])]
        return self.ports is not None or any(addresses.free <= _FEW_ADDRESSES for addresses in counted)

    def object_to(
        self, leaving: Collection[str], claims: int = 0, addresses: int = 1, ports: int = 1
    ) -> Objection | None:
        """Why Nova will refuse the request even after the servers in `leaving` (the cloud's ids) have gone and given
        back their ports and addresses; None when Nova will take it. `claims`: how many other VMs will take a port and
        an address that the counts do not show yet; `addresses`, `ports`: how many the request itself needs."""
        if self.objection:
            return self.objection
        if self.ports is not None and ports and self.ports + len(leaving) - claims < ports:
            return Objection(
                "the project has as many ports as its quota in Neutron allows, and the VMs that could be "
                "evicted would not give back enough",
                "network",
                "quota_exceeded",
            )
        given_back = self.addresses.holders & set(leaving) if self.addresses else frozenset()
        if self.addresses is not None and self.addresses.free + len(given_back) - claims < addresses:
            return Objection(no_address("of this request", self.addresses), "network")
        if self.unplugged and not given_back:
            return Objection(f"the last VM could not be plugged into this network: {self.unplugged}", "network")
        return None


def no_address(network: str, addresses: Addresses) -> str:
    """Why a network takes no server."""
    return f"the network {network} has no free address: all {addresses.total} of its pools are used"


def objection(flavor: Flavor, image: Image, network: Network | None) -> Objection | None:
    """Why Nova refuses this combination; None when flavor, image and network show no reason."""
    if flavor.disabled:
        return Objection(f"the flavor {flavor.name} is disabled", "flavor")
    if image.status != "active":
        return Objection(f"the image {image.name or image.id} is {image.status}, not active", "image")
    if image.properties.get("cinder_encryption_key_id") and not image.boots_volume:
        return Objection(f"the image {image.name} is of an encrypted volume: no server boots from it", "image")
    if flavor.ram_mb < image.min_ram_mb:
        return Objection(
            f"the image {image.name} needs {image.min_ram_mb} MiB of memory, and the flavor {flavor.name} "
            f"has {flavor.ram_mb}",
            "flavor",
        )
    if network is not None and not network.subnets:
        return Objection(
            f"the network {network.name or network.id} has no subnet: no server can be plugged in", "network"
        )
    return _disk(flavor, image)


def _disk(flavor: Flavor, image: Image) -> Objection | None:
    # The root disk of a flavor without one is as large as the image: Nova compares nothing then.
    if image.boots_volume or not flavor.disk_gb:
        return None
    if image.min_disk_gb > flavor.disk_gb:
        return Objection(
            f"the image {image.name} needs a disk of {image.min_disk_gb} GiB, and the flavor "
            f"{flavor.name} has {flavor.disk_gb}",
            "flavor",
        )
    if image.size_bytes > flavor.disk_gb * _GIB:
        return Objection(
            f"the image {image.name} has {image.size_bytes} bytes, more than the {flavor.disk_gb} GiB of "
            f"disk of the flavor {flavor.name}",
            "flavor",
        )
    return None


def is_peculiar(flavor: Flavor, image: Image) -> bool:
    """True for a combination that only Nova can judge: a flavor without a disk (its policy decides), or a flavor and an
    image whose settings of the virtual hardware have to agree."""
    return (
        (not flavor.disk_gb and not image.boots_volume)
        or any(name.startswith(("hw_", "os_", "img_")) and name not in _HARMLESS for name in image.properties)
        or any(name.startswith(("hw:", "os:", "pci_passthrough:", "quota:")) for name in flavor.extra_specs)
    )


#: Properties that most images have and that Nova never refuses.
_HARMLESS = frozenset({"os_distro", "os_version", "os_type", "os_admin_user", "hw_architecture", "hw_firmware_type"})
