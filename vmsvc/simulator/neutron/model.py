"""Neutron without HTTP: networks with one subnet each, and ports. A server gets its ports when it spawns."""

import ipaddress
import secrets
import uuid
from dataclasses import dataclass, field

from vmsvc.simulator.errors import conflict
from vmsvc.simulator.store import LATER, Store, Table


@dataclass
class Network:
    """A network and its subnet; `subnet_id` is '' while it has none. `next_address` is the number within the subnet of
    the address that is tried next."""

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
        """The first and the last address for servers, as numbers within the subnet."""
        return (2 if self.gateway else 1), ipaddress.ip_network(self.cidr).num_addresses - 2

    def has(self, address: str) -> bool:
        """True for an address of its subnet."""
        return bool(self.subnet_id) and ipaddress.ip_address(address) in ipaddress.ip_network(self.cidr)

    @property
    def size(self) -> int:
        """How many addresses there are for servers."""
        first, last = self.pool
        return last - first + 1 if self.subnet_id else 0


@dataclass
class Port:
    """A port. `device_id` is the id of the server that uses it, '' while no server does."""

    id: str
    network_id: str
    subnet_id: str
    project_id: str
    device_id: str
    host: str
    mac: str
    address: str
    created: float
    name: str = ""
    status: str = "ACTIVE"
    description: str = field(default="", metadata=LATER)
    by_user: bool = field(
        default=False, metadata=LATER
    )  # made by a user: it stays when the server that uses it is deleted
    groups: list[str] | None = field(default=None, metadata=LATER)  # None stands for the project's default one

    @property
    def addresses(self) -> list[str]:
        return [self.address]


def default_group(project_id: str) -> str:
    """The id of a project's default security group."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, project_id))


class Ports:
    """All ports, by id and by device. `count` has their number for each project, `addresses` those in use of each
    network."""

    def __init__(self, store: Store, networks: Table[Network]):
        self._store = store
        self._networks = networks
        self.all: dict[str, Port] = {}
        self.by_device: dict[str, list[Port]] = {}
        self.count: dict[str, int] = {}
        self.addresses: dict[str, set[str]] = {}
        for _, body in store.load("port"):
            self._index(Port(**body))

    def _index(self, port: Port) -> None:
        self.all[port.id] = port
        self.by_device.setdefault(port.device_id, []).append(port)
        self.count[port.project_id] = self.count.get(port.project_id, 0) + 1
        self.addresses.setdefault(port.network_id, set()).add(port.address)

    def add(
        self, network: Network, project_id: str, device_id: str, host: str, now: float, asked: str | None = None
    ) -> Port:
        """Make a port with the address that was asked for, or the next free one of a network. Raises ApiError 409 when
        there is none (measured)."""
        address = asked or self._next_address(network)
        self._networks.save(network.id, network)
        mac = "fa:16:3e:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))
        port = Port(str(uuid.uuid4()), network.id, network.subnet_id, project_id, device_id, host, mac, address, now)
        self._index(port)
        self._store.put("port", port.id, port)
        return port

    def _next_address(self, network: Network) -> str:
        first, last = network.pool
        used = self.addresses.setdefault(network.id, set())
        if not network.subnet_id or len(used) >= network.size:
            raise conflict(f"No more IP addresses available on network {network.id}.")
        subnet = ipaddress.ip_network(network.cidr)
        while True:
            number = min(max(network.next_address, first), last)
            network.next_address = first if number == last else number + 1
            if str(subnet[number]) not in used:
                return str(subnet[number])

    def remove(self, port: Port) -> None:
        """Delete a port. One that is gone already is no error."""
        if self.all.pop(port.id, None) is None:
            return
        self._forget_device(port)
        self.count[port.project_id] -= 1
        self.addresses[port.network_id].discard(port.address)
        self._store.drop("port", port.id)

    def _forget_device(self, port: Port) -> None:
        siblings = self.by_device[port.device_id]
        siblings.remove(port)
        if not siblings:
            del self.by_device[port.device_id]

    def of(self, device_id: str) -> list[Port]:
        """The ports of a server."""
        return list(self.by_device.get(device_id, ()))

    def give_to_user(self, port: Port, name: str, description: str) -> None:
        """A user made the port: it has these texts, and no server yet."""
        port.name, port.description, port.by_user, port.status = name, description, True, "DOWN"
        self.save(port)

    def plug(self, port: Port, device_id: str, host: str) -> None:
        """A server uses the port from now on; '' for none."""
        self._forget_device(port)
        port.device_id, port.host, port.status = device_id, host, "ACTIVE" if device_id else "DOWN"
        self.by_device.setdefault(device_id, []).append(port)
        self.save(port)

    def save(self, port: Port) -> None:
        """Store what was changed of a port."""
        self._store.put("port", port.id, port)
