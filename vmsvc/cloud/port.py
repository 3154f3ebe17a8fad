"""The cloud as the service sees it: plain frozen values and a dozen calls.

Every call is a coroutine that is bounded in time and raises only `domain.errors`. Reads may be repeated inside; a write
is sent at most once per call, because a POST that is sent again makes a second server.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from vmsvc.domain.boot_options import NO_OPTIONS, BootOptions
from vmsvc.domain.catalog import Addresses, Image, Network, Port, Volume, VolumesLeft
from vmsvc.domain.errors import CloudError, NoCapacity, QuotaExceeded, VmsvcError
from vmsvc.domain.flavors import Flavor, Traits
from vmsvc.domain.host import Hypervisor
from vmsvc.domain.principal import Identity
from vmsvc.domain.resources import Inventory, Resources
from vmsvc.domain.server_group import ServerGroup

#: Our mark: the metadata key that every server of ours carries from its POST on; the value is the vmsvc id.
MARK = "vmsvc_id"
#: The rest of our mark: the deployment that made the server, and its kind (standard or preemptible), which `adopt`
#: needs when the row is lost.
OWNER, KIND = "vmsvc_deployment", "vmsvc_kind"
#: The values of KIND, by `is_preemptible`.
KINDS = {True: "preemptible", False: "standard"}
#: Of a VM that is started again after evictions: how often it was, and the id of its lineage. By these a guest finds
#: what an earlier VM of the lineage saved.
RESTARTS, ORIGIN = "vmsvc_restarts", "vmsvc_origin"
#: The notice that a guest reads: the metadata keys that say when its VM is evicted, and why. The second one may be
#: missing.
EVICT_AT, EVICT_REASON = "vmsvc_evict_at", "vmsvc_evict_reason"
#: How many metadata items a server may have where the cloud does not say: Nova's default.
METADATA_ITEMS = 128
#: Nova writes metadata in these states (vm_state active, paused, suspended, stopped) and says 409 in all others.
_WRITABLE = frozenset({"ACTIVE", "PAUSED", "SUSPENDED", "SHUTOFF"})
#: The guest runs in these.
_RUNNING = frozenset({"ACTIVE", "VERIFY_RESIZE"})

#: The request that the calls of this task belong to: sent along as X-Openstack-Request-Id, so that the cloud's own
#: logs name it. OpenStack takes only `req-` and a uuid; other values are not sent.
REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)

#: Whom this task's calls and database work are for: the service itself, a client, or a check who a client is. Clients
#: and checks have a bounded share each; what they leave is the service's own, whatever they do.
SERVICE, CLIENT, CHECK = "service", "client", "check"
WORK_FOR: ContextVar[str] = ContextVar("work_for", default=SERVICE)


@contextmanager
def working_for(whom: str) -> Iterator[None]:
    """In this context the calls of this task count for the service or for clients. What one task does for many (a cache
    that is read again) counts for SERVICE, even where a client's task does it: others wait for it, and must not wait
    behind clients."""
    before = WORK_FOR.set(whom)
    try:
        yield
    finally:
        WORK_FOR.reset(before)


@dataclass(frozen=True, slots=True)
class Named:
    """An availability zone or a security group: what a request refers to by id or name."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Occupant:
    """A server of any project, with the capacity that it takes from its host."""

    id: str
    status: str
    host: str | None
    resources: Resources


