"""Glance without HTTP: images, whose bytes are not stored."""

from dataclasses import dataclass, field

from vmsvc.simulator.keystone.model import Token
from vmsvc.simulator.nova.flavors import Flavor


@dataclass
class Image:
    """An image. `size` is in bytes; `members` are the projects that it is shared with."""

    id: str
    name: str
    created: float
    status: str = "active"
    owner: str = ""
    visibility: str = "public"
    min_ram: int = 0
    min_disk: int = 0
    size: int | None = 65536
    disk_format: str = "raw"
    hidden: bool = False
    members: list[str] = field(default_factory=list)
    properties: dict[str, str] = field(default_factory=dict)

    def refuses(self, flavor: Flavor, zero_disk: bool, on_volume: bool = False) -> tuple[int, str] | None:
        """The status and the message with which Nova refuses a server of this flavor from the image, None when it
        accepts one (measured). `zero_disk`: the policy lets the user boot without a root disk; `on_volume`: the root
        disk is a volume."""
        disk, least = (0 if on_volume else flavor.disk * 2**30), self.min_disk * 2**30
        refusals = (
            (
                self.properties.get("cinder_encryption_key_id"),
                400,
                f"Image {self.id} is unacceptable: Direct booting "
                "of an image uploaded from an encrypted volume is unsupported.",
            ),
            (self.status != "active", 400, f"Image {self.id} is not active."),
            (flavor.ram < self.min_ram, 400, "Flavor's memory is too small for requested image."),
            (
                not disk and not zero_disk and not on_volume,
                403,
                "Only volume-backed servers are allowed for flavors with zero disk.",
            ),
            (
                disk and (self.size or 0) > disk,
                400,
                "Flavor's disk is too small for requested image. Flavor disk is "
                f"{disk} bytes, image is {self.size} bytes.",
            ),
            (
                disk and least > disk,
                400,
                "Flavor's disk is smaller than the minimum size specified in image metadata. "
                f"Flavor disk is {disk} bytes, minimum size is {least} bytes.",
            ),
        )
        return next(((status, text) for applies, status, text in refusals if applies), None)

    def usable_by(self, token: Token) -> bool:
        """True when the user may read it by its id and boot from it."""
        return (
            self.visibility in ("public", "community")
            or self.owner == token.project_id
            or token.is_admin
            or token.project_id in self.members
        )

    def wants(self) -> tuple[str, str, str]:
        """The architecture, hypervisor and VM mode that Nova's ImagePropertiesFilter looks for, '' for any."""

        def of(*names: str) -> str:
            return next((self.properties[name].lower() for name in names if self.properties.get(name)), "")

        return of("hw_architecture", "architecture"), of("img_hv_type", "hypervisor_type"), of("hw_vm_mode", "vm_mode")

    def traits(self) -> list[str]:
        return sorted(
            key.removeprefix("trait:")
            for key, value in self.properties.items()
            if key.startswith("trait:") and value == "required"
        )
