"""What servers are made of: flavors, images, key pairs, and the one network. Names and sizes as on the real bed."""

import hashlib
import ipaddress
import re
import uuid
from dataclasses import asdict, dataclass, field

from vmsvc.sim.store import Store


@dataclass
class Flavor:
    """A size; its id is its name."""

    id: str
    vcpus: int
    ram: int
    disk: int = 1
    ephemeral: int = 0
    swap: int = 0
    extra_specs: dict[str, str] = field(default_factory=dict)

    def request(self, from_volume: bool) -> dict[str, int]:
        """What a server of this size claims in Placement (nova/scheduler/utils.py, read)."""
        amounts: dict[str, int] = {}
        for key, value in self.extra_specs.items():
            found = re.match(r"resources([\w-]*):(.+)", key)
            if found:
                amounts[found[2]] = amounts.get(found[2], 0) + int(value)
        if self.extra_specs.get("hw:cpu_policy") == "dedicated":
            amounts["PCPU"] = self.vcpus
        if "VCPU" not in amounts and "PCPU" not in amounts:
            amounts["VCPU"] = self.vcpus
        amounts.setdefault("MEMORY_MB", self.ram)
        amounts.setdefault("DISK_GB", (0 if from_volume else self.disk) + self.ephemeral + -(-self.swap // 1024))
        return {name: amount for name, amount in amounts.items() if amount}

    def embedded(self, from_volume: bool = False) -> dict:
        """What a server remembers of it."""
        return {**asdict(self), "request": self.request(from_volume), "traits": self.traits("required"),
                "forbidden": self.traits("forbidden")}

    def traits(self, kind: str) -> list[str]:
        """The traits that a host must have ('required'), or must not have."""
        return sorted(key.removeprefix("trait:") for key, value in self.extra_specs.items()
                      if key.startswith("trait:") and value == kind)


@dataclass
class Image:
    """An image without bytes."""

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

    def refuses(self, flavor: Flavor, zero_disk: bool) -> tuple[int, str] | None:
        """What Nova's API says to a server of this flavor, as status and sentence (measured). `zero_disk`: the policy
        lets the caller boot without a root disk."""
        disk, least = flavor.disk * 2**30, self.min_disk * 2**30
        sentences = (
            (self.properties.get("cinder_encryption_key_id"), 400, f"Image {self.id} is unacceptable: Direct booting "
             "of an image uploaded from an encrypted volume is unsupported."),
            (self.status != "active", 400, f"Image {self.id} is not active."),
            (flavor.ram < self.min_ram, 400, "Flavor's memory is too small for requested image."),
            (not disk and not zero_disk, 403, "Only volume-backed servers are allowed for flavors with zero disk."),
            (disk and (self.size or 0) > disk, 400, "Flavor's disk is too small for requested image. Flavor disk is "
             f"{disk} bytes, image is {self.size} bytes."),
            (disk and least > disk, 400, "Flavor's disk is smaller than the minimum size specified in image metadata. "
             f"Flavor disk is {disk} bytes, minimum size is {least} bytes."))
        return next(((status, text) for applies, status, text in sentences if applies), None)

    def usable_by(self, token: object) -> bool:
        """True when the caller may see it by its id, and boot from it."""
        return (self.visibility in ("public", "community") or self.owner == token.project_id or token.is_admin
                or token.project_id in self.members)

    def wants(self) -> tuple[str, str, str]:
        """The architecture, hypervisor and VM mode that Nova's ImagePropertiesFilter looks for, '' for any."""
        def of(*names: str) -> str:
            return next((self.properties[name].lower() for name in names if self.properties.get(name)), "")
        return of("hw_architecture", "architecture"), of("img_hv_type", "hypervisor_type"), of("hw_vm_mode", "vm_mode")

    def traits(self) -> list[str]:
        """The traits that a host must have."""
        return sorted(key.removeprefix("trait:") for key, value in self.properties.items()
                      if key.startswith("trait:") and value == "required")


@dataclass
class Network:
    """A network and its one subnet, or none (`subnet_id` is ''). `next_address` counts the addresses given out."""

    id: str
    subnet_id: str
    owner: str
    created: float
    name: str = "bed-net"
    subnet_name: str = "bed-subnet"
    cidr: str = "10.77.0.0/16"
    next_address: int = 2
    shared: bool = True
    admin_state_up: bool = True
    gateway: bool = True

    @property
    def pool(self) -> tuple[int, int]:
        """The first and the last address that servers get, as numbers within the subnet."""
        return (2 if self.gateway else 1), ipaddress.ip_network(self.cidr).num_addresses - 2

    @property
    def size(self) -> int:
        """How many they are."""
        first, last = self.pool
        return last - first + 1 if self.subnet_id else 0


@dataclass
class KeyPair:
    """A public key of a user."""

    user_id: str
    name: str
    public_key: str
    created: float

    @property
    def fingerprint(self) -> str:
        """Looks like an MD5 fingerprint."""
        digest = hashlib.md5(self.public_key.encode(), usedforsecurity=False).hexdigest()
        return ":".join(digest[i:i + 2] for i in range(0, 32, 2))


class Catalog:
    """All of them, by id."""

    def __init__(self, store: Store):
        self._store = store
        self.flavors = {key: Flavor(**body) for key, body in sorted(store.load("flavor"))}
        self.images = {key: Image(**body) for key, body in store.load("image")}
        self.networks = {key: Network(**body) for key, body in store.load("network")}
        self.keypairs = {(body["user_id"], body["name"]): KeyPair(**body) for _, body in store.load("keypair")}

    def seed(self, owner: str, now: float) -> None:
        """The image and network of the real bed (its README)."""
        self.add_image(Image(str(uuid.uuid4()), "bed-image", now, owner=owner))
        self.add_network(Network(str(uuid.uuid4()), str(uuid.uuid4()), owner, now))

    def seed_flavors(self) -> None:
        """The flavors of the real bed (its README)."""
        for name, vcpus, ram in (("m1.large", 4, 8192), ("m1.medium", 2, 4096), ("m1.small", 1, 2048),
                                 ("m1.tiny", 1, 1024)):
            self.add_flavor(Flavor(name, vcpus, ram))

    def add_flavor(self, flavor: Flavor) -> None:
        """A new or changed flavor."""
        self.flavors[flavor.id] = flavor
        self._store.put("flavor", flavor.id, flavor)

    def add_image(self, image: Image) -> None:
        """A new or changed image."""
        self.images[image.id] = image
        self._store.put("image", image.id, image)

    def drop_image(self, image_id: str) -> None:
        """Forget an image."""
        del self.images[image_id]
        self._store.drop("image", image_id)

    def add_network(self, network: Network) -> None:
        """A new or changed network."""
        self.networks[network.id] = network
        self._store.put("network", network.id, network)

    def drop_network(self, network_id: str) -> None:
        """Forget a network."""
        del self.networks[network_id]
        self._store.drop("network", network_id)

    def drop_flavor(self, flavor_id: str) -> None:
        """Forget a flavor."""
        del self.flavors[flavor_id]
        self._store.drop("flavor", flavor_id)

    def add_keypair(self, keypair: KeyPair) -> None:
        """A new key pair."""
        self.keypairs[keypair.user_id, keypair.name] = keypair
        self._store.put("keypair", f"{keypair.user_id}/{keypair.name}", keypair)

    def drop_keypair(self, user_id: str, name: str) -> None:
        """Forget a key pair."""
        del self.keypairs[user_id, name]
        self._store.drop("keypair", f"{user_id}/{name}")
