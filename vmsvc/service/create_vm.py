"""A request for a VM as a client makes it, and what its options name: networks, ports, groups, servers.

vmsvc asks the cloud for these when a request names them; no list of them is kept. What Neutron alone would refuse while
the server builds, as an address that the project may not choose, is refused here: by then VMs would have been evicted.
"""

import ipaddress
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from vmsvc.cloud.port import Cloud, Named, Server
from vmsvc.domain.boot_options import FIELDS, BootOptions, Nic
from vmsvc.domain.catalog import Image, Network, Port
from vmsvc.domain.errors import InvalidRequest, NotFound
from vmsvc.domain.lineage import RESTART, Terms
from vmsvc.domain.request import Waits
from vmsvc.domain.server_group import ServerGroup
from vmsvc.service import volumes
from vmsvc.service.catalog import Catalog

T = TypeVar("T", Named, ServerGroup)
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class CreateVm:
    """A validated request. `flavor`, `image` and `network` are ids or names; None is the service's default."""

    is_preemptible: bool
    name: str | None = None
    flavor: str | None = None
    image: str | None = None
    network: str | None = None
    key_name: str | None = None
    user_data: str | None = None  # base64
    metadata: dict[str, str] = field(default_factory=dict)
    availability_zone: str | None = None
    priority: int = 0
    min_run_seconds: int | None = None
    group: str | None = None
    max_unavailable: int | None = None
    wait_seconds: int = 0
    fallback_after_seconds: int | None = None
    patience_seconds: int = 0
    on_eviction: str | None = None  # of these None is the default
    max_restarts: int | None = None
    restart_within_seconds: int | None = None
    fallback_after_evictions: int | None = None
    keep_address: bool | None = None
    networks: list[dict[str, str]] | None = None  # the options: see domain.boot_options
    security_groups: list[str] | None = None
    tags: list[str] | None = None
    server_group: str | None = None
    scheduler_hints: dict[str, Any] | None = None
    config_drive: bool | None = None
    hostname: str | None = None
    trusted_image_certificates: list[str] | None = None
    block_device_mapping_v2: list[dict[str, Any]] | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The fields that are options, by name, and `keep_address`; None for those that the client leaves out."""
        return {name: getattr(self, name) for name in (*FIELDS, "keep_address")}

    @property
    def has_options(self) -> bool:
        """True when it asks for any."""
        return any(value is not None for value in self.options.values())

    @property
    def waits(self) -> Waits:
        """For how long it waits."""
        return Waits(self.wait_seconds, self.fallback_after_seconds, self.patience_seconds)

    @property
    def terms(self) -> Terms | None:
        """How the VM is started again after an eviction; None: it is not."""
        if self.on_eviction != RESTART:
            return None
        given = {name: getattr(self, name) for name in _TERMS}
        return Terms(**{name: value for name, value in given.items() if value is not None})

    @property
    def body(self) -> dict[str, Any]:
        """The request as the hash beside an Idempotency-Key has it. Of the fields that a release added, those that the
        client leaves out are not in it: a retry after an upgrade has the same hash."""
        return {name: value for name, value in asdict(self).items() if name not in _ADDED or value != _ADDED[name]}


#: Fields of a request that say how its VM is started again.
_TERMS = ("max_restarts", "restart_within_seconds", "fallback_after_evictions", "keep_address")
#: Fields of a request that came after the first release, with their defaults.
_ADDED = {
    "wait_seconds": 0,
    "fallback_after_seconds": None,
    "patience_seconds": 0,
    "on_eviction": None,
    "max_restarts": None,
    "restart_within_seconds": None,
    "fallback_after_evictions": None,
    "keep_address": None,
    **dict.fromkeys(FIELDS),
}


class CreateOptions:
    """Resolves the options of requests. `server_of` finds a server of the project by the cloud's id, or raises
    NotFound."""

    def __init__(self, cloud: Cloud, catalog: Catalog, server_of: Callable[[str], Awaitable[Server]]):
        self._cloud = cloud
        self._catalog = catalog
        self._server_of = server_of

    async def resolve(self, asked: Mapping[str, Any]) -> tuple[BootOptions, list[Network], Image | None]:
        """The options by the cloud's ids, the networks of the interfaces in their order, and what stands for the image
        of a server that boots from a volume. `asked`: the fields of the
        request, by name; None for what it leaves out. Raises InvalidRequest that names the field, and what the cloud
        raises."""
        for name in FIELDS:
            if asked[name] is not None and name in self._cloud.unsupported:
                raise InvalidRequest("the cloud's Nova is too old for it", name)
        plugged = [await self._nic(entry) for entry in asked["networks"] or ()]
        networks = [network for _, network in plugged]
        devices, root = (
            await volumes.resolve(self._cloud, self._catalog, asked[volumes.FIELD])
            if asked[volumes.FIELD]
            else ((), None)
        )
        hints: Mapping[str, Any] = asked["scheduler_hints"] or {}
        return (
            BootOptions(
                nics=tuple(nic for nic, _ in plugged),
                security_groups=await self._security_groups(asked["security_groups"] or ()),
                tags=tuple(asked["tags"] or ()),
                server_group=await self._server_group(asked["server_group"], hints.get("group")),
                same_host=await self._servers(hints.get("same_host", ())),
                different_host=await self._servers(hints.get("different_host", ())),
                config_drive=asked["config_drive"],
                hostname=asked["hostname"],
                trusted_image_certificates=tuple(asked["trusted_image_certificates"] or ()),
                block_devices=devices,
                keeps_address=asked["keep_address"] or None,
            ),
            networks,
            root,
        )

    async def _nic(self, entry: Mapping[str, str]) -> tuple[Nic, Network]:
        if ref := entry.get("port"):
            port = await self._port(ref)
            known = [network for network in self._catalog.networks if network.id == port.network_id]
            # A port on a network that the project does not see: it has its address, so no subnet is needed.
            network = known[0] if known else Network(port.network_id, port.network_id, subnets=(port.id,))
            return Nic(port.network_id, port_id=port.id), network
        network = await self._catalog.find_network(entry["network"], "networks")
        if not network.subnets:
            raise InvalidRequest(f"the network {network.name or network.id} has no subnet", "networks")
        address = entry.get("fixed_ip")
        if address:
            await self._check_address(network, address)
        return Nic(network.id, fixed_ip=address), network

    async def _port(self, ref: str) -> Port:
        found = await self._cloud.find_ports({"id" if _is_id(ref) else "name": ref})
        found = tuple(port for port in found if port.project_id == self._cloud.project_id)
        if len(found) != 1:
            many = f"{len(found)} ports have the name {ref!r}: use the id"
            raise InvalidRequest(many if found else f"there is no port {ref!r} of the project", "networks")
        if found[0].device_id:
            raise InvalidRequest(f"the port {ref} is in use by {found[0].device_id}", "networks")
        return found[0]

    async def _check_address(self, network: Network, address: str) -> None:
        # Nova takes any address, and Neutron refuses it when the server builds (measured).
        if self._cloud.mode == "tenant" and not network.own:
            raise InvalidRequest(
                f"Neutron lets a project choose an address on its own networks alone, and {network.name} is another "
                "project's: leave fixed_ip out, or name a port that has the address",
                "networks",
            )
        ranges = await self._cloud.subnets(network.id)
        if not any(_is_for_servers(ipaddress.ip_address(address), ipaddress.ip_network(each)) for each in ranges):
            raise InvalidRequest(f"the address {address} is in no subnet of the network {network.name}", "networks")
        if await self._cloud.find_ports({"network_id": network.id, "fixed_ips": f"ip_address={address}"}):
            raise InvalidRequest(f"the address {address} of the network {network.name} is taken", "networks")

    async def _security_groups(self, refs: Sequence[str]) -> tuple[str, ...]:
        if not refs:
            return ()
        known = await self._cloud.security_groups()
        return tuple(dict.fromkeys(_find(known, ref, "security group", "security_groups").id for ref in refs))

    async def _server_group(self, ref: str | None, hint: str | None) -> str | None:
        if ref is None and hint is None:
            return None
        known = await self._cloud.server_groups()
        found = _find(known, ref, "server group", "server_group").id if ref is not None else None
        hinted = _find(known, hint, "server group", "scheduler_hints").id if hint is not None else None
        if found and hinted and found != hinted:
            raise InvalidRequest("its group is not the server_group", "scheduler_hints")
        (group,) = [one for one in known if one.id == (found or hinted)]
        most = (await self._cloud.quota()).server_group_members
        if most <= len(group.members):
            raise InvalidRequest(
                f"the server group {group.name} has {len(group.members)} members, and Nova allows {most}",
                "server_group" if found else "scheduler_hints",
            )
        return group.id

    async def _servers(self, ids: Sequence[str]) -> tuple[str, ...]:
        for server_id in ids:
            try:
                await self._server_of(server_id)
            except NotFound:
                raise InvalidRequest(f"there is no server {server_id} of the project", "scheduler_hints") from None
        return tuple(dict.fromkeys(ids))


def _find(known: Sequence[T], ref: str, what: str, name: str) -> T:
    """The one with this id, or else with this name. Raises InvalidRequest that names the field `name`."""
    found = [one for one in known if one.id == ref] or [one for one in known if one.name == ref]
    if len(found) != 1:
        problem = f"{len(found)} have the name {ref!r}: use the id" if found else f"there is no {what} {ref!r}"
        raise InvalidRequest(problem, name)
    return found[0]


def _is_for_servers(address: _Address, subnet: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    """True for an address of the subnet that is not the network's own, and not that for all of its servers."""
    if address not in subnet:
        return False
    ends = (subnet.network_address, subnet.broadcast_address) if subnet.version == 4 and subnet.prefixlen < 31 else ()
    return address not in ends


def _is_id(ref: str) -> bool:
    try:
        return str(uuid.UUID(ref)) == ref
    except ValueError:
        return False