@dataclass(frozen=True, slots=True)
class Server:
    """A server as one answer of Nova showed it. `body` is that answer, for clients."""

    id: str
    name: str
    status: str  # ACTIVE, BUILD, ERROR, SHUTOFF, DELETED, SOFT_DELETED, UNKNOWN, ...
    task_state: str | None
    host_id: str  # sha224(project + host), '' before it has a host
    host: str | None  # operator only
    availability_zone: str | None
    locked: bool
    created: datetime
    launched_at: datetime | None
    updated: datetime | None
    fault: str | None  # Nova's sentence when status is ERROR (can lag the status: read once more)
    metadata: Mapping[str, str]
    flavor: Flavor  # from the server's embedded flavor; its id is then the name
    boot_from_volume: bool
    resources: Resources  # what its flavor claims from its host
    body: Mapping[str, Any]

    @property
    def vmsvc_id(self) -> str | None:
        """The id we gave it, if it is ours."""
        return self.metadata.get(MARK)

    @property
    def runs(self) -> bool:
        """True when its guest runs, so that it can read a notice."""
        return self.status in _RUNNING

    @property
    def takes_metadata(self) -> bool:
        """True when Nova would write its metadata now."""
        return self.status in _WRITABLE and not self.locked

    def takes_notice(self, most: int) -> bool:
        """True when the cloud would accept a notice in the metadata; `most`: how many items a server may have."""
        return self.status in _WRITABLE and (EVICT_AT in self.metadata or len(self.metadata) < most)

    @property
    def occupant(self) -> Occupant:
        """What it takes from its host."""
        return Occupant(self.id, self.status, self.host, self.resources)

    @property
    def failure(self) -> VmsvcError | None:
        """Why it is in ERROR, by meaning: NoCapacity, QuotaExceeded or CloudError; None in any other status.

        "No valid host was found. " has two endings (no candidate, or a lost race), so its beginning decides. The
        quota is checked again after the 202, and then says so here.
        """
        if self.status != "ERROR":
            return None
        fault = self.fault or "the cloud gave no reason"
        if fault.startswith("No valid host was found"):
            return NoCapacity(fault.strip())
        if "Quota exceeded for " in fault or "exceeds quota" in fault:
            return QuotaExceeded(fault.strip())
        return CloudError(fault.strip())


@dataclass(frozen=True, slots=True)
class ServerPage:
    """All servers of the project, or those that changed. `as_of` is the cloud's own clock when reading began, less
    a margin: pass it as the next `changes_since`. So a change can be shown twice and is never missed. `at_once`: the
    list came in one answer, so it is as of one moment."""

    servers: tuple[Server, ...]
    as_of: datetime
    at_once: bool = True


@dataclass(frozen=True, slots=True)
class OccupantPage:
    """Servers of other projects that changed; `as_of` as with ServerPage."""

    occupants: tuple[Occupant, ...]
    as_of: datetime


@dataclass(frozen=True, slots=True)
class Quota:
    """The project's quota, in the items `instances`, `cores`, `ram` (MiB). A missing limit is unlimited, and a limit
    of 0 is a limit: hence a plain mapping, where `Resources` would not tell the two apart. `metadata_items` is how many
    items of metadata a server may have, `server_group_members` how many servers a server group."""

    limit: Mapping[str, int]
    used: Resources
    metadata_items: int = METADATA_ITEMS
    server_group_members: int = sys.maxsize


@dataclass(frozen=True, slots=True)
class Provider:
    """A compute host in Placement's list. `version` grows with every change of its inventories and traits and with
    every claim; the end of a claim may leave it as it is."""

    id: str
    host: str  # the compute service's host, which `POST /servers` takes as `host`
    parts: tuple[str, ...]  # the providers of its tree: itself, and what is nested in it (GPUs, NUMA cells)
    version: int
    hypervisor: Hypervisor | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """What Placement has for one compute host, all providers of its tree taken together."""

    inventories: Mapping[str, Inventory]
    allocations: Mapping[str, Resources]  # consumer (mostly a server's id) -> what it holds
    version: int


@dataclass(frozen=True, slots=True)
class ComputeService:
    """A compute service. While it is `up` it finishes its work; it takes new servers only when it is `enabled` too."""

    up: bool
    enabled: bool
    zone: str | None


