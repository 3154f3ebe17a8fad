"""From the JSON of Nova and Placement to the values of the port. Anything unexpected in it raises Garbled."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import TypeVar

from vmsvc.cloud.openstack.exchange import Answer, Json
from vmsvc.cloud.port import METADATA_ITEMS, Occupant, Quota, Server
from vmsvc.domain.catalog import Addresses, Image, Network
from vmsvc.domain.errors import Garbled
from vmsvc.domain.flavors import Flavor, placement_request
from vmsvc.domain.host import Hypervisor
from vmsvc.domain.resources import Inventory, Resources
from vmsvc.domain.server_group import ServerGroup

T = TypeVar("T")
#: Seen by an operator: up to 64 KiB of user data, which can hold secrets. It leaves this module for nobody.
HIDDEN = "OS-EXT-SRV-ATTR:user_data"
QUOTA = {
    "instances": ("maxTotalInstances", "totalInstancesUsed"),
    "cores": ("maxTotalCores", "totalCoresUsed"),
    "ram": ("maxTotalRAMSize", "totalRAMUsed"),
}


@contextmanager
def parsing(what: str) -> Iterator[None]:
    """Reading an answer inside this turns every surprise (a key missing, a wrong type) into Garbled."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise Garbled(f"the cloud's answer about {what} was not understood: {error!r}") from None


def whole(what: str, read: Callable[[Json], T], answer: Answer) -> T:
    """Read the body of an answer that is one object."""
    body = answer.json()
    with parsing(what):
        return read(body)


def each(what: str, items: Iterable[Json], read: Callable[[Json], T]) -> tuple[T, ...]:
    """Read every item of a list."""
    with parsing(what):
        return tuple(read(item) for item in items)


def server(raw: Json) -> Server:
    """A server of GET /servers/{id} or /servers/detail at microversion 2.53 or later.

    Servers of a cell that is down come with id and status UNKNOWN and little else.
    """
    fault = raw.get("fault") or {}
    return Server(
        id=raw["id"],
        name=raw.get("name") or "",
        status=raw["status"],
        task_state=raw.get("OS-EXT-STS:task_state"),
        host_id=raw.get("hostId") or "",
        host=raw.get("OS-EXT-SRV-ATTR:host"),
        availability_zone=raw.get("OS-EXT-AZ:availability_zone") or None,
        locked=bool(raw.get("locked", False)),
        created=moment(raw["created"]),
        launched_at=_moment_or_none(raw.get("OS-SRV-USG:launched_at")),
        updated=_moment_or_none(raw.get("updated")),
        fault=fault.get("message"),
        metadata=dict(raw.get("metadata") or {}),
        flavor=embedded_flavor(raw.get("flavor") or {}),
        boot_from_volume=raw.get("image") == "",
        resources=_claim(raw),
        body=_shown(raw),
    )


def embedded_flavor(raw: Json) -> Flavor:
    """The flavor inside a server (2.47): it has no id, so the name stands for it."""
    name = raw.get("original_name", "")
    return Flavor(
        id=name,
        name=name,
        vcpus=raw.get("vcpus", 0),
        ram_mb=raw.get("ram", 0),
        disk_gb=raw.get("disk", 0),
        ephemeral_gb=raw.get("ephemeral", 0),
        swap_mb=raw.get("swap") or 0,
        extra_specs=dict(raw.get("extra_specs") or {}),
    )


def flavor(raw: Json) -> Flavor:
    """A flavor of GET /flavors/detail (2.61 shows its extra specs; older swap is '' for none)."""
    return Flavor(
        id=raw["id"],
        name=raw["name"],
        vcpus=raw["vcpus"],
        ram_mb=raw["ram"],
        disk_gb=raw["disk"],
        ephemeral_gb=raw.get("OS-FLV-EXT-DATA:ephemeral", 0),
        swap_mb=int(raw.get("swap") or 0),
        extra_specs=dict(raw.get("extra_specs") or {}),
        disabled=bool(raw.get("OS-FLV-DISABLED:disabled", False)),
    )


