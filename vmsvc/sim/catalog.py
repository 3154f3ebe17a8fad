"""What servers are made of: flavors, images, key pairs, and the one network. Names and sizes as on the real bed."""

import hashlib
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


@dataclass
class Network:
    """The network and its one subnet. `next_address` counts the addresses given out."""

    id: str
    subnet_id: str
    owner: str
    created: float
    name: str = "bed-net"
    subnet_name: str = "bed-subnet"
    cidr: str = "10.77.0.0/16"
    next_address: int = 2


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

    def add_keypair(self, keypair: KeyPair) -> None:
        """A new key pair."""
        self.keypairs[keypair.user_id, keypair.name] = keypair
        self._store.put("keypair", f"{keypair.user_id}/{keypair.name}", keypair)

    def drop_keypair(self, user_id: str, name: str) -> None:
        """Forget a key pair."""
        del self.keypairs[user_id, name]
        self._store.drop("keypair", f"{user_id}/{name}")