@dataclass(frozen=True, slots=True)
class BootSpec:
    """All that a POST /servers takes. `host` pins it (operator mode, microversion 2.74)."""

    vmsvc_id: str
    name: str
    flavor_id: str
    image_id: str
    network_id: str | None
    metadata: Mapping[str, str]  # includes MARK
    key_name: str | None = None
    user_data: str | None = None  # base64
    availability_zone: str | None = None
    host: str | None = None
    port_id: str | None = None  # a port that is there already, instead of a new one on the network
    networks: str = "auto"  # without a network: 'auto' (the only one there is) or 'none'
    options: BootOptions = NO_OPTIONS  # its network interfaces come instead of `network_id`


@dataclass(frozen=True, slots=True)
class KeptPort:
    """A port that vmsvc made to keep the address of a lineage. `origin`: the id of the lineage, as the port says;
    `device_id`: the server that uses it, if one does; `network_id`: where its address is."""

    id: str
    origin: str
    device_id: str | None
    network_id: str


class Volumes(Protocol):
    """Cinder, where the cloud has it."""

    has_volumes: bool  # the cloud has it

    async def volume(self, volume_id: str) -> Volume:
        """One volume. Raises NotFound."""

    async def volumes_left(self) -> VolumesLeft:
        """How many more volumes the project may have."""


class KeptPorts(Protocol):
    """The ports that keep the addresses of lineages."""

    async def create_port(self, network_id: str, name: str, origin: str, security_groups: tuple[str, ...] = ()) -> str:
        """Make a port with this name that is marked with the id of a lineage, once, in these security groups (none: in
        the project's default one). Returns its id. Raises InvalidRequest, QuotaExceeded, Conflict (no free address),
        Forbidden, OutcomeUnknown (see `kept_ports`)."""

    async def delete_port(self, port_id: str) -> None:
        """Delete a port; one that is gone counts as done."""

    async def kept_ports(self, name: str) -> tuple[KeptPort, ...]:
        """The project's ports with this name."""

    async def kept_port(self, port_id: str) -> KeptPort | None:
        """The port of the project with this id; None when there is none."""


