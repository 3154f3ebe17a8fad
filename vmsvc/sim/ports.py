"""Neutron's ports: one per server and network, made when the server spawns."""

import ipaddress
import secrets
import uuid
from dataclasses import dataclass

from vmsvc.sim.catalog import Catalog, Network
from vmsvc.sim.refusal import conflict
from vmsvc.sim.store import Store


@dataclass
class Port:
    """A port; `device_id` is the server's id, '' for one that nobody uses."""

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


def default_group(project_id: str) -> str:
    """The id of a project's default security group."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, project_id))


class Ports:
    """All ports, by id and by device."""

    def __init__(self, store: Store, catalog: Catalog):
        self._store = store
        self._catalog = catalog
        self.all: dict[str, Port] = {}
        self.by_device: dict[str, list[Port]] = {}
        self.count: dict[str, int] = {}  # by project
        self.addresses: dict[str, set[str]] = {}  # in use, by network
        for _, body in store.load("port"):
            self._index(Port(**body))

    def _index(self, port: Port) -> None:
        self.all[port.id] = port
        self.by_device.setdefault(port.device_id, []).append(port)
        self.count[port.project_id] = self.count.get(port.project_id, 0) + 1
        self.addresses.setdefault(port.network_id, set()).add(port.address)

    def add(self, network: Network, project_id: str, device_id: str, host: str, now: float) -> Port:
        """A new port with the next free address. Raises Refused (409, measured) when there is none."""
        address = self._next_address(network)
        self._catalog.add_network(network)
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
        """Delete a port."""
        if self.all.pop(port.id, None) is None:
            return
        siblings = self.by_device[port.device_id]
        siblings.remove(port)
        if not siblings:
            del self.by_device[port.device_id]
        self.count[port.project_id] -= 1
        self.addresses[port.network_id].discard(port.address)
        self._store.drop("port", port.id)

    def of(self, device_id: str) -> list[Port]:
        """The ports of a server."""
        return list(self.by_device.get(device_id, ()))

    def changed(self, port: Port) -> None:
        """Keep what was changed."""
        self._store.put("port", port.id, port)
