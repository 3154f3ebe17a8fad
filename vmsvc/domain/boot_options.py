"""The options of a create: what Nova takes besides flavor, image, network, key pair and zone.

A row has the options as JSON, in its `boot` under `options`, with all names resolved to the cloud's ids. A request that
asks for none of these has no such member.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

#: The fields of a request that are options, as clients name them.
FIELDS = (
    "networks",
    "security_groups",
    "tags",
    "server_group",
    "scheduler_hints",
    "config_drive",
    "hostname",
    "trusted_image_certificates",
    "block_device_mapping_v2",
)
#: Options that no refusal can rest on, once Nova has taken the request.
_HARMLESS = ("tags", "hostname", "keeps_address")


@dataclass(frozen=True, slots=True)
class Nic:
    """One network interface: a port that the caller made (`port_id`), or one that Nova makes in the network, with the
    address `fixed_ip` if one is asked for. `network_id` is the network in either case."""

    network_id: str
    port_id: str | None = None
    fixed_ip: str | None = None

    @property
    def claim(self) -> str | None:
        """What only one server can have, in words; None for a port that Nova makes with any address."""
        if self.port_id:
            return f"port {self.port_id}"
        return f"address {self.fixed_ip} of network {self.network_id}" if self.fixed_ip else None


@dataclass(frozen=True, slots=True)
class BootOptions:
    """The options of one request, by the cloud's ids. `server_group` and the servers of `same_host` and
    `different_host` say which hosts Nova may choose. `block_devices` are as Nova takes them."""

    nics: tuple[Nic, ...] = ()
    security_groups: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    server_group: str | None = None
    same_host: tuple[str, ...] = ()
    different_host: tuple[str, ...] = ()
    config_drive: bool | None = None
    hostname: str | None = None
    trusted_image_certificates: tuple[str, ...] = ()
    block_devices: tuple[Mapping[str, Any], ...] = ()
    keeps_address: bool | None = None  # vmsvc makes its port, and keeps it for the next VM of the lineage

    @property
    def claims(self) -> frozenset[str]:
        """The ports, addresses and volumes that only one server can have, in words."""
        volumes = (f"volume {one['uuid']}" for one in self.block_devices if one["source_type"] == "volume")
        return frozenset([*(nic.claim for nic in self.nics if nic.claim), *volumes])

    @property
    def keeps_ports(self) -> bool:
        """True for a server with a port that stays when the server is deleted: the caller or vmsvc made it."""
        return bool(self.keeps_address) or any(nic.port_id for nic in self.nics)

    @property
    def body(self) -> dict[str, Any]:
        """The options as a row keeps them: only those that were asked for."""
        return {name: value for name, value in asdict(self).items() if value not in (None, ())}


#: A request that asks for none.
NO_OPTIONS = BootOptions()
_LISTS = frozenset(field.name for field in fields(BootOptions) if str(field.type).startswith("tuple"))


def options_in(boot: Mapping[str, Any]) -> BootOptions:
    """The options of a request that asks for this `boot`."""
    return options_of(boot.get("options"))


def options_of(kept: Mapping[str, Any] | None) -> BootOptions:
    """The options as a row keeps them."""
    if not kept:
        return NO_OPTIONS
    values: dict[str, Any] = {name: tuple(value) if name in _LISTS else value for name, value in kept.items()}
    values["nics"] = tuple(Nic(**nic) for nic in kept.get("nics", ()))
    return BootOptions(**values)


def new_ports(boot: Mapping[str, Any]) -> Counter[str]:
    """In which networks Nova makes ports for such a request, and how many in each."""
    nics = options_in(boot).nics
    if nics:
        return Counter(nic.network_id for nic in nics if nic.port_id is None)
    return Counter([boot["network_id"]] if boot.get("network_id") else [])


def kind_of(boot: Mapping[str, Any]) -> str:
    """Equal for requests whose options the cloud judges alike; "" for a request without any."""
    kept = {name: value for name, value in (boot.get("options") or {}).items() if name not in _HARMLESS}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16] if kept else ""