class Cloud(Volumes, KeptPorts, Protocol):
    """One cloud with one set of credentials. After `connect()` `mode` and `project_id` are known.

    Any call can raise CloudUnavailable and CloudError, a write OutcomeUnknown too; the rest is said with each call.
    """

    mode: str  # 'tenant' or 'operator'
    project_id: str
    unsupported: frozenset[str]  # fields of a create that this Nova is too old for

    async def connect(self) -> None:
        """Authenticate, build the clients, find out mode and project. Safe to call again after a failure."""

    async def create_server(self, spec: BootSpec) -> str:
        """POST /servers, once. Returns the server's id. Raises QuotaExceeded, InvalidRequest, Forbidden,
        CloudUnavailable (nothing was made) or OutcomeUnknown (look with `find_servers`)."""

    async def rehearse(self, spec: BootSpec) -> None:
        """Let Nova check such a create without making a server: the request names a server group that does not exist.
        Nova looks for that group after all other checks but those of its own quotas and of capacity. Raises what
        `create_server` raises when Nova refuses the request (InvalidRequest, Forbidden, QuotaExceeded for ports), and
        CloudUnavailable."""

    async def find_servers(self, vmsvc_id: str) -> tuple[Server, ...]:
        """The servers that carry this mark: none, one, or (a defect elsewhere) more."""

    async def server(self, server_id: str) -> Server:
        """GET one. Raises NotFound only when the cloud said 404."""

    async def servers(self, changes_since: datetime | None = None) -> ServerPage:
        """Every server of the project, all pages; with `changes_since` only those that changed, deleted ones
        (status DELETED) included. A server missing here is not proven gone: ask `server()`."""

    async def stop(self, server_id: str) -> None:
        """os-stop. Raises NotFound, Locked, Conflict (already stopped, or busy)."""

    async def delete(self, server_id: str, force: bool = False) -> None:
        """DELETE, or forceDelete. Returns on 204 and on 404 alike: the server goes, or is gone. Raises Locked."""

    async def set_metadata(self, server_id: str, items: Mapping[str, str]) -> None:
        """Merge keys into the server's metadata. Raises NotFound, Locked, Conflict."""

    async def unset_metadata(self, server_id: str, key: str) -> None:
        """Remove one key; a key or server that is absent counts as done."""

    async def quota(self) -> Quota:
        """GET /limits of the project."""

    async def flavors(self) -> tuple[Flavor, ...]:
        """Every flavor the project may use, extra specs included."""

    async def images(self) -> tuple[Image, ...]:
        """Every active image that the list shows."""

    async def image(self, image_id: str) -> Image:
        """One image, whatever its status, also one that the list leaves out. Raises NotFound."""

    async def flavor(self, flavor_id: str) -> Flavor:
        """One flavor; an operator also sees private ones, which the list leaves out. Raises NotFound."""

    async def addresses(self, network_id: str) -> Addresses:
        """How many of a network's addresses are used, as far as the cloud shows it."""

    async def ports_left(self) -> int | None:
        """How many more ports the project may have by its quota in Neutron, below 0 too; None without a limit."""

    async def networks(self) -> tuple[Network, ...]:
        """Every network of the project or shared with it."""

    async def subnets(self, network_id: str) -> tuple[str, ...]:
        """The address ranges, as `10.0.0.0/24`, of those of a network's subnets in which a server may have an address
        of its choice."""

    async def find_ports(self, filters: Mapping[str, str]) -> tuple[Port, ...]:
        """The ports that the user sees and that have these values: `id`, `name`, `network_id`, `fixed_ips`."""

    async def security_groups(self) -> tuple[Named, ...]:
        """The security groups of the project."""

    async def server_groups(self) -> tuple[ServerGroup, ...]:
        """The server groups of the project."""

    async def server_group(self, group_id: str) -> ServerGroup:
        """One server group, read now. Raises NotFound."""

    async def availability_zones(self) -> tuple[Named, ...]:
        """The zones that are available."""

    async def key_names(self) -> frozenset[str]:
        """The names of the user's key pairs."""

    async def occupants(self, changes_since: datetime) -> OccupantPage:
        """Operator mode: the servers of all other projects that changed, deleted ones included. Servers in a cell
        that is down are left out."""

    async def servers_and_occupants(self, changes_since: datetime) -> tuple[ServerPage, OccupantPage]:
        """Operator mode: `servers` and `occupants` as one call, as of one moment."""

    async def providers(self) -> tuple[Provider, ...]:
        """Operator mode: every compute host, in one call however many there are."""

    async def services(self) -> Mapping[str, ComputeService]:
        """Operator mode: the compute service of every host, by the host's name, in one call."""

    async def content(self, provider: Provider) -> Content:
        """Operator mode: what one host has and who holds what there, read now. Raises NotFound."""

    async def holders(self, provider: Provider) -> Mapping[str, Resources]:
        """Operator mode: who holds what on one host, read now: the half of `content` that changes. Raises NotFound."""

    async def providers_with_capacity(self, resources: Resources, traits: Traits) -> frozenset[str]:
        """Operator mode: the ids of providers of which Placement would let so much be claimed now, at most a hundred.
        Placement knows nothing of services that are down, nor of capacity that vmsvc has reserved for a request."""

    async def providers_with_trait(self, trait: str) -> frozenset[str]:
        """Operator mode: the ids of the providers, nested ones too, that have a trait. Raises
        NotFound for one that does not exist."""

    async def allocations(self, server_id: str) -> Mapping[str, Resources]:
        """Operator mode: what the server holds, by provider id; empty when its capacity is free."""

    async def identity(self, token: str) -> Identity:
        """What a client's token stands for, as Keystone says now. Raises Unauthenticated for one that is not good."""

    async def ports(self, server_id: str) -> tuple[str, ...]:
        """The ids of the ports whose device is this server."""

    async def close(self) -> None:
        """Give back sockets and threads."""