#: Keys of an image that are Glance's own, or that do not decide where it boots.
_GLANCE = frozenset(
    {
        "id",
        "name",
        "status",
        "min_ram",
        "min_disk",
        "size",
        "virtual_size",
        "visibility",
        "owner",
        "protected",
        "checksum",
        "tags",
        "created_at",
        "updated_at",
        "self",
        "file",
        "schema",
        "locations",
        "direct_url",
        "stores",
        "os_hash_algo",
        "os_hash_value",
        "os_hidden",
        "disk_format",
        "container_format",
    }
)


def image(raw: Json) -> Image:
    """An image of GET /images or /images/{id}: its properties lie beside Glance's own."""
    return Image(
        id=raw["id"],
        name=raw.get("name") or "",
        status=raw.get("status", "active"),
        min_ram_mb=int(raw.get("min_ram") or 0),
        min_disk_gb=int(raw.get("min_disk") or 0),
        size_bytes=int(raw.get("size") or 0),
        properties={key: value for key, value in raw.items() if key not in _GLANCE and isinstance(value, str)},
    )


def network(raw: Json) -> Network:
    """A network of GET /networks or /networks/{id}."""
    return Network(
        id=raw["id"],
        name=raw.get("name") or "",
        subnets=tuple(raw.get("subnets") or ()),
        filters=bool(raw.get("port_security_enabled", True)),
    )


def subnet(raw: Json) -> tuple[tuple[str, int], int | None]:
    """(id, IP version) of a subnet, and the number of addresses in its pools; None in its place where a server gets no
    address from the pools: the subnet is for other services, or servers choose their addresses themselves (SLAAC)."""
    key = raw["id"], raw["ip_version"]
    if raw.get("service_types") or raw.get("ipv6_address_mode") in ("slaac", "dhcpv6-stateless"):
        return key, None
    return key, sum(
        int(ip_address(pool["end"])) - int(ip_address(pool["start"])) + 1 for pool in raw.get("allocation_pools") or ()
    )


def used_addresses(raw: Json) -> dict[str, int]:
    """The number of used addresses of each subnet, by its id, from GET /network-ip-availabilities/{id}."""
    return {each["subnet_id"]: each["used_ips"] for each in raw["network_ip_availability"]["subnet_ip_availability"]}


def port(raw: Json) -> tuple[str, frozenset[str]]:
    """The id of the server (or router, ...) that has the port, and the subnets in which the port has an address."""
    return raw.get("device_id") or "", frozenset(each["subnet_id"] for each in raw.get("fixed_ips") or ())


def tightest(
    pools: Mapping[tuple[str, int], int], used: Mapping[str, int], ports: Sequence[tuple[str, frozenset[str]]] = ()
) -> Addresses:
    """The addresses of the IP version that has fewest left, for a port gets one of each version. `pools` are the sizes
    of the subnets' pools, `used` how many are used of each; without `used` the ports are counted."""
    found = []
    for version in sorted({version for _, version in pools}):
        ids = {subnet_id for subnet_id, its_version in pools if its_version == version}
        holding = [device for device, subnets in ports if subnets & ids]
        taken = sum(used.get(subnet_id, 0) for subnet_id in ids) if used else len(holding)
        found.append(
            Addresses(sum(pools[subnet_id, version] for subnet_id in ids), taken, frozenset(filter(None, holding)))
        )
    return min(found, key=lambda each: each.free)


def ports_left(raw: Json) -> int | None:
    """How many more ports the quota allows, from GET /quotas/{project}/details.json; None without a limit, and
    where Neutron counts no ports."""
    port_quota = raw["quota"].get("port")
    if port_quota is None:
        return None
    left = port_quota["limit"] - port_quota["used"] - int(port_quota.get("reserved") or 0)
    return None if port_quota["limit"] < 0 else left


def hypervisor(raw: Json) -> Hypervisor:
    """A hypervisor of GET /os-hypervisors/detail; `cpu_info` is an object from 2.28 on, and can be empty."""
    cpu = raw.get("cpu_info")
    return Hypervisor(
        type=raw.get("hypervisor_type") or "",
        version=int(raw.get("hypervisor_version") or 0),
        hostname=raw.get("hypervisor_hostname") or "",
        vcpus=int(raw.get("vcpus") or 0),
        cpu=dict(cpu) if isinstance(cpu, Mapping) else {},
    )


def quota(raw: Json) -> Quota:
    """GET /limits; a limit of -1 is none."""
    absolute = raw["limits"]["absolute"]
    limits = {item: int(absolute[most]) for item, (most, _) in QUOTA.items()}
    items, members = int(absolute.get("maxServerMeta", METADATA_ITEMS)), int(absolute.get("maxServerGroupMembers", -1))
    return Quota(
        limit={item: most for item, most in limits.items() if most >= 0},
        used=Resources({item: int(absolute[used]) for item, (_, used) in QUOTA.items()}),
        metadata_items=items if items >= 0 else sys.maxsize,
        server_group_members=members if members >= 0 else sys.maxsize,
    )


def occupant(project_id: str, raw: Json) -> Occupant | None:
    """A server of GET /servers/detail?all_tenants=1 as far as it takes capacity; None for one of this project.

    Strings and amounts that many servers share are kept once.
    """
    if raw["tenant_id"] == project_id:
        return None
    host = raw.get("OS-EXT-SRV-ATTR:host")
    return Occupant(raw["id"], sys.intern(raw["status"]), sys.intern(host) if host else None, _claim(raw))


def anybody(project_id: str, raw: Json) -> Server | Occupant:
    """A server of that list: whole if it is this project's."""
    return occupant(project_id, raw) or server(raw)


def _claim(raw: Json) -> Resources:
    """What a server claims from its host, by the flavor inside it."""
    sizes = raw.get("flavor") or {}
    specs = tuple(sorted((sizes.get("extra_specs") or {}).items()))
    return _room(
        sizes.get("vcpus", 0),
        sizes.get("ram", 0),
        sizes.get("disk", 0),
        sizes.get("ephemeral", 0),
        sizes.get("swap") or 0,
        raw.get("image") == "",
        specs,
    )


@lru_cache(4096)
def _room(
    vcpus: int,
    ram_mb: int,
    disk_gb: int,
    ephemeral_gb: int,
    swap_mb: int,
    boot_from_volume: bool,
    specs: tuple[tuple[str, str], ...],
) -> Resources:
    return placement_request(
        vcpus,
        ram_mb,
        disk_gb,
        ephemeral_gb=ephemeral_gb,
        swap_mb=swap_mb,
        boot_from_volume=boot_from_volume,
        extra_specs=dict(specs),
    )


def inventories(raw: Json) -> tuple[dict[str, Inventory], int]:
    """GET /resource_providers/{id}/inventories, with the provider's generation."""
    fields = ("total", "reserved", "allocation_ratio", "min_unit", "max_unit", "step_size")
    return (
        {name: Inventory(**{field: entry[field] for field in fields}) for name, entry in raw["inventories"].items()},
        raw["resource_provider_generation"],
    )


def allocations(raw: Json) -> dict[str, Resources]:
    """GET /allocations/{consumer} (by provider) or /resource_providers/{id}/allocations (by consumer)."""
    return {holder: Resources(entry["resources"]) for holder, entry in raw["allocations"].items()}


def server_group(raw: Json) -> ServerGroup:
    """A server group of GET /os-server-groups; below 2.64 it has a list of policies, and no rules."""
    policy = raw.get("policy") or next(iter(raw.get("policies") or ()), "")
    most = int((raw.get("rules") or {}).get("max_server_per_host") or 1)
    return ServerGroup(raw["id"], raw.get("name") or "", policy, frozenset(raw.get("members") or ()), most)


def moment(value: str) -> datetime:
    """An OpenStack time, with or without Z or microseconds: always UTC."""
    when = datetime.fromisoformat(value)
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _moment_or_none(value: str | None) -> datetime | None:
    return moment(value) if value else None


def _shown(raw: Json) -> dict[str, object]:
    """The answer for clients: without user data, and without the traceback that an admin's fault carries."""
    body = {key: value for key, value in raw.items() if key not in (HIDDEN, "adminPass")}
    if isinstance(body.get("fault"), dict):
        body["fault"] = {key: value for key, value in body["fault"].items() if key != "details"}
    return body
